//! `get_available_locations`: where accounts can be ordered.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::error::Error;
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::authenticate;

crate::s3_action!("get_available_locations", takes []);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    authenticate(context, call).await?;
    let locations: Vec<Value> = context
        .clusters
        .iter()
        .map(|cluster| {
            let capabilities = cluster.capabilities();
            json!({
                "code": cluster.location.code,
                "name": cluster.location.name,
                "endpoint": cluster.location.s3_endpoint,
                "is_default": cluster.location.code == context.rules.default_location,
                "capabilities": {
                    "traffic": capabilities.traffic,
                    "versions": capabilities.versions,
                },
            })
        })
        .collect();
    Ok(Answer::ok(json!({ "locations": locations })))
}
