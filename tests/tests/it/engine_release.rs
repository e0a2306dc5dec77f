//! Rentals that run for long are paid on the way: as much as the evidence covers and never an outage, once, and to the
//! unit with what the end pays.

use alloy::primitives::{B256, Bytes, keccak256};
use domain::{
    ledger::LedgerAccount,
    metering::Interval,
    money::Amount,
    rental::{RentalEvent, RentalState, StartStatus},
    time::{Seconds, UnixMillis, UnixSeconds},
};
use escrow::{EscrowEvent, calldata};
use serde_json::json;
use store::{
    Policy, StoreError, TxError,
    ends::Side,
    jobs::{self, JobKind},
    readings::{self, Reading},
    txs,
};
use testkit::DEV_KEYS;
use tests::market::{Booked, Market, POL, people, policy};
use uuid::Uuid;

/// Half of it may be lost to outages; a call may be sent for a quarter of it.
const HOLDBACK: u32 = 200;
const EVERY: u32 = 600;
const RENTER_KEY: &str = DEV_KEYS[4];

fn releasing() -> Policy {
    Policy {
        max_outage: Seconds(90),
        holdback: Seconds(HOLDBACK),
        release_every: Seconds(EVERY),
        ..policy()
    }
}

/// So many rentals, started together, under an engine that releases.
async fn running(count: usize) -> (Market, Vec<Booked>) {
    let mut market = Market::new().await;
    restart(&mut market).await;
    let mut rentals = Vec::new();
    for at in 0..count {
        let token = if at % 2 == 0 { market.usdc } else { POL };
        let rental = market.book_holding(token, Seconds(HOLDBACK)).await;
        market.lock(&rental, rental.deposit).await;
        rentals.push(rental);
    }
    market.settle_in().await;
    for rental in &rentals {
        market.ready(rental).await;
    }
    settle_in(&market, &rentals).await;
    for rental in &rentals {
        assert_eq!(market.progress(rental).await.start, StartStatus::Final);
    }
    (market, rentals)
}

async fn restart(market: &mut Market) {
    market.engine = market.another_under(releasing(), market.chain.url()).await;
    market.engine.lane.take_over().await.unwrap();
}

/// The machines were good until now.
async fn speak(market: &Market, rentals: &[Booked]) {
    market.sync().await;
    for rental in rentals {
        speak_from(market, rental, None).await;
    }
}

/// The machine was good since then, or since its last word.
async fn speak_from(market: &Market, rental: &Booked, from: Option<UnixSeconds>) {
    let row = market.rental(rental).await;
    let Some(started) = row.progress.started_at.filter(|_| row.progress.stopped_at.is_none())
    else {
        return;
    };
    let (id, now) = (rental.id, market.now());
    market
        .store
        .write("reading", move |tx| {
            Box::pin(async move {
                let head = readings::head(tx, id).await?;
                let last = head.map_or(started, |head| head.to.max(started));
                let span = Interval::new(from.map_or(last, |from| from.max(last)), now);
                if span.is_empty() {
                    return Ok(());
                }
                let reading = Reading {
                    rental: id,
                    seq: head.map_or(1, |head| head.seq + 1),
                    span,
                    detail: json!({}),
                    prev_hash: head.map_or(B256::ZERO, |head| head.hash),
                    hash: keccak256(Uuid::now_v7()),
                    signature: [0; 65],
                    received_at: now,
                };
                readings::append(tx, &reading).await?;
                Ok::<_, TxError<StoreError>>(())
            })
        })
        .await
        .unwrap();
}

/// The machine speaks again after a time without a word.
async fn come_back(market: &Market, rental: &Booked) {
    speak_from(market, rental, Some(market.now().saturating_minus(Seconds::ONE))).await;
}

/// Long enough for what happened to be final, while the machines go on.
async fn settle_in(market: &Market, rentals: &[Booked]) {
    for _ in 0..9 {
        market.tick().await;
        market.mine().await;
        speak(market, rentals).await;
    }
    market.tick().await;
}

