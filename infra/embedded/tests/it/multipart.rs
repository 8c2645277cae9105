//! Uploads in parts.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::complete_multipart_upload::{
    CompleteMultipartUploadError, CompleteMultipartUploadOutput,
};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use crate::support::{Lab, body, error, pattern, put, read, refusal};

const PART_BYTES: usize = 5 << 20;

pub async fn complete(
    client: &Client,
    bucket: &str,
    key: &str,
    upload_id: &str,
    parts: &[(i32, String)],
) -> Result<CompleteMultipartUploadOutput, SdkError<CompleteMultipartUploadError>> {
    let parts = parts.iter().map(|(number, etag)| {
        CompletedPart::builder()
            .part_number(*number)
            .e_tag(etag)
            .build()
    });
    client
        .complete_multipart_upload()
        .bucket(bucket)
        .key(key)
        .upload_id(upload_id)
        .multipart_upload(
            CompletedMultipartUpload::builder()
                .set_parts(Some(parts.collect()))
                .build(),
        )
        .send()
        .await
}

async fn part(client: &Client, upload_id: &str, number: i32, bytes: &[u8]) -> (i32, String) {
    let output = client
        .upload_part()
        .bucket("alices")
        .key("big")
        .upload_id(upload_id)
        .part_number(number)
        .body(body(bytes))
        .send()
        .await
        .unwrap();
    (number, output.e_tag.unwrap())
}

