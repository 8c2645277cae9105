//! `add_credit`: records a client's payment. It pays open invoices at once, the oldest first and the last in part; the rest is credit. For
//! admins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wharfage::context::Context;
use wharfage::database::{Conflict, Guard, OpenInvoice, Written};
use wharfage::domain::billing::BillingWork;
use wharfage::domain::client::{Client, ClientId};
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::history::{Actor, Entity};
use wharfage::domain::invoice::{InvoiceId, TakenOff};
use wharfage::domain::ledger::{Cause, LedgerAccount, Posting};
use wharfage::domain::money::{Currency, to_major, to_minor};
use wharfage::error::{Error, Fault, Reason, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::values::{CurrencyCode, Number};
use wharfage::tries::Tries;
use wharfage::{from_line, schema};

use crate::billing::TRIES;
use crate::payments::{distribute, lowered, payments};
use crate::plans;

crate::action! {
    /// Records a payment from a client.
    ///
    /// It pays open invoices, oldest first, the last one in part. The rest becomes credit.
    "add_credit" of Administrators, about Client,
        refuses [ReferenceReused, CurrencyMismatch, ChangedMeanwhile]
}

/// The most that is taken in at once, in minor units: nobody pays a million, but a slip of the hand does.
const MOST_MINOR: i64 = 100_000_000;
/// More digits than these are too much in any currency, whether or not the number can be held.
const MOST_DIGITS: usize = 18;

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// The amount, in units of the currency: at most 1000000.00, in whole minor units.
    #[schemars(with = "f64", extend("exclusiveMinimum" = 0))]
    #[schemars(extend("examples" = [25.0]))]
    amount: String,
    /// The payment's reference: repeating the call with it never adds the money twice.
    reference: Reference,
    /// The scope in which the reference is unique.
    #[schemars(extend("default" = "all"))]
    reference_scope: Option<Scope>,
    /// The currency; by default the client's billing currency.
    currency: Option<CurrencyCode>,
}

/// A payment's own reference.
#[derive(Debug, Clone)]
struct Reference(String);

from_line!(Reference, |text| {
    let reference = text.trim();
    if reference.is_empty() {
        return Err("must not be empty");
    }
    if reference.len() > 128 {
        return Err("must be at most 128 bytes long");
    }
    Ok(Reference(reference.to_owned()))
});
schema!(Reference, "Reference", {
    "type": "string",
    "minLength": 1,
    "maxLength": 128,
    "examples": ["bank transfer 4711"],
});

/// Whose payments a reference is unique among.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Scope {
    /// Everybody's.
    All,
    /// The client's.
    Client,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The client.
    client_id: ClientId,
    /// The currency of the amounts.
    currency: Currency,
    /// The client's credit now.
    credit: Number,
    /// What the client owes now.
    owed: Number,
    /// The open invoices that it paid, oldest first.
    paid: Vec<PaidInvoice>,
}

/// What of a payment went to an invoice.
#[derive(Debug, Serialize, JsonSchema)]
struct PaidInvoice {
    /// The invoice.
    invoice_id: InvoiceId,
    /// The amount allocated to it.
    amount: Number,
    /// The amount of it that is still open.
    open: Number,
}

async fn handle(context: &Context, call: Call<'_, Asked, Client>) -> Result<Answered, Error> {
    let (caller, client, asked) = (call.caller, call.about, call.parameters);
    let client_id = client.client_id;
    let Reference(reference) = &asked.reference;
    let is_shared = asked.reference_scope == Some(Scope::Client);
    let currency = asked
        .currency
        .map_or(client.currency, |CurrencyCode(currency)| currency);
    let amount_minor = minor_units(&asked.amount, currency)?;
    let payment = Payment {
        client: &client,
        currency,
        amount_minor,
        reference,
        is_shared,
        actor: caller.actor(),
    };
    let posting = payment.take_in(context).await?;
    if posting.currency != currency {
        let text = "the reference was used with another currency";
        return Err(Rejection::new(Reason::ReferenceReused, text).into());
    }
    if posting.amounts_minor.get(&LedgerAccount::Funding) != Some(&-amount_minor) {
        return Err(Rejection::new(
            Reason::ReferenceReused,
            "the reference was used with another amount",
        )
        .into());
    }
    // For a retry too: the first try may have died before it. Accounts that were suspended for what is paid now work again.
    context
        .queue
        .send_billing(&[BillingWork::Settle { client_id }])
        .await?;
    let paid = posting.taken_off.iter().map(|taken| async {
        let invoice = context
            .database
            .invoice(client_id, taken.invoice_id)
            .await?;
        let open_minor = invoice.map_or(0, |invoice| invoice.open_minor());
        Ok::<_, Fault>(PaidInvoice {
            invoice_id: taken.invoice_id,
            amount: Number(to_major(taken.amount_minor, currency)),
            open: Number(to_major(open_minor, currency)),
        })
    });
    let paid = futures::future::try_join_all(paid).await?;
    let balances = context.database.balances(client_id, currency).await?;
    Ok(Answered {
        client_id,
        currency,
        credit: Number(to_major(balances.credit_minor, currency)),
        owed: Number(to_major(-balances.receivable_minor, currency)),
        paid,
    })
}

