//! What is made of the contract for docs/: openapi.json with examples, and the tables of api.md.

use std::fmt::Write as _;
use std::path::Path;

use functions::contract::{self, Examples};
use functions::docs::rows::{Row, rows};
use serde_json::{Value, json};
use strum::VariantArray as _;
use wharfage::domain::credential::hash;
use wharfage::error::Reason;
use wharfage::http::subject::Who;
use wharfage::http::{Action, AnswerSchema};

/// So many items of a list are shown.
const MOST_ITEMS: usize = 3;

/// The contract as it is published.
pub fn document() -> String {
    let document = contract::document(&examples());
    serde_json::to_string_pretty(&document).expect("JSON") + "\n"
}

/// A value for what the snapshots leave out, since it differs from run to run.
fn unmask(mask: &str) -> Option<Value> {
    let example = match mask {
        "[endpoint of NL]" => "https://s3.nl.example.com".into(),
        "[endpoint of DE]" => "https://s3.de.example.com".into(),
        "[32 hex]" => "0f8a3c5b7d9e1f20436587a9cbedf012".into(),
        "[32 of a-z0-9]" => "ks8rnrll31cp6lo5nh8daedarytl31yj".into(),
        "[s3uid]" => "0uJP5PLs2GVtM426nWM0WpwxpbUVHg2c".into(),
        "[secret key]" => "exampleSecretKeyExampleSecretKeyExample0".into(),
        "[access key]" => "WH0EXAMPLE0ACCESS0K0".into(),
        "[id]" => "0jv2m4x6z8b1d3f5h7k9n0p2r4t6".into(),
        "[SHA-256 of the key]" => hash("the key").into(),
        "remove_account:[s3uid]" => "remove_account:0uJP5PLs2GVtM426nWM0WpwxpbUVHg2c".into(),
        "[gb]" => json!(0.25),
        "[the keys]" => json!([
            { "api_key_id": hash("the key"), "client_id": 4, "name": "API key" },
        ]),
        _ => return None,
    };
    Some(example)
}

/// What calls were answered in the tests, as their snapshots keep it: by operation, each with the snapshot's name.
pub fn examples() -> Examples {
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
            let mut example = unmasked(body);
            if let Some(previous) = example.get_mut("previous_access_key") {
                *previous = "WH0EXAMPLE0ACCESS0K1".into();
            }
            named.push((name.to_owned(), example));
            // That of a common call first.
            named.sort_by_key(|(name, _)| name != "success");
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

/// Every action: in short, then one after the other.
pub fn actions() -> String {
    let document = &contract::document(&examples());
    let mut text = String::from("\n");
    text.push_str("### Reasons of refusals\n\n| reason | status | meaning |\n|---|---|---|\n");
    for reason in Reason::VARIANTS {
        let (name, status, title) = (reason.name(), reason.status(), reason.title());
        let _ = writeln!(text, "| `{name}` | {status} | {title} |");
    }
    text.push_str("\nThe list of an action names its own. Besides, any call may be refused with 400, 401, 405, 413, 415, 500 and `temporarily_unavailable`,\nand those for administrators with `administrators_only`.\n\n");
    for (who, title) in [
        (Who::Everybody, "For everybody with a token"),
        (Who::Administrators, "For administrators"),
    ] {
        let of_them = || {
            functions::ACTIONS
                .iter()
                .filter(|action| action.contract.who == who)
        };
        let _ = write!(text, "### {title}\n\n| action | |\n|---|---|\n");
        for action in of_them() {
            let name = action.name;
            let summary = action.contract.summary();
            let _ = writeln!(text, "| [`{name}`](#{name}) | {summary} |");
        }
        for action in of_them() {
            let _ = write!(text, "\n{}", section(document, action));
        }
        text.push('\n');
    }
    text
}

fn section(document: &Value, action: &Action) -> String {
    let operation = &document["paths"][format!("/s3/{}", action.name)]["post"];
    let call = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    let call = call
        .as_str()
        .expect("a reference")
        .rsplit('/')
        .next()
        .expect("a name");
    let said = &document["components"]["schemas"][call]["description"];
    let said = said.as_str().expect("a text");
    let mut text = format!("#### {}\n\n{said}\n\n", action.name);
    let parameters = rows(document, call);
    if parameters.is_empty() {
        text.push_str("It takes nothing but `token`.\n");
    } else {
        text.push_str(
            "| parameter | type | required | default | meaning |\n|---|---|---|---|---|\n",
        );
        for row in &parameters {
            let required = if row.is_required { "yes" } else { "" };
            let default = row.default.as_deref().unwrap_or_default();
            let _ = writeln!(
                text,
                "| `{}` | {} | {required} | {default} | {} |",
                row.name,
                cell(&row.kind),
                cell(&row.meaning)
            );
        }
    }
    let fields = rows(
        document,
        &format!("{}Answer", call.trim_end_matches("Call")),
    );
    if !fields.is_empty() {
        if matches!(action.contract.answer, AnswerSchema::FieldsOrLater(_)) {
            text.push_str(
                "\nThe answer, or with 202 only `callback`, the key for `eq_callback.php`:\n",
            );
        }
        text.push_str("\n| answer | type | meaning |\n|---|---|---|\n");
        fields.iter().for_each(|row| field(&mut text, row));
    }
    let own: Vec<String> = contract::refusals(action)
        .into_iter()
        .flat_map(|(status, reasons)| reasons.into_iter().map(move |reason| (status, reason)))
        .filter(|(_, reason)| {
            action
                .contract
                .refuses
                .iter()
                .any(|own| own.contains(reason))
        })
        .map(|(status, reason)| format!("{status} `{}`", reason.name()))
        .collect();
    if !own.is_empty() {
        let _ = write!(text, "\nRefused with {}.\n", own.join(", "));
    }
    let example = &operation["requestBody"]["content"]["application/json"]["example"];
    let example = serde_json::to_string_pretty(example).expect("JSON");
    let _ = write!(text, "\n```json\n{example}\n```\n");
    let examples = &operation["responses"]["200"]["content"]["application/json"]["examples"];
    if let Some((_, example)) = examples
        .as_object()
        .and_then(|examples| examples.iter().next())
    {
        let example = serde_json::to_string_pretty(&shortened(&example["value"])).expect("JSON");
        let _ = write!(text, "\nanswers\n\n```json\n{example}\n```\n");
    }
    text
}

fn field(text: &mut String, row: &Row) {
    let absent = if row.is_required {
        ""
    } else {
        ", may be absent"
    };
    let _ = writeln!(
        text,
        "| `{}` | {}{absent} | {} |",
        row.name,
        cell(&row.kind),
        cell(&row.meaning)
    );
}

/// Lists in examples are cut.
fn shortened(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().take(MOST_ITEMS).map(shortened).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), shortened(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}
