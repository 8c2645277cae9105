//! What of `infra/template.yaml` is made: functions, routes, events and roles from the list of functions and `tests/it/permissions.txt`; the
//! boundary of the roles; the document of settings; and the alarms from their table. The rest is written by hand, and read here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use functions::DEPLOYMENTS;
use functions::deployment::{ANY_OTHER, Deployment, Queue, Trigger};
use serde_yaml_ng::Value;

use crate::alarms::{ALARMS, Alarm, Of, When};
use crate::made::read;
use crate::permissions::{self, Permission};

/// The line before what is made.
pub const BEGIN: &str = "  # made:begin, by UPDATE=1 cargo test -p tests made::\n";
/// The line after it.
pub const END: &str = "  # made:end\n";

/// What clusters' secrets are called in a policy.
const CLUSTER_SECRETS: &str = "!Sub arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:${ClusterSecretsPrefix}*";
/// What is behind `!If` where there is nothing.
const NONE: &str = "!Ref AWS::NoValue";
/// What Lambda does with a queue that starts a function.
const OF_EVERY_WORKER: [&str; 3] = [
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
];

/// What stands between the marks, given the rest of the template.
#[must_use]
pub fn made(by_hand: &Value) -> String {
    let resources = Resources::of(by_hand);
    let mut text = String::new();
    text += "\n";
    text += &boundary(&resources);
    text += "\n";
    text += &settings(&by_hand["Globals"]["Function"]);
    type Is = fn(&Deployment) -> bool;
    let parts: [(&str, Is); 4] = [
        (
            "The HTTP API. Every route takes any method, so that a wrong one gets the product's own answer.",
            |function| matches!(function.trigger, Trigger::Routes(_)),
        ),
        ("What queues start.", |function| {
            matches!(function.trigger, Trigger::Queues(_))
        }),
        (
            "What schedules start. Scheduler invokes asynchronously: it tries again what Lambda does not take, and then notes it in the dead-letter
  # queue. What Lambda took and has no room for, it tries again by itself, for hours if EventInvokeConfig did not end that after five
  # minutes; such a run is in no queue, but among the throttles. A run that fails is not repeated: the next one is due soon enough, and
  # takes up what was left. Without OmitName two stacks would fight for a name.",
            |function| matches!(function.trigger, Trigger::Schedule(_)),
        ),
        ("What is started by hand: docs/operating.md.", |function| {
            matches!(function.trigger, Trigger::ByHand)
        }),
    ];
    for (heading, is_part) in parts {
        let _ = write!(text, "\n  # {heading}\n");
        for deployment in DEPLOYMENTS.iter().filter(|function| is_part(function)) {
            text += "\n";
            text += &function(deployment, &resources);
        }
    }
    text += "\n  # Alarms. What each means and what to do: docs/operating.md.\n";
    for one in ALARMS {
        text += "\n";
        text += &alarm(one, &resources);
    }
    text += "\n";
    text
}

/// The resources that policies name, in their order in the template.
struct Resources {
    tables: Vec<(String, bool)>,
    queues: Vec<String>,
}

impl Resources {
    fn of(template: &Value) -> Resources {
        let all = template["Resources"].as_mapping().expect("resources");
        let of_type = |kind: &'static str| {
            all.iter()
                .filter(move |(_, resource)| resource["Type"].as_str() == Some(kind))
                .map(|(name, resource)| (name.as_str().expect("a name").to_owned(), resource))
        };
        let worked_on =
            |name: &String| queues().any(|queue| *name == format!("{}Queue", queue.name));
        Resources {
            tables: of_type("AWS::DynamoDB::Table")
                .map(|(name, table)| {
                    let indexes = &table["Properties"]["GlobalSecondaryIndexes"];
                    (name, indexes.is_sequence())
                })
                .collect(),
            queues: of_type("AWS::SQS::Queue")
                .map(|(name, _)| name)
                .filter(worked_on)
                .collect(),
        }
    }

    /// Where a resource of the record stands: tables with their indexes, queues, then the others.
    fn place(&self, resource: &str) -> (usize, String) {
        let others = [
            "SecretsKey",
            "EventBus",
            "UsageBucket/*",
            "UsageBucket",
            "ClusterSecrets",
        ];
        let table = resource.split("/index/").next();
        let tables = self.tables.iter().map(|(name, _)| name.as_str());
        let queues = self.queues.iter().map(String::as_str);
        let mut known = tables.chain(queues).chain(others);
        let place = known.position(|known| known == resource || Some(known) == table);
        let place = place.unwrap_or_else(|| panic!("where does {resource} stand?"));
        (place, resource.to_owned())
    }
}

