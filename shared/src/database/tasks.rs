//! Tasks and callback keys.

use aws_sdk_dynamodb::types::builders::PutBuilder;
use aws_sdk_dynamodb::types::{Put, ReturnValue, Update};
use jiff::{SignedDuration, Timestamp};

use super::keys::{OPEN, sortable};
use super::transaction::{Conflict, Written};
use super::{
    Database, Item, attribute, fault, item, keys, number_value, page, read, string, written,
    written_if_held,
};
use crate::domain::history::Entry;
use crate::domain::task::{Answer, Callback, Obstacle, Task};
use crate::error::Fault;
use crate::tries::Tries;

/// A task's record and a callback key are kept for a day.
const KEPT_SECONDS: i64 = 24 * 3600;
/// After this long without an answer a question is asked anew.
const STALE: SignedDuration = SignedDuration::from_secs(60);

/// How asking for a task went.
#[derive(Debug)]
pub enum Started {
    /// It is new: its message is still to be sent.
    New(Task),
    /// The same work was asked for before and is under way: this is it.
    Joined(Task),
}

impl Database {
    /// Asks for a task, or joins the same work under way. `entry` goes into history with a new task's record, so that it stands
    /// there once, whoever dies and whoever asks again.
    pub async fn start_task(&self, task: Task, entry: Option<&Entry>) -> Result<Started, Fault> {
        // Tasks end without ceremony, so between the refused write and the read the other's may be gone: then try again.
        let mut tries = Tries::of(3);
        loop {
            tries.once_more(|| Fault::keeps_changing("starting a task", "it"))?;
            let written = match entry {
                Some(entry) => {
                    let mut transaction = self.transaction();
                    transaction.put(self.task_put(&task)?, Conflict::Changed);
                    transaction.history(&self.tables.history, entry)?;
                    transaction.commit().await?
                }
                None => self.put_task(&task).await?,
            };
            if written.is_yes() {
                return Ok(Started::New(task));
            }
            if let Some(other) = self.task(&task.task_id).await? {
                return Ok(Started::Joined(other));
            }
        }
    }

    /// A task's record, where the same work is not under way.
    pub(super) fn task_put(&self, task: &Task) -> Result<PutBuilder, Fault> {
        let mut row = item(keys::task(&task.task_id), None, task)?;
        row.insert("updated_at".into(), string(sortable(task.updated_at)));
        let mut put = Put::builder().table_name(&self.tables.tasks);
        let mut condition = "attribute_not_exists(pk) OR answered_for = requested_at".to_owned();
        if task.work.is_cleanup() {
            row.insert("open".into(), string(OPEN));
        } else {
            row.insert(
                "expires_at_epoch".into(),
                number_value(task.requested_at.as_second() + KEPT_SECONDS),
            );
            condition.push_str(" OR updated_at < :stale");
            let stale = task
                .requested_at
                .saturating_sub(STALE)
                .unwrap_or(task.requested_at);
            put = put.expression_attribute_values(":stale", string(sortable(stale)));
        }
        Ok(put.set_item(Some(row)).condition_expression(condition))
    }

    async fn put_task(&self, task: &Task) -> Result<Written, Fault> {
        let table = &self.tables.tasks;
        let put = self.task_put(task)?;
        let sent = self
            .client
            .put_item()
            .table_name(table)
            .set_item(put.get_item().clone())
            .set_condition_expression(put.get_condition_expression().clone())
            .set_expression_attribute_values(put.get_expression_attribute_values().clone())
            .send()
            .await;
        written("PutItem", table, sent)
    }

    /// A task by its id.
    pub async fn task(&self, task_id: &str) -> Result<Option<Task>, Fault> {
        self.get(&self.tables.tasks, keys::task(task_id), None)
            .await
    }

