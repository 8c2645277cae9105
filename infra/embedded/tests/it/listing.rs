//! Listings: order, paging, folding, and keys of every kind.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::EncodingType;
use percent_encoding::percent_decode_str;

use crate::support::{Lab, body, put, read, refusal};

async fn page_v2(
    client: &Client,
    limit: i32,
    prefix: &str,
    delimiter: &str,
) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut prefixes) = (Vec::new(), Vec::new());
    let mut token = None;
    loop {
        let page = client
            .list_objects_v2()
            .bucket("alices")
            .max_keys(limit)
            .prefix(prefix)
            .delimiter(delimiter)
            .set_continuation_token(token)
            .send()
            .await
            .unwrap();
        let count = page.contents().len() + page.common_prefixes().len();
        assert_eq!(page.key_count(), Some(count as i32));
        assert!(count <= limit as usize);
        keys.extend(
            page.contents()
                .iter()
                .map(|object| object.key().unwrap().to_owned()),
        );
        prefixes.extend(
            page.common_prefixes()
                .iter()
                .map(|common| common.prefix().unwrap().to_owned()),
        );
        token = page.next_continuation_token;
        if page.is_truncated != Some(true) {
            assert_eq!(token, None);
            return (keys, prefixes);
        }
    }
}

async fn page_v1(
    client: &Client,
    limit: i32,
    prefix: &str,
    delimiter: &str,
) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut prefixes) = (Vec::new(), Vec::new());
    let mut marker = None;
    loop {
        let page = client
            .list_objects()
            .bucket("alices")
            .max_keys(limit)
            .prefix(prefix)
            .delimiter(delimiter)
            .set_marker(marker)
            .send()
            .await
            .unwrap();
        keys.extend(
            page.contents()
                .iter()
                .map(|object| object.key().unwrap().to_owned()),
        );
        prefixes.extend(
            page.common_prefixes()
                .iter()
                .map(|common| common.prefix().unwrap().to_owned()),
        );
        marker = page.next_marker;
        if page.is_truncated != Some(true) {
            return (keys, prefixes);
        }
    }
}

/// What S3's rules say, from all the keys at once.
fn expected(all: &[&str], prefix: &str, delimiter: &str) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut prefixes) = (Vec::new(), Vec::new());
    let mut all = all.to_vec();
    all.sort_unstable();
    for key in all {
        let Some(rest) = key.strip_prefix(prefix) else {
            continue;
        };
        match rest.find(delimiter).filter(|_| !delimiter.is_empty()) {
            Some(at) => prefixes.push(format!("{prefix}{}", &rest[..at + delimiter.len()])),
            None => keys.push(key.to_owned()),
        }
    }
    prefixes.dedup();
    (keys, prefixes)
}

#[tokio::test]
async fn pages_and_folds_as_the_rules_say() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let all = [
        "a",
        "a/",
        "a/1",
        "a/2",
        "a/b/1",
        "a/b/2",
        "a/b/c/1",
        "a0",
        "b",
        "b/1",
        "b/2",
        "b//1",
        "c::1",
        "c::2",
        "ü/1",
        "ü/2",
        "日本/語",
        "z",
    ];
    for key in all {
        put(&alice, "alices", key, "v").await;
    }
    for prefix in [
        "", "a", "a/", "a/b/", "b", "b/", "c", "ü", "ü/", "none", "z", "日本/",
    ] {
        for delimiter in ["", "/", "::", "b/"] {
            let wanted = expected(&all, prefix, delimiter);
            for limit in [1, 2, 3, 1000] {
                let found = page_v2(&alice, limit, prefix, delimiter).await;
                assert_eq!(found, wanted, "v2 {prefix:?} {delimiter:?} {limit}");
                let found = page_v1(&alice, limit, prefix, delimiter).await;
                assert_eq!(found, wanted, "v1 {prefix:?} {delimiter:?} {limit}");
            }
        }
    }
    let after = alice
        .list_objects_v2()
        .bucket("alices")
        .start_after("b/1")
        .send()
        .await
        .unwrap();
    assert_eq!(after.contents()[0].key(), Some("b/2"));
    let none = alice
        .list_objects_v2()
        .bucket("alices")
        .max_keys(0)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (none.contents().len(), none.is_truncated()),
        (0, Some(false))
    );
    assert_eq!(
        refusal(
            alice
                .list_objects_v2()
                .bucket("alices")
                .continuation_token("!")
                .send()
                .await
        )
        .0,
        400
    );
}

