//! The simulated chain as a node tells of it: JSON-RPC, with the node's own troubles and lies on top.

use std::sync::Arc;

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::{SolCall, SolInterface, SolValue},
};
use escrow::bindings::{Escrow, TestUSDC};
use serde_json::{Value, json};

use super::{
    chain::{Block, Chain, Rejected, TIP},
    contract::Phase,
    faults::Fault,
};
use crate::booking::POL;

mod json;
use json::{block_json, logs_json, receipt_json};

/// Letters of a hash in hex.
const HASH: usize = 66;

/// What a node says instead of a result.
#[derive(Clone, Debug)]
pub struct Failure {
    pub code: i64,
    pub message: String,
    pub data: Option<Bytes>,
}

impl Failure {
    fn new(code: i64, message: &str) -> Self {
        Self { code, message: message.to_owned(), data: None }
    }
}

/// An answer, or none at all.
pub enum Answer {
    Result(Value),
    Failure(Failure),
    Silence,
}

type Told = Result<Value, Failure>;

/// Answers one request.
pub fn answer(chain: &mut Chain, method: &str, params: &Value) -> Answer {
    if method == "eth_sendRawTransaction" {
        return send(chain, params);
    }
    if chain.faults.strikes(Fault::RpcTimeout) {
        return Answer::Silence;
    }
    if chain.faults.strikes(Fault::RpcInternal) {
        return Answer::Failure(Failure::new(-32603, "internal error"));
    }
    let behind = if chain.faults.strikes(Fault::StaleHead) { 1 + chain.faults.below(3) } else { 0 };
    let height = chain.head().number.saturating_sub(behind);
    match (Node { chain, height }).tell(method, params) {
        Ok(value) => Answer::Result(value),
        Err(failure) => Answer::Failure(failure),
    }
}

fn send(chain: &mut Chain, params: &Value) -> Answer {
    let raw: Bytes = serde_json::from_value(params[0].clone()).unwrap();
    if chain.faults.strikes(Fault::SendRefused) {
        return Answer::Failure(Failure::new(-32603, "internal error"));
    }
    let accepted = chain.accept(&raw);
    // the bytes may have arrived, but nobody says so
    if chain.faults.strikes(Fault::SendTimeout) {
        return Answer::Silence;
    }
    match accepted {
        Ok(hash) => Answer::Result(json!(hash)),
        Err(rejected) => Answer::Failure(Failure::new(-32000, words(rejected))),
    }
}

const fn words(rejected: Rejected) -> &'static str {
    match rejected {
        Rejected::Known => "already known",
        Rejected::NonceTooLow => "nonce too low",
        Rejected::Underpriced => "replacement transaction underpriced",
        Rejected::BelowBaseFee => "max fee per gas less than block base fee",
        Rejected::Poor => "insufficient funds for gas * price + value",
        Rejected::Malformed => "failed to decode signed transaction",
    }
}

/// One look at the chain, at the height that the node has.
struct Node<'a> {
    chain: &'a mut Chain,
    height: u64,
}

