//! PostgreSQL killed and started again, without a connection to spare, and without room on its disk.

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{Connection as _, PgConnection};

use super::{Outcome, Size, Stage};
use crate::chaos::{disk::Disk, world::Plan};

/// `kill -9` of the postmaster under load; then all of its connections taken for a while.
pub async fn database(weir: &Path, size: &Size, kills: usize) -> Outcome {
    let plan = Plan { connections: 60, ..Plan::default() };
    let mut stage = Stage::open(weir, "database", size, plan).await;
    stage.warm(2).await;
    for _ in 0..kills {
        stage.pause(Duration::from_millis(2_500)).await;
        kill(&mut stage).await;
    }
    exhaust(&mut stage).await;
    let what = format!(
        "{kills} x kill -9 of PostgreSQL under load; every connection taken for 12 s, with API and worker started \
         meanwhile"
    );
    stage.close(&what).await
}

/// One `kill -9` of the postmaster, and its start a moment later.
pub async fn kill(stage: &mut Stage) {
    let world = Arc::clone(&stage.world);
    stage.faults += 1;
    world.strike();
    world.kill_database().await;
    stage.pause(Duration::from_millis(1_500)).await;
    world.start_database().await;
    world.strike();
    stage.steady().await;
}

/// Takes every connection that is left and every one that comes free, and starts API and worker anew meanwhile, so that
/// they have none.
async fn exhaust(stage: &mut Stage) {
    let world = Arc::clone(&stage.world);
    let options = world.db.connect_options();
    stage.faults += 1;
    world.strike();
    world.api.kill().await;
    world.worker.kill().await;
    let mut taken = Vec::new();
    for _ in 0..120 {
        match PgConnection::connect_with(&options).await {
            Ok(connection) => taken.push(connection),
            Err(_) => break,
        }
    }
    world.api.start();
    world.worker.start();
    // who gives up is started again by its supervisor
    tokio::time::sleep(Duration::from_secs(12)).await;
    for connection in taken {
        connection.close().await.unwrap();
    }
    world.strike();
    stage.steady().await;
}

/// PostgreSQL killed at once, and its standby promoted and put in its place, again and again. The standby is synchronous:
/// what was acknowledged is there.
pub async fn standby(weir: &Path, size: &Size, times: usize) -> Outcome {
    let plan = Plan { moves: true, ..Plan::default() };
    let mut stage = Stage::open(weir, "standby", size, plan).await;
    stage.warm(2).await;
    let world = Arc::clone(&stage.world);
    for _ in 0..times {
        stage.faults += 1;
        let load = Duration::from_millis(1_000 + stage.random.below(4_000));
        world.fail_over(load).await;
        stage.steady().await;
    }
    let what = format!(
        "{times} x kill -9 of PostgreSQL under load, its synchronous standby promoted, and everybody led to that"
    );
    stage.close(&what).await
}

/// MiB of the disk that is filled: a new cluster takes some 60, and the ledger of a campaign a few.
const DISK: u64 = 320;

/// The database's disk full to the last byte, again and again, for 4 to 16 s. `None` where this process may not mount a
/// disk for it.
pub async fn full_disk(weir: &Path, size: &Size, times: usize) -> Option<Outcome> {
    let trial = tempfile::tempdir().unwrap();
    if let Err(error) = Disk::mount(trial.path().join("disk"), 1) {
        eprintln!("chaos: full: left out, for no disk can be mounted here: {error}");
        return None;
    }
    let plan = Plan { connections: 60, disk: Some(DISK), ..Plan::default() };
    let mut stage = Stage::open(weir, "full", size, plan).await;
    let world = Arc::clone(&stage.world);
    let disk = world.disk.as_ref().unwrap();
    stage.warm(2).await;
    let mut died = 0_usize;
    for _ in 0..times {
        stage.pause(Duration::from_millis(2_500)).await;
        stage.faults += 1;
        world.begin_fault();
        disk.fill();
        let seconds = 4 + stage.random.below(13);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        disk.free();
        // one that found no room for its log has ended, and is started by whoever freed the disk
        died += usize::from(world.revive_database().await);
        world.end_fault();
        stage.steady().await;
    }
    let what = format!(
        "the database's disk full {times} x for 4 to 16 s; PostgreSQL ended by that {died} x"
    );
    Some(stage.close(&what).await)
}
