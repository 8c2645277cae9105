//! Uploads from HTML forms, which a signed policy allows: the file goes to the disk as it comes, like a PUT's body.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::header::{CONTENT_TYPE, ETAG, HOST, HeaderName, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use jiff::Timestamp as Instant;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use s3s::auth::S3Auth;
use s3s::crypto::{Checksum, Sha1, Sha256};
use s3s::dto::{
    ObjectLockMode, PutObjectInput, ServerSideEncryption, Tagging, Timestamp, TimestampFormat,
};
use s3s::post_policy::{PostPolicy, PostPolicyCondition};
use s3s::xml::{Deserialize, Deserializer, Serializer};
use s3s::{Body, HttpResponse, S3Error, S3ErrorCode, S3Result, StdError};

use super::access::{Keys, active_user};
use super::admin::digest;
use super::fault::{Fault, custom, invalid_argument, refusal};
use super::front::Front;
use super::hosts::{addressed, bucket_of_host};
use super::objects::{put_form, told_version_id};
use super::records::{Bucket, Version, own_bucket};
use super::usage::Meter;

/// How much may come before the file.
const FIELDS_MAX_BYTES: usize = 20 * 1024;
const KEY_MAX_BYTES: usize = 1024;
const FILE_NAME: &str = "${filename}";
/// What a key's address spells with percent signs.
const IN_ADDRESS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// Answers a form that was sent to a bucket.
pub(crate) async fn answer<B>(front: &Front, head: Parts, body: B) -> S3Result<HttpResponse>
where
    B: hyper::body::Body<Data = Bytes, Error = StdError> + Unpin,
{
    match upload(front, &head, body).await {
        Ok(response) => Ok(response),
        Err(fault) => S3Error::from(fault).to_http_response(),
    }
}

async fn upload<B>(front: &Front, head: &Parts, body: B) -> Result<HttpResponse, Fault>
where
    B: hyper::body::Body<Data = Bytes, Error = StdError> + Unpin,
{
    let addressed = addressed(&head.uri, &head.headers);
    let Some(bucket_name) = addressed.bucket.filter(|_| addressed.is_bucket) else {
        return Err(S3ErrorCode::MethodNotAllowed.into());
    };
    let boundary = boundary(head).ok_or_else(|| malformed("The form has no boundary."))?;
    let mut form = Form::new(body.into_data_stream(), &boundary);
    let fields = form.fields().await?;

    let policy = fields
        .get("policy")
        .ok_or_else(|| refusal(S3ErrorCode::AccessDenied))?;
    let access_key = check_signature(front, &fields, policy).await?;
    let size_range = check_policy(&fields, policy, &bucket_name)?;

    let bucket = bucket_name.clone();
    let uid = front
        .store
        .read(move |c| {
            let uid = active_user(c, &access_key)?;
            own_bucket(c, &uid, &bucket)?;
            Ok(uid)
        })
        .await?;
    if let Some(meter) = head.extensions.get::<Arc<Meter>>() {
        meter.attribute(&uid, &bucket_name, "PostObject");
    }
    let input = input(&fields, bucket_name)?;
    let key = input.key.clone();
    let (bucket, version) = put_form(front, uid, input, form.file(), size_range).await?;
    created(head, &fields, &bucket, &key, &version)
}

fn boundary(head: &Parts) -> Option<String> {
    let content_type = head.headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let boundary = parameters(content_type)
        .into_iter()
        .find(|(name, _)| name == "boundary")?
        .1;
    (1..=200).contains(&boundary.len()).then_some(boundary)
}

/// The parameters of a header such as `form-data; name="file"; filename="a.txt"`.
fn parameters(header: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = header.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', '\t', ';']).to_ascii_lowercase();
        let mut value = String::new();
        if let Some(quoted) = after.trim_start().strip_prefix('"') {
            let mut end = quoted.len();
            let mut chars = quoted.char_indices().peekable();
            while let Some((at, char)) = chars.next() {
                match char {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    // Other backslashes are those of Windows' paths.
                    '\\' if chars.peek().is_some_and(|(_, next)| *next == '"') => {}
                    char => {
                        value.push(char);
                        continue;
                    }
                }
                if let Some((_, quote)) = chars.next() {
                    value.push(quote);
                }
            }
            rest = &quoted[end..];
        } else {
            let (token, after) = after.split_once(';').unwrap_or((after, ""));
            value.push_str(token.trim());
            rest = after;
        }
        found.push((name, value));
    }
    found
}

