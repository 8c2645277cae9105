//! `create_order`.

use serde_json::json;
use tests::TestApp;

#[tokio::test]
async fn create_order_makes_a_whole_account() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "hello.txt", 5).await;
    let list = app
        .call("client", "get_buckets", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    assert_eq!(list["usage_storage"], 5);
}
