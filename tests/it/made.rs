//! What is made from the list of functions, from types and from examples is up to date. `UPDATE=1 cargo test -p tests made::` makes it so.

use tests::made::{between, whole};
use tests::{api, calls, permissions, template};

const CALLS: (&str, &str) = ("<!-- calls:begin -->\n", "<!-- calls:end -->");
const ACTIONS: (&str, &str) = ("<!-- actions:begin -->\n", "<!-- actions:end -->");

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
        whole("docs/openapi.json", &api::document()),
        between("docs/api.md", ACTIONS, |_| api::actions()),
    ];
    let stale: String = stale.into_iter().flatten().collect();
    assert!(
        stale.is_empty(),
        "UPDATE=1 cargo test -p tests made::\n{stale}"
    );
}
