//! Usage equals what moved.

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::support::{Lab, pattern, put, read, refusal};

async fn usage(lab: &Lab, query: &str) -> Vec<Value> {
    let (status, body) = lab
        .admin("GET", &format!("usage?{query}"), Value::Null)
        .await;
    assert_eq!(status, 200, "{body}");
    body["entries"].as_array().unwrap().clone()
}

const DAY: &str = "from=2026-11-22T00:00:00Z&to=2026-11-23T00:00:00Z";

#[tokio::test]
async fn bytes_and_requests_by_bucket_and_hour() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let bob = lab.user_with("bob", "bobs").await;
    put(&alice, "alices", "k", pattern(100_000)).await;
    assert_eq!(read(&alice, "alices", "k").await.len(), 100_000);
    let range = alice
        .get_object()
        .bucket("alices")
        .key("k")
        .range("bytes=0-999")
        .send()
        .await
        .unwrap();
    range.body.collect().await.unwrap();
    alice
        .head_object()
        .bucket("alices")
        .key("k")
        .send()
        .await
        .unwrap();
    // Neither a stranger's attempts nor wrong keys are the owner's usage.
    refusal(bob.get_object().bucket("alices").key("k").send().await);
    refusal(
        lab.client("AKalice", "wrong")
            .get_object()
            .bucket("alices")
            .key("k")
            .send()
            .await,
    );
    let entries = usage(&lab, DAY).await;
    assert_eq!(
        entries,
        [
            json!({"uid": "alice", "bucket": "alices", "hour": "2026-11-22T13:00:00Z",
                "bytes_sent": 101_000, "bytes_received": 100_000, "requests": 5,
                "requests_by_class": {"get": 3, "put": 1, "list": 0, "delete": 0, "other": 1}}),
            json!({"uid": "bob", "bucket": "bobs", "hour": "2026-11-22T13:00:00Z",
                "bytes_sent": 0, "bytes_received": 0, "requests": 1,
                "requests_by_class": {"get": 0, "put": 0, "list": 0, "delete": 0, "other": 1}}),
        ]
    );
    // The next hour has a row of its own, and hours are half-open.
    lab.clock.advance(3600);
    read(&alice, "alices", "k").await;
    let later = usage(
        &lab,
        "from=2026-11-22T14:00:00Z&to=2026-11-22T15:00:00Z&uids=alice,none",
    )
    .await;
    assert_eq!(later.len(), 1);
    assert_eq!(later[0]["bytes_sent"], 100_000);
    assert_eq!(
        usage(
            &lab,
            "from=2026-11-22T13:00:00Z&to=2026-11-22T14:00:00Z&uids=alice"
        )
        .await,
        entries[..1]
    );
    assert!(usage(&lab, &format!("{DAY}&uids=")).await.is_empty());
    // An answer in XML counts as well, by its bytes.
    lab.clock.advance(3600);
    refusal(alice.get_object().bucket("alices").key("none").send().await);
    let xml = usage(&lab, "from=2026-11-22T15:00:00Z&to=2026-11-22T16:00:00Z").await;
    assert!(xml[0]["bytes_sent"].as_u64().unwrap() > 50, "{xml:?}");
    // Usage outlives its bucket and user.
    lab.admin("POST", "buckets/alices/purge", json!({"max_entries": 10}))
        .await;
    lab.admin("DELETE", "buckets/alices", Value::Null).await;
    assert_eq!(lab.admin("DELETE", "users/alice", Value::Null).await.0, 204);
    assert_eq!(usage(&lab, &format!("{DAY}&uids=alice")).await.len(), 3);
    for query in [
        "from=2026-11-22T13:30:00Z&to=2026-11-22T14:00:00Z",
        "from=yesterday&to=2026-11-22T14:00:00Z",
        "to=2026-11-22T14:00:00Z",
        "from=2026-11-22T14:00:00Z&to=2026-11-22T13:00:00Z",
    ] {
        let (status, body) = lab
            .admin("GET", &format!("usage?{query}"), Value::Null)
            .await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!("InvalidArgument")),
            "{query}"
        );
    }
}

#[tokio::test]
async fn usage_survives_a_restart() {
    let mut lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", pattern(1000)).await;
    lab.restart();
    let entries = usage(&lab, DAY).await;
    assert_eq!(
        (&entries[0]["bytes_received"], &entries[0]["requests"]),
        (&json!(1000), &json!(2))
    );
}

#[tokio::test]
async fn an_aborted_download_counts_what_was_sent() {
    const LENGTH: usize = 64 << 20;
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "big", pattern(LENGTH)).await;
    let expiry =
        aws_sdk_s3::presigning::PresigningConfig::expires_in(std::time::Duration::from_secs(60))
            .unwrap();
    let url = alice
        .get_object()
        .bucket("alices")
        .key("big")
        .presigned(expiry)
        .await
        .unwrap();
    let address = lab.cluster().endpoint().strip_prefix("http://").unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let path = url.uri().strip_prefix(lab.cluster().endpoint()).unwrap();
    let request = Request::get(path)
        .header("host", address)
        .body(Full::<hyper::body::Bytes>::default())
        .unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut taken = 0;
    while taken < 1 << 20 {
        taken += response
            .body_mut()
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap()
            .len();
    }
    drop(response);
    connection.abort();
    let _ = connection.await;
    let sent = usage(&lab, DAY).await[0]["bytes_sent"].as_u64().unwrap() as usize;
    assert!(sent >= taken, "{sent} of {taken}");
    // What lies in the buffers between the two counts as sent; the rest of the object does not.
    assert!(sent < LENGTH / 2, "{sent}");
}

#[tokio::test]
async fn many_users_are_asked_for_at_once() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    lab.user_with("bob", "bobs").await;
    put(&alice, "alices", "k", pattern(1_000)).await;
    let uids = json!(["alice", "bob", "nobody"]);
    let (status, body) = lab.admin("POST", "stats", json!({ "uids": uids })).await;
    assert_eq!(status, 200, "{body}");
    let buckets: Vec<(&str, &str, u64)> = body["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap();
            (
                text("owner"),
                text("name"),
                row["stored_bytes"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(buckets, [("alice", "alices", 1_000), ("bob", "bobs", 0)]);
    let too_many = json!({ "uids": vec!["x"; 1_001] });
    assert_eq!(lab.admin("POST", "stats", too_many).await.0, 400);

    let hours =
        json!({ "from": "2026-11-22T13:00:00Z", "to": "2026-11-22T14:00:00Z", "uids": uids });
    let (status, body) = lab.admin("POST", "usage", hours.clone()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["entries"].as_array().unwrap(), &usage(&lab, DAY).await);

    let (status, _) = lab
        .admin("DELETE", "usage?before=2026-11-22T14:00:00Z", Value::Null)
        .await;
    assert_eq!(status, 204);
    let (_, body) = lab.admin("POST", "usage", hours).await;
    assert_eq!(body["entries"], json!([]));
}
