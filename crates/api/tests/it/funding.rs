//! Funding by the renter's signature.

use alloy::{primitives::hex, signers::SignerSync as _};
use domain::{
    money::{Decimals, UsdMicros},
    rental::RentalEvent,
    time::UnixSeconds,
};
use escrow::signed::{self, ReceiveWithAuthorization};
use serde_json::{Value, json};
use store::tokens::{self, Token};

use crate::fixture::{CHAIN_ID, ESCROW, NOW, Person, Reply, USDC, World};

/// The authorization that a booking shows, signed by somebody, ready to be posted.
pub fn signed_by(person: &Person, booking: &Value) -> Value {
    let message = &booking["funding"]["typed_data"]["authorization"]["message"];
    let text = |name: &str| message[name].as_str().unwrap();
    let authorization = ReceiveWithAuthorization {
        from: text("from").parse().unwrap(),
        to: text("to").parse().unwrap(),
        value: text("value").parse().unwrap(),
        validAfter: text("validAfter").parse().unwrap(),
        validBefore: text("validBefore").parse().unwrap(),
        nonce: text("nonce").parse().unwrap(),
    };
    let domain = signed::token_domain("USD Coin", "2", CHAIN_ID, USDC);
    let signature = person.key.sign_hash_sync(&signed::digest(&authorization, &domain)).unwrap();
    json!({
        "valid_after": authorization.validAfter.to::<u64>(),
        "valid_before": authorization.validBefore.to::<u64>(),
        "signature": hex::encode_prefixed(signature.as_bytes()),
    })
}

async fn post(world: &World, person: &Person, id: &str, key: &str, body: &Value) -> Reply {
    let path = format!("/v1/rentals/{id}/authorization");
    world.post(&path).auth(&person.token).key(key).json(body).send().await
}

async fn intents(world: &World) -> Vec<(String, Value)> {
    sqlx::query_as("SELECT state, args FROM chain_intents WHERE purpose = 'lock'")
        .fetch_all(world.store.pool())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_locks_the_deposit_once() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "b").await.ok(201);
    let id = booking["rental"]["id"].as_str().unwrap();
    let typed = &booking["funding"]["typed_data"]["authorization"];
    assert_eq!(typed["primaryType"], "ReceiveWithAuthorization");
    assert_eq!(typed["message"]["nonce"], booking["rental"]["escrow_id"]);
    assert_eq!(typed["message"]["value"], quote["deposit"]["base_units"]);
    assert_eq!(typed["message"]["to"], format!("{ESCROW:#x}"));
    let body = signed_by(&renter, &booking);

    let stranger = signed_by(&rig.provider, &booking);
    post(&world, &renter, id, "x", &stranger).await.problem(422, "validation-failed");
    let mut short = body.clone();
    short["signature"] = json!("0x");
    post(&world, &renter, id, "x", &short).await.problem(422, "validation-failed");
    let mut early = body.clone();
    early["valid_after"] = json!(NOW.0 + 1);
    post(&world, &renter, id, "x", &early).await.problem(422, "validation-failed");
    let mut late = body.clone();
    late["valid_before"] = json!(NOW.0 + 9);
    post(&world, &renter, id, "x", &late).await.problem(422, "validation-failed");
    post(&world, &rig.provider, id, "x", &body).await.problem(403, "forbidden");
    assert!(intents(&world).await.is_empty(), "nothing of that is sent");

    let said = post(&world, &renter, id, "a", &body).await.ok(202);
    assert_eq!(said["transaction"], json!(null), "none is signed yet");
    assert_eq!(said["rental"]["state"], "awaiting_funds");
    let queued = intents(&world).await;
    assert_eq!(queued.len(), 1);
    assert_eq!((queued[0].0.as_str(), &queued[0].1["signature"]), ("queued", &body["signature"]));
    world.pass(60);
    assert_eq!(post(&world, &renter, id, "a", &body).await.ok(202), said, "the same answer");
    post(&world, &renter, id, "a", &stranger).await.problem(422, "idempotency-mismatch");
    post(&world, &renter, id, "other", &body).await.problem(409, "state-conflict");
    assert_eq!(intents(&world).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_rental_that_waits_for_its_funds_takes_them() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "b").await.ok(201);
    let id = booking["rental"]["id"].as_str().unwrap();
    world.advance(id, RentalEvent::LockIncluded).await;
    let body = signed_by(&renter, &booking);
    post(&world, &renter, id, "a", &body).await.problem(409, "state-conflict");
    assert!(intents(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_domain_is_another_is_not_signed_for() {
    let world = World::new().await;
    // listed with the name of a domain that the token does not have
    let token = Token {
        address: alloy::primitives::Address::repeat_byte(0xc1),
        symbol: "USDX".to_owned(),
        decimals: Decimals::new(6).unwrap(),
        usd: UsdMicros::new(1_000_000),
        price_source: "fixed".to_owned(),
        priced_at: UnixSeconds(NOW.0),
        fixed: true,
        permit: Some(("USD Coin".to_owned(), "1".to_owned())),
    };
    world
        .store
        .write::<(), (), _>("test.list", move |tx| {
            let token = token.clone();
            Box::pin(async move { Ok(tokens::upsert(tx, &token).await?) })
        })
        .await
        .unwrap();
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    for symbol in ["USDX", "POL"] {
        let body = json!({"offer_id": rig.offer, "duration_s": 3_600, "token": symbol});
        let quote = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await.ok(201);
        let booking = world.book(&renter, &quote, symbol).await.ok(201);
        assert!(booking["funding"]["typed_data"]["authorization"].is_null(), "{symbol}");
        let id = booking["rental"]["id"].as_str().unwrap();
        let body = json!({"valid_after": 0, "valid_before": NOW.0 + 100, "signature": "0x01"});
        let key = format!("authorize-{symbol}");
        post(&world, &renter, id, &key, &body).await.problem(409, "state-conflict");
        world.advance(id, RentalEvent::FundingDeadline).await;
        // the hold of a GPU lasts a second at least
        world.pass(2);
    }
}