fn malformed(message: &'static str) -> Fault {
    S3Error::with_message(S3ErrorCode::MalformedPOSTRequest, message).into()
}

/// A form as it comes in: its fields, and then its file.
struct Form<S> {
    body: S,
    /// What came and was not looked at yet.
    buffer: BytesMut,
    /// What a part ends with.
    delimiter: Vec<u8>,
    ended: bool,
}

/// The fields before the file by their names in lower case, with the file's name filled in.
struct Fields(BTreeMap<String, String>);

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

impl<S> Form<S>
where
    S: Stream<Item = Result<Bytes, StdError>> + Unpin,
{
    fn new(body: S, boundary: &str) -> Self {
        Self {
            body,
            // So that the first part, too, comes after a delimiter.
            buffer: BytesMut::from("\r\n"),
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            ended: false,
        }
    }

    /// Reads until `what` is in the buffer, and takes all before it; what was taken counts against `left`.
    async fn until(&mut self, what: &[u8], left: &mut usize) -> Result<BytesMut, Fault> {
        loop {
            if let Some(at) = find(&self.buffer, what) {
                let taken = self.buffer.split_to(at);
                let _ = self.buffer.split_to(what.len());
                *left = left
                    .checked_sub(taken.len() + what.len())
                    .ok_or_else(too_many_fields)?;
                return Ok(taken);
            }
            if self.buffer.len() > *left {
                return Err(too_many_fields());
            }
            match self.body.next().await {
                Some(chunk) => self
                    .buffer
                    .extend_from_slice(&chunk.map_err(|_| refusal(S3ErrorCode::IncompleteBody))?),
                None => {
                    return Err(malformed(
                        "The body of your POST request is not well-formed multipart/form-data.",
                    ));
                }
            }
        }
    }

    /// The fields before the file; the file's content comes next. What comes after it is ignored.
    async fn fields(&mut self) -> Result<Fields, Fault> {
        let mut left = FIELDS_MAX_BYTES;
        let mut fields = BTreeMap::<String, String>::new();
        let delimiter = self.delimiter.clone();
        self.until(&delimiter, &mut left).await?;
        loop {
            // Two dashes behind the last delimiter, nothing behind the others.
            if !self
                .until(b"\r\n", &mut left)
                .await?
                .trim_ascii()
                .is_empty()
            {
                return Err(
                    invalid_argument("POST requires exactly one file upload per request.").into(),
                );
            }
            let (name, file_name) = self.part(&mut left).await?;
            if name == "file" {
                // Paths are those of whoever sends.
                let file_name = file_name.unwrap_or_default();
                let file_name = file_name.rsplit(['/', '\\']).next().unwrap_or_default();
                for (name, value) in &mut fields {
                    if !["policy", "signature", "x-amz-signature"].contains(&name.as_str()) {
                        *value = value.replace(FILE_NAME, file_name);
                    }
                }
                return Ok(Fields(fields));
            }
            let value = self.until(&delimiter, &mut left).await?;
            let value = String::from_utf8(value.to_vec())
                .map_err(|_| malformed("A field of your POST request is not UTF-8."))?;
            if fields.insert(name.clone(), value).is_some() {
                return Err(
                    invalid_argument(format!("POST has the field \"{name}\" twice.")).into(),
                );
            }
        }
    }

    /// The head of a part: the name of its field, and of its file.
    async fn part(&mut self, left: &mut usize) -> Result<(String, Option<String>), Fault> {
        let mut names = None;
        loop {
            let line = self.until(b"\r\n", left).await?;
            if line.is_empty() {
                return names.ok_or_else(|| malformed("A part of your POST request has no name."));
            }
            let line = String::from_utf8_lossy(&line);
            let Some((header, value)) = line.split_once(':') else {
                return Err(malformed(
                    "A part of your POST request has a malformed header.",
                ));
            };
            if header.trim().eq_ignore_ascii_case("content-disposition") {
                let parameters: BTreeMap<_, _> = parameters(value).into_iter().collect();
                let file_name = match parameters.get("filename*") {
                    // As in `utf-8''a%20b.txt`.
                    Some(extended) => {
                        Some(decoded(extended.rsplit('\'').next().unwrap_or_default()))
                    }
                    None => parameters.get("filename").map(|name| unescaped(name)),
                };
                names = parameters
                    .get("name")
                    .map(|name| (unescaped(name).to_ascii_lowercase(), file_name));
            }
        }
    }

    fn file(self) -> FileContent<S> {
        FileContent { form: self }
    }
}

