//! `delete_file`.

use insta::assert_json_snapshot;
use serde_json::json;
use tests::contract::{Contract, masked, text};
use tests::examples::{Example, GoodCall, Preparation};
use tests::{TestAccount, TestApp};

const ACTION: &str = "delete_file";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| Box::pin(one_file(prepare)),
        |scene| scene.on_buckets(json!({ "filename": "secret.txt" }), 403),
    )
    .needs_the_cluster()
);

async fn one_file(prepare: &Preparation<'_>) -> GoodCall {
    let account = prepare.order().await;
    let s3 = prepare.app.s3("client", &account).await;
    prepare.app.put(&s3, prepare.name, "a file", 10).await;
    GoodCall::by_client(json!({
        "s3uid": account.s3uid, "bucket_name": prepare.name, "filename": "a file",
    }))
}

/// Keys that some layer between a form and a bucket could get wrong.
pub fn odd_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "plain.txt",
        "with space",
        "a+b",
        "100%",
        "%2F",
        "%00",
        "a&b=c",
        "what?",
        "#fragment",
        "semi;colon,comma",
        "quote'\"<>`",
        "back\\slash",
        "{}[]|^",
        "~*!()$@:",
        "/leading",
        "trailing/",
        "two//slashes",
        "dots/../up",
        "./dot",
        "...",
        "ünï/cödé",
        "日本語.txt",
        "e\u{301} combining",
        "👩‍👩‍👧",
        "tab\there",
        "line\nbreak\r\n",
        "\u{1}\u{1f}\u{7f}",
        "\u{feff}bom",
        " both ends ",
        "=cmd()",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.push("k".repeat(1_024));
    keys.push("é".repeat(512));
    keys
}

/// The keys in a bucket, by its own listing.
pub async fn keys_in(s3: &aws_sdk_s3::Client, bucket_name: &str) -> Vec<String> {
    let list = s3
        .list_objects_v2()
        .bucket(bucket_name)
        .encoding_type(aws_sdk_s3::types::EncodingType::Url)
        .send()
        .await
        .expect("a list");
    list.contents()
        .iter()
        .filter_map(|object| object.key())
        .map(|key| {
            // As a query's value is decoded: `+` and `%20` are both a space.
            let (key, _) = form_urlencoded::parse(key.as_bytes())
                .next()
                .expect("a key");
            key.into_owned()
        })
        .collect()
}

#[tokio::test]
async fn delete_file_deletes_that_object_and_no_other() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    for key in [
        "documents/report.pdf",
        "documents/report.pdf.bak",
        "documents",
    ] {
        app.put(&s3, "my-bucket", key, 1).await;
    }
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket", "filename": "documents/report.pdf" });
    let body = app.call("client", ACTION, parameters.clone()).await.ok();
    assert_json_snapshot!("success", masked(&app, &body));
    assert_eq!(
        keys_in(&s3, "my-bucket").await,
        ["documents", "documents/report.pdf.bak"]
    );
    // As S3 has it, what is not there is deleted.
    assert_eq!(app.call("client", ACTION, parameters).await.ok(), body);

    // The aliases, the account's number, an admin who names the client.
    for (who, parameters) in [
        (
            "client",
            json!({ "account_id": account.id, "bucket": "my-bucket", "file": "documents" }),
        ),
        (
            "admin",
            json!({ "s3uid": account.s3uid, "id": app.client_id("client"), "bucket_name": "my-bucket", "filename": "documents/report.pdf.bak" }),
        ),
    ] {
        app.call(who, ACTION, parameters).await.ok();
    }
    assert!(keys_in(&s3, "my-bucket").await.is_empty());
    let history = app
        .call("client", "history", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let entries = history["history"].as_array().expect("a list");
    let deleted = entries
        .iter()
        .filter(|entry| entry["action"] == ACTION && entry["details"]["filename"].is_string());
    assert_eq!(deleted.count(), 4);
}

#[tokio::test]
async fn delete_file_takes_keys_of_any_characters_as_form_and_as_json() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    for as_json in [false, true] {
        for key in odd_keys() {
            app.put(&s3, "my-bucket", &key, 1).await;
        }
        app.put(&s3, "my-bucket", "witness", 1).await;
        assert_eq!(keys_in(&s3, "my-bucket").await.len(), odd_keys().len() + 1);
        for key in odd_keys() {
            let parameters = json!({ "token": app.token("client"), "s3uid": account.s3uid, "bucket_name": "my-bucket", "filename": key });
            let body = if as_json {
                app.post_json("/s3/delete_file", &parameters).await.ok()
            } else {
                app.post_form("/s3/delete_file", &parameters).await.ok()
            };
            assert_eq!(body["filename"], key);
            assert!(!keys_in(&s3, "my-bucket").await.contains(&key), "{key:?}");
        }
        assert_eq!(keys_in(&s3, "my-bucket").await, ["witness"]);
    }
}

/// The reference: "s3/delete_file: Delete S3 file error: Access Denied."
#[tokio::test]
async fn delete_file_passes_on_what_the_storage_refuses() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let other = app.order("client2", "other-bucket").await;
    let theirs = app.s3("client2", &other).await;
    app.put(&theirs, "other-bucket", "x", 1).await;
    let delete = async |account: &TestAccount, bucket_name: &str| {
        let parameters =
            json!({ "s3uid": account.s3uid, "bucket_name": bucket_name, "filename": "x" });
        app.call("client", ACTION, parameters).await
    };
    // A bucket that is not there and one that is another's look alike.
    for bucket_name in ["other-bucket", "no-such-bucket"] {
        let wanted = "s3/delete_file: Delete S3 file error: Access Denied.";
        assert_eq!(delete(&account, bucket_name).await.refused(403), wanted);
    }
    assert_eq!(keys_in(&theirs, "other-bucket").await, ["x"]);
    app.call(
        "client",
        "delete_account",
        json!({ "s3uid": account.s3uid }),
    )
    .await
    .ok();
    let wanted = text(ACTION, "Delete S3 file error: The account is suspended.");
    assert_eq!(delete(&account, "my-bucket").await.refused(403), wanted);
}

#[tokio::test]
async fn delete_file_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket", "filename": "x" }),
    };
    contract.hides_the_account_from_others(&account).await;
    contract
        .refuses_missing(&["s3uid", "bucket_name", "filename"])
        .await;
    contract.takes_a_line("bucket_name").await;
    contract.takes_a_text("filename").await;
    let values = [json!("k".repeat(1_025)), json!("é".repeat(513))];
    contract
        .refuses("filename", "must be at most 1024 bytes long", &values)
        .await;
    let blank = [json!(" "), json!("\t\r\n"), json!("\u{a0}\u{3000}")];
    contract
        .refuses("filename", "must not be blank", &blank)
        .await;
    contract.refuses_bad_tokens().await;
}

#[tokio::test]
async fn delete_file_refuses_buckets_whose_name_cannot_be_one() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "x", 1).await;
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
        let parameters =
            json!({ "s3uid": account.s3uid, "bucket_name": bucket_name, "filename": "x" });
        let reply = app.call("client", ACTION, parameters).await;
        let words = reply.refused(400);
        assert!(
            words.starts_with(&text(ACTION, "invalid parameter bucket_name: ")),
            "{words}"
        );
    }
    assert_eq!(keys_in(&s3, "my-bucket").await, ["x"]);
}
