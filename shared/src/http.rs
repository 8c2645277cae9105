//! HTTP: from a request to a handler's call, and from its answer or error to a response.

pub mod envelope;
pub mod parameters;
pub mod subject;
pub mod takes;
pub mod tokens;
pub mod typed;
pub mod values;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ::http::Method;
use futures::future::BoxFuture;
use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt, Response};
use schemars::{Schema, SchemaGenerator};

use crate::config::Rules;
use crate::context::Context;
use crate::error::{Error, Reason, Rejection};
use crate::http::envelope::Answer;
use crate::http::parameters::Parameters;
use crate::http::subject::Who;
use crate::http::takes::Takes;
use crate::telemetry::{self, Figure};

/// Handles one call of a wire action.
pub type ActionHandler = for<'a> fn(&'a Context, &'a Call) -> BoxFuture<'a, Result<Answer, Error>>;

/// A wire action.
#[derive(Clone, Copy)]
pub struct Action {
    /// The module it belongs to on the wire: `s3`, `auth`, `eq_callback`.
    pub module: &'static str,
    /// Its name on the wire.
    pub name: &'static str,
    /// The name its errors speak under, nearly always its own.
    pub speaks_as: &'static str,
    /// Whether GET is allowed beside POST.
    pub get: Get,
    /// The parameters it takes, beside `action`. Every other is refused.
    pub takes: Takes,
    /// What it is for, takes and answers, for whoever calls it.
    pub contract: Contract,
    /// What it does.
    pub handler: ActionHandler,
}

/// Whether an action can be called by GET.
#[derive(Clone, Copy)]
pub enum Get {
    /// It cannot.
    Never,
    /// It can.
    Always,
    /// It can where the operator allows it.
    Where(fn(&Rules) -> bool),
}

impl Get {
    fn is_allowed(self, rules: &Rules) -> bool {
        match self {
            Get::Never => false,
            Get::Always => true,
            Get::Where(allows) => allows(rules),
        }
    }
}

/// A type's schema, in the words of whoever puts schemas together.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What whoever calls an action can rely on.
#[derive(Clone, Copy)]
pub struct Contract {
    /// What it does: a line, and what else there is to say.
    pub docs: &'static [&'static str],
    /// Who may call it.
    pub who: Who,
    /// What it takes: what names whom it is about, and the rest.
    pub parameters: &'static [SchemaOf],
    /// What it answers.
    pub answer: AnswerSchema,
    /// Why it may be refused, beside what goes for every call of its kind.
    pub refuses: &'static [&'static [Reason]],
}

impl Contract {
    /// What it does, in a sentence or two.
    #[must_use]
    pub fn summary(&self) -> String {
        first_paragraph(self.docs)
    }

    /// What else there is to say, in Markdown.
    #[must_use]
    pub fn remarks(&self) -> String {
        let lines = self.docs.iter().map(|line| line.trim());
        let remarks: Vec<&str> = lines.skip_while(|line| !line.is_empty()).collect();
        remarks.join("\n").trim().to_owned()
    }
}

/// The first paragraph of a doc comment, in one line.
#[must_use]
pub fn first_paragraph(docs: &[&str]) -> String {
    let lines = docs.iter().map(|line| line.trim());
    let first: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    first.join(" ")
}

/// What an action answers.
#[derive(Clone, Copy)]
pub enum AnswerSchema {
    /// These fields, behind `result` and `action`.
    Fields(SchemaOf),
    /// The same, or with 202 a callback key.
    FieldsOrLater(SchemaOf),
    /// A body of its own.
    Whole(SchemaOf),
}

