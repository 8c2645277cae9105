//! `add_credit`: notes that money came in from a client. It pays the oldest open invoices first. For admins.

use serde_json::json;
use wharfage::context::Context;
use wharfage::database::Posted;
use wharfage::domain::billing::BillingWork;
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::history::Entity;
use wharfage::domain::ledger::Posting;
use wharfage::domain::money::{Currency, to_major, to_minor};
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::parameters::ID;
use wharfage::http::tokens::{authenticate_admin, token};

use crate::list_plans::number;
use crate::plans;

crate::s3_action!("add_credit");

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    let parameters = &call.parameters;
    let client_id = parameters.required_number(&["id"], ID)?;
    let amount = parameters.required_text(&["amount"])?;
    // The payment's own reference makes a retry harmless: the same money is never added twice.
    let reference = parameters.required_text(&["reference"])?;
    if reference.len() > 128 {
        return Err(Rejection::invalid("reference", "must be at most 128 bytes long").into());
    }
    let is_shared = match parameters.text(&["reference_scope"])?.as_deref() {
        None | Some("all") => false,
        Some("client") => true,
        Some(_) => {
            return Err(Rejection::invalid("reference_scope", "must be all or client").into());
        }
    };
    let client = async { Ok(context.database.client(client_id).await?) };
    let (caller, client) = futures::try_join!(authenticate_admin(context, call), client)?;
    let client = client.ok_or_else(|| Rejection::not_found("customer not found"))?;
    let currency = match parameters.text(&["currency"])? {
        None => client.currency,
        Some(code) => Currency::from_code(&code.to_uppercase())
            .ok_or_else(|| Rejection::invalid("currency", "must be an ISO 4217 currency"))?,
    };
    let amount_minor = plans::decimal(&amount)
        .filter(|amount| !amount.is_zero())
        .filter(|amount| amount.normalize().scale() <= currency.exponent())
        .and_then(|amount| to_minor(amount, currency).ok())
        .filter(|amount_minor| *amount_minor <= 1_000_000_000_000)
        .ok_or_else(|| {
            Rejection::invalid(
                "amount",
                "must be a positive amount in whole minor units of the currency",
            )
        })?;
    let now = context.now();
    let posting = Posting::top_up(&reference, client_id, currency, now, amount_minor);
    let detail =
        json!({ "amount_minor": amount_minor, "currency": currency, "reference": reference });
    let entry = context.entry(
        Some(client_id),
        &Entity::Client(client_id),
        NAME,
        caller.actor(),
        detail.clone(),
    );
    let event = Event {
        event_id: context.random.id(),
        at: now,
        kind: Kind::CreditAdded,
        client_id,
        s3uid: None,
        detail,
    };
    let kept_reference = Some(reference.as_str()).filter(|_| !is_shared);
    let posted = context
        .database
        .post_payment(&posting, &entry, &event, kept_reference)
        .await?;
    if posted == Posted::ReferenceUsed {
        let text = "the reference was used for another customer: send reference_scope=client if both payments have it";
        return Err(Rejection::unprocessable(text).into());
    }
    if posted == Posted::Before {
        let first = context.database.posting(client_id, &posting.id).await?;
        let is_same = first.is_some_and(|first| {
            first.amounts_minor == posting.amounts_minor && first.currency == currency
        });
        if !is_same {
            return Err(
                Rejection::unprocessable("the reference was used with another amount").into(),
            );
        }
    }
    // Sent again for a retry too: the first try may have died before it.
    context
        .queue
        .send_billing(&[BillingWork::Settle { client_id }])
        .await?;
    let balances = context.database.balances(client_id, currency).await?;
    Ok(Answer::ok(json!({
        "client_id": client_id,
        "currency": currency,
        "credit": number(to_major(balances.credit_minor, currency)),
    })))
}
