//! Every key format of every table. Nothing else makes or takes apart a key.
//!
//! | table | pk | sk | what |
//! |---|---|---|---|
//! | clients | `CLIENT#<id>` | `CLIENT` | a client |
//! | clients | `EMAIL#<email>` | `EMAIL` | whose email it is |
//! | clients | `CLIENT#<id>` | `MADE#API_KEY#<sha256>` | an API key that this client made, or whose end is under way with this client's access |
//! | clients | `CLIENT#<id>` | `MADE#ADMIN#<id>` | a client that this one made an administrator |
//! | clients | `CLIENT#<id>` | `MADE#CLIENT#<id>` | another client that this one made |
//! | clients | `CLIENT#<id>` | `FREE#<year>-<month>#<account number>` | an account that cost nothing, and was ordered or ended in that month |
//! | clients | `SEQUENCES` | `SEQUENCES` | the last numbers given to clients, plans, accounts and invoices |
//! | credentials | `API_KEY#<sha256>` | | an API key; listed by `by_client` |
//! | credentials | `TOKEN#<sha256>` | | a session, until it expires |
//! | credentials | `EPOCH#<client>` | | a client's epoch, once it was raised |
//! | credentials | `DEMOTED#<client>` | | a client that is no administrator any more, for sessions without an epoch |
//! | accounts | `ACCOUNT#<s3uid>` | `ACCOUNT` | an account; listed by `by_client`, `by_group`, `by_group_traffic`, `by_group_storage`, and by `by_unsettled` while its cluster is to be told |
//! | accounts | `BUCKET#<location>#<name>` | `BUCKET` | whose bucket name it is; listed by `buckets_by_account` |
//! | accounts | `GROUPS` | `<group key>` | a listing group that has or had accounts |
//! | plans | `PLANS` | `PLAN#<id>` | a plan as it is sold now |
//! | plans | `PLAN#<id>` | `VERSION#<n>` | a plan as it was or is sold |
//! | orders | `ORDER#<id>` | | an order; listed by `open_orders` while it is open |
//! | orders | `IDEMPOTENCY#<client>#<sha256>` | | what an idempotency key was used for, for a day |
//! | ledger | `CLIENT#<id>` | `BALANCES#<currency>` | a client's balances |
//! | ledger | `CLIENT#<id>` | `POSTING#<id>` | a journal entry |
//! | ledger | `REFERENCE#<sha256>` | `REFERENCE` | whose payment a reference is |
//! | ledger | `CLIENT#<id>` | `INVOICE#<id>` | an invoice; listed by `by_currency`, as all rows that name one |
//! | ledger | `CLIENT#<id>` | `OPEN#<due date>#<id>` | the open side of an invoice; listed by `open_invoices` while it is chased |
//! | ledger | `CLIENT#<id>` | `PERIOD#<s3uid>#<from>` | a closed period of an account, and its invoice |
//! | events | `EVENT#<id>` | | an event; listed by `unsent_events` until it is sent |
//! | history | `CLIENT#<id>` or `PLAN#<id>` | `<time>#<id>` | an entry; listed by `by_entity` and `by_actor` too |
//! | tasks | `TASK#<id>` | | a task; listed by `open_tasks` while it is a clean-up under way |
//! | tasks | `ANSWER#<id>#<requested at>` | | a task's answer to the request of a moment, for callback keys |
//! | tasks | `CALLBACK#<sha256>` | | what a callback key stands for |
//! | usage | `ACCOUNT#<s3uid>` | `DAY#<date>` | an account's usage on a day |
//! | usage | `ACCOUNT#<s3uid>` | `TRAFFIC_LIMIT#<from>` | that the traffic of the period from then on reached its limit, which was told, and for which the keys stopped where the plan says so |
//! | usage | `BILLING` | `STATE` | the day before which every period has been closed |
//! | usage | `ACCOUNT#<s3uid>` | `MONTH#<year>-<month>` | an account's totals for a calendar month; ranked by `by_month_traffic`, `by_month_storage` |
//! | usage | `COLLECTION#<location>` | `HOUR#<time>` | an hour under collection |
//! | usage | `OWN#<location>#<shard>` | `<hour>#<s3uid>#<bucket>` | what Wharfage itself called there in an hour, until the segment has it |
//! | usage | `COLLECTION#<location>` | `STATE` | until when all hours are collected |

use jiff::Timestamp;
use jiff::civil::Date;

use crate::domain::account::{AccountId, S3Uid};
use crate::domain::bucket_name::BucketName;
use crate::domain::client::ClientId;
use crate::domain::credential::hash;
use crate::domain::history::Entity;
use crate::domain::invoice::InvoiceId;
use crate::domain::money::Currency;
use crate::domain::plan::PlanId;

