//! Objects written and read back.

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{Delete, MetadataDirective, ObjectIdentifier, Tag, Tagging};

use crate::support::{Lab, body, error, pattern, put, read, refusal};

#[tokio::test]
async fn an_object_comes_back_as_it_was_described() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let bytes = pattern(300_000);
    let written = alice
        .put_object()
        .bucket("alices")
        .key("dir/file")
        .content_type("text/x-test")
        .content_disposition("inline")
        .cache_control("max-age=1")
        .content_language("nl")
        .metadata("mtime", "1")
        .metadata("name", "wharf")
        .tagging("a=1&b=x%20y")
        .body(body(bytes.clone()))
        .send()
        .await
        .unwrap();
    assert_eq!(written.version_id(), None);
    let found = alice
        .get_object()
        .bucket("alices")
        .key("dir/file")
        .send()
        .await
        .unwrap();
    assert_eq!(found.content_type(), Some("text/x-test"));
    assert_eq!(found.content_disposition(), Some("inline"));
    assert_eq!(found.cache_control(), Some("max-age=1"));
    assert_eq!(found.content_language(), Some("nl"));
    assert_eq!(found.metadata().unwrap()["mtime"], "1");
    assert_eq!(found.metadata().unwrap()["name"], "wharf");
    assert_eq!(found.tag_count(), Some(2));
    assert_eq!(found.e_tag(), written.e_tag());
    assert_eq!(found.content_length(), Some(300_000));
    assert_eq!(
        found.last_modified().unwrap(),
        &DateTime::from_str("2026-11-22T13:20:00Z", DateTimeFormat::DateTime).unwrap()
    );
    assert_eq!(found.body.collect().await.unwrap().to_vec(), bytes);
    let head = alice
        .head_object()
        .bucket("alices")
        .key("dir/file")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some(300_000));
    assert_eq!(head.content_type(), Some("text/x-test"));
    // The MD5 of nothing, and no file for it.
    let files = lab.files();
    let empty = alice
        .put_object()
        .bucket("alices")
        .key("empty")
        .send()
        .await
        .unwrap();
    assert_eq!(empty.e_tag(), Some("\"d41d8cd98f00b204e9800998ecf8427e\""));
    assert_eq!(read(&alice, "alices", "empty").await, b"");
    assert_eq!(lab.files(), files);
    let head = alice
        .head_object()
        .bucket("alices")
        .key("empty")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some(0));
}

#[tokio::test]
async fn ranges_and_conditions() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let bytes = pattern(400_000);
    put(&alice, "alices", "k", bytes.clone()).await;
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=100000-299999", 100_000, 300_000),
        ("bytes=399999-", 399_999, 400_000),
        ("bytes=-5", 399_995, 400_000),
        ("bytes=0-999999999", 0, 400_000),
    ] {
        let found = alice
            .get_object()
            .bucket("alices")
            .key("k")
            .range(range)
            .send()
            .await
            .unwrap();
        assert_eq!(
            found.content_range(),
            Some(format!("bytes {from}-{}/400000", to - 1).as_str())
        );
        assert_eq!(
            found.body.collect().await.unwrap().to_vec(),
            bytes[from..to]
        );
    }
    let get = || alice.get_object().bucket("alices").key("k");
    assert_eq!(
        refusal(get().range("bytes=400000-").send().await),
        error(416, "InvalidRange")
    );
    let etag = alice
        .head_object()
        .bucket("alices")
        .key("k")
        .send()
        .await
        .unwrap()
        .e_tag
        .unwrap();
    get().if_match(&etag).send().await.unwrap();
    assert_eq!(
        refusal(get().if_match("\"x\"").send().await),
        error(412, "PreconditionFailed")
    );
    assert_eq!(refusal(get().if_none_match(&etag).send().await).0, 304);
    get().if_none_match("\"x\"").send().await.unwrap();
    let modified = DateTime::from_str("2026-11-22T13:20:00Z", DateTimeFormat::DateTime).unwrap();
    let before = DateTime::from_secs(modified.secs() - 1);
    assert_eq!(
        refusal(get().if_modified_since(modified).send().await).0,
        304
    );
    get().if_modified_since(before).send().await.unwrap();
    get().if_unmodified_since(modified).send().await.unwrap();
    assert_eq!(
        refusal(get().if_unmodified_since(before).send().await).0,
        412
    );

    let write = |key: &'static str| {
        alice
            .put_object()
            .bucket("alices")
            .key(key)
            .body(body("new"))
    };
    assert_eq!(
        refusal(write("k").if_none_match("*").send().await),
        error(412, "PreconditionFailed")
    );
    assert_eq!(
        refusal(write("k").if_match("\"x\"").send().await),
        error(412, "PreconditionFailed")
    );
    assert_eq!(
        refusal(write("n").if_match("\"x\"").send().await),
        error(404, "NoSuchKey")
    );
    write("n").if_none_match("*").send().await.unwrap();
    write("k").if_match(&etag).send().await.unwrap();
    assert_eq!(read(&alice, "alices", "k").await, b"new");
}

