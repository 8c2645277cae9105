//! Orders as a saga: the steps as do/undo pairs.
//!
//! | step | do | undo |
//! |---|---|---|
//! | begin | one transaction: the order, the bucket name, the client's count, the held price, the idempotency key | `finish_undoing`, one transaction |
//! | user | `create_user` with keys and quota chosen before | `delete_user` |
//! | bucket | `create_bucket` | `delete_bucket` |
//! | fulfil | one transaction: the account, the payment, the invoice, history, the end of the order | – |
//!
//! Each step is idempotent. The order records its direction, and a lease keeps two processes from working on it at once. The lease is
//! longer than a function may run.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wharfage::cluster::doubt::watched;
use wharfage::cluster::{ClusterError, Keys};
use wharfage::context::Context;
use wharfage::database::{Conflict, Written};
use wharfage::domain::account::{Account, AccountId, Group, S3Uid, Service, Status};
use wharfage::domain::bucket_name;
use wharfage::domain::client::{Client, ClientId};
use wharfage::domain::credential::hash;
use wharfage::domain::dunning::is_overdue;
use wharfage::domain::event::Kind;
use wharfage::domain::history::Actor;
use wharfage::domain::invoice::{Basis, InvoiceId, Line};
use wharfage::domain::ledger::{Cause, Posting};
use wharfage::domain::money::{Currency, to_major, to_minor};
use wharfage::domain::order::{IdempotencyRecord, Order, Payment, Refusal, State};
use wharfage::domain::period::{date_of, next_anniversary};
use wharfage::domain::plan::{Plan, PlanId};
use wharfage::domain::plan_change::PlanChanges;
use wharfage::domain::quota::QuotaLevel;
use wharfage::error::{Error, Fault, Reason, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::values::{BucketName, Id, Whole};
use wharfage::telemetry::{self, Figure};
use wharfage::tries::Tries;

use crate::allowance::check_ended;
use crate::invoicing::{self, Bill, Draft};
use crate::locations;
use crate::payments::pay_open;
use crate::plans::check_counted;
use crate::suspension::Stopped;

/// How long the process that works on an order has it for itself: twice what a function may run.
const LEASE: SignedDuration = SignedDuration::from_secs(60);
/// After this long nothing can come any more of what was asked of a cluster whose answer is unknown: what a function may run, and as long
/// again for what a gateway still does that its caller has given up on.
const LATEST_EFFECT: SignedDuration = SignedDuration::from_mins(3);
/// How often an order that meets a cluster that cannot answer is carried forward before it is turned back.
const MOST_ATTEMPTS: u32 = 30;
/// How often an order looks at its client's balances again because they moved before it was invoiced.
const MOST_LOOKS: usize = 50;
/// Seconds after which to ask again for an order under way.
const RETRY_AFTER_SECONDS: u32 = 5;

/// What `create_order` and `create_account` take.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// The plan.
    plan_id: Id,
    /// The name of the first bucket. Optional if the installation generates names.
    bucket_name: Option<BucketName>,
    /// The location; by default the default location.
    #[schemars(extend("examples" = ["NL"]))]
    location: Option<String>,
    /// An idempotency key: within 24 hours the same key returns the same order. The header `Idempotency-Key` does the same.
    #[schemars(extend("examples" = ["order-2026-0017"], "maxLength" = 255))]
    idempotency_key: Option<String>,
    /// The client to order for, for administrators.
    id: Option<Id>,
}

/// What they answer.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Answered {
    /// The account, by its permanent name.
    s3uid: S3Uid,
    /// Its number.
    id: AccountId,
    /// Its location.
    #[schemars(extend("examples" = ["NL"]))]
    location: String,
    /// The name of its first bucket.
    #[schemars(extend("examples" = ["my-first-bucket"]))]
    bucket_name: String,
    /// The invoice; null for a plan that costs nothing.
    invoice_id: Option<InvoiceId>,
    /// Its status.
    status: Status,
}

