//! What the contract says of every action alike: its texts, its tokens, its parameters, whose accounts it reaches.

use std::net::IpAddr;

use http::Request;
use jiff::ToSpan;
use lambda_http::Body;
use local::SourceIp;
use serde_json::{Value, json};

use crate::{Reply, TestAccount, TestApp, form_request};

/// A well-formed s3uid that no account has.
pub const NO_S3UID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// A well-formed token that no session has.
pub const NO_TOKEN: &str = "00000000000000000000000000000000";

/// The text of a failure: the action's name, as its errors speak, and the words.
pub fn text(action: &str, words: &str) -> String {
    let speaks_as = match action {
        "create_account" => "create_order",
        own => own,
    };
    format!("s3/{speaks_as}: {words}")
}

/// The text for an account that is not there or another client's, which the reference shows bare for two actions.
pub fn not_found(action: &str) -> String {
    let words = "S3 account not found for this customer";
    match action {
        "get_buckets" | "delete_account" => words.to_owned(),
        _ => text(action, words),
    }
}

/// An answer in which all that differs from run to run is replaced by what it must look like: a value of another form stays, and
/// shows in the snapshot.
pub fn masked(app: &TestApp, value: &Value) -> Value {
    match value {
        Value::String(text) => match mask(app, text) {
            Some(form) => form.into(),
            None => text.as_str().into(),
        },
        Value::Array(values) => values.iter().map(|value| masked(app, value)).collect(),
        // By name: what has been through a task's record has lost its order.
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name, masked(app, value)))
            .collect::<std::collections::BTreeMap<_, _>>()
            .into_iter()
            .map(|(name, value)| (name.clone(), value))
            .collect(),
        other => other.clone(),
    }
}

fn mask(app: &TestApp, text: &str) -> Option<String> {
    if let Some((code, _)) = app.stack.locations().iter().find(|(_, url)| *url == text) {
        return Some(format!("[endpoint of {code}]"));
    }
    let is =
        |length: usize, allowed: fn(u8) -> bool| text.len() == length && text.bytes().all(allowed);
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let form = if is(32, |byte| {
        byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()
    }) {
        "[32 hex]"
    } else if is(32, lower) {
        "[32 of a-z0-9]"
    } else if is(32, |byte| byte.is_ascii_alphanumeric()) {
        "[s3uid]"
    } else if is(40, |byte| byte.is_ascii_alphanumeric()) {
        "[secret key]"
    } else if is(20, upper) && text.starts_with("WH") {
        "[access key]"
    } else if is(28, lower) {
        "[id]"
    } else {
        return None;
    };
    Some(form.to_owned())
}

/// A call that is well formed, to be made wrong in one way after another.
pub struct Contract<'a> {
    /// The system.
    pub app: &'a TestApp,
    /// Who calls.
    pub who: &'static str,
    /// What is called.
    pub action: &'static str,
    /// With what, but for the token.
    pub parameters: Value,
}

