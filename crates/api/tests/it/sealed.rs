//! The receipt for strangers: all that the service knows of a rental's end, held against itself.

use alloy::primitives::B256;
use domain::{
    money::Amount,
    rental::{CloseOutcome, RentalEvent},
    time::{Seconds, UnixSeconds},
};
use escrow::{EscrowEvent, Outcome, receipt};
use serde_json::Value;
use store::{
    blocks::{self, FollowedBlock, NewEvent},
    rentals::MoneyDelta,
};

use crate::{
    fixture::{CHAIN_ID, ESCROW, USDC, World, key},
    payments::count,
    running::{Running, START},
};

const QUOTER: u8 = 77;

fn units(value: u128) -> Amount {
    Amount::new(value).unwrap()
}

/// A final block with an event in it, as the watcher keeps them.
pub async fn say(world: &World, number: u64, at: u64, said: &[EscrowEvent]) {
    let hash = |number: u64| B256::left_padding_from(&number.to_be_bytes());
    let block = FollowedBlock {
        number,
        hash: hash(number),
        parent_hash: hash(number - 1),
        timestamp: UnixSeconds(at),
        is_final: true,
    };
    let event = |(log_index, said): (u32, &EscrowEvent)| NewEvent {
        log_index,
        tx_hash: B256::repeat_byte(u8::try_from(number).unwrap()),
        name: said.name(),
        escrow_id: said.rental(),
        body: serde_json::to_value(said).unwrap(),
    };
    let events: Vec<NewEvent> = (0..).zip(said).map(event).collect();
    world
        .store
        .write::<(), (), _>("test.say", move |tx| {
            let (block, events) = (block.clone(), events.clone());
            Box::pin(async move { Ok(blocks::append(tx, &block, &events).await?) })
        })
        .await
        .unwrap();
}

pub fn skipped(id: B256, times: usize) -> Vec<EscrowEvent> {
    vec![EscrowEvent::Skipped { id, reason: "NotDue".to_owned() }; times]
}

