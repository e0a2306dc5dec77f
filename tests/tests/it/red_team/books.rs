//! False books: events that the chain never told, payouts that were never made, states that nothing led to. Books pay
//! nobody; and each is found, and its money frozen, at the next look.

use domain::{
    money::Amount,
    rental::RentalState,
    time::{Seconds, UnixSeconds},
};
use escrow::{EscrowEvent, Outcome, calldata};
use store::{
    freezes::{self, Scope},
    intents::Call,
};
use tests::market::{Booked, Market, people};

use super::{
    rules::{self, Purses},
    thief::{self, hex, hex_of},
};

async fn frozen(market: &Market) -> Vec<Scope> {
    let mut connection = market.store.read().await.unwrap();
    let open = freezes::open(&mut connection, 100).await.unwrap();
    open.into_iter().map(|freeze| freeze.scope).collect()
}

/// An event in the newest final block, as the watcher would have read it.
async fn tell(market: &Market, rental: &Booked, event: &EscrowEvent) {
    let statement = format!(
        "INSERT INTO chain_events (block_hash, log_index, block_number, tx_hash, name, escrow_id, body)
         SELECT hash, 7000 + (SELECT count(*) FROM chain_events)::integer, number, {}, '{}', {}, '{}'
         FROM chain_blocks WHERE final ORDER BY number DESC LIMIT 1",
        hex(&[7; 32]),
        event.name(),
        hex_of(rental.escrow_id),
        serde_json::to_string(event).unwrap(),
    );
    thief::write(market, &statement).await;
}

/// The worker goes on, whatever it finds.
async fn go_on(market: &Market) {
    for _ in 0..2 {
        thief::work(market).await;
    }
}

/// What the thief wants most: that the worker pays by these books.
async fn cash_in(market: &Market, rentals: &[&Booked]) {
    for rental in rentals {
        for call in [Call::Release { until: UnixSeconds(u64::from(u32::MAX)) }, Call::Finalize] {
            thief::want_call(market, rental, &call).await;
        }
    }
    go_on(market).await;
}

#[tokio::test]
async fn a_lock_that_never_was_freezes_its_token_and_pays_nobody() {
    let market = Market::new().await;
    let before = Purses::read(&market).await;
    let running = market.running(market.usdc).await;
    market.run_for(&running, 9).await;
    let unfunded = market.book_in(market.usdc).await;
    let locked = EscrowEvent::Locked {
        id: unfunded.escrow_id,
        renter: people::renter(),
        provider: people::provider(),
        token: market.usdc,
        deposit: unfunded.deposit,
        prepaid: false,
    };
    tell(&market, &unfunded, &locked).await;
    go_on(&market).await;
    assert_eq!(market.state(&unfunded).await, RentalState::Funded, "the books believe it");
    assert!(!market.reconcile().await.agrees(), "the alarm");
    assert_eq!(frozen(&market).await, [Scope::Token(market.usdc)]);
    let told = rules::events(&market).await;
    cash_in(&market, &[&unfunded, &running]).await;
    assert_eq!(rules::events(&market).await, told, "nothing of frozen money is sent");
    rules::assert_kept(&market, &before, &[&running]).await;
}

#[tokio::test]
async fn a_payout_that_never_was_leaves_the_deposit_where_it_is() {
    let market = Market::new().await;
    let before = Purses::read(&market).await;
    let running = market.running(market.usdc).await;
    market.run_for(&running, 9).await;
    let closed = EscrowEvent::Closed {
        id: running.escrow_id,
        outcome: Outcome::ClosedByOperator,
        billed: Seconds(3_600),
        net: running.deposit,
        fee: Amount::ZERO,
        refund: Amount::ZERO,
        pushed: true,
    };
    tell(&market, &running, &closed).await;
    go_on(&market).await;
    assert_eq!(market.purse(market.usdc, market.site.escrow).await, running.deposit.get());
    rules::assert_kept(&market, &before, &[&running]).await;
    // both sides leave by the chain, to the unit
    market.call(people::renter(), calldata::stop(&running.terms)).await;
    let all = calldata::withdraw(market.usdc, people::provider(), Amount::ZERO);
    market.call(people::provider(), all).await;
    rules::assert_kept(&market, &before, &[&running]).await;
    // and what the chain says then does not fit the books
    go_on(&market).await;
    let report = market.engine.reconciler.tick().await.unwrap();
    assert!(report.is_none(), "the alarm: nothing can be said to agree");
    assert_eq!(
        market.count("SELECT count(*) FROM chain_events WHERE failure IS NOT NULL").await,
        1
    );
}

