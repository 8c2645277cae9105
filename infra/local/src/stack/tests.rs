//! A stack over functions that do nothing but what the runner has to be seen to handle.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::QueueAttributeName;
use futures::future::BoxFuture;
use jiff::ToSpan;
use lambda_http::RequestExt;
use lambda_http::request::RequestContext;
use serde_json::json;
use wharfage::domain::client::ClientId;
use wharfage::error::Fault;
use wharfage::runtime::{Entry, Function};

use super::*;
use crate::Data;
use crate::template::TEXT;

fn echo<'a>(_: &'a Context, request: Request) -> BoxFuture<'a, Response<Body>> {
    Box::pin(async move {
        match request.uri().path() {
            "/s3/get_files" => panic!("as told"),
            "/s3/get_users" => std::future::pending().await,
            path => {
                let RequestContext::ApiGatewayV2(context) = request.request_context() else {
                    panic!("another context");
                };
                let source_ip = context.http.source_ip.unwrap_or_default();
                let route_key = context.route_key.unwrap_or_default();
                Response::new(Body::Text(format!("{path} {route_key} {source_ip}")))
            }
        }
    })
}

static SLOW_STARTED: AtomicUsize = AtomicUsize::new(0);
static SLOW_DONE: AtomicUsize = AtomicUsize::new(0);

fn consume<'a>(_: &'a Context, body: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
    Box::pin(async move {
        match body {
            "good" => Ok(()),
            "slow" => {
                SLOW_STARTED.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(300)).await;
                SLOW_DONE.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
            "panic" => panic!("as told"),
            "outrun" => Err(Fault::retryable("consuming", "as told")),
            _ => Err(Fault::permanent("consuming", "as told")),
        }
    })
}

fn tell_time<'a>(context: &'a Context) -> BoxFuture<'a, Result<Value, Fault>> {
    Box::pin(async move { Ok(json!(context.now())) })
}

fn outrun<'a>(_: &'a Context) -> BoxFuture<'a, Result<Value, Fault>> {
    Box::pin(async { Err(Fault::retryable("running", "as told")) })
}

/// Every function the template names, by its name in the template.
fn stand_ins() -> &'static [Function] {
    let functions: Vec<Function> = TEXT
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Handler: "))
        .map(|name| Function {
            name: name.to_owned().leak(),
            entry: match name {
                "billing" | "cleanup" | "storage_tasks" | "usage_shards" => Entry::Queue(consume),
                "chase_invoices" | "close_periods" | "collect_usage" | "create_first_admin"
                | "end_services" | "publish_events" | "recount_ledger" | "resume_orders"
                | "resume_tasks" => Entry::Schedule(tell_time),
                _ => Entry::Http(echo),
            },
        })
        .collect();
    functions.leak()
}

fn options() -> Options {
    Options {
        functions: stand_ins(),
        clock: Some(at("2026-01-01T00:00:00Z")),
        ..Options::default()
    }
}

/// Log lines, as text.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    /// The levels of the lines since the last look.
    fn levels(&self) -> Vec<String> {
        let lines = std::mem::take(&mut *self.0.lock().expect("the log"));
        let lines = String::from_utf8(lines).expect("text");
        let level = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            line["level"].as_str().expect("a level").to_owned()
        };
        lines.lines().map(level).collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the log").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn changed(from: &str, to: &str) -> &'static str {
    assert!(TEXT.contains(from), "{from}");
    TEXT.replace(from, to).leak()
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("timestamp")
}

async fn get(stack: &Stack, path: &str) -> (u16, String) {
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = path.parse().expect("path");
    let response = stack.invoke_http(request).await;
    let Body::Text(text) = response.body() else {
        panic!("no text");
    };
    (response.status().as_u16(), text.clone())
}

fn sqs(stack: &Stack) -> aws_sdk_sqs::Client {
    let environment = stack.environment();
    let credentials = embedded::Credentials {
        access_key_id: environment["AWS_ACCESS_KEY_ID"].clone(),
        secret_access_key: environment["AWS_SECRET_ACCESS_KEY"].clone(),
    };
    client::sqs(
        &environment["AWS_ENDPOINT_URL_SQS"],
        &credentials,
        &client::plain_http(),
    )
}

async fn send(stack: &Stack, queue: &str, body: &str) {
    sqs(stack)
        .send_message()
        .queue_url(&stack.environment()[queue])
        .message_body(body)
        .send()
        .await
        .expect("sent");
}

