//! Parameters: a form as PHP reads them, of either kind, JSON, or a query string.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;

use ::http::Method;
use ::http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures::{FutureExt, stream};
use lambda_http::{Body, Request};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use serde_qs::DuplicateKeyBehavior;

use crate::error::{Reason, Rejection};
use crate::http::takes::Takes;

/// The largest body taken.
pub const BODY_LIMIT_BYTES: usize = 64 * 1024;

/// What a request carries, by name. Debug shows the names only: values may be secret. Beside it, what its action takes, once that is known:
/// nothing else is read then.
#[derive(Default)]
pub struct Parameters(Map<String, Value>, Option<Takes>);

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<'de> Deserialize<'de> for Parameters {
    /// An object, in which no name stands twice.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Parameters, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Parameters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Parameters, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom("a parameter stands twice"));
                    }
                }
                Ok(Parameters(map, None))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

/// Reads the parameters of a request, and the names of those in its address. Where address and body both have one, the body's counts.
///
/// # Errors
/// 400, 413 or 415, with what is wrong.
pub fn read(request: &Request) -> Result<(Parameters, BTreeSet<String>), Rejection> {
    let mut parameters = read_form(request.uri().query().unwrap_or_default())?.0;
    let in_address = parameters.keys().cloned().collect();
    parameters.extend(read_body(request)?.0);
    Ok((Parameters(parameters, None), in_address))
}

/// Any request may have a body: published clients send forms by GET, too.
fn read_body(request: &Request) -> Result<Parameters, Rejection> {
    let bytes: &[u8] = match request.body() {
        Body::Empty => b"",
        Body::Text(text) => text.as_bytes(),
        Body::Binary(bytes) => bytes,
        _ => return Err(Rejection::unreadable("the body cannot be read")),
    };
    if bytes.len() > BODY_LIMIT_BYTES {
        return Err(Rejection::new(
            Reason::RequestTooLarge,
            "the body is larger than 64 KiB",
        ));
    }
    let body =
        std::str::from_utf8(bytes).map_err(|_| Rejection::unreadable("the body is not UTF-8"))?;
    let header = match request.headers().get(CONTENT_TYPE) {
        _ if body.is_empty() && request.method() == Method::GET => {
            return Ok(Parameters::default());
        }
        Some(value) => value.to_str().unwrap_or("?"),
        None if body.is_empty() => return Ok(Parameters::default()),
        None => "",
    };
    let content_type = header.split(';').next().unwrap_or_default().trim();
    match content_type.to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => read_form(body),
        "multipart/form-data" => read_multipart(header, bytes),
        "application/json" => serde_json::from_str(body).map_err(|error| {
            Rejection::unreadable(format!(
                "the body is not a JSON object of parameters: {}",
                place(&error)
            ))
        }),
        _ => Err(Rejection::new(
            Reason::MediaTypeUnsupported,
            "content type must be application/x-www-form-urlencoded, multipart/form-data or application/json",
        )),
    }
}

/// Where JSON went wrong, without repeating what it holds.
fn place(error: &serde_json::Error) -> String {
    if error.to_string().starts_with("a parameter stands twice") {
        return "a parameter stands twice".into();
    }
    format!("line {}, column {}", error.line(), error.column())
}

/// Reads a form in parts, a file's part as any other. It is the same form as one whose names and values are written in a line.
fn read_multipart(content_type: &str, body: &[u8]) -> Result<Parameters, Rejection> {
    let unreadable = || Rejection::unreadable("the body is not a form in parts");
    let boundary = multer::parse_boundary(content_type).map_err(|_| unreadable())?;
    let body = Bytes::copy_from_slice(body);
    let parts = async {
        let body = stream::iter([Ok::<Bytes, Infallible>(body)]);
        let mut parts = multer::Multipart::new(body, boundary);
        let mut form = form_urlencoded::Serializer::new(String::new());
        while let Some(part) = parts.next_field().await.map_err(|_| unreadable())? {
            let name = part.name().map(str::to_owned).ok_or_else(unreadable)?;
            let value = part.bytes().await.map_err(|_| unreadable())?;
            form.append_pair(
                &name,
                std::str::from_utf8(&value).map_err(|_| unreadable())?,
            );
        }
        Ok(form.finish())
    };
    // The whole body is here, so there is nothing to wait for.
    let form = parts.now_or_never().ok_or_else(unreadable)??;
    read_form(&form)
}

