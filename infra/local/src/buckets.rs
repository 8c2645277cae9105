//! Makes the buckets that the template declares, on an S3 server that stands for AWS's. It is not one of the clusters: what is in it is the
//! system's own.

use std::net::{Ipv4Addr, SocketAddr};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use embedded::s3::{Cluster, ClusterOptions};
use futures::future::try_join_all;

use crate::data::Place;
use crate::error::Error;
use crate::template::{Bucket, REGION};

/// Who owns the buckets.
const OWNER: &str = "functions";

/// Starts the server on its folder, new or used.
///
/// # Errors
/// When it cannot start, or does not take its user.
pub(crate) async fn start(
    place: &Place,
    now: embedded::Now,
    admin_token: String,
    credentials: &embedded::Credentials,
) -> Result<Cluster, Error> {
    let server = Cluster::start(ClusterOptions {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        data_dir: place.directory().join("s3"),
        region: REGION.into(),
        admin_token,
        now,
        ephemeral: place.is_temporary(),
    })
    .map_err(Error::io("cannot start S3"))?;
    server
        .set_user(OWNER, credentials)
        .await
        .map_err(Error::io("cannot start S3"))?;
    Ok(server)
}

/// Makes the buckets that are not there yet, all at once.
///
/// # Errors
/// When S3 refuses.
pub(crate) async fn create(client: &Client, buckets: &[Bucket]) -> Result<(), Error> {
    try_join_all(buckets.iter().map(|bucket| create_one(client, bucket))).await?;
    Ok(())
}

async fn create_one(client: &Client, bucket: &Bucket) -> Result<(), Error> {
    let made = client.create_bucket().bucket(&bucket.name).send().await;
    match made {
        Ok(_) => {}
        Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => {}
        Err(error) => return Err(service("CreateBucket", bucket, error)),
    }
    if !bucket.is_versioned {
        return Ok(());
    }
    let versioning = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    client
        .put_bucket_versioning()
        .bucket(&bucket.name)
        .versioning_configuration(versioning)
        .send()
        .await
        .map_err(|error| service("PutBucketVersioning", bucket, error))?;
    Ok(())
}

fn service(call: &str, bucket: &Bucket, error: impl std::error::Error) -> Error {
    Error::service(
        format!("{call} {}", bucket.name),
        DisplayErrorContext(error),
    )
}
