//! The way of most clients, from the order to the end.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_s3::error::ProvideErrorMetadata;
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use tests::{TestAccount, TestApp};

/// Uploads at once.
const AT_ONCE: usize = 16;

async fn put_all(
    app: &TestApp,
    s3: &aws_sdk_s3::Client,
    bucket_name: &str,
    files: &BTreeMap<String, usize>,
) {
    stream::iter(files)
        .for_each_concurrent(AT_ONCE, |(key, bytes)| {
            app.put(s3, bucket_name, key, *bytes)
        })
        .await;
}

/// All pages of a listing: files with their sizes, folders, and how many pages there were.
async fn list(
    app: &TestApp,
    account: &TestAccount,
    search: Option<&str>,
    max_keys: usize,
) -> (Vec<(String, usize)>, BTreeSet<String>, usize) {
    let (mut files, mut folders) = (Vec::new(), BTreeSet::new());
    let mut parameters = json!({
        "s3uid": account.s3uid,
        "bucket_name": account.bucket_name,
        "max_keys": max_keys,
    });
    if let Some(search) = search {
        parameters["search"] = search.into();
    }
    for pages in 1.. {
        let page = app
            .call("client", "get_files", parameters.clone())
            .await
            .ok();
        let rows = page["files"]["files"].as_array().expect("a list");
        assert!(rows.len() <= max_keys);
        for row in rows {
            assert_eq!(row["key"], row["original_key"]);
            let size = row["size"].as_u64().expect("a size") as usize;
            files.push((row["key"].as_str().expect("a key").to_owned(), size));
        }
        let names = page["folders"].as_array().expect("a list");
        folders.extend(
            names
                .iter()
                .map(|name| name.as_str().expect("a name").to_owned()),
        );
        assert_eq!(page["folders"], page["files"]["folders"]);
        assert_eq!(page["next_token"], page["files"]["next_token"]);
        match &page["next_token"] {
            Value::Null => return (files, folders, pages),
            next_token => parameters["continuation_token"] = next_token.clone(),
        }
        assert!(pages < 1_000, "the pages do not end");
    }
    unreachable!("the last page was returned above")
}

