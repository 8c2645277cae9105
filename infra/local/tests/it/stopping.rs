//! What is under way when the runner is stopped is ended first.

use std::io::Write;
use std::time::Duration;

use crate::runner::{Answer, Runner, request};

/// A request up to the middle of its body, and the rest.
fn halves() -> (String, String) {
    let whole = request(
        "POST",
        "/auth.php",
        "content-type: application/x-www-form-urlencoded\r\n",
        "action=login&key=none",
    );
    let (first, second) = whole.split_at(whole.len() - 10);
    (first.to_owned(), second.to_owned())
}

#[test]
fn a_signal_ends_requests_under_way_first() {
    for signal in ["TERM", "INT"] {
        let runner = Runner::start(&["--ephemeral", "--listen", "127.0.0.1:0"]);
        let (first, second) = halves();
        let mut connection = runner.connect();
        // One that is open and says nothing keeps nobody.
        let _idle = runner.connect();
        connection.write_all(first.as_bytes()).expect("sent");
        // It has begun by the time that another, sent later, is answered.
        assert_eq!(
            runner.ask(&request("GET", "/_local/clock", "", "")).status,
            200
        );
        runner.signal(signal);
        runner.says("stopping");
        connection.write_all(second.as_bytes()).expect("sent");
        let answer = Answer::read(connection);
        assert!(answer.body.contains("\"code\":-1"), "{}", answer.body);
        let (status, took) = runner.ends();
        assert_eq!(status, Some(0));
        assert!(took < Duration::from_secs(8), "{took:?}");
    }
}

#[test]
fn what_does_not_end_is_stopped_and_a_second_signal_stops_at_once() {
    let runner = Runner::start(&["--ephemeral", "--listen", "127.0.0.1:0"]);
    let mut connection = runner.connect();
    connection.write_all(halves().0.as_bytes()).expect("sent");
    assert_eq!(
        runner.ask(&request("GET", "/_local/clock", "", "")).status,
        200
    );
    runner.signal("TERM");
    runner.says("stopping");
    runner.signal("TERM");
    let (status, took) = runner.ends();
    assert_eq!(status, Some(0));
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn a_stopped_runner_ends_within_its_time() {
    let runner = Runner::start(&["--ephemeral", "--listen", "127.0.0.1:0"]);
    let mut connection = runner.connect();
    connection.write_all(halves().0.as_bytes()).expect("sent");
    assert_eq!(
        runner.ask(&request("GET", "/_local/clock", "", "")).status,
        200
    );
    runner.signal("TERM");
    runner.says("what had not ended by now was stopped");
    let (status, took) = runner.ends();
    assert_eq!(status, Some(0));
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn a_move_of_time_stops_where_it_is() {
    let runner = Runner::start(&["--ephemeral", "--listen", "127.0.0.1:0"]);
    let mut connection = runner.connect();
    let years = request(
        "POST",
        "/_local/clock",
        "content-type: application/json\r\n",
        r#"{"advance":"P3Y"}"#,
    );
    connection.write_all(years.as_bytes()).expect("sent");
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut connection, &mut head).expect("it has begun");
    assert_eq!(&head, b"HTTP/1.1 200");
    runner.signal("TERM");
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut connection, &mut rest).expect("it ends");
    assert!(
        rest.contains("and the local runner is being stopped\"}"),
        "{rest}"
    );
    assert_eq!(runner.ends().0, Some(0));
}
