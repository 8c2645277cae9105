//! The services of AWS are for who was given their credentials: for no other user of the machine, and for no web page.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;

use crate::services::{ACCESS_KEY, SECRET_KEY, credentials};
use crate::support::{Clock, any_port, send};

/// A service, how signatures name it, and a call that it answers.
struct Service {
    name: &'static str,
    endpoint: String,
    target: &'static str,
    body: &'static str,
    _server: Box<dyn std::any::Any>,
}

fn services() -> Vec<Service> {
    let credentials = credentials();
    let dynamodb = embedded::dynamodb::start(
        any_port(),
        &credentials,
        None,
        Clock::at("2026-11-22T13:00:00Z").now(),
    )
    .unwrap();
    let sqs = embedded::sqs::start(any_port(), &credentials).unwrap();
    let kms = embedded::kms::start(any_port(), &credentials, None).unwrap();
    let events = embedded::eventbridge::start(any_port(), &credentials, Arc::new(|_| {})).unwrap();
    let secrets = embedded::secretsmanager::start(any_port(), &credentials).unwrap();
    secrets.put("cluster", "a token");
    vec![
        Service {
            name: "dynamodb",
            endpoint: dynamodb.endpoint().to_owned(),
            target: "DynamoDB_20120810.ListTables",
            body: "{}",
            _server: Box::new(dynamodb),
        },
        Service {
            name: "sqs",
            endpoint: sqs.endpoint().to_owned(),
            target: "AmazonSQS.ListQueues",
            body: "{}",
            _server: Box::new(sqs),
        },
        Service {
            name: "kms",
            endpoint: kms.endpoint().to_owned(),
            target: "TrentService.DescribeKey",
            body: r#"{"KeyId":"alias/wharfage"}"#,
            _server: Box::new(kms),
        },
        Service {
            name: "events",
            endpoint: events.endpoint().to_owned(),
            target: "AWSEvents.PutEvents",
            body: r#"{"Entries":[{"Source":"a","DetailType":"b","Detail":"{}"}]}"#,
            _server: Box::new(events),
        },
        Service {
            name: "secretsmanager",
            endpoint: secrets.endpoint().to_owned(),
            target: "secretsmanager.GetSecretValue",
            body: r#"{"SecretId":"cluster"}"#,
            _server: Box::new(secrets),
        },
    ]
}

/// What a call is made of; every test changes one part.
struct Call {
    key: (&'static str, &'static str),
    signed_for: Option<&'static str>,
    at: SystemTime,
    host: Option<String>,
    /// Sent, and not signed.
    header: Option<(&'static str, &'static str)>,
    sent_body: Option<&'static str>,
    method: &'static str,
}

#[expect(
    clippy::disallowed_methods,
    reason = "signatures are of real time, whatever the clock of the product says"
)]
fn good() -> Call {
    Call {
        key: (ACCESS_KEY, SECRET_KEY),
        signed_for: None,
        at: SystemTime::now(),
        host: None,
        header: None,
        sent_body: None,
        method: "POST",
    }
}

/// Status, body and headers of the answer.
async fn call(service: &Service, call: Call) -> (u16, String, BTreeMap<String, String>) {
    let authority = service.endpoint.strip_prefix("http://").unwrap().to_owned();
    let host = call.host.unwrap_or(authority);
    let headers = [
        ("host", host.as_str()),
        ("x-amz-target", service.target),
        ("content-type", "application/x-amz-json-1.0"),
    ];
    let identity = Credentials::new(call.key.0, call.key.1, None, None, "test").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name(call.signed_for.unwrap_or(service.name))
        .time(call.at)
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let uri = format!("{}/", service.endpoint);
    let signable = SignableRequest::new(
        call.method,
        &uri,
        headers.into_iter(),
        SignableBody::Bytes(service.body.as_bytes()),
    )
    .unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    let mut request = Request::builder().method(call.method).uri("/");
    for (name, value) in headers.into_iter().chain(call.header) {
        request = request.header(name, value);
    }
    for (name, value) in instructions.headers() {
        request = request.header(name, value);
    }
    let body = call.sent_body.unwrap_or(service.body);
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    answer(service, request).await
}

