//! The contract as a page, without scripts or external resources.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lambda_http::http::HeaderValue;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use pulldown_cmark::Parser;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::rows::{Row, resolve, rows};

const STYLE: &str = include_str!("page.css");

/// The page.
pub(super) fn html(document: &Value) -> String {
    page(document).into_string()
}

/// The policy that the page is shown under.
pub(super) fn policy() -> HeaderValue {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// A call, as the page shows it.
struct Shown<'a> {
    /// Its place on the page.
    id: String,
    name: &'a str,
    /// The path of its own, where it has one.
    path: Option<String>,
    /// The path that it shares with others.
    shared_path: &'static str,
    tag: &'a str,
    /// What a call may say.
    example: Option<&'a Value>,
    call: &'a Value,
    call_name: String,
    answer_name: String,
    /// What is said of each status.
    responses: &'a Value,
}

const GROUPS: [(&str, &str); 3] = [
    ("sessions", "Sessions and callbacks"),
    ("accounts", "With a token"),
    ("administration", "For administrators"),
];

fn page(document: &Value) -> Markup {
    let calls = calls(document);
    let info = &document["info"];
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (text(&info["title"])) " API" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#content" { "To the content" }
                (navigation(&calls))
                a.narrow href="#actions" { "All actions" }
                main id="content" {
                    h1 { (text(&info["title"])) " API" }
                    p.quiet { "Version " (text(&info["version"])) ". For programs: " a href="openapi.json" { "openapi.json" } " (OpenAPI " (text(&document["openapi"])) ")." }
                    (markdown(text(&info["description"])))
                    @for shown in &calls { (section(document, shown)) }
                    (reasons(document))
                    (events(document))
                }
            }
        }
    }
}

fn navigation(calls: &[Shown<'_>]) -> Markup {
    html! {
        nav id="actions" aria-label="Actions" {
            @for (tag, title) in GROUPS {
                h2 { (title) }
                ul {
                    @for shown in calls.iter().filter(|shown| shown.tag == tag) {
                        li { a href={ "#" (shown.id) } { (breakable(shown.name)) } }
                    }
                }
            }
            h2 { "More" }
            ul {
                li { a href="#reasons" { "Reasons of refusals" } }
                li { a href="#events" { "Events" } }
            }
        }
    }
}

fn calls(document: &Value) -> Vec<Shown<'_>> {
    let mut calls = Vec::new();
    for path in ["/auth.php", "/eq_callback.php", "/s3.php"] {
        let post = &document["paths"][path]["post"];
        let content = &post["requestBody"]["content"]["application/json"]["schema"];
        let mapping = content["discriminator"]["mapping"].as_object();
        for (name, reference) in mapping.into_iter().flatten() {
            let reference = reference.as_str().unwrap_or_default();
            let call_name = reference.rsplit('/').next().unwrap_or_default();
            let call = document
                .pointer(reference.trim_start_matches('#'))
                .unwrap_or(&Value::Null);
            let own = format!("/s3/{name}");
            let operation = &document["paths"][&own]["post"];
            let is_own = path == "/s3.php";
            let (tag, responses) = match is_own {
                true => (text(&operation["tags"][0]), &operation["responses"]),
                false => ("sessions", &Value::Null),
            };
            calls.push(Shown {
                id: match is_own {
                    true => name.clone(),
                    false => call_name.trim_end_matches("Call").to_lowercase(),
                },
                name,
                path: is_own.then_some(own),
                shared_path: path,
                tag,
                example: operation["requestBody"]["content"]["application/json"].get("example"),
                call,
                call_name: call_name.to_owned(),
                answer_name: format!("{}Answer", call_name.trim_end_matches("Call")),
                responses,
            });
        }
    }
    calls
}

