//! `cargo bench -p tests --bench starts`: what the functions take to start and to answer, as processes of their own under a Runtime API,
//! beside a function that does nothing. Their calls go over TLS to the embedded services. `docs/performance.md`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::{get, post};
use clap::Parser;
use http::StatusCode;
use local::{Options, Stack};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tests::contract::{NO_S3UID, NO_TOKEN};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use wharfage::runtime::Entry;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const EMPTY: &str = "empty_function";
/// How often the empty function's time a function may take to start.
const RATIO_AT_MOST: f64 = 1.5;
/// A process that is silent for longer is stuck.
const PATIENCE: Duration = Duration::from_secs(20);
/// As many roots as AWS is trusted by.
const ROOTS: usize = 5;

/// What the actions want to have before they look for the session.
const WELL_FORMED: &str = "id=1&plan_id=1&invoice_id=1&bucket_name=my-bucket&filename=a&s3_key=access_key&amount=1&reference=a\
    &email=a@example.com&currency=EUR&name=a&quota=1&monthly_eur=1";

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Starts functions' processes and prints what it took.
#[derive(Parser)]
struct Arguments {
    /// The functions to start; otherwise all
    functions: Vec<String>,
    /// The functions' binary
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/lambda/wharfage/bootstrap"
    )]
    binary: PathBuf,
    /// The function that does nothing
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/release/examples/empty_function"
    )]
    empty: PathBuf,
    /// Starts of each
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    starts: u32,
    /// What `cargo bench` says
    #[arg(long, hide = true)]
    bench: bool,
}

/// A function, and what it is called with.
struct Subject {
    name: &'static str,
    binary: PathBuf,
    event: Bytes,
    called_with: &'static str,
}

