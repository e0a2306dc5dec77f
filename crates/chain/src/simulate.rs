//! What a call would do in the next block: gas, logs, and the slots that it touches. Only what is needed of an
//! answer is read, so that blocks of a chain's own making do no harm.

use alloy::{
    eips::eip2930::AccessList,
    primitives::{Address, B256, Bytes, LogData, U64, U128},
    providers::Provider,
};
use domain::time::UnixSeconds;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{ChainError, ReadClient, fleet::Patience};

/// What a call would come to.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// False if it would revert.
    pub succeeded: bool,
    /// What it would answer, or the contract's reason to revert.
    pub answer: Bytes,
    /// The most gas that it needs at a time, before any refund.
    pub gas: u64,
    /// What is paid for, after refunds.
    pub gas_used: u64,
    /// What it would log, with whose log it is.
    pub logs: Vec<(Address, LogData)>,
}

#[derive(Debug, Deserialize)]
struct Block {
    calls: Vec<Call>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    return_data: Bytes,
    #[serde(default)]
    logs: Vec<Log>,
    gas_used: U64,
    max_used_gas: Option<U64>,
    status: U64,
    error: Option<Reverted>,
}

#[derive(Debug, Deserialize)]
struct Reverted {
    data: Option<Bytes>,
}

#[derive(Debug, Deserialize)]
struct Log {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    access_list: AccessList,
    gas_used: U64,
    error: Option<String>,
}

impl ReadClient {
    /// What `calldata` from `from` at this price would do in a block at `at`, on top of the newest one
    /// (`eth_simulateV1`).
    ///
    /// # Errors
    /// [`ChainError`], also where the node knows no such method or has a later block already; a call that reverts is an
    /// answer.
    pub async fn simulate(
        &self,
        from: Address,
        to: Address,
        calldata: &[u8],
        gas_price: u128,
        at: UnixSeconds,
    ) -> Result<Simulated, ChainError> {
        let call = json!({ "from": from, "to": to, "input": Bytes::copy_from_slice(calldata),
                           "maxFeePerGas": U128::from(gas_price) });
        let block = json!({ "blockOverrides": { "time": U64::from(at.get()) }, "calls": [call] });
        let payload = json!({ "blockStateCalls": [block] });
        let blocks: Vec<Block> = self.ask("eth_simulateV1", (payload, "latest")).await?;
        let call = blocks
            .into_iter()
            .next()
            .and_then(|block| block.calls.into_iter().next())
            .ok_or_else(|| ChainError::Nonsense("a simulation without its call".to_owned()))?;
        let used = call.gas_used.to::<u64>();
        let reason = call.error.and_then(|error| error.data).unwrap_or(call.return_data);
        Ok(Simulated {
            succeeded: call.status == U64::ONE,
            answer: reason,
            // Refunds are at most a fifth of what is used before them.
            gas: call
                .max_used_gas
                .map_or_else(|| used.saturating_mul(5) / 4, |gas| gas.to::<u64>().max(used)),
            gas_used: used,
            logs: call
                .logs
                .into_iter()
                .map(|log| (log.address, LogData::new_unchecked(log.topics, log.data)))
                .collect(),
        })
    }

    /// The slots that the call would touch, and the gas that it would use if they were named beforehand; `None` if the
    /// node cannot say, for whatever reason, or the call reverts.
    pub async fn access_list(
        &self,
        from: Address,
        to: Address,
        calldata: &[u8],
    ) -> Option<(AccessList, u64)> {
        let call = json!({ "from": from, "to": to, "input": Bytes::copy_from_slice(calldata) });
        let listed: Result<Listed, ChainError> =
            self.ask("eth_createAccessList", (call, "latest")).await;
        let listed = listed.ok().filter(|listed| listed.error.is_none())?;
        Some((listed.access_list, listed.gas_used.to()))
    }

    async fn ask<R>(
        &self,
        method: &'static str,
        parameters: (Value, &'static str),
    ) -> Result<R, ChainError>
    where
        R: DeserializeOwned + Send + Sync + Unpin + std::fmt::Debug + 'static,
    {
        self.fleet
            .ask_within(Patience::WORK, |provider| {
                let parameters = parameters.clone();
                async move { Ok(provider.raw_request(method.into(), parameters).await?) }
            })
            .await
    }
}
