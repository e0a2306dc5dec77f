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
