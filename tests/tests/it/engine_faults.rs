//! The chain's node fails, forgets or lies low, and somebody meddles with the books.

use alloy::{
    primitives::{I256, U256},
    sol_types::SolCall as _,
};
use chain::ChainError;
use domain::rental::{RentalState, StartStatus};
use engine::EngineError;
use escrow::bindings::{Escrow, TestUSDC};
use serde_json::json;
use tests::market::{Market, change, people};

#[tokio::test]
async fn while_the_node_is_away_ticks_fail_and_then_it_goes_on() {
    let market = Market::new().await;
    let dead = format!("http://127.0.0.1:{}", testkit::free_port().unwrap());
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    let away = market.another(&dead).await;
    for _ in 0..3 {
        let error = away.tick().await.unwrap_err();
        assert!(matches!(error, EngineError::Chain(ChainError::Unavailable(_))), "{error}");
    }
    assert_eq!(market.state(&rental).await, RentalState::AwaitingFunds);
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Funded);

    // away again, with a start to be signed
    market.ready(&rental).await;
    market.engine.lane.hand_over().await.unwrap();
    for _ in 0..3 {
        let error = away.lane.tick().await.unwrap_err();
        assert!(matches!(error, EngineError::Chain(ChainError::Unavailable(_))), "{error}");
        assert!(away.reconciler.tick().await.is_err(), "it cannot say that all is well");
    }
    assert_eq!(market.count("SELECT count(*) FROM chain_txs").await, 0, "no nonce is spent");
    market.settle_in().await;
    assert_eq!(market.progress(&rental).await.start, StartStatus::Final);
    market.assert_at_rest().await;
}

#[tokio::test]
async fn bytes_that_the_node_did_not_take_are_sent_again_as_they_are() {
    let market = Market::new().await;
    let dead = format!("http://127.0.0.1:{}", testkit::free_port().unwrap());
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.ready(&rental).await;
    market.sync().await;
    market.engine.lane.sign_queued().await.unwrap();
    let signed = market.steps(&rental).await[0].tx_hash;
    assert!(signed.is_some(), "{:?}", market.steps(&rental).await);
    let away = market.another(&dead).await;
    // nobody knows whether the node has them: it is not an error, and not the end
    assert_eq!(away.lane.send_due().await.unwrap(), 1);
    assert_eq!(away.lane.send_due().await.unwrap(), 0, "not at once");
    market.settle_in().await;
    assert_eq!(market.steps(&rental).await[0].tx_hash, signed);
    assert_eq!(market.told(&rental, "started").await.len(), 1);
    assert_eq!(market.count("SELECT count(*) FROM chain_tx_attempts").await, 1);
    market.assert_at_rest().await;
}

#[tokio::test]
async fn bytes_that_the_node_forgot_are_sent_again_as_they_are() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.ready(&rental).await;
    let anvil = market.chain.anvil();
    anvil.call("evm_setAutomine", json!([false])).await.unwrap();
    market.tick().await;
    let sent = market.steps(&rental).await[0].tx_hash;
    let status = anvil.call("txpool_status", json!([])).await.unwrap();
    assert_eq!(status["pending"], "0x1");
    for _ in 0..3 {
        anvil.call("anvil_dropAllTransactions", json!([])).await.unwrap();
        market.pass(2).await;
        assert!(market.told(&rental, "started").await.is_empty());
        market.tick().await;
        let status = anvil.call("txpool_status", json!([])).await.unwrap();
        assert_eq!(status["pending"], "0x1", "it is there again");
    }
    market.settle_in().await;
    assert_eq!(market.steps(&rental).await[0].tx_hash, sent);
    assert_eq!(market.told(&rental, "started").await.len(), 1);
    market.assert_at_rest().await;
}

#[tokio::test]
async fn a_node_that_has_no_final_blocks_moves_no_money() {
    let market = Market::with_epoch(1_000).await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    for _ in 0..20 {
        market.tick().await;
        market.mine().await;
    }
    assert!(market.provisioned(&rental).await, "the machine is made ready meanwhile");
    assert_eq!(market.state(&rental).await, RentalState::AwaitingFunds);
    assert_eq!(market.count("SELECT count(*) FROM ledger_postings").await, 0);
    assert_eq!(market.count("SELECT count(*) FROM chain_intents").await, 0);
}

#[tokio::test]
async fn a_signer_without_money_waits_for_it() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    let anvil = market.chain.anvil();
    let had = anvil.call("eth_getBalance", json!([people::operator(), "latest"])).await.unwrap();
    anvil.call("anvil_setBalance", json!([people::operator(), "0x0"])).await.unwrap();
    market.run_for(&rental, 4).await;
    market.stop(&rental).await;
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Settling);
    assert!(market.told(&rental, "closed").await.is_empty());
    anvil.call("anvil_setBalance", json!([people::operator(), had])).await.unwrap();
    market.pass(60).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    market.assert_divided(&rental, rental.parts(rental.deposit, 4)).await;
}

