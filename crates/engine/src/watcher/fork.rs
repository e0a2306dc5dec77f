//! The chain took blocks back: down to the newest block that we share with it, and up again from there.

use alloy::eips::BlockNumberOrTag;
use chain::ChainError;
use store::{
    TxError,
    blocks::{self, FollowedBlock},
    freezes::Reason,
    txs,
};

use super::{Watcher, seen};
use crate::EngineError;

/// How far back a fork is looked for. Polygon nodes never rewind more than 255 blocks.
const DEEPEST_FORK: u64 = 256;

impl Watcher {
    /// Drops what the chain no longer has. If a final block is among it, all money is frozen and nothing dropped: a
    /// person must look.
    pub(super) async fn rewind(&self, tip: &FollowedBlock) -> Result<(), EngineError> {
        // Before we look for the fork: meanwhile another worker may have gone up the other branch, and that far all is final.
        let last_final = {
            let mut connection = self.store.read().await?;
            blocks::final_tip(&mut connection).await?
        };
        let fork = self.fork_below(tip.number).await;
        if let Some(gone) = last_final.filter(|gone| match &fork {
            Ok(fork) => *fork < gone.number,
            Err(error) => matches!(error, EngineError::Broken(_)),
        }) {
            self.freeze(Reason::FinalBlockGone, &gone, "the chain has another block there").await?;
        }
        let fork = fork?;
        let now = self.store.now();
        let policy = self.store.policy().clone();
        let dropped = self
            .store
            .write("rewind chain", move |tx| {
                let policy = policy.clone();
                Box::pin(async move {
                    let dropped = blocks::rewind(tx, fork).await?;
                    txs::orphan_above(tx, fork, now).await?;
                    for event in &dropped {
                        seen::excluded(tx, &policy, event, now.seconds()).await?;
                    }
                    Ok::<_, TxError<EngineError>>(dropped.len())
                })
            })
            .await?;
        let depth = tip.number.saturating_sub(fork);
        tracing::warn!(block.number = fork, depth, dropped, "the chain reorganised; rewound");
        metrics::counter!("weir_watcher_reorgs_total").increment(1);
        Ok(())
    }

    /// The newest block that we and the chain share.
    async fn fork_below(&self, number: u64) -> Result<u64, EngineError> {
        let lowest = number.saturating_sub(DEEPEST_FORK).max(self.site.deployed_block);
        let mut at = number;
        while at > lowest {
            at = at.saturating_sub(1);
            let ours = {
                let mut connection = self.store.read().await?;
                blocks::at(&mut connection, at).await?
            };
            let Some(ours) = ours else { continue };
            let theirs = self.client.header(BlockNumberOrTag::Number(at)).await?;
            let Some(theirs) = theirs else {
                let reason = format!("it had a block above {at} a moment ago and has not that one");
                return Err(EngineError::Chain(ChainError::Unavailable(reason)));
            };
            if theirs.hash == ours.hash {
                return Ok(at);
            }
        }
        Err(EngineError::Broken(format!(
            "no common block with the chain in {DEEPEST_FORK} blocks below {number}"
        )))
    }
}
