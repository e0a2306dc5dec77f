//! Numbers of ours that somebody else spent. A call whose number is gone is made anew, so that this is believed of no
//! single answer: the nonce of a final block that two endpoints tell alike, or one at three looks and no copy of our own
//! bytes; and no block that has them.

use std::time::Duration;

use alloy::primitives::{Address, B256};
use domain::{id::TxId, time::UnixMillis};
use store::{
    Connection, StoreError, blocks,
    txs::{self, Mined},
};

use super::{Watcher, page::mined};
use crate::EngineError;

/// A transaction of ours that is in no block for so long may have lost its number to another.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// So many transactions of a signer are looked for at a time; the rest at the next final block.
const LOOKED_FOR: i64 = 64;

/// What a final block says about the numbers of a signer.
#[derive(Clone, Debug)]
pub(super) struct Spent {
    pub(super) signer: Address,
    /// Its next number.
    pub(super) next: u64,
    /// Ours below it that no node has.
    pub(super) lost: Vec<TxId>,
    /// Ours below it that are in a final block, where we did not see them.
    pub(super) missed: Vec<(TxId, Mined)>,
}

/// Where our own bytes are.
enum Whereabouts {
    Nowhere,
    Waiting,
    In(Mined),
}

impl Watcher {
    /// Signers with a transaction that is mined nowhere for long, and what became of their numbers up to a final block
    /// that we have read. Without an answer nothing is known, and nothing waits for it.
    pub(super) async fn spent(&self, number: u64, hash: B256) -> Result<Vec<Spent>, EngineError> {
        let patience = u64::try_from(STALE_AFTER.as_millis()).unwrap_or(u64::MAX);
        let before = UnixMillis(self.store.now().get().saturating_sub(patience));
        let signers = {
            let mut connection = self.store.read().await?;
            txs::stale_signers(&mut connection, before).await?
        };
        let mut all = Vec::with_capacity(signers.len());
        for signer in signers {
            let next = match self.client.agreed_nonce_at(signer, hash).await {
                Ok(Some(next)) => next,
                Ok(None) => {
                    tracing::warn!(%signer, block.number = number, "RPC endpoints tell different nonces");
                    continue;
                }
                Err(error) => {
                    tracing::debug!(%error, "no nonce of {signer}");
                    continue;
                }
            };
            all.push(self.look_for(signer, next, number).await?);
        }
        Ok(all)
    }

    /// Looks for our own bytes before their numbers are given up. Where nobody says where a transaction is, or a node has
    /// it, this one waits, and keeps no other.
    async fn look_for(
        &self,
        signer: Address,
        next: u64,
        number: u64,
    ) -> Result<Spent, EngineError> {
        let open = {
            let mut connection = self.store.read().await?;
            txs::open_below(&mut connection, signer, next, LOOKED_FOR).await?
        };
        let mut spent = Spent { signer, next, lost: Vec::new(), missed: Vec::new() };
        for (id, attempts) in open {
            match self.whereabouts(&attempts).await {
                Ok(Whereabouts::Nowhere) => spent.lost.push(id),
                Ok(Whereabouts::In(fact)) if fact.block.number <= number => {
                    tracing::warn!(tx.id = %id, block.number = fact.block.number, "a node left out the receipt of this transaction; found by its hash");
                    spent.missed.push((id, fact));
                }
                // two endpoints say that another took its number: what a pool keeps is dead
                Ok(Whereabouts::Waiting) if self.client.endpoints() > 1 => spent.lost.push(id),
                Ok(Whereabouts::In(_) | Whereabouts::Waiting) => {
                    tracing::warn!(tx.id = %id, %signer, next, "a node says that the number of this transaction is spent, and has the transaction; not believed");
                }
                Err(error) => tracing::debug!(%error, "nobody says where {id} is"),
            }
        }
        Ok(spent)
    }

    async fn whereabouts(&self, attempts: &[B256]) -> Result<Whereabouts, chain::ChainError> {
        for hash in attempts {
            if let Some((receipt, block)) = self.client.receipt_of(*hash).await? {
                return Ok(Whereabouts::In(mined(&receipt, block)));
            }
        }
        for hash in attempts {
            if self.client.has_transaction(*hash).await? {
                return Ok(Whereabouts::Waiting);
            }
        }
        Ok(Whereabouts::Nowhere)
    }
}

/// Notes that one of ours is in a final block after all, if the block is the one that we have there, or one that we keep
/// no longer.
pub(super) async fn record_missed(
    tx: &mut Connection,
    id: TxId,
    fact: &Mined,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let ours = blocks::at(tx, fact.block.number).await?;
    if ours.is_some_and(|ours| ours.hash != fact.block.hash) {
        return Ok(());
    }
    match txs::mined_if_open(tx, id, fact, now).await {
        // our own rule refuses it: the others are recorded all the same
        Err(StoreError::Corrupt(error)) => {
            tracing::warn!(tx.id = %id, %error, "a transaction that was found in a block cannot be recorded");
            Ok(())
        }
        done => done,
    }
}
