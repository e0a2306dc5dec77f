//! A throwaway chain per test.

use crate::anvil::{Anvil, AnvilError, AnvilOptions};

/// Chain id of [`TestChain::start`].
pub const TEST_CHAIN_ID: u64 = 31_337;

/// An anvil of its own for one test, on a free port; it ends with the value.
///
/// A block is `finalized` when two more lie on it. It mines at once for each transaction unless
/// [`AnvilOptions::block_time`] is set through [`TestChain::start_with`].
#[derive(Debug)]
pub struct TestChain {
    anvil: Anvil,
}

impl TestChain {
    /// A chain that mines a block for each transaction.
    ///
    /// # Errors
    /// When anvil does not start.
    pub async fn start() -> Result<Self, AnvilError> {
        Self::start_with(AnvilOptions::default()).await
    }

    /// A chain with other options; the port and the state file are the caller's to set or leave.
    ///
    /// # Errors
    /// When anvil does not start.
    pub async fn start_with(options: AnvilOptions) -> Result<Self, AnvilError> {
        Ok(Self { anvil: Anvil::start(options).await? })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.anvil.url()
    }

    /// The chain's id.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.anvil.chain_id()
    }

    /// The server, for calls that only anvil knows.
    #[must_use]
    pub fn anvil(&self) -> &Anvil {
        &self.anvil
    }
}
