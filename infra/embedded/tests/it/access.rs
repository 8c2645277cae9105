//! Who is let in, and to what.

use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use http_body_util::Full;
use hyper::Request;
use serde_json::json;

use crate::support::{Lab, body, error, keys, pattern, put, read, refusal, send};

#[tokio::test]
async fn wrong_keys_and_strangers_are_refused() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", "v").await;
    let bob = lab.user_with("bob", "bobs").await;
    put(&bob, "bobs", "k", "v").await;

    let unknown = lab.client("AKnobody", "secret");
    let wrong = lab.client(&keys("alice").0, "wrong");
    assert_eq!(
        refusal(unknown.list_buckets().send().await),
        error(403, "InvalidAccessKeyId")
    );
    assert_eq!(
        refusal(wrong.list_buckets().send().await),
        error(403, "SignatureDoesNotMatch")
    );

    let denied = error(403, "AccessDenied");
    assert_eq!(
        refusal(bob.list_objects_v2().bucket("alices").send().await),
        denied
    );
    assert_eq!(
        refusal(bob.get_object().bucket("alices").key("k").send().await),
        denied
    );
    assert_eq!(
        refusal(bob.delete_object().bucket("alices").key("k").send().await),
        denied
    );
    assert_eq!(
        refusal(bob.delete_bucket().bucket("alices").send().await),
        denied
    );
    assert_eq!(
        refusal(
            bob.put_object()
                .bucket("alices")
                .key("k")
                .body(body("x"))
                .send()
                .await
        ),
        denied
    );
    assert_eq!(
        refusal(
            bob.copy_object()
                .bucket("bobs")
                .key("stolen")
                .copy_source("alices/k")
                .send()
                .await
        ),
        denied
    );
    let upload = bob
        .create_multipart_upload()
        .bucket("bobs")
        .key("m")
        .send()
        .await
        .unwrap();
    assert_eq!(
        refusal(
            bob.upload_part_copy()
                .bucket("bobs")
                .key("m")
                .upload_id(upload.upload_id().unwrap())
                .part_number(1)
                .copy_source("alices/k")
                .send()
                .await
        ),
        denied
    );
    assert_eq!(
        refusal(bob.create_bucket().bucket("alices").send().await),
        error(409, "BucketAlreadyExists")
    );
    assert_eq!(
        refusal(alice.create_bucket().bucket("alices").send().await),
        error(409, "BucketAlreadyOwnedByYou")
    );
    assert_eq!(
        refusal(bob.head_bucket().bucket("nobodys").send().await).0,
        404
    );
    let names: Vec<_> = bob
        .list_buckets()
        .send()
        .await
        .unwrap()
        .buckets()
        .iter()
        .map(|b| b.name().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["bobs"]);

    let anonymous = Request::get("/alices/k")
        .header("host", "x")
        .body(Full::default())
        .unwrap();
    let response = send(lab.cluster().endpoint(), anonymous).await;
    assert_eq!(response.status(), 403);
    assert!(String::from_utf8_lossy(response.body()).contains("<Code>AccessDenied</Code>"));
}

#[tokio::test]
async fn a_suspended_user_is_told_so_until_lifted() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", "v").await;
    lab.admin("PATCH", "users/alice", json!({"suspended": true}))
        .await;
    let suspended = error(403, "UserSuspended");
    assert_eq!(refusal(alice.list_buckets().send().await), suspended);
    assert_eq!(
        refusal(alice.get_object().bucket("alices").key("k").send().await),
        suspended
    );
    assert_eq!(
        refusal(
            alice
                .put_object()
                .bucket("alices")
                .key("k")
                .body(body("x"))
                .send()
                .await
        ),
        suspended
    );
    lab.admin("PATCH", "users/alice", json!({"suspended": false}))
        .await;
    assert_eq!(read(&alice, "alices", "k").await, b"v");
}

#[tokio::test]
async fn a_second_key_works_until_it_is_deleted() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", "v").await;
    lab.admin(
        "PUT",
        "users/alice/keys/SECOND",
        json!({"secret_key": "s2"}),
    )
    .await;
    let second = lab.client("SECOND", "s2");
    assert_eq!(read(&second, "alices", "k").await, b"v");
    lab.admin("DELETE", "users/alice/keys/SECOND", json!(null))
        .await;
    assert_eq!(
        refusal(second.get_object().bucket("alices").key("k").send().await),
        error(403, "InvalidAccessKeyId")
    );
}

