//! Transactions that do not get into a block: raised, given up, or waiting for a number before theirs that nobody
//! spent.

use std::sync::PoisonError;

use alloy::primitives::Address;
use chain::{Fees, NOOP_GAS, Refused, SendOutcome};
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
/// A no-op may pay so many times the ceiling of other transactions: it uses a hundredth of their gas.
const NOOP_CEILING: u128 = 8;

impl Lane {
    /// Deals with what is in no block for long, or is refused by the nodes for what it pays or is.
    pub(super) async fn raise_stuck(&self, lease: Lease) -> Result<(), EngineError> {
        let stuck = {
            let before = earlier(self.store.now(), self.settings.replace_after);
            let mut connection = self.store.read().await?;
            let refused = [Refused::Underpriced, Refused::Invalid, Refused::TooMuchGas];
            let refused = refused.map(|why| why.as_str().to_owned());
            let since = (self.store.now().seconds(), before);
            txs::stuck(&mut connection, self.address(), since, &refused, PER_TICK).await?
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

    /// Signs a stuck transaction again at a higher fee, or gives it up if nobody waits for it any more, it has come too late,
    /// or no node will ever take it. What pays enough and is not the next one only waits its turn.
    async fn raise(&self, tx: &Stuck, scene: &Scene, is_next: bool) -> Result<(), EngineError> {
        let is_refused = |why: Refused| tx.refusal.as_deref() == Some(why.as_str());
        let hopeless = [Refused::Invalid, Refused::TooMuchGas].into_iter().any(is_refused);
        let give_up = !tx.noop && (!tx.wanted || hopeless || !self.is_ours(tx));
        let pays = tx.max_fee >= scene.head.base_fee.saturating_add(self.settings.fees.tip_floor);
        let helps = is_next || is_refused(Refused::Underpriced) || !pays;
        // No block since it was signed: the chain stands still, and no fee moves it. And whoever has no coin for this
        // fee has none for a higher one.
        let is_moot = scene.head.timestamp <= tx.signed_at || is_refused(Refused::PoorSigner);
        if !give_up && (!helps || is_moot) {
            return Ok(());
        }
        let old = Fees { max_fee: tx.max_fee, tip: tx.tip };
        let mut policy = self.settings.fees;
        if give_up || tx.noop {
            // It costs next to nothing, and everything behind it waits.
            policy.max_fee_ceiling = policy.max_fee_ceiling.saturating_mul(NOOP_CEILING);
        }
        let Some(fees) = policy.replacement(old, scene.fees) else {
            self.say_ceiling(tx);
            return Ok(());
        };
        // what is told to be a no-op may pay more: so it is made anew, whatever the bytes are
        let signed = if give_up || tx.noop {
            self.signer.sign_noop(self.site.chain_id, tx.nonce, fees)?
        } else {
            self.signer.resign(&tx.raw, self.place_of(tx), fees)?
        };
        let attempt = attempt(&signed, fees, give_up || tx.noop);
        if self.store_again(tx.id, scene.lease, attempt, give_up).await? {
            tracing::warn!(
                tx.id = %tx.id, tx.nonce = tx.nonce, tx.hash = %signed.hash, fees.max_fee, fees.tip, give_up,
                "a transaction is stuck; signed again at a higher fee"
            );
            metrics::counter!("weir_lane_replacements_total").increment(1);
        }
        Ok(())
    }

    /// Where the bytes of a transaction must go to be of ours, and under which number.
    const fn place_of(&self, tx: &Stuck) -> (u64, Address, u64) {
        (self.site.chain_id, self.site.escrow, tx.nonce)
    }

    /// Whether this key signed the bytes, as a call of the escrow. Who can write to the database can put any there.
    fn is_ours(&self, tx: &Stuck) -> bool {
        let fees = Fees { max_fee: tx.max_fee, tip: tx.tip };
        let Err(error) = self.signer.resign(&tx.raw, self.place_of(tx), fees) else { return true };
        tracing::error!(
            tx.id = %tx.id, tx.nonce = tx.nonce, %error,
            "stored bytes are none of ours: somebody else writes to the database; see the runbook"
        );
        metrics::counter!("weir_lane_refusals_total").increment(1);
        false
    }

    fn say_ceiling(&self, tx: &Stuck) {
        let now = self.store.now();
        let mut said = self.ceiling_said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_some_and(|at| at > earlier(now, self.settings.replace_after)) {
            return;
        }
        *said = Some(now);
        tracing::error!(
            tx.id = %tx.id, tx.nonce = tx.nonce, tx.max_fee,
            "a transaction is stuck and the ceiling forbids to pay more; see the runbook"
        );
        metrics::counter!("weir_lane_ceiling_total").increment(1);
    }

    /// Stores another attempt. False if the transaction is mined or has ended meanwhile, or another process sends for the
    /// key by now.
    async fn store_again(
        &self,
        id: TxId,
        lease: Lease,
        attempt: txs::NewAttempt,
        give_up: bool,
    ) -> Result<bool, EngineError> {
        let (now, signer) = (self.store.now(), self.address());
        let stored = self
            .store
            .write("store attempt", move |tx| {
                let attempt = attempt.clone();
                Box::pin(async move {
                    if !txs::is_open(tx, signer, lease, id).await? {
                        return Ok(false);
                    }
                    if give_up {
                        txs::give_up(tx, id, now).await?;
                    }
                    txs::store_attempt(tx, id, &attempt, now).await?;
                    Ok::<_, TxError<EngineError>>(true)
                })
            })
            .await?;
        Ok(stored)
    }

    /// Numbers between the chain's next one and our lowest that is under way. Bytes of ours that once spent one go out
    /// again as they are; a number that was never ours to begin with is spent by a no-op.
    async fn fill_gaps(&self, lease: Lease, next: u64) -> Result<(), EngineError> {
        let gaps = {
            let mut connection = self.store.read().await?;
            let now = self.store.now();
            txs::gap_below(&mut connection, self.address(), next, PER_TICK, now).await?
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
