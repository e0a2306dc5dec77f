//! A receipt that a stranger can check with nothing but this document: the quote as the platform signed it, the
//! readings as the machine signed them, and what the contract said, from the lock to the end.
//!
//! It is JSON in one form only, with sorted keys and no spaces, so that every byte of it counts. The platform signs its
//! content: what the quote, the readings and the arithmetic cannot prove offline (which transactions and blocks the
//! contract spoke in) is thereby the platform's word, to be held against the chain.

mod check;
mod form;
mod message;
mod story;

use alloy::{
    primitives::{Address, B256, Bytes, keccak256},
    signers::local::PrivateKeySigner,
    sol_types::{Eip712Domain, eip712_domain},
};
use domain::{
    metering::Interval,
    money::Amount,
    time::{Seconds, UnixSeconds},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use check::{Fault, Proven, hash_of, verify};
pub use form::read;
pub use message::QuoteMessage;

use crate::{EscrowEvent, quote::Quote, reading::SignatureError, signed};

mod sol {
    #![allow(missing_docs)]
    alloy::sol! {
        /// The platform's word for a receipt: `content` is keccak256 of it as JSON without its `seal`.
        #[derive(Debug, PartialEq, Eq)]
        struct Receipt {
            bytes32 rental;
            bytes32 content;
        }
    }
}

/// The form that is written and read here.
pub const FORMAT: &str = "weir-receipt-1";
/// The name in the domain of receipts.
pub const NAME: &str = "Weir Receipt";
/// The version in the domain of receipts.
pub const VERSION: &str = "1";
/// Readings that a receipt holds at most; a longer chain is given apart.
pub const MAX_INLINE: u64 = 10_000;
/// Outages that a receipt lists at most: as many as the readings that it can hold leave.
pub const MAX_OUTAGES: u32 = 10_001;

/// The domain of the receipts for the escrow at this address.
#[must_use]
pub fn domain(chain_id: u64, escrow: Address) -> Eip712Domain {
    eip712_domain! { name: NAME, version: VERSION, chain_id: chain_id, verifying_contract: escrow, }
}

/// A receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// [`FORMAT`].
    pub format: String,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The contract.
    pub escrow: Address,
    /// The rental's id in the API. Its id on the chain is the quote's `rental`.
    pub rental: String,
    /// The promise.
    pub quote: SignedQuote,
    /// The evidence.
    pub readings: Readings,
    /// What was metered; null for a rental that never started, or that a wallet ended on the chain.
    pub metered: Option<Metered>,
    /// What the contract said, in order: the lock first, the end last.
    pub events: Vec<ChainEvent>,
    /// What it came to.
    pub totals: Totals,
    /// The platform's signature.
    pub seal: Seal,
}

/// A quote and the platform's signature under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedQuote {
    /// The EIP-712 message of type `Quote`.
    pub message: QuoteMessage,
    /// Whose key signed.
    pub signer: Address,
    /// r, s and v.
    pub signature: Bytes,
}

/// The chain of readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readings {
    /// Whose key signed them; null without any.
    pub agent: Option<Address>,
    /// How many there are.
    pub count: u64,
    /// The hash of the last one; zero without any.
    pub root: B256,
    /// All of them in order, or none where they are given apart.
    pub items: Vec<Item>,
}

/// A reading. Its times are unix seconds, `to` the one after the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// 1, 2, 3 and so on.
    pub seq: u64,
    /// The first second.
    pub from: UnixSeconds,
    /// The second after the last.
    pub to: UnixSeconds,
    /// What was measured.
    pub detail: Value,
    /// The hash of the reading before; zero for the first.
    pub prev_hash: B256,
    /// r, s and v.
    pub signature: Bytes,
}

/// What the readings come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metered {
    /// From the start to the end of billing.
    pub window: Interval,
    /// Its seconds, no more than the deposit pays for, at least 1.
    pub elapsed: Seconds,
    /// Those that readings cover, at least 1.
    pub covered: Seconds,
    /// Where the others lie; none where these are left out.
    pub outages: Vec<Interval>,
    /// How many outages there are, where they are more than [`MAX_OUTAGES`] and so left out: whoever has the readings
    /// works them out. It is no part of a receipt that lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
}

/// An event of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainEvent {
    /// The transaction.
    pub tx: B256,
    /// The block's height.
    pub block: u64,
    /// The block's time.
    pub at: UnixSeconds,
    /// The log's place in the block.
    pub log: u32,
    /// What it says.
    pub said: EscrowEvent,
}

/// Who got what; together it is the deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// What was locked, top-ups included.
    pub deposit: Amount,
    /// Seconds that the contract billed.
    pub billed: Seconds,
    /// The provider's.
    pub provider: Amount,
    /// The platform's.
    pub fee: Amount,
    /// What went back.
    pub refund: Amount,
}

/// The platform's signature under a receipt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Whose key signed.
    pub signer: Address,
    /// r, s and v.
    pub signature: Bytes,
}

impl Receipt {
    /// The rental's id on the chain.
    #[must_use]
    pub fn id(&self) -> B256 {
        Quote::from(&self.quote.message).rental
    }

    /// The one form as text.
    #[must_use]
    pub fn text(&self) -> String {
        form::text(self)
    }

    /// What the platform signs.
    #[must_use]
    fn sealed(&self) -> sol::Receipt {
        let bare = Self { seal: Seal::default(), ..self.clone() };
        sol::Receipt { rental: self.id(), content: keccak256(form::text(&bare)) }
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`SignatureError::NoKey`] if the key cannot sign.
    pub fn seal(&mut self, key: &PrivateKeySigner) -> Result<(), SignatureError> {
        let domain = domain(self.chain_id, self.escrow);
        let signature = signed::sign(&self.sealed(), key, &domain)?;
        self.seal = Seal { signer: key.address(), signature: signature.to_vec().into() };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
