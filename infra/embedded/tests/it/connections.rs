//! What becomes of a connection whose request was refused before its body was read.

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::raw::Raw;
use crate::support::{Lab, pattern, put};

/// The request as it goes over the wire, without its body.
fn head(request: &Request<Full<Bytes>>, length: usize) -> Vec<u8> {
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    head.push_str(&format!("content-length: {length}\r\n\r\n"));
    head.into_bytes()
}

/// A connection, and what was read of it and not looked at yet.
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    async fn open(lab: &Lab) -> Self {
        Self {
            stream: TcpStream::connect(lab.cluster().address()).await.unwrap(),
            read: Vec::new(),
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// One answer, whole, and whether the connection is to be used again.
    async fn answer(&mut self) -> (String, bool) {
        loop {
            let text = String::from_utf8_lossy(&self.read).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_ascii_lowercase();
                let length = head
                    .split_once("content-length: ")
                    .and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok())
                    .unwrap_or(0);
                if body.len() >= length {
                    let whole = text.len() - body.len() + length;
                    self.read.drain(..whole);
                    return (
                        text[..whole].to_owned(),
                        !head.contains("connection: close"),
                    );
                }
            }
            let count = self.stream.read_buf(&mut self.read).await.unwrap();
            assert!(count > 0, "the connection ended: {text}");
        }
    }

    /// Whether the server ends the connection.
    async fn ends(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.read).await, Ok(0) | Err(_))
    }
}

#[tokio::test]
async fn a_body_that_was_not_sent_is_not_waited_for() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", "v").await;
    // Refused by what s3s checks, by what is checked before, and by the operation.
    let refused = [
        Raw::new("PUT", "/nobodys/k"),
        Raw::new("PUT", "/alices/k").unsigned("x-amz-acl", "private"),
        Raw::new("PUT", "/alices/k").signed("if-none-match", "*"),
    ];
    for request in refused {
        let request = request
            .unsigned("expect", "100-continue")
            .body(pattern(100_000))
            .with_header();
        let mut connection = Connection::open(&lab).await;
        connection.send(&head(&request, 100_000)).await;
        let (text, is_kept) = connection.answer().await;
        assert!(text.starts_with("HTTP/1.1 4"), "{text}");
        assert!(!is_kept, "{text}");
        assert!(connection.ends().await);
    }
    // Whoever is let in is told to go on, and keeps the connection.
    let mut connection = Connection::open(&lab).await;
    for _ in 0..3 {
        let accepted = Raw::new("PUT", "/alices/k")
            .unsigned("expect", "100-continue")
            .body("content")
            .with_header();
        connection.send(&head(&accepted, 7)).await;
        let (text, _) = connection.answer().await;
        assert!(text.starts_with("HTTP/1.1 100"), "{text}");
        connection.send(b"content").await;
        let (text, is_kept) = connection.answer().await;
        assert!(text.starts_with("HTTP/1.1 200") && is_kept, "{text}");
    }
}

#[tokio::test]
async fn a_body_that_is_on_its_way_is_read_before_the_next_request() {
    let lab = Lab::start();
    lab.user_with("alice", "alices").await;
    let bytes = pattern(3_000_000);
    let mut connection = Connection::open(&lab).await;
    for _ in 0..5 {
        let refused = Raw::new("PUT", "/nobodys/k")
            .body(bytes.clone())
            .with_header();
        let mut sent = head(&refused, bytes.len());
        sent.extend_from_slice(&bytes);
        let next = Raw::new("GET", "/alices?location").with_header();
        sent.extend_from_slice(&head(&next, 0));
        connection.send(&sent).await;
        let (text, is_kept) = connection.answer().await;
        assert!(text.starts_with("HTTP/1.1 404") && is_kept, "{text}");
        let (text, is_kept) = connection.answer().await;
        assert!(text.starts_with("HTTP/1.1 200") && is_kept, "{text}");
    }
    // More than is worth reading: the answer comes at once, and is the connection's last.
    let large = 10_000_000_000;
    let refused = Raw::new("PUT", "/nobodys/k").with_header();
    connection.send(&head(&refused, large)).await;
    connection.send(&bytes).await;
    let (text, is_kept) = connection.answer().await;
    assert!(text.starts_with("HTTP/1.1 404") && !is_kept, "{text}");
}

#[tokio::test]
async fn the_admin_api_ends_connections_whose_bodies_it_did_not_read() {
    let lab = Lab::start();
    let mut connection = Connection::open(&lab).await;
    let refused = "PUT /_admin/v1/users/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n";
    connection.send(refused.as_bytes()).await;
    let (text, is_kept) = connection.answer().await;
    assert!(text.starts_with("HTTP/1.1 40") && !is_kept, "{text}");
}
