//! What stands in a clean-up's way, in answers.

use schemars::JsonSchema;
use serde::Serialize;
use wharfage::domain::task::Obstacle;
use wharfage::http::values::Second;

/// What blocks a clean-up.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ObstacleShown {
    /// What it is, in words.
    text: String,
    /// Since when.
    since: Second,
    /// The bucket of a locked object.
    bucket_name: Option<String>,
    /// The key of a locked object.
    filename: Option<String>,
    /// The version of a locked object.
    version_id: Option<String>,
    /// Until when an object is locked.
    until: Option<Second>,
}

impl From<&Obstacle> for ObstacleShown {
    fn from(obstacle: &Obstacle) -> ObstacleShown {
        let locked = obstacle.locked.as_ref();
        ObstacleShown {
            text: obstacle.text.clone(),
            since: Second(obstacle.since),
            bucket_name: locked.map(|locked| (&locked.bucket_name).into()),
            filename: locked.map(|locked| locked.key.clone()),
            version_id: locked.and_then(|locked| locked.version_id.clone()),
            until: locked.and_then(|locked| locked.until).map(Second),
        }
    }
}
