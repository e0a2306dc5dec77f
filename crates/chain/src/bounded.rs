//! Calls of code that anybody may have written: in one block, with a bound on gas.

use alloy::{
    eips::BlockId,
    primitives::{Address, Bytes, address},
    providers::{DynProvider, Provider as _},
    rpc::types::{TransactionInput, TransactionRequest},
};

use crate::{ChainError, ReadClient};

/// Who asks. Not address zero, which some contracts take for a simulation and answer otherwise.
const ASKER: Address = address!("0x7765697200000000000000000000000000000001");

/// A call that changes nothing.
#[derive(Clone, Debug)]
pub struct Bounded {
    /// Whom to ask; without, `data` is creation code, and the answer what it would leave as code.
    pub to: Option<Address>,
    /// Calldata.
    pub data: Bytes,
    /// No more gas than this.
    pub gas: u64,
}

impl ReadClient {
    /// Whether an account has code in this block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn has_code(&self, account: Address, at: BlockId) -> Result<bool, ChainError> {
        let ask = |provider: DynProvider| async move {
            Ok(provider.get_code_at(account).block_id(at).await?)
        };
        Ok(!self.fleet.ask(ask).await?.is_empty())
    }

    /// What a contract answers in this block; `None` if it reverts, runs out of gas, or there is no telling.
    ///
    /// # Errors
    /// [`ChainError::Unavailable`] if the chain does not answer.
    pub async fn ask_bounded(
        &self,
        call: &Bounded,
        at: BlockId,
    ) -> Result<Option<Bytes>, ChainError> {
        let mut request = TransactionRequest::default()
            .from(ASKER)
            .input(TransactionInput::new(call.data.clone()))
            .gas_limit(call.gas);
        if let Some(to) = call.to {
            request = request.to(to);
        }
        let request = &request;
        let ask = |provider: DynProvider| async move {
            Ok(provider.call(request.clone()).block(at).await?)
        };
        match self.fleet.ask(ask).await {
            Ok(answer) => Ok(Some(answer)),
            Err(ChainError::Unavailable(reason)) => Err(ChainError::Unavailable(reason)),
            Err(
                ChainError::Reverts { .. } | ChainError::Refused { .. } | ChainError::Nonsense(_),
            ) => Ok(None),
        }
    }
}
