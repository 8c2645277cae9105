//! Whatever one location or one client does, the others' questions do not wait for it.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::join_all;
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use tests::{TestAccount, TestApp};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use wharfage::domain::task::Work;

/// More than all workers together.
const QUESTIONS: usize = 40;
/// Workers that the template lets ask clusters at a time.
const WORKERS: u32 = 10;

/// Switches a location's cluster off and puts something in its place that takes every call and never answers; what it took.
async fn silence(app: &TestApp, location: &str) -> Arc<Semaphore> {
    let cluster = &app.stack.clusters()[location];
    cluster.stop().await;
    let endpoint: http::Uri = cluster.admin_endpoint.parse().expect("an endpoint");
    let authority = endpoint.authority().expect("host and port").as_str();
    let address: SocketAddr = authority.parse().expect("an address");
    let listener = TcpListener::bind(address).await.expect("its address");
    let taken = Arc::new(Semaphore::new(0));
    let calls = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((caller, _)) = listener.accept().await {
            held.push(caller);
            calls.add_permits(1);
        }
    });
    taken
}

async fn order_at(app: &TestApp, who: &str, location: &str, bucket_name: String) -> TestAccount {
    let order = json!({ "plan_id": 2, "bucket_name": bucket_name, "location": location });
    app.order_with(who, order).await
}

fn of(account: &TestAccount) -> Value {
    json!({ "s3uid": account.s3uid })
}

#[tokio::test]
async fn many_questions_to_a_slow_location_do_not_hold_up_one_to_a_fast_location() {
    let app = TestApp::with(&[("AccountsPerClient", "100")]).start().await;
    let credit = json!({ "id": app.client_id("client"), "amount": 1_000, "reference": "paid" });
    app.call("admin", "add_credit", credit).await.ok();
    let there: Vec<TestAccount> = stream::iter(0..QUESTIONS)
        .map(|number| order_at(&app, "client", "DE", format!("there-{number}")))
        .buffer_unordered(4)
        .collect()
        .await;
    let here = order_at(&app, "client2", "NL", "here".into()).await;
    let taken = silence(&app, "DE").await;

    let asked = there
        .iter()
        .map(|account| app.call("client", "get_buckets", of(account)));
    let slow = join_all(asked);
    let fast = async {
        // All workers are in the hands of the slow location.
        let _ = taken.acquire_many(WORKERS).await.expect("calls");
        app.call("client2", "get_buckets", of(&here)).await.ok();
        // Most of the others are held still, or wait: in the order of a plain queue, all of them would have had their turn before.
        let mut answered = 0;
        for account in &there {
            let s3uid = account.s3uid.clone();
            let task = app
                .context()
                .database
                .task(&Work::ListBuckets { s3uid }.task_id())
                .await;
            let task = task.expect("an answer").expect("a task");
            answered += usize::from(task.answer.is_some());
        }
        assert!(answered < QUESTIONS / 2, "{answered} were answered before");
    };
    tokio::select! {
        _ = slow => panic!("nothing answers them"),
        () = fast => {}
    }
}

#[tokio::test]
async fn a_question_that_its_cluster_takes_long_to_answer_is_asked_again_by_those_who_have_the_time()
 {
    let app = TestApp::start_idle(&[]).await;
    let account = order_at(&app, "client", "DE", "there".into()).await;
    silence(&app, "DE").await;
    let asked = json!({ "s3uid": account.s3uid });
    let (reply, drained) = futures::join!(app.call("client", "get_buckets", asked), async {
        // Once for each queue.
        let mut handled = 0;
        while handled < 2 {
            handled += app.stack.drain().await.expect("drained").handled;
        }
        handled
    });
    assert_eq!(drained, 2);
    reply.refused(503);
}
