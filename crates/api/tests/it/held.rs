//! Held seconds and what can be agreed about them, with a chain that says more than it should.

use domain::{
    money::Amount,
    rental::{CloseOutcome, RentalEvent},
    time::{Seconds, UnixSeconds},
};
use escrow::{EscrowEvent, Outcome};
use serde_json::{Value, json};
use store::{Store, rentals::MoneyDelta};
use testkit::{ManualClock, TestDb};

use crate::{
    escrows::mine,
    fixture::{NOW, World, policy},
    rpc,
    running::{Running, START},
    sealed::{say, skipped},
};

fn units(value: u128) -> Amount {
    Amount::new(value).unwrap()
}

/// A market whose contract holds the last ten minutes.
async fn world() -> World {
    let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
    let clock = std::sync::Arc::new(ManualClock::new(NOW.millis()));
    let policy = store::Policy { holdback: Seconds(600), ..policy() };
    let store = Store::from_pool(db.pool, clock.clone(), policy);
    World::over(store, clock, &rpc::start().await, |_| {}).await
}

/// Of 40 s the last 20 are held.
async fn contested(world: &World) -> Running {
    let mut running = Running::new(world).await;
    let started_at = UnixSeconds(START);
    world.advance(&running.id, RentalEvent::StartFinal { started_at }).await;
    for from in [0_u32, 20] {
        running.pass(world, 20).await;
        running.append(world, from.into(), (from + 20).into()).await;
    }
    let deadline = UnixSeconds(START + 86_440);
    let (net, fee, refund) = (units(3_178), units(433), units(642_778));
    let contested = EscrowEvent::Contested {
        id: running.escrow_id,
        outcome: Outcome::StoppedByRenter,
        settled: Seconds(20),
        held: Seconds(20),
        claim: Seconds(20),
        deadline,
        renter_disputes: false,
        net,
        fee,
        refund,
        pushed: true,
    };
    say(world, 5, START + 40, &[contested]).await;
    world.advance(&running.id, RentalEvent::ContestedFinal { deadline }).await;
    let delta = MoneyDelta { provider: net, fee, refund, ..MoneyDelta::default() };
    world.pay(&running.id, delta).await;
    running
}

