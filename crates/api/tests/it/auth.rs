//! Signing in.

use std::sync::Arc;

use alloy::{
    primitives::{Address, U256, hex},
    signers::SignerSync as _,
};
use serde_json::json;
use store::Store;
use testkit::{ManualClock, TestDb};

use crate::{
    fixture::{NOW, World, key, policy, sign},
    rpc,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_signs_in_and_out() {
    let world = World::new().await;
    let person = world.sign_in(1).await;
    let me = world.get("/v1/me").auth(&person.token).send().await.ok(200);
    assert_eq!(
        me["address"].as_str().unwrap().to_lowercase(),
        format!("{:#x}", person.key.address())
    );
    assert!(me["id"].as_str().unwrap().starts_with("acc_"));

    let again = world.sign_in(1).await;
    let same = world.get("/v1/me").auth(&again.token).send().await.ok(200);
    assert_eq!(same["id"], me["id"], "one account per wallet");

    world.post("/v1/auth/logout").auth(&person.token).send().await.ok(204);
    world.get("/v1/me").auth(&person.token).send().await.problem(401, "unauthenticated");
    world.get("/v1/me").auth(&again.token).send().await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_signs_in_once_however_often_it_is_sent() {
    let world = World::new().await;
    let key = key(1);
    let message = world.message(key.address()).await;
    let signature = sign(&key, &message);
    let tries = (0..8).map(|_| world.verify(&message, &signature));
    let replies = futures_util::future::join_all(tries).await;
    let good = replies.iter().filter(|reply| reply.status == 201).count();
    assert_eq!(good, 1);
    world.verify(&message, &signature).await.problem(401, "siwe-invalid");

    let invented = message.replacen("Nonce: ", "Nonce: abc", 1);
    world.verify(&invented, &sign(&key, &invented)).await.problem(401, "siwe-invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_must_be_the_wallets_own_and_canonical() {
    let world = World::new().await;
    let owner = key(1);
    let message = world.message(owner.address()).await;
    world.verify(&message, &sign(&key(2), &message)).await.problem(401, "siwe-invalid");
    world.verify(&message, "0x00").await.problem(401, "siwe-invalid");
    world.verify(&message, "not hex").await.problem(401, "siwe-invalid");

    // the second form of the same signature: n - s, and the other parity
    let signature = owner.sign_message_sync(message.as_bytes()).unwrap();
    let order = U256::from_str_radix(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        16,
    )
    .unwrap();
    let mut bytes = signature.as_bytes();
    bytes[32..64].copy_from_slice(&(order - signature.s()).to_be_bytes::<32>());
    bytes[64] = if bytes[64] == 27 { 28 } else { 27 };
    let malleable = hex::encode_prefixed(bytes);
    world.verify(&message, &malleable).await.problem(401, "siwe-invalid");

    // none of that has used the nonce up
    world.verify(&message, &sign(&owner, &message)).await.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_decides_what_a_message_says() {
    let world = World::new().await;
    let key = key(1);
    for (from, to, status, code) in [
        ("localhost:8080 wants", "evil.example wants", 401, "siwe-invalid"),
        ("URI: http://localhost:8080", "URI: https://evil.example", 401, "siwe-invalid"),
        ("Chain ID: 31337", "Chain ID: 137", 409, "wrong-chain"),
        ("Issued At: 2027-01-15T08", "Issued At: 2027-01-15T07", 401, "siwe-expired"),
        ("Issued At: 2027-01-15T08", "Issued At: 2027-01-15T09", 401, "siwe-expired"),
    ] {
        let message = world.message(key.address()).await.replacen(from, to, 1);
        world.verify(&message, &sign(&key, &message)).await.problem(status, code);
    }
    let message = world.message(key.address()).await;
    world.pass(600);
    let fresh = message.replace("T08:00:00Z", "T08:10:00Z");
    world.verify(&fresh, &sign(&key, &fresh)).await.problem(401, "siwe-expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_chain_keys_sign_in_and_contracts_wait() {
    let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
    let clock = Arc::new(ManualClock::new(NOW.millis()));
    let store = Store::from_pool(db.pool, clock.clone(), policy());
    let offline = World::over(store, clock, &rpc::dead(), |_| {}).await;
    let message = offline.message(Address::repeat_byte(0xc0)).await;
    offline.verify(&message, "0xc0ffee").await.problem(503, "chain-unavailable");
    // not for a nonce that nobody gave out: that is told without the chain
    let invented = message.replacen("Nonce: ", "Nonce: abc", 1);
    offline.verify(&invented, "0xc0ffee").await.problem(401, "siwe-invalid");
    offline.sign_in(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_needed_ends_and_has_its_place() {
    let world = World::new().await;
    world.get("/v1/me").send().await.problem(401, "unauthenticated");
    for header in ["Bearer", "Bearer short", "Basic dXNlcjpwYXNz"] {
        let reply = world.get("/v1/me").header("authorization", header).send().await;
        assert_eq!(reply.header("www-authenticate"), "Bearer");
        reply.problem(401, "unauthenticated");
    }
    let guess = "A".repeat(43);
    world.get("/v1/me").auth(&guess).send().await.problem(401, "unauthenticated");

    let rig = world.rig(1, 1, "0.65").await;
    world.get("/v1/me").auth(&rig.agent.token).send().await.problem(403, "forbidden");
    let beat = world.post("/v1/agent/heartbeats").auth(&rig.provider.token);
    beat.json(&json!({"running": []})).send().await.problem(403, "forbidden");

    world.pass(24 * 3_600);
    world.get("/v1/me").auth(&rig.provider.token).send().await.problem(401, "unauthenticated");
}
