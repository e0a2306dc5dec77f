//! Drives the loops until it is told to stop. A loop whose tick fails waits longer each time, up to a
//! limit, and says so once per change; it never gives up.

use std::{
    future::Future,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chain::{ReadClient, Signer};
use futures_util::future::join_all;
use store::Store;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Assessor, Conductor, EngineError, Lane, LaneSettings, Oracle, Reconciler, Site, Surveyor,
    Watcher, assess::rest, pace::Pace,
};

/// Pauses between ticks.
#[derive(Clone, Copy, Debug)]
pub struct EngineSettings {
    /// Between two looks at the chain and the timers.
    pub poll: Duration,
    /// Between two looks of a lane at what is queued.
    pub lane_poll: Duration,
    /// Between two reconciliations, at most: one follows every new final block.
    pub reconcile: Duration,
    /// Between two looks at the oracles' prices.
    pub oracle: Duration,
    /// How the lane sends.
    pub lane: LaneSettings,
}

/// What the loops work with.
pub struct Engine {
    /// The database.
    pub store: Store,
    /// The chain.
    pub client: ReadClient,
    /// The keys that pay for gas and may start and close: a lane each.
    pub signers: Vec<Signer>,
    /// The contract.
    pub site: Site,
    /// Pauses and fees.
    pub settings: EngineSettings,
}

/// The longest wait after the chain's RPC or the database failed: both are well again at once, when they are.
const OUTSIDE_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Between two looks whether a new bucket of prices has begun, or machines wait to be assessed.
const FIGURES: Duration = Duration::from_secs(5);

/// Runs all loops until `stop`; each finishes the tick it is in, and the keys are handed over.
pub async fn run(engine: Engine, stop: CancellationToken) {
    let Engine { store, client, signers, site, settings } = engine;
    let lanes: Vec<Lane> = signers
        .into_iter()
        .map(|signer| Lane::new(store.clone(), client.clone(), signer, settings.lane, site.clone()))
        .collect();
    let watcher = Watcher::new(store.clone(), client.clone(), site.clone());
    let conductor = Conductor::new(store.clone());
    let (surveyor, assessor) = (Surveyor::new(store.clone()), Assessor::new(store.clone()));
    let oracle = Oracle::new(store.clone(), client.clone());
    let reconciler = Reconciler::new(store, client, site);
    // A new final block is compared at once; the pause is for when there is none.
    let (finalised, never) = (Notify::new(), Notify::new());
    let pace = Mutex::new(Pace::default());
    tokio::join!(
        join_all(lanes.iter().map(|lane| send_for(lane, settings.lane_poll, (&stop, &never)))),
        keep_going("watcher", settings.poll, (&stop, &never), || async {
            let done = watcher.tick().await;
            if watcher.take_news() {
                finalised.notify_one();
            }
            let (watched, now) = (done?, Instant::now());
            let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.arrived(watched.blocks, now);
            let wait = pace.wait(settings.poll, now);
            Ok(Some(if watched.more { Duration::ZERO } else { wait }))
        }),
        keep_going("conductor", settings.poll, (&stop, &never), || async {
            conductor.tick().await.map(|_| None)
        }),
        keep_going("oracle", settings.oracle, (&stop, &never), || async {
            oracle.tick().await.map(|_| None)
        }),
        keep_going("reconciler", settings.reconcile, (&stop, &finalised), || async {
            reconciler.tick().await.map(|_| None)
        }),
        keep_going("surveyor", FIGURES, (&stop, &never), || async {
            surveyor.tick().await.map(|_| None)
        }),
        keep_going("assessor", FIGURES, (&stop, &never), || async {
            let began = Instant::now();
            Ok(rest(assessor.tick().await?, began.elapsed()))
        }),
    );
}

async fn send_for(lane: &Lane, pause: Duration, (stop, woken): (&CancellationToken, &Notify)) {
    let known = AtomicBool::new(false);
    keep_going("lane", pause, (stop, woken), || async {
        if !known.load(Ordering::Relaxed) {
            lane.take_over().await?;
            known.store(true, Ordering::Relaxed);
        }
        lane.tick().await.map(|_| None)
    })
    .await;
    if let Err(error) = lane.hand_over().await {
        tracing::warn!(signer = %lane.address(), %error, "the key is not handed over; its lease ends by itself");
    }
}

/// Ticks with this pause in between, or the one that the tick asks for, sooner if it is woken, until it is told to stop.
pub(crate) async fn keep_going<F, T>(
    name: &'static str,
    pause: Duration,
    (stop, woken): (&CancellationToken, &Notify),
    tick: T,
) where
    T: Fn() -> F,
    F: Future<Output = Result<Option<Duration>, EngineError>>,
{
    let mut failures = 0_u32;
    while !stop.is_cancelled() {
        let wait = match tick().await {
            Ok(wait) => {
                if failures > 0 {
                    tracing::info!(engine.r#loop = name, "works again");
                }
                failures = 0;
                wait.unwrap_or(pause)
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures == 1 {
                    tracing::warn!(engine.r#loop = name, %error, "tick failed; tried again");
                }
                metrics::counter!("weir_tick_failures_total", "loop" => name).increment(1);
                // An RPC that fails now and then is asked again soon: the next answer may be good. The fleet has
                // already waited between its tries.
                let (doublings, longest) = match error {
                    EngineError::Chain(_) => (failures.saturating_sub(1), OUTSIDE_WAIT.max(pause)),
                    EngineError::Store(_) => (failures, OUTSIDE_WAIT.max(pause)),
                    EngineError::Signer(_)
                    | EngineError::Parked(_)
                    | EngineError::WrongChain(_)
                    | EngineError::Broken(_) => (failures, LONGEST_WAIT),
                };
                pause.saturating_mul(1_u32 << doublings.min(6)).min(longest)
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = woken.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}
