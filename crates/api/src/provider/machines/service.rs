//! Taking a machine out of service: draining, maintenance, retiring.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use domain::{
    id::{MachineId, RentalId, WindowId},
    machine::Service,
    metering::Interval,
    time::{Seconds, UnixSeconds},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{
    StoreError,
    machines::{self, MaintenanceWindow, NewWindow, Obstacle, RunsInto},
    timeline,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    PageParams, mine, owned, retired, stored,
    view::{MachineView, view},
};
use crate::{
    AppState, Code, Problem, cursor,
    extract::{Body, Id, Params},
    identity::Wallet,
    problem::refuse,
    views::{Time, page_limit},
};

/// The longest window.
const LONGEST: Seconds = Seconds(30 * 86_400);
/// How far ahead one can be announced.
const FARTHEST: Seconds = Seconds(365 * 86_400);
/// Windows ahead of one machine.
const MOST_OPEN: i64 = 100;
/// The last second of the year 9999.
const LATEST: UnixSeconds = UnixSeconds(253_402_300_799);
const LIST: &str = "maintenance";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(drain))
        .routes(routes!(undrain))
        .routes(routes!(retire))
        .routes(routes!(announce, list))
        .routes(routes!(cancel))
}

/// Refuses a rental of the machine from now on, if anything stands against it. `start_by` is the latest second at which
/// the contract lets it begin.
///
/// # Errors
/// [`Code::MachineDraining`]; [`Code::MachineMaintenance`] with the window and the longest time that ends before it.
pub(crate) async fn free_of_obstacles(
    connection: &mut store::Connection,
    machine: MachineId,
    (now, start_by, duration): (UnixSeconds, UnixSeconds, Seconds),
) -> Result<Result<(), Problem>, StoreError> {
    let to = start_by.saturating_plus(duration);
    let first = machines::obstacle(connection, machine, now, to).await?;
    Ok(first.map_or(Ok(()), |first| Err(in_the_way(first, start_by))))
}

/// The refusal of a rental that would begin by `start_by`.
pub(crate) fn in_the_way(obstacle: Obstacle, start_by: UnixSeconds) -> Problem {
    let draining = |detail: &str| Problem::new(Code::MachineDraining, detail);
    match obstacle {
        Obstacle::Draining => draining("the machine finishes what runs and begins nothing new"),
        Obstacle::Retired => draining("the machine is retired"),
        Obstacle::Maintenance { during, reason } => {
            let longest = during.from.saturating_since(start_by);
            let (from, until) = (Time(during.from), Time(during.to));
            let detail = format!(
                "the machine is out of service from {}: a rental from now on can be {longest} long",
                from.text().unwrap_or_default()
            );
            let window = json!({"from": from.text(), "to": until.text(), "reason": reason});
            Problem::new(Code::MachineMaintenance, detail)
                .with("window", window)
                .with("longest_s", longest.get())
        }
    }
}

/// Takes no new quotes and bookings; what runs goes on. Repeating it is harmless.
#[utoipa::path(post, path = "/v1/machines/{id}/drain", tag = "provider", security(("bearer" = [])),
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = MachineView)))]
async fn drain(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<MachineId>,
) -> Result<Json<MachineView>, Problem> {
    set(app, wallet, id, Service::Draining).await
}

/// Takes new rentals again. Repeating it is harmless. A machine that named a GPU which another one had already is not
/// opened any more: 409 `state-conflict`.
#[utoipa::path(post, path = "/v1/machines/{id}/undrain", tag = "provider", security(("bearer" = [])),
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = MachineView)))]
async fn undrain(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<MachineId>,
) -> Result<Json<MachineView>, Problem> {
    set(app, wallet, id, Service::Open).await
}

/// Takes a machine on which nothing runs off the market for good: its offers are withdrawn, and its GPUs may be
/// registered anew. Repeating it is harmless.
#[utoipa::path(post, path = "/v1/machines/{id}/retire", tag = "provider", security(("bearer" = [])),
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = MachineView)))]
async fn retire(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<MachineId>,
) -> Result<Json<MachineView>, Problem> {
    set(app, wallet, id, Service::Retired).await
}

