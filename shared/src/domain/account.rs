//! Accounts: one S3 storage account each, with its service.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use crate::domain::client::ClientId;
use crate::domain::figures::GB_BYTES;
use crate::domain::identifier::identifier;
use crate::domain::period::{last_anniversary, next_anniversary};
use crate::domain::plan::{Plan, PlanId};
use crate::domain::plan_change::PlanChanges;
use crate::domain::quota::QuotaLevel;

identifier! {
    /// The number of an account, unique in the installation: clients and staff call it by it, the cluster knows it by its `s3uid`.
    #[derive(Copy)]
    AccountId(u64)
}

identifier! {
    /// What the cluster knows an account by, for the life of the system: a text, stored and shown as such.
    #[derive(Default)]
    S3Uid(String)
}

impl S3Uid {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where an account stands in its life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Status {
    /// In use.
    Active,
    /// Its keys do not work, its data is kept.
    Suspended,
    /// In use until its cancellation date.
    Cancelling,
    /// Its keys do not work and its data is going, or about to.
    Terminating,
    /// Gone, but for its history and invoices.
    Terminated,
}

/// Where a service stands, and what its keys are stopped for: there is no suspended service that is suspended for nothing, and none in use
/// that is suspended. Stored as `status` beside `suspension`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "StoredStanding", try_from = "StoredStanding")]
pub enum Standing {
    /// In use.
    Active,
    /// Its keys do not work, its data is kept.
    Suspended(Suspension),
    /// In use until its cancellation date, unless its keys are stopped.
    Cancelling(Option<Suspension>),
    /// Its keys do not work and its data is going, or about to.
    Terminating(Option<Suspension>),
    /// Gone, but for its history and invoices.
    Terminated(Option<Suspension>),
}

#[derive(Serialize, Deserialize)]
struct StoredStanding {
    status: Status,
    #[serde(default)]
    suspension: Option<Suspension>,
}

/// A stored service that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Nonsense {
    #[error("a service is suspended, but for nothing")]
    SuspendedForNothing,
    #[error("a service is active, but suspended")]
    ActiveButSuspended,
}

impl From<Standing> for StoredStanding {
    fn from(standing: Standing) -> StoredStanding {
        StoredStanding {
            status: standing.status(),
            suspension: standing.suspension(),
        }
    }
}

impl TryFrom<StoredStanding> for Standing {
    type Error = Nonsense;

    fn try_from(stored: StoredStanding) -> Result<Standing, Nonsense> {
        Ok(match (stored.status, stored.suspension) {
            (Status::Active, None) => Standing::Active,
            (Status::Active, Some(_)) => return Err(Nonsense::ActiveButSuspended),
            (Status::Suspended, Some(reason)) => Standing::Suspended(reason),
            (Status::Suspended, None) => return Err(Nonsense::SuspendedForNothing),
            (Status::Cancelling, suspension) => Standing::Cancelling(suspension),
            (Status::Terminating, suspension) => Standing::Terminating(suspension),
            (Status::Terminated, suspension) => Standing::Terminated(suspension),
        })
    }
}

impl Standing {
    /// In one word.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Standing::Active => Status::Active,
            Standing::Suspended(_) => Status::Suspended,
            Standing::Cancelling(_) => Status::Cancelling,
            Standing::Terminating(_) => Status::Terminating,
            Standing::Terminated(_) => Status::Terminated,
        }
    }

    /// Why its keys are stopped, while they are.
    #[must_use]
    pub fn suspension(self) -> Option<Suspension> {
        match self {
            Standing::Active => None,
            Standing::Suspended(reason) => Some(reason),
            Standing::Cancelling(suspension)
            | Standing::Terminating(suspension)
            | Standing::Terminated(suspension) => suspension,
        }
    }

    /// In use, unless it is suspended.
    fn in_use(suspension: Option<Suspension>) -> Standing {
        suspension.map_or(Standing::Active, Standing::Suspended)
    }

    /// As far in its life, with its keys stopped for this.
    fn stopped_for(self, suspension: Option<Suspension>) -> Standing {
        match self {
            Standing::Active | Standing::Suspended(_) => Standing::in_use(suspension),
            Standing::Cancelling(_) => Standing::Cancelling(suspension),
            Standing::Terminating(_) => Standing::Terminating(suspension),
            Standing::Terminated(_) => Standing::Terminated(suspension),
        }
    }
}