/// What a fingerprint of what is ordered begins with.
const FINGERPRINT: &str = "2:";

/// How an order ended.
enum Outcome {
    /// With an account: the answer's fields.
    Fulfilled(Value),
    /// With nothing left.
    Undone(Refusal),
}

/// Who carries an order on, and so what to do when the cluster cannot answer.
#[derive(PartialEq, Eq)]
enum Trigger {
    /// A request: its client is told, so the order must come to nothing.
    Request,
    /// A job: nobody waits, so the order can wait for the cluster.
    Job,
}

/// What an order says, as far as it can be told without asking who orders.
pub(crate) struct Ordered {
    location: String,
    plan: Option<Plan>,
}

/// Checks what an order says, and reads the plan.
pub(crate) async fn ordered(context: &Context, asked: &Asked) -> Result<Ordered, Error> {
    if asked.bucket_name.is_none() && !context.rules.generates_bucket_names {
        return Err(Rejection::missing("bucket_name").into());
    }
    let location = locations::known(context, asked.location.as_deref())?
        .unwrap_or_else(|| context.rules.default_location.clone());
    let plan_id = PlanId(asked.plan_id.0);
    Ok(Ordered {
        location,
        plan: context.database.plan(plan_id).await?,
    })
}

/// Answers `create_order` (`Payment::Credit`) and `create_account` (`Payment::Invoice`).
pub(crate) async fn place(
    context: &Context,
    call: Call<'_, Asked>,
    ordered: Ordered,
    action: &str,
    payment: Payment,
) -> Result<Answered, Error> {
    let Ordered { location, plan } = ordered;
    let (caller, raw, asked) = (call.caller, call.raw, call.parameters);
    let plan_id = PlanId(asked.plan_id.0);
    let bucket_name = asked.bucket_name.map(|BucketName(name)| name);
    let idempotency_key = idempotency_key(raw, asked.idempotency_key)?;
    let client_id = caller
        .client_of(asked.id.map(|Whole(id)| ClientId(id)))?
        .unwrap_or(caller.client_id);
    let now = context.now();
    // An order whose name is made up is the same order when it comes again, and its name the first one.
    let named = bucket_name.as_deref().unwrap_or_default();
    let fingerprint = Fingerprint::of(raw, action, (plan_id, named, &location));
    let (client, used) = futures::try_join!(context.database.client(client_id), async {
        match &idempotency_key {
            Some(key) => {
                context
                    .database
                    .idempotency_record(client_id, key, now)
                    .await
            }
            None => Ok(None),
        }
    })?;
    let client = client.ok_or_else(Rejection::client_not_found)?;
    if let Some(used) = used {
        return repeat(context, &used, &fingerprint).await;
    }
    let plan = plan
        .filter(|plan| caller.is_admin() || plan.is_visible_to(&client.tags))
        .ok_or_else(Rejection::plan_not_found)?;
    let amount_minor = price_minor(context, &plan, &location, client.currency)?;
    let s3uid = S3Uid(context.random.s3uid());
    let keys = Keys {
        access_key: context.random.access_key(),
        secret_key: SecretString::from(context.random.secret_key()),
    };
    let group = Group {
        plan_id,
        storage_type: plan.storage_type.clone(),
        location: location.clone(),
        billing: client.billing.clone(),
    };
    let on_account = async {
        match payment {
            _ if amount_minor == 0 => Ok(check_ended(context, client_id).await??),
            Payment::Invoice => check_debts(context, &client, amount_minor).await,
            _ => Ok(()),
        }
    };
    let made = async {
        Ok(futures::try_join!(
            context.database.next_numbers(),
            context.vault.encrypt(&s3uid, &keys.secret_key),
            context.database.put_group(&group),
        )?)
    };
    let ((), (numbers, secret_key_ciphertext, ())) = futures::try_join!(on_account, made)?;
    let order = Order {
        order_id: context.random.id(),
        state: State::Forward,
        action: action.into(),
        requested_by: caller.actor(),
        client_id,
        credit_limit_minor: client.credit_limit_minor,
        email: client.email,
        billing: client.billing,
        plan_id,
        plan_version: plan.version,
        storage_limit_bytes: plan.storage_limit_bytes(),
        plan_name: plan.name,
        storage_type: plan.storage_type,
        quota_gb: plan.quota_gb,
        location,
        bucket_name: bucket_name
            .unwrap_or_else(|| bucket_name::made_up(client_id, &context.random.id())),
        payment: if amount_minor == 0 {
            Payment::Free
        } else {
            payment
        },
        currency: client.currency,
        amount_minor,
        s3uid,
        account_id: numbers.account_id,
        invoice_id: numbers.invoice_id,
        access_key: keys.access_key.clone(),
        secret_key_ciphertext,
        idempotency_key,
        created_at: now,
        lease_until: now + LEASE,
        attempts: 1,
        refusal: None,
        answer: None,
    };
    if let Written::No(conflicts) = begin(context, &order, &fingerprint).await? {
        return why_refused(context, &order, &conflicts, &fingerprint).await;
    }
    let outcome = drive(context, order, Some(keys), &Trigger::Request).await?;
    answer(outcome)
}

