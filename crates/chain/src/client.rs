//! The RPC client: questions to the chain. Every one has a time limit; nothing here watches, waits or fills nonces
//! in.

use std::sync::Arc;

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{Address, B256, Bytes, U256, keccak256},
    providers::{DynProvider, Provider},
    rpc::{
        client::RpcClient,
        types::{Filter, Log, TransactionInput, TransactionRequest},
    },
    sol,
    sol_types::SolCall,
};
use futures_util::future::try_join;
use serde::de::IgnoredAny;
use tokio::task::JoinSet;

use crate::{
    BlockHeader, ChainError, Identified, Identity, TxReceipt,
    fleet::{Fleet, Patience},
    receipt::Receipt,
};

sol! {
    function nonces(address owner) external view returns (uint256);
    function balanceOf(address account) external view returns (uint256);
}

/// So often one endpoint is asked for a nonce on which much rests.
const LOOKS_AT_NONCE: usize = 3;

/// Asks the chain; cannot send.
#[derive(Clone, Debug)]
pub struct ReadClient {
    pub(crate) fleet: Arc<Fleet>,
}

impl ReadClient {
    /// A client of one HTTP endpoint or of several, separated by commas. Does not connect yet.
    ///
    /// # Errors
    /// [`ChainError::Nonsense`] if a URL is malformed, there twice, or there are none or too many.
    pub fn connect(urls: &str) -> Result<Self, ChainError> {
        Ok(Self { fleet: Arc::new(Fleet::connect(urls)?) })
    }

    /// A client over any transport: what asks the chain need not know what answers.
    #[must_use]
    pub fn over(client: RpcClient) -> Self {
        Self { fleet: Arc::new(Fleet::over(client)) }
    }

    /// How many endpoints it asks.
    #[must_use]
    pub fn endpoints(&self) -> usize {
        self.fleet.endpoints.len()
    }

    /// From here on only endpoints that serve this chain are believed.
    pub fn expect(&self, identity: Identity) {
        self.fleet.expect(identity);
    }

    /// What every endpoint says of its chain.
    pub async fn identify(&self) -> Vec<Identified> {
        self.fleet.identify().await
    }

    /// What each endpoint says is the block at this height: none where it has none, rests, or does not answer.
    pub async fn each_hash_at(&self, number: u64) -> Vec<Option<B256>> {
        let mut asked = JoinSet::new();
        for endpoint in self.fleet.awake() {
            let fleet = Arc::clone(&self.fleet);
            asked.spawn(async move {
                let ask = |provider: DynProvider| async move {
                    header_at(&provider, BlockNumberOrTag::Number(number)).await
                };
                let only = std::slice::from_ref(&endpoint);
                let found = fleet.persist(only, Patience::WITNESS, ask).await.ok()?;
                found.value.map(|block| block.hash)
            });
        }
        asked.join_all().await
    }

