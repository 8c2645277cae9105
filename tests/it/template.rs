//! The list of functions, their folders, the template and these tests name the same things; and the domain looks
//! nowhere but inward.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use functions::{ACTIONS, FUNCTIONS};
use serde_yaml_ng::Value;
use wharfage::runtime::{DELIVERIES, Entry};

/// The workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace")
        .to_owned()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The folders below a folder that hold a function.
fn function_folders(path: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(path)).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("mod.rs").exists())
        .map(|path| {
            path.file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

fn set<T: Into<String>>(names: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    names.into_iter().map(Into::into).collect()
}

/// What starts a function, as the list says.
fn kind(entry: &Entry) -> &'static str {
    match entry {
        Entry::Http(_) => "HttpApi",
        Entry::Queue(_) => "SQS",
        Entry::Schedule(_) => "ScheduleV2",
    }
}

const TEMPLATE: &str = "infra/template.yaml";

pub(crate) fn template() -> Value {
    serde_yaml_ng::from_str(&text(TEMPLATE)).expect("the template is YAML")
}

/// The resources of a type, by name.
fn resources<'a>(template: &'a Value, kind: &str) -> BTreeMap<&'a str, &'a Value> {
    let resources = template["Resources"].as_mapping().expect("resources");
    resources
        .iter()
        .filter(|(_, resource)| resource["Type"].as_str() == Some(kind))
        .map(|(name, resource)| (name.as_str().expect("a name"), resource))
        .collect()
}

/// The template's functions by what their handler says they are.
pub(crate) fn functions_of(template: &Value) -> BTreeMap<&str, &Value> {
    let functions = resources(template, "AWS::Serverless::Function");
    let count = functions.len();
    let by_handler: BTreeMap<&str, &Value> = functions
        .into_values()
        .map(|function| {
            let handler = function["Properties"]["Handler"].as_str();
            (handler.expect("a handler"), function)
        })
        .collect();
    assert_eq!(by_handler.len(), count, "two functions are the same");
    by_handler
}

/// What starts a function. None where it is started by hand.
fn events(function: &Value) -> Vec<&Value> {
    function["Properties"]["Events"]
        .as_mapping()
        .map(|events| events.values().collect())
        .unwrap_or_default()
}

fn listed() -> BTreeSet<String> {
    let names = set(FUNCTIONS.iter().map(|function| function.name));
    assert_eq!(names.len(), FUNCTIONS.len(), "two functions have one name");
    names
}

/// SAM builds once what is built alike: from one folder, by one method, with the same properties.
#[test]
fn every_function_is_the_one_binary_there_is() {
    let manifest: toml::Table = text("functions/Cargo.toml").parse().expect("a manifest");
    let [binary] = manifest["bin"].as_array().expect("binaries").as_slice() else {
        panic!("{:?}", manifest["bin"]);
    };
    let binary = binary["name"].as_str().expect("a name");
    let template = template();
    let globals = &template["Globals"]["Function"];
    assert_eq!(globals["CodeUri"].as_str(), Some("../functions"));
    let built: Value = serde_yaml_ng::from_str(&format!(
        "{{ BuildMethod: rust-cargolambda, BuildProperties: {{ Binary: {binary} }} }}"
    ))
    .expect("YAML");
    for (name, function) in functions_of(&template) {
        assert_eq!(function["Metadata"], built, "{name}");
        for property in ["CodeUri", "Runtime", "Architectures"] {
            assert!(function["Properties"][property].is_null(), "{name}");
        }
    }
}

#[test]
fn every_function_has_a_folder_and_every_folder_a_function() {
    let mut folders = function_folders("functions");
    let jobs = function_folders("functions/jobs");
    let workers = function_folders("functions/workers");
    let of_kind = |wanted: &str| {
        set(FUNCTIONS
            .iter()
            .filter(|function| kind(&function.entry) == wanted)
            .map(|function| function.name))
    };
    assert_eq!(folders, of_kind("HttpApi"));
    assert_eq!(jobs, of_kind("ScheduleV2"));
    assert_eq!(workers, of_kind("SQS"));
    folders.extend(jobs);
    folders.extend(workers);
    assert_eq!(folders, listed());
}

