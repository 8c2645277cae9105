//! The contract as an OpenAPI 3.1.0 document: every path with its parameters and answers, generated from the list of actions.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema as _;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use strum::VariantArray as _;
use wharfage::domain::event::{Event, Kind};
use wharfage::error::Reason;
use wharfage::http::subject::Who;
use wharfage::http::{Action, AnswerSchema, Get};

use crate::auth_php::SESSIONS;
use crate::eq_callback_php::{CHECKS, Removed};
use crate::{ACTIONS, typed_name};

const COMPONENTS: &str = "/components/schemas";
/// How a parameter that stands once per currency is written in lists of names.
const PER_CURRENCY: &str = "*";

/// Why any call may be refused.
const ALWAYS: [Reason; 9] = [
    Reason::ParameterMissing,
    Reason::ParameterInvalid,
    Reason::ParameterUnknown,
    Reason::RequestUnreadable,
    Reason::MethodNotAllowed,
    Reason::RequestTooLarge,
    Reason::MediaTypeUnsupported,
    Reason::InternalError,
    Reason::TemporarilyUnavailable,
];
/// Why a call with a token may be refused.
const BY_TOKEN: [Reason; 3] = [
    Reason::TokenMissing,
    Reason::TokenInvalid,
    Reason::TokenExpired,
];
/// What the gateway answers by itself: requests that are too large or too many, and functions that fail or do not answer in time.
const BY_GATEWAY: [u16; 5] = [413, 429, 431, 500, 503];

/// Answers to show, by the names of operations: each with a name of its own.
pub type Examples = BTreeMap<String, Vec<(String, Value)>>;

/// The document.
#[must_use]
pub fn document(examples: &Examples) -> Value {
    let mut contract = Contract::new(examples);
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
    contract.type_scope();
    paths.extend(documents());
    let webhooks = contract.events();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Wharfage",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Accounts, keys, usage and invoices of S3 storage.",
            "description": include_str!("contract.md"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": [
            { "name": "sessions", "description": "Tokens for API keys." },
            { "name": "accounts", "description": "For everybody with a token." },
            { "name": "administration", "description": "For administrators." },
            { "name": "documents", "description": "This contract." },
        ],
        "paths": paths,
        "webhooks": webhooks,
        "components": {
            "schemas": contract.schemas(),
            "responses": responses(),
            "headers": headers(),
            "parameters": {
                "Idempotency-Key": {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "description": "The same as the parameter `idempotency_key`.",
                    "schema": { "type": "string", "maxLength": 255, "examples": ["order-2026-0017"] },
                },
            },
        },
    })
}

/// Why a call may be refused, by status.
#[must_use]
pub fn refusals(action: &Action) -> BTreeMap<u16, BTreeSet<Reason>> {
    let own = action.contract.refuses.iter().copied().flatten();
    let by_token = BY_TOKEN
        .iter()
        .filter(|_| action.contract.who != Who::Anybody);
    let by_role =
        (action.contract.who == Who::Administrators).then_some(&Reason::AdministratorsOnly);
    let reasons = ALWAYS.iter().chain(by_token).chain(by_role).chain(own);
    by_status(reasons.copied())
}

fn by_status(reasons: impl Iterator<Item = Reason>) -> BTreeMap<u16, BTreeSet<Reason>> {
    let mut by_status: BTreeMap<u16, BTreeSet<Reason>> = BTreeMap::new();
    for status in BY_GATEWAY {
        by_status.entry(status).or_default();
    }
    for reason in reasons {
        by_status.entry(reason.status()).or_default().insert(reason);
    }
    by_status
}

struct Contract<'a> {
    /// For what is sent, and for what is answered.
    sent: SchemaGenerator,
    answered: SchemaGenerator,
    own: Map<String, Value>,
    examples: &'a Examples,
}

impl<'a> Contract<'a> {
    fn new(examples: &'a Examples) -> Contract<'a> {
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
            examples,
        }
    }

