//! What a restart and a crash leave.

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use serde_json::Value;

use crate::support::{Lab, body, pattern, put, read, refusal};

#[tokio::test]
async fn a_restart_keeps_everything() {
    let mut lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    alice
        .put_bucket_versioning()
        .bucket("alices")
        .versioning_configuration(
            VersioningConfiguration::builder()
                .status(BucketVersioningStatus::Enabled)
                .build(),
        )
        .send()
        .await
        .unwrap();
    put(&alice, "alices", "k", pattern(100_000)).await;
    put(&alice, "alices", "k", "second").await;
    let upload = alice
        .create_multipart_upload()
        .bucket("alices")
        .key("m")
        .send()
        .await
        .unwrap();
    let upload_id = upload.upload_id().unwrap();
    let part = |number: i32| {
        lab.client_of("alice")
            .upload_part()
            .bucket("alices")
            .key("m")
            .upload_id(upload_id)
            .part_number(number)
            .body(body("part"))
            .send()
    };
    let etag = part(1).await.unwrap().e_tag.unwrap();
    let before = lab.bucket_figures("alices").await;
    lab.restart();
    assert_eq!(lab.bucket_figures("alices").await, before);
    let alice = lab.client_of("alice");
    assert_eq!(read(&alice, "alices", "k").await, b"second");
    let done = crate::multipart::complete(&alice, "alices", "m", upload_id, &[(1, etag)]).await;
    done.unwrap();
    assert_eq!(read(&alice, "alices", "m").await, b"part");
    // New writes after the restart are newer than those before.
    put(&alice, "alices", "k", "third").await;
    assert_eq!(read(&alice, "alices", "k").await, b"third");
    assert_eq!(lab.cluster().sweep().await.unwrap(), 0);
}

#[tokio::test]
async fn files_without_metadata_are_swept_and_others_kept() {
    let mut lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", pattern(1000)).await;
    // As a crash leaves them: one being received, one renamed but not recorded. This start's own
    // are not touched: they may be on their way.
    let shard = lab.data_dir().join("blobs").join("ff");
    std::fs::create_dir_all(&shard).unwrap();
    std::fs::write(
        lab.data_dir().join("staging").join("00000100000000fe"),
        "half",
    )
    .unwrap();
    std::fs::write(shard.join("00000100000000ff"), "orphan").unwrap();
    assert_eq!(lab.cluster().sweep().await.unwrap(), 0);
    assert_eq!(lab.files(), 3);
    lab.restart();
    lab.cluster().sweep().await.unwrap();
    assert_eq!(lab.files(), 1);
    assert_eq!(
        read(&lab.client_of("alice"), "alices", "k").await.len(),
        1000
    );
}

#[tokio::test]
async fn an_upload_cut_off_leaves_nothing() {
    use tokio::io::AsyncWriteExt;
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let expiry =
        aws_sdk_s3::presigning::PresigningConfig::expires_in(std::time::Duration::from_secs(60))
            .unwrap();
    let url = alice
        .put_object()
        .bucket("alices")
        .key("k")
        .presigned(expiry)
        .await
        .unwrap();
    let address = lab.cluster().endpoint().strip_prefix("http://").unwrap();
    let path = url.uri().strip_prefix(lab.cluster().endpoint()).unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!("PUT {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 100000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&pattern(50_000)).await.unwrap();
    while lab.files() == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    while lab.files() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        refusal(alice.head_object().bucket("alices").key("k").send().await).0,
        404
    );
    assert_eq!(lab.bucket_figures("alices").await["stored_bytes"], 0);
}

/// Takes away what the third schema brought.
fn without_third_schema(database: &rusqlite::Connection) {
    database
        .execute_batch(
            "DROP TABLE version_parts; DROP TABLE completed_uploads; ALTER TABLE parts DROP COLUMN checksums;",
        )
        .unwrap();
}

