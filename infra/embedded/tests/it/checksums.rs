//! Checksums of objects and parts: checked, kept, and told.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
    ObjectAttributes,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use s3s::crypto::{Checksum, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};

use crate::raw::{Raw, ask, element};
use crate::support::{Lab, body, error, pattern, put, refusal, send};

const PART_BYTES: usize = 5 << 20;

fn sum(algorithm: &ChecksumAlgorithm, bytes: &[u8]) -> Vec<u8> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Crc32::checksum(bytes).to_vec(),
        ChecksumAlgorithm::Crc32C => Crc32c::checksum(bytes).to_vec(),
        ChecksumAlgorithm::Crc64Nvme => Crc64Nvme::checksum(bytes).to_vec(),
        ChecksumAlgorithm::Sha1 => Sha1::checksum(bytes).to_vec(),
        _ => Sha256::checksum(bytes).to_vec(),
    }
}

const ALGORITHMS: [(ChecksumAlgorithm, &str); 5] = [
    (ChecksumAlgorithm::Crc32, "x-amz-checksum-crc32"),
    (ChecksumAlgorithm::Crc32C, "x-amz-checksum-crc32c"),
    (ChecksumAlgorithm::Crc64Nvme, "x-amz-checksum-crc64nvme"),
    (ChecksumAlgorithm::Sha1, "x-amz-checksum-sha1"),
    (ChecksumAlgorithm::Sha256, "x-amz-checksum-sha256"),
];

#[tokio::test]
async fn checksums_in_headers_are_checked_kept_and_told() {
    let lab = Lab::start();
    lab.user_with("alice", "alices").await;
    for (algorithm, header) in ALGORITHMS {
        let right = STANDARD.encode(sum(&algorithm, b"content"));
        let wrong = STANDARD.encode(sum(&algorithm, b"other"));
        let put = |value: &str| {
            Raw::new("PUT", "/alices/k")
                .signed(header, value)
                .body("content")
        };
        assert_eq!(
            ask(&lab, put(&wrong).with_header()).await,
            error(400, "BadDigest")
        );
        for malformed in ["x", "AAAA"] {
            assert_eq!(
                ask(&lab, put(malformed).with_header()).await,
                error(400, "InvalidRequest"),
                "{header}: {malformed}"
            );
        }
        let written = send(lab.cluster().endpoint(), put(&right).with_header()).await;
        assert_eq!(written.status(), 200);
        assert_eq!(written.headers()[header], right.as_str());
        assert_eq!(written.headers()["x-amz-checksum-type"], "FULL_OBJECT");
        for method in ["HEAD", "GET"] {
            let get = Raw::new(method, "/alices/k");
            let plain = send(lab.cluster().endpoint(), get.with_header()).await;
            assert!(!plain.headers().contains_key(header));
            let get = Raw::new(method, "/alices/k").signed("x-amz-checksum-mode", "ENABLED");
            let told = send(lab.cluster().endpoint(), get.with_header()).await;
            assert_eq!(told.headers()[header], right.as_str());
            assert_eq!(told.headers()["x-amz-checksum-type"], "FULL_OBJECT");
        }
    }
    let two = Raw::new("PUT", "/alices/k")
        .signed("x-amz-checksum-crc32", "AAAAAA==")
        .signed("x-amz-checksum-crc32c", "AAAAAA==");
    assert_eq!(
        ask(&lab, two.with_header()).await,
        error(400, "InvalidRequest")
    );
    let unknown = Raw::new("PUT", "/alices/k").signed("x-amz-sdk-checksum-algorithm", "MD4");
    assert_eq!(
        ask(&lab, unknown.with_header()).await,
        error(400, "InvalidRequest")
    );
}

#[tokio::test]
async fn trailing_checksums_are_checked() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let send_trailed = async |trailer: String| {
        // The SHA-256 header says how the body comes, and is signed as every other.
        let body = format!("7\r\ncontent\r\n0\r\n{trailer}\r\n");
        let request = Raw::new("PUT", "/alices/k")
            .payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .signed("content-encoding", "aws-chunked")
            .signed("x-amz-decoded-content-length", "7")
            .signed("x-amz-trailer", "x-amz-checksum-crc32c")
            .body(body);
        ask(&lab, request.with_header()).await
    };
    let right = STANDARD.encode(Crc32c::checksum(b"content"));
    let wrong = STANDARD.encode(Crc32c::checksum(b"other"));
    assert_eq!(
        send_trailed(format!("x-amz-checksum-crc32c:{right}\r\n"))
            .await
            .0,
        200
    );
    assert_eq!(
        send_trailed(format!("x-amz-checksum-crc32c:{wrong}\r\n")).await,
        error(400, "BadDigest")
    );
    assert_eq!(send_trailed(String::new()).await.0, 400);
    let found = alice
        .head_object()
        .bucket("alices")
        .key("k")
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await
        .unwrap();
    assert_eq!(found.checksum_crc32_c(), Some(right.as_str()));
}

