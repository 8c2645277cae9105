//! Bucket names: a name belongs to one account of a location, first come, first served.

use wharfage::database::BucketRow;
use wharfage::domain::account::Account;

/// The row that a bucket of an account has among the names.
pub(crate) fn bucket_row(account: &Account, bucket_name: &str) -> BucketRow {
    BucketRow {
        location: account.location.clone(),
        bucket_name: bucket_name.into(),
        bucket_owner: account.s3uid.clone(),
    }
}
