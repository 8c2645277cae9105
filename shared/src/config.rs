//! Configuration, from the environment that the template declares. Only this file reads it.

use std::net::IpAddr;
use std::path::PathBuf;

use aws_credential_types::Credentials;
use serde::Deserialize;

use crate::domain::dunning::Calendar;
use crate::domain::money::Amounts;

/// What a function is told by its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// The stack's name, under which figures are told.
    pub stack_name: String,
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
    /// A file that tells the time, in place of the machine's clock; the local runner's processes have it.
    pub clock_file: Option<PathBuf>,
    /// A PEM file with the roots that AWS is trusted by, in place of Amazon's: `AWS_CA_BUNDLE`.
    pub ca_bundle: Option<PathBuf>,
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
    /// `AWS_ENDPOINT_URL_SECRETSMANAGER`
    pub secretsmanager: Option<String>,
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
    /// Those of them that their cluster takes long to answer.
    pub slow_tasks: String,
    /// Emptying buckets and accounts.
    pub cleanup: String,
    /// Closing periods, chasing invoices, ending services, recounting the ledger.
    pub billing: String,
    /// Collecting the usage of a shard of accounts.
    pub usage_shards: String,
}

/// A location: the code clients know and the cluster behind it. It holds no secret, only the name of one.
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
    /// Whether that may be over plain http to another host, where whoever is on the way reads secret keys.
    #[serde(default)]
    pub plain_http: bool,
    /// The name or ARN of the Secrets Manager secret with the credentials for that. What is in it depends on the provider:
    /// `{"token"}` for `embedded` and `garage`, `{"access_key","secret_key"}` for `rgw`.
    pub admin_secret_id: String,
    /// Whether the cluster counts traffic, where its provider can: it may have been switched off there.
    #[serde(default = "default_counts_traffic")]
    pub counts_traffic: bool,
}

fn default_s3_region() -> String {
    "us-east-1".into()
}

fn default_counts_traffic() -> bool {
    true
}

/// The kinds of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Provider {
    /// The local runner's own cluster.
    Embedded,
    /// Ceph RGW.
    Rgw,
    /// Garage.
    Garage,
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
    /// Up to how much a client may owe, where its own record does not say.
    pub credit_limit: Amounts,
    /// What is owed on an account below this is reminded of, and never suspends or purges it.
    pub small_debt: Amounts,
    /// Whether periods that begin while a member of staff has the account suspended are charged, where the plan does not say.
    pub charge_suspended: bool,
    /// Whether an order without a bucket name gets one made up.
    pub generates_bucket_names: bool,
    /// Whether `auth.php` takes API keys in its address.
    pub allows_login_by_get: bool,
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
    /// What the process is asked to be is no function.
    #[error("{problem}; the functions are {}", .known.join(", "))]
    NoFunction {
        /// What was asked for.
        problem: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
}

/// What a process is told apart from its configuration.
#[derive(Debug, Default)]
pub struct Started {
    /// The function it is to be: its argument where it is started by hand, else the handler that Lambda names.
    pub function: Option<String>,
    /// Whether a Runtime API is there to serve.
    pub has_runtime_api: bool,
}

