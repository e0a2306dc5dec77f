//! Heartbeats, orders and what became of them.

use std::sync::Arc;

use alloy::primitives::B256;
use axum::{Json, extract::State};
use domain::{
    id::{CommandId, MachineId, RentalId},
    machine::Measured,
    rental::{FailReason, RentalEvent, RentalState},
    time::UnixSeconds,
};
use escrow::signed;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{
    TxError,
    advance::{self, AdvanceError},
    commands::{self, Command, CommandKind},
    deployment,
    ends::{self, Side},
    machines, quotes, reach, readings, rentals,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::self_test::{SelfTestView, checked, note, open_view};
use crate::{
    AppState, Problem,
    extract::{Body, Id},
    identity::{Agent, signature_bytes},
    problem::refuse,
    renter::hasten_if_signed,
    views::Time,
};

/// The most rentals that one machine can run: one per GPU.
const MAX_RUNNING: usize = 64;
/// Orders that one answer brings.
pub(super) const MAX_COMMANDS: i64 = 64;
/// The most bytes of their payloads, but for one order: agents read no answer beyond 1 MiB. What has no room comes later.
const MAX_PAYLOADS: usize = 512 * 1024;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(heartbeat)).routes(routes!(ack)).routes(routes!(ready))
}

/// What the machine does at present.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeartbeatRequest {
    /// The rentals that run on it, at most 64.
    #[schema(value_type = Vec<String>, example = json!(["rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"]))]
    running: Vec<RentalId>,
    /// What the agent found on its machine; sent with the first heartbeat and now and then.
    #[serde(default)]
    #[schema(value_type = Option<Object>, example = json!({"cpu_cores": 32, "ram_gb": 256}))]
    measured: Option<Measured>,
    /// Whether it runs what templates name. Left out, it stays as the service has it, which is no with each new session; sent
    /// by agents where the answer's `templates` says otherwise.
    #[serde(default)]
    #[schema(example = true)]
    templates: Option<bool>,
}

/// An order.
#[derive(Serialize, ToSchema)]
pub(crate) struct CommandView {
    #[schema(value_type = String, example = "cmd_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: CommandId,
    /// `provision`, `deprovision`, `sign_end` or `access`.
    #[schema(example = "provision")]
    kind: &'static str,
    #[schema(value_type = String, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    rental_id: RentalId,
    /// What readings of this rental name as `rental`.
    #[schema(value_type = String)]
    escrow_id: B256,
    payload: Value,
}

/// How far the evidence of a running rental is. Times are unix seconds, as readings sign them.
#[derive(Serialize, ToSchema)]
pub(crate) struct HeadView {
    #[schema(value_type = String, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    rental_id: RentalId,
    #[schema(value_type = String)]
    escrow_id: B256,
    #[schema(value_type = String, example = "active")]
    state: RentalState,
    /// Readings are taken from this second on; null while none are.
    not_before: Option<u64>,
    /// Readings may end here at the latest; null while the rental goes on.
    not_after: Option<u64>,
    /// The last reading that was taken; 0 before the first.
    seq: u64,
    /// Its end; null before the first.
    to: Option<u64>,
    /// Its hash, which the next one names; zero before the first.
    #[schema(value_type = String)]
    hash: B256,
}

/// The answer to a heartbeat.
#[derive(Serialize, ToSchema)]
pub(crate) struct HeartbeatAnswer {
    /// Open orders, oldest first, until they are acknowledged.
    commands: Vec<CommandView>,
    /// The service's clock.
    now: Time,
    /// The same in unix seconds, to measure one's own clock by.
    now_unix: u64,
    /// When to send the next heartbeat.
    #[schema(example = 5)]
    next_in_s: u32,
    /// Of each rental in `running` that is this machine's.
    evidence: Vec<HeadView>,
    /// Whether the service takes it that this machine runs templates.
    templates: bool,
    /// A self-test that waits for its answer; null if none does.
    self_test: Option<SelfTestView>,
}

/// Says that the machine is there, and fetches its orders.
#[utoipa::path(post, path = "/v1/agent/heartbeats", tag = "agent", security(("bearer" = [])),
    request_body = HeartbeatRequest, responses((status = 200, body = HeartbeatAnswer)))]
async fn heartbeat(
    State(app): State<AppState>,
    Agent(machine): Agent,
    Body(request): Body<HeartbeatRequest>,
) -> Result<Json<HeartbeatAnswer>, Problem> {
    if request.running.len() > MAX_RUNNING {
        return Err(Problem::invalid("/running", format!("at most {MAX_RUNNING} rentals")));
    }
    let now = app.now();
    let timeout = app.store.policy().evidence_timeout;
    let measured = request.measured.map(checked).transpose()?.map(Arc::new);
    let said = request.templates;
    let templates = app
        .store
        .write::<bool, Problem, _>("agent.heartbeat", move |tx| {
            let measured = measured.clone();
            Box::pin(async move {
                let templates = machines::heartbeat(tx, machine, now, timeout, said).await?;
                if let Some(measured) = measured {
                    note(tx, machine, &measured, now).await?;
                }
                Ok(templates)
            })
        })
        .await?;
    let mut connection = app.store.read().await?;
    let orders = commands::open(&mut connection, machine, &[], MAX_COMMANDS).await?;
    let mut evidence = Vec::new();
    for id in request.running {
        evidence.extend(head(&mut connection, machine, id).await?);
    }
    Ok(Json(HeartbeatAnswer {
        commands: views(orders),
        now: Time(now),
        now_unix: now.get(),
        next_in_s: app.config.heartbeat_interval.get(),
        evidence,
        templates,
        self_test: open_view(&mut connection, machine).await?,
    }))
}

