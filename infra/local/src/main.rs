//! `cargo run -p local`: Wharfage on this machine.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jiff::Timestamp;
use local::{Data, GivenCluster, Options, Stack};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Runs infra/template.yaml on this machine, in one process, with S3 clusters, DynamoDB, SQS and KMS of its own.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the API listens; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8780")]
    listen: SocketAddr,
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
    /// Keep nothing, whatever --data-dir says
    #[arg(long)]
    ephemeral: bool,
    /// When ready, print one line of JSON instead of text
    #[arg(long)]
    json: bool,
    /// Let time stand still from this instant on, to be moved by POST /_local/clock
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    clock: Option<Timestamp>,
    /// Build the functions' binaries and run each as processes of its own, as Lambda does
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

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version.
        Err(answer) if !answer.use_stderr() => answer.exit(),
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            eprintln!("local: {}", line.trim_start_matches("error: "));
            return ExitCode::from(2);
        }
    };
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
    let done = match arguments.command {
        Some(Command::Demo) => local::demo::run(&mut std::io::stdout())
            .await
            .map_err(Into::into),
        None => run(arguments).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("local: {error}");
            ExitCode::FAILURE
        }
    }
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
            eprintln!("local: building the functions' binaries");
            Some(local::processes::build("dev")?)
        }
        false => None,
    };
    let starting = Stack::start(Options {
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
    eprintln!("local: stopping");
    drop(stack);
    Ok(())
}

fn ready_json(stack: &Stack) -> String {
    let seeded = stack.seeded();
    json!({
        "api": stack.api(),
        "locations": stack.locations(),
        "api_keys": seeded.api_keys,
        "client_ids": seeded.client_ids,
    })
    .to_string()
}

fn ready_text(stack: &Stack) -> String {
    let api = stack.api();
    let seeded = stack.seeded();
    let mut lines = vec![
        String::new(),
        format!("Wharfage is at {api}"),
        String::new(),
    ];
    for (code, endpoint) in stack.locations() {
        lines.push(format!("  S3 in {code}         {endpoint}"));
    }
    lines.push(String::new());
    for (name, api_key) in &seeded.api_keys {
        let client = match seeded.client_ids.get(name) {
            Some(client_id) => format!("client {client_id}"),
            None => "an administrator".into(),
        };
        lines.push(format!("  API key {name:<9} {api_key}  {client}"));
    }
    let api_key = seeded.api_key("client");
    lines.push(format!(
        r#"
Try next:

  TOKEN=$(curl -s {api}/auth.php -d action=login -d key={api_key} | sed 's/.*"token":"\([^"]*\)".*/\1/')
  curl -s {api}/s3.php -d action=list_plans -d token=$TOKEN
  curl -s {api}/s3.php -d action=create_order -d plan_id=2 -d bucket_name=my-first-bucket -d token=$TOKEN
  curl -s {api}/s3.php -d action=show_key -d s3uid=<s3uid of the answer> -d s3_key=secret_key -d token=$TOKEN
  curl -s {api}/_local/clock -H content-type:application/json -d '{{"advance":"P1M"}}'

Ctrl-C stops it."#
    ));
    lines.join("\n")
}