fn read_form(form: &str) -> Result<Parameters, Rejection> {
    // The form parser replaces what is not UTF-8 once decoded; a caller should rather be told.
    if percent_encoding::percent_decode_str(form)
        .decode_utf8()
        .is_err()
    {
        return Err(Rejection::unreadable("the parameters are not UTF-8"));
    }
    let mut seen = std::collections::HashSet::new();
    for (name, _) in form_urlencoded::parse(form.as_bytes()) {
        if !name.ends_with("[]") && !seen.insert(name) {
            return Err(Rejection::unreadable("a parameter stands twice"));
        }
    }
    serde_qs::Config::new()
        .max_depth(3)
        .use_form_encoding(true)
        .duplicate_key_behavior(DuplicateKeyBehavior::Error)
        .deserialize_str(form)
        .map_err(|_| Rejection::unreadable("the parameters cannot be read"))
}

impl Parameters {
    /// The same, once each name that came is one that the action takes.
    ///
    /// # Errors
    /// 400 for another, with the nearest name there is.
    pub fn only(mut self, takes: Takes) -> Result<Parameters, Rejection> {
        takes.check(self.0.keys())?;
        self.1 = Some(takes);
        Ok(self)
    }

    /// What came under a name. An action that reads a name which it does not say it takes would never see it: tests are told.
    fn value(&self, name: &str) -> Option<&Value> {
        debug_assert!(
            self.1.is_none_or(|takes| takes.has(name)),
            "the action reads {name}, which is not among what it takes"
        );
        self.0.get(name)
    }

    /// The first of these names of fields that has a value, and whether one of them is there at all. What a type reads is what its action
    /// takes, and a field may stand for others.
    pub(super) fn first<'a>(&'a self, names: &[&'a str]) -> (Option<(&'a str, &'a Value)>, bool) {
        let there = || {
            names
                .iter()
                .filter_map(|name| Some((*name, self.0.get(*name)?)))
        };
        let first = there().find(|(_, value)| !value.is_null() && value.as_str() != Some(""));
        (first, there().next().is_some())
    }

    /// What has a value and a name that starts so.
    pub(super) fn starting_with(&self, prefix: &str) -> Vec<(&String, &Value)> {
        self.0
            .iter()
            .filter(|(name, value)| {
                name.starts_with(prefix) && !value.is_null() && value.as_str() != Some("")
            })
            .collect()
    }

    /// Whether a parameter is there, be it empty.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Any text. An empty text and JSON's null are no value.
    ///
    /// # Errors
    /// When it is a list, an object or a truth value.
    pub fn raw_text(&self, name: &str) -> Result<Option<String>, Rejection> {
        match self.value(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(Rejection::invalid(name, "must be a text")),
        }
    }

    /// A text of one line: no control characters.
    ///
    /// # Errors
    /// When it is not.
    pub fn text(&self, name: &str) -> Result<Option<String>, Rejection> {
        let text = self.raw_text(name)?;
        let refused = |rule| Err(Rejection::invalid(name, rule));
        match &text {
            Some(text) if text.chars().any(char::is_control) => {
                refused("must not hold control characters")
            }
            Some(text) if text.len() > 1_024 => refused("must be at most 1024 bytes long"),
            _ => Ok(text),
        }
    }

    /// Everything but these, for a fingerprint: as text that is the same for the same parameters in any order.
    #[must_use]
    pub fn canonical_without(&self, left_out: &[&str]) -> String {
        let kept: std::collections::BTreeMap<&String, &Value> = self
            .0
            .iter()
            .filter(|(name, _)| !left_out.contains(&name.as_str()))
            .collect();
        // A form's "5" and JSON's 5 are the same request.
        let texts: Vec<(&String, String)> = kept
            .into_iter()
            .map(|(name, value)| {
                (
                    name,
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned),
                )
            })
            .collect();
        serde_json::to_string(&texts).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn post(content_type: &str, body: impl Into<Body>) -> Request {
        let mut request = Request::new(body.into());
        *request.method_mut() = Method::POST;
        request
            .headers_mut()
            .insert(CONTENT_TYPE, content_type.parse().expect("content type"));
        request
    }

    fn form(body: &str) -> Result<Parameters, Rejection> {
        read_body(&post("application/x-www-form-urlencoded", body))
    }

