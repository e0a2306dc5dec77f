//! A figure that differs by one unit freezes what it touches and nothing else; finality that is gone freezes all.

use std::time::Duration;

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    sol_types::SolValue,
};
use domain::rental::RentalState;
use serde_json::{Value, json};
use store::{
    StoreError, TxError,
    freezes::{self, Freeze, Reason, Scope},
};
use testkit::RpcProxy;
use tests::market::{Booked, Market, POL};
use tokio_util::sync::CancellationToken;

async fn open(market: &Market) -> Vec<Freeze> {
    let mut connection = market.store.read().await.unwrap();
    freezes::open(&mut connection, 100).await.unwrap()
}

async fn frozen(market: &Market) -> Vec<(Scope, Reason)> {
    open(market).await.into_iter().map(|freeze| (freeze.scope, freeze.reason)).collect()
}

/// A person looks, and lets all money go on.
async fn thaw(market: &Market) {
    let now = market.now();
    for freeze in open(market).await {
        let lifted = market.store.write("thaw", move |tx| {
            Box::pin(async move {
                Ok::<_, TxError<StoreError>>(freezes::lift(tx, freeze.id, "a test", now).await?)
            })
        });
        assert!(lifted.await.unwrap());
    }
}

/// Two rentals of which each runs and is asked to stop, so that each waits for its payout.
async fn about_to_settle(market: &Market, tokens: [Address; 2]) -> [Booked; 2] {
    let rentals = [market.running(tokens[0]).await, market.running(tokens[1]).await];
    for rental in &rentals {
        market.run_for(rental, 5).await;
    }
    market.assert_reconciled().await;
    rentals
}

/// One more final block, and the look that follows it.
async fn next_final_block(market: &Market) {
    market.mine().await;
    market.sync().await;
    assert!(market.engine.watcher.tick().await.unwrap().finalised);
    market.engine.reconciler.tick().await.unwrap().unwrap();
}

/// One rental is frozen and waits, the other settles; then the figure is put right, and the first settles too.
async fn only_the_first_waits(
    market: &Market,
    [first, other]: &[Booked; 2],
    put_right: &'static str,
) {
    for rental in [first, other] {
        market.stop(rental).await;
    }
    market.until(other, RentalState::Settled).await;
    market.settle_in().await;
    assert_eq!(market.state(first).await, RentalState::Settling);
    assert!(market.told(first, "closed").await.is_empty(), "no payout leaves");
    if !put_right.is_empty() {
        market.tamper(put_right).await;
    }
    thaw(market).await;
    market.until(first, RentalState::Settled).await;
    market.settle_in().await;
    assert!(market.reconcile().await.agrees());
    assert!(frozen(market).await.is_empty());
    market.assert_at_rest().await;
}

#[tokio::test]
async fn a_unit_that_the_contract_lacks_freezes_the_token() {
    let market = Market::new().await;
    let rentals = about_to_settle(&market, [market.usdc, POL]).await;
    let slot = balance_slot(&market).await;
    let holds: U256 = read_slot(&market, slot).await;
    write_slot(&market, slot, holds - U256::ONE).await;
    market.mine().await;
    market.mine().await;
    next_final_block(&market).await;
    assert_eq!(frozen(&market).await, [(Scope::Token(market.usdc), Reason::ContractDrift)]);
    for rental in &rentals {
        market.stop(rental).await;
    }
    market.until(&rentals[1], RentalState::Settled).await;
    market.settle_in().await;
    assert_eq!(market.state(&rentals[0]).await, RentalState::Settling);
    // the unit is found again
    let holds: U256 = read_slot(&market, slot).await;
    write_slot(&market, slot, holds + U256::ONE).await;
    market.settle_in().await;
    thaw(&market).await;
    market.until(&rentals[0], RentalState::Settled).await;
    market.settle_in().await;
    market.assert_at_rest().await;
    assert!(frozen(&market).await.is_empty());
}