/// The subscription of an account. Dates take effect at 00:00 UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Where it stands.
    #[serde(flatten)]
    pub standing: Standing,
    /// The day of the order: all periods count from it.
    pub ordered_on: Date,
    /// The end of the period paid for: the next invoice's day.
    pub next_commit_date: Date,
    /// The day the keys stop working, once cancelled.
    pub cancellation_date: Option<Date>,
    /// The day the data goes, once cancelled or removed. What is told is [`Service::termination`].
    pub termination_date: Option<Date>,
    /// The day the data goes because an invoice is overdue, as it was told with the suspension; there while the account is suspended for
    /// that, also where a member of staff suspended it besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_on: Option<Date>,
    /// Its keys work although an invoice is overdue, until this day: a member of staff gave it time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_until: Option<Date>,
    /// Why the account goes, once it is removed. Absent while it is cancelled, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal: Option<TerminationReason>,
    /// The first day of the period that is not charged: it began while a member of staff had the account suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncharged_from: Option<Date>,
    /// The first day of the period whose traffic is used up, and which its keys were stopped for; there also where they are stopped for
    /// something else besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_spent_in: Option<Date>,
}

/// Why an account's data is purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum TerminationReason {
    /// The service was cancelled, and the days that its data is kept are over.
    Cancelled,
    /// An invoice stayed overdue for as long as dunning waits.
    Unpaid,
    /// Its owner or a member of staff had it removed at once.
    Removed,
}

/// What is due for a service on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Its cancellation date has come: the keys stop, the data is kept.
    End,
    /// Its data goes.
    Purge(TerminationReason),
    /// The time that staff gave is over: it is suspended again if something is still overdue.
    Suspension,
}

/// Why an account is suspended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Suspension {
    /// An invoice is overdue; paying lifts it.
    Unpaid,
    /// An administrator did; only an administrator lifts it.
    Administrator,
    /// The traffic of the period is used up; the next period lifts it.
    Traffic,
}

/// A change of service that the present status does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// Cancelled already.
    #[error("S3 account is already being cancelled")]
    AlreadyCancelling,
    /// Nothing to undo.
    #[error("S3 account is not being cancelled")]
    NotCancelling,
    /// Nothing to resume.
    #[error("S3 account is not suspended")]
    NotSuspended,
    /// Too late for it.
    #[error("S3 account is being deleted")]
    Terminating,
}

impl Service {
    /// A service ordered on a day: it commits a month later.
    #[must_use]
    pub fn ordered(on: Date) -> Service {
        Service {
            standing: Standing::Active,
            ordered_on: on,
            next_commit_date: next_anniversary(on, on),
            cancellation_date: None,
            termination_date: None,
            purge_on: None,
            resumed_until: None,
            removal: None,
            uncharged_from: None,
            traffic_spent_in: None,
        }
    }

    /// Where it stands, in one word.
    #[must_use]
    pub fn status(&self) -> Status {
        self.standing.status()
    }

    /// Why its keys are stopped, while they are.
    #[must_use]
    pub fn suspension(&self) -> Option<Suspension> {
        self.standing.suspension()
    }

    fn suspend(&self, reason: Suspension) -> Result<Service, NotAllowed> {
        if let Standing::Terminating(_) | Standing::Terminated(_) = self.standing {
            return Err(NotAllowed::Terminating);
        }
        let suspension = match (self.suspension(), reason) {
            (Some(Suspension::Administrator), _) => Suspension::Administrator,
            (Some(Suspension::Unpaid), Suspension::Traffic) => Suspension::Unpaid,
            _ => reason,
        };
        Ok(Service {
            standing: self.standing.stopped_for(Some(suspension)),
            ..self.clone()
        })
    }

