//! Machines: what is registered before anything can be offered.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{
    id::{GpuId, MachineId},
    machine::{Service, Verification, gpu_uuid},
};
use serde::{Deserialize, Serialize};
use store::{
    TxError, gpu_models,
    machines::{self, EnrollToken, Gpu, Machine, NewMachine},
    offers,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    AppState, Code, Problem, access, cursor,
    extract::{Body, Id, IfMatch, Parameters, Params},
    identity::{Secret, Wallet},
    problem::{internal, refuse},
    views::{Time, page_limit},
};

mod keys;
mod request;
mod service;
mod verify;
mod view;
pub(crate) use request::{MAX_CPU_CORES, MAX_PORTS, MAX_RAM_GB, is_region, is_version};
use request::{MachinePatch, MachineRequest, validate, validate_declared, validate_gpus};
pub(crate) use service::{free_of_obstacles, in_the_way, time_of};
pub(crate) use view::{FactsView, StandingView, facts_view, is_online, standing_view};
use view::{MachineView, view};

const LIST: &str = "machines";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, change))
        .merge(keys::routes())
        .merge(verify::routes())
        .merge(service::routes())
}

/// A secret for the machine's agent.
#[derive(Serialize, ToSchema)]
pub(crate) struct EnrollTokenView {
    /// Shown once: give it to the agent.
    #[schema(example = "pZ4m0s3x1v5u7w9y2A4C6E8G0I2K4M6O8Q0S2U4W6Y8")]
    pub(super) enroll_token: String,
    pub(super) expires_at: Time,
}

/// A machine just registered.
#[derive(Serialize, ToSchema)]
pub(crate) struct MachineCreated {
    machine: MachineView,
    #[serde(flatten)]
    enroll: EnrollTokenView,
}

/// Machines of one account that are not retired: what one wallet takes of the market's memory has a bound.
const MOST: i64 = 5_000;

/// Registers a machine and gives out the token that its agent enrols with. An account may have 5,000 that are not retired.
#[utoipa::path(post, path = "/v1/machines", tag = "provider", security(("bearer" = [])),
    request_body = MachineRequest, responses((status = 201, body = MachineCreated)))]
async fn create(
    State(app): State<AppState>,
    wallet: Wallet,
    Body(request): Body<MachineRequest>,
) -> Result<(StatusCode, Json<MachineCreated>), Problem> {
    validate(&request)?;
    if wallet.key().is_some_and(access::is_limited) {
        return Err(access::outside("new machine"));
    }
    let (secret, enroll) = new_enroll_token(&app)?;
    let account = wallet.account.id;
    let (request, token, now) = (Arc::new(request), enroll.clone(), app.now());
    let machine = app
        .store
        .write("machines.create", move |tx| {
            let (request, enroll) = (request.clone(), token.clone());
            Box::pin(async move {
                validate_gpus(&request, &gpu_models::list(tx).await?).or_else(refuse)?;
                if machines::count(tx, account).await? >= MOST {
                    let detail = format!("an account may have {MOST} machines; retire one");
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                let gpus = request.gpus.iter().map(|gpu| Gpu {
                    id: GpuId::from_uuid(Uuid::now_v7()),
                    vendor_uuid: gpu_uuid(&gpu.uuid),
                    model: gpu.model.to_string(),
                });
                let (gpus, spec) = (gpus.collect(), request.spec());
                let id = MachineId::from_uuid(Uuid::now_v7());
                let new = NewMachine { id, account, spec, gpus, enroll, now };
                match machines::create(tx, &new).await {
                    Err(error) if error.is_conflict_on("gpus_vendor_uuid_key") => {
                        let detail = "one of these GPUs is registered already: a GPU is in the market once, and \
                                      is free again when the machine that has it is retired";
                        return refuse(Problem::new(Code::AlreadyExists, detail).at("/gpus", detail));
                    }
                    done => done?,
                }
                machines::declare(tx, id, &request.facts()).await?;
                stored(tx, id).await
            })
        })
        .await
        .map_err(Problem::from)?;
    let enroll = EnrollTokenView { enroll_token: secret.text, expires_at: Time(enroll.expires_at) };
    let created = MachineCreated { machine: view(machine, &app), enroll };
    Ok((StatusCode::CREATED, Json(created)))
}

async fn stored(tx: &mut store::Connection, id: MachineId) -> Result<Machine, TxError<Problem>> {
    machines::get(tx, id).await?.ok_or(store::StoreError::Missing("the machine").into())
}

fn new_enroll_token(app: &AppState) -> Result<(Secret, EnrollToken), Problem> {
    let secret = Secret::new()?;
    let expires_at = app.now().saturating_plus(app.config.enroll_ttl);
    let token = EnrollToken { hash: secret.hash, expires_at };
    Ok((secret, token))
}

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// 1 to 200; 50 if left out.
    pub(crate) limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
}

impl Parameters for PageParams {
    const NAMES: &'static [&'static str] = &["limit", "cursor"];
}

/// A page of machines.
#[derive(Serialize, ToSchema)]
pub(crate) struct MachinePage {
    data: Vec<MachineView>,
    next_cursor: Option<String>,
}

/// The caller's machines, oldest first.
#[utoipa::path(get, path = "/v1/machines", tag = "provider", security(("bearer" = [])),
    params(PageParams), responses((status = 200, body = MachinePage)))]
