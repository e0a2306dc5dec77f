//! The edge: request ids, spans, counters, time limits, panics, and the last touch to every error.

mod retired;
mod trace;

use std::{
    any::Any,
    convert::Infallible,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    http::{
        Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header,
        header::Entry,
    },
    response::{IntoResponse, Response},
};
use domain::time::UnixMillis;
use futures_util::{
    FutureExt as _, TryFutureExt as _,
    future::{BoxFuture, Either},
};
use tokio::time::Instant;
use tower::{Layer, Service, service_fn};
use tower_http::compression::{
    CompressionLayer,
    predicate::{NotForContentType, Predicate, SizeAbove},
};
use tracing::{Instrument as _, field::Empty};

pub(crate) use self::retired::{RETIRED, Retired, find as find_retired};
use self::trace::Trace;
use crate::{
    Code, Problem,
    prefer::{self, Wait},
    renter,
    state::AppState,
};

/// Under which a request is logged; a caller may bring its own.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken from a caller.
const MAX_REQUEST_ID: usize = 64;

/// Smaller bodies are not worth compressing, in bytes.
const COMPRESS_ABOVE: u64 = 1_024;

/// What our plain pages may load and do: nothing, in nobody's frame.
const PAGE_POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The page that tries the API out: scripts and answers from here only, none written into the page. It sets styles of its
/// own, and has pictures in its style sheet.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                           frame-ancestors 'none'";

/// Whoever came by TLS once is to come by nothing else for a year.
const TLS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Around every route. It is one layer and not several: a router calls each of its layers through a pointer, and copies
/// it with everything inside it for each request.
#[derive(Clone)]
pub(crate) struct Edge(pub(crate) AppState);

impl<S> Layer<S> for Edge {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { app: self.0.clone(), inner }
    }
}

/// A route and what is done around it.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    app: AppState,
    inner: S,
}

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        hide_secrets(request.headers_mut());
        if !request.headers().contains_key(header::ACCEPT_ENCODING) {
            let answer = guard(&self.app, &mut self.inner, request);
            return Box::pin(answer.map(|response| Ok(vary(response))));
        }
        let Self { app, mut inner } = self.clone();
        let plain = service_fn(move |request| guard(&app, &mut inner, request).map(Ok));
        let packing = CompressionLayer::new().gzip(true).compress_when(worth_packing());
        Box::pin(packing.layer(plain).call(request).map_ok(|response| response.map(Body::new)))
    }
}

/// Which answers are compressed for whoever takes that.
fn worth_packing() -> impl Predicate {
    SizeAbove::new(COMPRESS_ABOVE).and(NotForContentType::SSE).and(compressible)
}

/// Says that whoever takes compressed answers gets another one, as the compression does.
fn vary(mut response: Response) -> Response {
    let headers = response.headers();
    let fixed = [header::CONTENT_ENCODING, header::CONTENT_RANGE];
    if !fixed.iter().any(|name| headers.contains_key(name))
        && worth_packing().should_compress(&response)
    {
        let encoding = HeaderValue::from_static("accept-encoding");
        response.headers_mut().append(header::VARY, encoding);
    }
    response
}