async fn dead_letters(stack: &Stack, queue: &str, dead_letter_queue: &str) -> String {
    let url = stack.environment()[queue].replace(&queue_name(queue), dead_letter_queue);
    sqs(stack)
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
        .send()
        .await
        .expect("attributes")
        .attributes
        .and_then(|attributes| attributes.into_values().next())
        .expect("number")
}

fn queue_name(variable: &str) -> String {
    match variable {
        "CLEANUP_QUEUE_URL" => "CleanupQueue".into(),
        _ => "StorageTasksQueue".into(),
    }
}

#[tokio::test]
async fn a_stack_starts_fast_and_disturbs_no_other() {
    Stack::start(options()).await.expect("the first loads code");
    let begun = Instant::now();
    let one = Stack::start(options()).await.expect("one");
    let took = begun.elapsed();
    // Far above what it takes, so that a busy machine does not fail it.
    assert!(took < Duration::from_secs(2), "{took:?}");
    eprintln!("a stack started in {took:?}");
    let two = Stack::start(options()).await.expect("two");
    one.advance(2.hours()).await.expect("advanced");
    assert_eq!(two.clock().now(), at("2026-01-01T00:00:00Z"));
    assert_ne!(
        one.seeded().api_key("client"),
        two.seeded().api_key("client")
    );
    drop(one);
    let client = two
        .context()
        .database
        .client(ClientId(1))
        .await
        .expect("client");
    assert_eq!(client.expect("client").email, "client@example.com");
    let currency = wharfage::domain::money::Currency::from_code("USD").expect("USD");
    let balances = two
        .context()
        .database
        .balances(ClientId(2), currency)
        .await
        .expect("balances");
    assert_eq!((balances.credit_minor, balances.sum_minor()), (20_000, 0));
    assert!(two.context().database.plans().await.expect("plans").len() >= 4);
}