/// What a month of a plan costs at a location, where it can be ordered there.
fn price_minor(
    context: &Context,
    plan: &Plan,
    location: &str,
    currency: Currency,
) -> Result<i64, Error> {
    if !plan.locations.iter().any(|code| code == location) {
        let offered = plan.locations.join(" or ");
        let rule = format!("must be {offered}, where the plan is offered");
        return Err(Rejection::invalid("location", &rule).into());
    }
    check_counted(context, plan, location)?;
    let price = plan.monthly_price(location, currency).map_err(|_| {
        Rejection::new(
            Reason::PlanNotAvailable,
            format!("the plan is not sold in {currency}"),
        )
    })?;
    let price_minor = to_minor(price, currency);
    Ok(price_minor.map_err(|e| Fault::permanent(format!("pricing plan {}", plan.id), e))?)
}

/// Begins an order, if need be after what is owed was paid.
async fn begin(
    context: &Context,
    order: &Order,
    fingerprint: &Fingerprint,
) -> Result<Written, Fault> {
    let begin = || {
        context
            .database
            .begin_order(order, &fingerprint.own, &context.rules)
    };
    let begun = begin().await?;
    if let Written::No(conflicts) = &begun
        && *conflicts == [Conflict::Balances]
        && !pay_open(context, order.client_id).await?.is_empty()
    {
        // There was credit beside a debt, which comes first: what is left of it may suffice.
        return begin().await;
    }
    Ok(begun)
}

/// What an order is known by when it comes again with its idempotency key.
struct Fingerprint {
    /// Of what is ordered, however it is written.
    own: String,
    /// Of the parameters as they are written: records without [`FINGERPRINT`] have this. The last of them expire a day later.
    of_the_text: String,
}

impl Fingerprint {
    fn of(
        call: &wharfage::http::Call,
        action: &str,
        (plan_id, bucket_name, location): (PlanId, &str, &str),
    ) -> Fingerprint {
        let ordered = format!("{action}\n{plan_id}\n{bucket_name}\n{location}");
        let parameters = call
            .parameters
            .canonical_without(&["token", "action", "idempotency_key"]);
        Fingerprint {
            own: format!("{FINGERPRINT}{}", hash(&ordered)),
            of_the_text: hash(&format!("{action}\n{parameters}")),
        }
    }

    fn is(&self, kept: &str) -> bool {
        kept == self.own || kept == self.of_the_text
    }
}

/// Refuses an order on account to whoever has something overdue, or would owe more than allowed.
/// Why an order may be refused.
pub(crate) const REFUSALS: &[Reason] = &[
    Reason::AccountNotFound,
    Reason::ClientNotFound,
    Reason::PlanNotFound,
    Reason::PlanNotAvailable,
    Reason::AccountLimitReached,
    Reason::FreeAccountLimitReached,
    Reason::BucketNameTaken,
    Reason::ChangedMeanwhile,
    Reason::RequestUnderWay,
    Reason::IdempotencyKeyReused,
    Reason::TooManyRequests,
    Reason::StorageRefused,
    Reason::StorageUnavailable,
];

