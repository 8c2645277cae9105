//! The contract as tables: a row for each parameter of a call and each field of an answer.

use serde_json::Value;

/// The largest number that is said: beyond, it is only that of the type.
const LARGEST_SHOWN: u64 = 1 << 53;
/// The size of a body.
const BODY_LIMIT_CHARACTERS: u64 = 65_536;
/// How deep objects within objects are told.
const DEEPEST: usize = 6;

/// A parameter, or a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name; within objects with theirs before it, and `[]` behind a list.
    pub name: String,
    /// What it is, with its limits.
    pub kind: String,
    /// Whether it is always there.
    pub is_required: bool,
    /// What it is taken for when it is not there.
    pub default: Option<String>,
    /// What it means, in Markdown.
    pub meaning: String,
}

/// The rows of a schema of the document, by its name. What every call and every answer has is left out.
#[must_use]
pub fn rows(document: &Value, schema: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let schema = &document["components"]["schemas"][schema];
    let tables = Tables {
        document,
        is_call: schema["properties"]["action"]["const"].is_string()
            && schema["properties"]["result"].is_null(),
    };
    tables.add(schema, "", 0, &mut rows);
    rows.retain(|row| !["action", "token"].contains(&row.name.as_str()) || !tables.is_call);
    rows.retain(|row| !["result", "action"].contains(&row.name.as_str()) || row.kind != "constant");
    rows
}

/// What a reference leads to.
#[must_use]
pub fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or(schema),
        None => schema,
    }
}

struct Tables<'a> {
    document: &'a Value,
    is_call: bool,
}

impl Tables<'_> {
    fn add(&self, schema: &Value, prefix: &str, depth: usize, rows: &mut Vec<Row>) {
        let fields = schema["properties"].as_object().into_iter().flatten();
        let patterns = schema["patternProperties"]
            .as_object()
            .into_iter()
            .flatten();
        let named = fields.map(|(name, field)| (name.clone(), field));
        let patterned = patterns.map(|(pattern, field)| (readable(pattern), field));
        for (name, field) in named.chain(patterned) {
            let is_required = schema["required"]
                .as_array()
                .is_some_and(|required| required.contains(&name.as_str().into()));
            let name = format!("{prefix}{name}");
            let (kind, within) = self.kind(field);
            rows.push(Row {
                kind,
                is_required,
                default: shown(&field["default"]),
                meaning: self.meaning(field),
                name: name.clone(),
            });
            if let Some((suffix, within)) = within.filter(|_| depth < DEEPEST) {
                self.add(within, &format!("{name}{suffix}."), depth + 1, rows);
            }
        }
    }

    fn meaning(&self, field: &Value) -> String {
        let own = field["description"].as_str();
        let meant = own.or_else(|| resolve(self.document, field)["description"].as_str());
        meant.unwrap_or_default().to_owned()
    }

    /// What a field is, and the object that it is or is a list of.
    fn kind<'a>(&'a self, field: &'a Value) -> (String, Option<(&'static str, &'a Value)>) {
        let field = resolve(self.document, field);
        if let Some(choices) = field["anyOf"].as_array() {
            let (mut kind, mut within) = (String::from("any"), None);
            for choice in choices.iter().filter(|choice| choice["type"] != "null") {
                (kind, within) = self.kind(choice);
            }
            let is_nullable = choices.iter().any(|choice| choice["type"] == "null");
            return (self.or_null(kind, is_nullable), within);
        }
        if field["const"].is_string() {
            return ("constant".into(), None);
        }
        if let Some(choices) = choices(field) {
            let is_nullable = field["type"]
                .as_array()
                .is_some_and(|types| types.contains(&"null".into()));
            let kind = format!("one of {}", choices.join(", "));
            return (self.or_null(kind, is_nullable), None);
        }
        let types: Vec<&str> = match &field["type"] {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let is_nullable = types.contains(&"null");
        let kinds: Vec<&str> = types.into_iter().filter(|kind| *kind != "null").collect();
        let (kind, within) = match kinds.as_slice() {
            ["array"] => {
                let (kind, within) = self.kind(&field["items"]);
                let within = within.map(|(suffix, within)| match suffix {
                    "" => ("[]", within),
                    _ => ("[][]", within),
                });
                (format!("list of {}", plural(&kind)), within)
            }
            ["object"] => {
                let is_told =
                    field["properties"].is_object() || field["patternProperties"].is_object();
                ("object".into(), is_told.then_some(("", field)))
            }
            ["string"] => (text(field), None),
            [only] => ((*only).to_owned(), None),
            [] => ("any".into(), None),
            several => (several.join(" or "), None),
        };
        let kind = match limits(field).filter(|_| self.is_call) {
            Some(limits) => format!("{kind}, {limits}"),
            None => kind,
        };
        (self.or_null(kind, is_nullable), within)
    }

    /// In a call, null is the same as nothing.
    fn or_null(&self, kind: String, is_nullable: bool) -> String {
        match is_nullable && !self.is_call {
            true => format!("{kind}, or null"),
            false => kind,
        }
    }
}

/// `^monthly_[a-z]{3}$` is `monthly_…`, for each currency.
fn readable(pattern: &str) -> String {
    let name = pattern.trim_start_matches('^');
    format!("{}…", name.split('[').next().unwrap_or_default())
}

fn choices(field: &Value) -> Option<Vec<String>> {
    let values: Vec<&Value> = match (&field["enum"], &field["oneOf"]) {
        (Value::Array(values), _) => values.iter().collect(),
        (_, Value::Array(values)) => values.iter().flat_map(of_one).collect(),
        _ => return None,
    };
    let choices: Vec<String> = values.into_iter().filter_map(shown).collect();
    (!choices.is_empty()).then_some(choices)
}

fn of_one(choice: &Value) -> Vec<&Value> {
    match (&choice["const"], choice["enum"].as_array()) {
        (Value::Null, Some(values)) => values.iter().collect(),
        (constant, _) => vec![constant],
    }
}

fn text(field: &Value) -> String {
    match field["format"].as_str() {
        Some("date") => "date".into(),
        Some("date-time") => "time".into(),
        _ => "text".into(),
    }
}

fn plural(kind: &str) -> String {
    match kind {
        "text" | "any" => kind.into(),
        kind if kind.starts_with("one of") => kind.into(),
        kind => format!("{kind}s"),
    }
}

fn limits(field: &Value) -> Option<String> {
    let said = |name: &str| field[name].as_u64().filter(|limit| *limit < LARGEST_SHOWN);
    let number = match (said("minimum"), said("maximum")) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}")),
        (Some(least), None) => Some(format!("at least {least}")),
        (None, Some(most)) => Some(format!("at most {most}")),
        (None, None) => None,
    };
    // What is only bounded by the size of a body has no limit of its own.
    let most = said("maxLength").filter(|most| *most < BODY_LIMIT_CHARACTERS);
    let length = match (said("minLength"), most) {
        (Some(least), Some(most)) if least == most => Some(format!("{least} characters")),
        (Some(least @ 2..), Some(most)) => Some(format!("{least} to {most} characters")),
        (_, Some(most)) => Some(format!("at most {most} characters")),
        _ => None,
    };
    let pattern = field["pattern"]
        .as_str()
        .map(|pattern| format!("`{pattern}`"));
    let all: Vec<String> = [number, length, pattern].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(format!("`{text}`")),
        other => Some(format!("`{other}`")),
    }
}