#[tokio::test]
async fn routes_are_the_template_s() {
    let stack = Stack::start(options()).await.expect("stack");
    let (status, text) = get(&stack, "/s3/history?a=1").await;
    assert_eq!(
        (status, text.as_str()),
        (200, "/s3/history ANY /s3/history 127.0.0.1")
    );
    assert_eq!(
        get(&stack, "/nowhere").await.1,
        "/nowhere $default 127.0.0.1"
    );
    let mut request = Request::new(Body::Text("x".into()));
    *request.uri_mut() = "/s3.php".parse().expect("path");
    request
        .extensions_mut()
        .insert(crate::SourceIp([192, 0, 2, 7].into()));
    let response = stack.invoke_http(request).await;
    assert!(response.headers().contains_key("apigw-requestid"));
    assert_eq!(
        response.body(),
        &Body::Text("/s3.php ANY /s3.php 192.0.2.7".into())
    );

    let without = changed("Path: /s3/history\n", "Path: /s3/other\n");
    // The default route has neither a path nor a method.
    let default = "        Default:\n          Type: HttpApi\n          Properties:\n            ApiId: !Ref Api\n            TimeoutInMillis: 30000\n";
    assert!(without.contains(default));
    let stack = Stack::start(Options {
        template: without.replace(default, "").leak(),
        ..options()
    })
    .await
    .expect("stack");
    assert_eq!(
        get(&stack, "/s3/history").await,
        (404, r#"{"message":"Not Found"}"#.into())
    );
    assert_eq!(get(&stack, "/s3/other").await.0, 200);
}

#[tokio::test]
async fn a_crash_is_a_500_and_a_slow_answer_a_503() {
    let template = changed(
        "Path: /s3/get_users\n            Method: ANY\n            TimeoutInMillis: 30000",
        "Path: /s3/get_users\n            Method: ANY\n            TimeoutInMillis: 50",
    );
    let stack = Stack::start(Options {
        template,
        ..options()
    })
    .await
    .expect("stack");
    assert_eq!(
        get(&stack, "/s3/get_files").await,
        (500, r#"{"message":"Internal Server Error"}"#.into())
    );
    assert_eq!(
        get(&stack, "/s3/get_users").await,
        (503, r#"{"message":"Service Unavailable"}"#.into())
    );
    assert_eq!(get(&stack, "/s3/get_buckets").await.0, 200);
}

#[tokio::test]
async fn failed_messages_are_tried_again_and_set_aside() {
    let stack = Stack::start(Options {
        template: changed("BatchSize: 1", "BatchSize: 5"),
        ..options()
    })
    .await
    .expect("stack");
    for body in ["good", "bad", "good", "good"] {
        send(&stack, "CLEANUP_QUEUE_URL", body).await;
    }
    send(&stack, "STORAGE_TASKS_QUEUE_URL", "panic").await;
    let drained = stack.drain().await.expect("drained");
    assert_eq!(
        drained,
        Drained {
            handled: 3,
            failed: 10
        }
    );
    assert_eq!(
        dead_letters(&stack, "CLEANUP_QUEUE_URL", "CleanupDeadLetterQueue").await,
        "1"
    );
    assert_eq!(
        dead_letters(
            &stack,
            "STORAGE_TASKS_QUEUE_URL",
            "StorageTasksDeadLetterQueue"
        )
        .await,
        "1"
    );
    assert_eq!(stack.drain().await.expect("drained"), Drained::default());
}

#[tokio::test]
async fn what_is_tried_again_is_logged_as_an_error_at_its_last_try_only() {
    let mut functions = stand_ins().to_vec();
    for function in &mut functions {
        if function.name == "resume_orders" {
            function.entry = Entry::Schedule(outrun);
        }
    }
    let stack = Stack::start(Options {
        functions: functions.leak(),
        ..options()
    })
    .await
    .expect("stack");
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::WARN)
        .with_writer(move || writer.clone())
        .finish();
    let _subscribed = tracing::subscriber::set_default(subscriber);
    send(&stack, "CLEANUP_QUEUE_URL", "outrun").await;
    stack.drain().await.expect("drained");
    assert_eq!(log.levels(), ["WARN", "WARN", "WARN", "WARN", "ERROR"]);
    let advanced = stack.advance(1.hour()).await.expect("advanced");
    let failed = advanced.ran.iter().filter(|run| run.result.is_err());
    let levels = log.levels();
    assert_eq!(levels.len(), failed.count());
    assert!(!levels.is_empty() && levels.iter().all(|level| level == "WARN"));
}

#[tokio::test]
async fn without_a_report_lambda_takes_a_batch_for_done() {
    let template = changed(
        "            FunctionResponseTypes: [ReportBatchItemFailures]\n",
        "",
    );
    let stack = Stack::start(Options {
        template,
        ..options()
    })
    .await
    .expect("stack");
    send(&stack, "CLEANUP_QUEUE_URL", "bad").await;
    let drained = stack.drain().await.expect("drained");
    assert_eq!((drained.handled, drained.failed), (1, 0));
}

#[tokio::test]
async fn draining_waits_for_what_pollers_hold() {
    let stack = Stack::start(Options {
        background: true,
        ..options()
    })
    .await
    .expect("stack");
    send(&stack, "CLEANUP_QUEUE_URL", "slow").await;
    while SLOW_STARTED.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stack.drain().await.expect("drained");
    assert_eq!(SLOW_DONE.load(Ordering::SeqCst), 1);
    // One that a poller saw fail is not left hidden for minutes.
    send(&stack, "CLEANUP_QUEUE_URL", "bad").await;
    stack.drain().await.expect("drained");
    assert_eq!(
        dead_letters(&stack, "CLEANUP_QUEUE_URL", "CleanupDeadLetterQueue").await,
        "1"
    );
}

#[tokio::test]
async fn a_jump_runs_what_falls_due_in_order() {
    let template = changed(
        "ScheduleExpression: rate(5 minutes)",
        "ScheduleExpression: cron(30 0 * * ? *)",
    );
    let stack = Stack::start(Options {
        template,
        ..options()
    })
    .await
    .expect("stack");
    let advanced = stack
        .advance_to(at("2026-01-01T01:15:00Z"))
        .await
        .expect("advanced");
    let ran: Vec<(String, &str)> = advanced
        .ran
        .iter()
        .map(|run| (run.at.to_string(), run.job))
        .collect();
    assert_eq!(
        ran,
        [
            ("2026-01-01T00:05:00Z".into(), "collect_usage"),
            ("2026-01-01T00:20:00Z".into(), "close_periods"),
            ("2026-01-01T00:25:00Z".into(), "end_services"),
            ("2026-01-01T00:30:00Z".into(), "resume_tasks"),
            ("2026-01-01T00:30:00Z".into(), "chase_invoices"),
            ("2026-01-01T01:00:00Z".into(), "resume_orders"),
            ("2026-01-01T01:00:00Z".into(), "publish_events"),
            ("2026-01-01T01:05:00Z".into(), "collect_usage"),
            ("2026-01-01T01:15:00Z".into(), "resume_orders"),
            ("2026-01-01T01:15:00Z".into(), "publish_events"),
        ]
    );
    // Each saw the time it was due at.
    for run in &advanced.ran {
        assert_eq!(run.result, Ok(json!(run.at)));
    }
    assert_eq!(stack.context().now(), at("2026-01-01T01:15:00Z"));
    let month = stack.advance(1.month()).await.expect("advanced");
    assert_eq!(month.now, at("2026-02-01T01:15:00Z"));
    assert!(matches!(
        stack.advance_to(at("2026-01-01T00:00:00Z")).await,
        Err(Error::Past { .. })
    ));
    assert_eq!(
        stack.run_job("resume_tasks").await.expect("ran"),
        json!("2026-02-01T01:15:00Z")
    );
    assert!(matches!(
        stack.run_job("other").await,
        Err(Error::UnknownJob { .. })
    ));
}

#[tokio::test]
async fn kept_data_lasts_over_restarts() {
    let directory = tempfile::tempdir().expect("directory");
    let options = || Options {
        data: Data::Dir(directory.path().join("data")),
        ..options()
    };
    let stack = Stack::start(options()).await.expect("stack");
    assert!(matches!(
        Stack::start(options()).await,
        Err(Error::Locked(_))
    ));
    stack.advance(1.day()).await.expect("advanced");
    let key = wharfage::segments::SegmentKey {
        location: "NL".into(),
        hour: at("2026-01-01T00:00:00Z"),
        shard: 0,
    };
    let segments = &stack.context().segments;
    segments
        .put(&key, Vec::new(), at("2026-01-01T01:00:00Z"))
        .await
        .expect("written");
    let api_key = stack.seeded().api_key("admin").to_owned();
    drop(stack);
    let stack = Stack::start(options()).await.expect("again");
    assert_eq!(stack.seeded().api_key("admin"), api_key);
    assert_eq!(stack.context().now(), at("2026-01-02T00:00:00Z"));
    let segment = stack.context().segments.get(&key).await.expect("read");
    assert_eq!(segment.as_deref(), Some([].as_slice()));
    let hash = wharfage::domain::credential::hash(&api_key);
    let kept = stack
        .context()
        .database
        .api_key(&hash)
        .await
        .expect("api key");
    assert_eq!(kept.expect("api key").client_id, ClientId(3));
}

#[tokio::test]
async fn kept_data_gets_the_indexes_that_came_since() {
    let directory = tempfile::tempdir().expect("directory");
    let index = "        - IndexName: by_actor
          KeySchema:
            - { AttributeName: acted_by, KeyType: HASH }
            - { AttributeName: sk, KeyType: RANGE }
          Projection: { ProjectionType: ALL }
";
    let attribute = "        - { AttributeName: acted_by, AttributeType: S }\n";
    let expiry = "      TimeToLiveSpecification:
        AttributeName: expires_at_epoch
        Enabled: true
";
    for text in [index, attribute, expiry] {
        assert!(TEXT.contains(text), "{text}");
    }
    let former = TEXT.replace(index, "").replace(attribute, "");
    let start = |template: &'static str| {
        Stack::start(Options {
            template,
            data: Data::Dir(directory.path().join("data")),
            ..options()
        })
    };
    drop(
        start(former.replace(expiry, "").leak())
            .await
            .expect("stack"),
    );
    let stack = start(TEXT).await.expect("again");
    let by_nobody = stack
        .context()
        .database
        .history_by(ClientId(1), 10, 0, None);
    let entries = by_nobody.await.expect("the index is there").entries;
    assert!(entries.is_empty(), "{entries:?}");
    drop(stack);
    start(TEXT).await.expect("a third time");
}

#[tokio::test]
async fn what_does_not_fit_together_does_not_start() {
    let refused = async |options: Options| match Stack::start(options).await {
        Ok(_) => "started".to_owned(),
        Err(error) => error.to_string(),
    };
    let unknown = refused(Options {
        template: changed("Handler: show_key\n", "Handler: show_keys\n"),
        ..options()
    });
    assert_eq!(
        unknown.await,
        "infra/template.yaml: Resources.ShowKeyFunction.Properties.Handler: there is no function show_keys"
    );
    let unfit = refused(Options {
        template: changed("Handler: cleanup\n", "Handler: show_key\n"),
        ..options()
    });
    assert_eq!(
        unfit.await,
        "infra/template.yaml: Resources.CleanupFunction.Properties.Events: show_key takes HTTP requests, not queue messages"
    );
    let missing = refused(Options {
        template: changed("        USAGE_TABLE: !Ref UsageTable\n", ""),
        ..options()
    });
    assert!(missing.await.contains("USAGE_TABLE is not set"));
    let parameter = refused(Options {
        parameters: BTreeMap::from([("InvoiceDueDays".into(), "many".into())]),
        ..options()
    });
    assert!(parameter.await.contains("INVOICE_DUE_DAYS"));
}
