//! `cargo run -p local`: Wharfage on this machine.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use jiff::Timestamp;
use local::{Data, GivenCluster, Listen, Options, Stack};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use wharfage::clock::Clock;

/// How long what is under way may take to end when the runner is stopped.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Runs infra/template.yaml on this machine, in one process, with S3 clusters, DynamoDB, SQS and KMS of its own.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the API listens, and the S3 clusters at the ports after it; port 0 takes any free port, localhost is both 127.0.0.1 and [::1]
    #[arg(long, value_name = "ADDRESS", default_value = "localhost:8780")]
    listen: Listen,
    /// Where data is kept over restarts
    #[arg(long, value_name = "DIRECTORY", default_value = ".wharfage")]
    data_dir: PathBuf,
    /// A cluster that runs elsewhere, behind a location; can be repeated. It is administered with the credentials in the environment
    /// variables WHARFAGE_<CODE>_ACCESS_KEY and WHARFAGE_<CODE>_SECRET_KEY (rgw) or WHARFAGE_<CODE>_TOKEN (garage), with _ for - in CODE.
    /// Without S3_URL, S3 is at ADMIN_URL; REGION is that of signatures
    #[arg(
        long = "cluster",
        value_name = "CODE=PROVIDER:ADMIN_URL[,S3_URL[,REGION]]",
        value_parser = cluster
    )]
    clusters: Vec<GivenCluster>,
    /// Let the cluster of this location be administered over plain http, where whoever is on the way reads secret keys; can be repeated
    #[arg(long, value_name = "CODE")]
    plain_http: Vec<String>,
    /// Keep nothing, whatever --data-dir says
    #[arg(long)]
    ephemeral: bool,
    /// When ready, print one line of JSON instead of text
    #[arg(long)]
    json: bool,
    /// Let time stand still from this instant on, to be moved by POST /_local/clock
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    clock: Option<Timestamp>,
    /// Build the functions' binary and run each function as processes of its own, as Lambda does
    #[arg(long)]
    processes: bool,
    /// Write the functions' environment to this file, for a function that runs outside, as under `cargo lambda watch`
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Tells the life of an account, on a stack of its own that keeps nothing and a clock that is moved
    Demo,
}

#[allow(
    clippy::disallowed_methods,
    reason = "credentials do not belong on a command line"
)]
fn cluster(text: &str) -> Result<GivenCluster, String> {
    GivenCluster::parse(text, |name| std::env::var(name).ok())
}

fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .map_err(|_| "expected an instant such as 2026-01-01T00:00:00Z".into())
}

fn main() -> ExitCode {
    let mut arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version.
        Err(answer) if !answer.use_stderr() => answer.exit(),
        Err(error) => {
            eprintln!("local: {}", problem(&error));
            return ExitCode::from(2);
        }
    };
    if let Err(problem) =
        GivenCluster::allow_plain_http(&mut arguments.clusters, &arguments.plain_http)
    {
        eprintln!("local: {problem}");
        return ExitCode::from(2);
    }
    let mut filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .from_env_lossy();
    // What the services refuse is their caller's to see: a wrong key, a condition that does not hold.
    if let Ok(quiet) = "s3s::ops=off".parse() {
        filter = filter.add_directive(quiet);
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let done = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| {
            let done = runtime.block_on(async {
                match arguments.command {
                    Some(Command::Demo) => local::demo::run().await.map_err(Into::into),
                    None => run(arguments).await,
                }
            });
            // What does not end by itself does not keep the process.
            runtime.shutdown_timeout(Duration::from_secs(1));
            done
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("local: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is wrong with the command line, and the nearest thing that would be right.
fn problem(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let tips = lines.filter_map(|line| line.trim_start().strip_prefix("tip: "));
    std::iter::once(first.trim_start_matches("error: "))
        .chain(tips)
        .collect::<Vec<&str>>()
        .join("; ")
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let data = if arguments.ephemeral {
        Data::Ephemeral
    } else {
        Data::Dir(arguments.data_dir)
    };
    let processes = match arguments.processes {
        true => {
            eprintln!("local: building the functions' binary");
            Some(local::processes::build("dev")?)
        }
        false => None,
    };
    if arguments.listen.is_open() {
        eprintln!(
            "local: warning: {} can be reached by others than this machine: everything is sent in the clear, \
             API keys and tokens too",
            arguments.listen.address()
        );
    }
    let starting = Stack::start(Options {
        files: open_files(),
        processes,
        listen: arguments.listen,
        data,
        clusters: arguments.clusters,
        clock: arguments.clock,
        background: true,
        show_event: |event| eprintln!("local: {}", local::events::line(event)),
        progress: |line| eprintln!("local: {line}"),
        ..Options::default()
    });
    let stack = tokio::select! {
        stack = starting => stack?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    if let Some(file) = &arguments.env_file {
        stack.write_environment(file)?;
    }
    let text = if arguments.json {
        ready_json(&stack)
    } else {
        ready_text(&stack)
    };
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()?;
    drop(stdout);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    match stack.requests_under_way() {
        0 => eprintln!("local: stopping"),
        requests => eprintln!(
            "local: stopping when {requests} requests have ended, {} s at most; once more stops at once",
            STOP_WITHIN.as_secs()
        ),
    }
    tokio::select! {
        () = stack.stop() => {}
        () = tokio::time::sleep(STOP_WITHIN) => eprintln!("local: what had not ended by now was stopped"),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// How many files this process may have open, once it has asked for as many as it may get.
fn open_files() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX)
        .or_else(|_| rlimit::Resource::NOFILE.get_soft())
        // What every system gives.
        .unwrap_or(1024)
}

fn ready_json(stack: &Stack) -> String {
    let seeded = stack.seeded();
    json!({
        "api": stack.api(),
        "locations": stack.locations(),
        "api_keys": seeded.api_keys,
        "client_ids": seeded.client_ids,
        "clock": local::clock_told(stack.clock()),
    })
    .to_string()
}

/// What to go on with, as lines for a shell where that helps. README.md goes on from them.
fn ready_text(stack: &Stack) -> String {
    let api = stack.api();
    let seeded = stack.seeded();
    let default = &stack.context().rules.default_location;
    let (defaults, others): (Vec<_>, Vec<_>) = stack
        .locations()
        .iter()
        .partition(|(code, _)| *code == default);
    let mut lines = vec![
        String::new(),
        format!("Wharfage is at {api}. It is {:.0}.", stack.clock().now()),
        String::new(),
    ];
    for (code, endpoint) in defaults.iter().chain(&others) {
        let mark = if *code == default {
            ", the default"
        } else {
            ""
        };
        lines.push(format!(
            "  S3 in {:<16} {endpoint}",
            format!("{code}{mark}")
        ));
    }
    lines.push("\nIn another terminal, go on as README.md does, with these lines first:\n".into());
    let s3 = defaults.first().map_or("", |(_, endpoint)| endpoint);
    lines.push(format!("  export API={api} S3={s3}"));
    for (name, api_key) in &seeded.api_keys {
        let client = match seeded.client_ids.get(name) {
            Some(client_id) => format!("client {client_id}"),
            None => "an administrator".into(),
        };
        let variable = format!("{}_KEY={api_key}", name.to_uppercase());
        lines.push(format!("  export {variable:<45} # {client}"));
    }
    lines.push("\nCtrl-C stops it.".into());
    lines.join("\n")
}
