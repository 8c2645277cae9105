//! The table of alarms, of which the template's are made. What each means and what to do: docs/operating.md.

/// An alarm.
pub(crate) struct Alarm {
    /// Its logical id, less `Alarm`.
    pub name: &'static str,
    /// What has happened.
    pub description: &'static str,
    /// What is measured.
    pub of: Of,
    /// How the measurements of a period become one figure.
    pub statistic: &'static str,
    /// In seconds.
    pub period: u32,
    /// For which figures it rings.
    pub when: When,
    /// In so many periods, one after the other.
    pub periods: u32,
}

/// What an alarm measures.
pub(crate) enum Of {
    /// A metric, with its namespace and the dimension it is looked at by: name and value, as the template writes them.
    Metric(
        &'static str,
        &'static str,
        Option<(&'static str, &'static str)>,
    ),
    /// A figure that the functions of the stack tell.
    Figure(&'static str),
    /// Failed invocations of all functions that schedules start, with what they are called.
    ErrorsOfJobs(&'static str),
    /// Failed invocations of all functions that queues start, with what they are called.
    ErrorsOfWorkers(&'static str),
    /// A metric of all tables together, with what it is called.
    Tables(&'static str, &'static str),
    /// Messages that were set aside from a queue, which is named less `DeadLetterQueue`.
    DeadLetters(&'static str),
    /// Minutes that the oldest message of a queue has waited, which is named less `Queue`.
    Age(&'static str),
}

/// When an alarm rings.
pub(crate) enum When {
    /// Above this, as the template writes it. Where nothing is measured, all is well.
    Above(&'static str),
    /// Below this, and where nothing is measured.
    BelowOrSilent(&'static str),
}

/// Rings at the first of what it counts, within five minutes.
const AT_THE_FIRST: Alarm = Alarm {
    name: "",
    description: "",
    of: Of::Figure(""),
    statistic: "Sum",
    period: 300,
    when: When::Above("0"),
    periods: 1,
};

const fn alarm(name: &'static str, of: Of, description: &'static str) -> Alarm {
    Alarm {
        name,
        description,
        of,
        ..AT_THE_FIRST
    }
}

const fn dead_letters(name: &'static str, queue: &'static str, description: &'static str) -> Alarm {
    Alarm {
        statistic: "Maximum",
        ..alarm(name, Of::DeadLetters(queue), description)
    }
}

const fn age(name: &'static str, queue: &'static str) -> Alarm {
    Alarm {
        statistic: "Maximum",
        when: When::Above("!Ref OldestMessageMinutes"),
        ..alarm(
            name,
            Of::Age(queue),
            "Messages wait longer than they should",
        )
    }
}

/// All alarms there are.
#[rustfmt::skip]
pub(crate) const ALARMS: &[Alarm] = &[
    alarm("ApiServerErrors", Of::Metric("AWS/ApiGateway", "5xx", Some(("ApiId", "!Ref Api"))), "The API answered 5xx"),
    alarm("PermanentFaults", Of::Figure("PermanentFaults"), "Something of ours failed that stays until somebody mends it"),
    Alarm {
        when: When::Above("10"), periods: 3,
        ..alarm("RetryableFaults", Of::Figure("RetryableFaults"), "Calls to AWS keep failing, or those of workers to a cluster")
    },
    // Where no caller asks, usage is tried again within this time.
    Alarm {
        period: 900, periods: 2,
        ..alarm("ClusterUnavailable", Of::Figure("ClusterUnavailable"), "A cluster has not answered for half an hour")
    },
    alarm("JobErrors", Of::ErrorsOfJobs("Failed runs"), "A scheduled run failed"),
    alarm("WorkerErrors", Of::ErrorsOfWorkers("Failed batches"), "A worker crashed or ran out of time"),
    alarm("Throttles", Of::Metric("AWS/Lambda", "Throttles", None),
        "Lambda turned away invocations in this account and region: the account's concurrency, or a reserved one, is used up"),
    Alarm {
        periods: 2,
        ..alarm("DatabaseReadThrottles", Of::Tables("ReadThrottleEvents", "Throttled reads"), "DynamoDB turned away reads")
    },
    Alarm {
        periods: 2,
        ..alarm("DatabaseWriteThrottles", Of::Tables("WriteThrottleEvents", "Throttled writes"), "DynamoDB turned away writes")
    },
    dead_letters("StorageTasksDeadLetters", "StorageTasks", "A caller's question could not be put or answered five times"),
    dead_letters("CleanupDeadLetters", "Cleanup", "A clean-up step failed five times"),
    dead_letters("UsageShardsDeadLetters", "UsageShards", "The collection of an hour of a shard failed five times"),
    dead_letters("BillingDeadLetters", "Billing", "Billing work failed five times"),
    dead_letters("SchedulesDeadLetters", "Schedules", "Lambda did not take a scheduled run"),
    age("StorageTasksAge", "StorageTasks"),
    age("SlowTasksAge", "SlowTasks"),
    age("CleanupAge", "Cleanup"),
    age("UsageShardsAge", "UsageShards"),
    age("BillingAge", "Billing"),
    Alarm {
        statistic: "Maximum", period: 3600,
        ..alarm("MissedHours", Of::Figure("MissedHours"), "An hour of usage was not collected when the next was due")
    },
    Alarm {
        period: 3600, when: When::BelowOrSilent("1"), periods: 2,
        ..alarm("CollectionSilent", Of::Metric("AWS/Lambda", "Invocations", Some(("FunctionName", "!Ref CollectUsageFunction"))),
            "The collection of usage did not run for two hours")
    },
    alarm("LedgerDifferences", Of::Figure("LedgerDifferences"), "A balance is not what its postings add up to"),
];