/// Orders as they are told: as many as an agent can read.
pub(super) fn views(orders: Vec<Command>) -> Vec<CommandView> {
    let told = with_room(orders).map(|order| CommandView {
        id: order.id,
        kind: order.kind.as_str(),
        rental_id: order.rental,
        escrow_id: order.escrow_id,
        payload: order.payload,
    });
    told.collect()
}

/// The orders whose payloads an agent can read in one answer. A large one lets smaller ones pass, so that nothing hinders
/// an order to clean up.
fn with_room(orders: Vec<Command>) -> impl Iterator<Item = Command> {
    let mut room = None;
    orders.into_iter().filter(move |order| {
        let size = order.payload.to_string().len();
        let left = room.unwrap_or(MAX_PAYLOADS.max(size));
        let fits = size <= left;
        if fits {
            room = Some(left.saturating_sub(size));
        }
        fits
    })
}

async fn head(
    connection: &mut store::Connection,
    machine: MachineId,
    id: RentalId,
) -> Result<Option<HeadView>, Problem> {
    let rental = rentals::get(connection, id).await?;
    let Some(rental) = rental.filter(|rental| rental.machine == machine) else {
        return Ok(None);
    };
    let head = readings::head(connection, id).await?;
    Ok(Some(HeadView {
        rental_id: id,
        escrow_id: rental.escrow_id,
        state: rental.progress.state,
        not_before: rental.progress.started_at.map(UnixSeconds::get),
        not_after: rental.progress.stopped_at.map(UnixSeconds::get),
        seq: head.map_or(0, |head| head.seq),
        to: head.map(|head| head.to.get()),
        hash: head.map_or(B256::ZERO, |head| head.hash),
    }))
}

/// Whether an order was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AckOutcome {
    /// It was, or is being.
    Ok,
    /// It cannot be.
    Failed,
}

/// What became of an order.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AckRequest {
    #[schema(inline)]
    outcome: AckOutcome,
    /// With `sign_end`: the machine key's signature over the end, in hex.
    #[schema(example = "0x")]
    signature: Option<String>,
    /// Why a `provision` failed: `image`, `gpu_mismatch`, `gpu_unavailable`, `resources`,
    /// `unreachable` or `internal`.
    #[schema(value_type = Option<String>, example = "gpu_unavailable")]
    reason: Option<FailReason>,
}

/// The rental after an agent's word.
#[derive(Serialize, ToSchema)]
pub(crate) struct AgentAnswer {
    /// False if the order stays open: a machine that cannot clean up has to try again.
    acknowledged: bool,
    #[schema(value_type = String, example = "provisioning")]
    state: RentalState,
}

