//! The contract: docs/openapi.json is what the list of actions says.

use std::path::Path;

use functions::contract;
use serde_json::Value;

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "UPDATE_CONTRACT is for whoever changes an action"
)]
fn the_contract_in_the_documents_is_what_the_actions_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let said = format!(
        "{}\n",
        serde_json::to_string_pretty(&contract::document()).expect("JSON")
    );
    if std::env::var_os("UPDATE_CONTRACT").is_some() {
        std::fs::write(&file, &said).expect("written");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == said,
        "docs/openapi.json is not what the actions say: UPDATE_CONTRACT=1 cargo test -p tests contract"
    );
}

#[test]
fn the_contract_has_every_action_with_what_it_takes() {
    let document = contract::document();
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