async fn set(
    app: AppState,
    wallet: Wallet,
    id: MachineId,
    service: Service,
) -> Result<Json<MachineView>, Problem> {
    let (account, now) = (wallet.account.id, app.now());
    let machine = app
        .store
        .write("machines.service", move |tx| {
            Box::pin(async move {
                // before anything is looked at: a booking that has the offer is waited for, and who retires it
                machines::hold_offers(tx, id).await?;
                machines::hold_machine(tx, id).await?;
                if service == Service::Retired {
                    // an offer that was made meanwhile is withdrawn with the others, and its bookings are waited for
                    machines::hold_offers(tx, id).await?;
                }
                let machine = mine(tx, account, id).await?;
                match (machine.service, service) {
                    (before, after) if before == after => return Ok(machine),
                    (Service::Retired, _) => return refuse(retired()),
                    (_, Service::Retired) => {
                        if machines::runs_something(tx, id, now).await? {
                            let detail =
                                "something runs on it or is being cleaned up: drain it first";
                            return refuse(Problem::new(Code::StateConflict, detail));
                        }
                        machines::retire(tx, id, now).await?;
                    }
                    (_, Service::Open | Service::Draining) => {
                        if service == Service::Open
                            && let Some(uuid) = machines::lost_gpu(tx, id).await?
                        {
                            return refuse(lost(&uuid));
                        }
                        machines::set_service(tx, id, service, now).await?;
                    }
                }
                stored(tx, id).await
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok(Json(view(machine, &app)))
}

/// The refusal to open a machine one of whose GPUs would be rented twice.
fn lost(uuid: &str) -> Problem {
    let detail = format!(
        "another machine was registered with GPU {uuid} first: this one takes no rentals any more; \
         retire it, and register the GPUs that are in it anew"
    );
    Problem::new(Code::StateConflict, detail)
}

/// A time to be announced.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WindowRequest {
    /// RFC 3339, not in the past and at most a year ahead.
    #[schema(example = "2027-02-01T02:00:00Z")]
    from: String,
    /// RFC 3339, at most 30 days later.
    #[schema(example = "2027-02-01T04:00:00Z")]
    to: String,
    /// 1 to 200 characters, for renters to read.
    #[schema(example = "new power supply")]
    reason: String,
}

/// An announced time without service.
#[derive(Serialize, ToSchema)]
pub(crate) struct MaintenanceView {
    #[schema(value_type = String, example = "mnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: WindowId,
    from: Time,
    to: Time,
    #[schema(example = "new power supply")]
    reason: String,
    created_at: Time,
    cancelled_at: Option<Time>,
}

/// A window just announced.
#[derive(Serialize, ToSchema)]
pub(crate) struct WindowAnnounced {
    window: MaintenanceView,
    /// Rentals that may run into it: their renters are told by a `notice` on the timeline.
    #[schema(example = 1)]
    rentals_told: usize,
}

fn window_view(window: MaintenanceWindow) -> MaintenanceView {
    MaintenanceView {
        id: window.id,
        from: Time(window.during.from),
        to: Time(window.during.to),
        reason: window.reason,
        created_at: Time(window.created_at),
        cancelled_at: window.cancelled_at.map(Time),
    }
}

/// A time by RFC 3339, to the second.
pub(crate) fn time_of(text: &str) -> Option<UnixSeconds> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    // by its offset it can be in a year that RFC 3339 has no digits for
    let at = u64::try_from(at.unix_timestamp()).ok()?;
    Some(UnixSeconds(at)).filter(|at| *at <= LATEST)
}

fn checked(request: &WindowRequest, now: UnixSeconds) -> Result<Interval, Problem> {
    let time = |text: &str, pointer: &str| {
        time_of(text)
            .ok_or_else(|| Problem::invalid(pointer, "a time such as 2027-02-01T02:00:00Z"))
    };
    let (from, to) = (time(&request.from, "/from")?, time(&request.to, "/to")?);
    if from < now || from > now.saturating_plus(FARTHEST) {
        return Err(Problem::invalid("/from", "not in the past, and at most a year ahead"));
    }
    if to <= from || to > from.saturating_plus(LONGEST) {
        return Err(Problem::invalid("/to", "after `from`, and at most 30 days later"));
    }
    let length = request.reason.trim().chars().count();
    if !(1..=200).contains(&length) || request.reason.chars().any(char::is_control) {
        return Err(Problem::invalid("/reason", "1 to 200 characters, none a control"));
    }
    Ok(Interval::new(from, to))
}

/// Announces a time without service. Nothing is quoted or booked from then on that would run into it; who runs into it
/// already is told.
#[utoipa::path(post, path = "/v1/machines/{id}/maintenance", tag = "provider", security(("bearer" = [])),
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    request_body = WindowRequest, responses((status = 201, body = WindowAnnounced)))]
async fn announce(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<MachineId>,
    Body(request): Body<WindowRequest>,
) -> Result<(StatusCode, Json<WindowAnnounced>), Problem> {
    let now = app.now();
    let during = checked(&request, now)?;
    let new = NewWindow {
        id: WindowId::from_uuid(Uuid::now_v7()),
        machine: id,
        during,
        reason: request.reason.trim().to_owned(),
        now,
    };
    let (account, policy) = (wallet.account.id, app.store.policy());
    let ready = policy.funding_ttl.saturating_add(policy.ready_ttl);
    let told = Arc::new(new.clone());
    let rentals_told = app
        .store
        .write("machines.announce", move |tx| {
            let new = told.clone();
            Box::pin(async move {
                machines::hold_offers(tx, id).await?;
                let machine = mine(tx, account, id).await?;
                if machine.service == Service::Retired {
                    return refuse(retired());
                }
                if machines::open_windows(tx, id, now).await? >= MOST_OPEN {
                    let detail = format!("{MOST_OPEN} windows are ahead already");
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                // before the window, whose insertion takes the machine: so does whoever enrols
                let told = machines::runs_into(tx, id, during.from, ready).await?;
                in_turn(tx, &told).await?;
                match machines::announce(tx, &new).await {
                    Err(error) if error.is_conflict_on("maintenance_disjoint") => {
                        let detail = "it overlaps another window of this machine";
                        return refuse(Problem::new(Code::AlreadyExists, detail));
                    }
                    done => done?,
                }
                for runs in &told {
                    notice(tx, runs.rental, "maintenance", &new, now).await?;
                }
                Ok(told.len())
            })
        })
        .await
        .map_err(Problem::from)?;
    let window = MaintenanceView {
        id: new.id,
        from: Time(during.from),
        to: Time(during.to),
        reason: new.reason,
        created_at: Time(now),
        cancelled_at: None,
    };
    Ok((StatusCode::CREATED, Json(WindowAnnounced { window, rentals_told })))
}

/// Holds the rentals, in the order in which everybody holds them, so that what is told of one has its place in its timeline: who
/// reads on from a later entry would never see an earlier one that is committed after it.
async fn in_turn(tx: &mut store::Connection, runs: &[RunsInto]) -> Result<(), StoreError> {
    for runs in runs {
        store::readings::lock_rental(tx, runs.rental).await?;
    }
    Ok(())
}

/// Tells a rental's parties about a window.
async fn notice(
    tx: &mut store::Connection,
    rental: RentalId,
    about: &str,
    window: &NewWindow,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let detail = json!({
        "about": about,
        "window_id": window.id,
        "from": Time(window.during.from).text(),
        "to": Time(window.during.to).text(),
        "reason": window.reason,
    });
    timeline::append(tx, rental, now, "notice", &detail).await
}

/// A page of windows.
#[derive(Serialize, ToSchema)]
pub(crate) struct WindowPage {
    data: Vec<MaintenanceView>,
    next_cursor: Option<String>,
}

/// The machine's maintenance windows, newest first, those called off included.
#[utoipa::path(get, path = "/v1/machines/{id}/maintenance", tag = "provider", security(("bearer" = [])),
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"), PageParams),
    responses((status = 200, body = WindowPage)))]
