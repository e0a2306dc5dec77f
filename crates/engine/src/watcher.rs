//! The watcher: follows the chain block by block through parent hashes, keeps what the escrow says, and
//! lets money move only on what is final.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, LogData},
};
use chain::{BlockHeader, ChainError, ReadClient, TxReceipt};
use domain::{id::TxId, rental::RentalEvent, time::UnixMillis, tx::BlockRef};
use escrow::EscrowEvent;
use store::{
    Connection, Policy, Store, StoreError, TxError,
    advance::{self, AdvanceError},
    blocks::{self, FollowedBlock, NewEvent, SeenEvent},
    intents::{self, Call},
    ledger, quotes, rentals, timeline, txs,
};

use crate::{EngineError, Site, apply, final_events};

/// Blocks one tick reads at most; the next tick goes on.
const BLOCKS_PER_TICK: usize = 200;
/// So many looks in a row at a node that is behind us are worth a word.
const BEHIND_LOOKS: u32 = 30;
/// How far back a fork is looked for. Polygon nodes never rewind more than 255 blocks.
const DEEPEST_FORK: u64 = 256;
/// Final blocks without events are forgotten beyond this distance.
const KEEP_BLOCKS: i64 = 1_024;
/// A transaction of ours that is in no block for so long may have lost its number to another.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// The reader of the chain.
pub struct Watcher {
    store: Store,
    client: ReadClient,
    site: Site,
    /// Looks in a row at which the node was behind us.
    behind: AtomicU32,
}

/// What one tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Blocks read.
    pub blocks: usize,
    /// Final events applied.
    pub applied: usize,
    /// True if a fork was rewound.
    pub reorged: bool,
}

/// A block with what we keep of it.
#[derive(Clone)]
struct Page {
    block: FollowedBlock,
    events: Vec<NewEvent>,
    decoded: Vec<(B256, EscrowEvent)>,
    mined: Vec<(TxId, txs::Mined)>,
}

impl Watcher {
    /// A watcher of the site's contract.
    #[must_use]
    pub const fn new(store: Store, client: ReadClient, site: Site) -> Self {
        Self { store, client, site, behind: AtomicU32::new(0) }
    }

    /// Reads new blocks, rewinds forks, marks what is final and applies it.
    ///
    /// # Errors
    /// The database's or the chain's; every block is a transaction of its own, so the next tick goes on.
    pub async fn tick(&self) -> Result<Watched, EngineError> {
        let mut watched = Watched::default();
        while watched.blocks < BLOCKS_PER_TICK {
            match self.next_block().await? {
                Next::Nothing => break,
                Next::Appended => watched.blocks = watched.blocks.saturating_add(1),
                Next::Rewound => watched.reorged = true,
            }
        }
        self.finalise().await?;
        watched.applied = final_events::apply_waiting(&self.store).await?;
        Ok(watched)
    }

    async fn next_block(&self) -> Result<Next, EngineError> {
        let tip = {
            let mut connection = self.store.read().await?;
            blocks::tip(&mut connection).await?
        };
        let Some(tip) = tip else {
            let number = self.site.deployed_block;
            let first = self.client.header(BlockNumberOrTag::Number(number)).await?;
            let Some(first) = first else {
                return Ok(Next::Nothing);
            };
            self.append(first).await?;
            return Ok(Next::Appended);
        };
        let number = tip.number.saturating_add(1);
        if let Some(next) = self.client.header(BlockNumberOrTag::Number(number)).await?
            && next.parent_hash == tip.hash
        {
            self.behind.store(0, Ordering::Relaxed);
            self.append(next).await?;
            return Ok(Next::Appended);
        }
        // No child of our tip: either there is none yet, or our tip has left the chain.
        match self.client.header(BlockNumberOrTag::Number(tip.number)).await? {
            Some(block) if block.hash == tip.hash => {
                self.behind.store(0, Ordering::Relaxed);
                Ok(Next::Nothing)
            }
            Some(_) => {
                self.behind.store(0, Ordering::Relaxed);
                self.rewind(&tip).await?;
                Ok(Next::Rewound)
            }
            // One of several nodes behind an address may be late: that is no word against our tip.
            None => {
                self.wait_for_node(tip.number);
                Ok(Next::Nothing)
            }
        }
    }

    fn wait_for_node(&self, tip: u64) {
        let looks = self.behind.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if looks.is_multiple_of(BEHIND_LOOKS) {
            tracing::warn!(
                block.number = tip,
                looks,
                "the chain's node does not have the block that we read last; waiting for it. A chain                  that was restored from an older state never comes back to it: see the runbook"
            );
        }
    }

