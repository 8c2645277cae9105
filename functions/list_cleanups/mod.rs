//! `list_cleanups`: the clean-ups under way, and what stands in their way. For admins.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::domain::task::{Task, Work};
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{authenticate_admin, token};

use crate::eq_callback_php::obstacle_wire;

crate::s3_action!("list_cleanups", takes[&["blocked", "limit", "next_token"]]);

const DEFAULT_LIMIT: u64 = 50;
const LARGEST_LIMIT: u64 = 500;

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    let parameters = &call.parameters;
    let only_blocked = parameters.number(&["blocked"], 0..=1)? == Some(1);
    let limit = parameters
        .number(&["limit"], 1..=LARGEST_LIMIT)?
        .unwrap_or(DEFAULT_LIMIT);
    let after = match parameters.text(&["next_token"])? {
        Some(text) => Some(decode(&text)?),
        None => None,
    };
    authenticate_admin(context, call).await?;
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    let database = &context.database;
    let (tasks, next) = database.open_tasks(only_blocked, limit, after).await?;
    let s3uids: Vec<&str> = tasks.iter().map(|task| task.work.s3uid()).collect();
    let accounts = database.accounts(&s3uids).await?;
    let rows: Vec<Value> = tasks
        .iter()
        .map(|task| wire(task, accounts.get(task.work.s3uid())))
        .collect();
    // A page is what was looked at: one with a filter may be short, an absent next_token alone is the end.
    let mut answer = json!({ "cleanups": rows });
    if let Some((task_id, updated_at)) = next {
        let text = format!("{updated_at} {task_id}");
        answer["next_token"] = URL_SAFE_NO_PAD.encode(text).into();
    }
    Ok(Answer::ok(answer))
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

fn wire(task: &Task, account: Option<&Account>) -> Value {
    let bucket_name = match &task.work {
        Work::RemoveBucket { bucket_name, .. } => Some(bucket_name),
        Work::RemoveAccount { .. } | Work::ListBuckets { .. } => None,
    };
    json!({
        "task_id": task.task_id,
        "s3uid": task.work.s3uid(),
        "client_id": account.map(|account| account.client_id),
        "location": account.map(|account| &account.location),
        "bucket_name": bucket_name,
        "since": format!("{:.0}", task.requested_at),
        "last_tried": format!("{:.0}", task.updated_at),
        "steps": task.steps,
        "entries_removed": task.entries_removed,
        "bytes_removed": task.bytes_removed,
        "obstacle": task.obstacle.as_ref().map(obstacle_wire),
    })
}