    /// Suspended by a member of staff, whose reason outlasts that of an unpaid invoice.
    ///
    /// # Errors
    /// When it is going.
    pub fn suspend_by_staff(&self) -> Result<Service, NotAllowed> {
        self.suspend(Suspension::Administrator)
    }

    /// Suspended because an invoice is overdue; its data goes on `purge_on`. A day that was told before stays.
    ///
    /// # Errors
    /// When it is going.
    pub fn suspend_unpaid(&self, purge_on: Date) -> Result<Service, NotAllowed> {
        Ok(Service {
            purge_on: self.purge_on.or(Some(purge_on)),
            resumed_until: None,
            ..self.suspend(Suspension::Unpaid)?
        })
    }

    /// Suspended because the traffic of the period that began on a day is used up: until the next one. What else it is suspended for
    /// outlasts that.
    ///
    /// # Errors
    /// When it is going.
    pub fn suspend_for_traffic(&self, period_from: Date) -> Result<Service, NotAllowed> {
        Ok(Service {
            traffic_spent_in: Some(period_from),
            ..self.suspend(Suspension::Traffic)?
        })
    }

    /// There is traffic again. What else suspended it stays.
    #[must_use]
    pub fn traffic_again(&self) -> Service {
        let others = self
            .suspension()
            .filter(|reason| *reason != Suspension::Traffic);
        Service {
            standing: self.standing.stopped_for(others),
            traffic_spent_in: None,
            ..self.clone()
        }
    }

    /// Whether it is suspended because an invoice is overdue, whatever else it is suspended for.
    #[must_use]
    pub fn is_unpaid(&self) -> bool {
        // Whoever was suspended by an earlier version was not told a day.
        self.purge_on.is_some() || self.suspension() == Some(Suspension::Unpaid)
    }

    /// Nothing of it is overdue any more: what it was suspended for, what was to come of that, and the time that staff gave are past. What
    /// a member of staff suspended stays so, and so does what has no traffic left; what is going goes on, on the day that was told for that.
    #[must_use]
    pub fn paid(&self) -> Service {
        let suspension = match self.suspension() {
            Some(Suspension::Unpaid) => self.traffic_spent_in.map(|_| Suspension::Traffic),
            suspension => suspension,
        };
        Service {
            standing: self.standing.stopped_for(suspension),
            purge_on: None,
            resumed_until: None,
            ..self.clone()
        }
    }

    /// In use again, whoever suspended it, and until the period ends if its traffic is used up. `until` is the day on which it is suspended
    /// again if an invoice is still overdue.
    ///
    /// # Errors
    /// When it is not suspended, or going.
    pub fn resume(&self, until: Option<Date>) -> Result<Service, NotAllowed> {
        if let Standing::Terminating(_) | Standing::Terminated(_) = self.standing {
            return Err(NotAllowed::Terminating);
        }
        if self.suspension().is_none() {
            return Err(NotAllowed::NotSuspended);
        }
        Ok(Service {
            standing: self.standing.stopped_for(None),
            purge_on: None,
            resumed_until: until,
            traffic_spent_in: None,
            ..self.clone()
        })
    }

    /// Given time by a member of staff: not suspended for what is overdue until a day.
    ///
    /// # Errors
    /// When it is going.
    pub fn give_time(&self, until: Date) -> Result<Service, NotAllowed> {
        match self.status() {
            Status::Active | Status::Suspended | Status::Cancelling => Ok(Service {
                resumed_until: Some(until),
                ..self.clone()
            }),
            Status::Terminating | Status::Terminated => Err(NotAllowed::Terminating),
        }
    }

    /// Removed at once, with its data.
    #[must_use]
    pub fn remove(&self, today: Date, reason: TerminationReason) -> Service {
        Service {
            standing: Standing::Terminating(self.suspension()),
            cancellation_date: Some(today),
            termination_date: Some(today),
            purge_on: None,
            resumed_until: None,
            removal: Some(reason),
            ..self.clone()
        }
    }