#[test]
fn every_action_has_a_function_of_its_own_and_a_route() {
    let template = template();
    let functions = functions_of(&template);
    let mut expected = BTreeMap::new();
    for action in ACTIONS {
        assert_eq!(action.module, "s3", "{}", action.name);
        expected.insert(action.name, vec![format!("/s3/{}", action.name)]);
    }
    assert_eq!(expected.len(), ACTIONS.len(), "two actions have one name");
    expected.insert("auth_php", vec!["/auth.php".into()]);
    expected.insert("docs", vec!["/docs".into(), "/openapi.json".into()]);
    expected.insert("eq_callback_php", vec!["/eq_callback.php".into()]);
    // The one without a path answers what no other route does.
    expected.insert("s3_php", vec![String::new(), "/s3.php".into()]);
    let mut routes = BTreeMap::new();
    for (name, function) in &functions {
        for event in events(function)
            .into_iter()
            .filter(|event| event["Type"].as_str() == Some("HttpApi"))
        {
            let path = event["Properties"]["Path"].as_str().unwrap_or_default();
            routes
                .entry(*name)
                .or_insert_with(Vec::new)
                .push(path.to_owned());
        }
    }
    routes.values_mut().for_each(|paths| paths.sort());
    assert_eq!(routes, expected);
}

/// Functions that nothing starts but an operator.
const STARTED_BY_HAND: [&str; 1] = ["create_first_admin"];

#[test]
fn what_starts_a_function_is_what_its_handler_takes() {
    let template = template();
    let functions = functions_of(&template);
    for function in FUNCTIONS {
        let events = events(functions[function.name]);
        assert_eq!(
            events.is_empty(),
            STARTED_BY_HAND.contains(&function.name),
            "what starts {}?",
            function.name
        );
        for event in events {
            assert_eq!(
                event["Type"].as_str(),
                Some(kind(&function.entry)),
                "{}",
                function.name
            );
        }
    }
}

