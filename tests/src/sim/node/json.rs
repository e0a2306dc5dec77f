//! Blocks, logs and receipts as JSON-RPC writes them.

use alloy::primitives::{Address, B256, U256, keccak256};
use serde_json::{Value, json};

use crate::sim::chain::{Block, Receipt};

pub(super) fn block_json(block: &Block) -> Value {
    let hashes: Vec<B256> = block.receipts.iter().map(|receipt| receipt.tx.hash).collect();
    json!({
        "number": U256::from(block.number),
        "hash": block.hash,
        "parentHash": block.parent,
        "timestamp": U256::from(block.timestamp),
        "baseFeePerGas": U256::from(block.base_fee),
        "logsBloom": block.bloom,
        "transactions": hashes,
        "uncles": [],
        "sha3Uncles": B256::ZERO,
        "miner": Address::ZERO,
        "stateRoot": B256::ZERO,
        "transactionsRoot": keccak256(block.number.to_be_bytes()),
        "receiptsRoot": B256::ZERO,
        "difficulty": "0x0",
        "gasLimit": "0x3938700",
        "gasUsed": U256::from(gas_through(block, block.receipts.len())),
        "extraData": "0x",
        "mixHash": B256::ZERO,
        "nonce": "0x0000000000000000",
        "size": "0x220",
    })
}

/// What the first so many transactions used together.
fn gas_through(block: &Block, count: usize) -> u64 {
    block.receipts.iter().take(count).map(|receipt| receipt.gas_used).sum()
}

pub(super) fn logs_json(block: &Block) -> Vec<Value> {
    let mut logs = Vec::new();
    for (at, receipt) in block.receipts.iter().enumerate() {
        for log in &receipt.logs {
            logs.push(json!({
                "address": log.address,
                "topics": log.data.topics(),
                "data": log.data.data,
                "blockHash": block.hash,
                "blockNumber": U256::from(block.number),
                "blockTimestamp": U256::from(block.timestamp),
                "transactionHash": receipt.tx.hash,
                "transactionIndex": U256::from(at),
                "logIndex": U256::from(logs.len()),
                "removed": false,
            }));
        }
    }
    logs
}

pub(super) fn receipt_json(block: &Block, at: usize, receipt: &Receipt) -> Value {
    let hash = json!(receipt.tx.hash);
    let mine = logs_json(block).into_iter().filter(|log| log["transactionHash"] == hash);
    json!({
        "transactionHash": receipt.tx.hash,
        "transactionIndex": U256::from(at),
        "blockHash": block.hash,
        "blockNumber": U256::from(block.number),
        "from": receipt.tx.from,
        "to": receipt.tx.to,
        "status": if receipt.succeeded { "0x1" } else { "0x0" },
        "gasUsed": U256::from(receipt.gas_used),
        "cumulativeGasUsed": U256::from(gas_through(block, at + 1)),
        "effectiveGasPrice": U256::from(receipt.gas_price),
        "logsBloom": block.bloom,
        "contractAddress": null,
        "type": "0x2",
        "logs": mine.collect::<Vec<Value>>(),
    })
}