#[tokio::test]
async fn what_nobody_summed_up_is_summed_up() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    assert_eq!(
        ask(
            &lab,
            Raw::new("PUT", "/alices/k").body("content").with_header()
        )
        .await
        .0,
        200
    );
    let found = alice
        .head_object()
        .bucket("alices")
        .key("k")
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await
        .unwrap();
    let right = STANDARD.encode(Crc64Nvme::checksum(b"content"));
    assert_eq!(found.checksum_crc64_nvme(), Some(right.as_str()));
    // A copy can be asked for another.
    let copied = alice
        .copy_object()
        .bucket("alices")
        .key("copy")
        .copy_source("alices/k")
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .send()
        .await
        .unwrap();
    let right = STANDARD.encode(Sha256::checksum(b"content"));
    let result = copied.copy_object_result().unwrap();
    assert_eq!(result.checksum_sha256(), Some(right.as_str()));
}

/// An upload with its parts, not completed yet.
async fn upload(
    alice: &Client,
    algorithm: &ChecksumAlgorithm,
    kind: &ChecksumType,
    parts: &[&[u8]],
) -> (String, Vec<CompletedPart>) {
    let created = alice
        .create_multipart_upload()
        .bucket("alices")
        .key("big")
        .checksum_algorithm(algorithm.clone())
        .checksum_type(kind.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(created.checksum_algorithm(), Some(algorithm));
    assert_eq!(created.checksum_type(), Some(kind));
    let id = created.upload_id.unwrap();
    let mut completed = Vec::new();
    for (number, bytes) in (1..).zip(parts) {
        let done = alice
            .upload_part()
            .bucket("alices")
            .key("big")
            .upload_id(&id)
            .part_number(number)
            .checksum_algorithm(algorithm.clone())
            .body(body(*bytes))
            .send()
            .await
            .unwrap();
        completed.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(done.e_tag)
                .set_checksum_crc32(done.checksum_crc32)
                .set_checksum_crc32_c(done.checksum_crc32_c)
                .set_checksum_crc64_nvme(done.checksum_crc64_nvme)
                .set_checksum_sha1(done.checksum_sha1)
                .set_checksum_sha256(done.checksum_sha256)
                .build(),
        );
    }
    (id, completed)
}