/// The rentals run until then, the engine looking on.
async fn run_until(market: &Market, rentals: &[Booked], time: u64) {
    while market.now().get() < time {
        market.pass((time - market.now().get()).min(60)).await;
        speak(market, rentals).await;
        market.tick().await;
    }
}

/// When the rental's next release comes due.
async fn due(market: &Market, rental: &Booked) -> Option<u64> {
    let due: Option<i64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM due_at)::bigint FROM jobs
         WHERE kind = 'release' AND done_at IS NULL AND rental_id = $1",
    )
    .bind(rental.id.uuid())
    .fetch_optional(market.store.pool())
    .await
    .unwrap();
    due.map(|due| u64::try_from(due).unwrap())
}

/// The releases of a rental by the chain's own word: seconds paid in all, and by each call.
async fn released(market: &Market, rental: &Booked) -> Vec<u128> {
    let told = market.told(rental, "released").await;
    let secs = told.iter().map(|event| {
        let EscrowEvent::Released { settled, .. } = event else { panic!("{event:?}") };
        u128::from(settled.get())
    });
    secs.collect()
}

/// Seconds of the rental that readings cover, by plain arithmetic.
async fn covered(market: &Market, rental: &Booked) -> u128 {
    let progress = market.progress(rental).await;
    let (from, to) = (progress.started_at.unwrap(), progress.stopped_at);
    let mut connection = market.store.read().await.unwrap();
    let parts = readings::covered(&mut connection, rental.id).await.unwrap();
    let clip = |part: &Interval| {
        let end = to.map_or(part.to, |to| part.to.min(to));
        u128::from(end.get().saturating_sub(part.from.max(from).get()))
    };
    parts.iter().map(clip).sum()
}

/// What was released is paid, and nothing else: on the rental, in the ledger, in the contract.
async fn assert_paid_so_far(market: &Market, rental: &Booked) -> u128 {
    let settled = released(market, rental).await.last().copied().unwrap_or_default();
    assert!(settled <= covered(market, rental).await, "an outage was paid");
    let row = market.rental(rental).await;
    let [provider, fee, _] = rental.parts(row.locked, settled);
    let paid = [row.paid_provider, row.paid_fee, row.paid_refund].map(Amount::get);
    assert_eq!(paid, [provider, fee, 0], "{settled} s are settled");
    let deposit = LedgerAccount::renter_deposit(rental.escrow_id, rental.terms.token);
    assert_eq!(market.booked(deposit).await, row.locked.get() - provider - fee);
    settled
}

/// The renter stops and signs, and everything adds up to what the evidence says.
async fn assert_ends_well(market: &Market, rental: &Booked) {
    speak(market, std::slice::from_ref(rental)).await;
    market.stop(rental).await;
    market.sign_end(rental.id, rental.escrow_id, Side::Renter, RENTER_KEY).await;
    market.until(rental, RentalState::Settled).await;
    market.settle_in().await;
    let row = market.rental(rental).await;
    let seconds = covered(market, rental).await;
    assert_eq!(u128::from(row.billed.unwrap().get()), seconds);
    market.assert_divided(rental, rental.parts(row.locked, seconds)).await;
}

const RELEASE_TXS: &str =
    "SELECT count(DISTINCT tx_id) FROM chain_intents WHERE purpose = 'release'";
const RELEASES: &str = "SELECT count(*) FROM chain_intents WHERE purpose = 'release'";
const DONE: &str =
    "SELECT count(*) FROM chain_intents WHERE purpose = 'release' AND state = 'done'";
const REFUSED: &str =
    "SELECT count(*) FROM chain_intents WHERE purpose = 'release' AND state = 'refused'";

