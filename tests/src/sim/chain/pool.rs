//! The pool: what waits to be mined, and what is not let in.

use alloy::{
    consensus::{Transaction as _, TxEnvelope, transaction::SignerRecoverable as _},
    eips::eip2718::Decodable2718 as _,
    primitives::{Address, B256, keccak256},
};

use super::{Chain, Rejected, TIP, Tx};
use crate::{
    booking::POL,
    sim::{faults::Fault, state::State},
};

/// A replacement must raise both fees by so many percent.
const BUMP_PERCENT: u128 = 10;

impl Chain {
    /// Takes signed bytes into the pool, as a node does.
    pub fn accept(&mut self, raw: &[u8]) -> Result<B256, Rejected> {
        let envelope = TxEnvelope::decode_2718(&mut &raw[..]).map_err(|_| Rejected::Malformed)?;
        let from = envelope.recover_signer().map_err(|_| Rejected::Malformed)?;
        let hash = *envelope.tx_hash();
        let nonce = envelope.nonce();
        self.arrived.push((hash, from, nonce));
        // the network carries them twice: the second time they are known, or their number is used
        if self.faults.strikes(Fault::TxAgain) {
            let again = self.accept(raw);
            return match again {
                Err(Rejected::Known) => Ok(hash),
                told => told,
            };
        }
        let tx = Tx {
            hash,
            from,
            to: envelope.to().ok_or(Rejected::Malformed)?,
            nonce,
            value: envelope.value().saturating_to(),
            input: envelope.input().clone(),
            gas_limit: envelope.gas_limit(),
            max_fee: envelope.max_fee_per_gas(),
            tip: envelope.max_priority_fee_per_gas().unwrap_or_default(),
            not_before: 0,
        };
        self.admit(tx)
    }

    fn admit(&mut self, mut tx: Tx) -> Result<B256, Rejected> {
        let state = &self.head().after;
        if self.pool.contains_key(&tx.hash) {
            return Err(Rejected::Known);
        }
        if tx.nonce < state.nonce(tx.from) {
            return Err(Rejected::NonceTooLow);
        }
        if tx.max_fee < self.base_fee {
            return Err(Rejected::BelowBaseFee);
        }
        if state.purse(POL, tx.from) < tx.value + u128::from(tx.gas_limit) * tx.max_fee {
            return Err(Rejected::Poor);
        }
        let rival =
            self.pool.values().find(|other| other.from == tx.from && other.nonce == tx.nonce);
        if let Some(rival) = rival {
            let bumped = |old: u128, new: u128| new >= old + old * BUMP_PERCENT / 100;
            if !bumped(rival.max_fee, tx.max_fee) || !bumped(rival.tip, tx.tip) {
                return Err(Rejected::Underpriced);
            }
            let rival = rival.hash;
            self.pool.remove(&rival);
        }
        let (hash, next) = (tx.hash, self.head().number + 1);
        if self.faults.strikes(Fault::TxDropped) {
            return Ok(hash);
        }
        if self.faults.strikes(Fault::TxDelayed) {
            tx.not_before = next + 1 + self.faults.below(6);
        }
        self.pool.insert(hash, tx);
        Ok(hash)
    }

    /// A wallet's own transaction, which needs no signature here.
    pub fn submit(&mut self, from: Address, to: Address, input: Vec<u8>, value: u128) -> B256 {
        let waiting = self.pool.values().filter(|tx| tx.from == from).map(|tx| tx.nonce + 1).max();
        let nonce = waiting.unwrap_or_default().max(self.head().after.nonce(from));
        let mut seal = from.to_vec();
        seal.extend(nonce.to_be_bytes());
        seal.extend(&input);
        let hash = keccak256(seal);
        let fee = self.base_fee * 4 + TIP;
        let tx = Tx {
            hash,
            from,
            to,
            nonce,
            value,
            input: input.into(),
            gas_limit: 1_000_000,
            max_fee: fee,
            tip: TIP,
            not_before: 0,
        };
        self.pool.insert(hash, tx);
        hash
    }

    /// The best payer whose turn it is.
    pub(super) fn next_of(&self, state: &State, number: u64) -> Option<Tx> {
        self.pool
            .values()
            .filter(|tx| {
                tx.nonce == state.nonce(tx.from)
                    && tx.not_before <= number
                    && tx.max_fee >= self.base_fee
                    && state.purse(POL, tx.from) >= tx.value + u128::from(tx.gas_limit) * tx.max_fee
            })
            .max_by_key(|tx| (tx.tip, tx.hash))
            .cloned()
    }
}
