//! The lane: turns queued intents into numbered, signed and stored transactions, and sends what is
//! stored until it is mined. One lane per key; the nonce belongs to its row for ever.

mod batch;
mod fly;
mod holding;
mod refused;
mod send;
mod stuck;

use std::time::Duration;

use alloy::primitives::Address;
use chain::{BlockHeader, FeePolicy, Fees, ReadClient, Signer, Wire};
use domain::time::UnixMillis;
use escrow::calldata::EndSignatures;
use store::{
    Store,
    ends::{self, End},
    intents::{self, Call, Claimed},
    txs::{self, Lease},
};

use crate::{EngineError, Site};
use batch::Item;
use holding::Holding;

/// A transaction may not use more (EIP-7825).
const GAS_CAP: u64 = 16_777_216;
/// An intent that was claimed and not signed within this is anybody's again.
const CLAIM: Duration = Duration::from_secs(15);

/// How the lane sends.
#[derive(Clone, Copy, Debug)]
pub struct LaneSettings {
    /// Bounds on fees.
    pub fees: FeePolicy,
    /// Bytes that are not mined by then are sent again.
    pub resend_after: Duration,
    /// A transaction that is not mined by then is signed again at a higher fee.
    pub replace_after: Duration,
    /// Most numbers that are given and in no block. Nodes promise room for 16 transactions of an account.
    pub window: u64,
    /// Most items of a batch; the contract's own limits hold too.
    pub batch: usize,
    /// Most intents that one tick takes, and most transactions that it sends.
    pub queue: i64,
    /// A batch that is not full waits for more until its oldest item is so old.
    pub gather: Duration,
    /// Whether batches name the slots that they touch beforehand, where that is cheaper.
    pub access_lists: bool,
    /// How long the right to number for the key lasts without being renewed.
    pub lease: Duration,
}

impl LaneSettings {
    /// These bounds on fees, and for all else what suits a chain with a block every second or two.
    #[must_use]
    pub const fn with_fees(fees: FeePolicy) -> Self {
        Self {
            fees,
            resend_after: Duration::from_secs(6),
            replace_after: Duration::from_secs(30),
            window: 16,
            batch: 100,
            queue: 1_000,
            gather: Duration::ZERO,
            access_lists: true,
            lease: Duration::from_secs(10),
        }
    }
}

/// The sender of one key.
pub struct Lane {
    store: Store,
    client: ReadClient,
    wire: Wire,
    signer: Signer,
    settings: LaneSettings,
    site: Site,
    holding: tokio::sync::Mutex<Holding>,
}

/// What a tick goes by.
struct Scene {
    lease: Lease,
    head: BlockHeader,
    fees: Fees,
}

impl Lane {
    /// A lane for `signer` on the site's chain.
    #[must_use]
    pub fn new(
        store: Store,
        client: ReadClient,
        signer: Signer,
        settings: LaneSettings,
        site: Site,
    ) -> Self {
        let wire = Wire::new(client.clone());
        let holding = tokio::sync::Mutex::new(Holding::default());
        Self { store, client, wire, signer, settings, site, holding }
    }

    /// Whose lane it is.
    #[must_use]
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Signs what is queued, raises what is stuck and sends what is due. Returns how many sends were tried; none while
    /// another process is the key's sender.
    ///
    /// # Errors
    /// The database's or the chain's; whatever was stored by then stays and is picked up next time.
    pub async fn tick(&self) -> Result<usize, EngineError> {
        let Some(lease) = self.hold().await? else {
            return Ok(0);
        };
        let signed = self.sign_due(lease).await;
        // what is stored is sent even if nothing new could be signed
        let raised = self.raise_stuck(lease).await;
        let sent = self.send_due().await?;
        signed.and(raised).map(|()| sent)
    }

    /// Numbers, signs and stores what is queued: the first part of a tick. Nothing leaves the house.
    ///
    /// # Errors
    /// As [`Lane::tick`].
    pub async fn sign_queued(&self) -> Result<(), EngineError> {
        match self.hold().await? {
            Some(lease) => self.sign_due(lease).await,
            None => Ok(()),
        }
    }

    async fn sign_due(&self, lease: Lease) -> Result<(), EngineError> {
        let (signer, now) = (self.address(), self.store.now());
        let (mut room, claimed) = {
            let mut connection = self.store.read().await?;
            let flying = txs::in_flight(&mut connection, signer).await?;
            let room = self.settings.window.saturating_sub(flying);
            if room == 0 {
                tracing::debug!(%signer, flying, "the window is full");
                return Ok(());
            }
            let queue = self.settings.queue;
            (room, intents::claim(&mut connection, signer, now, CLAIM, queue).await?)
        };
        if claimed.is_empty() {
            return Ok(());
        }
        let items = self.with_signatures(claimed).await?;
        // Before the estimates: if a block comes in between, what was ahead still counts as ahead.
        let scene = self.scene(lease).await?;
        for group in batch::groups(items, &self.settings, now) {
            if room == 0 {
                break;
            }
            room = room.saturating_sub(self.fly(group, &scene).await?);
        }
        Ok(())
    }

    async fn scene(&self, lease: Lease) -> Result<Scene, EngineError> {
        let head = self.client.head().await?;
        let tip = self.client.suggested_tip().await?;
        let fees = self.settings.fees.fees(head.base_fee, tip);
        Ok(Scene { lease, head, fees })
    }

    /// What the two sides signed about the ends that closes tell.
    async fn with_signatures(&self, claimed: Vec<Claimed>) -> Result<Vec<Item>, EngineError> {
        let told: Vec<_> = claimed
            .iter()
            .filter_map(|claimed| match claimed.intent.call {
                Call::Close { stopped_at, credit } => {
                    Some((claimed.intent.rental, End { stopped_at, credit }))
                }
                Call::Start { .. } | Call::Cancel | Call::Finalize | Call::Lock { .. } => None,
            })
            .collect();
        let mut signed = {
            let mut connection = self.store.read().await?;
            ends::signatures_of(&mut connection, &told).await?
        };
        Ok(claimed
            .into_iter()
            .map(|claimed| {
                let ends::Signatures { renter, provider } = match claimed.intent.call {
                    Call::Close { .. } => signed.remove(&claimed.intent.rental).unwrap_or_default(),
                    Call::Start { .. } | Call::Cancel | Call::Finalize | Call::Lock { .. } => {
                        ends::Signatures::default()
                    }
                };
                let signatures = EndSignatures { renter: renter.into(), provider: provider.into() };
                Item { claimed, signatures }
            })
            .collect())
    }
}

fn later(now: UnixMillis, wait: Duration) -> UnixMillis {
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    UnixMillis(now.get().saturating_add(wait))
}

fn earlier(now: UnixMillis, by: Duration) -> UnixMillis {
    let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
    UnixMillis(now.get().saturating_sub(by))
}
