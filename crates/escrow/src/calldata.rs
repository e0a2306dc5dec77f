//! Calldata of the calls that a wallet or the platform makes.

use alloy::{
    primitives::{Address, Bytes, U256},
    sol_types::SolCall,
};
use domain::{
    money::Amount,
    time::{Seconds, UnixSeconds},
};

use crate::{
    bindings::{Escrow, TestUSDC},
    signed::Withdrawal,
    terms::{Terms, uint40, uint96},
};

/// What the two sides signed about an end; empty bytes are no signature.
pub use crate::bindings::Escrow::EndSignatures;
use crate::bindings::Escrow::{CloseItem, StartItem};

/// Most items of a batch that the contract takes.
pub const MAX_BATCH: usize = 150;
/// Most items of a batch that the contract takes with signatures.
pub const MAX_SIGNED_BATCH: usize = 40;

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

/// `close(terms, stoppedAt, creditSecs, signatures)`: operator only.
#[must_use]
pub fn close(
    terms: &Terms,
    stopped_at: UnixSeconds,
    credit: Seconds,
    signatures: &EndSignatures,
) -> Vec<u8> {
    Escrow::closeCall {
        t: terms.clone(),
        stoppedAt: uint40(stopped_at),
        creditSecs: credit.get(),
        signatures: signatures.clone(),
    }
    .abi_encode()
}

/// `startBatch(items)`: operator only; what cannot be started is skipped. At most [`MAX_BATCH`] items.
#[must_use]
pub fn start_batch(items: &[(Terms, UnixSeconds)]) -> Vec<u8> {
    let items = items
        .iter()
        .map(|(terms, at)| StartItem { terms: terms.clone(), startedAt: uint40(*at) })
        .collect();
    Escrow::startBatchCall { items }.abi_encode()
}

/// `closeBatch(items, signatures)`: operator only; what cannot be closed is skipped. At most [`MAX_BATCH`] items, or
/// [`MAX_SIGNED_BATCH`] if any carries a signature.
#[must_use]
pub fn close_batch(items: &[(Terms, UnixSeconds, Seconds, EndSignatures)]) -> Vec<u8> {
    let signed = items.iter().any(|(.., s)| !(s.renter.is_empty() && s.provider.is_empty()));
    let signatures =
        if signed { items.iter().map(|(.., s)| s.clone()).collect() } else { Vec::new() };
    let items = items
        .iter()
        .map(|(terms, stopped_at, credit, _)| CloseItem {
            terms: terms.clone(),
            stoppedAt: uint40(*stopped_at),
            creditSecs: credit.get(),
        })
        .collect();
    Escrow::closeBatchCall { items, signatures }.abi_encode()
}

/// `finalizeBatch(terms)`: anyone; what cannot be finalised is skipped. At most [`MAX_BATCH`] items.
#[must_use]
pub fn finalize_batch(items: &[Terms]) -> Vec<u8> {
    Escrow::finalizeBatchCall { items: items.to_vec() }.abi_encode()
}

/// `release(terms)`: anyone; pays what is older than the holdback.
#[must_use]
pub fn release(terms: &Terms) -> Vec<u8> {
    Escrow::releaseCall { t: terms.clone() }.abi_encode()
}

