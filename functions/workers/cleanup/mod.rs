//! Empties buckets and accounts, one bounded step per message. Every step is idempotent and queues the next, so a clean-up of any size
//! continues whichever process dies.

use serde_json::{Value, json};
use wharfage::cluster::{ClusterError, PurgeStep, StorageProvider};
use wharfage::context::Context;
use wharfage::domain::account::{Account, ClusterScope, S3Uid, Status};
use wharfage::domain::bucket_name::BucketName;
use wharfage::domain::event::Kind;
use wharfage::domain::history::Actor;
use wharfage::domain::task::{Answer, LockedObject, Message, Obstacle, Task, Work};
use wharfage::error::Fault;
use wharfage::telemetry;

use crate::buckets::bucket_row;
use crate::suspension;

crate::worker!("cleanup");

/// What a step did.
#[derive(Default)]
struct Step {
    entries_removed: u64,
    bytes_removed: u64,
    /// Whether there is nothing more to do.
    is_last: bool,
    /// What it met, the first thing of several.
    obstacle: Option<ClusterError>,
}

impl Step {
    /// Counts what was removed of a bucket; whether nothing of it is left.
    fn count(&mut self, purged: Result<PurgeStep, ClusterError>) -> bool {
        match purged {
            Ok(purge) => {
                self.entries_removed += purge.entries_removed;
                self.bytes_removed += purge.bytes_removed;
                if let Some(error) = purge.obstacle {
                    self.obstacle.get_or_insert(error);
                }
                purge.is_empty
            }
            Err(error) => {
                self.obstacle.get_or_insert(error);
                false
            }
        }
    }
}

async fn handle(context: &Context, body: &str) -> Result<(), Fault> {
    let message: Message =
        serde_json::from_str(body).map_err(|e| Fault::permanent("reading a queue message", e))?;
    let Some(task) = context.database.task(&message.task_id).await? else {
        return Ok(());
    };
    telemetry::set_account(task.work.s3uid());
    let is_over = task.answer_for(task.requested_at).is_some();
    if is_over || message.step < task.steps {
        return Ok(());
    }
    let Some(account) = context.database.account(task.work.s3uid()).await? else {
        return finish(context, &task, 0, 0).await;
    };
    let step = match &task.work {
        Work::RemoveBucket { bucket_name, .. } => {
            remove_bucket(context, &account, bucket_name).await?
        }
        Work::RemoveAccount { reason, .. } => {
            remove_account(context, &task, &account, reason.as_deref()).await?
        }
        Work::ListBuckets { .. } => {
            return Err(Fault::permanent(
                "reading a queue message",
                "the task is not for this queue",
            ));
        }
    };
    let (entries, bytes) = (step.entries_removed, step.bytes_removed);
    if step.is_last {
        return finish(context, &task, entries, bytes).await;
    }
    let now = context.now();
    let before = task.obstacle.as_ref();
    let obstacle = step.obstacle.as_ref().map(|error| {
        let (text, locked) = in_words(error);
        Obstacle::after(before, text, locked, now)
    });
    if let (Some(obstacle), Some(error), 0) = (obstacle.clone(), step.obstacle, entries) {
        return hang(context, &task, &account, message.step, obstacle, error).await;
    }
    match context
        .database
        .record_step(
            &task.task_id,
            message.step,
            entries,
            bytes,
            obstacle.as_ref(),
            now,
        )
        .await?
    {
        Some(task) => {
            let task = task.at(&account.location, account.client_id);
            context.queue.send(&task).await
        }
        // Another copy of this message was quicker, and has sent the next step.
        None => Ok(()),
    }
}

/// What stands in the way, for the account's owner.
fn in_words(error: &ClusterError) -> (String, Option<LockedObject>) {
    match error {
        ClusterError::Locked(locked) => (locked.to_string(), Some(locked.clone())),
        ClusterError::Refused { message, .. } => (format!("the storage refuses: {message}"), None),
        ClusterError::Unavailable(_) | ClusterError::NoAccess(_) => {
            ("the storage cannot answer".into(), None)
        }
    }
}

