//! The resources the runner makes, with the properties it carries out.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;
use serde_yaml_ng::{Mapping, Value as Yaml};

use super::{ACCOUNT_ID, DEFAULT_MEMORY_MB, DEFAULT_TIMEOUT_SECONDS, REGION, Scope, key, seconds};
use crate::error::Error;
use crate::schedule::Schedule;

/// A function of the template.
pub(crate) struct Function {
    /// Logical id.
    pub id: String,
    /// What its process is asked to be: a function of the list.
    pub handler: String,
    /// How long it may take.
    pub timeout: Duration,
    /// What it is told of its memory. Nothing here keeps it to that.
    pub memory_mb: u64,
    /// What starts it.
    pub triggers: Vec<Trigger>,
    /// What its environment has beside that of all functions.
    pub environment: BTreeMap<String, String>,
}

/// What starts a function.
pub(crate) enum Trigger {
    /// A route of the HTTP API.
    Route(Route),
    /// A queue.
    Queue(QueueTrigger),
    /// A schedule; `None` when it is switched off.
    Schedule(Option<Schedule>),
}

/// A route of the HTTP API.
pub(crate) struct Route {
    /// `None` is any.
    pub method: Option<Method>,
    /// `None` is `$default`: what no other route takes.
    pub path: Option<String>,
    /// How long the HTTP API waits for the function.
    pub timeout: Duration,
}

/// A queue that starts a function.
pub(crate) struct QueueTrigger {
    /// The queue.
    pub queue_arn: String,
    /// Messages per invocation, at most.
    pub batch_size: u32,
    /// Whether the function names the messages that failed; otherwise they succeed or fail together.
    pub reports_failures: bool,
    /// Invocations at a time.
    pub concurrency: usize,
}

/// A DynamoDB table.
pub(crate) struct Table {
    /// Its name here.
    pub name: String,
    /// Types of key attributes: `S`, `N` or `B`.
    pub attributes: Vec<(String, String)>,
    /// Partition key, then sort key.
    pub key: Vec<KeyPart>,
    /// Global secondary indexes.
    pub indexes: Vec<Index>,
    /// The attribute that says when an item expires.
    pub expiry_attribute: Option<String>,
}

/// An index of a table.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Index {
    /// Its name.
    pub index_name: String,
    /// Partition key, then sort key.
    pub key_schema: Vec<KeyPart>,
    /// What it copies.
    pub projection: Projection,
}

/// What an index copies from the table.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Projection {
    /// `ALL`, `KEYS_ONLY` or `INCLUDE`.
    pub projection_type: String,
    /// With `INCLUDE`.
    #[serde(default)]
    pub non_key_attributes: Vec<String>,
}

/// One attribute of a key.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct KeyPart {
    /// The attribute.
    pub attribute_name: String,
    /// `HASH` or `RANGE`.
    pub key_type: String,
}

/// An S3 bucket.
pub(crate) struct Bucket {
    /// Its name here.
    pub name: String,
    /// Whether it keeps what is overwritten or deleted.
    pub is_versioned: bool,
}

/// An SQS queue.
pub(crate) struct Queue {
    /// Logical id.
    pub id: String,
    /// Its name here.
    pub name: String,
    /// How long a message is hidden once received.
    pub visibility: Duration,
    /// How long a message is kept.
    pub retention: Duration,
    /// How long a message waits before it can be received.
    pub delay: Duration,
    /// Where messages go that fail too often.
    pub redrive: Option<Redrive>,
}

/// Where messages go that fail too often.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Redrive {
    /// The dead-letter queue.
    #[serde(rename = "deadLetterTargetArn")]
    pub dead_letter_arn: String,
    /// How often a message is received before it goes there.
    #[serde(deserialize_with = "whole_number")]
    pub max_receive_count: u64,
}

