//! What deploys the stack: the policies in infra/deploy, and the pipeline that takes them. `.ci/check-deployment` compares the policies with
//! what AWS's own schemas say that the resources need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::template::template;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/deploy"))
}

/// The files with an extension, by name.
fn files(extension: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder()).expect("infra/deploy");
    let files: BTreeMap<String, String> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.into_owned(), fs::read_to_string(&path).expect("text"))
        })
        .collect();
    assert!(!files.is_empty());
    files
}

/// The policies, without what says who may take a role.
fn policies() -> BTreeMap<String, String> {
    let mut files = files("json");
    files.retain(|name, _| !name.starts_with("trust-"));
    assert_eq!(files.len(), 3, "a policy that docs do not attach");
    files
}

fn each(value: &Value) -> &[Value] {
    value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    each(value)
        .iter()
        .map(|text| text.as_str().expect("a text"))
}

fn statements(policy: &str) -> Vec<Value> {
    let policy: Value = serde_json::from_str(policy).expect("JSON");
    assert_eq!(policy["Version"], "2012-10-17");
    let statements = policy["Statement"].as_array().expect("statements");
    assert!(statements.iter().all(|one| one["Effect"] == "Allow"));
    statements.clone()
}

#[test]
fn every_policy_fits_into_what_iam_takes_whatever_the_stack_is_called() {
    const MOST_CHARACTERS: usize = 6144;
    for (name, policy) in policies() {
        let filled = policy
            .replace("STACK", &"s".repeat(18))
            .replace("REGION", "ap-southeast-2")
            .replace("ACCOUNT", "123456789012");
        let characters = filled.chars().filter(|c| !c.is_whitespace()).count();
        assert!(characters <= MOST_CHARACTERS, "{name}: {characters}");
    }
}

#[test]
fn no_deployment_can_delete_what_outlives_the_stack() {
    let deleted_by = BTreeMap::from([
        ("AWS::DynamoDB::Table", "dynamodb:DeleteTable"),
        ("AWS::S3::Bucket", "s3:DeleteBucket"),
        ("AWS::KMS::Key", "kms:ScheduleKeyDeletion"),
    ]);
    let template = template();
    let kept: BTreeSet<&str> = template["Resources"]
        .as_mapping()
        .expect("resources")
        .values()
        .filter(|resource| resource["DeletionPolicy"].as_str() == Some("Retain"))
        .map(|resource| resource["Type"].as_str().expect("a type"))
        .collect();
    assert_eq!(kept, deleted_by.keys().copied().collect());
    for (name, policy) in policies() {
        for statement in statements(&policy) {
            for action in texts(&statement["Action"]) {
                assert!(
                    !deleted_by.values().any(|delete| *delete == action),
                    "{name}: {action}"
                );
            }
        }
    }
}

#[test]
fn every_statement_names_its_actions_and_the_stack() {
    // What knows no resources, or has no name before it is made.
    let anywhere = BTreeSet::from([
        "NewKey",
        "NewSettings",
        "LogDelivery",
        "Subscriptions",
        "CanaryStops",
        "AlarmStates",
        "Networks",
        "DnsState",
        "Template",
    ]);
    for (name, policy) in policies() {
        let mut ids = BTreeSet::new();
        for statement in statements(&policy) {
            let id = statement["Sid"].as_str().expect("a name").to_owned();
            for action in texts(&statement["Action"]) {
                assert!(!action.contains('*'), "{name}, {id}: {action}");
            }
            let is_anywhere = texts(&statement["Resource"]).any(|resource| resource == "*");
            let is_bounded = statement["Condition"].to_string().contains("STACK-");
            assert!(
                !is_anywhere || is_bounded || anywhere.contains(&*id),
                "{name}, {id}"
            );
            let is_iam = texts(&statement["Action"]).any(|action| action.starts_with("iam:"));
            let is_ours = |resource: &str| resource.contains("STACK");
            assert!(
                !is_iam || texts(&statement["Resource"]).all(is_ours),
                "{name}, {id}"
            );
            assert!(ids.insert(id), "{name}");
        }
    }
}

#[test]
fn roles_are_handed_to_services_alone_and_get_no_policies_but_those_that_sam_attaches() {
    let policy = &policies()["cloudformation-functions.json"];
    let of_action = |wanted: &str| {
        statements(policy)
            .into_iter()
            .filter(|statement| texts(&statement["Action"]).any(|action| action == wanted))
            .collect::<Vec<_>>()
    };
    let pass = of_action("iam:PassRole");
    assert_eq!(pass.len(), 1);
    let services = texts(&pass[0]["Condition"]["StringEquals"]["iam:PassedToService"]);
    let expected = ["codedeploy", "lambda", "scheduler"];
    assert!(services.eq(expected.map(|name| format!("{name}.amazonaws.com"))));
    let attach = of_action("iam:AttachRolePolicy");
    assert_eq!(attach.len(), 1);
    let attached: BTreeSet<&str> = texts(&attach[0]["Condition"]["ArnEquals"]["iam:PolicyARN"])
        .map(|arn| arn.rsplit('/').next().expect("a name"))
        .collect();
    let expected = [
        "AWSCodeDeployRoleForLambda",
        "AWSLambdaBasicExecutionRole",
        "AWSLambdaSQSQueueExecutionRole",
        "AWSLambdaVPCAccessExecutionRole",
        "AWSXrayWriteOnlyAccess",
    ];
    assert_eq!(attached, BTreeSet::from(expected));
}

