//! The contract: every path, what it takes and what it answers, as OpenAPI 3.1.0 has it. It is made from the list of actions.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use wharfage::http::subject::Who;
use wharfage::http::{Action, AnswerSchema};

use crate::auth_php::SESSIONS;
use crate::eq_callback_php::CHECKS;
use crate::{ACTIONS, typed_name};

const COMPONENTS: &str = "/components/schemas";
/// How a parameter that stands once per currency is written in lists of names.
const PER_CURRENCY: &str = "*";

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut contract = Contract::new();
    let mut paths = Map::new();
    let calls: Vec<(String, Value)> = ACTIONS
        .iter()
        .map(|action| (action.name.to_owned(), contract.operation(action, None)))
        .collect();
    paths.insert("/s3.php".into(), contract.together(ACTIONS, "s3"));
    for (name, operation) in calls {
        paths.insert(format!("/s3/{name}"), json!({ "post": operation }));
    }
    for (path, module, actions) in [
        ("/auth.php", "auth", SESSIONS),
        ("/eq_callback.php", "eq_callback", CHECKS),
    ] {
        for action in actions {
            contract.operation(action, Some(module));
        }
        paths.insert(path.into(), contract.together(actions, module));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Wharfage",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Accounts, keys, usage and invoices of S3 storage.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": contract.schemas() },
    })
}

/// The schema of what an action answers, with all that it refers to beside it.
#[must_use]
pub fn answer_schema(action: &Action) -> Value {
    let mut contract = Contract::new();
    contract.operation(action, None);
    let mut schema = json!({ "$ref": format!("#{COMPONENTS}/{}Answer", typed_name(action.name)) });
    schema["components"] = json!({ "schemas": contract.schemas() });
    schema
}

struct Contract {
    /// For what is sent, and for what is answered.
    sent: SchemaGenerator,
    answered: SchemaGenerator,
    own: Map<String, Value>,
}