#[tokio::test]
async fn long_rentals_are_paid_on_the_way_several_in_one_transaction() {
    let (market, rentals) = running(3).await;
    let mut before = 0;
    for round in 1..=4 {
        let time = due(&market, &rentals[0]).await.unwrap();
        assert_eq!(due(&market, &rentals[2]).await, Some(time), "released together");
        run_until(&market, &rentals, time).await;
        settle_in(&market, &rentals).await;
        assert_eq!(market.count(RELEASE_TXS).await, round, "one transaction for all");
        assert_eq!(market.count(DONE).await, round * 3);
        for rental in &rentals {
            assert_eq!(released(&market, rental).await.len(), usize::try_from(round).unwrap());
            let settled = assert_paid_so_far(&market, rental).await;
            assert!(settled >= before + u128::from(EVERY - HOLDBACK), "{settled} after {before}");
            assert_eq!(market.progress(rental).await.state, RentalState::Active);
        }
        before = assert_paid_so_far(&market, &rentals[0]).await;
        market.assert_reconciled().await;
    }
    // one timer for each interval, and no more
    let timers = "SELECT count(*) FROM jobs WHERE kind = 'release' AND done_at IS NOT NULL";
    assert_eq!(market.count(timers).await, 3 * 4);
    // the provider can have it already
    let rental = &rentals[0];
    let earned = market.kept(rental.terms.token, people::provider()).await;
    assert!(earned > rental.parts(rental.deposit, before)[0], "of two rentals in this token");
    for rental in &rentals {
        assert_ends_well(&market, rental).await;
    }
}

#[tokio::test]
async fn nothing_is_released_that_an_outage_may_take_back() {
    let (market, rentals) = running(3).await;
    let time = due(&market, &rentals[0]).await.unwrap();
    let [steady, shaky, shakier] = &rentals[..] else { panic!() };
    let began = market.now().get();
    // one loses 60 s, which the holdback can bear; the other 120 s, more than half of it
    run_until(&market, std::slice::from_ref(steady), began + 60).await;
    come_back(&market, shaky).await;
    run_until(&market, &rentals[..2], began + 120).await;
    come_back(&market, shakier).await;
    run_until(&market, &rentals, time).await;
    settle_in(&market, &rentals).await;
    let count = async |rental: &Booked| released(&market, rental).await.len();
    assert_eq!((count(steady).await, count(shaky).await, count(shakier).await), (1, 1, 0));
    assert_eq!(due(&market, shakier).await, None, "never again");
    for rental in [steady, shaky] {
        assert!(assert_paid_so_far(&market, rental).await > 0);
    }
    let started = market.progress(shaky).await.started_at.unwrap();
    for (rental, lost) in [(steady, 0..20), (shaky, 59..80), (shakier, 119..140)] {
        let elapsed = u128::from(market.now().get() - started.get());
        let gone = elapsed - covered(&market, rental).await;
        assert!(lost.contains(&gone), "{gone} s without evidence");
    }
    for rental in &rentals {
        assert_ends_well(&market, rental).await;
    }
}

#[tokio::test]
async fn a_machine_that_is_away_is_not_paid_until_it_is_back() {
    let (market, rentals) = running(2).await;
    let [steady, away] = &rentals[..] else { panic!() };
    let time = due(&market, away).await.unwrap();
    run_until(&market, &rentals, time - 30).await;
    let last_good = market.now();
    market.apply(away, RentalEvent::EvidenceLost { last_good }).await;
    run_until(&market, std::slice::from_ref(steady), time).await;
    settle_in(&market, std::slice::from_ref(steady)).await;
    assert_eq!(released(&market, steady).await.len(), 1);
    assert_eq!(market.count(RELEASES).await, 1, "nothing was asked for");
    assert_eq!(market.state(away).await, RentalState::Interrupted);
    // it comes back, and is looked at again soon
    come_back(&market, away).await;
    market.apply(away, RentalEvent::EvidenceBack).await;
    run_until(&market, &rentals, time + 90).await;
    settle_in(&market, &rentals).await;
    assert_eq!(released(&market, away).await.len(), 1);
    assert!(assert_paid_so_far(&market, away).await > u128::from(EVERY - HOLDBACK));
    // and one that falls silent without a word is not paid either
    let time = due(&market, away).await.unwrap();
    run_until(&market, &rentals, time - 120).await;
    run_until(&market, std::slice::from_ref(steady), time).await;
    settle_in(&market, std::slice::from_ref(steady)).await;
    assert_eq!(
        (released(&market, steady).await.len(), released(&market, away).await.len()),
        (2, 1)
    );
    assert_ends_well(&market, steady).await;
    assert_ends_well(&market, away).await;
}

