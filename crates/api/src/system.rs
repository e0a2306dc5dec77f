//! Health, metrics, the API's description and the pages about errors.

use std::time::{Duration, Instant};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{Html, IntoResponse, Response},
};
use serde::Serialize;
use store::{StoreError, deployment};
use tokio::sync::Mutex;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{AppState, Code, Problem, extract::Id};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .routes(routes!(errors))
        .routes(routes!(error))
}

/// A word about the service.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether the process answers. It says nothing of the database or the chain.
#[utoipa::path(get, path = "/healthz", tag = "system", responses((status = 200, body = Health)))]
async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether the service can do its work and wants more of it: the database answers and is migrated, an escrow
/// contract is recorded, the market is read, and nobody has told the service to stop. A balancer asks here whom to send to.
#[utoipa::path(get, path = "/readyz", tag = "system", responses((status = 200, body = Health)))]
async fn readyz(State(app): State<AppState>) -> Result<Json<Health>, Problem> {
    if app.leaving.is_cancelled() {
        return Err(Problem::new(Code::NotReady, "the service is stopping; ask another instance"));
    }
    app.readiness.asked(&app).await?;
    if !app.market.is_built() {
        let detail = "the market is being read; ask again in a moment";
        return Err(Problem::new(Code::NotReady, detail));
    }
    Ok(Json(Health { status: "ready" }))
}

/// For how long it is good whether the database does its part.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// What the database said last, for all that ask: nobody counts these requests, and each would take a connection.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<Option<(Instant, Result<(), Problem>)>>);

impl Readiness {
    async fn asked(&self, app: &AppState) -> Result<(), Problem> {
        let mut known = self.0.lock().await;
        if let Some((at, said)) = known.as_ref()
            && at.elapsed() < GOOD_FOR
        {
            return said.clone();
        }
        let said = look(app).await;
        // what is missing may be there the next moment
        let is_kept = said.as_ref().map_or_else(|why| why.code() == Code::Unavailable, |()| true);
        *known = is_kept.then(|| (Instant::now(), said.clone()));
        said
    }
}

/// Whether the database answers, is migrated, and knows an escrow contract.
async fn look(app: &AppState) -> Result<(), Problem> {
    let mut connection = app.store.read().await?;
    match deployment::get(&mut connection).await {
        Ok(found) => app.known(found).map(drop),
        Err(StoreError::Bug(_)) => {
            Err(Problem::new(Code::NotReady, "the database is not migrated"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Counters and timings in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "system",
    responses((status = 200, content_type = "text/plain", body = String)))]
async fn metrics(State(app): State<AppState>) -> Result<Response, Problem> {
    let Some(handle) = &app.metrics else {
        return Err(Problem::new(Code::NotFound, "this process does not keep metrics"));
    };
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    Ok((content_type, handle.render()).into_response())
}

/// A kind of error.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub(crate) struct ErrorView {
    #[schema(example = "offer-taken")]
    code: &'static str,
    #[schema(example = 409)]
    status: u16,
    #[schema(example = "The GPUs are rented")]
    title: &'static str,
    /// What to do about it.
    help: &'static str,
    /// Whether the same request may succeed later.
    retryable: bool,
}

impl From<Code> for ErrorView {
    fn from(code: Code) -> Self {
        Self {
            code: code.as_str(),
            status: code.status().as_u16(),
            title: code.title(),
            help: code.help(),
            retryable: code.retryable(),
        }
    }
}

/// All kinds of errors.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorList {
    data: Vec<ErrorView>,
}

/// What a page about errors is written in.
enum Form {
    Json,
    Html,
    Text,
}

impl Form {
    /// What the caller names first of what there is; JSON where nothing is named.
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let mut names = accept
            .unwrap_or_default()
            .split(',')
            .map(|one| one.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let known = names.find_map(|name| match name.as_str() {
            "application/json" | "application/problem+json" | "*/*" => Some(Self::Json),
            "text/html" | "application/xhtml+xml" => Some(Self::Html),
            "text/plain" | "text/*" => Some(Self::Text),
            _ => None,
        });
        known.unwrap_or(Self::Json)
    }
}

/// Every kind of error that the service answers with: HTML for browsers, text or JSON for whoever asks for them.
#[utoipa::path(get, path = "/errors", tag = "system", responses((status = 200, content(
    (ErrorList = "application/json"), (String = "text/html"), (String = "text/plain")))))]
async fn errors(headers: HeaderMap) -> Response {
    let data: Vec<_> = Code::ALL.iter().copied().map(ErrorView::from).collect();
    let each = |page: fn(&ErrorView) -> String| data.iter().map(page).collect::<String>();
    match Form::of(&headers) {
        Form::Json => Json(ErrorList { data }).into_response(),
        Form::Html => {
            let item = |view: &ErrorView| {
                let ErrorView { code, status, title, .. } = view;
                format!(
                    "<li><a href=\"/errors/{code}\"><code>{code}</code></a>, HTTP {status}: {title}</li>"
                )
            };
            let head = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Errors</title><body>";
            Html(format!("{head}<h1>Errors</h1><ul>{}</ul>\n", each(item))).into_response()
        }
        Form::Text => each(text).into_response(),
    }
}

/// The page that the `type` of an error leads to: HTML for browsers, text or JSON for whoever asks for them.
#[utoipa::path(get, path = "/errors/{code}", tag = "system",
    params(("code" = String, Path, example = "offer-taken")),
    responses((status = 200, content(
        (ErrorView = "application/json"), (String = "text/html"), (String = "text/plain")))))]
async fn error(Id(code): Id<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let found = Code::ALL.iter().copied().find(|known| known.as_str() == code);
    let view = ErrorView::from(found.ok_or_else(|| Problem::not_found("error code"))?);
    Ok(match Form::of(&headers) {
        Form::Json => Json(view).into_response(),
        Form::Html => Html(page(view)).into_response(),
        Form::Text => text(&view).into_response(),
    })
}

/// A kind of error in plain text.
fn text(view: &ErrorView) -> String {
    let ErrorView { code, status, title, help, retryable } = view;
    let retry = if *retryable { "may succeed" } else { "will fail again" };
    format!("{code} (HTTP {status})\n{title}. The same request later {retry}.\n{help}\n\n")
}

/// The table's own texts only: nothing of the request gets into the page.
fn page(view: ErrorView) -> String {
    let ErrorView { code, status, title, help, retryable } = view;
    let retry = if retryable { "may succeed" } else { "will fail again" };
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{code}</title>\
         <body><h1>{title}</h1><p><code>{code}</code>, HTTP {status}. The same request later {retry}.</p>\
         <p>{help}</p><p><a href=\"/errors\">all errors</a>, <a href=\"/docs/\">the API</a></p>\n"
    )
}