    /// EIP-155 chain id.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn chain_id(&self) -> Result<u64, ChainError> {
        self.fleet.ask(|provider| async move { Ok(provider.get_chain_id().await?) }).await
    }

    /// The header of a block, or `None` if the chain has none there.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn header(&self, at: BlockNumberOrTag) -> Result<Option<BlockHeader>, ChainError> {
        self.fleet.ask(|provider| async move { header_at(&provider, at).await }).await
    }

    /// The newest block's header.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn head(&self) -> Result<BlockHeader, ChainError> {
        self.header(BlockNumberOrTag::Latest)
            .await?
            .ok_or_else(|| ChainError::Nonsense("no latest block".to_owned()))
    }

    /// The newest final block's header, if the chain says which it is.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn finalized(&self) -> Result<Option<BlockHeader>, ChainError> {
        self.header(BlockNumberOrTag::Finalized).await
    }

    /// The logs that `address` emitted in this block, in order. If the block may have such logs, they must be as many as
    /// its receipts tell of.
    ///
    /// # Errors
    /// [`ChainError`]; a block that left the chain is [`ChainError::Refused`] on most nodes. A node that
    /// knows of the block but has not all its logs yet is [`ChainError::Unavailable`].
    pub async fn logs(
        &self,
        block: &BlockHeader,
        address: Address,
    ) -> Result<Vec<Log>, ChainError> {
        if block.may_have_logs_of(address) {
            return Ok(self.logs_and_receipts(block, address).await?.0);
        }
        self.logs_as_many(block, address, None).await
    }

    /// The logs that `address` emitted in this block and the receipts of all its transactions, each in order. There are
    /// as many logs as the receipts tell of.
    ///
    /// # Errors
    /// As [`ReadClient::logs`] and [`ReadClient::receipts`].
    pub async fn logs_and_receipts(
        &self,
        block: &BlockHeader,
        address: Address,
    ) -> Result<(Vec<Log>, Vec<TxReceipt>), ChainError> {
        let (logs, receipts) =
            try_join(self.logs_as_many(block, address, None), self.receipts(block)).await?;
        let told = receipts.iter().flat_map(|receipt| &receipt.logged);
        let expected = told.filter(|by| **by == address).count();
        if logs.len() == expected {
            return Ok((logs, receipts));
        }
        // A node that is late, or cuts a long answer short, would make an event never have happened.
        Ok((self.logs_as_many(block, address, Some(expected)).await?, receipts))
    }

    async fn logs_as_many(
        &self,
        block: &BlockHeader,
        address: Address,
        expected: Option<usize>,
    ) -> Result<Vec<Log>, ChainError> {
        let ask = |provider| async move { logs_of(&provider, block, address, expected).await };
        self.fleet.ask(ask).await
    }

    /// The receipts of all transactions of this block, of whatever type they are.
    ///
    /// # Errors
    /// [`ChainError::Unavailable`] if the node does not have them.
    pub async fn receipts(&self, block: &BlockHeader) -> Result<Vec<TxReceipt>, ChainError> {
        self.fleet.ask(|provider| async move { receipts_of(&provider, block).await }).await
    }

    /// The account's next nonce in the newest block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn nonce(&self, account: Address) -> Result<u64, ChainError> {
        let ask = |provider: DynProvider| async move {
            Ok(provider.get_transaction_count(account).await?)
        };
        self.fleet.ask(ask).await
    }

    /// The account's next nonce as of this block, as far as it is to be believed: two endpoints have to say the same.
    /// Where there is one, it is asked three times, and the least counts, for a number that is too high is what does
    /// harm. `None` if two say different numbers.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn agreed_nonce_at(
        &self,
        account: Address,
        block: B256,
    ) -> Result<Option<u64>, ChainError> {
        let at = BlockId::hash(block);
        let ask = |provider: DynProvider| async move {
            Ok(provider.get_transaction_count(account).block_id(at).await?)
        };
        let (first, second) = self.fleet.ask_two(Patience::QUESTION, ask).await?;
        if let Some(second) = second {
            return Ok((first == second).then_some(first));
        }
        let mut least = first;
        for _ in 1..LOOKS_AT_NONCE {
            least = least.min(self.fleet.ask(ask).await?);
        }
        Ok(Some(least))
    }

    /// Whether a node has this transaction, in a block or waiting for one.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn has_transaction(&self, hash: B256) -> Result<bool, ChainError> {
        let ask = |provider: DynProvider| async move {
            let found: Option<IgnoredAny> =
                provider.raw_request("eth_getTransactionByHash".into(), (hash,)).await?;
            Ok(found.is_some())
        };
        self.fleet.ask(ask).await
    }

    /// The account's native balance in wei.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn balance(&self, account: Address) -> Result<U256, ChainError> {
        self.token_balance(Address::ZERO, account, BlockId::latest()).await
    }

    /// The account's balance of an ERC-20 token at a block, or of the native coin for address zero.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn token_balance(
        &self,
        token: Address,
        account: Address,
        at: BlockId,
    ) -> Result<U256, ChainError> {
        if token.is_zero() {
            let ask = |provider: DynProvider| async move {
                Ok(provider.get_balance(account).block_id(at).await?)
            };
            return self.fleet.ask(ask).await;
        }
        let data = self.call_at(token, balanceOfCall { account }.abi_encode(), at).await?;
        balanceOfCall::abi_decode_returns(&data)
            .map_err(|error| ChainError::Nonsense(format!("balanceOf of {token}: {error}")))
    }

    /// keccak256 of the account's code, or `None` without code.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn code_hash(&self, account: Address) -> Result<Option<B256>, ChainError> {
        let ask = |provider: DynProvider| async move { Ok(provider.get_code_at(account).await?) };
        let code = self.fleet.ask(ask).await?;
        Ok((!code.is_empty()).then(|| keccak256(&code)))
    }

    /// A call that changes nothing, in the newest block.
    ///
    /// # Errors
    /// [`ChainError::Reverts`] with the contract's reason.
    pub async fn call(&self, to: Address, calldata: Vec<u8>) -> Result<Bytes, ChainError> {
        self.call_at(to, calldata, BlockId::latest()).await
    }

    /// A call that changes nothing, in a given block.
    ///
    /// # Errors
    /// [`ChainError::Reverts`] with the contract's reason.
    pub async fn call_at(
        &self,
        to: Address,
        calldata: Vec<u8>,
        at: BlockId,
    ) -> Result<Bytes, ChainError> {
        self.answer(&request(None, to, calldata), at).await
    }

    /// Gas the call would use if `from` sent it now at `gas_price` wei per gas. With a price, because contracts on
    /// the way can see it: what costs nothing could be made to look cheaper than what is sent. With `most`, no more gas is
    /// tried.
    ///
    /// # Errors
    /// [`ChainError::Reverts`] with the contract's reason; [`ChainError::Refused`] if `most` is too little.
    pub async fn estimate_gas(
        &self,
        from: Address,
        to: Address,
        calldata: Vec<u8>,
        gas_price: u128,
        most: Option<u64>,
    ) -> Result<u64, ChainError> {
        let mut call = request(Some(from), to, calldata).max_fee_per_gas(gas_price);
        call.gas = most;
        let call = &call;
        let ask =
            |provider: DynProvider| async move { Ok(provider.estimate_gas(call.clone()).await?) };
        self.fleet.ask(ask).await
    }

    /// The tip that the node suggests, in wei per gas.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn suggested_tip(&self) -> Result<u128, ChainError> {
        let ask = |provider: DynProvider| async move {
            Ok(provider.get_max_priority_fee_per_gas().await?)
        };
        self.fleet.ask(ask).await
    }

    /// The owner's next EIP-2612 nonce of a token.
    ///
    /// # Errors
    /// [`ChainError::Reverts`] or [`ChainError::Nonsense`] if the token has no permits.
    pub async fn erc20_permit_nonce(
        &self,
        token: Address,
        owner: Address,
    ) -> Result<U256, ChainError> {
        let data = self.call(token, noncesCall { owner }.abi_encode()).await?;
        noncesCall::abi_decode_returns(&data)
            .map_err(|error| ChainError::Nonsense(format!("nonces of {token}: {error}")))
    }

    async fn answer(&self, call: &TransactionRequest, at: BlockId) -> Result<Bytes, ChainError> {
        let ask =
            |provider: DynProvider| async move { Ok(provider.call(call.clone()).block(at).await?) };
        self.fleet.ask(ask).await
    }
}

