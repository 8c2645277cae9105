//! `/_local/clock`, and a stack whose time is not the machine's.

use std::io::Write;

use serde_json::{Value, json};

use crate::runner::{Runner, refusal, request};

fn moves(runner: &Runner, headers: &str, span: &str) -> crate::runner::Answer {
    let body = json!({ "advance": span }).to_string();
    let headers = format!("content-type: application/json\r\n{headers}");
    runner.ask(&request("POST", "/_local/clock", &headers, &body))
}

#[test]
fn the_clock_tells_the_time_and_how_far_ahead_it_is() {
    let runner = Runner::start(&["--ephemeral", "--listen", "127.0.0.1:0"]);
    let told = runner.ask(&request("GET", "/_local/clock", "", "")).json();
    assert_eq!(
        (&told["ahead"], &told["is_running"]),
        (&json!("PT0S"), &json!(true))
    );
    let moved = moves(&runner, "", "PT5H").json();
    let told = runner.ask(&request("GET", "/_local/clock", "", "")).json();
    // The move itself took some of it.
    let ahead = told["ahead_seconds"].as_i64().expect("a number");
    assert!((17_940..=18_000).contains(&ahead), "{told}");
    assert!(
        told["ahead"]
            .as_str()
            .expect("a duration")
            .starts_with("PT"),
        "{told}"
    );
    assert!(told["now"].as_str() >= moved["now"].as_str());
    let refused = runner.ask(&request("PUT", "/_local/clock", "", ""));
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (405, r#"{"message":"GET or POST only"}"#)
    );
    runner.stop();
}

#[test]
fn a_long_move_tells_what_it_does_and_ends_with_the_answer() {
    let runner = Runner::start(&[
        "--ephemeral",
        "--listen",
        "127.0.0.1:0",
        "--clock",
        "2026-01-01T00:00:00Z",
    ]);
    let short = moves(&runner, "", "PT1M");
    assert!(
        short.head.contains("content-type: application/json"),
        "{}",
        short.head
    );
    assert_eq!(short.json()["now"], "2026-01-01T00:01:00Z");

    let long = moves(&runner, "", "P2M");
    assert_eq!(long.status, 200);
    assert!(
        long.head.contains("content-type: application/x-ndjson"),
        "{}",
        long.head
    );
    let lines: Vec<Value> = long
        .body
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let (last, progress) = lines.split_last().expect("lines");
    assert!(!progress.is_empty());
    let mut before = String::new();
    for line in progress {
        let now = line["progress"]["now"].as_str().expect("a time").to_owned();
        assert!(
            now >= before && now.as_str() < "2026-03-01T00:01:00Z",
            "{now}"
        );
        before = now;
    }
    assert_eq!(last["now"], "2026-03-01T00:01:00Z");
    // An hour each, 59 days long.
    let ran = last["ran"].as_object().expect("runs by job");
    assert_eq!(ran["collect_usage"], 59 * 24);
    let all: u64 = ran.values().filter_map(Value::as_u64).sum();
    let told: u64 = progress
        .iter()
        .filter_map(|line| line["progress"]["runs"].as_u64())
        .sum();
    assert!(told > 0 && told <= all, "{told}");

    let whole = moves(&runner, "accept: application/json\r\n", "P2M");
    assert!(
        whole.head.contains("content-type: application/json"),
        "{}",
        whole.head
    );
    assert_eq!(whole.json()["now"], "2026-05-01T00:01:00Z");
    runner.stop();
}

#[test]
fn a_stack_that_is_ahead_says_so_at_every_start_and_takes_no_cluster() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data").display().to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--data-dir", &data];
    let runner = Runner::start(&arguments);
    assert_eq!(moves(&runner, "", "P1DT1H").status, 200);
    runner.stop();
    for _ in 0..2 {
        let runner = Runner::start(&arguments);
        let said = runner.says("time here is");
        assert!(
            said.contains("1d 1h ahead of this machine's clock"),
            "{said}"
        );
        let ahead = runner.ready["clock"]["ahead_seconds"].as_i64();
        assert!(ahead.is_some_and(|ahead| (89_940..=90_000).contains(&ahead)));
        runner.stop();
    }
    let cluster = ["--cluster", "NL=rgw:http://127.0.0.1:1"];
    let (status, said) = refusal(&[arguments.as_slice(), &cluster].concat());
    assert_eq!(status, Some(1));
    assert!(
        said.contains(
            "1d 1h ahead of this machine's clock, so --cluster needs another --data-dir: NL counts"
        ),
        "{said}"
    );
}

#[test]
fn time_is_not_moved_where_a_cluster_runs_elsewhere() {
    let cluster = [
        "--cluster",
        "NL=rgw:http://127.0.0.1:1",
        "--ephemeral",
        "--listen",
        "127.0.0.1:0",
    ];
    let mut command = crate::runner::command();
    command
        .args(cluster)
        .env("WHARFAGE_NL_ACCESS_KEY", "access")
        .env("WHARFAGE_NL_SECRET_KEY", "secret");
    let runner = Runner::start_command(command);
    let refused = moves(&runner, "", "PT1H");
    assert_eq!(refused.status, 409);
    let said = refused.json()["message"]
        .as_str()
        .expect("words")
        .to_owned();
    assert!(
        said.starts_with("the clock is not moved: NL counts traffic by a clock of its own"),
        "{said}"
    );
    let told = runner.ask(&request("GET", "/_local/clock", "", "")).json();
    assert_eq!(told["ahead"], "PT0S");
    runner.stop();

    let still = [cluster.as_slice(), &["--clock", "2026-01-01T00:00:00Z"]].concat();
    let (status, said) = refusal(&still);
    assert_eq!(status, Some(1));
    assert!(
        said.contains("--clock cannot be used with --cluster: NL counts"),
        "{said}"
    );
}

#[test]
fn a_second_move_waits_for_the_first_to_be_over() {
    let runner = Runner::start(&["--ephemeral", "--listen", "127.0.0.1:0"]);
    let long = request(
        "POST",
        "/_local/clock",
        "content-type: application/json\r\n",
        r#"{"advance":"P60D"}"#,
    );
    let mut connection = runner.connect();
    connection.write_all(long.as_bytes()).expect("sent");
    // Once time has moved, the first is under way.
    while runner.ask(&request("GET", "/_local/clock", "", "")).json()["ahead"] == "PT0S" {}
    let second = moves(&runner, "", "P1D");
    assert_eq!(second.status, 409, "{}", second.body);
    assert!(
        second.body.contains("is being moved already"),
        "{}",
        second.body
    );
    runner.signal("TERM");
    runner.ends();
}
