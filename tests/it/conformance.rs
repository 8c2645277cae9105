//! What every kind of cluster does, whatever stands behind it: the same tests for each. A test that needs what a kind cannot do is left
//! out by its declared capabilities, and by nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{DateTime, SdkBody};
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockMode, VersioningConfiguration};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tests::clusters::{Subject, code, new_keys};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wharfage::cluster::{Bucket, ClusterError, Keys};
use wharfage::domain::account::S3Uid;
use wharfage::domain::period::hour_of;
use wharfage::domain::usage::TrafficHour;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The tests, for a kind of cluster that `Subject` can start.
macro_rules! conformance {
    ($kind:ident $(, #[$attribute:meta])?) => {
        mod $kind {
            conformance!(@tests $kind, [$(#[$attribute])?],
                a_user_is_made_once_however_often_it_is_asked_for,
                a_second_key_works_beside_the_first_until_one_is_removed,
                what_an_account_may_store_is_kept_by_the_cluster,
                a_suspended_account_opens_for_nobody_until_it_is_resumed,
                a_bucket_belongs_to_who_made_it_first,
                a_bucket_with_anything_in_it_is_not_deleted,
                a_bucket_of_a_suspended_account_is_emptied_in_bounded_steps,
                an_object_under_a_lock_is_named_and_holds_up_nothing_but_itself,
                the_buckets_of_many_are_those_of_each,
                traffic_is_counted_in_its_hour_for_whose_bucket_it_is,
                who_is_not_there_is_told_so,
                a_cluster_that_cannot_answer_is_asked_again_but_not_for_ever,
            );
        }
    };
    (@tests $kind:ident, $attributes:tt, $($test:ident),* $(,)?) => {
        $(conformance!(@test $kind, $attributes, $test);)*
    };
    (@test $kind:ident, [$(#[$attribute:meta])?], $test:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])?
        async fn $test() {
            super::$test(tests::clusters::Subject::$kind().await).await;
        }
    };
}

conformance!(embedded);
conformance!(garage, #[ignore = "needs a Garage: tests/clusters/start-garage"]);
conformance!(rgw, #[ignore = "needs a Ceph RGW: tests/clusters/start-rgw"]);

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ClusterError>) -> String {
    match result.expect_err("the cluster refuses") {
        ClusterError::Refused { code, message } => {
            assert!(!message.is_empty(), "{code} without a word");
            code
        }
        ClusterError::Unavailable(problem) => panic!("unavailable: {problem}"),
        ClusterError::NoAccess(problem) => panic!("no access: {problem}"),
        ClusterError::Locked(locked) => panic!("{locked}"),
    }
}

/// Whether keys open the list of their buckets, and if not, the code.
async fn login(subject: &Subject, keys: &Keys) -> Result<(), String> {
    match subject.s3(keys).list_buckets().send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(code::<(), _>(Err(error))),
    }
}

async fn put(subject: &Subject, keys: &Keys, bucket_name: &str, key: &str, bytes: usize) {
    let s3 = subject.s3(keys);
    subject.app.put(&s3, bucket_name, key, bytes).await;
}

async fn try_put(
    subject: &Subject,
    keys: &Keys,
    bucket_name: &str,
    key: &str,
    bytes: usize,
) -> Result<(), String> {
    let sent = subject
        .s3(keys)
        .put_object()
        .bucket(bucket_name)
        .key(key)
        .body(vec![b'x'; bytes].into())
        .send()
        .await;
    match sent {
        Ok(_) => Ok(()),
        Err(error) => Err(code::<(), _>(Err(error))),
    }
}

/// An upload with one part, that nobody completes.
async fn begin_upload(
    subject: &Subject,
    keys: &Keys,
    bucket_name: &str,
    key: &str,
    part_bytes: usize,
) {
    let s3 = subject.s3(keys);
    let upload = s3
        .create_multipart_upload()
        .bucket(bucket_name)
        .key(key)
        .send()
        .await
        .expect("the upload begins");
    s3.upload_part()
        .bucket(bucket_name)
        .key(key)
        .upload_id(upload.upload_id().expect("an id"))
        .part_number(1)
        .body(vec![b'x'; part_bytes].into())
        .send()
        .await
        .expect("the part is taken");
}

/// What a plain HTTP client gets.
async fn fetch(url: &str) -> u16 {
    let mut request = HttpRequest::new(SdkBody::empty());
    request.set_uri(url).expect("an address");
    let connector = wharfage::connectors::loopback_connector();
    let response = connector.call(request).await.expect("an answer");
    response.status().as_u16()
}

/// Waits, for as long as a cluster may take to notice, until `look` finds what it looks for.
async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..100 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it did not come about within ten seconds");
}

async fn a_user_is_made_once_however_often_it_is_asked_for(subject: Subject) {
    let cluster = subject.provider();
    let (s3uid, keys) = (S3Uid(subject.name("user")), new_keys());
    let many = join_all((0..8).map(|_| cluster.create_user(&s3uid, &keys, Some(5_000)))).await;
    for one in many {
        one.expect("made once, and found by the others");
    }
    assert_eq!(login(&subject, &keys).await, Ok(()));
    // A late copy of the request does not undo what was set since.
    cluster
        .set_storage_limit(&s3uid, Some(10))
        .await
        .expect("set");
    cluster
        .create_user(&s3uid, &keys, Some(5_000))
        .await
        .expect("repeated");
    let bucket_name = subject.bucket_name("user-bucket");
    cluster
        .create_bucket(&s3uid, &bucket_name)
        .await
        .expect("made");
    let put = try_put(&subject, &keys, &bucket_name, "a", 100).await;
    assert_eq!(put, Err(subject.words.full.into()));
    // Neither a name nor a key has two owners.
    let others = new_keys();
    let again = cluster.create_user(&s3uid, &others, None).await;
    assert_eq!(refused(again), "UserAlreadyExists");
    assert!(login(&subject, &others).await.is_err());
    let thief = S3Uid(subject.name("thief"));
    assert_eq!(
        refused(cluster.create_user(&thief, &keys, None).await),
        "KeyExists"
    );
    cluster
        .create_user(&thief, &others, None)
        .await
        .expect("made");
    assert_eq!(refused(cluster.add_key(&thief, &keys).await), "KeyExists");
    // It goes when its buckets are gone, and stays gone.
    assert_eq!(refused(cluster.delete_user(&s3uid).await), "UserNotEmpty");
    cluster
        .delete_bucket(&s3uid, &bucket_name)
        .await
        .expect("deleted");
    for _ in 0..2 {
        cluster.delete_user(&s3uid).await.expect("gone");
    }
    assert_eq!(
        login(&subject, &keys).await,
        Err(subject.words.no_key.into())
    );
    let again = cluster.create_user(&s3uid, &keys, None).await;
    if subject.takes_names_again {
        again.expect("new again");
        assert_eq!(login(&subject, &keys).await, Ok(()));
    } else {
        assert_eq!(refused(again), "UserAlreadyExists");
    }
}

async fn a_second_key_works_beside_the_first_until_one_is_removed(subject: Subject) {
    let cluster = subject.provider();
    let (s3uid, first) = subject.user("user", None).await;
    let (other, others) = subject.user("other", None).await;
    let second = new_keys();
    for _ in 0..2 {
        cluster.add_key(&s3uid, &second).await.expect("added");
    }
    assert_eq!(login(&subject, &first).await, Ok(()));
    assert_eq!(login(&subject, &second).await, Ok(()));
    // A key keeps its secret, and belongs to one account.
    let forged = Keys {
        secret_key: new_keys().secret_key,
        ..second.clone()
    };
    assert_eq!(refused(cluster.add_key(&s3uid, &forged).await), "KeyExists");
    assert_eq!(login(&subject, &second).await, Ok(()));
    cluster
        .remove_key(&other, &first.access_key)
        .await
        .expect("not his");
    assert_eq!(login(&subject, &first).await, Ok(()));
    for _ in 0..2 {
        cluster
            .remove_key(&s3uid, &first.access_key)
            .await
            .expect("removed");
    }
    assert_eq!(
        login(&subject, &first).await,
        Err(subject.words.no_key.into())
    );
    assert_eq!(login(&subject, &second).await, Ok(()));
    assert_eq!(login(&subject, &others).await, Ok(()));
}

async fn what_an_account_may_store_is_kept_by_the_cluster(subject: Subject) {
    let cluster = subject.provider();
    let (s3uid, keys) = subject.user("user", Some(10_000)).await;
    let (one, two) = (subject.bucket_name("one"), subject.bucket_name("two"));
    for bucket_name in [&one, &two] {
        cluster
            .create_bucket(&s3uid, bucket_name)
            .await
            .expect("made");
    }
    let full = Err(subject.words.full.into());
    assert_eq!(try_put(&subject, &keys, &one, "a", 6_000).await, Ok(()));
    noticed(&subject, &s3uid, 6_000).await;
    assert_eq!(try_put(&subject, &keys, &one, "b", 6_000).await, full);
    // It is the account's, over all of its buckets.
    assert_eq!(try_put(&subject, &keys, &two, "b", 6_000).await, full);
    assert_eq!(try_put(&subject, &keys, &two, "b", 3_000).await, Ok(()));
    noticed(&subject, &s3uid, 9_000).await;
    cluster
        .set_storage_limit(&s3uid, Some(20_000))
        .await
        .expect("raised");
    assert_eq!(try_put(&subject, &keys, &two, "c", 6_000).await, Ok(()));
    cluster
        .set_storage_limit(&s3uid, None)
        .await
        .expect("lifted");
    assert_eq!(try_put(&subject, &keys, &one, "d", 60_000).await, Ok(()));
    noticed(&subject, &s3uid, 6_000 + 3_000 + 6_000 + 60_000).await;
    // Below what is stored already: nothing more comes in, and what is there stays.
    cluster
        .set_storage_limit(&s3uid, Some(1_000))
        .await
        .expect("lowered");
    assert_eq!(try_put(&subject, &keys, &one, "e", 1).await, full);
    let stored: u64 = buckets(&subject, &s3uid)
        .await
        .iter()
        .map(|b| b.stored_bytes)
        .sum();
    assert_eq!(stored, 6_000 + 3_000 + 6_000 + 60_000);
}

/// Looks at an account's buckets until the cluster has counted so much, where it does not count at once.
async fn noticed(subject: &Subject, s3uid: &S3Uid, bytes: u64) {
    if subject.keeps_limits_at_once {
        return;
    }
    eventually(async || {
        let buckets = buckets(subject, s3uid).await;
        let stored: u64 = buckets.iter().map(|bucket| bucket.stored_bytes).sum();
        (stored == bytes).then_some(())
    })
    .await;
    // It was counted when the others were asked for their limits.
    buckets(subject, s3uid).await;
}

async fn buckets(subject: &Subject, s3uid: &S3Uid) -> Vec<Bucket> {
    subject.provider().buckets(s3uid).await.expect("buckets")
}

async fn a_suspended_account_opens_for_nobody_until_it_is_resumed(subject: Subject) {
    let cluster = subject.provider();
    let (s3uid, keys) = subject.user("user", None).await;
    let bucket_name = subject.bucket_name("bucket");
    cluster
        .create_bucket(&s3uid, &bucket_name)
        .await
        .expect("made");
    put(&subject, &keys, &bucket_name, "a", 10).await;
    let url = subject
        .s3(&keys)
        .get_object()
        .bucket(&bucket_name)
        .key("a")
        .presigned(PresigningConfig::expires_in(Duration::from_secs(600)).expect("a time"))
        .await
        .expect("signed");
    assert_eq!(fetch(url.uri()).await, 200);
    for _ in 0..2 {
        cluster
            .set_suspended(&s3uid, true)
            .await
            .expect("suspended");
    }
    assert_eq!(
        login(&subject, &keys).await,
        Err(subject.words.suspended.into())
    );
    assert_eq!(
        try_put(&subject, &keys, &bucket_name, "b", 1).await,
        Err(subject.words.suspended.into())
    );
    assert_eq!(fetch(url.uri()).await, 403);
    // A further key opens nothing either, and what is stored is still told.
    let second = new_keys();
    cluster.add_key(&s3uid, &second).await.expect("added");
    assert_eq!(
        login(&subject, &second).await,
        Err(subject.words.suspended.into())
    );
    assert_eq!(buckets(&subject, &s3uid).await[0].stored_bytes, 10);
    for _ in 0..2 {
        cluster.set_suspended(&s3uid, false).await.expect("resumed");
    }
    assert_eq!(fetch(url.uri()).await, 200);
    assert_eq!(try_put(&subject, &keys, &bucket_name, "b", 1).await, Ok(()));
    assert_eq!(login(&subject, &second).await, Ok(()));
}

async fn a_bucket_belongs_to_who_made_it_first(subject: Subject) {
    let cluster = subject.provider();
    let (s3uid, keys) = subject.user("user", None).await;
    let (other, others) = subject.user("other", None).await;
    let bucket_name = subject.bucket_name("bucket");
    for _ in 0..2 {
        cluster
            .create_bucket(&s3uid, &bucket_name)
            .await
            .expect("made");
    }
    put(&subject, &keys, &bucket_name, "a", 10).await;
    cluster
        .create_bucket(&s3uid, &bucket_name)
        .await
        .expect("there");
    assert_eq!(buckets(&subject, &s3uid).await[0].objects, 1);
    let taken = cluster.create_bucket(&other, &bucket_name).await;
    assert_eq!(refused(taken), "BucketAlreadyExists");
    assert_eq!(buckets(&subject, &other).await, []);
    assert_eq!(
        try_put(&subject, &others, &bucket_name, "b", 1).await,
        Err("AccessDenied".into())
    );
    // To anybody else it is not there.
    let deleted = cluster.delete_bucket(&other, &bucket_name).await;
    assert_eq!(refused(deleted), "NoSuchBucket");
    let purged = cluster.purge_bucket(&other, &bucket_name, 10).await;
    assert_eq!(refused(purged), "NoSuchBucket");
    assert_eq!(buckets(&subject, &s3uid).await[0].objects, 1);
}

async fn a_bucket_with_anything_in_it_is_not_deleted(subject: Subject) {
    let cluster = subject.provider();
    let (s3uid, keys) = subject.user("user", None).await;
    let (full, begun) = (subject.bucket_name("full"), subject.bucket_name("begun"));
    for bucket_name in [&full, &begun] {
        cluster
            .create_bucket(&s3uid, bucket_name)
            .await
            .expect("made");
    }
    put(&subject, &keys, &full, "a", 10).await;
    // A client may be about to complete its upload.
    begin_upload(&subject, &keys, &begun, "a", 10).await;
    for bucket_name in [&full, &begun] {
        let deleted = cluster.delete_bucket(&s3uid, bucket_name).await;
        assert_eq!(refused(deleted), "BucketNotEmpty");
        let step = cluster
            .purge_bucket(&s3uid, bucket_name, 100)
            .await
            .expect("emptied");
        assert!(step.is_empty);
        assert_eq!(step.bytes_removed, 10);
        cluster
            .delete_bucket(&s3uid, bucket_name)
            .await
            .expect("deleted");
        let deleted = cluster.delete_bucket(&s3uid, bucket_name).await;
        assert_eq!(refused(deleted), "NoSuchBucket");
        let purged = cluster.purge_bucket(&s3uid, bucket_name, 10).await;
        assert_eq!(refused(purged), "NoSuchBucket");
    }
    assert_eq!(buckets(&subject, &s3uid).await, []);
}

async fn an_object_under_a_lock_is_named_and_holds_up_nothing_but_itself(subject: Subject) {
    let cluster = subject.provider();
    // Where there are no versions, there is no lock on them.
    if !cluster.capabilities().versions {
        return;
    }
    let (s3uid, keys) = subject.user("user", None).await;
    let bucket_name = subject.bucket_name("bucket");
    let s3 = subject.s3(&keys);
    let bucket = s3.create_bucket().bucket(&bucket_name);
    let bucket = bucket.object_lock_enabled_for_bucket(true);
    bucket.send().await.expect("the bucket is made");
    for key in ["a before", "z after"] {
        put(&subject, &keys, &bucket_name, key, 10).await;
    }
    let until = subject.app.now() + HOUR;
    let locked = s3.put_object().bucket(&bucket_name).key("locked");
    let locked = locked
        .object_lock_mode(ObjectLockMode::Compliance)
        .object_lock_retain_until_date(DateTime::from_secs(until.as_second()))
        .body(vec![b'x'; 7].into());
    locked.send().await.expect("the upload succeeds");
    cluster.set_suspended(&s3uid, true).await.expect("stopped");
    let mut removed = 0;
    for _ in 0..3 {
        let step = cluster.purge_bucket(&s3uid, &bucket_name, 100).await;
        let step = step.expect("it goes on with all others");
        removed += step.entries_removed;
        assert!(!step.is_empty);
        match step.obstacle {
            Some(ClusterError::Locked(locked)) => {
                assert_eq!(locked.bucket_name, bucket_name);
                assert_eq!(locked.key, "locked");
                let told = locked.until.expect("a time");
                assert_eq!(told.as_second(), until.as_second());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(removed, 2);
}

async fn a_bucket_of_a_suspended_account_is_emptied_in_bounded_steps(subject: Subject) {
    let cluster = subject.provider();
    let (s3uid, keys) = subject.user("user", None).await;
    let bucket_name = subject.bucket_name("bucket");
    cluster
        .create_bucket(&s3uid, &bucket_name)
        .await
        .expect("made");
    let s3 = subject.s3(&keys);
    let (mut entries, mut current_bytes, mut old_bytes) = (0, 0, 0);
    if cluster.capabilities().versions {
        let versioning = VersioningConfiguration::builder()
            .status(BucketVersioningStatus::Enabled)
            .build();
        s3.put_bucket_versioning()
            .bucket(&bucket_name)
            .versioning_configuration(versioning)
            .send()
            .await
            .expect("versions are kept");
        for number in 0..5 {
            let key = format!("often/{number}");
            for bytes in [100, 200, 300] {
                put(&subject, &keys, &bucket_name, &key, bytes).await;
            }
            s3.delete_object()
                .bucket(&bucket_name)
                .key(&key)
                .send()
                .await
                .expect("deleted");
            entries += 4;
            old_bytes += 600;
        }
    }
    // Names that neither a URL nor XML can hold as they are.
    let odd = "odd/a+b c%20%ü&<>\"'\u{1}\r\n\t🚢";
    for key in [odd, "plain", "plain/"] {
        put(&subject, &keys, &bucket_name, key, 1_000).await;
        // The answer to the beginning of an upload repeats its key, in XML.
        let key = key.replace('\u{1}', "");
        begin_upload(&subject, &keys, &bucket_name, &key, 5_000).await;
        entries += 2;
        current_bytes += 1_000;
    }
    let upload_bytes = 3 * 5_000;
    let expected_bytes = current_bytes + old_bytes + upload_bytes;
    let bucket = buckets(&subject, &s3uid).await.remove(0);
    assert_eq!(bucket.name, bucket_name);
    assert_eq!(bucket.stored_bytes, expected_bytes);
    let told_apart = (bucket.noncurrent_bytes, bucket.multipart_bytes);
    if subject.tells_bytes_apart {
        assert_eq!(told_apart, (Some(old_bytes), Some(upload_bytes)));
        assert_eq!(bucket.objects, 3);
    } else {
        assert_eq!(told_apart, (None, None));
    }
    cluster
        .set_suspended(&s3uid, true)
        .await
        .expect("suspended");
    let (mut removed, mut removed_bytes, mut steps) = (0, 0, 0);
    loop {
        let step = cluster
            .purge_bucket(&s3uid, &bucket_name, 4)
            .await
            .expect("a step");
        assert!(step.entries_removed <= 4, "{step:?}");
        removed += step.entries_removed;
        removed_bytes += step.bytes_removed;
        steps += 1;
        if step.is_empty {
            break;
        }
        assert!(step.entries_removed > 0, "a step that does nothing");
        let deleted = cluster.delete_bucket(&s3uid, &bucket_name).await;
        assert_eq!(refused(deleted), "BucketNotEmpty");
    }
    assert!(
        removed >= entries,
        "{removed} of {entries} in {steps} steps"
    );
    assert!(steps >= entries / 4);
    assert_eq!(removed_bytes, expected_bytes);
    let step = cluster
        .purge_bucket(&s3uid, &bucket_name, 4)
        .await
        .expect("a step");
    assert_eq!((step.entries_removed, step.is_empty), (0, true));
    let bucket = buckets(&subject, &s3uid).await.remove(0);
    assert_eq!((bucket.stored_bytes, bucket.objects), (0, 0));
    cluster
        .delete_bucket(&s3uid, &bucket_name)
        .await
        .expect("deleted");
    cluster.delete_user(&s3uid).await.expect("deleted");
}

async fn the_buckets_of_many_are_those_of_each(subject: Subject) {
    let cluster = subject.provider();
    let mut expected = BTreeSet::new();
    let mut s3uids = Vec::new();
    for number in 0..10_usize {
        let (s3uid, keys) = subject.user(&format!("user-{number}"), None).await;
        for second in 0..number % 3 {
            let bucket_name = subject.bucket_name(&format!("bucket-{number}-{second}"));
            cluster
                .create_bucket(&s3uid, &bucket_name)
                .await
                .expect("made");
            for object in 0..second {
                put(
                    &subject,
                    &keys,
                    &bucket_name,
                    &format!("{object}"),
                    100 + number,
                )
                .await;
            }
            let bytes = (second * (100 + number)) as u64;
            expected.insert((s3uid.clone(), bucket_name, bytes, second as u64));
        }
        s3uids.push(s3uid);
    }
    let (stranger, _) = subject.user("stranger", None).await;
    let strange = subject.bucket_name("strange");
    cluster
        .create_bucket(&stranger, &strange)
        .await
        .expect("made");
    let short = |s3uid: &S3Uid, bucket: &Bucket| {
        (
            s3uid.to_owned(),
            bucket.name.clone(),
            bucket.stored_bytes,
            bucket.objects,
        )
    };
    let mut of_each = BTreeSet::new();
    for s3uid in &s3uids {
        let buckets = buckets(&subject, s3uid).await;
        assert!(
            buckets.is_sorted_by(|a, b| a.name < b.name),
            "not by name: {buckets:?}"
        );
        let now = subject.app.now();
        for bucket in &buckets {
            let age = now.duration_since(bucket.created_at);
            assert!(
                age.abs() < SignedDuration::from_mins(5),
                "{bucket:?} at {now}"
            );
            of_each.insert(short(s3uid, bucket));
        }
    }
    assert_eq!(of_each, expected);
    // A few are asked for one by one, many at once; it makes no difference.
    for count in [3, 10] {
        let nobody = S3Uid(subject.name("nobody"));
        let mut names: Vec<&S3Uid> = s3uids[..count].iter().collect();
        names.push(&nobody);
        let found = cluster.buckets_of(&names).await.expect("buckets");
        let found: BTreeSet<_> = found.iter().map(|(s3uid, b)| short(s3uid, b)).collect();
        let mut expected = expected.clone();
        expected.retain(|(s3uid, ..)| names.contains(&s3uid));
        assert_eq!(found, expected);
    }
}

fn totals(hours: &[TrafficHour], s3uid: &S3Uid, bucket_name: &str) -> (u64, u64, u64) {
    hours
        .iter()
        .filter(|hour| hour.s3uid == *s3uid && *hour.bucket_name == *bucket_name)
        .fold((0, 0, 0), |(sent, received, requests), hour| {
            (
                sent + hour.bytes_sent,
                received + hour.bytes_received,
                requests + hour.requests,
            )
        })
}

async fn traffic_is_counted_in_its_hour_for_whose_bucket_it_is(subject: Subject) {
    let cluster = subject.provider();
    if !cluster.capabilities().traffic {
        let anybody = S3Uid("anybody".into());
        let hours = cluster
            .traffic(&[&anybody], Timestamp::UNIX_EPOCH, subject.app.now())
            .await;
        assert_eq!(refused(hours), "NotImplemented");
        return;
    }
    let before = subject.app.now();
    let mut users = Vec::new();
    for number in 0..10 {
        let (s3uid, keys) = subject.user(&format!("user-{number}"), None).await;
        let bucket_name = subject.bucket_name(&format!("bucket-{number}"));
        cluster
            .create_bucket(&s3uid, &bucket_name)
            .await
            .expect("made");
        put(&subject, &keys, &bucket_name, "a", 1_000 + number).await;
        users.push((s3uid, keys, bucket_name));
    }
    let (s3uid, keys, bucket_name) = &users[1];
    for _ in 0..2 {
        let s3 = subject.s3(keys);
        let object = s3
            .get_object()
            .bucket(bucket_name)
            .key("a")
            .send()
            .await
            .expect("an object");
        object.body.collect().await.expect("its bytes");
    }
    // With a URL that the owner signed, whoever comes is on the owner's account.
    let url = subject
        .s3(keys)
        .get_object()
        .bucket(bucket_name)
        .key("a")
        .presigned(PresigningConfig::expires_in(Duration::from_secs(600)).expect("a time"))
        .await
        .expect("signed");
    assert_eq!(fetch(url.uri()).await, 200);
    let names: Vec<&S3Uid> = users.iter().map(|(s3uid, ..)| s3uid).collect();
    let from = hour_of(before);
    let to = || hour_of(subject.app.now()) + HOUR;
    let hours = eventually(async || {
        let hours = cluster.traffic(&names, from, to()).await.expect("traffic");
        let is_all = users.iter().all(|(s3uid, _, bucket_name)| {
            let (sent, received, _) = totals(&hours, s3uid, bucket_name);
            received > 0 && (*s3uid != *names[1] || sent >= 3 * 1_001)
        });
        is_all.then_some(hours)
    })
    .await;
    for hour in &hours {
        assert!(names.contains(&&hour.s3uid), "{hour:?}");
        assert_eq!(hour.hour, hour_of(hour.hour));
        assert!(hour.hour >= from && hour.hour < to(), "{hour:?}");
        let classes = hour.classes.expect("classes");
        let all = classes.get + classes.put + classes.list + classes.delete + classes.other;
        assert_eq!(all, hour.requests, "{hour:?}");
    }
    let kinds: BTreeSet<_> = hours
        .iter()
        .map(|hour| (&hour.s3uid, &hour.bucket_name, hour.hour))
        .collect();
    assert_eq!(kinds.len(), hours.len(), "an hour of a bucket stands twice");
    for (number, (s3uid, _, bucket_name)) in users.iter().enumerate() {
        let (sent, received, requests) = totals(&hours, s3uid, bucket_name);
        assert_eq!(received, 1_000 + number as u64);
        let reads = if number == 1 { 3 } else { 0 };
        assert_eq!(sent, reads * 1_001, "of {s3uid}");
        assert!(requests > reads, "{requests} of {s3uid}");
        let of_it = hours.iter().filter(|hour| hour.s3uid == *s3uid);
        let gets: u64 = of_it.filter_map(|hour| Some(hour.classes?.get)).sum();
        assert_eq!(gets, reads, "of {s3uid}");
    }
    // A few are asked for one by one, many at once; it makes no difference.
    let few = cluster
        .traffic(&[s3uid], from, to())
        .await
        .expect("traffic");
    assert_eq!(
        totals(&few, s3uid, bucket_name),
        totals(&hours, s3uid, bucket_name)
    );
    // Nothing before, nothing later, nothing for whom nobody knows.
    let earlier = cluster.traffic(&names, from - HOUR, from).await;
    assert_eq!(earlier.expect("traffic"), []);
    let later = cluster.traffic(&names, to(), to() + HOUR).await;
    assert_eq!(later.expect("traffic"), []);
    let nobody = S3Uid(subject.name("nobody"));
    let none = cluster.traffic(&[&nobody], from, to()).await;
    assert_eq!(none.expect("traffic"), []);
    // It outlives the account, until it is to be forgotten; others' stays.
    cluster
        .purge_bucket(s3uid, bucket_name, 10)
        .await
        .expect("emptied");
    cluster
        .delete_bucket(s3uid, bucket_name)
        .await
        .expect("deleted");
    cluster.delete_user(s3uid).await.expect("deleted");
    let kept = cluster.traffic(&[s3uid], from, to()).await;
    let (sent, received, _) = totals(&kept.expect("traffic"), s3uid, bucket_name);
    assert_eq!((sent, received), (3 * 1_001, 1_001));
    for _ in 0..2 {
        cluster.forget_traffic(s3uid).await.expect("forgotten");
    }
    let left = cluster.traffic(&names, from, to()).await.expect("traffic");
    assert_eq!(totals(&left, s3uid, bucket_name), (0, 0, 0));
    let (other, _, others) = &users[2];
    assert_eq!(totals(&left, other, others).1, 1_002);
}

async fn who_is_not_there_is_told_so(subject: Subject) {
    let cluster = subject.provider();
    let nobody = S3Uid(subject.name("nobody"));
    let bucket_name = subject.bucket_name("bucket");
    let keys = new_keys();
    for result in [
        cluster.set_suspended(&nobody, true).await,
        cluster.set_suspended(&nobody, false).await,
        cluster.set_storage_limit(&nobody, Some(1)).await,
        cluster.set_storage_limit(&nobody, None).await,
        cluster.add_key(&nobody, &keys).await,
        cluster.create_bucket(&nobody, &bucket_name).await,
        cluster.buckets(&nobody).await.map(|_| ()),
    ] {
        assert_eq!(refused(result), "NoSuchUser");
    }
    let purged = cluster.purge_bucket(&nobody, &bucket_name, 1).await;
    assert_eq!(refused(purged), "NoSuchBucket");
    let deleted = cluster.delete_bucket(&nobody, &bucket_name).await;
    assert_eq!(refused(deleted), "NoSuchBucket");
    // What is to go is gone.
    cluster
        .remove_key(&nobody, &keys.access_key)
        .await
        .expect("gone");
    cluster.delete_user(&nobody).await.expect("gone");
    cluster.forget_traffic(&nobody).await.expect("gone");
    assert_eq!(
        login(&subject, &keys).await,
        Err(subject.words.no_key.into())
    );
}

#[track_caller]
fn unavailable<T: std::fmt::Debug>(result: Result<T, ClusterError>) {
    match result.expect_err("the cluster cannot answer") {
        ClusterError::Unavailable(_) => {}
        refused => panic!("{refused}"),
    }
}

async fn a_cluster_that_cannot_answer_is_asked_again_but_not_for_ever(subject: Subject) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let (asked, mut questions) = tokio::sync::mpsc::unbounded_channel();
    let server = tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 4_096];
            let _ = connection.read(&mut request).await;
            let answer =
                b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = connection.write_all(answer).await;
            asked.send(()).expect("the test is there");
        }
    });
    let cluster = subject.provider_at(&endpoint);
    let keys = new_keys();
    let now = subject.app.now();
    unavailable(
        cluster
            .create_user(&S3Uid("somebody".into()), &keys, None)
            .await,
    );
    let mut tries = 0;
    while questions.try_recv().is_ok() {
        tries += 1;
    }
    assert!((2..=5).contains(&tries), "{tries} tries");
    unavailable(cluster.delete_user(&S3Uid("somebody".into())).await);
    if cluster.capabilities().traffic {
        unavailable(
            cluster
                .traffic(&[&S3Uid("somebody".into())], now - HOUR, now)
                .await,
        );
    }
    unavailable(cluster.buckets_of(&[&S3Uid("somebody".into()); 20]).await);
    unavailable(
        cluster
            .purge_bucket(&S3Uid("somebody".into()), &"bucket".into(), 1)
            .await,
    );
    // Nobody there at all.
    server.abort();
    let _ = server.await;
    unavailable(cluster.set_suspended(&S3Uid("somebody".into()), true).await);
    unavailable(cluster.buckets(&S3Uid("somebody".into())).await);
    // Somebody who speaks another language.
    let another = subject.provider_at(&subject.app.stack.environment()["AWS_ENDPOINT_URL_SQS"]);
    unavailable(another.buckets(&S3Uid("somebody".into())).await);
}
