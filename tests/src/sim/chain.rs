//! A chain in memory: blocks with hashes and parents, a pool with the rules of nonces, reorganisations, finality.
//! What comes out depends on the seed and on what is asked of it, and on nothing else.

use std::{collections::BTreeMap, sync::Arc};

use alloy::primitives::{Address, B256, Bloom, BloomInput, Bytes, keccak256};

use super::{
    contract::{self, Deployed, Refusal, Running},
    faults::{Fault, Faults},
    state::{Emitted, State},
};
use crate::booking::POL;

mod pool;

/// What a plain call costs, and what every call of the escrow costs beyond it per kilobyte of calldata.
const BASE_GAS: u64 = 60_000;
const GAS_PER_KILOBYTE: u64 = 90_000;
const CALM_BASE_FEE: u128 = 30_000_000_000;
pub const TIP: u128 = 30_000_000_000;
/// Blocks that left the chain and are remembered.
const ORPHANS: usize = 64;
/// Transactions of one block at most.
const BLOCK_LIMIT: usize = 40;

/// A transaction on its way or in a block.
#[derive(Clone, Debug)]
pub struct Tx {
    pub hash: B256,
    pub from: Address,
    pub to: Address,
    pub nonce: u64,
    pub value: u128,
    pub input: Bytes,
    pub gas_limit: u64,
    pub max_fee: u128,
    pub tip: u128,
    /// Not mined before this block: delayed, or overtaken by later ones.
    pub not_before: u64,
}

#[derive(Clone, Debug)]
pub struct Receipt {
    pub tx: Tx,
    pub succeeded: bool,
    pub gas_used: u64,
    pub gas_price: u128,
    pub logs: Vec<Emitted>,
}

#[derive(Clone, Debug)]
pub struct Block {
    pub number: u64,
    pub hash: B256,
    pub parent: B256,
    pub timestamp: u64,
    pub base_fee: u128,
    pub bloom: Bloom,
    pub receipts: Vec<Receipt>,
    pub after: Arc<State>,
}

/// What a node answers to bytes that it does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    Known,
    NonceTooLow,
    Underpriced,
    BelowBaseFee,
    Poor,
    Malformed,
}

pub struct Chain {
    pub at: Deployed,
    pub chain_id: u64,
    pub faults: Faults,
    /// Every block of the canonical chain, by height.
    pub blocks: Vec<Arc<Block>>,
    pool: BTreeMap<B256, Tx>,
    /// The newest blocks that left the chain.
    orphans: Vec<Arc<Block>>,
    /// The height that was called final.
    pub final_number: u64,
    /// Blocks that must lie on a final one.
    pub finality: u64,
    pub finality_stalled: bool,
    pub base_fee: u128,
    /// Raw bytes of the platform's that reached the pool since somebody last looked: hash, signer, nonce.
    pub arrived: Vec<(B256, Address, u64)>,
    salt: u64,
}

impl Chain {
    /// A chain of a first block and one with the escrow's own beginning.
    pub fn new(
        at: Deployed,
        chain_id: u64,
        genesis: State,
        beginning: Vec<Emitted>,
        time: u64,
        faults: Faults,
    ) -> Self {
        let state = Arc::new(genesis);
        let mut chain = Self {
            at,
            chain_id,
            faults,
            blocks: Vec::new(),
            pool: BTreeMap::new(),
            orphans: Vec::new(),
            final_number: 0,
            finality: 2,
            finality_stalled: false,
            base_fee: CALM_BASE_FEE,
            arrived: Vec::new(),
            salt: 0,
        };
        chain.append(time.saturating_sub(1), Vec::new(), state.clone());
        let deployment = Tx {
            hash: keccak256("deployment"),
            from: Address::ZERO,
            to: chain.at.escrow,
            nonce: 0,
            value: 0,
            input: Bytes::new(),
            gas_limit: BASE_GAS,
            max_fee: 0,
            tip: 0,
            not_before: 0,
        };
        let first = Receipt {
            tx: deployment,
            succeeded: true,
            gas_used: BASE_GAS,
            gas_price: 0,
            logs: beginning,
        };
        chain.append(time, vec![first], state);
        chain
    }

    pub fn head(&self) -> &Arc<Block> {
        self.blocks.last().unwrap()
    }

    pub fn block(&self, number: u64) -> Option<&Arc<Block>> {
        self.blocks.get(usize::try_from(number).unwrap())
    }

    pub fn by_hash(&self, hash: B256) -> Option<&Arc<Block>> {
        self.blocks.iter().rev().find(|block| block.hash == hash)
    }

    /// A block of that height that left the chain.
    pub fn orphan(&self, number: u64) -> Option<&Arc<Block>> {
        self.orphans.iter().rev().find(|block| block.number == number)
    }

    /// How many transactions wait.
    pub fn waiting(&self) -> usize {
        self.pool.len()
    }

