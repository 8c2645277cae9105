//! `auth.php`.

use http::{Method, Request};
use insta::assert_json_snapshot;
use jiff::{SignedDuration, ToSpan};
use lambda_http::Body;
use local::SourceIp;
use serde_json::{Value, json};
use tests::contract::{NO_TOKEN, masked};
use tests::{Reply, TestApp, form_request};
use wharfage::domain::client::ClientId;
use wharfage::domain::credential::hash;

async fn login(app: &TestApp, who: &str, mut parameters: Value) -> Value {
    parameters["key"] = app.stack.seeded().api_key(who).into();
    let reply = app.auth("login", parameters).await;
    assert_eq!(reply.status, 200, "{:#}", reply.body);
    reply.body["result"].clone()
}

async fn from(app: &TestApp, ip: [u8; 4], path: &str, parameters: Value) -> Reply {
    let mut request = form_request(path, &parameters);
    request.extensions_mut().insert(SourceIp(ip.into()));
    app.send(request).await
}

#[tokio::test]
async fn login_opens_a_session_that_info_tells_of() {
    let app = TestApp::start().await;
    for who in ["client", "admin"] {
        let key = app.stack.seeded().api_key(who);
        let reply = app.auth("login", json!({ "key": key })).await;
        assert_eq!(reply.status, 200);
        assert_json_snapshot!(format!("login_as_{who}"), masked(&app, &reply.body));
        let result = &reply.body["result"];
        let token = result["token"].as_str().expect("a text");
        assert!(
            token.len() == 32
                && token
                    .bytes()
                    .all(|byte| b"0123456789abcdef".contains(&byte))
        );
        let hour = app.now() + SignedDuration::from_hours(1);
        assert_eq!(result["token_expire"], hour.as_second());
        let info = app.auth("info", json!({ "token": token })).await;
        assert_eq!((info.status, info.body), (200, reply.body.clone()));
        // As JSON too.
        let as_json = app
            .post_json("/auth.php", &json!({ "action": "info", "token": token }))
            .await;
        assert_eq!(as_json.body, reply.body);
    }
    let all = functions::ACTIONS.len();
    let permissions = async |who: &str| {
        login(&app, who, json!({})).await["permissions"]
            .as_array()
            .map(Vec::len)
    };
    assert_eq!(permissions("admin").await, Some(all));
    assert_eq!(permissions("client").await, Some(all - 13));
    // Every login is a session of its own.
    let (one, two) = (
        login(&app, "client", json!({})).await,
        login(&app, "client", json!({})).await,
    );
    assert_ne!(one["token"], two["token"]);
}

#[tokio::test]
async fn a_session_lasts_as_long_as_it_was_asked_for() {
    let app = TestApp::start().await;
    let begun = app.now();
    let mut tokens = Vec::new();
    for ttl in [60, 3_600, 86_400] {
        let session = login(&app, "client", json!({ "ttl": ttl })).await;
        assert_eq!(session["token_expire"], begun.as_second() + ttl);
        tokens.push((ttl, session["token"].clone()));
    }
    for (asked, ttl) in [
        ("59", 60),
        ("-1", 60),
        ("0", 60),
        ("86401", 86_400),
        ("99999999999999999999", 86_400),
    ] {
        let session = login(&app, "client", json!({ "ttl": asked })).await;
        assert_eq!(session["token_expire"], begun.as_second() + ttl, "{asked}");
    }
    let mut now = 0;
    for (ttl, token) in tokens {
        app.stack
            .advance((ttl - 1 - now).seconds())
            .await
            .expect("time passes");
        assert_eq!(
            app.auth("info", json!({ "token": token })).await.status,
            200
        );
        app.stack.advance(1.second()).await.expect("time passes");
        now = ttl;
        for action in ["info", "logout"] {
            let reply = app.auth(action, json!({ "token": token })).await;
            let text = reply.refused_token("token_expired");
            assert_eq!(text, format!("auth/{action}: invalid token"));
        }
    }
}

#[tokio::test]
async fn a_token_is_known_as_one_that_has_expired_for_a_day() {
    let app = TestApp::start().await;
    let session = login(&app, "client", json!({ "ttl": 60 })).await;
    let info = || app.auth("info", json!({ "token": session["token"] }));
    app.stack.advance(24.hours()).await.expect("time passes");
    info().await.refused_token("token_expired");
    app.stack.advance(2.hours()).await.expect("time passes");
    info().await.refused_token("token_invalid");
}

