//! What running rentals cost while nothing happens: nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    ledger::LedgerAccount, metering::Interval, money::Amount, rental::RentalState, time::Seconds,
};
use store::{Policy, StoreError, TxError, readings};
use testkit::RpcProxy;
use tests::{
    house,
    market::{Booked, Market, POL, people, policy},
};
use tokio::time::{Instant, sleep};

/// Simulated, a look at the chain and the timers a minute.
const HOURS: u32 = 2;
const STEPS: u32 = HOURS * 60;
/// Deposits last so many hours: half of one, which is told, is not spent meanwhile.
const DEPOSIT: u32 = 3 * HOURS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    /// Rows inserted, changed and deleted.
    rows: i64,
    /// Statements outside transactions, and transactions.
    units: i64,
    /// Requests to the chain's node.
    calls: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn running_rentals_cost_nothing_between_events() {
    let (one, four) = (cost_of(1).await, cost_of(4).await);
    assert_eq!((one.rows, one.calls), (four.rows, four.calls), "{one:?} {four:?}");
    // one unit for each rental and step would be hundreds more; the server's own housekeeping is a few
    assert!((four.units - one.units).abs() < i64::from(STEPS) / 4, "{one:?} {four:?}");
}

/// Rows that one rental's release inserts and changes, from the timer to the ledger, beside its share of a transaction.
const ROWS_OF_A_RELEASE: i64 = 18;

#[tokio::test(flavor = "multi_thread")]
async fn a_rental_that_is_paid_on_the_way_costs_one_timer_an_interval() {
    let (one, four) = (released(1).await, released(4).await);
    assert_eq!(four - one, 3 * i64::from(HOURS) * ROWS_OF_A_RELEASE);
}

/// Rows that an engine writes in the simulated hours, in which so many running rentals are released each hour.
async fn released(rentals: usize) -> i64 {
    let mut market = Market::new().await;
    let watched = Policy {
        evidence_timeout: Seconds(10),
        holdback: Seconds(600),
        release_every: Seconds(3_600),
        ..policy()
    };
    market.engine = market.another_under(watched.clone(), market.chain.url()).await;
    market.engine.lane.take_over().await.unwrap();
    let mut running = Vec::new();
    for _ in 0..rentals {
        let rental = market.book_holding(POL, watched.holdback).await;
        let deposit = rental.deposit.get() * u128::from(DEPOSIT);
        market.lock(&rental, Amount::new(deposit).unwrap()).await;
        running.push(rental);
    }
    market.settle_in().await;
    for rental in &running {
        market.ready(rental).await;
        speak(&market, rental, Seconds(HOURS * 3_600 + 3_000)).await;
    }
    market.settle_in().await;
    let before = stored(&market).await;
    let timers = "SELECT count(*) FROM jobs WHERE kind = 'release' AND done_at IS NOT NULL";
    assert_eq!(market.count(timers).await, 0);
    let engine = market.another_under(watched, market.chain.url()).await;
    engine.lane.take_over().await.unwrap();
    // what is released at their end is to become final too
    for _ in 0..STEPS + 15 {
        market.pass(60).await;
        engine.tick().await.unwrap();
    }
    drop(engine);
    let after = stored(&market).await;
    let intervals = i64::from(HOURS);
    let each = i64::try_from(rentals).unwrap() * intervals;
    assert_eq!(market.count(timers).await, each, "one timer an interval");
    let sent = "SELECT count(DISTINCT tx_id) FROM chain_intents WHERE purpose = 'release'";
    assert_eq!(market.count(sent).await, intervals, "one transaction for all of them");
    let paid = "SELECT count(*) FROM ledger_postings WHERE kind = 'release'";
    assert_eq!(market.count(paid).await, each);
    for rental in &running {
        assert_eq!(market.state(rental).await, RentalState::Active);
    }
    after.0 - before.0
}

