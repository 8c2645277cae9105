//! `cancel_payment_account_deletion`.

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, NO_S3UID, masked, text};
use tests::examples::{Example, GoodCall, Preparation};

const ACTION: &str = "cancel_payment_account_deletion";

inventory::submit!(Example::new(
    ACTION,
    |prepare| Box::pin(cancelled(prepare)),
    |scene| scene.on_accounts(json!({})),
));

async fn cancelled(prepare: &Preparation<'_>) -> GoodCall {
    let call = prepare.with_account(json!({})).await;
    let delete = prepare
        .app
        .call(call.who, "delete_payment_account", call.parameters.clone());
    delete.await.ok();
    call
}

#[tokio::test]
async fn cancel_payment_account_deletion_lets_the_service_go_on() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid });
    let before = app.call("client", "get_users", json!({})).await.ok();
    app.call("client", "delete_payment_account", parameters.clone())
        .await
        .ok();
    let body = app.call("client", ACTION, parameters.clone()).await.ok();
    assert_json_snapshot!("success", masked(&app, &body));
    assert_eq!(body["service"]["cancellation_date"], Value::Null);
    assert_eq!(
        app.call("client", "get_users", json!({})).await.ok(),
        before
    );
    let reply = app.call("client", ACTION, parameters.clone()).await;
    assert_eq!(
        reply.refused(409),
        text(ACTION, "S3 account is not being cancelled")
    );

    // It can be cancelled and taken back again, by an admin who names the client and the account by its number too.
    app.call("client", "delete_payment_account", parameters)
        .await
        .ok();
    let parameters = json!({ "account_id": account.id, "id": app.client_id("client") });
    let again = app.call("admin", ACTION, parameters).await.ok();
    assert_eq!(again, body);
}

#[tokio::test]
async fn cancel_payment_account_deletion_cannot_stop_delete_account() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid });
    app.call("client", "delete_payment_account", parameters.clone())
        .await
        .ok();
    app.call("client", "delete_account", parameters.clone())
        .await
        .ok();
    let reply = app.call("client", ACTION, parameters).await;
    assert_eq!(
        reply.refused(409),
        text(ACTION, "S3 account is being deleted")
    );
}

#[tokio::test]
async fn cancel_payment_account_deletion_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let reply = app
        .call("client", ACTION, json!({ "s3uid": NO_S3UID }))
        .await;
    let wanted = "s3/cancel_payment_account_deletion: S3 account not found for this customer";
    assert_eq!(reply.refused(404), wanted);
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid }),
    };
    contract.hides_the_account_from_others(&account).await;
    contract.refuses_missing(&["s3uid"]).await;
    contract.refuses_bad_tokens().await;
}
