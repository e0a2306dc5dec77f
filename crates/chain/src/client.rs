//! The RPC client. Every call has a time limit; nothing here watches, waits or fills nonces in.

use std::time::Duration;

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{Address, B256, Bloom, BloomInput, Bytes, U256, keccak256},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::{Block, Filter, Log, TransactionInput, TransactionRequest},
    sol,
    sol_types::SolCall,
};
use domain::time::UnixSeconds;
use reqwest::Url;

use crate::{ChainError, SendOutcome, TxReceipt, classify, receipt::Receipt};

const RPC_TIMEOUT: Duration = Duration::from_secs(5);

sol! {
    function nonces(address owner) external view returns (uint256);
    function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4);
    function balanceOf(address account) external view returns (uint256);
}

/// The magic answer of EIP-1271.
const MAGIC_1271: [u8; 4] = [0x16, 0x26, 0xba, 0x7e];
/// More than this a signature check may not burn.
const GAS_1271: u64 = 500_000;

/// Asks the chain; cannot send.
#[derive(Clone, Debug)]
pub struct ReadClient {
    provider: DynProvider,
}

/// What identifies a block and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Height.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Hash of the one before.
    pub parent_hash: B256,
    /// When it was made.
    pub timestamp: UnixSeconds,
    /// Base fee in wei per gas.
    pub base_fee: u128,
    /// How many transactions are in it.
    pub transactions: usize,
    /// Who emitted logs in it, and which: never wrong about a no.
    pub logs_bloom: Bloom,
}

impl BlockHeader {
    /// False if `address` has emitted no log in this block; true if it may have.
    #[must_use]
    pub fn may_have_logs_of(&self, address: Address) -> bool {
        self.logs_bloom.contains_input(BloomInput::Raw(address.as_slice()))
    }
}

impl ReadClient {
    /// A client of one HTTP endpoint. Does not connect yet.
    ///
    /// # Errors
    /// [`ChainError::Nonsense`] if the URL is malformed.
    pub fn connect(url: &str) -> Result<Self, ChainError> {
        let url: Url = url
            .parse()
            .map_err(|error| ChainError::Nonsense(format!("RPC URL {url:?}: {error}")))?;
        let http = reqwest::Client::builder()
            .timeout(RPC_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|error| ChainError::Unavailable(error.to_string()))?;
        let transport = alloy::transports::http::Http::with_client(http, url);
        Ok(Self::over(alloy::rpc::client::RpcClient::new(transport, true)))
    }

    /// A client over any transport.
    #[must_use]
    pub fn over(client: alloy::rpc::client::RpcClient) -> Self {
        let provider =
            ProviderBuilder::new().disable_recommended_fillers().connect_client(client).erased();
        Self { provider }
    }