fn too_many_fields() -> Fault {
    S3Error::with_message(
        S3ErrorCode::MaxPostPreDataLengthExceededError,
        "Your POST request fields preceding the upload file were too large.",
    )
    .into()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Browsers escape these three, and nothing else.
fn unescaped(name: &str) -> String {
    name.replace("%22", "\"")
        .replace("%0D", "\r")
        .replace("%0A", "\n")
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut from = 0;
    while let Some(at) = within[from..].iter().position(|byte| *byte == first) {
        if within[from + at..].starts_with(what) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// The file of a form.
struct FileContent<S> {
    form: Form<S>,
}

impl<S> Stream for FileContent<S>
where
    S: Stream<Item = Result<Bytes, StdError>> + Unpin,
{
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let form = &mut self.form;
        loop {
            if form.ended {
                return Poll::Ready(None);
            }
            if let Some(at) = find(&form.buffer, &form.delimiter) {
                form.ended = true;
                let last = form.buffer.split_to(at).freeze();
                return Poll::Ready((!last.is_empty()).then_some(Ok(last)));
            }
            // A delimiter may have begun at the end of what came.
            let certain = (form.buffer.len() + 1).saturating_sub(form.delimiter.len());
            if certain > 0 {
                return Poll::Ready(Some(Ok(form.buffer.split_to(certain).freeze())));
            }
            match ready!(Pin::new(&mut form.body).poll_next(cx)) {
                Some(Ok(chunk)) => form.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    form.ended = true;
                    return Poll::Ready(Some(Err("the form broke off".into())));
                }
            }
        }
    }
}

/// Whose signature is on the policy: version 4's, or version 2's, which boto3 still makes where nobody says otherwise.
async fn check_signature(front: &Front, fields: &Fields, policy: &str) -> Result<String, Fault> {
    if fields.get("x-amz-security-token").is_some() {
        return Err(S3Error::with_message(
            S3ErrorCode::InvalidToken,
            "The provided token is malformed or otherwise invalid.",
        )
        .into());
    }
    let keys = Keys(Arc::clone(&front.store));
    let (access_key, given, wanted) = if let Some(given) = fields.get("x-amz-signature") {
        let algorithm = fields.get("x-amz-algorithm").unwrap_or_default();
        if algorithm != "AWS4-HMAC-SHA256" {
            return Err(
                invalid_argument("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"").into(),
            );
        }
        let date = fields.get("x-amz-date").unwrap_or_default();
        let credential = fields.get("x-amz-credential").unwrap_or_default();
        let scope: Vec<&str> = credential.rsplitn(5, '/').collect();
        let [terminator, service, region, day, access_key] = scope[..] else {
            return Err(bad_credential());
        };
        if terminator != "aws4_request"
            || service != "s3"
            || !date.starts_with(day)
            || day.len() != 8
        {
            return Err(bad_credential());
        }
        let secret = keys.get_secret_key(access_key).await?;
        let mut key = format!("AWS4{}", secret.expose()).into_bytes();
        for part in [day, region, service, terminator] {
            key = hmac::<Sha256>(&key, part.as_bytes());
        }
        let wanted = hex::encode(hmac::<Sha256>(&key, policy.as_bytes()));
        (access_key, given, wanted)
    } else if let (Some(given), Some(access_key)) =
        (fields.get("signature"), fields.get("awsaccesskeyid"))
    {
        let secret = keys.get_secret_key(access_key).await?;
        let wanted = hmac::<Sha1>(secret.expose().as_bytes(), policy.as_bytes());
        (access_key, given, STANDARD.encode(wanted))
    } else {
        return Err(S3ErrorCode::AccessDenied.into());
    };
    // Of digests, the time that a comparison takes tells nothing.
    if digest(given.as_bytes()) != digest(wanted.as_bytes()) {
        return Err(S3Error::with_message(
            S3ErrorCode::SignatureDoesNotMatch,
            "The request signature we calculated does not match the signature you provided. \
             Check your key and signing method.",
        )
        .into());
    }
    Ok(access_key.to_owned())
}

fn bad_credential() -> Fault {
    invalid_argument("The credential in X-Amz-Credential is malformed or does not fit X-Amz-Date")
        .into()
}

pub(crate) fn hmac<H: Checksum>(key: &[u8], message: &[u8]) -> Vec<u8> {
    const BLOCK_BYTES: usize = 64;
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        let short = H::checksum(key);
        block[..short.as_ref().len()].copy_from_slice(short.as_ref());
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let hashed = |pad: u8, message: &[u8]| {
        let mut hash = H::new();
        hash.update(&block.map(|byte| byte ^ pad));
        hash.update(message);
        hash.finalize()
    };
    let inner = hashed(0x36, message);
    hashed(0x5c, inner.as_ref()).as_ref().to_vec()
}

#[allow(
    clippy::disallowed_methods,
    reason = "like signatures, a policy ends by the clock that its signer has, not by one that is moved"
)]
fn machine_now() -> Instant {
    Instant::now()
}

