//! Sign-ins that nobody made, over HTTP: hundreds of them, one after the other and at once.

use alloy::{
    primitives::hex,
    signers::{SignerSync as _, local::PrivateKeySigner},
};

use crate::fixture::World;

#[path = "../../src/siwe/forgery.rs"]
pub mod forgery;
use forgery::{Random, Signed, forged};

const SEED: u64 = 1_271;
const TRIES: usize = 400;
/// Sign-ins that are sent again, each so often.
const USED: usize = 100;
const REPLAYS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn no_forged_sign_in_opens_a_session() {
    let world = World::new().await;
    let mut made = Vec::new();
    for _ in 0..8 {
        let key = PrivateKeySigner::random();
        let message = world.message(key.address()).await;
        let signature = key.sign_message_sync(message.as_bytes()).unwrap().as_bytes().to_vec();
        made.push(Signed { message, signature });
    }
    let mut random = Random(SEED);
    for n in 0..TRIES {
        let (good, other) = (&made[random.below(8)], &made[random.below(8)]);
        let forged = forged(good, other, &mut random);
        let reply = world.verify(&forged.message, &hex::encode_prefixed(&forged.signature)).await;
        let status = reply.status.as_u16();
        assert!([401, 409].contains(&status), "try {n} of seed {SEED}: {forged:?}: {reply:?}");
    }
    let sessions = "SELECT count(*) FROM sessions";
    let opened: i64 = sqlx::query_scalar(sessions).fetch_one(world.store.pool()).await.unwrap();
    assert_eq!(opened, 0);
    // none of it has used a nonce up; each is good once
    for good in &made {
        let signature = hex::encode_prefixed(&good.signature);
        world.verify(&good.message, &signature).await.ok(201);
        world.verify(&good.message, &signature).await.problem(401, "siwe-invalid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_was_used_opens_nothing_however_often_it_is_sent_again() {
    let world = World::new().await;
    let mut used = Vec::new();
    for _ in 0..USED {
        let key = PrivateKeySigner::random();
        let message = world.message(key.address()).await;
        let signature = key.sign_message_sync(message.as_bytes()).unwrap().to_string();
        world.verify(&message, &signature).await.ok(201);
        used.push((message, signature));
    }
    for _ in 0..REPLAYS {
        for (message, signature) in &used {
            world.verify(message, signature).await.problem(401, "siwe-invalid");
        }
        world.pass(60);
    }
    let sessions = "SELECT count(*) FROM sessions";
    let opened: i64 = sqlx::query_scalar(sessions).fetch_one(world.store.pool()).await.unwrap();
    assert_eq!(opened, i64::try_from(USED).unwrap());
}
