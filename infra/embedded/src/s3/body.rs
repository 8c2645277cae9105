//! Bodies: received into a file while they are hashed and checked, and streamed out of files.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::StreamingBlob;
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3Error, S3ErrorCode, StdError, TrailingHeaders};
use tokio::io::{AsyncWriteExt, BufWriter};

use super::checksums::Algorithm;
use super::fault::{Fault, custom, quota_exceeded, refusal};
use super::records::Checksums;
use super::store::Store;

/// What one PutObject or UploadPart may carry.
const BODY_MAX_BYTES: u64 = 5 * 1024 * 1024 * 1024;
const WRITE_BUFFER_BYTES: usize = 256 * 1024;
const READ_BYTES: u64 = 128 * 1024;
/// Files opened before a download begins, so that they stay readable when the object is deleted
/// under it. An object of more parts opens the rest as it goes, and such a download breaks off.
const OPENED_AT_ONCE: usize = 16;

/// What the client says of the body it sends.
#[derive(Default)]
pub(crate) struct Expected {
    pub length_bytes: Option<u64>,
    /// How much the quota leaves room for.
    pub allowed_bytes: Option<u64>,
    /// How much a form's policy allows.
    pub most_bytes: Option<u64>,
    pub md5: Option<String>,
    pub checksums: Checksums,
    /// What is computed whether or not the client sends it. Where nothing is asked for it is CRC64NVME.
    pub algorithms: Vec<Algorithm>,
    /// Where further checksums appear once the body has been read.
    pub trailers: Option<TrailingHeaders>,
    pub trailer_names: Vec<String>,
}

impl Expected {
    /// Adds the checksums announced for the end of the body.
    pub(crate) fn with_trailers(
        mut self,
        headers: &HeaderMap,
        trailers: Option<TrailingHeaders>,
    ) -> Self {
        self.trailer_names = headers
            .get_all("x-amz-trailer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|name| name.trim().to_ascii_lowercase())
            .collect();
        self.trailers = trailers;
        self
    }

    /// The algorithms of the checksums at the end of the body.
    fn announced(&self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL
            .into_iter()
            .filter(|algorithm| self.trailer_names.contains(&algorithm.header()))
    }

    /// Refuses what is summed up with anything but the algorithm its upload began with.
    pub(crate) fn check_algorithm(&self, algorithm: Algorithm) -> Result<(), Fault> {
        match self
            .checksums
            .algorithms()
            .chain(self.announced())
            .find(|sent| *sent != algorithm)
        {
            None => Ok(()),
            Some(sent) => Err(S3Error::with_message(
                S3ErrorCode::InvalidRequest,
                format!(
                    "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                    algorithm.name().to_ascii_lowercase(),
                    sent.name().to_ascii_lowercase()
                ),
            )
            .into()),
        }
    }

    /// What is computed because somebody asks for it.
    pub(crate) fn wanted(&self) -> Vec<Algorithm> {
        let mut wanted: Vec<_> = self
            .checksums
            .algorithms()
            .chain(self.announced())
            .collect();
        wanted.extend(&self.algorithms);
        wanted
    }

    fn hasher(&self) -> ChecksumHasher {
        let mut wanted = self.wanted();
        if wanted.is_empty() {
            wanted.push(Algorithm::Crc64nvme);
        }
        let wants = |algorithm| wanted.contains(&algorithm);
        ChecksumHasher {
            crc32: wants(Algorithm::Crc32).then(Crc32::new),
            crc32c: wants(Algorithm::Crc32c).then(Crc32c::new),
            crc64nvme: wants(Algorithm::Crc64nvme).then(Crc64Nvme::new),
            sha1: wants(Algorithm::Sha1).then(Sha1::new),
            sha256: wants(Algorithm::Sha256).then(Sha256::new),
        }
    }

    fn trailing(&self) -> Checksums {
        let Some(trailers) = &self.trailers else {
            return Checksums::default();
        };
        trailers
            .read(|headers| {
                let get = |name: &str| {
                    headers
                        .get(name)
                        .and_then(|value| value.to_str().ok())
                        .map(|value| value.trim().to_owned())
                };
                Checksums {
                    crc32: get("x-amz-checksum-crc32"),
                    crc32c: get("x-amz-checksum-crc32c"),
                    crc64nvme: get("x-amz-checksum-crc64nvme"),
                    sha1: get("x-amz-checksum-sha1"),
                    sha256: get("x-amz-checksum-sha256"),
                }
            })
            .unwrap_or_default()
    }
}

/// A received body. Its file goes when this is dropped, unless a transaction has adopted it.
pub(crate) struct Staged {
    store: Arc<Store>,
    blob: i64,
    pub size_bytes: i64,
    pub md5: [u8; 16],
    pub checksums: Checksums,
}

impl Staged {
    /// The file with its size, to be adopted: none for an empty body.
    pub(crate) fn blob(&self) -> Option<(i64, i64)> {
        (self.size_bytes > 0).then_some((self.blob, self.size_bytes))
    }