#[tokio::test]
async fn parts_become_one_object() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let bytes = pattern(2 * PART_BYTES + 1000);
    let created = alice
        .create_multipart_upload()
        .bucket("alices")
        .key("big")
        .content_type("text/big")
        .metadata("m", "1")
        .send()
        .await
        .unwrap();
    let id = created.upload_id().unwrap();
    let wrong = part(&alice, id, 1, b"replaced").await;
    let first = part(&alice, id, 1, &bytes[..PART_BYTES]).await;
    let third = part(&alice, id, 3, &bytes[2 * PART_BYTES..]).await;
    let second = part(&alice, id, 2, &bytes[PART_BYTES..2 * PART_BYTES]).await;
    let unused = part(&alice, id, 9, b"unused").await;
    let figures = lab.bucket_figures("alices").await;
    assert_eq!(figures["multipart_bytes"], bytes.len() + 6);
    assert_eq!(figures["objects"], 0);

    let listed = alice
        .list_parts()
        .bucket("alices")
        .key("big")
        .upload_id(id)
        .max_parts(3)
        .send()
        .await
        .unwrap();
    let numbers: Vec<_> = listed
        .parts()
        .iter()
        .map(|part| part.part_number().unwrap())
        .collect();
    assert_eq!(
        (numbers.as_slice(), listed.is_truncated()),
        ([1, 2, 3].as_slice(), Some(true))
    );
    let rest = alice
        .list_parts()
        .bucket("alices")
        .key("big")
        .upload_id(id)
        .part_number_marker(listed.next_part_number_marker().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(rest.parts()[0].part_number(), Some(9));
    let uploads = alice
        .list_multipart_uploads()
        .bucket("alices")
        .send()
        .await
        .unwrap();
    assert_eq!(uploads.uploads()[0].upload_id(), Some(id));

    let finish = async |parts: &[&(i32, String)]| {
        let parts: Vec<_> = parts.iter().map(|part| (*part).clone()).collect();
        complete(&alice, "alices", "big", id, &parts).await
    };
    assert_eq!(
        refusal(finish(&[&second, &first]).await),
        error(400, "InvalidPartOrder")
    );
    assert_eq!(
        refusal(finish(&[&wrong, &second]).await),
        error(400, "InvalidPart")
    );
    assert_eq!(
        refusal(finish(&[&first, &(7, "x".to_owned())]).await),
        error(400, "InvalidPart")
    );
    assert_eq!(
        refusal(finish(&[&first, &third, &unused]).await),
        error(400, "EntityTooSmall")
    );
    let done = finish(&[&first, &second, &third]).await.unwrap();
    assert!(done.e_tag().unwrap().ends_with("-3\""));
    // Once more, for whoever did not hear the answer; other parts are another matter.
    let again = finish(&[&first, &second, &third]).await.unwrap();
    assert_eq!(
        (again.e_tag(), again.checksum_crc64_nvme(), again.location()),
        (done.e_tag(), done.checksum_crc64_nvme(), done.location())
    );
    assert!(again.checksum_crc64_nvme().is_some());
    assert_eq!(refusal(finish(&[&first]).await), error(404, "NoSuchUpload"));
    lab.clock.advance(25 * 3600);
    let other = alice
        .create_multipart_upload()
        .bucket("alices")
        .key("o")
        .send()
        .await
        .unwrap();
    let other = other.upload_id().unwrap().to_owned();
    let small = alice
        .upload_part()
        .bucket("alices")
        .key("o")
        .upload_id(&other)
        .part_number(1);
    let small = (
        1,
        small.body(body("x")).send().await.unwrap().e_tag.unwrap(),
    );
    complete(&alice, "alices", "o", &other, &[small])
        .await
        .unwrap();
    assert_eq!(
        refusal(finish(&[&first, &second, &third]).await),
        error(404, "NoSuchUpload")
    );
    alice
        .delete_object()
        .bucket("alices")
        .key("o")
        .send()
        .await
        .unwrap();

    assert_eq!(read(&alice, "alices", "big").await, bytes);
    let head = alice
        .head_object()
        .bucket("alices")
        .key("big")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (head.content_type(), head.metadata().unwrap()["m"].as_str()),
        (Some("text/big"), "1")
    );
    // Across the seam of two files.
    let from = PART_BYTES - 10;
    let range = format!("bytes={from}-{}", from + 19);
    let found = alice
        .get_object()
        .bucket("alices")
        .key("big")
        .range(range)
        .send()
        .await
        .unwrap();
    assert_eq!(
        found.body.collect().await.unwrap().to_vec(),
        bytes[from..from + 20]
    );
    let found = alice
        .get_object()
        .bucket("alices")
        .key("big")
        .part_number(3)
        .send()
        .await
        .unwrap();
    assert_eq!(found.parts_count(), Some(3));
    assert_eq!(
        found.body.collect().await.unwrap().to_vec(),
        bytes[2 * PART_BYTES..]
    );

    let figures = lab.bucket_figures("alices").await;
    assert_eq!(figures["stored_bytes"], bytes.len());
    assert_eq!(
        (&figures["multipart_bytes"], &figures["objects"]),
        (&0.into(), &1.into())
    );
    assert_eq!(lab.files(), 3, "the unused part is gone");
    alice
        .copy_object()
        .bucket("alices")
        .key("copy")
        .copy_source("alices/big")
        .send()
        .await
        .unwrap();
    assert_eq!(read(&alice, "alices", "copy").await, bytes);
    alice
        .delete_object()
        .bucket("alices")
        .key("big")
        .send()
        .await
        .unwrap();
    assert_eq!(lab.files(), 1);
}