impl Contract<'_> {
    async fn with_token(&self, token: Value, source_ip: Option<IpAddr>) -> Reply {
        let mut parameters = self.parameters.clone();
        parameters["token"] = token;
        let mut request = json_request(&format!("/s3/{}", self.action), &parameters);
        if let Some(source_ip) = source_ip {
            request.extensions_mut().insert(SourceIp(source_ip));
        }
        self.app.send(request).await
    }

    async fn with(&self, name: &str, value: &Value) -> Reply {
        let mut parameters = self.parameters.clone();
        parameters["token"] = self.app.token(self.who).into();
        parameters[name] = value.clone();
        self.app
            .post_json(&format!("/s3/{}", self.action), &parameters)
            .await
    }

    /// Every token that is not one is refused: none, a wrong one, one that has expired, one logged out, one used from another address.
    pub async fn refuses_bad_tokens(&self) {
        let app = self.app;
        for none in [Value::Null, "".into()] {
            let text_is = self
                .with_token(none, None)
                .await
                .refused_token("token_missing");
            assert_eq!(text_is, text(self.action, "missing auth token"));
        }
        let absent = form_request(&format!("/s3/{}", self.action), &self.parameters);
        let text_is = app.send(absent).await.refused_token("token_missing");
        assert_eq!(text_is, text(self.action, "missing auth token"));

        let invalid = text(self.action, "invalid token");
        let wrong = [
            json!(NO_TOKEN),
            json!("x"),
            json!(app.token(self.who).to_uppercase() + " "),
            json!("\u{0}\n'\"%"),
            json!("é".repeat(2_000)),
            json!([app.token(self.who)]),
            json!({ "token": app.token(self.who) }),
            json!(true),
            json!(0),
        ];
        for token in wrong {
            let text_is = self
                .with_token(token, None)
                .await
                .refused_token("token_invalid");
            assert_eq!(text_is, invalid);
        }

        let key = app.stack.seeded().api_key(self.who);
        let login = async |parameters: Value, source_ip: Option<IpAddr>| {
            let mut request = form_request("/auth.php", &parameters);
            if let Some(source_ip) = source_ip {
                request.extensions_mut().insert(SourceIp(source_ip));
            }
            let body = app.send(request).await.body;
            body["result"]["token"].clone()
        };
        let ended = login(json!({ "action": "login", "key": key }), None).await;
        app.auth("logout", json!({ "token": ended })).await.ok();
        let text_is = self
            .with_token(ended, None)
            .await
            .refused_token("token_invalid");
        assert_eq!(text_is, invalid);

        let home: IpAddr = [192, 0, 2, 7].into();
        let away: IpAddr = [192, 0, 2, 8].into();
        let bound = login(
            json!({ "action": "login", "key": key, "fix_ip": 1 }),
            Some(home),
        )
        .await;
        let elsewhere = self.with_token(bound.clone(), Some(away)).await;
        assert_eq!(elsewhere.refused_token("token_invalid"), invalid);
        assert_ne!(self.with_token(bound, Some(home)).await.status, 401);

        let short = login(json!({ "action": "login", "key": key, "ttl": 60 }), None).await;
        app.stack.advance(59.seconds()).await.expect("time passes");
        assert_ne!(self.with_token(short.clone(), None).await.status, 401);
        app.stack.advance(1.seconds()).await.expect("time passes");
        let text_is = self
            .with_token(short, None)
            .await
            .refused_token("token_expired");
        assert_eq!(text_is, invalid);
    }

    /// A client is refused, and nothing changes by its call.
    pub async fn is_for_admins_only(&self) {
        let before = self.app.world().await;
        let parameters = self.parameters.clone();
        let reply = self.app.call("client", self.action, parameters).await;
        let wanted = text(self.action, "allowed to administrators only");
        assert_eq!(reply.refused(403), wanted);
        let after = self.app.world().await;
        after.assert_unchanged_since(&before, self.action);
    }

    /// Each of these parameters must be there; an empty text and JSON's null are not there.
    pub async fn refuses_missing(&self, names: &[&str]) {
        for name in names {
            let mut without = self.parameters.clone();
            without.as_object_mut().expect("an object").remove(*name);
            let reply = self.app.call(self.who, self.action, without).await;
            // What is missing is named by each name that would do.
            let named = match *name {
                "s3uid" => "s3uid or account_id",
                name => name,
            };
            let wanted = text(self.action, &format!("missing parameter {named}"));
            assert_eq!(reply.refused(400), wanted);
            for none in [Value::Null, "".into()] {
                assert_eq!(self.with(name, &none).await.refused(400), wanted);
            }
        }
    }

    /// Each of these values breaks the rule.
    pub async fn refuses(&self, name: &str, rule: &str, values: &[Value]) {
        let wanted = text(self.action, &format!("invalid parameter {name}: {rule}"));
        for value in values {
            let reply = self.with(name, value).await;
            assert_eq!(reply.status, 400, "{name} = {value}: {:#}", reply.body);
            assert_eq!(reply.refused(400), wanted, "{name} = {value}");
        }
    }

    /// A text of any characters: no list, no object, no truth value.
    pub async fn takes_a_text(&self, name: &str) {
        let values = [json!([]), json!(["x"]), json!({ "x": "y" }), json!(true)];
        self.refuses(name, "must be a text", &values).await;
    }

    /// A line of text.
    pub async fn takes_a_line(&self, name: &str) {
        self.takes_a_text(name).await;
        let values = [
            json!("a\u{0}b"),
            json!("a\nb"),
            json!("\u{7f}"),
            json!("\u{85}"),
        ];
        self.refuses(name, "must not hold control characters", &values)
            .await;
        let values = [json!("a".repeat(1_025)), json!("é".repeat(513))];
        self.refuses(name, "must be at most 1024 bytes long", &values)
            .await;
    }

    /// A whole number in this range.
    pub async fn takes_a_number(&self, name: &str, least: u64, most: u64) {
        let rule = format!("must be a whole number from {least} to {most}");
        let mut values = vec![
            json!(-1),
            json!(1.5),
            json!(1e3),
            json!("1e3"),
            json!("x"),
            json!(" 1"),
            json!("1 "),
            json!("+1"),
            json!("0x1"),
            json!("١"),
            json!("1\u{0}"),
            json!("99999999999999999999"),
            json!("9".repeat(2_000)),
            json!(most + 1),
        ];
        values.extend(least.checked_sub(1).map(Value::from));
        self.refuses(name, &rule, &values).await;
        self.takes_a_text(name).await;
    }

    /// Only the account's own client and an admin who names that client, or nobody, reach the account; for all others it is as if it were not
    /// there. The call's parameters are sent with each of the names.
    pub async fn hides_the_account_from_others(&self, account: &TestAccount) {
        let app = self.app;
        let (owner, other) = (app.client_id("client"), app.client_id("client2"));
        let named = [
            ("client", json!({ "s3uid": NO_S3UID })),
            ("client", json!({ "account_id": account.id + 1_000_000 })),
            ("client2", json!({ "s3uid": account.s3uid })),
            ("client2", json!({ "s3uid": account.s3uid, "id": other })),
            ("client2", json!({ "s3uid": account.s3uid, "id": owner })),
            ("client2", json!({ "account_id": account.id })),
            ("client2", json!({ "account_id": account.id, "id": owner })),
            ("admin", json!({ "s3uid": account.s3uid, "id": other })),
            ("admin", json!({ "s3uid": NO_S3UID })),
            ("admin", json!({ "account_id": account.id + 1_000_000 })),
            ("admin", json!({ "account_id": account.id, "id": other })),
            ("admin", json!({ "s3uid": NO_S3UID, "id": owner })),
        ];
        for (who, name) in named {
            let mut parameters = self.parameters.clone();
            let fields = parameters.as_object_mut().expect("an object");
            fields.remove("s3uid");
            fields.extend(name.as_object().expect("an object").clone());
            let reply = app.call(who, self.action, parameters).await;
            assert_eq!(reply.status, 404, "{who} {name}: {:#}", reply.body);
            assert_eq!(reply.refused(404), not_found(self.action), "{who} {name}");
        }
        let rule = "must be 32 characters of A-Z, a-z and 0-9";
        let values = [
            json!("x"),
            json!(&NO_S3UID[1..]),
            json!(format!("{NO_S3UID}A")),
            json!(format!("{}/", &NO_S3UID[1..])),
            json!(format!("{}é", &NO_S3UID[2..])),
            json!(7),
        ];
        self.refuses("s3uid", rule, &values).await;
        self.takes_a_line("s3uid").await;
        self.takes_a_number("id", 1, i64::MAX as u64).await;
        let mut parameters = self.parameters.clone();
        parameters
            .as_object_mut()
            .expect("an object")
            .remove("s3uid");
        let by_number = Contract {
            parameters,
            ..*self
        };
        by_number
            .takes_a_number("account_id", 1, i64::MAX as u64)
            .await;
    }
}

/// A POST with parameters as JSON.
pub fn json_request(path: &str, parameters: &Value) -> Request<Body> {
    let mut request = Request::post(path)
        .body(Body::Text(parameters.to_string()))
        .expect("a request");
    let content_type = http::HeaderValue::from_static("application/json");
    request
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, content_type);
    request
}
