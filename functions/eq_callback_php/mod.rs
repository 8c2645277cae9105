//! `GET|POST /eq_callback.php`: a task's answer, by the callback key that its caller received. Each key answers once, with the answer to
//! its own request and never with a secret. It ends with the session that received it. The token that published clients send is ignored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, to_value};
use wharfage::context::Context;
use wharfage::domain::account::S3Uid;
use wharfage::domain::task::{Answer as TaskAnswer, Work};
use wharfage::error::{Error, Fault, Reason, Rejection};
use wharfage::http::envelope::{Answer, with_head};
use wharfage::http::subject::Who;
use wharfage::http::takes::Takes;
use wharfage::http::typed;
use wharfage::http::{Action, AnswerSchema, Call, Contract, Get};
use wharfage::{from_line, schema};

use crate::bucket_lists;
use crate::obstacles::ObstacleShown;

crate::endpoint!("eq_callback_php", "/eq_callback.php", CHECKS);

/// What it does.
pub(crate) const CHECKS: &[&Action] = &[&Action {
    module: "eq_callback",
    name: "check",
    speaks_as: "check",
    get: Get::Always,
    takes: Takes {
        token: false,
        typed: &[|| crate::action!(@names Check)],
        unused: &["token", "status", "stage", "id"],
    },
    contract: Contract {
        docs: &[
            "Returns the answer of a task by its callback key, once there is one.",
            "",
            "Each key is answered once. Until then `result` is `Not ready`.",
        ],
        who: Who::Anybody,
        parameters: &[Check::json_schema],
        answer: AnswerSchema::Whole(Checked::json_schema),
        refuses: &[&[
            Reason::CallbackNotFound,
            Reason::StorageRefused,
            Reason::StorageUnavailable,
        ]],
    },
    handler: |context, call| Box::pin(check(context, call)),
}];

/// What `check` takes.
#[derive(Debug, Deserialize, JsonSchema)]
struct Check {
    /// The callback key.
    key: CallbackKey,
}

/// A callback key.
#[derive(Debug)]
struct CallbackKey(String);

from_line!(CallbackKey, |text| {
    let is_well_formed = text.len() == 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    match is_well_formed {
        true => Ok(CallbackKey(text)),
        false => Err("must be 32 characters of a-z and 0-9"),
    }
});
schema!(CallbackKey, "CallbackKey", {
    "type": "string",
    "pattern": "^[a-z0-9]{32}$",
    "examples": ["ks8rnrll31cp6lo5nh8daedarytl31yj"],
});

/// What `check` answers.
#[derive(Debug, Serialize, JsonSchema)]
struct Checked {
    /// `OK`, or `Not ready`.
    result: &'static str,
    /// The action's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Value>,
    /// What blocks the clean-up, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    obstacle: Option<ObstacleShown>,
}

/// What the removal of a bucket or of an account comes to, in `scope`.
#[derive(JsonSchema)]
#[allow(
    dead_code,
    reason = "workers store it as JSON; the contract describes it"
)]
pub(crate) struct Removed {
    /// The account.
    s3uid: S3Uid,
    /// The bucket, if one was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket_name: Option<String>,
    /// Objects, versions and unfinished uploads that were removed.
    entries_removed: u64,
    /// Bytes that were removed.
    bytes_removed: u64,
    /// `terminated`, if the account was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
}

async fn check(context: &Context, call: &Call) -> Result<Answer, Error> {
    let Check {
        key: CallbackKey(key),
    } = typed::read(&call.parameters)?;
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
        return whole(&Checked {
            result: "Not ready",
            scope: None,
            obstacle: task.obstacle.as_ref().map(ObstacleShown::from),
        });
    };
    let outcome = match task_answer {
        TaskAnswer::Refused { text } => Err(Rejection::new(Reason::StorageRefused, text)),
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
                bucket_lists::without_secret(context, &account, &callback.action, result)?
            }
            Work::RemoveBucket { .. } | Work::RemoveAccount { .. } => result,
        }),
    };
    // Used up last: an answer that could not be made can still be asked for.
    if !database.take_callback(&key, &callback).await?.is_yes() {
        return Err(not_found().into());
    }
    let scope = match outcome? {
        Value::Object(fields) => with_head(&callback.action, fields),
        _ => Value::Null,
    };
    whole(&Checked {
        result: "OK",
        scope: Some(scope),
        obstacle: None,
    })
}

fn whole(body: &Checked) -> Result<Answer, Error> {
    let body = to_value(body).map_err(|e| Fault::permanent("writing an answer", e))?;
    Ok(Answer::whole(body))
}

fn not_found() -> Rejection {
    Rejection::new(Reason::CallbackNotFound, "AsyncKey not found").bare()
}
