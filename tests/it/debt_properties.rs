//! Whatever clients and staff do, in any order and over months: credit and debt do not stand side by side, what was paid is what credit was
//! used for, and no data goes without a suspension that was told, nor before the day that was told.

use std::cell::Cell;
use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::civil::Date;
use proptest::prelude::*;
use serde_json::{Value, json};
use tests::{TestApp, property};
use wharfage::domain::account::{Account, S3Uid, Status, TerminationReason};
use wharfage::domain::period::date_of;

use crate::debts::{drain, run_the_day};

/// As the parameters below say.
const DAYS_FROM_SUSPENSION_TO_PURGE: i64 = 6;

#[derive(Debug, Clone)]
enum Step {
    Order {
        plan_id: u64,
    },
    OnAccount {
        plan_id: u64,
    },
    Pay {
        amount_minor: i64,
    },
    ChangePlan {
        account: usize,
        plan_id: u64,
        is_now: bool,
    },
    Suspend {
        account: usize,
    },
    Resume {
        account: usize,
        days: Option<i64>,
    },
    Cancel {
        account: usize,
    },
    UndoCancel {
        account: usize,
    },
    Wait {
        days: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let plan_id = prop_oneof![Just(1u64), Just(2), Just(3)];
    let account = 0usize..4;
    let step = prop_oneof![
        2 => plan_id.clone().prop_map(|plan_id| Step::Order { plan_id }),
        3 => plan_id.clone().prop_map(|plan_id| Step::OnAccount { plan_id }),
        4 => (1i64..2_500).prop_map(|amount_minor| Step::Pay { amount_minor }),
        3 => (account.clone(), plan_id, any::<bool>())
            .prop_map(|(account, plan_id, is_now)| Step::ChangePlan { account, plan_id, is_now }),
        1 => account.clone().prop_map(|account| Step::Suspend { account }),
        2 => (account.clone(), prop::option::of(1i64..9))
            .prop_map(|(account, days)| Step::Resume { account, days }),
        1 => account.clone().prop_map(|account| Step::Cancel { account }),
        1 => account.prop_map(|account| Step::UndoCancel { account }),
        7 => (1i64..12).prop_map(|days| Step::Wait { days }),
    ];
    prop::collection::vec(step, 10..28)
}

struct Run {
    app: TestApp,
    s3uids: Vec<S3Uid>,
    /// Since when an account has the purge date that it was told, and the date.
    told: BTreeMap<S3Uid, (Date, Date)>,
    purged: usize,
}

impl Run {
    async fn start() -> Run {
        let app = TestApp::start_idle(&[
            ("InvoiceDueDays", "3"),
            ("ReminderDays", "0,1"),
            ("SuspensionDays", "4"),
            ("TerminationDays", "10"),
            ("RetentionDays", "8"),
            ("FreeAccountsPerClient", "3"),
            ("CreditLimit", "60"),
        ])
        .await;
        let left = app.balances("client").await.credit_minor;
        app.top_up("client", "spent", 2_000 - left).await;
        Run {
            app,
            s3uids: Vec::new(),
            told: BTreeMap::new(),
            purged: 0,
        }
    }

    fn today(&self) -> Date {
        date_of(self.app.now())
    }

    async fn stored(&self, s3uid: &S3Uid) -> Account {
        let account = self.app.context().database.account(s3uid).await;
        account.expect("DynamoDB answers").expect("the account")
    }

    /// Calls an action as staff; what the present state does not allow is refused, and that is all.
    async fn staff(&self, action: &str, account: usize, more: Value) {
        let Some(s3uid) = self.s3uids.get(account % self.s3uids.len().max(1)) else {
            return;
        };
        let mut parameters = json!({ "id": self.app.client_id("client"), "s3uid": s3uid });
        let fields = parameters.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        let reply = self.app.call_directly("admin", action, parameters).await;
        assert!(
            matches!(reply.status, 200 | 400 | 402 | 403 | 404 | 409),
            "{action}: {}",
            reply.body
        );
    }

    async fn take(&mut self, number: usize, step: &Step) {
        match step {
            Step::Order { plan_id } => self.order("create_order", number, *plan_id).await,
            Step::OnAccount { plan_id } => self.order("create_account", number, *plan_id).await,
            Step::Pay { amount_minor } => {
                let payment = json!({
                    "id": self.app.client_id("client"),
                    "amount": format!("{}.{:02}", amount_minor / 100, amount_minor % 100),
                    "reference": format!("payment {number}"),
                });
                self.app
                    .call_directly("admin", "add_credit", payment)
                    .await
                    .ok();
            }
            Step::ChangePlan {
                account,
                plan_id,
                is_now,
            } => {
                let when = if *is_now { "now" } else { "next_commit" };
                self.staff(
                    "change_plan",
                    *account,
                    json!({ "plan_id": plan_id, "when": when }),
                )
                .await;
            }
            Step::Suspend { account } => self.staff("suspend_account", *account, json!({})).await,
            Step::Resume { account, days } => {
                let until = days.map(|days| self.today().saturating_add(days.days()));
                let until = until.map_or(json!({}), |until| json!({ "until": until }));
                self.staff("resume_account", *account, until).await;
            }
            Step::Cancel { account } => {
                self.staff("delete_payment_account", *account, json!({}))
                    .await
            }
            Step::UndoCancel { account } => {
                self.staff("cancel_payment_account_deletion", *account, json!({}))
                    .await;
            }
            Step::Wait { days } => {
                for _ in 0..*days {
                    self.next_day().await;
                }
                self.app.log_in().await;
            }
        }
        drain(&self.app).await;
        self.check().await;
    }

