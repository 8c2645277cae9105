//! Usage as tests write and read it beside the product, which sets a day only in place of the one it read, and reads no account's segments alone.

use jiff::Timestamp;
use jiff::civil::Date;
use wharfage::database::{Database, Written};
use wharfage::domain::account::S3Uid;
use wharfage::domain::usage::{Day, Sample};
use wharfage::error::Fault;
use wharfage::segments::Segments;

/// Days that are set whatever they were.
pub trait SetDay {
    /// Sets a day of an account.
    fn set_day(
        &self,
        s3uid: &S3Uid,
        date: Date,
        day: &Day,
    ) -> impl Future<Output = Result<(), Fault>> + Send;
}

impl SetDay for Database {
    async fn set_day(&self, s3uid: &S3Uid, date: Date, day: &Day) -> Result<(), Fault> {
        let mut stored = self.usage_on(&[s3uid], date).await?;
        let before = stored.remove(s3uid).and_then(|usage| usage.day);
        let written = self.replace_day(s3uid, date, before.as_ref(), day).await?;
        assert_eq!(written, Written::Yes, "the day was set meanwhile");
        Ok(())
    }
}

/// The samples of one account.
pub trait AccountSamples {
    /// Those in the hours `[from, until)`, by hour.
    fn account_samples(
        &self,
        location: &str,
        shard: u64,
        s3uid: &S3Uid,
        from: Timestamp,
        until: Timestamp,
    ) -> impl Future<Output = Result<Vec<Sample>, Fault>> + Send;
}

impl AccountSamples for Segments {
    async fn account_samples(
        &self,
        location: &str,
        shard: u64,
        s3uid: &S3Uid,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Sample>, Fault> {
        let segments = self.range(location, shard, from, until).await?;
        let samples = segments.iter().flat_map(|segment| segment.iter());
        Ok(samples
            .filter(|sample| sample.s3uid == *s3uid)
            .cloned()
            .collect())
    }
}
