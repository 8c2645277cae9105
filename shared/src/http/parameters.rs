//! Parameters: a form as PHP writes them, JSON, or a query string.

use std::fmt;
use std::ops::RangeInclusive;

use ::http::Method;
use ::http::header::CONTENT_TYPE;
use jiff::civil::Date;
use lambda_http::{Body, Request};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use serde_qs::DuplicateKeyBehavior;

use crate::error::Rejection;
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

/// Reads the parameters of a request.
///
/// # Errors
/// 400, 413 or 415, with what is wrong.
pub fn read(request: &Request) -> Result<Parameters, Rejection> {
    if request.method() == Method::GET {
        return read_form(request.uri().query().unwrap_or_default());
    }
    let bytes: &[u8] = match request.body() {
        Body::Empty => b"",
        Body::Text(text) => text.as_bytes(),
        Body::Binary(bytes) => bytes,
        _ => return Err(Rejection::bad_request("the body cannot be read")),
    };
    if bytes.len() > BODY_LIMIT_BYTES {
        return Err(Rejection::too_large("the body is larger than 64 KiB"));
    }
    let body =
        std::str::from_utf8(bytes).map_err(|_| Rejection::bad_request("the body is not UTF-8"))?;
    let content_type = match request.headers().get(CONTENT_TYPE) {
        Some(value) => value
            .to_str()
            .unwrap_or("?")
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase(),
        None if body.is_empty() => return Ok(Parameters::default()),
        None => String::new(),
    };
    match content_type.as_str() {
        "application/x-www-form-urlencoded" => read_form(body),
        "application/json" => serde_json::from_str(body).map_err(|error| {
            Rejection::bad_request(format!(
                "the body is not a JSON object of parameters: {}",
                place(&error)
            ))
        }),
        _ => Err(Rejection::unsupported_media_type(
            "content type must be application/x-www-form-urlencoded or application/json",
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

fn read_form(form: &str) -> Result<Parameters, Rejection> {
    // The form parser replaces what is not UTF-8 once decoded; a caller should rather be told.
    if percent_encoding::percent_decode_str(form)
        .decode_utf8()
        .is_err()
    {
        return Err(Rejection::bad_request("the parameters are not UTF-8"));
    }
    let mut seen = std::collections::HashSet::new();
    for (name, _) in form_urlencoded::parse(form.as_bytes()) {
        if !name.ends_with("[]") && !seen.insert(name) {
            return Err(Rejection::bad_request("a parameter stands twice"));
        }
    }
    serde_qs::Config::new()
        .max_depth(3)
        .use_form_encoding(true)
        .duplicate_key_behavior(DuplicateKeyBehavior::Error)
        .deserialize_str(form)
        .map_err(|_| Rejection::bad_request("the parameters cannot be read"))
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

    /// The first of these names that has a value. An empty text and JSON's null are no value.
    fn get<'a>(&'a self, names: &[&'a str]) -> Option<(&'a str, &'a Value)> {
        names.iter().find_map(|name| {
            self.value(name)
                .filter(|value| !value.is_null() && value.as_str() != Some(""))
                .map(|value| (*name, value))
        })
    }

    /// The names of what has a value.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|(_, value)| !value.is_null() && value.as_str() != Some(""))
            .map(|(name, _)| name.as_str())
    }

    /// Whether a parameter is there, be it empty.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// An object: JSON's, or a form's `name[key]=…`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>, Rejection> {
        match self.value(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(Rejection::invalid(name, "must be an object")),
        }
    }

    /// A day, as `2026-01-31`.
    ///
    /// # Errors
    /// When it is not one.
    pub fn date(&self, name: &str) -> Result<Option<Date>, Rejection> {
        let Some(text) = self.text(&[name])? else {
            return Ok(None);
        };
        match text.parse::<Date>() {
            Ok(date) if text.len() == 10 => Ok(Some(date)),
            _ => Err(Rejection::invalid(name, "must be a date as 2026-01-31")),
        }
    }

    /// Any text, under the first of these names that is there: the reference's name stands first, aliases follow.
    ///
    /// # Errors
    /// When it is a list, an object or a truth value.
    pub fn raw_text(&self, names: &[&str]) -> Result<Option<String>, Rejection> {
        match self.get(names) {
            None => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text.clone())),
            Some((_, Value::Number(number))) => Ok(Some(number.to_string())),
            Some((name, _)) => Err(Rejection::invalid(name, "must be a text")),
        }
    }

    /// A text of one line: no control characters.
    ///
    /// # Errors
    /// When it is not.
    pub fn text(&self, names: &[&str]) -> Result<Option<String>, Rejection> {
        let text = self.raw_text(names)?;
        if text
            .as_deref()
            .is_some_and(|text| text.chars().any(char::is_control))
        {
            return Err(Rejection::invalid(
                self.given(names),
                "must not hold control characters",
            ));
        }
        if text.as_deref().is_some_and(|text| text.len() > 1_024) {
            return Err(Rejection::invalid(
                self.given(names),
                "must be at most 1024 bytes long",
            ));
        }
        Ok(text)
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When it is missing or not a line of text.
    pub fn required_text(&self, names: &[&str]) -> Result<String, Rejection> {
        self.text(names)?
            .ok_or_else(|| Rejection::missing(names[0]))
    }

    /// A whole number in a range.
    ///
    /// # Errors
    /// When it is not one, or out of range.
    pub fn number(
        &self,
        names: &[&str],
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Rejection> {
        let Some(text) = self.raw_text(names)? else {
            return Ok(None);
        };
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(number) if is_plain && range.contains(&number) => Ok(Some(number)),
            _ => Err(Rejection::invalid(
                self.given(names),
                &format!(
                    "must be a whole number from {} to {}",
                    range.start(),
                    range.end()
                ),
            )),
        }
    }

    /// A whole number that must be there.
    ///
    /// # Errors
    /// When it is missing, not a whole number, or out of range.
    pub fn required_number(
        &self,
        names: &[&str],
        range: RangeInclusive<u64>,
    ) -> Result<u64, Rejection> {
        self.number(names, range)?
            .ok_or_else(|| Rejection::missing(names[0]))
    }

    /// The name under which the value was given.
    fn given<'a>(&'a self, names: &[&'a str]) -> &'a str {
        self.get(names).map_or(names[0], |(name, _)| name)
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

/// Numbers on the wire: identifiers begin at 1 and fit into a signed 64-bit integer of any language.
pub const ID: RangeInclusive<u64> = 1..=i64::MAX as u64;

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
        read(&post("application/x-www-form-urlencoded", body))
    }

    #[test]
    fn forms_are_read_as_php_writes_them() {
        let parameters =
            form("bucket_name=a+b%2Bc&k%5B%5D=1&k%5B%5D=2&o[x]=y&empty=").expect("form");
        assert_eq!(parameters.text(&["bucket_name"]), Ok(Some("a b+c".into())));
        assert_eq!(parameters.0["k"], serde_json::json!(["1", "2"]));
        assert_eq!(parameters.0["o"], serde_json::json!({"x": "y"}));
        assert_eq!(parameters.text(&["empty"]), Ok(None));
    }

    #[test]
    fn the_first_name_wins_over_its_alias() {
        let parameters = form("bucket=alias&bucket_name=own").expect("form");
        assert_eq!(
            parameters.text(&["bucket_name", "bucket"]),
            Ok(Some("own".into()))
        );
        let parameters = form("bucket=alias&bucket_name=").expect("form");
        assert_eq!(
            parameters.text(&["bucket_name", "bucket"]),
            Ok(Some("alias".into()))
        );
    }

    #[test]
    fn a_parameter_may_stand_once() {
        for body in ["a=1&a=2", "a=1&b=2&a=1"] {
            assert_eq!(
                form(body).map(|_| ()).unwrap_err().text,
                "a parameter stands twice"
            );
        }
        let json = read(&post("application/json", r#"{"a":1,"a":2}"#))
            .map(|_| ())
            .unwrap_err();
        assert!(
            json.text.ends_with("a parameter stands twice"),
            "{}",
            json.text
        );
    }

    #[test]
    fn json_numbers_and_texts_are_both_numbers() {
        for body in [r#"{"plan_id":5}"#, r#"{"plan_id":"5"}"#] {
            let parameters = read(&post("application/json; charset=utf-8", body)).expect("json");
            assert_eq!(parameters.number(&["plan_id"], ID), Ok(Some(5)));
        }
        for value in [
            "-1",
            "0",
            "1.5",
            "1e3",
            "99999999999999999999",
            "\"+5\"",
            "\" 5\"",
            "[5]",
            "true",
            "{}",
        ] {
            let parameters = read(&post(
                "application/json",
                format!(r#"{{"plan_id":{value}}}"#),
            ))
            .expect("json");
            assert!(parameters.number(&["plan_id"], ID).is_err(), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason() {
        let refused = |request| read(&request).map(|_| ()).unwrap_err().status.as_u16();
        assert_eq!(refused(post("text/xml", "<a/>")), 415);
        assert_eq!(refused(post("multipart/form-data; boundary=x", "--x")), 415);
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

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300), json in any::<bool>()) {
            let content_type = if json { "application/json" } else { "application/x-www-form-urlencoded" };
            let _ = read(&post(content_type, body));
        }
    }
}
