//! Price feeds with Chainlink's `AggregatorV3Interface`.

use alloy::{
    eips::BlockId,
    primitives::{Address, B256},
    providers::Provider,
    rpc::types::{TransactionInput, TransactionRequest},
    sol,
    sol_types::SolCall,
};
use domain::oracle::Round;

use crate::{ChainError, ReadClient, fleet::Patience};

sol! {
    function latestRoundData() external view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);
    function decimals() external view returns (uint8);
}

impl ReadClient {
    /// A feed's newest round as of a block, and its decimals. With several endpoints two must tell the same, as of a
    /// node that lies everybody would be quoted its price.
    ///
    /// # Errors
    /// [`ChainError::Nonsense`] if it is no feed; [`ChainError::Unavailable`] if the endpoints do not agree;
    /// [`ChainError::Reverts`].
    pub async fn latest_round(&self, feed: Address, block: B256) -> Result<Round, ChainError> {
        let round = self.told_alike(feed, latestRoundDataCall {}, block).await?;
        let decimals = self.told_alike(feed, decimalsCall {}, block).await?;
        Ok(Round {
            id: round.roundId.to(),
            answer: round.answer,
            // a time beyond 64 bits is one of the future, whatever it is
            updated_at: u64::try_from(round.updatedAt).unwrap_or(u64::MAX),
            answered_in: round.answeredInRound.to(),
            decimals,
        })
    }

    /// A feed's decimals as of a block.
    ///
    /// # Errors
    /// As [`ReadClient::latest_round`].
    pub async fn feed_decimals(&self, feed: Address, block: B256) -> Result<u8, ChainError> {
        self.told_alike(feed, decimalsCall {}, block).await
    }

    async fn told_alike<C: SolCall>(
        &self,
        feed: Address,
        call: C,
        block: B256,
    ) -> Result<C::Return, ChainError> {
        let request = TransactionRequest::default()
            .to(feed)
            .input(TransactionInput::new(call.abi_encode().into()));
        let request = &request;
        let at = BlockId::from(block);
        let told = self
            .fleet
            .ask_two(Patience::QUESTION, |provider| async move {
                Ok(provider.call(request.clone()).block(at).await?)
            })
            .await?;
        let (first, second) = told;
        if second.is_some_and(|second| second != first) {
            let reason = format!("endpoints differ in what {feed} answers in one block");
            return Err(ChainError::Unavailable(reason));
        }
        C::abi_decode_returns(&first)
            .map_err(|error| ChainError::Nonsense(format!("{feed} is no price feed: {error}")))
    }
}
