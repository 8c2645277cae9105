//! Time and work: runs schedules when they are due, and the queues that they fill.

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde_json::Value;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;
use wharfage::clock::Clock;
use wharfage::context::Context;

use crate::clock::VirtualClock;
use crate::error::Error;
use crate::gateway::Gateway;
use crate::invoke::Crash;
use crate::queues::{Drained, Queues};
use crate::runner::Runner;
use crate::schedule::Schedule;
use crate::wiring::Job;

/// How far one call may move time. Three years: more is a typing error.
const JUMP_MAX_DAYS: i64 = 1100;
/// How often items that have expired are removed.
const SWEEP_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// The longest sleep between two looks at the clock: it may be moved by others, and machines sleep.
const TICK_MAX: Duration = Duration::from_secs(30);

/// What a jump in time ran.
#[derive(Debug, Clone)]
pub struct Advanced {
    /// The time now.
    pub now: Timestamp,
    /// What ran, in order.
    pub ran: Vec<Run>,
    /// What was done from the queues.
    pub drained: Drained,
}

/// One run of a schedule.
#[derive(Debug, Clone)]
pub struct Run {
    /// When it was due.
    pub at: Timestamp,
    /// The function.
    pub job: &'static str,
    /// Its own account of what it did, or why it failed.
    pub result: Result<Value, String>,
}

/// Told each run of a jump as soon as it has ended, with what was done from the queues after it.
pub(crate) type OnRun<'a> = &'a (dyn Fn(&Run, Drained) + Sync);

/// Everything that runs in a stack.
pub(crate) struct Engine {
    pub(crate) context: Arc<Context>,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) gateway: Gateway,
    pub(crate) queues: Arc<Queues>,
    jobs: Vec<Job>,
    database: Weak<embedded::dynamodb::Server>,
    runner: Runner,
    /// Whoever moves time or runs schedules holds this.
    driven: Mutex<Driven>,
    /// Held by whoever moves time: two moves at once would both go by where the other had come to.
    moving: Arc<Mutex<()>>,
    moved: Notify,
    /// Once the stack is being stopped, no schedule is run any more.
    stop: CancellationToken,
}

/// How far schedules have been run.
struct Driven {
    until: Timestamp,
    swept: Timestamp,
}

/// A schedule on its way through a jump.
struct Cursor<'a> {
    job: &'a Job,
    schedule: &'a Schedule,
    after: Timestamp,
}

impl Engine {
    pub(crate) fn new(
        clock: Arc<VirtualClock>,
        context: Arc<Context>,
        gateway: Gateway,
        queues: Arc<Queues>,
        jobs: Vec<Job>,
        database: Weak<embedded::dynamodb::Server>,
        runner: Runner,
    ) -> Engine {
        let now = clock.now();
        Engine {
            context,
            clock,
            gateway,
            queues,
            jobs,
            database,
            runner,
            moving: Arc::default(),
            driven: Mutex::new(Driven {
                until: now,
                swept: now,
            }),
            moved: Notify::new(),
            stop: CancellationToken::new(),
        }
    }

