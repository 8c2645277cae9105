//! `/_local/clock`: tells the time, and moves it. A move that takes long tells what it does while it does it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use jiff::{Span, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wharfage::clock::Clock;

use super::{Refusal, json_response, refusal_response};
use crate::ahead;
use crate::engine::{Advanced, Engine, Run};
use crate::queues::Drained;

/// How long a move may be silent. One that is over by then is answered in one piece, as anything else.
pub(super) const PACE: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    advance: Option<String>,
    to: Option<String>,
}

/// Where time is to go.
enum Whither {
    By(Span),
    To(Timestamp),
}

/// A run that has ended, and what came of it.
struct Step {
    run: Run,
    drained: Drained,
}

type Moving = JoinHandle<Result<Advanced, crate::Error>>;

/// Moves time as the body says.
pub(super) async fn post(
    engine: &Arc<Engine>,
    headers: &HeaderMap,
    body: &Bytes,
    pace: Duration,
) -> Result<Response<Body>, Refusal> {
    let whither = read(body)?;
    ahead::check_move(&engine.context.clusters)?;
    let turn = engine.turn_to_move().ok_or(Refusal::Moving)?;
    let (sender, steps) = mpsc::unbounded_channel();
    let driver = Arc::clone(engine);
    // On a task of its own: whoever hangs up does not stop it half-way.
    let mut moving: Moving = tokio::spawn(async move {
        let _turn = turn;
        let tell = |run: &Run, drained| {
            let run = run.clone();
            // Nobody listens any more when the caller has hung up.
            let _ = sender.send(Step { run, drained });
        };
        match whither {
            Whither::By(span) => driver.advance(span, &tell).await,
            Whither::To(to) => driver.advance_to(to, &tell).await,
        }
    });
    let wants_one_piece = headers
        .get(ACCEPT)
        .is_some_and(|accept| accept == "application/json");
    if wants_one_piece {
        return answer(moving.await);
    }
    match tokio::time::timeout(pace, &mut moving).await {
        Ok(ended) => answer(ended),
        Err(_) => Ok(stream(Arc::clone(engine), moving, steps, pace)),
    }
}

fn read(body: &Bytes) -> Result<Whither, Refusal> {
    let usage = |problem: &str| {
        Refusal::Request(format!(
            r#"{problem}: send {{"advance":"PT1H"}} or {{"to":"2026-02-01T00:00:00Z"}}"#
        ))
    };
    let wanted: Move = serde_json::from_slice(body).map_err(|error| usage(&error.to_string()))?;
    match (wanted.advance, wanted.to) {
        (Some(span), None) => span
            .parse()
            .map(Whither::By)
            .map_err(|_| usage(&format!("{span:?} is not an ISO 8601 duration"))),
        (None, Some(to)) => to
            .parse()
            .map(Whither::To)
            .map_err(|_| usage(&format!("{to:?} is not an instant"))),
        _ => Err(usage("expected either advance or to")),
    }
}

type Ended = Result<Result<Advanced, crate::Error>, tokio::task::JoinError>;

fn outcome(ended: Ended) -> Result<Value, Refusal> {
    match ended {
        Ok(advanced) => Ok(describe(&advanced?)),
        Err(_) => Err(Refusal::Crashed),
    }
}

fn answer(ended: Ended) -> Result<Response<Body>, Refusal> {
    Ok(json_response(StatusCode::OK, &outcome(ended)?))
}

/// How often each job ran, and which runs failed. A jump of a month has thousands.
fn describe(advanced: &Advanced) -> Value {
    let mut ran: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failed: Vec<Value> = Vec::new();
    for run in &advanced.ran {
        *ran.entry(run.job).or_default() += 1;
        if let Err(error) = &run.result {
            failed.push(json!({"at": run.at, "job": run.job, "error": error}));
        }
    }
    let Drained {
        handled,
        failed: deliveries_failed,
    } = advanced.drained;
    json!({
        "now": advanced.now,
        "ran": ran,
        "failed": failed,
        "messages": {"handled": handled, "failed": deliveries_failed},
    })
}

/// A line of JSON at each `pace` with what happened since the last one, and at last the answer, or why there is none.
fn stream(
    engine: Arc<Engine>,
    moving: Moving,
    steps: UnboundedReceiver<Step>,
    pace: Duration,
) -> Response<Body> {
    let lines = futures::stream::unfold(Some((engine, moving, steps)), move |state| async move {
        let (engine, mut moving, mut steps) = state?;
        let until = Instant::now() + pace;
        let mut runs = Vec::new();
        let mut drained = Drained::default();
        let is_over = loop {
            match tokio::time::timeout_at(until, steps.recv()).await {
                Ok(Some(step)) => {
                    drained.handled += step.drained.handled;
                    drained.failed += step.drained.failed;
                    runs.push(step.run);
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if is_over {
            let last = match outcome((&mut moving).await) {
                Ok(value) => value,
                Err(refusal) => refusal_response(&refusal).1,
            };
            return Some((line(&last), None));
        }
        // Short enough for a line of a terminal; what failed, and why, stands in the answer.
        let line = line(&json!({ "progress": {
            "now": format!("{:.0}", engine.clock.now()),
            "runs": runs.len(),
            "messages": drained.handled,
            "failed": runs.iter().filter(|run| run.result.is_err()).count() + drained.failed,
        } }));
        Some((line, Some((engine, moving, steps))))
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    response
}

fn line(value: &Value) -> Result<Bytes, Infallible> {
    Ok(Bytes::from(format!("{value}\n")))
}
