//! `get_usage`.

use insta::assert_json_snapshot;
use jiff::SignedDuration;
use jiff::civil::Date;
use serde_json::{Value, json};
use tests::contract::{Contract, masked};
use tests::examples::Example;
use tests::{TestAccount, TestApp};
use wharfage::domain::usage::{Day, Moved, Stored};

const ACTION: &str = "get_usage";

inventory::submit!(Example::new(
    ACTION,
    |prepare| Box::pin(prepare.with_account(json!({}))),
    |scene| scene.on_accounts(json!({})),
));

async fn set(
    app: &TestApp,
    account: &TestAccount,
    date: &str,
    stored: &[(u8, u64)],
    sent: &[(u8, u64)],
) {
    let day = Day {
        stored: stored
            .iter()
            .map(|(hour, bytes)| Stored {
                hour: *hour,
                bytes: *bytes,
            })
            .collect(),
        moved: sent
            .iter()
            .map(|(hour, bytes)| Moved {
                hour: *hour,
                bytes_sent: *bytes,
                bytes_received: 1,
                requests: 2,
            })
            .collect(),
    };
    let date: Date = date.parse().expect("a date");
    // What is set here is to stay: nothing is collected for this account.
    app.leave_out_of_collection(&account.s3uid).await;
    let written = app.context().database.set_day(&account.s3uid, date, &day);
    written.await.expect("DynamoDB answers");
}

/// An account of 15 January with figures, at noon of 20 February.
async fn scene() -> (TestApp, TestAccount) {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    set(&app, &account, "2026-01-15", &[(12, 100)], &[(13, 5)]).await;
    set(
        &app,
        &account,
        "2026-01-17",
        &[(0, 300), (6, 50)],
        &[(1, 7), (23, 11)],
    )
    .await;
    set(
        &app,
        &account,
        "2026-02-20",
        &[(3, 1 << 30)],
        &[(4, 1 << 29)],
    )
    .await;
    app.let_pass(SignedDuration::from_mins(60 * 24 * 36 + 90));
    app.log_in().await;
    (app, account)
}

async fn usage(app: &TestApp, account: &TestAccount, range: Value) -> Vec<Value> {
    let mut parameters = range;
    parameters["s3uid"] = account.s3uid.as_str().into();
    let body = app.call("client", ACTION, parameters).await.ok();
    body["usage"].as_array().expect("a list").clone()
}

fn sum(rows: &[Value], name: &str) -> u128 {
    rows.iter()
        .map(|row| match &row[name] {
            Value::String(text) => text.parse().expect("a number"),
            number => u128::from(number.as_u64().expect("a number")),
        })
        .sum()
}

#[tokio::test]
async fn get_usage_by_days() {
    let (app, account) = scene().await;
    let parameters = json!({
        "s3uid": account.s3uid, "period_from": "2026-01-15", "period_to": "2026-01-18",
    });
    let body = app.call("client", ACTION, parameters).await.ok();
    assert_json_snapshot!("days", masked(&app, &body));
    let hours: Vec<&Value> = body["usage"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| &row["stored_byte_hours"])
        .collect();
    // From noon; a day that says nothing; 300 for six hours, then 50; and so on.
    assert_eq!(hours, ["1200", "2400", "2700", "1200"]);

    // Of itself it is the running period, until now.
    let rows = usage(&app, &account, json!({})).await;
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[0]["from"], "2026-02-15T00:00:00Z");
    assert_eq!(rows[5]["to"], "2026-02-20T12:00:00Z");
    assert_eq!(
        (&rows[5]["hours"], &rows[5]["stored_bytes"]),
        (&json!(12), &json!(1 << 30))
    );
    assert_eq!(rows[5]["traffic"], 0.5);
    // Before the order and after today there is nothing.
    let all = json!({ "period_from": "2025-12-01", "period_to": "2027-01-01" });
    let rows = usage(&app, &account, all).await;
    assert_eq!(
        (rows.len(), &rows[0]["from"]),
        (37, &json!("2026-01-15T00:00:00Z"))
    );
    for (from, to) in [
        ("2026-02-21", "2026-03-01"),
        ("2025-01-01", "2026-01-14"),
        ("2026-02-01", "2026-01-31"),
        ("0000-01-01", "0000-12-31"),
        ("9999-12-31", "9999-12-31"),
    ] {
        let range = json!({ "period_from": from, "period_to": to });
        assert_eq!(
            usage(&app, &account, range).await,
            [Value::Null; 0],
            "{from} {to}"
        );
    }
}

