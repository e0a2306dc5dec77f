//! Prices, and what is not priced.

use serde_json::{Value, json};

use crate::fixture::{ESCROW, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_says_everything_that_a_renter_pays_by() {
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    // 2 GPUs at 0.65 for an hour, in a token of 6 decimals at 1 dollar
    assert_eq!(quote["subtotal"]["amount"], "1.300000");
    assert_eq!(quote["deposit"]["base_units"], "1300000");
    assert_eq!(quote["deposit"]["chain"], "eip155:31337");
    assert_eq!(quote["rate"]["per_hour"]["base_units"], "1300000");
    assert_eq!(quote["fee"]["bps"], 1_200);
    assert_eq!(quote["fee"]["amount"]["base_units"], "156000");
    assert_eq!(quote["provider_max"]["base_units"], "1144000");
    assert_eq!(quote["lines"][0]["qty_estimate"], 7_200);
    assert_eq!(quote["lines"][0]["max"]["amount"], "1.300000");
    assert_eq!(quote["expires_at"], "2027-01-15T08:02:00Z");
    assert_eq!(quote["eip712"]["message"]["pricePerHour"], "1300000");
    assert_eq!(quote["eip712"]["domain"]["verifyingContract"], format!("{ESCROW:#x}"));
    let path = format!("/v1/quotes/{}", quote["id"].as_str().unwrap());
    assert_eq!(world.get(&path).auth(&renter.token).send().await.ok(200), quote);
    world.get(&path).auth(&rig.provider.token).send().await.problem(404, "not-found");
    // the same order again is another rental on the chain
    assert_ne!(world.quote(&renter, &rig).await["escrow_id"], quote["escrow_id"]);
    let body = json!({"offer_id": rig.offer, "duration_s": 60, "token": "POL"});
    let native = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await.ok(201);
    // 1.30 dollars an hour at 0.50 a coin, for a minute, rounded up
    assert_eq!(native["deposit"]["base_units"], "43333333333333334");
}

/// Whoever can write to the database names a contract of its own there.
#[tokio::test(flavor = "multi_thread")]
async fn another_contract_in_the_deployments_row_is_not_quoted_and_not_booked() {
    let named = |escrow| move |config: &mut api::ApiConfig| config.escrow = escrow;
    let world = World::with(named(Some(ESCROW))).await;
    let rig = world.rig(1, 2, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let thief = alloy::primitives::Address::repeat_byte(0x66);
    sqlx::query("UPDATE deployment SET escrow = $1")
        .bind(thief.as_slice())
        .execute(world.store.pool())
        .await
        .unwrap();
    // a process that read the row before says on the true one, and takes no new work
    let still = world.quote(&renter, &rig).await;
    assert_eq!(still["eip712"]["domain"]["verifyingContract"], format!("{ESCROW:#x}"));
    let told = world.get("/readyz").send().await.problem(503, "not-ready");
    assert!(told["detail"].as_str().unwrap().contains("another escrow contract"), "{told}");
    world.get("/v1/deployment").send().await.problem(503, "not-ready");
    // one that reads it now does nothing for anybody
    let (store, clock) = (world.store.clone(), world.clock.clone());
    let rpc = crate::rpc::start().await;
    let second = World::beside(store.clone(), clock.clone(), &rpc, named(Some(ESCROW))).await;
    let body = json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC"});
    let ask = |world: &World| world.post("/v1/quotes").auth(&renter.token).json(&body).send();
    ask(&second).await.problem(503, "not-ready");
    second.book(&renter, &quote, "a-booking").await.problem(503, "not-ready");
    let path = format!("/v1/quotes/{}", quote["id"].as_str().unwrap());
    second.get(&path).auth(&renter.token).send().await.problem(503, "not-ready");
    let booked: i64 = sqlx::query_scalar("SELECT count(*) FROM rentals")
        .fetch_one(world.store.pool())
        .await
        .unwrap();
    assert_eq!(booked, 0);
    // and this is what a process does that was told nothing
    let credulous = World::beside(store, clock, &rpc, named(None)).await;
    let robbed = ask(&credulous).await.ok(201);
    assert_eq!(robbed["eip712"]["domain"]["verifyingContract"], format!("{thief:#x}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_not_quoted() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let good =
        json!({"offer_id": rig.offer, "offer_version": 1, "duration_s": 3_600, "token": "USDC"});
    let ask = |edit: Value| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        world.post("/v1/quotes").auth(&renter.token).json(&body).send()
    };
    for (edit, pointer) in [
        (json!({"offer_id": "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"}), "/offer_id"),
        (json!({"duration_s": 59}), "/duration_s"),
        (json!({"duration_s": 86_401}), "/duration_s"),
        (json!({"token": "DOGE"}), "/token"),
    ] {
        let body = ask(edit).await.problem(422, "validation-failed");
        assert_eq!(body["errors"][0]["pointer"], pointer);
    }
    let cheap = json!({"max_price": {"amount": "0.649999", "currency": "USD"}});
    ask(cheap).await.problem(422, "price-above-max");
    ask(json!({"max_price": {"amount": "0.65", "currency": "USD"}})).await.ok(201);
    let own = world.post("/v1/quotes").auth(&rig.provider.token).json(&good).send().await;
    assert_eq!(own.problem(422, "validation-failed")["errors"][0]["pointer"], "/offer_id");
    world.pass(31);
    ask(json!({})).await.problem(409, "machine-offline");
    world.heartbeat(&rig.agent, &[]).await;
    let quote = ask(json!({})).await.ok(201);
    world.book(&renter, &quote, "k").await.ok(201);
    ask(json!({})).await.problem(409, "offer-taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_offer_is_neither_quoted_nor_booked_as_it_was() {
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let path = format!("/v1/offers/{}", rig.offer);
    let patch = async |body: Value| {
        let tag = world.get(&path).send().await.header("etag").to_owned();
        let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", &tag);
        call.json(&body).send().await.ok(200);
    };
    patch(json!({"price": {"amount": "0.70", "currency": "USD"}})).await;
    let body = world.book(&renter, &quote, "k").await.problem(409, "offer-changed");
    assert_eq!(body["offer"]["version"], 2);
    assert_eq!(body["price_difference"]["direction"], "higher");
    assert_eq!(body["price_difference"]["usd_per_hour"]["amount"], "0.100000");
    let ask = json!({"offer_id": rig.offer, "offer_version": 1, "duration_s": 60, "token": "USDC"});
    let reply = world.post("/v1/quotes").auth(&renter.token).json(&ask).send().await;
    let body = reply.problem(409, "offer-changed");
    assert_eq!(body["price_difference"]["usd_per_hour"]["amount"], "0.100000");
    patch(json!({"price": {"amount": "0.50", "currency": "USD"}})).await;
    let body = world.book(&renter, &quote, "k").await.problem(409, "offer-changed");
    assert_eq!(body["price_difference"]["direction"], "lower");
    let fresh = world.quote(&renter, &rig).await;
    patch(json!({"state": "paused"})).await;
    let body = world.book(&renter, &fresh, "k").await.problem(409, "offer-changed");
    assert_eq!(body["offer"]["state"], "paused");
    patch(json!({"state": "listed"})).await;
    // the refusals have not used the key up, and the pause has not changed the terms
    world.book(&renter, &fresh, "k").await.ok(201);
}
