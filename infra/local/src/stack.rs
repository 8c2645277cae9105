//! A running stack: the embedded services, and the template's functions over them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use jiff::{Span, Timestamp};
use lambda_http::{Body, Request, Response};
use serde_json::Value;
use wharfage::clock::Clock;
use wharfage::config::Config;
use wharfage::connectors::Connectors;
use wharfage::context::Context;
use wharfage::random::Random;

use crate::client;
use crate::clock::VirtualClock;
use crate::clusters::{self, LocalCluster};
use crate::data::{self, Place, write_private};
use crate::ending::Tasks;
use crate::engine::{Advanced, Engine};
use crate::error::Error;
use crate::events::Events;
use crate::front::Front;
use crate::gateway::Gateway;
use crate::invoke::LifeHolder;
use crate::options::Options;
use crate::processes::{Fleet, FunctionSettings};
use crate::queues::{self, Drained, Queues};
use crate::runner::Runner;
use crate::seed::{self, Seeded};
use crate::template::{REGION, Template};
use crate::wiring::Wiring;
use crate::{ahead, buckets, tables};

/// A running stack, with servers of its own. Everything stops when it is dropped. It lives in the runtime it was started
/// in.
pub struct Stack {
    api: String,
    locations: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    seeded: Seeded,
    engine: Arc<Engine>,
    tasks: Tasks,
    clusters: BTreeMap<String, LocalCluster>,
    fleet: Option<Arc<Fleet>>,
    _life: LifeHolder,
    _dynamodb: Arc<embedded::dynamodb::Server>,
    events: Events,
    secrets: embedded::secretsmanager::SecretsManager,
    _sqs: Arc<embedded::sqs::Server>,
    _servers: [embedded::Server; 2],
    _s3: embedded::s3::Cluster,
    // The last to go: the servers' files are in it.
    _place: Place,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("api", &self.api)
            .field("locations", &self.locations)
            .finish_non_exhaustive()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.tasks.abort();
        if let Err(error) = self.engine.clock.save() {
            tracing::warn!(%error, "the time was not kept");
        }
    }
}

impl Stack {
    /// Starts a stack in the present tokio runtime.
    ///
    /// # Errors
    /// Says in one line what is in the way.
    pub async fn start(options: Options) -> Result<Stack, Error> {
        let progress = options.progress;
        let (listeners, address) = options.listen.bind().await?;
        let place = Place::open(&options.data, progress)?;
        // Known to this process, to those it starts, and to who can read the data directory; new at each start.
        let own_random = Random::from_os();
        let credentials = embedded::Credentials {
            access_key_id: own_random.access_key(),
            secret_access_key: own_random.secret_key(),
        };
        // Processes are told the time by this file.
        let clock_file = match options.processes {
            Some(_) => Some(place.directory().join("clock.json")),
            None => place.kept("clock.json"),
        };
        let clock = Arc::new(match clock_file.clone() {
            Some(file) => VirtualClock::kept(options.clock, file)?,
            None => VirtualClock::new(options.clock),
        });
        if options.clock.is_some_and(|start| start < clock.now()) {
            progress(&format!(
                "time goes on from {}, where it was left",
                clock.now()
            ));
        }

        ahead::check_start(&clock, &options.clusters)?;
        if let Some(notice) = ahead::notice(&clock) {
            progress(&notice);
        }

        progress("starting the S3 clusters");
        let random = options.random.unwrap_or_else(Random::from_os);
        let clusters = clusters::start(
            options.listen.address(),
            &place,
            &clock,
            &random,
            &options.clusters,
            progress,
        )?;
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let secrets = embedded::secretsmanager::start(any_port, &credentials)
            .map_err(Error::io("cannot start Secrets Manager"))?;
        let mut parameters = options.parameters;
        parameters
            .entry("Locations".into())
            .or_insert_with(|| clusters::locations_json(&clusters, &options.clusters, &secrets));
        let mut template = Template::read(options.template, &parameters)?;
        let settings = template
            .functions
            .iter()
            .map(|function| {
                let settings = FunctionSettings {
                    memory_mb: function.memory_mb,
                    environment: function.environment.clone(),
                };
                (function.handler.clone(), settings)
            })
            .collect();
        let wiring = Wiring::new(std::mem::take(&mut template.functions), options.functions)?;

        progress("starting DynamoDB, SQS, KMS, EventBridge and S3");
        let file = place.kept("dynamodb.sqlite");
        let dynamodb = embedded::dynamodb::start(any_port, &credentials, file, now(&clock))
            .map_err(Error::io("cannot start DynamoDB"))?;
        let dynamodb = Arc::new(dynamodb);
        let sqs =
            embedded::sqs::start(any_port, &credentials).map_err(Error::io("cannot start SQS"))?;
        let sqs = Arc::new(sqs);
        let kms = embedded::kms::start(any_port, &credentials, place.kept("kms.key"))
            .map_err(Error::io("cannot start KMS"))?;

        let events = Events::new(place.kept("events.jsonl").as_deref(), options.show_event)?;
        let eventbridge = embedded::eventbridge::start(any_port, &credentials, events.sink())
            .map_err(Error::io("cannot start EventBridge"))?;

        let s3 = buckets::start(&place, now(&clock), random.secret_key(), &credentials).await?;

        progress("making tables, queues and buckets");
        let plain_http = client::plain_http();
        let dynamodb_client = client::dynamodb(dynamodb.endpoint(), &credentials, &plain_http);
        let sqs_client = client::sqs(sqs.endpoint(), &credentials, &plain_http);
        let s3_client = client::s3(s3.endpoint(), &credentials, &plain_http);
        let ((), queue_urls, ()) = futures::future::try_join3(
            tables::create(&dynamodb_client, &template.tables),
            queues::create(&sqs_client, &template.queues),
            buckets::create(&s3_client, &template.buckets),
        )
        .await?;

        for (id, url) in &queue_urls {
            template.define(id, url);
        }
        let mut environment = template.environment()?;
        for (name, value) in [
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", credentials.access_key_id.as_str()),
            (
                "AWS_SECRET_ACCESS_KEY",
                credentials.secret_access_key.as_str(),
            ),
            ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.endpoint()),
            ("AWS_ENDPOINT_URL_SQS", sqs.endpoint()),
            ("AWS_ENDPOINT_URL_KMS", kms.endpoint()),
            ("AWS_ENDPOINT_URL_EVENTBRIDGE", eventbridge.endpoint()),
            ("AWS_ENDPOINT_URL_SECRETSMANAGER", secrets.endpoint()),
            ("AWS_ENDPOINT_URL_S3", s3.endpoint()),
        ] {
            environment.insert(name.into(), value.into());
        }
        let common_environment = environment.clone();
        environment.append(&mut template.own_environments);
        let config = Config::from_lookup(|name| environment.get(name).cloned())?;
        let product_clock: Arc<dyn Clock> = Arc::<VirtualClock>::clone(&clock);
        let connector = options
            .connector
            .unwrap_or_else(wharfage::connectors::loopback_connector);
        let context = Arc::new(Context::new(
            config,
            Arc::clone(&product_clock),
            random,
            Connectors::one(connector),
        ));