async fn check_debts(context: &Context, client: &Client, amount_minor: i64) -> Result<(), Error> {
    let (client_id, currency) = (client.client_id, client.currency);
    let (balances, oldest) = futures::try_join!(
        context.database.balances(client_id, currency),
        context.database.oldest_open_invoice(client_id),
    )?;
    let today = date_of(context.now());
    if let Some(oldest) = oldest.filter(|oldest| is_overdue(oldest.due_on, today)) {
        let text = format!(
            "an invoice is overdue: {} {} of invoice {} since {}",
            to_major(oldest.open_minor(), oldest.currency),
            oldest.currency,
            oldest.invoice_id,
            oldest.due_on,
        );
        return Err(Rejection::new(Reason::InvoiceOverdue, text).into());
    }
    let owed_minor = -balances.receivable_minor;
    let limit_minor = credit_limit(context, client.credit_limit_minor, currency);
    if owed_minor + (amount_minor - balances.credit_minor).max(0) > limit_minor {
        let unpaid_minor = amount_minor - balances.credit_minor;
        return Err(Rejection::new(
            Reason::CreditLimitReached,
            over_limit(owed_minor, limit_minor, unpaid_minor, currency),
        )
        .into());
    }
    Ok(())
}

/// Up to how much a client may owe, in minor units: what its record says, or the stack's parameter.
fn credit_limit(context: &Context, own_minor: Option<i64>, currency: Currency) -> i64 {
    own_minor.unwrap_or_else(|| context.rules.credit_limit.in_minor(currency))
}

/// `unpaid_minor` is what credit does not pay of the order.
fn over_limit(owed_minor: i64, limit_minor: i64, unpaid_minor: i64, currency: Currency) -> String {
    let [owed, limit, unpaid] =
        [owed_minor, limit_minor, unpaid_minor].map(|minor| to_major(minor, currency));
    format!(
        "the credit limit does not allow it: {owed} {currency} owed and {unpaid} more by this order, the limit is {limit}"
    )
}

fn idempotency_key(
    call: &wharfage::http::Call,
    parameter: Option<String>,
) -> Result<Option<String>, Rejection> {
    let header = call.idempotency_key.clone().filter(|key| !key.is_empty());
    if header.is_some() && parameter.is_some() && header != parameter {
        return Err(Rejection::invalid(
            "idempotency_key",
            "is not what the header Idempotency-Key says",
        ));
    }
    let key = header.or(parameter);
    if key.as_ref().is_some_and(|key| key.chars().count() > 255) {
        return Err(Rejection::invalid(
            "idempotency_key",
            "must be at most 255 characters long",
        ));
    }
    Ok(key)
}

fn answer(outcome: Outcome) -> Result<Answered, Error> {
    match outcome {
        Outcome::Fulfilled(fields) => serde_json::from_value(fields)
            .map_err(|e| Fault::permanent("reading what an order was answered", e).into()),
        Outcome::Undone(refusal) => {
            // Orders that were undone by a version before have no reason.
            let reason = refusal.reason.unwrap_or(match refusal.status {
                503 => Reason::StorageUnavailable,
                402 => Reason::CreditLimitReached,
                _ => Reason::StorageRefused,
            });
            let rejection = Rejection::new(reason, refusal.text);
            Err(match reason {
                Reason::StorageUnavailable => rejection.retry_after(RETRY_AFTER_SECONDS),
                _ => rejection,
            }
            .into())
        }
    }
}