#[tokio::test]
async fn logout_ends_that_session_and_no_other() {
    let app = TestApp::start().await;
    let (one, two) = (
        login(&app, "client", json!({})).await,
        login(&app, "client", json!({})).await,
    );
    let reply = app.auth("logout", json!({ "token": one["token"] })).await;
    assert_eq!((reply.status, reply.body), (200, json!({ "result": "OK" })));
    for action in ["info", "logout"] {
        let reply = app.auth(action, json!({ "token": one["token"] })).await;
        assert_eq!(reply.refused(401), format!("auth/{action}: invalid token"));
    }
    let reply = app
        .post_form("/s3/list_plans", &json!({ "token": one["token"] }))
        .await;
    assert_eq!(reply.refused(401), "s3/list_plans: invalid token");
    assert_eq!(
        app.auth("info", json!({ "token": two["token"] }))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_session_may_be_bound_to_the_address_it_was_opened_from() {
    let app = TestApp::start().await;
    let key = app.stack.seeded().api_key("client").to_owned();
    let (home, away) = ([192, 0, 2, 7], [192, 0, 2, 8]);
    for (fix_ip, status_away) in [(json!(1), 401), (json!(0), 200), (Value::Null, 200)] {
        let mut parameters = json!({ "action": "login", "key": key });
        if !fix_ip.is_null() {
            parameters["fix_ip"] = fix_ip;
        }
        let session = from(&app, home, "/auth.php", parameters).await.body["result"].clone();
        let info = json!({ "action": "info", "token": session["token"] });
        assert_eq!(
            from(&app, home, "/auth.php", info.clone()).await.status,
            200
        );
        assert_eq!(
            from(&app, away, "/auth.php", info).await.status,
            status_away
        );
        let plans = json!({ "token": session["token"] });
        assert_eq!(
            from(&app, away, "/s3/list_plans", plans).await.status,
            status_away
        );
        // Somebody else's logout does not end it.
        let logout = json!({ "action": "logout", "token": session["token"] });
        assert_eq!(
            from(&app, away, "/auth.php", logout).await.status,
            status_away
        );
    }
}

#[tokio::test]
async fn auth_refuses_what_is_wrong() {
    let app = TestApp::start().await;
    let key = app.stack.seeded().api_key("client").to_owned();
    for wrong in [
        "x",
        &key.to_uppercase(),
        &format!("{key} "),
        "é\u{0}",
        &"k".repeat(5_000),
        NO_TOKEN,
    ] {
        let reply = app.auth("login", json!({ "key": wrong })).await;
        assert_eq!(reply.reason.as_deref(), Some("key_invalid"));
        assert_eq!(reply.refused(401), "auth/login: invalid key");
    }
    assert_eq!(
        app.auth("login", json!({})).await.refused(400),
        "auth/login: missing parameter key"
    );
    assert_eq!(
        app.auth("login", json!({ "key": "" })).await.refused(400),
        "auth/login: missing parameter key"
    );
    let refused =
        async |parameters: Value| app.post_json("/auth.php", &parameters).await.refused(400);
    for bad in [json!([key]), json!({ "a": key }), json!(true)] {
        let words = refused(json!({ "action": "login", "key": bad })).await;
        assert_eq!(words, "auth/login: invalid parameter key: must be a text");
    }
    for ttl in [
        json!(1.5),
        json!("1h"),
        json!("-"),
        json!("+60"),
        json!("1e3"),
    ] {
        let words = refused(json!({ "action": "login", "key": key, "ttl": ttl })).await;
        assert_eq!(
            words,
            "auth/login: invalid parameter ttl: must be a whole number"
        );
    }
    for fix_ip in [json!(2), json!(-1), json!("yes")] {
        let words = refused(json!({ "action": "login", "key": key, "fix_ip": fix_ip })).await;
        assert_eq!(
            words,
            "auth/login: invalid parameter fix_ip: must be a whole number from 0 to 1"
        );
    }
    for action in ["info", "logout"] {
        let reply = app.auth(action, json!({})).await;
        assert_eq!(
            reply.refused(401),
            format!("auth/{action}: missing auth token")
        );
        let reply = app.auth(action, json!({ "token": NO_TOKEN })).await;
        assert_eq!(reply.refused(401), format!("auth/{action}: invalid token"));
        // An API key is not a token.
        let reply = app.auth(action, json!({ "token": key })).await;
        assert_eq!(reply.refused(401), format!("auth/{action}: invalid token"));
    }
    // Nor a token a key.
    let reply = app
        .auth("login", json!({ "key": app.token("client") }))
        .await;
    assert_eq!(reply.refused(401), "auth/login: invalid key");
    assert_eq!(
        app.auth("list_plans", json!({})).await.refused(400),
        "auth: unknown action"
    );
    assert_eq!(
        app.auth("", json!({})).await.refused(400),
        "auth: missing parameter action"
    );
    for method in [Method::PUT, Method::DELETE] {
        let reply = at_address(&app, method, &format!("action=login&key={key}")).await;
        assert_eq!(reply.allow.as_deref(), Some("GET, POST"));
        assert_eq!(reply.refused(405), "auth: method not allowed");
    }
}

/// Calls `auth.php` with all parameters in its address.
async fn at_address(app: &TestApp, method: Method, query: &str) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(format!("/auth.php?{query}"))
        .body(Body::Empty)
        .expect("a request");
    app.send(request).await
}

#[tokio::test]
async fn info_may_be_asked_by_get() {
    let app = TestApp::start().await;
    let token = app.token("client");
    let asked = app.auth("info", json!({ "token": token })).await;
    let query = format!("action=info&token={token}");
    assert_eq!(at_address(&app, Method::GET, &query).await, asked);
    let reply = at_address(&app, Method::GET, "action=info").await;
    assert_eq!(
        reply.refused_token("token_missing"),
        "auth/info: missing auth token"
    );
    let query = format!("action=logout&token={token}");
    let reply = at_address(&app, Method::GET, &query).await;
    assert_eq!(reply.allow.as_deref(), Some("POST"));
    assert_eq!(reply.refused(405), "auth/logout: method not allowed");
    // It was not ended.
    assert_eq!(
        app.auth("info", json!({ "token": token })).await.status,
        200
    );
}

#[tokio::test]
async fn keys_stand_in_addresses_only_where_the_operator_allows_it() {
    for allows in [false, true] {
        let parameter = if allows { "yes" } else { "no" };
        let app = TestApp::start_idle(&[("AllowLoginByGet", parameter)]).await;
        let key = app.stack.seeded().api_key("client");
        let query = format!("action=login&key={key}&ttl=60");
        let by_get = at_address(&app, Method::GET, &query).await;
        let by_post = at_address(&app, Method::POST, &query).await;
        if allows {
            for reply in [by_get, by_post] {
                assert_eq!(reply.status, 200, "{:#}", reply.body);
                let result = &reply.body["result"];
                assert_eq!(result["customer_id"], app.client_id("client").0);
                assert_eq!(result["token_expire"], app.now().as_second() + 60);
            }
        } else {
            assert_eq!(by_get.allow.as_deref(), Some("POST"));
            assert_eq!(by_get.refused(405), "auth/login: method not allowed");
            assert_eq!(
                by_post.refused(400),
                "auth/login: invalid parameter key: must not stand in the address"
            );
            // What else stands there does no harm.
            let request = form_request("/auth.php?action=login&ttl=60", &json!({ "key": key }));
            assert_eq!(app.send(request).await.status, 200);
        }
    }
}

/// A session without an epoch, as the version before opened it, and its token.
async fn session_without_epoch(app: &TestApp, client_id: ClientId, number: u32) -> String {
    let token = format!("{number:032x}");
    let later = app.now() + SignedDuration::from_hours(1);
    let (pk, later) = (format!("TOKEN#{}", hash(&token)), later.to_string());
    let row = [
        ("pk", &*pk),
        ("role", "admin"),
        ("email", "client@example.com"),
        ("expires_at", &*later),
        ("api_key_hash", "of a key"),
    ];
    let client_id = ("client_id", &*client_id.to_string());
    app.put_item_with("CREDENTIALS_TABLE", &row, client_id)
        .await;
    token
}

#[tokio::test]
async fn a_session_without_an_epoch_lasts_until_its_client_s_role_changes() {
    let app = TestApp::start().await;
    let id = app.client_id("client");
    let is_in = async |token: &str| {
        let info = app.auth("info", json!({ "token": token })).await;
        info.status == 200
    };
    let token = session_without_epoch(&app, id, 1).await;
    assert!(is_in(&token).await);
    for role in ["admin", "client", "admin"] {
        let parameters = json!({ "id": id, "role": role });
        app.call("admin", "update_client", parameters).await.ok();
        assert!(!is_in(&token).await, "{role}");
    }
    // Whom the version before demoted, it noted so.
    let others = app.client_id("client2");
    let token = session_without_epoch(&app, others, 2).await;
    assert!(is_in(&token).await);
    let demoted = format!("DEMOTED#{others}");
    app.put_item("CREDENTIALS_TABLE", &[("pk", &demoted)]).await;
    assert!(!is_in(&token).await);
}
