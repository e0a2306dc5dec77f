//! Agents, workloads and machines that go away and come back.

use super::{super::fake::ESCROW_ID, *};
use crate::{
    order::Ordered,
    record::{Record, Stage},
    state::StateDir,
    workload::{Order, Workload},
};

#[tokio::test]
async fn the_next_start_adopts_the_workload_and_leaves_no_gap() {
    let scene = Scene::new().await;
    let agent = scene.start();
    scene.rent().await;
    let process = scene.process().unwrap();
    agent.stop().await;
    assert!(process.is_alive());
    // enrolled already: the token is not needed again
    let agent = scene.run(AgentConfig { enroll_token: None, ..scene.config() });
    scene.more_readings().await;
    assert_eq!(scene.process().as_ref(), Some(&process));
    assert_eq!(scene.starts(), 1);
    scene.end().await;
    agent.stop().await;
    assert!(!process.is_alive());
    let world = scene.fake.world();
    assert_eq!(world.enrolments, 1);
    assert_eq!(gaps(&world.covered()), 0, "{:?}", world.covered());
}

#[tokio::test]
async fn a_killed_agent_forgets_neither_workload_nor_readings() {
    let scene = Scene::new().await;
    let agent = scene.start();
    scene.rent().await;
    let process = scene.process().unwrap();
    // no farewell; the answer to the last reading is lost, too
    scene.fake.world().lose_readings = 1;
    scene.fake.until("not lost", |world| world.lose_readings == 0).await;
    agent.task.abort();
    assert!(agent.task.await.unwrap_err().is_cancelled());
    let agent = scene.start();
    scene.more_readings().await;
    assert_eq!(scene.process(), Some(process));
    scene.end().await;
    agent.stop().await;
    let world = scene.fake.world();
    assert_eq!(gaps(&world.covered()), 0, "{:?}", world.covered());
}

#[tokio::test]
async fn a_workload_whose_start_was_cut_off_is_not_started_twice() {
    let scene = Scene::new().await;
    let config = scene.config();
    let state = StateDir::open(scene.folder.path()).unwrap();
    let record = Record::new(scene.rental, ESCROW_ID);
    assert_eq!(record.stage, Stage::Starting);
    record.save(&state).unwrap();
    let folder = state.workload(scene.rental);
    let order = Order {
        command: &config.workload,
        folder: &folder,
        rental: scene.rental,
        gpus: &[],
        ordered: &Ordered::default(),
        ports: None,
        says_ready: false,
    };
    let started = Workload::start(&order).await.unwrap();
    drop(state);
    let agent = scene.run(config);
    scene.rent().await;
    assert_eq!(scene.process().as_ref(), Some(started.process()));
    scene.end().await;
    agent.stop().await;
    assert_eq!(scene.starts(), 1);
}

#[tokio::test]
async fn a_workload_that_dies_is_an_outage_and_is_restarted() {
    let scene = Scene::new().await;
    let agent = scene.start();
    scene.rent().await;
    let first = scene.process().unwrap();
    kill(&first);
    scene.fake.until("not back", |world| gaps(&world.covered()) == 1).await;
    let second = scene.process().unwrap();
    assert_ne!(first, second);
    assert_eq!(scene.fake.world().accepted.last().unwrap().1["pid"], second.pid);
    assert_eq!(scene.starts(), 2);
    scene.end().await;
    agent.stop().await;
}

#[tokio::test]
async fn time_that_the_machine_slept_is_not_claimed() {
    let scene = Scene::new().await;
    let agent = scene.start();
    scene.rent().await;
    scene.clock.skip(25);
    scene.fake.until("not back", |world| gaps(&world.covered()) == 1).await;
    let covered = scene.fake.world().covered();
    let [before, after] = covered.as_slice() else { panic!("{covered:?}") };
    assert!(after.from.saturating_since(before.to).get() >= 24, "{covered:?}");
    scene.end().await;
    agent.stop().await;
}

#[tokio::test]
async fn workloads_stop_with_the_agent_if_so_configured() {
    let scene = Scene::new().await;
    let config = AgentConfig { stop_workloads_on_exit: true, ..scene.config() };
    let agent = scene.run(config);
    scene.rent().await;
    let process = scene.process().unwrap();
    agent.stop().await;
    assert!(!process.is_alive());
    assert_eq!(scene.process(), None);
    // the rental is not over: the next start takes it up again
    let agent = scene.start();
    scene.more_readings().await;
    assert_eq!(scene.starts(), 2);
    scene.end().await;
    agent.stop().await;
}
