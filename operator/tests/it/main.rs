//! The binary, as those who run it see it: what it prints, and what it ends with.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tests::{TestAccount, TestApp};

/// A system with one account, whose first period was closed without any usage; and the file that tells the operator where it is.
struct System {
    app: TestApp,
    account: TestAccount,
    environment: PathBuf,
    _directory: tempfile::TempDir,
}

impl System {
    async fn start() -> System {
        let app = TestApp::start_idle(&[]).await;
        let account = app.order("client", "my-bucket").await;
        let to = "2026-02-15T01:05:00Z".parse().expect("a time");
        app.stack.clock().move_to(to).expect("moved");
        let work = json!({ "work": "close", "s3uid": account.s3uid, "commits_on": "2026-02-15" });
        app.handle_directly("billing", &work.to_string())
            .await
            .expect("closed");
        let directory = tempfile::tempdir().expect("a directory");
        let environment = directory.path().join("local.env");
        app.stack
            .write_environment(&environment)
            .expect("the file is written");
        System {
            app,
            account,
            environment,
            _directory: directory,
        }
    }

    /// What the operator ends with, and prints to either side.
    async fn operator(&self, arguments: &[&str]) -> (i32, String, String) {
        operator(Some(&self.environment), arguments).await
    }
}

async fn operator(environment: Option<&Path>, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_operator"));
    command.env_clear().args(arguments);
    if let Some(environment) = environment {
        command.arg("--env-file").arg(environment);
    }
    // On a thread of its own: the services it asks run here.
    let ended = tokio::task::spawn_blocking(move || command.output()).await;
    let output = ended.expect("joined").expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let status = output.status.code().expect("a status");
    (status, text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn equal_invoices_end_with_0_and_others_with_1_and_the_figures() {
    let system = System::start().await;
    let s3uid = system.account.s3uid.as_str();
    let equal = system
        .operator(&["replay", "--account", s3uid, "--verbose"])
        .await;
    let line = format!(
        "equal {s3uid} 2026-01-15..2026-02-15 invoice 2, 1500 minor units of EUR\nperiods: 1 equal, 0 differ\n"
    );
    assert_eq!(equal, (0, line, String::new()));
    let key = ("CLIENT#1".to_owned(), "INVOICE#000000000002".to_owned());
    let update = "SET amount_minor = :one";
    system.app.update_item("LEDGER_TABLE", &key, update).await;
    let arguments = ["replay", "--location", "NL", "--ended-from", "2026-02-15"];
    let line = format!(
        "DIFFERS {s3uid} 2026-01-15..2026-02-15 invoice 2, 1500 minor units of EUR\n  \
         invoice: amount_minor: stored 1, recomputed 1500\nperiods: 0 equal, 1 differ\n"
    );
    assert_eq!(system.operator(&arguments).await, (1, line, String::new()));
}

#[tokio::test]
async fn a_dry_run_ends_with_1_as_long_as_something_differs() {
    let system = System::start().await;
    let s3uid = system.account.s3uid.as_str();
    let key = (format!("ACCOUNT#{s3uid}"), "ACCOUNT".to_owned());
    let update = "SET period_bytes_sent = :one";
    system.app.update_item("ACCOUNTS_TABLE", &key, update).await;
    let clock = ["--clock", "2026-02-15T01:05:00Z"];
    let rebuild = ["rebuild", "--location", "NL", "--from", "2026-02-15"];
    let dry = [&rebuild[..], &clock, &["--dry-run"]].concat();
    let real = [&rebuild[..], &clock].concat();
    let difference = format!("{s3uid} figures: period_bytes_sent: stored 1, recomputed 0\n");
    for (arguments, status, summary) in [
        (&dry, 1, "accounts: 1, 1 differ\n"),
        (&real, 0, "accounts: 1, 1 mended\n"),
    ] {
        let expected = (status, format!("{difference}{summary}"), String::new());
        assert_eq!(system.operator(arguments).await, expected);
    }
    let nothing = (0, "accounts: 1, 0 differ\n".into(), String::new());
    assert_eq!(system.operator(&dry).await, nothing);
}

#[tokio::test]
async fn bad_input_gets_one_line_and_2() {
    let system = System::start().await;
    let s3uid = system.account.s3uid.as_str();
    let cases: &[(&[&str], &str)] = &[
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (
            &["replay"],
            "the following required arguments were not provided: --account <S3UID>",
        ),
        (
            &["replay", "--location", "NL"],
            "the following required arguments were not provided: --ended-from <DATE>",
        ),
        (
            &["replay", "--account", "a", "--location", "NL"],
            "the argument '--account <S3UID>' cannot be used with '--location <CODE>'",
        ),
        (
            &["replay", "--account", "nobody"],
            "there is no account nobody",
        ),
        (
            &["replay", "--location", "XX", "--ended-from", "2026-02-15"],
            "there is no location XX",
        ),
        (
            &[
                "rebuild",
                "--account",
                s3uid,
                "--from",
                "2026-02-15",
                "--to",
                "2026-02-14",
            ],
            "--to 2026-02-14 is before 2026-02-15",
        ),
        (
            &[
                "rebuild",
                "--location",
                "NL",
                "--shard",
                "-1",
                "--from",
                "2026-02-15",
            ],
            "unexpected argument '-1' found",
        ),
    ];
    for (arguments, expected) in cases {
        let answer = system.operator(arguments).await;
        assert_eq!(
            answer,
            (2, String::new(), format!("operator: {expected}\n"))
        );
    }
    let (status, _, text) = operator(None, &["replay", "--account", s3uid]).await;
    let expected = "operator: environment variable STACK_NAME is not set\n";
    assert_eq!((status, text.as_str()), (2, expected));
    let nowhere = Path::new("/nowhere/local.env");
    let (status, _, text) = operator(Some(nowhere), &["replay", "--account", s3uid]).await;
    assert_eq!(status, 2);
    assert!(
        text.starts_with("operator: cannot read /nowhere/local.env: "),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    let complete = std::fs::read_to_string(&system.environment).expect("the file");
    let without_roots = format!("{complete}AWS_CA_BUNDLE='/nowhere/roots.pem'\n");
    std::fs::write(&system.environment, without_roots).expect("written");
    let (status, _, text) = system.operator(&["replay", "--account", s3uid]).await;
    assert_eq!(status, 2);
    let expected = "operator: environment variable AWS_CA_BUNDLE: /nowhere/roots.pem: ";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[tokio::test]
async fn services_that_cannot_answer_end_with_3() {
    let system = System::start().await;
    let text = std::fs::read_to_string(&system.environment).expect("the file");
    let endpoint = &system.app.stack.environment()["AWS_ENDPOINT_URL_S3"];
    let unreachable = text.replace(endpoint, "http://127.0.0.1:1");
    std::fs::write(&system.environment, unreachable).expect("written");
    let arguments = ["replay", "--account", system.account.s3uid.as_str()];
    let (status, printed, text) = system.operator(&arguments).await;
    assert_eq!((status, printed.as_str()), (3, ""));
    assert!(
        text.starts_with("operator: S3 GetObject usage/location=NL/"),
        "{text}"
    );
}
