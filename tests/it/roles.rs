//! Every role in the template allows what its function was seen to need (tests/it/permissions.txt), and nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use functions::FUNCTIONS;
use serde_yaml_ng::Value;
use tests::permissions::{self, Permission};

use crate::template::{functions_of, template};

/// A value, or the values of a list.
fn each(value: &Value) -> &[Value] {
    value
        .as_sequence()
        .map_or(std::slice::from_ref(value), Vec::as_slice)
}

/// A resource of a policy as the record has it. `None` where it is none of the forms used.
fn resource(value: &Value) -> Option<String> {
    let Value::Tagged(tagged) = value else {
        return value.as_str().map(str::to_owned);
    };
    let text = tagged.value.as_str()?;
    if tagged.tag == "GetAtt" {
        return text.strip_suffix(".Arn").map(str::to_owned);
    }
    if text
        == "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:${ClusterSecretsPrefix}*"
    {
        return Some("ClusterSecrets".into());
    }
    let (name, below) = text.strip_prefix("${")?.split_once(".Arn}")?;
    Some(format!("{name}{below}"))
}

/// The statements that stand under no condition of the template.
fn statements(policies: &Value) -> impl Iterator<Item = &Value> {
    each(policies)
        .iter()
        // A function that calls nothing has none.
        .filter(|policy| !policy.is_null())
        .flat_map(|policy| each(&policy["Statement"]))
        .filter(|statement| !matches!(statement, Value::Tagged(_)))
}

fn allowed(policies: &Value) -> BTreeSet<Permission> {
    let mut permissions = BTreeSet::new();
    for statement in statements(policies) {
        assert_eq!(statement["Effect"].as_str(), Some("Allow"));
        for action in each(&statement["Action"]) {
            for named in each(&statement["Resource"]) {
                let permission = Permission {
                    action: action.as_str().expect("an action").to_owned(),
                    resource: resource(named)
                        .unwrap_or_else(|| panic!("which resource is {named:?}?")),
                };
                assert!(
                    permissions.insert(permission),
                    "{action:?} on {named:?} stands twice"
                );
            }
        }
    }
    permissions
}

#[test]
fn every_role_allows_what_its_function_needs_and_nothing_else() {
    let template = template();
    let mut problems = String::new();
    for (binary, function) in functions_of(&template) {
        let needed = permissions::of_function(binary);
        let allowed = allowed(&function["Properties"]["Policies"]);
        for Permission { action, resource } in needed.difference(&allowed) {
            let _ = writeln!(problems, "{binary} needs {action} on {resource}");
        }
        for Permission { action, resource } in allowed.difference(&needed) {
            let _ = writeln!(problems, "{binary} has no need of {action} on {resource}");
        }
    }
    assert!(problems.is_empty(), "infra/template.yaml:\n{problems}");
}

/// What a `!If` chooses from: the condition, and the value where it holds.
fn choice(value: &Value) -> Option<(&str, &Value)> {
    let Value::Tagged(choice) = value else {
        return None;
    };
    let otherwise = reference(&choice.value[2])?;
    assert_eq!((choice.tag == "If", otherwise), (true, "AWS::NoValue"));
    Some((choice.value[0].as_str()?, &choice.value[1]))
}

/// What a `!Ref` names.
fn reference(value: &Value) -> Option<&str> {
    match value {
        Value::Tagged(tagged) if tagged.tag == "Ref" => tagged.value.as_str(),
        _ => None,
    }
}

/// SAM attaches the policy for network interfaces to the roles of functions with a `VpcConfig`, wherever that condition leads; the boundary
/// lets it through where there is a network, and to Lambda alone.
#[test]
fn network_interfaces_are_for_lambda_alone_and_only_where_there_is_a_network() {
    let template = template();
    let boundary = &template["Resources"]["FunctionsBoundary"]["Properties"]["PolicyDocument"];
    for statement in statements(boundary) {
        let actions = each(&statement["Action"]);
        let named = |action: &Value| action.as_str().expect("an action").starts_with("ec2:");
        assert!(!actions.iter().any(named), "{statement:?}");
    }
    let conditional: Vec<(&str, &Value)> = each(&boundary["Statement"])
        .iter()
        .filter_map(choice)
        .collect();
    let [(condition, statement)] = conditional[..] else {
        panic!("{conditional:?}");
    };
    assert_eq!(condition, "HasClusterNetwork");
    let actions: BTreeSet<&str> = each(&statement["Action"])
        .iter()
        .map(|action| action.as_str().expect("an action"))
        .collect();
    // What Lambda's documentation asks for, and AWSLambdaVPCAccessExecutionRole has besides logs.
    let expected = [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    ];
    assert_eq!(actions, BTreeSet::from(expected));
    let no_function_asks = &statement["Condition"]["Null"]["lambda:SourceFunctionArn"];
    assert_eq!(no_function_asks.as_str(), Some("true"));
}

/// The managed policies that SAM attaches are for any log group and queue; the boundary keeps them to ours, and must let through the rest.
#[test]
fn the_boundary_holds_every_role_and_lets_through_what_any_of_them_allows() {
    let template = template();
    let boundary = &template["Globals"]["Function"]["PermissionsBoundary"];
    let Value::Tagged(boundary) = boundary else {
        panic!("the boundary of all functions is {boundary:?}");
    };
    let name = boundary.value.as_str().expect("a name");
    let boundary = allowed(&template["Resources"][name]["Properties"]["PolicyDocument"]);
    let mut needed = BTreeSet::new();
    for (binary, function) in functions_of(&template) {
        assert!(function["Properties"]["PermissionsBoundary"].is_null());
        needed.extend(permissions::of_function(binary));
    }
    for permission in needed {
        let mut within = permission.clone();
        if let Some((table, _)) = permission.resource.split_once("/index/") {
            within.resource = format!("{table}/index/*");
        }
        assert!(boundary.contains(&within), "{within:?}");
    }
    for Permission { action, resource } in &boundary {
        assert!(!action.contains('*'), "{action}");
        assert!(resource != "*" || action.starts_with("xray:"), "{action}");
    }
    for action in [
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
    ] {
        for queue in [
            "StorageTasks",
            "SlowTasks",
            "Cleanup",
            "Billing",
            "UsageShards",
        ] {
            let resource = format!("{queue}Queue");
            let action = action.to_owned();
            assert!(
                boundary.contains(&Permission { action, resource }),
                "{queue}"
            );
        }
    }
}

#[test]
fn the_record_names_every_function_and_no_other() {
    let listed: BTreeSet<String> = FUNCTIONS
        .iter()
        .map(|function| function.name.to_owned())
        // The first needs what the actions need, the other calls nothing.
        .filter(|name| !["s3_php", "docs"].contains(&name.as_str()))
        .collect();
    assert_eq!(permissions::functions(), listed);
}