#[tokio::test]
async fn a_database_of_the_second_schema_is_brought_up_to_date() {
    let mut lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", pattern(10)).await;
    let created = alice
        .create_multipart_upload()
        .bucket("alices")
        .key("m")
        .send()
        .await
        .unwrap();
    let id = created.upload_id.unwrap();
    let upload = |client: &aws_sdk_s3::Client, number: i32| {
        client
            .upload_part()
            .bucket("alices")
            .key("m")
            .upload_id(&id)
            .part_number(number)
            .body(crate::support::body(pattern(6 << 20)))
            .send()
    };
    let first = upload(&alice, 1).await.unwrap().e_tag.unwrap();
    {
        let database = rusqlite::Connection::open(lab.data_dir().join("metadata.sqlite")).unwrap();
        without_third_schema(&database);
        database.pragma_update(None, "user_version", 2).unwrap();
    }
    lab.restart();
    let alice = lab.client_of("alice");
    assert_eq!(read(&alice, "alices", "k").await, pattern(10));
    // An upload goes on, with parts of both.
    let second = upload(&alice, 2).await.unwrap().e_tag.unwrap();
    let done = crate::multipart::complete(&alice, "alices", "m", &id, &[(1, first), (2, second)])
        .await
        .unwrap();
    assert_eq!(
        (done.checksum_type(), done.checksum_crc64_nvme()),
        (None, None)
    );
    assert_eq!(read(&alice, "alices", "m").await.len(), 12 << 20);
}

#[tokio::test]
async fn a_database_of_the_first_schema_is_brought_up_to_date() {
    let mut lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", pattern(10)).await;
    let usage = "usage?from=2026-11-22T00:00:00Z&to=2026-11-23T00:00:00Z";
    let (status, before) = lab.admin("GET", usage, Value::Null).await;
    assert_eq!(status, 200, "{before}");
    {
        let database = lab.data_dir().join("metadata.sqlite");
        let database = rusqlite::Connection::open(database).unwrap();
        for class in ["get", "put", "list", "delete"] {
            let drop = format!("ALTER TABLE usage DROP COLUMN requests_{class}");
            database.execute_batch(&drop).unwrap();
        }
        without_third_schema(&database);
        database.pragma_update(None, "user_version", 1).unwrap();
    }
    lab.restart();
    let (status, after) = lab.admin("GET", usage, Value::Null).await;
    assert_eq!(status, 200, "{after}");
    let (before, after) = (&before["entries"][0], &after["entries"][0]);
    assert_eq!(after["requests"], before["requests"]);
    // What they did is not known any more.
    assert_eq!(after["requests_by_class"]["other"], after["requests"]);
}

#[tokio::test]
async fn bodies_without_their_database_are_refused_rather_than_forgotten() {
    let mut lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", pattern(100_000)).await;
    lab.stop();
    let database = lab.data_dir().join("metadata.sqlite");
    // What was written last may still stand in the log beside it.
    let parts = [
        "metadata.sqlite",
        "metadata.sqlite-wal",
        "metadata.sqlite-shm",
    ]
    .map(|name| lab.data_dir().join(name));
    let kept = parts.clone().map(|part| std::fs::read(part).ok());
    let files = lab.files();
    for broken in [
        None,
        Some(Vec::new()),
        Some(b"something else entirely".to_vec()),
    ] {
        for part in &parts {
            let _ = std::fs::remove_file(part);
        }
        if let Some(broken) = broken {
            std::fs::write(&database, broken).unwrap();
        }
        let error = lab.try_restart().unwrap_err().to_string();
        assert!(
            error.starts_with(&database.display().to_string()),
            "{error}"
        );
        assert_eq!(lab.files(), files);
    }
    for (part, kept) in parts.iter().zip(kept) {
        let _ = std::fs::remove_file(part);
        if let Some(kept) = kept {
            std::fs::write(part, kept).unwrap();
        }
    }
    lab.restart();
    assert_eq!(
        read(&lab.client_of("alice"), "alices", "k").await.len(),
        100_000
    );
}