#[test]
fn every_queue_has_a_worker_with_time_for_a_message_and_a_place_for_what_fails() {
    let template = template();
    let queues = resources(&template, "AWS::SQS::Queue");
    let functions = functions_of(&template);
    let mut worked_on = BTreeMap::new();
    for function in functions.values() {
        for event in events(function)
            .into_iter()
            .filter(|event| event["Type"].as_str() == Some("SQS"))
        {
            let queue = reference(&event["Properties"]["Queue"]);
            let reports = &event["Properties"]["FunctionResponseTypes"][0];
            assert_eq!(reports.as_str(), Some("ReportBatchItemFailures"), "{queue}");
            let timeout = function["Properties"]["Timeout"]
                .as_u64()
                .expect("a time-out");
            assert!(
                worked_on.insert(queue, timeout).is_none(),
                "two functions work on one queue"
            );
        }
    }
    let mut set_aside = BTreeSet::new();
    for (queue, timeout) in &worked_on {
        let properties = &queues[queue.as_str()]["Properties"];
        let hidden = properties["VisibilityTimeout"]
            .as_u64()
            .expect("a visibility time-out");
        // As AWS advises: six times the function's time-out.
        assert!(
            hidden >= 6 * timeout,
            "{queue}: a message comes again while it is worked on"
        );
        let redrive = &properties["RedrivePolicy"];
        // By this a worker knows that a message does not come again.
        assert_eq!(
            redrive["maxReceiveCount"].as_u64(),
            Some(DELIVERIES.into()),
            "{queue}"
        );
        set_aside.insert(reference(&redrive["deadLetterTargetArn"]));
    }
    // Runs that could not be started.
    for function in functions.values() {
        for event in events(function)
            .into_iter()
            .filter(|event| event["Type"].as_str() == Some("ScheduleV2"))
        {
            let properties = &event["Properties"];
            // SAM would give it a name that is the same in every stack.
            assert_eq!(properties["OmitName"].as_bool(), Some(true));
            let retries = &properties["RetryPolicy"];
            assert!(retries["MaximumRetryAttempts"].as_u64() > Some(0));
            assert!(retries["MaximumEventAgeInSeconds"].as_u64() >= Some(60));
            set_aside.insert(reference(&properties["DeadLetterConfig"]["Arn"]));
            // A run is not to come hours late, whether Scheduler waits with it or Lambda does.
            let in_lambda = &function["Properties"]["EventInvokeConfig"];
            assert_eq!(
                in_lambda["MaximumEventAgeInSeconds"],
                retries["MaximumEventAgeInSeconds"]
            );
            assert_eq!(in_lambda["MaximumRetryAttempts"].as_u64(), Some(0));
        }
    }
    // Whoever looks at a queue looks at the alarms: old messages, and any that were set aside.
    let alarms = resources(&template, "AWS::CloudWatch::Alarm");
    let watched = |queue: &str, metric: &str| {
        alarms.values().any(|alarm| {
            let text = serde_yaml_ng::to_string(alarm).expect("YAML");
            text.contains(metric) && text.contains(&format!("!GetAtt {queue}.QueueName"))
        })
    };
    for queue in worked_on.keys() {
        assert!(watched(queue, "ApproximateAgeOfOldestMessage"), "{queue}");
    }
    for queue in &set_aside {
        assert!(
            watched(queue, "ApproximateNumberOfMessagesVisible"),
            "{queue}"
        );
    }
    let all: BTreeSet<String> = worked_on.into_keys().chain(set_aside).collect();
    assert_eq!(all, set(queues.into_keys()), "a queue that nobody works on");
}

#[test]
fn what_the_functions_log_is_for_their_log_level_alone_to_say() {
    let template = template();
    let lowest = template["Parameters"]["LogLevel"]["AllowedValues"]
        .as_sequence()
        .and_then(|levels| levels.last()?.as_str())
        .expect("levels");
    let logging = &template["Globals"]["Function"]["LoggingConfig"];
    let kept = logging["ApplicationLogLevel"].as_str().expect("a level");
    assert_eq!(kept, lowest.to_uppercase());
}

#[test]
fn every_table_can_be_restored_and_is_not_deleted_and_forgets_what_expires() {
    let template = template();
    let mut forgetting = BTreeSet::new();
    for (name, table) in resources(&template, "AWS::DynamoDB::Table") {
        let properties = &table["Properties"];
        let recovery = &properties["PointInTimeRecoverySpecification"];
        assert_eq!(
            recovery["PointInTimeRecoveryEnabled"].as_bool(),
            Some(true),
            "{name}"
        );
        assert_eq!(
            reference(&properties["DeletionProtectionEnabled"]),
            "DeletionProtection"
        );
        assert_eq!(table["DeletionPolicy"].as_str(), Some("Retain"), "{name}");
        assert_eq!(properties["BillingMode"].as_str(), Some("PAY_PER_REQUEST"));
        let expiry = &properties["TimeToLiveSpecification"];
        if expiry["Enabled"].as_bool() == Some(true) {
            assert_eq!(expiry["AttributeName"].as_str(), Some("expires_at_epoch"));
            forgetting.insert(name.to_owned());
        }
    }
    // Sessions, idempotency keys, callback keys, events that were sent, own calls that segments have. Everything else is kept.
    let expected = [
        "CredentialsTable",
        "OrdersTable",
        "TasksTable",
        "EventsTable",
        "UsageTable",
    ];
    assert_eq!(forgetting, set(expected));
}

