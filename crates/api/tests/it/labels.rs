//! What renters call their rentals, and finding them by their state.

use serde_json::{Value, json};

use crate::{
    fixture::{Person, Reply, World},
    running::Running,
};

async fn name(world: &World, who: &Person, id: &str, label: Value) -> Reply {
    let call = world.call("PATCH", &format!("/v1/rentals/{id}")).auth(&who.token);
    call.json(&json!({ "label": label })).send().await
}

async fn listed(world: &World, who: &Person, query: &str) -> Vec<Value> {
    let reply = world.get(&format!("/v1/rentals?{query}")).auth(&who.token).send().await;
    reply.ok(200)["data"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renter_names_a_rental_for_themselves() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let (renter, provider, id) = (&running.renter, &running.rig.provider, &running.id);
    let before = running.rental(&world).await;
    assert_eq!(before["label"], Value::Null);
    let said = name(&world, renter, id, json!("  nightly é ")).await.ok(200);
    assert_eq!((&said["label"], &said["updated_at"]), (&json!("nightly é"), &before["updated_at"]));
    assert_eq!(running.rental(&world).await["label"], "nightly é");
    assert_eq!(listed(&world, renter, "").await[0]["label"], "nightly é");
    // to the other side it says nothing
    assert_eq!(listed(&world, provider, "role=provider").await[0]["label"], Value::Null);
    name(&world, provider, id, json!("mine")).await.problem(403, "forbidden");
    name(&world, &world.sign_in(30).await, id, json!("mine")).await.problem(404, "not-found");
    for bad in ["", "  ", "two\nlines", &"x".repeat(65)] {
        let refused = name(&world, renter, id, json!(bad)).await.problem(422, "validation-failed");
        assert_eq!(refused["errors"][0]["pointer"], "/label");
    }
    let nothing = world.call("PATCH", &format!("/v1/rentals/{id}")).auth(&renter.token);
    nothing.json(&json!({})).send().await.problem(400, "invalid-request");
    assert_eq!(running.rental(&world).await["label"], "nightly é");
    name(&world, renter, id, json!("x".repeat(64))).await.ok(200);
    assert_eq!(name(&world, renter, id, Value::Null).await.ok(200)["label"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rental_is_named_when_it_is_booked() {
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let book = |label: Value| {
        let body = json!({"quote_id": quote["id"], "label": label});
        world.post("/v1/rentals").auth(&renter.token).key("k").json(&body).send()
    };
    let refused = book(json!("two\nlines")).await.problem(422, "validation-failed");
    assert_eq!(refused["errors"][0]["pointer"], "/label");
    let said = book(json!(" nightly ")).await.ok(201);
    assert_eq!(said["rental"]["label"], "nightly");
    let path = format!("/v1/rentals/{}", said["rental"]["id"].as_str().unwrap());
    assert_eq!(world.get(&path).auth(&renter.token).send().await.ok(200)["label"], "nightly");
    let again = book(json!(" nightly ")).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.ok(201), said);
    book(json!("other")).await.problem(422, "idempotency-mismatch");
    book(Value::Null).await.problem(422, "idempotency-mismatch");
    let asked = json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC", "label": "x"});
    let refused = world.post("/v1/quotes").auth(&renter.token).json(&asked).send().await;
    let refused = refused.problem(422, "validation-failed");
    assert_eq!(refused["errors"][0]["pointer"], "/label");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rental_is_told_if_it_changed_and_named_if_nobody_named_it_meanwhile() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    let path = format!("/v1/rentals/{}", running.id);
    let token = running.renter.token.clone();
    let tag = async || {
        let reply = world.get(&path).auth(&token).send().await;
        assert_eq!(reply.header("cache-control"), "no-store");
        reply.header("etag").to_owned()
    };
    let known = async |tag: &str| {
        let asked = world.get(&path).auth(&token).header("if-none-match", tag);
        asked.send().await.status
    };
    let first = tag().await;
    assert_eq!(known(&first).await, 304);
    assert_eq!(known("\"other\"").await, 200);
    // what it costs changes, and its name does not
    world.pass(20);
    running.append(&world, 0, 20).await;
    let second = tag().await;
    assert_ne!(first, second);
    assert_eq!(known(&first).await, 200);
    let patch = |tag: &str, label: &str| {
        let call = world.call("PATCH", &path).auth(&token).header("if-match", tag);
        call.json(&json!({ "label": label })).send()
    };
    assert_eq!(patch(&first, "one").await.ok(200)["label"], "one");
    patch(&second, "two").await.problem(412, "etag-mismatch");
    patch("nonsense", "two").await.problem(412, "etag-mismatch");
    patch("*", "two").await.problem(412, "etag-mismatch");
    assert_eq!(running.rental(&world).await["label"], "one");
    patch(&tag().await, "two").await.ok(200);
    name(&world, &running.renter, &running.id, json!("three")).await.ok(200);
    // the provider's tag says nothing of the name
    let provider = &running.rig.provider.token;
    let theirs = world.get(&path).auth(provider).send().await;
    let theirs = theirs.header("etag").split('.').next().unwrap().to_owned();
    assert_eq!(first.split('.').next().unwrap(), theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn rentals_are_found_by_their_state() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let rig = world.rig(7, 1, "0.65").await;
    let quote = world.quote(&running.renter, &rig).await;
    world.book(&running.renter, &quote, "second").await.ok(201);
    let found = async |query: &str| -> Vec<String> {
        let all = listed(&world, &running.renter, query).await;
        all.iter().map(|rental| rental["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found("").await, ["awaiting_funds", "active"]);
    assert_eq!(found("state=active").await, ["active"]);
    assert_eq!(found("state=settled,%20awaiting_funds").await, ["awaiting_funds"]);
    assert_eq!(found("state=active,awaiting_funds&limit=1").await, ["awaiting_funds"]);
    assert!(found("state=settled").await.is_empty());
    assert!(listed(&world, &rig.provider, "role=provider&state=active").await.is_empty());
    let many = vec!["active"; 40].join(",");
    for bad in ["state=", "state=running", "state=active,", &format!("state={many}")] {
        let reply = world.get(&format!("/v1/rentals?{bad}")).auth(&running.renter.token).send();
        let refused = reply.await.problem(400, "invalid-request");
        assert_eq!(refused["errors"][0]["pointer"], "?state", "{bad}");
    }
}
