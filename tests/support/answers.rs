//! Every answer that a test receives is held against the contract: its status, its reason and its body.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use functions::contract::{self, Examples};
use http::Method;
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
fn is_as(value: &Value, schema: &Value) -> Result<(), String> {
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

/// An answer.
pub struct Received<'a> {
    /// Of which path.
    pub path: &'a str,
    /// To which method.
    pub method: &'a Method,
    /// Its status.
    pub status: u16,
    /// `Wharfage-Reason`.
    pub reason: Option<&'a str>,
    /// `Content-Type`.
    pub kind: &'a str,
    /// Its body.
    pub body: &'a Value,
}

impl Received<'_> {
    /// Holds it against what the contract says of its path. What is no path of the contract passes.
    ///
    /// # Errors
    /// Says what differs.
    pub fn is_as_the_contract_says(&self) -> Result<(), String> {
        let operations = &CLOSED["paths"][self.path];
        let operation = match &operations[self.method.as_str().to_lowercase()] {
            Value::Null => &operations["post"],
            operation => operation,
        };
        if operation.is_null() {
            return Ok(());
        }
        self.is_as(operation).map_err(|why| {
            format!(
                "{} answered {}: {why}\n{:#}",
                self.path, self.status, self.body
            )
        })
    }

    fn is_as(&self, operation: &Value) -> Result<(), String> {
        let mut response = &operation["responses"][self.status.to_string()];
        if let Some(reference) = response["$ref"].as_str() {
            let place = reference.trim_start_matches('#');
            response = CLOSED.pointer(place).expect("it is there");
        }
        if response.is_null() {
            return Err(format!(
                "a status that is not in the contract ({:?})",
                self.reason
            ));
        }
        let reasons = &response["headers"]["Wharfage-Reason"]["schema"]["enum"];
        let is_said = |reason: &str| {
            let mut reasons = reasons.as_array().into_iter().flatten();
            reasons.any(|said| said == reason)
        };
        if self.status >= 400 && !self.reason.is_some_and(is_said) {
            return Err(format!(
                "the reason {:?} is not in the contract",
                self.reason
            ));
        }
        let schema = &response["content"][self.kind]["schema"];
        if schema.is_null() {
            return Err(format!("{} is not in the contract", self.kind));
        }
        is_as(self.body, schema)
    }
}
