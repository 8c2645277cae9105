//! `get_files`.

use std::collections::BTreeSet;

use insta::assert_json_snapshot;
use jiff::ToSpan;
use serde_json::{Value, json};
use tests::contract::{Contract, NO_S3UID, masked, text};
use tests::examples::Example;
use tests::{TestAccount, TestApp};

use crate::delete_file::odd_keys;

const ACTION: &str = "get_files";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| Box::pin(prepare.with_bucket(json!({}))),
        |scene| scene.on_buckets(json!({}), 403),
    )
    .needs_the_cluster()
);

fn keys(body: &Value) -> Vec<String> {
    let files = body["files"]["files"].as_array().expect("a list");
    files
        .iter()
        .map(|file| file["key"].as_str().expect("a key").to_owned())
        .collect()
}

/// All pages, one after the other, each at most `most` long; every page but the last has a token, which stands twice.
async fn all_pages(app: &TestApp, parameters: &Value, most: usize) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut parameters = parameters.clone();
    loop {
        let body = app.call("client", ACTION, parameters.clone()).await.ok();
        assert_eq!(body["next_token"], body["files"]["next_token"]);
        assert_eq!(body["folders"], body["files"]["folders"]);
        let page = keys(&body);
        assert!(page.len() <= most);
        pages.push(page);
        match &body["next_token"] {
            Value::Null => return pages,
            next => parameters["continuation_token"] = next.clone(),
        }
        assert!(pages.len() < 500, "it does not end");
    }
}

async fn fill(app: &TestApp, account: &TestAccount, keys: &[String]) {
    let s3 = app.s3("client", account).await;
    for chunk in keys.chunks(25) {
        futures::future::join_all(
            chunk
                .iter()
                .map(|key| app.put(&s3, &account.bucket_name, key, 1)),
        )
        .await;
    }
}

#[tokio::test]
async fn get_files_lists_objects_and_the_folders_they_are_in() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket" });
    let empty = app.call("client", ACTION, parameters.clone()).await.ok();
    assert_json_snapshot!("empty", masked(&app, &empty));
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "documents/report_2023.pdf", 2_048)
        .await;
    app.stack.advance(90.seconds()).await.expect("time passes");
    app.put(&s3, "my-bucket", "images/logo.png", 15).await;
    app.put(&s3, "my-bucket", "images/2023/summer.png", 0).await;
    app.put(&s3, "my-bucket", "readme", 1).await;
    let mut paged = parameters.clone();
    paged["max_keys"] = 3.into();
    let body = app.call("client", ACTION, paged).await.ok();
    // The fields and types of the reference.
    assert_json_snapshot!("success", masked(&app, &body));
    let files = body["files"]["files"].as_array().expect("a list");
    assert_eq!(files[0]["size"], 2_048);
    assert_eq!(files[0]["last_modified"], "2026-01-15T10:30:00Z");
    assert_eq!(files[2]["last_modified"], "2026-01-15T10:31:30Z");
    for file in files {
        assert_eq!(file["key"], file["original_key"]);
        let etag = file["etag"].as_str().expect("a text");
        assert!(etag.len() == 34 && etag.starts_with('"') && etag.ends_with('"'));
    }
    assert_eq!(body["folders"], json!(["documents/", "images/"]));

    // The aliases, the account's number, an admin who names the client.
    for (who, parameters) in [
        (
            "client",
            json!({ "account_id": account.id, "bucket": "my-bucket", "limit": 2 }),
        ),
        (
            "admin",
            json!({ "s3uid": account.s3uid, "id": app.client_id("client"), "bucket_name": "my-bucket", "max_keys": "2" }),
        ),
    ] {
        let body = app.call(who, ACTION, parameters).await.ok();
        assert_eq!(
            keys(&body),
            ["documents/report_2023.pdf", "images/2023/summer.png"]
        );
    }
}

