//! The chain as an outsider sees it: raw JSON-RPC straight to the node, none of the service's own code.

use std::time::Duration;

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718 as _,
    primitives::{Address, B256, Bytes, TxKind, U256},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use serde_json::{Value, json};

const GWEI: u128 = 1_000_000_000;
/// Enough for every call of a wallet here.
const GAS: u64 = 600_000;

#[derive(Clone)]
pub struct Rpc {
    http: reqwest::Client,
    url: String,
    pub chain_id: u64,
}

/// A signed transaction: what a wallet keeps to send it again.
#[derive(Clone, Debug)]
pub struct Sent {
    pub hash: B256,
    pub raw: Bytes,
}

impl Rpc {
    pub fn new(url: &str, chain_id: u64) -> Self {
        let http = tls::direct(Duration::from_secs(20)).unwrap();
        Self { http, url: url.to_owned(), chain_id }
    }

    /// The result, or the node's refusal.
    pub async fn try_call(&self, method: &str, params: Value) -> Result<Value, String> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = self.http.post(&self.url).json(&body).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        let mut answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(answer["error"].to_string()),
        }
    }

    pub async fn call(&self, method: &str, params: Value) -> Value {
        match self.try_call(method, params).await {
            Ok(result) => result,
            Err(error) => panic!("the chain refuses {method}: {error}"),
        }
    }

    pub async fn head(&self) -> u64 {
        number(&self.call("eth_blockNumber", json!([])).await)
    }

    pub async fn finalized(&self) -> u64 {
        number(&self.call("eth_getBlockByNumber", json!(["finalized", false])).await["number"])
    }

    pub async fn time(&self) -> u64 {
        number(&self.call("eth_getBlockByNumber", json!(["latest", false])).await["timestamp"])
    }

    pub async fn receipt(&self, hash: B256) -> Option<Value> {
        let receipt = self.call("eth_getTransactionReceipt", json!([hash])).await;
        (!receipt.is_null()).then_some(receipt)
    }

    /// Signs with the wallet's next number and sends. The same bytes can be sent again.
    pub async fn send(
        &self,
        key: &PrivateKeySigner,
        to: Address,
        data: Vec<u8>,
        value: u128,
    ) -> Sent {
        let count = self.call("eth_getTransactionCount", json!([key.address(), "pending"])).await;
        let tx = TxEip1559 {
            chain_id: self.chain_id,
            nonce: number(&count),
            gas_limit: GAS,
            max_fee_per_gas: 500 * GWEI,
            max_priority_fee_per_gas: 30 * GWEI,
            to: TxKind::Call(to),
            value: U256::from(value),
            access_list: alloy::eips::eip2930::AccessList::default(),
            input: data.into(),
        };
        let signature = key.sign_hash_sync(&tx.signature_hash()).unwrap();
        let envelope = TxEnvelope::from(tx.into_signed(signature));
        let sent = Sent { hash: *envelope.tx_hash(), raw: envelope.encoded_2718().into() };
        self.send_again(&sent).await;
        sent
    }

    /// A wallet's own node sends bytes; that it has them already is no fault.
    pub async fn send_again(&self, sent: &Sent) {
        if let Err(error) = self.try_call("eth_sendRawTransaction", json!([sent.raw])).await {
            let known = ["already known", "already imported", "nonce too low"];
            assert!(known.iter().any(|words| error.contains(words)), "{error}");
        }
    }

    pub async fn mined(&self, hash: B256) -> Value {
        for _ in 0..600 {
            if let Some(receipt) = self.receipt(hash).await {
                assert_eq!(receipt["status"], "0x1", "{receipt}");
                return receipt;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{hash} was not mined");
    }
}

pub fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no quantity"));
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}
