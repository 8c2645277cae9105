//! What a signature covers, how long it lasts, and for which region and host it is made.

use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use http_body_util::Full;
use hyper::Request;

use crate::raw::{Raw, ask, element};
use crate::support::{Lab, body, error, put, read, send};

#[tokio::test]
async fn nothing_is_added_to_a_signed_request() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "secret", "secret").await;
    let denied = error(403, "AccessDenied");

    for (name, value) in [
        ("x-amz-copy-source", "/alices/secret"),
        ("x-amz-acl", "private"),
        ("x-amz-meta-color", "red"),
        ("X-Amz-Storage-Class", "STANDARD"),
        ("x-amz-tagging", "a=b"),
    ] {
        let presigned = Raw::new("PUT", "/alices/k").unsigned(name, value);
        assert_eq!(ask(&lab, presigned.with_address(Some("60"))).await, denied);
        let signed = Raw::new("PUT", "/alices/k").unsigned(name, value);
        assert_eq!(ask(&lab, signed.with_header()).await, denied);
    }
    // Another name of the algorithm does not make it another signature.
    let mut renamed = Raw::new("PUT", "/alices/k")
        .unsigned("x-amz-copy-source", "/alices/secret")
        .with_header();
    let header = renamed.headers()["authorization"].to_str().unwrap();
    let header = header.replace("AWS4-HMAC-SHA256", "AWS").parse().unwrap();
    renamed.headers_mut().insert("authorization", header);
    assert_eq!(ask(&lab, renamed).await, denied);
    let refused = Raw::new("PUT", "/alices/k")
        .unsigned("x-amz-copy-source", "/alices/secret")
        .unsigned("x-amz-acl", "private");
    let refused = send(lab.cluster().endpoint(), refused.with_address(Some("60"))).await;
    assert_eq!(
        element(&refused, "Message").unwrap(),
        "There were headers present in the request which were not signed"
    );
    assert_eq!(
        element(&refused, "HeadersNotSigned").unwrap(),
        "x-amz-acl, x-amz-copy-source"
    );
    let objects = alice.list_objects_v2().bucket("alices").send().await;
    assert_eq!(objects.unwrap().key_count(), Some(1));

    // What is signed is done.
    let copied = Raw::new("PUT", "/alices/copy").signed("x-amz-copy-source", "/alices/secret");
    assert_eq!(ask(&lab, copied.with_address(Some("60"))).await.0, 200);
    assert_eq!(read(&alice, "alices", "copy").await, b"secret");
    let copied = Raw::new("PUT", "/alices/copy2").signed("x-amz-copy-source", "/alices/secret");
    assert_eq!(ask(&lab, copied.with_header()).await.0, 200);
    // The payload's digest is checked whether or not it is signed.
    let plain = Raw::new("PUT", "/alices/plain")
        .body("plain")
        .unsigned("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    assert_eq!(ask(&lab, plain.with_address(Some("60"))).await.0, 200);
}

#[tokio::test]
async fn a_request_is_signed_in_one_way_only() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "secret", "secret").await;
    let refused = error(400, "InvalidArgument");
    for other in [
        "x",
        "",
        "AWS",
        "AWS x",
        "AWS alice:signature",
        "Basic eDp5",
        "Bearer abc",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=y",
    ] {
        let mut copy = Raw::new("PUT", "/alices/k")
            .unsigned("x-amz-copy-source", "/alices/secret")
            .with_address(Some("60"));
        copy.headers_mut()
            .append("authorization", other.parse().unwrap());
        assert_eq!(ask(&lab, copy).await, refused, "{other}");
        let mut long = Raw::new("GET", "/alices/secret").with_address(Some("604801"));
        long.headers_mut()
            .append("authorization", other.parse().unwrap());
        assert_eq!(ask(&lab, long).await, refused, "{other}");
    }
    let mut twice = Raw::new("GET", "/alices/secret").with_header();
    let header = twice.headers()["authorization"].clone();
    twice.headers_mut().append("authorization", header);
    assert_eq!(ask(&lab, twice).await, refused);
    let both = Raw::new("GET", "/alices/secret")
        .query("Signature", "x")
        .with_address(Some("60"));
    assert_eq!(ask(&lab, both).await, refused);
    let objects = alice.list_objects_v2().bucket("alices").send().await;
    assert_eq!(objects.unwrap().key_count(), Some(1));
}