#[tokio::test]
async fn earnings_that_were_never_earned_are_found_and_cannot_be_withdrawn() {
    let market = Market::new().await;
    let before = Purses::read(&market).await;
    let running = market.running(market.usdc).await;
    let lie = format!(
        "INSERT INTO ledger_accounts (kind, owner, token)
         VALUES ('provider_earnings', {me}, {usdc}) ON CONFLICT DO NOTHING;
         WITH p AS (INSERT INTO ledger_postings (kind, source, at) VALUES ('close', 'a thief', now()) RETURNING id)
         INSERT INTO ledger_transfers (posting_id, ordinal, debit_id, credit_id, amount)
         SELECT p.id, 0, d.id, c.id, 1 FROM p, ledger_accounts d, ledger_accounts c
         WHERE d.kind = 'renter_deposit' AND d.escrow_id = {id}
           AND c.kind = 'provider_earnings' AND c.owner = {me} AND c.token = {usdc}",
        me = hex(thief::thief().as_slice()),
        usdc = hex(market.usdc.as_slice()),
        id = hex_of(running.escrow_id),
    );
    thief::write(&market, &lie).await;
    assert!(!market.reconcile().await.agrees(), "the alarm, for one unit");
    let found = frozen(&market).await;
    let expected = [Scope::Rental(running.escrow_id), Scope::Token(market.usdc)];
    assert!(expected.iter().all(|scope| found.contains(scope)), "{found:?}");
    let one = calldata::withdraw(market.usdc, thief::thief(), Amount::new(1).unwrap());
    market.call_refused(thief::thief(), one, 0).await;
    cash_in(&market, &[&running]).await;
    rules::assert_kept(&market, &before, &[&running]).await;
}

#[tokio::test]
async fn a_state_that_nothing_led_to_is_found_and_starts_nothing() {
    let market = Market::new().await;
    let before = Purses::read(&market).await;
    let told = rules::events(&market).await;
    let unfunded = market.book_in(market.usdc).await;
    let lie = format!(
        "UPDATE rentals SET state = 'active', lock_status = 'final', agent_status = 'ready',
             start_status = 'final', locked = {}, started_at = to_timestamp(0), ready_at = to_timestamp(0)
         WHERE state = 'awaiting_funds'",
        unfunded.deposit.get()
    );
    thief::write(&market, &lie).await;
    // evidence for all the time there ever was
    thief::write(
        &market,
        "INSERT INTO readings (rental_id, seq, from_at, to_at, detail, prev_hash, hash, signature, received_at,
                               covered_s)
         SELECT id, 1, to_timestamp(1), to_timestamp(4000000000), '{}', sha256('a'), sha256('b'),
                decode(repeat('00', 65), 'hex'), now(), 4000000000 FROM rentals WHERE state = 'active'",
    )
    .await;
    go_on(&market).await;
    assert!(!market.reconcile().await.agrees(), "the alarm");
    assert_eq!(frozen(&market).await, [Scope::Rental(unfunded.escrow_id)]);
    cash_in(&market, &[&unfunded]).await;
    assert_eq!(rules::events(&market).await, told, "the contract did nothing at all");
    rules::assert_kept(&market, &before, &[]).await;
}