    /// Records one more step of a task, and what stands in its way; `None` when that step was recorded before, so that this is a
    /// repetition.
    pub async fn record_step(
        &self,
        task_id: &str,
        step: u64,
        entries_removed: u64,
        bytes_removed: u64,
        obstacle: Option<&Obstacle>,
        now: Timestamp,
    ) -> Result<Option<Task>, Fault> {
        let table = &self.tables.tasks;
        let (set, remove) = match obstacle {
            Some(_) => (", obstacle = :obstacle", ""),
            None => ("", " REMOVE obstacle"),
        };
        let mut update = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::task(task_id)))
            .update_expression(format!("SET steps = :next, updated_at = :now{set}{remove} ADD entries_removed :entries, bytes_removed :bytes"))
            .condition_expression("steps = :step")
            .expression_attribute_values(":step", number_value(step))
            .expression_attribute_values(":next", number_value(step + 1))
            .expression_attribute_values(":now", string(sortable(now)))
            .expression_attribute_values(":entries", number_value(entries_removed))
            .expression_attribute_values(":bytes", number_value(bytes_removed))
            .return_values(ReturnValue::AllNew);
        if let Some(obstacle) = obstacle {
            update = update.expression_attribute_values(":obstacle", attribute(obstacle)?);
        }
        let sent = update.send().await;
        let updated = written_if_held("UpdateItem", table, sent)?;
        updated
            .and_then(|updated| updated.attributes)
            .map(|row| read(table, row))
            .transpose()
    }

    /// Records that a step of a task could not be taken, and why, with the history entry that tells of it. A task that has gone on since
    /// is left as it is.
    pub async fn record_obstacle(
        &self,
        task_id: &str,
        step: u64,
        obstacle: &Obstacle,
        entry: Option<&Entry>,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let mut transaction = self.transaction();
        transaction.update(
            Update::builder()
                .table_name(&self.tables.tasks)
                .key("pk", string(keys::task(task_id)))
                .update_expression("SET obstacle = :obstacle, updated_at = :now")
                .condition_expression("steps = :step AND attribute_exists(#open)")
                .expression_attribute_names("#open", "open")
                .expression_attribute_values(":obstacle", attribute(obstacle)?)
                .expression_attribute_values(":now", string(sortable(now)))
                .expression_attribute_values(":step", number_value(step)),
            Conflict::Changed,
        );
        if let Some(entry) = entry {
            transaction.history(&self.tables.history, entry)?;
        }
        let _ = transaction.commit().await?;
        Ok(())
    }

    /// A page of the clean-ups under way, the one that was worked on longest ago first, and where the next begins: all of them, or those
    /// that something stands in the way of.
    pub async fn open_tasks(
        &self,
        only_with_obstacle: bool,
        limit: i32,
        after: Option<(String, String)>,
    ) -> Result<(Vec<Task>, Option<(String, String)>), Fault> {
        let table = &self.tables.tasks;
        let start = after.map(|(task_id, updated_at)| {
            Item::from([
                ("pk".to_owned(), string(keys::task(&task_id))),
                ("open".to_owned(), string(OPEN)),
                ("updated_at".to_owned(), string(updated_at)),
            ])
        });
        let query = self
            .client
            .query()
            .table_name(table)
            .index_name("open_tasks")
            .key_condition_expression("#open = :open")
            .set_filter_expression(
                only_with_obstacle.then(|| "attribute_exists(obstacle)".to_owned()),
            )
            .expression_attribute_names("#open", "open")
            .expression_attribute_values(":open", string(OPEN))
            .set_exclusive_start_key(start)
            .limit(limit);
        let (tasks, next) = page(table, query).await?;
        let text = |row: &Item, name: &str| row.get(name)?.as_s().ok().cloned();
        let next = next.and_then(|row| {
            let task_id = text(&row, "pk")?;
            let task_id = keys::task_of(&task_id)?.to_owned();
            Some((task_id, text(&row, "updated_at")?))
        });
        Ok((tasks, next))
    }

    /// Notes that a task was handed to the queue again.
    pub async fn touch_task(&self, task_id: &str, now: Timestamp) -> Result<(), Fault> {
        let table = &self.tables.tasks;
        let sent = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::task(task_id)))
            .update_expression("SET updated_at = :now")
            .condition_expression("attribute_exists(#open)")
            .expression_attribute_names("#open", "open")
            .expression_attribute_values(":now", string(sortable(now)))
            .send()
            .await;
        written_if_held("UpdateItem", table, sent)?;
        Ok(())
    }

    /// Answers a task: for everybody who asked at `requested_at` or before. For callback keys the answer is kept by itself, since the
    /// task's record takes the next one; first, so that it is there whoever dies.
    pub async fn answer_task(
        &self,
        task_id: &str,
        requested_at: Timestamp,
        answer: &Answer,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let table = &self.tables.tasks;
        let mut row = Item::from([("pk".into(), string(keys::answer(task_id, requested_at)))]);
        row.insert("answer".into(), attribute(answer)?);
        row.insert(
            "expires_at_epoch".into(),
            number_value(now.as_second() + KEPT_SECONDS),
        );
        self.client
            .put_item()
            .table_name(table)
            .set_item(Some(row))
            .send()
            .await
            .map_err(|e| fault("PutItem", table, e))?;
        self.client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::task(task_id)))
            .update_expression(
                "SET answered_for = :for, answer = :answer, updated_at = :now, expires_at_epoch = :expires REMOVE #open, obstacle",
            )
            .expression_attribute_names("#open", "open")
            .expression_attribute_values(":for", attribute(requested_at)?)
            .expression_attribute_values(":answer", attribute(answer)?)
            .expression_attribute_values(":now", string(sortable(now)))
            .expression_attribute_values(":expires", number_value(now.as_second() + KEPT_SECONDS))
            .send()
            .await
            .map_err(|e| fault("UpdateItem", table, e))?;
        Ok(())
    }

    /// Clean-ups under way that nothing was heard of since `before`, oldest first, at most `limit`.
    pub async fn silent_tasks(&self, before: Timestamp, limit: i32) -> Result<Vec<Task>, Fault> {
        let table = &self.tables.tasks;
        let query = self
            .client
            .query()
            .table_name(table)
            .index_name("open_tasks")
            .key_condition_expression("#open = :open AND updated_at <= :before")
            .expression_attribute_names("#open", "open")
            .expression_attribute_values(":open", string(OPEN))
            .expression_attribute_values(":before", string(sortable(before)))
            .limit(limit);
        Ok(page(table, query).await?.0)
    }

    /// The answer that was kept for a request of this moment.
    pub async fn kept_answer(
        &self,
        task_id: &str,
        requested_at: Timestamp,
    ) -> Result<Option<Answer>, Fault> {
        #[derive(serde::Deserialize)]
        struct Row {
            answer: Answer,
        }
        let key = keys::answer(task_id, requested_at);
        let row: Option<Row> = self.get(&self.tables.tasks, key, None).await?;
        Ok(row.map(|row| row.answer))
    }

    /// Keeps a callback key, by its hash.
    pub async fn put_callback(
        &self,
        callback_key: &str,
        callback: &Callback,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let table = &self.tables.tasks;
        let mut row = item(keys::callback(callback_key), None, callback)?;
        row.insert(
            "expires_at_epoch".into(),
            number_value(now.as_second() + KEPT_SECONDS),
        );
        self.client
            .put_item()
            .table_name(table)
            .set_item(Some(row))
            .send()
            .await
            .map_err(|e| fault("PutItem", table, e))?;
        Ok(())
    }

    /// What a callback key stands for.
    pub async fn callback(&self, callback_key: &str) -> Result<Option<Callback>, Fault> {
        let table = &self.tables.tasks;
        let callback = self.get(table, keys::callback(callback_key), None).await?;
        if callback.is_some() {
            return Ok(callback);
        }
        self.get(table, keys::callback_in_the_clear(callback_key), None)
            .await
    }

    /// Uses a callback key up; `No` when somebody else did first.
    pub async fn take_callback(
        &self,
        callback_key: &str,
        callback: &Callback,
    ) -> Result<Written, Fault> {
        let table = &self.tables.tasks;
        let key = match callback.access {
            Some(_) => keys::callback(callback_key),
            None => keys::callback_in_the_clear(callback_key),
        };
        let sent = self
            .client
            .delete_item()
            .table_name(table)
            .key("pk", string(key))
            .condition_expression("attribute_exists(pk)")
            .send()
            .await;
        written("DeleteItem", table, sent)
    }
}