        let keys_file = place.kept("api-keys.json");
        let mut seeded = seed::keys(&context, keys_file.as_deref())?;
        if options.seed && seed::write(&context, &mut seeded, keys_file.as_deref()).await? {
            progress("wrote the first plans, clients and API keys");
        }

        if let Some(file) = place.kept(data::ENVIRONMENT) {
            write_environment(&environment, &file)?;
        }
        place.is_ready()?;

        let life = LifeHolder::new();
        let fleet = options.processes.map(|binary| {
            let mut environment = common_environment;
            if let Some(file) = &clock_file {
                environment.insert("CLOCK_FILE".into(), absolute(file));
            }
            if let Some(adjust) = options.adjust_environment {
                adjust(&mut environment);
            }
            let logs = place.directory().join("logs");
            Arc::new(Fleet::new(binary, settings, environment, &logs))
        });
        let runner = match &fleet {
            Some(fleet) => Runner::processes(Arc::clone(fleet), life.life()),
            None => Runner::here(Arc::clone(&context), life.life()),
        };
        let queues = Arc::new(Queues::new(
            sqs_client,
            Arc::downgrade(&sqs),
            runner.clone(),
            wiring.sources,
            &template.queues,
            &queue_urls,
        )?);
        let gateway = Gateway::new(wiring.routes, runner.clone(), product_clock);
        let engine = Arc::new(Engine::new(
            Arc::clone(&clock),
            context,
            gateway,
            queues,
            wiring.jobs,
            Arc::downgrade(&dynamodb),
            runner,
        ));
        let front = Front::new(
            Arc::clone(&engine),
            address,
            options.files,
            options.body_timeout,
        );
        let tasks = Tasks::start(front, listeners, &engine, options.background);
        Ok(Stack {
            api: format!("http://{}", reachable(address)),
            locations: engine
                .context
                .clusters
                .iter()
                .map(|cluster| &cluster.location)
                .map(|location| (location.code.clone(), location.s3_endpoint.clone()))
                .collect(),
            environment,
            seeded,
            engine,
            tasks,
            clusters,
            fleet,
            _life: life,
            _dynamodb: dynamodb,
            events,
            secrets,
            _sqs: sqs,
            _servers: [kms, eventbridge],
            _s3: s3,
            _place: place,
        })
    }

    /// The API's address, such as `http://127.0.0.1:8780`.
    #[must_use]
    pub fn api(&self) -> String {
        self.api.clone()
    }

    /// S3 endpoints by location.
    #[must_use]
    pub fn locations(&self) -> &BTreeMap<String, String> {
        &self.locations
    }

    /// The stack's own clusters by location.
    #[must_use]
    pub fn clusters(&self) -> &BTreeMap<String, LocalCluster> {
        &self.clusters
    }

    /// What the functions are given.
    #[must_use]
    pub fn context(&self) -> &Arc<Context> {
        &self.engine.context
    }

    /// Where the functions find the clusters' secrets.
    #[must_use]
    pub fn secrets(&self) -> &embedded::secretsmanager::SecretsManager {
        &self.secrets
    }

    /// The environment that the template gives the functions, single ones too, completed with this stack's endpoints.
    #[must_use]
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// Writes [`Stack::environment`] to a file that only its owner can read, as lines of `NAME='value'`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_environment(&self, file: &Path) -> Result<(), Error> {
        write_environment(&self.environment, file)
    }

    /// Who can log in.
    #[must_use]
    pub fn seeded(&self) -> &Seeded {
        &self.seeded
    }

    /// The latest events that the product sent, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.events.latest()
    }

    /// The process ids of a function's instances that are at work. None when functions run in this process.
    #[must_use]
    pub fn busy_processes(&self, function: &str) -> Vec<u32> {
        self.fleet
            .as_ref()
            .map(|fleet| fleet.busy(function))
            .unwrap_or_default()
    }

    /// The process ids of a function's instances that wait for their next request. None when functions run in this process.
    #[must_use]
    pub fn idle_processes(&self, function: &str) -> Vec<u32> {
        self.fleet
            .as_ref()
            .map(|fleet| fleet.idle(function))
            .unwrap_or_default()
    }

    /// What a function's processes have printed. Nothing when functions run in this process.
    #[must_use]
    pub fn log(&self, function: &str) -> String {
        self.fleet
            .as_ref()
            .map(|fleet| fleet.log(function))
            .unwrap_or_default()
    }

    /// The stack's time.
    #[must_use]
    pub fn clock(&self) -> &Arc<VirtualClock> {
        &self.engine.clock
    }

    /// Moves time to `to`: every schedule that falls due on the way runs at its instant, in order, and the queues are
    /// drained after each. A schedule that comes more than once an hour runs at most once in each hour of the jump.
    ///
    /// # Errors
    /// When `to` is in the past, or something other than a scheduled function fails.
    pub async fn advance_to(&self, to: Timestamp) -> Result<Advanced, Error> {
        self.engine.advance_to(to, &|_, _| {}).await
    }

    /// Moves time by a span, as [`Stack::advance_to`] does; months and days are calendar units in UTC.
    ///
    /// # Errors
    /// As for [`Stack::advance_to`].
    pub async fn advance(&self, span: Span) -> Result<Advanced, Error> {
        self.engine.advance(span, &|_, _| {}).await
    }

    /// Runs queue messages until the queues are empty. A message that fails is tried again at once, until its queue sets
    /// it aside.
    ///
    /// # Errors
    /// When SQS fails, or the queues do not become empty.
    pub async fn drain(&self) -> Result<Drained, Error> {
        self.engine.drain().await
    }

    /// Runs what a schedule starts, now, and returns its account of what it did.
    ///
    /// # Errors
    /// When no schedule starts `name`, or it fails.
    pub async fn run_job(&self, name: &str) -> Result<Value, Error> {
        self.engine.run_job(name).await
    }

    /// Requests to the API that are under way.
    #[must_use]
    pub fn requests_under_way(&self) -> usize {
        self.tasks.requests_under_way()
    }

    /// Stops it in order: what is under way is ended first, requests, then messages and schedules, then what clients do at the clusters.
    /// Nothing new is begun meanwhile. Dropping a stack stops it at once.
    pub async fn stop(mut self) {
        self.engine.stop();
        self.tasks.finish(&self.engine).await;
        let clusters = self.clusters.values().map(LocalCluster::finish);
        futures::future::join_all(clusters).await;
    }

    /// Sends a request through the HTTP API without TCP: its routes, limits and events are the same. It comes from
    /// 127.0.0.1, or from the [`crate::SourceIp`] among its extensions.
    pub async fn invoke_http(&self, request: Request) -> Response<Body> {
        self.engine.gateway.invoke(request).await
    }
}

fn write_environment(environment: &BTreeMap<String, String>, file: &Path) -> Result<(), Error> {
    let lines: String = environment
        .iter()
        .map(|(name, value)| format!("{name}='{value}'\n"))
        .collect();
    write_private(file, lines.as_bytes())
}

fn absolute(file: &Path) -> String {
    std::path::absolute(file)
        .unwrap_or_else(|_| file.to_owned())
        .display()
        .to_string()
}

fn now(clock: &Arc<VirtualClock>) -> embedded::Now {
    let clock = Arc::clone(clock);
    Arc::new(move || clock.now())
}

/// Nobody can connect to "any address"; whoever listens there is reached over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
}

#[cfg(test)]
mod tests;
