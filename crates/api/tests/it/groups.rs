//! Several quotes booked at once: all or none.

use alloy::primitives::Bytes;
use domain::money::Amount;
use serde_json::{Value, json};

use crate::{
    api_keys,
    fixture::{ESCROW, Person, Reply, Rig, USDC, World},
};

async fn rigs(world: &World, count: u8) -> Vec<Rig> {
    let mut rigs = Vec::new();
    for n in 0..count {
        rigs.push(world.rig(20 + 2 * n, 1, "0.65").await);
    }
    rigs
}

async fn quotes(world: &World, renter: &Person, rigs: &[Rig]) -> Vec<Value> {
    let mut ids = Vec::new();
    for rig in rigs {
        ids.push(world.quote(renter, rig).await["id"].clone());
    }
    ids
}

async fn book(world: &World, renter: &Person, ids: &[Value], key: &str) -> Reply {
    let body = json!({"quote_ids": ids});
    world.post("/v1/rentals/group").auth(&renter.token).key(key).json(&body).send().await
}

/// How many rentals there are, and how many GPUs they hold.
async fn held(world: &World) -> (i64, i64) {
    sqlx::query_as("SELECT (SELECT count(*) FROM rentals), (SELECT count(*) FROM rental_gpus)")
        .fetch_one(world.store.pool())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_machines_are_held_at_once_and_more_than_one_by_one() {
    let world = World::new().await;
    let rigs = rigs(&world, 4).await;
    let renter = world.sign_in(9).await;
    let ids = quotes(&world, &renter, &rigs).await;
    let said = book(&world, &renter, &ids, "all").await.ok(201);
    let data = said["data"].as_array().unwrap();
    assert_eq!(data.len(), 4);
    for (booking, (id, rig)) in data.iter().zip(ids.iter().zip(&rigs)) {
        assert_eq!(booking["rental"]["state"], "awaiting_funds");
        assert_eq!(booking["rental"]["quote_id"], *id);
        assert_eq!(booking["rental"]["machine_id"], rig.machine.as_str());
        assert!(booking["funding"]["calldata"].as_str().unwrap().len() > 10);
    }
    assert_eq!(held(&world).await, (4, 4));
    // one permit of a token is good at a time
    let permits = data.iter().map(|booking| &booking["funding"]["typed_data"]["permit"]);
    assert_eq!(permits.map(Value::is_null).collect::<Vec<_>>(), [false, true, true, true]);
    // one approval is good for all of them
    let call = escrow::calldata::approve(ESCROW, Amount::new(4 * 650_000).unwrap());
    let sum =
        json!({"base_units": "2600000", "token": "USDC", "decimals": 6, "chain": "eip155:31337"});
    assert_eq!(
        said["approvals"],
        json!([{"amount": sum, "approve": {"to": format!("{USDC:#x}"), "calldata": Bytes::from(call)}}])
    );

    // the same request again is the same answer, another one with its key is none
    let again = book(&world, &renter, &ids, "all").await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.ok(201), said);
    book(&world, &renter, &ids[..2], "all").await.problem(422, "idempotency-mismatch");
    // who holds so much without paying is given no more
    let more = book(&world, &renter, &ids, "more").await.problem(409, "state-conflict");
    assert!(more["detail"].as_str().unwrap().contains("wait for their deposit"), "{more}");
    assert_eq!(held(&world).await, (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_cannot_be_had_none_is_held() {
    let world = World::new().await;
    let rigs = rigs(&world, 3).await;
    let renter = world.sign_in(9).await;
    let ids = quotes(&world, &renter, &rigs).await;
    let rival = world.sign_in(10).await;
    let taken = world.quote(&rival, &rigs[2]).await;
    world.book(&rival, &taken, "k").await.ok(201);

    let refused = book(&world, &renter, &ids, "all").await.problem(409, "offer-taken");
    assert_eq!(refused["quote_id"], ids[2]);
    assert_eq!(held(&world).await, (1, 1));
    // what was refused is not remembered: the key is good for what can be had
    book(&world, &renter, &ids[..2], "all").await.ok(201);
    assert_eq!(held(&world).await, (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_groups_at_once_one_gets_all() {
    let world = World::new().await;
    let rigs = rigs(&world, 3).await;
    let (one, two) = (world.sign_in(9).await, world.sign_in(10).await);
    let first = quotes(&world, &one, &rigs).await;
    let mut second = quotes(&world, &two, &rigs).await;
    second.reverse();
    let (a, b) =
        tokio::join!(book(&world, &one, &first, "all"), book(&world, &two, &second, "all"));
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{a:?} {b:?}");
    assert_eq!(held(&world).await, (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keys_cap_holds_for_all_of_them_together() {
    let world = World::new().await;
    let rigs = rigs(&world, 2).await;
    let renter = world.sign_in(9).await;
    let ids = quotes(&world, &renter, &rigs).await;
    let cap = |amount: &str| json!({"spend_cap": {"amount": amount, "currency": "USD"}});
    let poor = api_keys::make(&world, &renter, &["rentals:write"], cap("1.29")).await;
    let refused = book(&world, &poor.person, &ids, "all").await;
    let refused = refused.problem(403, "spend-cap-exceeded");
    assert_eq!(refused["quote_id"], ids[1]);
    assert_eq!(held(&world).await, (0, 0));
    let rich = api_keys::make(&world, &renter, &["rentals:write"], cap("1.30")).await;
    book(&world, &rich.person, &ids, "all").await.ok(201);
    let other = json!({"offers": [rigs[0].offer]});
    let limited = api_keys::make(&world, &renter, &["rentals:write"], other).await;
    let refused = book(&world, &limited.person, &ids, "other").await.problem(403, "forbidden");
    assert_eq!(refused["quote_id"], ids[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_of_some_quotes_of_ones_own() {
    let world = World::new().await;
    let rigs = rigs(&world, 2).await;
    let (renter, other) = (world.sign_in(9).await, world.sign_in(10).await);
    let ids = quotes(&world, &renter, &rigs).await;
    let theirs = world.quote(&other, &rigs[0]).await["id"].clone();
    let nine = vec![ids[0].clone(); 9];
    for (asked, pointer) in [
        (vec![], "/quote_ids"),
        (vec![ids[0].clone()], "/quote_ids"),
        (nine, "/quote_ids"),
        (vec![ids[0].clone(), ids[0].clone()], "/quote_ids/1"),
        (vec![ids[0].clone(), theirs], "/quote_ids/1"),
    ] {
        let body = book(&world, &renter, &asked, "k").await.problem(422, "validation-failed");
        assert_eq!(body["errors"][0]["pointer"], pointer, "{body}");
    }
    let body = json!({"quote_ids": ids});
    let call = world.post("/v1/rentals/group").auth(&renter.token).json(&body);
    call.send().await.problem(400, "idempotency-key-missing");
    // once one of them is over, so is the group
    world.pass(3_600);
    let gone = book(&world, &renter, &ids, "late").await.problem(410, "quote-expired");
    assert_eq!(gone["quote_id"], ids[0]);
    assert_eq!(held(&world).await, (0, 0));
}
