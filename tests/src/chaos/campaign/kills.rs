//! Processes killed at random instants and at named places; two workers at once.

use std::{path::Path, time::Duration};

use rustix::process::Signal;

use super::{Outcome, Size, Stage};
use crate::chaos::{site::NEXT_OPERATOR, world::Plan};

/// Where the worker can be told to stop, to be killed there (`WEIR_PAUSE_AT`).
const PLACES: &[&str] = &["lock.signed", "start.signed", "close.signed", "cancel.signed"];

/// `kill -9` of API and worker at random instants, then of the worker at each named place.
pub async fn random(weir: &Path, size: &Size) -> Outcome {
    let mut stage = Stage::open(weir, "kill", size, Plan::default()).await;
    stage.warm(size.in_flight.min(size.rentals) / 2 + 1).await;
    for _ in 0..size.kills {
        stage.pause(Duration::from_millis(2_500)).await;
        strike(&mut stage).await;
        // one in four is followed by the next before it is over
        if stage.random.below(4) > 0 {
            stage.steady().await;
        }
    }
    let what = format!("{} x kill -9 of API or worker at random instants", size.kills);
    stage.close(&what).await
}

/// One kill: of the worker, of the API, or of both.
pub async fn strike(stage: &mut Stage) {
    let world = std::sync::Arc::clone(&stage.world);
    stage.faults += 1;
    world.strike();
    let who = stage.random.below(10);
    if who < 7 {
        world.worker.kill().await;
    }
    if who >= 5 {
        world.api.kill().await;
    }
    stage.pause(Duration::from_millis(800)).await;
    if who < 7 {
        world.worker.start();
    }
    if who >= 5 {
        world.api.start();
    }
}

/// `kill -9` of the worker at each named place, between what is written and what is sent.
pub async fn places(weir: &Path, size: &Size) -> Outcome {
    let mut stage = Stage::open(weir, "places", size, Plan::default()).await;
    stage.warm(2).await;
    let mut reached = Vec::new();
    for place in PLACES {
        if at(&mut stage, place).await {
            reached.push(*place);
        }
    }
    if reached.len() < PLACES.len() {
        stage.failures.push(format!("only {reached:?} of {PLACES:?} were reached"));
    }
    stage.close(&format!("kill -9 of the worker at {}", reached.join(", "))).await
}

/// Starts the worker so that it stops at the place, waits until it has, and kills it there.
async fn at(stage: &mut Stage, place: &str) -> bool {
    let world = std::sync::Arc::clone(&stage.world);
    world.strike();
    world.worker.kill().await;
    let before = world.worker.logged().matches("paused here").count();
    world.worker.start_with(&[("WEIR_PAUSE_AT", place)]);
    let mut reached = false;
    // a rental that is called off comes once in a while
    for _ in 0..900 {
        if world.worker.logged().matches("paused here").count() > before {
            reached = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stage.faults += 1;
    world.worker.kill().await;
    world.worker.start();
    stage.steady().await;
    reached
}

/// Two workers with one key; one is frozen for longer than any lease and woken, in turns.
pub async fn two_workers(weir: &Path, size: &Size) -> Outcome {
    let mut stage = Stage::open(weir, "workers", size, Plan::default()).await;
    let world = std::sync::Arc::clone(&stage.world);
    world.second.start();
    stage.warm(2).await;
    let rounds = size.kills.clamp(2, 12);
    for round in 0..rounds {
        let (frozen, other) = if round % 2 == 0 {
            (&world.worker, &world.second)
        } else {
            (&world.second, &world.worker)
        };
        stage.pause(Duration::from_millis(1_500)).await;
        stage.faults += 1;
        frozen.signal(Signal::STOP);
        if round % 3 == 2 {
            // the one that is awake dies too: nobody works for a moment
            world.strike();
            other.kill().await;
            stage.pause(Duration::from_millis(500)).await;
            other.start();
        }
        // leases are 30 s at most; every second round is longer
        let frozen_for = if round % 2 == 0 { 35 } else { 8 };
        tokio::time::sleep(Duration::from_secs(frozen_for)).await;
        frozen.signal(Signal::CONT);
        stage.steady().await;
    }
    world.second.kill().await;
    let what = "two workers with one key, one frozen (SIGSTOP) for 8 or 35 s and woken, in turns";
    stage.close(what).await
}

/// The operator's key is changed for another of the contract's operators and back, live: the worker with the new key
/// starts, then the one with the old key is told to stop.
pub async fn rotation(weir: &Path, size: &Size) -> Outcome {
    let mut stage = Stage::open(weir, "rotate", size, Plan::default()).await;
    let world = std::sync::Arc::clone(&stage.world);
    stage.warm(2).await;
    let rounds = size.kills.clamp(2, 8);
    for round in 0..rounds {
        stage.pause(Duration::from_secs(6)).await;
        stage.faults += 1;
        if round % 2 == 0 {
            world.second.start_with(&[("WEIR_OPERATOR_KEY", NEXT_OPERATOR)]);
            stage.pause(Duration::from_secs(3)).await;
            world.worker.stop().await;
        } else {
            world.worker.start();
            stage.pause(Duration::from_secs(3)).await;
            world.second.stop().await;
        }
        stage.steady().await;
    }
    if rounds % 2 == 1 {
        world.worker.start();
    }
    stage
        .close(
            "the operator's key changed live, by a second worker and the orderly end of the first",
        )
        .await
}