#[tokio::test]
async fn a_unit_too_much_in_the_ledger_freezes_the_rental_whose_it_is() {
    let market = Market::new().await;
    let rentals = about_to_settle(&market, [market.usdc, market.usdc]).await;
    // a hand in the database, past the trigger
    market
        .tamper(
            "ALTER TABLE ledger_transfers DISABLE TRIGGER ledger_transfers_immutable;
             CREATE TABLE touched AS SELECT t.posting_id, t.ordinal FROM ledger_transfers t
                 JOIN ledger_accounts a ON a.id = t.credit_id
                 WHERE a.escrow_id = (SELECT escrow_id FROM rentals ORDER BY id LIMIT 1) LIMIT 1;
             UPDATE ledger_transfers l SET amount = amount + 1 FROM touched t
             WHERE t.posting_id = l.posting_id AND t.ordinal = l.ordinal",
        )
        .await;
    next_final_block(&market).await;
    let first = (Scope::Rental(rentals[0].escrow_id), Reason::RentalDrift);
    assert_eq!(frozen(&market).await, [first]);
    next_final_block(&market).await;
    assert_eq!(frozen(&market).await, [first], "found again it is the same freeze");
    let put_right = "UPDATE ledger_transfers l SET amount = amount - 1 FROM touched t
                     WHERE t.posting_id = l.posting_id AND t.ordinal = l.ordinal;
                     ALTER TABLE ledger_transfers ENABLE TRIGGER ledger_transfers_immutable;
                     DROP TABLE touched";
    only_the_first_waits(&market, &rentals, put_right).await;
}

#[tokio::test]
async fn a_unit_in_a_rentals_own_figures_freezes_that_rental() {
    let market = Market::new().await;
    let rentals = about_to_settle(&market, [POL, POL]).await;
    market
        .tamper(
            "UPDATE rentals SET paid_fee = paid_fee + 1
             WHERE id = (SELECT id FROM rentals ORDER BY id LIMIT 1)",
        )
        .await;
    next_final_block(&market).await;
    assert_eq!(frozen(&market).await, [(Scope::Rental(rentals[0].escrow_id), Reason::RentalDrift)]);
    let put_right = "UPDATE rentals SET paid_fee = paid_fee - 1
                     WHERE id = (SELECT id FROM rentals ORDER BY id LIMIT 1)";
    only_the_first_waits(&market, &rentals, put_right).await;
}

#[tokio::test]
async fn a_unit_between_two_deposits_is_found_though_every_total_holds() {
    let market = Market::new().await;
    let rentals = about_to_settle(&market, [POL, POL]).await;
    market
        .tamper(
            "WITH d AS (SELECT id, token, row_number() OVER (ORDER BY id) AS n FROM ledger_accounts
                        WHERE kind = 'renter_deposit'),
                  p AS (INSERT INTO ledger_postings (kind, source, at)
                        VALUES ('top_up', 'a hand', now()) RETURNING id)
             INSERT INTO ledger_transfers (posting_id, ordinal, debit_id, credit_id, amount)
             SELECT p.id, 0, a.id, b.id, 1 FROM p, d a, d b WHERE a.n = 1 AND b.n = 2",
        )
        .await;
    next_final_block(&market).await;
    let mut expected = rentals.map(|rental| (Scope::Rental(rental.escrow_id), Reason::RentalDrift));
    expected.sort();
    let mut found = frozen(&market).await;
    found.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn events_of_frozen_money_wait_and_are_posted_once_it_is_thawed() {
    let market = Market::new().await;
    let [first, other] = about_to_settle(&market, [POL, market.usdc]).await;
    market.stop(&first).await;
    market.stop(&other).await;
    // the payout is on the chain already when the figure is found to differ
    market.sync().await;
    market.engine.lane.tick().await.unwrap();
    market.mine().await;
    market
        .tamper(
            "UPDATE rentals SET paid_fee = paid_fee + 1
             WHERE id = (SELECT id FROM rentals ORDER BY id LIMIT 1)",
        )
        .await;
    market.engine.reconciler.tick().await.unwrap().unwrap();
    market.until(&other, RentalState::Settled).await;
    market.settle_in().await;
    assert_eq!(market.told(&first, "closed").await.len(), 1);
    assert_eq!(market.state(&first).await, RentalState::Settling, "its event waits");
    let waiting = "SELECT count(*) FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
                   WHERE b.final AND NOT e.applied AND e.name = 'closed'";
    assert_eq!(market.count(waiting).await, 1);
    market
        .tamper(
            "UPDATE rentals SET paid_fee = paid_fee - 1
             WHERE id = (SELECT id FROM rentals ORDER BY id LIMIT 1)",
        )
        .await;
    // what waits is counted in: all figures agree before it is posted
    assert!(market.reconcile().await.agrees());
    thaw(&market).await;
    market.settle_in().await;
    assert_eq!(market.state(&first).await, RentalState::Settled);
    market.assert_at_rest().await;
}

