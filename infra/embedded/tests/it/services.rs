//! DynamoDB, SQS and KMS through their SDKs.

use std::os::unix::fs::PermissionsExt;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, TimeToLiveSpecification,
};
use aws_sdk_kms::error::ProvideErrorMetadata;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::types::{
    MessageSystemAttributeName, MessageSystemAttributeNameForSends, MessageSystemAttributeValue,
    SendMessageBatchRequestEntry,
};
use aws_smithy_http_client::Builder;

use crate::support::{Clock, any_port};

pub const ACCESS_KEY: &str = "AKTESTSERVICES";
pub const SECRET_KEY: &str = "the secret of the tests";

pub fn credentials() -> embedded::Credentials {
    embedded::Credentials {
        access_key_id: ACCESS_KEY.to_owned(),
        secret_access_key: SECRET_KEY.to_owned(),
    }
}

macro_rules! client {
    ($sdk:ident, $endpoint:expr) => {
        $sdk::Client::from_conf(
            $sdk::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .endpoint_url($endpoint)
                .region(Region::new("us-east-1"))
                .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
                .http_client(Builder::new().build_http())
                .build(),
        )
    };
}

async fn expiring_table(client: &aws_sdk_dynamodb::Client) {
    client
        .create_table()
        .table_name("things")
        .attribute_definitions(
            AttributeDefinition::builder()
                .attribute_name("pk")
                .attribute_type(ScalarAttributeType::S)
                .build()
                .unwrap(),
        )
        .key_schema(
            KeySchemaElement::builder()
                .attribute_name("pk")
                .key_type(KeyType::Hash)
                .build()
                .unwrap(),
        )
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
    client
        .update_time_to_live()
        .table_name("things")
        .time_to_live_specification(
            TimeToLiveSpecification::builder()
                .attribute_name("expires")
                .enabled(true)
                .build()
                .unwrap(),
        )
        .send()
        .await
        .unwrap();
}

async fn put_thing(client: &aws_sdk_dynamodb::Client, pk: &str, expires: i64) {
    client
        .put_item()
        .table_name("things")
        .item("pk", AttributeValue::S(pk.to_owned()))
        .item("expires", AttributeValue::N(expires.to_string()))
        .send()
        .await
        .unwrap();
}

async fn count_things(client: &aws_sdk_dynamodb::Client) -> i32 {
    client
        .scan()
        .table_name("things")
        .send()
        .await
        .unwrap()
        .count()
}

#[tokio::test]
async fn dynamodb_expires_by_the_given_clock() {
    let clock = Clock::at("2026-11-22T13:00:00Z");
    let server = embedded::dynamodb::start(any_port(), &credentials(), None, clock.now()).unwrap();
    let client = client!(aws_sdk_dynamodb, server.endpoint());
    expiring_table(&client).await;
    let now = clock.now()().as_second();
    put_thing(&client, "soon", now + 60).await;
    put_thing(&client, "later", now + 6000).await;
    assert_eq!(server.sweep_expired().await.unwrap(), 0);
    clock.advance(61);
    assert_eq!(server.sweep_expired().await.unwrap(), 1);
    assert_eq!(count_things(&client).await, 1);
}

#[tokio::test]
async fn dynamodb_in_a_file_expires_by_the_given_clock() {
    let folder = tempfile::tempdir().unwrap();
    let file = Some(folder.path().join("dynamodb.sqlite"));
    // Long ago, and everything would have expired in real time.
    let clock = Clock::at("2020-01-15T10:30:00Z");
    let server = embedded::dynamodb::start(any_port(), &credentials(), file, clock.now()).unwrap();
    let client = client!(aws_sdk_dynamodb, server.endpoint());
    expiring_table(&client).await;
    let now = clock.now()().as_second();
    put_thing(&client, "soon", now + 60).await;
    put_thing(&client, "later", now + 6000).await;
    assert_eq!(server.sweep_expired().await.unwrap(), 0);
    clock.advance(61);
    assert_eq!(server.sweep_expired().await.unwrap(), 1);
    assert_eq!(count_things(&client).await, 1);
    put_thing(&client, "after", now + 9000).await;
    assert_eq!(count_things(&client).await, 2);
}

#[tokio::test]
async fn dynamodb_keeps_a_file_and_frees_its_port() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dynamodb.sqlite");
    let clock = Clock::at("2026-11-22T13:00:00Z");
    let server =
        embedded::dynamodb::start(any_port(), &credentials(), Some(file.clone()), clock.now())
            .unwrap();
    let endpoint = server.endpoint().to_owned();
    let client = client!(aws_sdk_dynamodb, &endpoint);
    expiring_table(&client).await;
    put_thing(&client, "kept", 4_000_000_000).await;
    drop(server);
    let server =
        embedded::dynamodb::start(any_port(), &credentials(), Some(file), clock.now()).unwrap();
    let client = client!(aws_sdk_dynamodb, server.endpoint());
    assert_eq!(count_things(&client).await, 1);
    // The connections of the first end as well; until they have, they may still answer.
    while tokio::net::TcpStream::connect(endpoint.strip_prefix("http://").unwrap())
        .await
        .is_ok()
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn sqs_delivers_under_its_own_address() {
    let server = embedded::sqs::start(any_port(), &credentials()).unwrap();
    let client = client!(aws_sdk_sqs, server.endpoint());
    let queue = client
        .create_queue()
        .queue_name("tasks")
        .send()
        .await
        .unwrap();
    let url = queue.queue_url().unwrap();
    assert!(
        url.starts_with(server.endpoint()),
        "{url} at {}",
        server.endpoint()
    );
    client
        .send_message()
        .queue_url(url)
        .message_body("do it")
        .send()
        .await
        .unwrap();
    let received = client
        .receive_message()
        .queue_url(url)
        .send()
        .await
        .unwrap();
    assert_eq!(received.messages()[0].body(), Some("do it"));
}

