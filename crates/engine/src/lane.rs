//! The lane: turns queued intents into numbered, signed and stored transactions, and sends what is
//! stored until it is mined. One lane per key; the nonce belongs to its row for ever.

mod batch;
mod fly;
mod holding;
mod refused;
mod send;
mod stuck;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use alloy::primitives::Address;
use chain::{BlockHeader, FeePolicy, Fees, ReadClient, Signer, Wire};
use domain::{id::RentalId, time::UnixMillis};
use escrow::calldata::EndSignatures;
use futures_util::future::try_join3;
use store::{
    Store,
    ends::{self, End},
    intents::{self, Call, Claimed},
    txs::{self, Lease},
};

use crate::{EngineError, Site};
use batch::Item;
use holding::Holding;
use refused::Verdict;
pub(crate) use refused::is_pointless;

/// A transaction may not use more (EIP-7825).
const GAS_CAP: u64 = 16_777_216;
/// An intent that was claimed and not signed within this is anybody's again.
const CLAIM: Duration = Duration::from_secs(15);
/// A key that cannot send is tried again after this.
const PARKED: Duration = Duration::from_secs(30);

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
    /// Until when the key is of no use, because it has no coin or is no operator.
    parked: Mutex<Option<UnixMillis>>,
    /// When it was said last that the ceiling forbids to raise.
    ceiling_said: Mutex<Option<UnixMillis>>,
}

/// What a tick goes by.
struct Scene {
    lease: Lease,
    head: BlockHeader,
    fees: Fees,
    /// What the key can still spend on gas, in wei.
    purse: u128,
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
        let (parked, ceiling_said) = (Mutex::default(), Mutex::default());
        Self { store, client, wire, signer, settings, site, holding, parked, ceiling_said }
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
        if self.is_parked() {
            return Ok(());
        }
        let (signer, now) = (self.address(), self.store.now());
        let (room, claimed) = {
            let mut connection = self.store.read().await?;
            let flying = txs::in_flight(&mut connection, signer).await?;
            let room = self.settings.window.saturating_sub(flying);
            if room == 0 {
                tracing::debug!(%signer, flying, "the window is full");
                return Ok(());
            }
            // No more than can go now: the rest is for other keys.
            let batch = u64::try_from(self.settings.batch).unwrap_or(u64::MAX);
            let most = i64::try_from(room.saturating_mul(batch)).unwrap_or(i64::MAX);
            let most = most.min(self.settings.queue);
            (room, intents::claim(&mut connection, signer, now, CLAIM, most).await?)
        };
        if claimed.is_empty() {
            return Ok(());
        }
        let done = self.sign_claimed(lease, room, claimed).await;
        let reason = done.as_ref().err().filter(|_| self.is_parked()).map(ToString::to_string);
        let mut connection = self.store.read().await?;
        intents::unclaim(&mut connection, signer, reason.as_deref()).await?;
        match done {
            Err(EngineError::Parked(_)) => Ok(()),
            done => done,
        }
    }

    /// Signs as much as there is room for. What fails for one group is no matter of the others.
    async fn sign_claimed(
        &self,
        lease: Lease,
        room: u64,
        claimed: Vec<Claimed>,
    ) -> Result<(), EngineError> {
        let items = self.with_signatures(claimed).await?;
        // Before the estimates: if a block comes in between, what was ahead still counts as ahead.
        let mut scene = self.scene(lease).await?;
        let items = self.part_with_late(items, &scene).await?;
        let mut failure = None;
        let (mut room, mut for_singles) = (room, room.div_ceil(2));
        for group in batch::groups(items, &self.settings, self.store.now()) {
            // Singles come in any number, from strangers too: some room is for batches.
            let single = group.len() == 1;
            if room == 0 || (single && for_singles == 0) {
                continue;
            }
            match self.fly(group.clone(), &mut scene).await {
                Ok(signed) => {
                    room = room.saturating_sub(signed);
                    if single {
                        for_singles = for_singles.saturating_sub(signed);
                    }
                }
                Err(error @ (EngineError::Store(_) | EngineError::Parked(_))) => return Err(error),
                Err(error) => {
                    let verdict = if matches!(error, EngineError::Chain(_)) {
                        Verdict::Unasked(error.to_string())
                    } else {
                        Verdict::NotYet(error.to_string())
                    };
                    self.put_all_off(&group, &verdict).await?;
                    failure = failure.or(Some(error));
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn scene(&self, lease: Lease) -> Result<Scene, EngineError> {
        let (client, address) = (&self.client, self.address());
        let asked = try_join3(client.head(), client.suggested_tip(), client.balance(address));
        let (head, tip, balance) = asked.await?;
        let fees = self.settings.fees.fees(head.base_fee, tip);
        let committed = {
            let mut connection = self.store.read().await?;
            txs::committed(&mut connection, self.address()).await?
        };
        let purse = u128::try_from(balance).unwrap_or(u128::MAX).saturating_sub(committed);
        Ok(Scene { lease, head, fees, purse })
    }

    fn is_parked(&self) -> bool {
        let parked = *self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.is_some_and(|until| until > self.store.now())
    }

    /// The key is of no use for now. Its work is for others, if there are any, and waits for it otherwise.
    fn park(&self, reason: String) -> EngineError {
        tracing::error!(signer = %self.address(), reason, "the key cannot send; see the runbook");
        metrics::counter!("weir_lane_refusals_total").increment(1);
        let until = later(self.store.now(), PARKED);
        *self.parked.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        EngineError::Parked(reason)
    }

    /// What the two sides signed about the ends that closes tell.
    async fn with_signatures(&self, claimed: Vec<Claimed>) -> Result<Vec<Item>, EngineError> {
        let told: Vec<_> = claimed.iter().filter_map(told_by).collect();
        let mut signed = {
            let mut connection = self.store.read().await?;
            ends::signatures_of(&mut connection, &told).await?
        };
        Ok(claimed
            .into_iter()
            .map(|claimed| {
                let told = told_by(&claimed);
                let ends::Signatures { renter, provider } =
                    told.and_then(|told| signed.remove(&told)).unwrap_or_default();
                let signatures = EndSignatures { renter: renter.into(), provider: provider.into() };
                Item { claimed, signatures }
            })
            .collect())
    }
}

/// The end that a close tells.
const fn told_by(claimed: &Claimed) -> Option<(RentalId, End)> {
    match claimed.intent.call {
        Call::Close { stopped_at, credit } => {
            Some((claimed.intent.rental, End { stopped_at, credit }))
        }
        Call::Start { .. }
        | Call::Cancel
        | Call::Finalize
        | Call::Release { .. }
        | Call::Lock { .. } => None,
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