    /// All schemas, by name.
    fn schemas(mut self) -> Map<String, Value> {
        let mut schemas = self.own;
        schemas.extend(self.sent.take_definitions(true));
        schemas.extend(self.answered.take_definitions(true));
        schemas.insert("Refusal".into(), refusal());
        schemas.insert("Problem".into(), problem());
        schemas.insert("Reason".into(), reasons());
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
        responses.insert("200".into(), self.answered(action, &name));
        if let Some(later) = later {
            self.own.insert(format!("{name}Later"), later);
            responses.insert("202".into(), under_way(reference(&format!("{name}Later"))));
        }
        responses.extend(refusal_responses(&refusals(action)));
        let (who, tag) = match action.contract.who {
            Who::Anybody => ("It takes no token.", "sessions"),
            Who::Everybody => ("For everybody with a token.", "accounts"),
            Who::Administrators => ("For administrators.", "administration"),
        };
        let mut body = request(&reference(&format!("{name}Call")));
        let example = self.example_call(&format!("{name}Call"), action);
        body["content"]["application/json"]["example"] = example;
        let parameters: Vec<Value> = self.own[&format!("{name}Call")]["properties"]
            .get("idempotency_key")
            .map(|_| json!({ "$ref": "#/components/parameters/Idempotency-Key" }))
            .into_iter()
            .collect();
        json!({
            "operationId": operation_id(action),
            "tags": [tag],
            "summary": action.contract.summary(),
            "description": format!("{}\n\n{who}", action.contract.remarks()).trim(),
            "parameters": parameters,
            "requestBody": body,
            "responses": responses,
        })
    }

    /// What a call says at least. Its values are those of the example of its answer, or else each parameter's first example.
    fn example_call(&self, name: &str, action: &Action) -> Value {
        let schema = &self.own[name];
        let answer = self
            .examples
            .get(&operation_id(action))
            .and_then(|examples| examples.first());
        let answered = |name: &str| -> Option<Value> {
            let (_, answer) = answer?;
            let within = answer
                .as_object()?
                .values()
                .filter(|value| value.is_object());
            let mut places = std::iter::once(answer).chain(within);
            places
                .find_map(|place| place.get(name))
                .filter(|value| is_plain(value))
                .cloned()
        };
        let mut example = Map::new();
        let required = [&schema["required"], &schema["if"]["required"]];
        let required = required.into_iter().filter_map(Value::as_array).flatten();
        // Only where the installation generates names it can be left out.
        let bucket = schema["properties"]
            .get("bucket_name")
            .map(|_| Value::from("bucket_name"));
        for name in required.chain(&bucket) {
            let name = name.as_str().unwrap_or_default();
            let value =
                answered(name).unwrap_or_else(|| self.example_of(&schema["properties"][name]));
            example.insert(name.to_owned(), value);
        }
        let patterns = schema["patternProperties"].as_object();
        if let Some((pattern, schema)) = patterns.and_then(|patterns| patterns.iter().next()) {
            let name = pattern.trim_matches(['^', '$']).replace("[a-z]{3}", "eur");
            example.insert(name, self.example_of(schema));
        }
        example.into()
    }

    fn example_of(&self, schema: &Value) -> Value {
        let shared = schema["$ref"]
            .as_str()
            .and_then(|path| path.rsplit('/').next());
        let shared = shared.and_then(|name| self.sent.definitions().get(name));
        let schema = shared.unwrap_or(schema);
        let first = |name: &str| schema[name].get(0);
        let value = first("examples").or_else(|| first("enum"));
        let value = value.or_else(|| schema["oneOf"][0].get("const"));
        value
            .or_else(|| schema.get("const"))
            .cloned()
            .unwrap_or_default()
    }

    /// What an action answers at once, with what some calls were answered.
    fn answered(&self, action: &Action, name: &str) -> Value {
        let mut content = json!({ "schema": reference(&format!("{name}Answer")) });
        if let Some(examples) = self.examples.get(&operation_id(action)) {
            let examples: Map<String, Value> = examples
                .iter()
                .map(|(name, value)| (name.clone(), json!({ "value": value })))
                .collect();
            content["examples"] = examples.into();
        }
        json!({ "description": "Done.", "content": { "application/json": content } })
    }

