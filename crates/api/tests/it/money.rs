//! What a rental came to.

use domain::{
    money::Amount,
    rental::{CloseOutcome, RentalEvent},
    time::{Seconds, UnixSeconds},
};
use serde_json::json;
use store::rentals::MoneyDelta;

use crate::{
    fixture::World,
    running::{Running, START},
};

fn units(value: u128) -> Amount {
    Amount::new(value).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_adds_up_and_comes_when_money_has_moved() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    let path = format!("/v1/rentals/{}/receipt", running.id);
    let receipt = |token: &str| world.get(&path).auth(token).send();
    receipt(&running.renter.token).await.problem(409, "receipt-not-ready");
    let started_at = UnixSeconds(START);
    world.advance(&running.id, RentalEvent::StartFinal { started_at }).await;
    running.pass(&world, 20).await;
    running.append(&world, 0, 20).await;
    running.pass(&world, 20).await;
    running.append(&world, 30, 40).await;
    let stop = world.post(&format!("/v1/rentals/{}/stop", running.id));
    let preview = stop.auth(&running.renter.token).key("s").send().await.ok(202)["preview"].clone();
    assert_eq!(preview["seconds_billed"], 30);
    world.advance(&running.id, RentalEvent::AgentStopped).await;
    receipt(&running.renter.token).await.problem(409, "receipt-not-ready");

    // floor(30 * 650,000 / 3,600) = 5,416; 12 % of it = 649
    let delta = MoneyDelta {
        provider: units(4_767),
        fee: units(649),
        refund: units(644_584),
        billed: Some(Seconds(30)),
        ..MoneyDelta::default()
    };
    world.pay(&running.id, delta).await;
    let outcome = CloseOutcome::ClosedByOperator;
    world.advance(&running.id, RentalEvent::ClosedFinal { outcome }).await;
    let body = receipt(&running.renter.token).await.ok(200);
    for (part, amount, usd) in [
        ("provider", "4767", "0.004767"),
        ("fee", "649", "0.000649"),
        ("refund", "644584", "0.644584"),
    ] {
        assert_eq!(body["split"][part]["amount"]["base_units"], amount);
        assert_eq!(body["split"][part]["usd"]["amount"], usd);
        assert_eq!(preview[part]["base_units"], amount, "the preview was exact");
    }
    assert_eq!(body["deposit"]["base_units"], "650000");
    assert_eq!(body["seconds_billed"], 30);
    assert_eq!(body["readings"]["count"], 2);
    assert_eq!(body["readings"]["root"], format!("{:#x}", running.head));
    assert_eq!(body["readings"]["agent"], format!("{:#x}", running.rig.agent.key.address()));
    assert_eq!(
        body["outages"],
        json!([{"from": "2027-01-15T08:00:20Z", "to": "2027-01-15T08:00:30Z", "seconds": 10}])
    );
    assert_eq!(body["rental"]["state"], "settled");
    assert_eq!(body["rental"]["cost"]["accrued"]["base_units"], "5416");
    let purposes: Vec<_> =
        body["txs"].as_array().unwrap().iter().map(|tx| &tx["purpose"]).collect();
    assert_eq!(purposes, ["start", "close"]);
    assert!(body["verify"].as_str().unwrap().contains("escrow_id"));
    receipt(&running.rig.provider.token).await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn earnings_are_an_account_of_final_events() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let earnings = world.get("/v1/provider/earnings").auth(&rig.provider.token);
    assert_eq!(earnings.send().await.ok(200), json!({"balances": [], "next_cursor": null}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_before_the_lock_costs_nothing() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    let path = format!("/v1/rentals/{}", booking["rental"]["id"].as_str().unwrap());
    let stop = world.post(&format!("{path}/stop")).auth(&renter.token).key("s").send();
    let said = stop.await.ok(202);
    assert_eq!(said["rental"]["state"], "cancelled");
    assert_eq!(said["preview"]["refund"]["base_units"], "0");
    let receipt = world.get(&format!("{path}/receipt")).auth(&renter.token).send().await;
    receipt.problem(409, "receipt-not-ready");
}