/// Until the release is signed and stored, and nothing of it is sent. Its bytes.
async fn signed(market: &Market, rentals: &[Booked]) -> Bytes {
    let time = due(market, &rentals[0]).await.unwrap();
    run_until(market, rentals, time - 1).await;
    market.pass(1).await;
    speak(market, rentals).await;
    market.engine.conductor.tick().await.unwrap();
    market.engine.lane.sign_queued().await.unwrap();
    let raw: Vec<u8> = sqlx::query_scalar(
        "SELECT a.raw FROM chain_tx_attempts a JOIN chain_intents i ON i.tx_id = a.tx_id
         WHERE i.purpose = 'release' AND i.state = 'sent' LIMIT 1",
    )
    .fetch_one(market.store.pool())
    .await
    .unwrap();
    raw.into()
}

#[tokio::test]
async fn an_engine_killed_after_signing_sends_the_same_bytes() {
    let (mut market, rentals) = running(2).await;
    let raw = signed(&market, &rentals).await;
    assert!(released(&market, &rentals[0]).await.is_empty());
    restart(&mut market).await;
    settle_in(&market, &rentals).await;
    for rental in &rentals {
        assert_eq!(released(&market, rental).await.len(), 1);
        let seen = market.seen(rental, "released").await;
        assert_eq!(market.raw(seen[0].tx_hash).await, raw);
        assert_paid_so_far(&market, rental).await;
    }
    let attempts = "SELECT count(*) FROM chain_tx_attempts a
                    JOIN (SELECT DISTINCT tx_id FROM chain_intents WHERE purpose = 'release') i USING (tx_id)";
    assert_eq!(market.count(attempts).await, 1);
    for rental in &rentals {
        assert_ends_well(&market, rental).await;
    }
}

#[tokio::test]
async fn a_release_whose_block_leaves_the_chain_is_paid_once() {
    for kept in [true, false] {
        let (market, rentals) = running(2).await;
        let raw = signed(&market, &rentals).await;
        market.engine.lane.send_due().await.unwrap();
        market.tick().await;
        let first = market.seen(&rentals[0], "released").await;
        assert_eq!((first.len(), first[0].is_final), (1, false));
        assert_eq!(market.rental(&rentals[0]).await.paid_provider, Amount::ZERO, "not final");
        let back = if kept { std::slice::from_ref(&raw) } else { &[] };
        market.reorg(1, back).await;
        settle_in(&market, &rentals).await;
        for rental in &rentals {
            assert_eq!(released(&market, rental).await.len(), 1, "kept: {kept}");
            let seen = market.seen(rental, "released").await;
            assert!(seen.len() == 1 && seen[0].block_hash != first[0].block_hash);
            assert!(assert_paid_so_far(&market, rental).await > 0);
        }
        let postings = "SELECT count(*) FROM ledger_postings WHERE kind = 'release'";
        assert_eq!(market.count(postings).await, 2);
        for rental in &rentals {
            assert_ends_well(&market, rental).await;
        }
    }
}

