//! `get_buckets` and `get_buckets_rmq`: the same list, asked of the cluster through the task queue, in two shapes.

use std::time::Duration;

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::domain::task::{Answer as TaskAnswer, Task, Work};
use wharfage::error::{Error, Fault, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::caller_and_account;

use crate::asking::ask;
use crate::metering::{Seen, metering};

/// How long to wait between two looks at the task: soon at first, since most clusters answer at once.
const FIRST_LOOK: Duration = Duration::from_millis(40);
const LAST_LOOK: Duration = Duration::from_millis(1_000);

/// What the worker found: the task's answer. It holds no secret.
#[derive(Serialize, Deserialize)]
pub(crate) struct BucketList {
    buckets: Vec<ListedBucket>,
    metering: Value,
    /// Of the account when it was looked at, for whoever comes for the list later; not in lists that are older than this.
    #[serde(default)]
    quota_gb: Option<u64>,
    #[serde(default)]
    access_key: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct ListedBucket {
    name: String,
    created_at: String,
    stored_bytes: u64,
    objects: u64,
    noncurrent_bytes: Option<u64>,
    multipart_bytes: Option<u64>,
}

impl BucketList {
    pub(crate) fn new(seen: &Seen) -> BucketList {
        BucketList {
            buckets: seen
                .buckets
                .iter()
                .map(|bucket| ListedBucket {
                    name: bucket.name.clone(),
                    created_at: format!("{:.0}", bucket.created_at),
                    stored_bytes: bucket.stored_bytes,
                    objects: bucket.objects,
                    noncurrent_bytes: bucket.noncurrent_bytes,
                    multipart_bytes: bucket.multipart_bytes,
                })
                .collect(),
            metering: metering(&seen.account),
            quota_gb: Some(seen.account.quota_gb),
            access_key: Some(seen.account.access_key.clone()),
        }
    }
}

/// Answers either action.
pub(crate) async fn handle(context: &Context, call: &Call, action: &str) -> Result<Answer, Error> {
    let (caller, account) = caller_and_account(context, call).await?;
    let entry = caller.entry(context, &account, action, Value::Null);
    let work = Work::ListBuckets {
        s3uid: account.s3uid.clone(),
    };
    let (asked, ()) = futures::try_join!(
        ask(context, &caller, &account, work, None),
        context.database.put_history(&entry),
    )?;
    asked.send(context).await?;
    let wait = Duration::from_millis(context.rules.bucket_list_wait_ms);
    match wait_for(context, &asked.task, wait).await? {
        Some(TaskAnswer::Done { result }) => {
            Ok(Answer::ok(fields(context, &account, action, result).await?))
        }
        Some(TaskAnswer::Refused { text }) => Err(Rejection::conflict(text).into()),
        Some(TaskAnswer::Unavailable) => Err(Rejection::storage_unavailable().into()),
        None => {
            let callback_key = asked.callback_key(context, &caller, action).await?;
            Ok(Answer::later(&callback_key))
        }
    }
}

/// Looks at the task until it is answered or the wait is over.
async fn wait_for(
    context: &Context,
    task: &Task,
    wait: Duration,
) -> Result<Option<TaskAnswer>, Fault> {
    let looking = async {
        let mut pause = FIRST_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            let now = context.database.task(&task.task_id).await?;
            if let Some(answer) = now
                .as_ref()
                .and_then(|now| now.answer_for(task.requested_at))
            {
                return Ok(answer.clone());
            }
            pause = (pause * 2).min(LAST_LOOK);
        }
    };
    match tokio::time::timeout(wait, looking).await {
        Ok(answer) => answer.map(Some),
        Err(_) => Ok(None),
    }
}

/// The list for the caller who waited for it, with the account's keys, which are decrypted only now.
async fn fields(
    context: &Context,
    account: &Account,
    action: &str,
    result: Value,
) -> Result<Value, Fault> {
    let mut list = read(result)?;
    list.quota_gb = Some(account.quota_gb);
    list.access_key = Some(account.access_key.clone());
    let secret_key = context
        .vault
        .decrypt(&account.s3uid, &account.secret_key_ciphertext)
        .await?;
    shape(
        context,
        account,
        action,
        list,
        secret_key.expose_secret().into(),
    )
}

/// The list for whoever has its callback key: as the account was when it was looked at, and without the secret key.
pub(crate) fn fields_without_secret(
    context: &Context,
    account: &Account,
    action: &str,
    result: Value,
) -> Result<Value, Fault> {
    shape(context, account, action, read(result)?, Value::Null)
}

fn read(result: Value) -> Result<BucketList, Fault> {
    serde_json::from_value(result).map_err(|e| Fault::permanent("reading a task's answer", e))
}

/// The list in the shape of the action that asked for it.
fn shape(
    context: &Context,
    account: &Account,
    action: &str,
    list: BucketList,
    secret_key: Value,
) -> Result<Value, Fault> {
    let creation_date_name = if action == "get_buckets" {
        "creation_date"
    } else {
        "created"
    };
    let rows: Vec<Value> = list
        .buckets
        .iter()
        .map(|bucket| {
            json!({
                "name": bucket.name,
                creation_date_name: bucket.created_at,
                "usage": bucket.stored_bytes,
                "objects": bucket.objects,
                "noncurrent_usage": bucket.noncurrent_bytes,
                "multipart_usage": bucket.multipart_bytes,
            })
        })
        .collect();
    let usage_storage: u64 = list.buckets.iter().map(|bucket| bucket.stored_bytes).sum();
    let endpoint = &context.clusters.of(&account.location)?.location.s3_endpoint;
    Ok(Value::Object(Map::from_iter([
        ("message".into(), rows.into()),
        ("usage_storage".into(), usage_storage.into()),
        (
            "quota".into(),
            list.quota_gb.unwrap_or(account.quota_gb).into(),
        ),
        ("metering".into(), list.metering),
        ("access_key".into(), list.access_key.into()),
        ("secret_key".into(), secret_key),
        ("endpoint".into(), endpoint.as_str().into()),
    ])))
}
