//! Machines' keys: replaced, revoked, shut out.

use alloy::signers::local::PrivateKeySigner;
use axum::Router;
use domain::{
    machine::Verification,
    money::Amount,
    rental::{CloseOutcome, RentalEvent},
    time::{Seconds, UnixSeconds},
};
use serde_json::{Value, json};
use store::{
    machines::{self, Contact},
    rentals::MoneyDelta,
    revocations::{Heard, Listener},
};

use crate::{
    fixture::{Person, Reply, Rig, World, key},
    http::Call,
    running::{Running, START},
};

/// Another process of the same service.
fn elsewhere(world: &World) -> Router {
    let chain = world.state.chain.clone();
    let config = api::ApiConfig::clone(&world.state.config);
    api::router(api::AppState::new(world.store.clone(), chain, config, None))
}

async fn beat(router: &Router, token: &str) -> Reply {
    let call = Call::new(router, "POST", "/v1/agent/heartbeats").auth(token);
    call.json(&json!({"running": []})).send().await
}

async fn new_token(world: &World, rig: &Rig) -> String {
    let path = format!("/v1/machines/{}/enroll-token", rig.machine);
    let said = world.post(&path).auth(&rig.provider.token).send().await.ok(201);
    said["enroll_token"].as_str().unwrap().to_owned()
}

async fn machine(world: &World, rig: &Rig) -> Value {
    let path = format!("/v1/machines/{}", rig.machine);
    world.get(&path).auth(&rig.provider.token).send().await.ok(200)
}

async fn sign_in(world: &World, rig: &Rig, agent: &PrivateKeySigner) -> Person {
    let said = world.agent_session(agent, &rig.machine).await.ok(201);
    Person { key: agent.clone(), token: said["token"].as_str().unwrap().to_owned() }
}