#[tokio::test]
async fn a_release_that_comes_too_late_is_given_up_and_asked_for_anew() {
    let (mut market, rentals) = running(2).await;
    signed(&market, &rentals).await;
    // the worker is away for longer than the evidence of its time was good for, and so is a machine
    let late = market.now().get() + u64::from(HOLDBACK / 4);
    market.travel(late).await;
    speak_from(&market, &rentals[0], None).await;
    restart(&mut market).await;
    assert_eq!(market.engine.lane.send_due().await.unwrap(), 0, "not sent any more");
    settle_in(&market, &rentals[..1]).await;
    let given_up = "SELECT count(*) FROM chain_txs WHERE state = 'voided'";
    assert_eq!(market.count(given_up).await, 1);
    assert_eq!((market.count(DONE).await, market.count(REFUSED).await), (0, 2));
    for rental in &rentals {
        assert!(released(&market, rental).await.is_empty());
    }
    // soon after it is asked about again
    come_back(&market, &rentals[1]).await;
    run_until(&market, &rentals, market.now().get() + 60).await;
    settle_in(&market, &rentals).await;
    assert_eq!(released(&market, &rentals[0]).await.len(), 1);
    for rental in &rentals {
        assert_paid_so_far(&market, rental).await;
        assert_ends_well(&market, rental).await;
    }
}

#[tokio::test]
async fn a_release_that_waits_too_long_to_be_signed_is_not_signed() {
    let (market, rentals) = running(1).await;
    let time = due(&market, &rentals[0]).await.unwrap();
    run_until(&market, &rentals, time - 1).await;
    market.pass(1).await;
    speak(&market, &rentals).await;
    market.engine.conductor.tick().await.unwrap();
    assert_eq!(market.count(RELEASES).await, 1);
    market.pass(u64::from(HOLDBACK / 4)).await;
    speak(&market, &rentals).await;
    market.engine.lane.tick().await.unwrap();
    assert_eq!((market.count(RELEASE_TXS).await, market.count(REFUSED).await), (0, 1));
    run_until(&market, &rentals, market.now().get() + 60).await;
    settle_in(&market, &rentals).await;
    assert_eq!(released(&market, &rentals[0]).await.len(), 1);
    assert_ends_well(&market, &rentals[0]).await;
}

#[tokio::test]
async fn who_was_released_by_somebody_else_or_has_ended_is_left_out() {
    let (market, rentals) = running(4).await;
    let time = due(&market, &rentals[0]).await.unwrap();
    run_until(&market, &rentals, time - 1).await;
    market.pass(1).await;
    speak(&market, &rentals).await;
    market.engine.conductor.tick().await.unwrap();
    // the provider and a renter were faster, and we have not read those blocks yet
    let release = calldata::release(&rentals[1].terms);
    market.at(market.now().get()).await;
    market.call(people::provider(), release).await;
    market.call(people::renter(), calldata::stop(&rentals[2].terms)).await;
    // and one is stopped at the platform: its release is dropped
    market.ask_to_stop(&rentals[3]).await;
    let rest = [rentals[0].clone(), rentals[1].clone()];
    settle_in(&market, &rest).await;
    assert_eq!(market.count(RELEASE_TXS).await, 1);
    let skipped = "SELECT count(*) FROM chain_events WHERE name = 'skipped'";
    assert_eq!(market.count(skipped).await, 0, "no gas was spent on it");
    for rental in &rest {
        assert!(!released(&market, rental).await.is_empty());
        assert_paid_so_far(&market, rental).await;
    }
    for rental in &rentals[2..] {
        assert!(released(&market, rental).await.is_empty());
    }
    let dropped = "SELECT count(*) FROM chain_intents WHERE purpose = 'release'
                   AND last_error = 'the rental is not active any more'";
    assert_eq!(market.count(dropped).await, 1);
    for rental in &rest {
        assert_ends_well(&market, rental).await;
    }
    market.until(&rentals[2], RentalState::Settled).await;
    market.apply(&rentals[3], RentalEvent::AgentStopped).await;
    market.sign_end(rentals[3].id, rentals[3].escrow_id, Side::Renter, RENTER_KEY).await;
    market.until(&rentals[3], RentalState::Settled).await;
    market.settle_in().await;
    market.assert_at_rest().await;
}

