//! Queues work for workers: the task's record, a callback key for its answer, its message.

use wharfage::context::Context;
use wharfage::database::Started;
use wharfage::domain::account::Account;
use wharfage::domain::history::Entry;
use wharfage::domain::task::{Callback, Task, Work};
use wharfage::error::Fault;
use wharfage::http::tokens::Caller;

/// Work that was asked for.
pub(crate) struct Asked {
    /// Its record.
    pub task: Task,
    /// Whether its message is still to be sent: else the same work was under way.
    is_new: bool,
}

/// Asks for work on an account, or joins the same work under way. `entry` goes into history with a new task's record.
pub(crate) async fn ask(
    context: &Context,
    caller: &Caller,
    account: &Account,
    work: Work,
    entry: Option<&Entry>,
) -> Result<Asked, Fault> {
    let task =
        Task::new(work, caller.actor(), context.now()).at(&account.location, account.client_id);
    Ok(match context.database.start_task(task, entry).await? {
        Started::New(task) => Asked { task, is_new: true },
        Started::Joined(task) => Asked {
            task,
            is_new: false,
        },
    })
}

impl Asked {
    /// A new callback key, by which whoever asked for `action` gets the answer.
    pub(crate) async fn callback_key(
        &self,
        context: &Context,
        caller: &Caller,
        action: &str,
    ) -> Result<String, Fault> {
        let callback_key = context.random.callback_key();
        let callback = Callback::new(&self.task, action, caller.access.clone());
        context
            .database
            .put_callback(&callback_key, &callback, context.now())
            .await?;
        Ok(callback_key)
    }

    /// Sends the message of new work.
    pub(crate) async fn send(&self, context: &Context) -> Result<(), Fault> {
        match self.is_new {
            true => context.queue.send(&self.task).await,
            false => Ok(()),
        }
    }
}