/// Marks headers whose values are never to be shown.
fn hide_secrets(headers: &mut HeaderMap) {
    const PAYMENT: HeaderName = HeaderName::from_static("payment-signature");
    for name in [header::AUTHORIZATION, PAYMENT] {
        if headers.contains_key(&name)
            && let Entry::Occupied(mut entry) = headers.entry(name)
        {
            entry.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
}

/// Everything around a request but the compression of its answer.
fn guard<S>(
    app: &AppState,
    inner: &mut S,
    mut request: Request,
) -> impl Future<Output = Response> + Send + use<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let started = Instant::now();
    let request_id = request_id(request.headers(), app.store.now());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    // the pattern, not the path: ids must not become labels
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unknown".to_owned(), |matched| matched.as_str().to_owned());
    let trace = Trace::of(request.headers());
    let span = tracing::info_span!(
        "http.request",
        request.id = %request_id,
        trace.id = trace.id,
        trace.span = trace.span,
        trace.parent = trace.parent,
        http.method = method_label(&method),
        http.route = %route,
        client.address = Empty,
        account.id = Empty,
        machine.id = Empty,
    );
    let limit = patience(app, &request, &route);
    let mut judged = span.in_scope(|| app.limits.judge(&request, started));
    let answer = match judged.refusal() {
        Some(refusal) => Err(refusal),
        None => {
            DefaultBodyLimit::max(app.config.body_limit).apply(&mut request);
            let answer = if renter::may_pay(&request) {
                Either::Left(renter::pay(app.clone(), request, inner.clone()).boxed())
            } else {
                Either::Right(inner.call(request).map(|Ok(response)| response))
            };
            // in a place of its own, as what is waited for is in a future twice
            Ok(answer_in(limit, answer).instrument(span.clone()).boxed())
        }
    };
    let app = app.clone();
    async move {
        let secret = may_hold_secrets(&method, &path);
        let response = match answer {
            Err(refusal) => refusal.into_response(),
            Ok(answer) => answer.await,
        };
        let mut response = finish(response, &path, &request_id);
        judged.mark(response.headers_mut());
        retired::mark(RETIRED, &method, &route, response.headers_mut());
        if app.config.public_url.starts_with("https://") {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, TLS_ONLY);
        }
        if secret {
            response.extensions_mut().insert(Uncompressed);
        }
        let status = response.status();
        let elapsed = started.elapsed();
        span.in_scope(|| {
            tracing::debug!(http.status = status.as_u16(), http.elapsed = ?elapsed, "request answered");
        });
        metrics::counter!("weir_http_requests_total", "method" => method_label(&method),
            "route" => route.clone(), "status" => status.as_str().to_owned())
        .increment(1);
        metrics::histogram!("weir_http_request_seconds", "route" => route)
            .record(elapsed.as_secs_f64());
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        if let Some(value) = trace.response() {
            response.headers_mut().insert(trace::RESPONSE, value);
        }
        if app.leaving.is_cancelled() {
            // whoever keeps connections open is to take its next request elsewhere
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A method as a label. Anybody can invent methods, and a label is kept for ever.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// An answer that is sent as it is.
#[derive(Clone, Copy)]
struct Uncompressed;

/// What is shown once is answered to a write, and orders to agents may name keys. How well such an answer compresses
/// beside what a caller has chosen would tell of it (BREACH): it is not compressed.
fn may_hold_secrets(method: &Method, path: &str) -> bool {
    !matches!(*method, Method::GET | Method::HEAD) || path.starts_with("/v1/agent/")
}

/// Whether an answer is one to compress, beside what its size and its type say.
fn compressible(status: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions) -> bool {
    status.is_success() && extensions.get::<Uncompressed>().is_none()
}

/// How long a request may take: what is set, and on top what the caller wants to wait for where that is done.
fn patience(app: &AppState, request: &Request, route: &str) -> Duration {
    let limit = app.config.request_timeout;
    let waits = prefer::is_waited(request.method(), route);
    let wait = Wait::of(request.headers()).0.filter(|_| waits);
    limit.saturating_add(wait.unwrap_or_default())
}

/// A panic ends its own request only.
fn answer_in(
    limit: Duration,
    answer: impl Future<Output = Response>,
) -> impl Future<Output = Response> {
    let answer = tokio::time::timeout(limit, AssertUnwindSafe(answer).catch_unwind());
    answer.map(move |answer| match answer {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => panicked(panic),
        Err(_) => {
            tracing::warn!("a request took too long");
            let detail = format!("there was no answer within {} s", limit.as_secs());
            Problem::new(Code::TimedOut, detail).into_response()
        }
    })
}

/// Gives an error its body, which names the request it answers.
fn finish(mut response: Response, path: &str, request_id: &str) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("text/html")) {
        let policy = if path.starts_with("/docs") { DOCS_POLICY } else { PAGE_POLICY };
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    if !headers.contains_key(header::CACHE_CONTROL) && path.starts_with("/v1/") {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    tracing::debug!(request.id = request_id, error.code = problem.code().as_str(), "refused");
    let body = problem.body(path, request_id).to_string();
    let (parts, _) = response.into_parts();
    Response::from_parts(parts, Body::from(body))
}

fn request_id(headers: &HeaderMap, now: UnixMillis) -> String {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()))
        .filter(|id| id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'))
        .map_or_else(|| new_id(now), str::to_owned)
}

/// A UUID of version 7. Not `now_v7`, which asks the system for each one's random bytes.
fn new_id(now: UnixMillis) -> String {
    let id = uuid::Builder::from_unix_timestamp_millis(now.get(), &rand::random()).into_uuid();
    id.simple().to_string()
}

/// What a handler that panicked is answered with.
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let reason = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(reason, "a handler panicked");
    Problem::new(Code::Internal, "the service could not do this").into_response()
}

/// Nothing is routed here.
pub(crate) async fn no_route() -> Problem {
    Problem::new(Code::NotFound, "no resource has this path; see /docs")
}

/// The path is routed, the method is not.
pub(crate) async fn no_method() -> Problem {
    Problem::new(Code::MethodNotAllowed, "the path does not take this method; see Allow")
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, http::StatusCode};

    use super::*;

    #[test]
    fn an_invented_method_is_no_label_of_its_own() {
        for known in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] {
            assert_eq!(method_label(&known.parse().unwrap()), known);
        }
        for other in ["TRACE", "PROPFIND", "get", "X1", "X2"] {
            assert_eq!(method_label(&other.parse().unwrap()), "other");
        }
    }

    #[test]
    fn a_request_has_its_callers_id_or_one_of_its_own() {
        let now = UnixMillis(1_800_000_000_123);
        let named = |id: &'static str| {
            request_id(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(id))]), now)
        };
        assert_eq!(named("a-B_9"), "a-B_9");
        let own = [named("a b"), named(""), request_id(&HeaderMap::new(), now)];
        for (place, id) in own.iter().enumerate() {
            let id: uuid::Uuid = id.parse().unwrap();
            assert_eq!((id.get_version_num(), id.as_u128() >> 80), (7, 1_800_000_000_123));
            assert!(own.iter().skip(place + 1).all(|other| *other != id.simple().to_string()));
        }
    }

    #[tokio::test]
    async fn who_does_not_take_compressed_answers_is_told_of_them() {
        let answer = |length: usize, kind: &'static str| {
            let mut response = Response::new(Body::from(vec![b'x'; length]));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        };
        assert_eq!(vary(answer(2_000, "text/plain")).headers()[header::VARY], "accept-encoding");
        for plain in [answer(100, "text/plain"), answer(2_000, "text/event-stream"), {
            let mut secret = answer(2_000, "text/plain");
            secret.extensions_mut().insert(Uncompressed);
            secret
        }] {
            assert!(!vary(plain).headers().contains_key(header::VARY));
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_its_words_stay_inside() {
        let response = finish(panicked(Box::new("secret".to_owned())), "/v1/x", "r-1");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = to_bytes(response.into_body(), 4_096).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["code"], &body["request_id"]), (&"internal".into(), &"r-1".into()));
        assert!(!body.to_string().contains("secret"));
    }
}
