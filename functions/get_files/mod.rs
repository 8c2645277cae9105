//! `get_files`: lists the objects of a bucket, page by page, with the account's own keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wharfage::cluster::files::{Counter, File};
use wharfage::cluster::{Cluster, Keys};
use wharfage::context::Context;
use wharfage::error::{Error, Fault, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::parameters::ID;
use wharfage::http::tokens::{ACCOUNT, BUCKET, account_name, caller_and_account, token};

use crate::files;

crate::s3_action!(
    "get_files",
    takes [
        ACCOUNT,
        BUCKET,
        &["continuation_token", "max_keys", "limit", "page", "search"],
    ]
);

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

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    account_name(call)?;
    let parameters = &call.parameters;
    let bucket_name = files::bucket_name(call)?;
    let from = match parameters.raw_text(&["continuation_token"])? {
        Some(text) => Some(NextToken::decode(&text)?),
        None => None,
    };
    let max_keys = parameters
        .number(&["max_keys", "limit"], 1..=LARGEST_MAX_KEYS)?
        .or(from.as_ref().map(|token| token.max_keys))
        .unwrap_or(DEFAULT_MAX_KEYS);
    let page = parameters.number(&["page"], ID)?.unwrap_or(1);
    // The token says where to go on, whatever number the caller gives the page.
    let skipped = match from {
        Some(_) => 0,
        None if page.saturating_mul(max_keys) > LARGEST_REACH => return Err(too_far().into()),
        None => (page - 1) * max_keys,
    };
    let search = parameters
        .raw_text(&["search"])?
        .map(|text| text.to_lowercase());
    let (_, account) = caller_and_account(context, call).await?;
    let keys = files::keys_of(context, &account).await?;
    let cluster = context.clusters.of(&account.location)?;
    let counter = Counter::default();
    let bucket = Bucket {
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
    Ok(Answer::ok(wire(&found.files, next_token)))
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
    cluster: &'a Cluster,
    keys: &'a Keys,
    name: &'a str,
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
            .map_err(|error| files::refusal("Get S3 files", error))?;
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

/// The listing as the reference shows it: folders and token stand twice.
fn wire(files: &[File], next_token: Option<String>) -> Value {
    let mut folders: Vec<&str> = files
        .iter()
        .filter_map(|file| file.key.find('/').map(|slash| &file.key[..=slash]))
        .collect();
    folders.sort_unstable();
    folders.dedup();
    let rows: Vec<Value> = files
        .iter()
        .map(|file| {
            json!({
                "key": file.key,
                "original_key": file.key,
                "size": file.size_bytes,
                "last_modified": format!("{:.0}", file.last_modified),
                "etag": file.etag,
            })
        })
        .collect();
    let mut answer = json!({
        "files": { "files": rows, "folders": folders },
        "folders": folders,
    });
    if let Some(next_token) = next_token {
        answer["files"]["next_token"] = next_token.clone().into();
        answer["next_token"] = next_token.into();
    }
    answer
}
