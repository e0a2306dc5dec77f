//! What the chain calls final, and what happens when it takes that back.

use std::sync::atomic::Ordering;

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256},
};
use chain::BlockHeader;
use store::{
    TxError,
    blocks::{self, FollowedBlock},
    freezes::{NewFreeze, Reason, Scope},
    ledger, txs,
};

use super::{
    Watcher,
    spent::{Spent, record_missed},
};
use crate::{EngineError, carried};

/// Final blocks without events are forgotten beyond this distance.
const KEEP_BLOCKS: i64 = 1_024;
/// So many looks in a row at finality that is gone or goes backwards are no late node: one of several nodes behind
/// an address may be late at one look, and within a block this is known.
const FINALITY_LOOKS: u32 = 3;
/// Where several endpoints are asked, so many must have the same block before money in it is final.
const WITNESSES: usize = 2;

impl Watcher {
    /// Marks what the chain says is final. True if that is more than before.
    pub(super) async fn finalise(&self, said: Option<BlockHeader>) -> Result<bool, EngineError> {
        let (tip, last) = {
            let mut connection = self.store.read().await?;
            (blocks::tip(&mut connection).await?, blocks::final_tip(&mut connection).await?)
        };
        let Some(final_block) = self.trusted(said, last.as_ref()).await? else {
            return Ok(false);
        };
        // If we have not read that far, the newest block we have read decides.
        let Some(tip) = tip else {
            return Ok(false);
        };
        let (number, hash) = if tip.number < final_block.number {
            (tip.number, tip.hash)
        } else {
            (final_block.number, final_block.hash)
        };
        if last.is_some_and(|last| last.number >= number) {
            return Ok(false);
        }
        if number < final_block.number {
            let theirs = self.client.header(BlockNumberOrTag::Number(number)).await?;
            if theirs.is_none_or(|block| block.hash != hash) {
                return Ok(false);
            }
        }
        if !self.is_agreed(number, hash).await {
            return Ok(false);
        }
        self.settle(number, hash).await
    }

    /// What the chain calls final, unless that is less than it was: then nothing is final any more until it is
    /// more again, and if that lasts, all money is frozen.
    async fn trusted(
        &self,
        said: Option<BlockHeader>,
        last: Option<&FollowedBlock>,
    ) -> Result<Option<BlockHeader>, EngineError> {
        let Some(last) = last else {
            return Ok(said);
        };
        let Some(said) = said else {
            let looks = self.missing.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            if looks >= FINALITY_LOOKS {
                self.freeze(Reason::FinalityMissing, last, "the chain calls no block final")
                    .await?;
            }
            return Ok(None);
        };
        self.missing.store(0, Ordering::Relaxed);
        if said.number == last.number && said.hash != last.hash {
            self.freeze(Reason::FinalBlockGone, last, "another block is final there").await?;
            return Ok(None);
        }
        if said.number >= last.number {
            self.backwards.store(0, Ordering::Relaxed);
            return Ok(Some(said));
        }
        let theirs = self.client.header(BlockNumberOrTag::Number(last.number)).await?;
        if theirs.is_some_and(|theirs| theirs.hash != last.hash) {
            self.freeze(Reason::FinalBlockGone, last, "the chain has another block there").await?;
            return Ok(None);
        }
        let looks = self.backwards.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if looks >= FINALITY_LOOKS {
            let detail = format!("the chain calls block {} final, no longer this one", said.number);
            self.freeze(Reason::FinalityBackwards, last, &detail).await?;
        }
        Ok(None)
    }

    /// Whether enough endpoints have this block at this height, and none has another.
    pub(super) async fn is_agreed(&self, number: u64, hash: B256) -> bool {
        if self.client.endpoints() < WITNESSES {
            return true;
        }
        let words = self.client.each_hash_at(number).await;
        let known: Vec<B256> = words.into_iter().flatten().collect();
        if known.iter().any(|other| *other != hash) {
            tracing::warn!(block.number = number, ours = %hash, ?known, "RPC endpoints disagree; nothing is final");
            metrics::counter!("weir_finality_disagreements_total").increment(1);
            return false;
        }
        if known.len() < WITNESSES {
            tracing::debug!(block.number = number, "too few RPC endpoints have the block yet");
        }
        known.len() >= WITNESSES
    }

    /// Freezes all money: finality is not what it was when this block was final.
    pub(super) async fn freeze(
        &self,
        reason: Reason,
        last: &FollowedBlock,
        detail: &str,
    ) -> Result<(), EngineError> {
        let detail = format!("block {} {} was final; {detail}", last.number, last.hash);
        let new = NewFreeze { scope: Scope::All, reason, detail, block: last.number };
        crate::freezing::freeze(&self.store, vec![new]).await
    }

    /// Marks every block up to this one final, and ends the transactions that are in them or never can be.
    async fn settle(&self, number: u64, hash: B256) -> Result<bool, EngineError> {
        let now = self.store.now();
        let spent = self.spent(number, hash).await?;
        let finalised = self
            .store
            .write("finalise blocks", move |tx| {
                let spent = spent.clone();
                Box::pin(async move {
                    let signers: Vec<Address> = spent.iter().map(|spent| spent.signer).collect();
                    txs::lock_signers(tx, &signers).await?;
                    if !blocks::finalise(tx, number, hash).await? {
                        return Ok(false);
                    }
                    for (id, fact) in spent.iter().flat_map(|spent| &spent.missed) {
                        record_missed(tx, *id, fact, now).await?;
                    }
                    let ended = txs::finalise(tx, number, now).await?;
                    ledger::post_gas(tx, &ended, now.seconds()).await?;
                    for done in ended {
                        carried::finish(tx, &done, now).await?;
                    }
                    for Spent { signer, next, lost, .. } in &spent {
                        for id in txs::void_spent(tx, *signer, *next, lost, now).await? {
                            carried::lose(tx, id, now).await?;
                        }
                    }
                    blocks::prune(tx, KEEP_BLOCKS).await?;
                    Ok::<_, TxError<EngineError>>(true)
                })
            })
            .await?;
        Ok(finalised)
    }
}
