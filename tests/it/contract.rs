//! The contract: it has every action, and examples that are as it says.

use functions::contract::{self, Examples};
use http::Method;
use serde_json::{Value, json};
use tests::answers::{self, Received};
use tests::api;

fn answered(path: &str, status: u16) -> Received<'_> {
    Received {
        path,
        method: &Method::POST,
        status,
        reason: None,
        kind: "application/json",
        body: &Value::Null,
    }
}

#[test]
fn every_action_has_an_example_that_is_as_the_contract_says() {
    let examples = api::examples();
    for action in functions::ACTIONS {
        let own = examples.get(&format!("s3_{}", action.name));
        let own = own.unwrap_or_else(|| panic!("{} has no snapshot of an answer", action.name));
        for (name, body) in own {
            let path = format!("/s3/{}", action.name);
            let received = Received {
                body,
                ..answered(&path, 200)
            };
            assert_eq!(received.is_as_the_contract_says(), Ok(()), "{name}");
        }
    }
}

#[test]
fn an_answer_with_a_field_too_few_or_too_many_or_of_another_type_is_told() {
    let good = json!({
        "result": "OK", "action": "create_bucket",
        "s3uid": "Zr7Qm2Xc9Vb4Kp1Wd8Ys5Tg3Hn6Jf0La", "bucket_name": "my-bucket",
    });
    let checked = |body: &Value| {
        let received = Received {
            body,
            ..answered("/s3/create_bucket", 200)
        };
        received.is_as_the_contract_says()
    };
    assert_eq!(checked(&good), Ok(()));
    let mut less = good.clone();
    less.as_object_mut().expect("an object").remove("s3uid");
    let mut more = good.clone();
    more["colour"] = "red".into();
    let mut other = good.clone();
    other["bucket_name"] = 1.into();
    let mut anothers = good.clone();
    anothers["action"] = "list_plans".into();
    for bad in [less, more, other, anothers, json!({}), Value::Null] {
        assert!(checked(&bad).is_err(), "{bad}");
    }
    let refused =
        json!({ "code": -1, "message": "s3/create_bucket: bucket name is already taken" });
    let checked = |status, reason| {
        let received = Received {
            reason,
            body: &refused,
            ..answered("/s3/create_bucket", status)
        };
        received.is_as_the_contract_says()
    };
    assert_eq!(checked(409, Some("bucket_name_taken")), Ok(()));
    for (status, reason) in [
        (418, Some("bucket_name_taken")),
        (409, None),
        (409, Some("email_taken")),
        (404, Some("bucket_name_taken")),
    ] {
        assert!(checked(status, reason).is_err(), "{status} {reason:?}");
    }
}

#[test]
fn the_contract_has_every_action_with_what_it_takes() {
    let document = contract::document(&Examples::new());
    for action in functions::ACTIONS {
        let operation = &document["paths"][format!("/s3/{}", action.name)]["post"];
        assert_eq!(operation["operationId"], format!("s3_{}", action.name));
        assert!(!operation["summary"].as_str().expect("a line").is_empty());
        let reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            .as_str()
            .expect("a reference");
        let call = document
            .pointer(reference.trim_start_matches('#'))
            .expect("its schema");
        let properties = call["properties"].as_object().expect("properties");
        let patterns = call["patternProperties"].as_object();
        for name in action.takes.all() {
            let is_alias = !properties.contains_key(name)
                && wharfage::http::typed::ALIASES
                    .iter()
                    .any(|(alias, _)| *alias == name);
            let is_pattern = name.strip_suffix('*').is_some_and(|prefix| {
                patterns.is_some_and(|patterns| {
                    patterns
                        .keys()
                        .any(|pattern| pattern[1..].starts_with(prefix))
                })
            });
            assert!(
                is_alias || is_pattern || properties.contains_key(name),
                "{}: {name}",
                action.name
            );
        }
    }
    // Whatever is referred to is there.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"").skip(1) {
        let reference = reference.split('"').next().expect("it ends");
        let found: Option<&Value> = document.pointer(reference.trim_start_matches('#'));
        assert!(found.is_some(), "{reference}");
    }
}

#[test]
fn every_call_has_an_example_that_is_as_the_contract_says() {
    let document = contract::document(&Examples::new());
    for action in functions::ACTIONS {
        let path = format!("/s3/{}", action.name);
        let call = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"];
        assert_eq!(
            answers::is_as(&call["example"], &call["schema"]),
            Ok(()),
            "{}",
            action.name
        );
    }
}
