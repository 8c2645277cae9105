//! The admin API under `/_admin/v1/`: users, keys, quotas, buckets, purges and usage, in JSON.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use s3s::{Body, S3Error, S3ErrorCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::fault::{Fault, custom, invalid_argument, no_such_user};
use super::purge::purge;
use super::records::{self, Bucket, User, buckets_of, find_bucket, find_user, known_user};
use super::store::{Store, Writing};
use super::usage::Usage;
use crate::Now;

const REQUEST_MAX_BYTES: usize = 1024 * 1024;
const PAGE_MAX: i64 = 1000;
/// A purge holds the database while it runs; the caller comes again for more.
const PURGE_MAX_ENTRIES: u64 = 10_000;
/// The same in steps, between which others get their turn.
const PURGE_STEP_ENTRIES: u64 = 250;

pub(crate) struct Admin {
    pub store: Arc<Store>,
    pub usage: Arc<Usage>,
    pub now: Now,
    pub token_digest: [u8; 32],
}

pub(crate) fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[derive(Deserialize)]
struct NewUser {
    #[serde(default)]
    display_name: String,
    access_key: String,
    secret_key: String,
    #[serde(default)]
    quota_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct NewKey {
    secret_key: String,
}

#[derive(Deserialize)]
struct UserChange {
    suspended: Option<bool>,
    /// Absent leaves the quota as it is, null lifts it.
    #[serde(default, deserialize_with = "present")]
    quota_bytes: Option<Option<u64>>,
}

/// At most [`PAGE_MAX`] users.
#[derive(Deserialize)]
struct StatsRequest {
    uids: Vec<String>,
}

/// The same question as `GET usage`, for more users than fit into a URL.
#[derive(Deserialize)]
struct UsageRequest {
    from: String,
    to: String,
    uids: Vec<String>,
}

#[derive(Deserialize)]
struct PurgeRequest {
    max_entries: u64,
}

fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(value).map(Some)
}

type Answer = Result<(StatusCode, Option<Value>), Fault>;

fn ok(body: Value) -> Answer {
    Ok((StatusCode::OK, Some(body)))
}

const DELETED: (StatusCode, Option<Value>) = (StatusCode::NO_CONTENT, None);