fn request(from: Option<Address>, to: Address, calldata: Vec<u8>) -> TransactionRequest {
    let mut request =
        TransactionRequest::default().to(to).input(TransactionInput::new(calldata.into()));
    request.from = from;
    request
}

pub(crate) async fn header_at(
    provider: &DynProvider,
    at: BlockNumberOrTag,
) -> Result<Option<BlockHeader>, ChainError> {
    Ok(provider.get_block_by_number(at).await?.as_ref().map(BlockHeader::from))
}

async fn logs_of(
    provider: &DynProvider,
    block: &BlockHeader,
    address: Address,
    expected: Option<usize>,
) -> Result<Vec<Log>, ChainError> {
    let filter = Filter::new().at_block_hash(block.hash).address(address);
    let logs = provider.get_logs(&filter).await?;
    if expected.is_some_and(|expected| expected != logs.len()) {
        let reason = format!("it has not all logs of block {} yet", block.number);
        return Err(ChainError::Unavailable(reason));
    }
    Ok(logs)
}

async fn receipts_of(
    provider: &DynProvider,
    block: &BlockHeader,
) -> Result<Vec<TxReceipt>, ChainError> {
    let found: Option<Vec<Receipt>> =
        provider.raw_request("eth_getBlockReceipts".into(), (block.hash,)).await?;
    let receipts = found.unwrap_or_default();
    // The last receipt's gas is the block's: by their number alone it could not be told, as chains differ in
    // whether they count transactions of their own (Polygon's state syncs, which use no gas).
    let gas = receipts.iter().map(Receipt::cumulative_gas).max().unwrap_or_default();
    if (receipts.is_empty() && block.transactions > 0) || gas != block.gas_used {
        let reason = format!("it has not all receipts of block {} yet", block.number);
        return Err(ChainError::Unavailable(reason));
    }
    Ok(receipts.into_iter().map(TxReceipt::from).collect())
}