#[tokio::test]
async fn headers_that_an_sdk_moved_into_the_address_hold() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let moved = Raw::new("PUT", "/alices/k")
        .query("x-amz-meta-color", "red")
        .query("x-amz-tagging", "a=b")
        .query("x-amz-checksum-crc32", "AAAAAA==")
        .query("x-amz-sdk-checksum-algorithm", "CRC32")
        .body("content");
    assert_eq!(ask(&lab, moved.with_address(Some("60"))).await.0, 200);
    let found = alice
        .get_object()
        .bucket("alices")
        .key("k")
        .send()
        .await
        .unwrap();
    assert_eq!(found.metadata().unwrap()["color"], "red");
    assert_eq!(found.tag_count(), Some(1));
    let public = Raw::new("PUT", "/alices/k").query("x-amz-acl", "public-read");
    assert_eq!(
        ask(&lab, public.with_address(Some("60"))).await,
        error(400, "AccessControlListNotSupported")
    );

    // As the SDK for Rust does it: some are signed headers.
    let presigned = alice
        .put_object()
        .bucket("alices")
        .key("sdk")
        .metadata("color", "blue")
        .body(body("content"))
        .presigned(PresigningConfig::expires_in(Duration::from_secs(7 * 24 * 3600)).unwrap())
        .await
        .unwrap();
    let mut request = Request::builder().method("PUT").uri(presigned.uri());
    for (name, value) in presigned.headers() {
        request = request.header(name, value);
    }
    let address = lab.cluster().address().to_string();
    let request = request
        .header("host", address)
        .body(Full::from("content"))
        .unwrap();
    assert_eq!(ask(&lab, request).await.0, 200);
    assert_eq!(read(&alice, "alices", "sdk").await, b"content");
}

#[tokio::test]
async fn a_signed_address_is_good_for_a_week_at_most() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", "v").await;
    let get = || Raw::new("GET", "/alices/k");
    for expires in ["1", "604800"] {
        assert_eq!(
            ask(&lab, get().with_address(Some(expires))).await.0,
            200,
            "{expires}"
        );
    }
    let refused = error(400, "AuthorizationQueryParametersError");
    for expires in [
        Some("604801"),
        Some("99999999999999999999"),
        Some("0"),
        Some("-1"),
        Some("soon"),
        Some(""),
        None,
    ] {
        assert_eq!(
            ask(&lab, get().with_address(expires)).await,
            refused,
            "{expires:?}"
        );
    }
}

#[tokio::test]
async fn any_region_may_be_signed_with() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "a b+ü", "v").await;
    for region in ["US", "EU", "us-east-1", "eu-west-1", "de_1"] {
        let list = Raw::new("GET", "/").region(region);
        assert_eq!(ask(&lab, list.with_header()).await.0, 200, "{region}");
        let get =
            || Raw::new("GET", "/alices/a%20b%2B%C3%BC?response-content-type=a/b").region(region);
        assert_eq!(ask(&lab, get().with_header()).await.0, 200, "{region}");
        assert_eq!(
            ask(&lab, get().with_address(Some("60"))).await.0,
            200,
            "{region}"
        );
        let range = get().unsigned("range", "bytes=0-0").with_header();
        assert_eq!(ask(&lab, range).await.0, 206, "{region}");
        let mut wrong = get().with_header();
        *wrong.uri_mut() = "/alices/other".parse().unwrap();
        assert_eq!(
            ask(&lab, wrong).await,
            error(403, "SignatureDoesNotMatch"),
            "{region}"
        );
    }
    let made = Raw::new("PUT", "/new-bucket").region("US");
    assert_eq!(ask(&lab, made.with_header()).await.0, 200);
    let location = alice
        .get_bucket_location()
        .bucket("new-bucket")
        .send()
        .await;
    let location = location.unwrap().location_constraint;
    assert!(location.is_none_or(|region| region.as_str().is_empty()));
}

