//! From booking to the request to stop.

use std::sync::Arc;

use domain::time::Seconds;
use serde_json::{Value, json};
use store::Store;
use testkit::{ManualClock, TestDb};

use crate::{
    fixture::{ESCROW, NOW, USDC, World, policy},
    rpc,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_says_how_to_lock_and_is_made_once() {
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let keyless = world.post("/v1/rentals").auth(&renter.token);
    let keyless = keyless.json(&json!({"quote_id": quote["id"]})).send().await;
    keyless.problem(400, "idempotency-key-missing");
    for key in ["", " ", &"k".repeat(256)] {
        world.book(&renter, &quote, key).await.problem(400, "idempotency-key-missing");
    }
    let first = world.book(&renter, &quote, "k1").await;
    assert_eq!(first.header("idempotent-replayed"), "");
    let location = first.header("location").to_owned();
    let booking = first.ok(201);
    let rental = &booking["rental"];
    assert_eq!(location, format!("/v1/rentals/{}", rental["id"].as_str().unwrap()));
    assert_eq!((&rental["state"], &rental["role"]), (&json!("awaiting_funds"), &json!("renter")));
    assert_eq!(rental["gpus"].as_array().unwrap().len(), 2);
    assert_eq!(rental["escrow_id"], quote["escrow_id"]);
    let funding = &booking["funding"];
    assert_eq!(funding["to"], format!("{ESCROW:#x}"));
    assert_eq!(funding["approve"]["to"], format!("{USDC:#x}"));
    assert_eq!(
        (&funding["value"], &funding["deadline"]),
        (&json!("0"), &json!("2027-01-15T08:02:00Z"))
    );
    assert_eq!(funding["typed_data"]["terms"], quote["eip712"]);
    let permit = &funding["typed_data"]["permit"];
    assert_eq!(permit["message"]["nonce"], "5");
    assert_eq!(permit["message"]["value"], "1300000");
    assert_eq!(permit["domain"]["name"], "USD Coin");

    world.pass(1);
    let replay = world.book(&renter, &quote, "k1").await;
    assert_eq!(replay.header("idempotent-replayed"), "true");
    assert_eq!(replay.header("location"), location);
    assert_eq!(replay.ok(201), booking);
    world.book(&renter, &quote, "k2").await.problem(409, "already-exists");
    // the first answer stays what it was, whatever becomes of the rental and of the token
    world.post(&format!("{location}/stop")).auth(&renter.token).key("stop").send().await.ok(202);
    sqlx::query("UPDATE tokens SET usd_micros = usd_micros * 2")
        .execute(world.store.pool())
        .await
        .unwrap();
    let replay = world.book(&renter, &quote, "k1").await;
    assert_eq!(replay.header("idempotent-replayed"), "true");
    assert_eq!(replay.ok(201), booking);
    let other = json!({"quote_id": world_quote(&world, &renter, 3).await["id"]});
    let reply = world.post("/v1/rentals").auth(&renter.token).key("k1").json(&other).send().await;
    reply.problem(422, "idempotency-mismatch");
    // keys are an account's own
    let stranger = world.sign_in(20).await;
    world.book(&stranger, &quote, "k1").await.problem(404, "not-found");
}

async fn world_quote(world: &World, renter: &crate::fixture::Person, seed: u8) -> Value {
    let rig = world.rig(seed, 1, "0.50").await;
    world.quote(renter, &rig).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_native_coin_is_sent_and_a_silent_chain_costs_the_permit_only() {
    let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
    let clock = Arc::new(ManualClock::new(NOW.millis()));
    let store = Store::from_pool(db.pool, clock.clone(), policy());
    let world = World::over(store, clock, &rpc::dead(), |_| {}).await;
    let renter = world.sign_in(9).await;
    let usdc = world_quote(&world, &renter, 1).await;
    let funding = world.book(&renter, &usdc, "a").await.ok(201)["funding"].clone();
    assert!(funding["typed_data"]["permit"].is_null() && funding["approve"].is_object());
    let rig = world.rig(3, 1, "0.50").await;
    let body = json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "POL"});
    let quote = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await.ok(201);
    let funding = world.book(&renter, &quote, "b").await.ok(201)["funding"].clone();
    assert_eq!(funding["value"], "1000000000000000000");
    assert!(funding["approve"].is_null() && funding["typed_data"]["permit"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_quote_is_not_booked() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    world.pass(119);
    let last = world.quote(&renter, &world.rig(3, 1, "0.65").await).await;
    world.pass(1);
    world.book(&renter, &quote, "k").await.problem(410, "quote-expired");
    world.book(&renter, &last, "l").await.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_bookings_of_one_gpu_one_is_made() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let mut quotes = Vec::new();
    for n in 0..64 {
        let renter = world.sign_in(100 + n).await;
        let quote = world.quote(&renter, &rig).await;
        quotes.push((renter, quote));
    }
    let bookings = quotes.iter().map(|(renter, quote)| world.book(renter, quote, "k"));
    let replies = futures_util::future::join_all(bookings).await;
    let (mut made, mut taken) = (0, 0);
    for reply in replies {
        if reply.status == 201 {
            made += 1;
        } else {
            reply.problem(409, "offer-taken");
            taken += 1;
        }
    }
    assert_eq!((made, taken), (1, 63));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_16_twins_all_get_the_one_answer() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let twins = (0..16).map(|_| world.book(&renter, &quote, "same"));
    let replies = futures_util::future::join_all(twins).await;
    let fresh =
        replies.iter().filter(|reply| reply.header("idempotent-replayed") != "true").count();
    assert_eq!(fresh, 1);
    let bodies: Vec<Value> = replies.into_iter().map(|reply| reply.ok(201)).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_does_not_wait_for_ever() {
    let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
    let clock = Arc::new(ManualClock::new(NOW.millis()));
    // as the service connects: with limits on waiting for locks
    let store = Store::connect(&db.url, 8, clock.clone(), policy()).await.unwrap();
    let world = World::over(store, clock, &rpc::start().await, |_| {}).await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let mut tx = db.pool.acquire().await.unwrap();
    sqlx::raw_sql(
        "BEGIN; INSERT INTO idempotency_keys (account_id, key, request_hash, status, response, created_at)
         SELECT account_id, 'k', decode(repeat('00', 32), 'hex'), 500, 'null', created_at FROM quotes",
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    world.book(&renter, &quote, "k").await.problem(409, "idempotency-in-flight");
    sqlx::raw_sql("ROLLBACK").execute(&mut *tx).await.unwrap();
    world.book(&renter, &quote, "k").await.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn either_side_stops_a_rental_and_nobody_else() {
    let world = World::new().await;
    let rig = crate::evictions::rig(&world, 1, 0).await;
    let renter = world.sign_in(9).await;
    let booking = world.start(&renter, &rig).await;
    let id = booking["rental"]["id"].as_str().unwrap();
    let path = format!("/v1/rentals/{id}");
    let stop =
        |token: &str, key: &str| world.post(&format!("{path}/stop")).auth(token).key(key).send();
    let stranger = world.sign_in(10).await;
    stop(&stranger.token, "x").await.problem(404, "not-found");
    world.get(&path).auth(&stranger.token).send().await.problem(404, "not-found");
    for view in ["receipt", "readings", "events"] {
        let reply = world.get(&format!("{path}/{view}")).auth(&stranger.token).send().await;
        reply.problem(404, "not-found");
    }
    let keyless = world.post(&format!("{path}/stop")).auth(&renter.token).send().await;
    keyless.problem(400, "idempotency-key-missing");
    stop(&renter.token, "start").await.problem(422, "idempotency-mismatch");

    world.pass(10);
    let first = stop(&rig.provider.token, "p").await.ok(202);
    assert_eq!(first["rental"]["state"], "stopping");
    assert_eq!(first["rental"]["role"], "provider");
    assert_eq!(first["rental"]["end_reason"], "provider_stop");
    // no evidence came: the first second is all that is billed
    assert_eq!(first["preview"]["seconds_billed"], 1);
    let replay = stop(&rig.provider.token, "p").await;
    assert_eq!(replay.header("idempotent-replayed"), "true");
    assert_eq!(replay.ok(202), first);
    // again, by the other side: it has ended already, and the first reason stays
    let second = stop(&renter.token, "r").await.ok(202);
    assert_eq!(second["rental"]["end_reason"], "provider_stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn rentals_are_listed_by_side_in_pages() {
    let world = World::new().await;
    let renter = world.sign_in(9).await;
    let mut booked = Vec::new();
    for n in 0..3_u8 {
        let quote = world_quote(&world, &renter, 30 + 2 * n).await;
        let said = world.book(&renter, &quote, &format!("k{n}")).await.ok(201);
        booked.insert(0, said["rental"]["id"].clone());
    }
    let mut seen = Vec::new();
    let mut path = "/v1/rentals?limit=2".to_owned();
    loop {
        let page = world.get(&path).auth(&renter.token).send().await.ok(200);
        seen.extend(page["data"].as_array().unwrap().iter().map(|rental| rental["id"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/v1/rentals?limit=2&cursor={cursor}");
        let other = format!("/v1/rentals?role=provider&cursor={cursor}");
        world.get(&other).auth(&renter.token).send().await.problem(400, "invalid-cursor");
    }
    assert_eq!(seen, booked);
    let none = world.get("/v1/rentals?role=provider").auth(&renter.token).send().await.ok(200);
    assert_eq!(none["data"], json!([]));
    assert_eq!(policy().quote_ttl, Seconds(120));
}