/// Notes that a step came to nothing. `resume_tasks` has it tried again.
async fn hang(
    context: &Context,
    task: &Task,
    account: &Account,
    step: u64,
    mut obstacle: Obstacle,
    error: ClusterError,
) -> Result<(), Fault> {
    // That its storage cannot answer now is nothing to tell the account's owner years later.
    let locked = obstacle.locked.as_ref().filter(|_| !obstacle.is_told);
    let entry = locked.map(|locked| {
        context.account_entry(
            account.client_id,
            &account.s3uid,
            "cleanup_blocked",
            Actor::system("cleanup"),
            json!({
                "bucket_name": locked.bucket_name,
                "filename": locked.key,
                "version_id": locked.version_id,
                "until": locked.until.map(|until| format!("{until:.0}")),
            }),
        )
    });
    obstacle.is_told |= entry.is_some();
    context
        .database
        .record_obstacle(
            &task.task_id,
            step,
            &obstacle,
            entry.as_ref(),
            context.now(),
        )
        .await?;
    let ClusterError::Locked(locked) = &error else {
        return Err(error.into_fault("cleaning up"));
    };
    tracing::warn!(
        s3uid = %account.s3uid,
        location = %account.location,
        bucket_name = %locked.bucket_name,
        object = ?locked.key,
        version_id = locked.version_id,
        until = locked.until.map(|until| until.to_string()),
        "a clean-up waits for a locked object"
    );
    Ok(())
}

async fn remove_bucket(
    context: &Context,
    account: &Account,
    bucket_name: &BucketName,
) -> Result<Step, Fault> {
    let provider = &context.clusters.of(&account.location)?.provider;
    let purge = empty_and_remove(
        provider.as_ref(),
        &account.s3uid,
        bucket_name,
        context.rules.cleanup_step_entries,
    )
    .await;
    let mut step = Step::default();
    step.is_last = step.count(purge);
    if step.is_last {
        context
            .database
            .give_bucket_name_back(&bucket_row(account, bucket_name))
            .await?;
    }
    Ok(step)
}

/// One step of emptying a bucket, and its removal once it is empty. A bucket that is gone is empty.
async fn empty_and_remove(
    provider: &dyn StorageProvider,
    s3uid: &S3Uid,
    bucket_name: &BucketName,
    max_entries: u32,
) -> Result<PurgeStep, ClusterError> {
    let gone = PurgeStep {
        is_empty: true,
        ..PurgeStep::default()
    };
    let mut purge = match provider.purge_bucket(s3uid, bucket_name, max_entries).await {
        Err(error) if error.is("NoSuchBucket") => return Ok(gone),
        purge => purge?,
    };
    if purge.is_empty {
        match provider.delete_bucket(s3uid, bucket_name).await {
            // Something was uploaded since: go on.
            Err(error) if error.is("BucketNotEmpty") => purge.is_empty = false,
            // What was removed before is told.
            Err(error) if !error.is("NoSuchBucket") => {
                purge.is_empty = false;
                purge.obstacle = Some(error);
            }
            _ => {}
        }
    }
    Ok(purge)
}