    /// The day on which the data goes, as it is told, and why; none while it is to stay. Whichever brings it nearer.
    #[must_use]
    pub fn termination(&self) -> Option<(Date, TerminationReason)> {
        let cancelled = self.removal.unwrap_or(TerminationReason::Cancelled);
        let ended = self.termination_date.map(|date| (date, cancelled));
        let unpaid = self.purge_on.map(|date| (date, TerminationReason::Unpaid));
        ended
            .into_iter()
            .chain(unpaid)
            .min_by_key(|(date, _)| *date)
    }

    /// Ended on its cancellation date: the keys stop, the data is kept until the termination date.
    #[must_use]
    pub fn end(&self) -> Service {
        Service {
            standing: Standing::Terminating(self.suspension()),
            resumed_until: None,
            ..self.clone()
        }
    }

    /// Gone, with its data.
    #[must_use]
    pub fn terminate(&self) -> Service {
        Service {
            standing: Standing::Terminated(self.suspension()),
            ..self.clone()
        }
    }

    /// The first day of the usage period that `today` is in.
    #[must_use]
    pub fn period_start(&self, today: Date) -> Date {
        last_anniversary(self.ordered_on, today)
    }

    /// The first day and the end of the period that is closed next.
    #[must_use]
    pub fn period(&self) -> (Date, Date) {
        let to = self.next_commit_date;
        (self.period_start(to.yesterday().unwrap_or(to)), to)
    }

    /// The next day on which something is due for it, and what. Of several on one day, the data goes last.
    #[must_use]
    pub fn due(&self) -> Option<(Date, Due)> {
        let purge = self
            .termination()
            .map(|(date, why)| (date, Due::Purge(why)));
        let again = self.resumed_until.map(|date| (date, Due::Suspension));
        let unpaid = self.purge_on.and(purge);
        let found = match self.status() {
            Status::Active | Status::Suspended => [None, again, unpaid],
            Status::Cancelling => [
                self.cancellation_date.map(|date| (date, Due::End)),
                again,
                unpaid,
            ],
            Status::Terminating => [None, None, purge],
            Status::Terminated => [None; 3],
        };
        found.into_iter().flatten().min_by_key(|(date, _)| *date)
    }

    /// Cancelled: the keys work until the end of the paid period, and the data is kept `retention_days` longer.
    ///
    /// # Errors
    /// When it is cancelled already, or going.
    pub fn cancel(&self, today: Date, retention_days: u16) -> Result<Service, NotAllowed> {
        match self.status() {
            Status::Active | Status::Suspended => {}
            Status::Cancelling => return Err(NotAllowed::AlreadyCancelling),
            Status::Terminating | Status::Terminated => return Err(NotAllowed::Terminating),
        }
        // A period whose closing is late has ended all the same, and the next one has begun.
        let yesterday = today.yesterday().unwrap_or(today);
        let running = next_anniversary(self.ordered_on, yesterday);
        let cancellation_date = self.next_commit_date.max(running);
        Ok(Service {
            standing: Standing::Cancelling(self.suspension()),
            removal: None,
            cancellation_date: Some(cancellation_date),
            termination_date: Some(
                cancellation_date.saturating_add(i64::from(retention_days).days()),
            ),
            ..self.clone()
        })
    }

    /// The cancelling undone. Once the cancellation date has come, or the account is going, it is too late.
    ///
    /// # Errors
    /// When it was not cancelled, or it is too late.
    pub fn undo_cancel(&self, today: Date) -> Result<Service, NotAllowed> {
        let is_over = self.cancellation_date.is_some_and(|date| date <= today);
        match self.status() {
            // Its last period may have been closed by now, and no other would follow.
            Status::Cancelling if is_over => return Err(NotAllowed::Terminating),
            Status::Cancelling => {}
            Status::Active | Status::Suspended => return Err(NotAllowed::NotCancelling),
            Status::Terminating | Status::Terminated => return Err(NotAllowed::Terminating),
        }
        Ok(Service {
            standing: Standing::in_use(self.suspension()),
            cancellation_date: None,
            termination_date: None,
            ..self.clone()
        })
    }
}

