//! How a stack is to be started.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use jiff::Timestamp;
use wharfage::random::Random;
use wharfage::runtime::Function;

use crate::addresses::Listen;
use crate::clusters::GivenCluster;
use crate::data::Data;
use crate::template;

/// Changes an environment, given by variables' names.
pub type AdjustEnvironment = Box<dyn FnOnce(&mut BTreeMap<String, String>) + Send>;

/// How a stack is to be started. The default is for tests: everything on free ports, nothing kept, nothing by itself.
pub struct Options {
    /// Where the API listens. The S3 clusters take the ports after it where they can.
    pub listen: Listen,
    /// How many files this process may have open; what would take more waits its turn.
    pub files: u64,
    /// How long a request's body may take to come.
    pub body_timeout: Duration,
    /// Where data is kept.
    pub data: Data,
    /// Clusters that run elsewhere, in place of the stack's own or as further locations.
    pub clusters: Vec<GivenCluster>,
    /// Time stands still at this instant until it is moved. Otherwise it passes as everywhere.
    pub clock: Option<Timestamp>,
    /// Values for parameters of the template, in place of its defaults.
    pub parameters: BTreeMap<String, String>,
    /// The product's connector to AWS and the clusters, in place of a plain one.
    pub connector: Option<SharedHttpConnector>,
    /// Whether queues are polled and schedules run by themselves. Otherwise only when told.
    pub background: bool,
    /// The product's randomness, in place of the operating system's.
    pub random: Option<Random>,
    /// The functions' binary, for each to be run as processes of its own; otherwise they run in this process.
    pub processes: Option<PathBuf>,
    /// Changes the environment that the processes get: to lead their calls through a proxy, for example.
    pub adjust_environment: Option<AdjustEnvironment>,
    /// Whether plans, clients and keys are written at the first start.
    pub seed: bool,
    /// The template, in place of this workspace's.
    pub template: &'static str,
    /// The functions that the template can name.
    pub functions: &'static [Function],
    /// Shown every event the product sends.
    pub show_event: fn(&serde_json::Value),
    /// Told what is being done, line by line.
    pub progress: fn(&str),
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: Listen::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            files: u64::MAX,
            body_timeout: Duration::from_secs(30),
            data: Data::Ephemeral,
            clusters: Vec::new(),
            clock: None,
            parameters: BTreeMap::new(),
            connector: None,
            background: false,
            random: None,
            processes: None,
            adjust_environment: None,
            seed: true,
            template: template::TEXT,
            functions: functions::FUNCTIONS,
            show_event: |_| {},
            progress: |_| {},
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("listen", &self.listen)
            .field("data", &self.data)
            .field("clock", &self.clock)
            .field("background", &self.background)
            .finish_non_exhaustive()
    }
}
