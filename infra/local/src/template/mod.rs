//! Reads `infra/template.yaml`: what there is to create, and what starts what.
//!
//! The runner rejects by name everything that it does not carry out, so that what works here is what the template says. It ignores only
//! resource types without an equivalent on one machine, each by name.

mod intrinsics;
mod resources;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_yaml_ng::{Mapping, Value as Yaml};

pub(crate) use self::intrinsics::{ACCOUNT_ID, REGION, Scope};
pub(crate) use self::resources::{
    Bucket, Function, Index, KeyPart, Queue, QueueTrigger, Table, Trigger,
};
use crate::error::Error;

/// The template this workspace deploys.
pub(crate) const TEXT: &str = include_str!("../../../template.yaml");

/// What SAM takes when nothing is said, in seconds.
const DEFAULT_TIMEOUT_SECONDS: u64 = 3;
/// The same, in MB.
const DEFAULT_MEMORY_MB: u64 = 128;

/// A template, with the intrinsic functions that need no running service resolved.
pub(crate) struct Template {
    /// Functions in the template's order.
    pub functions: Vec<Function>,
    /// Tables in the template's order.
    pub tables: Vec<Table>,
    /// Queues in the template's order.
    pub queues: Vec<Queue>,
    /// S3 buckets in the template's order.
    pub buckets: Vec<Bucket>,
    /// Logical ids of KMS keys.
    pub keys: Vec<String>,
    /// What functions' own environments have, all together: those that run in one process have one environment.
    pub own_environments: BTreeMap<String, String>,
    environment: Mapping,
    scope: Scope,
}

