//! The service as the agent sees it, with faults to order. Readings are judged by the same rules as in
//! the real one, and the shape of every request strictly.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use alloy::primitives::{Address, B256};
use axum::http::StatusCode;
use domain::{
    id::{CommandId, MachineId, RentalId, TestId},
    machine::{Check, Measured, Requirement},
    metering::{Interval, ReadingHead},
    time::{Clock, UnixMillis, UnixSeconds},
};
use serde_json::Value;

mod readings;
mod routes;

pub(super) const CHAIN: u64 = 31337;
pub(super) const ENROLL_TOKEN: &str = "one-time-token";
pub(super) const ESCROW_ID: B256 = B256::repeat_byte(7);
/// Nothing that is waited for takes longer on a machine that is not stuck; what nobody rings for comes later.
pub(super) const LIMIT: Duration = Duration::from_secs(40);

/// Four seconds pass in one, so that tests are short; can be moved on.
pub(super) struct FastClock {
    began: Instant,
    moved_ms: Mutex<u64>,
}

impl FastClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), moved_ms: Mutex::new(0) })
    }

    pub(super) fn skip(&self, seconds: u64) {
        *self.moved_ms.lock().unwrap() += seconds * 1000;
    }
}

impl Clock for FastClock {
    fn now(&self) -> UnixMillis {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap() * 4;
        UnixMillis(1_700_000_000_000 + passed + *self.moved_ms.lock().unwrap())
    }
}

/// What the service knows, and which faults it has.
#[derive(Default)]
pub(super) struct World {
    pub(super) agent: Option<Address>,
    pub(super) machine: Option<MachineId>,
    nonce: Option<String>,
    pub(super) token: Option<String>,
    pub(super) enrolments: u32,
    pub(super) sign_ins: u32,
    /// Open commands: id, kind, rental.
    pub(super) open: Vec<(CommandId, &'static str, RentalId)>,
    /// The keys that orders name.
    pub(super) ssh_keys: Vec<&'static str>,
    /// What else orders hold.
    pub(super) ordered: serde_json::Map<String, Value>,
    /// Whether the machine runs templates; an older service does not ask.
    pub(super) templates: Option<bool>,
    /// So often one answers that does not know of it.
    pub(super) refuse_templates: u32,
    /// How often it was said.
    pub(super) templates_said: u32,
    /// Every acknowledgement that came, in order.
    pub(super) acks: Vec<(CommandId, Value)>,
    /// Acknowledgements are not heard.
    pub(super) lose_acks: u32,
    /// Acknowledgements are heard, but the answer is a fault.
    pub(super) lose_answers: u32,
    pub(super) readies: u32,
    /// Where rentals are said to be reached, and how often one was said to be ready before.
    pub(super) told: Vec<(u32, RentalId, Value)>,
    /// It is of a version that cannot be told that.
    pub(super) knows_no_reach: bool,
    pub(super) started_at: Option<UnixSeconds>,
    pub(super) stopped_at: Option<UnixSeconds>,
    pub(super) head: Option<ReadingHead>,
    pub(super) accepted: Vec<(Interval, Value)>,
    pub(super) repeated: u32,
    /// Readings are accepted, but the answer is a fault.
    pub(super) lose_readings: u32,
    pub(super) refusals: Vec<&'static str>,
    /// Orders can be waited for; an older service does not know that.
    pub(super) rings: bool,
    /// How often that was asked.
    pub(super) waits: u32,
    /// How often that was asked before a heartbeat had come through.
    pub(super) early_waits: u32,
    /// So many heartbeats get a fault for an answer.
    pub(super) lose_beats: u32,
    /// When the next heartbeat is wanted, in seconds; 1 if left out.
    pub(super) next_in_s: Option<u32>,
    /// The running lists of the heartbeats.
    pub(super) running: Vec<Vec<RentalId>>,
    /// What the agent said of its machine, in order.
    pub(super) measured: Vec<Measured>,
    /// An open self-test.
    pub(super) self_test: Option<(TestId, Vec<Requirement>)>,
    /// Answers to self-tests are refused.
    pub(super) refuse_tests: bool,
    pub(super) refused_tests: u32,
    /// Its answers, and whether they are enough.
    pub(super) tested: Vec<(bool, Vec<Check>)>,
    /// Answers that come instead of the right ones, whatever is asked.
    pub(super) faults: VecDeque<StatusCode>,
}

impl World {
    pub(super) fn order(&mut self, kind: &'static str, rental: RentalId) -> CommandId {
        let id = super::command_id();
        self.open.push((id, kind, rental));
        id
    }

    pub(super) fn covered(&self) -> Vec<Interval> {
        let mut stretches: Vec<Interval> = Vec::new();
        for (span, _) in &self.accepted {
            match stretches.last_mut() {
                Some(last) if last.to == span.from => last.to = span.to,
                _ => stretches.push(*span),
            }
        }
        stretches
    }
}

/// A running fake. Its clock is an hour ahead of the agent's.
#[derive(Clone)]
pub(super) struct Fake {
    world: Arc<Mutex<World>>,
    clock: Arc<FastClock>,
    pub(super) url: crate::Url,
}

impl Fake {
    pub(super) async fn start(clock: Arc<FastClock>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let fake = Self { world: Arc::default(), clock, url };
        let router = routes::router(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(super) fn now(&self) -> UnixSeconds {
        UnixSeconds(self.clock.now().seconds().get() + 3600)
    }

    /// Waits until the world is as it should be.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&World) -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            if holds(&self.world()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let world = self.world();
        panic!(
            "{what}; acks {:?}, refusals {:?}, covered {:?}",
            world.acks,
            world.refusals,
            world.covered()
        );
    }
}