/// An amount as it is written, in minor units.
fn minor_units(text: &str, currency: Currency) -> Result<i64, Rejection> {
    let too_much = || {
        let most = to_major(MOST_MINOR, currency);
        Rejection::invalid("amount", &format!("must be at most {most} at once"))
    };
    let whole = text.trim_start_matches('0');
    if whole.len() > MOST_DIGITS && whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(too_much());
    }
    let amount = plans::decimal(text)
        .filter(|amount| !amount.is_zero())
        .filter(|amount| amount.normalize().scale() <= currency.exponent())
        .ok_or_else(|| {
            Rejection::invalid(
                "amount",
                "must be a positive amount in whole minor units of the currency",
            )
        })?;
    let amount_minor = to_minor(amount, currency).ok();
    amount_minor
        .filter(|minor| *minor <= MOST_MINOR)
        .ok_or_else(too_much)
}

/// Money that came in.
struct Payment<'a> {
    client: &'a Client,
    currency: Currency,
    amount_minor: i64,
    reference: &'a str,
    /// Whether other clients' payments may have the same reference.
    is_shared: bool,
    actor: Actor,
}

impl Payment<'_> {
    /// Posts it once, and pays open invoices with it. The posting as it was made, by this call or an earlier one with the same reference.
    async fn take_in(&self, context: &Context) -> Result<Posting, Error> {
        let (database, client_id) = (&context.database, self.client.client_id);
        let mut tries = Tries::of(TRIES);
        loop {
            let attempt = tries.once_more(|| {
                Fault::retryable("taking a payment in", "the client's invoices keep changing")
            })?;
            let id = Cause::TopUp(self.reference).id();
            let (first, open) = futures::try_join!(
                database.posting(client_id, &id),
                database.open_invoices(client_id),
            )?;
            if let Some(first) = first {
                return Ok(first);
            }
            let open: Vec<OpenInvoice> = open
                .into_iter()
                .filter(|open| open.currency == self.currency)
                .collect();
            let owed_minor: i64 = open.iter().map(OpenInvoice::open_minor).sum();
            if self.currency != self.client.currency && self.amount_minor > owed_minor {
                let text = format!(
                    "the customer is billed in {}: in {} no more is taken than is open, {}",
                    self.client.currency,
                    self.currency,
                    to_major(owed_minor, self.currency),
                );
                return Err(Rejection::new(Reason::CurrencyMismatch, text).into());
            }
            let (touched, left) = distribute(self.amount_minor, open);
            // What becomes credit must not stand beside a debt that came since. A ledger that disagrees with the open invoices takes the
            // money all the same: the recount tells.
            let guard = Guard {
                receivable_minor: (left > 0 && attempt < TRIES / 2).then_some(-owed_minor),
                ..Guard::default()
            };
            let posting = self.posting(context, &touched);
            let (mut entries, mut events) = payments(context, &touched, &self.actor);
            let detail = json!({
                "amount_minor": self.amount_minor,
                "currency": self.currency,
                "reference": self.reference,
            });
            entries.push(context.entry(
                Some(client_id),
                &Entity::Client(client_id),
                NAME,
                self.actor.clone(),
                detail.clone(),
            ));
            events.push(Event {
                event_id: context.random.id(),
                at: posting.at,
                kind: Kind::CreditAdded,
                client_id,
                s3uid: None,
                detail,
            });
            let lowered = lowered(&touched, false);
            let kept = Some(self.reference).filter(|_| !self.is_shared);
            // Nothing is billed in any other currency: credit in it would lie there for ever.
            let billed_in = (left > 0).then_some(self.currency);
            let posted = database.post_payment(
                &posting,
                (kept, billed_in),
                &lowered,
                guard,
                &entries,
                &events,
            );
            match posted.await? {
                Written::Yes => return Ok(posting),
                Written::No(conflicts) if conflicts.contains(&Conflict::ReferenceUsed) => {
                    let text = "the reference was used for another customer: send reference_scope=client if both payments have it";
                    return Err(Rejection::new(Reason::ReferenceReused, text).into());
                }
                Written::No(conflicts) if conflicts.contains(&Conflict::CurrencyChanged) => {
                    // Unless it was posted before that: the next look tells.
                    if let Some(first) = database.posting(client_id, &id).await? {
                        return Ok(first);
                    }
                    let text = "the customer's currency was changed meanwhile";
                    return Err(Rejection::changed_meanwhile(text).into());
                }
                Written::No(_) => {}
            }
        }
    }

    fn posting(&self, context: &Context, touched: &[(OpenInvoice, TakenOff)]) -> Posting {
        Posting::new(
            Cause::TopUp(self.reference),
            (self.client.client_id, self.currency),
            context.now(),
            self.amount_minor,
            touched.iter().map(|(_, taken)| *taken).collect(),
        )
    }
}
