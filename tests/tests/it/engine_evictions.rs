//! A provider who gave notice: the rental ends when the notice is over, and not before.

use domain::{
    rental::{EndReason, RentalEvent, RentalState},
    time::{Seconds, UnixSeconds},
};
use store::{
    StoreError, TxError, advance,
    evictions::{self, Eviction},
    rentals,
};
use tests::market::{Booked, Market, people};

/// As `POST /v1/rentals/{id}/stop` of the provider does it.
async fn give(market: &Market, rental: &Booked, notice: u32) -> UnixSeconds {
    market.sync().await;
    let (id, given_at) = (rental.id, market.now());
    let ends_at = given_at.saturating_plus(Seconds(notice));
    market
        .store
        .write("evict", move |tx| {
            Box::pin(async move {
                let rental = rentals::get(tx, id).await?.unwrap();
                evictions::give(tx, id, &Eviction { given_at, ends_at }).await?;
                advance::arm_end(tx, &rental, given_at).await?;
                Ok::<_, TxError<StoreError>>(())
            })
        })
        .await
        .unwrap();
    ends_at
}

#[tokio::test]
async fn it_ends_to_the_second_though_the_deposit_would_last() {
    let mut market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.run_for(&rental, 100).await;
    let ends_at = give(&market, &rental, 600).await;
    market.run_for(&rental, 300).await;
    market.tick().await;
    assert_eq!(market.state(&rental).await, RentalState::Active);
    // neither a death nor a larger deposit moves it
    market.restart().await;
    market.top_up(people::renter(), &rental, rental.deposit).await;
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Active);
    let left = ends_at.saturating_since(market.now()).get();
    market.run_for(&rental, left + 20).await;
    market.tick().await;
    let ended = market.rental(&rental).await.progress;
    assert_eq!((ended.end, ended.stopped_at), (Some(EndReason::ProviderStop), Some(ends_at)));
    market.apply(&rental, RentalEvent::AgentStopped).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    // what the machine served beyond it is not billed
    let row = market.rental(&rental).await;
    let started = row.progress.started_at.unwrap();
    let most = u128::from(ends_at.saturating_since(started).get());
    let paid = row.paid_provider.get() + row.paid_fee.get();
    let [provider, fee, _] = rental.parts(row.locked, most);
    assert!(paid > 0 && paid <= provider + fee, "{paid} for at most {most} s");
    assert_eq!(paid + row.paid_refund.get(), row.locked.get());
    market.assert_at_rest().await;
}

#[tokio::test]
async fn a_deposit_that_is_used_up_before_ends_it_as_ever() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    give(&market, &rental, 7_200).await;
    market.run_for(&rental, 3_605).await;
    market.tick().await;
    let ended = market.rental(&rental).await.progress;
    assert_eq!(ended.end, Some(EndReason::DurationEnd));
}

#[tokio::test]
async fn a_worker_that_comes_late_bills_what_was_served_and_finds_a_timer_that_was_set_back() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    let ends_at = give(&market, &rental, 120).await;
    // as a worker of the version before does it
    market
        .tamper("UPDATE jobs SET due_at = due_at + interval '1 h' WHERE kind = 'duration_end'")
        .await;
    market.run_for(&rental, 300).await;
    // the first round finds the timer, the second what it is for
    market.tick().await;
    market.tick().await;
    let ended = market.rental(&rental).await.progress;
    assert_eq!(ended.end, Some(EndReason::ProviderStop));
    let late = ended.stopped_at.unwrap().saturating_since(ends_at);
    assert!((Seconds(150)..=Seconds(200)).contains(&late), "{late}");
    market.apply(&rental, RentalEvent::AgentStopped).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    market.assert_at_rest().await;
}

#[tokio::test]
async fn the_renter_need_not_wait_for_it() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    give(&market, &rental, 600).await;
    market.run_for(&rental, 50).await;
    market.stop(&rental).await;
    assert_eq!(market.rental(&rental).await.progress.end, Some(EndReason::RenterStop));
    market.until(&rental, RentalState::Settled).await;
    market.pass(700).await;
    market.settle_in().await;
    assert_eq!(market.rental(&rental).await.progress.end, Some(EndReason::RenterStop));
    market.assert_at_rest().await;
}
