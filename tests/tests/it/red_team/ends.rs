//! Calls that nobody decided on: ends, credits, starts, signatures of others.

use std::sync::atomic::Ordering;

use alloy::{primitives::Bytes, signers::local::PrivateKeySigner};
use chain::ChainError;
use domain::{
    money::Amount,
    time::{Seconds, UnixSeconds},
};
use escrow::{EscrowEvent, calldata, signed};
use store::intents::Call;
use testkit::DEV_KEYS;
use tests::market::{Market, people};

use super::{
    rules::{self, Purses},
    thief,
};

const DAY: u64 = 24 * 3_600;

/// A second that the contract takes for no end and no start.
fn wrong_times(now: UnixSeconds) -> [UnixSeconds; 5] {
    let ago = |seconds| UnixSeconds(now.get() - seconds);
    [UnixSeconds(0), UnixSeconds(1), ago(DAY), ago(3_600), UnixSeconds(now.get() + DAY)]
}

#[tokio::test]
async fn forged_calls_do_no_more_than_the_rules_allow() {
    let market = Market::new().await;
    market.agreeable.store(false, Ordering::SeqCst);
    let before = Purses::read(&market).await;
    let running = market.book_holding(market.usdc, Seconds(50)).await;
    market.lock(&running, running.deposit).await;
    market.settle_in().await;
    market.make_active(&running).await;
    let waiting = market.book_in(market.usdc).await;
    market.lock(&waiting, waiting.deposit).await;
    market.settle_in().await;
    let unfunded = market.book_in(market.usdc).await;
    let all = [&running, &waiting];

    // what is refused in every case
    let told = rules::events(&market).await;
    let mut forged = Vec::new();
    for time in wrong_times(market.now()) {
        for credit in [Seconds(0), Seconds(u32::MAX)] {
            forged.push((&running, Call::Close { stopped_at: time, credit }));
        }
        forged.push((&waiting, Call::Start { started_at: time }));
        forged.push((&running, Call::Start { started_at: time }));
    }
    for call in thief::every_call(&market, &unfunded) {
        forged.push((&unfunded, call));
    }
    let until = UnixSeconds(u64::from(u32::MAX));
    for call in [Call::Cancel, Call::Finalize, thief::lock(Amount::MAX, Bytes::new())] {
        forged.push((&running, call));
    }
    for call in [Call::Finalize, Call::Release { until }] {
        forged.push((&waiting, call));
    }
    for (rental, call) in forged {
        thief::want_call(&market, rental, &call).await;
        thief::work(&market).await;
        thief::forget(&market).await;
        assert_eq!(rules::events(&market).await, told, "{call:?} was done");
    }
    rules::assert_kept(&market, &before, &all).await;

    // the clock of a machine that is not ready: the renter pays what has passed, and can end it
    thief::want_call(&market, &waiting, &Call::Start { started_at: market.now() }).await;
    thief::work(&market).await;
    assert_eq!(market.told(&waiting, "started").await.len(), 1);
    market.pass(100).await;
    rules::assert_kept(&market, &before, &all).await;
    market.call(people::renter(), calldata::stop(&waiting.terms)).await;
    rules::assert_kept(&market, &before, &all).await;

    // all is said to have been an outage: what nobody signed is held, and the provider gets it by the clock
    market.pass(100).await;
    let end = Call::Close { stopped_at: market.now(), credit: Seconds(u32::MAX) };
    thief::want_call(&market, &running, &end).await;
    thief::work(&market).await;
    let contested = market.told(&running, "contested").await;
    let EscrowEvent::Contested { settled, held, .. } = contested[0] else {
        panic!("{contested:?}")
    };
    assert!(settled.get() <= 1, "a credit that nobody signed takes no second away for good");
    market.call(people::provider(), calldata::dispute(&running.terms)).await;
    market.pass(15 * DAY).await;
    market.call(people::stranger(), calldata::finalize(&running.terms)).await;
    let closed = market.told(&running, "closed").await;
    let EscrowEvent::Closed { billed, .. } = closed[0] else { panic!("{closed:?}") };
    assert_eq!(billed.get(), settled.get() + held.get(), "the clock is paid");
    rules::assert_kept(&market, &before, &all).await;
}

