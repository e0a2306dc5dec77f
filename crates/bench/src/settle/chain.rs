//! The chain, its contracts, and transactions that are signed by hand.

use std::time::Duration;

use ::chain::{Fees, ReadClient, Signer, TxFields};
use alloy_primitives::{Address, Bytes};
use serde_json::{Value, json};
use testkit::TestChain;
use tokio::time::{Instant, sleep};

use crate::BenchError;

/// Calls in one JSON-RPC request.
const CALLS: usize = 50;
/// Between two looks at what is mined.
const LOOK: Duration = Duration::from_millis(10);
const LIMIT: Duration = Duration::from_secs(120);
/// Well above what the chain asks for.
const FEES: Fees = Fees { max_fee: 100_000_000_000, tip: 2_000_000_000 };

/// An account whose transactions are numbered here.
pub(super) struct Account {
    signer: Signer,
    chain_id: u64,
    nonce: u64,
}

impl Account {
    pub(super) async fn open(key: &str, chain: &TestChain) -> Result<Self, BenchError> {
        let signer: Signer = key.parse().map_err(BenchError::subject("read a key"))?;
        let nonce = mined(chain, signer.address()).await?;
        Ok(Self { signer, chain_id: chain.chain_id(), nonce })
    }

    pub(super) const fn nonce(&self) -> u64 {
        self.nonce
    }

    pub(super) fn address(&self) -> Address {
        self.signer.address()
    }

    pub(super) fn sign(
        &mut self,
        to: Address,
        calldata: Vec<u8>,
        gas_limit: u64,
    ) -> Result<Bytes, BenchError> {
        let fields = TxFields {
            chain_id: self.chain_id,
            nonce: self.nonce,
            to,
            calldata: calldata.into(),
            gas_limit,
            fees: FEES,
            access_list: Vec::new().into(),
        };
        self.nonce = self.nonce.saturating_add(1);
        let signed = self.signer.sign(&fields).map_err(BenchError::subject("sign"))?;
        Ok(signed.raw)
    }

    /// Waits until everything that was signed is in a block.
    pub(super) async fn settle(&self, chain: &TestChain) -> Result<(), BenchError> {
        let began = Instant::now();
        while mined(chain, self.address()).await? < self.nonce {
            if began.elapsed() > LIMIT {
                return Err(BenchError::subject("send")("not everything was mined"));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}

/// How many transactions of an account are in blocks.
pub(super) async fn mined(chain: &TestChain, account: Address) -> Result<u64, BenchError> {
    let told = call(chain, "eth_getTransactionCount", json!([account, "latest"])).await?;
    let count: alloy_primitives::U64 =
        serde_json::from_value(told).map_err(BenchError::subject("read a count"))?;
    Ok(count.to())
}

/// Throws signed bytes at the chain, in order, many to a request.
pub(super) async fn throw(
    http: &reqwest::Client,
    chain: &TestChain,
    raws: &[Bytes],
) -> Result<(), BenchError> {
    for part in raws.chunks(CALLS) {
        let calls: Vec<_> = part
            .iter()
            .enumerate()
            .map(|(id, raw)| {
                json!({"jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [raw]})
            })
            .collect();
        let answer = http.post(chain.url()).json(&calls).send().await;
        let answer = answer.map_err(BenchError::subject("send"))?;
        let told: Vec<Value> = answer.json().await.map_err(BenchError::subject("send"))?;
        if let Some(refused) = told.iter().find(|one| one.get("error").is_some()) {
            return Err(BenchError::subject("send")(refused));
        }
    }
    Ok(())
}

/// A call that only anvil knows.
pub(super) async fn call(
    chain: &TestChain,
    method: &'static str,
    params: Value,
) -> Result<Value, BenchError> {
    chain.anvil().call(method, params).await.map_err(BenchError::subject("ask the chain"))
}

/// Sends from one of the chain's own accounts, and waits; the address that it created, if it did.
pub(super) async fn send(
    chain: &TestChain,
    from: Address,
    to: Option<Address>,
    data: Vec<u8>,
) -> Result<Option<Address>, BenchError> {
    let request = json!({"from": from, "to": to, "data": Bytes::from(data), "gas": "0x989680"});
    let hash = call(chain, "eth_sendTransaction", json!([request])).await?;
    let began = Instant::now();
    loop {
        let receipt = call(chain, "eth_getTransactionReceipt", json!([hash])).await?;
        if receipt.get("status").and_then(Value::as_str) == Some("0x1") {
            let created = receipt.get("contractAddress").cloned().unwrap_or_default();
            return serde_json::from_value(created).map_err(BenchError::subject("read a receipt"));
        }
        if !receipt.is_null() || began.elapsed() > LIMIT {
            return Err(BenchError::subject("set the chain up")(receipt));
        }
        sleep(LOOK).await;
    }
}

/// Reads the chain as the engine does.
pub(super) fn reader(chain: &TestChain) -> Result<ReadClient, BenchError> {
    ReadClient::connect(chain.url()).map_err(BenchError::subject("connect to the chain"))
}
