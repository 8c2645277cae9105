//! Every action has an example, and the tests of all actions know it by that; what the contract shows as an example is one.

use std::collections::BTreeSet;

use functions::ACTIONS;
use serde_json::json;
use tests::TestApp;
use tests::examples::{Example, shown_values, with};

#[test]
fn every_action_has_an_example() {
    let actions: BTreeSet<&str> = ACTIONS.iter().map(|action| action.name).collect();
    let examples = Example::names();
    let missing: Vec<&&str> = actions.difference(&examples).collect();
    assert!(
        missing.is_empty(),
        "these actions have no example in their file in tests/it: {missing:?}"
    );
    let strange: Vec<&&str> = examples.difference(&actions).collect();
    assert!(strange.is_empty(), "examples of no action: {strange:?}");
    for action in ACTIONS {
        // There is one.
        Example::of(action);
    }
}

#[tokio::test]
async fn every_action_takes_the_values_that_the_contract_shows() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    app.top_up("client", "for many orders", 1_000_000).await;
    for action in ACTIONS {
        let name = action.name.replace('_', "-");
        let call = Example::of(action).prepare(&app, &name).await;
        let shown = shown_values(action);
        // Some say something only with others: the first day of a period, and the last.
        let mut others = call.full();
        for (name, values) in shown {
            if let Some(value) = values.first() {
                others[name] = value.clone();
            }
        }
        for (name, values) in shown {
            for value in values {
                let mut refusals = Vec::new();
                for rest in [&call.full(), &others] {
                    let parameters = with(rest, json!({ name: value }));
                    let reply = app.call(call.who, action.name, parameters).await;
                    let message = reply.body["message"].as_str().unwrap_or_default();
                    if message.contains(&format!("invalid parameter {name}: ")) {
                        refusals.push(message.to_owned());
                    }
                }
                assert!(refusals.len() < 2, "{name}={value}: {refusals:?}");
            }
        }
    }
}
