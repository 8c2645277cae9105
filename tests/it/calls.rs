//! What each action costs in a process that has the clusters' secrets: its calls to AWS and the clusters, and how many of them have to come one after the other. The table of it
//! stands in ARCHITECTURE.md; `UPDATE_CALLS=1 cargo test -p tests calls` writes it anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use functions::ACTIONS;
use serde_json::{Value, json};
use tests::tap::Noted;
use tests::{TestAccount, TestApp};

const BEGIN: &str = "<!-- calls:begin -->\n";
const END: &str = "<!-- calls:end -->";

/// The calls of an action: in each level those that are made at once.
type Levels = Vec<Vec<String>>;

fn levels(mut noted: Vec<Noted>) -> Levels {
    noted.sort_by(|a, b| (a.depth, &a.name).cmp(&(b.depth, &b.name)));
    let mut levels: Levels = Vec::new();
    for call in noted {
        if levels.len() < call.depth {
            levels.resize(call.depth, Vec::new());
        }
        levels[call.depth - 1].push(call.name);
    }
    assert!(
        levels.iter().all(|level| !level.is_empty()),
        "a depth without calls: {levels:?}"
    );
    levels
}

/// Repeated looks at one task count as one.
fn polling_once(mut levels: Levels) -> Levels {
    levels.dedup_by(|next, last| next == last && next.as_slice() == ["DynamoDB GetItem"]);
    levels
}

fn row(name: &str, levels: &Levels) -> String {
    let calls: usize = levels.iter().map(Vec::len).sum();
    let mut order = Vec::new();
    for level in levels {
        let mut names: Vec<(&str, usize)> = Vec::new();
        for name in level {
            match names.last_mut() {
                Some((last, count)) if last == name => *count += 1,
                _ => names.push((name, 1)),
            }
        }
        let names: Vec<String> = names
            .into_iter()
            .map(|(name, count)| {
                if count == 1 {
                    name.to_owned()
                } else {
                    format!("{count} × {name}")
                }
            })
            .collect();
        order.push(names.join(", "));
    }
    format!(
        "| `{name}` | {calls} | {} | {} |\n",
        levels.len(),
        order.join(" → ")
    )
}

/// What an action is called with so that it succeeds. Every action must be told of here.
async fn success(app: &TestApp, action: &str) -> (&'static str, Value) {
    let name = action.replace('_', "-");
    let own = |account: &TestAccount, mut rest: Value| {
        rest["s3uid"] = account.s3uid.clone().into();
        ("client", rest)
    };
    match action {
        "create_account" | "create_order" => {
            ("client", json!({ "plan_id": 2, "bucket_name": name }))
        }
        "get_available_locations" | "get_users" | "history" | "list_plans" => {
            // Something to list.
            app.order("client", &name).await;
            ("client", json!({}))
        }
        "cancel_payment_account_deletion" => {
            let account = app.order("client", &name).await;
            let parameters = json!({ "s3uid": account.s3uid });
            app.call("client", "delete_payment_account", parameters)
                .await
                .ok();
            own(&account, json!({}))
        }
        "create_bucket" => own(
            &app.order("client", &name).await,
            json!({ "bucket_name": format!("{name}-2") }),
        ),
        "delete_bucket" => own(
            &app.order("client", &name).await,
            json!({ "bucket_name": name }),
        ),
        "delete_file" => {
            let account = app.order("client", &name).await;
            let s3 = app.s3("client", &account).await;
            app.put(&s3, &name, "a file", 10).await;
            own(
                &account,
                json!({ "bucket_name": name, "filename": "a file" }),
            )
        }
        "get_files" => own(
            &app.order("client", &name).await,
            json!({ "bucket_name": name }),
        ),
        "delete_account"
        | "delete_payment_account"
        | "get_buckets"
        | "get_buckets_rmq"
        | "get_usage"
        | "preview_invoice"
        | "rotate_key" => own(&app.order("client", &name).await, json!({})),
        "list_invoices" => {
            app.order("client", &name).await;
            ("client", json!({}))
        }
        "list_cleanups" => {
            let account = app.order("client", &name).await;
            let parameters = json!({ "s3uid": account.s3uid });
            app.call("client", "delete_account", parameters).await.ok();
            ("admin", json!({}))
        }
        "get_invoice" => {
            app.order("client", &name).await;
            let list = app.call("client", "list_invoices", json!({})).await.ok();
            let invoice_id = list["invoices"][0]["invoice_id"].clone();
            ("client", json!({ "invoice_id": invoice_id }))
        }
        "add_credit" => (
            "admin",
            json!({ "id": app.client_id("client"), "amount": 1, "reference": name }),
        ),
        "create_api_key" => ("admin", json!({ "id": app.client_id("client") })),
        "revoke_api_key" => {
            let parameters = json!({ "id": app.client_id("client") });
            let key = app.call("admin", "create_api_key", parameters).await.ok();
            // With a session to end.
            let login = app.auth("login", json!({ "key": key["api_key"] })).await;
            assert_eq!(login.status, 200);
            ("admin", json!({ "api_key_id": key["api_key_id"] }))
        }
        "end_access" => {
            // With a key and a session to end.
            let client = json!({ "email": "gone@example.com", "currency": "EUR" });
            let client = app.call("admin", "create_client", client).await.ok();
            let parameters = json!({ "id": client["client"]["client_id"] });
            let key = app.call("admin", "create_api_key", parameters.clone());
            let key = json!({ "key": key.await.ok()["api_key"] });
            assert_eq!(app.auth("login", key).await.status, 200);
            ("admin", parameters)
        }
        "create_client" => (
            "admin",
            json!({ "email": "new@example.com", "currency": "EUR" }),
        ),
        "update_client" => (
            "admin",
            json!({
                "id": app.client_id("client"), "email": "moved@example.com", "billing": "moved",
            }),
        ),
        "create_plan" => (
            "admin",
            json!({ "name": "New", "quota": 1, "monthly_eur": 1 }),
        ),
        "update_plan" => ("admin", json!({ "plan_id": 3, "quota": 1 })),
        "change_plan" => {
            let account = app.order("client", &name).await;
            let plan = json!({ "name": "Larger", "quota": 9000, "storage_limit": 9000, "monthly_eur": 20 });
            let plan = app.call("admin", "create_plan", plan).await.ok();
            let parameters = json!({
                "s3uid": account.s3uid,
                "id": app.client_id("client"),
                "plan_id": plan["plan"]["id"],
                "when": "now",
            });
            ("admin", parameters)
        }
        "resume_account" | "suspend_account" => {
            let account = app.order("client", &name).await;
            let parameters = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
            if action == "resume_account" {
                app.call("admin", "suspend_account", parameters.clone())
                    .await
                    .ok();
            }
            ("admin", parameters)
        }
        "show_key" => own(
            &app.order("client", &name).await,
            json!({ "s3_key": "secret_key" }),
        ),
        "update_traffic_info" => {
            let account = app.order("client", &name).await;
            (
                "admin",
                json!({ "s3uid": account.s3uid, "id": app.client_id("client") }),
            )
        }
        _ => panic!("how does {action} succeed? Say it here"),
    }
}