#[tokio::test]
async fn get_files_pages_through_a_large_bucket_without_gaps_or_repeats() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let all: Vec<String> = (0..250)
        .map(|number| format!("dir-{}/file {number:03}+&.txt", number % 7))
        .collect();
    fill(&app, &account, &all).await;
    let mut sorted = all.clone();
    sorted.sort_unstable();
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket" });

    // 50 at a time unless told, 100 at most.
    let pages = all_pages(&app, &parameters, 50).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<usize>>(), [50; 5]);
    assert_eq!(pages.concat(), sorted);
    for most in [7, 99, 100] {
        let mut parameters = parameters.clone();
        parameters["max_keys"] = most.into();
        let pages = all_pages(&app, &parameters, most).await;
        assert_eq!(pages.len(), 250_usize.div_ceil(most));
        assert_eq!(pages.concat(), sorted);
    }
    // A token remembers how many, and may be told otherwise.
    let mut begun = parameters.clone();
    begun["max_keys"] = 10.into();
    let first = app.call("client", ACTION, begun).await.ok();
    let mut second = parameters.clone();
    second["continuation_token"] = first["next_token"].clone();
    let body = app.call("client", ACTION, second.clone()).await.ok();
    assert_eq!(keys(&body), sorted[10..20]);
    second["max_keys"] = 30.into();
    let body = app.call("client", ACTION, second).await.ok();
    assert_eq!(keys(&body), sorted[10..40]);
    // Folders are those of the page.
    let mut one = parameters;
    one["max_keys"] = 1.into();
    assert_eq!(
        app.call("client", ACTION, one).await.ok()["folders"],
        json!(["dir-0/"])
    );
}

#[tokio::test]
async fn get_files_gives_the_page_of_a_number_within_bounds() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let names: Vec<String> = (0..23)
        .map(|number| format!("{number:03}-{}", number % 2))
        .collect();
    fill(&app, &account, &names).await;
    let ask = async |more: Value| {
        let mut parameters = json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket" });
        let fields = parameters.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        fields.retain(|_, value| !value.is_null());
        app.call("client", ACTION, parameters).await
    };
    for search in [Value::Null, "-1".into()] {
        let all: Vec<&String> = names
            .iter()
            .filter(|name| search.is_null() || name.ends_with("-1"))
            .collect();
        for limit in [1, 5, 10, 23, 100] {
            let pages = all.len().div_ceil(limit);
            for page in 1..=pages + 2 {
                let asked = json!({ "page": page, "limit": limit, "search": search });
                let body = ask(asked.clone()).await.ok();
                let from = ((page - 1) * limit).min(all.len());
                let wanted = &all[from..(from + limit).min(all.len())];
                assert_eq!(
                    keys(&body),
                    wanted.iter().map(|key| key.as_str()).collect::<Vec<_>>(),
                    "{asked}"
                );
                // Its token goes on behind it, whatever number is sent with it.
                let Some(next) = body.get("next_token") else {
                    assert!(page >= pages, "{asked}");
                    continue;
                };
                let on = json!({ "page": 9, "continuation_token": next, "search": search });
                let next = keys(&ask(on).await.ok());
                let wanted = &all[from + limit..(from + 2 * limit).min(all.len())];
                assert_eq!(
                    next,
                    wanted.iter().map(|key| key.as_str()).collect::<Vec<_>>(),
                    "{asked}"
                );
            }
        }
    }
    assert_eq!(keys(&ask(json!({ "page": 200 })).await.ok()), [""; 0]);
    let rule = "invalid parameter page: must end within the first 10000 files: go on with continuation_token, the next_token of a page before";
    for far in [
        json!({ "page": 201 }),
        json!({ "page": 101, "limit": 100 }),
        json!({ "page": i64::MAX, "search": "x" }),
    ] {
        assert_eq!(ask(far).await.refused(400), text(ACTION, rule));
    }
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket" }),
    };
    contract.takes_a_number("page", 1, i64::MAX as u64).await;
}

#[tokio::test]
async fn get_files_searches_whole_keys_in_any_case_over_pages() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let mut all: Vec<String> = (0..60)
        .map(|number| format!("photos/IMG-{number:02}.JPG"))
        .collect();
    all.extend((0..40).map(|number| format!("texts/Über {number:02} 100%.txt")));
    fill(&app, &account, &all).await;
    let found = async |search: &str, max_keys: usize| {
        let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket", "search": search, "max_keys": max_keys });
        all_pages(&app, &parameters, max_keys).await.concat()
    };
    let model = |search: &str| {
        let search = search.to_lowercase();
        let mut keys: Vec<String> = all
            .iter()
            .filter(|key| key.to_lowercase().contains(&search))
            .cloned()
            .collect();
        keys.sort_unstable();
        keys
    };
    for search in [
        "img",
        "IMG-1",
        ".jpg",
        "photos/img-0",
        "ÜBER",
        "über 3",
        "100%",
        "7",
        "/",
        "no such",
        "%",
        "*",
        ".txt",
    ] {
        let wanted = model(search);
        for max_keys in [3, 20, 100] {
            assert_eq!(
                found(search, max_keys).await,
                wanted,
                "{search} by {max_keys}"
            );
        }
    }
    assert_eq!(model("img").len(), 60);
    // An empty search is none.
    assert_eq!(found("", 100).await.len(), 100);
}

