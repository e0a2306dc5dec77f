//! A slice of the simulation's seeds; `make sim SEEDS=1..200` plays more.

// a test stops at the first surprise

use tests::sim::{self, faults::Faults, play::caught, trace::Trace};

const STEPS: u64 = 150;

async fn holds(seed: u64, faults: Faults, steps: u64) -> String {
    let trace = Trace::default();
    let played = caught(sim::play::play_with(seed, steps, faults, trace.clone())).await;
    let failed = match played {
        Ok(outcome) => outcome.failure.map(|(step, what)| format!("step {step}: {what}")),
        Err(panic) => Some(panic),
    };
    if let Some(what) = failed {
        panic!("seed {seed}: {what}\n{}", trace.tail(60));
    }
    trace.text()
}

#[tokio::test]
async fn without_faults_every_rental_comes_to_its_end() {
    holds(1, Faults::none(), STEPS).await;
}

#[tokio::test]
async fn a_seed_is_played_the_same_twice() {
    let one = holds(2, Faults::of_seed(2), 100).await;
    let two = holds(2, Faults::of_seed(2), 100).await;
    let differs = one.lines().zip(two.lines()).position(|(one, two)| one != two);
    assert_eq!(one, two, "from line {differs:?} on");
}

#[tokio::test]
async fn a_few_seeds_hold() {
    for seed in 11..=13 {
        holds(seed, Faults::of_seed(seed), 80).await;
    }
}
