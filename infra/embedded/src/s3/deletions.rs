//! DeleteObjects, whose keys may have characters that s3s's parser refuses.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderMap, HeaderValue, Method, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{Delete, DeleteObjectsInput};
use s3s::route::S3Route;
use s3s::xml::{Deserialize, Deserializer, Serialize, Serializer};
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::access::admit;
use super::body::broken_body;
use super::fault::{Fault, refusal};
use super::front::Front;
use super::hosts::addressed;
use super::objects::delete_many;
use super::records::Checksums;

/// A thousand of the longest keys, every byte of them a reference.
const REQUEST_MAX_BYTES: usize = 8 * 1024 * 1024;

pub(crate) struct Deletions(pub(crate) Arc<Front>);

#[async_trait::async_trait]
impl S3Route for Deletions {
    fn is_match(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        _: &mut Extensions,
    ) -> bool {
        let addressed = addressed(uri, headers);
        method == Method::POST
            && addressed.bucket.is_some()
            && addressed.is_bucket
            && form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
                .any(|(name, _)| name == "delete")
    }

    async fn check_access(&self, req: &mut S3Request<Body>) -> S3Result<()> {
        let Some(credentials) = &req.credentials else {
            return Err(refusal(S3ErrorCode::AccessDenied));
        };
        let bucket = addressed(&req.uri, &req.headers).bucket;
        admit(
            &self.0.store,
            credentials.access_key.clone(),
            bucket,
            "DeleteObjects",
            req.headers.get("x-amz-expected-bucket-owner").cloned(),
            &mut req.extensions,
        )
        .await
    }

    async fn call(&self, mut req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let bytes = read(std::mem::take(&mut req.input)).await?;
        check(&req.headers, &bytes)?;
        let input = DeleteObjectsInput::builder()
            .bucket(addressed(&req.uri, &req.headers).bucket.unwrap_or_default())
            .delete(parse(&bytes).ok_or_else(|| refusal(S3ErrorCode::MalformedXML))?)
            .build()
            .map_err(S3Error::internal_error)?;
        let response = delete_many(&self.0, req.map_input(|_| input)).await?;
        let mut xml = Vec::new();
        let mut serializer = Serializer::new(&mut xml);
        serializer
            .decl()
            .and_then(|()| response.output.serialize(&mut serializer))
            .map_err(S3Error::internal_error)?;
        let mut response = S3Response::new(Body::from(xml));
        response
            .headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        Ok(response)
    }
}

async fn read(body: Body) -> Result<Bytes, Fault> {
    match Limited::new(body, REQUEST_MAX_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(S3ErrorCode::MaxMessageLengthExceeded.into())
        }
        Err(error) => Err(broken_body(error)),
    }
}

/// Compares what the client says of the body with the body.
fn check(headers: &HeaderMap, body: &[u8]) -> Result<(), Fault> {
    let get = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
    if let Some(md5) = get("content-md5")
        && md5 != STANDARD.encode(Md5::checksum(body))
    {
        return Err(S3ErrorCode::BadDigest.into());
    }
    let sent = Checksums {
        crc32: get("x-amz-checksum-crc32"),
        crc32c: get("x-amz-checksum-crc32c"),
        crc64nvme: get("x-amz-checksum-crc64nvme"),
        sha1: get("x-amz-checksum-sha1"),
        sha256: get("x-amz-checksum-sha256"),
    };
    sent.check_form()?;
    let mut hasher = ChecksumHasher {
        crc32: Some(Crc32::new()),
        crc32c: Some(Crc32c::new()),
        crc64nvme: Some(Crc64Nvme::new()),
        sha1: Some(Sha1::new()),
        sha256: Some(Sha256::new()),
    };
    hasher.update(body);
    let mut found = hasher.finalize();
    sent.check(&super::checksums::checksums_of!(found))
}

fn parse(xml: &[u8]) -> Option<Delete> {
    let xml = resolved(std::str::from_utf8(xml).ok()?)?;
    let mut deserializer = Deserializer::new(xml.as_bytes());
    let delete = Delete::deserialize(&mut deserializer).ok()?;
    deserializer.expect_eof().ok()?;
    Some(delete)
}

/// The text with characters in place of the references that s3s's parser refuses: those above U+FFFF, and
/// those that XML 1.0 has no place for, which S3 takes all the same.
fn resolved(xml: &str) -> Option<String> {
    let mut resolved = String::with_capacity(xml.len());
    let mut rest = xml;
    while let Some(at) = rest.find("&#") {
        let (before, reference) = rest.split_at(at);
        resolved.push_str(before);
        let (number, after) = reference[2..].split_once(';')?;
        let number = match number.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => number.parse(),
        };
        match char::from_u32(number.ok()?)? {
            // Markup, white space that would be trimmed, and line ends, which stay references.
            char @ ('<' | '>' | '&' | '\t' | '\n' | '\r' | ' ') => {
                resolved.push_str(&format!("&#{};", u32::from(char)));
            }
            char => resolved.push(char),
        }
        rest = after;
    }
    resolved.push_str(rest);
    Some(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_to_any_character_are_understood() {
        let xml = "<Delete><Object><Key>&#128512;&#x1F600;&#x1;&#65534;a&#13;&#10;&lt;&#60;&amp;#1;</Key></Object></Delete>";
        let delete = parse(xml.as_bytes()).unwrap();
        assert_eq!(
            delete.objects[0].key,
            "\u{1f600}\u{1f600}\u{1}\u{fffe}a\r\n<<&#1;"
        );
        for broken in ["&#xD800;", "&#x110000;", "&#;", "&#x;", "&#12"] {
            let xml = format!("<Delete><Object><Key>{broken}</Key></Object></Delete>");
            assert!(parse(xml.as_bytes()).is_none(), "{broken}");
        }
    }
}