fn actions(case: &Value) -> Vec<&str> {
    let all = case["actions"].as_array().unwrap();
    all.iter().map(|action| action["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_silenced_by_what_anybody_can_make_the_contract_say() {
    let world = world().await;
    let running = contested(&world).await;
    say(&world, 6, START + 41, &skipped(running.escrow_id, 250)).await;
    let body = json!({"rental_id": running.id, "code": "billing"});
    let token = &running.renter.token;
    let case = world.post("/v1/disputes").auth(token).json(&body).send().await.ok(201);
    assert_eq!(case["held"]["seconds"], 20);
    assert!(actions(&case).contains(&"dispute"), "{case:#}");
    let receipt = format!("/v1/rentals/{}/receipt", running.id);
    let receipt = world.get(&receipt).auth(token).send().await.ok(200);
    assert_eq!(receipt["held"]["seconds"], 20);
    let names = receipt["events"].as_array().unwrap().iter().map(|event| event["name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["contested"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_arbiter_decided_is_what_it_cost() {
    let world = world().await;
    let running = contested(&world).await;
    let (provider, fee, refund) = (units(794), units(108), units(2_709));
    let billed = Some(Seconds(25));
    world
        .pay(&running.id, MoneyDelta { provider, fee, refund, billed, ..MoneyDelta::default() })
        .await;
    let outcome = CloseOutcome::Resolved;
    world.advance(&running.id, RentalEvent::ClosedFinal { outcome }).await;
    let rental = running.rental(&world).await;
    assert_eq!(rental["state"], "resolved");
    // the readings cover 40
    assert_eq!(rental["cost"]["seconds_billed"], 25);
    assert_eq!(rental["cost"]["accrued"]["base_units"], "4513");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_contract_would_take_is_proposed() {
    let world = world().await;
    let running = Running::new(&world).await;
    let started_at = UnixSeconds(START);
    world.advance(&running.id, RentalEvent::StartFinal { started_at }).await;
    let token = &running.renter.token;
    let body = json!({"rental_id": running.id, "code": "billing"});
    let case = world.post("/v1/disputes").auth(token).json(&body).send().await.ok(201);
    let path = format!("/v1/disputes/{}/propose", case["id"].as_str().unwrap());
    let propose = async |billed: u64| {
        let body = json!({"billed_s": billed, "valid_until": "2027-01-15T12:00:00Z"});
        world.post(&path).auth(token).json(&body).send().await
    };
    let released = EscrowEvent::Released {
        id: running.escrow_id,
        settled: Seconds(100),
        net: units(15_889),
        fee: units(2_166),
    };
    world.pass(150);
    propose(50).await.ok(200);
    say(&world, 5, START + 140, &[released]).await;
    propose(99).await.problem(422, "validation-failed");
    propose(100).await.ok(200);
    propose(151).await.problem(422, "validation-failed");
    // what is paid is paid in the contract's eyes before its block is final
    let released = EscrowEvent::Released {
        id: running.escrow_id,
        settled: Seconds(120),
        net: units(3_177),
        fee: units(433),
    };
    mine(&world, 6, false, &[released]).await;
    propose(119).await.problem(422, "validation-failed");
    propose(120).await.ok(200);
    // the deposit pays for an hour
    world.pass(5_000);
    propose(3_600).await.ok(200);
    propose(3_601).await.problem(422, "validation-failed");
}

/// Whatever one side opens and takes back, the other can still open a case.
#[tokio::test(flavor = "multi_thread")]
async fn cases_about_a_rental_have_an_end_for_each_side() {
    let world = world().await;
    let running = Running::new(&world).await;
    let token = &running.renter.token;
    let body = json!({"rental_id": running.id, "code": "abuse"});
    for _ in 0..4 {
        let case = world.post("/v1/disputes").auth(token).json(&body).send().await.ok(201);
        let path = format!("/v1/disputes/{}/withdraw", case["id"].as_str().unwrap());
        world.post(&path).auth(token).send().await.ok(200);
    }
    let open = || world.post("/v1/disputes").auth(token).json(&body).send();
    let said = open().await.problem(409, "state-conflict");
    assert!(said["detail"].as_str().unwrap().contains("opened 4 cases"), "{said}");
    // had the provider opened them, the renter could
    let theirs = sqlx::query("UPDATE disputes SET opened_by = 'provider'");
    theirs.execute(world.store.pool()).await.unwrap();
    open().await.ok(201);
}

/// The rental before its case, as the engine does: two who wait for each other would fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_case_is_not_held_while_its_rental_is_waited_for() {
    let world = world().await;
    let running = Running::new(&world).await;
    let token = running.renter.token.clone();
    let body = json!({"rental_id": running.id, "code": "abuse"});
    let case = world.post("/v1/disputes").auth(&token).json(&body).send().await.ok(201);
    let path = format!("/v1/disputes/{}/withdraw", case["id"].as_str().unwrap());
    let mut engine = world.store.pool().acquire().await.unwrap();
    sqlx::query("BEGIN").execute(&mut *engine).await.unwrap();
    let lock = "SELECT id FROM rentals WHERE state = 'active' FOR UPDATE";
    sqlx::query(lock).fetch_one(&mut *engine).await.unwrap();
    let call = world.post(&path).auth(&token);
    let withdrawing = tokio::spawn(async move { call.send().await });
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waits).fetch_one(world.store.pool()).await.unwrap() == 0 {
        assert!(!withdrawing.is_finished(), "it did not wait for the rental");
        tokio::task::yield_now().await;
    }
    let case = "SELECT id FROM disputes FOR UPDATE NOWAIT";
    sqlx::query(case).fetch_one(&mut *engine).await.unwrap();
    sqlx::query("ROLLBACK").execute(&mut *engine).await.unwrap();
    assert_eq!(withdrawing.await.unwrap().ok(200)["state"], "withdrawn");
}
