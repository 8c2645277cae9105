//! Operations on buckets.

use std::sync::Arc;

use rusqlite::params;
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response};

use super::access::caller;
use super::acl::{check_canned, refuse_grants};
use super::fault::{Fault, refusal};
use super::front::Front;
use super::records::{self, Versioning, buckets_of, own_bucket, timestamp};
use super::store::Writing;
use super::usage::Meter;

const LIST_BUCKETS_MAX: i32 = 10_000;

pub(crate) async fn list(
    front: &Front,
    req: S3Request<ListBucketsInput>,
) -> Result<S3Response<ListBucketsOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let prefix = input.prefix.clone().unwrap_or_default();
    let limit = input
        .max_buckets
        .unwrap_or(LIST_BUCKETS_MAX)
        .clamp(1, LIST_BUCKETS_MAX) as usize;
    let after = input.continuation_token.unwrap_or_default();
    let owner = owner(&uid);
    let (found, next) = front
        .store
        .read(move |c| {
            let mut found = Vec::new();
            let mut after = after;
            loop {
                let page = buckets_of(c, &uid, &after, 1000)?;
                let Some(last) = page.last() else {
                    return Ok((found, None));
                };
                after.clone_from(&last.name);
                for bucket in page {
                    if !bucket.name.starts_with(&prefix) {
                        continue;
                    }
                    if found.len() == limit {
                        let next = found
                            .last()
                            .map(|bucket: &records::Bucket| bucket.name.clone());
                        return Ok((found, next));
                    }
                    found.push(bucket);
                }
            }
        })
        .await?;
    let buckets = found
        .into_iter()
        .map(|bucket| Bucket {
            bucket_region: Some(front.region.clone()),
            creation_date: Some(timestamp(bucket.created_ms)),
            name: Some(bucket.name),
        })
        .collect();
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets),
        continuation_token: next,
        owner: Some(owner),
        prefix: input.prefix,
    }))
}

/// Making a bucket one has already is refused with `BucketAlreadyOwnedByYou`, as everywhere but in us-east-1:
/// clients know the code, and those that want the bucket either way take it for success.
pub(crate) async fn create(
    front: &Front,
    req: S3Request<CreateBucketInput>,
) -> Result<S3Response<CreateBucketOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let meter = req.extensions.get::<Arc<Meter>>().cloned();
    let input = req.input;
    let has_locks = input.object_lock_enabled_for_bucket == Some(true);
    check_canned(input.acl.as_ref().map(BucketCannedACL::as_str))?;
    refuse_grants!(
        input,
        grant_full_control,
        grant_read,
        grant_read_acp,
        grant_write,
        grant_write_acp
    );
    let name = input.bucket.clone();
    let now = Arc::clone(&front.now);
    let owner = uid.clone();
    let (_, is_new) = front
        .store
        .write(move |w| {
            let (bucket, is_new) = records::create_bucket(w, &owner, &name, &now)?;
            if is_new && has_locks {
                // A lock is on a version.
                set_versioning(w, &bucket, Versioning::Enabled)?;
            }
            Ok((bucket, is_new))
        })
        .await?;
    if let Some(meter) = meter {
        meter.attribute(&uid, &input.bucket, "CreateBucket");
    }
    if !is_new {
        return Err(S3ErrorCode::BucketAlreadyOwnedByYou.into());
    }
    Ok(S3Response::new(CreateBucketOutput {
        location: Some(format!("/{}", input.bucket)),
    }))
}

pub(crate) async fn head(
    front: &Front,
    req: S3Request<HeadBucketInput>,
) -> Result<S3Response<HeadBucketOutput>, Fault> {
    let uid = caller(&req)?.uid;
    front
        .store
        .read(move |c| own_bucket(c, &uid, &req.input.bucket).map(drop))
        .await?;
    Ok(S3Response::new(HeadBucketOutput {
        bucket_region: Some(front.region.clone()),
        ..HeadBucketOutput::default()
    }))
}

pub(crate) async fn delete(
    front: &Front,
    req: S3Request<DeleteBucketInput>,
) -> Result<S3Response<DeleteBucketOutput>, Fault> {
    let uid = caller(&req)?.uid;
    front
        .store
        .write(move |w| {
            let bucket = own_bucket(w, &uid, &req.input.bucket)?;
            records::delete_bucket(w, &bucket)
        })
        .await?;
    Ok(S3Response::new(DeleteBucketOutput {}))
}

pub(crate) async fn location(
    front: &Front,
    req: S3Request<GetBucketLocationInput>,
) -> Result<S3Response<GetBucketLocationOutput>, Fault> {
    let uid = caller(&req)?.uid;
    front
        .store
        .read(move |c| own_bucket(c, &uid, &req.input.bucket).map(drop))
        .await?;
    // us-east-1 is spelt as nothing at all.
    let region = Some(&front.region).filter(|region| *region != "us-east-1");
    Ok(S3Response::new(GetBucketLocationOutput {
        location_constraint: region.map(|region| BucketLocationConstraint::from(region.clone())),
    }))
}

pub(crate) async fn get_versioning(
    front: &Front,
    req: S3Request<GetBucketVersioningInput>,
) -> Result<S3Response<GetBucketVersioningOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let bucket = front
        .store
        .read(move |c| own_bucket(c, &uid, &req.input.bucket))
        .await?;
    let status = match bucket.versioning {
        Versioning::Never => None,
        Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
        Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
    };
    Ok(S3Response::new(GetBucketVersioningOutput {
        status: status.map(BucketVersioningStatus::from_static),
        ..GetBucketVersioningOutput::default()
    }))
}

pub(crate) async fn put_versioning(
    front: &Front,
    req: S3Request<PutBucketVersioningInput>,
) -> Result<S3Response<PutBucketVersioningOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let configuration = input.versioning_configuration;
    if configuration
        .mfa_delete
        .is_some_and(|mfa| mfa.as_str() == MFADelete::ENABLED)
    {
        return Err(S3ErrorCode::NotImplemented.into());
    }
    let versioning = match configuration
        .status
        .as_ref()
        .map(BucketVersioningStatus::as_str)
    {
        Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
        Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
        _ => return Err(refusal(S3ErrorCode::MalformedXML).into()),
    };
    front
        .store
        .write(move |w| {
            let bucket = own_bucket(w, &uid, &input.bucket)?;
            set_versioning(w, &bucket, versioning)
        })
        .await?;
    Ok(S3Response::new(PutBucketVersioningOutput {}))
}

fn set_versioning(
    w: &Writing<'_>,
    bucket: &records::Bucket,
    versioning: Versioning,
) -> Result<(), Fault> {
    w.prepare_cached("UPDATE buckets SET versioning = ?2 WHERE id = ?1")?
        .execute(params![bucket.id, versioning as i64])?;
    Ok(())
}

pub(crate) fn owner(uid: &str) -> Owner {
    Owner {
        display_name: Some(uid.to_owned()),
        id: Some(uid.to_owned()),
    }
}
