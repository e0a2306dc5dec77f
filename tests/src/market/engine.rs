//! The engine's four loops as one process holds them, with connections of its own.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use chain::{FeePolicy, ReadClient, Signer};
use engine::{Conductor, EngineError, EngineSettings, Lane, LaneSettings, Reconciler, Watcher};
use store::{Policy, Store};
use testkit::ManualClock;

use crate::booking::policy;

pub use engine::Site;

pub struct Engine {
    pub lane: Lane,
    pub watcher: Watcher,
    pub conductor: Conductor,
    pub reconciler: Reconciler,
}

const SETTINGS: LaneSettings = LaneSettings {
    resend_after: Duration::from_secs(1),
    ..LaneSettings::with_fees(FeePolicy {
        tip_floor: 1_000_000_000,
        max_fee_ceiling: 500_000_000_000,
    })
};

impl Engine {
    pub(super) async fn start(
        db_url: &str,
        rpc: &str,
        clock: Arc<ManualClock>,
        site: &Site,
        (key, policy): (&str, Policy),
    ) -> Self {
        let store = Store::connect(db_url, 6, clock, policy).await.unwrap();
        let client = ReadClient::connect(rpc).unwrap();
        let signer: Signer = key.parse().unwrap();
        Self {
            lane: Lane::new(store.clone(), client.clone(), signer, SETTINGS, site.clone()),
            watcher: Watcher::new(store.clone(), client.clone(), site.clone()),
            conductor: Conductor::new(store.clone()),
            reconciler: Reconciler::new(store, client, site.clone()),
        }
    }

    /// The same as the worker runs it, all loops at once; the reconciler by itself only every hour.
    pub(super) async fn everything(
        db_url: &str,
        rpc: &str,
        clock: Arc<ManualClock>,
        site: &Site,
    ) -> engine::Engine {
        engine::Engine {
            store: Store::connect(db_url, 6, clock, policy()).await.unwrap(),
            client: ReadClient::connect(rpc).unwrap(),
            signers: vec![testkit::DEV_KEYS[1].parse().unwrap()],
            site: site.clone(),
            settings: EngineSettings {
                lane_poll: Duration::from_millis(50),
                poll: Duration::from_millis(20),
                reconcile: Duration::from_secs(3_600),
                oracle: Duration::from_secs(3_600),
                lane: SETTINGS,
            },
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