/// Why an order could not begin, told by the condition that matters most to the client.
async fn why_refused(
    context: &Context,
    order: &Order,
    conflicts: &[Conflict],
    fingerprint: &Fingerprint,
) -> Result<Answered, Error> {
    if conflicts.contains(&Conflict::Crowded) {
        let text = "too many orders of this customer at once, try again";
        return Err(Rejection::new(Reason::TooManyRequests, text)
            .retry_after(1)
            .into());
    }
    if conflicts.contains(&Conflict::IdempotencyKeyUsed) {
        let key = order.idempotency_key.as_deref().unwrap_or_default();
        return match context
            .database
            .idempotency_record(order.client_id, key, order.created_at)
            .await?
        {
            Some(used) => repeat(context, &used, fingerprint).await,
            None => Err(under_way().into()),
        };
    }
    if conflicts.contains(&Conflict::BucketNameTaken) {
        return Err(Rejection::bucket_name_taken().into());
    }
    if conflicts.contains(&Conflict::TooManyAccounts) {
        let client = context.database.client(order.client_id).await?;
        if client.is_some_and(|client| client.currency != order.currency) {
            let text = "the customer's currency was changed meanwhile";
            return Err(Rejection::changed_meanwhile(text).into());
        }
        let rejection = if order.payment == Payment::Free {
            let text = "the limit of free S3 accounts is reached";
            Rejection::new(Reason::FreeAccountLimitReached, text)
        } else {
            let text = "the limit of S3 accounts is reached";
            Rejection::new(Reason::AccountLimitReached, text)
        };
        return Err(rejection.into());
    }
    if conflicts.contains(&Conflict::Balances) {
        let database = &context.database;
        let balances = database.balances(order.client_id, order.currency).await?;
        let major = |amount_minor| to_major(amount_minor, order.currency);
        let mut text = format!(
            "not enough credit: {} {} needed, {} available",
            major(order.amount_minor),
            order.currency,
            major(balances.credit_minor),
        );
        if balances.receivable_minor < 0 {
            let owed = major(-balances.receivable_minor);
            text.push_str(&format!(", and {owed} of open invoices to be paid first"));
        }
        return Err(Rejection::new(Reason::NotEnoughCredit, text).into());
    }
    Err(Fault::retryable("beginning an order", format!("{conflicts:?}")).into())
}

fn under_way() -> Rejection {
    Rejection::new(
        Reason::RequestUnderWay,
        "the first request with this idempotency key is still under way",
    )
    .retry_after(RETRY_AFTER_SECONDS)
}

/// Answers a request whose idempotency key was used before.
async fn repeat(
    context: &Context,
    used: &IdempotencyRecord,
    fingerprint: &Fingerprint,
) -> Result<Answered, Error> {
    if !fingerprint.is(&used.fingerprint) {
        return Err(Rejection::new(
            Reason::IdempotencyKeyReused,
            "idempotency key was used with other parameters",
        )
        .into());
    }
    let order = context
        .database
        .order(&used.order_id)
        .await?
        .ok_or_else(|| {
            Fault::permanent(
                "repeating an order",
                format!("order {} is missing", used.order_id),
            )
        })?;
    if order.is_open() {
        // Whoever began it may have died: then this request carries it on.
        let now = context.now();
        return match context
            .database
            .take_order_up(&order.order_id, now, now + LEASE)
            .await?
        {
            Some(order) => answer(drive(context, order, None, &Trigger::Request).await?),
            None => Err(under_way().into()),
        };
    }
    answer(ended(order)?)
}

/// Takes up an order that nobody works on, for the job that looks for such orders. `None` when somebody else was quicker.
pub(crate) async fn resume(context: &Context, order_id: &str) -> Result<Option<State>, Fault> {
    let now = context.now();
    let Some(order) = context
        .database
        .take_order_up(order_id, now, now + LEASE)
        .await?
    else {
        return Ok(None);
    };
    match drive(context, order, None, &Trigger::Job).await {
        Ok(Outcome::Fulfilled(_)) => Ok(Some(State::Fulfilled)),
        Ok(Outcome::Undone(_)) => Ok(Some(State::Undone)),
        Err(Error::Fault(fault)) => Err(fault),
        Err(Error::Rejection(rejection)) => {
            Err(Fault::retryable("carrying an order on", rejection.text))
        }
    }
}