    /// EIP-155 chain id.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn chain_id(&self) -> Result<u64, ChainError> {
        Ok(self.provider.get_chain_id().await?)
    }

    /// The header of a block, or `None` if the chain has none there.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn header(&self, at: BlockNumberOrTag) -> Result<Option<BlockHeader>, ChainError> {
        Ok(self.provider.get_block_by_number(at).await?.map(|block| header(&block)))
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

    /// The logs that `address` emitted in this block, in order.
    ///
    /// # Errors
    /// [`ChainError`]; a block that left the chain is [`ChainError::Refused`] on most nodes. A node that
    /// knows of the block but has not its logs yet, and says that there are none, is
    /// [`ChainError::Unavailable`].
    pub async fn logs(
        &self,
        block: &BlockHeader,
        address: Address,
    ) -> Result<Vec<Log>, ChainError> {
        let filter = Filter::new().at_block_hash(block.hash).address(address);
        let logs = self.provider.get_logs(&filter).await?;
        if logs.is_empty() && block.may_have_logs_of(address) {
            let receipts = self.receipts(block).await?;
            if receipts.iter().any(|receipt| receipt.logged.contains(&address)) {
                let reason = format!("it has the logs of block {} not yet", block.number);
                return Err(ChainError::Unavailable(reason));
            }
        }
        Ok(logs)
    }

    /// The receipts of all transactions of this block, of whatever type they are.
    ///
    /// # Errors
    /// [`ChainError::Unavailable`] if the node does not have them.
    pub async fn receipts(&self, block: &BlockHeader) -> Result<Vec<TxReceipt>, ChainError> {
        let found: Option<Vec<Receipt>> =
            self.provider.raw_request("eth_getBlockReceipts".into(), (block.hash,)).await?;
        let receipts = found.unwrap_or_default();
        if receipts.is_empty() && block.transactions > 0 {
            let reason = format!("it has the receipts of block {} not yet", block.number);
            return Err(ChainError::Unavailable(reason));
        }
        Ok(receipts.into_iter().map(TxReceipt::from).collect())
    }

    /// The account's next nonce in the newest block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn nonce(&self, account: Address) -> Result<u64, ChainError> {
        Ok(self.provider.get_transaction_count(account).await?)
    }

    /// The account's next nonce as of this block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn nonce_at(&self, account: Address, block: B256) -> Result<u64, ChainError> {
        let at = BlockId::hash(block);
        Ok(self.provider.get_transaction_count(account).block_id(at).await?)
    }

    /// The account's native balance in wei.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn balance(&self, account: Address) -> Result<U256, ChainError> {
        Ok(self.provider.get_balance(account).await?)
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
            return Ok(self.provider.get_balance(account).block_id(at).await?);
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
        let code = self.provider.get_code_at(account).await?;
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
        Ok(self.provider.call(request(None, to, calldata)).block(at).await?)
    }

    /// Gas the call would use if `from` sent it now at `gas_price` wei per gas. With a price, because contracts on
    /// the way can see it: what costs nothing could be made to look cheaper than what is sent.
    ///
    /// # Errors
    /// [`ChainError::Reverts`] with the contract's reason.
    pub async fn estimate_gas(
        &self,
        from: Address,
        to: Address,
        calldata: Vec<u8>,
        gas_price: u128,
    ) -> Result<u64, ChainError> {
        let call = request(Some(from), to, calldata).max_fee_per_gas(gas_price);
        Ok(self.provider.estimate_gas(call).await?)
    }

    /// The tip that the node suggests, in wei per gas.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn suggested_tip(&self) -> Result<u128, ChainError> {
        Ok(self.provider.get_max_priority_fee_per_gas().await?)
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

    /// Whether a contract wallet accepts a signature over a hash (EIP-1271), with a bound on gas.
    ///
    /// # Errors
    /// [`ChainError::Unavailable`] if the chain does not answer; a wallet that reverts says no.
    pub async fn is_valid_signature_1271(
        &self,
        wallet: Address,
        hash: B256,
        signature: Bytes,
    ) -> Result<bool, ChainError> {
        let calldata = isValidSignatureCall { hash, signature }.abi_encode();
        let call = request(None, wallet, calldata).gas_limit(GAS_1271);
        match self.provider.call(call).await.map_err(ChainError::from) {
            Ok(data) => Ok(data.len() >= 32 && data.starts_with(&MAGIC_1271)),
            Err(ChainError::Unavailable(reason)) => Err(ChainError::Unavailable(reason)),
            Err(
                ChainError::Reverts { .. } | ChainError::Refused { .. } | ChainError::Nonsense(_),
            ) => Ok(false),
        }
    }
}

fn request(from: Option<Address>, to: Address, calldata: Vec<u8>) -> TransactionRequest {
    let mut request =
        TransactionRequest::default().to(to).input(TransactionInput::new(calldata.into()));
    request.from = from;
    request
}

fn header(block: &Block) -> BlockHeader {
    BlockHeader {
        number: block.header.number,
        hash: block.header.hash,
        parent_hash: block.header.parent_hash,
        timestamp: UnixSeconds(block.header.timestamp),
        base_fee: block.header.base_fee_per_gas.map_or(0, u128::from),
        transactions: block.transactions.len(),
        logs_bloom: block.header.logs_bloom,
    }
}

/// Sends bytes. Only the lane holds one.
#[derive(Clone, Debug)]
pub struct Wire {
    client: ReadClient,
}

impl Wire {
    /// The sending half of a client.
    #[must_use]
    pub fn new(client: ReadClient) -> Self {
        Self { client }
    }

    /// Sends raw bytes once, and says what the node made of them.
    pub async fn send(&self, raw: &[u8]) -> SendOutcome {
        match self.client.provider.send_raw_transaction(raw).await {
            Ok(_) => SendOutcome::Accepted,
            Err(error) => classify(&ChainError::from(error)),
        }
    }
}
