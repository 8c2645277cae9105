//! Invoices replayed and totals rebuilt from the segments alone.

use functions::Difference;
use functions::rebuild::{Mended, RebuildError, Rebuilt, Whose, rebuild};
use functions::replay::{ReplayError, Replayed, Which, replay};
use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tests::usage::SetDay;
use tests::{TestAccount, TestApp};
use wharfage::domain::account::S3Uid;
use wharfage::domain::figures::GB_BYTES;
use wharfage::domain::usage::{Day, OwnCalls, Sample, Stored};
use wharfage::segments::SegmentKey;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// The commit dates of what is ordered on 15 January.
const FIRST: Date = date(2026, 2, 15);
const SECOND: Date = date(2026, 3, 15);

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Moves the clock alone: no schedule runs.
fn wait_until(app: &TestApp, time: Timestamp) {
    if app.now() < time {
        app.stack.clock().move_to(time).expect("moved");
    }
}

/// Has an hour collected: from the cluster, or from its segment where one is written.
async fn collect(app: &TestApp, hour: &str) {
    wait_until(app, at(hour) + HOUR + SignedDuration::from_mins(5));
    let key = segment(hour);
    let message = serde_json::to_string(&key).expect("a message");
    app.handle_directly("usage_shards", &message)
        .await
        .expect("collected");
}

fn segment(hour: &str) -> SegmentKey {
    SegmentKey {
        location: "NL".into(),
        hour: at(hour),
        shard: 0,
    }
}

/// What a cluster reports of an account's one bucket: stored bytes, unless it is too late to tell, and bytes sent.
type Report<'a> = (&'a TestAccount, Option<u64>, u64);

/// An hour as a cluster with more in it than a test can upload would report it.
async fn report(app: &TestApp, hour: &str, accounts: &[Report<'_>]) {
    let samples = accounts
        .iter()
        .map(|(account, stored_bytes, bytes_sent)| Sample {
            s3uid: account.s3uid.clone(),
            bucket_name: account.bucket_name.clone(),
            hour: at(hour),
            stored_bytes: *stored_bytes,
            objects: stored_bytes.map(|_| 1),
            noncurrent_bytes: None,
            multipart_bytes: None,
            // What Wharfage called itself is in neither the invoice nor its replay.
            bytes_sent: Some(*bytes_sent + 5_000),
            bytes_received: Some(0),
            requests: Some(3),
            own: Some(OwnCalls {
                bytes_sent: 5_000,
                requests: 2,
            }),
            ..Sample::default()
        });
    let end = at(hour) + HOUR;
    wait_until(app, end);
    app.context()
        .segments
        .put(&segment(hour), samples.collect(), end)
        .await
        .expect("written");
    collect(app, hour).await;
}

/// Closes the period of an account that ends on a day.
async fn close(app: &TestApp, account: &TestAccount, on: Date) {
    wait_until(app, at(&format!("{on}T01:05:00Z")));
    let work = json!({ "work": "close", "s3uid": account.s3uid, "commits_on": on });
    app.handle_directly("billing", &work.to_string())
        .await
        .expect("closed");
}

async fn replay_of(app: &TestApp, which: Which) -> Result<Vec<Replayed>, ReplayError> {
    let mut replayed = Vec::new();
    replay(app.context(), &which, |one| replayed.push(one)).await?;
    Ok(replayed)
}

async fn replay_all(app: &TestApp, account: &TestAccount) -> Vec<Replayed> {
    let which = Which::Account {
        s3uid: account.s3uid.clone(),
        from: None,
    };
    replay_of(app, which).await.expect("replayed")
}

#[track_caller]
fn assert_equal(replayed: &[Replayed], amounts_minor: &[i64]) {
    let told: Vec<String> = replayed.iter().map(Replayed::to_string).collect();
    assert!(
        replayed.iter().all(|one| one.differences.is_empty()),
        "{told:#?}"
    );
    let amounts: Vec<i64> = replayed.iter().map(|one| one.amount_minor).collect();
    assert_eq!(amounts, amounts_minor, "{told:#?}");
}

async fn rebuild_of(
    app: &TestApp,
    whose: Whose,
    to: Date,
    is_dry: bool,
) -> (Rebuilt, Vec<Difference>) {
    let mut found = Vec::new();
    let range = (date(2026, 1, 15), to);
    let tell = |mended: Mended| found.extend(mended.differences);
    let rebuilt = rebuild(app.context(), &whose, range, is_dry, tell)
        .await
        .expect("rebuilt");
    (rebuilt, found)
}

fn told(differences: &[Difference]) -> Vec<String> {
    differences.iter().map(Difference::to_string).collect()
}

/// A location with a month of every kind of hour: collected in time and late, missing, from a cluster that forgot.
async fn a_month_of_all_kinds(app: &TestApp) -> TestAccount {
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 3_000).await;
    collect(app, "2026-01-15T10:00:00Z").await;
    // Counted by the cluster, and forgotten before anybody asked; the bytes are there still.
    app.put(&s3, "my-bucket", "b", 500).await;
    wait_until(app, at("2026-01-15T12:01:00Z"));
    let path = "usage?before=2026-01-15T12:00:00Z";
    assert_eq!(app.admin("NL", "DELETE", path, None).await.0, 204);
    collect(app, "2026-01-15T11:00:00Z").await;
    // Too late to tell what was stored.
    app.put(&s3, "my-bucket", "c", 70).await;
    wait_until(app, at("2026-01-15T20:00:00Z"));
    collect(app, "2026-01-15T12:00:00Z").await;
    // The day is over, and an hour of it comes after all, which is told before one that is earlier.
    let much = 9_000 * GB_BYTES;
    report(
        app,
        "2026-01-25T07:00:00Z",
        &[(&account, Some(much), 1_300 * GB_BYTES)],
    )
    .await;
    report(
        app,
        "2026-01-25T03:00:00Z",
        &[(&account, None, 20 * GB_BYTES)],
    )
    .await;
    report(
        app,
        "2026-01-31T23:00:00Z",
        &[(&account, Some(much + 1), 0)],
    )
    .await;
    account
}

