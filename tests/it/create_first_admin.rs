//! `create_first_admin`: how somebody gets into a new system.

use lambda_http::Body;
use local::{Options, Stack};
use serde_json::{Value, json};
use tests::tap::Tap;
use tests::{TestApp, form_request};

async fn log_in(stack: &Stack, key: &Value) -> Value {
    let parameters = json!({ "action": "login", "key": key });
    let response = stack
        .invoke_http(form_request("/auth.php", &parameters))
        .await;
    match response.body() {
        Body::Text(text) => serde_json::from_str(text).expect("JSON"),
        _ => panic!("an answer is text"),
    }
}

#[tokio::test]
async fn the_first_admin_gets_a_key_once_and_the_next_client_the_next_number() {
    let options = Options {
        seed: false,
        connector: Some(Tap::new().connector()),
        background: false,
        ..Options::default()
    };
    let stack = Stack::start(options).await.expect("the stack starts");
    let made = stack.run_job("create_first_admin").await.expect("a run");
    let login = log_in(&stack, &made["api_key"]).await;
    assert_eq!(login["result"]["role"], "admin", "{login:#}");
    assert_eq!(login["result"]["customer_id"], made["client_id"]);

    let again = stack.run_job("create_first_admin").await.expect("a run");
    assert_eq!(again, json!({ "refused": "there are clients already" }));

    let parameters = json!({
        "token": login["result"]["token"], "email": "new@example.com", "currency": "EUR",
    });
    let response = stack
        .invoke_http(form_request("/s3/create_client", &parameters))
        .await;
    let Body::Text(text) = response.body() else {
        panic!("an answer is text");
    };
    let client: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(client["client"]["client_id"], 2, "{client:#}");
}

#[tokio::test]
async fn a_system_with_clients_makes_no_first_admin() {
    let app = TestApp::start_idle(&[]).await;
    let before = app.world().await;
    let refused = app.run_directly("create_first_admin").await.expect("a run");
    assert_eq!(refused, json!({ "refused": "there are clients already" }));
    app.world()
        .await
        .assert_unchanged_since(&before, "a second first admin");
}
