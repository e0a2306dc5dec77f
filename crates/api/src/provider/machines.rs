//! Machines: what is registered before anything can be offered.

use alloy::primitives::Address;
use axum::{Json, extract::State, http::StatusCode};
use domain::{
    id::{GpuId, MachineId},
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};
use store::{
    gpu_models,
    machines::{self, EnrollToken, Gpu, Machine, MachineSpec, NewMachine},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    AppState, Code, Problem, cursor,
    extract::{Body, Id, Parameters, Params},
    identity::{Secret, Wallet},
    problem::refuse,
    state::ApiConfig,
    views::{Time, page_limit},
};

mod request;
pub(crate) use request::is_region;
use request::{MachineRequest, validate};

const LIST: &str = "machines";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read))
        .routes(routes!(renew_enroll_token))
}

/// A registered machine.
#[derive(Serialize, ToSchema)]
pub(crate) struct MachineView {
    #[schema(value_type = String, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: MachineId,
    name: String,
    region: String,
    cpu_cores: u32,
    ram_gb: u32,
    disk_gb: u32,
    gpus: Vec<GpuView>,
    /// The key that its agent signs with, once enrolled.
    #[schema(value_type = Option<String>)]
    agent: Option<Address>,
    enrolled_at: Option<Time>,
    last_heartbeat_at: Option<Time>,
    /// Whether its agent was heard of lately.
    online: bool,
    created_at: Time,
}

/// A GPU.
#[derive(Serialize, ToSchema)]
pub(crate) struct GpuView {
    #[schema(value_type = String, example = "gpu_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: GpuId,
    uuid: String,
    model: String,
}

/// Whether a machine that was heard of then is online now.
pub(crate) fn is_online(heard: Option<UnixSeconds>, config: &ApiConfig, now: UnixSeconds) -> bool {
    heard.is_some_and(|at| at.saturating_plus(config.offline_after) >= now)
}

fn view(machine: Machine, app: &AppState) -> MachineView {
    let spec = machine.spec;
    MachineView {
        id: machine.id,
        name: spec.name,
        region: spec.region,
        cpu_cores: spec.cpu_cores,
        ram_gb: spec.ram_gb,
        disk_gb: spec.disk_gb,
        gpus: machine
            .gpus
            .into_iter()
            .map(|gpu| GpuView { id: gpu.id, uuid: gpu.vendor_uuid, model: gpu.model })
            .collect(),
        agent: machine.agent,
        enrolled_at: machine.enrolled_at.map(Time),
        last_heartbeat_at: machine.last_heartbeat_at.map(Time),
        online: is_online(machine.last_heartbeat_at, &app.config, app.now()),
        created_at: Time(machine.created_at),
    }
}

/// A secret for the machine's agent.
#[derive(Serialize, ToSchema)]
pub(crate) struct EnrollTokenView {
    /// Shown once: give it to the agent.
    #[schema(example = "pZ4m0s3x1v5u7w9y2A4C6E8G0I2K4M6O8Q0S2U4W6Y8")]
    enroll_token: String,
    expires_at: Time,
}

/// A machine just registered.
#[derive(Serialize, ToSchema)]
pub(crate) struct MachineCreated {
    machine: MachineView,
    #[serde(flatten)]
    enroll: EnrollTokenView,
}

/// Registers a machine and gives out the token that its agent enrols with.
#[utoipa::path(post, path = "/v1/machines", tag = "provider", security(("bearer" = [])),
    request_body = MachineRequest, responses((status = 201, body = MachineCreated)))]
async fn create(
    State(app): State<AppState>,
    wallet: Wallet,
    Body(request): Body<MachineRequest>,
) -> Result<(StatusCode, Json<MachineCreated>), Problem> {
    validate(&request)?;
    let (secret, enroll) = new_enroll_token(&app)?;
    let new = NewMachine {
        id: MachineId::from_uuid(Uuid::now_v7()),
        account: wallet.account.id,
        spec: MachineSpec {
            name: request.name,
            region: request.region,
            cpu_cores: request.cpu_cores,
            ram_gb: request.ram_gb,
            disk_gb: request.disk_gb,
        },
        gpus: request
            .gpus
            .into_iter()
            .map(|gpu| Gpu {
                id: GpuId::from_uuid(Uuid::now_v7()),
                vendor_uuid: gpu.uuid,
                model: gpu.model.to_string(),
            })
            .collect(),
        enroll: enroll.clone(),
        now: app.now(),
    };
    let machine = app
        .store
        .write("machines.create", move |tx| {
            let new = new.clone();
            Box::pin(async move {
                let models = gpu_models::list(tx).await?;
                let unknown = |gpu: &&Gpu| models.iter().all(|model| model.slug != gpu.model);
                if let Some(gpu) = new.gpus.iter().find(unknown) {
                    let message = format!("{} is none of /v1/gpu-models", gpu.model);
                    return refuse(Problem::invalid("/gpus/0/model", message));
                }
                match machines::create(tx, &new).await {
                    Err(error) if error.is_conflict_on("gpus_vendor_uuid_key") => {
                        let detail = "one of these GPUs is registered already";
                        return refuse(Problem::new(Code::AlreadyExists, detail));
                    }
                    done => done?,
                }
                machines::get(tx, new.id)
                    .await?
                    .ok_or(store::StoreError::Missing("the machine").into())
            })
        })
        .await
        .map_err(Problem::from)?;
    let enroll = EnrollTokenView { enroll_token: secret.text, expires_at: Time(enroll.expires_at) };
    let created = MachineCreated { machine: view(machine, &app), enroll };
    Ok((StatusCode::CREATED, Json(created)))
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
    let data = found.into_iter().map(|machine| view(machine, &app)).collect();
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

/// One of the caller's machines.
#[utoipa::path(get, path = "/v1/machines/{id}", tag = "provider", security(("bearer" = [])),
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = MachineView)))]
async fn read(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<MachineId>,
) -> Result<Json<MachineView>, Problem> {
    let mut connection = app.store.read().await?;
    let machine = owned(&mut connection, &wallet, id).await?;
    Ok(Json(view(machine, &app)))
}

/// Replaces the enrolment token of a machine whose agent is not enrolled yet.
#[utoipa::path(post, path = "/v1/machines/{id}/enroll-token", tag = "provider",
    security(("bearer" = [])),
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 201, body = EnrollTokenView)))]
async fn renew_enroll_token(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<MachineId>,
) -> Result<(StatusCode, Json<EnrollTokenView>), Problem> {
    let mut connection = app.store.read().await?;
    owned(&mut connection, &wallet, id).await?;
    drop(connection);
    let (secret, enroll) = new_enroll_token(&app)?;
    let (account, token) = (wallet.account.id, enroll.clone());
    app.store
        .write("machines.renew_enroll_token", move |tx| {
            let token = token.clone();
            Box::pin(async move {
                if machines::renew_enroll_token(tx, account, id, &token).await? {
                    return Ok(());
                }
                let detail = "the machine's agent is enrolled already";
                refuse(Problem::new(Code::StateConflict, detail))
            })
        })
        .await
        .map_err(Problem::from)?;
    let answer = EnrollTokenView { enroll_token: secret.text, expires_at: Time(enroll.expires_at) };
    Ok((StatusCode::CREATED, Json(answer)))
}
