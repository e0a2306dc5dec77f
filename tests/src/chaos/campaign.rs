//! A campaign: a world, parties that rent in it, faults, a verdict.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    load::Load,
    record::Answers,
    verdict::{self, Verdict},
    world::{Plan, World},
};
use crate::random::Random;

pub mod chain;
pub mod kills;
pub mod servers;

/// How large.
#[derive(Clone, Debug)]
pub struct Size {
    pub seed: u64,
    pub rentals: usize,
    pub in_flight: usize,
    pub kills: usize,
}

/// What came of a campaign.
#[derive(Debug)]
pub struct Outcome {
    pub name: &'static str,
    pub what: String,
    pub faults: usize,
    pub rentals: usize,
    pub verdict: Verdict,
    pub answers: Answers,
    /// Blocks from the end of each fault until the watcher had read a newer block and a rental had gone on.
    pub recovery: Vec<u64>,
    pub took: Duration,
}

impl Outcome {
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdict.failures.is_empty()
    }
}

/// What a campaign's faults have at hand.
pub struct Stage {
    pub world: Arc<World>,
    pub load: Load,
    pub random: Random,
    pub size: Size,
    pub faults: usize,
    pub recovery: Vec<u64>,
    pub failures: Vec<String>,
    name: &'static str,
    since: Instant,
}

impl Stage {
    /// A world with its parties at work.
    pub async fn open(weir: &Path, name: &'static str, size: &Size, plan: Plan) -> Self {
        let plan = Plan {
            seed: size.seed,
            renters: size.in_flight,
            // a few less than renters want, so that they compete
            machines: size.in_flight - size.in_flight / 8,
            ..plan
        };
        let since = Instant::now();
        let world = World::start(weir, plan).await;
        let load = Load::start(&world, size.rentals).await;
        Self {
            world,
            load,
            random: Random(size.seed),
            size: size.clone(),
            faults: 0,
            recovery: Vec::new(),
            failures: Vec::new(),
            name,
            since,
        }
    }

    /// Faults are over: the rentals end, and everything is counted.
    pub async fn close(mut self, what: &str) -> Outcome {
        self.world.proxy.behave();
        let finished = self.load.finish().await;
        let mut verdict = verdict::judge(&self.world, &self.load.record).await;
        verdict.failures.extend(finished.err());
        verdict.failures.append(&mut self.failures);
        let pages = self.load.record.pages();
        let (rentals, answers) = (pages.rentals.len(), pages.answers);
        drop(pages);
        let ended = self.world.ended.load(Ordering::SeqCst);
        let by_themselves = match ended {
            0 => String::new(),
            ended => format!("; {ended} x a process ended by itself and was started again"),
        };
        if !verdict.failures.is_empty() {
            let kept = self.world.keep_logs(self.name);
            eprintln!("chaos: {}: logs are in {}", self.name, kept.display());
        }
        Outcome {
            name: self.name,
            what: format!("{what}{by_themselves}"),
            faults: self.faults,
            rentals,
            verdict,
            answers,
            recovery: self.recovery,
            took: self.since.elapsed(),
        }
    }

    /// Waits until something of so many rentals was on the chain, so that faults hit rentals.
    pub async fn warm(&self, rentals: usize) {
        for _ in 0..1_200 {
            if self.load.booked() >= rentals {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("nobody rents");
    }

    pub async fn pause(&mut self, up_to: Duration) {
        let most = u64::try_from(up_to.as_millis()).unwrap();
        tokio::time::sleep(Duration::from_millis(self.random.below(most))).await;
    }

    /// The fault has ended at this moment: waits until all is steady again, and notes how many blocks that took.
    pub async fn steady(&mut self) {
        let head = self.world.rpc.head().await;
        let events = "SELECT coalesce(max(id), 0) FROM rental_events";
        let live = "SELECT count(*) FROM rentals WHERE state NOT IN \
                    ('settled', 'resolved', 'refunded', 'expired', 'cancelled', 'contested')";
        let before = self.world.number(events).await;
        for _ in 0..3_000 {
            let read = self.world.number("SELECT coalesce(max(number), 0) FROM chain_blocks").await;
            let moved =
                self.world.number(events).await > before || self.world.number(live).await == 0;
            if read > i64::try_from(head).unwrap() && moved {
                self.world.ready().await;
                self.recovery.push(self.world.rpc.head().await - head);
                return;
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        self.failures.push(format!("not steady within 120 s after fault {}", self.faults));
    }
}

/// A little of everything in one world, short enough for every test run.
pub async fn slice(weir: &Path) -> Outcome {
    let size = Size { seed: 7, rentals: 8, in_flight: 5, kills: 4 };
    let mut stage = Stage::open(weir, "slice", &size, Plan { epoch: 2, ..Plan::default() }).await;
    stage.warm(3).await;
    for _ in 0..size.kills {
        kills::strike(&mut stage).await;
        stage.steady().await;
    }
    for (depth, comes_back) in [(2, true), (3, false)] {
        stage.faults += 1;
        chain::reorg(&stage.world, depth, comes_back).await;
        stage.steady().await;
    }
    chain::spell(&mut stage, Duration::from_secs(6)).await;
    servers::kill(&mut stage).await;
    stage.close("kills, reorganisations, a lying node, PostgreSQL killed").await
}
