//! What invocations tell beside their answers.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use serde_json::{Value, json};
use tests::TestApp;
use tracing_subscriber::fmt::MakeWriter;
use wharfage::domain::period::hour_of;
use wharfage::error::Fault;
use wharfage::runtime::{DELIVERIES, Entry, QueueHandler, handle_batch};
use wharfage::segments::SegmentKey;
use wharfage::telemetry::Invocation;

const TRACE: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";

fn figures(app: &TestApp, invocation: &Invocation) -> Value {
    invocation.document("test", app.now(), Duration::from_millis(5))
}

#[tokio::test]
async fn messages_carry_the_trace_of_what_sent_them_and_their_worker_carries_it_on() {
    let app = TestApp::start_idle(&[("CleanupStepEntries", "1")]).await;
    let account = app.order("client", "traced").await;
    let s3 = app.s3("client", &account).await;
    for key in ["a", "b", "c"] {
        app.put(&s3, "traced", key, 1).await;
    }
    let request = Invocation::begin("delete_account", None, Some(TRACE.into()));
    let parameters = json!({ "s3uid": account.s3uid });
    let work = app.call_directly("client", "delete_account", parameters);
    let (reply, calls) = app.tap.scope(request.run(work)).await;
    reply.ok();
    let traces = |calls: &[tests::tap::Noted]| -> Vec<Option<String>> {
        let sent = calls
            .iter()
            .filter(|call| call.name.starts_with("SQS Send"));
        sent.map(|call| call.trace.clone()).collect()
    };
    assert_eq!(traces(&calls), [Some(TRACE.to_owned())]);

    // As SQS gives it to the worker, in an invocation with a trace of its own.
    let mut message = SqsMessage::default();
    message.message_id = Some("one".into());
    let body = json!({ "task_id": format!("remove_account:{}", account.s3uid), "step": 0 });
    message.body = Some(body.to_string());
    message
        .attributes
        .insert("AWSTraceHeader".into(), TRACE.into());
    let mut event = SqsEvent::default();
    event.records = vec![message];
    let Entry::Queue(handler) = tests::function("cleanup").entry else {
        panic!("cleanup is a worker");
    };
    let worker = Invocation::begin("cleanup", None, Some("Root=1-other".into()));
    let work = worker.run(handle_batch(app.context(), handler, event));
    let (response, calls) = app.tap.scope(work).await;
    assert!(response.batch_item_failures.is_empty());
    assert_eq!(traces(&calls), [Some(TRACE.to_owned())]);
    let document = figures(&app, &worker);
    assert_eq!(document["TraceId"], "1-other");
    assert_eq!(document["Calls"], calls.len());
}

/// Log lines, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the log").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

/// The level of the one line that a delivery leaves in the log.
async fn level_of(app: &TestApp, handler: QueueHandler, delivery: Option<u32>) -> String {
    let mut message = SqsMessage::default();
    message.message_id = Some("one".into());
    message.body = Some(String::new());
    if let Some(delivery) = delivery {
        let count = ("ApproximateReceiveCount".into(), delivery.to_string());
        message.attributes.extend([count]);
    }
    let mut event = SqsEvent::default();
    event.records = vec![message];
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(log.clone())
        .finish();
    let subscribed = tracing::subscriber::set_default(subscriber);
    let response = handle_batch(app.context(), handler, event).await;
    drop(subscribed);
    // Whatever is logged, the message goes back.
    assert_eq!(response.batch_item_failures.len(), 1);
    let log = log.0.lock().expect("the log");
    let line: Value = serde_json::from_slice(&log).expect("one line");
    line["level"].as_str().expect("a level").to_owned()
}

#[tokio::test]
async fn a_message_that_is_tried_again_is_no_error_until_its_last_delivery() {
    let app = TestApp::start_idle(&[]).await;
    let outrun: QueueHandler = |_, _| {
        let fault = Fault::retryable("regrouping accounts", "somebody else is changing one");
        Box::pin(async { Err(fault) })
    };
    for delivery in 1..DELIVERIES {
        assert_eq!(level_of(&app, outrun, Some(delivery)).await, "WARN");
    }
    assert_eq!(level_of(&app, outrun, Some(DELIVERIES)).await, "ERROR");
    // Nobody knows whether there is another.
    assert_eq!(level_of(&app, outrun, None).await, "ERROR");
    let broken: QueueHandler = |_, _| {
        let fault = Fault::permanent("reading a queue message", "it is none");
        Box::pin(async { Err(fault) })
    };
    assert_eq!(level_of(&app, broken, Some(1)).await, "ERROR");
}

