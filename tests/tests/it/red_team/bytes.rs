//! Bytes for the operator's key to sign again, and the right to number for it.

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718 as _,
    primitives::{Address, Bytes, TxKind, U256},
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::SolCall as _,
};
use domain::rental::RentalState;
use escrow::{
    bindings::{Escrow, TestUSDC},
    calldata,
};
use tests::market::{Booked, Market, POL, people};
use uuid::Uuid;

use super::{
    rules::{self, Purses},
    thief::{self, hex},
};

const COIN: u128 = 1_000_000_000_000_000_000;

/// A transaction as the thief would like the operator to have made it, signed by the thief.
fn bytes(
    chain_id: u64,
    nonce: u64,
    to: Address,
    value: u128,
    input: Vec<u8>,
) -> (Vec<u8>, Vec<u8>) {
    let tx = TxEip1559 {
        chain_id,
        nonce,
        gas_limit: 300_000,
        max_fee_per_gas: 1_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(to),
        value: U256::from(value),
        access_list: alloy::eips::eip2930::AccessList::default(),
        input: Bytes::from(input),
    };
    let key: PrivateKeySigner = thief::KEY.parse().unwrap();
    let signature = key.sign_hash_sync(&tx.signature_hash()).unwrap();
    let envelope = TxEnvelope::from(tx.into_signed(signature));
    (envelope.tx_hash().to_vec(), envelope.encoded_2718())
}

/// The row of a transaction that seems to be stuck for long, and that a rental seems to wait for.
async fn plant(
    market: &Market,
    rental: &Booked,
    nonce: u64,
    (hash, raw): &(Vec<u8>, Vec<u8>),
    noop: bool,
) {
    let id = Uuid::now_v7();
    let (operator, to) = (hex(people::operator().as_slice()), hex(market.site.escrow.as_slice()));
    let (hash, raw, rental) = (hex(hash), hex(raw), rental.id.uuid());
    let statement = format!(
        "INSERT INTO chain_txs (id, signer, nonce, to_address, calldata, gas_limit, state, next_send_at,
                                created_at, updated_at, refusal)
         VALUES ('{id}', {operator}, {nonce}, {to}, ''::bytea, 300000, 'flying', to_timestamp(0),
                 to_timestamp(0), to_timestamp(0), 'underpriced');
         INSERT INTO chain_tx_attempts (hash, tx_id, attempt, raw, max_fee, tip, noop, created_at)
         VALUES ({hash}, '{id}', 1, {raw}, 1000000000, 1000000000, {noop}, to_timestamp(0));
         INSERT INTO chain_intents (id, rental_id, purpose, seq, args, state, tx_id, not_before, created_at)
         SELECT '{}', '{rental}', 'finalize', COALESCE(max(seq), 0) + 1, '{{\"purpose\":\"finalize\"}}', 'sent',
                '{id}', to_timestamp(0), to_timestamp(0)
         FROM chain_intents WHERE rental_id = '{rental}' AND purpose = 'finalize'",
        Uuid::now_v7()
    );
    thief::write(market, &statement).await;
}

#[tokio::test]
async fn the_operators_key_signs_no_bytes_that_somebody_put_in_the_database() {
    let market = Market::new().await;
    let (me, usdc, escrow) = (thief::thief(), market.usdc, market.site.escrow);
    // something to be had beside the escrow: what the operator itself owns
    let mint = TestUSDC::mintCall { to: people::operator(), amount: U256::from(5_000_000) };
    market.send(people::owner(), usdc, mint.abi_encode()).await;
    let before = Purses::read(&market).await;
    let running = market.running(market.usdc).await;
    let coins = market.purse(POL, people::operator()).await;
    let told = rules::events(&market).await;
    let approve = calldata::approve(me, domain::money::Amount::MAX);
    let transfer = TestUSDC::transferCall { to: me, value: U256::from(5_000_000) }.abi_encode();
    let chain = market.site.chain_id;
    let prepay =
        Escrow::prepayCall { account: me, token: POL, amount: alloy::primitives::Uint::from(COIN) };
    let wishes: [(Address, u128, Vec<u8>); 5] = [
        (me, 1_000 * COIN, Vec::new()),
        (usdc, 0, transfer),
        (usdc, 0, approve),
        (escrow, COIN, prepay.abi_encode()),
        (escrow, 0, calldata::cancel(&running.terms)),
    ];
    let mut planted = 0;
    for noop in [false, true] {
        for (to, value, input) in &wishes {
            let nonce = market.client.nonce(people::operator()).await.unwrap();
            let forged = bytes(chain, nonce, *to, *value, input.clone());
            plant(&market, &running, nonce, &forged, noop).await;
            planted += 1;
            for _ in 0..3 {
                thief::work(&market).await;
            }
            let next = market.client.nonce(people::operator()).await.unwrap();
            assert_eq!(next, nonce + 1, "the number went to a no-op, so that others can follow");
            assert_eq!(rules::events(&market).await, told);
            assert_eq!(market.purse(usdc, people::operator()).await, 5_000_000);
            let allowed = TestUSDC::allowanceCall { owner: people::operator(), spender: me };
            let allowed = market.client.call(usdc, allowed.abi_encode()).await.unwrap();
            assert_eq!(U256::from_be_slice(&allowed), U256::ZERO);
        }
    }
    rules::assert_kept(&market, &before, &[&running]).await;
    let spent = coins - market.purse(POL, people::operator()).await;
    assert!(spent < COIN, "{spent} wei of gas for {planted} no-ops");

    // whoever is said to hold the right to number: the worker takes it back and goes on
    let lie = "UPDATE chain_signers SET run_lease = run_lease + 1000, holder = 1, leased_until = now() + INTERVAL '1 day'";
    thief::write(&market, lie).await;
    market.run_for(&running, 9).await;
    market.stop(&running).await;
    market.until(&running, RentalState::Settled).await;
    market.settle_in().await;
    rules::assert_kept(&market, &before, &[&running]).await;
}
