//! Which bucket a request speaks of: by its path, or by its host, as in `bucket.localhost`.

use http::{HeaderMap, Uri, header::HOST};
use percent_encoding::percent_decode_str;
use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// The names under which buckets have hosts of their own; the longest first. No bucket is called "s3":
/// that is too short.
const DOMAINS: [&str; 2] = ["s3.localhost", "localhost"];

/// The bucket that the host names, if it names one.
pub(crate) fn bucket_of_host(host: &str) -> Option<String> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    for domain in DOMAINS {
        if name == domain {
            return None;
        }
        if let Some(bucket) = name
            .strip_suffix(domain)
            .and_then(|rest| rest.strip_suffix('.'))
        {
            return Some(bucket.to_owned());
        }
    }
    None
}

/// What a request speaks of: a bucket, or what is in it.
pub(crate) struct Addressed {
    pub bucket: Option<String>,
    pub is_bucket: bool,
    /// Whether the host says the bucket.
    pub by_host: bool,
}

pub(crate) fn addressed(uri: &Uri, headers: &HeaderMap) -> Addressed {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if let Some(bucket) = host.and_then(bucket_of_host) {
        return Addressed {
            bucket: Some(bucket),
            is_bucket: uri.path().len() <= 1,
            by_host: true,
        };
    }
    let path = uri.path().strip_prefix('/').unwrap_or_default();
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let bucket = percent_decode_str(bucket).decode_utf8_lossy().into_owned();
    Addressed {
        bucket: (!bucket.is_empty()).then_some(bucket),
        is_bucket: key.is_empty(),
        by_host: false,
    }
}

/// The same for s3s.
pub(crate) struct Hosts;

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let found = VirtualHost::new(host);
        Ok(match bucket_of_host(host) {
            Some(bucket) => found.with_bucket(bucket),
            None => found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_under_localhost_names_a_bucket() {
        for (host, bucket) in [
            ("localhost", None),
            ("localhost:8781", None),
            ("127.0.0.1:8781", None),
            ("[::1]:8781", None),
            ("s3.localhost:8781", None),
            ("cluster.example", None),
            ("notlocalhost", None),
            ("photos.localhost", Some("photos")),
            ("Photos.localhost:8781", Some("photos")),
            ("photos.s3.localhost", Some("photos")),
            ("a.b.localhost.:80", Some("a.b")),
        ] {
            assert_eq!(bucket_of_host(host).as_deref(), bucket, "{host}");
        }
    }
}
