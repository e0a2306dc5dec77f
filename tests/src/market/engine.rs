//! The engine's four loops as one process holds them, with connections of its own.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use chain::{FeePolicy, ReadClient, Signer};
use engine::{Conductor, EngineError, Lane, LaneSettings, Reconciler, Watcher};
use store::{Policy, Store};
use testkit::{DEV_KEYS, ManualClock};

pub use engine::Site;

pub struct Engine {
    pub lane: Lane,
    pub watcher: Watcher,
    pub conductor: Conductor,
    pub reconciler: Reconciler,
}

const SETTINGS: LaneSettings = LaneSettings {
    fees: FeePolicy { tip_floor: 1_000_000_000, max_fee_ceiling: 500_000_000_000 },
    resend_after: Duration::from_secs(1),
    batch: 16,
};

impl Engine {
    pub(super) async fn start(
        db_url: &str,
        rpc: &str,
        clock: Arc<ManualClock>,
        site: &Site,
        policy: Policy,
    ) -> Self {
        let store = Store::connect(db_url, 6, clock, policy).await.unwrap();
        let client = ReadClient::connect(rpc).unwrap();
        let signer: Signer = DEV_KEYS[1].parse().unwrap();
        Self {
            lane: Lane::new(store.clone(), client.clone(), signer, SETTINGS, site.clone()),
            watcher: Watcher::new(store.clone(), client.clone(), site.clone()),
            conductor: Conductor::new(store.clone()),
            reconciler: Reconciler::new(store, client, site.clone()),
        }
    }

    /// One round of the loops that change anything.
    pub async fn tick(&self) -> Result<(), EngineError> {
        self.lane.tick().await?;
        self.watcher.tick().await?;
        self.conductor.tick().await?;
        Ok(())
    }
}

/// Polls `work` at most so often and then drops it: what a kill does to a tick.
pub async fn cut<T>(work: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut work = pin!(work);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        work.as_mut().poll(context).map(Some)
    })
    .await
}
