//! What is read of a block.

use alloy::{
    primitives::{Address, B256, Bloom, BloomInput},
    rpc::types::Block,
};
use domain::time::UnixSeconds;

/// What identifies a block and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Height.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Hash of the one before.
    pub parent_hash: B256,
    /// When it was made.
    pub timestamp: UnixSeconds,
    /// Base fee in wei per gas.
    pub base_fee: u128,
    /// Gas that its transactions used.
    pub gas_used: u64,
    /// How many transactions are in it.
    pub transactions: usize,
    /// Who emitted logs in it, and which: never wrong about a no.
    pub logs_bloom: Bloom,
}

impl BlockHeader {
    /// False if `address` has emitted no log in this block; true if it may have.
    #[must_use]
    pub fn may_have_logs_of(&self, address: Address) -> bool {
        self.logs_bloom.contains_input(BloomInput::Raw(address.as_slice()))
    }
}

impl From<&Block> for BlockHeader {
    fn from(block: &Block) -> Self {
        Self {
            number: block.header.number,
            hash: block.header.hash,
            parent_hash: block.header.parent_hash,
            timestamp: UnixSeconds(block.header.timestamp),
            base_fee: block.header.base_fee_per_gas.map_or(0, u128::from),
            gas_used: block.header.gas_used,
            transactions: block.transactions.len(),
            logs_bloom: block.header.logs_bloom,
        }
    }
}