impl Subject {
    fn new(
        name: &'static str,
        binary: PathBuf,
        (event, called_with): (Value, &'static str),
    ) -> Subject {
        Subject {
            name,
            binary,
            event: event.to_string().into(),
            called_with,
        }
    }
}

/// One life of a process.
struct Life {
    start_ms: f64,
    /// On the processor, until it asked for its first event.
    cpu_ms: f64,
    first_call_ms: f64,
    warm_call_ms: f64,
    peak_kib: f64,
}

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Outcome<()> {
    let subjects = subjects(&arguments)?;
    let stack = Stack::start(Options::default()).await?;
    let directory = tempfile::tempdir()?;
    let environment = over_tls(stack.environment(), directory.path()).await?;
    let mut lives: Vec<Vec<Life>> = subjects.iter().map(|_| Vec::new()).collect();
    // In turn, so that whatever else the machine does befalls all alike; the first round only brings the binary into memory.
    for round in 0..=arguments.starts {
        for (subject, lives) in subjects.iter().zip(&mut lives) {
            let life = live(subject, &environment).await;
            let life = life.map_err(|problem| format!("{}: {problem}", subject.name))?;
            if round > 0 {
                lives.push(life);
            }
        }
    }
    print(&subjects, &lives)
}

/// The empty function, then those that were asked for.
fn subjects(arguments: &Arguments) -> Outcome<Vec<Subject>> {
    let root = Path::new(ROOT);
    let asked_for = &arguments.functions;
    let is_known = |name: &&String| functions::FUNCTIONS.iter().any(|own| own.name == **name);
    if let Some(name) = asked_for.iter().find(|name| !is_known(name)) {
        return Err(format!("there is no function {name}").into());
    }
    let binary = root.join(&arguments.binary);
    if !binary.is_file() {
        return Err(format!("{} is not there", arguments.binary.display()).into());
    }
    let anything = (request("/", ""), "anything");
    let mut subjects = vec![Subject::new(EMPTY, root.join(&arguments.empty), anything)];
    for function in functions::FUNCTIONS {
        if asked_for.is_empty() || asked_for.iter().any(|name| name == function.name) {
            let event = event(function.name, function.entry);
            subjects.push(Subject::new(function.name, binary.clone(), event));
        }
    }
    Ok(subjects)
}

/// An event that ends in a refusal or in nothing to do, with what it is in words. What is refused was looked up in DynamoDB.
fn event(function: &str, entry: Entry) -> (Value, &'static str) {
    match entry {
        Entry::Http(_) if function == "docs" => {
            let mut event = request("/docs", "");
            event["requestContext"]["http"]["method"] = "GET".into();
            (event, "the page")
        }
        Entry::Http(_) => {
            let (path, action) = match function {
                "auth_php" => ("/auth.php".into(), "login"),
                "eq_callback_php" => ("/eq_callback.php".into(), "check"),
                "s3_php" => ("/s3.php".into(), "get_users"),
                own => (format!("/s3/{own}"), own),
            };
            let own = functions::ACTIONS.iter().find(|own| own.name == action);
            let takes = |name: &str| match own {
                Some(own) => own.takes.has(name),
                None => ["action", "key"].contains(&name),
            };
            let all = format!(
                "action={action}&token={NO_TOKEN}&key={NO_TOKEN}&api_key_id={NO_TOKEN}{NO_TOKEN}&s3uid={NO_S3UID}&{WELL_FORMED}"
            );
            let taken = all.split('&').filter(|pair| {
                let name = pair.split(['=', '[']).next();
                name.is_some_and(takes)
            });
            let form = taken.collect::<Vec<&str>>().join("&");
            (request(&path, &form), "an unknown token or key")
        }
        Entry::Queue(_) => {
            let (body, called_with) = match function {
                "billing" => (
                    json!({ "work": "end", "s3uid": NO_S3UID }),
                    "an account that is not there",
                ),
                "usage_shards" => (
                    json!({ "location": "NL", "hour": "2026-01-01T00:00:00Z", "shard": 9_999 }),
                    "a shard without accounts",
                ),
                _ => (
                    json!({ "task_id": "remove_bucket:nobody", "step": 0 }),
                    "a task that is not there",
                ),
            };
            let record = json!({ "messageId": "m-1", "body": body.to_string() });
            (json!({ "Records": [record] }), called_with)
        }
        Entry::Schedule(_) => (json!({}), "its schedule, without accounts"),
    }
}

/// A form that is posted, as API Gateway hands it over.
fn request(path: &str, form: &str) -> Value {
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": { "content-type": "application/x-www-form-urlencoded", "host": "localhost" },
        "requestContext": {
            "http": { "method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1" },
            "requestId": "bench",
            "stage": "$default",
        },
        "body": form,
        "isBase64Encoded": false,
    })
}

/// The environment with a TLS front before each of AWS's services, and a bundle with the roots they are trusted by.
async fn over_tls(
    environment: &BTreeMap<String, String>,
    directory: &Path,
) -> Outcome<BTreeMap<String, String>> {
    let authority = |number: usize| -> Outcome<CertifiedIssuer<'static, KeyPair>> {
        let mut params = CertificateParams::default();
        let name = format!("Bench Root CA {number}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
    };
    let issuer = authority(1)?;
    let mut bundle = issuer.pem();
    for number in 2..=ROOTS {
        bundle += &authority(number)?.pem();
    }
    let file = directory.join("roots.pem");
    fs::write(&file, bundle)?;

    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["localhost".into()])?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let mut environment = environment.clone();
    for (name, endpoint) in &mut environment {
        if let Some(service) = name.strip_prefix("AWS_ENDPOINT_URL_") {
            let upstream = endpoint.strip_prefix("http://");
            let upstream = upstream.ok_or_else(|| format!("{service} is at {endpoint}"))?;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let upstream = upstream.trim_end_matches('/').to_owned();
            *endpoint = format!("https://localhost:{}", listener.local_addr()?.port());
            tokio::spawn(front(listener, acceptor.clone(), upstream));
        }
    }
    environment.insert("AWS_CA_BUNDLE".into(), file.display().to_string());
    Ok(environment)
}

