//! Configuration, from the environment the template declares. The only file that reads it.

use aws_credential_types::Credentials;
use secrecy::SecretString;
use serde::Deserialize;

use crate::domain::dunning::Calendar;

/// What a function is told by its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// The AWS region, of all services but the clusters.
    pub region: String,
    /// Credentials of the function's role. On Lambda they stand in the environment.
    pub credentials: Credentials,
    /// Endpoints other than AWS's own, for the local runner.
    pub endpoints: Endpoints,
    /// DynamoDB table names.
    pub tables: Tables,
    /// SQS queue addresses.
    pub queues: Queues,
    /// The bus that events go to.
    pub event_bus_name: String,
    /// The KMS key that encrypts secret keys at rest.
    pub kms_key_id: String,
    /// The S3 bucket of the usage segments.
    pub usage_bucket: String,
    /// Where accounts can live.
    pub locations: Vec<Location>,
    /// The rules of the business that an operator sets.
    pub rules: Rules,
}

/// Endpoints that replace AWS's own; `None` means AWS.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    /// `AWS_ENDPOINT_URL_DYNAMODB`
    pub dynamodb: Option<String>,
    /// `AWS_ENDPOINT_URL_SQS`
    pub sqs: Option<String>,
    /// `AWS_ENDPOINT_URL_KMS`
    pub kms: Option<String>,
    /// `AWS_ENDPOINT_URL_EVENTBRIDGE`
    pub eventbridge: Option<String>,
    /// `AWS_ENDPOINT_URL_S3`, for the usage bucket; the clusters have endpoints of their own.
    pub s3: Option<String>,
}

/// The tables. What is in each: `database/keys.rs`.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Clients and the sequences their numbers come from.
    pub clients: String,
    /// API keys and session tokens, by hash.
    pub credentials: String,
    /// Accounts and bucket names.
    pub accounts: String,
    /// Plans and their versions.
    pub plans: String,
    /// Orders and idempotency keys.
    pub orders: String,
    /// Journal, balances, invoices.
    pub ledger: String,
    /// Who did what to which, when.
    pub history: String,
    /// Events to be sent.
    pub events: String,
    /// Queued work and callback keys.
    pub tasks: String,
    /// Usage per account and day.
    pub usage: String,
}

/// The queues' URLs.
#[derive(Debug, Clone)]
pub struct Queues {
    /// Questions to clusters that a caller waits for.
    pub storage_tasks: String,
    /// Emptying buckets and accounts.
    pub cleanup: String,
    /// Closing periods, chasing invoices, ending services, recounting the ledger.
    pub billing: String,
    /// Collecting the usage of a shard of accounts.
    pub usage_shards: String,
}

/// A location: the code clients know and the cluster behind it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// For example `NL`.
    pub code: String,
    /// Shown to people.
    #[serde(default)]
    pub name: String,
    /// What kind of cluster it is.
    pub provider: Provider,
    /// The S3 endpoint, as clients use it.
    pub s3_endpoint: String,
    /// The region that S3 signatures name.
    #[serde(default = "default_s3_region")]
    pub s3_region: String,
    /// Where the cluster is administered.
    pub admin_endpoint: String,
    /// The bearer token for that.
    pub admin_token: SecretString,
}

fn default_s3_region() -> String {
    "us-east-1".into()
}

/// The kinds of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The local runner's own cluster.
    Embedded,
}

/// What an operator sets.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The location of an order that names none.
    pub default_location: String,
    /// Days from an invoice's issue until it is due.
    pub invoice_due_days: u16,
    /// Days from an account's end of service until its data is purged.
    pub retention_days: u16,
    /// Accounts on plans that cost nothing, per client.
    pub free_accounts_per_client: u32,
    /// Accounts per client. Bounds what one client's listing reads.
    pub accounts_per_client: u32,
    /// How long `get_buckets` waits for the cluster before it answers with a callback, in milliseconds.
    pub bucket_list_wait_ms: u64,
    /// Entries removed by one step of a clean-up.
    pub cleanup_step_entries: u32,
    /// What happens to an invoice that is not paid, and when.
    pub dunning: Calendar,
    /// Account numbers in a shard of usage collection.
    pub usage_shard_accounts: u64,
}

/// The environment lacks something or has it wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A variable is not set.
    #[error("environment variable {0} is not set")]
    Missing(&'static str),
    /// A variable's value cannot be used.
    #[error("environment variable {name}: {problem}")]
    Invalid {
        /// Its name.
        name: &'static str,
        /// What is wrong with its value, without repeating a secret.
        problem: String,
    },
}

