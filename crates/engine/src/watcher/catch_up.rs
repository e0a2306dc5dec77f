//! Reading what lies far below the final block, after hours or days without us: logs by ranges of blocks, and of the
//! blocks themselves only what is needed. Each range is one transaction and ends with its last block as our tip, so
//! that whoever is killed goes on from there.
//!
//! What it rests on, in place of each block's own logs by its hash:
//! - The blocks are final, so that none of them is replaced meanwhile. The last [`CLOSE`] blocks below the final one
//!   are read one by one again, each the child of the one before: the first of them only if it is the child of the
//!   last range's last block.
//! - A node may leave logs out. With several endpoints, two must tell the same logs of a range, and have the same
//!   last block. With one, the headers of the range are read too, in batches: each must be the child of the one
//!   before, and a block whose bloom says that the contract may have emitted something, without a log of it in the
//!   range, is asked for by its hash, as blocks near the head are.
//! - What both would miss, the reconciler sees at the next final block: the contract then does not hold what its
//!   events add up to, and the token is frozen.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use alloy::{eips::BlockNumberOrTag, primitives::B256, rpc::types::Log};
use chain::{BlockHeader, ChainError};
use domain::id::TxId;
use store::{
    blocks::{self, FollowedBlock},
    txs,
};

use super::{
    Watcher, nonsense,
    page::{Page, mined},
};
use crate::EngineError;

/// Blocks of the first range. It grows while nodes answer and is halved when one asks for less.
pub(super) const FIRST_RANGE: u64 = 2_000;
/// Providers' paid limit; above it a range costs more than it saves.
const LARGEST_RANGE: u64 = 10_000;
/// So far below the final block it pays to read ranges.
const FAR: u64 = 256;
/// So many blocks below the final one are read one by one again.
const CLOSE: u64 = 16;
/// Ranges one tick reads at most; the next tick goes on.
const RANGES_PER_TICK: u64 = 20;
/// Our own open transactions that are looked for, at most: many times what the lane has under way.
const OWN: i64 = 10_000;

impl Watcher {
    /// Reads ranges until this final block is near. Returns how many blocks they had.
    pub(super) async fn catch_up(&self, last: &BlockHeader) -> Result<u64, EngineError> {
        let far = last.number.saturating_sub(FAR);
        let mut tip = self.tip().await?;
        if self.next_to(tip.as_ref()) > far || !self.is_agreed(last.number, last.hash).await {
            return Ok(0);
        }
        if let Some(tip) = &tip {
            // a tip that has left the chain is for the search of the fork
            let theirs = self.client.header(BlockNumberOrTag::Number(tip.number)).await?;
            if theirs.is_none_or(|theirs| theirs.hash != tip.hash) {
                return Ok(0);
            }
        }
        let own = self.own_receipts().await?;
        let goal = last.number.saturating_sub(CLOSE);
        let mut passed = 0_u64;
        for _ in 0..RANGES_PER_TICK {
            let from = self.next_to(tip.as_ref());
            if from > far {
                break;
            }
            let parent = tip.map(|tip| tip.hash);
            let Some(read) = self.range(from, goal, parent, &own).await? else {
                break;
            };
            passed = passed.saturating_add(read);
            tip = self.tip().await?;
        }
        Ok(passed)
    }

    async fn tip(&self) -> Result<Option<FollowedBlock>, EngineError> {
        let mut connection = self.store.read().await?;
        Ok(blocks::tip(&mut connection).await?)
    }

    /// The first block that is not read yet.
    fn next_to(&self, tip: Option<&FollowedBlock>) -> u64 {
        tip.map_or(self.site.deployed_block, |tip| tip.number.saturating_add(1))
    }

