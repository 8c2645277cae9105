//! What a function's role has to allow, told from the calls it makes. `tests/it/permissions.txt` keeps the record: a line for each
//! function, IAM action and resource of the template. The tap refuses what is not in it, as AWS would; `.ci/run` compares it with all the
//! calls of all the tests, so that nothing stands there that nobody needs; and the template's roles are made from it.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use functions::ACTIONS;
use serde_json::Value;

use crate::made::{self, read};

/// Leave to do something to a resource of the template: `dynamodb:Query` on `AccountsTable/index/by_client`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// The IAM action.
    pub action: String,
    /// The resource, by its logical id; `ClusterSecrets` are those under the template's prefix.
    pub resource: String,
}

/// The record.
pub const RECORD: &str = "tests/it/permissions.txt";

/// The record's lines: function, action, resource.
fn lines() -> MutexGuard<'static, BTreeSet<(String, Permission)>> {
    static LINES: LazyLock<Mutex<BTreeSet<(String, Permission)>>> = LazyLock::new(|| {
        let record = read(RECORD);
        let lines = record.lines().map(|line| {
            let mut words = line.split(' ');
            let mut next = || words.next().expect("three words in a line");
            let function = next().to_owned();
            (function, Permission::new(next(), next()))
        });
        Mutex::new(lines.collect())
    });
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The record as it should be: in order, and where it is updated with what was called since.
pub fn record() -> String {
    let lines = lines();
    let lines = lines
        .iter()
        .map(|(function, permission)| line(function, permission));
    let lines: BTreeSet<String> = lines.collect();
    lines.into_iter().collect()
}

fn line(function: &str, Permission { action, resource }: &Permission) -> String {
    format!("{function} {action} {resource}\n")
}

impl Permission {
    fn new(action: impl Into<String>, resource: impl Into<String>) -> Permission {
        Permission {
            action: action.into(),
            resource: resource.into(),
        }
    }
}

/// What a function needs, as the record has it. `s3_php` needs what any action does.
pub fn of_function(function: &str) -> BTreeSet<Permission> {
    let is_one = |name: &str| match function {
        "s3_php" => ACTIONS.iter().any(|action| action.name == name),
        function => function == name,
    };
    lines()
        .iter()
        .filter(|(name, _)| is_one(name))
        .map(|(_, permission)| permission.clone())
        .collect()
}

/// The functions that the record names.
pub fn functions() -> BTreeSet<String> {
    let lines = lines();
    lines.iter().map(|(function, _)| function.clone()).collect()
}

/// Notes what the running function needs for a call, where `PERMISSIONS_SEEN` names a file for it; else refuses what is not recorded, or
/// records it where files are updated.
#[allow(
    clippy::disallowed_methods,
    reason = "PERMISSIONS_SEEN is for whoever runs the tests, not for the product"
)]
pub(crate) fn check(needed: impl IntoIterator<Item = Permission>) -> Result<(), String> {
    static FILE: LazyLock<Option<std::ffi::OsString>> =
        LazyLock::new(|| std::env::var_os("PERMISSIONS_SEEN"));
    static SEEN: Mutex<BTreeSet<(&str, Permission)>> = Mutex::new(BTreeSet::new());
    let Some(function) = wharfage::telemetry::function() else {
        // The tests themselves, or the local runner.
        return Ok(());
    };
    for permission in needed {
        let Some(path) = FILE.as_ref() else {
            if of_function(function).contains(&permission) {
                continue;
            }
            if made::is_to_be_written() {
                if function != "s3_php" {
                    lines().insert((function.to_owned(), permission));
                }
                continue;
            }
            let missing = line(function, &permission);
            return Err(format!("{RECORD} does not have: {}", missing.trim_end()));
        };
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        if function != "s3_php" && seen.insert((function, permission.clone())) {
            let line = line(function, &permission);
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .and_then(|mut file| file.write_all(line.as_bytes()))
                .expect("the file that PERMISSIONS_SEEN names can be written");
        }
    }
    Ok(())
}