/// Holds the form to its policy, and says how large its file may be.
fn check_policy(fields: &Fields, policy: &str, bucket: &str) -> Result<(u64, u64), Fault> {
    let against = |what: String| {
        custom(
            StatusCode::FORBIDDEN,
            "AccessDenied",
            format!("Invalid according to Policy: {what}"),
        )
    };
    let encoded: String = policy.split_ascii_whitespace().collect();
    let policy = PostPolicy::from_base64(&encoded).map_err(|error| {
        custom(
            StatusCode::BAD_REQUEST,
            "InvalidPolicyDocument",
            format!("Invalid Policy: {error}"),
        )
    })?;
    let now = machine_now();
    if policy.expiration <= Timestamp::from(std::time::SystemTime::from(now)) {
        return Err(against("Policy expired.".to_owned()).into());
    }
    let mut size_range = (0, u64::MAX);
    let mut named = vec![
        "policy",
        "x-amz-signature",
        "signature",
        "awsaccesskeyid",
        "file",
    ];
    for condition in &policy.conditions {
        let (field, holds, told) = match condition {
            PostPolicyCondition::Eq { field, value } => {
                let found = value_of(fields, field, bucket);
                (field, found == *value, ["eq", field, value])
            }
            PostPolicyCondition::StartsWith { field, prefix } => {
                let found = value_of(fields, field, bucket);
                let holds = match field.as_str() {
                    "content-type" => found.split(',').all(|one| one.trim().starts_with(prefix)),
                    _ => found.starts_with(prefix),
                };
                (field, holds, ["starts-with", field, prefix])
            }
            PostPolicyCondition::ContentLengthRange { min, max } => {
                size_range = (size_range.0.max(*min), size_range.1.min(*max));
                continue;
            }
        };
        if !holds {
            let [kind, field, value] = told;
            let told = serde_json::to_string(&[kind, &format!("${field}"), value])?;
            return Err(against(format!("Policy Condition failed: {told}")).into());
        }
        named.push(field);
    }
    let extra = fields
        .0
        .keys()
        .find(|name| !named.contains(&name.as_str()) && !name.starts_with("x-ignore-"));
    match extra {
        Some(extra) => Err(against(format!("Extra input fields: {extra}")).into()),
        None => Ok(size_range),
    }
}

fn value_of<'a>(fields: &'a Fields, field: &str, bucket: &'a str) -> &'a str {
    match field {
        "bucket" => bucket,
        field => fields.get(field).unwrap_or_default(),
    }
}

