//! Access control lists: there is one, in which the owner has everything and nobody else anything.

use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response};

use super::access::caller;
use super::buckets::owner;
use super::fault::Fault;
use super::front::Front;
use super::objects::{existing, told_version_id};
use super::records::own_bucket;

/// The canned lists that say what is so anyway: a bucket and all that is in it have one owner.
const CANNED: [&str; 3] = ["private", "bucket-owner-read", "bucket-owner-full-control"];

fn not_offered(what: &str) -> Fault {
    S3Error::with_message(
        S3ErrorCode::AccessControlListNotSupported,
        format!("{what} is not offered: buckets and objects are private to their account."),
    )
    .into()
}

pub(crate) fn check_canned(acl: Option<&str>) -> Result<(), Fault> {
    match acl {
        Some(acl) if !CANNED.contains(&acl) => Err(not_offered(&format!("The ACL \"{acl}\""))),
        _ => Ok(()),
    }
}

pub(crate) fn check_grants(grants: &[Option<&String>]) -> Result<(), Fault> {
    if grants.iter().any(Option::is_some) {
        return Err(not_offered("Granting access by x-amz-grant- headers"));
    }
    Ok(())
}

/// Refuses inputs that grant something by their headers.
macro_rules! refuse_grants {
    ($input:expr, $($grant:ident),+) => {
        $crate::s3::acl::check_grants(&[$($input.$grant.as_ref()),+])?
    };
}
pub(crate) use refuse_grants;

/// A list sent as a body may be the one there is.
fn check_policy(uid: &str, policy: Option<&AccessControlPolicy>) -> Result<(), Fault> {
    let grants = policy.and_then(|policy| policy.grants.as_deref());
    let is_own = |grant: &Grant| {
        grant
            .grantee
            .as_ref()
            .is_some_and(|grantee| grantee.id.as_deref() == Some(uid))
    };
    if grants.unwrap_or_default().iter().all(is_own) {
        return Ok(());
    }
    Err(not_offered("An ACL that grants access to others"))
}

fn grants(uid: &str) -> Grants {
    let owner = owner(uid);
    vec![Grant {
        grantee: Some(Grantee {
            display_name: owner.display_name,
            email_address: None,
            id: owner.id,
            type_: Type::from_static(Type::CANONICAL_USER),
            uri: None,
        }),
        permission: Some(Permission::from_static(Permission::FULL_CONTROL)),
    }]
}

pub(crate) async fn get_bucket(
    front: &Front,
    req: S3Request<GetBucketAclInput>,
) -> Result<S3Response<GetBucketAclOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let reader = uid.clone();
    front
        .store
        .read(move |c| own_bucket(c, &reader, &req.input.bucket).map(drop))
        .await?;
    Ok(S3Response::new(GetBucketAclOutput {
        grants: Some(grants(&uid)),
        owner: Some(owner(&uid)),
    }))
}

pub(crate) async fn put_bucket(
    front: &Front,
    req: S3Request<PutBucketAclInput>,
) -> Result<S3Response<PutBucketAclOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    check_canned(input.acl.as_ref().map(BucketCannedACL::as_str))?;
    refuse_grants!(
        input,
        grant_full_control,
        grant_read,
        grant_read_acp,
        grant_write,
        grant_write_acp
    );
    check_policy(&uid, input.access_control_policy.as_ref())?;
    front
        .store
        .read(move |c| own_bucket(c, &uid, &input.bucket).map(drop))
        .await?;
    Ok(S3Response::new(PutBucketAclOutput::default()))
}

pub(crate) async fn get_object(
    front: &Front,
    req: S3Request<GetObjectAclInput>,
) -> Result<S3Response<GetObjectAclOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let reader = uid.clone();
    front
        .store
        .read(move |c| {
            let bucket = own_bucket(c, &reader, &input.bucket)?;
            existing(c, &bucket, &input.key, input.version_id.as_deref()).map(drop)
        })
        .await?;
    Ok(S3Response::new(GetObjectAclOutput {
        grants: Some(grants(&uid)),
        owner: Some(owner(&uid)),
        ..GetObjectAclOutput::default()
    }))
}

pub(crate) async fn put_object(
    front: &Front,
    req: S3Request<PutObjectAclInput>,
) -> Result<S3Response<PutObjectAclOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    check_canned(input.acl.as_ref().map(ObjectCannedACL::as_str))?;
    refuse_grants!(
        input,
        grant_full_control,
        grant_read,
        grant_read_acp,
        grant_write,
        grant_write_acp
    );
    check_policy(&uid, input.access_control_policy.as_ref())?;
    let mut response = S3Response::new(PutObjectAclOutput::default());
    let version_id = front
        .store
        .read(move |c| {
            let bucket = own_bucket(c, &uid, &input.bucket)?;
            let version = existing(c, &bucket, &input.key, input.version_id.as_deref())?;
            Ok(told_version_id(&bucket, &version))
        })
        .await?;
    if let Some(version_id) = version_id.and_then(|version_id| version_id.parse().ok()) {
        response.headers.insert("x-amz-version-id", version_id);
    }
    Ok(response)
}