/// Numbers are padded so that they sort as numbers.
const DIGITS: usize = 12;

/// The value of `open` in the sparse indexes: what has ended has none.
pub(crate) const OPEN: &str = "1";

pub(crate) const CLIENT: &str = "CLIENT";
pub(crate) const EMAIL: &str = "EMAIL";
pub(crate) const SEQUENCES: &str = "SEQUENCES";
pub(crate) const API_KEYS: &str = "API_KEY#";
pub(crate) const MADE_API_KEYS: &str = "MADE#API_KEY#";
pub(crate) const MADE_ADMINS: &str = "MADE#ADMIN#";
pub(crate) const MADE_CLIENTS: &str = "MADE#CLIENT#";
pub(crate) const ACCOUNT: &str = "ACCOUNT";
pub(crate) const BUCKET: &str = "BUCKET";
pub(crate) const GROUPS: &str = "GROUPS";
pub(crate) const REFERENCE: &str = "REFERENCE";
pub(crate) const BALANCES: &str = "BALANCES#";
pub(crate) const BILLING: &str = "BILLING";
pub(crate) const STATE: &str = "STATE";
pub(crate) const OPEN_INVOICES: &str = "OPEN#";
pub(crate) const CLOSED_PERIODS: &str = "PERIOD#";
pub(crate) const POSTINGS: &str = "POSTING#";
pub(crate) const INVOICES: &str = "INVOICE#";
pub(crate) const TASKS: &str = "TASK#";
pub(crate) const PLANS: &str = "PLANS";
pub(crate) const MONTHS: &str = "MONTH#";
pub(crate) const COLLECTION_STATE: &str = "STATE";
pub(crate) const COLLECTION_HOURS: &str = "HOUR#";

/// An instant as text that sorts as time does.
pub(crate) fn sortable(at: Timestamp) -> String {
    format!("{at:.6}")
}

pub(crate) fn client(client_id: ClientId) -> String {
    format!("CLIENT#{client_id}")
}

pub(crate) fn made_api_key(hash: &str) -> String {
    format!("{MADE_API_KEYS}{hash}")
}

pub(crate) fn made_admin(client_id: ClientId) -> String {
    format!("{MADE_ADMINS}{client_id:0DIGITS$}")
}

pub(crate) fn made_client(client_id: ClientId) -> String {
    format!("{MADE_CLIENTS}{client_id:0DIGITS$}")
}

/// The client's accounts that cost nothing and were ordered or ended in the month that a day is in.
pub(crate) fn free_accounts(date: Date) -> String {
    format!("FREE#{:04}-{:02}#", date.year(), date.month())
}

pub(crate) fn free_account(date: Date, account_id: AccountId) -> String {
    format!("{}{account_id:0DIGITS$}", free_accounts(date))
}

pub(crate) fn email(email: &str) -> String {
    format!("EMAIL#{}", email.to_lowercase())
}

pub(crate) fn api_key(hash: &str) -> String {
    format!("{API_KEYS}{hash}")
}

pub(crate) fn token(hash: &str) -> String {
    format!("TOKEN#{hash}")
}

pub(crate) fn epoch(client_id: ClientId) -> String {
    format!("EPOCH#{client_id}")
}

pub(crate) fn demoted(client_id: ClientId) -> String {
    format!("DEMOTED#{client_id}")
}

pub(crate) fn account(s3uid: &S3Uid) -> String {
    format!("ACCOUNT#{s3uid}")
}

pub(crate) fn bucket(location: &str, bucket_name: &BucketName) -> String {
    format!("BUCKET#{location}#{bucket_name}")
}

pub(crate) fn plan_in_list(plan_id: PlanId) -> String {
    format!("PLAN#{plan_id:0DIGITS$}")
}

pub(crate) fn plan(plan_id: PlanId) -> String {
    format!("PLAN#{plan_id}")
}

pub(crate) fn plan_version(version: u32) -> String {
    format!("VERSION#{version:0DIGITS$}")
}

pub(crate) fn order(order_id: &str) -> String {
    format!("ORDER#{order_id}")
}

/// The key itself is the client's own words, of any length: its hash stands in for it.
pub(crate) fn idempotency(client_id: ClientId, key: &str) -> String {
    format!("IDEMPOTENCY#{client_id}#{}", hash(key))
}

pub(crate) fn balances(currency: Currency) -> String {
    format!("{BALANCES}{currency}")
}

const PLACE_TAKEN: &str = "taken_";
const PLACE_RETURNED: &str = "returned_";