    pub(crate) fn etag(&self) -> String {
        hex::encode(self.md5)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already when it was adopted.
        let _ = std::fs::remove_file(self.store.staging_path(self.blob));
    }
}

/// Writes `body` to a new file, checking it against what the client said.
pub(crate) async fn receive<S>(
    store: &Arc<Store>,
    body: Option<S>,
    expected: Expected,
) -> Result<Staged, Fault>
where
    S: Stream<Item = Result<Bytes, StdError>> + Unpin,
{
    if expected
        .length_bytes
        .is_some_and(|bytes| bytes > BODY_MAX_BYTES)
    {
        return Err(S3ErrorCode::EntityTooLarge.into());
    }
    let md5 = expected.md5.as_deref().map(decode_md5).transpose()?;
    expected.checksums.check_form()?;
    let mut staged = Staged {
        store: Arc::clone(store),
        blob: store.next_sequence(),
        size_bytes: 0,
        md5: [0; 16],
        checksums: Checksums::default(),
    };
    let file = tokio::fs::File::create(store.staging_path(staged.blob)).await?;
    let mut file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
    let mut digest = Md5::new();
    let mut hasher = expected.hasher();
    let mut size_bytes = 0;
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(broken_body)?;
            size_bytes += chunk.len() as u64;
            if size_bytes
                > expected
                    .most_bytes
                    .map_or(BODY_MAX_BYTES, |most| most.min(BODY_MAX_BYTES))
            {
                return Err(S3ErrorCode::EntityTooLarge.into());
            }
            if expected
                .allowed_bytes
                .is_some_and(|allowed| size_bytes > allowed)
            {
                return Err(quota_exceeded().into());
            }
            digest.update(&chunk);
            hasher.update(&chunk);
            file.write_all(&chunk).await?;
        }
    }
    file.flush().await?;
    if expected
        .length_bytes
        .is_some_and(|bytes| bytes != size_bytes)
    {
        return Err(S3ErrorCode::IncompleteBody.into());
    }
    staged.size_bytes = size_bytes as i64;
    staged.md5 = digest.finalize();
    if md5.is_some_and(|md5| md5 != staged.md5) {
        return Err(S3ErrorCode::BadDigest.into());
    }
    let found = hasher.finalize();
    staged.checksums = Checksums {
        crc32: found.checksum_crc32,
        crc32c: found.checksum_crc32c,
        crc64nvme: found.checksum_crc64nvme,
        sha1: found.checksum_sha1,
        sha256: found.checksum_sha256,
    };
    let trailing = expected.trailing();
    for algorithm in expected.announced() {
        if trailing.get(algorithm).is_none() {
            return Err(custom(
                http::StatusCode::BAD_REQUEST,
                "MalformedTrailerError",
                "The request contained trailing data that was not well-formed or did not conform to our published schema.",
            )
            .into());
        }
    }
    expected.checksums.check(&staged.checksums)?;
    trailing.check(&staged.checksums)?;
    Ok(staged)
}

fn decode_md5(text: &str) -> Result<[u8; 16], Fault> {
    STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| S3ErrorCode::InvalidDigest.into())
}