#[tokio::test]
async fn parts_are_copied_and_uploads_aborted() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let bytes = pattern(100_000);
    put(&alice, "alices", "source", bytes.clone()).await;
    let created = alice
        .create_multipart_upload()
        .bucket("alices")
        .key("big")
        .send()
        .await
        .unwrap();
    let id = created.upload_id().unwrap();
    let copied = alice
        .upload_part_copy()
        .bucket("alices")
        .key("big")
        .upload_id(id)
        .part_number(1)
        .copy_source("alices/source")
        .copy_source_range("bytes=10-99")
        .send()
        .await
        .unwrap();
    for range in [
        "bytes=10-100000",
        "bytes=0-199999",
        "bytes=10-",
        "bytes=-5",
        "10-20",
    ] {
        let beyond = alice
            .upload_part_copy()
            .bucket("alices")
            .key("big")
            .upload_id(id)
            .part_number(1)
            .copy_source("alices/source")
            .copy_source_range(range);
        assert_eq!(
            refusal(beyond.send().await),
            error(400, "InvalidArgument"),
            "{range}"
        );
    }
    let etag = copied.copy_part_result.unwrap().e_tag.unwrap();
    complete(&alice, "alices", "big", id, &[(1, etag)])
        .await
        .unwrap();
    assert_eq!(read(&alice, "alices", "big").await, bytes[10..100]);

    let created = alice
        .create_multipart_upload()
        .bucket("alices")
        .key("big")
        .send()
        .await
        .unwrap();
    let id = created.upload_id().unwrap();
    part(&alice, id, 1, &bytes).await;
    let files = lab.files();
    let abort = || {
        alice
            .abort_multipart_upload()
            .bucket("alices")
            .key("big")
            .upload_id(id)
            .send()
    };
    abort().await.unwrap();
    assert_eq!(lab.files(), files - 1);
    assert_eq!(refusal(abort().await), error(404, "NoSuchUpload"));
    let late = alice
        .upload_part()
        .bucket("alices")
        .key("big")
        .upload_id(id)
        .part_number(1)
        .body(body("x"));
    assert_eq!(refusal(late.send().await), error(404, "NoSuchUpload"));
    let created = alice
        .create_multipart_upload()
        .bucket("alices")
        .key("big")
        .send()
        .await
        .unwrap();
    let beyond = alice
        .upload_part()
        .bucket("alices")
        .key("big")
        .upload_id(created.upload_id().unwrap());
    assert_eq!(
        refusal(beyond.part_number(10_001).body(body("x")).send().await),
        error(400, "InvalidArgument")
    );
}

#[tokio::test]
async fn uploads_are_listed_in_pages() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let mut begun = Vec::new();
    for key in ["a", "a", "b", "dir/1", "dir/2"] {
        let created = alice
            .create_multipart_upload()
            .bucket("alices")
            .key(key)
            .send()
            .await
            .unwrap();
        begun.push((key.to_owned(), created.upload_id.unwrap()));
    }
    begun.sort();
    let (mut found, mut key, mut id) = (Vec::new(), None, None);
    loop {
        let page = alice
            .list_multipart_uploads()
            .bucket("alices")
            .max_uploads(1)
            .set_key_marker(key)
            .set_upload_id_marker(id)
            .send()
            .await
            .unwrap();
        found.extend(page.uploads().iter().map(|upload| {
            (
                upload.key().unwrap().to_owned(),
                upload.upload_id().unwrap().to_owned(),
            )
        }));
        (key, id) = (page.next_key_marker, page.next_upload_id_marker);
        if page.is_truncated != Some(true) {
            break;
        }
    }
    assert_eq!(found, begun);
    let folded = alice
        .list_multipart_uploads()
        .bucket("alices")
        .delimiter("/")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (folded.uploads().len(), folded.common_prefixes().len()),
        (3, 1)
    );
}

#[tokio::test]
async fn unfinished_uploads_go_with_their_bucket() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", "v").await;
    let created = alice
        .create_multipart_upload()
        .bucket("alices")
        .key("big")
        .send()
        .await
        .unwrap();
    let id = created.upload_id().unwrap();
    part(&alice, id, 1, &pattern(1000)).await;
    part(&alice, id, 2, b"").await;
    let delete = || alice.delete_bucket().bucket("alices").send();
    assert_eq!(refusal(delete().await), error(409, "BucketNotEmpty"));
    alice
        .delete_object()
        .bucket("alices")
        .key("k")
        .send()
        .await
        .unwrap();
    // Whoever administers has to say that he means it.
    let (status, _) = lab
        .admin("DELETE", "buckets/alices", serde_json::Value::Null)
        .await;
    assert_eq!(status, 409);
    delete().await.unwrap();
    assert_eq!(lab.files(), 0);
    let (_, user) = lab
        .admin("GET", "users/alice", serde_json::Value::Null)
        .await;
    assert_eq!(user["stored_bytes"], 0);
    // A bucket made again does not know them.
    alice.create_bucket().bucket("alices").send().await.unwrap();
    let uploads = alice.list_multipart_uploads().bucket("alices").send().await;
    assert!(uploads.unwrap().uploads().is_empty());
}