    /// The turn to move time, unless somebody else does.
    pub(crate) fn turn_to_move(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.moving).try_lock_owned().ok()
    }

    /// Moves time to `to`: runs every schedule that falls due on the way at its instant, and the queues after each.
    pub(crate) async fn advance_to(
        &self,
        to: Timestamp,
        on_run: OnRun<'_>,
    ) -> Result<Advanced, Error> {
        self.advance_from(|_| Ok(to), on_run).await
    }

    /// The same, by a span of time; months and days are calendar units in UTC.
    pub(crate) async fn advance(&self, span: Span, on_run: OnRun<'_>) -> Result<Advanced, Error> {
        let after = |now: Timestamp| {
            let to = now.to_zoned(TimeZone::UTC).checked_add(span);
            to.map(|to| to.timestamp()).map_err(|_| too_far(span))
        };
        self.advance_from(after, on_run).await
    }

    async fn advance_from(
        &self,
        target: impl FnOnce(Timestamp) -> Result<Timestamp, Error>,
        on_run: OnRun<'_>,
    ) -> Result<Advanced, Error> {
        let mut driven = self.driven.lock().await;
        let now = self.clock.now();
        let to = target(now)?;
        if to < now {
            return Err(Error::Past { to, now });
        }
        if to.duration_since(now) > SignedDuration::from_hours(24 * JUMP_MAX_DAYS) {
            return Err(too_far(to));
        }
        // What is queued now belongs to the time before the jump.
        let mut drained = self.queues.drain().await?;
        let ran = self
            .drive(&mut driven, to, Some((&mut drained, on_run)))
            .await?;
        if self.stop.is_cancelled() {
            return Err(Error::Stopping {
                to,
                now: self.clock.now(),
            });
        }
        self.clock.move_up_to(to)?;
        self.sweep(&mut driven).await;
        self.moved.notify_waiters();
        Ok(Advanced {
            now: self.clock.now(),
            ran,
            drained,
        })
    }

    /// Runs no further schedule, wherever time is on its way to.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until no schedule runs.
    pub(crate) async fn idle(&self) {
        drop(self.driven.lock().await);
    }

    /// Runs messages until the queues are empty.
    pub(crate) async fn drain(&self) -> Result<Drained, Error> {
        let _driven = self.driven.lock().await;
        self.queues.drain().await
    }

    /// Runs what a schedule starts, now.
    pub(crate) async fn run_job(&self, name: &str) -> Result<Value, Error> {
        let job = self.jobs.iter().find(|job| job.function == name);
        let job = job.ok_or_else(|| Error::UnknownJob {
            job: name.to_owned(),
            known: self
                .jobs
                .iter()
                .map(|job| job.function.to_owned())
                .collect(),
        })?;
        let _driven = self.driven.lock().await;
        self.runner.run(job).await.map_err(|crash| Error::Failed {
            function: job.function.to_owned(),
            problem: crash.to_string(),
        })
    }

    /// Runs schedules as they fall due while time passes by itself, until the stack stops.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        while !self.stop.is_cancelled() {
            let next = {
                let mut driven = self.driven.lock().await;
                let now = self.clock.now();
                // The queues have their pollers.
                if let Err(error) = self.drive(&mut driven, now, None).await {
                    tracing::error!(%error, "schedules were not run in full");
                }
                self.sweep(&mut driven).await;
                self.jobs
                    .iter()
                    .flat_map(|job| &job.schedules)
                    .filter_map(|schedule| schedule.next_after(driven.until))
                    .min()
            };
            let wait = next
                .map(|next| next.duration_since(self.clock.now()))
                .and_then(|wait| Duration::try_from(wait).ok())
                .map_or(Duration::from_millis(1), |wait| wait.min(TICK_MAX));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.moved.notified() => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Runs the schedules due after `driven.until`, to `until`, in order; of those due at one instant, the ones that
    /// come more than once an hour last, because they finish what others began. After each the queues are drained and it
    /// is told, if wanted. None is begun once the stack is being stopped.
    async fn drive(
        &self,
        driven: &mut Driven,
        until: Timestamp,
        mut jump: Option<(&mut Drained, OnRun<'_>)>,
    ) -> Result<Vec<Run>, Error> {
        let mut cursors: Vec<Cursor<'_>> = Vec::new();
        for job in &self.jobs {
            cursors.extend(job.schedules.iter().map(|schedule| Cursor {
                job,
                schedule,
                after: driven.until,
            }));
        }
        cursors.sort_by_key(|cursor| cursor.schedule.is_frequent());
        let mut ran = Vec::new();
        loop {
            if self.stop.is_cancelled() {
                return Ok(ran);
            }
            let next = cursors
                .iter_mut()
                .filter_map(|cursor| {
                    let due = cursor.schedule.next_due(cursor.after, until)?;
                    Some((due, cursor))
                })
                .min_by_key(|(due, _)| *due);
            let Some((due, cursor)) = next else {
                break;
            };
            cursor.after = due;
            driven.until = due;
            self.clock.move_up_to(due)?;
            let result = self.runner.run(cursor.job).await;
            match &result {
                Ok(_) => {}
                Err(problem @ Crash::Deferred(_)) => {
                    tracing::warn!(job = cursor.job.function, %problem, "a scheduled run failed; the next one takes up what it left");
                }
                Err(problem) => {
                    tracing::error!(job = cursor.job.function, %problem, "a scheduled run failed");
                }
            }
            let run = Run {
                at: due,
                job: cursor.job.function,
                result: result.map_err(|crash| crash.to_string()),
            };
            if let Some((drained, on_run)) = &mut jump {
                let done = self.queues.drain().await?;
                drained.handled += done.handled;
                drained.failed += done.failed;
                on_run(&run, done);
            }
            ran.push(run);
        }
        driven.until = driven.until.max(until);
        Ok(ran)
    }

    /// DynamoDB removes what has expired by itself, sooner or later; the embedded one when told.
    async fn sweep(&self, driven: &mut Driven) {
        let now = self.clock.now();
        if now.duration_since(driven.swept) < SWEEP_EVERY {
            return;
        }
        driven.swept = now;
        if let Some(database) = self.database.upgrade()
            && let Err(error) = database.sweep_expired().await
        {
            tracing::warn!(%error, "expired items were not removed");
        }
    }
}

fn too_far(to: impl std::fmt::Display) -> Error {
    Error::TooFar {
        to: to.to_string(),
        limit_days: JUMP_MAX_DAYS,
    }
}