impl Template {
    /// Reads a template, with values for parameters that replace the template's defaults.
    ///
    /// # Errors
    /// Names the path of what cannot be understood.
    pub(crate) fn read(
        text: &str,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Template, Error> {
        let root: Mapping =
            serde_yaml_ng::from_str(text).map_err(|error| Error::template("the file", error))?;
        let conditions = section(&root, "Conditions")?
            .map(|conditions| {
                conditions
                    .iter()
                    .map(|(name, value)| Ok((key(name, "Conditions")?, value.clone())))
                    .collect::<Result<_, Error>>()
            })
            .transpose()?
            .unwrap_or_default();
        let mut scope = Scope::new(conditions);
        define_parameters(&root, parameters, &mut scope)?;

        let empty = Mapping::new();
        let globals = section(&root, "Globals")?.unwrap_or(&empty);
        let globals = section(globals, "Function")?.unwrap_or(&empty);
        let environment = section(globals, "Environment")?.unwrap_or(&empty);
        let environment = section(environment, "Variables")?.unwrap_or(&empty).clone();

        let mut template = Template {
            functions: Vec::new(),
            tables: Vec::new(),
            queues: Vec::new(),
            buckets: Vec::new(),
            keys: Vec::new(),
            own_environments: BTreeMap::new(),
            environment,
            scope,
        };
        let resources = section(&root, "Resources")?
            .ok_or_else(|| Error::template("Resources", "is missing"))?;
        template.name_resources(resources)?;
        template.read_resources(resources, globals)?;
        template.join_environments()?;
        Ok(template)
    }

    /// Gives every resource its name here, before anything refers to it.
    fn name_resources(&mut self, resources: &Mapping) -> Result<(), Error> {
        for (id, resource) in resources {
            let id = key(id, "Resources")?;
            let arn = |service: &str, rest: String| {
                format!("arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{rest}")
            };
            match resource_type(resource, &id)? {
                "AWS::DynamoDB::Table" => {
                    self.scope.define(&id, physical_name(&id));
                    let arn = arn("dynamodb", format!("table/{}", physical_name(&id)));
                    self.scope.define_attribute(&id, "Arn", arn);
                }
                "AWS::SQS::Queue" => {
                    let arn = arn("sqs", physical_name(&id));
                    self.scope.define_attribute(&id, "Arn", arn);
                    self.scope
                        .define_attribute(&id, "QueueName", physical_name(&id));
                }
                "AWS::S3::Bucket" => {
                    self.scope.define(&id, bucket_name(&id));
                    let arn = format!("arn:aws:s3:::{}", bucket_name(&id));
                    self.scope.define_attribute(&id, "Arn", arn);
                }
                "AWS::KMS::Key" => {
                    let arn = arn("kms", format!("key/{id}"));
                    self.scope.define(&id, id.as_str());
                    self.scope.define_attribute(&id, "Arn", arn);
                }
                "AWS::Events::EventBus" => {
                    self.scope.define(&id, physical_name(&id));
                    let arn = arn("events", format!("event-bus/{}", physical_name(&id)));
                    self.scope.define_attribute(&id, "Arn", arn);
                }
                "AWS::Serverless::HttpApi" => self.scope.define(&id, id.as_str()),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_resources(&mut self, resources: &Mapping, globals: &Mapping) -> Result<(), Error> {
        let empty = Mapping::new();
        for (id, resource) in resources {
            let id = key(id, "Resources")?;
            let path = format!("Resources.{id}");
            let kind = resource_type(resource, &id)?;
            if !self.scope.is_wanted(resource, &path)? {
                continue;
            }
            let properties = resource
                .get("Properties")
                .and_then(Yaml::as_mapping)
                .unwrap_or(&empty);
            let properties_path = format!("{path}.Properties");
            match kind {
                "AWS::Serverless::Function" => {
                    let function = Function::read(&self.scope, &id, resource, globals)?;
                    self.functions.push(function);
                }
                "AWS::DynamoDB::Table" => {
                    let table = Table::read(
                        physical_name(&id),
                        self.typed(properties, &properties_path)?,
                    );
                    self.tables.push(table);
                }
                "AWS::SQS::Queue" => {
                    let properties = self.typed(properties, &properties_path)?;
                    self.queues
                        .push(Queue::read(id.clone(), physical_name(&id), properties));
                }
                "AWS::S3::Bucket" => {
                    let properties = self.typed(properties, &properties_path)?;
                    self.buckets
                        .push(Bucket::read(bucket_name(&id), properties));
                }
                "AWS::KMS::Key" => self.keys.push(id),
                // One EventBridge stands for every bus.
                "AWS::Events::EventBus" | "AWS::Serverless::HttpApi" => {}
                kind if KNOWN_AND_NOT_RUN.contains(&kind) => {}
                kind => {
                    return Err(Error::template(
                        &path,
                        format!("the local runner cannot make an {kind}"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Refuses a variable that is not the same for all functions that have it.
    fn join_environments(&mut self) -> Result<(), Error> {
        for function in &self.functions {
            for (name, value) in &function.environment {
                let former = self.own_environments.insert(name.clone(), value.clone());
                let differs = former.is_some_and(|former| former != *value);
                if differs || self.environment.contains_key(name.as_str()) {
                    let id = &function.id;
                    return Err(Error::template(
                        &format!("Resources.{id}.Properties.Environment.Variables.{name}"),
                        "stands elsewhere too: functions have one environment here",
                    ));
                }
            }
        }
        Ok(())
    }

    fn typed<T: DeserializeOwned>(&self, properties: &Mapping, path: &str) -> Result<T, Error> {
        resources::typed(&self.scope, &Yaml::Mapping(properties.clone()), path)
    }

    /// Sets what a resource returns once it runs.
    pub(crate) fn define(&mut self, id: &str, value: impl Into<String>) {
        self.scope.define(id, value);
    }

    /// The environment that all functions have.
    ///
    /// # Errors
    /// Names the variable that refers to something unknown.
    pub(crate) fn environment(&self) -> Result<BTreeMap<String, String>, Error> {
        let mut variables = BTreeMap::new();
        for (name, value) in &self.environment {
            let name = key(name, "Globals.Function.Environment.Variables")?;
            let path = format!("Globals.Function.Environment.Variables.{name}");
            let value = match self.scope.resolve(value, &path)? {
                serde_json::Value::String(text) => text,
                serde_json::Value::Null => continue,
                other => other.to_string(),
            };
            variables.insert(name, value);
        }
        Ok(variables)
    }
}

/// Resource types of which there is nothing to be seen on one machine: who may do what, who watches, how the world finds it.
/// A type that is not here is refused, so that nothing is left out unnoticed.
const KNOWN_AND_NOT_RUN: [&str; 15] = [
    // The gateway answers on loopback, under no name.
    "AWS::ApiGatewayV2::ApiMapping",
    "AWS::ApiGatewayV2::DomainName",
    "AWS::Route53::RecordSet",
    // Figures go to CloudWatch, of which there is none.
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
    // Logs go to the terminal.
    "AWS::Logs::LogGroup",
    // Nobody is refused: one person has the machine. What roles allow is checked by the tests.
    "AWS::IAM::ManagedPolicy",
    "AWS::S3::BucketPolicy",
    // Functions have no versions: they are told what the parameters say at every start.
    "AWS::AppConfig::Application",
    "AWS::AppConfig::ConfigurationProfile",
    "AWS::AppConfig::HostedConfigurationVersion",
    // The key is known by its id.
    "AWS::KMS::Alias",
];

/// `wharfage-AccountsTable`: DynamoDB and SQS want names, the template leaves them to CloudFormation.
fn physical_name(id: &str) -> String {
    format!("wharfage-{id}")
}

/// `wharfage-usagebucket`: S3 wants lower case.
fn bucket_name(id: &str) -> String {
    physical_name(id).to_lowercase()
}

fn define_parameters(
    root: &Mapping,
    given: &BTreeMap<String, String>,
    scope: &mut Scope,
) -> Result<(), Error> {
    let empty = Mapping::new();
    let declared = section(root, "Parameters")?.unwrap_or(&empty);
    for (name, parameter) in declared {
        let name = key(name, "Parameters")?;
        let value = match (given.get(&name), parameter.get("Default")) {
            (Some(value), _) => value.clone(),
            (None, Some(Yaml::String(value))) => value.clone(),
            (None, Some(Yaml::Number(value))) => value.to_string(),
            (None, Some(Yaml::Bool(value))) => value.to_string(),
            (None, _) => {
                return Err(Error::template(
                    &format!("Parameters.{name}"),
                    "has no default, and no value was given",
                ));
            }
        };
        scope.define(&name, value);
    }
    match given
        .keys()
        .find(|name| declared.get(name.as_str()).is_none())
    {
        Some(name) => Err(Error::template(
            "Parameters",
            format!("there is no parameter {name}"),
        )),
        None => Ok(()),
    }
}

fn section<'a>(mapping: &'a Mapping, name: &str) -> Result<Option<&'a Mapping>, Error> {
    match mapping.get(name) {
        None | Some(Yaml::Null) => Ok(None),
        Some(Yaml::Mapping(section)) => Ok(Some(section)),
        Some(_) => Err(Error::template(name, "is not a mapping")),
    }
}

fn resource_type<'a>(resource: &'a Yaml, id: &str) -> Result<&'a str, Error> {
    resource
        .get("Type")
        .and_then(Yaml::as_str)
        .ok_or_else(|| Error::template(&format!("Resources.{id}"), "has no Type"))
}

fn key(value: &Yaml, path: &str) -> Result<String, Error> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::template(path, "a key is not a string"))
}

fn seconds(value: u64) -> Duration {
    Duration::from_secs(value)
}

#[cfg(test)]
mod tests {
    use super::resources::Route;
    use super::*;

    fn parameters() -> BTreeMap<String, String> {
        BTreeMap::from([("Locations".into(), "[]".into())])
    }

    #[test]
    fn the_template_reads() {
        let mut template = Template::read(TEXT, &parameters()).expect("template");
        assert_eq!(template.tables.len(), 10);
        assert_eq!(template.queues.len(), 10);
        let usage = template.buckets.first().expect("a bucket");
        assert_eq!(
            (usage.name.as_str(), usage.is_versioned),
            ("wharfage-usagebucket", true)
        );
        assert_eq!(template.keys, ["SecretsKey"]);
        let accounts = template
            .tables
            .iter()
            .find(|table| table.name == "wharfage-AccountsTable")
            .expect("accounts");
        assert_eq!(accounts.indexes.len(), 9);

        let routes: Vec<&Route> = template
            .functions
            .iter()
            .flat_map(|function| &function.triggers)
            .filter_map(|trigger| match trigger {
                Trigger::Route(route) => Some(route),
                _ => None,
            })
            .collect();
        assert!(routes.iter().any(|route| route.path.is_none()));
        assert!(routes.iter().all(|route| route.method.is_none()));

        let cleanup = template
            .queues
            .iter()
            .find(|queue| queue.id == "CleanupQueue")
            .expect("cleanup");
        let redrive = cleanup.redrive.as_ref().expect("redrive");
        assert_eq!(redrive.max_receive_count, 5);
        assert_eq!(
            redrive.dead_letter_arn,
            "arn:aws:sqs:us-east-1:000000000000:wharfage-CleanupDeadLetterQueue"
        );

        let unknown = template.environment().expect_err("no queue runs yet");
        assert!(
            unknown.to_string().contains("StorageTasksQueue"),
            "{unknown}"
        );
        template.define("StorageTasksQueue", "http://sqs/storage_tasks");
        template.define("SlowTasksQueue", "http://sqs/slow_tasks");
        template.define("CleanupQueue", "http://sqs/cleanup");
        template.define("BillingQueue", "http://sqs/billing");
        template.define("UsageShardsQueue", "http://sqs/usage_shards");
        let environment = template.environment().expect("environment");
        assert_eq!(environment["ACCOUNTS_TABLE"], "wharfage-AccountsTable");
        assert_eq!(environment["CLEANUP_QUEUE_URL"], "http://sqs/cleanup");
        assert_eq!(environment["INVOICE_DUE_DAYS"], "14");
        assert_eq!(environment["LOCATIONS"], "[]");

        // What single functions are told, they alone are told.
        let having = |variable: &str| -> Vec<&str> {
            let having = template.functions.iter().filter(|function| {
                function.environment.get(variable).map(String::as_str) == Some("no")
            });
            having.map(|function| function.handler.as_str()).collect()
        };
        assert_eq!(having("ALLOW_LOGIN_BY_GET"), ["auth_php"]);
        assert_eq!(
            having("GENERATE_BUCKET_NAMES"),
            ["create_account", "create_order", "s3_php"]
        );
        assert_eq!(template.own_environments.len(), 2);
        for variable in template.own_environments.keys() {
            assert!(!environment.contains_key(variable), "{variable}");
        }
    }

    /// Every queue that starts a function hides its messages for at least six times the function's time-out.
    #[test]
    fn visibility_outlasts_the_functions() {
        let template = Template::read(TEXT, &parameters()).expect("template");
        for function in &template.functions {
            for trigger in &function.triggers {
                let Trigger::Queue(trigger) = trigger else {
                    continue;
                };
                let queue = template
                    .queues
                    .iter()
                    .find(|queue| queue.arn() == trigger.queue_arn)
                    .expect("queue");
                assert!(queue.visibility >= function.timeout * 6, "{}", function.id);
                assert!(queue.redrive.is_some(), "{}", queue.id);
                assert!(trigger.reports_failures, "{}", function.id);
            }
        }
    }

    fn refused(change: impl FnOnce(&str) -> String) -> String {
        match Template::read(&change(TEXT), &parameters()) {
            Ok(_) => "read".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let misspelt = refused(|text| text.replacen("BatchSize", "BatchSise", 1));
        assert!(
            misspelt.contains("Resources.StorageTasksFunction.Properties.Events.Queue")
                && misspelt.contains("BatchSise"),
            "{misspelt}"
        );
        let with_environment = |text: &str, environment: &str| {
            let handler = "      Handler: create_bucket\n";
            let with = format!("{handler}      Environment: {{ {environment} }}\n");
            text.replacen(handler, &with, 1)
        };
        for (environment, problem) in [
            ("Variables: { LOCATIONS: x }", "stands elsewhere too"),
            (
                "Variables: { ALLOW_LOGIN_BY_GET: x }",
                "stands elsewhere too",
            ),
            ("Variables: { A: 1 }", "expected a string"),
            ("Variabels: { A: b }", "Variabels"),
        ] {
            let told = refused(|text| with_environment(text, environment));
            // Of two that differ, the one that comes later is named.
            assert!(
                told.contains("Function.Properties.Environment") && told.contains(problem),
                "{environment}: {told}"
            );
        }
        let not_run_by_family = refused(|text| {
            text.replacen(
                "AWS::CloudWatch::Alarm",
                "AWS::CloudWatch::AlarmMuteRule",
                1,
            )
        });
        assert!(
            not_run_by_family.contains("cannot make an AWS::CloudWatch::AlarmMuteRule"),
            "{not_run_by_family}"
        );
        let other_type =
            refused(|text| text.replacen("AWS::Logs::LogGroup", "AWS::EC2::Instance", 1));
        assert!(
            other_type.contains("cannot make an AWS::EC2::Instance"),
            "{other_type}"
        );
        let misspelt_target = refused(|text| {
            text.replacen(
                "!GetAtt CleanupQueue.Arn\n            BatchSize",
                "!GetAtt CleanUpQueue.Arn\n            BatchSize",
                1,
            )
        });
        assert!(
            misspelt_target.contains("CleanUpQueue.Arn"),
            "{misspelt_target}"
        );
    }

    #[test]
    fn a_resource_whose_condition_does_not_hold_is_not_there() {
        let has_legacy_endpoint = |enabled: &str| {
            let mut given = parameters();
            given.insert("EnableLegacyEndpoint".into(), enabled.into());
            let template = Template::read(TEXT, &given).expect("template");
            template
                .functions
                .iter()
                .any(|function| function.handler == "s3_php")
        };
        assert!(has_legacy_endpoint("true"));
        assert!(!has_legacy_endpoint("false"));
        let unknown = refused(|text| {
            text.replacen(
                "Condition: HasLegacyEndpoint",
                "Condition: HasLegacyEndpont",
                1,
            )
        });
        assert!(unknown.contains("HasLegacyEndpont"), "{unknown}");
    }

    #[test]
    fn parameters_are_known_ones() {
        let mut given = parameters();
        given.insert("Unknown".into(), "1".into());
        let error = Template::read(TEXT, &given).err().expect("refused");
        assert!(error.to_string().contains("Unknown"), "{error}");
        let error = Template::read(TEXT, &BTreeMap::new())
            .err()
            .expect("refused");
        assert!(
            error.to_string().contains("Parameters.Locations"),
            "{error}"
        );
    }
}