#[test]
fn every_alarm_is_described_and_watches_something_that_is_told() {
    let template = template();
    let operating = text("docs/operating.md");
    let alarms = resources(&template, "AWS::CloudWatch::Alarm");
    assert!(alarms.len() > 10);
    for (name, alarm) in alarms {
        assert!(
            operating.contains(&format!("`{name}`")),
            "docs/operating.md does not say what {name} means"
        );
        let properties = &alarm["Properties"];
        assert_eq!(reference(&properties["AlarmActions"][0]), "AlarmTopic");
        if properties["Namespace"].as_str() == Some(wharfage::telemetry::NAMESPACE) {
            let metric = properties["MetricName"].as_str().expect("a metric");
            assert!(
                metric.parse::<wharfage::telemetry::Figure>().is_ok(),
                "nobody tells {metric}"
            );
            let stack = &properties["Dimensions"][0];
            assert_eq!(stack["Name"].as_str(), Some("Stack"), "{name}");
        }
    }
}

#[test]
fn every_parameter_has_its_place_in_the_form() {
    let template = template();
    let groups = &template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"];
    let shown: Vec<String> = groups
        .as_sequence()
        .expect("groups")
        .iter()
        .flat_map(|group| group["Parameters"].as_sequence().expect("parameters"))
        .map(|name| name.as_str().expect("a name").to_owned())
        .collect();
    let parameters = template["Parameters"].as_mapping().expect("parameters");
    let known = set(parameters.keys().map(|name| name.as_str().expect("a name")));
    assert_eq!(set(shown.iter().map(String::as_str)), known);
    assert_eq!(shown.len(), known.len(), "a parameter stands twice");
}

#[test]
fn no_access_log_has_a_query_string() {
    let template = template();
    let format = &template["Resources"]["Api"]["Properties"]["AccessLogSettings"]["Format"];
    let format = format.as_str().expect("a format");
    let fields: serde_json::Value = serde_json::from_str(format).expect("JSON");
    for value in fields.as_object().expect("fields").values() {
        let variable = value.as_str().expect("a variable");
        let holds_no_parameter = [
            "requestId",
            "requestTimeEpoch",
            "identity.sourceIp",
            "httpMethod",
            "path",
            "routeKey",
            "status",
            "responseLength",
            "responseLatency",
            "integrationLatency",
            "integrationErrorMessage",
        ]
        .iter()
        .any(|known| variable.strip_prefix("$context.") == Some(*known));
        assert!(holds_no_parameter, "{variable}");
    }
}

#[test]
fn the_environment_of_ten_locations_fits_into_what_lambda_takes() {
    const MOST_BYTES: usize = 4 * 1024;
    let template = template();
    let locations: Vec<serde_json::Value> = (0..10)
        .map(|number| {
            serde_json::json!({
                "code": format!("FRA{number}"),
                "name": format!("Frankfurt {number}"),
                "provider": "rgw",
                "s3_endpoint": format!("https://s3.fra{number}.example.com"),
                "s3_region": format!("fra{number}"),
                "admin_endpoint": format!("https://admin.fra{number}.example.com"),
                "admin_secret_id": format!("wharfage/clusters/fra{number}"),
            })
        })
        .collect();
    let locations = serde_json::Value::from(locations).to_string();
    let account = "eu-central-1:123456789012";
    let named = |id: &str| format!("wharfage-prod-{id}-1A2B3C4D5E6F7");
    let value = |value: &Value| {
        let id = reference(value);
        if id == "Locations" {
            return locations.clone();
        }
        let parameter = &template["Parameters"][id.as_str()];
        if !parameter.is_null() {
            return match &parameter["Default"] {
                Value::Number(number) => number.to_string(),
                text => text.as_str().expect("a default").to_owned(),
            };
        }
        match template["Resources"][id.as_str()]["Type"].as_str() {
            // As CloudFormation makes them up.
            Some("AWS::SQS::Queue") => format!(
                "https://sqs.eu-central-1.amazonaws.com/123456789012/{}",
                named(&id)
            ),
            Some("AWS::KMS::Key") => {
                format!("arn:aws:kms:{account}:key/5be6ba4f-6d0c-4b27-9f0c-1f0d3c0b6a7e")
            }
            _ => named(&id),
        }
    };
    let bytes_of = |of: &Value| -> usize {
        let variables = of["Environment"]["Variables"].as_mapping();
        let each = variables.into_iter().flatten();
        each.map(|(name, reference)| name.as_str().expect("a name").len() + value(reference).len())
            .sum()
    };
    let common_bytes = bytes_of(&template["Globals"]["Function"]);
    assert!(common_bytes > 2 * 1024, "{common_bytes}");
    for (name, function) in functions_of(&template) {
        let bytes = common_bytes + bytes_of(&function["Properties"]);
        assert!(bytes <= MOST_BYTES, "{name}: {bytes}");
    }
}

