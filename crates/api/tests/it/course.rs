//! What a rental has cost, what happened to it, how it goes on for longer, and the ways out of the contract.

use alloy::primitives::{Address, hex};
use serde_json::{Value, json};

use crate::{
    fixture::{ESCROW, USDC, World},
    running::Running,
};

fn data(call: &Value) -> Vec<u8> {
    hex::decode(call["calldata"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn cost_and_timeline_are_told_by_themselves() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let (token, id) = (&running.renter.token, &running.id);
    let rental = running.rental(&world).await;
    let cost = world.get(&format!("/v1/rentals/{id}/cost")).auth(token).send().await.ok(200);
    assert_eq!(cost, rental["cost"]);

    let path = format!("/v1/rentals/{id}/timeline");
    let whole = world.get(&path).auth(token).send().await.ok(200);
    let whole = whole["data"].as_array().unwrap();
    assert_eq!(whole[0]["detail"]["state"], "awaiting_funds");
    assert!(whole.iter().any(|entry| entry["detail"]["state"] == "active"), "{whole:?}");
    let (mut paged, mut after) = (Vec::new(), json!(0));
    while !after.is_null() {
        let page = world.get(&format!("{path}?limit=2&after={after}")).auth(token).send().await;
        let page = page.ok(200);
        paged.extend(page["data"].as_array().unwrap().clone());
        after = page["next"].clone();
    }
    assert_eq!(&paged, whole);
    // and by the cursor that every list has
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("{path}?limit=2{cursor}")).auth(token).send().await.ok(200);
        paged.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(&paged, whole);
    for bad in ["?cursor=x", &format!("?limit=2{cursor}&after=1")] {
        let reply = world.get(&format!("{path}{bad}")).auth(token).send().await;
        assert_eq!(reply.status, 400, "{bad}");
    }
    world
        .get(&format!("{path}?limit=201"))
        .auth(token)
        .send()
        .await
        .problem(400, "invalid-request");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ways_out_are_the_contracts_own_calls_with_these_terms() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let path = format!("/v1/rentals/{}/escrow", running.id);
    let shown = world.get(&path).auth(&running.rig.provider.token).send().await.ok(200);
    assert_eq!(shown["escrow_id"], running.escrow_id.to_string());
    assert_eq!(shown["contract"].as_str().unwrap().parse::<Address>().unwrap(), ESCROW);
    let ways = shown["ways_out"].as_array().unwrap();
    let names: Vec<_> = ways.iter().map(|way| way["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["stop", "reclaim", "release", "finalize"]);
    let all: Vec<_> = ways.iter().map(|way| data(&way["call"])).collect();
    for (way, data) in ways.iter().zip(&all) {
        assert_eq!(way["call"]["to"].as_str().unwrap().parse::<Address>().unwrap(), ESCROW);
        // each by a selector of its own, and nothing but the terms behind it, which hash to the id
        assert_eq!(all.iter().filter(|other| other[..4] == data[..4]).count(), 1);
        assert_eq!(data[4..], all[0][4..]);
    }
    let terms = &shown["terms"]["message"];
    assert_eq!(
        terms["renter"].as_str().unwrap().parse::<Address>().unwrap(),
        running.renter.key.address()
    );
    let lock = running.rental(&world).await;
    assert_eq!(lock["escrow_id"], shown["escrow_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_rental_goes_on_for_longer_at_its_rate() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let path = format!("/v1/rentals/{}/top-up", running.id);
    let ask = |body: Value| world.post(&path).auth(&running.renter.token).json(&body).send();
    let told = ask(json!({"duration_s": 3_600})).await.ok(200);
    assert_eq!(told["amount"]["base_units"], "650000");
    assert_eq!(
        (&told["value"], &told["exhausts_at"]),
        (&"0".into(), &"2027-01-15T10:00:00Z".into())
    );
    let to = |call: &Value| call["to"].as_str().unwrap().parse::<Address>().unwrap();
    assert_eq!((to(&told), to(&told["approve"])), (ESCROW, USDC));
    assert!(data(&told).ends_with(&650_000_u64.to_be_bytes()));
    let one = ask(json!({"duration_s": 1})).await.ok(200);
    assert_eq!(one["amount"]["base_units"], "181", "rounded up");
    for refused in [0_u32, 31_536_001] {
        ask(json!({"duration_s": refused})).await.problem(422, "validation-failed");
    }
    // into a maintenance window it does not
    let window =
        json!({"from": "2027-01-15T09:30:00Z", "to": "2027-01-15T10:30:00Z", "reason": "power"});
    let maintenance = format!("/v1/machines/{}/maintenance", running.rig.machine);
    world.post(&maintenance).auth(&running.rig.provider.token).json(&window).send().await.ok(201);
    ask(json!({"duration_s": 3_600})).await.problem(409, "machine-maintenance");
    ask(json!({"duration_s": 1_000})).await.ok(200);
    // nor once it has ended
    let stop = format!("/v1/rentals/{}/stop", running.id);
    world.post(&stop).auth(&running.renter.token).key("stop").send().await.ok(202);
    ask(json!({"duration_s": 60})).await.problem(409, "state-conflict");
}