/// Which action a request is for.
#[derive(Clone, Copy)]
pub enum Route {
    /// The path says it.
    Path(&'static Action),
    /// The parameter `action` says it, at this path only.
    Parameter(&'static str, &'static [&'static Action]),
}

/// A request that has been read.
#[derive(Debug)]
pub struct Call {
    /// What it carries.
    pub parameters: Parameters,
    /// The names of those that stand in its address.
    pub in_address: BTreeSet<String>,
    /// Where it came from.
    pub source_ip: Option<IpAddr>,
    /// The `Idempotency-Key` header.
    pub idempotency_key: Option<String>,
}

/// Answers a request: reads it, finds its action, has it handled, and writes the answer.
pub async fn answer(context: &Context, request: Request, route: Route) -> Response<Body> {
    let request_id = request_id(&request);
    telemetry::set_request(&request_id);
    let (action, outcome) = match read(&request, route, &context.rules) {
        Ok((action, call)) => {
            telemetry::set_action(action.name);
            (Some(action), (action.handler)(context, &call).await)
        }
        Err((action, rejection)) => (action, Err(rejection.into())),
    };
    let module = match route {
        Route::Path(action) => action.module,
        Route::Parameter(_, actions) => actions.first().map_or("", |action| action.module),
    };
    match outcome {
        Ok(answer) => answer.into_response(action.map_or("", |action| action.name)),
        Err(error) => {
            match &error {
                Error::Rejection(_) => telemetry::add(Figure::Rejections, 1),
                Error::Fault(fault) => telemetry::add_fault(fault),
            }
            envelope::failure(
                module,
                action.map(|action| action.speaks_as),
                &error,
                &request_id,
                request.headers(),
            )
        }
    }
}

/// Refuses a request to what is no action.
pub fn refuse(request: &Request, module: &str, rejection: Rejection) -> Response<Body> {
    let request_id = request_id(request);
    envelope::failure(
        module,
        None,
        &rejection.into(),
        &request_id,
        request.headers(),
    )
}

type Read = Result<(&'static Action, Call), (Option<&'static Action>, Rejection)>;

fn read(request: &Request, route: Route, rules: &Rules) -> Read {
    let (action, path_is_right) = match route {
        Route::Path(action) => (Some(action), true),
        Route::Parameter(path, _) => (None, request.raw_http_path() == path),
    };
    if !path_is_right {
        return Err((
            None,
            Rejection::new(Reason::PathUnknown, "not found").bare(),
        ));
    }
    let may_be_get = match route {
        Route::Path(action) => action.get.is_allowed(rules),
        Route::Parameter(_, actions) => actions.iter().any(|action| action.get.is_allowed(rules)),
    };
    check_method(request, may_be_get).map_err(|rejection| (action, rejection))?;
    let (parameters, in_address) =
        parameters::read(request).map_err(|rejection| (action, rejection))?;
    let action = match route {
        Route::Path(action) => {
            let named = parameters
                .text("action")
                .map_err(|rejection| (Some(action), rejection))?;
            if named.is_some_and(|named| named != action.name) {
                let rejection = Rejection::invalid("action", "is not the one the path names");
                return Err((Some(action), rejection));
            }
            action
        }
        Route::Parameter(_, actions) => {
            let named = parameters.text("action");
            let named = named.and_then(|named| named.ok_or_else(|| Rejection::missing("action")));
            let named = named.map_err(|rejection| (None, rejection))?;
            *actions.iter().find(|action| action.name == named).ok_or((
                None,
                Rejection::new(Reason::ActionUnknown, "unknown action"),
            ))?
        }
    };
    check_method(request, action.get.is_allowed(rules))
        .map_err(|rejection| (Some(action), rejection))?;
    let parameters = parameters
        .only(action.takes)
        .map_err(|rejection| (Some(action), rejection))?;
    let idempotency_key = match request
        .headers()
        .get("idempotency-key")
        .map(|value| value.to_str())
    {
        None => None,
        Some(Ok(key)) => Some(key.to_owned()),
        Some(Err(_)) => {
            let rejection = Rejection::invalid("Idempotency-Key", "must be plain ASCII");
            return Err((Some(action), rejection));
        }
    };
    let call = Call {
        parameters,
        in_address,
        source_ip: source_ip(request),
        idempotency_key,
    };
    Ok((action, call))
}

fn check_method(request: &Request, may_be_get: bool) -> Result<(), Rejection> {
    if request.method() == Method::POST || may_be_get && request.method() == Method::GET {
        return Ok(());
    }
    Err(Rejection::method_not_allowed(if may_be_get {
        "GET, POST"
    } else {
        "POST"
    }))
}

fn request_id(request: &Request) -> String {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.request_id.clone(),
        _ => None,
    }
    .unwrap_or_else(|| "unknown".into())
}

fn source_ip(request: &Request) -> Option<IpAddr> {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => {
            context.http.source_ip.as_deref()?.parse().ok()
        }
        _ => None,
    }
}