fn not_fulfilled() -> Refusal {
    Rejection::new(Reason::StorageUnavailable, "the order was not fulfilled").into()
}

/// An order's outcome, once it has one.
fn ended(order: Order) -> Result<Outcome, Error> {
    match order.state {
        State::Fulfilled => Ok(Outcome::Fulfilled(order.answer.unwrap_or_default())),
        State::Undone => Ok(Outcome::Undone(order.refusal.unwrap_or_else(not_fulfilled))),
        State::Forward | State::Undoing => Err(under_way().into()),
    }
}

/// Carries an order to its end, whichever way it is going.
async fn drive(
    context: &Context,
    mut order: Order,
    keys: Option<Keys>,
    trigger: &Trigger,
) -> Result<Outcome, Error> {
    if order.state == State::Undone {
        return match find_leftovers(context, &order).await {
            Ok(()) => ended(order),
            Err(Stopped::Cluster(error)) => Err(error.into_fault("undoing an order").into()),
            Err(Stopped::Fault(fault)) => Err(fault.into()),
        };
    }
    // Whoever worked on it before may have asked for something whose outcome nobody knows.
    let mut is_certain = order.attempts == 1;
    if order.state == State::Forward {
        let (forward, is_known) = watched(provision(context, &order, keys)).await;
        is_certain &= is_known;
        let refusal = match forward {
            Ok(Ok(outcome)) => return Ok(outcome),
            Err(Stopped::Fault(fault)) => return Err(fault.into()),
            // By the ledger, for good.
            Ok(Err(refusal)) => refusal,
            Err(Stopped::Cluster(error)) => {
                let is_final = matches!(error, ClusterError::Refused { .. });
                is_certain &= is_final;
                if !is_final && *trigger == Trigger::Job && order.attempts < MOST_ATTEMPTS {
                    return Err(error.into_fault("carrying an order on").into());
                }
                tracing::warn!(order_id = %order.order_id, %error, "an order is turned back");
                refusal(error)
            }
        };
        let turned_back = context.database.turn_order_back(&order, &refusal).await?;
        if !turned_back.is_yes() {
            return reload_outcome(context, &order.order_id).await;
        }
        order.refusal = Some(refusal);
    }
    match roll_back(context, &order, is_certain).await {
        Ok(outcome) => Ok(outcome),
        // The client is told why it failed; what is left of the order, the job takes away.
        Err(Stopped::Cluster(error)) if *trigger == Trigger::Request => {
            tracing::warn!(order_id = %order.order_id, %error, "an order is still to be undone");
            Ok(Outcome::Undone(order.refusal.unwrap_or(refusal(error))))
        }
        Err(Stopped::Cluster(error)) => Err(error.into_fault("undoing an order").into()),
        Err(Stopped::Fault(fault)) => Err(fault.into()),
    }
}

fn refusal(error: ClusterError) -> Refusal {
    let rejection = match error {
        ref refused if refused.is("BucketAlreadyExists") => Rejection::bucket_name_taken(),
        ClusterError::Refused { message, .. } => Rejection::new(Reason::StorageRefused, message),
        ClusterError::Locked(locked) => Rejection::new(Reason::StorageRefused, locked.to_string()),
        ClusterError::Unavailable(_) | ClusterError::NoAccess(_) => {
            telemetry::add(Figure::ClusterUnavailable, 1);
            Rejection::storage_unavailable()
        }
    };
    rejection.into()
}

async fn reload_outcome(context: &Context, order_id: &str) -> Result<Outcome, Error> {
    let order = context.database.order(order_id).await?.ok_or_else(|| {
        Fault::permanent(
            "looking at an order",
            format!("order {order_id} is missing"),
        )
    })?;
    ended(order)
}

