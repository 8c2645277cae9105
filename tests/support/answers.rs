//! Every answer that a test receives is held against the contract: its status, its reason and its body.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use functions::contract::{self, Examples};
use jsonschema::Validator;
use serde_json::{Value, json};

/// The contract, where an object has no other fields than it says. As it is published others may come to be.
static CLOSED: LazyLock<Value> = LazyLock::new(|| {
    let mut document = contract::document(&Examples::new());
    let mut components = document["components"]["schemas"].take();
    if let Some(schemas) = components.as_object_mut() {
        schemas.values_mut().for_each(close);
    }
    document["components"]["schemas"] = components;
    document
});

static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_object = fields.get("properties").is_some_and(Value::is_object);
            if is_object && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), false.into());
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Whether a value is what a schema of the contract says, to the last field.
///
/// # Errors
/// Says where not.
pub fn is_as(value: &Value, schema: &Value) -> Result<(), String> {
    let key = schema.to_string();
    let known = VALIDATORS
        .lock()
        .expect("no panic inside")
        .get(&key)
        .cloned();
    let validator = known.unwrap_or_else(|| {
        let mut schema = schema.clone();
        schema["components"] = json!({ "schemas": CLOSED["components"]["schemas"] });
        let made = Arc::new(jsonschema::draft202012::new(&schema).expect("a schema"));
        let mut validators = VALIDATORS.lock().expect("no panic inside");
        validators.insert(key, Arc::clone(&made));
        made
    });
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{} at {}", error.masked(), error.instance_path()))
        .collect();
    match errors.is_empty() {
        true => Ok(()),
        false => Err(errors.join("\n")),
    }
}

/// Holds an answer against what the contract says of its path. What is no path of it is no matter of it.
///
/// # Errors
/// Says what differs.
pub fn check(
    path: &str,
    method: &str,
    status: u16,
    reason: Option<&str>,
    kind: &str,
    body: &Value,
) -> Result<(), String> {
    let operations = &CLOSED["paths"][path];
    let operation = match &operations[method.to_lowercase()] {
        Value::Null => &operations["post"],
        operation => operation,
    };
    if operation.is_null() {
        return Ok(());
    }
    let mut response = &operation["responses"][status.to_string()];
    if let Some(reference) = response["$ref"].as_str() {
        response = CLOSED
            .pointer(reference.trim_start_matches('#'))
            .expect("it is there");
    }
    if response.is_null() {
        return Err(format!(
            "{path}: status {status} is not in the contract ({reason:?})"
        ));
    }
    let header = &response["headers"]["Wharfage-Reason"]["schema"]["enum"];
    let is_said = |reason: &str| {
        header
            .as_array()
            .is_some_and(|reasons| reasons.contains(&reason.into()))
    };
    if status >= 400 && !reason.is_some_and(is_said) {
        return Err(format!(
            "{path}: {status} for the reason {reason:?} is not in the contract"
        ));
    }
    let schema = &response["content"][kind]["schema"];
    if schema.is_null() {
        return Err(format!("{path}: {status} as {kind} is not in the contract"));
    }
    is_as(body, schema).map_err(|why| format!("{path}: {status}: {why}\n{body:#}"))
}
