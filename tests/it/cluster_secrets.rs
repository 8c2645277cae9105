//! The clusters' credentials: fetched once, kept for a while, fetched anew when they are refused, shown nowhere.

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::json;
use tests::TestApp;
use wharfage::cluster::ClusterError;
use wharfage::context::Context;
use wharfage::domain::account::S3Uid;

const SECRET_ID: &str = "wharfage/clusters/NL";
const FETCH: &str = "SecretsManager GetSecretValue";

/// Asks the cluster something, and counts how often its secret was fetched for that.
async fn ask(app: &TestApp, context: &Context) -> (Result<(), ClusterError>, usize) {
    let cluster = context.clusters.get("NL").expect("a cluster");
    let (asked, noted) = app
        .tap
        .scope(
            cluster
                .provider
                .set_suspended(&S3Uid("nobody".into()), true),
        )
        .await;
    let fetched = noted.iter().filter(|call| call.name == FETCH).count();
    match asked {
        // The cluster let us in, and knows nobody of this name.
        Err(error) if error.is("NoSuchUser") => (Ok(()), fetched),
        other => (other, fetched),
    }
}

fn cold(app: &TestApp) -> Context {
    app.context_with(&[])
}

#[tokio::test]
async fn a_secret_is_fetched_once_and_again_when_it_is_old() {
    let app = TestApp::start_idle(&[]).await;
    let context = cold(&app);
    for fetches in [1, 0, 0] {
        let (asked, fetched) = ask(&app, &context).await;
        asked.expect("the cluster lets us in");
        assert_eq!(fetched, fetches);
    }
    app.let_pass(SignedDuration::from_mins(16));
    for fetches in [1, 0] {
        let (asked, fetched) = ask(&app, &context).await;
        asked.expect("the cluster lets us in");
        assert_eq!(fetched, fetches);
    }
}

#[tokio::test]
async fn a_secret_can_be_named_by_its_arn() {
    let app = TestApp::start_idle(&[]).await;
    let arn = format!("arn:aws:secretsmanager:us-east-1:000000000000:secret:{SECRET_ID}-local1");
    let locations = app.locations_with("NL", "admin_secret_id", json!(arn));
    let context = app.context_with(&[("LOCATIONS", locations)]);
    ask(&app, &context).await.0.expect("the cluster lets us in");
}

#[tokio::test]
async fn a_rotated_secret_is_picked_up_at_the_first_refusal() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let cluster = &app.stack.clusters()["NL"];
    cluster.stop().await;
    cluster.start("another-token").expect("started");
    let secret = json!({ "token": "another-token" }).to_string();
    app.stack.secrets().put(SECRET_ID, secret);
    let bucket = json!({ "s3uid": account.s3uid, "bucket_name": "second-bucket" });
    app.call("client", "create_bucket", bucket).await.ok();
}

#[tokio::test]
async fn a_secret_that_stays_wrong_is_not_fetched_again_and_again() {
    let app = TestApp::start_idle(&[]).await;
    let context = cold(&app);
    app.stack
        .secrets()
        .put(SECRET_ID, json!({ "token": "wrong-token" }).to_string());
    for fetches in [2, 0] {
        let (refused, fetched) = ask(&app, &context).await;
        let text = refused.expect_err("the token is wrong").to_string();
        assert!(
            text.contains("location NL: secret wharfage/clusters/NL was refused"),
            "{text}"
        );
        assert!(!text.contains("wrong-token"), "{text}");
        assert_eq!(fetched, fetches);
    }
    app.let_pass(SignedDuration::from_secs(11));
    assert_eq!(ask(&app, &context).await.1, 1);
}