/// What an engine does in the simulated hours, with so many running rentals whose readings come.
async fn cost_of(rentals: usize) -> Cost {
    let market = Market::new().await;
    let mut running = Vec::new();
    for _ in 0..rentals {
        let rental = market.book().await;
        let deposit = rental.deposit.get() * u128::from(DEPOSIT);
        market.lock(&rental, Amount::new(deposit).unwrap()).await;
        running.push(rental);
    }
    market.settle_in().await;
    for rental in &running {
        market.make_active(rental).await;
    }
    market.settle_in().await;
    for rental in &running {
        speak(&market, rental, Seconds(HOURS * 3_600 + 900)).await;
    }
    // what is still to become final is no rest, nor are the deadlines of before that come due once
    for _ in 0..10 {
        market.pass(70).await;
        market.tick().await;
    }

    let proxy = RpcProxy::before(market.chain.url(), 1).await.unwrap();
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    proxy.meddle(move |_, _, _| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let before = stored(&market).await;
    let watched = Policy { evidence_timeout: Seconds(10), ..policy() };
    let engine = market.another_under(watched, proxy.url()).await;
    for _ in 0..STEPS {
        market.pass(60).await;
        engine.tick().await.unwrap();
    }
    drop(engine);
    let after = stored(&market).await;
    for rental in &running {
        assert_eq!(market.state(rental).await, RentalState::Active);
    }
    let calls = calls.load(Ordering::SeqCst);
    assert!(calls > u64::from(STEPS), "the engine looked at the chain");
    Cost { rows: after.0 - before.0, units: after.1 - before.1, calls }
}

/// A reading that covers the next seconds: as if the machine spoke all the time, without a write of its own.
async fn speak(market: &Market, rental: &Booked, seconds: Seconds) {
    let (id, now) = (rental.id, market.now());
    let started = market.rental(rental).await.progress.started_at.unwrap();
    let mut reading = house::reading(id, 1, 0, 1, now);
    reading.span = Interval::new(started, now.saturating_plus(seconds));
    market
        .store
        .write("speak", move |tx| {
            let reading = reading.clone();
            Box::pin(async move {
                readings::append(tx, &reading).await?;
                Ok::<_, TxError<StoreError>>(())
            })
        })
        .await
        .unwrap();
}

/// The server's own counts, when everybody who works on this database has told theirs: at its end.
async fn stored(market: &Market) -> (i64, i64) {
    let began = Instant::now();
    // one connection for all of it, which tells its own counts at once
    let mut connection = market.store.read().await.unwrap();
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(&mut *connection).await.unwrap();
    let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid()
                    AND backend_type = 'client backend'";
    while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut *connection).await.unwrap() > 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "connections do not end");
        sleep(Duration::from_millis(50)).await;
    }
    let counts =
        "SELECT (SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables),
                         xact_commit
                  FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_as(counts).fetch_one(&mut *connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_noticed_in_time_and_dated_to_the_last_good_second() {
    let market = Market::new().await;
    let rental = market.running(POL).await;
    market.run_for(&rental, 30).await;
    let last_good = market.now();
    let watched = Policy { evidence_timeout: Seconds(10), ..policy() };
    let engine = market.another_under(watched.clone(), market.chain.url()).await;
    market.pass(9).await;
    engine.tick().await.unwrap();
    assert_eq!(market.state(&rental).await, RentalState::Active);
    // killed and started anew: nothing was to be remembered
    drop(engine);
    let engine = market.another_under(watched, market.chain.url()).await;
    market.pass(1).await;
    engine.tick().await.unwrap();
    let progress = market.rental(&rental).await.progress;
    assert_eq!(progress.state, RentalState::Interrupted);
    assert_eq!(progress.interrupted_since, Some(last_good));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_signers_paid_for_gas_is_in_the_ledger_and_no_claim() {
    let market = Market::new().await;
    let rental = market.running(POL).await;
    market.run_for(&rental, 7).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    let paid = market
        .count("SELECT sum(gas_used * gas_price)::bigint FROM chain_txs WHERE state = 'final_ok'")
        .await;
    assert!(paid > 0);
    let spent = LedgerAccount::gas_spent(people::operator());
    assert_eq!(market.booked(spent).await, u128::try_from(paid).unwrap());
    let twice = "SELECT count(*) - count(DISTINCT source) FROM ledger_postings WHERE kind = 'gas'";
    assert_eq!(market.count(twice).await, 0);
    market.assert_reconciled().await;
}
