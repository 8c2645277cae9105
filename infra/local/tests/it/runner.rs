//! A runner as a process, and requests to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The command that starts it, with nothing of this process's environment that would colour or log.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.env_remove("RUST_LOG");
    command
}

/// What it says when it ends by itself: status and standard error.
pub fn refusal(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command()
        .args(arguments)
        .env("WHARFAGE_NL_ACCESS_KEY", "access")
        .env("WHARFAGE_NL_SECRET_KEY", "secret")
        .output()
        .expect("it runs");
    let stderr = String::from_utf8(stderr).expect("text");
    (status.code(), stderr)
}

/// A running one.
pub struct Runner {
    child: Child,
    /// What it printed when it was ready.
    pub ready: Value,
    errors: Receiver<String>,
}

impl Runner {
    /// Starts it on a free port and waits until it is ready.
    pub fn start(arguments: &[&str]) -> Runner {
        let mut command = command();
        command.args(arguments);
        Runner::start_command(command)
    }

    pub fn start_command(mut command: Command) -> Runner {
        let mut child = command
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (sender, errors) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut ready)
            .expect("a line");
        let Ok(ready) = serde_json::from_str(&ready) else {
            let said: Vec<String> = errors.iter().collect();
            panic!("it is not ready: {said:?}");
        };
        Runner {
            child,
            ready,
            errors,
        }
    }

    /// `127.0.0.1:41234`.
    pub fn address(&self) -> &str {
        let api = self.ready["api"].as_str().expect("an address");
        api.strip_prefix("http://").expect("http")
    }

    /// Sends a request and reads the whole answer.
    pub fn ask(&self, request: &str) -> Answer {
        let mut connection = self.connect();
        connection.write_all(request.as_bytes()).expect("sent");
        Answer::read(connection)
    }

    pub fn connect(&self) -> TcpStream {
        let connection = TcpStream::connect(self.address()).expect("connected");
        connection
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out");
        connection
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// The next line on standard error with this in it.
    pub fn says(&self, what: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.errors.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("it does not say {what:?}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    /// Waits for its end: the status, and how long that took.
    pub fn ends(mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return (status.code(), begun.elapsed());
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end");
    }

    pub fn stop(self) {
        self.signal("TERM");
        assert_eq!(self.ends().0, Some(0));
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer as it came over the wire, its chunks put together.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn read(mut connection: TcpStream) -> Answer {
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).expect("an answer");
        let text = String::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let head = head.to_ascii_lowercase();
        let status = head.split(' ').nth(1).expect("a status");
        let body = match head.contains("transfer-encoding: chunked") {
            true => unchunked(body),
            false => body.to_owned(),
        };
        Answer {
            status: status.parse().expect("a number"),
            head,
            body,
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").expect("a chunk");
        let size = usize::from_str_radix(size, 16).expect("its size");
        if size == 0 {
            return text;
        }
        text.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").expect("its end");
    }
}

/// A request whose connection ends with it.
pub fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let bytes = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {bytes}\r\n\r\n{body}"
    )
}