impl Contract {
    fn new() -> Contract {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = COMPONENTS.into();
                settings.meta_schema = None;
                settings.transforms.push(Box::new(list_words));
            })
        };
        Contract {
            sent: settings().for_deserialize().into_generator(),
            answered: settings().for_serialize().into_generator(),
            own: Map::new(),
        }
    }

    /// All schemas, by name.
    fn schemas(mut self) -> Map<String, Value> {
        let mut schemas = self.own;
        schemas.extend(self.sent.take_definitions(true));
        schemas.extend(self.answered.take_definitions(true));
        schemas.insert("Refusal".into(), refusal());
        schemas.sort_keys();
        schemas
    }

    /// One action at a path of its own. Its schemas are named after it, and after its module where that is given.
    fn operation(&mut self, action: &Action, module: Option<&str>) -> Value {
        let name = match module {
            Some(module) => format!("{}{}", typed_name(module), typed_name(action.name)),
            None => typed_name(action.name),
        };
        let call = self.call(action);
        self.own.insert(format!("{name}Call"), call);
        let (answer, later) = self.answer(action);
        self.own.insert(format!("{name}Answer"), answer);
        let mut responses = Map::new();
        let reference = |name: String| json!({ "$ref": format!("#{COMPONENTS}/{name}") });
        let body = |schema: Value| json!({ "application/json": { "schema": schema } });
        responses.insert(
            "200".into(),
            json!({ "description": "Done.", "content": body(reference(format!("{name}Answer"))) }),
        );
        if let Some(later) = later {
            self.own.insert(format!("{name}Later"), later);
            responses.insert(
                "202".into(),
                json!({
                    "description": "Under way: ask `eq_callback.php` by the callback key.",
                    "content": body(reference(format!("{name}Later"))),
                }),
            );
        }
        for status in ["4XX", "5XX"] {
            responses.insert(status.into(), refused());
        }
        let docs: Vec<&str> = action
            .contract
            .docs
            .iter()
            .map(|line| line.trim())
            .collect();
        let who = match action.contract.who {
            Who::Anybody => "It takes no token.",
            Who::Everybody => "For everybody with a token.",
            Who::Administrators => "For administrators.",
        };
        json!({
            "operationId": format!("{}_{}", action.module, action.name),
            "summary": docs.first(),
            "description": docs.iter().skip(1).chain([&"", &who]).copied().collect::<Vec<_>>().join("\n").trim(),
            "requestBody": request(reference(format!("{name}Call"))),
            "responses": responses,
        })
    }

    /// What an action takes: one object of all parameters.
    fn call(&mut self, action: &Action) -> Value {
        let mut call = json!({ "type": "object", "properties": {}, "required": [] });
        call["properties"]["action"] = json!({ "type": "string", "const": action.name });
        if action.contract.who != Who::Anybody {
            call["properties"]["token"] = json!({
                "type": "string",
                "description": "What `auth.php` gave.",
                "pattern": "^[0-9a-f]{32}$",
            });
            call["required"] = json!(["token"]);
        }
        for parameters in action.contract.parameters {
            merge(&mut call, parameters(&mut self.sent));
        }
        move_patterns(&mut call);
        require_values(&mut call);
        call
    }

    /// What an action answers at once, and what it answers where that takes longer.
    fn answer(&mut self, action: &Action) -> (Value, Option<Value>) {
        let head = json!({
            "type": "object",
            "properties": {
                "result": { "type": "string", "const": "OK" },
                "action": { "type": "string", "const": action.name },
            },
            "required": ["result", "action"],
        });
        let mut answer = head.clone();
        match action.contract.answer {
            AnswerSchema::Whole(schema) => {
                let mut whole = json!({ "type": "object", "properties": {}, "required": [] });
                merge(&mut whole, schema(&mut self.answered));
                (whole, None)
            }
            AnswerSchema::Fields(schema) => {
                merge(&mut answer, schema(&mut self.answered));
                (answer, None)
            }
            AnswerSchema::FieldsOrLater(schema) => {
                merge(&mut answer, schema(&mut self.answered));
                let mut later = head;
                later["properties"]["callback"] = json!({
                    "type": "string",
                    "description": "The key for `eq_callback.php`.",
                });
                later["required"] = json!(["result", "action", "callback"]);
                (answer, Some(later))
            }
        }
    }

    /// Several actions at one path, told apart by the parameter `action`.
    fn together(&self, actions: &[&Action], module: &str) -> Value {
        let prefix = match module {
            "s3" => String::new(),
            module => typed_name(module),
        };
        let names = |suffix: &str| -> Vec<(String, String)> {
            let named = actions.iter().map(|action| {
                let schema = format!("{prefix}{}{suffix}", typed_name(action.name));
                (action.name.to_owned(), schema)
            });
            named
                .filter(|(_, schema)| self.own.contains_key(schema))
                .collect()
        };
        let one_of = |suffix: &str| -> Value {
            let names = names(suffix);
            let references: Vec<Value> = names
                .iter()
                .map(|(_, schema)| json!({ "$ref": format!("#{COMPONENTS}/{schema}") }))
                .collect();
            json!({ "oneOf": references })
        };
        let mut call = one_of("Call");
        // A path of its own says which action it is.
        call["required"] = json!(["action"]);
        let mapping: Map<String, Value> = names("Call")
            .into_iter()
            .map(|(action, schema)| (action, format!("#{COMPONENTS}/{schema}").into()))
            .collect();
        call["discriminator"] = json!({ "propertyName": "action", "mapping": mapping });
        let body = |schema: Value| json!({ "application/json": { "schema": schema } });
        let mut responses = json!({
            "200": { "description": "Done.", "content": body(json!({ "anyOf": one_of("Answer")["oneOf"] })) },
            "4XX": refused(),
            "5XX": refused(),
        });
        if module == "s3" {
            responses["202"] = json!({
                "description": "Under way: ask `eq_callback.php` by the callback key.",
                "content": body(json!({ "anyOf": one_of("Later")["oneOf"] })),
            });
        }
        json!({
            "post": {
                "operationId": module,
                "summary": "Takes every action of its kind, named by the parameter `action`.",
                "requestBody": request(call),
                "responses": responses,
            },
        })
    }
}

