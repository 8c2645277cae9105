//! `get_files`: lists the objects of a bucket, page by page, with the account's own keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wharfage::cluster::files::{Counter, File};
use wharfage::cluster::{Cluster, Keys};
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::domain::bucket_name;
use wharfage::error::{Error, Fault, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::values::{BucketName, Id, RawText, Second, Whole};

use crate::files;

crate::action! {
    /// Lists the files of a bucket.
    ///
    /// A search examines a bounded number of files, so a page may be short. The last page has no `next_token`.
    "get_files" of Everybody, about Account, with start,
        refuses [AccessDenied, AccountSuspended, AccountSuspendedUnpaid, AccountSuspendedTraffic, StorageRefused, StorageUnavailable]
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// The name of the bucket.
    bucket_name: BucketName,
    /// The `next_token` of the page before.
    continuation_token: Option<RawText>,
    /// Files per page: 50, or as many as the page before had.
    max_keys: Option<Whole<1, LARGEST_MAX_KEYS>>,
    /// The number of the page, within the first 10,000 files.
    page: Option<Id>,
    /// Filter: a part of the key, case-insensitive.
    #[schemars(extend("examples" = ["2026/"]))]
    search: Option<RawText>,
}

/// What it answers. Folders and token stand twice, as in the published API.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The page.
    files: FilePage,
    /// The folders of the files on the page.
    folders: Vec<String>,
    /// Pass it as `continuation_token` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

/// A page of files.
#[derive(Debug, Serialize, JsonSchema)]
struct FilePage {
    /// The files.
    files: Vec<FileShown>,
    /// The folders of the files on the page.
    folders: Vec<String>,
    /// Pass it as `continuation_token` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

/// A file.
#[derive(Debug, Serialize, JsonSchema)]
struct FileShown {
    /// The key of the object.
    key: String,
    /// The same.
    original_key: String,
    /// Its size, in bytes.
    size: u64,
    /// When it was uploaded.
    last_modified: Second,
    /// Its entity tag.
    etag: String,
}

const DEFAULT_MAX_KEYS: u64 = 50;
const LARGEST_MAX_KEYS: u64 = 100;
/// A search looks at this many objects a call of the storage, and makes so many calls, before it answers a short page: a bucket of any
/// size is searched in bounded requests.
const SEARCH_PAGE: i32 = 1_000;
const SEARCH_PAGES: usize = 10;
/// How far `page` reaches: skipping costs as much as reading, so that whoever goes further goes by `continuation_token`.
const LARGEST_REACH: u64 = 10_000;

/// What `next_token` holds, base64-encoded: the last key looked at, after which the next page begins.
#[derive(Serialize, Deserialize)]
struct NextToken {
    #[serde(rename = "ContinuationToken")]
    start_after: String,
    #[serde(rename = "MaxKeys")]
    max_keys: u64,
}

impl NextToken {
    fn encode(&self) -> Result<String, Fault> {
        let json =
            serde_json::to_string(self).map_err(|e| Fault::permanent("writing next_token", e))?;
        Ok(STANDARD.encode(json))
    }

    fn decode(text: &str) -> Result<NextToken, Rejection> {
        let token: Option<NextToken> = STANDARD
            .decode(text)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok());
        token
            .filter(|token| (1..=LARGEST_MAX_KEYS).contains(&token.max_keys))
            .ok_or_else(|| {
                Rejection::invalid("continuation_token", "is not one that get_files gave")
            })
    }
}

/// A page, and after which key the next one begins.
struct Found {
    files: Vec<File>,
    next: Option<String>,
}

/// Where a page begins.
struct Start {
    from: Option<NextToken>,
    max_keys: u64,
    skipped: u64,
}

async fn start(_: &Context, asked: &Asked) -> Result<Start, Error> {
    let from = match &asked.continuation_token {
        Some(RawText(text)) => Some(NextToken::decode(text)?),
        None => None,
    };
    let max_keys = asked
        .max_keys
        .map(|Whole(max_keys)| max_keys)
        .or(from.as_ref().map(|token| token.max_keys))
        .unwrap_or(DEFAULT_MAX_KEYS);
    let page = asked.page.map_or(1, |Whole(page)| page);
    // The token says where to go on, whatever number the caller gives the page.
    let skipped = match from {
        Some(_) => 0,
        None if page.saturating_mul(max_keys) > LARGEST_REACH => return Err(too_far().into()),
        None => (page - 1) * max_keys,
    };
    Ok(Start {
        from,
        max_keys,
        skipped,
    })
}

async fn handle(
    context: &Context,
    call: Call<'_, Asked, Account>,
    start: Start,
) -> Result<Answered, Error> {
    let account = call.about;
    let Start {
        from,
        max_keys,
        skipped,
    } = start;
    let BucketName(bucket_name) = call.parameters.bucket_name;
    let search = call
        .parameters
        .search
        .map(|RawText(text)| text.to_lowercase());
    let keys = files::keys_of(context, &account).await?;
    let cluster = context.clusters.of(&account.location)?;
    let counter = Counter::default();
    let bucket = Bucket {
        account: &account,
        cluster,
        keys: &keys,
        name: &bucket_name,
        counter: &counter,
    };
    let start_after = from.map(|token| token.start_after);
    let wanted = Wanted {
        skipped: size(skipped),
        files: size(max_keys),
        search: search.as_deref(),
    };
    let found = find(context, &bucket, start_after, &wanted).await;
    files::note_own_calls(context, &account, cluster, &bucket_name, &counter).await?;
    let found = found?;
    let next_token = match found.next {
        Some(start_after) => Some(
            NextToken {
                start_after,
                max_keys,
            }
            .encode()?,
        ),
        None => None,
    };
    Ok(answered(&found.files, next_token))
}

/// A page that lies too far behind the first one.
fn too_far() -> Rejection {
    let rule = format!(
        "must end within the first {LARGEST_REACH} files: go on with continuation_token, the next_token of a page before"
    );
    Rejection::invalid("page", &rule)
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What to look for.
struct Wanted<'a> {
    /// Files of pages before.
    skipped: usize,
    /// Files of the page.
    files: usize,
    search: Option<&'a str>,
}

/// Where to look.
struct Bucket<'a> {
    account: &'a Account,
    cluster: &'a Cluster,
    keys: &'a Keys,
    name: &'a bucket_name::BucketName,
    counter: &'a Counter,
}

