//! Calls of code that anybody may have written: in one block, with a bound on gas.

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{Address, Bytes, address},
    providers::{DynProvider, Provider as _},
    rpc::types::{TransactionInput, TransactionRequest},
};

use crate::{ChainError, ReadClient, client::header_at, fleet::Patience};

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

/// Two endpoints have to tell the same: what is asked here lets people in.
fn alike<T: PartialEq>((first, second): (T, Option<T>)) -> Result<T, ChainError> {
    if second.is_some_and(|second| second != first) {
        let reason = "endpoints differ in what an account says in one block".to_owned();
        return Err(ChainError::Unavailable(reason));
    }
    Ok(first)
}

impl ReadClient {
    /// The number of the newest block that two endpoints have, or the only one there is.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn common_head(&self) -> Result<u64, ChainError> {
        let ask = |provider: DynProvider| async move {
            let head = header_at(&provider, BlockNumberOrTag::Latest).await?;
            head.ok_or_else(|| ChainError::Nonsense("no latest block".to_owned()))
        };
        let (first, second) = self.fleet.ask_two(Patience::QUESTION, ask).await?;
        Ok(second.map_or(first.number, |second| second.number.min(first.number)))
    }

    /// Whether an account has code in this block, as two endpoints tell it alike.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn has_code(&self, account: Address, at: BlockId) -> Result<bool, ChainError> {
        let ask = |provider: DynProvider| async move {
            Ok(provider.get_code_at(account).block_id(at).await?)
        };
        Ok(!alike(self.fleet.ask_two(Patience::QUESTION, ask).await?)?.is_empty())
    }

    /// What a contract answers in this block, as two endpoints tell it alike; `None` if it reverts, runs out of gas, or
    /// there is no telling.
    ///
    /// # Errors
    /// [`ChainError::Unavailable`] if the chain does not answer, or two endpoints answer differently.
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
        match self.fleet.ask_two(Patience::QUESTION, ask).await.and_then(alike) {
            Ok(answer) => Ok(Some(answer)),
            Err(ChainError::Unavailable(reason)) => Err(ChainError::Unavailable(reason)),
            Err(
                ChainError::Reverts { .. } | ChainError::Refused { .. } | ChainError::Nonsense(_),
            ) => Ok(None),
        }
    }
}