#[tokio::test]
async fn the_quota_counts_everything_stored() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    lab.quota("alice", json!(1000)).await;
    let exceeded = error(403, "QuotaExceeded");
    let try_put = |key: &'static str, length: usize| {
        alice
            .put_object()
            .bucket("alices")
            .key(key)
            .body(body(pattern(length)))
            .send()
    };
    assert_eq!(refusal(try_put("a", 1001).await), exceeded);
    try_put("a", 600).await.unwrap();
    assert_eq!(refusal(try_put("b", 401).await), exceeded);
    try_put("b", 400).await.unwrap();
    // In place of itself: only the difference counts.
    try_put("a", 600).await.unwrap();
    assert_eq!(refusal(try_put("a", 601).await), exceeded);
    assert_eq!(
        refusal(
            alice
                .copy_object()
                .bucket("alices")
                .key("c")
                .copy_source("alices/b")
                .send()
                .await
        ),
        exceeded
    );
    // Unfinished parts count, and make room again.
    alice
        .delete_object()
        .bucket("alices")
        .key("b")
        .send()
        .await
        .unwrap();
    let upload = alice
        .create_multipart_upload()
        .bucket("alices")
        .key("m")
        .send()
        .await
        .unwrap();
    let upload_id = upload.upload_id().unwrap();
    let try_part = |number: i32, length: usize| {
        alice
            .upload_part()
            .bucket("alices")
            .key("m")
            .upload_id(upload_id)
            .part_number(number)
            .body(body(pattern(length)))
            .send()
    };
    assert_eq!(refusal(try_part(1, 401).await), exceeded);
    try_part(1, 400).await.unwrap();
    assert_eq!(refusal(try_part(2, 1).await), exceeded);
    assert_eq!(refusal(try_put("d", 1).await), exceeded);
    alice
        .abort_multipart_upload()
        .bucket("alices")
        .key("m")
        .upload_id(upload_id)
        .send()
        .await
        .unwrap();
    try_put("d", 400).await.unwrap();
    // A lowered quota takes nothing away, and lets the account shrink.
    lab.quota("alice", json!(500)).await;
    assert_eq!(read(&alice, "alices", "a").await.len(), 600);
    assert_eq!(refusal(try_put("a", 600).await), exceeded);
    try_put("a", 599).await.unwrap();
    lab.quota("alice", json!(null)).await;
    try_put("e", 100_000).await.unwrap();
    let (_, user) = lab.admin("GET", "users/alice", json!(null)).await;
    assert_eq!(user["stored_bytes"], 599 + 400 + 100_000);
    assert_eq!(lab.files(), 3, "refused bodies leave nothing");
}

#[tokio::test]
async fn a_large_upload_over_the_quota_gets_its_answer() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    lab.quota("alice", json!(1000)).await;
    let refused = alice
        .put_object()
        .bucket("alices")
        .key("big")
        .body(body(pattern(20 << 20)))
        .send()
        .await;
    assert_eq!(refusal(refused), error(403, "QuotaExceeded"));
}

#[tokio::test]
async fn concurrent_writes_do_not_pass_the_quota_together() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    lab.quota("alice", json!(1000)).await;
    let puts = (0..8).map(|n| {
        alice
            .put_object()
            .bucket("alices")
            .key(format!("{n}"))
            .body(body(pattern(300)))
            .send()
    });
    let done = futures::future::join_all(puts).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 3);
    assert_eq!(lab.bucket_figures("alices").await["stored_bytes"], 900);
}

#[tokio::test]
async fn presigned_urls_need_no_header_and_choose_response_headers() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let for_an_hour = || PresigningConfig::expires_in(Duration::from_secs(3600)).unwrap();
    let path = |uri: &str| {
        uri.strip_prefix(lab.cluster().endpoint())
            .unwrap()
            .to_owned()
    };
    let host = lab.cluster().endpoint().strip_prefix("http://").unwrap();

    let url = alice
        .put_object()
        .bucket("alices")
        .key("a b+c")
        .presigned(for_an_hour())
        .await
        .unwrap();
    let mut request = Request::put(path(url.uri())).header("host", host);
    for (name, value) in url.headers() {
        request = request.header(name, value);
    }
    let response = send(
        lab.cluster().endpoint(),
        request.body(Full::from("signed in the query")).unwrap(),
    )
    .await;
    assert_eq!(response.status(), 200, "{:?}", response.body());

    let url = alice
        .get_object()
        .bucket("alices")
        .key("a b+c")
        .response_content_type("text/plain")
        .response_content_disposition("attachment; filename=x.txt")
        .presigned(for_an_hour())
        .await
        .unwrap();
    let get = |uri: String| {
        Request::get(uri)
            .header("host", host)
            .body(Full::default())
            .unwrap()
    };
    let response = send(lab.cluster().endpoint(), get(path(url.uri()))).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.body().as_ref(), b"signed in the query");
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert_eq!(
        response.headers()["content-disposition"],
        "attachment; filename=x.txt"
    );

    let forged = path(url.uri()).replace("a%20b%2Bc", "other");
    let response = send(lab.cluster().endpoint(), get(forged)).await;
    assert_eq!(response.status(), 403);
    assert!(String::from_utf8_lossy(response.body()).contains("SignatureDoesNotMatch"));
}
