//! Strangers' dust, gifts and broken rows: one rental's trouble is nobody else's, and the books stay readable.

use std::time::{Duration, Instant};

use alloy::{primitives::U256, sol_types::SolCall as _};
use domain::{ledger::LedgerAccount, money::Amount, rental::RentalState};
use escrow::bindings::TestUSDC;
use serde_json::json;
use store::{
    TxError,
    ledger::{self, Audited},
};
use tests::market::{Market, POL, people};

#[tokio::test]
async fn a_deposit_of_a_round_number_is_reconciled() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, Amount::new(3_000_000_000_000_000_000).unwrap()).await;
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Funded);
    market.assert_reconciled().await;
}

#[tokio::test]
async fn a_gift_is_no_alarm_and_its_loss_is() {
    let market = Market::new().await;
    let rental = market.running(POL).await;
    let holds = market.purse(POL, market.site.escrow).await;
    let set = async |wei: u128| {
        let params = json!([market.site.escrow, U256::from(wei)]);
        market.chain.anvil().call("anvil_setBalance", params).await.unwrap();
        market.settle_in().await;
    };
    set(holds + 5).await;
    let report = market.reconcile().await;
    assert!(report.agrees(), "{report:?}");
    set(holds + 4).await;
    assert!(!market.reconcile().await.agrees(), "one unit of the gift is gone");
    // and a restart does not forget it
    let fresh = market.another(market.chain.url()).await;
    assert!(!fresh.reconciler.tick().await.unwrap().unwrap().agrees());
    set(holds + 6).await;
    market.assert_reconciled().await;
    set(holds - 1).await;
    assert!(!market.reconcile().await.agrees());
    set(holds + 6).await;
    // the token was frozen over it; a person has looked
    market.tamper("UPDATE freezes SET lifted_at = frozen_at, lifted_by = 'a test'").await;
    market.run_for(&rental, 3).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
}

#[tokio::test]
async fn an_event_that_cannot_be_applied_holds_up_its_own_rental_only() {
    let market = Market::new().await;
    let ill = market.running(POL).await;
    let well = market.running(market.usdc).await;
    // as if a node had not told of the first lock
    market
        .tamper(
            "CREATE TABLE lost AS SELECT * FROM chain_events WHERE name = 'locked' AND escrow_id =
                 (SELECT escrow_id FROM rentals ORDER BY id LIMIT 1);
             DELETE FROM chain_events e USING lost l
             WHERE l.block_hash = e.block_hash AND l.log_index = e.log_index",
        )
        .await;
    for rental in [&ill, &well] {
        market.run_for(rental, 5).await;
        market.stop(rental).await;
    }
    market.until(&well, RentalState::Settled).await;
    market.settle_in().await;
    assert_eq!(market.state(&ill).await, RentalState::Settling);
    let failed = "SELECT count(*) FROM chain_events WHERE failure IS NOT NULL AND NOT applied";
    assert_eq!(market.count(failed).await, 1);
    assert!(market.engine.reconciler.tick().await.unwrap().is_none(), "nothing whole to compare");

    market.tamper("INSERT INTO chain_events SELECT * FROM lost").await;
    market.pass(20).await;
    market.settle_in().await;
    assert_eq!(market.state(&ill).await, RentalState::Settled);
    assert_eq!(market.count(failed).await, 0);
    market.assert_at_rest().await;
}

#[tokio::test]
async fn a_hundred_thousand_dust_top_ups_slow_nothing_down() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market
        .tamper(
            "INSERT INTO chain_events
             SELECT block_hash, 1000 + g, block_number, tx_hash, 'topped_up', escrow_id,
                    '{\"event\": \"topped_up\"}', true
             FROM chain_events, generate_series(1, 100000) g WHERE name = 'locked';
             ANALYZE chain_events",
        )
        .await;
    let mint = TestUSDC::mintCall { to: people::stranger(), amount: U256::from(1_000) };
    market.send(people::stranger(), market.usdc, mint.abi_encode()).await;
    for _ in 0..40 {
        market.top_up(people::stranger(), &rental, Amount::new(1).unwrap()).await;
    }
    market.mine().await;
    market.mine().await;
    market.mine().await;
    market.sync().await;
    let began = Instant::now();
    for _ in 0..3 {
        market.engine.watcher.tick().await.unwrap();
    }
    let took = began.elapsed();
    let locked = market.rental(&rental).await.locked.get();
    assert_eq!(locked, rental.deposit.get() + 40);
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[tokio::test]
async fn balances_are_the_same_however_much_of_them_is_folded() {
    let market = Market::new().await;
    for token in [POL, market.usdc] {
        let rental = market.running(token).await;
        market.run_for(&rental, 7).await;
        market.stop(&rental).await;
        market.until(&rental, RentalState::Settled).await;
        market.settle_in().await;
    }
    let earned = LedgerAccount::provider_earnings(people::provider(), POL);
    let before = market.booked(earned).await;
    assert!(before > 0);
    let transfers = market.count("SELECT max(seq) FROM ledger_transfers").await;
    let mut through = 0;
    while through < transfers {
        let folded = market.store.write("fold", |tx| {
            Box::pin(async move { Ok::<_, TxError<()>>(ledger::fold(tx, 0, 3).await?) })
        });
        let now = folded.await.unwrap();
        assert!(now > through);
        through = now;
        assert_eq!(market.booked(earned).await, before);
        market.assert_reconciled().await;
    }
    let audit = async || {
        let mut connection = market.store.read().await.unwrap();
        ledger::audit(&mut connection, 0, 1_000).await.unwrap()
    };
    let Audited { last, wrong } = audit().await;
    assert!(last > 0 && wrong == 0);
    // a balance that was touched by hand is found, though the totals are the same
    market
        .tamper(
            "UPDATE ledger_balances SET balance = balance + 1
             WHERE account_id = (SELECT account_id FROM ledger_balances WHERE balance > 0
                                 ORDER BY account_id LIMIT 1)",
        )
        .await;
    assert_eq!(audit().await.wrong, 1);
    assert!(!market.reconcile().await.agrees());
}
