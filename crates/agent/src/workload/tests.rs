use domain::id::RentalId;

use super::*;
use crate::{
    order::Run,
    tests::{Folder, folder, rental},
};

fn shell(script: &str) -> WorkloadCommand {
    WorkloadCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()] }
}

async fn start(
    command: &WorkloadCommand,
    folder: &Folder,
    rental: RentalId,
) -> Result<Workload, StartError> {
    let gpus = ["GPU-1".to_owned(), "GPU-2".to_owned()];
    let folder = folder.path();
    let ordered = Ordered {
        template: Some("trainer@3".to_owned()),
        run: Some(Run {
            image: "trainer:1.4".to_owned(),
            ports: Vec::new(),
            env: [("PATH".to_owned(), "/evil".to_owned())].into(),
            content_hash: String::new(),
        }),
        ..Ordered::default()
    };
    let ports = Some("40000-40099");
    let gpus = &gpus;
    let ordered = &ordered;
    let says_ready = true;
    Workload::start(&Order { command, folder, rental, gpus, ordered, ports, says_ready }).await
}

async fn text(folder: &Folder, file: &str) -> String {
    for _ in 0..100 {
        if let Ok(text) = fs::read_to_string(folder.path().join(file))
            && !text.is_empty()
        {
            return text;
        }
        sleep(POLL).await;
    }
    panic!("{file} was not written");
}

#[tokio::test]
async fn the_default_workload_runs_and_stops_with_its_children() {
    let folder = folder();
    let rental = rental();
    let mut workload = start(&WorkloadCommand::default(), &folder, rental).await.unwrap();
    assert!(workload.is_alive());
    text(&folder, "heartbeat").await;
    let process = workload.process().clone();
    assert_eq!(Process::leader_for(rental), Some(process.clone()));
    assert!(process::group_belongs_to(process.pid, rental));
    assert!(Workload::adopt(process.clone(), true).unwrap().says_ready());
    assert!(!Workload::adopt(process.clone(), false).unwrap().says_ready());

    assert!(stop_group(&process, rental).await);
    assert!(!workload.is_alive());
    assert!(!process::group_lives(process.pid));
    assert!(Workload::adopt(process, true).is_none());
    assert_eq!(Process::leader_for(rental), None);
}

#[tokio::test]
async fn a_workload_that_will_not_stop_is_killed() {
    let folder = folder();
    let rental = rental();
    let stubborn = shell("trap '' TERM; echo trapped; while :; do sleep 0.1; done");
    let workload = start(&stubborn, &folder, rental).await.unwrap();
    text(&folder, LOG).await;
    let began = Instant::now();
    assert!(stop_group(workload.process(), rental).await);
    assert!(began.elapsed() >= STOP_GRACE);
}

#[tokio::test]
async fn children_that_outlive_their_leader_are_stopped_too() {
    let folder = folder();
    let rental = rental();
    let mut workload = start(&shell("sleep 600 & sleep 1"), &folder, rental).await.unwrap();
    let process = workload.process().clone();
    while workload.is_alive() {
        sleep(POLL).await;
    }
    assert!(process::group_lives(process.pid));
    assert!(stop_group(&process, rental).await);
    assert!(!process::group_lives(process.pid));
}

#[tokio::test]
async fn a_group_of_somebody_else_is_left_alone() {
    let folder = folder();
    let workload = start(&WorkloadCommand::default(), &folder, rental()).await.unwrap();
    let pid = workload.process().pid;
    // the same number, but of an earlier process
    let mut before = serde_json::to_value(workload.process()).unwrap();
    before["started"] = 1.into();
    let before: Process = serde_json::from_value(before).unwrap();
    assert!(stop_group(&before, rental()).await);
    assert!(process::group_lives(pid));
    send("KILL", pid).await;
    assert!(ended_within(pid, KILL_GRACE).await);
}

#[tokio::test]
async fn a_workload_sees_its_rental_and_none_of_the_agents_secrets() {
    let folder = folder();
    let id = rental();
    let workload = start(&shell("env; exec sleep 600"), &folder, id).await.unwrap();
    let log = text(&folder, LOG).await;
    assert!(log.contains(&format!("WEIR_RENTAL_ID={id}")), "{log}");
    assert!(log.contains("CUDA_VISIBLE_DEVICES=GPU-1,GPU-2"), "{log}");
    for told in ["WEIR_IMAGE=trainer:1.4", "WEIR_ENV_PATH=/evil", "WEIR_PORT_RANGE=40000-40099"] {
        assert!(log.lines().any(|line| line == told), "{told}: {log}");
    }
    assert!(!log.lines().any(|line| line == "PATH=/evil"), "{log}");
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert!(!log.contains("CARGO"), "{log}");
    assert!(stop_group(workload.process(), id).await);
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let folder = folder();
    let missing = WorkloadCommand { program: "/no/such/program".into(), args: Vec::new() };
    let error = start(&missing, &folder, rental()).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/program cannot be run"), "{error}");
    let error = start(&shell("exit 3"), &folder, rental()).await.unwrap_err().to_string();
    assert!(error.contains("ended at once (exit status: 3)"), "{error}");
}

#[tokio::test]
async fn a_log_that_is_too_large_is_emptied() {
    let folder = folder();
    let path = folder.path().join(LOG);
    let file = fs::File::create(&path).unwrap();
    file.set_len(MAX_LOG_BYTES).unwrap();
    bound_log(folder.path());
    assert_eq!(fs::metadata(&path).unwrap().len(), MAX_LOG_BYTES);
    file.set_len(MAX_LOG_BYTES + 1).unwrap();
    bound_log(folder.path());
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}
