//! Several writes that happen together or not at all.

use std::time::Duration;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::builders::{
    ConditionCheckBuilder, DeleteBuilder, PutBuilder, UpdateBuilder,
};
use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use backon::{ExponentialBuilder, Retryable};

use super::{Database, Item, fault};
use crate::error::Fault;

/// Which of a transaction's conditions did not hold. Each write that has one is given its own when it is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// The bucket name is taken.
    BucketNameTaken,
    /// The client has as many accounts as it may have.
    TooManyAccounts,
    /// The balances do not allow it, or are not what they were when it was decided.
    Balances,
    /// The idempotency key is in use.
    IdempotencyKeyUsed,
    /// The reference is of another client's payment.
    ReferenceUsed,
    /// The client is billed in another currency by now.
    CurrencyChanged,
    /// The same task is under way.
    UnderWay,
    /// Others write the same items all the time. Nothing was written.
    Crowded,
    /// Somebody else changed it first, or it was done already.
    Changed,
}

/// How a conditional write went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// All of it was written.
    Yes,
    /// Nothing was written: these conditions did not hold, in the order of the writes.
    No(Vec<Conflict>),
}

impl Written {
    /// Whether it was written.
    #[must_use]
    pub fn is_yes(&self) -> bool {
        *self == Written::Yes
    }
}

/// Writes being gathered.
pub(super) struct Transaction<'a> {
    database: &'a Database,
    items: Vec<TransactWriteItem>,
    conflicts: Vec<Conflict>,
    problem: Option<Fault>,
}

impl Database {
    pub(super) fn transaction(&self) -> Transaction<'_> {
        Transaction {
            database: self,
            items: Vec::new(),
            conflicts: Vec::new(),
            problem: None,
        }
    }
}

impl Transaction<'_> {
    fn add<T, E>(
        &mut self,
        built: Result<T, E>,
        wrap: impl FnOnce(T) -> TransactWriteItem,
        conflict: Conflict,
    ) where
        E: std::error::Error + Send + Sync + 'static,
    {
        match built {
            Ok(write) => {
                self.items.push(wrap(write));
                self.conflicts.push(conflict);
            }
            Err(error) => self.problem = Some(Fault::permanent("building a transaction", error)),
        }
    }

    /// Puts an item that must not be there yet.
    pub(super) fn insert(&mut self, table: &str, item: Item, conflict: Conflict) {
        let put = Put::builder()
            .table_name(table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)");
        self.put(put, conflict);
    }

    pub(super) fn put(&mut self, put: PutBuilder, conflict: Conflict) {
        self.add(
            put.build(),
            |p| TransactWriteItem::builder().put(p).build(),
            conflict,
        );
    }

    pub(super) fn update(&mut self, update: UpdateBuilder, conflict: Conflict) {
        self.add(
            update.build(),
            |u| TransactWriteItem::builder().update(u).build(),
            conflict,
        );
    }

    /// Adds a condition on an item that is not written.
    pub(super) fn check(&mut self, check: ConditionCheckBuilder, conflict: Conflict) {
        self.add(
            check.build(),
            |c| TransactWriteItem::builder().condition_check(c).build(),
            conflict,
        );
    }

    pub(super) fn delete(&mut self, delete: DeleteBuilder, conflict: Conflict) {
        self.add(
            delete.build(),
            |d| TransactWriteItem::builder().delete(d).build(),
            conflict,
        );
    }

    /// Writes everything, or says which conditions did not hold. Collisions with transactions of others are tried again.
    pub(super) async fn commit(self) -> Result<Written, Fault> {
        self.tried().await.map_err(|stopped| Fault {
            retryable: stopped.collided || stopped.fault.retryable,
            ..stopped.fault
        })
    }

    /// The same, with [`Conflict::Crowded`] when transactions of others were in the way of every try.
    pub(super) async fn commit_unless_crowded(self) -> Result<Written, Fault> {
        match self.tried().await {
            Err(stopped) if stopped.collided => Ok(Written::No(vec![Conflict::Crowded])),
            tried => tried.map_err(|stopped| stopped.fault),
        }
    }

    async fn tried(self) -> Result<Written, Stopped> {
        if let Some(fault) = self.problem {
            return Err(Stopped {
                collided: false,
                fault,
            });
        }
        let (database, items, conflicts) = (self.database, &self.items, &self.conflicts);
        let attempt = || async {
            let sent = database
                .client
                .transact_write_items()
                .set_transact_items(Some(items.clone()))
                .send()
                .await;
            match sent {
                Ok(_) => Ok(Written::Yes),
                Err(error) => match refused(&error, conflicts) {
                    Some(failed) => Ok(Written::No(failed)),
                    None => Err(Stopped {
                        collided: collided(&error),
                        fault: fault("TransactWriteItems", "several", error),
                    }),
                },
            }
        };
        let tried = attempt.retry(collisions());
        tried.when(|stopped: &Stopped| stopped.collided).await
    }
}

/// How often, and when, a write is tried again that met another one of the same items. Together less than a function may run.
pub(super) fn collisions() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_millis(500))
        .with_max_times(12)
}

/// A transaction that was not carried out, for another reason than its conditions.
struct Stopped {
    /// Whether another transaction was writing the same items, or capacity was short: the SDK leaves these to its caller.
    collided: bool,
    fault: Fault,
}

fn collided<R>(error: &SdkError<TransactWriteItemsError, R>) -> bool {
    matches!(
        error.as_service_error(),
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled))
            if cancelled.cancellation_reasons().iter().any(|reason| matches!(
                reason.code(),
                Some("TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
            ))
    )
}

/// The conditions that did not hold, when that is why the transaction was cancelled.
fn refused<R>(
    error: &SdkError<TransactWriteItemsError, R>,
    conflicts: &[Conflict],
) -> Option<Vec<Conflict>> {
    let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
        error.as_service_error()
    else {
        return None;
    };
    let failed: Vec<Conflict> = cancelled
        .cancellation_reasons()
        .iter()
        .zip(conflicts)
        .filter(|(reason, _)| reason.code() == Some("ConditionalCheckFailed"))
        .map(|(_, conflict)| *conflict)
        .collect();
    (!failed.is_empty()).then_some(failed)
}
