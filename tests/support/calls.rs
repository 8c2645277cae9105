//! What each action costs in a process that has the clusters' secrets: its calls to AWS and the clusters, and how many of them have to come one after the other. The table of it
//! stands in ARCHITECTURE.md.

use functions::ACTIONS;
use serde_json::json;

use crate::TestApp;
use crate::examples::Example;
use crate::tap::{Moment, Noted};

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

/// The rows of all actions and of the workers that they leave something to.
pub async fn table() -> String {
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
        let example = Example::of(action);
        let waits = example.waits_for_a_worker;
        let app = if waits { &app } else { &idle };
        let name = action.name.replace('_', "-");
        let call = example.prepare(app, &name).await;
        let (reply, noted) = app
            .tap
            .scope(app.call_directly(call.who, action.name, call.parameters))
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
            let asked = idle.tap.crash_at(4, Moment::After, asking).await;
            assert!(asked.is_none());
        }
        let body = json!({ "task_id": task_id, "step": 0 }).to_string();
        let (handled, noted) = idle.tap.scope(idle.handle_directly(worker, &body)).await;
        handled.expect("the worker succeeds");
        rows.push_str(&row(worker, &levels(noted)));
    }
    rows
}