impl Started {
    /// From this process's arguments and environment.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where the environment is read"
    )]
    pub fn from_env() -> Started {
        let argument = std::env::args().nth(1);
        Started {
            function: argument.or_else(|| std::env::var("_HANDLER").ok()),
            has_runtime_api: std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some(),
        }
    }
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
            stack_name: need("STACK_NAME")?,
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
                secretsmanager: get("AWS_ENDPOINT_URL_SECRETSMANAGER"),
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
                slow_tasks: need("SLOW_TASKS_QUEUE_URL")?,
                cleanup: need("CLEANUP_QUEUE_URL")?,
                billing: need("BILLING_QUEUE_URL")?,
                usage_shards: need("USAGE_SHARDS_QUEUE_URL")?,
            },
            event_bus_name: need("EVENT_BUS_NAME")?,
            kms_key_id: need("KMS_KEY_ID")?,
            usage_bucket: need("USAGE_BUCKET")?,
            clock_file: get("CLOCK_FILE").map(PathBuf::from),
            ca_bundle: get("AWS_CA_BUNDLE").map(PathBuf::from),
            locations: parse_locations(&need("LOCATIONS")?)?,
            rules: Rules {
                default_location: need("DEFAULT_LOCATION")?,
                invoice_due_days: parse_number("INVOICE_DUE_DAYS", &need("INVOICE_DUE_DAYS")?)?,
                retention_days: parse_number("RETENTION_DAYS", &need("RETENTION_DAYS")?)?,
                free_accounts_per_client: parse_number(
                    "FREE_ACCOUNTS_PER_CLIENT",
                    &need("FREE_ACCOUNTS_PER_CLIENT")?,
                )?,
                accounts_per_client: parse_number(
                    "ACCOUNTS_PER_CLIENT",
                    &need("ACCOUNTS_PER_CLIENT")?,
                )?,
                bucket_list_wait_ms: parse_number(
                    "BUCKET_LIST_WAIT_MS",
                    &need("BUCKET_LIST_WAIT_MS")?,
                )?,
                cleanup_step_entries: parse_number(
                    "CLEANUP_STEP_ENTRIES",
                    &need("CLEANUP_STEP_ENTRIES")?,
                )?,
                dunning: Calendar {
                    reminder_days: need("REMINDER_DAYS")?
                        .split(',')
                        .map(|days| parse_number("REMINDER_DAYS", days.trim()))
                        .collect::<Result<_, _>>()?,
                    suspension_days: parse_number("SUSPENSION_DAYS", &need("SUSPENSION_DAYS")?)?,
                    termination_days: parse_number("TERMINATION_DAYS", &need("TERMINATION_DAYS")?)?,
                },
                usage_shard_accounts: parse_number::<std::num::NonZeroU64>(
                    "USAGE_SHARD_ACCOUNTS",
                    &need("USAGE_SHARD_ACCOUNTS")?,
                )?
                .get(),
                credit_limit: amounts("CREDIT_LIMIT", &need("CREDIT_LIMIT")?)?,
                small_debt: amounts("SMALL_DEBT", &need("SMALL_DEBT")?)?,
                charge_suspended: yes_or_no("CHARGE_SUSPENDED", &need("CHARGE_SUSPENDED")?)?,
                // These two are set for the functions that ask for them, and for no other.
                generates_bucket_names: get("GENERATE_BUCKET_NAMES")
                    .map_or(Ok(false), |text| yes_or_no("GENERATE_BUCKET_NAMES", &text))?,
                allows_login_by_get: get("ALLOW_LOGIN_BY_GET")
                    .map_or(Ok(false), |text| yes_or_no("ALLOW_LOGIN_BY_GET", &text))?,
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

fn parse_number<N: std::str::FromStr>(name: &'static str, value: &str) -> Result<N, ConfigError> {
    value.parse().map_err(|_| ConfigError::Invalid {
        name,
        problem: format!("{value:?} is not a number in range"),
    })
}

fn yes_or_no(name: &'static str, value: &str) -> Result<bool, ConfigError> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => Err(ConfigError::Invalid {
            name,
            problem: format!("{other:?} is neither yes nor no"),
        }),
    }
}

fn amounts(name: &'static str, value: &str) -> Result<Amounts, ConfigError> {
    value.parse().map_err(|problem| ConfigError::Invalid {
        name,
        problem: format!("{value:?} {problem}"),
    })
}

