//! Tasks: work handed to a queue, found again by its id or by a callback key.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::account::S3Uid;
use crate::domain::bucket_name::BucketName;
use crate::domain::client::ClientId;
use crate::domain::credential::Access;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// Ask the cluster for an account's buckets and their figures.
    ListBuckets {
        /// Whose.
        s3uid: S3Uid,
    },
    /// Empty one bucket and remove it.
    RemoveBucket {
        /// Whose.
        s3uid: S3Uid,
        /// Which.
        bucket_name: BucketName,
    },
    /// Empty and remove all of an account's buckets, then its user, then the account.
    RemoveAccount {
        /// Which.
        s3uid: S3Uid,
        /// Why, in the words of whoever wants it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl Work {
    /// The task's id. The same work has the same id, so asking twice is asking once.
    #[must_use]
    pub fn task_id(&self) -> String {
        match self {
            Work::ListBuckets { s3uid } => format!("list_buckets:{s3uid}"),
            Work::RemoveBucket { s3uid, bucket_name } => {
                format!("remove_bucket:{s3uid}:{bucket_name}")
            }
            Work::RemoveAccount { s3uid, .. } => format!("remove_account:{s3uid}"),
        }
    }

    /// The account it is about.
    #[must_use]
    pub fn s3uid(&self) -> &S3Uid {
        match self {
            Work::ListBuckets { s3uid }
            | Work::RemoveBucket { s3uid, .. }
            | Work::RemoveAccount { s3uid, .. } => s3uid,
        }
    }

    /// Whether it changes the cluster, so that it goes through the clean-up queue and is taken up again until it is done.
    #[must_use]
    pub fn is_cleanup(&self) -> bool {
        !matches!(self, Work::ListBuckets { .. })
    }
}

/// Whose work it is where a queue serves everybody: messages of one group do not hold up those of another.
#[must_use]
pub fn group(location: &str, client_id: ClientId) -> String {
    format!("{location}:{client_id}")
}

/// A task's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// See [`Work::task_id`].
    pub task_id: String,
    /// What is to be done.
    pub work: Work,
    /// See [`group`]; absent where whoever asked did not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Who asked for it.
    pub requested_by: crate::domain::history::Actor,
    /// When it was last asked for.
    pub requested_at: Timestamp,
    /// When it was last worked on.
    pub updated_at: Timestamp,
    /// Steps taken so far. A message carries the step it is for; one that was taken already is dropped.
    #[serde(default)]
    pub steps: u64,
    /// Entries removed so far.
    #[serde(default)]
    pub entries_removed: u64,
    /// Bytes freed so far.
    #[serde(default)]
    pub bytes_removed: u64,
    /// What stood in the way when it was last worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<Obstacle>,
    /// Since when there is an answer to a request made at or before this instant.
    #[serde(default)]
    pub answered_for: Option<Timestamp>,
    /// The answer; never a secret.
    #[serde(default)]
    pub answer: Option<Answer>,
}

/// An object that may not be removed yet: one under object lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedObject {
    /// In which bucket.
    pub bucket_name: BucketName,
    /// Its key.
    pub key: String,
    /// Which of its versions.
    #[serde(default)]
    pub version_id: Option<String>,
    /// Until when; none where somebody has to lift the lock.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

impl std::fmt::Display for LockedObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LockedObject {
            bucket_name, key, ..
        } = self;
        write!(f, "object {key:?} in bucket {bucket_name} is locked")?;
        match self.until {
            Some(until) => write!(f, " until {until:.0}"),
            None => f.write_str(" until somebody lifts the lock"),
        }
    }
}

/// What stands in the way of a clean-up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// In words for the account's owner.
    pub text: String,
    /// The object that may not be removed yet, if it is that.
    #[serde(default)]
    pub locked: Option<LockedObject>,
    /// Since when.
    pub since: Timestamp,
    /// Whether history tells of it.
    #[serde(default)]
    pub is_told: bool,
}

impl Obstacle {
    /// What stands in the way at `now`, after what stood in it before.
    #[must_use]
    pub fn after(
        before: Option<&Obstacle>,
        text: String,
        locked: Option<LockedObject>,
        now: Timestamp,
    ) -> Obstacle {
        let same = before.filter(|before| before.text == text && before.locked == locked);
        Obstacle {
            since: same.map_or(now, |same| same.since),
            is_told: same.is_some_and(|same| same.is_told),
            text,
            locked,
        }
    }
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Answer {
    /// With a result.
    Done {
        /// What was asked for.
        result: Value,
    },
    /// The cluster refused, in its words.
    Refused {
        /// Why.
        text: String,
    },
    /// The cluster could not answer. Asking anew may help.
    Unavailable,
}

impl Task {
    /// The answer to a request made at `requested_at`, when there is one.
    #[must_use]
    pub fn answer_for(&self, requested_at: Timestamp) -> Option<&Answer> {
        self.answered_for
            .filter(|answered_for| *answered_for >= requested_at)
            .and(self.answer.as_ref())
    }

    /// What a callback's own request came to, when that is known. `kept` is the answer that was kept for its moment: the record itself has
    /// the latest answer only, and who asked before must not see it.
    #[must_use]
    pub fn answer_of(&self, callback: &Callback, kept: Option<Answer>) -> Option<Answer> {
        if kept.is_some() {
            return kept;
        }
        if callback.access.is_none() {
            return self.answer_for(callback.requested_at).cloned();
        }
        if self.answered_for == Some(callback.requested_at) {
            return self.answer.clone();
        }
        // It was lost, and somebody asked anew: nobody is going to answer it.
        (self.requested_at > callback.requested_at).then_some(Answer::Unavailable)
    }
}

/// What a queue message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Which task.
    pub task_id: String,
    /// Which step of it.
    pub step: u64,
    /// Whether the cluster is known to take its time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_slow: bool,
}

/// What a callback key stands for: the answer to one request, for whoever may still have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Callback {
    /// Which task.
    pub task_id: String,
    /// The wire action whose answer is awaited.
    pub action: String,
    /// When it was asked for: neither an older nor a later answer will do.
    pub requested_at: Timestamp,
    /// What the session rests on in which it was asked for: the key stands for nothing without. Keys that were kept in the clear have none.
    #[serde(default)]
    pub access: Option<Access>,
}

impl Callback {
    /// For the request that began this task, or joined it.
    #[must_use]
    pub fn new(task: &Task, action: &str, access: Access) -> Callback {
        Callback {
            task_id: task.task_id.clone(),
            action: action.into(),
            requested_at: task.requested_at,
            access: Some(access),
        }
    }
}

impl Task {
    /// A task as it is first asked for.
    #[must_use]
    pub fn new(work: Work, requested_by: crate::domain::history::Actor, now: Timestamp) -> Task {
        Task {
            task_id: work.task_id(),
            work,
            group: None,
            requested_by,
            requested_at: now,
            updated_at: now,
            steps: 0,
            entries_removed: 0,
            bytes_removed: 0,
            obstacle: None,
            answered_for: None,
            answer: None,
        }
    }

    /// The same for an account of this client at this location.
    #[must_use]
    pub fn at(self, location: &str, client_id: ClientId) -> Task {
        Task {
            group: Some(group(location, client_id)),
            ..self
        }
    }
}
