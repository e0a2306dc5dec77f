//! The watcher: follows the chain block by block through parent hashes, keeps what the escrow says, and
//! lets money move only on what is final. What lies far below the final block it reads in ranges.

mod catch_up;
mod finality;
mod fork;
mod page;
pub(crate) mod seen;
mod spent;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use alloy::eips::BlockNumberOrTag;
use chain::{BlockHeader, ChainError, ReadClient};
use store::{Store, StoreError, TxError, blocks, txs};

use crate::{EngineError, Site, carried, final_events};
use page::Page;

/// Blocks one tick reads at most; the next tick goes on.
const BLOCKS_PER_TICK: usize = 200;
/// After so many milliseconds of reading, what is final is looked at, and the next tick reads on: where each answer takes
/// long, blocks come as fast as they are read, and there would be no end of it.
const READING: u64 = 1_000;
/// So many looks in a row at a node that is behind us are worth a word.
const BEHIND_LOOKS: u32 = 30;

/// The reader of the chain.
pub struct Watcher {
    store: Store,
    client: ReadClient,
    site: Site,
    /// Looks in a row at which the node was behind us.
    behind: AtomicU32,
    /// Looks in a row at which the chain called nothing final, and less than before.
    missing: AtomicU32,
    backwards: AtomicU32,
    /// How many blocks a range of logs has.
    range: AtomicU64,
    /// More is final than when somebody last asked.
    news: AtomicBool,
}

/// What one tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Blocks read one by one.
    pub blocks: usize,
    /// Blocks passed over in ranges.
    pub ranged: u64,
    /// Final events applied.
    pub applied: usize,
    /// True if a fork was rewound.
    pub reorged: bool,
    /// True if there may be more to read at once.
    pub more: bool,
    /// True if more is final than before.
    pub finalised: bool,
}

enum Next {
    Nothing,
    Appended,
    Rewound,
}

impl Watcher {
    /// A watcher of the site's contract.
    #[must_use]
    pub const fn new(store: Store, client: ReadClient, site: Site) -> Self {
        Self {
            store,
            client,
            site,
            behind: AtomicU32::new(0),
            missing: AtomicU32::new(0),
            backwards: AtomicU32::new(0),
            range: AtomicU64::new(catch_up::FIRST_RANGE),
            news: AtomicBool::new(false),
        }
    }

    /// Whether more became final since this was last asked, whatever else of a tick failed.
    pub fn take_news(&self) -> bool {
        self.news.swap(false, Ordering::Relaxed)
    }

    /// Reads new blocks, rewinds forks, marks what is final and applies it. Where the chain does not answer one
    /// question, the others are asked all the same, and what is known is applied.
    ///
    /// # Errors
    /// The database's or the chain's; every block and every range is a transaction of its own, so the next
    /// tick goes on.
    pub async fn tick(&self) -> Result<Watched, EngineError> {
        let mut watched = Watched::default();
        let last = chain_alone(self.client.finalized().await.map_err(EngineError::from))?;
        let read = chain_alone(self.read(last.as_ref().ok(), &mut watched).await)?;
        let finalised = match &last {
            Ok(last) => chain_alone(self.finalise(last.clone()).await)?,
            Err(_) => Ok(false),
        };
        watched.finalised = matches!(finalised, Ok(true));
        self.news.fetch_or(watched.finalised, Ordering::Relaxed);
        carried::ask_waiting(&self.store).await?;
        watched.applied = final_events::apply_waiting(&self.store).await?;
        last?;
        read?;
        finalised?;
        Ok(watched)
    }

    async fn read(
        &self,
        last: Option<&Option<BlockHeader>>,
        watched: &mut Watched,
    ) -> Result<(), EngineError> {
        if let Some(Some(last)) = last {
            watched.ranged = self.catch_up(last).await?;
        }
        let begun = self.store.now();
        loop {
            match self.next_block(watched.blocks > 0).await? {
                Next::Nothing => return Ok(()),
                Next::Appended => watched.blocks = watched.blocks.saturating_add(1),
                Next::Rewound => watched.reorged = true,
            }
            let spent = self.store.now().millis_since(begun).unwrap_or_default();
            if watched.blocks >= BLOCKS_PER_TICK || spent >= READING {
                watched.more = true;
                return Ok(());
            }
        }
    }

    /// `read` if the tip was read a moment ago, so that nobody need ask whether it is there still.
    async fn next_block(&self, read: bool) -> Result<Next, EngineError> {
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
            return self.append(first).await;
        };
        let number = tip.number.saturating_add(1);
        let next = self.client.header(BlockNumberOrTag::Number(number)).await?;
        if read && next.is_none() {
            return Ok(Next::Nothing);
        }
        if let Some(next) = next
            && next.parent_hash == tip.hash
        {
            self.behind.store(0, Ordering::Relaxed);
            return self.append(next).await;
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
                "the chain's node does not have the block that we read last; waiting for it. A chain that was restored from an older state never comes back to it: see the runbook"
            );
        }
    }

    /// Nothing if another worker's watcher was faster.
    async fn append(&self, header: BlockHeader) -> Result<Next, EngineError> {
        let page = Page::read(&self.client, &self.site, &self.store, &header).await?;
        Ok(if self.keep(vec![page]).await? { Next::Appended } else { Next::Nothing })
    }

    /// Keeps blocks with all that follows from them, in one transaction. False if another worker's watcher was faster.
    async fn keep(&self, pages: Vec<Page>) -> Result<bool, EngineError> {
        let Some(last) = pages.last().map(|page| page.block.number) else {
            return Ok(true);
        };
        let now = self.store.now();
        let policy = self.store.policy().clone();
        let kept = self
            .store
            .write("append block", move |tx| {
                let (pages, policy) = (pages.clone(), policy.clone());
                Box::pin(async move {
                    for page in &pages {
                        blocks::append(tx, &page.block, &page.events).await?;
                        for (id, fact) in &page.mined {
                            txs::mined(tx, *id, fact, now).await?;
                        }
                        for (tx_hash, event) in &page.decoded {
                            seen::included(tx, &policy, event, *tx_hash, now.seconds()).await?;
                        }
                    }
                    Ok::<_, TxError<EngineError>>(())
                })
            })
            .await;
        match kept.map_err(EngineError::from) {
            Err(EngineError::Store(error)) if is_of_another(&error) => {
                tracing::debug!(block.number = last, "another worker has read this already");
                return Ok(false);
            }
            kept => kept?,
        }
        metrics::gauge!("weir_watcher_block").set(u32::try_from(last).unwrap_or(u32::MAX));
        Ok(true)
    }
}

/// Whether another worker has put a block at this height.
fn is_of_another(error: &StoreError) -> bool {
    ["chain_blocks_pkey", "chain_blocks_hash_key"].iter().any(|name| error.is_conflict_on(name))
}

/// The chain's errors aside: for whatever does not need this answer.
fn chain_alone<T>(done: Result<T, EngineError>) -> Result<Result<T, ChainError>, EngineError> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(EngineError::Chain(error)) => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

fn nonsense(what: &str) -> EngineError {
    EngineError::Chain(ChainError::Nonsense(what.to_owned()))
}
