//! RPC, signing, fees and refusals. [`ReadClient`] asks; [`Wire`] sends bytes that somebody stored
//! before. Neither decides anything.

mod bounded;
mod client;
mod error;
mod feed;
mod fees;
mod fleet;
mod header;
mod ranges;
mod receipt;
mod refusal;
mod signer;
mod simulate;
mod wire;

pub use bounded::Bounded;
pub use client::ReadClient;
pub use error::ChainError;
pub use fees::{FeePolicy, Fees};
pub use fleet::{Identified, Identity, provider};
pub use header::BlockHeader;
pub use receipt::TxReceipt;
pub use refusal::{Refused, SendOutcome, classify};
pub use signer::{NOOP_GAS, SignedTx, Signer, SignerError, TxFields};
pub use simulate::Simulated;
pub use wire::Wire;