    async fn order(&mut self, action: &str, number: usize, plan_id: u64) {
        let order = json!({ "plan_id": plan_id, "bucket_name": format!("bucket-{number}") });
        let reply = self.app.call_directly("client", action, order).await;
        match reply.status {
            200 => {
                let s3uid = S3Uid(reply.body["s3uid"].as_str().expect("a text").to_owned());
                self.app.leave_out_of_collection(&s3uid).await;
                self.s3uids.push(s3uid);
            }
            402 | 403 | 404 | 409 => {}
            other => panic!("{action}: {other} {}", reply.body),
        }
    }

    async fn next_day(&mut self) {
        let mut before = BTreeMap::new();
        for s3uid in &self.s3uids {
            before.insert(s3uid.clone(), self.stored(s3uid).await);
        }
        let next = self.app.now() + 24.hours();
        self.app.stack.clock().move_to(next).expect("moved");
        run_the_day(&self.app).await;
        let told_before = self.told.clone();
        self.note_what_is_told().await;
        let today = self.today();
        for (s3uid, before) in before {
            let after = self.stored(&s3uid).await;
            let is_purged = after.service.status() == Status::Terminated
                && before.service.status() != Status::Terminated;
            if !is_purged {
                continue;
            }
            self.purged += 1;
            assert!(
                before.are_keys_stopped(),
                "purged while its keys worked: {before:?}"
            );
            let (told_on, reason) = before.service.termination().expect("no day was told");
            assert!(
                told_on <= today,
                "purged on {today}, told was {told_on}: {before:?}"
            );
            if reason == TerminationReason::Unpaid {
                let (since, date) = told_before[&s3uid];
                assert_eq!(date, told_on);
                let days = since.until(today).expect("days").get_days();
                assert!(
                    i64::from(days) >= DAYS_FROM_SUSPENSION_TO_PURGE,
                    "{days} days: {before:?}"
                );
            }
        }
    }

    /// What holds after every step.
    async fn check(&mut self) {
        self.app.assert_ledger_is_sound("client").await;
        let balances = self.app.balances("client").await;
        assert!(
            balances.credit_minor == 0 || balances.receivable_minor == 0,
            "credit beside debt: {balances:?}"
        );
        self.note_what_is_told().await;
    }

    async fn note_what_is_told(&mut self) {
        let today = self.today();
        for s3uid in self.s3uids.clone() {
            let service = self.stored(&s3uid).await.service;
            match service.purge_on {
                Some(date) => {
                    assert!(service.suspension().is_some(), "{service:?}");
                    let told = self.told.entry(s3uid).or_insert((today, date));
                    if told.1 != date {
                        *told = (today, date);
                    }
                }
                None if service.status() == Status::Terminated => {}
                None => {
                    self.told.remove(&s3uid);
                }
            }
        }
    }
}

async fn run(steps: &[Step]) -> usize {
    let mut run = Run::start().await;
    for (number, step) in steps.iter().enumerate() {
        run.take(number, step).await;
    }
    // Whoever owes something loses the account in the end, in the order that was told.
    for _ in 0..24 {
        run.next_day().await;
        run.check().await;
    }
    let client_id = run.app.client_id("client");
    let recount = json!({ "work": "recount", "from": client_id, "to": client_id });
    run.app
        .handle_directly("billing", &recount.to_string())
        .await
        .expect("recounted");
    let events = run
        .app
        .context()
        .database
        .unsent_events(100_000)
        .await
        .expect("events");
    let differences: Vec<&Value> = events
        .iter()
        .filter(|event| event.kind == wharfage::domain::event::Kind::LedgerDifference)
        .map(|event| &event.detail)
        .collect();
    assert!(differences.is_empty(), "{differences:#?}");
    run.purged
}

#[test]
fn credit_does_not_stand_beside_debt_and_no_data_goes_before_its_day() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let purged = Cell::new(0);
    property::holds(b"wharfage: debts in any order 01.", 12, &steps(), |steps| {
        purged.set(purged.get() + runtime.block_on(run(&steps)));
    });
    assert!(purged.get() > 5, "hardly anything was purged");
}
