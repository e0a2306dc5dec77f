//! Plays a seed: a number of steps with faults, then the way to rest without any.

use std::{collections::BTreeMap, future::Future};

use super::{
    faults::{Fault, Faults},
    invariants,
    stepper::Stepper,
    trace::Trace,
    world::{Tick, World},
};
use engine::EngineError;

/// Rounds to rest at most.
const ROUNDS: u64 = 160;
/// A wait comes after so many rounds.
const CYCLE: usize = 5;
/// The time to dispute, and the arbiter's, lie between waits after which a call is tried again in its window.
const WAITS: &[u64] = &[
    2, 2, 60, 120, 240, 240, 240, 240, 240, 90_000, 60, 120, 240, 240, 90_000, 60, 120, 240,
    700_000, 60, 120, 240, 700_000, 60, 120, 240,
];
/// Rentals of one seed at most.
const RENTALS: usize = 8;
/// A machine that is good speaks so often.
const LISTENING: u64 = 40;
/// A tick is held at one of so many seams.
const SEAMS: u64 = 14;

/// What became of a seed.
#[derive(Debug, Default)]
pub struct Outcome {
    pub seed: u64,
    pub steps: u64,
    pub rentals: usize,
    /// Releases of ours that the chain has done.
    pub releases: u64,
    /// How many rentals ended in which state.
    pub ends: BTreeMap<String, u64>,
    pub struck: BTreeMap<Fault, u64>,
    pub simulated_seconds: u64,
    /// The step at which something did not hold, and what.
    pub failure: Option<(u64, String)>,
}

/// Plays one seed with the given faults, on a database of its own.
pub async fn play_with(seed: u64, steps: u64, faults: Faults, trace: Trace) -> Outcome {
    let mut world = World::new(seed, faults, trace.clone()).await;
    let began = world.time;
    let mut outcome = Outcome { seed, ..Outcome::default() };
    let failure = run(&mut world, steps, &mut outcome.steps).await.err();
    if let Some(what) = &failure {
        trace.say(format!("FAILED at step {}: {what}", outcome.steps));
    }
    outcome.failure = failure.map(|what| (outcome.steps, what));
    outcome.rentals = world.rentals.len();
    outcome.releases = invariants::releases(&world).await;
    for at in 0..world.rentals.len() {
        let state = world.rental(at).await.progress.state.as_str().to_owned();
        *outcome.ends.entry(state).or_default() += 1;
    }
    outcome.struck = world.chain.lock().unwrap().faults.struck.clone();
    outcome.simulated_seconds = world.time - began;
    outcome
}

async fn run(world: &mut World, steps: u64, done: &mut u64) -> Result<(), String> {
    while *done < steps {
        *done += 1;
        let seconds = world.below(4);
        world.pass(seconds);
        if world.chance(60) {
            world.mine();
        }
        let height = world.chain.lock().unwrap().head().number;
        world.trace.say(format!("{done} at {} block {height}", world.time));
        step(world).await;
        invariants::always(world).await?;
    }
    rest(world, done).await
}

async fn step(world: &mut World) {
    match world.below(100) {
        0..16 => tick(world, Tick::Lane).await,
        16..38 => tick(world, Tick::Watcher).await,
        38..48 => tick(world, Tick::Conductor).await,
        48..56 if world.rentals.len() < RENTALS => world.book().await,
        56..80 => {
            for at in 0..world.rentals.len() {
                if world.chance(35) {
                    world.act(at).await;
                }
            }
        }
        80..84 => run_on(world).await,
        84..88 => reorganise(world),
        88..90 => {
            let mut chain = world.chain.lock().unwrap();
            chain.finality_stalled = !chain.finality_stalled;
            chain.faults.note(Fault::FinalityStalled);
            world.trace.say(format!("  finality stalls: {}", chain.finality_stalled));
        }
        90..92 => {
            let fee = [30, 30, 60, 150, 700][world.pick(5)];
            let mut chain = world.chain.lock().unwrap();
            chain.base_fee = fee * 1_000_000_000;
            chain.faults.note(Fault::FeeSpike);
            world.trace.say(format!("  the base fee is {fee} gwei"));
        }
        92..94 => {
            let worker = world.pick(world.workers.len());
            world.restart(worker);
            note(world, Fault::Restart);
            world.trace.say(format!("  worker {worker} is started anew"));
        }
        94..96 => {
            let seconds = 20 + world.below(400);
            note(world, Fault::Outage);
            let heard = world.chance(60);
            let who = if heard { "no worker" } else { "nobody" };
            world.trace.say(format!("  {who} works for {seconds} s"));
            stand_still(world, heard, seconds).await;
            world.mine();
        }
        96..98 => {
            world.drift = i64::try_from(world.below(25)).unwrap() - 12;
            world.pass(0);
            note(world, Fault::ClockDrift);
            world.trace.say(format!("  our clock is {} s ahead", world.drift));
        }
        98..99 => {
            let renter = world.pick(world.renters.len());
            let address = world.renters[renter].address();
            let mut chain = world.chain.lock().unwrap();
            chain.faults.note(Fault::WalletRefuses);
            chain.refuses(address);
            world.trace.say(format!("  renter{renter} takes no money that is pushed"));
        }
        _ => {}
    }
}

/// Time without the engine; the machines are heard meanwhile if the API is there.
async fn stand_still(world: &mut World, heard: bool, mut left: u64) {
    while left > 0 {
        let seconds = if heard { left.min(LISTENING) } else { left };
        world.pass(seconds);
        left -= seconds;
        for at in 0..world.rentals.len() {
            if heard {
                world.go_on(at).await;
            }
        }
    }
}

