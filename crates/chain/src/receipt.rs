//! Receipts as nodes send them. Chains put transactions of their own types into blocks (Polygon's state
//! syncs are of type 0x7f), which a decoder that knows Ethereum's types refuses together with all others
//! of the block: what is read here is only what all of them have.

use alloy::primitives::{Address, B256, U64, U128};
use domain::tx::BlockRef;
use serde::Deserialize;

/// What became of a transaction in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxReceipt {
    /// The transaction.
    pub hash: B256,
    /// True unless it reverted.
    pub succeeded: bool,
    /// Gas it used.
    pub gas_used: u64,
    /// What was paid per gas, in wei.
    pub gas_price: u128,
    /// Who emitted logs in it.
    pub logged: Vec<Address>,
}

/// A receipt on the wire.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    transaction_hash: B256,
    block_number: Option<U64>,
    block_hash: Option<B256>,
    #[serde(default)]
    status: U64,
    #[serde(default)]
    gas_used: U64,
    #[serde(default)]
    cumulative_gas_used: U64,
    #[serde(default)]
    effective_gas_price: U128,
    #[serde(default)]
    logs: Vec<Emitted>,
}

impl Receipt {
    /// The block it is in; none while the transaction is pending.
    pub(crate) fn block(&self) -> Option<BlockRef> {
        Some(BlockRef { number: self.block_number?.to(), hash: self.block_hash? })
    }
}

#[derive(Debug, Deserialize)]
struct Emitted {
    address: Address,
}

impl Receipt {
    /// Gas that its block used up to and with this transaction.
    pub(crate) fn cumulative_gas(&self) -> u64 {
        self.cumulative_gas_used.to()
    }
}

impl From<Receipt> for TxReceipt {
    fn from(receipt: Receipt) -> Self {
        Self {
            hash: receipt.transaction_hash,
            succeeded: receipt.status == U64::ONE,
            gas_used: receipt.gas_used.to(),
            gas_price: receipt.effective_gas_price.to(),
            logged: receipt.logs.into_iter().map(|log| log.address).collect(),
        }
    }
}
