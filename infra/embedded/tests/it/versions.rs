//! Versioning, and figures that agree with a recount.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{
    BucketVersioningStatus, Delete, ObjectIdentifier, VersioningConfiguration,
};
use serde_json::Value;

use crate::support::{Lab, body, error, pattern, put, read, refusal};

async fn versioning(client: &Client, status: BucketVersioningStatus) {
    client
        .put_bucket_versioning()
        .bucket("alices")
        .versioning_configuration(VersioningConfiguration::builder().status(status).build())
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn old_versions_stay_until_deleted() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", "before").await;
    assert_eq!(
        alice
            .get_bucket_versioning()
            .bucket("alices")
            .send()
            .await
            .unwrap()
            .status(),
        None
    );
    versioning(&alice, BucketVersioningStatus::Enabled).await;
    let write = |text: &'static str| {
        alice
            .put_object()
            .bucket("alices")
            .key("k")
            .body(body(text))
            .send()
    };
    let first = write("first").await.unwrap().version_id.unwrap();
    let second = write("second!").await.unwrap().version_id.unwrap();
    assert_eq!(read(&alice, "alices", "k").await, b"second!");
    let get = |version: String| {
        alice
            .get_object()
            .bucket("alices")
            .key("k")
            .version_id(version)
            .send()
    };
    for (version, text) in [("null", "before"), (&first, "first"), (&second, "second!")] {
        let found = get(version.to_owned()).await.unwrap();
        assert_eq!(found.version_id(), Some(version));
        assert_eq!(
            found.body.collect().await.unwrap().to_vec(),
            text.as_bytes()
        );
    }
    assert_eq!(
        refusal(get("nonsense".to_owned()).await),
        error(400, "InvalidArgument")
    );
    assert_eq!(
        refusal(get("0".repeat(32)).await),
        error(404, "NoSuchVersion")
    );
    let figures = lab.bucket_figures("alices").await;
    assert_eq!(figures["stored_bytes"], 18);
    assert_eq!(figures["noncurrent_bytes"], 11);
    assert_eq!(
        (&figures["objects"], &figures["versions"]),
        (&1.into(), &3.into())
    );

    let deleted = alice
        .delete_object()
        .bucket("alices")
        .key("k")
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.delete_marker(), Some(true));
    let marker = deleted.version_id.unwrap();
    let gone = alice.get_object().bucket("alices").key("k").send().await;
    let headers = gone.as_ref().unwrap_err().raw_response().unwrap().headers();
    assert_eq!(headers.get("x-amz-delete-marker"), Some("true"));
    assert_eq!(refusal(gone), error(404, "NoSuchKey"));
    assert_eq!(
        refusal(get(marker.clone()).await),
        error(405, "MethodNotAllowed")
    );
    assert!(
        alice
            .list_objects_v2()
            .bucket("alices")
            .send()
            .await
            .unwrap()
            .contents()
            .is_empty()
    );
    assert_eq!(lab.bucket_figures("alices").await["noncurrent_bytes"], 18);
    assert_eq!(
        refusal(alice.delete_bucket().bucket("alices").send().await),
        error(409, "BucketNotEmpty")
    );
    // Taking the marker away brings the object back; taking that away, the one before.
    let remove = |version: String| {
        alice
            .delete_object()
            .bucket("alices")
            .key("k")
            .version_id(version)
            .send()
    };
    assert_eq!(remove(marker).await.unwrap().delete_marker(), Some(true));
    assert_eq!(read(&alice, "alices", "k").await, b"second!");
    remove(second).await.unwrap();
    assert_eq!(read(&alice, "alices", "k").await, b"first");

    // Suspended: the null version is replaced, the others stay.
    versioning(&alice, BucketVersioningStatus::Suspended).await;
    assert_eq!(write("null one").await.unwrap().version_id(), Some("null"));
    assert_eq!(write("null two").await.unwrap().version_id(), Some("null"));
    assert_eq!(lab.files(), 2);
    alice
        .delete_object()
        .bucket("alices")
        .key("k")
        .send()
        .await
        .unwrap();
    assert_eq!(lab.files(), 1);
    remove("null".to_owned()).await.unwrap();
    assert_eq!(read(&alice, "alices", "k").await, b"first");
    remove(first).await.unwrap();
    assert_eq!(lab.files(), 0);
    alice.delete_bucket().bucket("alices").send().await.unwrap();
}

