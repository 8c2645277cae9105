//! The tables of docs/api.md, made from the contract.

use std::fmt::Write as _;

use functions::contract;
use functions::docs::rows::{Row, rows};
use serde_json::Value;
use wharfage::http::Action;
use wharfage::http::subject::Who;

/// Every action: in short, then one after the other.
pub fn actions(document: &Value) -> String {
    let mut text = String::new();
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
            let summary = action.contract.docs[0].trim();
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
    let docs: Vec<&str> = action
        .contract
        .docs
        .iter()
        .map(|line| line.trim())
        .collect();
    let mut text = format!("#### {}\n\n{}\n\n", action.name, docs.join("\n"));
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
    let examples = &operation["responses"]["200"]["content"]["application/json"]["examples"];
    if let Some((_, example)) = examples
        .as_object()
        .and_then(|examples| examples.iter().next())
    {
        let example = serde_json::to_string_pretty(&shortened(&example["value"])).expect("JSON");
        let _ = write!(text, "\n```json\n{example}\n```\n");
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

/// A list in an example is told by its first item.
fn shortened(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().take(1).map(shortened).collect(),
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