/// s3s checks signed bodies as they stream, with error types it keeps to itself: only their text tells them apart.
pub(crate) fn broken_body(error: StdError) -> Fault {
    let text = error.to_string();
    let told: S3Error = if text.contains("Sha256Mismatch") {
        custom(
            http::StatusCode::BAD_REQUEST,
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )
    } else if text.contains("SignatureMismatch") {
        S3Error::new(S3ErrorCode::SignatureDoesNotMatch)
    } else {
        refusal(S3ErrorCode::IncompleteBody)
    };
    told.into()
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    blob: i64,
    from: u64,
    to: u64,
}

/// The stretches of the files that hold the bytes `from..to` of their concatenation.
pub(crate) fn segments(blobs: &[(i64, i64)], from: u64, to: u64) -> Vec<Segment> {
    let mut start = 0;
    let mut found = Vec::new();
    for &(blob, size_bytes) in blobs {
        let end = start + size_bytes as u64;
        if start < to && end > from {
            found.push(Segment {
                blob,
                from: from.saturating_sub(start),
                to: to.min(end) - start,
            });
        }
        start = end;
    }
    found
}

type Reading =
    Pin<Box<dyn Future<Output = Result<(Option<Arc<File>>, Bytes), Fault>> + Send + Sync>>;

/// A body on its way out of its files.
pub(crate) struct Outgoing {
    store: Arc<Store>,
    segments: VecDeque<(Segment, Option<Arc<File>>)>,
    remaining_bytes: u64,
    reading: Option<Reading>,
}

/// Opens what `segments` name. [`Fault::File`] with `NotFound` says the object was deleted meanwhile.
pub(crate) async fn open(store: &Arc<Store>, segments: Vec<Segment>) -> Result<Outgoing, Fault> {
    let opener = Arc::clone(store);
    let segments = tokio::task::spawn_blocking(move || {
        segments
            .into_iter()
            .enumerate()
            .map(|(position, segment)| {
                let file = match position {
                    0..OPENED_AT_ONCE => Some(Arc::new(opener.open_blob(segment.blob)?)),
                    _ => None,
                };
                Ok((segment, file))
            })
            .collect::<Result<VecDeque<_>, std::io::Error>>()
    })
    .await??;
    Ok(Outgoing {
        store: Arc::clone(store),
        remaining_bytes: segments
            .iter()
            .map(|(segment, _)| segment.to - segment.from)
            .sum(),
        segments,
        reading: None,
    })
}

async fn read_chunk(
    store: Arc<Store>,
    segment: Segment,
    file: Option<Arc<File>>,
) -> Result<(Option<Arc<File>>, Bytes), Fault> {
    tokio::task::spawn_blocking(move || {
        let file = match file {
            Some(file) => file,
            None => Arc::new(store.open_blob(segment.blob)?),
        };
        let mut buffer = vec![0; (segment.to - segment.from).min(READ_BYTES) as usize];
        file.read_exact_at(&mut buffer, segment.from)?;
        Ok((Some(file), Bytes::from(buffer)))
    })
    .await?
}

impl Stream for Outgoing {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some((segment, file)) = this.segments.front_mut() else {
            return Poll::Ready(None);
        };
        let reading = this.reading.get_or_insert_with(|| {
            Box::pin(read_chunk(Arc::clone(&this.store), *segment, file.clone()))
        });
        let read = ready!(reading.as_mut().poll(cx));
        this.reading = None;
        match read {
            Ok((opened, chunk)) => {
                *file = opened;
                segment.from += chunk.len() as u64;
                this.remaining_bytes -= chunk.len() as u64;
                if segment.from == segment.to {
                    this.segments.pop_front();
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Err(fault) => {
                tracing::error!(error = %fault, "a download broke off");
                this.segments.clear();
                Poll::Ready(Some(Err(Box::new(fault))))
            }
        }
    }
}

impl ByteStream for Outgoing {
    fn remaining_length(&self) -> RemainingLength {
        match usize::try_from(self.remaining_bytes) {
            Ok(bytes) => RemainingLength::new_exact(bytes),
            Err(_) => RemainingLength::unknown(),
        }
    }
}

impl From<Outgoing> for StreamingBlob {
    fn from(body: Outgoing) -> Self {
        Self::new(body)
    }
}