#[tokio::test]
async fn an_invocation_tells_the_action_its_calls_and_whether_it_was_refused() {
    let app = TestApp::start_idle(&[]).await;
    let invocation = Invocation::begin("s3_php", None, None);
    let parameters = json!({ "token": app.token("client"), "action": "get_users" });
    let Entry::Http(handler) = tests::function("s3_php").entry else {
        panic!("s3_php answers requests");
    };
    // Not its path.
    let request = tests::form_request("/s3", &parameters);
    let response = invocation.run(handler(app.context(), request)).await;
    assert_eq!(response.status(), 404);
    assert_eq!(figures(&app, &invocation)["Rejections"], 1);

    let invocation = Invocation::begin("list_plans", None, None);
    let work = app.call_directly("client", "list_plans", json!({}));
    let (reply, calls) = app.tap.scope(invocation.run(work)).await;
    reply.ok();
    let document = figures(&app, &invocation);
    assert_eq!(
        (&document["Action"], &document["Stack"]),
        (&json!("list_plans"), &json!("test"))
    );
    assert_eq!(document["Calls"], calls.len());
    assert_eq!(document.get("Rejections"), None);
    // Nothing that a caller sent or was given.
    assert!(!document.to_string().contains(app.token("client")));
}

#[tokio::test]
async fn hours_that_were_missed_are_counted_when_the_next_is_asked_for() {
    let app = TestApp::start_idle(&[]).await;
    for location in app.stack.locations().keys() {
        let bucket_name = format!("metered-{}", location.to_lowercase());
        let order = json!({ "plan_id": 2, "bucket_name": bucket_name, "location": location });
        app.order_with("client", order).await;
    }
    let run = async || {
        let invocation = Invocation::begin("collect_usage", None, None);
        invocation
            .run(app.run_directly("collect_usage"))
            .await
            .expect("a run");
        figures(&app, &invocation)
    };
    let first = run().await;
    assert_eq!(first["MissedHours"], 0);
    // Nobody works on the queue for three hours and more.
    app.let_pass(jiff::SignedDuration::from_hours(3));
    let late = run().await;
    let locations = app.stack.locations().len() as u64;
    assert_eq!(late["MissedHours"], 3 * locations);
    assert_eq!(late["MeteringLagHours"], 4);
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_counted_whoever_asked_it() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "left-alone").await;
    let waiting = app
        .context()
        .database
        .account(&account.s3uid)
        .await
        .expect("an answer")
        .expect("the account");
    let key = SegmentKey {
        location: "NL".into(),
        hour: hour_of(waiting.created_at),
        shard: 0,
    };
    app.let_pass(jiff::SignedDuration::from_hours(1));
    app.stack.clusters()["NL"].stop().await;
    let counted = |invocation: &Invocation| figures(&app, invocation)["ClusterUnavailable"].clone();

    let own = json!({ "s3uid": account.s3uid, "bucket_name": "second" });
    let order = json!({ "plan_id": 2, "bucket_name": "third" });
    for (action, parameters) in [("create_bucket", own), ("create_order", order)] {
        let request = Invocation::begin(action, None, None);
        let work = app.call_directly("client", action, parameters);
        request.run(work).await.refused(503);
        assert!(counted(&request).as_u64() > Some(0), "{action}");
    }
    let worker = Invocation::begin("usage_shards", None, None);
    let body = serde_json::to_string(&key).expect("JSON");
    let work = app.handle_directly("usage_shards", &body);
    worker.run(work).await.expect_err("nobody answered");
    assert_eq!(counted(&worker), 1);
}

#[tokio::test]
async fn a_recount_tells_how_many_balances_differ_and_so_does_one_without_any() {
    let app = TestApp::start_idle(&[]).await;
    let recount = async || {
        let invocation = Invocation::begin("billing", None, None);
        let body = json!({ "work": "recount", "from": 1, "to": 3 }).to_string();
        invocation
            .run(app.handle_directly("billing", &body))
            .await
            .expect("a recount");
        figures(&app, &invocation)["LedgerDifferences"].clone()
    };
    assert_eq!(recount().await, 0);
    app.break_balance("client").await;
    assert_eq!(recount().await, 1);
}