/// One S3 storage account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Its name on the wire and at the cluster: 32 characters of `A-Za-z0-9`.
    pub s3uid: S3Uid,
    /// Its number.
    pub id: AccountId,
    /// Who pays.
    pub client_id: ClientId,
    /// The client's email when it was ordered.
    pub email: String,
    /// The client's billing group.
    pub billing: String,
    /// Its plan.
    pub plan_id: PlanId,
    /// The version of it that it pays for.
    pub plan_version: u32,
    /// Whether that costs nothing.
    pub is_free: bool,
    /// Where it lives.
    pub location: String,
    /// The plan's.
    pub storage_type: String,
    /// What it may store.
    pub quota_gb: u64,
    /// Its subscription.
    pub service: Service,
    /// The S3 access key id.
    pub access_key: String,
    /// The S3 secret key under KMS, base64.
    pub secret_key_ciphertext: String,
    /// A second key, valid beside the first until it takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key: Option<NextKey>,
    /// When its order was fulfilled.
    pub created_at: Timestamp,
    /// How many buckets it had when last looked.
    #[serde(default)]
    pub buckets: u64,
    /// Bytes stored when last looked.
    #[serde(default)]
    pub stored_bytes: u64,
    /// The first day of the period that the next two figures are of.
    pub period_from: Date,
    /// Bytes sent in the running period, when last looked.
    #[serde(default)]
    pub period_bytes_sent: u64,
    /// The most bytes stored in the running period, when last looked.
    #[serde(default)]
    pub period_peak_stored_bytes: u64,
    /// The commit date its period is to be closed on; absent once there is no further period to close.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commits_on: Option<Date>,
    /// Its changes of plan, in the running period and to come.
    #[serde(default, skip_serializing_if = "PlanChanges::is_empty")]
    pub plan_changes: PlanChanges,
    /// What was last told of its stored bytes against its quota.
    #[serde(default)]
    pub quota_told: QuotaLevel,
    /// Present while its cluster may not do yet what this record says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<Unsettled>,
    /// When its present key took another's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_confirmed_at: Option<Timestamp>,
    /// Raised by every change, so that two changes at once cannot both be made.
    #[serde(default)]
    pub revision: u64,
}

impl Account {
    /// What its plan includes.
    #[must_use]
    pub fn quota_bytes(&self) -> u64 {
        self.quota_gb.saturating_mul(GB_BYTES)
    }

    /// The group it stands in in the listings; none once it is terminated.
    #[must_use]
    pub fn listed_group(&self) -> Option<Group> {
        self.is_visible().then(|| self.group())
    }

    /// Where it stands in the listings when it stands in any.
    #[must_use]
    pub fn group(&self) -> Group {
        Group {
            plan_id: self.plan_id,
            storage_type: self.storage_type.clone(),
            location: self.location.clone(),
            billing: self.billing.clone(),
        }
    }

    /// The same account on a version of a plan, with all that follows from it.
    #[must_use]
    pub fn on_plan(&self, plan: &Plan, is_free: bool, plan_changes: PlanChanges) -> Account {
        let mut account = Account {
            plan_id: plan.id,
            plan_version: plan.version,
            quota_gb: plan.quota_gb,
            is_free,
            plan_changes,
            ..self.clone()
        };
        let told = self.quota_told;
        account.quota_told = told
            .next(account.stored_bytes, account.quota_bytes())
            .unwrap_or(told);
        account
    }

    /// The same account, as it is when a change of these parts is written at `now`: its cluster is still to be told of them.
    #[must_use]
    pub fn unsettled_in(&self, parts: ClusterScope, now: Timestamp) -> Account {
        let before = self.unsettled.as_ref();
        let revision = self.revision + 1;
        Account {
            unsettled: Some(Unsettled {
                parts: before.map_or(parts, |before| before.parts.and(parts)),
                removed_keys: before.map_or_else(Vec::new, |before| before.removed_keys.clone()),
                at: now,
                revision,
                is_contested: before.is_some_and(|before| !before.is_quiet(now)),
            }),
            revision,
            ..self.clone()
        }
    }

