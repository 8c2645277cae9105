//! The contract: docs/openapi.json is what the list of actions says.

use std::path::Path;

use functions::contract::{self, Examples};
use serde_json::{Value, json};
use tests::{answers, api};
use wharfage::domain::credential::hash;

/// A value for what the snapshots leave out, since it differs from run to run.
fn unmask(mask: &str) -> Option<Value> {
    let example = match mask {
        "[endpoint of NL]" => "https://s3.nl.example.com".into(),
        "[endpoint of DE]" => "https://s3.de.example.com".into(),
        "[32 hex]" => "0f8a3c5b7d9e1f20436587a9cbedf012".into(),
        "[32 of a-z0-9]" => "ks8rnrll31cp6lo5nh8daedarytl31yj".into(),
        "[s3uid]" => "Zr7Qm2Xc9Vb4Kp1Wd8Ys5Tg3Hn6Jf0La".into(),
        "[secret key]" => "exampleSecretKeyExampleSecretKeyExample0".into(),
        "[access key]" => "WH0EXAMPLE0ACCESS0K0".into(),
        "[id]" => "0jv2m4x6z8b1d3f5h7k9n0p2r4t6".into(),
        "[SHA-256 of the key]" => hash("the key").into(),
        "remove_account:[s3uid]" => "remove_account:Zr7Qm2Xc9Vb4Kp1Wd8Ys5Tg3Hn6Jf0La".into(),
        "[gb]" => json!(0.25),
        "[the keys]" => json!([
            { "api_key_id": hash("the key"), "client_id": 4, "name": "API key" },
        ]),
        _ => return None,
    };
    Some(example)
}

/// What calls were answered in the tests, as their snapshots keep it: by operation, each with the snapshot's name.
fn examples() -> Examples {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/snapshots");
    let mut examples = Examples::new();
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the snapshots")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    for file in files {
        let stem = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a name");
        let Some((module, name)) = stem.trim_start_matches("it__").split_once("__") else {
            continue;
        };
        let text = std::fs::read_to_string(&file).expect("a snapshot");
        let Some((_, body)) = text.trim_start_matches("---").split_once("---") else {
            continue;
        };
        let Ok(body) = serde_json::from_str::<Value>(body) else {
            continue;
        };
        if body["action"] == module && body["result"] == "OK" && name != "later" {
            let named = examples.entry(format!("s3_{module}")).or_default();
            named.push((name.to_owned(), unmasked(body)));
        }
    }
    examples
}

fn unmasked(value: Value) -> Value {
    match value {
        Value::String(text) => unmask(&text).unwrap_or(Value::String(text)),
        Value::Array(values) => values.into_iter().map(unmasked).collect(),
        Value::Object(mut fields) => {
            // As they are answered.
            let head = ["result", "action"].map(|name| fields.shift_remove_entry(name));
            let fields = head.into_iter().flatten().chain(fields);
            fields
                .map(|(name, value)| (name, unmasked(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        other => other,
    }
}

#[test]
fn every_action_has_an_example_that_is_as_the_contract_says() {
    let examples = examples();
    for action in functions::ACTIONS {
        let own = examples.get(&format!("s3_{}", action.name));
        let own = own.unwrap_or_else(|| panic!("{} has no snapshot of an answer", action.name));
        for (name, body) in own {
            let path = format!("/s3/{}", action.name);
            let checked = answers::check(&path, "POST", 200, None, "application/json", body);
            assert_eq!(checked, Ok(()), "{name}");
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
        answers::check(
            "/s3/create_bucket",
            "POST",
            200,
            None,
            "application/json",
            body,
        )
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
        let kind = "application/json";
        answers::check("/s3/create_bucket", "POST", status, reason, kind, &refused)
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

const BEGIN: &str = "<!-- actions:begin -->\n";
const END: &str = "<!-- actions:end -->\n";

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "UPDATE_CONTRACT is for whoever changes an action"
)]
fn the_contract_in_the_documents_is_what_the_actions_say() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let read = |name: &str| std::fs::read_to_string(docs.join(name)).unwrap_or_default();
    let document = contract::document(&examples());
    let said = serde_json::to_string_pretty(&document).expect("JSON");
    let page = read("api.md");
    let (before, rest) = page.split_once(BEGIN).expect("docs/api.md has a mark");
    let (_, after) = rest.split_once(END).expect("docs/api.md has a mark");
    let tables = api::actions(&document);
    for (name, made) in [
        ("openapi.json", format!("{said}\n")),
        ("api.md", format!("{before}{BEGIN}\n{tables}\n{END}{after}")),
    ] {
        if std::env::var_os("UPDATE_CONTRACT").is_some() {
            std::fs::write(docs.join(name), &made).expect("written");
        }
        assert!(
            read(name) == made,
            "docs/{name} is not what the actions say: UPDATE_CONTRACT=1 cargo test -p tests contract"
        );
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