/// The queues that start functions.
fn queues() -> impl Iterator<Item = &'static Queue> {
    DEPLOYMENTS
        .iter()
        .flat_map(|function| match function.trigger {
            Trigger::Queues(queues) => queues,
            _ => &[],
        })
}

/// A resource of the record, as a policy names it.
fn arn(resource: &str) -> String {
    match resource.split_once('/') {
        None if resource == "ClusterSecrets" => CLUSTER_SECRETS.into(),
        None => format!("!GetAtt {resource}.Arn"),
        Some((name, below)) => format!("!Sub ${{{name}.Arn}}/{below}"),
    }
}

/// Statements that allow this and nothing else: one for all resources with which the same may be done. The lines begin so far in.
fn statements(
    permissions: impl IntoIterator<Item = Permission>,
    resources: &Resources,
    indent: usize,
) -> String {
    let mut actions: BTreeMap<(usize, String), BTreeSet<String>> = BTreeMap::new();
    for Permission { action, resource } in permissions {
        let place = resources.place(&resource);
        actions.entry(place).or_default().insert(action);
    }
    let mut statements: Vec<(BTreeSet<String>, Vec<String>)> = Vec::new();
    for ((_, resource), actions) in actions {
        match statements.iter_mut().find(|(same, _)| *same == actions) {
            Some((_, resources)) => resources.push(resource),
            None => statements.push((actions, vec![resource])),
        }
    }
    let mut text = String::new();
    let indent = " ".repeat(indent);
    for (actions, resources) in statements {
        let actions: Vec<String> = actions.into_iter().collect();
        let _ = writeln!(text, "{indent}- Effect: Allow");
        let _ = match &actions[..] {
            [one] => writeln!(text, "{indent}  Action: {one}"),
            several => writeln!(text, "{indent}  Action: [{}]", several.join(", ")),
        };
        let _ = match &resources[..] {
            [one] => writeln!(text, "{indent}  Resource: {}", arn(one)),
            several => {
                let _ = writeln!(text, "{indent}  Resource:");
                several
                    .iter()
                    .try_for_each(|one| writeln!(text, "{indent}    - {}", arn(one)))
            }
        };
    }
    text
}

/// What any function may do. Where one may use an index of a table, all may be used, and what may be done with one table or queue, with all.
fn boundary(resources: &Resources) -> String {
    let mut allowed = BTreeSet::new();
    let mut allow = |actions: &BTreeSet<String>, resource: String| {
        allowed.extend(actions.iter().map(|action| Permission {
            action: action.clone(),
            resource: resource.clone(),
        }));
    };
    let needed: BTreeSet<Permission> = DEPLOYMENTS
        .iter()
        .flat_map(|function| permissions::of_function(function.name))
        .collect();
    let of_service = |service: &str, on_index: bool| -> BTreeSet<String> {
        needed
            .iter()
            .filter(|one| one.action.starts_with(service))
            .filter(|one| one.resource.contains("/index/") == on_index)
            .map(|one| one.action.clone())
            .collect()
    };
    let (on_tables, on_indexes) = (
        of_service("dynamodb:", false),
        of_service("dynamodb:", true),
    );
    for (table, has_indexes) in &resources.tables {
        allow(&on_tables, table.clone());
        if *has_indexes {
            allow(&on_indexes, format!("{table}/index/*"));
        }
    }
    let mut on_queues = of_service("sqs:", false);
    on_queues.extend(OF_EVERY_WORKER.map(str::to_owned));
    for queue in &resources.queues {
        allow(&on_queues, queue.clone());
    }
    let others = |one: &&Permission| {
        !["dynamodb:", "sqs:"]
            .iter()
            .any(|of| one.action.starts_with(of))
    };
    allowed.extend(needed.iter().filter(others).cloned());
    let statements = statements(allowed, resources, 10);
    format!(
        r#"  # What no function's role can go beyond, whatever is attached to it. SAM attaches AWS's policies for logs, for X-Ray and for receiving
  # from queues, which are for all log groups and all queues of the account: here they end at those of this stack.
  FunctionsBoundary:
    Type: AWS::IAM::ManagedPolicy
    Metadata:
      checkov:
        skip:
          - id: CKV_AWS_111
            comment: X-Ray and network interfaces know no resources to name; every other statement names its own.
    Properties:
      Description: The most that functions of Wharfage may be allowed
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
{statements}          - Effect: Allow
            Action: [logs:CreateLogStream, logs:PutLogEvents]
            Resource: !GetAtt FunctionLogs.Arn
          - Effect: Allow
            Action: [xray:PutTelemetryRecords, xray:PutTraceSegments, xray:GetSamplingRules, xray:GetSamplingTargets, xray:GetSamplingStatisticSummaries]
            Resource: "*"
          # Lambda itself makes the network interfaces, with the roles of functions that have a VpcConfig. A function's own calls carry its
          # ARN, and are not let through.
          - !If
            - HasClusterNetwork
            - Effect: Allow
              Action:
                - ec2:AssignPrivateIpAddresses
                - ec2:CreateNetworkInterface
                - ec2:DeleteNetworkInterface
                - ec2:DescribeNetworkInterfaces
                - ec2:DescribeSubnets
                - ec2:UnassignPrivateIpAddresses
              Resource: "*"
              Condition:
                "Null": {{ "lambda:SourceFunctionArn": "true" }}
            - !Ref AWS::NoValue
"#
    )
}

