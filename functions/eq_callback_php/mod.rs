//! `GET|POST /eq_callback.php`: the answer of a task, by the callback key its caller was given. Each key is answered once, with the answer
//! of its own moment and never with a secret, and ends with the session in which it was given. Published clients send a token as well; it
//! is not looked at.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::task::{Answer as TaskAnswer, Obstacle, Work};
use wharfage::error::{Error, Rejection};
use wharfage::http::envelope::{Answer, with_head};
use wharfage::http::takes::Takes;
use wharfage::http::{Action, Call};

use crate::bucket_lists;

crate::endpoint!("eq_callback_php", "/eq_callback.php", CHECKS);

/// What it does.
const CHECKS: &[&Action] = &[&Action {
    module: "eq_callback",
    name: "check",
    speaks_as: "check",
    allows_get: |_| true,
    takes: Takes {
        names: &[&["key"]],
        unused: &["token", "status", "stage", "id"],
    },
    handler: |context, call| Box::pin(check(context, call)),
}];

async fn check(context: &Context, call: &Call) -> Result<Answer, Error> {
    let key = call.parameters.required_text(&["key"])?;
    let is_well_formed = key.len() == 32
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !is_well_formed {
        return Err(Rejection::invalid("key", "must be 32 characters of a-z and 0-9").into());
    }
    let callback = context
        .database
        .callback(&key)
        .await?
        .ok_or_else(not_found)?;
    let database = &context.database;
    let stands = async {
        match &callback.access {
            Some(access) => database.stands(access).await,
            None => Ok(true),
        }
    };
    let (stands, task, kept) = futures::try_join!(
        stands,
        database.task(&callback.task_id),
        database.kept_answer(&callback.task_id, callback.requested_at),
    )?;
    let task = task.filter(|_| stands).ok_or_else(not_found)?;
    let Some(task_answer) = task.answer_of(&callback, kept) else {
        let mut answer = json!({ "result": "Not ready" });
        if let Some(obstacle) = &task.obstacle {
            answer["obstacle"] = obstacle_wire(obstacle);
        }
        return Ok(Answer::whole(answer));
    };
    let outcome = match task_answer {
        TaskAnswer::Refused { text } => Err(Rejection::conflict(text)),
        TaskAnswer::Unavailable => Err(Rejection {
            text: "the storage could not answer, send the request again".into(),
            ..Rejection::storage_unavailable()
        }),
        TaskAnswer::Done { result } => Ok(match &task.work {
            Work::ListBuckets { s3uid } => {
                let account = database.account(s3uid).await?;
                let account = account
                    .filter(|account| account.is_visible())
                    .ok_or_else(not_found)?;
                bucket_lists::fields_without_secret(context, &account, &callback.action, result)?
            }
            Work::RemoveBucket { .. } | Work::RemoveAccount { .. } => result,
        }),
    };
    // Used up last: an answer that could not be made can still be asked for.
    if !database.take_callback(&key, &callback).await?.is_yes() {
        return Err(not_found().into());
    }
    let Value::Object(fields) = outcome? else {
        return Ok(Answer::whole(
            json!({ "result": "OK", "scope": Value::Null }),
        ));
    };
    let scope = with_head(&callback.action, fields);
    Ok(Answer::whole(json!({ "result": "OK", "scope": scope })))
}

/// What stands in the way of a clean-up, as the wire shows it.
pub(crate) fn obstacle_wire(obstacle: &Obstacle) -> Value {
    let locked = obstacle.locked.as_ref();
    let until = locked.and_then(|locked| locked.until);
    json!({
        "text": obstacle.text,
        "since": format!("{:.0}", obstacle.since),
        "bucket_name": locked.map(|locked| &locked.bucket_name),
        "filename": locked.map(|locked| &locked.key),
        "version_id": locked.and_then(|locked| locked.version_id.as_ref()),
        "until": until.map(|until| format!("{until:.0}")),
    })
}

fn not_found() -> Rejection {
    Rejection::not_found("AsyncKey not found").bare()
}