async fn table() -> String {
    // One whose queues are worked on, for what waits for a worker; the workers of the other do nothing by themselves.
    let (app, idle) = futures::join!(TestApp::start(), TestApp::start_idle(&[]));
    for app in [&app, &idle] {
        app.top_up("client", "for many orders", 1_000_000).await;
        // What a process fetches once, it has from here on.
        app.order("client", "for-warmth").await;
    }
    let mut rows =
        String::from("| action | calls | depth | which, in order |\n|---|---|---|---|\n");
    for action in ACTIONS {
        let waits = matches!(action.name, "get_buckets" | "get_buckets_rmq");
        let app = if waits { &app } else { &idle };
        let (who, parameters) = success(app, action.name).await;
        let (reply, noted) = app
            .tap
            .scope(app.call_directly(who, action.name, parameters))
            .await;
        reply.ok();
        let levels = levels(noted);
        rows.push_str(&row(
            action.name,
            &if waits { polling_once(levels) } else { levels },
        ));
    }

    // The workers: a bucket list, and the only step of an account with one empty bucket.
    let account = idle.order("client", "for-workers").await;
    for (worker, task_id, action) in [
        (
            "storage_tasks",
            format!("list_buckets:{}", account.s3uid),
            "get_buckets",
        ),
        (
            "cleanup",
            format!("remove_account:{}", account.s3uid),
            "delete_account",
        ),
    ] {
        let parameters = json!({ "s3uid": account.s3uid });
        if worker == "cleanup" {
            idle.call("client", action, parameters).await.ok();
        } else {
            // It is asked for, and its caller goes: nobody waits for the answer here.
            let asking = idle.call_directly("client", action, parameters);
            let asked = idle
                .tap
                .crash_at(4, tests::tap::Moment::After, asking)
                .await;
            assert!(asked.is_none());
        }
        let body = json!({ "task_id": task_id, "step": 0 }).to_string();
        let (handled, noted) = idle.tap.scope(idle.handle_directly(worker, &body)).await;
        handled.expect("the worker succeeds");
        rows.push_str(&row(worker, &levels(noted)));
    }
    rows
}

#[tokio::test]
#[allow(
    clippy::disallowed_methods,
    reason = "UPDATE_CALLS is for whoever runs the tests, not for the product"
)]
async fn every_action_makes_the_calls_that_the_architecture_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let text = fs::read_to_string(&path).expect("ARCHITECTURE.md");
    let (before, rest) = text.split_once(BEGIN).expect("the beginning of the table");
    let (written, after) = rest.split_once(END).expect("the end of the table");
    let table = table().await;
    if std::env::var_os("UPDATE_CALLS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}"))
            .expect("ARCHITECTURE.md can be written");
        return;
    }
    let mut difference = String::new();
    for line in table
        .lines()
        .filter(|line| !written.lines().any(|other| other == *line))
    {
        let _ = writeln!(difference, "{line}");
    }
    assert!(
        written == table,
        "ARCHITECTURE.md says otherwise. These lines differ:\n{difference}\nThe table is (UPDATE_CALLS=1 writes it):\n{table}"
    );
}