#[test]
fn the_pipelines_role_changes_the_stack_by_cloudformations_role_and_nothing_else() {
    let policy = &policies()["pipeline.json"];
    let role = "arn:aws:iam::ACCOUNT:role/cloudformation-STACK";
    for statement in statements(policy) {
        for action in texts(&statement["Action"]) {
            let is_expected = action.starts_with("cloudformation:")
                || action == "iam:PassRole"
                || (action.starts_with("s3:") && statement["Sid"] == "Artifacts");
            assert!(is_expected, "{action}");
            // It may not go round the change set, nor remove the stack.
            let changes = [
                "CreateStack",
                "UpdateStack",
                "DeleteStack",
                "SetStackPolicy",
            ];
            assert!(!changes.iter().any(|change| action.ends_with(change)));
        }
        if statement["Sid"] == "ChangeSets" {
            let with = &statement["Condition"]["StringEquals"]["cloudformation:RoleArn"];
            assert_eq!(with, role);
        }
        if statement["Action"].to_string().contains("PassRole") {
            assert_eq!(statement["Resource"], role);
            let service = &statement["Condition"]["StringEquals"]["iam:PassedToService"];
            assert_eq!(service, "cloudformation.amazonaws.com");
        }
    }
    // Neither is among the roles that the stack makes, so neither changes itself.
    for (name, policy) in policies() {
        for statement in statements(&policy) {
            for resource in texts(&statement["Resource"]).filter(|arn| arn.contains(":role/")) {
                assert!(
                    resource == role || resource.ends_with(":role/STACK-*"),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn the_pipelines_role_is_taken_from_one_environment_of_one_repository() {
    let trust = files("json").remove("trust-github.json").expect("the file");
    let statements = statements(&trust);
    assert_eq!(statements.len(), 1);
    assert_eq!(statements[0]["Action"], "sts:AssumeRoleWithWebIdentity");
    let issuer = "token.actions.githubusercontent.com";
    let equal = &statements[0]["Condition"]["StringEquals"];
    assert_eq!(equal[format!("{issuer}:aud")], "sts.amazonaws.com");
    let subject = &equal[format!("{issuer}:sub")];
    assert_eq!(subject, "repo:REPOSITORY:environment:STACK");
    let provider = statements[0]["Principal"]["Federated"].as_str();
    assert!(provider.is_some_and(|arn| arn.ends_with(&format!("oidc-provider/{issuer}"))));
}

#[test]
fn the_example_of_a_pipeline_deploys_the_stacks_that_samconfig_has() {
    let workflows = files("yaml");
    let workflow = |name: &str| -> serde_yaml_ng::Value {
        serde_yaml_ng::from_str(&workflows[name]).expect("YAML")
    };
    let config: toml::Table = include_str!("../../samconfig.toml").parse().expect("TOML");
    let jobs = &workflow("github-workflow.yaml")["jobs"];
    for environment in ["dev", "prod"] {
        let job = &jobs[environment];
        let file = job["uses"].as_str().expect("a workflow");
        assert!(file.ends_with("/deploy-to.yaml"), "{file}");
        assert_eq!(job["with"]["config-env"].as_str(), Some(environment));
        let stack = &config[environment]["deploy"]["parameters"]["stack_name"];
        assert_eq!(job["with"]["stack"].as_str(), stack.as_str());
        assert_eq!(job["permissions"]["id-token"].as_str(), Some("write"));
    }
    assert_eq!(jobs["prod"]["needs"].as_str(), Some("dev"));
    let deploy = &workflow("github-workflow-deploy-to.yaml")["jobs"]["deploy"];
    assert_eq!(deploy["environment"].as_str(), Some("${{ inputs.stack }}"));
    let steps = serde_yaml_ng::to_string(&deploy["steps"]).expect("YAML");
    assert!(steps.contains(":role/pipeline-${{ inputs.stack }}"));
    assert!(steps.contains(":role/cloudformation-${{ inputs.stack }}"));
    // What a stack is asked for comes from the repository alone: no input stands in a command.
    for step in deploy["steps"].as_sequence().expect("steps") {
        let command = step["run"].as_str().unwrap_or_default();
        assert!(!command.contains("${{"), "{command}");
    }
}

#[test]
fn docs_name_every_file_that_a_deployment_takes() {
    let operating = include_str!("../../docs/operating.md");
    for name in files("json").into_keys().chain(files("yaml").into_keys()) {
        let stem = name.split('.').next().expect("a name");
        assert!(operating.contains(stem), "{name}");
    }
}