/// A version of a function keeps the environment it was published with, and SAM does not see that a parameter has another value.
#[test]
fn a_setting_that_changes_publishes_the_functions_anew() {
    let template = template();
    let content = |id: &str| match &template["Resources"][id]["Properties"]["Content"] {
        Value::Tagged(tagged) => tagged.value.clone(),
        other => panic!("{id}: {other:?}"),
    };
    let settings = content("FunctionSettings");
    let kept: BTreeSet<&str> = settings.as_str().expect("a text").lines().collect();
    let globals = &template["Globals"]["Function"];
    let variables = globals["Environment"]["Variables"]
        .as_mapping()
        .expect("variables");
    let mut expected = BTreeSet::from([format!("Tracing=${{{}}}", reference(&globals["Tracing"]))]);
    for (name, value) in variables {
        let Value::Tagged(value) = value else {
            // A text of the template's own, which SAM sees.
            continue;
        };
        let (name, value) = (name.as_str(), value.value.as_str());
        expected.insert(format!(
            "{}=${{{}}}",
            name.expect("a name"),
            value.expect("a reference")
        ));
    }
    assert_eq!(kept, expected.iter().map(String::as_str).collect());
    // What few functions have stands in documents of their own.
    let documents = ["NetworkSettings", "OrderSettings", "LoginSettings"]
        .map(|id| (id, serde_yaml_ng::to_string(&content(id)).expect("YAML")));
    let names = template["Parameters"].as_mapping().expect("parameters");
    let parameters_in = |text: &str| -> BTreeSet<String> {
        let names = names.keys().map(|name| name.as_str().expect("a name"));
        let used = |name: &&str| {
            text.contains(&format!("!Ref {name}\n")) || text.contains(&format!("${{{name}}}"))
        };
        names.filter(used).map(str::to_owned).collect()
    };
    let mut number = 0;
    for (binary, function) in functions_of(&template) {
        let properties = function["Properties"].as_mapping().expect("properties");
        let description = match &properties["VersionDescription"] {
            Value::Tagged(tagged) => tagged.value.as_str().expect("a text"),
            other => panic!("{binary}: {other:?}"),
        };
        assert!(
            description.contains("${FunctionSettings.VersionNumber}"),
            "{binary}"
        );
        let mut used = BTreeSet::new();
        for (name, value) in properties {
            // These are not of a version: of the function, its role, or what invokes it.
            let elsewhere = [
                "Policies",
                "Events",
                "EventInvokeConfig",
                "ReservedConcurrentExecutions",
                "VersionDescription",
            ];
            if !elsewhere.contains(&name.as_str().expect("a name")) {
                used.extend(parameters_in(
                    &serde_yaml_ng::to_string(value).expect("YAML"),
                ));
            }
        }
        // A version of a function that did not change is not published, and asking for one fails: exactly the documents it reads.
        for (id, document) in &documents {
            let kept = parameters_in(document);
            assert!(!kept.is_empty(), "{id}");
            assert_eq!(
                description.contains(&format!("${{{id}.VersionNumber}}")),
                used.intersection(&kept).next().is_some(),
                "{binary}: {id}"
            );
            used.retain(|parameter| !kept.contains(parameter));
        }
        assert!(
            used.is_empty(),
            "{binary} depends on {used:?}, which no document of settings has"
        );
        number += 1;
    }
    assert_eq!(number, FUNCTIONS.len());
}