async fn list(
    State(app): State<AppState>,
    wallet: Wallet,
    Params(page): Params<PageParams>,
) -> Result<Json<MachinePage>, Problem> {
    let limit = page_limit(page.limit)?;
    let after = match &page.cursor {
        Some(cursor) => {
            let [id] = cursor::read::<1>(LIST, cursor)?;
            Some(id.parse().map_err(|_| cursor::invalid())?)
        }
        None => None,
    };
    let mut connection = app.store.read().await?;
    let found = machines::list(&mut connection, wallet.account.id, after, i64::from(limit)).await?;
    let full = found.len() >= usize::from(limit);
    let last = found.last().filter(|_| full).map(|machine| machine.id.to_string());
    let next_cursor = last.map(|id| cursor::write(LIST, &[id]));
    let seen = found
        .into_iter()
        .filter(|machine| wallet.key().is_none_or(|key| access::allows_machine(key, machine.id)));
    let data = seen.map(|machine| view(machine, &app)).collect();
    Ok(Json(MachinePage { data, next_cursor }))
}

/// The caller's machine with this id, for whoever may see it.
pub(super) async fn owned(
    connection: &mut store::Connection,
    wallet: &Wallet,
    id: MachineId,
) -> Result<Machine, Problem> {
    machines::get(connection, id)
        .await?
        .filter(|machine| machine.account == wallet.account.id)
        .ok_or_else(|| Problem::not_found("machine"))
}

fn etag(machine: &Machine) -> String {
    format!("\"{}\"", machine.version)
}

/// A machine with its tag.
fn tagged(machine: Machine, app: &AppState) -> Result<Response, Problem> {
    let tag = HeaderValue::from_str(&etag(&machine)).map_err(internal)?;
    let mut response = Json(view(machine, app)).into_response();
    response.headers_mut().insert(header::ETAG, tag);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// One of the caller's machines.
#[utoipa::path(get, path = "/v1/machines/{id}", tag = "provider", security(("bearer" = [])),
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = MachineView, headers(("ETag", description = "for If-Match")))))]
async fn read(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<MachineId>,
) -> Result<Response, Problem> {
    let mut connection = app.store.read().await?;
    let machine = owned(&mut connection, &wallet, id).await?;
    tagged(machine, &app)
}

/// Changes what is declared of a machine that is as the caller read it. A verified machine has to show anew what is
/// declared anew; what its agent measured cannot be declared.
#[utoipa::path(patch, path = "/v1/machines/{id}", tag = "provider", security(("bearer" = [])),
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("If-Match" = String, Header, description = "the ETag that was read")),
    request_body = MachinePatch,
    responses((status = 200, body = MachineView, headers(("ETag", description = "for If-Match")))))]
async fn change(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<MachineId>,
    condition: Option<IfMatch>,
    Body(patch): Body<MachinePatch>,
) -> Result<Response, Problem> {
    let detail = "a change of a machine needs If-Match with the ETag that was read";
    let condition = condition.ok_or_else(|| Problem::new(Code::PreconditionRequired, detail))?;
    let (condition, account, now) = (Arc::new(condition), wallet.account.id, app.now());
    let machine = app
        .store
        .write("machines.change", move |tx| {
            let (patch, condition) = (patch.clone(), condition.clone());
            Box::pin(async move {
                // no offer is made or changed meanwhile
                machines::hold_offers(tx, id).await?;
                machines::hold_machine(tx, id).await?;
                let machine = mine(tx, account, id).await?;
                let stale = |at: &Machine| {
                    Problem::new(Code::EtagMismatch, format!("the machine is at {} now", etag(at)))
                };
                if !condition.names(&etag(&machine)) {
                    return refuse(stale(&machine));
                }
                if machine.service == Service::Retired {
                    return refuse(retired());
                }
                shown_cannot_be_said(&machine, &patch).or_else(refuse)?;
                let (spec, facts) = patch.apply(&machine.spec, &machine.facts);
                validate_declared((&spec, &facts), &machine.spec).or_else(refuse)?;
                let promised = offers::promised_disk(tx, id).await?;
                if spec.disk_gb < machine.spec.disk_gb && spec.disk_gb < promised {
                    let detail = format!("an offer of it promises {promised} GB: change it first");
                    return refuse(
                        Problem::new(Code::StateConflict, detail.clone()).at("/disk_gb", detail),
                    );
                }
                if !machines::change(tx, id, machine.version, &spec, &facts).await? {
                    return refuse(stale(&machine));
                }
                let before = machines::MachineSpec { name: spec.name.clone(), ..machine.spec };
                let same = (before, machine.facts) == (spec, facts);
                if machine.standing.verification == Verification::Verified && !same {
                    let reason = "something else is declared than was shown: verify it again";
                    machines::set_verification(tx, id, Verification::Unverified, Some(reason), now)
                        .await?;
                }
                stored(tx, id).await
            })
        })
        .await
        .map_err(Problem::from)?;
    tagged(machine, &app)
}

/// Refuses what the agent has measured.
fn shown_cannot_be_said(machine: &Machine, patch: &MachinePatch) -> Result<(), Problem> {
    let Some((measured, _)) = &machine.measured else { return Ok(()) };
    let measured = serde_json::to_value(measured).map_err(internal)?;
    let shown: Vec<_> =
        patch.names().into_iter().filter(|name| measured.get(*name).is_some()).collect();
    if shown.is_empty() {
        return Ok(());
    }
    let mut problem = Problem::new(Code::ValidationFailed, "the machine's agent has measured this");
    for name in shown {
        problem = problem.at(format!("/{name}"), "measured by the agent; it cannot be declared");
    }
    Err(problem)
}

/// The account's machine with this id.
async fn mine(
    tx: &mut store::Connection,
    account: domain::id::AccountId,
    id: MachineId,
) -> Result<Machine, TxError<Problem>> {
    match machines::get(tx, id).await?.filter(|machine| machine.account == account) {
        Some(machine) => Ok(machine),
        None => refuse(Problem::not_found("machine")),
    }
}

fn retired() -> Problem {
    Problem::new(Code::StateConflict, "the machine is retired for good")
}