    fn append(&mut self, timestamp: u64, receipts: Vec<Receipt>, after: Arc<State>) {
        let number = u64::try_from(self.blocks.len()).unwrap();
        let parent = self.blocks.last().map_or(B256::ZERO, |block| block.hash);
        self.salt += 1;
        let mut seal = parent.to_vec();
        for part in [number, timestamp, self.salt] {
            seal.extend(part.to_be_bytes());
        }
        let mut bloom = Bloom::default();
        for log in receipts.iter().flat_map(|receipt| &receipt.logs) {
            bloom.accrue(BloomInput::Raw(log.address.as_slice()));
            for topic in log.data.topics() {
                bloom.accrue(BloomInput::Raw(topic.as_slice()));
            }
        }
        let hash = keccak256(seal);
        let base_fee = self.base_fee;
        self.blocks.push(Arc::new(Block {
            number,
            hash,
            parent,
            timestamp,
            base_fee,
            bloom,
            receipts,
            after,
        }));
    }

    /// A block at that time with what waits, each account's transactions in the order of their nonces.
    pub fn mine(&mut self, timestamp: u64) {
        self.mine_with(timestamp, |_| {});
    }

    fn mine_with(&mut self, timestamp: u64, change: impl FnOnce(&mut State)) {
        let timestamp = timestamp.max(self.head().timestamp + 1);
        let number = self.head().number + 1;
        let mut state = (*self.head().after).clone();
        change(&mut state);
        let mut receipts = Vec::new();
        while receipts.len() < BLOCK_LIMIT {
            let Some(tx) = self.next_of(&state, number) else { break };
            self.pool.remove(&tx.hash);
            receipts.push(self.execute(&mut state, tx, timestamp));
        }
        let nonces = &state.nonces;
        self.pool.retain(|_, tx| tx.nonce >= nonces.get(&tx.from).copied().unwrap_or_default());
        self.append(timestamp, receipts, Arc::new(state));
        if !self.finality_stalled {
            self.final_number = self.final_number.max(number.saturating_sub(self.finality));
        }
    }

    fn execute(&self, state: &mut State, tx: Tx, timestamp: u64) -> Receipt {
        *state.nonces.entry(tx.from).or_default() += 1;
        let before = state.clone();
        let (ran, logs) = self.run(state, &tx, timestamp);
        let needed = gas_of(&tx.input);
        let succeeded = ran.is_ok() && needed <= tx.gas_limit;
        let logs = if succeeded { logs } else { Vec::new() };
        if !succeeded {
            *state = before;
        }
        let gas_used = needed.min(tx.gas_limit);
        let gas_price = tx.max_fee.min(self.base_fee + tx.tip);
        let burnt = state.move_money(POL, tx.from, Address::ZERO, u128::from(gas_used) * gas_price);
        assert!(burnt, "{} cannot pay for its gas", tx.from);
        Receipt { tx, succeeded, gas_used, gas_price, logs }
    }

    fn run(
        &self,
        state: &mut State,
        tx: &Tx,
        timestamp: u64,
    ) -> (Result<(), Refusal>, Vec<Emitted>) {
        let mut running = Running {
            at: &self.at,
            state,
            sender: tx.from,
            value: tx.value,
            now: timestamp,
            logs: Vec::new(),
        };
        let done = contract::run(&mut running, tx.to, &tx.input);
        (done, running.logs)
    }

    /// What a call would do on top of a block: its gas, or why it reverts.
    pub fn rehearse(
        &self,
        on: &Block,
        from: Address,
        to: Address,
        input: &Bytes,
    ) -> Result<u64, Refusal> {
        let mut state = (*on.after).clone();
        let mut running = Running {
            at: &self.at,
            state: &mut state,
            sender: from,
            value: 0,
            now: on.timestamp,
            logs: Vec::new(),
        };
        contract::run(&mut running, to, input).map(|()| gas_of(input))
    }

    /// From the next block on an account takes no money that is pushed to it.
    pub fn refuses(&mut self, account: Address) {
        self.mine_with(self.head().timestamp + 1, |state| {
            state.refusers.insert(account);
        });
    }

    /// The newest blocks are replaced by one more than they were. Their transactions come back into the pool, or
    /// are lost, as the seed says.
    pub fn reorg(&mut self, depth: u64) -> u64 {
        let depth = depth.min(self.head().number.saturating_sub(self.final_number.max(1)));
        let mut orphans = Vec::new();
        let mut times = Vec::new();
        for _ in 0..depth {
            let block = self.blocks.pop().unwrap();
            times.push(block.timestamp);
            orphans.extend(block.receipts.iter().map(|receipt| receipt.tx.clone()));
            self.orphans.push(block);
        }
        let kept = self.orphans.len().saturating_sub(ORPHANS);
        self.orphans.drain(..kept);
        for tx in orphans {
            if self.faults.strikes(Fault::OrphanLost) {
                continue;
            }
            let not_before = self.head().number + 1 + self.faults.below(depth + 1);
            self.pool.insert(tx.hash, Tx { not_before, ..tx });
        }
        let newest = times.first().copied().unwrap_or_default();
        for time in times.into_iter().rev() {
            self.mine(time);
        }
        if depth > 0 {
            self.mine(newest + 1);
        }
        depth
    }
}

pub fn gas_of(input: &[u8]) -> u64 {
    BASE_GAS + GAS_PER_KILOBYTE * u64::try_from(input.len()).unwrap() / 1_024
}