    /// Reads one range that begins at `from`. `None` if not even one block can be read so: then blocks are read one
    /// by one.
    async fn range(
        &self,
        from: u64,
        goal: u64,
        parent: Option<B256>,
        own: &[(TxId, txs::Mined)],
    ) -> Result<Option<u64>, EngineError> {
        loop {
            let size = self.range.load(Ordering::Relaxed).max(1);
            let to = goal.min(from.saturating_add(size.saturating_sub(1)));
            match self.client.logs_between((from, to), self.site.escrow).await {
                Ok(logs) => {
                    let pages = self.pages((from, to), parent, &logs, own).await?;
                    if !self.keep(pages).await? {
                        return Ok(None);
                    }
                    self.range.store(size.saturating_mul(2).min(LARGEST_RANGE), Ordering::Relaxed);
                    tracing::info!(from, to, logs = logs.len(), "caught up on a range of blocks");
                    return Ok(Some(to.saturating_sub(from).saturating_add(1)));
                }
                Err(error) if error.asks_for_less() && size > 1 => {
                    tracing::debug!(size, %error, "a smaller range is asked for");
                    // from what was asked for: near the goal that is less than the size
                    let asked = to.saturating_sub(from).saturating_add(1);
                    self.range.store((asked / 2).max(1), Ordering::Relaxed);
                }
                Err(error) if error.asks_for_less() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The blocks of a range that are kept: those with events, those with transactions of ours, and the last.
    async fn pages(
        &self,
        (from, to): (u64, u64),
        parent: Option<B256>,
        logs: &[Log],
        own: &[(TxId, txs::Mined)],
    ) -> Result<Vec<Page>, EngineError> {
        let mut by_block: BTreeMap<u64, Vec<Log>> = BTreeMap::from([(to, Vec::new())]);
        for log in logs {
            let number = log.block_number.filter(|number| (from..=to).contains(number));
            let number = number.ok_or_else(|| nonsense("a log outside the range asked for"))?;
            by_block.entry(number).or_default().push(log.clone());
        }
        let own: Vec<_> =
            own.iter().filter(|(_, fact)| (from..=to).contains(&fact.block.number)).collect();
        for (_, fact) in &own {
            by_block.entry(fact.block.number).or_default();
        }
        let headers = if self.client.endpoints() > 1 {
            self.headers_of(&by_block).await?
        } else {
            self.checked_headers((from, to), parent, &by_block).await?
        };
        let mut pages = Vec::with_capacity(by_block.len());
        for (number, mut logs) in by_block {
            let header = headers.get(&number).ok_or_else(|| nonsense("a block is missing"))?;
            logs.sort_by_key(|log| log.log_index);
            let mut page = Page::of(header, &logs)?;
            for (id, fact) in own.iter().filter(|(_, fact)| fact.block.number == number) {
                if fact.block.hash != header.hash {
                    return Err(nonsense("a receipt of another block than the chain's"));
                }
                page.mined.push((*id, *fact));
            }
            pages.push(page);
        }
        Ok(pages)
    }

    /// With several endpoints: two told the same logs, which name their blocks by hash, and two must have the last.
    async fn headers_of(
        &self,
        by_block: &BTreeMap<u64, Vec<Log>>,
    ) -> Result<BTreeMap<u64, BlockHeader>, EngineError> {
        let mut headers = BTreeMap::new();
        for number in by_block.keys() {
            let header = self.client.header(BlockNumberOrTag::Number(*number)).await?;
            let header = header.ok_or_else(|| late(*number))?;
            headers.insert(*number, header);
        }
        if let Some((number, last)) = headers.last_key_value()
            && !self.is_agreed(*number, last.hash).await
        {
            return Err(late(*number).into());
        }
        Ok(headers)
    }

    /// With one endpoint: a chain of all headers, and no bloom without an explanation.
    async fn checked_headers(
        &self,
        (from, to): (u64, u64),
        mut parent: Option<B256>,
        by_block: &BTreeMap<u64, Vec<Log>>,
    ) -> Result<BTreeMap<u64, BlockHeader>, EngineError> {
        let mut headers = BTreeMap::new();
        for header in self.client.headers(from, to).await? {
            if parent.is_some_and(|parent| parent != header.parent_hash) {
                return Err(nonsense("a final block that is not the child of the one before"));
            }
            parent = Some(header.hash);
            let told = by_block.get(&header.number).is_some_and(|logs| !logs.is_empty());
            if !told && header.may_have_logs_of(self.site.escrow) {
                let logs = self.client.logs(&header, self.site.escrow).await?;
                if !logs.is_empty() {
                    let reason = format!("it left out logs of block {} in a range", header.number);
                    return Err(ChainError::Unavailable(reason).into());
                }
            }
            headers.insert(header.number, header);
        }
        Ok(headers)
    }

    /// Where our own open transactions are, by their hashes: no block of a range is searched for them.
    async fn own_receipts(&self) -> Result<Vec<(TxId, txs::Mined)>, EngineError> {
        let attempts = {
            let mut connection = self.store.read().await?;
            blocks::open_attempts(&mut connection, OWN).await?
        };
        let mut found = Vec::new();
        for (hash, id) in attempts {
            if let Some((receipt, block)) = self.client.receipt_of(hash).await? {
                found.push((id, mined(&receipt, block)));
            }
        }
        Ok(found)
    }
}

fn late(number: u64) -> ChainError {
    ChainError::Unavailable(format!("no two endpoints have block {number}"))
}
