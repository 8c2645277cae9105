//! Requests as no SDK makes them: signed by hand, with what is signed and what is not in the test's hands.

use std::fmt::Write as _;

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::support::{Lab, keys, send};

const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

pub struct Raw {
    method: &'static str,
    path: String,
    query: Vec<(String, String)>,
    signed: Vec<(String, String)>,
    unsigned: Vec<(String, String)>,
    body: Vec<u8>,
    region: &'static str,
    host: String,
    payload: Option<&'static str>,
}

impl Raw {
    /// A request of alice's; the path as it goes over the wire.
    pub fn new(method: &'static str, path: &str) -> Self {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = query.split('&').filter(|pair| !pair.is_empty());
        Self {
            method,
            path: path.to_owned(),
            query: query
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            signed: Vec::new(),
            unsigned: Vec::new(),
            body: Vec::new(),
            region: "us-east-1",
            host: "localhost".to_owned(),
            payload: None,
        }
    }

    /// What `x-amz-content-sha256` says in place of the body's digest.
    pub fn payload(mut self, payload: &'static str) -> Self {
        self.payload = Some(payload);
        self
    }

    pub fn signed(mut self, name: &str, value: &str) -> Self {
        self.signed.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn unsigned(mut self, name: &str, value: &str) -> Self {
        self.unsigned.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn region(mut self, region: &'static str) -> Self {
        self.region = region;
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    fn scope(&self, date: &str) -> String {
        format!("{}/{}/s3/aws4_request", &date[..8], self.region)
    }

    fn sign(&self, date: &str, payload: &str) -> (String, String) {
        let mut query: Vec<_> = self
            .query
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        query.sort();
        let mut headers = self.signed.clone();
        headers.sort();
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let mut lines = String::new();
        for (name, value) in &headers {
            writeln!(lines, "{name}:{value}").unwrap();
        }
        let canonical = format!(
            "{}\n{}\n{}\n{lines}\n{names}\n{payload}",
            self.method,
            self.path,
            query.join("&")
        );
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{date}\n{}\n{}",
            self.scope(date),
            hex::encode(Sha256::digest(canonical))
        );
        let key = generate_signing_key(&keys("alice").1, now().into(), self.region, "s3");
        (names, calculate_signature(key, to_sign.as_bytes()))
    }

    /// The request with its signature in a header.
    pub fn with_header(mut self) -> Request<Full<Bytes>> {
        let date = date();
        let payload = match self.payload {
            Some(payload) => payload.to_owned(),
            None => hex::encode(Sha256::digest(&self.body)),
        };
        self.signed.push(("host".into(), self.host.clone()));
        self.signed.push(("x-amz-date".into(), date.clone()));
        self.signed
            .push(("x-amz-content-sha256".into(), payload.clone()));
        let (names, signature) = self.sign(&date, &payload);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={names}, Signature={signature}",
            keys("alice").0,
            self.scope(&date)
        );
        self.unsigned("authorization", &authorization).request()
    }

    /// The request with its signature in its address, which is good for so many seconds.
    pub fn with_address(mut self, expires: Option<&str>) -> Request<Full<Bytes>> {
        let date = date();
        self.signed.push(("host".into(), self.host.clone()));
        let mut names: Vec<_> = self.signed.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        let credential = format!("{}/{}", keys("alice").0, self.scope(&date));
        self = self
            .query("X-Amz-Algorithm", "AWS4-HMAC-SHA256")
            .query("X-Amz-Credential", &credential)
            .query("X-Amz-Date", &date)
            .query("X-Amz-SignedHeaders", &names.join(";"));
        if let Some(expires) = expires {
            self = self.query("X-Amz-Expires", expires);
        }
        let (_, signature) = self.sign(&date, "UNSIGNED-PAYLOAD");
        self.query("X-Amz-Signature", &signature).request()
    }

    fn request(self) -> Request<Full<Bytes>> {
        let query: Vec<_> = self
            .query
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        let target = match query.is_empty() {
            true => self.path,
            false => format!("{}?{}", self.path, query.join("&")),
        };
        let mut request = Request::builder().method(self.method).uri(target);
        let mut has_host = false;
        for (name, value) in self.signed.iter().chain(&self.unsigned) {
            has_host |= name == "host";
            request = request.header(name, value);
        }
        if !has_host {
            request = request.header("host", &self.host);
        }
        request.body(Full::from(self.body)).unwrap()
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, IN_QUERY).to_string()
}

#[allow(
    clippy::disallowed_methods,
    reason = "signatures are checked by the machine's clock"
)]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

fn date() -> String {
    now().strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The answer's status, and the code of its error.
pub async fn ask(lab: &Lab, request: Request<Full<Bytes>>) -> (u16, String) {
    let response = send(lab.cluster().endpoint(), request).await;
    let code = element(&response, "Code").unwrap_or_default();
    (response.status().as_u16(), code)
}

/// The content of the first element of this name.
pub fn element(response: &Response<Bytes>, name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(response.body()).into_owned();
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
}