/// The attribute of a balance's row with the place in the series of invoices that is taken for a cause.
pub(crate) fn place_taken(cause: &str) -> String {
    format!("{PLACE_TAKEN}{cause}")
}

/// The attribute that says since when.
pub(crate) fn place_taken_since(cause: &str) -> String {
    format!("since_{cause}")
}

/// The attribute of a place that was given back.
pub(crate) fn place_returned(number: u64) -> String {
    format!("{PLACE_RETURNED}{number}")
}

/// The cause that an attribute has a place for.
pub(crate) fn cause_of_place(attribute: &str) -> Option<&str> {
    attribute.strip_prefix(PLACE_TAKEN)
}

/// Whether an attribute is a place that was given back.
pub(crate) fn is_place_returned(attribute: &str) -> bool {
    attribute.starts_with(PLACE_RETURNED)
}

pub(crate) fn posting(posting_id: &str) -> String {
    format!("{POSTINGS}{posting_id}")
}

/// The reference is somebody else's words, of any form: its hash stands in for it.
pub(crate) fn reference(reference: &str) -> String {
    format!("REFERENCE#{}", hash(reference))
}

pub(crate) fn invoice(invoice_id: InvoiceId) -> String {
    format!("{INVOICES}{invoice_id:0DIGITS$}")
}

pub(crate) fn open_invoice(due_on: Date, invoice_id: InvoiceId) -> String {
    format!("{OPEN_INVOICES}{due_on}#{invoice_id:0DIGITS$}")
}

pub(crate) fn closed_periods(s3uid: &S3Uid) -> String {
    format!("{CLOSED_PERIODS}{s3uid}#")
}

pub(crate) fn closed_period(s3uid: &S3Uid, from: Date) -> String {
    format!("{CLOSED_PERIODS}{s3uid}#{from}")
}

pub(crate) fn event(event_id: &str) -> String {
    format!("EVENT#{event_id}")
}

pub(crate) fn entity(entity: &Entity<'_>) -> String {
    match entity {
        Entity::Account(s3uid) => account(s3uid),
        Entity::Plan(plan_id) => plan(*plan_id),
        Entity::Client(client_id) => client(*client_id),
    }
}

/// The same of an entity as an entry names it: by kind and id.
pub(crate) fn entity_named(kind: &str, id: &str) -> String {
    match kind {
        "account" => account(&S3Uid(id.to_owned())),
        "plan" => format!("PLAN#{id}"),
        _ => format!("CLIENT#{id}"),
    }
}

pub(crate) fn history_entry(at: Timestamp, id: &str) -> String {
    format!("{at:.6}#{id}")
}

pub(crate) fn task(task_id: &str) -> String {
    format!("{TASKS}{task_id}")
}

/// The task that a key is of.
pub(crate) fn task_of(key: &str) -> Option<&str> {
    key.strip_prefix(TASKS)
}

pub(crate) fn answer(task_id: &str, requested_at: Timestamp) -> String {
    format!("ANSWER#{task_id}#{requested_at}")
}

pub(crate) fn callback(callback_key: &str) -> String {
    format!("CALLBACK#{}", hash(callback_key))
}

/// As callback keys were kept before: in the clear. The last of them expire a day later.
pub(crate) fn callback_in_the_clear(callback_key: &str) -> String {
    format!("CALLBACK#{callback_key}")
}

pub(crate) fn day(date: Date) -> String {
    format!("DAY#{date}")
}

/// The calendar month that a day is in.
pub(crate) fn month(date: Date) -> String {
    format!("{MONTHS}{:04}-{:02}", date.year(), date.month())
}

/// A listing group in the calendar month that a day is in: the partition of the rankings.
pub(crate) fn month_group(group_key: &str, date: Date) -> String {
    format!("{group_key}#{:04}-{:02}", date.year(), date.month())
}

pub(crate) fn collection(location: &str) -> String {
    format!("COLLECTION#{location}")
}

pub(crate) fn traffic_limit(period_from: Date) -> String {
    format!("TRAFFIC_LIMIT#{period_from}")
}

pub(crate) fn own_calls(location: &str, shard: u64) -> String {
    format!("OWN#{location}#{shard}")
}

pub(crate) fn own_calls_of(hour: Timestamp) -> String {
    format!("{hour:.0}#")
}

pub(crate) fn own_calls_in(hour: Timestamp, s3uid: &S3Uid, bucket_name: &BucketName) -> String {
    format!("{hour:.0}#{s3uid}#{bucket_name}")
}

pub(crate) fn collection_hour(hour: Timestamp) -> String {
    format!("{COLLECTION_HOURS}{hour:.0}")
}