async fn remove_account(
    context: &Context,
    task: &Task,
    account: &Account,
    reason: Option<&str>,
) -> Result<Step, Fault> {
    let mut step = Step {
        is_last: true,
        ..Step::default()
    };
    if account.service.status() == Status::Terminated {
        // Whoever ended it may have died right after.
        context.database.leave_rankings(&account.s3uid).await?;
        return Ok(step);
    }
    if account.service.status() != Status::Terminating {
        // Whoever asked for it died before the account was stopped.
        stop(context, account, task.requested_by.clone(), reason).await?;
        // The account as it is now has another revision: the next step reads it.
        step.is_last = false;
        return Ok(step);
    }
    let provider = &context.clusters.of(&account.location)?.provider;
    let fault = |error: ClusterError| error.into_fault("removing an account");
    let buckets = match stop_and_list(provider.as_ref(), &account.s3uid, task.steps == 0).await {
        Err(error) if error.is("NoSuchUser") => Vec::new(),
        buckets => buckets.map_err(fault)?,
    };
    let mut budget = context.rules.cleanup_step_entries;
    for bucket_name in buckets {
        let removed_before = step.entries_removed;
        let purge = empty_and_remove(provider.as_ref(), &account.s3uid, &bucket_name, budget).await;
        let is_gone = step.count(purge);
        // An empty bucket costs calls too.
        let cost = u32::try_from(step.entries_removed - removed_before)
            .unwrap_or(u32::MAX)
            .max(10);
        budget = budget.saturating_sub(cost);
        step.is_last &= is_gone;
        // What is locked in one bucket does not keep the others.
        let is_locked = matches!(step.obstacle, Some(ClusterError::Locked(_)));
        if budget == 0 || (!is_gone && !is_locked) {
            step.is_last = false;
            return Ok(step);
        }
    }
    if !step.is_last {
        return Ok(step);
    }
    provider.delete_user(&account.s3uid).await.map_err(fault)?;
    for row in context.database.account_buckets(&account.s3uid).await? {
        context.database.give_bucket_name_back(&row).await?;
    }
    let details = json!({
        "entries_removed": task.entries_removed + step.entries_removed,
        "bytes_removed": task.bytes_removed + step.bytes_removed,
    });
    end(context, account, details).await?;
    Ok(step)
}

/// Stops an account's keys, before anything of it goes. Dying in between repeats it, and then finds the account stopped.
async fn stop(
    context: &Context,
    account: &Account,
    actor: Actor,
    reason: Option<&str>,
) -> Result<(), Fault> {
    let service = suspension::stopped(context, account);
    let details = json!({ "reason": reason });
    let (client_id, s3uid) = (account.client_id, &account.s3uid);
    let entry = context.account_entry(client_id, s3uid, "delete_account", actor, details.clone());
    let event = context.account_event(Kind::AccountChanged, client_id, s3uid, details);
    if !context
        .database
        .change_service(account, &service, &entry, &[event])
        .await?
        .is_yes()
    {
        return Err(Fault::retryable(
            "stopping an account",
            "somebody else is changing it",
        ));
    }
    let stopped = account.with_service(&service, entry.at);
    suspension::settle(context, stopped, ClusterScope::SUSPENSION).await?;
    Ok(())
}

/// Ends an account of which nothing is left on its cluster.
async fn end(context: &Context, account: &Account, details: Value) -> Result<(), Fault> {
    let entry = context.account_entry(
        account.client_id,
        &account.s3uid,
        "account_terminated",
        Actor::system("cleanup"),
        details,
    );
    // Refused only when it was done before, or changed meanwhile: then the next delivery sees which.
    let event = context.account_event(
        Kind::AccountTerminated,
        account.client_id,
        &account.s3uid,
        json!({}),
    );
    if !context
        .database
        .terminate_account(account, &entry, &[event])
        .await?
        .is_yes()
    {
        return Err(Fault::retryable(
            "ending an account",
            "somebody else is changing it",
        ));
    }
    context.database.leave_rankings(&account.s3uid).await
}

/// Stops the account's keys, in the first step, and names its buckets.
async fn stop_and_list(
    provider: &dyn StorageProvider,
    s3uid: &S3Uid,
    is_first: bool,
) -> Result<Vec<BucketName>, ClusterError> {
    if is_first {
        suspension::stop_again(provider, s3uid).await?;
    }
    let buckets = provider.buckets(s3uid).await?;
    Ok(buckets.into_iter().map(|bucket| bucket.name).collect())
}

async fn finish(
    context: &Context,
    task: &Task,
    entries_removed: u64,
    bytes_removed: u64,
) -> Result<(), Fault> {
    let mut result = json!({
        "s3uid": task.work.s3uid(),
        "entries_removed": task.entries_removed + entries_removed,
        "bytes_removed": task.bytes_removed + bytes_removed,
    });
    match &task.work {
        Work::RemoveBucket { bucket_name, .. } => {
            result["bucket_name"] = String::from(bucket_name).into()
        }
        Work::RemoveAccount { .. } => result["status"] = "terminated".into(),
        Work::ListBuckets { .. } => {}
    }
    context
        .database
        .answer_task(
            &task.task_id,
            task.requested_at,
            &Answer::Done { result },
            context.now(),
        )
        .await
}