#[tokio::test]
async fn an_operator_who_was_dropped_waits_to_be_let_in_again() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    let drop = Escrow::removeOperatorCall { operator: people::operator() };
    market.call(people::guardian(), drop.abi_encode()).await;
    market.run_for(&rental, 4).await;
    market.stop(&rental).await;
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Settling);
    let close = market.steps(&rental).await.pop().unwrap();
    assert_eq!(
        (close.state.as_str(), close.last_error.as_deref()),
        ("queued", Some("NotOperator"))
    );
    // two days later; the end is told late, and the time since is credited
    market.change(change::ADD_OPERATOR, people::operator()).await;
    market.pass(600).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    market.assert_divided(&rental, rental.parts(rental.deposit, 4)).await;
}

#[tokio::test]
async fn bytes_that_are_too_cheap_are_signed_again_at_a_higher_fee() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.run_for(&rental, 4).await;
    market.stop(&rental).await;
    market.sync().await;
    market.engine.lane.sign_queued().await.unwrap();
    let signed = market.steps(&rental).await.pop().unwrap().tx_hash;
    let dear = json!(["0x4a817c800"]);
    market.chain.anvil().call("anvil_setNextBlockBaseFeePerGas", dear).await.unwrap();
    market.mine().await;
    market.tick().await;
    assert!(market.told(&rental, "closed").await.is_empty());
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    assert_ne!(market.steps(&rental).await.pop().unwrap().tx_hash, signed);
    let attempts = "SELECT count(*) FROM chain_tx_attempts a JOIN chain_intents i USING (tx_id)
                    WHERE i.purpose = 'close'";
    assert_eq!(market.count(attempts).await, 2, "same number, other fees");
    market.assert_divided(&rental, rental.parts(rental.deposit, 4)).await;
}

/// A base unit that does not exist, given to somebody by a hand in the database.
const PLANT: &str = "
    WITH p AS (INSERT INTO ledger_postings (kind, source, at)
               VALUES ('release', 'planted', now()) RETURNING id),
         a AS (INSERT INTO ledger_accounts (kind, owner, token)
               SELECT 'provider_earnings', decode(repeat('aa', 20), 'hex'), token
               FROM ledger_accounts WHERE kind = 'outside' LIMIT 1 RETURNING id, token)
    INSERT INTO ledger_transfers (posting_id, ordinal, debit_id, credit_id, amount)
    SELECT p.id, 0, o.id, a.id, 1
    FROM p, a, ledger_accounts o WHERE o.kind = 'outside' AND o.token = a.token";

/// A base unit moved from one claim to another: the sums stay the same.
const MOVE: &str = "
    WITH p AS (INSERT INTO ledger_postings (kind, source, at)
               VALUES ('release', 'planted', now()) RETURNING id),
         a AS (INSERT INTO ledger_accounts (kind, owner, token)
               SELECT 'provider_earnings', decode(repeat('aa', 20), 'hex'), token
               FROM ledger_accounts WHERE kind = 'renter_deposit' LIMIT 1 RETURNING id, token)
    INSERT INTO ledger_transfers (posting_id, ordinal, debit_id, credit_id, amount)
    SELECT p.id, 0, d.id, a.id, 1
    FROM p, a, ledger_accounts d WHERE d.kind = 'renter_deposit'";

#[tokio::test]
async fn one_unit_in_the_wrong_place_is_found() {
    let tampered = [
        PLANT,
        MOVE,
        "UPDATE rentals SET locked = locked + 1",
        "UPDATE rentals SET paid_provider = 1",
        "UPDATE chain_events SET body = jsonb_set(body, '{deposit}', '\"1\"') WHERE name = 'locked'",
    ];
    for statement in tampered {
        let market = Market::new().await;
        let rental = market.book().await;
        market.lock(&rental, rental.deposit).await;
        market.settle_in().await;
        assert_eq!(market.state(&rental).await, RentalState::Funded);
        let fresh = market.another(market.chain.url()).await;
        assert!(fresh.reconciler.tick().await.unwrap().unwrap().agrees());
        market.tamper(statement).await;
        let fresh = market.another(market.chain.url()).await;
        let report = fresh.reconciler.tick().await.unwrap().unwrap();
        assert!(!report.agrees(), "{statement}: {report:?}");
    }
}

#[tokio::test]
async fn a_token_that_nobody_locked_is_seen_and_is_no_alarm() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.assert_reconciled().await;
    let gift = TestUSDC::mintCall { to: market.site.escrow, amount: U256::ONE };
    market.send(people::stranger(), market.usdc, gift.abi_encode()).await;
    market.settle_in().await;
    let report = market.reconcile().await;
    assert!(report.agrees(), "{report:?}");
    for token in &report.tokens {
        let surplus = if token.token == market.usdc { I256::ONE } else { I256::ZERO };
        assert_eq!(token.surplus(), Some(surplus), "{token:?}");
    }
    market.run_for(&rental, 3).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
}
