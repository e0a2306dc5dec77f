//! Signing how a rental ended: the renter's wallet, and the machine for the provider.

use alloy::{
    primitives::{B256, hex},
    signers::local::PrivateKeySigner,
};
use domain::{
    rental::RentalEvent,
    time::{Seconds, UnixSeconds},
};
use escrow::{EscrowEvent, signed};
use serde_json::{Value, json};
use store::blocks::{self, FollowedBlock, NewEvent};

use crate::{
    fixture::{CHAIN_ID, ESCROW, Reply, World},
    running::{Running, START},
};

/// The provider names the machine's key on the chain.
async fn name_agent(world: &World, running: &Running) {
    let event = EscrowEvent::AgentSet {
        account: running.rig.provider.key.address(),
        agent: running.rig.agent.key.address(),
        expires_at: UnixSeconds(START + 1_000_000),
    };
    world
        .store
        .write::<(), (), _>("test.agent", move |tx| {
            let event = event.clone();
            Box::pin(async move {
                let block = FollowedBlock {
                    number: 1,
                    hash: B256::repeat_byte(1),
                    parent_hash: B256::ZERO,
                    timestamp: UnixSeconds(START),
                    is_final: true,
                };
                let new = NewEvent {
                    log_index: 0,
                    tx_hash: B256::repeat_byte(2),
                    name: event.name(),
                    escrow_id: event.rental(),
                    body: serde_json::to_value(&event).unwrap(),
                };
                Ok(blocks::append(tx, &block, &[new]).await?)
            })
        })
        .await
        .unwrap();
}

/// Runs for 40 seconds with a gap of 10, and stops.
pub async fn ended(world: &World, running: &mut Running) {
    world.advance(&running.id, RentalEvent::StartFinal { started_at: UnixSeconds(START) }).await;
    running.pass(world, 20).await;
    running.append(world, 0, 20).await;
    running.pass(world, 20).await;
    running.append(world, 30, 40).await;
    let stop = world.post(&format!("/v1/rentals/{}/stop", running.id));
    stop.auth(&running.renter.token).key("s").send().await.ok(202);
    world.advance(&running.id, RentalEvent::AgentStopped).await;
}

fn signature(running: &Running, key: &PrivateKeySigner, credit: u32) -> String {
    let told = signed::end(running.escrow_id, UnixSeconds(START + 40), Seconds(credit));
    let domain = escrow::domain(CHAIN_ID, ESCROW);
    hex::encode_prefixed(signed::sign(&told, key, &domain).unwrap())
}

async fn waits_until(world: &World) -> i64 {
    let query =
        "SELECT extract(epoch FROM not_before)::bigint FROM chain_intents WHERE purpose = 'close'";
    sqlx::query_scalar(query).fetch_one(world.store.pool()).await.unwrap()
}

async fn orders(world: &World, running: &Running) -> Vec<Value> {
    let said = world.heartbeat(&running.rig.agent, &[]).await;
    let all = said["commands"].as_array().unwrap().iter().cloned();
    all.filter(|order| order["kind"] == "sign_end").collect()
}

async fn ack(world: &World, running: &Running, order: &Value, body: &Value) -> Reply {
    let path = format!("/v1/agent/commands/{}/ack", order["id"].as_str().unwrap());
    world.post(&path).auth(&running.rig.agent.token).json(body).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_signs_a_credit_and_the_close_waits_no_longer() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    name_agent(&world, &running).await;
    ended(&world, &mut running).await;
    let now = i64::try_from(world.now().get()).unwrap();
    assert_eq!(waits_until(&world).await, now + 30, "half a minute at most");
    let orders_now = orders(&world, &running).await;
    let [order] = &orders_now[..] else { panic!("{orders_now:?}") };
    assert_eq!(order["payload"], json!({"stopped_at": START + 40, "credit_secs": 10}));

    let wrong = [
        json!({"outcome": "ok"}),
        json!({"outcome": "ok", "signature": signature(&running, &running.rig.agent.key, 9)}),
        json!({"outcome": "ok", "signature": signature(&running, &running.renter.key, 10)}),
    ];
    for body in &wrong {
        ack(&world, &running, order, body).await.problem(422, "validation-failed");
    }
    assert_eq!(waits_until(&world).await, now + 30);
    let body =
        json!({"outcome": "ok", "signature": signature(&running, &running.rig.agent.key, 10)});
    for _ in 0..2 {
        assert_eq!(ack(&world, &running, order, &body).await.ok(200)["acknowledged"], true);
    }
    assert_eq!(waits_until(&world).await, now, "nobody else is waited for");
    assert!(orders(&world, &running).await.is_empty());
    let path = format!("/v1/rentals/{}/end", running.id);
    let end = world.get(&path).auth(&running.renter.token).send().await.ok(200);
    assert_eq!(end["signed_by"], json!(["provider"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_not_the_providers_agent_is_not_asked() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    ended(&world, &mut running).await;
    assert!(orders(&world, &running).await.is_empty());
    assert_eq!(waits_until(&world).await, i64::try_from(world.now().get()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_does_not_agree_says_so() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    name_agent(&world, &running).await;
    ended(&world, &mut running).await;
    let order = orders(&world, &running).await.remove(0);
    ack(&world, &running, &order, &json!({"outcome": "failed"})).await.ok(200);
    assert!(orders(&world, &running).await.is_empty());
    let signatures: i64 = sqlx::query_scalar("SELECT count(*) FROM end_signatures")
        .fetch_one(world.store.pool())
        .await
        .unwrap();
    assert_eq!(signatures, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn either_wallet_signs_the_end_that_it_is_shown() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    let path = format!("/v1/rentals/{}/end", running.id);
    let (renter, provider) = (running.renter.clone(), running.rig.provider.clone());
    world.get(&path).auth(&renter.token).send().await.problem(409, "state-conflict");
    ended(&world, &mut running).await;
    let end = world.get(&path).auth(&renter.token).send().await.ok(200);
    assert_eq!((&end["credit_s"], &end["signed_by"]), (&json!(10), &json!([])));
    let message = &end["typed_data"]["message"];
    assert_eq!(message["stoppedAt"], (START + 40).to_string());
    assert_eq!(message["id"], format!("{:#x}", running.escrow_id));
    let post = |token: &str, signature: String| {
        world.post(&path).auth(token).json(&json!({ "signature": signature })).send()
    };
    let bad = signature(&running, &provider.key, 10);
    post(&renter.token, bad).await.problem(422, "validation-failed");
    let good = signature(&running, &renter.key, 10);
    assert_eq!(post(&renter.token, good.clone()).await.ok(202)["signed_by"], json!(["renter"]));
    assert_eq!(post(&renter.token, good).await.ok(202)["signed_by"], json!(["renter"]));
    let good = signature(&running, &provider.key, 10);
    let both = post(&provider.token, good).await.ok(202);
    assert_eq!(both["signed_by"], json!(["renter", "provider"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_signed_is_kept_even_if_its_signer_has_gone() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    ended(&world, &mut running).await;
    let signed = json!({"signature": signature(&running, &running.renter.key, 10)});
    let path = format!("/v1/rentals/{}/end", running.id);
    let call = world.post(&path).auth(&running.renter.token).json(&signed);
    crate::habits::asked_by_somebody_who_goes(&world, call).await;
    crate::habits::comes_to(&world, "SELECT count(*) FROM end_signatures", 1).await;
}