#[tokio::test]
async fn versions_are_listed_newest_first_in_pages() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    versioning(&alice, BucketVersioningStatus::Enabled).await;
    let mut written = Vec::new();
    for key in ["a", "b", "c/1", "c/2"] {
        let mut versions = Vec::new();
        for n in 0..3 {
            let put = alice
                .put_object()
                .bucket("alices")
                .key(key)
                .body(body(format!("{n}")))
                .send();
            versions.push((key.to_owned(), put.await.unwrap().version_id.unwrap()));
        }
        let marker = alice
            .delete_object()
            .bucket("alices")
            .key(key)
            .send()
            .await
            .unwrap();
        versions.push((key.to_owned(), marker.version_id.unwrap()));
        versions.reverse();
        written.extend(versions);
    }
    for limit in [1, 3, 5, 1000] {
        let (mut found, mut latest) = (Vec::new(), 0);
        let (mut key, mut version) = (None, None);
        loop {
            let page = alice
                .list_object_versions()
                .bucket("alices")
                .max_keys(limit)
                .set_key_marker(key)
                .set_version_id_marker(version)
                .send()
                .await
                .unwrap();
            let mut entries: Vec<_> = page
                .versions()
                .iter()
                .map(|v| {
                    (
                        v.key().unwrap().to_owned(),
                        v.version_id().unwrap().to_owned(),
                    )
                })
                .chain(page.delete_markers().iter().map(|m| {
                    (
                        m.key().unwrap().to_owned(),
                        m.version_id().unwrap().to_owned(),
                    )
                }))
                .collect();
            latest += page
                .delete_markers()
                .iter()
                .filter(|m| m.is_latest() == Some(true))
                .count();
            assert!(page.versions().iter().all(|v| v.is_latest() == Some(false)));
            entries.sort_by_key(|entry| written.iter().position(|other| other == entry));
            found.extend(entries);
            (key, version) = (page.next_key_marker, page.next_version_id_marker);
            if page.is_truncated != Some(true) {
                break;
            }
        }
        assert_eq!(found, written, "{limit}");
        assert_eq!(latest, 4);
    }
    let folded = alice
        .list_object_versions()
        .bucket("alices")
        .delimiter("/")
        .max_keys(8)
        .send()
        .await
        .unwrap();
    assert_eq!(folded.next_key_marker(), Some("b"));
    let folded = alice
        .list_object_versions()
        .bucket("alices")
        .delimiter("/")
        .key_marker("b")
        .set_version_id_marker(folded.next_version_id_marker)
        .send()
        .await
        .unwrap();
    assert_eq!(folded.common_prefixes()[0].prefix(), Some("c/"));
    assert!(folded.versions().is_empty());
}

/// The figures of the bucket, counted anew from listings.
async fn recount(client: &Client) -> [i64; 5] {
    let (mut objects, mut versions, mut current, mut noncurrent, mut multipart) = (0, 0, 0, 0, 0);
    let mut pages = client
        .list_object_versions()
        .bucket("alices")
        .send()
        .await
        .unwrap();
    loop {
        for version in pages.versions() {
            versions += 1;
            let size = version.size().unwrap();
            if version.is_latest() == Some(true) {
                objects += 1;
                current += size;
            } else {
                noncurrent += size;
            }
        }
        if pages.is_truncated() != Some(true) {
            break;
        }
        pages = client
            .list_object_versions()
            .bucket("alices")
            .set_key_marker(pages.next_key_marker)
            .set_version_id_marker(pages.next_version_id_marker)
            .send()
            .await
            .unwrap();
    }
    let listed = client
        .list_objects_v2()
        .bucket("alices")
        .send()
        .await
        .unwrap();
    assert_eq!(listed.contents().len(), objects as usize);
    let uploads = client
        .list_multipart_uploads()
        .bucket("alices")
        .send()
        .await
        .unwrap();
    for upload in uploads.uploads() {
        let parts = client
            .list_parts()
            .bucket("alices")
            .key(upload.key().unwrap())
            .upload_id(upload.upload_id().unwrap())
            .send()
            .await
            .unwrap();
        multipart += parts
            .parts()
            .iter()
            .map(|part| part.size().unwrap())
            .sum::<i64>();
    }
    [
        objects,
        versions,
        current + noncurrent + multipart,
        noncurrent,
        multipart,
    ]
}

fn figures(row: &Value) -> [i64; 5] {
    [
        "objects",
        "versions",
        "stored_bytes",
        "noncurrent_bytes",
        "multipart_bytes",
    ]
    .map(|name| row[name].as_i64().unwrap())
}

