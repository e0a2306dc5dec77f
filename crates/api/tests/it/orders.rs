//! Agents that wait for orders.

use std::time::Duration;

use domain::rental::RentalEvent;
use futures_util::future::select_all;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    fixture::{Reply, Rig, World},
    rpc,
};

/// Nothing here takes as long on a machine that is not stuck, and a wait that is woken is far shorter.
const PATIENCE: Duration = Duration::from_secs(20);

/// Begins to wait, in a task of its own, for half a minute.
fn wait(world: &World, rig: &Rig, known: &str) -> JoinHandle<Reply> {
    let call = world.get(&format!("/v1/agent/commands{known}")).auth(&rig.agent.token);
    tokio::spawn(call.header("prefer", "wait=30").send())
}

async fn answered(waiting: JoinHandle<Reply>) -> Reply {
    let answer = tokio::time::timeout(PATIENCE, waiting).await;
    answer.expect("nothing woke the agent that waits").unwrap()
}

/// One more wait than there are seats: whichever comes last is refused. Those that sit are left.
async fn refused(waiting: Vec<JoinHandle<Reply>>) -> Vec<JoinHandle<Reply>> {
    let first = tokio::time::timeout(PATIENCE, select_all(waiting)).await;
    let (reply, _, seated) = first.expect("nobody is refused");
    reply.unwrap().problem(503, "unavailable");
    assert!(seated.iter().all(|waiting| !waiting.is_finished()));
    seated
}

/// They hang up, and have gone.
async fn leave(seated: Vec<JoinHandle<Reply>>) {
    for waiting in seated {
        waiting.abort();
        waiting.await.unwrap_err();
    }
}

async fn booked(world: &World, rig: &Rig) -> String {
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    booking["rental"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_wakes_the_agent_that_waits_at_another_process() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let id = booked(&world, &rig).await;
    let rpc = rpc::start().await;
    // 60 s between two heartbeats, and no heartbeat is sent here at all
    let other = World::beside(world.store.clone(), world.clock.clone(), &rpc, |config| {
        config.heartbeat_interval = domain::time::Seconds(60);
    })
    .await;
    let waiting = wait(&other, &rig, "");
    // long enough for it to sit and wait, and no condition of the test: an order that is there is told at once
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "there is no order yet");
    world.advance(&id, RentalEvent::LockIncluded).await;
    let reply = answered(waiting).await;
    assert_eq!(reply.header("preference-applied"), "wait=30");
    let said = reply.ok(200);
    let commands = said["commands"].as_array().unwrap();
    assert_eq!(commands.len(), 1, "{said}");
    assert_eq!(
        (&commands[0]["kind"], &commands[0]["rental_id"]),
        (&json!("provision"), &json!(id))
    );
    // the same order by the other way, under the same id
    let beat = world.heartbeat(&rig.agent, &[]).await;
    assert_eq!(beat["commands"], said["commands"]);

    // at once while it is open, and not again to who has it
    let order = commands[0]["id"].as_str().unwrap();
    assert_eq!(answered(wait(&other, &rig, "")).await.ok(200), said);
    let known = format!("?known={order}");
    let waiting = wait(&other, &rig, &known);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "it has that one already");
    world.advance(&id, RentalEvent::LockDropped).await;
    let next = answered(waiting).await.ok(200);
    assert_eq!(next["commands"][0]["kind"], "deprovision");
    assert_eq!(next["commands"].as_array().unwrap().len(), 1, "the other one is overtaken");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_wait_is_answered_at_once_and_seats_are_few() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let ask = |path: &str| world.get(path).auth(&rig.agent.token).send();
    let reply = ask("/v1/agent/commands").await;
    assert_eq!(reply.header("preference-applied"), "");
    assert_eq!(reply.ok(200), json!({"commands": []}));
    let short = world.get("/v1/agent/commands").auth(&rig.agent.token).header("prefer", "wait=0");
    assert_eq!(short.send().await.header("preference-applied"), "wait=0");
    for bad in ["x", "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"] {
        ask(&format!("/v1/agent/commands?known={bad}")).await.problem(400, "invalid-request");
    }
    let id = "cmd_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f";
    let many = vec![id; 65].join(",");
    ask(&format!("/v1/agent/commands?known={many}")).await.problem(400, "invalid-request");
    let as_many = vec![id; 64].join(",");
    ask(&format!("/v1/agent/commands?known={as_many}")).await.ok(200);
    world
        .get("/v1/agent/commands")
        .auth(&rig.provider.token)
        .send()
        .await
        .problem(403, "forbidden");

    let seated = refused((0..3).map(|_| wait(&world, &rig, "")).collect()).await;
    // seats are given back by whoever goes away
    leave(seated).await;
    let id = booked(&world, &rig).await;
    let waiting = wait(&world, &rig, "");
    world.advance(&id, RentalEvent::LockIncluded).await;
    assert_eq!(answered(waiting).await.ok(200)["commands"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_waited_for_another_is_heard_of_when_that_is_done() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let one = booked(&world, &rig).await;
    world.advance(&one, RentalEvent::LockIncluded).await;
    world.advance(&one, RentalEvent::LockFinal { now: world.now() }).await;
    let first = world.sign_in(9).await;
    let stop = world.post(&format!("/v1/rentals/{one}/stop")).auth(&first.token).key("s");
    stop.send().await.ok(202);
    world.pass(2);
    let second = world.sign_in(10).await;
    let quote = world.quote(&second, &rig).await;
    let two = world.book(&second, &quote, "b").await.ok(201);
    let two = two["rental"]["id"].as_str().unwrap();
    world.advance(two, RentalEvent::LockIncluded).await;
    let open = answered(wait(&world, &rig, "")).await.ok(200);
    let order = open["commands"][0]["id"].as_str().unwrap();
    assert_eq!(open["commands"][0]["kind"], "deprovision");
    let waiting = wait(&world, &rig, &format!("?known={order}"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let ack = world.post(&format!("/v1/agent/commands/{order}/ack")).auth(&rig.agent.token);
    ack.json(&json!({"outcome": "ok"})).send().await.ok(200);
    let next = answered(waiting).await.ok(200);
    assert_eq!(
        (&next["commands"][0]["kind"], &next["commands"][0]["rental_id"]),
        (&json!("provision"), &json!(two))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_of_no_order_once_the_session_is_revoked() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let id = booked(&world, &rig).await;
    let waiting = wait(&world, &rig, "");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "there is no order yet");
    let revoke = "UPDATE sessions SET revoked_at = created_at WHERE machine_id IS NOT NULL";
    sqlx::raw_sql(revoke).execute(world.store.pool()).await.unwrap();
    world.advance(&id, RentalEvent::LockIncluded).await;
    answered(waiting).await.problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_wait_have_a_quarter_of_the_connections() {
    let world = World::with(|config| {
        config.connections = api::ConnectionConfig { most: 7, ..api::ConnectionConfig::default() };
    })
    .await;
    let (one, other) = (world.rig(1, 1, "0.65").await, world.rig(20, 1, "0.65").await);
    let seated = refused(vec![wait(&world, &one, ""), wait(&world, &other, "")]).await;
    // which is no refusal of what it sends
    world.heartbeat(&one.agent, &[]).await;
    world.heartbeat(&other.agent, &[]).await;
    leave(seated).await;
}