impl Config {
    /// From this process's environment.
    ///
    /// # Errors
    /// Names the variable that is missing or wrong.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where the environment is read"
    )]
    pub fn from_env() -> Result<Config, ConfigError> {
        Config::from_lookup(|name| std::env::var(name).ok())
    }

    /// From any source of variables: the local runner evaluates the template's.
    ///
    /// # Errors
    /// Names the variable that is missing or wrong.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let need = |name: &'static str| get(name).ok_or(ConfigError::Missing(name));
        let config = Config {
            region: need("AWS_REGION")?,
            credentials: Credentials::new(
                need("AWS_ACCESS_KEY_ID")?,
                need("AWS_SECRET_ACCESS_KEY")?,
                get("AWS_SESSION_TOKEN"),
                None,
                "environment",
            ),
            endpoints: Endpoints {
                dynamodb: get("AWS_ENDPOINT_URL_DYNAMODB"),
                sqs: get("AWS_ENDPOINT_URL_SQS"),
                kms: get("AWS_ENDPOINT_URL_KMS"),
                eventbridge: get("AWS_ENDPOINT_URL_EVENTBRIDGE"),
                s3: get("AWS_ENDPOINT_URL_S3"),
            },
            tables: Tables {
                clients: need("CLIENTS_TABLE")?,
                credentials: need("CREDENTIALS_TABLE")?,
                accounts: need("ACCOUNTS_TABLE")?,
                plans: need("PLANS_TABLE")?,
                orders: need("ORDERS_TABLE")?,
                ledger: need("LEDGER_TABLE")?,
                history: need("HISTORY_TABLE")?,
                events: need("EVENTS_TABLE")?,
                tasks: need("TASKS_TABLE")?,
                usage: need("USAGE_TABLE")?,
            },
            queues: Queues {
                storage_tasks: need("STORAGE_TASKS_QUEUE_URL")?,
                cleanup: need("CLEANUP_QUEUE_URL")?,
                billing: need("BILLING_QUEUE_URL")?,
                usage_shards: need("USAGE_SHARDS_QUEUE_URL")?,
            },
            event_bus_name: need("EVENT_BUS_NAME")?,
            kms_key_id: need("KMS_KEY_ID")?,
            usage_bucket: need("USAGE_BUCKET")?,
            locations: parse_locations(&need("LOCATIONS")?)?,
            rules: Rules {
                default_location: need("DEFAULT_LOCATION")?,
                invoice_due_days: number("INVOICE_DUE_DAYS", &need("INVOICE_DUE_DAYS")?)?,
                retention_days: number("RETENTION_DAYS", &need("RETENTION_DAYS")?)?,
                free_accounts_per_client: number(
                    "FREE_ACCOUNTS_PER_CLIENT",
                    &need("FREE_ACCOUNTS_PER_CLIENT")?,
                )?,
                accounts_per_client: number("ACCOUNTS_PER_CLIENT", &need("ACCOUNTS_PER_CLIENT")?)?,
                bucket_list_wait_ms: number("BUCKET_LIST_WAIT_MS", &need("BUCKET_LIST_WAIT_MS")?)?,
                cleanup_step_entries: number(
                    "CLEANUP_STEP_ENTRIES",
                    &need("CLEANUP_STEP_ENTRIES")?,
                )?,
                dunning: Calendar {
                    reminder_days: need("REMINDER_DAYS")?
                        .split(',')
                        .map(|days| number("REMINDER_DAYS", days.trim()))
                        .collect::<Result<_, _>>()?,
                    suspension_days: number("SUSPENSION_DAYS", &need("SUSPENSION_DAYS")?)?,
                    termination_days: number("TERMINATION_DAYS", &need("TERMINATION_DAYS")?)?,
                },
                usage_shard_accounts: number::<std::num::NonZeroU64>(
                    "USAGE_SHARD_ACCOUNTS",
                    &need("USAGE_SHARD_ACCOUNTS")?,
                )?
                .get(),
            },
        };
        let default = &config.rules.default_location;
        if !config
            .locations
            .iter()
            .any(|location| location.code == *default)
        {
            return Err(ConfigError::Invalid {
                name: "DEFAULT_LOCATION",
                problem: format!("{default} is not one of LOCATIONS"),
            });
        }
        Ok(config)
    }
}

fn number<N: std::str::FromStr>(name: &'static str, value: &str) -> Result<N, ConfigError> {
    value.parse().map_err(|_| ConfigError::Invalid {
        name,
        problem: format!("{value:?} is not a number in range"),
    })
}

fn parse_locations(json: &str) -> Result<Vec<Location>, ConfigError> {
    let invalid = |problem: String| ConfigError::Invalid {
        name: "LOCATIONS",
        problem,
    };
    let locations: Vec<Location> =
        serde_json::from_str(json).map_err(|error| invalid(error.to_string()))?;
    if locations.is_empty() {
        return Err(invalid("no location is configured".into()));
    }
    for (index, location) in locations.iter().enumerate() {
        let code_is_valid = !location.code.is_empty()
            && location.code.len() <= 16
            && location
                .code
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
        if !code_is_valid {
            return Err(invalid(format!(
                "[{index}].code: {:?} is not 1 to 16 characters of A-Z, 0-9 and -",
                location.code
            )));
        }
        if locations[..index].iter().any(|l| l.code == location.code) {
            return Err(invalid(format!(
                "[{index}].code: {} stands twice",
                location.code
            )));
        }
        for (field, value) in [
            ("s3_endpoint", &location.s3_endpoint),
            ("admin_endpoint", &location.admin_endpoint),
        ] {
            let uri: Result<http::Uri, _> = value.parse();
            if !uri.is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some()) {
                return Err(invalid(format!(
                    "[{index}].{field}: {value:?} is not a URL"
                )));
            }
        }
    }
    Ok(locations)
}