impl Admin {
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (status, body) = self.perform(request).await.unwrap_or_else(|fault| {
            let error = S3Error::from(fault);
            let status = error.status_code().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let body = json!({"code": error.code().as_str(), "message": error.message().unwrap_or_default()});
            (status, Some(body))
        });
        let body = body.map_or_else(Body::empty, |body| {
            Body::from(Bytes::from(body.to_string()))
        });
        let mut response = Response::new(body);
        *response.status_mut() = status;
        if status != StatusCode::NO_CONTENT {
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
        }
        response
    }

    async fn perform(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        self.authorize(parts.headers.get(header::AUTHORIZATION))?;
        let path = parts
            .uri
            .path()
            .strip_prefix("/_admin/v1/")
            .unwrap_or_default();
        let segments = path
            .split('/')
            .map(|segment| percent_decode_str(segment).decode_utf8().map(String::from))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| invalid_argument("The path is not UTF-8"))?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let query: HashMap<String, String> =
            form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let body = Limited::new(body, REQUEST_MAX_BYTES)
            .collect()
            .await
            .map_err(|_| invalid_argument("The request could not be read, or is too large"))?
            .to_bytes();
        match (&parts.method, segments.as_slice()) {
            (&Method::GET, ["users"]) => self.list_users(&query).await,
            (&Method::PUT, ["users", uid]) => self.put_user(uid, parse(&body)?).await,
            (&Method::GET, ["users", uid]) => self.get_user(uid).await,
            (&Method::PATCH, ["users", uid]) => self.patch_user(uid, parse(&body)?).await,
            (&Method::DELETE, ["users", uid]) => self.delete_user(uid).await,
            (&Method::DELETE, ["users", uid, "usage"]) => self.forget_usage(uid).await,
            (&Method::PUT, ["users", uid, "keys", key]) => {
                self.put_key(uid, key, parse(&body)?).await
            }
            (&Method::DELETE, ["users", uid, "keys", key]) => self.delete_key(uid, key).await,
            (&Method::PUT, ["users", uid, "buckets", name]) => self.put_bucket(uid, name).await,
            (&Method::GET, ["users", uid, "buckets"]) => self.list_buckets(uid).await,
            (&Method::GET, ["buckets", name]) => self.get_bucket(name).await,
            (&Method::DELETE, ["buckets", name]) => self.delete_bucket(name).await,
            (&Method::POST, ["buckets", name, "purge"]) => self.purge(name, parse(&body)?).await,
            (&Method::POST, ["stats"]) => self.stats(parse(&body)?).await,
            (&Method::GET, ["usage"]) => self.usage(&query).await,
            (&Method::POST, ["usage"]) => {
                let UsageRequest { from, to, uids } = parse(&body)?;
                self.usage_between(hour(Some(&from))?, hour(Some(&to))?, Some(uids))
                    .await
            }
            (&Method::DELETE, ["usage"]) => self.trim_usage(hour(query.get("before"))?).await,
            _ => Err(custom(
                StatusCode::NOT_FOUND,
                "NotFound",
                "The admin API has no such method and path.",
            )
            .into()),
        }
    }

    /// Digests are compared, so the time it takes tells nothing of the token.
    fn authorize(&self, header: Option<&HeaderValue>) -> Result<(), Fault> {
        let given = header.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        if given.is_some_and(|token| digest(token) == self.token_digest) {
            return Ok(());
        }
        Err(custom(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "The admin API needs its bearer token.",
        )
        .into())
    }

    async fn list_users(&self, query: &HashMap<String, String>) -> Answer {
        let limit = match query.get("limit") {
            None => PAGE_MAX,
            Some(limit) => limit
                .parse()
                .ok()
                .filter(|limit| (1..=PAGE_MAX).contains(limit))
                .ok_or_else(|| invalid_argument("limit must be from 1 to 1000"))?,
        };
        let after = query.get("after").cloned().unwrap_or_default();
        let mut users = self
            .store
            .read(move |c| {
                let users = c
                    .prepare_cached("SELECT uid FROM users WHERE uid > ?1 ORDER BY uid LIMIT ?2")?
                    .query_map(params![after, limit + 1], |row| row.get(0))?
                    .collect::<rusqlite::Result<Vec<String>>>()?;
                Ok(users)
            })
            .await?;
        let has_more = users.len() as i64 > limit;
        users.truncate(limit as usize);
        let next = users.last().filter(|_| has_more).cloned();
        ok(json!({"users": users, "next": next}))
    }

    async fn put_user(&self, uid: &str, new: NewUser) -> Answer {
        put_user(&self.store, uid, new).await.and_then(ok)
    }

    async fn get_user(&self, uid: &str) -> Answer {
        let uid = uid.to_owned();
        self.store
            .read(move |c| user_json(c, &uid))
            .await
            .and_then(ok)
    }

    async fn patch_user(&self, uid: &str, change: UserChange) -> Answer {
        let quota_bytes = change.quota_bytes.map(stored_quota).transpose()?;
        let uid = uid.to_owned();
        self.store
            .write(move |w| {
                let user = known_user(w, &uid)?;
                w.prepare_cached(
                    "UPDATE users SET suspended = ?2, quota_bytes = ?3 WHERE uid = ?1",
                )?
                .execute(params![
                    uid,
                    change.suspended.unwrap_or(user.suspended),
                    quota_bytes.unwrap_or(user.quota_bytes)
                ])?;
                user_json(w, &uid)
            })
            .await
            .and_then(ok)
    }

    async fn delete_user(&self, uid: &str) -> Answer {
        let uid = uid.to_owned();
        self.store
            .write(move |w| {
                known_user(w, &uid)?;
                if !buckets_of(w, &uid, "", 1)?.is_empty() {
                    return Err(custom(
                        StatusCode::CONFLICT,
                        "UserNotEmpty",
                        "The user has buckets.",
                    )
                    .into());
                }
                w.prepare_cached("DELETE FROM access_keys WHERE uid = ?1")?
                    .execute(params![uid])?;
                w.prepare_cached("DELETE FROM users WHERE uid = ?1")?
                    .execute(params![uid])?;
                Ok(DELETED)
            })
            .await
    }

    async fn put_key(&self, uid: &str, access_key: &str, new: NewKey) -> Answer {
        check_access_key(access_key)?;
        check_secret_key(&new.secret_key)?;
        let (uid, access_key) = (uid.to_owned(), access_key.to_owned());
        self.store
            .write(move |w| {
                known_user(w, &uid)?;
                match find_key(w, &access_key)? {
                    None => insert_key(w, &uid, &access_key, &new.secret_key)?,
                    Some(key) if key.uid == uid && key.secret_key == new.secret_key => {}
                    Some(_) => return Err(key_exists()),
                }
                user_json(w, &uid)
            })
            .await
            .and_then(ok)
    }

    async fn delete_key(&self, uid: &str, access_key: &str) -> Answer {
        let (uid, access_key) = (uid.to_owned(), access_key.to_owned());
        self.store
            .write(move |w| {
                w.prepare_cached("DELETE FROM access_keys WHERE access_key = ?1 AND uid = ?2")?
                    .execute(params![access_key, uid])?;
                Ok(DELETED)
            })
            .await
    }

    async fn put_bucket(&self, uid: &str, name: &str) -> Answer {
        let (uid, name) = (uid.to_owned(), name.to_owned());
        let now = Arc::clone(&self.now);
        let (bucket, _) = self
            .store
            .write(move |w| {
                known_user(w, &uid)?;
                records::create_bucket(w, &uid, &name, &now)
            })
            .await?;
        ok(json!({"name": bucket.name, "created_at": rfc3339(bucket.created_ms)?}))
    }

    async fn list_buckets(&self, uid: &str) -> Answer {
        let uid = uid.to_owned();
        let buckets = self
            .store
            .read(move |c| {
                known_user(c, &uid)?;
                buckets_of(c, &uid, "", i64::MAX)?
                    .iter()
                    .map(bucket_json)
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?;
        ok(json!({"buckets": buckets}))
    }

    async fn get_bucket(&self, name: &str) -> Answer {
        let name = name.to_owned();
        let bucket = self
            .store
            .read(move |c| Ok(find_bucket(c, &name)?.ok_or(S3ErrorCode::NoSuchBucket)?))
            .await?;
        let mut body = bucket_json(&bucket)?;
        body["owner"] = json!(bucket.uid);
        ok(body)
    }

    async fn delete_bucket(&self, name: &str) -> Answer {
        let name = name.to_owned();
        self.store
            .write(move |w| {
                let bucket = find_bucket(w, &name)?.ok_or(S3ErrorCode::NoSuchBucket)?;
                // Its client may be about to complete an upload: whoever administers asks for a purge first.
                if !records::is_empty(w, &bucket)? {
                    return Err(S3Error::with_message(
                        S3ErrorCode::BucketNotEmpty,
                        "The bucket has objects, old versions, delete markers or unfinished uploads",
                    )
                    .into());
                }
                records::delete_bucket(w, &bucket)?;
                Ok(DELETED)
            })
            .await
    }

    async fn purge(&self, name: &str, request: PurgeRequest) -> Answer {
        if !(1..=PURGE_MAX_ENTRIES).contains(&request.max_entries) {
            return Err(invalid_argument("max_entries must be from 1 to 10000").into());
        }
        let mut deleted = 0;
        let mut bytes = 0;
        loop {
            let step = (request.max_entries - deleted).min(PURGE_STEP_ENTRIES);
            let name = name.to_owned();
            let now_ms = records::now_ms(&self.now);
            let purged = self
                .store
                .write(move |w| purge(w, &name, step, now_ms))
                .await?;
            deleted += purged.deleted;
            bytes += purged.bytes;
            // What is locked is all that is left.
            let is_stuck = purged.deleted == 0;
            if purged.empty || is_stuck || deleted >= request.max_entries {
                let mut body = json!({"deleted": deleted, "bytes": bytes, "empty": purged.empty});
                if let Some(locked) = purged.locked {
                    body["locked"] = json!({
                        "key": String::from_utf8_lossy(&locked.key),
                        "version_id": locked.version_id,
                        "until": rfc3339(locked.until_ms)?,
                    });
                }
                return ok(body);
            }
        }
    }

    async fn usage(&self, query: &HashMap<String, String>) -> Answer {
        let from = hour(query.get("from"))?;
        let to = hour(query.get("to"))?;
        let uids: Option<Vec<String>> = query.get("uids").map(|uids| {
            uids.split(',')
                .filter(|uid| !uid.is_empty())
                .map(str::to_owned)
                .collect()
        });
        self.usage_between(from, to, uids).await
    }

    async fn usage_between(&self, from: i64, to: i64, uids: Option<Vec<String>>) -> Answer {
        if from > to {
            return Err(invalid_argument("from must not be after to").into());
        }
        let usage = Arc::clone(&self.usage);
        let entries = self
            .store
            .write(move |w| {
                usage.flush(w)?;
                usage_json(w, from, to, uids)
            })
            .await?;
        ok(json!({"entries": entries}))
    }

    /// Forgets the usage of the hours before one, as clusters do when their log grows.
    async fn trim_usage(&self, before: i64) -> Answer {
        let usage = Arc::clone(&self.usage);
        self.store
            .write(move |w| {
                usage.flush(w)?;
                w.prepare_cached("DELETE FROM usage WHERE hour < ?1")?
                    .execute(params![before])?;
                Ok(DELETED)
            })
            .await
    }

    /// Forgets the usage of a user, who may be gone.
    async fn forget_usage(&self, uid: &str) -> Answer {
        let uid = uid.to_owned();
        let usage = Arc::clone(&self.usage);
        self.store
            .write(move |w| {
                usage.flush(w)?;
                w.prepare_cached("DELETE FROM usage WHERE uid = ?1")?
                    .execute(params![uid])?;
                Ok(DELETED)
            })
            .await
    }

    /// The buckets of many users at once; a user that is not there has none.
    async fn stats(&self, StatsRequest { uids }: StatsRequest) -> Answer {
        if uids.len() > PAGE_MAX as usize {
            return Err(invalid_argument("uids must be at most 1000").into());
        }
        let buckets = self
            .store
            .read(move |c| {
                let mut rows = Vec::new();
                for uid in &uids {
                    for bucket in buckets_of(c, uid, "", i64::MAX)? {
                        let mut row = bucket_json(&bucket)?;
                        row["owner"] = json!(uid);
                        rows.push(row);
                    }
                }
                Ok(rows)
            })
            .await?;
        ok(json!({"buckets": buckets}))
    }
}

async fn put_user(store: &Arc<Store>, uid: &str, new: NewUser) -> Result<Value, Fault> {
    check_uid(uid)?;
    check_access_key(&new.access_key)?;
    check_secret_key(&new.secret_key)?;
    let quota_bytes = stored_quota(new.quota_bytes)?;
    let uid = uid.to_owned();
    store
        .write(move |w| {
            let key = find_key(w, &new.access_key)?;
            let is_his = |key: &Key| key.uid == uid && key.secret_key == new.secret_key;
            if find_user(w, &uid)?.is_some() {
                // A retry of the request that made him changes nothing, not even what was
                // changed since.
                if key.as_ref().is_some_and(is_his) {
                    return user_json(w, &uid);
                }
                return Err(custom(
                    StatusCode::CONFLICT,
                    "UserAlreadyExists",
                    "The user exists, with other keys.",
                )
                .into());
            }
            if key.is_some() {
                return Err(key_exists());
            }
            w.prepare_cached(
                "INSERT INTO users (uid, display_name, quota_bytes) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![uid, new.display_name, quota_bytes])?;
            insert_key(w, &uid, &new.access_key, &new.secret_key)?;
            user_json(w, &uid)
        })
        .await
}

/// Makes sure that a user is there, with this key and no other.
pub(crate) async fn set_user(
    store: &Arc<Store>,
    uid: &str,
    access_key: &str,
    secret_key: &str,
) -> Result<(), Fault> {
    check_uid(uid)?;
    check_access_key(access_key)?;
    check_secret_key(secret_key)?;
    let [uid, access_key, secret_key] = [uid, access_key, secret_key].map(str::to_owned);
    store
        .write(move |w| {
            w.prepare_cached(
                "INSERT INTO users (uid, display_name, quota_bytes) VALUES (?1, ?1, NULL) \
                 ON CONFLICT (uid) DO NOTHING",
            )?
            .execute(params![uid])?;
            w.prepare_cached("DELETE FROM access_keys WHERE uid = ?1")?
                .execute(params![uid])?;
            insert_key(w, &uid, &access_key, &secret_key)
        })
        .await
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    // Only the place of the mistake is told: the text may hold a secret key.
    serde_json::from_slice(body).map_err(|error| {
        invalid_argument(format!(
            "The body is not the JSON of this request (line {}, column {})",
            error.line(),
            error.column()
        ))
        .into()
    })
}

struct Key {
    uid: String,
    secret_key: String,
}

fn find_key(c: &Connection, access_key: &str) -> rusqlite::Result<Option<Key>> {
    c.prepare_cached("SELECT uid, secret_key FROM access_keys WHERE access_key = ?1")?
        .query_row(params![access_key], |row| {
            Ok(Key {
                uid: row.get(0)?,
                secret_key: row.get(1)?,
            })
        })
        .optional()
}

fn insert_key(w: &Writing<'_>, uid: &str, access_key: &str, secret_key: &str) -> Result<(), Fault> {
    w.prepare_cached("INSERT INTO access_keys (access_key, secret_key, uid) VALUES (?1, ?2, ?3)")?
        .execute(params![access_key, secret_key, uid])?;
    Ok(())
}

fn key_exists() -> Fault {
    custom(
        StatusCode::CONFLICT,
        "KeyExists",
        "The access key is taken, or has another secret.",
    )
    .into()
}

fn check_uid(uid: &str) -> Result<(), Fault> {
    let fits = (1..=128).contains(&uid.len())
        && uid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte));
    if fits {
        return Ok(());
    }
    Err(invalid_argument("A uid has 1 to 128 characters of A-Z a-z 0-9 . _ - @").into())
}