/// The PUT that a form stands for.
fn input(fields: &Fields, bucket: String) -> Result<PutObjectInput, Fault> {
    let key = fields.owned("key").ok_or_else(|| {
        invalid_argument(
            "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.",
        )
    })?;
    if key.is_empty() {
        return Err(invalid_argument("User key must have a length greater than 0.").into());
    }
    if key.len() > KEY_MAX_BYTES {
        return Err(
            S3Error::with_message(S3ErrorCode::KeyTooLongError, "Your key is too long").into(),
        );
    }
    let prefixed = |prefix: &str| fields.0.keys().any(|name| name.starts_with(prefix));
    let metadata = fields
        .0
        .iter()
        .filter_map(|(name, value)| {
            let name = name.strip_prefix("x-amz-meta-")?;
            Some((name.to_owned(), value.clone()))
        })
        .collect();
    let expires = fields
        .get("expires")
        .map(|date| Timestamp::parse(TimestampFormat::HttpDate, date))
        .transpose()
        .map_err(|_| invalid_argument("The date in Expires cannot be read"))?;
    Ok(PutObjectInput {
        bucket,
        key,
        acl: fields.owned("acl").map(Into::into),
        content_type: fields.owned("content-type"),
        cache_control: fields.owned("cache-control"),
        content_disposition: fields.owned("content-disposition"),
        content_encoding: fields.owned("content-encoding"),
        content_language: fields.owned("content-language"),
        content_md5: fields.owned("content-md5"),
        expires,
        metadata: Some(metadata),
        tagging: fields.get("tagging").map(tags).transpose()?,
        website_redirect_location: fields.owned("x-amz-website-redirect-location"),
        checksum_crc32: fields.owned("x-amz-checksum-crc32"),
        checksum_crc32c: fields.owned("x-amz-checksum-crc32c"),
        checksum_crc64nvme: fields.owned("x-amz-checksum-crc64nvme"),
        checksum_sha1: fields.owned("x-amz-checksum-sha1"),
        checksum_sha256: fields.owned("x-amz-checksum-sha256"),
        // Named here so that both are refused, as with a PUT.
        server_side_encryption: prefixed("x-amz-server-side-encryption")
            .then(|| ServerSideEncryption::from_static(ServerSideEncryption::AES256)),
        object_lock_mode: prefixed("x-amz-object-lock-")
            .then(|| ObjectLockMode::from_static(ObjectLockMode::COMPLIANCE)),
        ..PutObjectInput::default()
    })
}

/// A form has its tags in XML, a PUT in a query.
fn tags(xml: &str) -> Result<String, Fault> {
    let tagging = Tagging::deserialize(&mut Deserializer::new(xml.as_bytes()))
        .map_err(|_| refusal(S3ErrorCode::MalformedXML))?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    for tag in tagging.tag_set {
        query.append_pair(&tag.key.unwrap_or_default(), &tag.value.unwrap_or_default());
    }
    Ok(query.finish())
}

/// Answers as the form asked for: another page, a status, or nothing.
fn created(
    head: &Parts,
    fields: &Fields,
    bucket: &Bucket,
    key: &str,
    version: &Version,
) -> Result<HttpResponse, Fault> {
    let etag = format!("\"{}\"", version.etag);
    let host = head
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let encoded = utf8_percent_encode(key, IN_ADDRESS);
    let location = match bucket_of_host(host) {
        Some(_) => format!("http://{host}/{encoded}"),
        None => format!("http://{host}/{}/{encoded}", bucket.name),
    };
    let redirect = fields
        .get("success_action_redirect")
        .or_else(|| fields.get("redirect"))
        .filter(|address| is_page(address))
        .map(|address| {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("bucket", &bucket.name)
                .append_pair("key", key)
                .append_pair("etag", &etag)
                .finish();
            let separator = if address.contains('?') { '&' } else { '?' };
            format!("{address}{separator}{query}")
        });
    let status = match fields.get("success_action_status") {
        _ if redirect.is_some() => StatusCode::SEE_OTHER,
        Some("200") => StatusCode::OK,
        Some("201") => StatusCode::CREATED,
        _ => StatusCode::NO_CONTENT,
    };
    let mut response = Response::new(match status {
        StatusCode::CREATED => Body::from(post_response(&location, &bucket.name, key, &etag)?),
        _ => Body::empty(),
    });
    *response.status_mut() = status;
    let mut insert = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    if status == StatusCode::CREATED {
        insert(CONTENT_TYPE, "application/xml");
    }
    insert(ETAG, &etag);
    insert(LOCATION, redirect.as_deref().unwrap_or(&location));
    if let Some(version_id) = told_version_id(bucket, version) {
        insert(HeaderName::from_static("x-amz-version-id"), &version_id);
    }
    Ok(response)
}

