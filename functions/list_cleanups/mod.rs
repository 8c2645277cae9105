//! `list_cleanups`: the clean-ups under way, and what blocks them. For admins.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wharfage::context::Context;
use wharfage::domain::account::{Account, S3Uid};
use wharfage::domain::client::ClientId;
use wharfage::domain::task::{Task, Work};
use wharfage::error::{Error, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::values::{Limit, Second, Whole};

use crate::obstacles::ObstacleShown;

crate::action! {
    /// Lists clean-ups in progress and what blocks them.
    ///
    /// With a filter, a page may be short or empty. The last page has no `next_token`.
    "list_cleanups" of Administrators, about (), with place
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// 1 to list blocked clean-ups only.
    blocked: Option<Whole<0, 1>>,
    /// Clean-ups examined per page.
    #[serde(default)]
    limit: Limit<50, 500>,
    /// The `next_token` of the page before.
    next_token: Option<String>,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The clean-ups.
    cleanups: Vec<CleanupShown>,
    /// Pass it with the same parameters to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

/// A clean-up.
#[derive(Debug, Serialize, JsonSchema)]
struct CleanupShown {
    /// Its id in the logs.
    task_id: String,
    /// The account.
    s3uid: S3Uid,
    /// The account's owner.
    client_id: Option<ClientId>,
    /// The account's location.
    location: Option<String>,
    /// The bucket; null if the whole account is deleted.
    bucket_name: Option<String>,
    /// When it was asked for.
    since: Second,
    /// When it was last tried.
    last_tried: Second,
    /// Steps taken so far.
    steps: u64,
    /// Objects, versions and unfinished uploads removed so far.
    entries_removed: u64,
    /// Bytes removed so far.
    bytes_removed: u64,
    /// What blocks it.
    obstacle: Option<ObstacleShown>,
}

/// Where a page ended.
type Place = Option<(String, String)>;

async fn place(_: &Context, asked: &Asked) -> Result<Place, Error> {
    Ok(asked.next_token.as_deref().map(decode).transpose()?)
}

async fn handle(context: &Context, call: Call<'_, Asked>, after: Place) -> Result<Answered, Error> {
    let only_blocked = call.parameters.blocked == Some(Whole(1));
    let limit = i32::try_from(call.parameters.limit.0).unwrap_or(i32::MAX);
    let database = &context.database;
    let (tasks, next) = database.open_tasks(only_blocked, limit, after).await?;
    let s3uids: Vec<&S3Uid> = tasks.iter().map(|task| task.work.s3uid()).collect();
    let accounts = database.accounts(&s3uids).await?;
    let cleanups = tasks
        .iter()
        .map(|task| CleanupShown::new(task, accounts.get(task.work.s3uid())));
    Ok(Answered {
        cleanups: cleanups.collect(),
        next_token: next
            .map(|(task_id, updated_at)| URL_SAFE_NO_PAD.encode(format!("{updated_at} {task_id}"))),
    })
}

/// The place that a page ended at: a task, and when it was worked on.
fn decode(text: &str) -> Result<(String, String), Rejection> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| {
            let (updated_at, task_id) = text.split_once(' ')?;
            Some((task_id.to_owned(), updated_at.to_owned()))
        })
        .ok_or_else(|| Rejection::invalid("next_token", "is not one that list_cleanups gave"))
}

impl CleanupShown {
    fn new(task: &Task, account: Option<&Account>) -> CleanupShown {
        let bucket_name = match &task.work {
            Work::RemoveBucket { bucket_name, .. } => Some(bucket_name.into()),
            Work::RemoveAccount { .. } | Work::ListBuckets { .. } => None,
        };
        CleanupShown {
            task_id: task.task_id.clone(),
            s3uid: task.work.s3uid().to_owned(),
            client_id: account.map(|account| account.client_id),
            location: account.map(|account| account.location.clone()),
            bucket_name,
            since: Second(task.requested_at),
            last_tried: Second(task.updated_at),
            steps: task.steps,
            entries_removed: task.entries_removed,
            bytes_removed: task.bytes_removed,
            obstacle: task.obstacle.as_ref().map(ObstacleShown::from),
        }
    }
}
