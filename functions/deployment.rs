//! How functions are deployed: where one differs from the defaults in `infra/template.yaml`. The rows are in THE list.

/// A function's row in the list. What it may do stands in `tests/it/permissions.txt`.
#[derive(Debug, Clone, Copy)]
pub struct Deployment {
    /// The function.
    pub name: &'static str,
    /// What it does, as its doc comment says it.
    pub docs: &'static [&'static str],
    /// What starts it.
    pub trigger: Trigger,
    /// How long it may take, if not as long as all others.
    pub timeout_seconds: Option<u32>,
    /// Its memory, if it is not that of all others.
    pub memory_mb: Option<u32>,
    /// What its environment has beside that of all.
    pub reads: &'static [Setting],
    /// The condition of the template under which it is there.
    pub condition: Option<&'static str>,
}

impl Deployment {
    /// What it does, in short, for whoever looks at the stack.
    #[must_use]
    pub fn description(&self) -> String {
        wharfage::http::first_paragraph(self.docs)
    }
}

/// What starts a function.
#[derive(Debug, Clone, Copy)]
pub enum Trigger {
    /// Routes of the HTTP API, by their paths; [`ANY_OTHER`] is one too.
    Routes(&'static [&'static str]),
    /// Queues.
    Queues(&'static [Queue]),
    /// A schedule, as EventBridge Scheduler writes it.
    Schedule(&'static str),
    /// Nothing but an operator.
    ByHand,
}

/// Whatever no other route takes.
pub const ANY_OTHER: &str = "$default";

/// A queue that starts a function.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// What the template calls it among the function's events. With another name it would be another mapping, beside the one there is.
    pub event: &'static str,
    /// Its logical id, less `Queue`; the parameter `…Concurrency` says how many batches are worked on at a time.
    pub name: &'static str,
    /// Messages in a batch, at most.
    pub batch: u32,
}

/// Something that few functions are told, by an environment variable.
#[derive(Debug)]
pub struct Setting {
    /// The variable.
    pub variable: &'static str,
    /// The parameter of the template that it has its value from.
    pub parameter: &'static str,
    /// The document that keeps it, as a version's description calls it: `orders` is `OrderSettings`.
    pub kept_in: (&'static str, &'static str),
}

/// Whether orders without a bucket name get one.
pub(crate) const GENERATE_BUCKET_NAMES: Setting = Setting {
    variable: "GENERATE_BUCKET_NAMES",
    parameter: "GenerateBucketNames",
    kept_in: ("orders", "OrderSettings"),
};

/// Whether API keys are taken in addresses.
pub(crate) const ALLOW_LOGIN_BY_GET: Setting = Setting {
    variable: "ALLOW_LOGIN_BY_GET",
    parameter: "AllowLoginByGet",
    kept_in: ("login", "LoginSettings"),
};

/// What is said of most functions.
pub(crate) const AS_MOST: Deployment = Deployment {
    name: "",
    docs: &[],
    trigger: Trigger::ByHand,
    timeout_seconds: None,
    memory_mb: None,
    reads: &[],
    condition: None,
};