#[tokio::test]
async fn of_two_conditional_creations_one_wins() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let puts = (0..8).map(|n| {
        alice
            .put_object()
            .bucket("alices")
            .key("segment")
            .if_none_match("*")
            .body(body(format!("{n}")))
            .send()
    });
    let done = futures::future::join_all(puts).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1);
    assert_eq!(lab.files(), 1);
}

#[tokio::test]
async fn damaged_bodies_are_refused() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let write = || {
        alice
            .put_object()
            .bucket("alices")
            .key("k")
            .body(body("hello"))
    };
    assert_eq!(
        refusal(write().content_md5("1B2M2Y8AsgTpgAmY7PhCfg==").send().await),
        error(400, "BadDigest")
    );
    assert_eq!(
        refusal(write().content_md5("nonsense").send().await),
        error(400, "InvalidDigest")
    );
    assert_eq!(
        refusal(
            write()
                .checksum_sha256("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
                .send()
                .await
        ),
        error(400, "BadDigest")
    );
    write()
        .content_md5("XUFAKrxLKna5cZ2REBfFkg==")
        .send()
        .await
        .unwrap();
    for algorithm in [
        aws_sdk_s3::types::ChecksumAlgorithm::Crc32,
        aws_sdk_s3::types::ChecksumAlgorithm::Crc32C,
        aws_sdk_s3::types::ChecksumAlgorithm::Crc64Nvme,
        aws_sdk_s3::types::ChecksumAlgorithm::Sha1,
        aws_sdk_s3::types::ChecksumAlgorithm::Sha256,
    ] {
        write().checksum_algorithm(algorithm).send().await.unwrap();
        // The client checks what it gets against the checksum it is told.
        assert_eq!(read(&alice, "alices", "k").await, b"hello");
    }
    assert_eq!(lab.files(), 1);
}

#[tokio::test]
async fn streamed_uploads_with_trailing_checksums() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let bytes = pattern(3_000_000);
    let file = lab.data_dir().join("upload");
    std::fs::write(&file, &bytes).unwrap();
    let stream = aws_sdk_s3::primitives::ByteStream::read_from()
        .path(&file)
        .build()
        .await
        .unwrap();
    let written = alice
        .put_object()
        .bucket("alices")
        .key("k")
        .body(stream)
        .send()
        .await
        .unwrap();
    assert!(written.checksum_crc32().is_some());
    assert_eq!(read(&alice, "alices", "k").await, bytes);
    let head = alice
        .head_object()
        .bucket("alices")
        .key("k")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_encoding(), None);
}

#[tokio::test]
async fn copies() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let bytes = pattern(200_000);
    alice
        .put_object()
        .bucket("alices")
        .key("a key+with %")
        .metadata("m", "1")
        .content_type("text/x")
        .tagging("t=1")
        .body(body(bytes.clone()))
        .send()
        .await
        .unwrap();
    let source = "alices/a%20key%2Bwith%20%25";
    let copy = |key: &'static str| {
        alice
            .copy_object()
            .bucket("alices")
            .key(key)
            .copy_source(source)
    };
    copy("copy").send().await.unwrap();
    assert_eq!(read(&alice, "alices", "copy").await, bytes);
    let head = alice
        .head_object()
        .bucket("alices")
        .key("copy")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (head.content_type(), head.metadata().unwrap()["m"].as_str()),
        (Some("text/x"), "1")
    );
    copy("copy")
        .metadata_directive(MetadataDirective::Replace)
        .metadata("m", "2")
        .send()
        .await
        .unwrap();
    let head = alice
        .head_object()
        .bucket("alices")
        .key("copy")
        .send()
        .await
        .unwrap();
    assert_eq!(head.metadata().unwrap()["m"], "2");
    assert_eq!(
        refusal(copy("a key+with %").send().await),
        error(400, "InvalidRequest")
    );
    copy("a key+with %")
        .metadata_directive(MetadataDirective::Replace)
        .send()
        .await
        .unwrap();
    assert_eq!(read(&alice, "alices", "a key+with %").await, bytes);
    assert_eq!(
        refusal(copy("copy").copy_source_if_match("\"x\"").send().await),
        error(412, "PreconditionFailed")
    );
    let missing = alice
        .copy_object()
        .bucket("alices")
        .key("x")
        .copy_source("alices/none")
        .send()
        .await;
    assert_eq!(refusal(missing), error(404, "NoSuchKey"));
    let missing = alice
        .copy_object()
        .bucket("alices")
        .key("x")
        .copy_source("none-such/none")
        .send()
        .await;
    assert_eq!(refusal(missing), error(404, "NoSuchBucket"));
}