async fn revoke(world: &World, rig: &Rig, who: &Person) -> Reply {
    let path = format!("/v1/machines/{}/agent-key", rig.machine);
    world.call("DELETE", &path).auth(&who.token).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_takes_the_place_of_the_old_one_at_once_and_everywhere() {
    let world = World::new().await;
    let other = elsewhere(&world);
    let rig = world.rig(1, 1, "0.65").await;
    let id = rig.machine.parse().unwrap();
    let now = world.now();
    let shown = world.store.write::<_, (), _>("test.shown", move |tx| {
        let verified = Verification::Verified;
        Box::pin(async move { Ok(machines::set_verification(tx, id, verified, None, now).await?) })
    });
    shown.await.unwrap();
    let before = machine(&world, &rig).await;
    assert_eq!(before["agent"], json!(rig.agent.key.address()));
    assert_eq!(before["enrolled_at"], "2027-01-15T08:00:00Z");

    // the provider may have a token at any time, and the agent goes on until it is used
    new_token(&world, &rig).await;
    let token = new_token(&world, &rig).await;
    world.pass(60);
    beat(&world.router, &rig.agent.token).await.ok(200);
    beat(&other, &rig.agent.token).await.ok(200);
    let session: uuid::Uuid =
        sqlx::query_scalar("SELECT id FROM sessions WHERE machine_id IS NOT NULL")
            .fetch_one(world.store.pool())
            .await
            .unwrap();
    let mut listener = Listener::start(&world.store).await.unwrap();
    let fresh = key(40);
    assert_eq!(world.enroll(&fresh, &token).await.ok(201)["machine_id"], rig.machine);
    // other processes hear of it, and none takes the old session
    while listener.next().await.unwrap() != Heard::Revoked(session) {}
    beat(&world.router, &rig.agent.token).await.problem(401, "unauthenticated");
    beat(&other, &rig.agent.token).await.problem(401, "unauthenticated");
    world.agent_session(&rig.agent.key, &rig.machine).await.problem(401, "agent-invalid");
    let agent = sign_in(&world, &rig, &fresh).await;
    beat(&other, &agent.token).await.ok(200);
    let after = machine(&world, &rig).await;
    assert_eq!(after["agent"], json!(fresh.address()));
    assert_eq!(after["enrolled_at"], "2027-01-15T08:01:00Z");
    assert_eq!(after["standing"]["verification"], "unverified");
    let reason = after["standing"]["reason"].as_str().unwrap();
    assert_eq!(reason, "the key of its agent was replaced: verify it again");

    // an answer that was lost is given again, and ends nothing
    world.enroll(&fresh, &token).await.ok(201);
    beat(&world.router, &agent.token).await.ok(200);
    // the old key is nobody's for ever
    let token = new_token(&world, &rig).await;
    world.enroll(&rig.agent.key, &token).await.problem(409, "already-exists");
    let said = world.machine(&world.sign_in(5).await, 1).await;
    let theirs = said["enroll_token"].as_str().unwrap();
    world.enroll(&rig.agent.key, theirs).await.problem(409, "already-exists");
    beat(&world.router, &agent.token).await.ok(200);
    // the same key with a new token stays, and its sessions begin anew
    world.enroll(&fresh, &token).await.ok(201);
    beat(&world.router, &agent.token).await.problem(401, "unauthenticated");
    sign_in(&world, &rig, &fresh).await;
    world.enroll(&key(41), &token).await.problem(401, "enroll-invalid");
    assert_eq!(machine(&world, &rig).await["enrolled_at"], "2027-01-15T08:01:00Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_revoked_speaks_for_nobody() {
    let world = World::new().await;
    let other = elsewhere(&world);
    let rig = world.rig(1, 1, "0.65").await;
    beat(&other, &rig.agent.token).await.ok(200);
    let stranger = world.sign_in(7).await;
    revoke(&world, &rig, &stranger).await.problem(404, "not-found");
    beat(&other, &rig.agent.token).await.ok(200);
    let lying_there = new_token(&world, &rig).await;
    for _ in 0..2 {
        revoke(&world, &rig, &rig.provider).await.ok(204);
        beat(&world.router, &rig.agent.token).await.problem(401, "unauthenticated");
        beat(&other, &rig.agent.token).await.problem(401, "unauthenticated");
    }
    world.agent_session(&rig.agent.key, &rig.machine).await.problem(401, "agent-invalid");
    // nor does whoever has the host enrol with a token that was left on it, whether there is a key or not
    world.enroll(&key(41), &lying_there).await.problem(401, "enroll-invalid");
    let lying_there = new_token(&world, &rig).await;
    revoke(&world, &rig, &rig.provider).await.ok(204);
    world.enroll(&key(41), &lying_there).await.problem(401, "enroll-invalid");
    let seen = machine(&world, &rig).await;
    assert_eq!((&seen["agent"], &seen["enrolled_at"]), (&Value::Null, &Value::Null));
    let token = new_token(&world, &rig).await;
    world.enroll(&rig.agent.key, &token).await.problem(409, "already-exists");
    world.enroll(&key(40), &token).await.ok(201);
    beat(&other, &sign_in(&world, &rig, &key(40)).await.token).await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_machines_agent_is_shut_out() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let token = new_token(&world, &rig).await;
    let path = format!("/v1/machines/{}/retire", rig.machine);
    world.post(&path).auth(&rig.provider.token).send().await.ok(200);
    beat(&world.router, &rig.agent.token).await.problem(401, "unauthenticated");
    beat(&elsewhere(&world), &rig.agent.token).await.problem(401, "unauthenticated");
    world.agent_session(&rig.agent.key, &rig.machine).await.problem(401, "agent-invalid");
    world.enroll(&key(40), &token).await.problem(401, "enroll-invalid");
    world.enroll(&rig.agent.key, &token).await.problem(401, "enroll-invalid");
    let path = format!("/v1/machines/{}/enroll-token", rig.machine);
    world.post(&path).auth(&rig.provider.token).send().await.problem(409, "state-conflict");
}

/// All readings of a rental are signed by one key, by which its receipt is checked for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_rental_that_runs_keeps_its_machines_key_and_its_receipt_names_it() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    let started_at = UnixSeconds(START);
    world.advance(&running.id, RentalEvent::StartFinal { started_at }).await;
    running.pass(&world, 20).await;
    running.append(&world, 0, 20).await;
    let token = new_token(&world, &running.rig).await;
    let fresh = key(40);
    let refused = world.enroll(&fresh, &token).await.problem(409, "state-conflict");
    assert!(refused["detail"].as_str().unwrap().contains("a rental of the machine runs"));
    running.pass(&world, 20).await;
    running.append(&world, 20, 40).await;
    let stop = world.post(&format!("/v1/rentals/{}/stop", running.id));
    stop.auth(&running.renter.token).key("s").send().await.ok(202);
    world.enroll(&fresh, &token).await.problem(409, "state-conflict");
    world.advance(&running.id, RentalEvent::AgentStopped).await;
    world.enroll(&fresh, &token).await.ok(201);
    let agent = sign_in(&world, &running.rig, &fresh).await;

    // what the old key signs counts no more, whoever brings it
    let (reading, detail) = running.next(40, 41);
    let body = running.body(&reading, &detail, &running.rig.agent.key);
    let brought = world.post("/v1/agent/readings").auth(&agent.token).json(&body).send().await;
    brought.problem(422, "reading-signature-invalid");
    // nor if its signature was looked at before the key was replaced
    beat(&world.router, &agent.token).await.ok(200);
    let (id, now) = (running.rig.machine.parse().unwrap(), world.now());
    let mut connection = world.store.read().await.unwrap();
    let old = running.rig.agent.key.address();
    let known = Some(Contact { since: Some(started_at) });
    for (agent, contact) in [(old, None), (fresh.address(), known)] {
        let timeout = Seconds(30);
        let found = machines::contact(&mut connection, (id, agent), now, timeout).await;
        assert_eq!(found.unwrap(), contact, "{agent}");
    }
    drop(connection);

    let units = |value: u128| Amount::new(value).unwrap();
    let delta = MoneyDelta {
        provider: units(6_356),
        fee: units(866),
        refund: units(642_778),
        billed: Some(Seconds(40)),
        ..MoneyDelta::default()
    };
    world.pay(&running.id, delta).await;
    let outcome = CloseOutcome::ClosedByOperator;
    world.advance(&running.id, RentalEvent::ClosedFinal { outcome }).await;
    let path = format!("/v1/rentals/{}/receipt", running.id);
    let receipt = world.get(&path).auth(&running.renter.token).send().await.ok(200);
    assert_eq!(receipt["readings"]["agent"], json!(running.rig.agent.key.address()));
    assert_eq!(receipt["readings"]["count"], 2);
}

/// A stolen key can be revoked while a rental runs: its time from then on is an outage.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_revoked_while_a_rental_runs_and_replaced_when_it_has_ended() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    running.pass(&world, 10).await;
    running.append(&world, 0, 10).await;
    revoke(&world, &running.rig, &running.rig.provider).await.ok(204);
    world.pass(5);
    running.send(&world, 10, 15).await.problem(401, "unauthenticated");
    let token = new_token(&world, &running.rig).await;
    world.enroll(&key(40), &token).await.problem(409, "state-conflict");
    let stop = world.post(&format!("/v1/rentals/{}/stop", running.id));
    stop.auth(&running.renter.token).key("s").send().await.ok(202);
    world.advance(&running.id, RentalEvent::AgentStopped).await;
    world.enroll(&key(40), &token).await.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_in_while_the_key_is_replaced_waits_and_is_refused() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let mut somebody = world.store.pool().acquire().await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT FROM machines FOR UPDATE").execute(&mut *somebody).await.unwrap();
    let signing_in = world.agent_session(&rig.agent.key, &rig.machine);
    let mut signing_in = std::pin::pin!(signing_in);
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut signing_in).await;
    assert!(early.is_err(), "it waits");
    sqlx::query("UPDATE machines SET agent_key = $1")
        .bind(key(40).address().to_vec())
        .execute(&mut *somebody)
        .await
        .unwrap();
    sqlx::raw_sql("COMMIT").execute(&mut *somebody).await.unwrap();
    signing_in.await.problem(401, "agent-invalid");
}