#[tokio::test]
async fn the_worker_compares_at_every_final_block() {
    let market = Market::new().await;
    let rental = market.running(POL).await;
    let stop = CancellationToken::new();
    let worker = tokio::spawn(engine::run(market.worker().await, stop.clone()));
    let compared = "SELECT count(*) FROM freezes";
    for round in 0..600 {
        if round == 5 {
            market.tamper("UPDATE rentals SET paid_fee = paid_fee + 1").await;
        }
        if market.count(compared).await > 0 {
            break;
        }
        market.mine().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let found = [(Scope::Rental(rental.escrow_id), Reason::RentalDrift)];
    assert_eq!(frozen(&market).await, found, "long before its hour");
    stop.cancel();
    worker.await.unwrap();
}

/// A market behind a node that can be told to misbehave, with a rental that is to be closed.
async fn behind_a_proxy() -> (Market, RpcProxy, Booked) {
    let mut market = Market::new().await;
    let proxy = RpcProxy::before(market.chain.url(), 1).await.unwrap();
    market.engine = market.another(proxy.url()).await;
    let rental = market.running(POL).await;
    market.run_for(&rental, 4).await;
    market.stop(&rental).await;
    (market, proxy, rental)
}

#[tokio::test]
async fn finality_that_is_gone_or_goes_back_freezes_all_until_it_is_there_again() {
    for (reason, back) in [(Reason::FinalityMissing, None), (Reason::FinalityBackwards, Some(9))] {
        let (market, proxy, rental) = behind_a_proxy().await;
        let postings = market.count("SELECT count(*) FROM ledger_postings").await;
        let last = market.client.finalized().await.unwrap().unwrap().number;
        let older = back.map(|by| format!("{:#x}", last - by));
        let block = match &older {
            Some(number) => {
                let params = json!([number, false]);
                market.chain.anvil().call("eth_getBlockByNumber", params).await.unwrap()
            }
            None => Value::Null,
        };
        proxy.meddle(move |method, params, result| {
            if method == "eth_getBlockByNumber" && params[0] == "finalized" {
                *result = block.clone();
            }
        });
        for look in 0..3 {
            assert!(frozen(&market).await.is_empty(), "look {look}: it may be one late node");
            market.engine.watcher.tick().await.unwrap();
        }
        assert_eq!(frozen(&market).await, [(Scope::All, reason)]);
        for _ in 0..5 {
            market.tick().await;
            market.mine().await;
        }
        market.engine.reconciler.tick().await.unwrap();
        assert_eq!(frozen(&market).await, [(Scope::All, reason)], "nothing newer is final");
        assert!(market.told(&rental, "closed").await.is_empty(), "no payout leaves");
        assert_eq!(market.count("SELECT count(*) FROM ledger_postings").await, postings);

        proxy.behave();
        next_final_block(&market).await;
        assert!(frozen(&market).await.is_empty(), "all figures agree at a newer final block");
        market.until(&rental, RentalState::Settled).await;
        market.settle_in().await;
        market.assert_divided(&rental, rental.parts(rental.deposit, 4)).await;
    }
}

#[tokio::test]
async fn a_final_block_that_leaves_the_chain_freezes_all_until_a_person_looks() {
    let market = Market::new().await;
    let rental = market.running(POL).await;
    market.run_for(&rental, 4).await;
    market.stop(&rental).await;
    market.mine().await;
    market.reorg(6, &[]).await;
    market.engine.watcher.tick().await.unwrap_err();
    assert_eq!(frozen(&market).await, [(Scope::All, Reason::FinalBlockGone)]);
    for _ in 0..5 {
        market.sync().await;
        market.engine.lane.tick().await.unwrap();
        market.engine.watcher.tick().await.unwrap_err();
        market.mine().await;
    }
    assert!(market.told(&rental, "closed").await.is_empty(), "no payout leaves");
    assert_eq!(
        market
            .count(
                "SELECT count(*) FROM chain_intents WHERE purpose = 'close' AND state <> 'queued'"
            )
            .await,
        0
    );
    assert!(market.engine.reconciler.tick().await.is_err(), "it cannot say that all is well");
    assert_eq!(
        frozen(&market).await,
        [(Scope::All, Reason::FinalBlockGone)],
        "only a person lifts it"
    );
}

#[tokio::test]
async fn a_freeze_is_one_per_scope_and_reason_and_is_lifted_with_a_note() {
    let market = Market::new().await;
    let rental = market.book().await;
    let is_frozen = async |market: &Market| {
        let mut connection = market.store.read().await.unwrap();
        let of_rental = freezes::is_frozen(&mut connection, rental.id).await.unwrap();
        (of_rental, freezes::is_token_frozen(&mut connection, rental.terms.token).await.unwrap())
    };
    assert_eq!(is_frozen(&market).await, (false, false));
    for (scope, touches) in [
        (Scope::Rental(rental.escrow_id), (true, false)),
        (Scope::Token(rental.terms.token), (true, true)),
        (Scope::All, (true, true)),
        (Scope::Rental(B256::repeat_byte(9)), (false, false)),
        (Scope::Token(Address::repeat_byte(9)), (false, false)),
    ] {
        let new = freezes::NewFreeze {
            scope,
            reason: Reason::RentalDrift,
            detail: "one unit".to_owned(),
            block: 7,
        };
        let now = market.now();
        for fresh in [true, false] {
            let new = new.clone();
            let done = market.store.write("freeze", move |tx| {
                let new = new.clone();
                Box::pin(async move {
                    Ok::<_, TxError<StoreError>>(freezes::freeze(tx, &new, now).await?)
                })
            });
            assert_eq!(done.await.unwrap(), fresh, "{scope}");
        }
        assert_eq!(is_frozen(&market).await, touches, "{scope}");
        let found = open(&market).await;
        assert_eq!((found.len(), found[0].scope, found[0].block), (1, scope, 7));
        thaw(&market).await;
        assert!(open(&market).await.is_empty());
    }
    let unsigned = "SELECT count(*) FROM freezes WHERE lifted_by IS NULL";
    assert_eq!(market.count(unsigned).await, 0);
}

/// Where the token keeps the escrow's balance.
async fn balance_slot(market: &Market) -> B256 {
    let holds = market.purse(market.usdc, market.site.escrow).await;
    for place in 0..20_u64 {
        let slot = keccak256((market.site.escrow, U256::from(place)).abi_encode());
        if read_slot(market, slot).await == U256::from(holds) {
            return slot;
        }
    }
    panic!("no slot holds {holds}");
}

async fn read_slot(market: &Market, slot: B256) -> U256 {
    let params = json!([market.usdc, slot, "latest"]);
    let word = market.chain.anvil().call("eth_getStorageAt", params).await.unwrap();
    serde_json::from_value(word).unwrap()
}

async fn write_slot(market: &Market, slot: B256, value: U256) {
    let params = json!([market.usdc, slot, B256::from(value)]);
    market.chain.anvil().call("anvil_setStorageAt", params).await.unwrap();
}