    /// What an action takes: one object of all parameters.
    fn call(&mut self, action: &Action) -> Value {
        let contract = &action.contract;
        let description = format!("{}\n\n{}", contract.summary(), contract.remarks());
        let mut call = json!({
            "type": "object",
            "description": description.trim(),
            "properties": {},
            "required": [],
        });
        call["properties"]["action"] = json!({ "type": "string", "const": action.name });
        if action.contract.who != Who::Anybody {
            call["properties"]["token"] = json!({
                "type": "string",
                "description": "The token from `auth.php`.",
                "pattern": "^[0-9a-f]{32}$",
                "examples": ["0f8a3c5b7d9e1f20436587a9cbedf012"],
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
        let head = head(action.name);
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
        // By action, as far as it has one of this kind.
        let schemas = |kind: &str| -> Vec<(&str, Value)> {
            let named = actions.iter().map(|action| {
                let schema = format!("{prefix}{}{kind}", typed_name(action.name));
                (action.name, schema)
            });
            named
                .filter(|(_, schema)| self.own.contains_key(schema))
                .map(|(action, schema)| (action, reference(&schema)))
                .collect()
        };
        let references = |kind: &str| -> Vec<Value> {
            let schemas = schemas(kind).into_iter();
            schemas.map(|(_, reference)| reference).collect()
        };
        let mapping: Map<String, Value> = schemas("Call")
            .into_iter()
            .map(|(action, mut reference)| (action.to_owned(), reference["$ref"].take()))
            .collect();
        let call = json!({
            "oneOf": references("Call"),
            // A path of its own says which action it is.
            "required": ["action"],
            "discriminator": { "propertyName": "action", "mapping": mapping },
        });
        let answers = references("Answer");
        let mut responses = Map::new();
        responses.insert(
            "200".into(),
            json!({
                "description": "Done.",
                "content": { "application/json": { "schema": { "anyOf": answers } } },
            }),
        );
        let later = references("Later");
        if !later.is_empty() {
            responses.insert("202".into(), under_way(json!({ "anyOf": later })));
        }
        let reasons = actions.iter().flat_map(|action| refusals(action));
        let reasons = reasons.flat_map(|(_, reasons)| reasons);
        responses.extend(refusal_responses(&by_status(
            reasons.chain([Reason::ActionUnknown]),
        )));
        let mut path = json!({
            "post": {
                "operationId": module,
                "tags": [if module == "s3" { "accounts" } else { "sessions" }],
                "summary": "Takes every action of its kind, named by the parameter `action`.",
                "requestBody": request(&call),
                "responses": responses,
            },
        });
        // The parameters of an address are one object, as those of a body are.
        let mut by_get = actions
            .iter()
            .filter(|action| matches!(action.get, Get::Always));
        if let Some(only) = by_get.next() {
            let name = format!("{prefix}{}", typed_name(only.name));
            let mut schema = self.own[&format!("{name}Call")].clone();
            if let Some(required) = schema["required"].as_array_mut() {
                required.push("action".into());
            }
            let reasons = refusals(only).into_values().flatten();
            let mut responses =
                refusal_responses(&by_status(reasons.chain([Reason::ActionUnknown])));
            responses.insert("200".into(), self.answered(only, &name));
            path["get"] = json!({
                "operationId": format!("{module}_get"),
                "tags": ["sessions"],
                "summary": format!("The action `{}` by GET.", only.name),
                "parameters": in_address(&schema),
                "responses": responses,
            });
        }
        path
    }

    /// What `check` answers for other actions: what they would have answered themselves, or what a removal removed.
    fn type_scope(&mut self) {
        let removed = Removed::json_schema(&mut self.answered);
        let removals = ["delete_bucket", "delete_account"].map(|action| {
            let mut answer = head(action);
            merge(&mut answer, removed.clone());
            answer
        });
        let later = ACTIONS
            .iter()
            .filter(|action| matches!(action.contract.answer, AnswerSchema::FieldsOrLater(_)))
            .map(|action| reference(&format!("{}Answer", typed_name(action.name))));
        let scope: Vec<Value> = later.chain(removals).collect();
        let description = "What the action answers.";
        self.own["EqCallbackCheckAnswer"]["properties"]["scope"] =
            json!({ "description": description, "anyOf": scope });
    }

    /// What happens, as it is told on the bus.
    fn events(&mut self) -> Map<String, Value> {
        let event = Event::json_schema(&mut self.answered);
        self.own.insert("Event".into(), event.to_value());
        let kinds = Kind::VARIANTS.iter().map(|kind| {
            let schema = json!({
                "allOf": [reference("Event")],
                "properties": { "kind": { "const": kind } },
            });
            let operation = json!({
                "operationId": format!("event_{}", kind.to_string().replace('.', "_")),
                "tags": ["accounts"],
                "summary": kind.summary(),
                "description": "An event on the installation's EventBridge bus. It is not sent over HTTP.",
                "requestBody": { "content": { "application/json": { "schema": schema } } },
                "responses": { "200": { "description": "Taken." } },
            });
            (kind.to_string(), json!({ "post": operation }))
        });
        kinds.collect()
    }
}

/// What the answer of an action begins with.
fn head(action: &str) -> Value {
    json!({
        "type": "object",
        "properties": {
            "result": { "type": "string", "const": "OK" },
            "action": { "type": "string", "const": action },
        },
        "required": ["result", "action"],
    })
}

fn operation_id(action: &Action) -> String {
    format!("{}_{}", action.module, action.name)
}

fn is_plain(value: &Value) -> bool {
    value.is_string() || value.is_number()
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#{COMPONENTS}/{name}") })
}

/// The parameters of an address, of an object of them.
fn in_address(schema: &Value) -> Value {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let properties = schema["properties"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let parameters = properties.into_iter().map(|(name, mut schema)| {
        let description = schema["description"].take();
        if let Some(schema) = schema.as_object_mut() {
            schema.shift_remove("description");
        }
        let mut parameter = json!({
            "name": name,
            "in": "query",
            "required": required.contains(&name.as_str().into()),
            "schema": schema,
        });
        if description.is_string() {
            parameter["description"] = description;
        }
        parameter
    });
    parameters.collect()
}

/// The answer of whoever is to ask again.
fn under_way(schema: Value) -> Value {
    json!({
        "description": "Under way: ask `eq_callback.php` by the callback key.",
        "content": { "application/json": { "schema": schema } },
    })
}

/// `GET` of the contract itself.
fn documents() -> [(String, Value); 2] {
    let document = |id: &str, summary: &str, kind: &str, schema: Value| {
        json!({
            "get": {
                "operationId": id,
                "tags": ["documents"],
                "summary": summary,
                "responses": {
                    "200": { "description": "The document.", "content": { kind: { "schema": schema } } },
                    "405": { "$ref": "#/components/responses/Refused405" },
                },
            },
        })
    };
    [
        (
            "/openapi.json".into(),
            document(
                "openapi",
                "This contract.",
                "application/json",
                json!({ "type": "object" }),
            ),
        ),
        (
            "/docs".into(),
            document(
                "docs",
                "This contract as a page.",
                "text/html",
                json!({ "type": "string" }),
            ),
        ),
    ]
}

/// A body of each kind that is read.
fn request(schema: &Value) -> Value {
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

/// The responses of refusals. Where the reasons are those of every call, the response is one of the components.
fn refusal_responses(by_status: &BTreeMap<u16, BTreeSet<Reason>>) -> Map<String, Value> {
    let shared = shared();
    let responses = by_status.iter().map(|(status, reasons)| {
        let response = match shared.get(status) == Some(reasons) {
            true => json!({ "$ref": format!("#/components/responses/Refused{status}") }),
            false => refused_by(*status, reasons),
        };
        (status.to_string(), response)
    });
    responses.collect()
}

/// The refusals that most calls share.
fn shared() -> BTreeMap<u16, BTreeSet<Reason>> {
    by_status(ALWAYS.into_iter().chain(BY_TOKEN))
}

/// The responses of those.
fn responses() -> Map<String, Value> {
    let responses = shared().into_iter().map(|(status, reasons)| {
        let response = refused_by(status, &reasons);
        (format!("Refused{status}"), response)
    });
    responses.collect()
}

fn refused_by(status: u16, reasons: &BTreeSet<Reason>) -> Value {
    let mut lines: Vec<String> = reasons
        .iter()
        .map(|reason| format!("- `{}`: {}.", reason.name(), reason.title()))
        .collect();
    if BY_GATEWAY.contains(&status) {
        lines.push("- No reason: the answer is the gateway's.".into());
    }
    let mut headers = json!({});
    if !reasons.is_empty() {
        headers["Wharfage-Reason"] = json!({
            "description": "Why, for programs.",
            "schema": { "enum": reasons },
        });
    }
    if status == 405 {
        headers["Allow"] = json!({ "$ref": "#/components/headers/Allow" });
    }
    if [409, 429, 503].contains(&status) {
        headers["Retry-After"] = json!({ "$ref": "#/components/headers/Retry-After" });
    }
    let mut response = json!({
        "description": lines.join("\n"),
        "content": {
            "application/json": { "schema": reference("Refusal") },
            "application/problem+json": { "schema": reference("Problem") },
        },
    });
    if headers
        .as_object()
        .is_some_and(|headers| !headers.is_empty())
    {
        response["headers"] = headers;
    }
    response
}

fn headers() -> Value {
    json!({
        "Allow": {
            "description": "The methods there are.",
            "schema": { "type": "string" },
        },
        "Retry-After": {
            "description": "Seconds after which to ask again, where that helps.",
            "schema": { "type": "integer", "minimum": 0 },
        },
    })
}

/// The closed list of reasons.
fn reasons() -> Value {
    let lines: Vec<String> = Reason::VARIANTS
        .iter()
        .map(|reason| {
            format!(
                "- `{}` ({}): {}.",
                reason.name(),
                reason.status(),
                reason.title()
            )
        })
        .collect();
    json!({
        "description": format!("Why a call is refused, for programs: the header `Wharfage-Reason` has it too.\n\n{}", lines.join("\n")),
        "enum": Reason::VARIANTS,
    })
}

fn problem() -> Value {
    json!({
        "type": "object",
        "description": "Why a call is refused, as RFC 9457 has it: for callers that accept `application/problem+json`.",
        "properties": {
            "type": {
                "type": "string",
                "format": "uri-reference",
                "description": "Where the reason is described.",
                "examples": ["/docs#bucket_name_taken"],
            },
            "title": { "type": "string", "description": "A summary of the reason." },
            "status": { "type": "integer", "description": "The HTTP status." },
            "detail": { "type": "string", "description": "The same text as `message` of the plain form." },
            "reason": reference("Reason"),
            "parameter": { "type": "string", "description": "The parameter that is missing, unknown or wrong." },
        },
        "required": ["type", "title", "status", "detail", "reason"],
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

/// Null and an empty text are no value: what is required is neither. Several actions read what one of them requires by the same type.
fn require_values(call: &mut Value) {
    let required = call["required"].as_array().cloned().unwrap_or_default();
    for name in required.iter().filter_map(Value::as_str) {
        let parameter = call.pointer_mut(&format!("/properties/{name}"));
        let Some(Value::Object(parameter)) = parameter else {
            continue;
        };
        if let Some([only, _]) = parameter
            .get("type")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
        {
            let only = only.clone();
            parameter.insert("type".into(), only);
        }
        if parameter.get("type").is_some_and(|kind| kind == "string")
            && !parameter.contains_key("pattern")
        {
            parameter.entry("minLength").or_insert(1.into());
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
