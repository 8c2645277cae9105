//! Each function as separate processes, as deployed: cold-started when no instance is idle, given one request at a time, kept warm, and
//! killed on timeout.

mod build;
mod instance;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

pub use self::build::build;
use self::instance::Instance;
pub(crate) use self::instance::new_trace;
use crate::invoke::Crash;

/// Instances of one function at once; further invocations wait for one of them.
const INSTANCES_MAX: usize = 32;

/// The processes of a stack's functions. They are killed when it is dropped.
pub(crate) struct Fleet {
    binary: PathBuf,
    /// Settings of single functions, by name.
    settings: BTreeMap<String, FunctionSettings>,
    environment: BTreeMap<String, String>,
    logs: PathBuf,
    functions: Mutex<BTreeMap<&'static str, Arc<Pool>>>,
}

/// The settings of one function, beside those of all.
pub(crate) struct FunctionSettings {
    /// Its memory. Nothing here keeps it to that.
    pub memory_mb: u64,
    /// What its environment has beside that of all.
    pub environment: BTreeMap<String, String>,
}

/// The instances of one function.
struct Pool {
    permits: Semaphore,
    idle: Mutex<Vec<Instance>>,
    /// The process ids of those that are at work.
    busy: Mutex<Vec<u32>>,
}

impl Fleet {
    /// A fleet without processes yet. Each gets `environment`, its function's own and what Lambda adds to it; what it prints goes to a
    /// file of its function in `logs`.
    pub(crate) fn new(
        binary: PathBuf,
        settings: BTreeMap<String, FunctionSettings>,
        environment: BTreeMap<String, String>,
        logs: &Path,
    ) -> Fleet {
        Fleet {
            binary,
            settings,
            environment,
            logs: logs.to_owned(),
            functions: Mutex::default(),
        }
    }

    /// Invokes a function with an event, on an idle instance or a new one, and returns what it answers.
    ///
    /// # Errors
    /// When it reports an error, ends, or takes too long. An instance that did the latter two is gone.
    pub(crate) async fn invoke(
        &self,
        function: &'static str,
        event: Bytes,
        request_id: &str,
        trace: &str,
        timeout: Duration,
    ) -> Result<Bytes, Crash> {
        let pool = self.pool(function);
        let Ok(_permit) = pool.permits.acquire().await else {
            return Err(Crash::Stopped);
        };
        // One may have ended while it was idle: Lambda would not send it anything either.
        let idle = lock(&pool.idle).pop();
        let mut instance = match idle.and_then(Instance::if_alive) {
            Some(instance) => instance,
            None => self.start(function).await?,
        };
        let pid = instance.pid();
        lock(&pool.busy).push(pid);
        let ended = instance.invoke(event, request_id, trace, timeout).await;
        lock(&pool.busy).retain(|busy| *busy != pid);
        if matches!(ended, Ok(_) | Err(Crash::Failed(_))) {
            lock(&pool.idle).push(instance);
        }
        ended
    }

    /// The process ids of a function's instances that are at work.
    pub(crate) fn busy(&self, function: &str) -> Vec<u32> {
        let functions = lock(&self.functions);
        functions
            .get(function)
            .map(|pool| lock(&pool.busy).clone())
            .unwrap_or_default()
    }

    /// The process ids of a function's instances that are kept for the next request.
    pub(crate) fn idle(&self, function: &str) -> Vec<u32> {
        let functions = lock(&self.functions);
        functions
            .get(function)
            .map(|pool| lock(&pool.idle).iter().map(Instance::pid).collect())
            .unwrap_or_default()
    }

    /// What a function's processes have printed.
    pub(crate) fn log(&self, function: &str) -> String {
        std::fs::read_to_string(instance::log_file(&self.logs, function)).unwrap_or_default()
    }

    fn pool(&self, function: &'static str) -> Arc<Pool> {
        let mut functions = lock(&self.functions);
        let pool = functions.entry(function).or_insert_with(|| {
            Arc::new(Pool {
                permits: Semaphore::new(INSTANCES_MAX),
                idle: Mutex::default(),
                busy: Mutex::default(),
            })
        });
        Arc::clone(pool)
    }

    async fn start(&self, function: &'static str) -> Result<Instance, Crash> {
        let settings = self
            .settings
            .get(function)
            .ok_or_else(|| Crash::Init(format!("the template has no function {function}")))?;
        let mut environment = self.environment.clone();
        environment.extend(settings.environment.clone());
        let binary = &self.binary;
        Instance::start(
            function,
            binary,
            settings.memory_mb,
            &environment,
            &self.logs,
        )
        .await
        .map_err(|error| Crash::Init(format!("cannot start {}: {error}", binary.display())))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
