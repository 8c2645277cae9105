//! Many callers at once, and few files.

use std::io::Write;
use std::process::Command;
use std::thread;

use crate::runner::{Answer, Runner, command, request};

#[test]
fn three_hundred_requests_at_once_are_all_answered_with_few_files() {
    // Both limits: it could not raise its own.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 512; exec \"$0\" \"$@\""])
        .arg(command().get_program())
        .args(["--ephemeral", "--listen", "127.0.0.1:0"]);
    let runner = Runner::start_command(limited);
    let key = runner.ready["api_keys"]["client"].as_str().expect("a key");
    let login = request(
        "POST",
        "/auth.php",
        "content-type: application/x-www-form-urlencoded\r\n",
        &format!("action=login&key={key}"),
    );
    // All are open before the first is worked on to its end.
    let connections: Vec<_> = (0..300)
        .map(|_| {
            let mut connection = runner.connect();
            connection.write_all(login.as_bytes()).expect("sent");
            connection
        })
        .collect();
    let readers: Vec<_> = connections
        .into_iter()
        .map(|connection| thread::spawn(move || Answer::read(connection)))
        .collect();
    for reader in readers {
        let answer = reader.join().expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body.contains("\"token\""), "{}", answer.body);
    }
    runner.stop();
}

#[test]
fn a_body_that_ends_before_its_length_is_no_large_one() {
    let runner = Runner::start(&["--ephemeral", "--listen", "127.0.0.1:0"]);
    let mut connection = runner.connect();
    let short = "POST /s3.php HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 20\r\n\r\naction=x";
    connection.write_all(short.as_bytes()).expect("sent");
    connection
        .shutdown(std::net::Shutdown::Write)
        .expect("half closed");
    assert_eq!(Answer::read(connection).status, 400);
    let long = request("POST", "/s3.php", "", &"a".repeat(11 << 20));
    let mut connection = runner.connect();
    // The answer may come before all of it was sent.
    let _ = connection.write_all(long.as_bytes());
    assert_eq!(Answer::read(connection).status, 413);
    runner.stop();
}