/// What all functions are told, as the document that publishes them anew has it.
fn settings(globals: &Value) -> String {
    let mut text = String::from(
        "  # What all functions are told: Globals, above.
  FunctionSettings:
    Type: AWS::AppConfig::HostedConfigurationVersion
    Properties:
      ApplicationId: !Ref SettingsApplication
      ConfigurationProfileId: !GetAtt SettingsProfile.ConfigurationProfileId
      ContentType: text/plain
      Content: !Sub |
",
    );
    let variables = globals["Environment"]["Variables"]
        .as_mapping()
        .expect("variables");
    let variables = variables
        .iter()
        .map(|(name, value)| (name.as_str().expect("a name"), value));
    for (name, value) in variables.chain([("Tracing", &globals["Tracing"])]) {
        // SAM sees a text of the template's own.
        if let Value::Tagged(tagged) = value {
            assert!(tagged.tag == "Ref" || tagged.tag == "GetAtt", "{value:?}");
            let reference = tagged.value.as_str().expect("a reference");
            let _ = writeln!(text, "        {name}=${{{reference}}}");
        }
    }
    text
}

/// `create_bucket` as the template writes it: `CreateBucket`.
fn camel(name: &str) -> String {
    let words = name.split('_');
    let capitalised = words.map(|word| word[..1].to_uppercase() + &word[1..]);
    capitalised.collect()
}

/// Whether a function calls clusters: their administration, or their S3 with the account's own keys.
fn calls_clusters(function: &str) -> bool {
    let administers_clusters = permissions::of_function(function)
        .iter()
        .any(|permission| permission.resource == "ClusterSecrets");
    // With the account's own keys, which takes no secret of the cluster: the table of calls has it.
    let architecture = read("ARCHITECTURE.md");
    let mut rows = architecture.lines();
    let row = rows.find(|line| line.starts_with(&format!("| `{function}` |")));
    administers_clusters || row.is_some_and(|row| row.contains(" S3 "))
}

/// Whether a function sends to a queue that starts it.
fn feeds_itself(function: &Deployment) -> bool {
    let Trigger::Queues(queues) = function.trigger else {
        return false;
    };
    let sends_to = |queue: &Queue| {
        permissions::of_function(function.name).contains(&Permission {
            action: "sqs:SendMessage".into(),
            resource: format!("{}Queue", queue.name),
        })
    };
    queues.iter().any(sends_to)
}

