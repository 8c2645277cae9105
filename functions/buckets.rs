//! Bucket names: a name belongs to one account of a location, first come, first served.

use wharfage::database::BucketRow;
use wharfage::domain::account::Account;
use wharfage::domain::bucket_name::BucketName;

/// The row that a bucket of an account has among the names.
pub(crate) fn bucket_row(account: &Account, bucket_name: &BucketName) -> BucketRow {
    BucketRow {
        location: account.location.clone(),
        bucket_name: bucket_name.clone(),
        bucket_owner: account.s3uid.clone(),
    }
}
