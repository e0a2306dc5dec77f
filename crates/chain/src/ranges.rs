//! Many blocks at once: logs of a range, headers in batches, receipts by hash. For catching up on what is final.

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256},
    providers::{DynProvider, Provider},
    rpc::{
        client::BatchRequest,
        types::{Block, Filter, Log},
    },
};
use domain::tx::BlockRef;

use crate::{BlockHeader, ChainError, ReadClient, TxReceipt, fleet::Patience, receipt::Receipt};

/// Headers in one request. Nodes take 100 calls at most in a batch; where the answer is too large for one, fewer are
/// asked for.
const BATCH: u64 = 100;

/// Fragments, in lower case, of what providers say to a range of logs that is too wide for them or holds too much.
const TOO_MUCH: &[&str] = &[
    "query returned more than",
    "response size",
    "response is too big",
    "response too large",
    "too large",
    "too many results",
    "block range",
    "range of blocks",
    "blocks range",
    "range is too",
    "range too",
    "exceed maximum block",
    "exceeds the limit",
    "limit exceeded",
    "limited to",
    "query timeout",
    "query timed out",
    "up to a",
];
/// JSON-RPC codes with which providers refuse the same, whatever their words: limit exceeded (EIP-1474), invalid
/// parameters.
const TOO_MUCH_CODES: [i64; 2] = [-32_005, -32_602];

impl ChainError {
    /// True if a node refuses a range of logs for being too wide or holding too much: ask for a smaller one.
    #[must_use]
    pub fn asks_for_less(&self) -> bool {
        match self {
            Self::Refused { code, message } => {
                let message = message.to_lowercase();
                TOO_MUCH_CODES.contains(code)
                    || TOO_MUCH.iter().any(|fragment| message.contains(fragment))
            }
            Self::Unavailable(_) | Self::Reverts { .. } | Self::Nonsense(_) => false,
        }
    }
}

impl ReadClient {
    /// The logs that `address` emitted in the blocks `from` to `to`, both included, in order. With several
    /// endpoints two of them have to tell the same; with one it is that one's word, which the caller checks.
    ///
    /// # Errors
    /// [`ChainError`]; see [`ChainError::asks_for_less`]. [`ChainError::Unavailable`] if two endpoints tell
    /// different logs, or only one of several answers.
    pub async fn logs_between(
        &self,
        (from, to): (u64, u64),
        address: Address,
    ) -> Result<Vec<Log>, ChainError> {
        let filter = Filter::new().from_block(from).to_block(to).address(address);
        let filter = &filter;
        let ask = |provider: DynProvider| async move { Ok(provider.get_logs(filter).await?) };
        let (logs, other) = self.fleet.ask_two(Patience::WORK, ask).await?;
        match other {
            Some(other) if !same(&logs, &other) => Err(ChainError::Unavailable(format!(
                "two endpoints tell different logs of the blocks {from} to {to}: {} and {}",
                logs.len(),
                other.len()
            ))),
            Some(_) | None => Ok(logs),
        }
    }

    /// The headers of the blocks `from` to `to`, both included, in order.
    ///
    /// # Errors
    /// [`ChainError::Unavailable`] if the node lacks one of them.
    pub async fn headers(&self, from: u64, to: u64) -> Result<Vec<BlockHeader>, ChainError> {
        let (mut headers, mut next, mut size) = (Vec::new(), from, BATCH);
        while next <= to {
            let last = to.min(next.saturating_add(size.saturating_sub(1)));
            let ask = |provider: DynProvider| async move { batch(&provider, next, last).await };
            match self.fleet.ask(ask).await {
                Ok(batch) => {
                    headers.extend(batch);
                    next = last.saturating_add(1);
                }
                // a batch or its answer may be too large for a node, in words of its own
                Err(_) if size > 1 => size /= 10,
                Err(error) => return Err(error),
            }
        }
        Ok(headers)
    }

    /// The receipt of a transaction and the block it is in, if it is in one.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn receipt_of(
        &self,
        hash: B256,
    ) -> Result<Option<(TxReceipt, BlockRef)>, ChainError> {
        let ask = |provider: DynProvider| async move {
            let found: Option<Receipt> =
                provider.raw_request("eth_getTransactionReceipt".into(), (hash,)).await?;
            let Some(found) = found else { return Ok(None) };
            let (block, receipt) = (found.block(), TxReceipt::from(found));
            if receipt.hash != hash {
                let other = receipt.hash;
                return Err(ChainError::Nonsense(format!("the receipt of {other} for {hash}")));
            }
            Ok(block.map(|block| (receipt, block)))
        };
        self.fleet.ask(ask).await
    }
}

async fn batch(provider: &DynProvider, from: u64, to: u64) -> Result<Vec<BlockHeader>, ChainError> {
    let mut batch = BatchRequest::new(provider.client());
    let mut waiting = Vec::new();
    for number in from..=to {
        let params = (BlockNumberOrTag::Number(number), false);
        waiting.push(batch.add_call::<_, Option<Block>>("eth_getBlockByNumber", &params)?);
    }
    batch.send().await?;
    let mut headers = Vec::with_capacity(waiting.len());
    for answer in waiting {
        let block = answer.await?;
        let block = block.ok_or_else(|| ChainError::Unavailable("a block is missing".into()))?;
        headers.push(BlockHeader::from(&block));
    }
    Ok(headers)
}

fn same(one: &[Log], other: &[Log]) -> bool {
    let place = |log: &Log| (log.block_hash, log.log_index, log.inner.clone());
    one.iter().map(place).eq(other.iter().map(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: i64, message: &str) -> ChainError {
        ChainError::Refused { code, message: message.to_owned() }
    }

    #[test]
    fn every_providers_words_for_too_much_are_known() {
        let words = [
            "query returned more than 10000 results",
            "query returned more than 10000 results. Try with this block range [0x1, 0x2].",
            "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range",
            "You can make eth_getLogs requests with up to a 10 block range",
            "eth_getLogs is limited to a 10,000 range",
            "eth_getLogs and eth_newFilter are limited to a 10,000 blocks range",
            "block range is too wide",
            "Block range is too large",
            "block range too large",
            "exceed maximum block range: 5000",
            "range is too large, max is 1k blocks",
            "the range of blocks is limited to 1024",
            "requested too many blocks from 1 to 2, maximum is set to 2048, exceeds the limit",
            "response is too big",
            "response too large",
            "too many results",
            "query timeout exceeded",
            "query timed out",
            "limit exceeded",
        ];
        for message in words {
            assert!(said(-32_000, message).asks_for_less(), "{message}");
        }
        assert!(said(-32_005, "").asks_for_less() && said(-32_602, "").asks_for_less());
    }

    #[test]
    fn other_refusals_do_not_shrink_a_range() {
        assert!(!said(-32_000, "header not found").asks_for_less());
        assert!(!said(-32_603, "internal error").asks_for_less());
        assert!(!ChainError::Unavailable("block range".to_owned()).asks_for_less());
    }
}
