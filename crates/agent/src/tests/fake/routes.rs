//! The fake's answers.

use alloy::primitives::{Address, B256, Signature, hex};
use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use domain::{
    id::{CommandId, MachineId, RentalId, TestId},
    machine::{Check, Measured, review},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CHAIN, ENROLL_TOKEN, ESCROW_ID, Fake, World, readings::readings};
use crate::tests::{hex as unique_hex, machine};

pub(super) fn router(fake: Fake) -> Router {
    Router::new()
        .route("/v1/deployment", get(deployment))
        .route("/v1/agent/enroll", post(enroll))
        .route("/v1/agent/challenge", post(challenge))
        .route("/v1/agent/session", post(session))
        .route("/v1/agent/heartbeats", post(heartbeats))
        .route("/v1/agent/commands", get(wait))
        .route("/v1/agent/commands/{id}/ack", post(ack))
        .route("/v1/agent/rentals/{id}/access", post(reached))
        .route("/v1/agent/rentals/{id}/ready", post(ready))
        .route("/v1/agent/readings", post(readings))
        .route("/v1/agent/self-tests/{id}", post(self_test))
        .layer(middleware::from_fn_with_state(fake.clone(), disturb))
        .with_state(fake)
}

pub(super) type Answer = Result<Json<Value>, Refused>;

/// An error on its way out.
pub(super) struct Refused(pub(super) u16, pub(super) &'static str, pub(super) Value);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, code, extra) = self;
        let mut body = json!({ "code": code, "detail": "as the test wants it", "status": status });
        body.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
        (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
    }
}

pub(super) fn refused(status: u16, code: &'static str) -> Refused {
    Refused(status, code, json!({}))
}

async fn disturb(State(fake): State<Fake>, request: Request, next: Next) -> Response {
    let fault = fake.world().faults.pop_front();
    match fault {
        Some(status) => status.into_response(),
        None => next.run(request).await,
    }
}

async fn deployment() -> Json<Value> {
    Json(json!({ "chain_id": CHAIN, "escrow": Address::repeat_byte(9), "more": "is added later" }))
}