/// An ordinary while: blocks come, the engine works, and machines that are not silent tell that they are good.
async fn run_on(world: &mut World) {
    let slices = 6 + world.below(18);
    world.trace.say(format!("  machines run on for {slices} slices"));
    for _ in 0..slices {
        let seconds = 3 + world.below(5);
        world.pass(seconds);
        world.mine();
        for at in 0..world.rentals.len() {
            world.go_on(at).await;
        }
        let worker = world.pick(world.workers.len());
        for tick in [Tick::Conductor, Tick::Lane, Tick::Watcher] {
            say(world, worker, tick, tick.of(world.workers[worker].clone()).await);
        }
    }
}

fn note(world: &World, fault: Fault) {
    world.chain.lock().unwrap().faults.note(fault);
}

fn reorganise(world: &mut World) {
    let depth = match world.below(10) {
        0..6 => 1 + world.below(3),
        6..9 => 3 + world.below(12),
        _ => 16 + world.below(49),
    };
    let mut chain = world.chain.lock().unwrap();
    let depth = chain.reorg(depth);
    if depth > 0 {
        chain.faults.note(Fault::Reorg);
    }
    world.time = world.time.max(chain.head().timestamp);
    world.trace.say(format!("  {depth} blocks are replaced, {} wait", chain.waiting()));
}

/// One tick of one worker: whole, or dropped half way, or held half way while another one ticks.
async fn tick(world: &mut World, tick: Tick) {
    let worker = world.pick(world.workers.len());
    let seams = usize::try_from(world.below(SEAMS)).unwrap();
    let how = world.below(100);
    if how >= 30 {
        return say(world, worker, tick, tick.of(world.workers[worker].clone()).await);
    }
    let mut stepper = Stepper::new(tick.of(world.workers[worker].clone()), seams);
    if let Some(done) = stepper.go().await {
        return say(world, worker, tick, done);
    }
    let (word, place) = (tick.word(), stepper.place());
    if how < 14 {
        drop(stepper);
        note(world, Fault::Crash);
        world.trace.say(format!("  {word} of worker {worker} is killed at {place} ({seams})"));
        if how < 7 {
            world.restart(worker);
        }
        return;
    }
    note(world, Fault::Interleaving);
    world.trace.say(format!("  {word} of worker {worker} is held at {place} ({seams})"));
    let other = world.workers.len() - 1 - worker;
    let between = if how < 24 { tick } else { Tick::Watcher };
    say(world, other, between, between.of(world.workers[other].clone()).await);
    if how.is_multiple_of(3) {
        let seconds = world.below(40);
        world.pass(seconds);
        world.mine();
    }
    if how.is_multiple_of(5) {
        reorganise(world);
    }
    let done = stepper.finish().await;
    say(world, worker, tick, done);
}

fn say(world: &World, worker: usize, tick: Tick, done: Result<String, EngineError>) {
    let said = match done {
        Ok(said) => said,
        Err(error) => format!("failed: {}", kind(&error)),
    };
    world.trace.say(format!("  {} of worker {worker}: {said}", tick.word()));
}

/// Words without ids.
fn kind(error: &EngineError) -> String {
    match error {
        EngineError::Store(error) => {
            let text = format!("{error:?}");
            format!("store {}", text.split(['(', ' ', '{']).next().unwrap_or_default())
        }
        EngineError::Chain(error) => format!("chain, {error}"),
        EngineError::Signer(error) => error.to_string(),
        EngineError::Parked(why) | EngineError::WrongChain(why) | EngineError::Broken(why) => {
            why.clone()
        }
    }
}

/// Nothing goes wrong any more, the parties are gone, and time goes on: everything must end.
async fn rest(world: &mut World, done: &mut u64) -> Result<(), String> {
    world.trace.say("the faults stop");
    {
        let mut chain = world.chain.lock().unwrap();
        chain.faults.stop();
        chain.finality_stalled = false;
        chain.base_fee = 30_000_000_000;
        chain.finality = 2;
    }
    world.drift = 0;
    let mut last = String::new();
    for round in 0..ROUNDS {
        *done += 1;
        // ordinary blocks, and after some of them a wait
        let round_at = usize::try_from(round).unwrap();
        let wait = if round_at.is_multiple_of(CYCLE) { WAITS.get(round_at / CYCLE) } else { None };
        world.pass(wait.copied().unwrap_or(2));
        world.mine();
        let worker = round_at % world.workers.len();
        for tick in [Tick::Lane, Tick::Watcher, Tick::Conductor] {
            if let Err(error) = tick.of(world.workers[worker].clone()).await {
                world.trace.say(format!("  {} fails at rest: {}", tick.word(), kind(&error)));
            }
        }
        invariants::always(world).await?;
        match invariants::at_rest(world).await {
            Ok(()) => {
                world.trace.say(format!("at rest after {round} rounds at {}", world.time));
                return Ok(());
            }
            Err(what) => last = what,
        }
    }
    for line in invariants::open(world).await {
        world.trace.say(line);
    }
    Err(format!("no rest: {last}"))
}

/// Runs something to its end on a task of its own, so that a panic is an outcome like any other.
pub async fn caught<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, String> {
    tokio::spawn(work).await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic".to_owned()),
        Err(error) => error.to_string(),
    })
}