impl Function {
    pub(super) fn read(
        scope: &Scope,
        id: &str,
        resource: &Yaml,
        globals: &Mapping,
    ) -> Result<Function, Error> {
        let path = format!("Resources.{id}");
        let empty = Mapping::new();
        let properties = resource
            .get("Properties")
            .and_then(Yaml::as_mapping)
            .unwrap_or(&empty);
        let handler = properties.get("Handler").and_then(Yaml::as_str);
        let handler = handler.ok_or_else(|| {
            Error::template(&format!("{path}.Properties.Handler"), "is not a name")
        })?;
        let figure = |name: &str, default: u64| match properties.get(name).or(globals.get(name)) {
            Some(value) => {
                let path = format!("{path}.Properties.{name}");
                whole_number(scope.resolve(value, &path)?)
                    .map_err(|error: serde_json::Error| Error::template(&path, error))
            }
            None => Ok(default),
        };
        let timeout = figure("Timeout", DEFAULT_TIMEOUT_SECONDS)?;
        let memory_mb = figure("MemorySize", DEFAULT_MEMORY_MB)?;
        let mut triggers = Vec::new();
        if let Some(Yaml::Mapping(events)) = properties.get("Events") {
            for (name, event) in events {
                let path = format!("{path}.Properties.Events");
                let path = format!("{path}.{}", key(name, &path)?);
                triggers.push(Trigger::read(scope, event, &path)?);
            }
        }
        let environment_path = format!("{path}.Properties.Environment");
        let environment: Environment = match properties.get("Environment") {
            Some(environment) => typed(scope, environment, &environment_path)?,
            None => Environment::default(),
        };
        Ok(Function {
            environment: environment.variables,
            id: id.to_owned(),
            handler: handler.to_owned(),
            timeout: seconds(timeout),
            memory_mb,
            triggers,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RouteProperties {
    #[serde(default, rename = "ApiId")]
    _api_id: Json,
    path: Option<String>,
    method: Option<String>,
    payload_format_version: Option<String>,
    #[serde(
        default = "default_route_timeout_ms",
        deserialize_with = "whole_number"
    )]
    timeout_in_millis: u64,
}

/// The longest an HTTP API waits, and what it takes when nothing is said.
fn default_route_timeout_ms() -> u64 {
    30_000
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct QueueTriggerProperties {
    queue: String,
    #[serde(default = "default_batch_size", deserialize_with = "whole_number")]
    batch_size: u64,
    #[serde(default)]
    function_response_types: Vec<String>,
    scaling_config: Option<ScalingConfig>,
}

fn default_batch_size() -> u64 {
    10
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Environment {
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ScalingConfig {
    #[serde(deserialize_with = "whole_number")]
    maximum_concurrency: u64,
}

/// What Lambda begins with when the template sets no limit.
const DEFAULT_CONCURRENCY: u64 = 5;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ScheduleProperties {
    schedule_expression: String,
    schedule_expression_timezone: Option<String>,
    #[serde(default = "enabled")]
    state: String,
    // Names and retries: a run that fails here is shown, and the next one comes when it is due.
    #[serde(default, rename = "Name")]
    _name: Json,
    #[serde(default, rename = "OmitName")]
    _omit_name: Json,
    #[serde(default, rename = "Description")]
    _description: Json,
    #[serde(default, rename = "FlexibleTimeWindow")]
    _flexible_time_window: Json,
    #[serde(default, rename = "RetryPolicy")]
    _retry_policy: Json,
    #[serde(default, rename = "DeadLetterConfig")]
    _dead_letter_config: Json,
}

fn enabled() -> String {
    "ENABLED".into()
}

impl Trigger {
    fn read(scope: &Scope, event: &Yaml, path: &str) -> Result<Trigger, Error> {
        let kind = event
            .get("Type")
            .and_then(Yaml::as_str)
            .ok_or_else(|| Error::template(path, "has no Type"))?;
        let properties = event.get("Properties").unwrap_or(&Yaml::Null);
        let path = &format!("{path}.Properties");
        match kind {
            "HttpApi" => Route::read(typed(scope, properties, path)?, path).map(Trigger::Route),
            "SQS" => QueueTrigger::read(typed(scope, properties, path)?, path).map(Trigger::Queue),
            "ScheduleV2" => {
                let properties: ScheduleProperties = typed(scope, properties, path)?;
                if properties
                    .schedule_expression_timezone
                    .is_some_and(|zone| zone != "UTC")
                {
                    return Err(Error::template(path, "schedules are in UTC here"));
                }
                let schedule = Schedule::parse(&properties.schedule_expression)
                    .map_err(|problem| Error::template(path, problem))?;
                Ok(Trigger::Schedule(
                    (properties.state == "ENABLED").then_some(schedule),
                ))
            }
            other => Err(Error::template(
                path,
                format!("the local runner does not know events of type {other}"),
            )),
        }
    }
}

impl Route {
    fn read(properties: RouteProperties, path: &str) -> Result<Route, Error> {
        let refuse = |problem: &str| Err(Error::template(path, problem));
        if properties
            .payload_format_version
            .is_some_and(|version| version != "2.0")
        {
            return refuse("only payload format 2.0 is known here");
        }
        let route_path = properties.path.filter(|path| path != "$default");
        if let Some(route_path) = &route_path {
            if !route_path.starts_with('/') {
                return refuse("Path does not begin with /");
            }
            if route_path.contains('{') {
                return refuse("path parameters are not known here");
            }
        }
        let method = match properties.method.as_deref() {
            None => None,
            Some(any)
                if any.eq_ignore_ascii_case("any") || any == "x-amazon-apigateway-any-method" =>
            {
                None
            }
            Some(method) => match Method::from_bytes(method.to_ascii_uppercase().as_bytes()) {
                Ok(method) => Some(method),
                Err(_) => return refuse("Method is none"),
            },
        };
        Ok(Route {
            method,
            path: route_path,
            timeout: Duration::from_millis(
                properties.timeout_in_millis.min(default_route_timeout_ms()),
            ),
        })
    }
}

impl QueueTrigger {
    fn read(properties: QueueTriggerProperties, path: &str) -> Result<QueueTrigger, Error> {
        let batch_size = u32::try_from(properties.batch_size)
            .ok()
            .filter(|size| (1..=10).contains(size))
            .ok_or_else(|| Error::template(path, "BatchSize is not 1 to 10"))?;
        let concurrency = properties
            .scaling_config
            .map_or(DEFAULT_CONCURRENCY, |scaling| scaling.maximum_concurrency);
        Ok(QueueTrigger {
            queue_arn: properties.queue,
            batch_size,
            reports_failures: properties
                .function_response_types
                .iter()
                .any(|kind| kind == "ReportBatchItemFailures"),
            concurrency: usize::try_from(concurrency)
                .map_err(|error| Error::template(path, error))?,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct TableProperties {
    attribute_definitions: Vec<AttributeDefinition>,
    key_schema: Vec<KeyPart>,
    #[serde(default)]
    global_secondary_indexes: Vec<Index>,
    time_to_live_specification: Option<TimeToLive>,
    #[serde(default, rename = "BillingMode")]
    _billing_mode: Json,
    #[serde(default, rename = "DeletionProtectionEnabled")]
    _deletion_protection_enabled: Json,
    #[serde(default, rename = "PointInTimeRecoverySpecification")]
    _point_in_time_recovery_specification: Json,
    #[serde(default, rename = "Tags")]
    _tags: Json,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct AttributeDefinition {
    attribute_name: String,
    attribute_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct TimeToLive {
    attribute_name: String,
    enabled: bool,
}

impl Table {
    pub(super) fn read(name: String, properties: TableProperties) -> Table {
        Table {
            name,
            attributes: properties
                .attribute_definitions
                .into_iter()
                .map(|attribute| (attribute.attribute_name, attribute.attribute_type))
                .collect(),
            key: properties.key_schema,
            indexes: properties.global_secondary_indexes,
            expiry_attribute: properties
                .time_to_live_specification
                .filter(|expiry| expiry.enabled)
                .map(|expiry| expiry.attribute_name),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct BucketProperties {
    versioning_configuration: Option<Versioning>,
    #[serde(default, rename = "PublicAccessBlockConfiguration")]
    _public_access_block_configuration: Json,
    #[serde(default, rename = "OwnershipControls")]
    _ownership_controls: Json,
    #[serde(default, rename = "BucketEncryption")]
    _bucket_encryption: Json,
    // It ends what was deleted or left unfinished long ago, which costs nothing here.
    #[serde(default, rename = "LifecycleConfiguration")]
    _lifecycle_configuration: Json,
    #[serde(default, rename = "Tags")]
    _tags: Json,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Versioning {
    status: String,
}

impl Bucket {
    pub(super) fn read(name: String, properties: BucketProperties) -> Bucket {
        Bucket {
            name,
            is_versioned: properties
                .versioning_configuration
                .is_some_and(|versioning| versioning.status == "Enabled"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct QueueProperties {
    #[serde(
        default = "default_visibility_seconds",
        deserialize_with = "whole_number"
    )]
    visibility_timeout: u64,
    #[serde(
        default = "default_retention_seconds",
        deserialize_with = "whole_number"
    )]
    message_retention_period: u64,
    #[serde(default, deserialize_with = "whole_number")]
    delay_seconds: u64,
    redrive_policy: Option<Redrive>,
    #[serde(default, rename = "SqsManagedSseEnabled")]
    _sqs_managed_sse_enabled: Json,
    #[serde(default, rename = "KmsMasterKeyId")]
    _kms_master_key_id: Json,
    #[serde(default, rename = "RedriveAllowPolicy")]
    _redrive_allow_policy: Json,
    #[serde(default, rename = "Tags")]
    _tags: Json,
}

fn default_visibility_seconds() -> u64 {
    30
}

fn default_retention_seconds() -> u64 {
    4 * 24 * 3600
}

impl Queue {
    pub(super) fn read(id: String, name: String, properties: QueueProperties) -> Queue {
        Queue {
            id,
            name,
            visibility: seconds(properties.visibility_timeout),
            retention: seconds(properties.message_retention_period),
            delay: seconds(properties.delay_seconds),
            redrive: properties.redrive_policy,
        }
    }

    /// Its ARN here.
    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{}", self.name)
    }
}

/// Resolves a resource's properties and reads them as `T`; a property that `T` does not know is an error.
pub(super) fn typed<T: DeserializeOwned>(
    scope: &Scope,
    value: &Yaml,
    path: &str,
) -> Result<T, Error> {
    let value = match scope.resolve(value, path)? {
        Json::Null => Json::Object(serde_json::Map::new()),
        value => value,
    };
    serde_json::from_value(value).map_err(|error| Error::template(path, error))
}

/// A number, or the text of one: parameters are texts.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = Json::deserialize(deserializer)?;
    value
        .as_u64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
        .ok_or_else(|| D::Error::custom(format!("{value} is not a whole number")))
}