    #[test]
    fn forms_are_read_as_php_writes_them() {
        let parameters =
            form("bucket_name=a+b%2Bc&k%5B%5D=1&k%5B%5D=2&o[x]=y&empty=").expect("form");
        assert_eq!(parameters.text("bucket_name"), Ok(Some("a b+c".into())));
        assert_eq!(parameters.0["k"], serde_json::json!(["1", "2"]));
        assert_eq!(parameters.0["o"], serde_json::json!({"x": "y"}));
        assert_eq!(parameters.text("empty"), Ok(None));
    }

    #[test]
    fn a_parameter_may_stand_once() {
        for body in ["a=1&a=2", "a=1&b=2&a=1"] {
            assert_eq!(
                form(body).map(|_| ()).unwrap_err().text,
                "a parameter stands twice"
            );
        }
        let json = read_body(&post("application/json", r#"{"a":1,"a":2}"#))
            .map(|_| ())
            .unwrap_err();
        assert!(
            json.text.ends_with("a parameter stands twice"),
            "{}",
            json.text
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason() {
        let refused = |request| {
            read_body(&request)
                .map(|_| ())
                .unwrap_err()
                .status()
                .as_u16()
        };
        assert_eq!(refused(post("text/xml", "<a/>")), 415);
        for (content_type, body) in [
            ("multipart/form-data", "--x"),
            ("multipart/form-data; boundary=x", "--x"),
            ("multipart/form-data; boundary=x", "--x\r\n\r\na\r\n--x--"),
        ] {
            assert_eq!(refused(post(content_type, body)), 400, "{body}");
        }
        assert_eq!(refused(post("application/json", "[1]")), 400);
        assert_eq!(refused(post("application/json", "{")), 400);
        assert_eq!(
            refused(post(
                "application/x-www-form-urlencoded",
                "a".repeat(BODY_LIMIT_BYTES + 1)
            )),
            413
        );
        assert_eq!(
            refused(post(
                "application/x-www-form-urlencoded",
                vec![0xff, b'=', b'1']
            )),
            400
        );
        assert_eq!(
            refused(post("application/x-www-form-urlencoded", "a=%ff")),
            400
        );
    }

    #[test]
    fn debug_output_holds_no_values() {
        let parameters = form("token=secret").expect("form");
        assert_eq!(format!("{parameters:?}"), r#"{"token"}"#);
    }

    #[test]
    fn a_form_in_parts_is_read_as_one_in_a_line() {
        let parts = [
            ("bucket_name", "a b+c&d=e"),
            ("k[]", "1"),
            ("k[]", "2"),
            ("o[x]", "Grüße"),
            ("a%5Bb", "%41"),
            ("empty", ""),
            ("lines", "one\r\ntwo"),
        ];
        let body: String = parts
            .iter()
            .map(|(name, value)| {
                format!(
                    "--x y\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
                )
            })
            .collect();
        let body = format!("{body}--x y--\r\n");
        let parameters =
            read_body(&post("Multipart/Form-Data; boundary=\"x y\"", body)).expect("a form");
        let mut line = form_urlencoded::Serializer::new(String::new());
        line.extend_pairs(parts);
        assert_eq!(parameters.0, form(&line.finish()).expect("a form").0);
        assert_eq!(parameters.0["k"], serde_json::json!(["1", "2"]));
        assert_eq!(parameters.raw_text("lines"), Ok(Some("one\r\ntwo".into())));
    }

    #[test]
    fn the_body_comes_before_the_address() {
        let mut request = post("application/json", r#"{"a":1,"b":"","c":null}"#);
        *request.uri_mut() = "/s3.php?a=2&b=2&d[]=2".parse().expect("an address");
        let (parameters, in_address) = read(&request).expect("parameters");
        assert_eq!(
            serde_json::Value::from(parameters.0),
            serde_json::json!({ "a": 1, "b": "", "d": ["2"], "c": null })
        );
        assert_eq!(Vec::from_iter(in_address), ["a", "b", "d"]);
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(
            body in proptest::collection::vec(any::<u8>(), 0..300),
            content_type in proptest::sample::select(vec![
                "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
            ]),
        ) {
            let _ = read_body(&post(content_type, body));
        }

        #[test]
        fn any_form_in_parts_is_read_or_refused(
            pieces in proptest::collection::vec(prop_oneof![
                Just("--x".to_owned()), Just("\r\n".to_owned()), Just("--".to_owned()),
                Just("Content-Disposition: form-data; name=\"a[b]\"".to_owned()),
                Just("Content-Type: text/plain".to_owned()), any::<String>(),
            ], 0..30),
        ) {
            let _ = read_body(&post("multipart/form-data; boundary=x", pieces.concat()));
        }
    }
}
