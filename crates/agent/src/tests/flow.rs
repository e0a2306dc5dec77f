//! The whole agent, with real processes, against the fake service.

use std::{sync::Arc, time::Duration};

use domain::{id::RentalId, metering::Interval};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Folder,
    fake::{ENROLL_TOKEN, Fake, FastClock, LIMIT},
    folder, rental,
};
use crate::{AgentConfig, AgentError, WorkloadCommand, process::Process};

mod access;
mod bell;
mod docker;
mod faults;
mod neighbours;
mod reach;
mod restarts;
mod self_tests;
mod templates;

/// One machine and the service it belongs to.
struct Scene {
    folder: Folder,
    clock: Arc<FastClock>,
    fake: Fake,
    rental: RentalId,
}

/// A running agent.
struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), AgentError>>,
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(LIMIT, self.task).await;
        ended.expect("the agent does not stop").unwrap().unwrap();
    }
}

impl Drop for Scene {
    /// A test that fails leaves no process behind.
    fn drop(&mut self) {
        if let Some(process) = self.process() {
            kill(&process);
        }
    }
}

fn kill(process: &Process) {
    let _killed = std::process::Command::new("/bin/sh")
        .args(["-c", "kill -s KILL -- \"-$0\"", &process.pid.to_string()])
        .status();
}

impl Scene {
    async fn new() -> Self {
        let clock = FastClock::new();
        let fake = Fake::start(Arc::clone(&clock)).await;
        Self { folder: folder(), clock, fake, rental: rental() }
    }

    fn config(&self) -> AgentConfig {
        // each start is counted in a file beside the workload's folder
        let script = "echo start >> ../starts; while :; do sleep 0.2; done";
        AgentConfig {
            enroll_token: Some(ENROLL_TOKEN.into()),
            workload: WorkloadCommand {
                program: "/bin/sh".into(),
                args: vec!["-c".into(), script.into()],
            },
            reading_interval: Duration::from_millis(250),
            ..AgentConfig::new(
                self.fake.url.clone(),
                self.folder.path().to_owned(),
                self.clock.clone(),
            )
        }
    }

    fn run(&self, config: AgentConfig) -> Running {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(crate::run(config, shutdown.clone()));
        Running { shutdown, task }
    }

    fn start(&self) -> Running {
        self.run(self.config())
    }

    fn starts(&self) -> usize {
        let path = self.folder.path().join("rentals/starts");
        std::fs::read_to_string(path).map_or(0, |starts| starts.lines().count())
    }

    fn process(&self) -> Option<Process> {
        Process::leader_for(self.rental)
    }

    /// From an order to the first readings.
    async fn rent(&self) {
        self.fake.world().order("provision", self.rental);
        self.fake.until("not ready", |world| world.readies > 0).await;
        self.fake.world().started_at = Some(self.fake.now());
        self.fake.until("no readings", |world| world.accepted.len() >= 2).await;
    }

    async fn end(&self) {
        self.fake.world().stopped_at = Some(self.fake.now());
        self.fake.world().order("deprovision", self.rental);
        self.fake.until("not deprovisioned", |world| world.open.is_empty()).await;
    }

    async fn more_readings(&self) {
        let before = self.fake.world().accepted.len();
        self.fake.until("no more readings", |world| world.accepted.len() >= before + 2).await;
    }
}

fn gaps(covered: &[Interval]) -> usize {
    covered.len().saturating_sub(1)
}

#[tokio::test]
async fn a_rental_from_enrolment_to_the_last_reading() {
    let scene = Scene::new().await;
    let agent = scene.start();
    scene.rent().await;
    let process = scene.process().expect("a real process");
    {
        let world = scene.fake.world();
        let (first, detail) = &world.accepted[0];
        assert!(first.from >= world.started_at.unwrap());
        assert_eq!(detail["workload"], "running");
        assert_eq!(detail["pid"], process.pid);
    }
    let told = [scene.rental];
    scene.fake.until("not told", |world| world.running.iter().any(|list| *list == told)).await;
    scene.end().await;
    assert!(!process.is_alive());
    // cleared away once the service has heard of it
    while scene.folder.path().join(format!("rentals/{}", scene.rental)).exists() {
        sleep(Duration::from_millis(20)).await;
    }
    {
        let world = scene.fake.world();
        assert_eq!((world.enrolments, world.sign_ins), (1, 1));
        let ok = json!({ "outcome": "ok", "reason": null });
        let outcomes: Vec<&Value> = world.acks.iter().map(|(_, ack)| ack).collect();
        assert_eq!(outcomes, [&ok, &ok]);
        let covered = world.covered();
        assert_eq!(gaps(&covered), 0, "{covered:?}");
        // the last reading reaches the end, and not further
        let (end, stopped) = (covered[0].to, world.stopped_at.unwrap());
        assert!(end <= stopped && stopped.saturating_since(end).get() <= 2, "{end} {stopped}");
    }
    agent.stop().await;
    assert_eq!(scene.starts(), 1);
}

#[tokio::test]
async fn a_rental_that_waits_for_its_money_leaves_no_backlog() {
    let scene = Scene::new().await;
    let agent = scene.start();
    scene.fake.world().order("provision", scene.rental);
    scene.fake.until("not asked", |world| world.refusals.len() > 4).await;
    let started = scene.fake.now();
    scene.fake.world().started_at = Some(started);
    scene.more_readings().await;
    let first = scene.fake.world().accepted[0].0;
    assert!(first.from >= started, "{first:?} {started}");
    // within five seconds of ours
    assert!(first.from.saturating_since(started).get() <= 20, "{first:?} {started}");
    scene.end().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_machine_that_is_ordered_anew_says_again_that_it_is_ready() {
    let scene = Scene::new().await;
    let agent = scene.start();
    scene.fake.world().order("provision", scene.rental);
    scene.fake.until("not ready", |world| world.readies > 0).await;
    // the lock left the chain and came back: the order to clean up was overtaken and never fetched
    let before = scene.fake.world().readies;
    scene.fake.world().order("provision", scene.rental);
    scene.fake.until("not ready again", |world| world.readies > before).await;
    scene.fake.world().started_at = Some(scene.fake.now());
    scene.more_readings().await;
    scene.end().await;
    agent.stop().await;
    assert_eq!(scene.starts(), 1);
}

#[test]
fn the_configuration_does_not_show_the_token() {
    let url = "http://127.0.0.1:9".parse().unwrap();
    let config = AgentConfig {
        enroll_token: Some(ENROLL_TOKEN.into()),
        ..AgentConfig::new(url, "/nowhere".into(), FastClock::new())
    };
    assert!(!format!("{config:?}").contains(ENROLL_TOKEN));
}
