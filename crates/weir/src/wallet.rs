//! A person's wallet: signs and sends its own transactions and waits for them, with a limit. Not the
//! platform's lane: it keeps nothing, and a person looks on.

use std::time::{Duration, Instant};

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::{BlockNumberOrTag, eip2718::Encodable2718},
    primitives::{Address, B256, Bytes, TxKind, U256},
    providers::{DynProvider, Provider},
    rpc::types::{TransactionInput, TransactionReceipt, TransactionRequest},
    signers::{SignerSync, local::PrivateKeySigner},
};

use crate::failure::Failure;

const MINED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const GWEI: u128 = 1_000_000_000;

/// A key with a view of the chain.
pub(crate) struct Wallet {
    key: PrivateKeySigner,
    provider: DynProvider,
    chain_id: u64,
}

impl Wallet {
    /// Opens the wallet of a private key.
    ///
    /// # Errors
    /// If the key or the URL is malformed, or the chain does not answer.
    pub(crate) async fn open(key: &str, rpc_url: &str) -> Result<Self, Failure> {
        let key: PrivateKeySigner =
            key.parse().map_err(|_| Failure::new("the wallet's key is not a private key"))?;
        // of several endpoints, the first: this wallet is the local market's only
        let first = rpc_url.split(',').next().unwrap_or_default().trim();
        let provider = chain::provider(first).map_err(Failure::during("RPC_URL"))?;
        let chain_id = provider.get_chain_id().await.map_err(Failure::during("the chain"))?;
        Ok(Self { key, provider, chain_id })
    }

    /// Its address.
    pub(crate) fn address(&self) -> Address {
        self.key.address()
    }

    /// Signs a text as wallets do (EIP-191).
    ///
    /// # Errors
    /// If the key does not sign.
    pub(crate) fn sign_text(&self, text: &str) -> Result<String, Failure> {
        let signature =
            self.key.sign_message_sync(text.as_bytes()).map_err(Failure::during("signing"))?;
        Ok(signature.to_string())
    }

    /// Signs a digest, as of typed data (EIP-712).
    ///
    /// # Errors
    /// If the key does not sign.
    pub(crate) fn sign_digest(&self, digest: B256) -> Result<String, Failure> {
        let signature = self.key.sign_hash_sync(&digest).map_err(Failure::during("signing"))?;
        Ok(signature.to_string())
    }

    /// The chain that it signs for.
    pub(crate) const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Deploys a contract and returns its address and block.
    ///
    /// # Errors
    /// If it is not mined in time, or reverts.
    pub(crate) async fn deploy(&self, code: Bytes) -> Result<(Address, u64), Failure> {
        let receipt = self.send_to(TxKind::Create, code, U256::ZERO).await?;
        let address = receipt
            .contract_address
            .ok_or_else(|| Failure::new("the deployment made no contract"))?;
        Ok((address, receipt.block_number.unwrap_or_default()))
    }

    /// Sends a call and waits until it is mined.
    ///
    /// # Errors
    /// If it is not mined in time, or reverts.
    pub(crate) async fn send(
        &self,
        to: Address,
        data: Vec<u8>,
        value: U256,
    ) -> Result<TransactionReceipt, Failure> {
        self.send_to(TxKind::Call(to), data.into(), value).await
    }

    async fn send_to(
        &self,
        to: TxKind,
        input: Bytes,
        value: U256,
    ) -> Result<TransactionReceipt, Failure> {
        let chain = Failure::during("the chain");
        let request = TransactionRequest {
            from: Some(self.address()),
            to: Some(to),
            value: Some(value),
            input: TransactionInput::new(input.clone()),
            ..TransactionRequest::default()
        };
        let gas = self
            .provider
            .estimate_gas(request)
            .await
            .map_err(Failure::during("the chain refuses the wallet's transaction"))?;
        let nonce = self
            .provider
            .get_transaction_count(self.address())
            .pending()
            .await
            .map_err(Failure::during("the chain"))?;
        let head = self.provider.get_block_by_number(BlockNumberOrTag::Latest).await;
        let base = head
            .map_err(chain)?
            .and_then(|block| block.header.base_fee_per_gas)
            .map_or(GWEI, u128::from);
        let tip = 30_u128.saturating_mul(GWEI);
        let tx = TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit: gas.saturating_add(gas / 4),
            max_fee_per_gas: base.saturating_mul(2).saturating_add(tip),
            max_priority_fee_per_gas: tip,
            to,
            value,
            access_list: alloy::eips::eip2930::AccessList::default(),
            input,
        };
        let signature =
            self.key.sign_hash_sync(&tx.signature_hash()).map_err(Failure::during("signing"))?;
        let envelope = TxEnvelope::from(tx.into_signed(signature));
        let pending = self
            .provider
            .send_raw_transaction(&envelope.encoded_2718())
            .await
            .map_err(Failure::during("the chain refuses the wallet's transaction"))?;
        self.mined(*pending.tx_hash()).await
    }

    async fn mined(&self, hash: B256) -> Result<TransactionReceipt, Failure> {
        let since = Instant::now();
        while since.elapsed() < MINED_WITHIN {
            let receipt = self.provider.get_transaction_receipt(hash).await;
            if let Some(receipt) = receipt.map_err(Failure::during("the chain"))? {
                return if receipt.status() {
                    Ok(receipt)
                } else {
                    Err(Failure::new(format!("the transaction {hash} reverted")))
                };
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(Failure::new(format!(
            "the transaction {hash} was not mined in {} s; does the chain make blocks?",
            MINED_WITHIN.as_secs()
        )))
    }
}