    /// The same account, as it is when this service is written at `now`.
    #[must_use]
    pub fn with_service(&self, service: &Service, now: Timestamp) -> Account {
        let after = Account {
            service: service.clone(),
            ..self.clone()
        };
        if after.are_keys_stopped() != self.are_keys_stopped() {
            return after.unsettled_in(ClusterScope::SUSPENSION, now);
        }
        Account {
            revision: self.revision + 1,
            ..after
        }
    }

    /// The same account, as it is when its second key takes the first one's place at `now`; none when its second key is not this one, or
    /// not any more: whoever put it in its place has had the first one removed.
    #[must_use]
    pub fn with_key_confirmed(&self, access_key: &str, now: Timestamp) -> Option<Account> {
        let next = self.next_key.as_ref();
        let next = next.filter(|next| next.access_key == access_key)?;
        let mut after = self.unsettled_in(ClusterScope::KEYS, now);
        if let Some(unsettled) = &mut after.unsettled {
            unsettled.removed_keys.push(self.access_key.clone());
        }
        after.access_key = next.access_key.clone();
        after.secret_key_ciphertext = next.secret_key_ciphertext.clone();
        after.next_key = None;
        after.key_confirmed_at = Some(now);
        Some(after)
    }

    /// The keys that its cluster is to remove: what its mark says, but never a key that the account has.
    pub fn keys_to_remove(&self) -> impl Iterator<Item = &str> {
        let unsettled = self.unsettled.as_ref();
        let removed = unsettled.map_or(&[][..], |unsettled| &unsettled.removed_keys);
        let next = self.next_key.as_ref().map(|next| &next.access_key);
        removed
            .iter()
            .filter(move |key| **key != self.access_key && Some(*key) != next)
            .map(String::as_str)
    }

    /// Whether its owner can still see it and act on it.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.service.status() != Status::Terminated
    }

    /// Whether its keys are not to work.
    #[must_use]
    pub fn are_keys_stopped(&self) -> bool {
        self.is_going() || self.service.suspension().is_some()
    }

    /// Whether its owner's changes are still taken.
    #[must_use]
    pub fn is_going(&self) -> bool {
        matches!(
            self.service.status(),
            Status::Terminating | Status::Terminated
        )
    }
}

/// What of an account's record a cluster follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterScope {
    /// Whether its keys work.
    pub suspension: bool,
    /// What it may store.
    pub storage_limit: bool,
    /// Which keys it has.
    pub keys: bool,
}

impl ClusterScope {
    /// Whether the keys work, alone.
    pub const SUSPENSION: ClusterScope = ClusterScope {
        suspension: true,
        storage_limit: false,
        keys: false,
    };
    /// What it may store, alone.
    pub const STORAGE_LIMIT: ClusterScope = ClusterScope {
        suspension: false,
        storage_limit: true,
        keys: false,
    };
    /// Which keys it has, alone.
    pub const KEYS: ClusterScope = ClusterScope {
        suspension: false,
        storage_limit: false,
        keys: true,
    };
    /// Everything.
    pub const ALL: ClusterScope = ClusterScope {
        suspension: true,
        storage_limit: true,
        keys: true,
    };

    /// These and the others.
    #[must_use]
    pub fn and(self, others: ClusterScope) -> ClusterScope {
        ClusterScope {
            suspension: self.suspension || others.suspension,
            storage_limit: self.storage_limit || others.storage_limit,
            keys: self.keys || others.keys,
        }
    }

    /// Whether all of the others are among these.
    #[must_use]
    pub fn cover(self, others: ClusterScope) -> bool {
        self.and(others) == self
    }
}

/// After this long nothing can take effect any more that was asked of a cluster: what a function may run, and as long again for what a
/// gateway still does that its caller has given up on.
const QUIET: SignedDuration = SignedDuration::from_mins(3);

