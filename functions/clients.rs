//! Clients as administrators write them.

use serde_json::{Value, json};
use wharfage::domain::client::Client;
use wharfage::domain::money::{Currency, to_major, to_minor};
use wharfage::error::Rejection;
use wharfage::http::Call;

use crate::plans;
use crate::plans::number;

/// Longest address (RFC 5321, 4.5.3.1.3).
const EMAIL_LIMIT_BYTES: usize = 254;
const MOST_TAGS: usize = 20;

/// What a call may say of a client.
pub(crate) const NAMES: &[&str] = &[
    "email",
    "billing",
    "currency",
    "credit_limit",
    "role",
    "tags",
];

/// The client with what a call says of it. What it does not name stays as it is.
///
/// # Errors
/// Names the parameter that is wrong.
pub(crate) fn with_parameters(call: &Call, mut client: Client) -> Result<Client, Rejection> {
    let parameters = &call.parameters;
    if let Some(email) = parameters.text(&["email"])? {
        let looks_right = email.len() <= EMAIL_LIMIT_BYTES
            && !email.contains(char::is_whitespace)
            && email.split_once('@').is_some_and(|(name, host)| {
                !name.is_empty() && host.contains('.') && !host.contains('@')
            });
        if !looks_right {
            return Err(Rejection::invalid("email", "must be an email address"));
        }
        client.email = email.to_lowercase();
    }
    if let Some(billing) = parameters.text(&["billing"])? {
        let is_word = billing.len() <= 64
            && billing
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_word {
            return Err(Rejection::invalid(
                "billing",
                "may hold up to 64 of A-Z, a-z, 0-9, hyphen, underscore and dot",
            ));
        }
        client.billing = billing;
    }
    if let Some(code) = parameters.text(&["currency"])? {
        let currency = Currency::from_code(&code.to_uppercase())
            .ok_or_else(|| Rejection::invalid("currency", "must be an ISO 4217 currency"))?;
        if currency != client.currency {
            client.currency = currency;
            // It was said in the other one.
            client.credit_limit_minor = None;
        }
    }
    if parameters.is_given("credit_limit") {
        client.credit_limit_minor = match parameters.text(&["credit_limit"])? {
            None => None,
            Some(text) => Some(
                plans::decimal(&text)
                    .filter(|limit| limit.normalize().scale() <= client.currency.exponent())
                    .and_then(|limit| to_minor(limit, client.currency).ok())
                    .ok_or_else(|| {
                        let rule = "must be an amount in whole minor units of the customer's currency, or empty";
                        Rejection::invalid("credit_limit", rule)
                    })?,
            ),
        };
    }
    if let Some(role) = parameters.text(&["role"])? {
        client.role = role
            .parse()
            .map_err(|_| Rejection::invalid("role", "must be client or admin"))?;
    }
    if parameters.is_given("tags") {
        let tags = parameters.text(&["tags"])?.unwrap_or_default();
        client.tags = tags
            .split(',')
            .map(str::trim)
            .filter(|tag| !tag.is_empty())
            .map(str::to_owned)
            .collect();
        if client.tags.len() > MOST_TAGS {
            return Err(Rejection::invalid(
                "tags",
                "must be at most 20, with commas between",
            ));
        }
    }
    Ok(client)
}

/// A client as the wire shows it.
pub(crate) fn wire(client: &Client) -> Value {
    json!({
        "client_id": client.client_id,
        "email": client.email,
        "role": client.role,
        "billing": client.billing,
        "currency": client.currency,
        "tags": client.tags,
        "accounts": client.accounts,
        "credit_limit": client.credit_limit_minor.map(|minor| number(to_major(minor, client.currency))),
    })
}