#[tokio::test]
async fn deletions() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    assert_eq!(
        refusal(alice.get_object().bucket("alices").key("none").send().await),
        error(404, "NoSuchKey")
    );
    alice
        .delete_object()
        .bucket("alices")
        .key("none")
        .send()
        .await
        .unwrap();
    for n in 0..20 {
        put(&alice, "alices", &format!("k{n}"), "v").await;
    }
    assert_eq!(
        refusal(alice.delete_bucket().bucket("alices").send().await),
        error(409, "BucketNotEmpty")
    );
    let objects = |range: std::ops::Range<i32>| {
        let objects = range.map(|n| {
            ObjectIdentifier::builder()
                .key(format!("k{n}"))
                .build()
                .unwrap()
        });
        Delete::builder()
            .set_objects(Some(objects.collect()))
            .build()
            .unwrap()
    };
    let deleted = alice
        .delete_objects()
        .bucket("alices")
        .delete(objects(0..21))
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.deleted().len(), 21);
    assert_eq!(
        refusal(
            alice
                .delete_objects()
                .bucket("alices")
                .delete(objects(0..1001))
                .send()
                .await
        ),
        error(400, "MalformedXML")
    );
    assert_eq!(lab.files(), 0);
    alice.delete_bucket().bucket("alices").send().await.unwrap();
    assert_eq!(
        refusal(alice.list_objects_v2().bucket("alices").send().await),
        error(404, "NoSuchBucket")
    );
}

#[tokio::test]
async fn tags() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", "v").await;
    let tagging = Tagging::builder()
        .tag_set(Tag::builder().key("a").value("1").build().unwrap())
        .build()
        .unwrap();
    alice
        .put_object_tagging()
        .bucket("alices")
        .key("k")
        .tagging(tagging)
        .send()
        .await
        .unwrap();
    let tags = alice
        .get_object_tagging()
        .bucket("alices")
        .key("k")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (tags.tag_set()[0].key(), tags.tag_set()[0].value()),
        ("a", "1")
    );
    alice
        .delete_object_tagging()
        .bucket("alices")
        .key("k")
        .send()
        .await
        .unwrap();
    let tags = alice
        .get_object_tagging()
        .bucket("alices")
        .key("k")
        .send()
        .await
        .unwrap();
    assert!(tags.tag_set().is_empty());
}

#[tokio::test]
async fn what_is_not_offered_says_so() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    assert_eq!(
        refusal(alice.get_bucket_policy().bucket("alices").send().await),
        error(501, "NotImplemented")
    );
    let public = alice
        .put_object()
        .bucket("alices")
        .key("k")
        .acl(aws_sdk_s3::types::ObjectCannedAcl::PublicRead)
        .send()
        .await;
    assert_eq!(refusal(public), error(400, "AccessControlListNotSupported"));
    let location = alice
        .get_bucket_location()
        .bucket("alices")
        .send()
        .await
        .unwrap();
    assert!(
        location
            .location_constraint()
            .is_none_or(|name| name.as_str().is_empty())
    );
    for name in [
        "ab",
        "Upper",
        "under_score",
        "-dash",
        "192.168.1.1",
        "dot..dot",
    ] {
        let made = alice.create_bucket().bucket(name).send().await;
        assert_eq!(refusal(made), error(400, "InvalidBucketName"), "{name}");
    }
}