/// Does this while somebody enrols, who has to wait for it.
async fn while_enrolling(
    world: &World,
    agent: &PrivateKeySigner,
    token: &str,
    sql: &'static str,
) -> Reply {
    let mut somebody = world.store.pool().acquire().await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT FROM machines FOR UPDATE").execute(&mut *somebody).await.unwrap();
    let mut enrolling = std::pin::pin!(world.enroll(agent, token));
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut enrolling).await;
    assert!(early.is_err(), "it waits");
    sqlx::raw_sql(sql).execute(&mut *somebody).await.unwrap();
    sqlx::raw_sql("COMMIT").execute(&mut *somebody).await.unwrap();
    enrolling.await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_enrols_a_key_while_it_is_revoked_is_refused() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let said = world.machine(&world.sign_in(5).await, 1).await;
    let theirs = said["enroll_token"].as_str().unwrap();
    let own = new_token(&world, &rig).await;
    let revoked = "INSERT INTO ended_agent_keys (agent_key, machine_id, enrolled_at, ended_at)
                   SELECT agent_key, id, enrolled_at, enrolled_at FROM machines WHERE agent_key IS NOT NULL;
                   UPDATE machines SET agent_key = NULL, enrolled_at = NULL WHERE agent_key IS NOT NULL";
    let reply = while_enrolling(&world, &rig.agent.key, &own, revoked).await;
    reply.problem(409, "already-exists");
    // whatever the machine
    world.enroll(&rig.agent.key, theirs).await.problem(409, "already-exists");
    assert_eq!(machine(&world, &rig).await["agent"], Value::Null);
    world.enroll(&key(40), &own).await.ok(201);
    // that a key is noted already is no reason to keep it
    sqlx::query(
        "INSERT INTO ended_agent_keys (agent_key, machine_id, enrolled_at, ended_at)
         SELECT agent_key, id, enrolled_at, enrolled_at FROM machines WHERE agent_key IS NOT NULL",
    )
    .execute(world.store.pool())
    .await
    .unwrap();
    revoke(&world, &rig, &rig.provider).await.ok(204);
    assert_eq!(machine(&world, &rig).await["agent"], Value::Null);
}
