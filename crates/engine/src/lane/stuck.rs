//! Transactions that do not get into a block: raised, given up, or waiting for a number before theirs that nobody
//! spent.

use alloy::primitives::B256;
use chain::{Fees, NOOP_GAS, Refused, SendOutcome, SignedTx};
use domain::id::TxId;
use store::{
    TxError,
    txs::{self, Gap, Lease, Stuck},
};
use uuid::Uuid;

use super::{Lane, Scene, earlier, fly::attempt};
use crate::EngineError;

/// Stuck transactions that one tick deals with, and numbers that it fills.
const PER_TICK: i64 = 16;

impl Lane {
    /// Deals with what is in no block for long, or pays too little by the node's word.
    pub(super) async fn raise_stuck(&self, lease: Lease) -> Result<(), EngineError> {
        let stuck = {
            let before = earlier(self.store.now(), self.settings.replace_after);
            let mut connection = self.store.read().await?;
            let underpriced = Refused::Underpriced.as_str();
            txs::stuck(&mut connection, self.address(), before, underpriced, PER_TICK).await?
        };
        let Some(lowest) = stuck.first() else { return Ok(()) };
        let next = self.client.nonce(self.address()).await?;
        if next < lowest.nonce {
            self.fill_gaps(lease, next).await?;
        }
        let scene = self.scene(lease).await?;
        for tx in &stuck {
            // What lies below the chain's next number is in a block that we have yet to read.
            if tx.nonce >= next {
                self.raise(tx, &scene, tx.nonce == next).await?;
            }
        }
        Ok(())
    }

    /// Signs a stuck transaction again at a higher fee, or gives it up if nobody waits for it any more. What pays enough and
    /// is not the next one only waits its turn.
    async fn raise(&self, tx: &Stuck, scene: &Scene, is_next: bool) -> Result<(), EngineError> {
        let pays = tx.max_fee >= scene.head.base_fee.saturating_add(self.settings.fees.tip_floor);
        let give_up = !tx.noop && !tx.wanted;
        if !(is_next || give_up || tx.underpriced || !pays) {
            return Ok(());
        }
        let old = Fees { max_fee: tx.max_fee, tip: tx.tip };
        let Some(fees) = self.settings.fees.replacement(old, scene.fees) else {
            tracing::error!(
                tx.id = %tx.id, tx.nonce = tx.nonce, tx.max_fee,
                "a transaction is stuck and the ceiling forbids to pay more; see the runbook"
            );
            metrics::counter!("weir_lane_ceiling_total").increment(1);
            return Ok(());
        };
        let signed = if give_up {
            self.signer.sign_noop(self.site.chain_id, tx.nonce, fees)?
        } else {
            self.signer.resign(&tx.raw, fees)?
        };
        let stored = self.store_again(tx.id, scene.lease, &signed, fees, give_up, tx.noop).await?;
        if let Some(hash) = stored {
            tracing::warn!(
                tx.id = %tx.id, tx.nonce = tx.nonce, tx.hash = %hash, fees.max_fee, fees.tip, give_up,
                "a transaction is stuck; signed again at a higher fee"
            );
            metrics::counter!("weir_lane_replacements_total").increment(1);
        }
        Ok(())
    }

    async fn store_again(
        &self,
        id: TxId,
        lease: Lease,
        signed: &SignedTx,
        fees: Fees,
        give_up: bool,
        was_noop: bool,
    ) -> Result<Option<B256>, EngineError> {
        let (now, signer, hash) = (self.store.now(), self.address(), signed.hash);
        let attempt = attempt(signed, fees, give_up || was_noop);
        let stored = self
            .store
            .write("store attempt", move |tx| {
                let attempt = attempt.clone();
                Box::pin(async move {
                    let free = if give_up {
                        txs::give_up(tx, signer, lease, id, now).await?
                    } else {
                        txs::is_held(tx, signer, lease).await?
                    };
                    if free {
                        txs::store_attempt(tx, id, &attempt, now).await?;
                    }
                    Ok::<_, TxError<EngineError>>(free)
                })
            })
            .await?;
        Ok(stored.then_some(hash))
    }

    /// Numbers between the chain's next one and our lowest that is under way. Bytes of ours that once spent one go out
    /// again as they are; a number that was never ours to begin with is spent by a no-op.
    async fn fill_gaps(&self, lease: Lease, next: u64) -> Result<(), EngineError> {
        let gaps = {
            let mut connection = self.store.read().await?;
            txs::gap_below(&mut connection, self.address(), next, PER_TICK).await?
        };
        for gap in gaps {
            match gap.raw {
                Some(raw) => match self.wire.send(&raw).await {
                    SendOutcome::Refused(why) if why != Refused::NonceTooLow => {
                        tracing::error!(
                            tx.nonce = gap.nonce,
                            ?why,
                            "a number is open and its bytes are refused"
                        );
                    }
                    SendOutcome::Accepted | SendOutcome::Unknown(_) | SendOutcome::Refused(_) => {
                        tracing::warn!(
                            tx.nonce = gap.nonce,
                            "a spent number is open again; its bytes are sent again"
                        );
                    }
                },
                None => self.spend(lease, &gap).await?,
            }
        }
        Ok(())
    }

    async fn spend(&self, lease: Lease, gap: &Gap) -> Result<(), EngineError> {
        let scene = self.scene(lease).await?;
        let signed = self.signer.sign_noop(self.site.chain_id, gap.nonce, scene.fees)?;
        let (now, nonce) = (self.store.now(), gap.nonce);
        let new = txs::NewTx {
            id: TxId::from_uuid(Uuid::now_v7()),
            signer: self.address(),
            to: self.address(),
            calldata: Vec::new(),
            gas_limit: NOOP_GAS,
        };
        let attempt = attempt(&signed, scene.fees, true);
        let made = self
            .store
            .write("fill gap", move |tx| {
                let (new, attempt) = (new.clone(), attempt.clone());
                Box::pin(async move {
                    let made = txs::fill_gap(tx, lease, &new, nonce, now).await?;
                    if made {
                        txs::store_attempt(tx, new.id, &attempt, now).await?;
                    }
                    Ok::<_, TxError<EngineError>>(made)
                })
            })
            .await?;
        if made {
            tracing::warn!(
                tx.nonce = nonce,
                "nobody spent this number and later ones wait; a no-op spends it"
            );
        }
        Ok(())
    }
}