impl Node<'_> {
    fn tell(&mut self, method: &str, params: &Value) -> Told {
        Ok(match method {
            "eth_chainId" => json!(U256::from(self.chain.chain_id)),
            "eth_blockNumber" => json!(U256::from(self.height)),
            "eth_getBlockByNumber" => self.block_by_number(&params[0]),
            "eth_getBlockByHash" => {
                let block = self.by_hash(&params[0]);
                block.map_or(Value::Null, |block| block_json(&block))
            }
            "eth_getLogs" => self.logs(&params[0])?,
            "eth_getBlockReceipts" => self.receipts(&params[0]),
            "eth_getTransactionCount" => {
                let stale = self.chain.faults.strikes(Fault::StaleNonce);
                let block = self.at(&params[1])?;
                let block = if stale && params[1].is_string() {
                    self.chain.block(block.number.saturating_sub(2)).cloned().unwrap_or(block)
                } else {
                    block
                };
                json!(U256::from(block.after.nonce(address(&params[0]))))
            }
            "eth_getBalance" => {
                json!(U256::from(self.at(&params[1])?.after.purse(POL, address(&params[0]))))
            }
            "eth_getCode" => {
                let code = self.chain.at.escrow == address(&params[0]);
                json!(if code { Bytes::from_static(b"weir") } else { Bytes::new() })
            }
            "eth_call" => self.call(&params[0], &params[1])?,
            "eth_estimateGas" => self.estimate(&params[0])?,
            "eth_maxPriorityFeePerGas" => json!(U256::from(TIP)),
            "eth_gasPrice" => json!(U256::from(self.chain.base_fee + TIP)),
            "eth_createAccessList" => {
                json!({ "accessList": [], "gasUsed": self.estimate(&params[0])? })
            }
            "eth_getTransactionByHash" | "eth_getTransactionReceipt" => {
                self.transaction(method, &params[0])
            }
            "eth_feeHistory" => json!({
                "oldestBlock": U256::from(self.height),
                "baseFeePerGas": [U256::from(self.chain.base_fee), U256::from(self.chain.base_fee)],
                "gasUsedRatio": [0.5],
                "reward": [[U256::from(TIP)]],
            }),
            other => return Err(Failure::new(-32601, &format!("no method {other}"))),
        })
    }

    fn by_hash(&self, hash: &Value) -> Option<Arc<Block>> {
        let hash: B256 = serde_json::from_value(hash.clone()).ok()?;
        self.chain.by_hash(hash).filter(|block| block.number <= self.height).cloned()
    }

    fn numbered(&self, tag: &Value) -> Option<Arc<Block>> {
        let number = match tag.as_str()? {
            "latest" | "pending" => self.height,
            "finalized" | "safe" => self.chain.final_number,
            "earliest" => 0,
            number => U256::from_str_radix(number.trim_start_matches("0x"), 16).ok()?.to(),
        };
        (number <= self.height).then(|| self.chain.block(number).cloned()).flatten()
    }

    fn block_by_number(&mut self, tag: &Value) -> Value {
        if *tag == json!("finalized") && self.chain.faults.strikes(Fault::FinalityNull) {
            return Value::Null;
        }
        self.numbered(tag).map_or(Value::Null, |block| block_json(&block))
    }

    /// The block that a request is about: by tag, by number, or by hash.
    fn at(&self, tag: &Value) -> Result<Arc<Block>, Failure> {
        let found = if let Some(hash) = tag.get("blockHash") {
            self.by_hash(hash)
        } else if let Some(number) = tag.get("blockNumber") {
            self.numbered(number)
        } else if tag.is_null() {
            self.numbered(&json!("latest"))
        } else if tag.as_str().is_some_and(|text| text.len() == HASH) {
            self.by_hash(tag)
        } else {
            self.numbered(tag)
        };
        found.ok_or_else(|| Failure::new(-32000, "header not found"))
    }

    fn logs(&mut self, filter: &Value) -> Told {
        let blocks = match filter.get("blockHash") {
            Some(hash) => {
                let block = self.by_hash(hash);
                vec![block.ok_or_else(|| Failure::new(-32000, "unknown block"))?]
            }
            None => {
                let end = |name: &str, default: &str| {
                    self.numbered(filter.get(name).unwrap_or(&json!(default)))
                };
                let from = end("fromBlock", "earliest").map_or(self.height, |block| block.number);
                let to = end("toBlock", "latest").map_or(self.height, |block| block.number);
                (from..=to).filter_map(|number| self.chain.block(number).cloned()).collect()
            }
        };
        if self.chain.faults.strikes(Fault::LogsMissing) {
            return Ok(json!([]));
        }
        let wanted: Vec<Address> = match filter.get("address") {
            Some(Value::Array(list)) => list.iter().map(address).collect(),
            Some(one) => vec![address(one)],
            None => Vec::new(),
        };
        let mut logs: Vec<Value> = blocks.iter().flat_map(|block| logs_json(block)).collect();
        if logs.len() > 1 && self.chain.faults.strikes(Fault::LogsCut) {
            logs.pop();
        }
        let of = |log: &Value| wanted.is_empty() || wanted.contains(&address(&log["address"]));
        Ok(Value::Array(logs.into_iter().filter(of).collect()))
    }

    fn receipts(&mut self, at: &Value) -> Value {
        let Ok(block) = self.at(at) else { return Value::Null };
        if self.chain.faults.strikes(Fault::ReceiptsMissing) {
            return if self.chain.faults.below(2) == 0 { Value::Null } else { json!([]) };
        }
        let block = match self.chain.orphan(block.number).cloned() {
            Some(other) if self.chain.faults.strikes(Fault::ReceiptsForeign) => other,
            _ => block,
        };
        let mut shown = block.receipts.len();
        if shown > 1 && self.chain.faults.strikes(Fault::ReceiptsCut) {
            shown -= 1;
        }
        let receipts = block.receipts.iter().enumerate().take(shown);
        receipts.map(|(at, receipt)| receipt_json(&block, at, receipt)).collect()
    }

    fn transaction(&self, method: &str, hash: &Value) -> Value {
        let Ok(hash) = serde_json::from_value::<B256>(hash.clone()) else { return Value::Null };
        for block in self.chain.blocks.iter().rev().filter(|block| block.number <= self.height) {
            for (at, receipt) in block.receipts.iter().enumerate() {
                if receipt.tx.hash == hash {
                    let receipt = receipt_json(block, at, receipt);
                    let short = json!({ "hash": hash, "blockHash": block.hash });
                    return if method.ends_with("Receipt") { receipt } else { short };
                }
            }
        }
        Value::Null
    }

    fn estimate(&self, call: &Value) -> Told {
        let input = input_of(call);
        let (from, to) = (address(&call["from"]), address(&call["to"]));
        let on = self.numbered(&json!("latest")).unwrap();
        let gas = self.chain.rehearse(&on, from, to, &input);
        gas.map(|gas| json!(U256::from(gas))).map_err(reverts)
    }

    // whatever is no view is rehearsed
    #[allow(clippy::wildcard_enum_match_arm)]
    fn call(&self, call: &Value, at: &Value) -> Told {
        let (to, input) = (address(&call["to"]), input_of(call));
        let block = self.at(at)?;
        let state = &block.after;
        if to == self.chain.at.token {
            let Ok(call) = TestUSDC::balanceOfCall::abi_decode(&input) else {
                return Err(reverts([0; 4]));
            };
            return Ok(json!(word(state.purse(to, call.account))));
        }
        use Escrow::EscrowCalls as Calls;
        match Calls::abi_decode(&input) {
            Ok(Calls::balanceOf(call)) => {
                let balance = state.balances.get(&(call.account, call.token));
                Ok(json!(word(balance.copied().unwrap_or_default())))
            }
            Ok(Calls::isOperator(call)) => {
                Ok(json!(Bytes::from(self.chain.at.operators.contains(&call.account).abi_encode())))
            }
            Ok(Calls::treasury(_)) => Ok(json!(Bytes::from(self.chain.at.treasury.abi_encode()))),
            Ok(Calls::rental(call)) => {
                let status = state.rentals.get(&call.id).map_or(0_u8, |slot| match slot.phase {
                    Phase::Locked { .. } => 1,
                    Phase::Active { .. } => 2,
                    Phase::Contested { .. } => 3,
                    Phase::Closed => 4,
                });
                let mut words = vec![0_u8; 9 * 32];
                words[31] = status;
                Ok(json!(Bytes::from(words)))
            }
            _ => {
                let from = address(&call["from"]);
                match self.chain.rehearse(&block, from, to, &input) {
                    Ok(_) => Ok(json!(Bytes::new())),
                    Err(refusal) => Err(reverts(refusal)),
                }
            }
        }
    }
}

fn word(value: u128) -> Bytes {
    U256::from(value).abi_encode().into()
}

fn reverts(refusal: [u8; 4]) -> Failure {
    let data = Bytes::copy_from_slice(&refusal);
    Failure { code: 3, message: "execution reverted".to_owned(), data: Some(data) }
}

fn address(value: &Value) -> Address {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn input_of(call: &Value) -> Bytes {
    let input = call.get("input").or_else(|| call.get("data"));
    input.and_then(|input| serde_json::from_value(input.clone()).ok()).unwrap_or_default()
}