#[tokio::test]
async fn what_a_provider_releases_past_the_evidence_is_its_own_and_adds_up() {
    let (market, rentals) = running(1).await;
    let rental = &rentals[0];
    // five minutes without a word, which only the provider's own call pays: the contract's rule
    let began = market.now().get();
    market.travel(began + 1_000).await;
    market.call(people::provider(), calldata::release(&rental.terms)).await;
    market.settle_in().await;
    let settled = released(&market, rental).await[0];
    assert!(settled > covered(&market, rental).await);
    let row = market.rental(rental).await;
    assert_eq!(row.paid_provider.get(), rental.parts(row.locked, settled)[0]);
    market.stop(rental).await;
    market.sign_end(rental.id, rental.escrow_id, Side::Renter, RENTER_KEY).await;
    market.until(rental, RentalState::Settled).await;
    market.settle_in().await;
    let row = market.rental(rental).await;
    assert_eq!(u128::from(row.billed.unwrap().get()), settled, "no credit brings it back");
    market.assert_divided(rental, rental.parts(row.locked, settled)).await;
}

#[tokio::test]
async fn a_deposit_that_is_added_to_may_be_worth_a_release() {
    let mut market = Market::new().await;
    market.engine = market
        .another_under(Policy { release_every: Seconds(3_500), ..releasing() }, market.chain.url())
        .await;
    market.engine.lane.take_over().await.unwrap();
    let rental = market.book_holding(POL, Seconds(HOLDBACK)).await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.make_active(&rental).await;
    assert_eq!(due(&market, &rental).await, None, "the end pays for all of it");
    market.top_up(people::stranger(), &rental, rental.deposit).await;
    market.settle_in().await;
    let time = due(&market, &rental).await.unwrap();
    // a second one moves nothing
    set_due(&market, &rental, time - 60).await;
    market.top_up(people::stranger(), &rental, rental.deposit).await;
    market.settle_in().await;
    assert_eq!(due(&market, &rental).await, Some(time - 60));
}

