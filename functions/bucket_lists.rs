//! `get_buckets` and `get_buckets_rmq`: the same list, asked of the cluster through the task queue, in two shapes.

use std::time::Duration;

use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, to_value};
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::domain::task::{Answer as TaskAnswer, Task, Work};
use wharfage::error::{Error, Fault, Reason, Rejection};
use wharfage::http::envelope::Outcome;
use wharfage::http::tokens::Caller;

use crate::asking::ask;
use crate::metering::{LiveUsage, Metering};

/// How long to wait between two looks at the task: soon at first, since most clusters answer at once.
const FIRST_LOOK: Duration = Duration::from_millis(40);
const LAST_LOOK: Duration = Duration::from_millis(1_000);

/// What the worker found: the task's answer. It holds no secret.
#[derive(Serialize, Deserialize)]
pub(crate) struct BucketList {
    buckets: Vec<ListedBucket>,
    metering: Metering,
    /// Of the account when it was looked at, for whoever comes for the list later; not in lists that are older than this.
    #[serde(default)]
    quota_gb: Option<u64>,
    #[serde(default)]
    access_key: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ListedBucket {
    name: String,
    created_at: String,
    stored_bytes: u64,
    objects: u64,
    noncurrent_bytes: Option<u64>,
    multipart_bytes: Option<u64>,
}

impl BucketList {
    pub(crate) fn new(seen: &LiveUsage) -> BucketList {
        BucketList {
            buckets: seen
                .buckets
                .iter()
                .map(|bucket| ListedBucket {
                    name: (&bucket.name).into(),
                    created_at: format!("{:.0}", bucket.created_at),
                    stored_bytes: bucket.stored_bytes,
                    objects: bucket.objects,
                    noncurrent_bytes: bucket.noncurrent_bytes,
                    multipart_bytes: bucket.multipart_bytes,
                })
                .collect(),
            metering: Metering::from(&seen.account),
            quota_gb: Some(seen.account.quota_gb),
            access_key: Some(seen.account.access_key.clone()),
        }
    }
}

/// The buckets of an account, as either action answers.
#[derive(Serialize, JsonSchema)]
pub struct Listed<R> {
    /// The buckets.
    message: Vec<R>,
    /// Bytes stored in all of them.
    usage_storage: u64,
    /// What the plan includes, in GB of 2^30 bytes.
    quota: u64,
    /// The figures of the current period.
    metering: Metering,
    /// The account's access key; null in lists that an earlier release made.
    access_key: Option<String>,
    /// The account's secret key; null if the list is fetched by callback.
    secret_key: Option<String>,
    /// The account's S3 endpoint.
    endpoint: String,
}

/// A bucket in a list of `get_buckets`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BucketRow {
    /// Its name.
    name: String,
    /// When it was made.
    #[schemars(extend("format" = "date-time"))]
    creation_date: String,
    #[serde(flatten)]
    figures: Figures,
}

/// A bucket in a list of `get_buckets_rmq`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OlderBucketRow {
    /// Its name.
    name: String,
    /// When it was made.
    #[schemars(extend("format" = "date-time"))]
    created: String,
    #[serde(flatten)]
    figures: Figures,
}

/// What is in a bucket.
#[derive(Debug, Serialize, JsonSchema)]
struct Figures {
    /// Bytes stored in it.
    usage: u64,
    /// The number of objects.
    objects: u64,
    /// Bytes of noncurrent versions; null where the cluster does not report them.
    noncurrent_usage: Option<u64>,
    /// Bytes of unfinished multipart uploads; null where the cluster does not report them.
    multipart_usage: Option<u64>,
}

impl From<&ListedBucket> for Figures {
    fn from(bucket: &ListedBucket) -> Figures {
        Figures {
            usage: bucket.stored_bytes,
            objects: bucket.objects,
            noncurrent_usage: bucket.noncurrent_bytes,
            multipart_usage: bucket.multipart_bytes,
        }
    }
}

impl From<&ListedBucket> for BucketRow {
    fn from(bucket: &ListedBucket) -> BucketRow {
        BucketRow {
            name: (&bucket.name).into(),
            creation_date: bucket.created_at.clone(),
            figures: bucket.into(),
        }
    }
}

impl From<&ListedBucket> for OlderBucketRow {
    fn from(bucket: &ListedBucket) -> OlderBucketRow {
        OlderBucketRow {
            name: (&bucket.name).into(),
            created: bucket.created_at.clone(),
            figures: bucket.into(),
        }
    }
}

/// Answers either action.
pub(crate) async fn answer<R: for<'a> From<&'a ListedBucket>>(
    context: &Context,
    caller: Caller,
    account: Account,
    action: &str,
) -> Result<Outcome<Listed<R>>, Error> {
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
            Ok(Outcome::Now(with_secret(context, &account, result).await?))
        }
        Some(TaskAnswer::Refused { text }) => {
            Err(Rejection::new(Reason::StorageRefused, text).into())
        }
        Some(TaskAnswer::Unavailable) => Err(Rejection::storage_unavailable().into()),
        None => {
            let callback_key = asked.callback_key(context, &caller, action).await?;
            Ok(Outcome::Later(callback_key))
        }
    }
}

/// Looks at the task until it is answered or the wait is over.
async fn wait_for(
    context: &Context,
    task: &Task,
    wait: Duration,
) -> Result<Option<TaskAnswer>, Fault> {
    let reading = async {
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
    match tokio::time::timeout(wait, reading).await {
        Ok(answer) => answer.map(Some),
        Err(_) => Ok(None),
    }
}

/// The list for the caller who waited for it, with the account's keys, which are decrypted only now.
async fn with_secret<R: for<'a> From<&'a ListedBucket>>(
    context: &Context,
    account: &Account,
    result: Value,
) -> Result<Listed<R>, Fault> {
    let mut list = read(result)?;
    list.quota_gb = Some(account.quota_gb);
    list.access_key = Some(account.access_key.clone());
    let secret_key = context
        .vault
        .decrypt(&account.s3uid, &account.secret_key_ciphertext)
        .await?;
    listed(
        context,
        account,
        list,
        Some(secret_key.expose_secret().to_owned()),
    )
}

/// The list for whoever has its callback key, as the action that asked for it answers: as the account was when it was looked at, and without
/// the secret key.
pub(crate) fn without_secret(
    context: &Context,
    account: &Account,
    action: &str,
    result: Value,
) -> Result<Value, Fault> {
    let list = read(result)?;
    match action {
        "get_buckets" => to_value(listed::<BucketRow>(context, account, list, None)?),
        _ => to_value(listed::<OlderBucketRow>(context, account, list, None)?),
    }
    .map_err(|e| Fault::permanent("writing a list of buckets", e))
}

fn read(result: Value) -> Result<BucketList, Fault> {
    serde_json::from_value(result).map_err(|e| Fault::permanent("reading a task's answer", e))
}

fn listed<R: for<'a> From<&'a ListedBucket>>(
    context: &Context,
    account: &Account,
    list: BucketList,
    secret_key: Option<String>,
) -> Result<Listed<R>, Fault> {
    Ok(Listed {
        message: list.buckets.iter().map(R::from).collect(),
        usage_storage: list.buckets.iter().map(|bucket| bucket.stored_bytes).sum(),
        quota: list.quota_gb.unwrap_or(account.quota_gb),
        metering: list.metering,
        access_key: list.access_key,
        secret_key,
        endpoint: context
            .clusters
            .of(&account.location)?
            .location
            .s3_endpoint
            .clone(),
    })
}