/// The mark of an account whose cluster may not do yet what the record says. Whoever changes the record, or sets about telling the
/// cluster, sets it first; it goes when the cluster is known to do as the record says, and nothing that was asked of it before can still
/// take effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsettled {
    /// What is to be told.
    pub parts: ClusterScope,
    /// Keys that the account had, and that are to go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_keys: Vec<String>,
    /// When somebody last set about telling it.
    pub at: Timestamp,
    /// The account's revision that came of it: it is whose mark this is.
    pub revision: u64,
    /// Whether somebody else may have been telling it at that time, or what he asked for may still take effect. Then it is to be told
    /// once more when all of that is over.
    #[serde(default)]
    pub is_contested: bool,
}

impl Unsettled {
    /// Whether nothing that was asked of the cluster by then can take effect any more.
    #[must_use]
    pub fn is_quiet(&self, now: Timestamp) -> bool {
        now.duration_since(self.at) >= QUIET
    }

    /// An instant: marks set by then are quiet at `now`.
    #[must_use]
    pub fn quiet_since(now: Timestamp) -> Timestamp {
        now - QUIET
    }
}

/// A key that is to take the present one's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextKey {
    /// The S3 access key id.
    pub access_key: String,
    /// The S3 secret key under KMS, base64.
    pub secret_key_ciphertext: String,
}

/// Accounts alike in all that a listing can be narrowed by. There are as many as plans × locations × billing groups, however many
/// accounts there are; so a listing narrowed by any of these reads a bounded number of them and merges.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Group {
    /// The plan.
    pub plan_id: PlanId,
    /// The plan's storage type.
    pub storage_type: String,
    /// The location.
    pub location: String,
    /// The billing group.
    pub billing: String,
}

