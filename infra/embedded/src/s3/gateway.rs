//! The HTTP layer: tells S3 from the admin API, and counts the bytes of both directions.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};
use s3s::service::S3Service;
use s3s::{Body, HttpError, S3Error, StdError};

use super::admin::Admin;
use super::front::Front;
use super::hosts::addressed;
use super::store::lock;
use super::usage::{Meter, Usage};
use super::{answers, cors, forms, signing};

/// A client that is refused before its upload has ended reads the answer only after it: up to
/// this much is read and thrown away. Whoever has more to send loses the connection then.
const DRAIN_MAX_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) s3: S3Service,
    pub(crate) front: Arc<Front>,
    pub(crate) admin: Arc<Admin>,
    pub(crate) usage: Arc<Usage>,
}

impl hyper::service::Service<Request<Incoming>> for Gateway {
    type Response = Response<Sent>;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let gateway = self.clone();
        Box::pin(async move {
            // No bucket's name begins with an underscore.
            let is_admin = request.uri().path().starts_with("/_admin/")
                && !addressed(request.uri(), request.headers()).by_host;
            if is_admin {
                let has_body = !request.body().is_end_stream();
                let mut response = gateway.admin.answer(request).await;
                // A refusal may come before the body was read.
                if has_body && !response.status().is_success() {
                    close(response.headers_mut());
                }
                return Ok(response.map(|body| Sent { body, meter: None }));
            }
            gateway.answer(request).await
        })
    }
}

impl Gateway {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Sent>, HttpError> {
        let resource = request.uri().path().to_owned();
        if request.method() == Method::OPTIONS {
            let mut response = cors::preflight(&self.front.store, &request)
                .await
                .map_err(|error| HttpError::new(Box::new(error)))?;
            answers::finish(&mut response, &resource, None);
            return Ok(response.map(|body| Sent { body, meter: None }));
        }
        let cors_headers = cors::headers(&self.front.store, &request).await;
        let meter = Arc::new(Meter::new(Arc::clone(&self.usage)));
        let left = Arc::new(Mutex::new(Left::Nothing));
        let awaits_continue = request.headers().contains_key(http::header::EXPECT);
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(Arc::clone(&meter));
        let received = Received {
            body: Some(body),
            touched: !awaits_continue,
            meter: Arc::clone(&meter),
            left: Arc::clone(&left),
        };
        let mut element = None;
        let mut response = if is_form(&parts) {
            // s3s would collect the whole file in memory before anybody could refuse it.
            forms::answer(&self.front, parts, received)
                .await
                .map_err(|error| HttpError::new(Box::new(error)))?
        } else {
            match signing::prepare(&self.front.store, &mut parts).await {
                Ok(()) => {
                    let request = Request::from_parts(parts, Body::http_body_unsync(received));
                    self.s3.call(request).await?
                }
                Err(refused) => {
                    drop(received);
                    element = refused.element;
                    S3Error::from(refused.fault)
                        .to_http_response()
                        .map_err(|error| HttpError::new(Box::new(error)))?
                }
            }
        };
        answers::finish(&mut response, &resource, element);
        response.headers_mut().extend(cors_headers);
        let left = std::mem::replace(&mut *lock(&left), Left::Nothing);
        let is_read = match left {
            Left::Nothing => true,
            Left::Sending(unread) if unread.size_hint().lower() > DRAIN_MAX_BYTES => {
                // The answer does not wait for it, nor is the client cut off before it could read the answer.
                let meter = Arc::clone(&meter);
                tokio::spawn(async move { drain(unread, &meter).await });
                false
            }
            Left::Sending(unread) => drain(unread, &meter).await,
            Left::Awaited => false,
        };
        if !is_read {
            // What comes next would be taken for the rest of this body.
            close(response.headers_mut());
        }
        Ok(response.map(|body| Sent {
            body,
            meter: Some(meter),
        }))
    }
}

fn close(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// What an operation left of a request's body.
enum Left {
    Nothing,
    /// The client is sending it.
    Sending(Incoming),
    /// The client waits to be told whether to send it, and may do so or not when it is refused.
    Awaited,
}

fn is_form(request: &Parts) -> bool {
    request.method == Method::POST
        && request
            .headers
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                value
                    .trim_start()
                    .to_ascii_lowercase()
                    .starts_with("multipart/form-data")
            })
}

/// Reads what is left of a body, within bounds; says whether that was all of it.
async fn drain(mut body: Incoming, meter: &Meter) -> bool {
    let mut drained_bytes = 0;
    loop {
        let frame = match std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => frame,
        };
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        meter.received(bytes);
        drained_bytes += bytes;
        if drained_bytes > DRAIN_MAX_BYTES {
            return false;
        }
    }
}

/// A request's body on its way in.
pub(crate) struct Received {
    body: Option<Incoming>,
    /// Whether the client is sending. One that awaits "100 Continue" begins when the body is first
    /// read, and should not begin at all when it is refused.
    touched: bool,
    meter: Arc<Meter>,
    /// Where the rest goes when the operation does not read to the end.
    left: Arc<Mutex<Left>>,
}

impl hyper::body::Body for Received {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        self.touched = true;
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.meter.received(data.len() as u64);
                }
            }
            Poll::Ready(_) => self.body = None,
            Poll::Pending => {}
        }
        polled.map_err(StdError::from)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && !body.is_end_stream()
        {
            *lock(&self.left) = if self.touched {
                Left::Sending(body)
            } else {
                Left::Awaited
            };
        }
    }
}

/// A response's body on its way out. Bytes count when the connection takes them, so an aborted
/// download counts what went out, with at most one frame too many.
pub(crate) struct Sent {
    body: Body,
    meter: Option<Arc<Meter>>,
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let (Poll::Ready(Some(Ok(frame))), Some(meter)) = (&polled, &self.meter)
            && let Some(data) = frame.data_ref()
        {
            meter.sent(data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        hyper::body::Body::size_hint(&self.body)
    }
}
