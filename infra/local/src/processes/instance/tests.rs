//! The Runtime API as a process sees it, and processes that do not get ready.

use std::os::unix::fs::PermissionsExt;

use axum::body::Body;
use http::{Method, Request};
use lambda_http::tower::ServiceExt;

use super::*;

const TRACE: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0";
const TIMEOUT: Duration = Duration::from_secs(29);

/// A Runtime API without a process, and what is behind it.
struct Given {
    router: Router,
    events: mpsc::Sender<Invocation>,
    ready: oneshot::Receiver<Result<(), Crash>>,
}

fn given() -> Given {
    let (events, receiver) = mpsc::channel(1);
    let (ready_sender, ready) = oneshot::channel();
    let api = Api {
        function: "given",
        events: tokio::sync::Mutex::new(receiver),
        handed: Mutex::default(),
        ready: Mutex::new(Some(ready_sender)),
    };
    Given {
        router: router(Arc::new(api)),
        events,
        ready,
    }
}

impl Given {
    async fn ask(&self, method: Method, path: &str, body: impl Into<Body>) -> Response {
        let request = Request::builder()
            .method(method)
            .uri(format!("/2018-06-01/runtime/{path}"))
            .body(body.into())
            .expect("a request");
        let answered = self.router.clone().oneshot(request).await;
        answered.expect("a router always answers")
    }

    /// The status. What is taken is answered as documented.
    async fn post(&self, path: &str, body: impl Into<Body>) -> u16 {
        let response = self.ask(Method::POST, path, body).await;
        let status = response.status();
        if status == StatusCode::ACCEPTED {
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
            assert_eq!(body.expect("a body"), r#"{"status":"OK"}"#);
        }
        status.as_u16()
    }

    /// Has an event handed out.
    async fn hand(&self, request_id: &str) -> oneshot::Receiver<Result<Bytes, Crash>> {
        let (invocation, answered) = Invocation::new(request_id, TRACE, Bytes::new(), TIMEOUT);
        self.events.send(invocation).await.expect("sent");
        let next = self.ask(Method::GET, "invocation/next", Body::empty());
        assert_eq!(next.await.status(), StatusCode::OK);
        answered
    }
}

#[tokio::test]
async fn an_event_comes_with_its_request_id_its_trace_and_the_time_it_has_to_be_answered_by() {
    let mut given = given();
    let earliest = since_epoch() + TIMEOUT;
    let (invocation, _answered) = Invocation::new("one", TRACE, Bytes::from("{}"), TIMEOUT);
    let latest = since_epoch() + TIMEOUT;
    given.events.send(invocation).await.expect("sent");
    let next = given.ask(Method::GET, "invocation/next", Body::empty());
    let next = next.await;
    assert_eq!(given.ready.try_recv(), Ok(Ok(())));
    let header = |name: &str| next.headers()[name].to_str().expect("text");
    assert_eq!(header("lambda-runtime-aws-request-id"), "one");
    assert_eq!(header("lambda-runtime-trace-id"), TRACE);
    let deadline_ms: u128 = header("lambda-runtime-deadline-ms")
        .parse()
        .expect("a number");
    assert!((earliest.as_millis()..=latest.as_millis()).contains(&deadline_ms));
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:given";
    assert_eq!(header("lambda-runtime-invoked-function-arn"), arn);
}

#[test]
fn every_trace_is_another_of_the_form_that_x_ray_knows() {
    let random = Random::from_seed(1);
    let (one, other) = (new_trace(&random), new_trace(&random));
    assert_ne!(one, other);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    for trace in [one, other] {
        let rest = trace.strip_prefix("Root=1-").expect("a root");
        let rest = rest.strip_suffix(";Sampled=0").expect("no sample");
        let (root, parent) = rest.split_once(";Parent=").expect("a parent");
        let (time, root) = root.split_once('-').expect("a time");
        assert!(hex(time, 8) && hex(root, 24) && hex(parent, 16), "{trace}");
    }
}

#[tokio::test]
async fn an_answer_under_another_request_id_is_refused() {
    let given = given();
    assert_eq!(given.post("invocation/one/response", "early").await, 400);
    let mut answered = given.hand("one").await;
    assert_eq!(given.post("invocation/other/response", "wrong").await, 400);
    assert_eq!(given.post("invocation/other/error", "{}").await, 400);
    assert!(answered.try_recv().is_err());
    assert_eq!(given.post("invocation/one/response", "right").await, 202);
    assert_eq!(answered.try_recv(), Ok(Ok(Bytes::from("right"))));
    assert_eq!(given.post("invocation/one/response", "again").await, 400);
}

#[tokio::test]
async fn a_reported_error_is_told_with_its_type() {
    let given = given();
    let mut answered = given.hand("one").await;
    let report = r#"{"errorType":"Fault","errorMessage":"no luck","stackTrace":[]}"#;
    assert_eq!(given.post("invocation/one/error", report).await, 202);
    let failed = Crash::Failed("Fault: no luck".into());
    assert_eq!(answered.try_recv(), Ok(Err(failed)));
}

#[tokio::test]
async fn a_response_over_six_megabytes_is_too_large() {
    let given = given();
    let mut answered = given.hand("one").await;
    let largest = vec![b'x'; RESPONSE_MAX_BYTES];
    assert_eq!(given.post("invocation/one/response", largest).await, 202);
    assert!(matches!(answered.try_recv(), Ok(Ok(_))));
    let mut answered = given.hand("two").await;
    let larger = vec![b'x'; RESPONSE_MAX_BYTES + 1];
    assert_eq!(given.post("invocation/two/response", larger).await, 413);
    let Ok(Err(Crash::Failed(told))) = answered.try_recv() else {
        panic!("it was taken");
    };
    assert!(told.starts_with("Function.ResponseSizeTooLarge"), "{told}");
}

#[tokio::test]
async fn an_error_of_the_start_is_told_as_one() {
    let mut given = given();
    let report = r#"{"errorType":"Config","errorMessage":"X is not set"}"#;
    assert_eq!(given.post("init/error", report).await, 202);
    let told = Crash::Init("Config: X is not set".into());
    assert_eq!(given.ready.try_recv(), Ok(Err(told)));
}

/// One test for both: a script that is still being written for one cannot be run by the other.
#[tokio::test]
async fn a_process_that_ends_at_its_start_and_one_that_never_asks_are_told_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = async |script: &str| {
        let file = directory.path().join("bootstrap");
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("written");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&file, executable).expect("set");
        let environment = BTreeMap::new();
        let started = Instance::start("given", &file, 256, &environment, directory.path());
        started.await.expect("started")
    };
    let mut instance = start("exit 3").await;
    let ended = instance.invoke(Bytes::new(), "one", TRACE, TIMEOUT).await;
    assert_eq!(ended, Err(Crash::Exited("exit status: 3".into())));
    assert!(instance.if_alive().is_none());

    let mut instance = start("exec sleep 600").await;
    assert_ne!(instance.pid(), 0);
    let ended = instance.be_ready(Duration::from_millis(50)).await;
    let told = Crash::Init("not ready after 0.05 s".into());
    assert_eq!(ended, Err(told));
    assert_eq!(instance.pid(), 0, "it is killed");
    assert!(instance.if_alive().is_none());
}