fn parse_locations(json: &str) -> Result<Vec<Location>, ConfigError> {
    let invalid = |problem: String| ConfigError::Invalid {
        name: "LOCATIONS",
        problem,
    };
    let mut json = serde_json::Deserializer::from_str(json);
    let locations: Vec<Location> =
        serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let problem = error.into_inner();
            invalid(match path.as_str() {
                "." => problem.to_string(),
                path => format!("{path}: {problem}"),
            })
        })?;
    json.end().map_err(|problem| invalid(problem.to_string()))?;
    if locations.is_empty() {
        return Err(invalid("no location is configured".into()));
    }
    for (index, location) in locations.iter().enumerate() {
        let in_field =
            |field: &str, problem: String| invalid(format!("[{index}].{field}: {problem}"));
        if !is_code(&location.code) {
            let rule = "is not 1 to 16 characters of A-Z, 0-9 and -";
            return Err(in_field("code", format!("{:?} {rule}", location.code)));
        }
        if locations[..index].iter().any(|l| l.code == location.code) {
            return Err(in_field("code", format!("{} stands twice", location.code)));
        }
        for (field, value) in [
            ("s3_endpoint", &location.s3_endpoint),
            ("admin_endpoint", &location.admin_endpoint),
        ] {
            check_url(value).map_err(|rule| in_field(field, rule.into()))?;
        }
        if !location.plain_http {
            refuse_plain_http(&location.admin_endpoint)
                .map_err(|rule| in_field("admin_endpoint", rule.into()))?;
        }
        if location.s3_region.is_empty() {
            return Err(in_field("s3_region", "is empty".into()));
        }
        // It is not repeated: it may be the secret itself, by mistake.
        if !is_secret_id(&location.admin_secret_id) {
            let rule = "is neither the name nor the ARN of a Secrets Manager secret";
            return Err(in_field("admin_secret_id", rule.into()));
        }
    }
    Ok(locations)
}

/// Whether a text can be a location's code. It stands in keys and in the segments' names.
#[must_use]
pub fn is_code(text: &str) -> bool {
    (1..=16).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
}

/// Checks an address that paths are put behind.
///
/// # Errors
/// Says what is wrong, without repeating it.
pub fn check_url(text: &str) -> Result<(), &'static str> {
    let uri: http::Uri = text.parse().map_err(|_| "is not a URL")?;
    let scheme = uri.scheme_str().ok_or("is not a URL with http or https")?;
    let authority = uri.authority().ok_or("is not a URL with a host")?;
    if !matches!(scheme, "http" | "https") {
        return Err("is not a URL with http or https");
    }
    if authority.host().is_empty() {
        return Err("is not a URL with a host");
    }
    if authority.as_str().contains('@') {
        return Err("has credentials in it: they belong into a secret");
    }
    if uri.query().is_some() {
        return Err("has a query");
    }
    Ok(())
}

/// Refuses plain http to another host than this one.
fn refuse_plain_http(url: &str) -> Result<(), &'static str> {
    match is_plain_http(url) {
        true => Err(
            "is http, and secret keys would be readable on their way: give an address with https, or the location \"plain_http\": true",
        ),
        false => Ok(()),
    }
}

/// Whether an address is over plain http to another host than this one.
#[must_use]
pub fn is_plain_http(url: &str) -> bool {
    url.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme() == Some(&http::uri::Scheme::HTTP) && !uri.host().is_some_and(is_loopback)
    })
}

/// Whether a host is this machine, by its own name or address.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

