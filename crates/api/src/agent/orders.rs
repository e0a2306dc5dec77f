//! Orders, for agents that wait for them instead of asking again and again.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use domain::id::{CommandId, MachineId};
use serde::{Deserialize, Serialize};
use store::{
    accounts::{self, SessionOwner},
    commands::{self, Command},
};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::commands::{CommandView, MAX_COMMANDS, views};
use crate::{
    AppState, Code, Problem,
    extract::{Parameters, Params},
    identity::{self, Agent},
    limits::Whose,
    prefer,
};

/// Orders that an agent may say that it knows.
const MOST_KNOWN: usize = 64;
/// What is said to an agent whose session was revoked, or ended, while it waited.
const ENDED: &str = "the session has ended; sign in again";
/// Orders are looked for so often even if nothing was heard.
const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(wait_for))
}

/// What the agent has already.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OrdersParams {
    /// Ids of orders that are not to be told again, with commas between them; at most 64. Open orders come until they are
    /// acknowledged: whoever waits for the next one names those that it has.
    #[param(example = "cmd_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    known: Option<String>,
}

impl Parameters for OrdersParams {
    const NAMES: &'static [&'static str] = &["known"];
}

/// Open orders.
#[derive(Serialize, ToSchema)]
pub(crate) struct OrdersView {
    /// Those that are not known, oldest first; empty if none came in time. They come with heartbeats, too.
    commands: Vec<CommandView>,
}

/// Waits for orders. With `Prefer: wait=30` the answer comes as soon as there is an order that is not among the known
/// ones, and after that time without one; else at once. An order has one id, however it comes, and is acknowledged once.
/// A wait takes no heartbeat's place: a machine that sends none is offline.
#[utoipa::path(get, path = "/v1/agent/commands", tag = "agent", security(("bearer" = [])),
    params(OrdersParams,
           ("Prefer" = Option<String>, Header, description = "`wait=N`: answer once there is an order, or after N seconds, 30 at most")),
    responses((status = 200, body = OrdersView, headers(
        ("Preference-Applied", description = "`wait=N` if it was waited for")))))]
async fn wait_for(
    State(app): State<AppState>,
    Agent(machine): Agent,
    headers: HeaderMap,
    Params(params): Params<OrdersParams>,
    prefer::Wait(wait): prefer::Wait,
) -> Result<Response, Problem> {
    let known = known_of(params.known.as_deref())?;
    let Some(wait) = wait else {
        return Ok(answer(look(&app, machine, &known).await?, None));
    };
    let seat = app.feed.bells().sit(machine).ok_or_else(|| {
        let detail = "too many agents wait for orders; they come with heartbeats";
        Problem::new(Code::Unavailable, detail)
    })?;
    let session = identity::session_hash(&headers)
        .ok_or_else(|| Problem::new(Code::Unauthenticated, ENDED))?;
    let until = Instant::now().checked_add(wait);
    // whether it was the bell, once it has waited
    let mut woken = None;
    loop {
        let bell = seat.bell().notified();
        tokio::pin!(bell);
        // from here on an order that is given is heard, and the look sees those before
        bell.as_mut().enable();
        let orders = match woken {
            None => look(&app, machine, &known).await?,
            Some(rung) => look_again(&app, machine, &session, &known, rung).await?,
        };
        let over = until.is_none_or(|until| Instant::now() >= until) || app.closing.is_cancelled();
        if over || !orders.is_empty() {
            return Ok(answer(orders, Some(wait)));
        }
        let patience = Instant::now().checked_add(LOOK_EVERY).into_iter().chain(until).min();
        let rung = tokio::select! {
            () = tokio::time::sleep_until(patience.unwrap_or_else(Instant::now)) => false,
            () = app.closing.cancelled() => false,
            () = bell => true,
        };
        woken = Some(rung);
    }
}

/// As [`look`], for one that has waited: it is told of no order in the name of a session that was revoked meanwhile. That
/// is looked up if there are orders, or if the bell has rung.
///
/// # Errors
/// [`Code::Unauthenticated`] if the session has ended; the store's.
async fn look_again(
    app: &AppState,
    machine: MachineId,
    session: &[u8; 32],
    known: &[CommandId],
    rung: bool,
) -> Result<Vec<Command>, Problem> {
    let mut connection = app.store.read().await?;
    let orders = commands::open(&mut connection, machine, known, MAX_COMMANDS).await?;
    if orders.is_empty() && !rung {
        return Ok(orders);
    }
    let (now, idle) = (app.now(), app.config.session_idle);
    let found = accounts::find_session(&mut connection, session, now, idle).await?;
    drop(connection);
    let ours = SessionOwner::Machine(machine);
    let found = found.filter(|found| found.owner == ours);
    identity::vouched(app, session, found, |_| Whose::Machine(machine), ENDED)?;
    Ok(orders)
}

async fn look(
    app: &AppState,
    machine: MachineId,
    known: &[CommandId],
) -> Result<Vec<Command>, Problem> {
    let mut connection = app.store.read().await?;
    Ok(commands::open(&mut connection, machine, known, MAX_COMMANDS).await?)
}

fn answer(orders: Vec<Command>, waited: Option<Duration>) -> Response {
    let mut response = Json(OrdersView { commands: views(orders) }).into_response();
    if let Some(value) = waited.and_then(prefer::applied) {
        response.headers_mut().insert(prefer::APPLIED, value);
    }
    response
}

fn known_of(text: Option<&str>) -> Result<Vec<CommandId>, Problem> {
    let text = text.unwrap_or_default();
    let ids = text.split(',').filter(|id| !id.is_empty()).take(MOST_KNOWN.saturating_add(1));
    let known: Result<Vec<CommandId>, _> = ids.map(|id| id.trim().parse()).collect();
    known.ok().filter(|known| known.len() <= MOST_KNOWN).ok_or_else(|| {
        let detail = format!("at most {MOST_KNOWN} ids of orders, with commas between them");
        Problem::new(Code::InvalidRequest, detail.clone()).at("?known", detail)
    })
}
