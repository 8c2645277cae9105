//! `cargo run -p operator`: what those who run the business do by hand. `docs/operator.md` tells when.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use functions::rebuild::{Mended, RebuildError, Whose, rebuild};
use functions::replay::{ReplayError, Which, replay};
use jiff::Timestamp;
use jiff::civil::Date;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use wharfage::clock::{Clock, SystemClock};
use wharfage::config::Config;
use wharfage::connectors::Connectors;
use wharfage::context::Context;
use wharfage::domain::account::S3Uid;
use wharfage::random::Random;

/// Something differs.
const DIFFERS: u8 = 1;
/// The arguments, or the environment, cannot be used.
const BAD_ARGUMENTS: u8 = 2;
/// DynamoDB or S3 could not answer, so nothing is said of what differs.
const FAILED: u8 = 3;

/// Replays invoices and rebuilds totals from the usage segments. It reads the environment of the functions.
///
/// Exit status: 0 when all is equal or was mended, 1 when something differs, 2 for bad arguments, 3 when DynamoDB or S3 cannot answer.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Read the functions' environment from this file, as `local --env-file` writes it
    #[arg(long, value_name = "FILE", global = true)]
    env_file: Option<PathBuf>,
    /// Take this instant for the present, where the clock of a local stack was moved
    #[arg(long, value_name = "INSTANT", global = true)]
    clock: Option<Timestamp>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the invoices of closed periods again from the segments, and compares them with the stored ones line by line
    Replay(ReplayArguments),
    /// Makes days, months and account figures again from the segments, and sets those that differ
    Rebuild(RebuildArguments),
}

#[derive(Args)]
struct ReplayArguments {
    /// The account whose periods are replayed
    #[arg(long, value_name = "S3UID", required_unless_present = "location")]
    account: Option<String>,
    /// Of the account, the period that began on this day alone
    #[arg(long, value_name = "DATE", requires = "account")]
    period: Option<Date>,
    /// All accounts of this location, with the periods that ended on the given days
    #[arg(
        long,
        value_name = "CODE",
        conflicts_with = "account",
        requires = "ended_from"
    )]
    location: Option<String>,
    /// The first of these days
    #[arg(long, value_name = "DATE", requires = "location")]
    ended_from: Option<Date>,
    /// The last of these days; the first one when not given
    #[arg(long, value_name = "DATE", requires = "ended_from")]
    ended_to: Option<Date>,
    /// Show the periods that are equal, too
    #[arg(long)]
    verbose: bool,
}

#[derive(Args)]
struct RebuildArguments {
    /// The account whose totals are rebuilt
    #[arg(long, value_name = "S3UID", required_unless_present = "location")]
    account: Option<String>,
    /// All accounts of this location
    #[arg(long, value_name = "CODE", conflicts_with = "account")]
    location: Option<String>,
    /// Of the location, the accounts of this shard alone
    #[arg(long, value_name = "NUMBER", requires = "location")]
    shard: Option<u64>,
    /// The first day
    #[arg(long, value_name = "DATE")]
    from: Date,
    /// The last day; the first one when not given
    #[arg(long, value_name = "DATE")]
    to: Option<Date>,
    /// Set nothing, and tell what differs
    #[arg(long)]
    dry_run: bool,
}

/// What the process ends with, other than what it was asked for.
struct Stop {
    status: u8,
    text: String,
}

impl Stop {
    fn bad(text: impl ToString) -> Stop {
        Stop {
            status: BAD_ARGUMENTS,
            text: text.to_string(),
        }
    }

    fn failed(text: impl ToString) -> Stop {
        Stop {
            status: FAILED,
            text: text.to_string(),
        }
    }
}

impl From<ReplayError> for Stop {
    fn from(error: ReplayError) -> Stop {
        match error {
            ReplayError::NotThere(text) => Stop::bad(text),
            ReplayError::Fault(fault) => Stop::failed(fault),
        }
    }
}

