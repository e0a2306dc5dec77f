//! Deposits that the platform locks with the renter's signature, and refunds that a wallet refuses at the last moment.

use alloy::{
    primitives::{Bytes, U256},
    signers::local::PrivateKeySigner,
};
use domain::{
    ledger::LedgerAccount,
    money::Amount,
    rental::{LockStatus, RentalState},
    time::UnixSeconds,
};
use escrow::{calldata, signed};
use serde_json::json;
use store::{
    StoreError, TxError,
    intents::{self, Call},
    payments, timeline,
};
use testkit::DEV_KEYS;
use tests::market::{Booked, Market, POL, people};

const UNTIL: UnixSeconds = UnixSeconds(u64::MAX >> 17);

/// The renter's authorization of `deposit`, as the platform is given it.
fn authorize(market: &Market, rental: &Booked, deposit: Amount, key: &str) -> Call {
    let key: PrivateKeySigner = key.parse().unwrap();
    let (escrow, valid) = (market.site.escrow, (UnixSeconds(0), UNTIL));
    let message = signed::authorization(&rental.terms, rental.escrow_id, escrow, deposit, valid);
    let domain = signed::token_domain("USD Coin", "1", market.site.chain_id, rental.terms.token);
    let signature = signed::sign(&message, &key, &domain).unwrap();
    Call::Lock {
        deposit: rental.deposit,
        valid_after: valid.0,
        valid_before: valid.1,
        signature: Bytes::copy_from_slice(&signature),
    }
}

async fn queue(market: &Market, rental: &Booked, call: &Call) {
    let (id, call, now) = (rental.id, call.clone(), market.now());
    market
        .store
        .write("queue", move |tx| {
            let call = call.clone();
            Box::pin(async move {
                intents::queue(tx, id, &call, now, now).await?;
                Ok::<_, TxError<StoreError>>(())
            })
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_renter_without_coins_is_locked_for_and_lives_a_whole_life() {
    let market = Market::new().await;
    let coins = json!([people::renter(), "0x0"]);
    market.chain.anvil().call("anvil_setBalance", coins).await.unwrap();
    let rental = market.book_in(market.usdc).await;
    let had = market.purse(market.usdc, people::renter()).await;
    let call = authorize(&market, &rental, rental.deposit, DEV_KEYS[4]);
    queue(&market, &rental, &call).await;
    market.until(&rental, RentalState::Funded).await;
    assert_eq!(market.rental(&rental).await.locked, rental.deposit);
    market.make_active(&rental).await;
    market.run_for(&rental, 12).await;
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    let parts = rental.parts(rental.deposit, 12);
    market.assert_divided(&rental, parts).await;
    let has = market.purse(market.usdc, people::renter()).await;
    assert_eq!(had - has, parts[0] + parts[1]);
    assert_eq!(market.purse(POL, people::renter()).await, 0, "not a coin was needed");
}

#[tokio::test]
async fn an_authorization_that_the_token_does_not_take_costs_nothing_and_is_told() {
    let market = Market::new().await;
    let rental = market.book_in(market.usdc).await;
    let less = Amount::new(rental.deposit.get() - 1).unwrap();
    let forged = [
        authorize(&market, &rental, rental.deposit, DEV_KEYS[8]),
        authorize(&market, &rental, less, DEV_KEYS[4]),
    ];
    for call in &forged {
        queue(&market, &rental, call).await;
        market.settle_in().await;
    }
    let steps = market.steps(&rental).await;
    let states: Vec<&str> = steps.iter().map(|step| step.state.as_str()).collect();
    assert_eq!(states, ["refused", "refused"]);
    assert_eq!(market.count("SELECT count(*) FROM chain_txs").await, 0, "nothing was sent");
    let mut connection = market.store.read().await.unwrap();
    let told = timeline::after(&mut connection, rental.id, 0, 100).await.unwrap();
    drop(connection);
    let told = told.iter().filter(|entry| entry.kind == "funding_refused").count();
    assert_eq!(told, 2);
    let progress = market.progress(&rental).await;
    assert_eq!((progress.state, progress.lock), (RentalState::AwaitingFunds, LockStatus::None));
    // the renter can still lock by a transaction
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    assert_eq!(market.state(&rental).await, RentalState::Funded);
    market.assert_at_rest().await;
}

/// Who pays by x402 has nothing but this authorization: the GPUs wait for nobody, though the payer ended its tokens.
#[tokio::test]
async fn a_booking_whose_payment_is_not_taken_is_over() {
    let market = Market::new().await;
    let rental = market.book().await;
    let (id, now) = (rental.id, market.store.now().seconds());
    let renter = market.rental(&rental).await.renter;
    let ends = now.saturating_plus(domain::time::Seconds(3_600));
    market
        .store
        .write::<u64, (), _>("test.token", move |tx| {
            Box::pin(async move {
                payments::note_paid(tx, id, now).await?;
                payments::give_token(tx, &[7; 32], id, renter, now, ends).await?;
                Ok(payments::end_tokens_of(tx, id, renter).await?)
            })
        })
        .await
        .unwrap();
    let other = DEV_KEYS[6];
    queue(&market, &rental, &authorize(&market, &rental, rental.deposit, other)).await;
    market.tick().await;
    assert_eq!(market.steps(&rental).await[0].state, "refused");
    assert_eq!(market.state(&rental).await, RentalState::Expired);
    market.assert_at_rest().await;
}

/// The wallet takes the coin while the platform estimates, and burns all it may in the block.
#[tokio::test]
async fn a_wallet_that_changes_its_mind_after_the_estimate_is_credited() {
    let market = Market::new().await;
    let rental = market.running(POL).await;
    market.run_for(&rental, 5).await;
    market.stop(&rental).await;
    market.sync().await;
    market.engine.lane.sign_queued().await.unwrap();
    let burn = json!([people::renter(), "0xfe"]);
    market.chain.anvil().call("anvil_setCode", burn).await.unwrap();
    market.until(&rental, RentalState::Settled).await;
    market.settle_in().await;
    let parts = rental.parts(rental.deposit, 5);
    market.assert_divided(&rental, parts).await;
    let closes = market.steps(&rental).await;
    let closes = closes.iter().filter(|step| step.purpose == "close").count();
    assert_eq!(closes, 1, "the first try went through");
    let credit = LedgerAccount::renter_credit(people::renter(), POL);
    assert_eq!(market.booked(credit).await, parts[2]);
}

/// The same with a cancel: the whole deposit is credited.
#[tokio::test]
async fn a_cancel_is_credited_to_such_a_wallet_too() {
    let market = Market::new().await;
    let rental = market.book().await;
    market.lock(&rental, rental.deposit).await;
    market.settle_in().await;
    market.ask_to_stop(&rental).await;
    market.sync().await;
    market.engine.lane.sign_queued().await.unwrap();
    let burn = json!([people::renter(), "0xfe"]);
    market.chain.anvil().call("anvil_setCode", burn).await.unwrap();
    market.until(&rental, RentalState::Refunded).await;
    market.settle_in().await;
    market.assert_divided(&rental, [0, 0, rental.deposit.get()]).await;
    let kept = market.kept(POL, people::renter()).await;
    assert_eq!(U256::from(kept), U256::from(rental.deposit.get()));
    market.chain.anvil().call("anvil_setCode", json!([people::renter(), "0x"])).await.unwrap();
    let all = calldata::withdraw(POL, people::renter(), Amount::ZERO);
    market.call(people::renter(), all).await;
    market.settle_in().await;
    market.assert_at_rest().await;
}
