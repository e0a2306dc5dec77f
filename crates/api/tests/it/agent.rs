//! Heartbeats, orders, and a machine getting ready.

use domain::rental::RentalEvent;
use serde_json::{Value, json};

use crate::fixture::{Rig, World};

async fn ack(world: &World, rig: &Rig, command: &Value, body: Value) -> crate::fixture::Reply {
    let path = format!("/v1/agent/commands/{}/ack", command["id"].as_str().unwrap());
    world.post(&path).auth(&rig.agent.token).json(&body).send().await
}

async fn only_command(world: &World, rig: &Rig) -> Value {
    let said = world.heartbeat(&rig.agent, &[]).await;
    let commands = said["commands"].as_array().unwrap();
    assert_eq!(commands.len(), 1, "{said:#}");
    commands[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_come_until_they_are_acknowledged() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    let id = booking["rental"]["id"].as_str().unwrap();
    let said = world.heartbeat(&rig.agent, &[id]).await;
    assert_eq!(said["commands"], json!([]), "nothing before the lock was seen");
    assert_eq!(
        (said["now_unix"].as_u64(), said["next_in_s"].as_u64()),
        (Some(1_800_000_000), Some(5))
    );
    assert_eq!(said["evidence"][0]["seq"], 0);
    assert!(said["evidence"][0]["not_before"].is_null());

    world.advance(id, RentalEvent::LockIncluded).await;
    let order = only_command(&world, &rig).await;
    assert_eq!(order, only_command(&world, &rig).await);
    assert_eq!((&order["kind"], &order["rental_id"]), (&json!("provision"), &json!(id)));
    assert_eq!(order["escrow_id"], quote["escrow_id"]);
    assert_eq!(order["payload"]["gpus"][0], booking["rental"]["gpus"][0]["uuid"]);

    let other = world.rig(20, 1, "0.65").await;
    ack(&world, &other, &order, json!({"outcome": "ok"})).await.problem(404, "not-found");
    let said = world.heartbeat(&other.agent, &[id]).await;
    assert_eq!(said["evidence"], json!([]), "another machine's rental");

    let said = ack(&world, &rig, &order, json!({"outcome": "ok"})).await.ok(200);
    assert_eq!((&said["acknowledged"], &said["state"]), (&json!(true), &json!("awaiting_funds")));
    ack(&world, &rig, &order, json!({"outcome": "ok"})).await.ok(200);
    assert_eq!(world.heartbeat(&rig.agent, &[id]).await["commands"], json!([]));

    // the lock leaves the chain: the order's opposite
    world.advance(id, RentalEvent::LockDropped).await;
    let order = only_command(&world, &rig).await;
    assert_eq!(order["kind"], "deprovision");
    let said = ack(&world, &rig, &order, json!({"outcome": "failed"})).await.ok(200);
    assert_eq!(said["acknowledged"], false, "it has to be tried again");
    only_command(&world, &rig).await;
    ack(&world, &rig, &order, json!({"outcome": "ok"})).await.ok(200);
    assert_eq!(world.heartbeat(&rig.agent, &[]).await["commands"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_gives_everything_back() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    let id = booking["rental"]["id"].as_str().unwrap();
    world.advance(id, RentalEvent::LockIncluded).await;
    world.advance(id, RentalEvent::LockFinal { now: world.now() }).await;
    let order = only_command(&world, &rig).await;
    let bad = json!({"outcome": "failed", "reason": "tired"});
    ack(&world, &rig, &order, bad).await.problem(400, "invalid-request");
    let why = json!({"outcome": "failed", "reason": "gpu_unavailable"});
    let said = ack(&world, &rig, &order, why).await.ok(200);
    assert_eq!(said["state"], "refunding");
    let seen = world.get(&format!("/v1/rentals/{id}")).auth(&renter.token).send().await.ok(200);
    assert_eq!(seen["end_reason"], "start_failed_gpu_unavailable");
    // too late now, and said so
    let ready = world.post(&format!("/v1/agent/rentals/{id}/ready")).auth(&rig.agent.token);
    ready.send().await.problem(409, "state-conflict");
    // an acknowledgement that was overtaken is no error
    ack(&world, &rig, &order, json!({"outcome": "ok"})).await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rental_is_active_once_lock_and_machine_are_there() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let booking = world.start(&renter, &rig).await;
    let id = booking["rental"]["id"].as_str().unwrap();
    let stranger = world.rig(20, 1, "0.65").await;
    let ready =
        |token: &str| world.post(&format!("/v1/agent/rentals/{id}/ready")).auth(token).send();
    ready(&stranger.agent.token).await.problem(404, "not-found");
    assert_eq!(ready(&rig.agent.token).await.ok(200)["state"], "active", "again is harmless");
    let said = world.heartbeat(&rig.agent, &[id]).await;
    assert_eq!(said["evidence"][0]["not_before"], 1_800_000_000_u64);
    let many: Vec<String> = (0..65).map(|_| id.to_owned()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let beat = world.post("/v1/agent/heartbeats").auth(&rig.agent.token);
    beat.json(&json!({"running": many})).send().await.problem(422, "validation-failed");
}