impl From<RebuildError> for Stop {
    fn from(error: RebuildError) -> Stop {
        match error {
            RebuildError::NotThere(text) => Stop::bad(text),
            RebuildError::Fault(fault) => Stop::failed(fault),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version.
        Err(answer) if !answer.use_stderr() => answer.exit(),
        Err(error) => {
            let text = error.to_string();
            // The first paragraph says what is wrong; the rest is usage.
            let lines = text.lines().take_while(|line| !line.is_empty());
            let line = lines.map(str::trim).collect::<Vec<_>>().join(" ");
            eprintln!("operator: {}", line.trim_start_matches("error: "));
            return ExitCode::from(BAD_ARGUMENTS);
        }
    };
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match run(arguments).await {
        Ok(status) => status.into(),
        Err(Stop { status, text }) => {
            eprintln!("operator: {text}");
            status.into()
        }
    }
}

async fn run(arguments: Arguments) -> Result<u8, Stop> {
    let context = context(arguments.env_file.as_deref(), arguments.clock)?;
    match arguments.command {
        Command::Replay(arguments) => run_replay(&context, arguments).await,
        Command::Rebuild(arguments) => run_rebuild(&context, arguments).await,
    }
}

async fn run_replay(context: &Context, arguments: ReplayArguments) -> Result<u8, Stop> {
    let which = match (arguments.account, arguments.location, arguments.ended_from) {
        (Some(s3uid), _, _) => Which::Account {
            s3uid: S3Uid(s3uid),
            from: arguments.period,
        },
        (None, Some(location), Some(from)) => {
            let to = last_day("--ended-to", from, arguments.ended_to)?;
            Which::Location { location, from, to }
        }
        _ => return Err(Stop::bad("--account or --location is needed")),
    };
    let (mut equal, mut differing) = (0u64, 0u64);
    replay(context, &which, |replayed| {
        let is_equal = replayed.differences.is_empty();
        *(if is_equal { &mut equal } else { &mut differing }) += 1;
        if !is_equal || arguments.verbose {
            print(replayed);
        }
    })
    .await?;
    print(format_args!("periods: {equal} equal, {differing} differ"));
    Ok(if differing == 0 { 0 } else { DIFFERS })
}

async fn run_rebuild(context: &Context, arguments: RebuildArguments) -> Result<u8, Stop> {
    let to = last_day("--to", arguments.from, arguments.to)?;
    let whose = match (arguments.account, arguments.location, arguments.shard) {
        (Some(s3uid), _, _) => Whose::Account(S3Uid(s3uid)),
        (None, Some(location), Some(shard)) => Whose::Shard { location, shard },
        (None, Some(location), None) => Whose::Location(location),
        (None, None, _) => return Err(Stop::bad("--account or --location is needed")),
    };
    let is_dry = arguments.dry_run;
    let show = |mended: Mended| {
        for difference in &mended.differences {
            print(format_args!("{} {difference}", mended.s3uid));
        }
    };
    let rebuilt = rebuild(context, &whose, (arguments.from, to), is_dry, show).await?;
    let (accounts, differing) = (rebuilt.accounts, rebuilt.differing);
    let what = if is_dry { "differ" } else { "mended" };
    print(format_args!("accounts: {accounts}, {differing} {what}"));
    Ok(if is_dry && differing > 0 { DIFFERS } else { 0 })
}

/// Whoever stops reading, as `head` does, has seen enough.
fn print(line: impl std::fmt::Display) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(i32::from(FAILED));
    }
}

fn last_day(name: &str, from: Date, to: Option<Date>) -> Result<Date, Stop> {
    match to {
        Some(to) if to < from => Err(Stop::bad(format!("{name} {to} is before {from}"))),
        Some(to) => Ok(to),
        None => Ok(from),
    }
}

fn context(env_file: Option<&Path>, clock: Option<Timestamp>) -> Result<Context, Stop> {
    let config = match env_file {
        None => Config::from_env(),
        Some(file) => {
            let cannot = |problem: dotenvy::Error| {
                Stop::bad(format!("cannot read {}: {problem}", file.display()))
            };
            let variables: HashMap<String, String> = dotenvy::from_path_iter(file)
                .map_err(cannot)?
                .collect::<Result<_, _>>()
                .map_err(cannot)?;
            Config::from_lookup(|name| variables.get(name).cloned())
        }
    };
    let config = config.map_err(Stop::bad)?;
    let connectors = Connectors::over_tls(config.ca_bundle.as_deref()).map_err(Stop::bad)?;
    let clock: Arc<dyn Clock> = match clock {
        Some(instant) => Arc::new(Fixed(instant)),
        None => Arc::new(SystemClock),
    };
    Ok(Context::new(config, clock, Random::from_os(), connectors))
}

/// A clock that stands still.
struct Fixed(Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
}