fn function(function: &Deployment, resources: &Resources) -> String {
    let name = function.name;
    let mut text = format!(
        "  {}Function:\n    Type: AWS::Serverless::Function\n",
        camel(name)
    );
    if let Some(condition) = function.condition {
        let _ = writeln!(text, "    Condition: {condition}");
    }
    let calls_clusters = calls_clusters(name);
    let mut version = String::from("settings ${FunctionSettings.VersionNumber}");
    if calls_clusters {
        version += ", network ${NetworkSettings.VersionNumber}";
    }
    for setting in function.reads {
        let (called, document) = setting.kept_in;
        let _ = write!(version, ", {called} ${{{document}.VersionNumber}}");
    }
    let _ = write!(
        text,
        "    Metadata:
      BuildMethod: rust-cargolambda
      BuildProperties:
        Binary: wharfage
    Properties:
      Handler: {name}
      Description: \"{}\"
      VersionDescription: !Sub {version}
",
        function.description()
    );
    if calls_clusters {
        let _ = write!(
            text,
            "      VpcConfig: !If
        - HasClusterNetwork
        - {{ SubnetIds: !Ref ClusterSubnetIds, SecurityGroupIds: !Ref ClusterSecurityGroupIds }}
        - {NONE}
"
        );
    }
    if let Some(memory_mb) = function.memory_mb {
        let _ = writeln!(text, "      MemorySize: {memory_mb}");
    }
    if let Some(seconds) = function.timeout_seconds {
        let _ = writeln!(text, "      Timeout: {seconds}");
    }
    if !function.reads.is_empty() {
        text += "      Environment:\n        Variables:\n";
        for setting in function.reads {
            let _ = writeln!(
                text,
                "          {}: !Ref {}",
                setting.variable, setting.parameter
            );
        }
    }
    if feeds_itself(function) {
        text += "      # It sends to a queue that starts it. Lambda takes that for a mistake, and would stop after sixteen.
      RecursiveLoop: Allow
";
    }
    if calls_clusters && matches!(function.trigger, Trigger::Routes(_)) {
        let (limits, concurrency) = match name {
            "s3_php" => ("LimitsLegacyEndpoint", "LegacyEndpointConcurrency"),
            _ => ("LimitsClusterRequests", "ClusterRequestsConcurrency"),
        };
        let _ = writeln!(
            text,
            "      ReservedConcurrentExecutions: !If [{limits}, !Ref {concurrency}, {NONE}]"
        );
    }
    let statements = statements(permissions::of_function(name), resources, 12);
    if !statements.is_empty() {
        text += "      Policies:
        - Version: \"2012-10-17\"
          Statement:
";
        text += &statements;
    }
    text += &events(&function.trigger);
    text
}

/// What starts a function, and what is done with runs that were not taken.
fn events(trigger: &Trigger) -> String {
    let mut text = String::new();
    match trigger {
        Trigger::Routes(paths) => {
            text += "      Events:\n";
            for (n, path) in paths.iter().enumerate() {
                let (event, path) = match *path {
                    ANY_OTHER => ("Default".to_owned(), String::new()),
                    path => (
                        match n {
                            0 => "Route".to_owned(),
                            n => format!("Route{}", n + 1),
                        },
                        format!("            Path: {path}\n            Method: ANY\n"),
                    ),
                };
                let _ = write!(
                    text,
                    "        {event}:
          Type: HttpApi
          Properties:
            ApiId: !Ref Api
{path}            TimeoutInMillis: 30000
"
                );
            }
        }
        Trigger::Queues(queues) => {
            text += "      Events:\n";
            for Queue { event, name, batch } in *queues {
                let _ = write!(
                    text,
                    "        {event}:
          Type: SQS
          Properties:
            Queue: !GetAtt {name}Queue.Arn
            BatchSize: {batch}
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig:
              MaximumConcurrency: !Ref {name}Concurrency
"
                );
            }
        }
        Trigger::Schedule(expression) => {
            let _ = write!(
                text,
                "      EventInvokeConfig:
        MaximumRetryAttempts: 0
        MaximumEventAgeInSeconds: 300
      Events:
        Schedule:
          Type: ScheduleV2
          Properties:
            OmitName: true
            ScheduleExpression: {expression}
            RetryPolicy:
              MaximumRetryAttempts: 3
              MaximumEventAgeInSeconds: 300
            DeadLetterConfig:
              Arn: !GetAtt SchedulesDeadLetterQueue.Arn
"
            );
        }
        Trigger::ByHand => text += "      EventInvokeConfig:\n        MaximumRetryAttempts: 0\n",
    }
    text
}