/// `releaseBatch(terms)`: anyone; what has nothing to release is skipped. At most [`MAX_BATCH`] items.
#[must_use]
pub fn release_batch(items: &[Terms]) -> Vec<u8> {
    Escrow::releaseBatchCall { items: items.to_vec() }.abi_encode()
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

/// `finalize(terms)`: anyone, once the time to dispute, or the arbiter's, is over.
#[must_use]
pub fn finalize(terms: &Terms) -> Vec<u8> {
    Escrow::finalizeCall { t: terms.clone() }.abi_encode()
}

/// `contest(terms, secs)`: the renter stops and disputes the last seconds.
#[must_use]
pub fn contest(terms: &Terms, seconds: Seconds) -> Vec<u8> {
    Escrow::contestCall { t: terms.clone(), secs: seconds.get() }.abi_encode()
}

/// `dispute(terms)`: renter or provider, of held seconds.
#[must_use]
pub fn dispute(terms: &Terms) -> Vec<u8> {
    Escrow::disputeCall { t: terms.clone() }.abi_encode()
}

/// `concede(terms)`: renter or provider, against itself.
#[must_use]
pub fn concede(terms: &Terms) -> Vec<u8> {
    Escrow::concedeCall { t: terms.clone() }.abi_encode()
}

/// `resolve(terms, secsToRenter)`: the arbiter.
#[must_use]
pub fn resolve(terms: &Terms, to_renter: Seconds) -> Vec<u8> {
    Escrow::resolveCall { t: terms.clone(), secsToRenter: to_renter.get() }.abi_encode()
}

/// `closeAgreed(terms, billedSecs, validUntil, signatures)`: anyone, in time, with both sides' signatures.
#[must_use]
pub fn close_agreed(
    terms: &Terms,
    billed: Seconds,
    valid_until: UnixSeconds,
    signatures: &EndSignatures,
) -> Vec<u8> {
    Escrow::closeAgreedCall {
        t: terms.clone(),
        billedSecs: billed.get(),
        validUntil: uint40(valid_until),
        signatures: signatures.clone(),
    }
    .abi_encode()
}

/// `lockWithAuthorization(terms, deposit, validAfter, validBefore, signature)`: anyone, with the renter's EIP-3009
/// signature.
#[must_use]
pub fn lock_with_authorization(
    terms: &Terms,
    deposit: Amount,
    valid: (UnixSeconds, UnixSeconds),
    signature: &Bytes,
) -> Vec<u8> {
    Escrow::lockWithAuthorizationCall {
        t: terms.clone(),
        deposit: uint96(deposit),
        validAfter: U256::from(valid.0.get()),
        validBefore: U256::from(valid.1.get()),
        signature: signature.clone(),
    }
    .abi_encode()
}

/// `lockWithPermit2(terms, deposit, nonce, deadline, signature)`: anyone, with the renter's Permit2 signature.
#[must_use]
pub fn lock_with_permit2(
    terms: &Terms,
    deposit: Amount,
    nonce: U256,
    deadline: UnixSeconds,
    signature: &Bytes,
) -> Vec<u8> {
    Escrow::lockWithPermit2Call {
        t: terms.clone(),
        deposit: uint96(deposit),
        nonce,
        deadline: U256::from(deadline.get()),
        signature: signature.clone(),
    }
    .abi_encode()
}

/// `lockPrepaid(terms, deposit, signature)`: the renter, or anyone with its signature.
#[must_use]
pub fn lock_prepaid(terms: &Terms, deposit: Amount, signature: &Bytes) -> Vec<u8> {
    Escrow::lockPrepaidCall {
        t: terms.clone(),
        deposit: uint96(deposit),
        signature: signature.clone(),
    }
    .abi_encode()
}

/// `prepay(account, token, amount)`: anyone; with the native coin the value is the amount.
#[must_use]
pub fn prepay(account: Address, token: Address, amount: Amount) -> Vec<u8> {
    Escrow::prepayCall { account, token, amount: uint96(amount) }.abi_encode()
}

/// `withdrawBySig(..)`: anyone, with the account's signature.
#[must_use]
pub fn withdraw_by_sig(withdrawal: &Withdrawal, signature: &Bytes) -> Vec<u8> {
    Escrow::withdrawBySigCall {
        account: withdrawal.account,
        token: withdrawal.token,
        to: withdrawal.to,
        amount: withdrawal.amount,
        deadline: withdrawal.deadline,
        signature: signature.clone(),
    }
    .abi_encode()
}

/// `setAgent(agent, expiresAt)`: whose key may sign ends for the caller.
#[must_use]
pub fn set_agent(agent: Address, expires_at: UnixSeconds) -> Vec<u8> {
    Escrow::setAgentCall { agent, expiresAt: uint40(expires_at) }.abi_encode()
}