/// What a call needs.
pub(crate) fn needed(request: &HttpRequest) -> Vec<Permission> {
    let Some(target) = request.headers().get("x-amz-target") else {
        return needed_by_path(request);
    };
    let (service, operation) = target.split_once('.').expect("a service and an operation");
    let body: Value = request
        .body()
        .bytes()
        .and_then(|bytes| serde_json::from_slice(bytes).ok())
        .expect("the body of a call to AWS is JSON");
    match service {
        _ if service.starts_with("DynamoDB_") => needed_of_dynamodb(operation, &body),
        "AmazonSQS" => {
            let queue = text(&body["QueueUrl"]).rsplit('/').next();
            let action = operation.trim_end_matches("Batch");
            vec![Permission::new(
                format!("sqs:{action}"),
                logical_id(queue.unwrap_or_default()),
            )]
        }
        "TrentService" => vec![Permission::new(format!("kms:{operation}"), "SecretsKey")],
        "AWSEvents" => vec![Permission::new(format!("events:{operation}"), "EventBus")],
        "secretsmanager" => vec![Permission::new(
            format!("secretsmanager:{operation}"),
            "ClusterSecrets",
        )],
        other => panic!("what permissions do calls to {other} need? Say it here"),
    }
}

/// Each write of a transaction needs the leave that it would need by itself.
fn needed_of_dynamodb(operation: &str, body: &Value) -> Vec<Permission> {
    let on = |action: &str, table: &Value| {
        Permission::new(format!("dynamodb:{action}"), logical_id(text(table)))
    };
    let items = |name: &str| body[name].as_array().expect("items").iter();
    match operation {
        "GetItem" | "PutItem" | "UpdateItem" | "DeleteItem" => {
            vec![on(operation, &body["TableName"])]
        }
        "Query" => {
            let mut permission = on(operation, &body["TableName"]);
            if let Some(index) = body["IndexName"].as_str() {
                permission.resource = format!("{}/index/{index}", permission.resource);
            }
            vec![permission]
        }
        "BatchGetItem" => {
            let tables = body["RequestItems"].as_object().expect("tables");
            tables
                .keys()
                .map(|table| on(operation, &Value::from(table.as_str())))
                .collect()
        }
        "TransactWriteItems" => items("TransactItems")
            .flat_map(|item| item.as_object().expect("a write"))
            .map(|(kind, write)| match kind.as_str() {
                "ConditionCheck" => on("ConditionCheckItem", &write["TableName"]),
                kind => on(&format!("{kind}Item"), &write["TableName"]),
            })
            .collect(),
        other => panic!("what permissions does DynamoDB {other} need? Say it here"),
    }
}

/// The usage bucket, and the clusters: administered with a secret, used with accounts' own keys.
fn needed_by_path(request: &HttpRequest) -> Vec<Permission> {
    let uri: http::Uri = request.uri().parse().expect("a URI");
    if uri.path().starts_with("/_admin/") {
        return vec![Permission::new(
            "secretsmanager:GetSecretValue",
            "ClusterSecrets",
        )];
    }
    let Some(key) = uri.path().strip_prefix("/wharfage-usagebucket") else {
        return Vec::new();
    };
    let action = match (request.method(), key.trim_start_matches('/')) {
        ("GET", "") => return vec![Permission::new("s3:ListBucket", "UsageBucket")],
        ("GET" | "HEAD", _) => "s3:GetObject",
        ("PUT", _) => "s3:PutObject",
        (method, _) => panic!("what permissions does {method} in S3 need? Say it here"),
    };
    vec![Permission::new(action, "UsageBucket/*")]
}

/// What an answer shows to be needed besides: to those who may not list a bucket, S3 does not say that an object is not there.
pub(crate) fn needed_to_be_told(needed: &[Permission], status: u16) -> Option<Permission> {
    let is_read = needed
        .iter()
        .any(|permission| permission.action == "s3:GetObject");
    (is_read && status == 404).then(|| Permission::new("s3:ListBucket", "UsageBucket"))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// The local runner calls a resource `wharfage-<logical id>`.
fn logical_id(name: &str) -> &str {
    name.strip_prefix("wharfage-").expect("a name of ours")
}
