//! What is made from the list of functions, from types and from examples is up to date. `UPDATE=1 cargo test -p tests made::` makes it so.

use functions::contract;
use tests::made::{between, whole};
use tests::{calls, permissions, template};

const CALLS: (&str, &str) = ("<!-- calls:begin -->\n", "<!-- calls:end -->");

#[tokio::test]
async fn what_is_made_is_up_to_date() {
    let table = calls::table().await;
    // In this order: the record has what the table's calls need, and the template is made of both.
    let stale = [
        between("ARCHITECTURE.md", CALLS, |_| table),
        whole(permissions::RECORD, &permissions::record()),
        between(
            "infra/template.yaml",
            (template::BEGIN, template::END),
            |by_hand| template::made(&serde_yaml_ng::from_str(by_hand).expect("YAML")),
        ),
        whole("docs/openapi.json", &contract()),
    ];
    let stale: String = stale.into_iter().flatten().collect();
    assert!(
        stale.is_empty(),
        "UPDATE=1 cargo test -p tests made::\n{stale}"
    );
}

fn contract() -> String {
    let document = serde_json::to_string_pretty(&contract::document());
    document.expect("JSON") + "\n"
}