impl Group {
    /// The index key of its accounts.
    #[must_use]
    pub fn key(&self) -> String {
        format!(
            "PLAN#{}#LOCATION#{}#BILLING#{}",
            self.plan_id, self.location, self.billing
        )
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::domain::closing::tests::account;

    #[test]
    fn a_cancelling_while_the_closing_is_late_ends_with_the_period_that_has_begun() {
        let service = Service::ordered(date(2026, 1, 15));
        let ends = |today| {
            let cancelled = service.cancel(today, 30).expect("cancel");
            cancelled.cancellation_date.expect("a date")
        };
        // The period until 15 February is still to be closed.
        assert_eq!(ends(date(2026, 2, 15)), date(2026, 2, 15));
        assert_eq!(ends(date(2026, 2, 16)), date(2026, 3, 15));
        assert_eq!(ends(date(2026, 4, 1)), date(2026, 4, 15));
    }

    #[test]
    fn a_standing_is_stored_as_its_status_beside_its_suspension_and_no_other_pair_is_read() {
        let service = Service::ordered(date(2026, 1, 15));
        let unpaid = service.suspend_unpaid(date(2026, 3, 1)).expect("suspended");
        let cancelled = unpaid.cancel(date(2026, 1, 20), 30).expect("cancelled");
        let pairs = [
            (service, ("active", None)),
            (unpaid, ("suspended", Some("unpaid"))),
            (cancelled.clone(), ("cancelling", Some("unpaid"))),
            (cancelled.end(), ("terminating", Some("unpaid"))),
            (cancelled.paid().terminate(), ("terminated", None)),
        ];
        for (service, (status, suspension)) in pairs {
            let stored = serde_json::to_value(&service).expect("stored");
            assert_eq!(stored["status"], status);
            assert_eq!(stored["suspension"], serde_json::json!(suspension));
            let read: Service = serde_json::from_value(stored.clone()).expect("read");
            assert_eq!(read, service);
            let mut other = stored;
            match status {
                "active" => other["suspension"] = "unpaid".into(),
                "suspended" => other["suspension"] = serde_json::Value::Null,
                _ => continue,
            }
            let refused = serde_json::from_value::<Service>(other).expect_err("nonsense");
            assert!(refused.to_string().starts_with("a service is"), "{refused}");
        }
    }

    #[test]
    fn of_several_reasons_each_is_lifted_by_its_own_and_staff_lift_all() {
        let spent = date(2026, 1, 15);
        let purge_on = date(2026, 3, 1);
        let active = Service::ordered(spent);
        let traffic = active.suspend_for_traffic(spent).expect("suspended");
        let state = |service: &Service| (service.status(), service.suspension());
        let suspended = |reason| (Status::Suspended, Some(reason));
        assert_eq!(state(&traffic), suspended(Suspension::Traffic));
        assert_eq!(traffic.paid(), traffic);
        assert_eq!(traffic.traffic_again(), active);
        assert_eq!(traffic.resume(None), Ok(active.clone()));

        let unpaid = active.suspend_unpaid(purge_on).expect("suspended");
        let both = [
            traffic.suspend_unpaid(purge_on).expect("suspended"),
            unpaid.suspend_for_traffic(spent).expect("suspended"),
        ];
        for both in both {
            assert_eq!(state(&both), suspended(Suspension::Unpaid));
            assert_eq!(both.paid(), traffic);
            assert_eq!(both.traffic_again(), unpaid);
            assert_eq!(both.resume(None), Ok(active.clone()));
        }
        let staff = active.suspend_by_staff().expect("suspended");
        let both = [
            traffic.suspend_by_staff().expect("suspended"),
            staff.suspend_for_traffic(spent).expect("suspended"),
        ];
        for both in both {
            assert_eq!(state(&both), suspended(Suspension::Administrator));
            assert_eq!(both.paid(), both);
            assert_eq!(both.traffic_again(), staff);
            assert_eq!(both.resume(None), Ok(active.clone()));
        }
        let cancelled = traffic.cancel(date(2026, 1, 20), 30).expect("cancelled");
        assert_eq!(cancelled.undo_cancel(date(2026, 1, 21)), Ok(traffic));
        let used = cancelled.traffic_again();
        assert_eq!(state(&used), (Status::Cancelling, None));
    }

    #[test]
    fn a_key_is_confirmed_once_and_no_key_that_an_account_has_is_removed() {
        let next = |name: &str| {
            Some(NextKey {
                access_key: name.into(),
                secret_key_ciphertext: String::new(),
            })
        };
        let account = Account {
            access_key: "first".into(),
            next_key: next("second"),
            ..account(date(2026, 1, 15))
        };
        let confirm = |account: &Account, name| account.with_key_confirmed(name, Timestamp::MIN);
        assert_eq!(confirm(&account, "third"), None);
        let confirmed = confirm(&account, "second").expect("it waits");
        assert_eq!(confirmed.access_key, "second");
        assert!(confirmed.keys_to_remove().eq(["first"]));
        // By a second one who asked for the same at once.
        assert_eq!(confirm(&confirmed, "second"), None);
        // A mark may say too much.
        let mut wrong = confirmed;
        wrong.next_key = next("third");
        let unsettled = wrong.unsettled.as_mut().expect("a mark");
        unsettled.removed_keys = ["second", "first", "third"].map(String::from).to_vec();
        assert!(wrong.keys_to_remove().eq(["first"]));
    }

    #[test]
    fn cancelling_ends_with_the_paid_period_and_can_be_undone() {
        let service = Service::ordered(date(2026, 1, 31));
        assert_eq!(service.next_commit_date, date(2026, 2, 28));
        let cancelled = service.cancel(date(2026, 2, 3), 30).expect("cancel");
        assert_eq!(cancelled.status(), Status::Cancelling);
        assert_eq!(cancelled.cancellation_date, Some(date(2026, 2, 28)));
        assert_eq!(cancelled.termination_date, Some(date(2026, 3, 30)));
        assert_eq!(
            cancelled.cancel(date(2026, 2, 3), 30),
            Err(NotAllowed::AlreadyCancelling)
        );
        let last = date(2026, 2, 27);
        assert_eq!(cancelled.undo_cancel(last), Ok(service.clone()));
        let late = cancelled.undo_cancel(date(2026, 2, 28));
        assert_eq!(late, Err(NotAllowed::Terminating));
        assert_eq!(service.undo_cancel(last), Err(NotAllowed::NotCancelling));
    }
}
