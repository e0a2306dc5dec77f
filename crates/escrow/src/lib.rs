//! The escrow contract as Rust sees it: bindings made from the committed ABI, the terms that are hashed
//! into a rental's id, typed data for wallets, calldata, decoded events and refusals, signed readings.

pub mod calldata;
mod event;
pub mod quote;
pub mod reading;
pub mod receipt;
mod refusal;
pub mod signed;
pub mod terms;
pub mod typed_data;

/// Bindings generated from `abi/*.json` (written by `contracts/tools/export-abi`).
#[allow(
    missing_docs,
    clippy::all,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm
)]
pub mod bindings {
    alloy::sol!(
        #[sol(rpc, all_derives)]
        Escrow,
        "abi/Escrow.json"
    );
    alloy::sol!(
        #[sol(rpc)]
        TestUSDC,
        "abi/TestUSDC.json"
    );
    alloy::sol!(
        #[sol(rpc)]
        Lens,
        "abi/Lens.json"
    );
    alloy::sol!(
        #[sol(rpc)]
        LocalFeed,
        "abi/LocalFeed.json"
    );
    alloy::sol!(
        #[sol(rpc)]
        LocalToken,
        "abi/LocalToken.json"
    );
    alloy::sol!(
        #[sol(rpc)]
        SplitBatch,
        "abi/SplitBatch.json"
    );
    alloy::sol!(
        #[sol(rpc)]
        WalletProbe,
        "abi/WalletProbe.json"
    );
}

pub use event::{EscrowEvent, EventError, Outcome, decode_event};
pub use refusal::Refusal;
pub use terms::{Terms, domain, terms_hash};
