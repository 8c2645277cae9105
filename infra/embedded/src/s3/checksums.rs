//! Checksums of contents and of their parts: which there are, how they are told, and how those of parts
//! become that of the whole.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use http::HeaderMap;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Sha1, Sha256};
use s3s::dto::{ChecksumAlgorithm, ChecksumType};
use s3s::{S3Error, S3ErrorCode};
use serde::{Deserialize, Serialize};

use super::fault::{Fault, bad_digest};
use super::records::Checksums;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64nvme,
    Sha1,
    Sha256,
}

/// What the checksum of an object in parts is made of: all of its bytes, or the checksums of its parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Kind {
    FullObject,
    Composite,
}

impl Kind {
    pub(crate) fn as_dto(self) -> ChecksumType {
        ChecksumType::from_static(match self {
            Self::FullObject => ChecksumType::FULL_OBJECT,
            Self::Composite => ChecksumType::COMPOSITE,
        })
    }

    pub(crate) fn asked(kind: Option<&ChecksumType>) -> Result<Option<Self>, Fault> {
        match kind.map(ChecksumType::as_str) {
            None => Ok(None),
            Some(ChecksumType::FULL_OBJECT) => Ok(Some(Self::FullObject)),
            Some(ChecksumType::COMPOSITE) => Ok(Some(Self::Composite)),
            Some(_) => Err(invalid(
                "Value for x-amz-checksum-type header is invalid.".to_owned(),
            )),
        }
    }
}

fn invalid(message: String) -> Fault {
    S3Error::with_message(S3ErrorCode::InvalidRequest, message).into()
}

