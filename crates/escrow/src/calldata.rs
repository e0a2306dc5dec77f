//! Calldata of the calls that a wallet or the platform makes.

use alloy::{
    primitives::{Address, U256},
    sol_types::SolCall,
};
use domain::{
    money::Amount,
    time::{Seconds, UnixSeconds},
};

use crate::{
    bindings::{Escrow, TestUSDC},
    terms::{Terms, uint40, uint96},
};

/// `lock(terms, deposit)`: sent by the renter. With the native coin the value is the deposit.
#[must_use]
pub fn lock(terms: &Terms, deposit: Amount) -> Vec<u8> {
    Escrow::lockCall { t: terms.clone(), deposit: uint96(deposit) }.abi_encode()
}

/// `approve(spender, amount)` of an ERC-20.
#[must_use]
pub fn approve(spender: Address, amount: Amount) -> Vec<u8> {
    TestUSDC::approveCall { spender, value: U256::from(amount.get()) }.abi_encode()
}

/// `topUp(terms, amount)`.
#[must_use]
pub fn top_up(terms: &Terms, amount: Amount) -> Vec<u8> {
    Escrow::topUpCall { t: terms.clone(), amount: uint96(amount) }.abi_encode()
}

/// `start(terms, startedAt)`: operator only.
#[must_use]
pub fn start(terms: &Terms, started_at: UnixSeconds) -> Vec<u8> {
    Escrow::startCall { t: terms.clone(), startedAt: uint40(started_at) }.abi_encode()
}

/// `close(terms, stoppedAt, creditSecs)`: operator only.
#[must_use]
pub fn close(terms: &Terms, stopped_at: UnixSeconds, credit: Seconds) -> Vec<u8> {
    Escrow::closeCall { t: terms.clone(), stoppedAt: uint40(stopped_at), creditSecs: credit.get() }
        .abi_encode()
}

/// `cancel(terms)`: operator or provider, before the start.
#[must_use]
pub fn cancel(terms: &Terms) -> Vec<u8> {
    Escrow::cancelCall { t: terms.clone() }.abi_encode()
}

/// `stop(terms)`: the renter's and the provider's own way out.
#[must_use]
pub fn stop(terms: &Terms) -> Vec<u8> {
    Escrow::stopCall { t: terms.clone() }.abi_encode()
}

/// `reclaim(terms)`: anyone, once the start window and ten minutes have passed.
#[must_use]
pub fn reclaim(terms: &Terms) -> Vec<u8> {
    Escrow::reclaimCall { t: terms.clone() }.abi_encode()
}

/// `withdraw(token, to, amount)`: amount zero takes the whole balance.
#[must_use]
pub fn withdraw(token: Address, to: Address, amount: Amount) -> Vec<u8> {
    Escrow::withdrawCall { token, to, amount: uint96(amount) }.abi_encode()
}
