//! `get_available_locations`: where accounts can be ordered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wharfage::context::Context;
use wharfage::error::Error;
use wharfage::http::subject::Call;

crate::action! {
    /// Lists the locations where accounts can be ordered.
    "get_available_locations" of Everybody, about ()
}

/// It takes nothing.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The locations.
    locations: Vec<LocationShown>,
}

/// A location.
#[derive(Debug, Serialize, JsonSchema)]
struct LocationShown {
    /// Its code.
    code: String,
    /// Its display name.
    name: String,
    /// Its S3 endpoint.
    endpoint: String,
    /// Whether it is the default location.
    is_default: bool,
    /// What its cluster can do.
    capabilities: Capabilities,
}

/// What a cluster can do.
#[derive(Debug, Serialize, JsonSchema)]
struct Capabilities {
    /// Whether traffic is counted.
    traffic: bool,
    /// Whether it keeps versions of objects.
    versions: bool,
}

async fn handle(context: &Context, _: Call<'_, Asked>) -> Result<Answered, Error> {
    let locations = context.clusters.iter().map(|cluster| {
        let capabilities = cluster.capabilities();
        LocationShown {
            code: cluster.location.code.clone(),
            name: cluster.location.name.clone(),
            endpoint: cluster.location.s3_endpoint.clone(),
            is_default: cluster.location.code == context.rules.default_location,
            capabilities: Capabilities {
                traffic: capabilities.traffic,
                versions: capabilities.versions,
            },
        }
    });
    Ok(Answered {
        locations: locations.collect(),
    })
}