#[tokio::test]
async fn signatures_of_others_and_of_other_ends_count_for_nothing() {
    let market = Market::new().await;
    market.agreeable.store(false, Ordering::SeqCst);
    let before = Purses::read(&market).await;
    let mut rentals = Vec::new();
    for _ in 0..2 {
        let rental = market.book_holding(market.usdc, Seconds(50)).await;
        market.lock(&rental, rental.deposit).await;
        market.settle_in().await;
        market.make_active(&rental).await;
        rentals.push(rental);
    }
    let (victim, other) = (&rentals[0], &rentals[1]);
    market.pass(200).await;
    let end = (market.now(), Seconds(150));
    let by = |key: &str, rental, end: (UnixSeconds, Seconds), domain: &_| {
        let key: PrivateKeySigner = key.parse().unwrap();
        signed::sign(&signed::end(rental, end.0, end.1), &key, domain).unwrap().to_vec()
    };
    let elsewhere = escrow::domain(137, market.site.escrow);
    let (renter, provider) = (DEV_KEYS[4], DEV_KEYS[5]);
    let here = &market.site.domain;
    let mut tries = 0;
    for (to_renter, to_provider) in [
        // its own key
        (by(thief::KEY, victim.escrow_id, end, here), by(thief::KEY, victim.escrow_id, end, here)),
        // what both did sign: of another rental, another end, another chain
        (by(renter, other.escrow_id, end, here), by(provider, other.escrow_id, end, here)),
        (
            by(renter, victim.escrow_id, (end.0, Seconds(0)), here),
            by(provider, victim.escrow_id, (end.0, Seconds(0)), here),
        ),
        (
            by(renter, victim.escrow_id, end, &elsewhere),
            by(provider, victim.escrow_id, end, &elsewhere),
        ),
        // each other's
        (by(provider, victim.escrow_id, end, here), by(renter, victim.escrow_id, end, here)),
        (vec![0; 65], vec![0xff; 4_096]),
    ] {
        let both =
            calldata::EndSignatures { renter: to_renter.into(), provider: to_provider.into() };
        let close = calldata::close(&victim.terms, end.0, end.1, &both);
        // asked, not sent: the operator's numbers are the worker's
        let (from, to) = (people::operator(), market.site.escrow);
        let asked = market.client.estimate_gas(from, to, close, 0, None).await;
        assert!(matches!(asked, Err(ChainError::Reverts { .. })), "{asked:?}");
        tries += 1;
        if tries == 2 {
            thief::sign_end(&market, victim, "renter", end, &both.renter).await;
            thief::sign_end(&market, victim, "provider", end, &both.provider).await;
        }
    }
    // through the worker: the replayed signatures are dropped and the end is held as if nobody had signed
    thief::want_call(&market, victim, &Call::Close { stopped_at: end.0, credit: end.1 }).await;
    for _ in 0..4 {
        thief::work(&market).await;
    }
    assert_eq!(market.count("SELECT count(*) FROM end_signatures WHERE refused").await, 2);
    assert_eq!(market.told(victim, "closed").await.len(), 0, "it is not final");
    let contested = market.told(victim, "contested").await;
    let EscrowEvent::Contested { settled, held, .. } = contested[0] else {
        panic!("{contested:?}")
    };
    assert!(held.get() >= 150 && settled.get() > 0, "{contested:?}");
    rules::assert_kept(&market, &before, &[victim, other]).await;
}

#[tokio::test]
async fn an_authorization_locks_what_was_signed_once_and_nothing_else() {
    let market = Market::new().await;
    let before = Purses::read(&market).await;
    let first = market.book_in(market.usdc).await;
    let second = market.book_in(market.usdc).await;
    let key: PrivateKeySigner = DEV_KEYS[4].parse().unwrap();
    let valid = (UnixSeconds(0), UnixSeconds(u64::from(u32::MAX)));
    let (escrow, chain) = (market.site.escrow, market.site.chain_id);
    let message =
        signed::authorization(&first.terms, first.escrow_id, escrow, first.deposit, valid);
    let domain = signed::token_domain("USD Coin", "1", chain, market.usdc);
    let signature = Bytes::from(signed::sign(&message, &key, &domain).unwrap().to_vec());
    let more = Amount::new(first.deposit.get() + 1).unwrap();
    let good = thief::lock(first.deposit, signature.clone());
    // for another rental, for more, and a second time
    for (rental, call) in [
        (&second, good.clone()),
        (&first, thief::lock(more, signature.clone())),
        (&first, thief::lock(Amount::MAX, signature.clone())),
    ] {
        thief::want_call(&market, rental, &call).await;
        thief::work(&market).await;
        thief::forget(&market).await;
        assert_eq!(market.purse(market.usdc, escrow).await, 0, "{call:?} was done");
    }
    thief::want_call(&market, &first, &good).await;
    thief::work(&market).await;
    assert_eq!(market.purse(market.usdc, escrow).await, first.deposit.get());
    thief::want_call(&market, &first, &good).await;
    thief::work(&market).await;
    assert_eq!(market.purse(market.usdc, escrow).await, first.deposit.get(), "it counts once");
    rules::assert_kept(&market, &before, &[&first]).await;
    // called off by the thief: all of it is the renter's again
    thief::want_call(&market, &first, &Call::Cancel).await;
    thief::work(&market).await;
    assert_eq!(market.purse(market.usdc, escrow).await, 0);
    rules::assert_kept(&market, &before, &[&first]).await;
    thief::want_call(&market, &first, &good).await;
    thief::work(&market).await;
    assert_eq!(market.purse(market.usdc, escrow).await, 0, "nor once it has ended");
}