/// 1,050 files, with names of every kind.
fn files() -> BTreeMap<String, usize> {
    let mut files = BTreeMap::new();
    for number in 0..150 {
        for (name, bytes) in [
            (format!("plain-{number}.txt"), 1),
            (format!("with spaces/and more {number}"), 2),
            (format!("grüße/Ünïcode-{number}-日本語-🚢"), 3),
            (format!("plus+sign/{number}+{number}"), 4),
            (format!("percent%20/{number}%2F%"), 5),
            (format!("a/b/c/d/e/{number}/deep.bin"), 6),
            (format!("&<odd>'\"/={number};?#[]@!$*()~|^"), 7),
        ] {
            files.insert(name, bytes);
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_order_over_a_thousand_files_of_all_names_to_the_last_one_deleted() {
    let app = TestApp::start().await;
    let account = app.order("client", "all-names").await;
    let s3 = app.s3("client", &account).await;
    let mut files = files();
    assert_eq!(files.len(), 1_050);
    put_all(&app, &s3, "all-names", &files).await;

    // Every file is listed once, by pages of any size, in the order of their names.
    let (listed, folders, pages) = list(&app, &account, None, 100).await;
    let expected: Vec<(String, usize)> = files
        .iter()
        .map(|(key, bytes)| (key.clone(), *bytes))
        .collect();
    assert_eq!(listed, expected);
    assert_eq!(pages, 11);
    let expected = [
        "with spaces/",
        "grüße/",
        "plus+sign/",
        "percent%20/",
        "a/",
        "&<odd>'\"/",
    ];
    assert_eq!(folders, expected.map(str::to_owned).into());
    let (listed, _, _) = list(&app, &account, None, 97).await;
    assert_eq!(listed.len(), 1_050);

    // And found once, by any part of its name, in any case.
    for (search, expected) in [
        ("ÜNÏCODE", 150),
        ("SPACES/AND", 150),
        ("+", 150),
        ("%2f", 150),
        ("-14", 11 * 2),
        ("deep.BIN", 150),
        (";?#[]@", 150),
        ("🚢", 150),
        ("no such file", 0),
    ] {
        let (found, _, _) = list(&app, &account, Some(search), 7).await;
        let lower = search.to_lowercase();
        let matching: Vec<&(String, usize)> = found
            .iter()
            .filter(|(key, _)| key.to_lowercase().contains(&lower))
            .collect();
        assert_eq!(matching.len(), found.len(), "{search}");
        let distinct: BTreeSet<&String> = found.iter().map(|(key, _)| key).collect();
        assert_eq!(
            (found.len(), distinct.len()),
            (expected, expected),
            "{search}"
        );
    }

    // What is stored is what was uploaded, byte for byte.
    for action in ["get_buckets", "get_buckets_rmq"] {
        let buckets = app
            .call("client", action, json!({ "s3uid": account.s3uid }))
            .await
            .ok();
        let bytes: usize = files.values().sum();
        assert_eq!(buckets["usage_storage"], bytes);
        assert_eq!(buckets["message"][0]["usage"], bytes);
        assert_eq!(buckets["message"][0]["objects"], files.len());
    }

    // Each name that was listed is one that can be deleted by.
    let some: Vec<String> = files.keys().step_by(50).cloned().collect();
    assert_eq!(some.len(), 21);
    for key in some {
        let parameters =
            json!({ "s3uid": account.s3uid, "bucket_name": "all-names", "filename": key });
        let answer = app.call("client", "delete_file", parameters).await.ok();
        assert_eq!(answer["filename"], key);
        let gone = s3.head_object().bucket("all-names").key(&key).send().await;
        assert!(
            gone.is_err_and(|error| error.into_service_error().is_not_found()),
            "{key} is left"
        );
        files.remove(&key);
    }
    let (listed, _, _) = list(&app, &account, None, 100).await;
    let expected: Vec<(String, usize)> = files
        .iter()
        .map(|(key, bytes)| (key.clone(), *bytes))
        .collect();
    assert_eq!(listed, expected);

    let history = app
        .call(
            "client",
            "history",
            json!({ "s3uid": account.s3uid, "limit": 500 }),
        )
        .await
        .ok();
    assert_eq!(
        counts(&history),
        BTreeMap::from([
            ("create_order".to_owned(), 1),
            ("delete_file".to_owned(), 21),
            ("get_buckets".to_owned(), 1),
            ("get_buckets_rmq".to_owned(), 1),
            ("show_key".to_owned(), 2),
        ])
    );
}

fn counts(history: &Value) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for entry in history["history"].as_array().expect("a list") {
        *counts
            .entry(entry["action"].as_str().expect("an action").to_owned())
            .or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_with_ten_thousand_files_is_deleted_to_the_last_byte() {
    let app = TestApp::start().await;
    let account = app.order("client", "ten-thousand").await;
    let s3 = app.s3("client", &account).await;
    let files = (0..10_000)
        .map(|number| (format!("{}/{number}", number % 10), 1))
        .collect();
    put_all(&app, &s3, "ten-thousand", &files).await;
    let buckets = app
        .call("client", "get_buckets", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    assert_eq!(buckets["message"][0]["objects"], 10_000);

    let parameters = json!({ "s3uid": account.s3uid, "reason": "moving out" });
    let callback = app.call("client", "delete_account", parameters).await.ok();
    // From the answer on, the keys open nothing.
    let refused = s3
        .list_objects_v2()
        .bucket("ten-thousand")
        .send()
        .await
        .expect_err("the keys are stopped");
    assert_eq!(refused.code(), Some("UserSuspended"));
    app.stack.drain().await.expect("the queues empty");

    let refused = s3
        .list_objects_v2()
        .bucket("ten-thousand")
        .send()
        .await
        .expect_err("the keys are gone");
    assert_eq!(refused.code(), Some("InvalidAccessKeyId"));
    let answer = app
        .check(callback["callback"].as_str().expect("a key"))
        .await
        .ok();
    assert_eq!(
        answer["scope"],
        json!({
            "result": "OK",
            "action": "delete_account",
            "s3uid": account.s3uid,
            "entries_removed": 10_000,
            "bytes_removed": 10_000,
            "status": "terminated",
        })
    );
    assert_eq!(app.cluster_buckets("NL", &account.s3uid).await, None);
    assert_eq!(app.cluster_bucket_owner("NL", "ten-thousand").await, None);
    let users = app.call("client", "get_users", json!({})).await.ok();
    assert_eq!(users["s3_users"], json!([]));

    let history = app
        .call("client", "history", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    assert_eq!(
        counts(&history),
        BTreeMap::from([
            ("account_terminated".to_owned(), 1),
            ("create_order".to_owned(), 1),
            ("delete_account".to_owned(), 1),
            ("get_buckets".to_owned(), 1),
            ("show_key".to_owned(), 2),
        ])
    );
    let deleted = history["history"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|entry| entry["action"] == "delete_account");
    assert_eq!(
        deleted.expect("the entry")["details"]["reason"],
        "moving out"
    );
    // The name is free for anybody, in both senses.
    app.order("client2", "ten-thousand").await;
}