fn section(document: &Value, shown: &Shown<'_>) -> Markup {
    let parameters = rows(document, &shown.call_name);
    let fields = rows(document, &shown.answer_name);
    let refused = own_reasons(document, shown.responses);
    let content = &shown.responses["200"]["content"]["application/json"];
    let examples = content["examples"].as_object();
    html! {
        section aria-labelledby=(shown.id) {
            h2 id=(shown.id) { (breakable(shown.name)) }
            p.address {
                @if let Some(path) = &shown.path { code { "POST " (path) } " or " }
                code { "POST " (shown.shared_path) } " with " code { "action=" (shown.name) }
            }
            (markdown(text(&shown.call["description"])))
            h3 { "Parameters" }
            @if parameters.is_empty() { p.quiet { "Only " code { "token" } "." } } @else { (table("Parameter", &parameters, true)) }
            h3 { "Answer" }
            @if fields.is_empty() { p.quiet { "Nothing but that it is done." } } @else { (table("Field", &fields, false)) }
            @if shown.responses.get("202").is_some() {
                p { "If that takes longer: status 202 with " code { "callback" } ", the key for " a href="#eqcallbackcheck" { "eq_callback.php" } "." }
            }
            @if !refused.is_empty() {
                h3 { "Refused with" }
                ul {
                    @for (status, reason) in &refused {
                        li { (status) " " a href={ "#" (reason) } { code { (reason) } } }
                    }
                }
            }
            @if let Some(example) = shown.example {
                details {
                    summary { "Example of a call" }
                    pre tabindex="0" { (serde_json::to_string_pretty(example).unwrap_or_default()) }
                }
            }
            @for (name, example) in examples.into_iter().flatten() {
                details {
                    summary { "Example of an answer: " (name.replace('_', " ")) }
                    pre tabindex="0" { (serde_json::to_string_pretty(&example["value"]).unwrap_or_default()) }
                }
            }
        }
    }
}

fn table(of: &str, rows: &[Row], is_call: bool) -> Markup {
    html! {
        div.table {
            table {
                thead { tr { th { (of) } th { "Type" } @if is_call { th { "Required" } th { "Default" } } th { "Meaning" } } }
                tbody {
                    @for row in rows {
                        tr {
                            td { code { (breakable(&row.name)) } }
                            td { (markdown_line(&row.kind)) }
                            @if is_call {
                                td data-label="Required" { (if row.is_required { "yes" } else { "" }) }
                                td data-label="Default" { (markdown_line(row.default.as_deref().unwrap_or_default())) }
                            }
                            td { (markdown(&row.meaning)) }
                        }
                    }
                }
            }
        }
    }
}

/// The reasons that are the action's own: what any call may be refused for is told once.
fn own_reasons<'a>(document: &'a Value, responses: &'a Value) -> Vec<(&'a str, &'a str)> {
    let mut refused = Vec::new();
    for (status, response) in responses.as_object().into_iter().flatten() {
        if response["$ref"].is_string() {
            continue;
        }
        let reasons = &resolve(document, response)["headers"]["Wharfage-Reason"]["schema"]["enum"];
        for reason in reasons.as_array().into_iter().flatten() {
            refused.push((status.as_str(), reason.as_str().unwrap_or_default()));
        }
    }
    refused
}

fn reasons(document: &Value) -> Markup {
    let description = text(&document["components"]["schemas"]["Reason"]["description"]);
    let (intro, list) = description.split_once("\n\n").unwrap_or((description, ""));
    html! {
        section aria-labelledby="reasons" {
            h2 id="reasons" { "Reasons of refusals" }
            (markdown(intro))
            div.table {
                table {
                    thead { tr { th { "Reason" } th { "Status" } th { "Meaning" } } }
                    tbody {
                        @for line in list.lines() {
                            @if let Some((reason, status, title)) = reason(line) {
                                tr id=(reason) { td { code { (reason) } } td { (status) } td { (title) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A line of the list of reasons.
fn reason(line: &str) -> Option<(&str, &str, &str)> {
    let (reason, rest) = line.strip_prefix("- `")?.split_once("` (")?;
    let (status, title) = rest.split_once("): ")?;
    Some((reason, status, title))
}

fn events(document: &Value) -> Markup {
    let events = document["webhooks"].as_object();
    html! {
        section aria-labelledby="events" {
            h2 id="events" { "Events" }
            p { "What happens is told on an EventBridge bus too. An event may come twice, under the same " code { "event_id" } "." }
            (table("Field", &rows(document, "Event"), false))
            div.table {
                table {
                    thead { tr { th { "Kind" } th { "What happened" } } }
                    tbody {
                        @for (kind, event) in events.into_iter().flatten() {
                            tr { td { code { (kind) } } td { (text(&event["post"]["summary"])) } }
                        }
                    }
                }
            }
        }
    }
}

/// A name that may be broken behind its underscores and dots.
fn breakable(name: &str) -> Markup {
    html! {
        @for part in name.split_inclusive(['_', '.']) { (part) wbr; }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn markdown(text: &str) -> Markup {
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, Parser::new(text));
    PreEscaped(html)
}

/// The same, without a paragraph around it.
fn markdown_line(text: &str) -> Markup {
    let PreEscaped(html) = markdown(text);
    let line = html
        .trim()
        .trim_start_matches("<p>")
        .trim_end_matches("</p>");
    PreEscaped(line.to_owned())
}