async fn set_due(market: &Market, rental: &Booked, time: u64) {
    let id = rental.id;
    market
        .store
        .write("set due", move |tx| {
            Box::pin(async move {
                jobs::schedule(tx, id, JobKind::Release, UnixSeconds(time)).await?;
                Ok::<_, TxError<StoreError>>(())
            })
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn frozen_money_is_not_released() {
    let (market, rentals) = running(2).await;
    sqlx::query(
        "INSERT INTO freezes (scope, subject, reason, detail, block, frozen_at)
         VALUES ('rental', $1, 'rental_drift', 'a test', 1, now())",
    )
    .bind(rentals[1].escrow_id.to_vec())
    .execute(market.store.pool())
    .await
    .unwrap();
    let time = due(&market, &rentals[0]).await.unwrap();
    run_until(&market, &rentals, time).await;
    for _ in 0..6 {
        market.engine.lane.tick().await.unwrap();
        market.mine().await;
    }
    assert_eq!(released(&market, &rentals[0]).await.len(), 1);
    assert!(released(&market, &rentals[1]).await.is_empty());
}

#[tokio::test]
async fn a_rental_whose_timer_was_never_set_gets_one_and_one_that_had_it_does_not() {
    let (mut market, rentals) = running(2).await;
    // an older worker saw the first one start; the other's question is settled
    market.tamper("DELETE FROM jobs WHERE kind = 'release'").await;
    restart(&mut market).await;
    sqlx::query("INSERT INTO jobs (id, kind, rental_id, due_at, done_at) VALUES (gen_random_uuid(), 'release', $1, now(), now())")
        .bind(rentals[1].id.uuid())
        .execute(market.store.pool())
        .await
        .unwrap();
    let now = market.now().get();
    market.engine.conductor.tick().await.unwrap();
    assert_eq!(due(&market, &rentals[0]).await, Some(now + 3_600), "not before the old are gone");
    assert_eq!(due(&market, &rentals[1]).await, None);
    // while nothing is released it waits
    set_due(&market, &rentals[0], now).await;
    let never = Policy { release_every: Seconds::ZERO, ..releasing() };
    market.engine = market.another_under(never, market.chain.url()).await;
    market.engine.conductor.tick().await.unwrap();
    assert_eq!(due(&market, &rentals[0]).await, Some(now + 3_600));
    assert_eq!(market.count(RELEASES).await, 0);
}

const NOOPS: &str = "SELECT count(*) FROM chain_tx_attempts WHERE noop";

#[tokio::test]
async fn a_release_is_late_by_the_chains_clock_too_and_given_up_at_once() {
    let (market, rentals) = running(1).await;
    signed(&market, &rentals).await;
    market
        .tamper(
            "UPDATE chain_blocks SET timestamp = timestamp + interval '1 hour'
             WHERE number = (SELECT max(number) FROM chain_blocks)",
        )
        .await;
    assert_eq!(market.engine.lane.send_due().await.unwrap(), 0, "not sent");
    assert_eq!(market.count(NOOPS).await, 0);
    market.engine.lane.tick().await.unwrap();
    assert_eq!(market.count(NOOPS).await, 1, "young as it is");
    assert!(released(&market, &rentals[0]).await.is_empty());
}

#[tokio::test]
async fn a_release_that_an_interruption_drops_is_asked_about_soon() {
    let (market, rentals) = running(1).await;
    let time = due(&market, &rentals[0]).await.unwrap();
    run_until(&market, &rentals, time - 1).await;
    market.pass(1).await;
    speak(&market, &rentals).await;
    market.engine.conductor.tick().await.unwrap();
    assert_eq!(market.count(RELEASES).await, 1);
    assert!(due(&market, &rentals[0]).await.unwrap() > market.now().get() + u64::from(EVERY / 2));
    let last_good = market.now();
    market.apply(&rentals[0], RentalEvent::EvidenceLost { last_good }).await;
    assert_eq!(market.count(REFUSED).await, 1);
    assert!(due(&market, &rentals[0]).await.unwrap() <= market.now().get() + 30);
}

#[tokio::test]
async fn a_late_release_that_left_its_block_fills_no_gap() {
    let (market, rentals) = running(1).await;
    signed(&market, &rentals).await;
    market.engine.lane.send_due().await.unwrap();
    market.tick().await;
    // the next number is under way
    market
        .tamper(
            "INSERT INTO chain_txs (id, signer, nonce, to_address, calldata, gas_limit, state, next_send_at, created_at, updated_at)
             SELECT gen_random_uuid(), signer, nonce + 1, to_address, calldata, gas_limit, 'numbered', next_send_at, created_at, updated_at
             FROM chain_txs ORDER BY nonce DESC LIMIT 1",
        )
        .await;
    let nonce = market.count("SELECT max(nonce) - 1 FROM chain_txs").await;
    let nonce = u64::try_from(nonce).unwrap();
    let now = market.store.now();
    let later = UnixMillis(now.get() + u64::from(HOLDBACK) * 1_000);
    let signer = market.engine.lane.address();
    let mut connection = market.store.read().await.unwrap();
    let gaps = txs::gap_below(&mut connection, signer, nonce, 16, now).await.unwrap();
    assert!(gaps.len() == 1 && gaps[0].raw.is_some(), "{gaps:?}");
    let gaps = txs::gap_below(&mut connection, signer, nonce, 16, later).await.unwrap();
    assert!(gaps.is_empty(), "{gaps:?}");
}
