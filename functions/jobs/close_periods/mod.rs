//! Finds the accounts whose period is to be closed, once the period's usage has been collected to its end.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::billing::BillingWork;
use wharfage::domain::period::{date_of, start_of};
use wharfage::error::Fault;

use crate::billing::{AT_MOST, PAGE};

crate::job!("close_periods");

/// How late the first run of an installation may come and still find the accounts whose period it is to close.
const FIRST_LOOK_BACK: SignedDuration = SignedDuration::from_hours(92 * 24);

async fn run(context: &Context) -> Result<Value, Fault> {
    let today = date_of(context.now());
    // By location, once somebody there commits.
    let mut collected_until: HashMap<String, Option<Timestamp>> = HashMap::new();
    let known = context.database.closed_before().await?;
    let mut closed_before = known.unwrap_or_else(|| today.saturating_sub(FIRST_LOOK_BACK));
    let mut date = closed_before;
    let (mut sent, mut waiting) = (0usize, 0usize);
    while date <= today && sent < AT_MOST {
        let mut is_empty = true;
        let mut after = None;
        loop {
            let (accounts, next) = context
                .database
                .committing_accounts(date, PAGE, after)
                .await?;
            is_empty &= accounts.is_empty();
            for account in &accounts {
                let location = &account.location;
                if !collected_until.contains_key(location) {
                    let until = context.database.collected_until(location).await?;
                    collected_until.insert(location.clone(), until);
                }
            }
            let (ready, unready): (Vec<_>, Vec<_>) = accounts.into_iter().partition(|account| {
                let collected_until = collected_until.get(&account.location).copied().flatten();
                collected_until.is_some_and(|until| until >= start_of(date))
            });
            waiting += unready.len();
            sent += ready.len();
            let work: Vec<(String, BillingWork)> = ready
                .into_iter()
                .map(|account| {
                    let work = BillingWork::Close {
                        s3uid: account.s3uid,
                        commits_on: date,
                    };
                    (account.location, work)
                })
                .collect();
            context.queue.send_billing_in(&work).await?;
            after = next;
            if after.is_none() || sent >= AT_MOST {
                break;
            }
        }
        // Nobody commits on a day that is over and has nobody left.
        if is_empty && date < today && date == closed_before {
            closed_before = date.saturating_add(1.day());
        }
        date = date.saturating_add(1.day());
    }
    if known != Some(closed_before) {
        context.database.set_closed_before(closed_before).await?;
    }
    Ok(json!({ "sent": sent, "waiting": waiting }))
}