/// Speaks TLS for a service that does not.
async fn front(listener: TcpListener, acceptor: TlsAcceptor, upstream: String) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let mut outside = acceptor.accept(stream).await?;
            let mut inside = TcpStream::connect(upstream).await?;
            inside.set_nodelay(true)?;
            // A process that is killed does not say goodbye.
            copy_bidirectional(&mut outside, &mut inside).await
        });
    }
}

/// What a process did, when, and what it sent with it.
struct Step {
    what: What,
    at: Instant,
    body: Bytes,
}

#[derive(Debug, PartialEq)]
enum What {
    Asks,
    IsHandedAnEvent,
    Answers,
    Fails,
}

type Head = [(&'static str, &'static str); 3];
/// Of every event; its deadline is far away.
const HEAD: Head = [
    ("lambda-runtime-aws-request-id", "bench"),
    ("lambda-runtime-deadline-ms", "4102444800000"),
    (
        "lambda-runtime-invoked-function-arn",
        "arn:aws:lambda:eu-west-1:123456789012:function:bench",
    ),
];

/// The Runtime API of one process, version 2018-06-01.
struct Api {
    events: Mutex<mpsc::UnboundedReceiver<Bytes>>,
    steps: mpsc::UnboundedSender<Step>,
}

impl Api {
    fn noted(&self, what: What, body: Bytes) -> StatusCode {
        let at = Instant::now();
        match self.steps.send(Step { what, at, body }) {
            Ok(()) => StatusCode::ACCEPTED,
            Err(_) => StatusCode::GONE,
        }
    }

    async fn next(State(api): State<Arc<Api>>) -> Result<(Head, Bytes), StatusCode> {
        api.noted(What::Asks, Bytes::new());
        let event = api.events.lock().await.recv().await;
        let event = event.ok_or(StatusCode::GONE)?;
        api.noted(What::IsHandedAnEvent, Bytes::new());
        Ok((HEAD, event))
    }

    async fn answer(State(api): State<Arc<Api>>, body: Bytes) -> StatusCode {
        api.noted(What::Answers, body)
    }

    async fn failure(State(api): State<Arc<Api>>, body: Bytes) -> StatusCode {
        api.noted(What::Fails, body)
    }
}

