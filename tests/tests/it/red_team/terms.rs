//! Terms that are rewritten: the contract knows a rental by the hash of its terms, so other terms are another rental.

use domain::rental::RentalState;
use tests::market::{Market, POL, people};

use super::{
    rules::{self, Purses},
    thief::{self, hex},
};

#[tokio::test]
async fn rewritten_terms_move_nothing() {
    let market = Market::new().await;
    let before = Purses::read(&market).await;
    let running = market.running(market.usdc).await;
    let waiting = market.book_in(market.usdc).await;
    market.lock(&waiting, waiting.deposit).await;
    market.settle_in().await;
    let unfunded = market.book_in(market.usdc).await;
    thief::write(
        &market,
        "ALTER TABLE quotes DISABLE TRIGGER USER; CREATE TABLE true_quotes AS SELECT * FROM quotes",
    )
    .await;
    let me = hex(thief::thief().as_slice());
    let mut lies = vec![
        format!("renter = {me}"),
        format!("provider = {me}"),
        format!("token = {}", hex(POL.as_slice())),
        "price_per_hour = 79228162514264337593543950335".to_owned(),
        "price_per_hour = 1".to_owned(),
        "fee_bps = 1500".to_owned(),
        "holdback_s = 4000000".to_owned(),
        "start_by = start_by + INTERVAL '20 hours'".to_owned(),
        format!("order_hash = {}", hex(&[9; 32])),
        format!("renter = {}, provider = {me}", hex(people::provider().as_slice())),
    ];
    // as if the sum that the ledger owes were larger, too
    lies.push("deposit = 79228162514264337593543950335, provider = ".to_owned() + &me);
    let told = rules::events(&market).await;
    for lie in &lies {
        thief::write(&market, &format!("UPDATE quotes SET {lie}")).await;
        for rental in [&running, &waiting, &unfunded] {
            for call in thief::every_call(&market, rental) {
                thief::want_call(&market, rental, &call).await;
            }
        }
        // one call of a rental at a time: as many rounds as there are calls
        for _ in 0..3 {
            thief::work(&market).await;
        }
        thief::forget(&market).await;
        assert_eq!(rules::events(&market).await, told, "{lie} made the contract do something");
        rules::assert_kept(&market, &before, &[&running, &waiting]).await;
        let back = "UPDATE quotes q SET renter = t.renter, provider = t.provider, token = t.token,
                        price_per_hour = t.price_per_hour, fee_bps = t.fee_bps, deposit = t.deposit,
                        holdback_s = t.holdback_s, start_by = t.start_by, order_hash = t.order_hash
                    FROM true_quotes t WHERE t.id = q.id";
        thief::write(&market, back).await;
    }
    // the terms of the one rental under the id of the other: what the platform does, it does to what it names
    assert_eq!(market.state(&running).await, RentalState::Active);
    market.assert_reconciled().await;
    market.run_for(&running, 9).await;
    market.stop(&running).await;
    market.until(&running, RentalState::Settled).await;
    market.settle_in().await;
    rules::assert_kept(&market, &before, &[&running, &waiting]).await;
}

/// The treasury is the contract's, a price is the terms': what the database says of tokens and of the deployment is of no
/// matter to the escrow.
#[tokio::test]
async fn another_contract_in_the_deployments_row_gets_no_money_of_this_one() {
    let mut market = Market::new().await;
    let before = Purses::read(&market).await;
    let running = market.running(market.usdc).await;
    market.run_for(&running, 30).await;
    let deployed = market.another_escrow(thief::thief()).await;
    let code = market.client.code_hash(deployed).await.unwrap().unwrap();
    let lie = format!(
        "CREATE TABLE true_deployment AS SELECT * FROM deployment;
         UPDATE deployment SET escrow = {}, code_hash = {};
         UPDATE tokens SET usd_micros = 1, listed = true;
         INSERT INTO tokens (address, symbol, decimals, usd_micros, price_source, priced_at)
         VALUES ({}, 'FAKE', 6, 1, 'a thief', now())",
        hex(deployed.as_slice()),
        thief::hex_of(code),
        hex(thief::thief().as_slice()),
    );
    thief::write(&market, &lie).await;
    let told = rules::events(&market).await;
    let site = market.site.clone();
    // a worker that starts now believes the row
    market.move_to_recorded_site().await;
    assert_eq!(market.site.escrow, deployed);
    for call in thief::every_call(&market, &running) {
        thief::want_call(&market, &running, &call).await;
    }
    for _ in 0..3 {
        thief::work(&market).await;
    }
    thief::forget(&market).await;
    market.site = site;
    assert_eq!(rules::events(&market).await, told, "the true contract heard nothing");
    rules::assert_kept(&market, &before, &[&running]).await;
    // and without the platform, both sides end it on the chain
    market.call(people::renter(), escrow::calldata::stop(&running.terms)).await;
    let all =
        escrow::calldata::withdraw(market.usdc, people::provider(), domain::money::Amount::ZERO);
    market.call(people::provider(), all).await;
    rules::assert_kept(&market, &before, &[&running]).await;
    assert!(market.purse(market.usdc, people::provider()).await > 0);
}
