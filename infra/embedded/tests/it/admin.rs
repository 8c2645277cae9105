//! The admin API.

use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};

use crate::support::{Lab, TOKEN, put, send};

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn only_the_token_opens_it() {
    let lab = Lab::start();
    for header in [
        None,
        Some("Bearer wrong".to_owned()),
        Some(TOKEN.to_owned()),
        Some(format!("Bearer {TOKEN}x")),
    ] {
        let mut request = Request::get("/_admin/v1/users").header("host", "x");
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let response = send(
            lab.cluster().endpoint(),
            request.body(Full::default()).unwrap(),
        )
        .await;
        assert_eq!(response.status(), 401);
    }
    assert_eq!(
        code(&lab.admin("GET", "nothing", Value::Null).await),
        (404, "NotFound")
    );
    assert_eq!(
        code(&lab.admin("POST", "users/alice", Value::Null).await),
        (404, "NotFound")
    );
    assert!(!format!("{:?}", lab.cluster()).contains(TOKEN));
}

#[tokio::test]
async fn users_are_made_once() {
    let lab = Lab::start();
    let alice =
        json!({"display_name": "Alice", "access_key": "AKA", "secret_key": "s", "quota_bytes": 5});
    let made = lab.admin("PUT", "users/alice", alice.clone()).await;
    let expected = json!({"uid": "alice", "display_name": "Alice", "suspended": false, "quota_bytes": 5,
        "access_keys": ["AKA"], "stored_bytes": 0, "objects": 0, "buckets": 0});
    assert_eq!(made, (200, expected.clone()));
    assert_eq!(lab.admin("PUT", "users/alice", alice).await, made);
    assert_eq!(lab.admin("GET", "users/alice", Value::Null).await, made);
    let with = |access_key: &str, secret_key: &str| json!({"display_name": "x", "access_key": access_key, "secret_key": secret_key, "quota_bytes": null});
    let other = lab.admin("PUT", "users/alice", with("AKB", "s")).await;
    assert_eq!(code(&other), (409, "UserAlreadyExists"));
    let other = lab.admin("PUT", "users/alice", with("AKA", "t")).await;
    assert_eq!(code(&other), (409, "UserAlreadyExists"));
    let taken = lab.admin("PUT", "users/bob", with("AKA", "s")).await;
    assert_eq!(code(&taken), (409, "KeyExists"));
    for (uid, body) in [
        ("bob", with("a-b", "s")),
        ("bob", with("ab", "s")),
        ("bob", with("AKB", "")),
        ("b%20b", with("AKB", "s")),
        ("bob", json!({"access_key": "AKB"})),
        (
            "bob",
            json!({"access_key": "AKB", "secret_key": "s", "quota_bytes": -1}),
        ),
    ] {
        let refused = lab.admin("PUT", &format!("users/{uid}"), body).await;
        assert_eq!(code(&refused), (400, "InvalidArgument"));
    }
    let absent = "users/bob";
    assert_eq!(
        code(&lab.admin("GET", absent, Value::Null).await),
        (404, "NoSuchUser")
    );
    assert_eq!(
        code(&lab.admin("PATCH", absent, json!({})).await),
        (404, "NoSuchUser")
    );
    assert_eq!(
        code(&lab.admin("DELETE", absent, Value::Null).await),
        (404, "NoSuchUser")
    );
    assert_eq!(
        code(&lab.admin("GET", "users/bob/buckets", Value::Null).await),
        (404, "NoSuchUser")
    );
    assert_eq!(
        code(
            &lab.admin("PUT", "users/bob/buckets/bobs", Value::Null)
                .await
        ),
        (404, "NoSuchUser")
    );

    let patched = lab
        .admin("PATCH", "users/alice", json!({"suspended": true}))
        .await
        .1;
    assert_eq!(
        (&patched["suspended"], &patched["quota_bytes"]),
        (&json!(true), &json!(5))
    );
    let patched = lab
        .admin("PATCH", "users/alice", json!({"quota_bytes": null}))
        .await
        .1;
    assert_eq!(
        (&patched["suspended"], &patched["quota_bytes"]),
        (&json!(true), &Value::Null)
    );
}

#[tokio::test]
async fn keys_come_and_go() {
    let lab = Lab::start();
    lab.user("alice").await;
    lab.user("bob").await;
    let key = |uid: &str, secret: &str| {
        (
            format!("users/{uid}/keys/NEW"),
            json!({"secret_key": secret}),
        )
    };
    let put = async |uid: &str, secret: &str| {
        let (path, body) = key(uid, secret);
        lab.admin("PUT", &path, body).await
    };
    assert_eq!(
        put("alice", "s").await.1["access_keys"],
        json!(["AKalice", "NEW"])
    );
    assert_eq!(put("alice", "s").await.0, 200);
    assert_eq!(code(&put("alice", "t").await), (409, "KeyExists"));
    assert_eq!(code(&put("bob", "s").await), (409, "KeyExists"));
    assert_eq!(code(&put("none", "s").await), (404, "NoSuchUser"));
    // Another user's key is not his to delete.
    assert_eq!(
        lab.admin("DELETE", "users/bob/keys/NEW", Value::Null)
            .await
            .0,
        204
    );
    assert_eq!(put("alice", "s").await.0, 200);
    for _ in 0..2 {
        assert_eq!(
            lab.admin("DELETE", "users/alice/keys/NEW", Value::Null)
                .await
                .0,
            204
        );
    }
    assert_eq!(put("bob", "s").await.0, 200);
}