#[tokio::test]
async fn an_upload_in_parts_has_the_checksum_it_began_with() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let bytes = pattern(PART_BYTES + 1000);
    let parts: Vec<&[u8]> = vec![&bytes[..PART_BYTES], &bytes[PART_BYTES..]];
    for (algorithm, header) in ALGORITHMS {
        for kind in [ChecksumType::FullObject, ChecksumType::Composite] {
            let is_crc = !header.contains("sha");
            let is_possible = match kind {
                ChecksumType::FullObject => is_crc,
                _ => algorithm != ChecksumAlgorithm::Crc64Nvme,
            };
            if !is_possible {
                let refused = alice
                    .create_multipart_upload()
                    .bucket("alices")
                    .key("big")
                    .checksum_algorithm(algorithm.clone())
                    .checksum_type(kind);
                assert_eq!(refusal(refused.send().await), error(400, "InvalidRequest"));
                continue;
            }
            let (id, completed) = upload(&alice, &algorithm, &kind, &parts).await;
            let listed = alice
                .list_parts()
                .bucket("alices")
                .key("big")
                .upload_id(&id)
                .send()
                .await
                .unwrap();
            assert_eq!(listed.checksum_algorithm(), Some(&algorithm));
            assert_eq!(listed.checksum_type(), Some(&kind));
            let finish = |parts: Vec<CompletedPart>| {
                alice
                    .complete_multipart_upload()
                    .bucket("alices")
                    .key("big")
                    .upload_id(&id)
                    .checksum_type(kind.clone())
                    .multipart_upload(
                        CompletedMultipartUpload::builder()
                            .set_parts(Some(parts))
                            .build(),
                    )
            };
            let mut wrong = completed.clone();
            wrong[1] = wrong[0].clone();
            wrong[1].part_number = Some(2);
            wrong[1].e_tag = completed[1].e_tag.clone();
            assert!(finish(wrong).send().await.is_err());
            let wrong = finish(completed.clone()).set_checksum_crc32(match algorithm {
                ChecksumAlgorithm::Crc32 => Some("AAAAAA==".to_owned()),
                _ => None,
            });
            if algorithm == ChecksumAlgorithm::Crc32 {
                assert_eq!(refusal(wrong.send().await), error(400, "BadDigest"));
            }
            finish(completed).send().await.unwrap();

            let expected = match kind {
                ChecksumType::FullObject => STANDARD.encode(sum(&algorithm, &bytes)),
                _ => {
                    let joined: Vec<u8> = parts
                        .iter()
                        .flat_map(|part| sum(&algorithm, part))
                        .collect();
                    format!("{}-2", STANDARD.encode(sum(&algorithm, &joined)))
                }
            };
            let get = Raw::new("GET", "/alices/big").signed("x-amz-checksum-mode", "ENABLED");
            let got = send(lab.cluster().endpoint(), get.with_header()).await;
            assert_eq!(got.headers()[header], expected.as_str());
            assert_eq!(got.headers()["x-amz-checksum-type"], kind.as_str());
            // The SDK checks what it can.
            let got = alice
                .get_object()
                .bucket("alices")
                .key("big")
                .checksum_mode(ChecksumMode::Enabled)
                .send()
                .await
                .unwrap();
            assert_eq!(got.body.collect().await.unwrap().to_vec(), bytes);

            let attributes = alice
                .get_object_attributes()
                .bucket("alices")
                .key("big")
                .object_attributes(ObjectAttributes::Checksum)
                .object_attributes(ObjectAttributes::ObjectParts)
                .object_attributes(ObjectAttributes::ObjectSize)
                .max_parts(1)
                .send()
                .await
                .unwrap();
            assert_eq!(attributes.object_size(), Some(bytes.len() as i64));
            assert_eq!(attributes.checksum().unwrap().checksum_type(), Some(&kind));
            let told = attributes.object_parts().unwrap();
            assert_eq!(
                (told.total_parts_count(), told.is_truncated()),
                (Some(2), Some(true))
            );
            assert_eq!(told.parts()[0].size(), Some(PART_BYTES as i64));
            assert_eq!(
                (attributes.e_tag(), attributes.storage_class()),
                (None, None)
            );

            // A copy is one piece, and so is its checksum.
            let copied = alice
                .copy_object()
                .bucket("alices")
                .key("copy")
                .copy_source("alices/big")
                .send()
                .await
                .unwrap();
            let result = copied.copy_object_result().unwrap();
            assert_eq!(result.checksum_type(), Some(&ChecksumType::FullObject));
            let get = Raw::new("HEAD", "/alices/copy").signed("x-amz-checksum-mode", "ENABLED");
            let got = send(lab.cluster().endpoint(), get.with_header()).await;
            assert_eq!(
                got.headers()[header],
                STANDARD.encode(sum(&algorithm, &bytes)).as_str()
            );
        }
    }
}

#[tokio::test]
async fn a_part_has_the_checksum_of_its_upload() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let (id, _) = upload(
        &alice,
        &ChecksumAlgorithm::Sha256,
        &ChecksumType::Composite,
        &[b"first"],
    )
    .await;
    let other = alice
        .upload_part()
        .bucket("alices")
        .key("big")
        .upload_id(&id)
        .part_number(2)
        .checksum_algorithm(ChecksumAlgorithm::Crc32)
        .body(body("second"));
    assert_eq!(refusal(other.send().await), error(400, "InvalidRequest"));
    put(&alice, "alices", "source", "source").await;
    let copied = alice
        .upload_part_copy()
        .bucket("alices")
        .key("big")
        .upload_id(&id)
        .part_number(2)
        .copy_source("alices/source")
        .send()
        .await
        .unwrap();
    assert_eq!(
        copied.copy_part_result().unwrap().checksum_sha256(),
        Some(STANDARD.encode(Sha256::checksum(b"source")).as_str())
    );
}

#[tokio::test]
async fn attributes_are_those_that_are_asked_for() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", "content").await;
    let get = |names: &str| {
        Raw::new("GET", "/alices/k?attributes").signed("x-amz-object-attributes", names)
    };
    let all = send(
        lab.cluster().endpoint(),
        get("ETag,Checksum,ObjectParts,StorageClass,ObjectSize").with_header(),
    )
    .await;
    assert_eq!(element(&all, "ObjectSize").as_deref(), Some("7"), "{all:?}");
    assert_eq!(element(&all, "StorageClass").unwrap(), "STANDARD");
    assert!(
        element(&all, "ETag")
            .unwrap()
            .contains("9a0364b9e99bb480dd25e1f0284c8555")
    );
    assert!(element(&all, "ChecksumCRC32").is_some());
    assert_eq!(element(&all, "ObjectParts"), None);
    let size = send(lab.cluster().endpoint(), get("ObjectSize").with_header()).await;
    assert_eq!(element(&size, "ETag"), None);
    assert_eq!(
        ask(&lab, get("Color").with_header()).await,
        error(400, "InvalidArgument")
    );
    let missing =
        Raw::new("GET", "/alices/none?attributes").signed("x-amz-object-attributes", "ETag");
    assert_eq!(
        ask(&lab, missing.with_header()).await,
        error(404, "NoSuchKey")
    );
}