    async fn append(&self, header: BlockHeader) -> Result<(), EngineError> {
        let page = self.read(&header).await?;
        let now = self.store.now();
        let policy = self.store.policy().clone();
        self.store
            .write("append block", move |tx| {
                let (page, policy) = (page.clone(), policy.clone());
                Box::pin(async move {
                    blocks::append(tx, &page.block, &page.events).await?;
                    for (id, fact) in &page.mined {
                        txs::mined(tx, *id, fact, now).await?;
                    }
                    for (tx_hash, event) in &page.decoded {
                        included(tx, &policy, event, *tx_hash, now.seconds()).await?;
                    }
                    Ok::<_, TxError<EngineError>>(())
                })
            })
            .await?;
        metrics::gauge!("weir_watcher_block").set(u32::try_from(header.number).unwrap_or(u32::MAX));
        Ok(())
    }

    async fn read(&self, header: &BlockHeader) -> Result<Page, EngineError> {
        let logs = self.client.logs(header, self.site.escrow).await?;
        let (mut events, mut decoded) = (Vec::new(), Vec::new());
        for log in logs {
            let (Some(index), Some(tx_hash)) = (log.log_index, log.transaction_hash) else {
                return Err(nonsense("a mined log without index or transaction"));
            };
            if log.block_hash != Some(header.hash) {
                return Err(nonsense("a log of another block than asked for"));
            }
            let data: &LogData = &log.inner.data;
            let event = escrow::decode_event(data).map_err(|error| nonsense(&error.to_string()))?;
            events.push(NewEvent {
                log_index: u32::try_from(index).map_err(|_| nonsense("log index"))?,
                tx_hash,
                name: event.name(),
                escrow_id: event.rental(),
                body: serde_json::to_value(&event).map_err(|error| nonsense(&error.to_string()))?,
            });
            decoded.push((tx_hash, event));
        }
        let mined = self.mined_in(header).await?;
        let block = FollowedBlock {
            number: header.number,
            hash: header.hash,
            parent_hash: header.parent_hash,
            timestamp: header.timestamp,
            is_final: false,
        };
        Ok(Page { block, events, decoded, mined })
    }

    /// Our own transactions in the block; asked for only while some are open.
    async fn mined_in(&self, header: &BlockHeader) -> Result<Vec<(TxId, txs::Mined)>, EngineError> {
        let mut connection = self.store.read().await?;
        if !txs::any_open(&mut connection).await? {
            return Ok(Vec::new());
        }
        let receipts = self.client.receipts(header).await?;
        let hashes: Vec<B256> = receipts.iter().map(|receipt| receipt.hash).collect();
        let ours = txs::ours(&mut connection, &hashes).await?;
        let block = BlockRef { number: header.number, hash: header.hash };
        Ok(ours
            .into_iter()
            .filter_map(|(hash, id)| {
                let receipt = receipts.iter().find(|receipt| receipt.hash == hash)?;
                Some((id, mined(receipt, block)))
            })
            .collect())
    }

