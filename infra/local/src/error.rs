//! Why the local runner cannot start, or cannot do what it is asked.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use wharfage::config::ConfigError;
use wharfage::error::Fault;

/// What went wrong, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template has something that this runner cannot run as it stands there.
    #[error("infra/template.yaml: {path}: {problem}")]
    Template {
        /// Where in the template.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The environment that the template declares does not satisfy the functions.
    #[error("infra/template.yaml: Globals.Function.Environment: {0}")]
    Config(#[from] ConfigError),
    /// The API's address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file or a server of the runner's own failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Another local runner has the data directory.
    #[error("{} is in use by another local runner: stop it, or name another --data-dir", .0.display())]
    Locked(PathBuf),
    /// The data directory holds something else than this version expects.
    #[error("{path}: {problem}", path = .path.display())]
    Data {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// One of the embedded services refused a call.
    #[error("{what}: {problem}")]
    Service {
        /// What was being done.
        what: String,
        /// What the service answered.
        problem: String,
    },
    /// The first data could not be written.
    #[error("cannot write the first plans and clients: {0}")]
    Seed(#[from] Fault),
    /// Time never goes backwards.
    #[error("{to} is in the past: it is {now} here")]
    Past {
        /// The instant asked for.
        to: Timestamp,
        /// The runner's own time.
        now: Timestamp,
    },
    /// Too far at once.
    #[error("cannot move to {to}: at most {limit_days} days at once")]
    TooFar {
        /// The instant asked for.
        to: String,
        /// How far one call may go.
        limit_days: i64,
    },
    /// The stack is being stopped, so time was not moved all the way.
    #[error("stopped on the way to {to}: it is {now}, and the local runner is being stopped")]
    Stopping {
        /// The instant asked for.
        to: Timestamp,
        /// How far time came.
        now: Timestamp,
    },
    /// Clusters that run elsewhere count by their own clock, so the stack's time has to be the machine's.
    #[error(
        "{what}: {} counts traffic by a clock of its own, so what is used after a move would be metered as nothing and never charged; \
         time can be moved where every location has the runner's own cluster",
        .locations.join(", ")
    )]
    RealClusters {
        /// What is not done.
        what: String,
        /// The locations of those clusters.
        locations: Vec<String>,
    },
    /// No function of this name is started by a schedule.
    #[error("no schedule starts {job}: there are {}", .known.join(", "))]
    UnknownJob {
        /// The name asked for.
        job: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A function failed, panicked, or ran out of time.
    #[error("{function}: {problem}")]
    Failed {
        /// The function.
        function: String,
        /// How it ended.
        problem: String,
    },
    /// Queue messages remain that nothing takes.
    #[error("{left} messages are still in {queue} after {waited_seconds} s")]
    NotDrained {
        /// The queue.
        queue: String,
        /// How many messages are left.
        left: usize,
        /// How long nothing happened.
        waited_seconds: u64,
    },
}

impl Error {
    pub(crate) fn template(path: &str, problem: impl Display) -> Error {
        Error::Template {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    pub(crate) fn service(what: impl Into<String>, problem: impl Display) -> Error {
        Error::Service {
            what: what.into(),
            problem: problem.to_string(),
        }
    }
}