async fn provision(
    context: &Context,
    order: &Order,
    keys: Option<Keys>,
) -> Result<Result<Outcome, Refusal>, Stopped> {
    let provider = &context.clusters.of(&order.location)?.provider;
    let keys = match keys {
        Some(keys) => keys,
        None => Keys {
            access_key: order.access_key.clone(),
            secret_key: context
                .vault
                .decrypt(&order.s3uid, &order.secret_key_ciphertext)
                .await?,
        },
    };
    provider
        .create_user(&order.s3uid, &keys, order.storage_limit_bytes)
        .await?;
    provider
        .create_bucket(&order.s3uid, &order.bucket_name)
        .await?;
    Ok(fulfil(context, order).await?)
}

async fn fulfil(context: &Context, order: &Order) -> Result<Result<Outcome, Refusal>, Fault> {
    // What the client owes, or has to spend, may change meanwhile: then decide again.
    let mut tries = Tries::of(MOST_LOOKS);
    loop {
        tries.once_more(|| {
            Fault::retryable("fulfilling an order", "the client's balances keep moving")
        })?;
        let now = context.now();
        let draft = match order.payment {
            Payment::Free => None,
            Payment::Credit => {
                let bill = bill(order);
                Some(invoicing::captured(context, bill, &order.order_id, now).await?)
            }
            Payment::Invoice => match on_account(context, order, now).await? {
                Ok(draft) => Some(draft),
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        let account = account(order, now);
        let fields = json!({
            "s3uid": account.s3uid,
            "id": account.id,
            "location": account.location,
            "bucket_name": order.bucket_name,
            "invoice_id": draft.as_ref().map(|draft| draft.invoice.invoice_id),
            "status": account.service.status(),
        });
        let fulfilled = Order {
            answer: Some(fields.clone()),
            ..order.clone()
        };
        let details = json!({
            "plan_id": order.plan_id,
            "location": order.location,
            "bucket_name": order.bucket_name,
            "payment": order.payment,
            "amount_minor": order.amount_minor,
            "currency": order.currency,
            "invoice_id": fields["invoice_id"],
        });
        let entry = context.account_entry(
            order.client_id,
            &order.s3uid,
            &order.action,
            order.requested_by.clone(),
            details,
        );
        let mut events = vec![context.account_event(
            Kind::OrderFulfilled,
            order.client_id,
            &order.s3uid,
            fields.clone(),
        )];
        if let Some(draft) = &draft {
            events.extend(invoicing::issue_events(context, &draft.invoice));
        }
        let lowered = draft.as_ref().map(Draft::lowered).unwrap_or_default();
        let issue = draft.as_ref().map(|draft| draft.issue(&lowered));
        if context
            .database
            .fulfil_order(&fulfilled, &account, issue, &entry, &events)
            .await?
            .is_yes()
        {
            return Ok(Ok(Outcome::Fulfilled(fields)));
        }
        match reload_outcome(context, &order.order_id).await {
            Ok(outcome) => {
                if let Some(draft) = &draft {
                    draft.give_up(context).await?;
                }
                return Ok(Ok(outcome));
            }
            Err(Error::Fault(fault)) => return Err(fault),
            Err(Error::Rejection(_)) => {}
        }
    }
}

/// The invoice of an order on account, refused where its client would owe more than allowed by it: others may have been ordered since.
async fn on_account(
    context: &Context,
    order: &Order,
    now: Timestamp,
) -> Result<Result<Draft, Refusal>, Fault> {
    let missing = || Fault::permanent("fulfilling an order", "it has no lines");
    let draft = invoicing::draft(context, bill(order), now)
        .await?
        .ok_or_else(missing)?;
    let limit_minor = credit_limit(context, order.credit_limit_minor, order.currency);
    let (open_minor, owed_minor) = (draft.invoice.open_minor(), draft.owed_minor);
    if open_minor > 0 && owed_minor + open_minor > limit_minor {
        draft.give_up(context).await?;
        let text = over_limit(owed_minor, limit_minor, open_minor, order.currency);
        return Ok(Err(Rejection::new(Reason::CreditLimitReached, text).into()));
    }
    Ok(Ok(draft.within(limit_minor)))
}

fn bill(order: &Order) -> Bill {
    let from = order.ordered_on();
    Bill {
        client_id: order.client_id,
        s3uid: order.s3uid.clone(),
        currency: order.currency,
        lines: vec![Line {
            text: format!("{}, {}", order.plan_name, order.location),
            from,
            to: next_anniversary(from, from),
            amount_minor: order.amount_minor,
            plan_id: order.plan_id,
            plan_version: order.plan_version,
            basis: Basis::Recurring,
        }],
        invoice_id: order.invoice_id,
        cause: order.order_id.clone(),
    }
}

fn account(order: &Order, now: Timestamp) -> Account {
    Account {
        s3uid: order.s3uid.clone(),
        id: order.account_id,
        client_id: order.client_id,
        email: order.email.clone(),
        billing: order.billing.clone(),
        plan_id: order.plan_id,
        plan_version: order.plan_version,
        is_free: order.payment == Payment::Free,
        location: order.location.clone(),
        storage_type: order.storage_type.clone(),
        quota_gb: order.quota_gb,
        service: Service::ordered(order.ordered_on()),
        access_key: order.access_key.clone(),
        secret_key_ciphertext: order.secret_key_ciphertext.clone(),
        next_key: None,
        created_at: now,
        buckets: 1,
        stored_bytes: 0,
        period_from: order.ordered_on(),
        period_bytes_sent: 0,
        period_peak_stored_bytes: 0,
        commits_on: Some(Service::ordered(order.ordered_on()).next_commit_date),
        plan_changes: PlanChanges::default(),
        quota_told: QuotaLevel::default(),
        unsettled: None,
        key_confirmed_at: None,
        revision: 0,
    }
}

/// Removes what was made of an order at its cluster.
async fn remove_made(context: &Context, order: &Order) -> Result<(), Stopped> {
    let provider = &context.clusters.of(&order.location)?.provider;
    match provider
        .delete_bucket(&order.s3uid, &order.bucket_name)
        .await
    {
        Err(error) if !error.is("NoSuchBucket") => return Err(error.into()),
        _ => {}
    }
    Ok(provider.delete_user(&order.s3uid).await?)
}

/// Removes what came of an order after it was undone: what its cluster was asked for when its answer was lost.
async fn find_leftovers(context: &Context, order: &Order) -> Result<(), Stopped> {
    remove_made(context, order).await?;
    Ok(context.database.leave_order(&order.order_id).await?)
}

async fn roll_back(context: &Context, order: &Order, is_certain: bool) -> Result<Outcome, Stopped> {
    remove_made(context, order).await?;
    let look_again_at = (!is_certain).then(|| context.now() + LATEST_EFFECT);
    let release = (order.payment == Payment::Credit).then(|| {
        Posting::new(
            Cause::Release(&order.order_id),
            (order.client_id, order.currency),
            context.now(),
            order.amount_minor,
            Vec::new(),
        )
    });
    let details = json!({
        "plan_id": order.plan_id,
        "location": order.location,
        "bucket_name": order.bucket_name,
        "reason": order.refusal.as_ref().map(|refusal| &refusal.text),
    });
    let entry = context.account_entry(
        order.client_id,
        &order.s3uid,
        "order_undone",
        Actor::system("provisioning"),
        details.clone(),
    );
    let event = context.account_event(Kind::OrderUndone, order.client_id, &order.s3uid, details);
    let _ended_before = context
        .database
        .finish_undoing(order, release.as_ref(), look_again_at, &entry, &[event])
        .await?;
    if release.is_some() {
        // What was held is credit again, and pays what came to be owed meanwhile.
        pay_open(context, order.client_id).await?;
    }
    Ok(Outcome::Undone(
        order.refusal.clone().unwrap_or_else(not_fulfilled),
    ))
}
