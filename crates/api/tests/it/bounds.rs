//! What one party can do to the others, and what late words and old tokens do to a rental.

use domain::rental::RentalEvent;
use serde_json::{Value, json};

use crate::{
    fixture::{Person, Rig, World},
    running::Running,
};

async fn orders(world: &World, rig: &Rig) -> Vec<Value> {
    world.heartbeat(&rig.agent, &[]).await["commands"].as_array().unwrap().clone()
}

async fn ack(world: &World, rig: &Rig, order: &Value, body: Value) -> Value {
    let path = format!("/v1/agent/commands/{}/ack", order["id"].as_str().unwrap());
    world.post(&path).auth(&rig.agent.token).json(&body).send().await.ok(200)
}

async fn booked(world: &World, renter: &Person, rig: &Rig, key: &str) -> String {
    let quote = world.quote(renter, rig).await;
    let booking = world.book(renter, &quote, key).await.ok(201);
    booking["rental"]["id"].as_str().unwrap().to_owned()
}

fn kinds(orders: &[Value]) -> Vec<&str> {
    orders.iter().map(|order| order["kind"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_renter_waits_until_the_machine_is_rid_of_the_last() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let (first, second) = (world.sign_in(9).await, world.sign_in(10).await);
    let one = booked(&world, &first, &rig, "a").await;
    world.advance(&one, RentalEvent::LockIncluded).await;
    world.advance(&one, RentalEvent::LockFinal { now: world.now() }).await;
    let stop = world.post(&format!("/v1/rentals/{one}/stop")).auth(&first.token).key("s");
    stop.send().await.ok(202);
    world.pass(2);
    let two = booked(&world, &second, &rig, "b").await;
    world.advance(&two, RentalEvent::LockIncluded).await;

    let open = orders(&world, &rig).await;
    assert_eq!(kinds(&open), ["deprovision"]);
    assert_eq!(open[0]["rental_id"], one);
    ack(&world, &rig, &open[0], json!({"outcome": "failed"})).await;
    assert_eq!(kinds(&orders(&world, &rig).await), ["deprovision"], "it still runs there");
    ack(&world, &rig, &open[0], json!({"outcome": "ok"})).await;
    let open = orders(&world, &rig).await;
    assert_eq!(kinds(&open), ["provision"]);
    assert_eq!(open[0]["rental_id"], two);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_overtaken_is_not_given_and_its_late_answer_says_nothing() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let id = booked(&world, &renter, &rig, "a").await;
    world.advance(&id, RentalEvent::LockIncluded).await;
    let before = orders(&world, &rig).await;
    world.advance(&id, RentalEvent::LockDropped).await;
    let taken_back = orders(&world, &rig).await;
    assert_eq!(kinds(&taken_back), ["deprovision"]);
    world.advance(&id, RentalEvent::LockIncluded).await;
    let again = orders(&world, &rig).await;
    assert_eq!(kinds(&again), ["provision"], "the order to stop is overtaken");

    let failed = json!({"outcome": "failed", "reason": "image"});
    let said = ack(&world, &rig, &before[0], failed).await;
    assert_eq!((&said["acknowledged"], &said["state"]), (&json!(true), &json!("awaiting_funds")));
    ack(&world, &rig, &taken_back[0], json!({"outcome": "ok"})).await;
    ack(&world, &rig, &again[0], json!({"outcome": "ok"})).await;
    let ready = world.post(&format!("/v1/agent/rentals/{id}/ready")).auth(&rig.agent.token);
    ready.send().await.ok(200);
    let seen = world.get(&format!("/v1/rentals/{id}")).auth(&renter.token).send().await.ok(200);
    assert!(seen["end_reason"].is_null() && !seen["ready_at"].is_null(), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_left_the_list_still_ends_its_rentals() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    running.pass(&world, 20).await;
    running.append(&world, 0, 20).await;
    let unlist = "UPDATE tokens SET listed = false WHERE symbol = 'USDC'";
    sqlx::raw_sql(unlist).execute(world.store.pool()).await.unwrap();
    let listed = world.get("/v1/tokens").send().await.ok(200);
    assert!(!listed.to_string().contains("USDC"), "{listed}");
    assert_eq!(running.rental(&world).await["state"], "active");
    let stop = world.post(&format!("/v1/rentals/{}/stop", running.id));
    let said = stop.auth(&running.renter.token).key("s").send().await.ok(202);
    assert_eq!(said["preview"]["seconds_billed"], 20);
    assert_eq!(running.rental(&world).await["state"], "stopping");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_holds_so_many_gpus_without_a_deposit_and_no_more() {
    let world = World::with(|config| config.unfunded_limit = 1).await;
    let rigs = [world.rig(1, 1, "0.65").await, world.rig(20, 1, "0.65").await];
    let renter = world.sign_in(9).await;
    let one = booked(&world, &renter, &rigs[0], "a").await;
    let quote = world.quote(&renter, &rigs[1]).await;
    world.book(&renter, &quote, "b").await.problem(409, "state-conflict");
    // what is locked does not count
    world.advance(&one, RentalEvent::LockIncluded).await;
    world.book(&renter, &quote, "c").await.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_follows_so_many_rentals_at_once_and_no_more() {
    let world = World::with(|config| config.streams_per_account = 1).await;
    let running = Running::new(&world).await;
    let path = format!("/v1/rentals/{}/events", running.id);
    let renter = &running.renter.token;
    let stream = crate::events::Stream::open(&world, &running.id, renter, None).await;
    world.get(&path).auth(renter).send().await.problem(503, "unavailable");
    let provider = &running.rig.provider.token;
    crate::events::Stream::open(&world, &running.id, provider, None).await;
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_grows_with_time_and_not_faster() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    running.pass(&world, 10).await;
    running.append(&world, 0, 1).await;
    // as if it had sent as many as it may at any time
    let many = "INSERT INTO readings
                SELECT rental_id, 1 + g, from_at - interval '1 hour' + g * interval '1 ms',
                       from_at - interval '1 hour' + (g + 1) * interval '1 ms', detail, prev_hash,
                       sha256(g::text::bytea), signature, received_at, 1
                FROM readings, generate_series(1, 3599 + 5) g";
    sqlx::raw_sql(many).execute(world.store.pool()).await.unwrap();
    let head: Vec<u8> = sqlx::query_scalar("SELECT hash FROM readings ORDER BY seq DESC LIMIT 1")
        .fetch_one(world.store.pool())
        .await
        .unwrap();
    running.seq = 3_605;
    running.head = alloy::primitives::B256::from_slice(&head);
    let refused = running.send(&world, 1, 10).await;
    refused.problem(422, "reading-invalid");
    running.pass(&world, 4).await;
    running.append(&world, 1, 14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readings_detail_is_short() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    running.pass(&world, 10).await;
    let (mut reading, _) = running.next(0, 10);
    let detail = json!({"a": "x".repeat(1_024)});
    reading.detailHash = escrow::reading::detail_hash(&detail);
    let body = running.body(&reading, &detail, &running.rig.agent.key);
    running.post(&world, &body).await.problem(422, "validation-failed");
}