#[tokio::test]
async fn a_month_with_overage_comes_to_the_same_from_its_segments() {
    let mut app = TestApp::start_idle(&[]).await;
    app.top_up("client", "more", 10_000_000).await;
    let account = a_month_of_all_kinds(&app).await;
    close(&app, &account, FIRST).await;
    // The price of the next period changes after it was sold, and the following one is sold at the new price.
    app.log_in().await;
    let parameters = json!({ "plan_id": 2, "price[NL][EUR]": 20, "traffic_overage_price_eur": 7 });
    app.call("admin", "update_plan", parameters).await.ok();
    // Nothing tells what is stored until the period's last day; and its first hours are missing.
    report(
        &app,
        "2026-02-20T00:00:00Z",
        &[(&account, None, 1_001 * GB_BYTES)],
    )
    .await;
    report(&app, "2026-03-14T23:00:00Z", &[(&account, Some(0), 0)]).await;
    close(&app, &account, SECOND).await;

    let invoices = app.invoices("client").await;
    let lines: Vec<usize> = invoices.iter().map(|one| one.lines.len()).collect();
    assert_eq!(lines, [1, 3, 3]);
    let stored: Vec<i64> = invoices[1..].iter().map(|one| one.amount_minor).collect();
    // 320 GB of traffic above what is included, at 0.50; 9,000 GB for 497 hours less 5,000 GB for all 744, at 0.10; the new month.
    assert_eq!(stored[0], 16_000 + 10_121 + 1_500);
    // 1 GB, at the price this period was sold at; 9,000 GB for 671 of 672 hours; and the next month at its new price.
    assert_eq!(stored[1], 50 + 39_866 + 2_000);
    assert_equal(&replay_all(&app, &account).await, &stored);
    let one = Which::Account {
        s3uid: account.s3uid.clone(),
        from: Some(FIRST),
    };
    assert_equal(&replay_of(&app, one).await.expect("replayed"), &stored[1..]);
    let location = |from, to| Which::Location {
        location: "NL".into(),
        from,
        to,
    };
    let both = replay_of(&app, location(FIRST, SECOND)).await;
    assert_equal(&both.expect("replayed"), &stored);
    let last = replay_of(&app, location(SECOND, SECOND)).await;
    assert_equal(&last.expect("replayed"), &stored[1..]);
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn an_account_that_ended_comes_to_the_same_from_its_segments() {
    let mut app = TestApp::start_idle(&[]).await;
    let ended = app.order("client", "ended").await;
    let quiet = app.order("client2", "quiet").await;
    let much = 50_000 * GB_BYTES;
    report(
        &app,
        "2026-01-16T00:00:00Z",
        &[(&ended, Some(much), 1_002 * GB_BYTES), (&quiet, Some(0), 0)],
    )
    .await;
    wait_until(&app, at("2026-01-20T12:30:00Z"));
    app.log_in().await;
    let parameters = json!({ "s3uid": ended.s3uid });
    app.call("client", "delete_account", parameters).await.ok();
    app.stack.drain().await.expect("drained");
    collect(&app, "2026-01-20T12:00:00Z").await;
    close(&app, &ended, FIRST).await;
    close(&app, &quiet, FIRST).await;
    let account = app.context().database.account(&ended.s3uid).await;
    let account = account.expect("DynamoDB").expect("the account");
    let item = app.account_item(&ended.s3uid).await;
    assert_eq!((account.commits_on, item.get("group_key")), (None, None));
    // 2 GB of traffic; 50,000 GB for 108 hours less 5,000 GB for all 744. No further month.
    let replayed = replay_all(&app, &ended).await;
    assert_equal(&replayed, &[100 + 22_581]);
    assert_eq!(replayed[0].closed.next, None);
    // It stands in no list any more, and is found all the same.
    let which = Which::Location {
        location: "NL".into(),
        from: FIRST,
        to: FIRST,
    };
    let mut all = replay_of(&app, which).await.expect("replayed");
    all.sort_by_key(|one| one.amount_minor);
    assert_equal(&all, &[1_650, 22_681]);
    // Its totals are as the collection left them.
    let whose = Whose::Location("NL".into());
    let (rebuilt, found) = rebuild_of(&app, whose, FIRST, true).await;
    assert_eq!((told(&found), rebuilt.accounts), (vec![], 2));
}

#[tokio::test]
async fn an_invoice_that_was_tampered_with_is_told_figure_by_figure() {
    let app = TestApp::start_idle(&[]).await;
    app.top_up("client", "more", 10_000_000).await;
    let account = a_month_of_all_kinds(&app).await;
    close(&app, &account, FIRST).await;
    let invoices = app.invoices("client").await;
    let id = invoices[1].invoice_id;
    let key = (format!("CLIENT#{}", 1), format!("INVOICE#{id:012}"));
    let tamper = |change: &'static str| {
        let key = key.clone();
        let app = &app;
        async move { app.update_item("LEDGER_TABLE", &key, change).await }
    };
    tamper("SET #lines[1].amount_minor = #lines[1].amount_minor - :one").await;
    let replayed = replay_all(&app, &account).await;
    assert_eq!(
        told(&replayed[0].differences),
        ["line 2: amount_minor: stored 15999, recomputed 16000"]
    );
    tamper("SET #lines[1].basis.bytes_sent = :one, amount_minor = :one").await;
    let replayed = replay_all(&app, &account).await;
    let found = told(&replayed[0].differences);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert_eq!(
        found[0],
        "invoice: amount_minor: stored 1, recomputed 27621"
    );
    assert_eq!(
        found[2],
        format!(
            "line 2: basis.bytes_sent: stored 1, recomputed {}",
            1_320 * GB_BYTES
        )
    );
    tamper("REMOVE #lines[1]").await;
    let replayed = replay_all(&app, &account).await;
    let found = told(&replayed[0].differences);
    assert!(
        found[1].starts_with("missing line: all of it: stored null, recomputed {"),
        "{found:#?}"
    );
    app.delete_item("LEDGER_TABLE", &key).await;
    let replayed = replay_all(&app, &account).await;
    let found = told(&replayed[0].differences);
    assert!(
        found[0].starts_with("invoice: all of it: stored null, recomputed {"),
        "{found:#?}"
    );
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[tokio::test]
async fn what_is_not_there_cannot_be_replayed_or_rebuilt() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    assert_equal(&replay_all(&app, &account).await, &[]);
    let day = date(2026, 1, 15);
    let cases = [
        (
            Which::Account {
                s3uid: account.s3uid.clone(),
                from: Some(day),
            },
            format!(
                "account {} has no closed period that began on 2026-01-15",
                account.s3uid
            ),
        ),
        (
            Which::Account {
                s3uid: S3Uid("nobody".into()),
                from: None,
            },
            "there is no account nobody".into(),
        ),
        (
            Which::Location {
                location: "XX".into(),
                from: day,
                to: day,
            },
            "there is no location XX".into(),
        ),
    ];
    for (which, expected) in cases {
        match replay_of(&app, which).await {
            Err(ReplayError::NotThere(text)) => assert_eq!(text, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let cases = [
        (
            Whose::Account(S3Uid("nobody".into())),
            "there is no account nobody",
        ),
        (Whose::Location("XX".into()), "there is no location XX"),
    ];
    for (whose, expected) in cases {
        match rebuild(app.context(), &whose, (day, day), true, |_| {}).await {
            Err(RebuildError::NotThere(text)) => assert_eq!(text, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_day_that_was_tampered_with_is_found_and_mended() {
    let app = TestApp::start_idle(&[]).await;
    let account = a_month_of_all_kinds(&app).await;
    let before = app.world().await;
    let wrong = Day {
        stored: vec![Stored { hour: 0, bytes: 5 }],
        moved: vec![],
    };
    let database = &app.context().database;
    // One that the segments tell otherwise, and one that they tell nothing of.
    for day in [date(2026, 1, 31), date(2026, 1, 20)] {
        let set = database.set_day(&account.s3uid, day, &wrong).await;
        set.expect("set");
    }
    wait_until(&app, at("2026-02-04T00:30:00Z"));
    let tampered = app.world().await;
    let to = date(2026, 2, 4);
    let whose = || Whose::Account(account.s3uid.clone());
    let (rebuilt, found) = rebuild_of(&app, whose(), to, true).await;
    let found = told(&found);
    let expected = [
        "day 2026-01-20: stored: stored [{\"hour\":0,\"bytes\":5}], recomputed []",
        "day 2026-01-31: stored: stored [{\"hour\":0,\"bytes\":5}], recomputed [{\"hour\":23,\"bytes\":9663676416001}]",
        "day 2026-01-31: moved: stored [], recomputed [{\"hour\":23,\"bytes_sent\":0,\"bytes_received\":0,\"requests\":1}]",
    ];
    assert_eq!(found, expected);
    assert_eq!((rebuilt.accounts, rebuilt.differing), (1, 1));
    app.world()
        .await
        .assert_unchanged_since(&tampered, "a dry run");
    let (_, mended) = rebuild_of(&app, whose(), to, false).await;
    assert_eq!(told(&mended), expected);
    // The day that nobody tells of is empty instead of gone: that is the same.
    let key = (
        format!("ACCOUNT#{}", account.s3uid),
        "DAY#2026-01-20".to_owned(),
    );
    app.delete_item("USAGE_TABLE", &key).await;
    app.world()
        .await
        .assert_unchanged_since(&before, "mending what was tampered with");
    let (rebuilt, found) = rebuild_of(&app, whose(), to, false).await;
    assert_eq!((rebuilt.differing, told(&found)), (0, vec![]));
}

#[tokio::test]
async fn totals_that_were_lost_are_made_again_from_the_segments() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = a_month_of_all_kinds(&app).await;
    app.log_in().await;
    let other = app.order("client2", "other-bucket").await;
    let accounts = [(&account, Some(7), 9), (&other, Some(11), 13)];
    report(&app, "2026-02-02T05:00:00Z", &accounts).await;
    let before = app.world().await;
    let mut lost = 0;
    for s3uid in [&account.s3uid, &other.s3uid] {
        let pk = format!("ACCOUNT#{s3uid}");
        for sk in app.sort_keys("USAGE_TABLE", &pk).await {
            app.delete_item("USAGE_TABLE", &(pk.clone(), sk)).await;
            lost += 1;
        }
        let figures = "SET stored_bytes = :one, period_bytes_sent = :one, buckets = buckets + :one";
        let key = (pk, "ACCOUNT".to_owned());
        app.update_item("ACCOUNTS_TABLE", &key, figures).await;
    }
    assert_eq!(lost, 4 + 2 + 1 + 1);
    let whose = || Whose::Location("NL".into());
    let to = date(2026, 2, 2);
    let (_, dry) = rebuild_of(&app, whose(), to, true).await;
    let (rebuilt, mended) = rebuild_of(&app, whose(), to, false).await;
    assert_eq!(told(&dry), told(&mended));
    assert_eq!((rebuilt.accounts, rebuilt.differing), (2, 2));
    app.world()
        .await
        .assert_unchanged_since(&before, "losing and rebuilding all totals");
    // Figures and months alone, while every day is right.
    for s3uid in [&account.s3uid, &other.s3uid] {
        let pk = format!("ACCOUNT#{s3uid}");
        let key = (pk.clone(), "ACCOUNT".to_owned());
        let figures = "SET period_peak_stored_bytes = :one";
        app.update_item("ACCOUNTS_TABLE", &key, figures).await;
        app.delete_item("USAGE_TABLE", &(pk, "MONTH#2026-02".to_owned()))
            .await;
    }
    let shard = Whose::Shard {
        location: "NL".into(),
        shard: 0,
    };
    let (rebuilt, _) = rebuild_of(&app, shard, to, false).await;
    assert_eq!(rebuilt.differing, 2);
    app.world()
        .await
        .assert_unchanged_since(&before, "losing and rebuilding months");
}

#[tokio::test]
async fn a_rebuild_beside_the_collection_loses_none_of_its_hours() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    let whose = || Whose::Account(account.s3uid.clone());
    let today = date(2026, 1, 15);
    for (number, hour) in (11..20).enumerate() {
        app.put(&s3, "my-bucket", &number.to_string(), 10).await;
        wait_until(&app, at(&format!("2026-01-15T{hour}:05:00Z")));
        let set = &app.context().database;
        let lost = set.set_day(&account.s3uid, today, &Day::default()).await;
        lost.expect("set");
        let hour = format!("2026-01-15T{}:00:00Z", hour - 1);
        let ((), (_, _), (_, _)) = futures::join!(
            collect(&app, &hour),
            rebuild_of(&app, whose(), today, false),
            rebuild_of(&app, whose(), today, false),
        );
        let (rebuilt, found) = rebuild_of(&app, whose(), today, true).await;
        assert_eq!((rebuilt.differing, told(&found)), (0, vec![]), "{hour}");
    }
}
