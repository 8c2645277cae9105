//! Keys of any characters, there and back.

use aws_sdk_s3::types::{Delete, EncodingType, ObjectIdentifier};

use crate::raw::{Raw, element};
use crate::support::{Lab, put, read, send};

const ODD: [&str; 9] = [
    "\u{1f600}.png",
    "a\u{1}b",
    "a\u{8}\u{b}\u{1f}b",
    "a\u{fffe}b",
    "a\u{ffff}b",
    "a\rb",
    "a\r\nb",
    "a\tb\nc",
    "&<>\"'&#1;\u{10fffd}",
];

#[tokio::test]
async fn keys_of_any_characters_are_listed_read_and_deleted() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let mut odd: Vec<String> = ODD.iter().map(|key| (*key).to_owned()).collect();
    odd.sort();
    for encoding in [None, Some(EncodingType::Url)] {
        for key in &odd {
            put(&alice, "alices", key, key.clone()).await;
            assert_eq!(read(&alice, "alices", key).await, key.as_bytes());
        }
        let listed = alice
            .list_objects_v2()
            .bucket("alices")
            .set_encoding_type(encoding.clone())
            .send()
            .await
            .unwrap();
        let found: Vec<_> = listed
            .contents()
            .iter()
            .map(|object| {
                let key = object.key().unwrap();
                match encoding {
                    None => key.to_owned(),
                    Some(_) => percent_encoding::percent_decode_str(key)
                        .decode_utf8()
                        .unwrap()
                        .into_owned(),
                }
            })
            .collect();
        assert_eq!(found, odd);
        let objects = odd
            .iter()
            .map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
        let deleted = alice
            .delete_objects()
            .bucket("alices")
            .delete(
                Delete::builder()
                    .set_objects(Some(objects.collect()))
                    .build()
                    .unwrap(),
            )
            .send()
            .await
            .unwrap();
        let told: Vec<_> = deleted
            .deleted()
            .iter()
            .map(|deleted| deleted.key().unwrap())
            .collect();
        assert_eq!(
            (told, deleted.errors().len()),
            (odd.iter().map(String::as_str).collect(), 0)
        );
        let left = alice.list_objects_v2().bucket("alices").send().await;
        assert_eq!(left.unwrap().key_count(), Some(0));
    }
    // In parts as well: the key comes back in the answers.
    let key = "a\u{1}\r\u{1f600}";
    let created = alice
        .create_multipart_upload()
        .bucket("alices")
        .key(key)
        .send()
        .await
        .unwrap();
    assert_eq!(created.key(), Some(key));
    let uploads = alice
        .list_multipart_uploads()
        .bucket("alices")
        .send()
        .await
        .unwrap();
    assert_eq!(uploads.uploads()[0].key(), Some(key));
}

#[tokio::test]
async fn references_to_any_character_delete() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    for key in ["\u{1f600}", "a\u{1}b", "a\u{fffe}b", "a\rb"] {
        put(&alice, "alices", key, "v").await;
    }
    let references = ["&#128512;", "a&#x1;b", "a&#xFFFE;b", "a&#13;b"];
    let objects: String = references
        .iter()
        .map(|key| format!("<Object><Key>{key}</Key></Object>"))
        .collect();
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{objects}</Delete>"
    );
    let delete = Raw::new("POST", "/alices?delete").body(xml).with_header();
    let deleted = send(lab.cluster().endpoint(), delete).await;
    assert_eq!(deleted.status(), 200);
    let text = String::from_utf8_lossy(deleted.body());
    for reference in ["a&#x1;b", "a&#xFFFE;b", "a&#xD;b", "\u{1f600}"] {
        assert!(text.contains(&format!("<Key>{reference}</Key>")), "{text}");
    }
    let left = alice.list_objects_v2().bucket("alices").send().await;
    assert_eq!(left.unwrap().key_count(), Some(0));

    for (body, code) in [
        (
            "<Delete><Object><Key>&#xD800;</Key></Object></Delete>",
            "MalformedXML",
        ),
        ("<Delete><Object>", "MalformedXML"),
        ("", "MalformedXML"),
        ("<Delete></Delete>", "MalformedXML"),
    ] {
        let delete = Raw::new("POST", "/alices?delete").body(body).with_header();
        let refused = send(lab.cluster().endpoint(), delete).await;
        assert_eq!(
            (
                refused.status().as_u16(),
                element(&refused, "Code").unwrap()
            ),
            (400, code.to_owned())
        );
    }
    let delete = Raw::new("POST", "/alices?delete")
        .signed("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")
        .body("<Delete><Object><Key>k</Key></Object></Delete>");
    let refused = send(lab.cluster().endpoint(), delete.with_header()).await;
    assert_eq!(element(&refused, "Code").unwrap(), "BadDigest");
}