/// The files of a page.
async fn find(
    context: &Context,
    bucket: &Bucket<'_>,
    start_after: Option<String>,
    wanted: &Wanted<'_>,
) -> Result<Found, Error> {
    let mut skipped = wanted.skipped;
    let pages = match wanted.search {
        None if skipped == 0 => 1,
        _ => SEARCH_PAGES,
    };
    let mut found = Found {
        files: Vec::new(),
        next: start_after,
    };
    for _ in 0..pages {
        let page_size = match wanted.search {
            Some(_) => SEARCH_PAGE,
            None => i32::try_from(skipped + wanted.files - found.files.len())
                .unwrap_or(SEARCH_PAGE)
                .min(SEARCH_PAGE),
        };
        let page = context
            .clusters
            .files()
            .list(
                bucket.cluster,
                bucket.keys,
                bucket.name,
                found.next.as_deref(),
                page_size,
                bucket.counter,
            )
            .await
            .map_err(|error| files::refusal(bucket.account, "Get S3 files", error))?;
        let mut rest = page.files.into_iter();
        found.next = None;
        for file in rest.by_ref() {
            found.next = Some(file.key.clone());
            let is_wanted = |search| file.key.to_lowercase().contains(search);
            if !wanted.search.is_none_or(is_wanted) {
                continue;
            }
            if skipped > 0 {
                skipped -= 1;
                continue;
            }
            found.files.push(file);
            if found.files.len() == wanted.files {
                break;
            }
        }
        if rest.len() == 0 && !page.has_more {
            found.next = None;
        }
        if found.next.is_none() || found.files.len() == wanted.files {
            break;
        }
    }
    if skipped > 0 && found.next.is_some() {
        return Err(too_far().into());
    }
    Ok(found)
}

fn answered(files: &[File], next_token: Option<String>) -> Answered {
    let mut folders: Vec<String> = files
        .iter()
        .filter_map(|file| {
            file.key
                .find('/')
                .map(|slash| file.key[..=slash].to_owned())
        })
        .collect();
    folders.sort_unstable();
    folders.dedup();
    let files = files.iter().map(|file| FileShown {
        key: file.key.clone(),
        original_key: file.key.clone(),
        size: file.size_bytes,
        last_modified: Second(file.last_modified),
        etag: file.etag.clone(),
    });
    Answered {
        files: FilePage {
            files: files.collect(),
            folders: folders.clone(),
            next_token: next_token.clone(),
        },
        folders,
        next_token,
    }
}
