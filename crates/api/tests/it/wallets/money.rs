//! What a wallet that is a contract signs for money (EIP-1271): how its rental ended, and what is agreed in a dispute.

use domain::time::{Seconds, UnixSeconds};
use escrow::signed;

use super::*;
use crate::{
    ends::ended,
    fixture::{ESCROW, Person},
    running::{Running, START},
};

/// A market with a holdback, where a renter whose wallet is a contract has a rental that runs.
async fn renting() -> (Town, Address, Running) {
    let town = Town::with(Policy { holdback: Seconds(600), ..policy() }).await;
    let world = &town.world;
    let rig = world.rig(1, 1, "0.65").await;
    let owner = key(9);
    let wallet = town.wallet(owner.address()).await;
    let message = world.message(wallet).await;
    let said = world.verify(&message, &sign(&owner, &message)).await.ok(201);
    let renter = Person { key: owner, token: said["token"].as_str().unwrap().to_owned() };
    let booking = world.start(&renter, &rig).await;
    let text = |name: &str| booking["rental"][name].as_str().unwrap().to_owned();
    let escrow_id = text("escrow_id").parse().unwrap();
    let running = Running { rig, renter, id: text("id"), escrow_id, seq: 0, head: B256::ZERO };
    (town, wallet, running)
}

fn by(key: &PrivateKeySigner, digest: B256) -> String {
    key.sign_hash_sync(&digest).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_signs_how_its_rental_ended() {
    let (town, wallet, mut running) = renting().await;
    let world = &town.world;
    ended(world, &mut running).await;
    let digest = |credit| {
        let told = signed::end(running.escrow_id, UnixSeconds(START + 40), Seconds(credit));
        signed::digest(&told, &escrow::domain(CHAIN_ID, ESCROW))
    };
    let path = format!("/v1/rentals/{}/end", running.id);
    let post = |signature: String| {
        let body = json!({ "signature": signature });
        world.post(&path).auth(&running.renter.token).json(&body).send()
    };
    let good = by(&running.renter.key, digest(10));
    post(by(&key(2), digest(10))).await.problem(422, "validation-failed");
    post(by(&running.renter.key, digest(9))).await.problem(422, "validation-failed");
    town.behave(wallet, Manner::Refuses).await;
    post(good.clone()).await.problem(422, "validation-failed");
    town.behave(wallet, Manner::Answers).await;
    let said = post(good.clone()).await.ok(202);
    assert_eq!(said["signed_by"], json!(["renter"]));
    let kept: Vec<u8> = sqlx::query_scalar("SELECT signature FROM end_signatures")
        .fetch_one(world.store.pool())
        .await
        .unwrap();
    assert_eq!(hex::encode_prefixed(kept), good, "what the contract will ask the wallet about");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_signs_what_is_agreed_in_a_dispute() {
    let (town, wallet, running) = renting().await;
    let world = &town.world;
    let provider = &running.rig.provider;
    let body = json!({"rental_id": running.id, "code": "billing"});
    let case = world.post("/v1/disputes").auth(&running.renter.token).json(&body).send().await;
    let path = format!("/v1/disputes/{}", case.ok(201)["id"].as_str().unwrap());
    world.pass(10);
    let digest = |billed| {
        let agreed =
            signed::agreed_end(running.escrow_id, Seconds(billed), UnixSeconds(START + 3_600));
        signed::digest(&agreed, &escrow::domain(CHAIN_ID, ESCROW))
    };
    let propose = |person: &Person, billed: u32, signature: &str| {
        let body = json!({"billed_s": billed, "valid_until": "2027-01-15T09:00:00Z", "signature": signature});
        world.post(&format!("{path}/propose")).auth(&person.token).json(&body).send()
    };
    let accept = |person: &Person, seq: u32, signature: &str| {
        let body = json!({"seq": seq, "signature": signature});
        world.post(&format!("{path}/accept")).auth(&person.token).json(&body).send()
    };
    let renter = &running.renter;
    let (good, of_provider) = (by(&renter.key, digest(1)), by(&provider.key, digest(1)));
    propose(renter, 1, &of_provider).await.problem(422, "validation-failed");
    propose(renter, 1, &by(&renter.key, digest(2))).await.problem(422, "validation-failed");
    town.behave(wallet, Manner::Reverts).await;
    propose(renter, 1, &good).await.problem(422, "validation-failed");
    town.behave(wallet, Manner::Answers).await;
    propose(renter, 1, &good).await.ok(201);
    propose(provider, 1, &of_provider).await.ok(201);
    // each accepts what the other proposed
    accept(renter, 2, &of_provider).await.problem(422, "validation-failed");
    let said = accept(renter, 2, &good).await.ok(201);
    let actions = said["actions"].to_string();
    assert!(actions.contains(&good[2..]), "the call has the wallet's signature: {actions}");
    assert!(actions.contains(&of_provider[2..]), "{actions}");
}