#[tokio::test]
async fn get_usage_by_hours_adds_up_to_the_days() {
    let (app, account) = scene().await;
    for (from, to) in [
        ("2026-01-15", "2026-01-15"),
        ("2026-01-16", "2026-01-18"),
        ("2026-02-19", "2026-02-20"),
    ] {
        let range = |by: &str| json!({ "by": by, "period_from": from, "period_to": to });
        let hours = usage(&app, &account, range("hours")).await;
        let days = usage(&app, &account, range("days")).await;
        for name in [
            "hours",
            "stored_byte_hours",
            "bytes_sent",
            "bytes_received",
            "requests",
        ] {
            assert_eq!(sum(&hours, name), sum(&days, name), "{name} {from}");
        }
        assert!(hours.iter().all(|row| row["hours"] == 1));
        let times = |name| hours.iter().map(move |row| &row[name]);
        assert!(
            times("to")
                .zip(times("from").skip(1))
                .all(|(to, from)| to == from)
        );
    }
    let day = json!({ "by": "hours", "period_from": "2026-01-17", "period_to": "2026-01-17" });
    let rows = usage(&app, &account, day).await;
    assert_eq!(rows.len(), 24);
    let bytes: Vec<&Value> = rows.iter().map(|row| &row["stored_bytes"]).collect();
    assert_eq!(
        (bytes[0], bytes[5], bytes[6], bytes[23]),
        (&json!(300), &json!(300), &json!(50), &json!(50))
    );
    assert_json_snapshot!("hour", rows[1]);
    // The hour that has begun is there, the next one is not.
    let today = json!({ "by": "hours", "period_from": "2026-02-20" });
    assert_eq!(usage(&app, &account, today.clone()).await.len(), 12);
    app.let_pass(SignedDuration::from_secs(1));
    assert_eq!(usage(&app, &account, today).await.len(), 13);
}

#[tokio::test]
async fn get_usage_by_periods() {
    let (app, account) = scene().await;
    let all = json!({ "by": "periods", "period_from": "2026-01-01" });
    let rows = usage(&app, &account, all).await;
    assert_json_snapshot!("periods", rows);
    let range = |by: &str| json!({ "by": by, "period_from": "2026-01-01" });
    let days = usage(&app, &account, range("days")).await;
    for name in ["hours", "stored_byte_hours", "bytes_sent", "requests"] {
        assert_eq!(sum(&rows, name), sum(&days, name), "{name}");
    }
    // The first is the period as it was billed.
    assert_eq!(rows[0]["hours"], 31 * 24);
    // Part of one is that part.
    let part = json!({ "by": "periods", "period_from": "2026-02-01", "period_to": "2026-02-17" });
    let part = usage(&app, &account, part).await;
    let from_to = |row: &Value| (row["from"].clone(), row["to"].clone());
    assert_eq!(
        part.iter().map(from_to).collect::<Vec<_>>(),
        [
            (json!("2026-02-01T00:00:00Z"), json!("2026-02-15T00:00:00Z")),
            (json!("2026-02-15T00:00:00Z"), json!("2026-02-18T00:00:00Z")),
        ]
    );
}

#[tokio::test]
async fn get_usage_refuses_bad_tokens_and_parameters() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid }),
    };
    contract.hides_the_account_from_others(&account).await;
    contract.refuses_missing(&["s3uid"]).await;
    for name in ["by", "period_from", "period_to"] {
        contract.takes_a_line(name).await;
    }
    let values = ["Days", "weeks", "day", "1"].map(Value::from);
    contract
        .refuses("by", "must be hours, days or periods", &values)
        .await;
    let values = [
        "2026-1-1",
        "2026-02-30",
        "20260101",
        "x",
        "2026-01-01T00:00:00Z",
        "-999-01-01",
    ];
    for name in ["period_from", "period_to"] {
        let rule = "must be a date as 2026-01-31";
        contract.refuses(name, rule, &values.map(Value::from)).await;
    }
    contract.refuses_bad_tokens().await;
    // A range is as long as an answer may be.
    app.let_pass(SignedDuration::from_hours(24 * 400));
    app.log_in().await;
    for (by, days) in [("hours", 31), ("days", 366)] {
        let contract = Contract {
            app: &app,
            who: "client",
            action: ACTION,
            parameters: json!({ "s3uid": account.s3uid, "by": by, "period_to": "2027-02-01" }),
        };
        let last: Date = "2027-02-01".parse().expect("a date");
        let first = |days: i32| {
            let date = last.checked_sub(jiff::ToSpan::days(days)).expect("a date");
            json!(date.to_string())
        };
        let rule = format!("must be at most {days} days before period_to");
        contract.refuses("period_from", &rule, &[first(days)]).await;
        let range = json!({ "by": by, "period_from": first(days - 1), "period_to": "2027-02-01" });
        let rows = usage(&app, &account, range).await;
        let per_day = if by == "hours" { 24 } else { 1 };
        assert_eq!(rows.len(), usize::try_from(days * per_day).expect("few"));
    }
}