    async fn rewind(&self, tip: &FollowedBlock) -> Result<(), EngineError> {
        let fork = self.fork_below(tip.number).await?;
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
                        excluded(tx, &policy, event, now.seconds()).await?;
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

    async fn finalise(&self) -> Result<(), EngineError> {
        let Some(final_block) = self.client.finalized().await? else {
            return Ok(());
        };
        let now = self.store.now();
        let policy = self.store.policy().clone();
        // If we have not read that far, the newest block we have read decides.
        let (number, hash) = {
            let mut connection = self.store.read().await?;
            let Some(tip) = blocks::tip(&mut connection).await? else {
                return Ok(());
            };
            if tip.number < final_block.number {
                (tip.number, tip.hash)
            } else {
                (final_block.number, final_block.hash)
            }
        };
        if number < final_block.number {
            let theirs = self.client.header(BlockNumberOrTag::Number(number)).await?;
            if theirs.is_none_or(|block| block.hash != hash) {
                return Ok(());
            }
        }
        let spent = self.spent_nonces(hash).await?;
        self.store
            .write("finalise blocks", move |tx| {
                let (policy, spent) = (policy.clone(), spent.clone());
                Box::pin(async move {
                    if !blocks::finalise(tx, number, hash).await? {
                        return Ok(());
                    }
                    let ended = txs::finalise(tx, number, now).await?;
                    ledger::post_gas(tx, &ended, now.seconds()).await?;
                    for done in ended {
                        let failure = (!done.succeeded).then_some("the transaction reverted");
                        let carried = intents::finish(tx, done.id, failure).await?;
                        if failure.is_some() {
                            failed(tx, &policy, &carried, now.seconds()).await?;
                        }
                    }
                    for (signer, next) in spent {
                        for id in txs::void_spent(tx, signer, next, now).await? {
                            lost(id);
                            let failure = "another transaction spent the number of this one";
                            let carried = intents::finish(tx, id, Some(failure)).await?;
                            failed(tx, &policy, &carried, now.seconds()).await?;
                        }
                    }
                    blocks::prune(tx, KEEP_BLOCKS).await?;
                    Ok::<_, TxError<EngineError>>(())
                })
            })
            .await?;
        Ok(())
    }

    /// The next nonce, as of a final block that we have read, of signers with a transaction that is mined
    /// nowhere for long. Without an answer nothing is known, and nothing waits for it.
    async fn spent_nonces(&self, block: B256) -> Result<Vec<(Address, u64)>, EngineError> {
        let patience = u64::try_from(STALE_AFTER.as_millis()).unwrap_or(u64::MAX);
        let before = UnixMillis(self.store.now().get().saturating_sub(patience));
        let signers = {
            let mut connection = self.store.read().await?;
            txs::stale_signers(&mut connection, before).await?
        };
        let mut spent = Vec::with_capacity(signers.len());
        for signer in signers {
            match self.client.nonce_at(signer, block).await {
                Ok(next) => spent.push((signer, next)),
                Err(error) => tracing::debug!(%error, "no nonce of {signer}"),
            }
        }
        Ok(spent)
    }
}

enum Next {
    Nothing,
    Appended,
    Rewound,
}

fn nonsense(what: &str) -> EngineError {
    EngineError::Chain(ChainError::Nonsense(what.to_owned()))
}

fn mined(receipt: &TxReceipt, block: BlockRef) -> txs::Mined {
    txs::Mined {
        attempt: receipt.hash,
        block,
        succeeded: receipt.succeeded,
        gas_used: receipt.gas_used,
        gas_price: receipt.gas_price,
    }
}

/// An unfinal lock starts provisioning; no money moves. A lock below the quoted deposit starts nothing.
async fn included(
    tx: &mut Connection,
    policy: &Policy,
    event: &EscrowEvent,
    tx_hash: B256,
    now: domain::time::UnixSeconds,
) -> Result<(), TxError<EngineError>> {
    let EscrowEvent::Locked { id, deposit, .. } = event else {
        return Ok(());
    };
    let Some(rental) = apply::known(tx, *id).await? else {
        tracing::info!(escrow.id = %id, tx.hash = %tx_hash, "a lock of terms we never quoted; ignored");
        return Ok(());
    };
    if apply::quoted_deposit(tx, rental).await? > *deposit {
        tracing::warn!(rental.id = %rental, "the lock is below the quoted deposit; it will be returned");
        return Ok(());
    }
    lenient(advance::apply(tx, policy, rental, &RentalEvent::LockIncluded, now).await)
}

async fn excluded(
    tx: &mut Connection,
    policy: &Policy,
    event: &SeenEvent,
    now: domain::time::UnixSeconds,
) -> Result<(), TxError<EngineError>> {
    let (true, Some(id)) = (event.name == "locked", event.escrow_id) else {
        return Ok(());
    };
    let Some(rental) = rentals::id_of(tx, id).await? else {
        return Ok(());
    };
    lenient(advance::apply(tx, policy, rental, &RentalEvent::LockDropped, now).await)
}

fn lost(id: TxId) {
    tracing::error!(tx.id = %id, "a transaction that is none of ours spent the number of this one; see the runbook");
    metrics::counter!("weir_lost_nonces_total").increment(1);
}

/// A transaction of ours was mined and reverted, or never can be mined: the state machine asks for another
/// try.
async fn failed(
    tx: &mut Connection,
    policy: &Policy,
    carried: &[intents::Intent],
    now: domain::time::UnixSeconds,
) -> Result<(), TxError<EngineError>> {
    for intent in carried {
        let rental =
            rentals::get(tx, intent.rental).await?.ok_or(StoreError::Missing("the rental"))?;
        let quote =
            quotes::get(tx, rental.quote_id).await?.ok_or(StoreError::Missing("the quote"))?;
        let event = match intent.call {
            Call::Start { .. } if now > quote.start_by => RentalEvent::StartExpired { now },
            Call::Start { .. } => RentalEvent::StartRefused { now },
            Call::Close { .. } | Call::Cancel => RentalEvent::CloseRefused { now },
            Call::Finalize => RentalEvent::FinalizeRefused { now },
            Call::Lock { .. } => {
                let detail = serde_json::json!({ "reason": "the transaction reverted" });
                timeline::append(tx, intent.rental, now, "funding_refused", &detail).await?;
                continue;
            }
        };
        lenient(advance::apply(tx, policy, intent.rental, &event, now).await)?;
    }
    Ok(())
}

/// What the chain shows before it is final may come in any order; a state that refuses it is logged.
fn lenient(applied: Result<advance::Applied, AdvanceError>) -> Result<(), TxError<EngineError>> {
    match applied {
        Ok(_) => Ok(()),
        Err(AdvanceError::Illegal(error)) => {
            tracing::warn!(%error, "an event of the chain does not fit the rental's state");
            Ok(())
        }
        Err(AdvanceError::Missing) => Err(StoreError::Missing("the rental").into()),
        Err(AdvanceError::Store(error)) => Err(error.into()),
    }
}