#[tokio::test]
async fn sqs_hands_a_message_s_trace_and_group_to_receivers_that_ask_for_them() {
    const TRACE: &str = "Root=1-5759e988-bd862e3fe1be46a994272793";
    let server = embedded::sqs::start(any_port(), &credentials()).unwrap();
    let client = client!(aws_sdk_sqs, server.endpoint());
    let queue = client.create_queue().queue_name("tasks").send();
    let queue = queue.await.unwrap();
    let url = queue.queue_url().unwrap();
    let trace = MessageSystemAttributeValue::builder()
        .data_type("String")
        .string_value(TRACE)
        .build()
        .unwrap();
    let name = MessageSystemAttributeNameForSends::AwsTraceHeader;
    client
        .send_message()
        .queue_url(url)
        .message_body("one")
        .message_group_id("NL:1")
        .message_system_attributes(name.clone(), trace.clone())
        .send()
        .await
        .unwrap();
    let entry = SendMessageBatchRequestEntry::builder()
        .id("0")
        .message_body("two")
        .message_group_id("NL:1")
        .message_system_attributes(name, trace)
        .build()
        .unwrap();
    let batch = client.send_message_batch().queue_url(url).entries(entry);
    assert!(batch.send().await.unwrap().failed().is_empty());
    for asks in [true, false] {
        let names = asks.then(|| vec![MessageSystemAttributeName::All]);
        let received = client
            .receive_message()
            .queue_url(url)
            .set_message_system_attribute_names(names)
            .message_attribute_names("All")
            .send()
            .await
            .unwrap();
        let message = &received.messages()[0];
        let attributes = message.attributes();
        let trace = attributes.and_then(|all| all.get(&MessageSystemAttributeName::AwsTraceHeader));
        assert_eq!(trace.map(String::as_str), asks.then_some(TRACE));
        let group = attributes.and_then(|all| all.get(&MessageSystemAttributeName::MessageGroupId));
        assert_eq!(group.map(String::as_str), asks.then_some("NL:1"));
        assert!(message.message_attributes().is_none());
    }
}

#[tokio::test]
async fn kms_binds_a_secret_to_its_context() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kms.key");
    let server = embedded::kms::start(any_port(), &credentials(), Some(file.clone())).unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no draft is left"
    );
    let client = client!(aws_sdk_kms, server.endpoint());
    let sealed = client
        .encrypt()
        .key_id("alias/wharfage")
        .plaintext(Blob::new("a secret"))
        .encryption_context("account", "NL1")
        .encryption_context("purpose", "keys")
        .send()
        .await
        .unwrap()
        .ciphertext_blob
        .unwrap();

    // Another process with the same file opens it, whatever the order of the context.
    drop(server);
    let server = embedded::kms::start(any_port(), &credentials(), Some(file)).unwrap();
    let client = client!(aws_sdk_kms, server.endpoint());
    let opened = client
        .decrypt()
        .ciphertext_blob(sealed.clone())
        .encryption_context("purpose", "keys")
        .encryption_context("account", "NL1")
        .send()
        .await
        .unwrap();
    assert_eq!(opened.plaintext.unwrap().as_ref(), b"a secret");

    let mut forgeries = vec![(sealed.clone(), "NL2")];
    for at in 0..sealed.as_ref().len() {
        let mut bytes = sealed.clone().into_inner();
        bytes[at] ^= 1;
        forgeries.push((Blob::new(bytes), "NL1"));
    }
    forgeries.push((Blob::new(sealed.as_ref()[..10].to_vec()), "NL1"));
    for (blob, account) in forgeries {
        let error = client
            .decrypt()
            .ciphertext_blob(blob)
            .encryption_context("purpose", "keys")
            .encryption_context("account", account)
            .send()
            .await
            .unwrap_err()
            .into_service_error();
        assert!(error.is_invalid_ciphertext_exception(), "{error:?}");
    }
    let error = client.list_keys().send().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 400);
    assert_eq!(error.code(), Some("UnknownOperationException"));

    let data_key = client
        .generate_data_key()
        .key_id("alias/wharfage")
        .key_spec(aws_sdk_kms::types::DataKeySpec::Aes256)
        .send()
        .await
        .unwrap();
    let opened = client
        .decrypt()
        .ciphertext_blob(data_key.ciphertext_blob.unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(opened.plaintext, data_key.plaintext);
    assert_eq!(opened.plaintext.unwrap().as_ref().len(), 32);
    let described = client
        .describe_key()
        .key_id("alias/wharfage")
        .send()
        .await
        .unwrap();
    assert!(described.key_metadata.unwrap().enabled);
}

#[tokio::test]
async fn kms_refuses_a_key_file_others_can_read_or_of_a_wrong_size() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kms.key");
    drop(embedded::kms::start(any_port(), &credentials(), Some(file.clone())).unwrap());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = embedded::kms::start(any_port(), &credentials(), Some(file.clone())).unwrap_err();
    assert!(error.to_string().contains("mode 0640"), "{error}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, [7; 31]).unwrap();
    let error = embedded::kms::start(any_port(), &credentials(), Some(file)).unwrap_err();
    assert!(
        error.to_string().contains("31 bytes instead of 32"),
        "{error}"
    );
}
