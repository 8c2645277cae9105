//! The HTTP API as API Gateway runs it: routes, events in payload format 2.0, limits and its own answers.

mod event;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use lambda_http::Body;
use wharfage::clock::Clock;
use wharfage::random::Random;

use crate::invoke::Crash;
use crate::runner::Runner;
use crate::wiring::Target;

/// What API Gateway takes of a request's body at most.
pub(crate) const REQUEST_MAX_BYTES: usize = 10 * 1024 * 1024;
/// What it takes of the request line and the headers together.
const HEAD_MAX_BYTES: usize = 10_240;
/// What Lambda gives back at most.
const RESPONSE_MAX_BYTES: usize = 6 * 1024 * 1024;

/// Where a request comes from, as an extension of a request that did not come over TCP. Without it: 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub struct SourceIp(pub IpAddr);

/// The routes of the HTTP API.
#[derive(Default)]
pub(crate) struct Routes {
    paths: HashMap<String, Vec<(Option<Method>, Target)>>,
    default: Option<Target>,
}

impl Routes {
    /// Adds a route; no path is `$default`, no method is any.
    pub(crate) fn add(
        &mut self,
        method: Option<Method>,
        path: Option<String>,
        target: Target,
    ) -> Result<(), String> {
        let twice = format!("the route {} stands twice", target.route_key);
        match path {
            Some(path) => {
                let methods = self.paths.entry(path).or_default();
                if methods.iter().any(|(taken, _)| *taken == method) {
                    return Err(twice);
                }
                methods.push((method, target));
            }
            None if self.default.is_some() => return Err(twice),
            None => self.default = Some(target),
        }
        Ok(())
    }

    /// The route of a request: its own method before any method, its own path before `$default`.
    fn find(&self, method: &Method, path: &str) -> Option<&Target> {
        let methods = self.paths.get(path).map(Vec::as_slice).unwrap_or_default();
        methods
            .iter()
            .find(|(own, _)| own.as_ref() == Some(method))
            .or_else(|| methods.iter().find(|(own, _)| own.is_none()))
            .map(|(_, target)| target)
            .or(self.default.as_ref())
    }
}

/// The HTTP API.
pub(crate) struct Gateway {
    routes: Routes,
    runner: Runner,
    clock: Arc<dyn Clock>,
    random: Random,
}

impl Gateway {
    pub(crate) fn new(routes: Routes, runner: Runner, clock: Arc<dyn Clock>) -> Gateway {
        Gateway {
            routes,
            runner,
            clock,
            random: Random::from_os(),
        }
    }

    /// Answers a request that is not over TCP.
    pub(crate) async fn invoke(&self, request: lambda_http::Request) -> Response<Body> {
        let source_ip = request
            .extensions()
            .get::<SourceIp>()
            .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |source| source.0);
        let request = request.map(|body| match body {
            Body::Text(text) => Bytes::from(text),
            Body::Binary(bytes) => Bytes::from(bytes),
            _ => Bytes::new(),
        });
        self.answer(request, source_ip).await
    }

    /// Answers a request.
    pub(crate) async fn answer(
        &self,
        request: Request<Bytes>,
        source_ip: IpAddr,
    ) -> Response<Body> {
        let request_id = self.random.id();
        let mut response = self.route(request, source_ip, &request_id).await;
        if let Ok(request_id) = HeaderValue::from_str(&request_id) {
            let name = HeaderName::from_static("apigw-requestid");
            response.headers_mut().insert(name, request_id);
        }
        response
    }

    async fn route(
        &self,
        request: Request<Bytes>,
        source_ip: IpAddr,
        request_id: &str,
    ) -> Response<Body> {
        if event::head_bytes(&request) > HEAD_MAX_BYTES {
            return refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        if request.body().len() > REQUEST_MAX_BYTES {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE);
        }
        if !event::names_a_host(&request) {
            return refusal(StatusCode::BAD_REQUEST);
        }
        let Some(target) = self.routes.find(request.method(), request.uri().path()) else {
            return refusal(StatusCode::NOT_FOUND);
        };
        let event = event::payload(
            &request,
            &target.route_key,
            source_ip,
            request_id,
            self.clock.now(),
        );
        let answer = self
            .runner
            .answer(target, event.to_string(), request_id)
            .await;
        match answer {
            Ok(response) if response_bytes(&response) > RESPONSE_MAX_BYTES => {
                tracing::error!(
                    function = target.function,
                    request_id,
                    "the answer is larger than Lambda gives back"
                );
                refusal(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Ok(response) => response,
            Err(Crash::TimedOut(waited)) if waited < target.timeout => {
                tracing::error!(function = target.function, request_id, "no answer in time");
                refusal(StatusCode::SERVICE_UNAVAILABLE)
            }
            Err(Crash::Stopped) => refusal(StatusCode::SERVICE_UNAVAILABLE),
            Err(crash) => {
                tracing::error!(function = target.function, request_id, %crash, "a function failed");
                refusal(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

/// An answer of API Gateway's own.
pub(crate) fn refusal(status: StatusCode) -> Response<Body> {
    let text = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        other => other.canonical_reason().unwrap_or_default(),
    };
    let mut response = Response::new(Body::Text(serde_json::json!({"message": text}).to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn response_bytes(response: &Response<Body>) -> usize {
    match response.body() {
        Body::Text(text) => text.len(),
        Body::Binary(bytes) => bytes.len().div_ceil(3) * 4,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::BoxFuture;
    use wharfage::context::Context;

    use super::*;

    fn nothing<'a>(_: &'a Context, _: lambda_http::Request) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async { Response::new(Body::Empty) })
    }

    fn target(route_key: &str) -> Target {
        Target {
            function: "nothing",
            handler: nothing,
            timeout: Duration::from_secs(1),
            route_timeout: Duration::from_secs(1),
            route_key: route_key.into(),
        }
    }

    #[test]
    fn the_most_particular_route_wins() {
        let mut routes = Routes::default();
        let mut add = |method: Option<Method>, path: Option<&str>, key: &str| {
            routes.add(method, path.map(str::to_owned), target(key))
        };
        assert_eq!(add(None, Some("/a"), "ANY /a"), Ok(()));
        assert_eq!(add(Some(Method::GET), Some("/a"), "GET /a"), Ok(()));
        assert_eq!(add(Some(Method::GET), Some("/b"), "GET /b"), Ok(()));
        assert!(add(None, Some("/a"), "ANY /a").is_err());
        let found = |routes: &Routes, method: Method, path: &str| {
            routes
                .find(&method, path)
                .map(|target| target.route_key.clone())
        };
        assert_eq!(found(&routes, Method::GET, "/a").as_deref(), Some("GET /a"));
        assert_eq!(found(&routes, Method::PUT, "/a").as_deref(), Some("ANY /a"));
        assert_eq!(found(&routes, Method::PUT, "/b"), None);
        assert_eq!(routes.add(None, None, target("$default")), Ok(()));
        assert_eq!(
            found(&routes, Method::PUT, "/b").as_deref(),
            Some("$default")
        );
        assert_eq!(
            found(&routes, Method::GET, "/a/").as_deref(),
            Some("$default")
        );
    }
}