#[test]
fn whatever_invokes_a_function_invokes_its_alias() {
    let template = template();
    let globals = &template["Globals"]["Function"];
    assert_eq!(globals["AutoPublishAlias"].as_str(), Some("live"));
    assert_eq!(
        globals["AutoPublishAliasAllProperties"].as_bool(),
        Some(true)
    );
    for (binary, function) in functions_of(&template) {
        for property in ["AutoPublishAlias", "AutoPublishAliasAllProperties"] {
            assert!(function["Properties"][property].is_null(), "{binary}");
        }
    }
    // SAM leads its events to the alias, `.ci/check-deployment`; who invokes by hand is told the alias.
    let output = &template["Outputs"]["CreateFirstAdminFunctionName"]["Value"];
    let Value::Tagged(output) = output else {
        panic!("{output:?}");
    };
    assert_eq!(
        output.value.as_str(),
        Some("CreateFirstAdminFunction.Alias")
    );
}

#[test]
fn a_canary_is_watched_by_alarms_and_chosen_by_a_parameter() {
    let template = template();
    let parameter = &template["Parameters"]["DeploymentPreference"];
    let choices = parameter["AllowedValues"].as_sequence().expect("choices");
    assert_eq!(parameter["Default"].as_str(), Some("AllAtOnce"));
    let kinds = template["Mappings"]["Deployments"]
        .as_mapping()
        .expect("kinds");
    assert_eq!(kinds.keys().collect::<Vec<_>>(), Vec::from_iter(choices));
    for (kind, deployment) in kinds {
        let by_code_deploy = deployment["ByCodeDeploy"].as_str();
        let is_canary = kind.as_str().expect("a kind").starts_with("Canary");
        assert_eq!(by_code_deploy, Some(&*is_canary.to_string()), "{kind:?}");
    }
    let preference = &template["Globals"]["Function"]["DeploymentPreference"];
    assert_eq!(reference(&preference["Type"]), "DeploymentPreference");
    let known = resources(&template, "AWS::CloudWatch::Alarm");
    let alarms = preference["Alarms"].as_sequence().expect("alarms");
    assert!((1..=10).contains(&alarms.len()), "CodeDeploy takes ten");
    for alarm in alarms {
        let alarm = reference(alarm);
        let properties = &known[alarm.as_str()]["Properties"];
        // One that rings where nothing was measured, as after the install, would stop every deployment.
        assert_ne!(properties["TreatMissingData"].as_str(), Some("breaching"));
    }
}

#[test]
fn a_domain_of_ones_own_closes_the_other_address() {
    let template = template();
    let api = &template["Resources"]["Api"]["Properties"];
    // SAM puts it into a `servers` entry without an address, of which API Gateway warns.
    assert!(api["FailOnWarnings"].is_null());
    let closed = &api["DisableExecuteApiEndpoint"];
    let Value::Tagged(closed) = closed else {
        panic!("{closed:?}");
    };
    assert_eq!(closed.tag, "If");
    let expected: Value = serde_yaml_ng::from_str("[HasDomain, true, false]").expect("YAML");
    assert_eq!(closed.value, expected);
}

/// The resource that a `!GetAtt Name.Arn` names.
fn reference(value: &Value) -> String {
    let text = match value {
        Value::Tagged(tagged) => tagged.value.as_str(),
        value => value.as_str(),
    };
    let text = text.expect("a reference");
    text.split('.').next().expect("a name").to_owned()
}