async fn answer(
    service: &Service,
    request: Request<Full<Bytes>>,
) -> (u16, String, BTreeMap<String, String>) {
    let response = send(&service.endpoint, request).await;
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let body = String::from_utf8(response.into_body().to_vec()).unwrap();
    (status, body, headers)
}

#[tokio::test]
async fn who_signs_with_the_credentials_is_answered_under_every_name_of_the_machine() {
    for service in services() {
        let port = service.endpoint.rsplit(':').next().unwrap();
        for host in ["127.0.0.1", "localhost", "[::1]"] {
            let host = Some(format!("{host}:{port}"));
            let (status, body, headers) = call(&service, Call { host, ..good() }).await;
            assert_eq!(status, 200, "{}: {body}", service.name);
            let cors = headers.keys().find(|name| name.contains("access-control"));
            assert_eq!(cors, None, "{}", service.name);
        }
    }
}

#[tokio::test]
async fn who_cannot_sign_is_refused() {
    for service in services() {
        let refused = async |reason: &str, wanted: &str, changed: Call| {
            let (status, body, _) = call(&service, changed).await;
            assert_eq!(status, 403, "{} {reason}: {body}", service.name);
            assert!(body.contains(wanted), "{} {reason}: {body}", service.name);
            assert!(!body.contains("a token") && !body.contains(SECRET_KEY));
        };
        let invalid = "InvalidSignatureException";
        let call = Call {
            key: ("local", "local"),
            ..good()
        };
        refused("another key", "UnrecognizedClientException", call).await;
        let call = Call {
            key: (ACCESS_KEY, "guessed"),
            ..good()
        };
        refused("another secret", invalid, call).await;
        let call = Call {
            sent_body: Some(r#"{ "Limit": 1 }"#),
            ..good()
        };
        refused("another body", invalid, call).await;
        let call = Call {
            signed_for: Some("s3"),
            ..good()
        };
        refused("a signature for another service", invalid, call).await;
        let call = Call {
            header: Some(("x-amz-target", "AWSEvents.Other")),
            ..good()
        };
        refused("a second target", invalid, call).await;
        for skew in [-16_i64, 16] {
            let minutes = Duration::from_secs(60 * skew.unsigned_abs());
            let now = good().at;
            let at = match skew < 0 {
                true => now - minutes,
                false => now + minutes,
            };
            refused("another time", invalid, Call { at, ..good() }).await;
        }
        let unsigned = Request::post("/")
            .header("host", "127.0.0.1")
            .header("x-amz-target", service.target)
            .body(Full::new(Bytes::from(service.body)))
            .unwrap();
        let (status, body, _) = answer(&service, unsigned).await;
        assert_eq!(status, 403, "{}: {body}", service.name);
        assert!(
            body.contains("MissingAuthenticationTokenException"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn no_page_reaches_a_service_even_with_the_credentials() {
    for service in services() {
        let calls = [
            Call {
                header: Some(("origin", "https://evil.example")),
                ..good()
            },
            // A page in a frame without an origin of its own.
            Call {
                header: Some(("origin", "null")),
                ..good()
            },
            // A preflight.
            Call {
                header: Some(("origin", "https://evil.example")),
                method: "OPTIONS",
                ..good()
            },
            // A page whose name leads to this machine by now.
            Call {
                host: Some("evil.example:8000".into()),
                ..good()
            },
            Call {
                host: Some("127.0.0.1.evil.example".into()),
                ..good()
            },
        ];
        for changed in calls {
            let (status, body, headers) = call(&service, changed).await;
            assert_eq!(status, 403, "{}: {body}", service.name);
            assert!(body.contains("AccessDeniedException"), "{body}");
            assert!(
                !headers.keys().any(|name| name.contains("access-control")),
                "{}: {headers:?}",
                service.name
            );
        }
    }
}

#[tokio::test]
async fn kept_databases_are_closed_to_others_and_named_when_broken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dynamodb.sqlite");
    let now = Clock::at("2026-11-22T13:00:00Z").now();
    let start =
        || embedded::dynamodb::start(any_port(), &credentials(), Some(file.clone()), now.clone());
    let server = start().unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
    drop(server);
    std::fs::write(&file, "no database, but longer than its header").unwrap();
    let error = start().unwrap_err().to_string();
    assert!(error.starts_with(&file.display().to_string()), "{error}");
    assert!(error.contains("damaged"), "{error}");
}