#[tokio::test]
async fn buckets_and_objects_are_private_and_say_so() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", "v").await;
    let bucket = alice
        .get_bucket_acl()
        .bucket("alices")
        .send()
        .await
        .unwrap();
    let object = alice
        .get_object_acl()
        .bucket("alices")
        .key("k")
        .send()
        .await
        .unwrap();
    for (owner, grants) in [
        (bucket.owner(), bucket.grants()),
        (object.owner(), object.grants()),
    ] {
        assert_eq!(owner.unwrap().id(), Some("alice"));
        assert_eq!(grants.len(), 1);
        assert_eq!(grants[0].permission().unwrap().as_str(), "FULL_CONTROL");
        assert_eq!(grants[0].grantee().unwrap().id(), Some("alice"));
    }
    use aws_sdk_s3::types::{AccessControlPolicy, BucketCannedAcl, ObjectCannedAcl};
    let policy = AccessControlPolicy::builder()
        .set_owner(bucket.owner)
        .set_grants(bucket.grants)
        .build();
    let to_bucket = || alice.put_bucket_acl().bucket("alices");
    let to_object = || alice.put_object_acl().bucket("alices").key("k");
    to_bucket()
        .acl(BucketCannedAcl::Private)
        .send()
        .await
        .unwrap();
    to_bucket()
        .access_control_policy(policy.clone())
        .send()
        .await
        .unwrap();
    to_object()
        .acl(ObjectCannedAcl::Private)
        .send()
        .await
        .unwrap();
    to_object()
        .acl(ObjectCannedAcl::BucketOwnerFullControl)
        .send()
        .await
        .unwrap();
    to_object()
        .access_control_policy(policy)
        .send()
        .await
        .unwrap();
    let refused = error(400, "AccessControlListNotSupported");
    let public = to_bucket()
        .acl(BucketCannedAcl::PublicReadWrite)
        .send()
        .await;
    assert_eq!(refusal(public), refused);
    let public = to_object().acl(ObjectCannedAcl::PublicRead).send().await;
    assert_eq!(
        aws_sdk_s3::error::ProvideErrorMetadata::message(&public.unwrap_err()),
        Some(
            "The ACL \"public-read\" is not offered: buckets and objects are private to their account."
        )
    );
    let granted = to_object().grant_read("id=bob").send().await;
    assert_eq!(refusal(granted), refused);
    let granted = alice
        .put_object()
        .bucket("alices")
        .key("g")
        .grant_read("id=bob")
        .send()
        .await;
    assert_eq!(refusal(granted), refused);
    let none = alice
        .get_object_acl()
        .bucket("alices")
        .key("none")
        .send()
        .await;
    assert_eq!(refusal(none), error(404, "NoSuchKey"));
}

#[tokio::test]
async fn every_answer_has_an_id_and_every_refusal_words() {
    use crate::raw::{Raw, element};
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", "v").await;
    let mut ids = std::collections::BTreeSet::new();
    for request in [
        Raw::new("GET", "/"),
        Raw::new("GET", "/alices/k"),
        Raw::new("HEAD", "/alices/k"),
        Raw::new("DELETE", "/alices/none"),
        Raw::new("GET", "/alices/none?a&<b>"),
        Raw::new("GET", "/alices?policy"),
        Raw::new("POST", "/alices"),
        Raw::new("PUT", "/alices?versioning").body("<x/>"),
        Raw::new("PUT", "/Alices"),
        Raw::new("OPTIONS", "/alices/k"),
        Raw::new("GET", "/alices/k")
            .region("US")
            .unsigned("x-amz-acl", "private"),
    ] {
        let request = request.with_header();
        let asked = format!("{} {}", request.method(), request.uri());
        let answer = crate::support::send(lab.cluster().endpoint(), request).await;
        let id = answer.headers()["x-amz-request-id"]
            .to_str()
            .unwrap()
            .to_owned();
        if answer.status().as_u16() >= 400 {
            assert_eq!(element(&answer, "RequestId").as_ref(), Some(&id), "{asked}");
            assert!(
                element(&answer, "Message").is_some_and(|text| text.len() > 10),
                "{asked}"
            );
            assert!(element(&answer, "Resource").is_some(), "{asked}");
        }
        ids.insert(id);
    }
    assert_eq!(ids.len(), 11);
}
