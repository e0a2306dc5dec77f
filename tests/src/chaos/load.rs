//! Many rentals at once, until there were enough of them and the faults are over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::{primitives::B256, signers::local::PrivateKeySigner};
use serde_json::json;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    machine::Machine,
    record::Record,
    renter::{Course, Renter},
    site,
    world::World,
};
use crate::random::Random;

/// Rentals that have not ended this long after the faults are stuck.
const STUCK_AFTER: Duration = Duration::from_secs(400);

/// The parties at work.
pub struct Load {
    pub record: Arc<Record>,
    world: Arc<World>,
    renters: JoinSet<()>,
    machines: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    enough: Arc<AtomicBool>,
}

fn keys(random: &mut Random, count: usize) -> Vec<PrivateKeySigner> {
    let mut key = || PrivateKeySigner::from_bytes(&B256::from(random.bytes::<32>())).unwrap();
    (0..count).map(|_| key()).collect()
}

impl Load {
    /// Lists the machines, signs the renters in, and lets them rent: at least `rentals` times together, and on until
    /// [`Load::finish`].
    pub async fn start(world: &Arc<World>, rentals: usize) -> Self {
        let plan = world.plan.clone();
        let record = Arc::new(Record::default());
        let mut random = Random(plan.seed);
        let owners = keys(&mut random, plan.machines);
        let renters = keys(&mut random, plan.renters);
        site::give_coins(&world.rpc, &owners).await;
        site::give_coins(&world.rpc, &renters).await;
        site::give_tokens(&world.rpc, world.usdc, world.escrow, &renters).await;
        let stop = CancellationToken::new();
        let (mut machines, mut offers) = (Vec::new(), Vec::new());
        for (number, owner) in owners.iter().enumerate() {
            let key = keys(&mut random, 1).remove(0);
            let machine = Machine::list(world, &record, owner, key, number).await;
            offers.push(machine.offer.clone());
            machines.push(tokio::spawn(machine.run(stop.clone())));
        }
        world.rpc.call("anvil_mine", json!(["0x1"])).await;
        let offers = Arc::new(offers);
        let (enough, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for (number, key) in renters.into_iter().enumerate() {
            let renter = Renter::sign_in(world, &record, key).await;
            let mut random = Random(plan.seed ^ (u64::try_from(number).unwrap() << 32));
            let (offers, enough, begun) =
                (Arc::clone(&offers), Arc::clone(&enough), Arc::clone(&begun));
            tasks.spawn(async move {
                while begun.fetch_add(1, Ordering::SeqCst) < rentals
                    || !enough.load(Ordering::SeqCst)
                {
                    let course = Course::draw(&mut random);
                    renter.rent(&offers, course, &mut random).await;
                }
            });
        }
        Self { record, world: Arc::clone(world), renters: tasks, machines, stop, enough }
    }

    /// How many rentals are booked so far.
    pub fn booked(&self) -> usize {
        self.record.pages().rentals.len()
    }

    /// No more rentals than were asked for; waits for those that run. Returns what does not end.
    pub async fn finish(&mut self) -> Result<(), String> {
        self.enough.store(true, Ordering::SeqCst);
        let (mut since, mut done) = (Instant::now(), 0);
        loop {
            let next = tokio::time::timeout(Duration::from_secs(5), self.renters.join_next()).await;
            match next {
                Ok(None) => break,
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(error))) => return Err(format!("a renter gave up: {error}")),
                Err(_) => {
                    let now = self.ended();
                    if now > done {
                        (since, done) = (Instant::now(), now);
                    }
                    if since.elapsed() > STUCK_AFTER {
                        return Err(self.stuck());
                    }
                }
            }
        }
        self.stop.cancel();
        for machine in self.machines.drain(..) {
            machine.await.map_err(|error| format!("a machine gave up: {error}"))?;
        }
        Ok(())
    }

    fn ended(&self) -> usize {
        let pages = self.record.pages();
        let over = ["settled", "resolved", "refunded", "expired", "cancelled"];
        pages.rentals.values().filter(|note| over.contains(&&*note.state)).count()
    }

    fn stuck(&self) -> String {
        let pages = self.record.pages();
        let over = ["settled", "resolved", "refunded", "expired", "cancelled"];
        let stuck: Vec<String> = pages
            .rentals
            .iter()
            .filter(|(_, note)| !over.contains(&&*note.state))
            .map(|(id, note)| format!("{id} {}", note.state))
            .collect();
        format!("stuck at block epoch {}: {}", self.world.plan.epoch, stuck.join(", "))
    }
}