/// A body of each kind that is read.
fn request(schema: Value) -> Value {
    let content: Map<String, Value> = [
        "application/x-www-form-urlencoded",
        "application/json",
        "multipart/form-data",
    ]
    .into_iter()
    .map(|kind| (kind.to_owned(), json!({ "schema": schema })))
    .collect();
    json!({ "required": true, "content": content })
}

fn refused() -> Value {
    json!({
        "description": "Refused, or a fault.",
        "headers": {
            "Wharfage-Reason": {
                "description": "Why a token is refused.",
                "schema": { "enum": ["token_missing", "token_invalid", "token_expired"] },
            },
        },
        "content": { "application/json": { "schema": { "$ref": format!("#{COMPONENTS}/Refusal") } } },
    })
}

fn refusal() -> Value {
    json!({
        "type": "object",
        "description": "Why a call is refused. Where the gateway itself refuses it, there is no `code`.",
        "properties": {
            "code": { "type": "integer", "const": -1 },
            "message": { "type": "string", "examples": ["s3/create_order: missing parameter plan_id"] },
        },
        "required": ["message"],
    })
}

/// Adds the properties of a struct, what is required of them, and what else it says, to an object.
fn merge(into: &mut Value, schema: Schema) {
    let Value::Object(schema) = schema.to_value() else {
        return;
    };
    for (key, value) in schema {
        match (key.as_str(), value) {
            ("properties" | "patternProperties", Value::Object(properties)) => {
                if !into[&key].is_object() {
                    into[&key] = json!({});
                }
                if let Some(into) = into[&key].as_object_mut() {
                    into.extend(properties);
                }
            }
            ("required", Value::Array(names)) => {
                if let Some(into) = into["required"].as_array_mut() {
                    into.extend(names);
                }
            }
            ("type" | "description" | "title", _) => {}
            (_, value) => into[&key] = value,
        }
    }
}

/// Words with a description each become a list of words, and a list of descriptions: generators of clients that read `oneOf` as a choice
/// of types know no value but the first.
fn list_words(schema: &mut Schema) {
    let Some(Value::Array(variants)) = schema.get("oneOf") else {
        return;
    };
    let mut words = Vec::new();
    let mut lines = Vec::new();
    for variant in variants {
        let Some(word) = variant["const"].as_str() else {
            return;
        };
        words.push(word.to_owned());
        let description = variant["description"].as_str().unwrap_or_default();
        lines.push(format!("- `{word}`: {description}"));
    }
    let description = schema.get("description").and_then(Value::as_str);
    let description = format!(
        "{}\n\n{}",
        description.unwrap_or_default(),
        lines.join("\n")
    );
    schema.remove("oneOf");
    schema.insert("type".into(), "string".into());
    schema.insert("enum".into(), words.into());
    schema.insert("description".into(), description.trim().into());
}

/// Null is no value: what is required is none. Several actions read what one of them requires by the same type.
fn require_values(call: &mut Value) {
    let required = call["required"].as_array().cloned().unwrap_or_default();
    for name in required.iter().filter_map(Value::as_str) {
        if let Some(kind) = call.pointer_mut(&format!("/properties/{name}/type"))
            && let Some([only, _]) = kind.as_array().map(Vec::as_slice)
        {
            *kind = only.clone();
        }
    }
}

/// A parameter that stands once per currency is a pattern of names.
fn move_patterns(call: &mut Value) {
    let Some(properties) = call["properties"].as_object_mut() else {
        return;
    };
    let names: Vec<String> = properties
        .keys()
        .filter(|name| name.ends_with(PER_CURRENCY))
        .cloned()
        .collect();
    let mut patterns = Map::new();
    for name in names {
        if let Some(schema) = properties.shift_remove(&name) {
            let prefix = name.trim_end_matches(PER_CURRENCY);
            patterns.insert(format!("^{prefix}[a-z]{{3}}$"), schema);
        }
    }
    if let Some(required) = call["required"].as_array_mut() {
        required.retain(|name| {
            !name
                .as_str()
                .is_some_and(|name| name.ends_with(PER_CURRENCY))
        });
    }
    if patterns.is_empty() {
        // Every other name is refused.
        call["additionalProperties"] = false.into();
    } else {
        // There too; but a generator that knows no patterns of names lets them be written only where others may.
        call["patternProperties"] = patterns.into();
    }
}