fn is_secret_id(text: &str) -> bool {
    (1..=2048).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/_+=.@-!:".contains(&b))
        && (text.starts_with("arn:") || !text.contains(':'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn location(code: &str) -> Value {
        json!({
            "code": code,
            "provider": "embedded",
            "s3_endpoint": "https://s3.example.com",
            "admin_endpoint": "https://admin.example.com:8443/",
            "admin_secret_id": "wharfage/clusters/NL",
        })
    }

    fn refusal(locations: &Value) -> String {
        match parse_locations(&locations.to_string()) {
            Ok(_) => "taken".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_location_needs_only_what_differs() {
        let json = json!([location("NL"), location("DE-2")]).to_string();
        let locations = parse_locations(&json).expect("locations");
        assert_eq!(locations[0].s3_region, "us-east-1");
        assert!(locations[0].counts_traffic);
        assert_eq!(locations[1].code, "DE-2");
    }

    #[test]
    fn an_error_names_the_location_and_the_field() {
        let cases = [
            ("code", json!("nl"), "is not 1 to 16 characters of A-Z"),
            ("code", json!("NL"), "NL stands twice"),
            ("provider", json!("tape"), "unknown variant `tape`"),
            ("s3_endpoint", json!("s3.example.com"), "is not a URL"),
            (
                "s3_endpoint",
                json!("ftp://s3.example.com"),
                "http or https",
            ),
            (
                "admin_endpoint",
                json!("https://a:b@host"),
                "has credentials",
            ),
            ("admin_endpoint", json!("https://host/?x=1"), "has a query"),
            ("admin_endpoint", json!(7), "invalid type"),
            (
                "admin_secret_id",
                json!(""),
                "is neither the name nor the ARN",
            ),
            (
                "admin_secret_id",
                json!("{}"),
                "is neither the name nor the ARN",
            ),
            ("s3_region", json!(""), "is empty"),
            ("counts_traffic", json!("no"), "invalid type"),
            ("plain_http", json!("yes"), "invalid type"),
        ];
        for (field, value, problem) in cases {
            let mut second = location("DE");
            second[field] = value;
            let text = refusal(&json!([location("NL"), second]));
            let begin = format!("environment variable LOCATIONS: [1].{field}: ");
            assert!(text.starts_with(&begin) && text.contains(problem), "{text}");
        }
        let mut incomplete = location("DE");
        let fields = incomplete.as_object_mut().expect("an object");
        fields.remove("admin_secret_id");
        let text = refusal(&json!([location("NL"), incomplete]));
        assert!(
            text.contains("[1]: missing field `admin_secret_id`"),
            "{text}"
        );
        let mut former = location("DE");
        former["admin_token"] = "visible?".into();
        let text = refusal(&json!([former]));
        assert!(text.contains("unknown field `admin_token`"), "{text}");
        assert!(!text.contains("visible?"), "{text}");
        assert!(refusal(&json!([])).contains("no location is configured"));
        assert!(refusal(&json!({})).contains("LOCATIONS: invalid type"));
    }

    #[test]
    fn plain_http_to_another_host_needs_the_location_to_say_so() {
        let at = |endpoint: &str| {
            let mut location = location("NL");
            location["admin_endpoint"] = endpoint.into();
            location
        };
        for endpoint in [
            "http://rgw.example.internal:8080",
            "HTTP://10.0.0.7",
            "http://[fd00::7]:8080",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://0.0.0.0",
        ] {
            let text = refusal(&json!([at(endpoint)]));
            assert!(
                text.starts_with("environment variable LOCATIONS: [0].admin_endpoint: is http"),
                "{endpoint}: {text}"
            );
            assert!(text.contains(r#""plain_http": true"#), "{text}");
            let mut said = at(endpoint);
            said["plain_http"] = true.into();
            assert_eq!(refusal(&json!([said])), "taken", "{endpoint}");
            said["plain_http"] = false.into();
            assert_eq!(refusal(&json!([said])), text);
        }
        for endpoint in [
            "https://rgw.example.internal",
            "http://127.0.0.1:8000",
            "http://127.8.9.1",
            "http://[::1]:3903",
            "http://[::ffff:127.0.0.1]",
            "http://localhost:8000/",
            "http://LOCALHOST",
            "http://rgw.localhost",
        ] {
            assert_eq!(refusal(&json!([at(endpoint)])), "taken", "{endpoint}");
        }
        // Clients' own signed requests go to the other address.
        let mut s3 = location("NL");
        s3["s3_endpoint"] = "http://s3.example.com".into();
        assert_eq!(refusal(&json!([s3])), "taken");
    }

    #[test]
    fn a_secret_that_stands_where_its_name_should_is_not_repeated() {
        let mut mistaken = location("NL");
        mistaken["admin_secret_id"] = r#"{"token":"visible?"}"#.into();
        let text = refusal(&json!([mistaken]));
        assert!(!text.contains("visible?"), "{text}");
    }
}