/// Cargo does not see that a file is new: what was compiled before would go on without it.
#[test]
fn every_action_and_endpoint_has_a_test_file_that_is_part_of_the_tests() {
    let files: BTreeSet<String> = fs::read_dir(root().join("tests/it"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name != "main")
        .collect();
    let this = std::env::current_exe().expect("this binary");
    let list = Command::new(this)
        .args(["--list", "--format", "terse"])
        .output()
        .expect("a list");
    let list = String::from_utf8(list.stdout).expect("text");
    let tests = list.lines().filter_map(|line| line.split_once("::"));
    let modules = set(tests.map(|(module, _)| module));
    assert_eq!(
        files, modules,
        "a file of tests/it has no tests, or came after main.rs was compiled: touch it"
    );
    let untested: Vec<&str> = FUNCTIONS
        .iter()
        .filter(|function| kind(&function.entry) == "HttpApi")
        .map(|function| function.name)
        .filter(|name| !files.contains(*name))
        .collect();
    assert_eq!(untested, [""; 0], "functions without a file of tests");
}

/// What the domain may use besides itself and the standard library.
const DOMAIN_MAY_USE: [&str; 13] = [
    "crate::domain",
    "super",
    "std",
    "jiff",
    "num_bigint",
    "num_integer",
    "proptest",
    "rust_decimal",
    "schemars",
    "serde",
    "serde_json",
    "sha2",
    "strum",
];

#[test]
fn the_domain_looks_nowhere_but_inward() {
    let mut files = vec![];
    let mut folders = vec![root().join("shared/src/domain")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.push(root().join("shared/src/domain.rs"));
    let mut problems = Vec::new();
    for path in files.iter().filter(|path| path.exists()) {
        let name = path.strip_prefix(root()).expect("a path within").display();
        for (number, line) in fs::read_to_string(path)
            .expect("a file")
            .lines()
            .enumerate()
        {
            let code = line.split("//").next().unwrap_or_default();
            if let Some(problem) = outward(code) {
                problems.push(format!("{name}:{}: {problem}", number + 1));
            }
        }
    }
    assert!(files.len() > 10, "the domain was not found");
    assert_eq!(problems, [""; 0]);
}

/// What a line of code of the domain reaches for that it should not.
fn outward(code: &str) -> Option<String> {
    let code = code.trim();
    // Any path into this crate, wherever it stands.
    for (at, _) in code.match_indices("crate::") {
        if !code[at..].starts_with("crate::domain::") {
            return Some(format!("{code}: a path out of the domain"));
        }
    }
    // Any crate that is named in an import.
    let import = code
        .strip_prefix("pub use ")
        .or_else(|| code.strip_prefix("use "));
    if let Some(import) = import {
        let is_allowed = DOMAIN_MAY_USE.iter().any(|allowed| {
            import
                .strip_prefix(allowed)
                .is_some_and(|rest| rest.starts_with("::") || rest.starts_with(';'))
        });
        if !is_allowed {
            return Some(format!("{code}: not for the domain"));
        }
    }
    // What reads a clock, draws lots, waits, or calls out, by its full path.
    let words = [
        "Timestamp::now",
        "Zoned::now",
        "SystemTime",
        "Instant::now",
        "tokio",
        "aws_",
        "lambda",
        "reqwest",
        "hyper",
        "std::env",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "std::fs",
        "std::process",
        "rand::",
        ".await",
        "async fn",
        "tracing::",
    ];
    words
        .iter()
        .find(|word| code.contains(**word))
        .map(|word| format!("{code}: {word} is not for the domain"))
}

#[test]
fn what_reaches_out_of_the_domain_is_seen() {
    for code in [
        "use crate::database::Database;",
        "pub use crate::error::Fault;",
        "use crate::{domain, database};",
        "let now = jiff::Timestamp::now();",
        "use tokio::sync::Mutex;",
        "fn x(c: &crate::context::Context) {}",
        "use aws_sdk_dynamodb::Client;",
        "use backon::Retryable;",
    ] {
        assert!(outward(code).is_some(), "{code}");
    }
    for code in [
        "use crate::domain::money::Currency;",
        "use super::*;",
        "use serde_json::Value;",
        "let a = 1;",
    ] {
        assert_eq!(outward(code), None);
    }
}