/// The functions of a kind, by their logical ids.
fn functions_of(is_one: fn(&Trigger) -> bool) -> Vec<String> {
    let functions = DEPLOYMENTS.iter().filter(|one| is_one(&one.trigger));
    functions
        .map(|function| format!("{}Function", camel(function.name)))
        .collect()
}

/// A metric of several resources, added up.
fn sum(
    label: &str,
    (namespace, metric, dimension): (&str, &str, &str),
    of: &[String],
    alarm: &Alarm,
) -> String {
    let mut text = format!(
        "      Metrics:\n        - {{ Id: all, Expression: SUM(METRICS()), Label: {label} }}\n"
    );
    for (number, resource) in of.iter().enumerate() {
        let value = format!("!Ref {resource}");
        text += &part(
            &format!("m{number}"),
            (namespace, metric, dimension, &value),
            alarm,
        );
    }
    text
}

/// A metric that an expression is made of.
fn part(
    id: &str,
    (namespace, metric, dimension, value): (&str, &str, &str, &str),
    alarm: &Alarm,
) -> String {
    format!(
        "        - Id: {id}
          ReturnData: false
          MetricStat:
            Metric: {{ Namespace: {namespace}, MetricName: {metric}, Dimensions: [{{ Name: {dimension}, Value: {value} }}] }}
            Stat: {}
            Period: {}
",
        alarm.statistic, alarm.period
    )
}

fn alarm(alarm: &Alarm, resources: &Resources) -> String {
    let one = |namespace: &str, metric: &str, dimension: Option<(&str, &str)>| {
        let dimensions = match dimension {
            Some((name, value)) => format!("\n        - {{ Name: {name}, Value: {value} }}"),
            None => " []".into(),
        };
        format!(
            "      Namespace: {namespace}
      MetricName: {metric}
      Dimensions:{dimensions}
      Statistic: {}
      Period: {}
",
            alarm.statistic, alarm.period
        )
    };
    let errors = ("AWS/Lambda", "Errors", "FunctionName");
    let measured = match alarm.of {
        Of::Metric(namespace, metric, dimension) => one(namespace, metric, dimension),
        Of::Figure(metric) => {
            let stack = ("Stack", "!Ref AWS::StackName");
            one(wharfage::telemetry::NAMESPACE, metric, Some(stack))
        }
        Of::ErrorsOfJobs(label) => {
            let jobs = functions_of(|trigger| matches!(trigger, Trigger::Schedule(_)));
            sum(label, errors, &jobs, alarm)
        }
        Of::ErrorsOfWorkers(label) => {
            let workers = functions_of(|trigger| matches!(trigger, Trigger::Queues(_)));
            sum(label, errors, &workers, alarm)
        }
        Of::Tables(metric, label) => {
            let tables = resources.tables.iter().map(|(name, _)| name.clone());
            let metric = ("AWS/DynamoDB", metric, "TableName");
            sum(label, metric, &tables.collect::<Vec<_>>(), alarm)
        }
        Of::DeadLetters(queue) => {
            let name = format!("!GetAtt {queue}DeadLetterQueue.QueueName");
            let metric = "ApproximateNumberOfMessagesVisible";
            one("AWS/SQS", metric, Some(("QueueName", &name)))
        }
        Of::Age(queue) => {
            let name = format!("!GetAtt {queue}Queue.QueueName");
            let metric = "ApproximateAgeOfOldestMessage";
            let label = "Age of the oldest message in minutes";
            format!(
                "      Metrics:\n        - {{ Id: minutes, Expression: oldest / 60, Label: {label} }}\n"
            ) + &part("oldest", ("AWS/SQS", metric, "QueueName", &name), alarm)
        }
    };
    let (comparison, threshold, missing) = match alarm.when {
        When::Above(threshold) => ("GreaterThanThreshold", threshold, "notBreaching"),
        When::BelowOrSilent(threshold) => ("LessThanThreshold", threshold, "breaching"),
    };
    format!(
        "  {}Alarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      AlarmDescription: \"{}\"
{measured}      ComparisonOperator: {comparison}
      Threshold: {threshold}
      EvaluationPeriods: {}
      TreatMissingData: {missing}
      AlarmActions: [!Ref AlarmTopic]
      OKActions: [!Ref AlarmTopic]
",
        alarm.name, alarm.description, alarm.periods
    )
}