async fn list(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<MachineId>,
    Params(page): Params<PageParams>,
) -> Result<Json<WindowPage>, Problem> {
    let limit = page_limit(page.limit)?;
    let list = format!("{LIST}:{id}");
    let before = match &page.cursor {
        Some(cursor) => {
            let [window] = cursor::read::<1>(&list, cursor)?;
            Some(window.parse().map_err(|_| cursor::invalid())?)
        }
        None => None,
    };
    let mut connection = app.store.read().await?;
    owned(&mut connection, &wallet, id).await?;
    let found = machines::windows(&mut connection, id, before, i64::from(limit)).await?;
    let full = found.len() >= usize::from(limit);
    let last = found.last().filter(|_| full).map(|window| window.id.to_string());
    let next_cursor = last.map(|id| cursor::write(&list, &[id]));
    let data = found.into_iter().map(window_view).collect();
    Ok(Json(WindowPage { data, next_cursor }))
}

/// Calls a window off. One that has begun ends now. Repeating it is harmless.
#[utoipa::path(delete, path = "/v1/machines/{id}/maintenance/{window}", tag = "provider",
    security(("bearer" = [])),
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("window" = String, Path, example = "mnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 204, description = "Called off.")))]
async fn cancel(
    State(app): State<AppState>,
    wallet: Wallet,
    Path((id, window)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let malformed =
        |error: domain::id::IdError| Problem::new(Code::InvalidRequest, error.to_string());
    let id: MachineId = id.parse().map_err(malformed)?;
    let window: WindowId = window.parse().map_err(malformed)?;
    let (account, now, policy) = (wallet.account.id, app.now(), app.store.policy());
    let ready = policy.funding_ttl.saturating_add(policy.ready_ttl);
    app.store
        .write("machines.cancel_window", move |tx| {
            Box::pin(async move {
                mine(tx, account, id).await?;
                let Some(found) = machines::find_window(tx, id, window).await? else {
                    return refuse(Problem::not_found("maintenance window"));
                };
                if found.cancelled_at.is_none() && found.during.to <= now {
                    return refuse(Problem::new(Code::StateConflict, "the window is over"));
                }
                if found.cancelled_at.is_some() {
                    return Ok(());
                }
                machines::cancel_window(tx, window, now).await?;
                let MaintenanceWindow { during, reason, .. } = found;
                let told = NewWindow { id: window, machine: id, during, reason, now };
                let runs = machines::runs_into(tx, id, during.from, ready).await?;
                in_turn(tx, &runs).await?;
                for runs in &runs {
                    notice(tx, runs.rental, "maintenance_cancelled", &told, now).await?;
                }
                Ok(())
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok(StatusCode::NO_CONTENT)
}
