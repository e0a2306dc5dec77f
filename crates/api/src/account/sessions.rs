//! The caller's sessions: who is signed in with their wallet, and how to end that.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
};
use domain::id::SessionId;
use serde::Serialize;
use store::sessions::{self, Listed};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState, Problem, cursor,
    extract::{Id, Params},
    identity::Wallet,
    problem::refuse,
    provider::PageParams,
    security,
    views::{Time, page_limit},
};

const LIST: &str = "sessions";
/// The most that is kept of what a program says it is.
const MAX_PROGRAM: usize = 120;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, end_others)).routes(routes!(end))
}

/// What program a request is from, in its own words, shortened.
pub(crate) fn program(headers: &HeaderMap) -> Option<String> {
    let said = headers.get(header::USER_AGENT)?.to_str().ok()?.trim();
    let short: String = said.chars().take(MAX_PROGRAM).collect();
    Some(short).filter(|text| !text.is_empty())
}

/// A sign-in that is still good.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionView {
    #[schema(value_type = String, example = "ses_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: SessionId,
    created_at: Time,
    /// To the hour.
    last_used_at: Option<Time>,
    expires_at: Time,
    /// What program signed in, in its own words, shortened; anybody can say anything there.
    #[schema(example = "Mozilla/5.0 (X11; Linux x86_64)")]
    user_agent: Option<String>,
    /// Whether it is the one of this request.
    current: bool,
}

impl SessionView {
    fn new(session: Listed, current: SessionId) -> Self {
        Self {
            id: session.id,
            created_at: Time(session.created_at),
            last_used_at: session.last_used_at.map(Time),
            expires_at: Time(session.expires_at),
            user_agent: session.user_agent,
            current: session.id == current,
        }
    }
}

/// A page of sessions.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionPage {
    data: Vec<SessionView>,
    next_cursor: Option<String>,
}

/// The caller's sessions that are still good, newest first. No API key may ask.
#[utoipa::path(get, path = "/v1/sessions", tag = "account", security(("bearer" = [])),
    params(PageParams), responses((status = 200, body = SessionPage)))]
async fn list(
    State(app): State<AppState>,
    wallet: Wallet,
    Params(page): Params<PageParams>,
) -> Result<Json<SessionPage>, Problem> {
    let (current, limit) = (wallet.session()?, page_limit(page.limit)?);
    let before = match &page.cursor {
        Some(cursor) => {
            let [id] = cursor::read::<1>(LIST, cursor)?;
            Some(id.parse().map_err(|_| cursor::invalid())?)
        }
        None => None,
    };
    let mut connection = app.store.read().await?;
    let account = wallet.account.id;
    let found = sessions::list(
        &mut connection,
        account,
        before,
        i64::from(limit),
        (app.now(), app.config.session_idle),
    )
    .await?;
    let full = found.len() >= usize::from(limit);
    let last = found.last().filter(|_| full).map(|session| session.id.to_string());
    let next_cursor = last.map(|id| cursor::write(LIST, &[id]));
    let data = found.into_iter().map(|session| SessionView::new(session, current)).collect();
    Ok(Json(SessionPage { data, next_cursor }))
}

/// Ends one of the caller's sessions, at once: its token is dead with the answer.
#[utoipa::path(delete, path = "/v1/sessions/{id}", tag = "account", security(("bearer" = [])),
    params(("id" = String, Path, example = "ses_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 204, description = "The token is dead.")))]
async fn end(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<SessionId>,
) -> Result<StatusCode, Problem> {
    wallet.session()?;
    let (account, now) = (wallet.account.id, app.now());
    app.store
        .write("sessions.end", move |tx| {
            Box::pin(async move {
                if sessions::revoke(tx, account, id, now).await? {
                    return Ok(());
                }
                refuse(Problem::not_found("session"))
            })
        })
        .await
        .map_err(Problem::from)?;
    security::credential("session_ended", account, id);
    Ok(StatusCode::NO_CONTENT)
}

/// How many sessions and tokens of rentals were ended.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ended {
    #[schema(example = 2)]
    ended: u64,
}

/// Ends all of the caller's sessions but the one that asks, and the tokens that came with rentals paid for by x402. API
/// keys stay.
#[utoipa::path(delete, path = "/v1/sessions", tag = "account", security(("bearer" = [])),
    responses((status = 200, body = Ended)))]
async fn end_others(State(app): State<AppState>, wallet: Wallet) -> Result<Json<Ended>, Problem> {
    let (account, current, now) = (wallet.account.id, wallet.session()?, app.now());
    let ended = app
        .store
        .write::<u64, Problem, _>("sessions.end_others", move |tx| {
            Box::pin(async move { Ok(sessions::revoke_others(tx, account, current, now).await?) })
        })
        .await?;
    security::credential("other_sessions_ended", account, current);
    Ok(Json(Ended { ended }))
}
