//! Everything that is kept anywhere, so that two moments can be compared; and the small means of tests that break things.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use jiff::SignedDuration;
use serde_json::{Map, Value, json};
use wharfage::database::{Guard, Written};
use wharfage::domain::account::S3Uid;
use wharfage::domain::client::Client;
use wharfage::domain::ledger::{Balances, Cause, Posting};

use crate::TestApp;

/// All items of all tables, and all users and buckets of all clusters.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    things: BTreeMap<String, Value>,
}

impl World {
    /// Fails the test, naming what differs, when this is not what it was before.
    #[track_caller]
    pub fn assert_unchanged_since(&self, before: &World, what_happened: &str) {
        let mut changes = String::new();
        let names: BTreeSet<&String> = before.things.keys().chain(self.things.keys()).collect();
        for name in names {
            let (was, is) = (before.things.get(name), self.things.get(name));
            if was != is {
                let _ = writeln!(changes, "{name}\n  was {was:?}\n  is  {is:?}");
            }
        }
        assert!(changes.is_empty(), "{what_happened} changed\n{changes}");
    }
}

impl TestApp {
    /// Everything that is kept anywhere now.
    pub async fn world(&self) -> World {
        let mut things = BTreeMap::new();
        let dynamodb = self.dynamodb();
        let tables = self.stack.environment().iter();
        for (_, table) in tables.filter(|(name, _)| name.ends_with("_TABLE")) {
            let mut items = dynamodb
                .scan()
                .table_name(table)
                .into_paginator()
                .items()
                .send();
            while let Some(item) = items.next().await {
                let item = plain_map(&item.expect("a scan succeeds"));
                things.insert(format!("{table} {} {}", item["pk"], item["sk"]), item);
            }
        }
        for location in self.stack.clusters().keys() {
            for s3uid in self.cluster_users(location).await {
                let (_, user) = self
                    .admin(location, "GET", &format!("users/{s3uid}"), None)
                    .await;
                let (_, buckets) = self
                    .admin(location, "GET", &format!("users/{s3uid}/buckets"), None)
                    .await;
                things.insert(
                    format!("cluster {location} {s3uid}"),
                    json!({ "user": user, "buckets": buckets }),
                );
            }
        }
        World { things }
    }

    fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let environment = self.stack.environment();
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
            .region(aws_sdk_dynamodb::config::Region::from_static("eu-west-1"))
            .endpoint_url(&environment["AWS_ENDPOINT_URL_DYNAMODB"])
            .credentials_provider(Credentials::new(
                &environment["AWS_ACCESS_KEY_ID"],
                &environment["AWS_SECRET_ACCESS_KEY"],
                None,
                None,
                "test",
            ))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        aws_sdk_dynamodb::Client::from_conf(config)
    }

    /// Changes what a client's balances say, as nothing in the product would.
    pub async fn break_balance(&self, who: &str) {
        let client = self.client(who).await;
        let balances = (
            format!("CLIENT#{}", client.client_id),
            format!("BALANCES#{}", client.currency),
        );
        self.update_item("LEDGER_TABLE", &balances, "ADD credit_minor :one")
            .await;
    }

    /// Changes an item past the product, by its partition and sort key; `:one` is the number 1, and `#name` an attribute whose
    /// name DynamoDB reserves.
    pub async fn update_item(&self, table: &str, (pk, sk): &(String, String), update: &str) {
        let names: HashMap<String, String> = update
            .split(|c: char| c != '#' && !c.is_ascii_alphanumeric())
            .filter_map(|word| Some((word.to_owned(), word.strip_prefix('#')?.to_owned())))
            .collect();
        self.dynamodb()
            .update_item()
            .table_name(&self.stack.environment()[table])
            .key("pk", AttributeValue::S(pk.clone()))
            .key("sk", AttributeValue::S(sk.clone()))
            .update_expression(update)
            .set_expression_attribute_names((!names.is_empty()).then_some(names))
            .set_expression_attribute_values(
                update
                    .contains(":one")
                    .then(|| HashMap::from([(":one".into(), AttributeValue::N("1".into()))])),
            )
            .send()
            .await
            .expect("the item is changed");
    }

    /// Puts an item of texts past the product.
    pub async fn put_item(&self, table: &str, texts: &[(&str, &str)]) {
        self.put_texts(table, texts, None).await;
    }

    /// The same, with a number.
    pub async fn put_item_with(&self, table: &str, texts: &[(&str, &str)], number: (&str, &str)) {
        self.put_texts(table, texts, Some(number)).await;
    }

    async fn put_texts(&self, table: &str, texts: &[(&str, &str)], number: Option<(&str, &str)>) {
        let number =
            number.map(|(name, number)| (name.to_owned(), AttributeValue::N(number.to_owned())));
        let texts = texts
            .iter()
            .map(|(name, text)| ((*name).to_owned(), AttributeValue::S((*text).to_owned())));
        self.dynamodb()
            .put_item()
            .table_name(&self.stack.environment()[table])
            .set_item(Some(texts.chain(number).collect()))
            .send()
            .await
            .expect("the item is put");
    }

    /// Puts an item past the product, as JSON: numbers, texts, truths, nulls, lists and maps of them.
    pub async fn put_json(&self, table: &str, item: &Value) {
        let fields = item.as_object().expect("an object");
        let fields = fields
            .iter()
            .map(|(name, value)| (name.clone(), attribute(value)));
        self.dynamodb()
            .put_item()
            .table_name(&self.stack.environment()[table])
            .set_item(Some(fields.collect()))
            .send()
            .await
            .expect("the item is put");
    }

    /// Puts a segment's file past the product.
    pub async fn put_segment(&self, key: &str, file: Vec<u8>) {
        let environment = self.stack.environment();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
            .region(aws_sdk_s3::config::Region::from_static("eu-west-1"))
            .endpoint_url(&environment["AWS_ENDPOINT_URL_S3"])
            .force_path_style(true)
            .credentials_provider(Credentials::new(
                &environment["AWS_ACCESS_KEY_ID"],
                &environment["AWS_SECRET_ACCESS_KEY"],
                None,
                None,
                "test",
            ))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        aws_sdk_s3::Client::from_conf(config)
            .put_object()
            .bucket(&environment["USAGE_BUCKET"])
            .key(key)
            .body(file.into())
            .send()
            .await
            .expect("the segment is put");
    }

    /// Deletes an item past the product.
    pub async fn delete_item(&self, table: &str, (pk, sk): &(String, String)) {
        self.dynamodb()
            .delete_item()
            .table_name(&self.stack.environment()[table])
            .key("pk", AttributeValue::S(pk.clone()))
            .key("sk", AttributeValue::S(sk.clone()))
            .send()
            .await
            .expect("the item is deleted");
    }

    /// An account's item as it is stored, with the attributes that only indexes read.
    pub async fn account_item(&self, s3uid: &S3Uid) -> Value {
        let answer = self
            .dynamodb()
            .get_item()
            .table_name(&self.stack.environment()["ACCOUNTS_TABLE"])
            .consistent_read(true)
            .key("pk", AttributeValue::S(format!("ACCOUNT#{s3uid}")))
            .key("sk", AttributeValue::S("ACCOUNT".into()))
            .send()
            .await
            .expect("DynamoDB answers");
        plain_map(&answer.item.expect("the account"))
    }

    /// The sort keys of a partition.
    pub async fn sort_keys(&self, table: &str, pk: &str) -> Vec<String> {
        let answer = self
            .dynamodb()
            .query()
            .table_name(&self.stack.environment()[table])
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()))
            .send()
            .await
            .expect("a query succeeds");
        let rows = answer.items.unwrap_or_default();
        rows.iter()
            .map(|row| row["sk"].as_s().expect("a text").clone())
            .collect()
    }

    /// Has nothing collected for an account from now on, so that the usage a test sets stays as it is.
    pub async fn leave_out_of_collection(&self, s3uid: &S3Uid) {
        self.dynamodb()
            .update_item()
            .table_name(&self.stack.environment()["ACCOUNTS_TABLE"])
            .key("pk", AttributeValue::S(format!("ACCOUNT#{s3uid}")))
            .key("sk", AttributeValue::S("ACCOUNT".into()))
            .update_expression("REMOVE metered_at")
            .send()
            .await
            .expect("the account is changed");
    }

    /// Says that all usage of a location was collected until now.
    pub async fn collected_until_now(&self, location: &str) {
        let now = wharfage::domain::period::hour_of(self.now());
        self.dynamodb()
            .put_item()
            .table_name(&self.stack.environment()["USAGE_TABLE"])
            .item("pk", AttributeValue::S(format!("COLLECTION#{location}")))
            .item("sk", AttributeValue::S("STATE".into()))
            .item("complete_until", AttributeValue::S(now.to_string()))
            .send()
            .await
            .expect("the state is set");
    }

    /// Adds to a client's stored credit what no posting tells of.
    pub async fn falsify_credit(&self, who: &str, amount_minor: i64) {
        let client = self.client(who).await;
        let (pk, sk) = (
            format!("CLIENT#{}", client.client_id),
            format!("BALANCES#{}", client.currency),
        );
        self.dynamodb()
            .update_item()
            .table_name(&self.stack.environment()["LEDGER_TABLE"])
            .key("pk", AttributeValue::S(pk))
            .key("sk", AttributeValue::S(sk))
            .update_expression("ADD credit_minor :amount")
            .expression_attribute_values(":amount", AttributeValue::N(amount_minor.to_string()))
            .send()
            .await
            .expect("the balance is changed");
    }

    /// Asks a cluster's administration, past the product; status and body.
    pub async fn admin(
        &self,
        location: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let cluster = &self.stack.clusters()[location];
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method(method).expect("a method");
        request
            .set_uri(format!("{}/_admin/v1/{path}", cluster.admin_endpoint))
            .expect("an address");
        let authorization = format!("Bearer {}", cluster.admin_token);
        request.headers_mut().insert("authorization", authorization);
        request
            .headers_mut()
            .insert("content-type", "application/json");
        let connector = wharfage::connectors::loopback_connector();
        let response = connector.call(request).await.expect("the cluster answers");
        let status = response.status().as_u16();
        let bytes = ByteStream::new(response.into_body())
            .collect()
            .await
            .expect("the cluster's answer can be read")
            .into_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        (status, body)
    }

    /// The users of a cluster.
    pub async fn cluster_users(&self, location: &str) -> BTreeSet<String> {
        let (_, page) = self.admin(location, "GET", "users", None).await;
        assert_eq!(page["next"], Value::Null, "too many users for one page");
        texts(&page["users"], |user| user)
    }

    /// The buckets of a user at a cluster; `None` when there is no such user.
    pub async fn cluster_buckets(&self, location: &str, s3uid: &S3Uid) -> Option<BTreeSet<String>> {
        let (status, list) = self
            .admin(location, "GET", &format!("users/{s3uid}/buckets"), None)
            .await;
        (status == 200).then(|| texts(&list["buckets"], |bucket| &bucket["name"]))
    }

    /// Who owns a bucket at a cluster.
    pub async fn cluster_bucket_owner(&self, location: &str, bucket_name: &str) -> Option<String> {
        let (status, bucket) = self
            .admin(location, "GET", &format!("buckets/{bucket_name}"), None)
            .await;
        (status == 200).then(|| bucket["owner"].as_str().expect("an owner").to_owned())
    }

    /// Lets time pass without anything that is due being done.
    pub fn let_pass(&self, span: SignedDuration) {
        let then = self.now().checked_add(span).expect("a time");
        self.stack
            .clock()
            .move_to(then)
            .expect("the clock can be moved");
    }

    /// A client as it is kept.
    pub async fn client(&self, who: &str) -> Client {
        let client = self.context().database.client(self.client_id(who)).await;
        client
            .expect("DynamoDB answers")
            .expect("the client exists")
    }

    /// A client's balances.
    pub async fn balances(&self, who: &str) -> Balances {
        let client = self.client(who).await;
        let balances = self
            .context()
            .database
            .balances(client.client_id, client.currency)
            .await;
        balances.expect("DynamoDB answers")
    }

    /// Leaves a client nothing to spend.
    pub async fn spend_all_credit(&self, who: &str) {
        let credit_minor = self.balances(who).await.credit_minor;
        self.top_up(who, "spent", -credit_minor).await;
    }

    /// Gives a client more credit, or with a negative amount less.
    pub async fn top_up(&self, who: &str, cause: &str, amount_minor: i64) {
        let client = self.client(who).await;
        let payer = (client.client_id, client.currency);
        let posting = Posting::new(
            Cause::TopUp(cause),
            payer,
            self.now(),
            amount_minor,
            Vec::new(),
        );
        let posted = self
            .context()
            .database
            .post(&posting, &[], Guard::default(), &[], &[])
            .await
            .expect("DynamoDB answers");
        assert_eq!(
            posted,
            Written::Yes,
            "the top-up {cause} was made before, or credit is short"
        );
    }

    /// Fails the test unless a client's postings each sum to zero, and those in its currency add up to its balances.
    pub async fn assert_ledger_is_sound(&self, who: &str) {
        let client = self.client(who).await;
        let postings = self.context().database.postings(client.client_id).await;
        let mut rebuilt = Balances::default();
        let postings = postings.expect("DynamoDB answers");
        for posting in &postings {
            let sum: i64 = posting.amounts_minor.values().sum();
            assert_eq!(sum, 0, "{posting:?}");
            if posting.currency == client.currency {
                rebuilt.apply(posting);
            }
        }
        let kept = self.balances(who).await;
        rebuilt.invoices = kept.invoices;
        assert_eq!(kept, rebuilt);
        assert_eq!(kept.sum_minor(), 0);
        let invoices = self.context().database.invoices(client.client_id).await;
        let invoices = invoices.expect("DynamoDB answers");
        let series = self
            .context()
            .database
            .series(client.client_id, client.currency)
            .await;
        let series = series.expect("DynamoDB answers");
        let waiting = series.taken.len() + series.returned.len();
        assert_eq!((invoices.len() + waiting) as u64, kept.invoices);
        let open = self
            .context()
            .database
            .open_invoices(client.client_id)
            .await;
        let open = open.expect("DynamoDB answers");
        let owed: i64 = open.iter().map(|open| open.open_minor()).sum();
        assert_eq!(owed, -kept.receivable_minor, "what is open is what is owed");
        for invoice in &invoices {
            let side = open
                .iter()
                .find(|open| open.invoice_id == invoice.invoice_id);
            assert_eq!(
                side.map_or(0, |open| open.open_minor()),
                invoice.open_minor(),
                "{invoice:?}"
            );
            let taken_off = postings.iter().flat_map(|posting| &posting.taken_off);
            let off: i64 = taken_off
                .filter(|taken| taken.invoice_id == invoice.invoice_id)
                .map(|taken| taken.amount_minor)
                .sum();
            assert_eq!(
                off,
                invoice.paid_minor + invoice.credited_minor,
                "{invoice:?}"
            );
        }
        let numbers: BTreeSet<&str> = invoices.iter().map(|i| i.number.as_str()).collect();
        assert_eq!(
            numbers.len(),
            invoices.len(),
            "an invoice number was given twice"
        );
    }
}

fn texts(list: &Value, text: impl Fn(&Value) -> &Value) -> BTreeSet<String> {
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|row| text(row).as_str().expect("a text").to_owned())
        .collect()
}

fn attribute(value: &Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(value) => AttributeValue::Bool(*value),
        Value::Number(number) => AttributeValue::N(number.to_string()),
        Value::String(text) => AttributeValue::S(text.clone()),
        Value::Array(list) => AttributeValue::L(list.iter().map(attribute).collect()),
        Value::Object(map) => {
            let fields = map.iter();
            AttributeValue::M(
                fields
                    .map(|(name, value)| (name.clone(), attribute(value)))
                    .collect(),
            )
        }
    }
}

fn plain_map(item: &HashMap<String, AttributeValue>) -> Value {
    let fields: Map<String, Value> = item
        .iter()
        .map(|(name, value)| (name.clone(), plain(value)))
        .collect();
    fields.into()
}

fn plain(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::Bool(value) => json!(value),
        AttributeValue::Null(_) => Value::Null,
        AttributeValue::L(list) => list.iter().map(plain).collect(),
        AttributeValue::M(map) => plain_map(map),
        other => json!(format!("{other:?}")),
    }
}
