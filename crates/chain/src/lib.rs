//! RPC, signing, fees and refusals. [`ReadClient`] asks; [`Wire`] sends bytes that somebody stored
//! before. Neither decides anything.

mod client;
mod error;
mod fees;
mod receipt;
mod refusal;
mod signer;
mod simulate;

pub use client::{BlockHeader, ReadClient};
pub use error::ChainError;
pub use fees::{FeePolicy, Fees};
pub use receipt::TxReceipt;
pub use refusal::{Refused, SendOutcome, classify};
pub use signer::{NOOP_GAS, SignedTx, Signer, SignerError, TxFields};
pub use simulate::Simulated;

pub use client::Wire;