/// Acknowledges an order. Repeating it is harmless.
#[utoipa::path(post, path = "/v1/agent/commands/{id}/ack", tag = "agent", security(("bearer" = [])),
    params(("id" = String, Path, example = "cmd_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    request_body = AckRequest, responses((status = 200, body = AgentAnswer)))]
async fn ack(
    State(app): State<AppState>,
    Agent(machine): Agent,
    Id(id): Id<CommandId>,
    Body(request): Body<AckRequest>,
) -> Result<Json<AgentAnswer>, Problem> {
    let store = app.store.clone();
    let answer = store
        .write("agent.ack", move |tx| {
            let (app, request) = (app.clone(), request.clone());
            Box::pin(async move { acknowledge(tx, &app, machine, id, request).await })
        })
        .await
        .map_err(Problem::from)?;
    Ok(Json(answer))
}

async fn acknowledge(
    tx: &mut store::Connection,
    app: &AppState,
    machine: MachineId,
    id: CommandId,
    request: AckRequest,
) -> Result<AgentAnswer, TxError<Problem>> {
    let now = app.now();
    let Some(order) = commands::find(tx, machine, id).await? else {
        return refuse(Problem::not_found("order"));
    };
    // the rental before the order, as everybody who gives orders locks them
    readings::lock_rental(tx, order.rental).await?;
    let order = commands::find(tx, machine, id).await?.unwrap_or(order);
    if order.acked_at.is_some() {
        // said before, or about an order that its opposite has overtaken: it says nothing of the rental now
        tracing::info!(rental.id = %order.rental, command.id = %id, "an acknowledgement came late");
        return answer(tx, order.rental, true).await;
    }
    let reason = request.reason.unwrap_or(FailReason::Internal);
    let event = match (order.kind, request.outcome) {
        (CommandKind::Provision, AckOutcome::Ok) => Some(RentalEvent::AgentAcked),
        (CommandKind::Provision, AckOutcome::Failed) => Some(RentalEvent::AgentFailed { reason }),
        (CommandKind::Deprovision, AckOutcome::Ok) => Some(RentalEvent::AgentStopped),
        (CommandKind::Deprovision, AckOutcome::Failed) => None,
        (CommandKind::SignEnd, _) => return sign_end(tx, app, order, &request).await,
        (CommandKind::Access, outcome) => {
            if outcome == AckOutcome::Failed {
                tracing::warn!(rental.id = %order.rental, machine.id = %machine, "a machine does not change its keys");
            }
            commands::ack(tx, id, now).await?;
            return answer(tx, order.rental, true).await;
        }
    };
    let Some(event) = event else {
        tracing::warn!(rental.id = %order.rental, machine.id = %machine, "a machine cannot clean up");
        return answer(tx, order.rental, false).await;
    };
    match advance::apply(tx, app.store.policy(), order.rental, &event, now).await {
        Ok(_) => {}
        // the rental went on meanwhile: the order is overtaken, and that is no error of the agent's
        Err(AdvanceError::Illegal(error)) => {
            tracing::info!(rental.id = %order.rental, %error, "an acknowledgement came late");
        }
        Err(error) => return Err(error.into()),
    }
    if event == RentalEvent::AgentStopped {
        reach::forget(tx, order.rental).await?;
    }
    commands::ack(tx, id, now).await?;
    answer(tx, order.rental, true).await
}

/// The machine's word on how a rental ended. Without one the close goes on after a while, and the contract holds
/// the credited seconds.
async fn sign_end(
    tx: &mut store::Connection,
    app: &AppState,
    order: Command,
    request: &AckRequest,
) -> Result<AgentAnswer, TxError<Problem>> {
    let now = app.now();
    // the rental before the order, as everybody who gives orders locks them
    readings::lock_rental(tx, order.rental).await?;
    let rental =
        rentals::get(tx, order.rental).await?.ok_or(store::StoreError::Missing("the rental"))?;
    let open = ends::open(tx, order.rental).await?;
    if let (AckOutcome::Ok, None, Some((end, _))) = (request.outcome, order.acked_at, open) {
        let signature = request.signature.as_deref().and_then(signature_bytes);
        let contract = app.known(deployment::get(tx).await?).map_err(TxError::Refused)?;
        let domain = escrow::domain(contract.chain_id, contract.escrow);
        let told = signed::end(rental.escrow_id, end.stopped_at, end.credit);
        let machine = machines::get(tx, order.machine).await?;
        let signer = signature.and_then(|bytes| signed::recover(&told, &bytes, &domain).ok());
        let (Some(bytes), true) =
            (signature, signer.is_some() && signer == machine.and_then(|machine| machine.agent))
        else {
            let detail = "it is not by the machine's key over the end that waits to be told";
            return refuse(Problem::invalid("/signature", detail));
        };
        let quote = quotes::get(tx, rental.quote_id)
            .await?
            .ok_or(store::StoreError::Missing("the rental's quote"))?;
        ends::sign(tx, order.rental, Side::Provider, end, &bytes, now).await?;
        hasten_if_signed(tx, app, &rental, &quote, end).await?;
    }
    if request.outcome == AckOutcome::Failed {
        tracing::info!(rental.id = %order.rental, "the machine does not agree to the end");
    }
    commands::ack(tx, order.id, now).await?;
    answer(tx, order.rental, true).await
}

async fn answer(
    tx: &mut store::Connection,
    id: RentalId,
    acknowledged: bool,
) -> Result<AgentAnswer, TxError<Problem>> {
    let rental = rentals::get(tx, id).await?.ok_or(store::StoreError::Missing("the rental"))?;
    Ok(AgentAnswer { acknowledged, state: rental.progress.state })
}

/// Says that a rental's GPUs can be used. Billing begins once the lock is final, too.
#[utoipa::path(post, path = "/v1/agent/rentals/{id}/ready", tag = "agent", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = AgentAnswer)))]
async fn ready(
    State(app): State<AppState>,
    Agent(machine): Agent,
    Id(id): Id<RentalId>,
) -> Result<Json<AgentAnswer>, Problem> {
    let store = app.store.clone();
    let answer = store
        .write("agent.ready", move |tx| {
            let app = app.clone();
            Box::pin(async move {
                let rental = rentals::get(tx, id).await?;
                if rental.is_none_or(|rental| rental.machine != machine) {
                    return refuse(Problem::not_found("rental"));
                }
                let now = app.now();
                let event = RentalEvent::AgentReady { at: now };
                advance::apply(tx, app.store.policy(), id, &event, now).await?;
                answer(tx, id, true).await
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok(Json(answer))
}