/// Starts a process, calls it twice, and ends it.
async fn live(subject: &Subject, environment: &BTreeMap<String, String>) -> Outcome<Life> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (events, receiver) = mpsc::unbounded_channel();
    let (sender, mut steps) = mpsc::unbounded_channel();
    let base = "/2018-06-01/runtime/invocation";
    let router = Router::new()
        .route(&format!("{base}/next"), get(Api::next))
        .route(&format!("{base}/bench/response"), post(Api::answer))
        .route(&format!("{base}/bench/error"), post(Api::failure))
        .route("/2018-06-01/runtime/init/error", post(Api::failure))
        .with_state(Arc::new(Api {
            events: Mutex::new(receiver),
            steps: sender,
        }));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut command = Command::new(&subject.binary);
    command
        .env_clear()
        .envs(environment)
        .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", subject.name)
        .env("_HANDLER", subject.name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    let began = Instant::now();
    let mut child = command
        .spawn()
        .map_err(|problem| format!("{}: {problem}", subject.binary.display()))?;
    let process = PathBuf::from(format!("/proc/{}", child.id().ok_or("it has ended")?));

    let asked = step(&mut steps, &mut child, What::Asks).await?;
    // Waiting for its first event, it is one thread that does nothing.
    let schedule = fs::read_to_string(process.join("schedstat"))?;
    let cpu_ns: f64 = schedule.split(' ').next().ok_or("no figures")?.parse()?;
    let mut calls_ms = [0.0; 2];
    for call_ms in &mut calls_ms {
        events.send(subject.event.clone())?;
        let handed = step(&mut steps, &mut child, What::IsHandedAnEvent).await?;
        let answered = step(&mut steps, &mut child, What::Answers).await?;
        check(&answered.body)?;
        *call_ms = ms(answered.at - handed.at);
        step(&mut steps, &mut child, What::Asks).await?;
    }
    let status = fs::read_to_string(process.join("status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|rest| rest.trim().strip_suffix(" kB"));
    child.kill().await?;
    server.abort();
    Ok(Life {
        start_ms: ms(asked.at - began),
        cpu_ms: cpu_ns / 1e6,
        first_call_ms: calls_ms[0],
        warm_call_ms: calls_ms[1],
        peak_kib: peak.ok_or("no peak")?.parse()?,
    })
}

/// The next thing the process does, which has to be this.
async fn step(
    steps: &mut mpsc::UnboundedReceiver<Step>,
    child: &mut Child,
    expected: What,
) -> Outcome<Step> {
    let step = tokio::select! {
        step = steps.recv() => step.ok_or("its Runtime API has ended")?,
        status = child.wait() => return Err(format!("ended with {}", status?).into()),
        () = tokio::time::sleep(PATIENCE) => return Err(format!("silent for {PATIENCE:?}").into()),
    };
    if step.what != expected {
        let body = String::from_utf8_lossy(&step.body);
        return Err(format!("{:?} in place of {expected:?}: {body}", step.what).into());
    }
    Ok(step)
}

/// Who or what is not known is an answer; what is malformed, a fault or a message that is to come again is not.
fn check(answer: &Bytes) -> Outcome<()> {
    let value: Value = serde_json::from_slice(answer)?;
    let status = value["statusCode"].as_u64().unwrap_or(200);
    let failures = value["batchItemFailures"].as_array().map_or(0, Vec::len);
    match [200, 401, 404].contains(&status) && failures == 0 {
        true => Ok(()),
        false => Err(format!("answered {value}").into()),
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(lives: &[Life], of: fn(&Life) -> f64) -> f64 {
    let mut values: Vec<f64> = lives.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

fn print(subjects: &[Subject], lives: &[Vec<Life>]) -> Outcome<()> {
    let ratio = |own: &[Life], of| median(own, of) / median(&lives[0], of);
    let size_mb = |subject: &Subject| -> Outcome<f64> {
        Ok(fs::metadata(&subject.binary)?.len() as f64 / 1e6)
    };
    println!(
        "\nMedians of {} starts. CPU is what was used until the first `next`; ratios are to `{EMPTY}`. That has {:.1} MB; the functions' \
         binary has {:.1} MB.\n",
        lives[0].len(),
        size_mb(&subjects[0])?,
        size_mb(&subjects[1])?,
    );
    println!(
        "| function | start → `next`, ms | ratio | CPU, ms | ratio | first call, ms | warm call, ms | peak, MB | called with |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut over = Vec::new();
    for (subject, own) in subjects.iter().zip(lives) {
        let start = ratio(own, |life| life.start_ms);
        let cpu = ratio(own, |life| life.cpu_ms);
        println!(
            "| `{}` | {:.1} | {start:.2} | {:.1} | {cpu:.2} | {:.1} | {:.2} | {:.1} | {} |",
            subject.name,
            median(own, |life| life.start_ms),
            median(own, |life| life.cpu_ms),
            median(own, |life| life.first_call_ms),
            median(own, |life| life.warm_call_ms),
            median(own, |life| life.peak_kib) * 1_024.0 / 1e6,
            subject.called_with,
        );
        if start.max(cpu) > RATIO_AT_MOST {
            over.push(format!("`{}`", subject.name));
        }
    }
    match over.as_slice() {
        [] => println!("\nNone takes over {RATIO_AT_MOST} × the empty one to start."),
        over => println!(
            "\nOver {RATIO_AT_MOST} × the empty one, by either ratio: {}.",
            over.join(", ")
        ),
    }
    Ok(())
}