#[tokio::test]
async fn buckets_are_made_counted_emptied_and_deleted() {
    let lab = Lab::start();
    let alice = lab.user("alice").await;
    lab.user("bob").await;
    let made = lab
        .admin("PUT", "users/alice/buckets/alices", Value::Null)
        .await;
    let expected = json!({"name": "alices", "created_at": "2026-11-22T13:20:00Z"});
    assert_eq!(made, (200, expected));
    lab.clock.advance(10);
    assert_eq!(
        lab.admin("PUT", "users/alice/buckets/alices", Value::Null)
            .await,
        made
    );
    let taken = lab
        .admin("PUT", "users/bob/buckets/alices", Value::Null)
        .await;
    assert_eq!(code(&taken), (409, "BucketAlreadyExists"));
    let bad = lab
        .admin("PUT", "users/alice/buckets/Bad_Name", Value::Null)
        .await;
    assert_eq!(code(&bad), (400, "InvalidBucketName"));
    lab.admin("PUT", "users/alice/buckets/aaa", Value::Null)
        .await;
    for n in 0..25 {
        put(&alice, "alices", &format!("k{n}"), "1234").await;
    }
    alice
        .create_multipart_upload()
        .bucket("alices")
        .key("m")
        .send()
        .await
        .unwrap();
    let row = json!({"name": "alices", "created_at": "2026-11-22T13:20:00Z", "stored_bytes": 100, "objects": 25,
        "versions": 25, "noncurrent_bytes": 0, "multipart_bytes": 0});
    let (_, listed) = lab.admin("GET", "users/alice/buckets", Value::Null).await;
    assert_eq!(listed["buckets"][1], row);
    assert_eq!(listed["buckets"][0]["name"], "aaa");
    let mut owned = row.clone();
    owned["owner"] = json!("alice");
    assert_eq!(
        lab.admin("GET", "buckets/alices", Value::Null).await,
        (200, owned)
    );

    assert_eq!(
        code(&lab.admin("DELETE", "users/alice", Value::Null).await),
        (409, "UserNotEmpty")
    );
    assert_eq!(
        code(&lab.admin("DELETE", "buckets/alices", Value::Null).await),
        (409, "BucketNotEmpty")
    );
    let purge = async |max: u64| {
        lab.admin("POST", "buckets/alices/purge", json!({"max_entries": max}))
            .await
    };
    assert_eq!(
        purge(20).await,
        (200, json!({"deleted": 20, "bytes": 80, "empty": false}))
    );
    assert_eq!(
        purge(5).await,
        (200, json!({"deleted": 5, "bytes": 20, "empty": false}))
    );
    assert_eq!(
        purge(5).await,
        (200, json!({"deleted": 1, "bytes": 0, "empty": true}))
    );
    assert_eq!(
        purge(5).await,
        (200, json!({"deleted": 0, "bytes": 0, "empty": true}))
    );
    assert_eq!(code(&purge(0).await), (400, "InvalidArgument"));
    assert_eq!(lab.files(), 0);
    assert_eq!(
        lab.admin("DELETE", "buckets/alices", Value::Null).await.0,
        204
    );
    assert_eq!(
        code(&lab.admin("DELETE", "buckets/alices", Value::Null).await),
        (404, "NoSuchBucket")
    );
    assert_eq!(
        code(&lab.admin("GET", "buckets/alices", Value::Null).await),
        (404, "NoSuchBucket")
    );
    assert_eq!(code(&purge(5).await), (404, "NoSuchBucket"));
    lab.admin("DELETE", "buckets/aaa", Value::Null).await;
    assert_eq!(lab.admin("DELETE", "users/alice", Value::Null).await.0, 204);
    // His keys are free again.
    lab.user("alice").await;
}

#[tokio::test]
async fn users_are_listed_in_pages() {
    let lab = Lab::start();
    for uid in ["c", "a", "b"] {
        lab.user(uid).await;
    }
    let page = async |query: &str| {
        lab.admin("GET", &format!("users?{query}"), Value::Null)
            .await
    };
    assert_eq!(
        page("limit=2").await.1,
        json!({"users": ["a", "b"], "next": "b"})
    );
    assert_eq!(
        page("limit=2&after=b").await.1,
        json!({"users": ["c"], "next": null})
    );
    assert_eq!(page("limit=3").await.1["next"], Value::Null);
    assert_eq!(code(&page("limit=0").await), (400, "InvalidArgument"));
}