/// A rental of 40 s with an outage of 10, settled on the chain.
async fn settled(world: &World) -> Running {
    let mut running = Running::new(world).await;
    let started_at = UnixSeconds(START);
    world.advance(&running.id, RentalEvent::StartFinal { started_at }).await;
    running.pass(world, 20).await;
    running.append(world, 0, 20).await;
    running.pass(world, 20).await;
    running.append(world, 30, 40).await;
    let stop = world.post(&format!("/v1/rentals/{}/stop", running.id));
    stop.auth(&running.renter.token).key("s").send().await.ok(202);
    world.advance(&running.id, RentalEvent::AgentStopped).await;
    let (net, fee, refund) = (units(4_767), units(649), units(644_584));
    let billed = Seconds(30);
    let delta =
        MoneyDelta { provider: net, fee, refund, billed: Some(billed), ..MoneyDelta::default() };
    world.pay(&running.id, delta).await;
    let outcome = CloseOutcome::ClosedByOperator;
    world.advance(&running.id, RentalEvent::ClosedFinal { outcome }).await;
    let id = running.escrow_id;
    let locked = EscrowEvent::Locked {
        id,
        renter: running.renter.key.address(),
        provider: running.rig.provider.key.address(),
        token: USDC,
        deposit: units(650_000),
        prepaid: false,
    };
    let outcome = Outcome::ClosedByOperator;
    let closed = EscrowEvent::Closed { id, outcome, billed, net, fee, refund, pushed: true };
    say(world, 5, START - 5, &[locked]).await;
    say(world, 6, START + 2, &[EscrowEvent::Started { id, started_at }]).await;
    // anybody can have it say so, without end
    say(world, 7, START + 20, &skipped(id, 2_000)).await;
    say(world, 8, START + 50, &[closed]).await;
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_rental_has_a_receipt_that_a_stranger_can_check() {
    let world = World::with(|config| config.quoter = Some(key(QUOTER))).await;
    let running = settled(&world).await;
    let path = format!("/v1/rentals/{}/sealed-receipt", running.id);
    let reply = world.get(&path).auth(&running.renter.token).send().await;
    let name = format!("attachment; filename=\"{}.json\"", running.id);
    assert_eq!(reply.header("content-disposition"), name);
    let body = reply.ok(200);
    let text = body.to_string();
    let read = receipt::read(text.as_bytes()).unwrap();
    let proven = receipt::verify(&read, None, &[key(QUOTER).address()]).unwrap();
    assert_eq!((proven.id, proven.readings), (running.escrow_id, 2));
    assert_eq!((read.chain_id, read.escrow), (CHAIN_ID, ESCROW));
    assert_eq!(read.readings.agent, Some(running.rig.agent.key.address()));
    assert_eq!(body["metered"]["outages"][0]["from"], START + 20);
    assert_eq!(body["rental"], running.id);
    // both parties get the same, to the byte
    let other = world.get(&path).auth(&running.rig.provider.token).send().await.ok(200);
    assert_eq!(other.to_string(), text);

    // a long chain of readings is fetched by itself
    let apart = format!("{path}?readings=apart");
    let body = world.get(&apart).auth(&running.renter.token).send().await.ok(200);
    let read = receipt::read(body.to_string().as_bytes()).unwrap();
    receipt::verify(&read, None, &[]).unwrap_err();
    let readings = format!("/v1/rentals/{}/readings", running.id);
    let page = world.get(&readings).auth(&running.renter.token).send().await.ok(200);
    let item = |value: &Value| {
        let mut value = value.clone();
        value.as_object_mut().unwrap().remove("hash");
        serde_json::from_value::<receipt::Item>(value).unwrap()
    };
    let items: Vec<_> = page["data"].as_array().unwrap().iter().map(item).collect();
    receipt::verify(&read, Some(&items), &[]).unwrap();
}

/// A party has two turns, however many it asks for, and who is none has no place among those who wait.
#[tokio::test(flavor = "multi_thread")]
async fn turns_are_for_parties_and_nobody_has_more_than_a_share() {
    let world = World::with(|config| config.quoter = Some(key(QUOTER))).await;
    let running = settled(&world).await;
    let stranger = world.sign_in(30).await;
    let path = format!("/v1/rentals/{}/sealed-receipt", running.id);
    let ask = |token: &str| world.get(&path).auth(token).send();
    // whoever has a turn reads them
    let mut connection = world.store.pool().acquire().await.unwrap();
    let mut tx = testkit::begin(&mut connection).await.unwrap();
    let lock = "LOCK TABLE readings IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut *tx).await.unwrap();
    let renter = &running.renter.token;
    let sealed = [tokio::spawn(ask(renter)), tokio::spawn(ask(renter))];
    let waiting =
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'readings'::regclass
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while count(&world, waiting).await < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let refused = ask(renter).await.problem(503, "unavailable");
    assert!(refused["detail"].as_str().unwrap().contains("your receipts"), "{refused}");
    ask(&stranger.token).await.problem(404, "not-found");
    tx.rollback().await.unwrap();
    for one in sealed {
        one.await.unwrap().ok(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_receipt_is_sealed_for_strangers_too_early_or_without_a_key() {
    let world = World::with(|config| config.quoter = Some(key(QUOTER))).await;
    let running = Running::new(&world).await;
    let path = format!("/v1/rentals/{}/sealed-receipt", running.id);
    world.get(&path).auth(&running.renter.token).send().await.problem(409, "receipt-not-ready");
    let stranger = world.sign_in(30).await;
    world.get(&path).auth(&stranger.token).send().await.problem(404, "not-found");
    world.get(&path).send().await.problem(401, "unauthenticated");
    let odd = world.get(&format!("{path}?readings=all")).auth(&running.renter.token).send().await;
    odd.problem(400, "invalid-request");

    let world = World::new().await;
    let running = settled(&world).await;
    let path = format!("/v1/rentals/{}/sealed-receipt", running.id);
    let refused = world.get(&path).auth(&running.renter.token).send().await;
    let said = refused.problem(409, "state-conflict");
    assert!(said["detail"].as_str().unwrap().contains("no key"), "{said}");
}
