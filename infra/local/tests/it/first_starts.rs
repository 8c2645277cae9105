//! First starts that are killed, and what others on this machine, or pages of other origins, reach.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::runner::{Answer, Runner, command, request};

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
/// As many first starts are killed, unless `WHARFAGE_TEST_KILLED_STARTS` says otherwise.
const KILLED: u64 = 6;
/// About what a first start takes; it is killed at moments spread over it.
const SPREAD: Duration = Duration::from_millis(500);

fn post(runner: &Runner, path: &str, form: &str) -> Answer {
    runner.ask(&request("POST", path, FORM, form))
}

/// Logs in as the first client, and orders.
fn order(runner: &Runner) {
    let key = runner.ready["api_keys"]["client"].as_str().expect("a key");
    let login = post(runner, "/auth.php", &format!("action=login&key={key}")).json();
    let token = login["result"]["token"].as_str().expect("a token");
    let ordered = post(
        runner,
        "/s3.php",
        &format!("action=create_order&plan_id=2&bucket_name=after-a-kill&token={token}"),
    );
    assert_eq!(ordered.status, 200, "{}", ordered.body);
    assert_eq!(ordered.json()["status"], "active");
}

/// Every file and folder that somebody else could read.
fn open_to_others(path: &Path) -> Vec<String> {
    let metadata = std::fs::symlink_metadata(path).expect("it is there");
    let mut open = Vec::new();
    if metadata.permissions().mode() & 0o077 != 0 {
        open.push(path.display().to_string());
    }
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).expect("a folder") {
            open.extend(open_to_others(&entry.expect("an entry").path()));
        }
    }
    open
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "how many is for whoever runs the test"
)]
fn a_first_start_that_is_killed_at_any_moment_leaves_a_folder_that_starts() {
    let killed = std::env::var("WHARFAGE_TEST_KILLED_STARTS")
        .map_or(KILLED, |text| text.parse().expect("a number"));
    for number in 0..killed {
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path().join("data").display().to_string();
        let arguments = ["--listen", "127.0.0.1:0", "--data-dir", &data];
        let mut first = command()
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        // The moment itself is what is tried; the time it takes to get there differs from run to run.
        let moment = SPREAD.mul_f64((number as f64 + 0.5) / killed as f64);
        std::thread::sleep(moment);
        first.kill().expect("killed");
        first.wait().expect("gone");
        let runner = Runner::start(&arguments);
        order(&runner);
        runner.stop();
        // As whole as any other from then on.
        let runner = Runner::start(&arguments);
        let key = runner.ready["api_keys"]["client"].as_str().expect("a key");
        let login = post(&runner, "/auth.php", &format!("action=login&key={key}"));
        assert_eq!(login.status, 200, "killed after {moment:?}: {}", login.body);
        assert_eq!(open_to_others(Path::new(&data)), Vec::<String>::new());
        runner.stop();
    }
}

#[test]
fn a_page_of_another_origin_moves_no_time_and_runs_no_job() {
    let runner = Runner::start(&["--ephemeral", "--listen", "127.0.0.1:0"]);
    let day = r#"{"advance":"P1D"}"#;
    let json = "content-type: application/json\r\n";
    for (headers, status) in [
        // What a page may send without asking: a form, or plain text.
        (
            "content-type: text/plain\r\norigin: http://evil.example\r\n".to_owned(),
            403,
        ),
        ("content-type: text/plain\r\n".to_owned(), 415),
        (FORM.to_owned(), 415),
        (format!("{json}origin: http://localhost:3000\r\n"), 403),
        (format!("{json}sec-fetch-site: cross-site\r\n"), 403),
    ] {
        for path in ["/_local/clock", "/_local/run/chase_invoices"] {
            let answer = runner.ask(&request("POST", path, &headers, day));
            assert_eq!(answer.status, status, "{path} {headers}");
            assert!(!answer.head.contains("access-control-allow-origin"));
        }
    }
    // A name that is led to this machine by whoever owns it.
    let rebound = request("POST", "/_local/clock", json, day)
        .replace("host: localhost", "host: evil.example");
    assert_eq!(runner.ask(&rebound).status, 403);
    let asked =
        format!("{json}origin: http://evil.example\r\naccess-control-request-method: POST\r\n");
    let preflight = runner.ask(&request("OPTIONS", "/_local/clock", &asked, ""));
    assert!(preflight.status >= 400, "{}", preflight.status);
    let told = runner.ask(&request("GET", "/_local/clock", "", "")).json();
    assert_eq!(told["ahead"], "PT0S");
    runner.stop();
}