#[tokio::test]
async fn a_secret_that_is_missing_or_malformed_is_a_fault_that_names_it() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    app.stack.secrets().remove(SECRET_ID);
    let (missing, _) = ask(&app, &cold(&app)).await;
    let text = missing.expect_err("there is no secret").to_string();
    assert!(
        text.contains("location NL: secret wharfage/clusters/NL cannot be read: ResourceNotFound"),
        "{text}"
    );
    for secret in [
        "a-visible-secret",
        r#"{"token": 7}"#,
        r#"{"token": ""}"#,
        "{\"token\": \"a-visible-secret\\n\"}",
        r#"{"access_key": "a-visible-secret"}"#,
        r#"["a-visible-secret", "b"]"#,
    ] {
        app.stack.secrets().put(SECRET_ID, secret);
        let (malformed, _) = ask(&app, &cold(&app)).await;
        let error = malformed.expect_err(secret);
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("location NL: secret wharfage/clusters/NL is not of the form"),
            "{text}"
        );
        assert!(!text.contains("visible"), "{text}");
    }
    // Callers see nothing of it; those of the other location notice nothing.
    let context = cold(&app);
    let bucket = json!({ "s3uid": account.s3uid, "bucket_name": "second-bucket" });
    let reply = app.call_in(&context, "client", "create_bucket", bucket);
    let text = reply.await.refused(500);
    assert!(text.contains("internal error, request "), "{text}");
    assert!(!text.contains("wharfage/clusters"), "{text}");
    let order = json!({ "plan_id": 2, "bucket_name": "in-de", "location": "DE" });
    let reply = app.call_in(&context, "client", "create_order", order);
    reply.await.ok();
    let order = json!({ "plan_id": 2, "bucket_name": "in-nl", "location": "NL" });
    let reply = app.call_in(&context, "client", "create_order", order).await;
    assert!(reply.retry_after.is_some());
    reply.refused(503);
}

/// Answers of services that know secrets, one character short: nobody can parse them.
#[derive(Debug)]
struct CutShort(SharedHttpConnector);

impl HttpConnector for CutShort {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let is_cut = target.starts_with("secretsmanager.") || target == "TrentService.Decrypt";
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let mut response = answer.await?;
            if is_cut {
                let body = std::mem::replace(response.body_mut(), SdkBody::taken());
                let body = ByteStream::new(body).collect().await;
                let mut body = body.expect("an answer").to_vec();
                body.pop();
                *response.body_mut() = SdkBody::from(body);
            }
            Ok(response)
        })
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_parsed_is_not_told() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let secret_key = json!({ "s3uid": account.s3uid, "s3_key": "secret_key" });
    let shown = app.call("client", "show_key", secret_key).await.ok();
    let secret_key = shown["secret_key"].as_str().expect("a key");
    let account = app.context().database.account(&account.s3uid).await;
    let account = account.expect("an answer").expect("the account");
    let connector = SharedHttpConnector::new(CutShort(app.tap.connector()));
    let context = app.context_over(connector);
    let decrypted = context
        .vault
        .decrypt(&account.s3uid, &account.secret_key_ciphertext);
    let (decrypted, (asked, _)) = tokio::join!(decrypted, ask(&app, &context));
    let fault = decrypted.expect_err("the answer cannot be parsed");
    let error = asked.expect_err("the answer cannot be parsed");
    let text = format!("{fault} {fault:?} {error} {error:?}");
    assert!(text.contains("cannot be read"), "{text}");
    let token = &app.stack.clusters()["NL"].admin_token;
    for secret in [secret_key, &STANDARD.encode(secret_key), token] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn an_old_secret_serves_while_secrets_manager_cannot_answer() {
    let app = TestApp::start_idle(&[]).await;
    let is_cut = |name: &str| name.starts_with("SecretsManager");
    let context = cold(&app);
    let cluster = context.clusters.get("NL").expect("a cluster");
    let nobody = S3Uid("nobody".into());
    let asking = async || cluster.provider.buckets_of(&[&nobody]).await;
    let unknown = app.tap.without(is_cut, asking()).await;
    assert!(matches!(unknown, Err(ClusterError::Unavailable(_))));
    asking().await.expect("the cluster lets us in");
    app.let_pass(SignedDuration::from_mins(16));
    let with_the_old = app.tap.without(is_cut, asking()).await;
    with_the_old.expect("the cluster lets us in");
}