#[tokio::test]
async fn a_bucket_may_be_in_the_host() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let port = lab.cluster().address().port();
    let by_host = |method, path: &str| Raw::new(method, path).host("alices.localhost");
    assert_eq!(
        ask(&lab, by_host("PUT", "/folder/k").body("v").with_header())
            .await
            .0,
        200
    );
    assert_eq!(read(&alice, "alices", "folder/k").await, b"v");
    for host in [
        "alices.localhost".to_owned(),
        format!("alices.localhost:{port}"),
        format!("alices.s3.localhost:{port}"),
    ] {
        let get = Raw::new("GET", "/folder/k").host(&host);
        let got = send(lab.cluster().endpoint(), get.with_header()).await;
        assert_eq!(got.body(), "v", "{host}");
        let get = Raw::new("GET", "/folder/k").host(&host);
        let got = send(lab.cluster().endpoint(), get.with_address(Some("60"))).await;
        assert_eq!(got.body(), "v", "{host}");
    }
    let list = by_host("GET", "/?list-type=2").with_header();
    let list = send(lab.cluster().endpoint(), list).await;
    assert_eq!(element(&list, "Key").unwrap(), "folder/k");
    let delete = "<Delete><Object><Key>folder/k</Key></Object></Delete>";
    let delete = by_host("POST", "/?delete").body(delete).with_header();
    let deleted = send(lab.cluster().endpoint(), delete).await;
    assert!(element(&deleted, "Deleted").is_some(), "{deleted:?}");
    // Keys look like anything.
    assert_eq!(
        ask(
            &lab,
            by_host("PUT", "/_admin/v1/users").body("v").with_header()
        )
        .await
        .0,
        200
    );
    assert_eq!(read(&alice, "alices", "_admin/v1/users").await, b"v");
    // A signature for one host is none for another.
    let mut moved = by_host("GET", "/folder/k").with_header();
    moved
        .headers_mut()
        .insert("host", "bobs.localhost".parse().unwrap());
    assert_eq!(ask(&lab, moved).await, error(403, "SignatureDoesNotMatch"));
    // Buckets are made so as well, and by path at every other name.
    let made = Raw::new("PUT", "/").host("second.localhost").with_header();
    assert_eq!(ask(&lab, made).await.0, 200);
    for host in ["localhost", "127.0.0.1", "s3.localhost", "cluster.example"] {
        let head = Raw::new("GET", "/second?location").host(host);
        assert_eq!(ask(&lab, head.with_header()).await.0, 200, "{host}");
    }
    let buckets = alice.list_buckets().send().await.unwrap();
    assert_eq!(buckets.buckets().len(), 2);
}

#[tokio::test]
async fn an_address_signed_the_older_way_has_its_headers() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let put = |more: &str, header: Option<&str>| {
        let target = format!(
            "/alices/k?AWSAccessKeyId=AKalice&Expires=4070908800&Signature=GYQCDVXtImvqcSiCXF1iiwQyQik%3D{more}"
        );
        let mut request = Request::put(target).header("host", "localhost");
        if let Some(header) = header {
            request = request.header(header, "/alices/secret");
        }
        request.body(Full::from("content")).unwrap()
    };
    let refused = error(403, "SignatureDoesNotMatch");
    assert_eq!(ask(&lab, put("", None)).await, refused);
    let moved = "&x-amz-meta-color=red";
    assert_eq!(
        ask(&lab, put(moved, Some("x-amz-copy-source"))).await,
        refused
    );
    let more = format!("{moved}&x-amz-copy-source=/alices/secret");
    assert_eq!(ask(&lab, put(&more, None)).await, refused);
    assert_eq!(ask(&lab, put(moved, None)).await.0, 200);
    let found = alice.head_object().bucket("alices").key("k").send().await;
    assert_eq!(found.unwrap().metadata().unwrap()["color"], "red");
}