impl Algorithm {
    pub(crate) const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => ChecksumAlgorithm::CRC32,
            Self::Crc32c => ChecksumAlgorithm::CRC32C,
            Self::Crc64nvme => ChecksumAlgorithm::CRC64NVME,
            Self::Sha1 => ChecksumAlgorithm::SHA1,
            Self::Sha256 => ChecksumAlgorithm::SHA256,
        }
    }

    pub(crate) fn as_dto(self) -> ChecksumAlgorithm {
        ChecksumAlgorithm::from_static(self.name())
    }

    /// The header that carries it.
    pub(crate) fn header(self) -> String {
        format!("x-amz-checksum-{}", self.name().to_ascii_lowercase())
    }

    pub(crate) fn asked(name: Option<&ChecksumAlgorithm>) -> Result<Option<Self>, Fault> {
        let Some(name) = name.map(ChecksumAlgorithm::as_str) else {
            return Ok(None);
        };
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
            .map(Some)
            .ok_or_else(|| {
                invalid("Checksum algorithm provided is unsupported. Please try again with any of the valid \
                         types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]".to_owned())
            })
    }

    /// What a body is to be summed up with: s3s does not look at the header that the SDKs send.
    pub(crate) fn asked_for_body(
        headers: &HeaderMap,
        found: Option<&ChecksumAlgorithm>,
    ) -> Result<Option<Self>, Fault> {
        let named = headers
            .get("x-amz-sdk-checksum-algorithm")
            .and_then(|name| name.to_str().ok())
            .map(|name| ChecksumAlgorithm::from(name.to_owned()));
        Self::asked(named.as_ref().or(found))
    }

    fn length(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    pub(crate) fn is_crc(self) -> bool {
        self.crc().is_some()
    }

    fn decode(self, text: &str) -> Option<Vec<u8>> {
        STANDARD
            .decode(text)
            .ok()
            .filter(|bytes| bytes.len() == self.length())
    }

    /// The kind of an upload's checksum, as it was asked for.
    pub(crate) fn kind(self, asked: Option<Kind>) -> Result<Kind, Fault> {
        let can_be_full = self.crc().is_some();
        let can_be_composite = self != Self::Crc64nvme;
        match asked {
            Some(Kind::FullObject) if !can_be_full => Err(invalid(format!(
                "The FULL_OBJECT checksum type cannot be used with the {} checksum algorithm.",
                self.name().to_ascii_lowercase()
            ))),
            Some(Kind::Composite) if !can_be_composite => Err(invalid(format!(
                "The COMPOSITE checksum type cannot be used with the {} checksum algorithm.",
                self.name().to_ascii_lowercase()
            ))),
            Some(kind) => Ok(kind),
            None if can_be_composite => Ok(Kind::Composite),
            None => Ok(Kind::FullObject),
        }
    }

    /// The checksum of the checksums of parts, and how many there are.
    fn composite(self, parts: &[Vec<u8>]) -> String {
        let joined = parts.concat();
        let digest = match self {
            Self::Crc32 => Crc32::checksum(&joined).to_vec(),
            Self::Crc32c => Crc32c::checksum(&joined).to_vec(),
            Self::Sha1 => Sha1::checksum(&joined).to_vec(),
            Self::Sha256 => Sha256::checksum(&joined).to_vec(),
            Self::Crc64nvme => s3s::crypto::Crc64Nvme::checksum(&joined).to_vec(),
        };
        format!("{}-{}", STANDARD.encode(digest), parts.len())
    }

    /// The checksum of all bytes, from those of its parts: their digests and sizes.
    fn combined(self, parts: &[(Vec<u8>, i64)]) -> Option<String> {
        let algorithm = self.crc()?;
        let number = |digest: &[u8]| {
            digest
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let mut parts = parts.iter();
        let mut whole = number(&parts.next()?.0);
        for (digest, size_bytes) in parts {
            // Nothing added changes nothing.
            if *size_bytes > 0 {
                whole = crc_fast::checksum_combine(
                    algorithm,
                    whole,
                    number(digest),
                    size_bytes.unsigned_abs(),
                );
            }
        }
        Some(STANDARD.encode(&whole.to_be_bytes()[8 - self.length()..]))
    }

    /// The checksum of an object from its parts, each with its size; none when a part lacks it.
    pub(crate) fn of_parts<'a>(
        self,
        kind: Kind,
        parts: impl Iterator<Item = (&'a Checksums, i64)>,
    ) -> Option<String> {
        let parts: Vec<(Vec<u8>, i64)> = parts
            .map(|(checksums, size_bytes)| Some((self.decode(checksums.get(self)?)?, size_bytes)))
            .collect::<Option<_>>()?;
        match kind {
            Kind::FullObject => self.combined(&parts),
            Kind::Composite => {
                let digests: Vec<_> = parts.into_iter().map(|(digest, _)| digest).collect();
                Some(self.composite(&digests))
            }
        }
    }
}

impl Checksums {
    pub(crate) fn get(&self, algorithm: Algorithm) -> Option<&String> {
        match algorithm {
            Algorithm::Crc32 => self.crc32.as_ref(),
            Algorithm::Crc32c => self.crc32c.as_ref(),
            Algorithm::Crc64nvme => self.crc64nvme.as_ref(),
            Algorithm::Sha1 => self.sha1.as_ref(),
            Algorithm::Sha256 => self.sha256.as_ref(),
        }
    }

    /// Nothing but this one.
    pub(crate) fn only(algorithm: Algorithm, value: Option<String>) -> Self {
        let mut checksums = Self::default();
        *checksums.slot(algorithm) = value;
        checksums
    }

    pub(crate) fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL
            .into_iter()
            .filter(|algorithm| self.get(*algorithm).is_some())
    }

    /// Those of `algorithms` only.
    pub(crate) fn among(&self, algorithms: &[Algorithm]) -> Self {
        let mut left = self.clone();
        for algorithm in Algorithm::ALL {
            if !algorithms.contains(&algorithm) {
                *left.slot(algorithm) = None;
            }
        }
        left
    }

    fn slot(&mut self, algorithm: Algorithm) -> &mut Option<String> {
        match algorithm {
            Algorithm::Crc32 => &mut self.crc32,
            Algorithm::Crc32c => &mut self.crc32c,
            Algorithm::Crc64nvme => &mut self.crc64nvme,
            Algorithm::Sha1 => &mut self.sha1,
            Algorithm::Sha256 => &mut self.sha256,
        }
    }

    /// Without the number of parts behind checksums of checksums.
    pub(crate) fn without_counts(&self) -> Self {
        let bare = |value: &Option<String>| {
            let value = value.as_deref()?;
            Some(
                value
                    .split_once('-')
                    .map_or(value, |(sum, _)| sum)
                    .to_owned(),
            )
        };
        Self {
            crc32: bare(&self.crc32),
            crc32c: bare(&self.crc32c),
            crc64nvme: bare(&self.crc64nvme),
            sha1: bare(&self.sha1),
            sha256: bare(&self.sha256),
        }
    }

    /// Refuses what is not one checksum of its length.
    pub(crate) fn check_form(&self) -> Result<(), Fault> {
        if self.algorithms().count() > 1 {
            return Err(invalid(
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
                    .to_owned(),
            ));
        }
        for algorithm in self.algorithms() {
            let value = self.get(algorithm).map_or("", String::as_str);
            if algorithm.decode(value).is_none() {
                return Err(invalid(format!(
                    "Value for {} header is invalid.",
                    algorithm.header()
                )));
            }
        }
        Ok(())
    }

    /// Refuses what a client sent and is not what was found.
    pub(crate) fn check(&self, found: &Self) -> Result<(), Fault> {
        for algorithm in self.algorithms() {
            if self.get(algorithm) != found.get(algorithm) {
                return Err(bad_digest(algorithm.name()));
            }
        }
        Ok(())
    }
}

