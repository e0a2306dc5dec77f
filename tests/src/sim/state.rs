//! What the simulated chain keeps between two blocks: nonces, coins, one token, and the escrow's own books.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, LogData};

use super::contract::Slot;
use crate::booking::POL;

/// A contract's log, before it has a place in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    pub address: Address,
    pub data: LogData,
}

/// Everything that a block can change.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub nonces: BTreeMap<Address, u64>,
    pub coins: BTreeMap<Address, u128>,
    pub tokens: BTreeMap<Address, u128>,
    pub allowances: BTreeMap<(Address, Address), u128>,
    /// EIP-3009 nonces that are used.
    pub authorized: BTreeSet<(Address, B256)>,
    /// Accounts that take no money that is pushed to them.
    pub refusers: BTreeSet<Address>,
    pub rentals: BTreeMap<B256, Slot>,
    /// What the escrow owes by account and token.
    pub balances: BTreeMap<(Address, Address), u128>,
    /// Whose key signs ends for an account, and until when.
    pub agents: BTreeMap<Address, (Address, u64)>,
}

impl State {
    pub fn nonce(&self, account: Address) -> u64 {
        self.nonces.get(&account).copied().unwrap_or_default()
    }

    /// What an account has of a token; of the native coin for address zero.
    pub fn purse(&self, token: Address, account: Address) -> u128 {
        let purses = if token == POL { &self.coins } else { &self.tokens };
        purses.get(&account).copied().unwrap_or_default()
    }

    /// Moves money between purses; false if it is not there.
    pub fn move_money(&mut self, token: Address, from: Address, to: Address, sum: u128) -> bool {
        let purses = if token == POL { &mut self.coins } else { &mut self.tokens };
        let has = purses.get(&from).copied().unwrap_or_default();
        if has < sum {
            return false;
        }
        purses.insert(from, has - sum);
        *purses.entry(to).or_default() += sum;
        true
    }

    /// What the escrow owes of a token: deposits that are not divided yet, and balances.
    pub fn owed(&self, token: Address) -> u128 {
        let deposits: u128 = self.rentals.values().map(|slot| slot.undivided(token)).sum();
        let balances: u128 = self
            .balances
            .iter()
            .filter(|((_, in_token), _)| *in_token == token)
            .map(|(_, sum)| sum)
            .sum();
        deposits + balances
    }
}