#[tokio::test]
async fn get_files_shows_keys_of_any_characters_and_pages_over_them() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    for key in odd_keys() {
        app.put(&s3, "my-bucket", &key, 1).await;
    }
    let wanted: BTreeSet<String> = odd_keys().into_iter().collect();
    for max_keys in [1, 4, 100] {
        let parameters =
            json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket", "max_keys": max_keys });
        let listed = all_pages(&app, &parameters, max_keys).await.concat();
        assert_eq!(listed.len(), wanted.len(), "by {max_keys}");
        assert_eq!(
            listed.iter().cloned().collect::<BTreeSet<String>>(),
            wanted,
            "by {max_keys}"
        );
    }
    for search in ["\n", "\u{1}", "日本", "👩", "\\"] {
        let parameters =
            json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket", "search": search });
        let body = app.call("client", ACTION, parameters).await.ok();
        assert_eq!(keys(&body).len(), 1, "{search:?}");
    }
}

#[tokio::test]
async fn get_files_passes_on_what_the_storage_refuses() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    app.order("client2", "other-bucket").await;
    let list = async |bucket_name: &str| {
        let parameters = json!({ "s3uid": account.s3uid, "bucket_name": bucket_name });
        app.call("client", ACTION, parameters).await
    };
    for bucket_name in ["other-bucket", "no-such-bucket"] {
        let wanted = text(ACTION, "Get S3 files error: Access Denied.");
        assert_eq!(list(bucket_name).await.refused(403), wanted);
    }
    app.call(
        "client",
        "delete_account",
        json!({ "s3uid": account.s3uid }),
    )
    .await
    .ok();
    let wanted = text(ACTION, "Get S3 files error: The account is suspended.");
    assert_eq!(list("my-bucket").await.refused(403), wanted);
}

#[tokio::test]
async fn get_files_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let reply = app
        .call(
            "client",
            ACTION,
            json!({ "s3uid": NO_S3UID, "bucket_name": "my-bucket" }),
        )
        .await;
    assert_eq!(
        reply.refused(404),
        "s3/get_files: S3 account not found for this customer"
    );
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket" }),
    };
    contract.hides_the_account_from_others(&account).await;
    contract.refuses_missing(&["s3uid", "bucket_name"]).await;
    contract.takes_a_line("bucket_name").await;
    contract.takes_a_number("max_keys", 1, 100).await;
    contract.takes_a_number("limit", 1, 100).await;
    contract.takes_a_text("search").await;
    contract.takes_a_text("continuation_token").await;
    let tokens = [
        json!("x"),
        json!("%%%"),
        json!("\u{0}"),
        json!("e30="),                                                     // {}
        json!("W10="),                                                     // []
        json!("bnVsbA=="),                                                 // null
        json!("eyJDb250aW51YXRpb25Ub2tlbiI6ImEiLCJNYXhLZXlzIjoxMDF9"),     // MaxKeys 101
        json!("eyJDb250aW51YXRpb25Ub2tlbiI6ImEiLCJNYXhLZXlzIjowfQ=="),     // MaxKeys 0
        json!("eyJDb250aW51YXRpb25Ub2tlbiI6ImEiLCJNYXhLZXlzIjotMX0="),     // MaxKeys -1
        json!("eyJDb250aW51YXRpb25Ub2tlbiI6WyJhIl0sIk1heEtleXMiOjUwfQ=="), // a list
        json!("A".repeat(5_000)),
    ];
    contract
        .refuses(
            "continuation_token",
            "is not one that get_files gave",
            &tokens,
        )
        .await;
    // The reference's own example is one: {"ContinuationToken":"example","MaxKeys":50}.
    let mut example = contract.parameters.clone();
    example["continuation_token"] =
        "eyJDb250aW51YXRpb25Ub2tlbiI6ImV4YW1wbGUiLCJNYXhLZXlzIjo1MH0=".into();
    app.call("client", ACTION, example).await.ok();
    contract.refuses_bad_tokens().await;
}

#[tokio::test]
async fn get_files_refuses_buckets_whose_name_cannot_be_one() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    for bucket_name in [
        "..",
        ".",
        "my-bucket/x",
        "arn:aws:s3:::my-bucket",
        "my bucket",
        "My-Bucket",
        "bücket",
        "a",
        "my-bucket?x",
        "my-bucket--x-s3",
        &"a".repeat(1_000),
    ] {
        let parameters = json!({ "s3uid": account.s3uid, "bucket_name": bucket_name });
        let reply = app.call("client", ACTION, parameters).await;
        let words = reply.refused(400);
        assert!(
            words.starts_with(&text(ACTION, "invalid parameter bucket_name: ")),
            "{words}"
        );
    }
}
