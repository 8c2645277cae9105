//! Many orders at once, by one client and by many: what one client's parallel orders cost beside the same number of other clients'.
//!
//! `cargo bench -p tests --bench orders` prints a table. Both sides of a row run in the same process, one after the other and in turn, so
//! the ratio is what to look at.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures the machine's own time"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::TestApp;

/// Orders at once.
const CONCURRENCY: [usize; 3] = [32, 128, 512];
/// Clients of the other side.
const CLIENTS: usize = 32;
/// How often each side of a row is measured.
const ROUNDS: usize = 3;

struct Side {
    seconds: f64,
    latencies: Vec<Duration>,
    statuses: BTreeMap<u16, usize>,
}

#[tokio::main]
async fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let (concurrency, rounds) = match quick {
        true => (&CONCURRENCY[..1], 1),
        false => (&CONCURRENCY[..], ROUNDS),
    };
    let app = TestApp::start_idle(&[("AccountsPerClient", "100000")]).await;
    let mut tokens = Vec::new();
    for number in 0..=CLIENTS {
        tokens.push(client(&app, number).await);
    }
    let (one, many) = tokens.split_first().expect("clients");
    println!("| at once | clients | orders/s | p50 ms | p99 ms | answers | 1 : {CLIENTS} |");
    println!("|---|---|---|---|---|---|---|");
    for &at_once in concurrency {
        let (mut ones, mut manys) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let name = |side: &str| format!("{side}-{at_once}-{round}");
            ones.push(measure(&app, std::slice::from_ref(one), at_once, &name("one")).await);
            manys.push(measure(&app, many, at_once, &name("many")).await);
        }
        let rates = [&ones, &manys].map(|sides| {
            let seconds: f64 = sides.iter().map(|side| side.seconds).sum();
            (at_once * rounds) as f64 / seconds
        });
        let ratio = rates[1] / rates[0];
        row(at_once, 1, rates[0], &ones, "");
        row(at_once, CLIENTS, rates[1], &manys, &format!("{ratio:.2} ×"));
    }
}

async fn client(app: &TestApp, number: usize) -> String {
    let made = json!({ "email": format!("orders-{number}@example.com"), "currency": "EUR" });
    let made = app.call("admin", "create_client", made).await.ok();
    let id = made["client"]["client_id"].clone();
    let money = json!({ "id": id, "amount": "900000", "reference": format!("orders-{number}") });
    app.call("admin", "add_credit", money).await.ok();
    let key = json!({ "id": id, "name": "orders" });
    let key = app.call("admin", "create_api_key", key).await.ok();
    let key = key["api_key"].as_str().expect("a key").to_owned();
    let session = app.auth("login", json!({ "key": key })).await;
    let token = session.body["result"]["token"].as_str();
    token.expect("a token").to_owned()
}

async fn measure(app: &TestApp, tokens: &[String], at_once: usize, name: &str) -> Side {
    let begun = Instant::now();
    let orders = (0..at_once).map(|number| async move {
        let order = json!({
            "token": tokens[number % tokens.len()],
            "plan_id": 2,
            "bucket_name": format!("{name}-{number}"),
        });
        let begun = Instant::now();
        let reply = app.post_form("/s3/create_order", &order).await;
        if reply.status != 200 {
            tell(reply.status, &reply.body);
        }
        (reply.status, begun.elapsed())
    });
    let replies = futures::future::join_all(orders).await;
    let seconds = begun.elapsed().as_secs_f64();
    let mut latencies: Vec<Duration> = replies.iter().map(|(_, took)| *took).collect();
    latencies.sort_unstable();
    let mut statuses = BTreeMap::new();
    for (status, _) in replies {
        *statuses.entry(status).or_insert(0) += 1;
    }
    Side {
        seconds,
        latencies,
        statuses,
    }
}

fn tell(status: u16, body: &Value) {
    eprintln!("{status}: {body}");
}

fn row(at_once: usize, clients: usize, rate: f64, sides: &[Side], ratio: &str) {
    let mut all: Vec<Duration> = sides.iter().flat_map(|s| s.latencies.clone()).collect();
    all.sort_unstable();
    let at = |share: usize| all[(all.len() * share / 100).min(all.len() - 1)].as_millis();
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for (status, count) in sides.iter().flat_map(|side| &side.statuses) {
        *statuses.entry(*status).or_insert(0) += count;
    }
    let answers: Vec<String> = statuses
        .iter()
        .map(|(status, count)| format!("{count} × {status}"))
        .collect();
    println!(
        "| {at_once} | {clients} | {rate:.0} | {} | {} | {} | {ratio} |",
        at(50),
        at(99),
        answers.join(", ")
    );
}