/// A repeatable sequence, so that a failure can be looked into.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[tokio::test]
async fn figures_agree_with_a_recount_after_anything() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let mut dice = Dice(7);
    let mut known: Vec<(String, String)> = Vec::new();
    let mut uploads: Vec<(String, String)> = Vec::new();
    for step in 0..250 {
        let key = format!("k{}", dice.roll(6));
        let length = dice.roll(3000) as usize;
        match dice.roll(12) {
            0 => versioning(&alice, BucketVersioningStatus::Enabled).await,
            1 => versioning(&alice, BucketVersioningStatus::Suspended).await,
            2..=5 => {
                let put = alice
                    .put_object()
                    .bucket("alices")
                    .key(&key)
                    .body(body(pattern(length)))
                    .send();
                known.push((
                    key,
                    put.await.unwrap().version_id.unwrap_or("null".to_owned()),
                ));
            }
            6 => {
                let deleted = alice
                    .delete_object()
                    .bucket("alices")
                    .key(&key)
                    .send()
                    .await
                    .unwrap();
                known.extend(deleted.version_id.map(|version| (key, version)));
            }
            7 if !known.is_empty() => {
                let doomed: Vec<_> = (0..3)
                    .map(|_| {
                        let (key, version) = &known[dice.roll(known.len() as u64) as usize];
                        ObjectIdentifier::builder()
                            .key(key)
                            .version_id(version)
                            .build()
                            .unwrap()
                    })
                    .collect();
                let delete = Delete::builder().set_objects(Some(doomed)).build().unwrap();
                alice
                    .delete_objects()
                    .bucket("alices")
                    .delete(delete)
                    .send()
                    .await
                    .unwrap();
            }
            8 => {
                let upload = alice
                    .create_multipart_upload()
                    .bucket("alices")
                    .key(&key)
                    .send()
                    .await
                    .unwrap();
                uploads.push((key, upload.upload_id.unwrap()));
            }
            9 | 10 if !uploads.is_empty() => {
                let (key, id) = &uploads[dice.roll(uploads.len() as u64) as usize];
                let part = alice.upload_part().bucket("alices").key(key).upload_id(id);
                let number = 1 + dice.roll(2) as i32;
                part.part_number(number)
                    .body(body(pattern(length)))
                    .send()
                    .await
                    .unwrap();
            }
            11 if !uploads.is_empty() => {
                let (key, id) = uploads.swap_remove(dice.roll(uploads.len() as u64) as usize);
                if dice.roll(2) == 0 {
                    alice
                        .abort_multipart_upload()
                        .bucket("alices")
                        .key(key)
                        .upload_id(id)
                        .send()
                        .await
                        .unwrap();
                } else {
                    let part = alice
                        .upload_part()
                        .bucket("alices")
                        .key(&key)
                        .upload_id(&id)
                        .part_number(1);
                    let etag = part
                        .body(body(pattern(length)))
                        .send()
                        .await
                        .unwrap()
                        .e_tag
                        .unwrap();
                    crate::multipart::complete(&alice, "alices", &key, &id, &[(1, etag)])
                        .await
                        .unwrap();
                }
            }
            _ => {}
        }
        if step % 25 == 24 {
            assert_eq!(
                figures(&lab.bucket_figures("alices").await),
                recount(&alice).await,
                "step {step}"
            );
        }
    }
    let row = lab.bucket_figures("alices").await;
    let (_, user) = lab.admin("GET", "users/alice", Value::Null).await;
    assert_eq!(user["stored_bytes"], row["stored_bytes"]);
    assert_eq!(user["objects"], row["objects"]);
    assert_eq!(
        lab.cluster().sweep().await.unwrap(),
        0,
        "every file is named"
    );
    // Emptied step by step, the figures stay right, and nothing is left.
    let mut bytes = 0;
    loop {
        let (_, purged) = lab
            .admin(
                "POST",
                "buckets/alices/purge",
                serde_json::json!({"max_entries": 7}),
            )
            .await;
        bytes += purged["bytes"].as_i64().unwrap();
        assert!(purged["deleted"].as_i64().unwrap() <= 7);
        assert_eq!(
            figures(&lab.bucket_figures("alices").await),
            recount(&alice).await
        );
        if purged["empty"] == true {
            break;
        }
    }
    assert_eq!(bytes, row["stored_bytes"].as_i64().unwrap());
    assert_eq!(figures(&lab.bucket_figures("alices").await), [0; 5]);
    assert_eq!(lab.files(), 0);
}