fn signer(text: &str, signature: &str) -> Address {
    let signature = Signature::from_raw(&hex::decode(signature).unwrap()).unwrap();
    signature.recover_address_from_msg(text.as_bytes()).unwrap()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnrollBody {
    enroll_token: String,
    agent_address: Address,
    signature: String,
}

async fn enroll(State(fake): State<Fake>, Json(body): Json<EnrollBody>) -> Answer {
    let mut world = fake.world();
    if body.enroll_token != ENROLL_TOKEN || world.agent.is_some() {
        return Err(refused(401, "enroll-invalid"));
    }
    let text = format!("weir-enroll:{CHAIN}:{ENROLL_TOKEN}");
    assert_eq!(signer(&text, &body.signature), body.agent_address);
    let machine = machine();
    world.agent = Some(body.agent_address);
    world.machine = Some(machine);
    world.enrolments += 1;
    Ok(Json(json!({ "machine_id": machine })))
}

async fn challenge(State(fake): State<Fake>) -> Json<Value> {
    let nonce = unique_hex();
    fake.world().nonce = Some(nonce.clone());
    Json(json!({ "nonce": nonce }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionBody {
    machine_id: MachineId,
    nonce: String,
    signature: String,
}

async fn session(State(fake): State<Fake>, Json(body): Json<SessionBody>) -> Answer {
    let mut world = fake.world();
    let text = format!("weir-agent:{CHAIN}:{}:{}", body.machine_id, body.nonce);
    if world.nonce.take().as_ref() != Some(&body.nonce)
        || world.machine != Some(body.machine_id)
        || world.agent != Some(signer(&text, &body.signature))
    {
        return Err(refused(401, "agent-invalid"));
    }
    let token = unique_hex();
    world.token = Some(token.clone());
    world.sign_ins += 1;
    Ok(Json(json!({ "token": token })))
}

pub(super) fn signed_in(world: &World, headers: &HeaderMap) -> Result<(), Refused> {
    let given = headers.get("authorization").and_then(|value| value.to_str().ok());
    let wanted = world.token.as_ref().map(|token| format!("Bearer {token}"));
    if wanted.is_some() && given == wanted.as_deref() {
        return Ok(());
    }
    Err(refused(401, "unauthenticated"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeartbeatBody {
    running: Vec<RentalId>,
    measured: Option<Measured>,
    templates: Option<bool>,
}

async fn heartbeats(
    State(fake): State<Fake>,
    headers: HeaderMap,
    Json(body): Json<HeartbeatBody>,
) -> Answer {
    let now = fake.now();
    let mut world = fake.world();
    signed_in(&world, &headers)?;
    if world.lose_beats > 0 {
        world.lose_beats -= 1;
        return Err(refused(503, "unavailable"));
    }
    let standing = |rental: &RentalId| {
        json!({
            "rental_id": rental, "escrow_id": ESCROW_ID, "state": "active",
            "not_before": world.started_at, "not_after": world.stopped_at,
            "seq": world.head.map_or(0, |head| head.seq), "to": world.head.map(|head| head.to),
            "hash": world.head.map_or(B256::ZERO, |head| head.hash),
        })
    };
    if body.templates.is_some() && world.refuse_templates > 0 {
        world.refuse_templates -= 1;
        return Err(refused(400, "invalid-request"));
    }
    let evidence: Vec<Value> = body.running.iter().map(standing).collect();
    let command = |(id, kind, rental): &(CommandId, &str, RentalId)| {
        let mut payload = json!({ "gpus": ["GPU-1"], "ssh_keys": world.ssh_keys });
        payload.as_object_mut().unwrap().extend(world.ordered.clone());
        json!({ "id": id, "kind": kind, "rental_id": rental, "escrow_id": ESCROW_ID, "payload": payload })
    };
    let commands: Vec<Value> = world.open.iter().map(command).collect();
    world.running.push(body.running);
    world.measured.extend(body.measured);
    if let Some(said) = body.templates {
        let known = world.templates.as_mut().expect("an older service does not know it");
        *known = said;
        world.templates_said += 1;
    }
    let self_test =
        world.self_test.as_ref().map(|(id, asked)| json!({ "id": id, "requirements": asked }));
    let mut answer = json!({
        "commands": commands, "now": "2026-01-31T12:00:00Z", "now_unix": now, "next_in_s": world.next_in_s.unwrap_or(1),
        "evidence": evidence, "self_test": self_test,
    });
    if let Some(templates) = world.templates {
        answer["templates"] = templates.into();
    }
    Ok(Json(answer))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaitQuery {
    known: String,
}

/// Waits as it is asked to for an order that is not known.
async fn wait(
    State(fake): State<Fake>,
    headers: HeaderMap,
    Query(query): Query<WaitQuery>,
) -> Answer {
    if !fake.world().rings {
        return Err(refused(404, "not-found"));
    }
    signed_in(&fake.world(), &headers)?;
    assert_eq!(headers["prefer"], "wait=30");
    {
        let mut world = fake.world();
        world.waits += 1;
        world.early_waits += u32::from(world.running.is_empty());
    }
    let known: Vec<&str> = query.known.split(',').collect();
    for _ in 0..600 {
        let open: Vec<Value> = {
            let world = fake.world();
            let fresh = world.open.iter().filter(|(id, _, _)| !known.contains(&&*id.to_string()));
            fresh
                .map(|(id, kind, _)| json!({ "id": id, "kind": kind, "more": "is not read" }))
                .collect()
        };
        if !open.is_empty() {
            return Ok(Json(json!({ "commands": open })));
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(Json(json!({ "commands": [] })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelfTestBody {
    checks: Vec<Check>,
    measured: Measured,
    signature: String,
}

async fn self_test(
    State(fake): State<Fake>,
    Path(id): Path<TestId>,
    headers: HeaderMap,
    Json(body): Json<SelfTestBody>,
) -> Answer {
    let mut world = fake.world();
    signed_in(&world, &headers)?;
    if world.refuse_tests {
        world.refused_tests += 1;
        return Err(refused(422, "validation-failed"));
    }
    let Some((_, asked)) = world.self_test.take_if(|(open, _)| *open == id) else {
        return Err(refused(409, "state-conflict"));
    };
    let digest = escrow::reading::detail_hash(&serde_json::to_value(&body.checks).unwrap());
    let text = format!("weir-checks:{CHAIN}:{}:{id}:{digest}", world.machine.unwrap());
    assert_eq!(Some(signer(&text, &body.signature)), world.agent);
    let passed = review(&asked, &body.checks).unwrap();
    world.measured.push(body.measured);
    world.tested.push((passed, body.checks));
    Ok(Json(json!({ "passed": passed, "verification": "verified" })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AckBody {
    outcome: String,
    reason: Option<domain::rental::FailReason>,
}

async fn ack(
    State(fake): State<Fake>,
    Path(id): Path<CommandId>,
    headers: HeaderMap,
    Json(body): Json<AckBody>,
) -> Answer {
    let mut world = fake.world();
    signed_in(&world, &headers)?;
    world.acks.push((id, json!({ "outcome": body.outcome, "reason": body.reason })));
    if world.lose_acks > 0 {
        world.lose_acks -= 1;
        return Err(refused(500, "internal"));
    }
    world.open.retain(|(open, _, _)| *open != id);
    if world.lose_answers > 0 {
        world.lose_answers -= 1;
        return Err(refused(500, "internal"));
    }
    Ok(Json(json!({ "acknowledged": true, "state": "provisioning" })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReachBody {
    host: String,
    ports: Vec<domain::reach::OpenPort>,
}

async fn reached(
    State(fake): State<Fake>,
    Path(id): Path<RentalId>,
    headers: HeaderMap,
    Json(body): Json<ReachBody>,
) -> Answer {
    let mut world = fake.world();
    if world.knows_no_reach {
        return Err(refused(404, "not-found"));
    }
    signed_in(&world, &headers)?;
    let said = json!({ "host": body.host, "ports": body.ports });
    let readies = world.readies;
    world.told.push((readies, id, said.clone()));
    Ok(Json(said))
}

async fn ready(State(fake): State<Fake>, Path(_id): Path<RentalId>, headers: HeaderMap) -> Answer {
    let mut world = fake.world();
    signed_in(&world, &headers)?;
    world.readies += 1;
    Ok(Json(json!({ "acknowledged": true, "state": "provisioning" })))
}