fn check_access_key(access_key: &str) -> Result<(), Fault> {
    if (3..=128).contains(&access_key.len())
        && access_key.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    Err(invalid_argument("An access key has 3 to 128 characters of A-Z a-z 0-9").into())
}

fn check_secret_key(secret_key: &str) -> Result<(), Fault> {
    if secret_key.is_empty() {
        return Err(invalid_argument("The secret key is empty").into());
    }
    Ok(())
}

fn stored_quota(quota_bytes: Option<u64>) -> Result<Option<i64>, Fault> {
    quota_bytes
        .map(|bytes| {
            i64::try_from(bytes).map_err(|_| invalid_argument("quota_bytes is too large").into())
        })
        .transpose()
}

fn user_json(c: &Connection, uid: &str) -> Result<Value, Fault> {
    let User {
        uid,
        display_name,
        suspended,
        quota_bytes,
        stored_bytes,
        objects,
    } = find_user(c, uid)?.ok_or_else(no_such_user)?;
    let access_keys = c
        .prepare_cached("SELECT access_key FROM access_keys WHERE uid = ?1 ORDER BY access_key")?
        .query_map(params![uid], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    let buckets: i64 = c
        .prepare_cached("SELECT COUNT(*) FROM buckets WHERE uid = ?1")?
        .query_row(params![uid], |row| row.get(0))?;
    Ok(json!({
        "uid": uid,
        "display_name": display_name,
        "suspended": suspended,
        "quota_bytes": quota_bytes,
        "access_keys": access_keys,
        "stored_bytes": stored_bytes,
        "objects": objects,
        "buckets": buckets,
    }))
}

/// `objects` are the current ones, as a listing shows them; `versions` all that have data.
fn bucket_json(bucket: &Bucket) -> Result<Value, Fault> {
    Ok(json!({
        "name": bucket.name,
        "created_at": rfc3339(bucket.created_ms)?,
        "stored_bytes": bucket.stored_bytes,
        "objects": bucket.objects,
        "versions": bucket.versions,
        "noncurrent_bytes": bucket.noncurrent_bytes,
        "multipart_bytes": bucket.multipart_bytes,
    }))
}

fn rfc3339(ms: i64) -> Result<String, Fault> {
    let moment = Timestamp::from_millisecond(ms).map_err(|_| S3ErrorCode::InternalError)?;
    Ok(moment.to_string())
}

/// An hour as hours since 1970.
fn hour(text: Option<&String>) -> Result<i64, Fault> {
    text.and_then(|text| text.parse::<Timestamp>().ok())
        .filter(|moment| moment.as_nanosecond().rem_euclid(3_600_000_000_000) == 0)
        .map(|moment| moment.as_second().div_euclid(3600))
        .ok_or_else(|| {
            invalid_argument("from and to must be full hours, as in 2026-11-22T13:00:00Z").into()
        })
}

fn usage_json(
    c: &Connection,
    from: i64,
    to: i64,
    uids: Option<Vec<String>>,
) -> Result<Vec<Value>, Fault> {
    let mut values = vec![SqlValue::from(from), SqlValue::from(to)];
    let chosen = match uids {
        None => String::new(),
        Some(uids) => {
            let marks = vec!["?"; uids.len()].join(",");
            values.extend(uids.into_iter().map(SqlValue::from));
            format!("AND uid IN ({marks})")
        }
    };
    c.prepare(&format!(
        "SELECT uid, bucket, hour, bytes_sent, bytes_received, requests,
             requests_get, requests_put, requests_list, requests_delete FROM usage
         WHERE hour >= ? AND hour < ? {chosen} ORDER BY uid, bucket, hour"
    ))?
    .query_and_then(params_from_iter(values), |row| {
        let requests = row.get::<_, i64>(5)?;
        let mut classes = [0; 4];
        for (index, class) in classes.iter_mut().enumerate() {
            *class = row.get::<_, i64>(6 + index)?;
        }
        let [get, put, list, delete] = classes;
        let other = requests - get - put - list - delete;
        Ok(json!({
            "uid": row.get::<_, String>(0)?,
            "bucket": row.get::<_, String>(1)?,
            "hour": rfc3339(row.get::<_, i64>(2)? * 3_600_000)?,
            "bytes_sent": row.get::<_, i64>(3)?,
            "bytes_received": row.get::<_, i64>(4)?,
            "requests": requests,
            "requests_by_class": { "get": get, "put": put, "list": list, "delete": delete, "other": other },
        }))
    })?
    .collect()
}