#[tokio::test]
async fn odd_keys_survive() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let long = "k".repeat(1024);
    let mut keys = vec![
        "a b",
        "a+b",
        "a%b",
        "a%20b",
        "a?b=c",
        "a&b",
        "a#b",
        "a=b;c",
        "<a>\"b'",
        "ü",
        "日本語",
        "🛳",
        "a//b",
        "a\\b",
        "~a!*()@:,$",
        " lead",
        "trail ",
        "a\tb",
        "a\nb",
        "a\rb",
        "a\u{1}b",
        "a\u{7f}b",
        "/abs",
        "dir/",
        &long,
    ];
    for key in &keys {
        put(&alice, "alices", key, format!("of {key}")).await;
    }
    keys.sort_unstable();
    // Percent-encoded, as boto3, the CLI and rclone ask: every key.
    let listed = alice
        .list_objects_v2()
        .bucket("alices")
        .encoding_type(EncodingType::Url)
        .send()
        .await
        .unwrap();
    let decoded: Vec<_> = listed
        .contents()
        .iter()
        .map(|object| {
            percent_decode_str(object.key().unwrap())
                .decode_utf8()
                .unwrap()
                .into_owned()
        })
        .collect();
    assert_eq!(decoded, keys);
    for key in &decoded {
        assert_eq!(
            read(&alice, "alices", key).await,
            format!("of {key}").into_bytes()
        );
        let copied = alice
            .copy_object()
            .bucket("alices")
            .key("copy")
            .copy_source(format!(
                "alices/{}",
                percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC)
            ))
            .send()
            .await;
        assert!(copied.is_ok(), "{key:?}: {copied:?}");
        // The rest of the page, from each key on.
        let rest = alice
            .list_objects_v2()
            .bucket("alices")
            .encoding_type(EncodingType::Url)
            .start_after(key)
            .send()
            .await
            .unwrap();
        assert!(rest.contents().iter().all(|object| {
            *percent_decode_str(object.key().unwrap())
                .decode_utf8()
                .unwrap()
                > **key
        }));
        alice
            .delete_object()
            .bucket("alices")
            .key(key)
            .send()
            .await
            .unwrap();
    }
    alice
        .delete_object()
        .bucket("alices")
        .key("copy")
        .send()
        .await
        .unwrap();
    assert_eq!(lab.bucket_figures("alices").await["objects"], 0);
    let too_long = alice
        .put_object()
        .bucket("alices")
        .key("k".repeat(1025))
        .body(body("v"))
        .send()
        .await;
    assert_eq!(refusal(too_long).1, "KeyTooLongError");
    // What XML can hold comes through without the encoding too.
    let plain = [
        "a b",
        "a+b",
        "a%b",
        "a?b&c",
        "<a>\"b'",
        "ü日本語🛳",
        " lead",
        "trail ",
    ];
    for key in plain {
        put(&alice, "alices", key, "v").await;
    }
    let (found, _) = page_v2(&alice, 3, "", "").await;
    assert_eq!(found, expected(&plain, "", "").0);
}

#[tokio::test]
async fn more_than_a_page() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let names: Vec<_> = (0..1205).map(|n| format!("k{n:05}")).collect();
    for chunk in names.chunks(50) {
        futures::future::join_all(chunk.iter().map(|name| put(&alice, "alices", name, "v"))).await;
    }
    let first = alice
        .list_objects_v2()
        .bucket("alices")
        .max_keys(5000)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (first.contents().len(), first.is_truncated()),
        (1000, Some(true))
    );
    let mut pages = alice
        .list_objects_v2()
        .bucket("alices")
        .into_paginator()
        .send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        found.extend(
            page.unwrap()
                .contents()
                .iter()
                .map(|object| object.key().unwrap().to_owned()),
        );
    }
    assert_eq!(found, names);
    assert_eq!(lab.bucket_figures("alices").await["objects"], 1205);
}

#[tokio::test]
async fn buckets_are_listed_in_pages() {
    let lab = Lab::start();
    let alice = lab.user("alice").await;
    for name in ["one", "two", "three", "thirty"] {
        alice.create_bucket().bucket(name).send().await.unwrap();
    }
    let page = alice.list_buckets().max_buckets(3).send().await.unwrap();
    let names = |page: &aws_sdk_s3::operation::list_buckets::ListBucketsOutput| -> Vec<String> {
        page.buckets()
            .iter()
            .map(|bucket| bucket.name().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&page), ["one", "thirty", "three"]);
    let token = page.continuation_token().unwrap();
    let page = alice
        .list_buckets()
        .max_buckets(3)
        .continuation_token(token)
        .send()
        .await
        .unwrap();
    assert_eq!(names(&page), ["two"]);
    assert_eq!(page.continuation_token(), None);
    let page = alice.list_buckets().prefix("th").send().await.unwrap();
    assert_eq!(names(&page), ["thirty", "three"]);
}