/// What an upload in parts says of its checksums when it begins.
pub(crate) fn of_upload(
    algorithm: Option<&ChecksumAlgorithm>,
    kind: Option<&ChecksumType>,
) -> Result<(Option<Algorithm>, Option<Kind>), Fault> {
    let asked = Kind::asked(kind)?;
    match Algorithm::asked(algorithm)? {
        Some(algorithm) => Ok((Some(algorithm), Some(algorithm.kind(asked)?))),
        None if asked.is_some() => Err(invalid(
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
                .to_owned(),
        )),
        None => Ok((None, None)),
    }
}

/// The five checksums that inputs carry.
macro_rules! checksums_of {
    ($input:expr) => {
        $crate::s3::records::Checksums {
            crc32: $input.checksum_crc32.take(),
            crc32c: $input.checksum_crc32c.take(),
            crc64nvme: $input.checksum_crc64nvme.take(),
            sha1: $input.checksum_sha1.take(),
            sha256: $input.checksum_sha256.take(),
        }
    };
}
pub(crate) use checksums_of;

/// The same on the way out.
macro_rules! tell_checksums {
    ($output:expr, $checksums:expr) => {{
        let checksums: $crate::s3::records::Checksums = $checksums;
        $output.checksum_crc32 = checksums.crc32;
        $output.checksum_crc32c = checksums.crc32c;
        $output.checksum_crc64nvme = checksums.crc64nvme;
        $output.checksum_sha1 = checksums.sha1;
        $output.checksum_sha256 = checksums.sha256;
    }};
}
pub(crate) use tell_checksums;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_the_whole_comes_from_those_of_its_parts() {
        let parts: [&[u8]; 4] = [b"the first part, ", b"", b"the second", b"."];
        let whole = parts.concat();
        let sums = |bytes: &[u8]| Checksums {
            crc32: Some(STANDARD.encode(Crc32::checksum(bytes))),
            crc32c: Some(STANDARD.encode(Crc32c::checksum(bytes))),
            crc64nvme: Some(STANDARD.encode(s3s::crypto::Crc64Nvme::checksum(bytes))),
            ..Checksums::default()
        };
        let of_parts: Vec<_> = parts
            .iter()
            .map(|part| (sums(part), part.len() as i64))
            .collect();
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64nvme] {
            let combined = algorithm.of_parts(
                Kind::FullObject,
                of_parts
                    .iter()
                    .map(|(sums, size_bytes)| (sums, *size_bytes)),
            );
            assert_eq!(
                combined.as_ref(),
                sums(&whole).get(algorithm),
                "{algorithm:?}"
            );
        }
    }
}
