//! Clients as administrators write them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, to_value};
use wharfage::domain::client::{Client, ClientId, Role};
use wharfage::domain::money::{Currency, to_major, to_minor};
use wharfage::error::{Reason, Rejection};
use wharfage::http::typed::Given;
use wharfage::http::values::{CurrencyCode, Number};
use wharfage::{from_line, schema};

use crate::plans;

/// Longest address (RFC 5321, 4.5.3.1.3).
const EMAIL_LIMIT_BYTES: usize = 254;
const MOST_TAGS: usize = 20;

/// An email address.
#[derive(Debug, Clone)]
struct Email(String);

from_line!(Email, |text| {
    let looks_right = text.len() <= EMAIL_LIMIT_BYTES
        && !text.contains(char::is_whitespace)
        && text.split_once('@').is_some_and(|(name, host)| {
            !name.is_empty() && host.contains('.') && !host.contains('@')
        });
    match looks_right {
        true => Ok(Email(text.to_lowercase())),
        false => Err("must be an email address"),
    }
});
schema!(Email, "Email", {
    "type": "string",
    "format": "email",
    "maxLength": 254,
    "examples": ["ann@example.com"],
});

/// The name of a billing group.
#[derive(Debug, Clone)]
struct BillingGroup(String);

from_line!(BillingGroup, |text| {
    let is_word = text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    match is_word {
        true => Ok(BillingGroup(text)),
        false => Err("may hold up to 64 of A-Z, a-z, 0-9, hyphen, underscore and dot"),
    }
});
schema!(BillingGroup, "BillingGroup", {
    "type": "string",
    "maxLength": 64,
    "pattern": "^[A-Za-z0-9_.-]*$",
    "examples": ["main"],
});

/// Words that pick plans, with commas between.
#[derive(Debug, Clone)]
struct Tags(Vec<String>);

from_line!(Tags, |text| {
    let tags: Vec<String> = text
        .split(',')
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
        .map(str::to_owned)
        .collect();
    match tags.len() {
        0..=MOST_TAGS => Ok(Tags(tags)),
        _ => Err("must be at most 20, with commas between"),
    }
});
schema!(Tags, "Tags", { "type": "string", "examples": ["partners,beta"] });

/// What a call may say of a client. What it does not name stays as it is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Terms {
    /// The email; unique among clients.
    #[schemars(extend("examples" = ["jane@example.com"]))]
    email: Option<Email>,
    /// The billing group: accounts are listed by it.
    #[schemars(extend("examples" = ["main"]))]
    billing: Option<BillingGroup>,
    /// The client's billing currency.
    currency: Option<CurrencyCode>,
    /// The credit limit, in the client's currency; empty for the installation's default.
    #[serde(default)]
    #[schemars(extend("pattern" = r"^([0-9]+(\.[0-9]+)?)?$", "examples" = ["250.00"]))]
    credit_limit: Given<String>,
    /// The client's role.
    role: Option<Role>,
    /// The client's tags, comma-separated; each unlocks plans of that name. Given empty, it removes all.
    #[serde(default)]
    tags: Given<Tags>,
}

impl Terms {
    /// The currency of a client that is to be made, which has to have an email as well.
    ///
    /// # Errors
    /// When one of them is missing.
    pub(crate) fn required(&self) -> Result<Currency, Rejection> {
        match (&self.email, self.currency) {
            (None, _) => Err(Rejection::missing("email")),
            (_, None) => Err(Rejection::missing("currency")),
            (_, Some(CurrencyCode(currency))) => Ok(currency),
        }
    }

    /// Whether it names something by which accounts are grouped.
    pub(crate) fn regroups(&self) -> bool {
        self.email.is_some() || self.billing.is_some()
    }

    /// The client with what was said of it.
    ///
    /// # Errors
    /// When the credit limit is no amount in the client's currency.
    pub(crate) fn apply(self, mut client: Client) -> Result<Client, Rejection> {
        if let Some(Email(email)) = self.email {
            client.email = email;
        }
        if let Some(BillingGroup(billing)) = self.billing {
            client.billing = billing;
        }
        if let Some(CurrencyCode(currency)) = self.currency
            && currency != client.currency
        {
            client.currency = currency;
            // It was said in the other one.
            client.credit_limit_minor = None;
        }
        match self.credit_limit {
            Given::Not => {}
            Given::Empty => client.credit_limit_minor = None,
            Given::Value(text) => {
                let limit_minor = plans::decimal(&text)
                    .filter(|limit| limit.normalize().scale() <= client.currency.exponent())
                    .and_then(|limit| to_minor(limit, client.currency).ok())
                    .ok_or_else(|| {
                        let rule = "must be an amount in whole minor units of the customer's currency, or empty";
                        Rejection::invalid("credit_limit", rule)
                    })?;
                client.credit_limit_minor = Some(limit_minor);
            }
        }
        if let Some(role) = self.role {
            client.role = role;
        }
        self.tags
            .apply(|tags| client.tags = tags.map(|Tags(tags)| tags).unwrap_or_default());
        Ok(client)
    }
}

/// A client.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ClientShown {
    /// Its number.
    client_id: ClientId,
    /// Its email.
    email: String,
    /// Its role.
    role: Role,
    /// Its billing group.
    billing: String,
    /// Its billing currency.
    currency: Currency,
    /// Its tags; each unlocks plans of that name.
    tags: Vec<String>,
    /// Its number of accounts.
    accounts: u32,
    /// Its credit limit; null for the installation's default.
    credit_limit: Option<Number>,
}

impl From<&Client> for ClientShown {
    fn from(client: &Client) -> ClientShown {
        ClientShown {
            client_id: client.client_id,
            email: client.email.clone(),
            role: client.role,
            billing: client.billing.clone(),
            currency: client.currency,
            tags: client.tags.clone(),
            accounts: client.accounts,
            credit_limit: client
                .credit_limit_minor
                .map(|minor| Number(to_major(minor, client.currency))),
        }
    }
}

/// What `create_client` and `update_client` answer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OneClient {
    /// The client.
    client: ClientShown,
}

impl From<&Client> for OneClient {
    fn from(client: &Client) -> OneClient {
        OneClient {
            client: client.into(),
        }
    }
}

/// A client in the history, as [`ClientShown`].
pub(crate) fn client_json(client: &Client) -> Value {
    to_value(ClientShown::from(client)).unwrap_or_default()
}

/// The email is another client's.
pub(crate) fn email_taken() -> Rejection {
    Rejection::new(Reason::EmailTaken, "another client has this email")
}