/// Whether it is the address of a page that a browser can be sent to.
fn is_page(address: &str) -> bool {
    HeaderValue::from_str(address).is_ok()
        && address.parse::<Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        })
}

fn post_response(location: &str, bucket: &str, key: &str, etag: &str) -> Result<Vec<u8>, Fault> {
    let mut xml = Vec::new();
    let mut serializer = Serializer::new(&mut xml);
    let written = serializer.decl().and_then(|()| {
        serializer.element("PostResponse", |s| {
            s.content("Location", location)?;
            s.content("Bucket", bucket)?;
            s.content("Key", key)?;
            s.content("ETag", etag)
        })
    });
    written.map_err(|error| Fault::File(std::io::Error::other(error.to_string())))?;
    Ok(xml)
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};

    use super::*;

    /// The fields and the file of a form that comes in chunks of `size`.
    async fn read(form: &str, size: usize) -> Result<(BTreeMap<String, String>, Vec<u8>), String> {
        let chunks: Vec<_> = form
            .as_bytes()
            .chunks(size)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        let mut form = Form::new(stream::iter(chunks), "b");
        let fields = form.fields().await.map_err(|fault| fault.to_string())?.0;
        let mut content = Vec::new();
        let mut file = form.file();
        while let Some(chunk) = file.next().await {
            content.extend_from_slice(&chunk.map_err(|error: StdError| error.to_string())?);
        }
        Ok((fields, content))
    }

    #[tokio::test]
    async fn a_form_reads_the_same_however_it_is_cut() {
        let form = "--b\r\ncontent-disposition: form-data; name=\"Key\"\r\n\r\nin/${filename}\r\n\
                    --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"C:\\a\\b %22ü%22.txt\"\r\n\
                    Content-Type: text/plain\r\n\r\none\r\n--\r\n-b\r\n\r\n--b\r\n\
                    Content-Disposition: form-data; name=\"ignored\"\r\n\r\nx\r\n--b--\r\n";
        for size in 1..form.len() {
            let (fields, content) = read(form, size).await.unwrap();
            assert_eq!(fields["key"], "in/b \"ü\".txt");
            assert_eq!(content, b"one\r\n--\r\n-b\r\n", "in chunks of {size}");
        }
    }

    #[tokio::test]
    async fn a_form_that_breaks_off_is_not_a_file() {
        let begun = "--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nhalf";
        assert!(read(begun, 7).await.unwrap_err().contains("broke off"));
        let none = "--b\r\nContent-Disposition: form-data; name=key\r\n\r\nk\r\n--b--\r\n";
        assert!(read(none, 7).await.unwrap_err().contains("InvalidArgument"));
        let large = format!(
            "--b\r\nContent-Disposition: form-data; name=key\r\n\r\n{}",
            "x".repeat(21_000)
        );
        assert!(
            read(&large, 999)
                .await
                .unwrap_err()
                .contains("MaxPostPreDataLength")
        );
    }

    #[test]
    fn a_hmac_is_that_of_its_specification() {
        let told = hmac::<Sha256>(b"key", b"The quick brown fox jumps over the lazy dog");
        assert_eq!(
            hex::encode(told),
            "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
        );
        let told = hmac::<Sha1>(b"key", b"The quick brown fox jumps over the lazy dog");
        assert_eq!(
            hex::encode(told),
            "de7c9b85b8b78aa6bc8a7a36f70a90701c9db4d9"
        );
    }
}
