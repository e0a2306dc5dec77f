//! Letting the renter in.

use super::*;

#[tokio::test]
async fn the_workload_finds_the_keys_and_every_change_of_them() {
    let scene = Scene::new().await;
    let folder = scene.folder.path().join(format!("rentals/{}", scene.rental));
    let keys = || std::fs::read_to_string(folder.join("authorized_keys")).unwrap_or_default();
    // the program copies what it finds where it was told to look
    let script = "cp \"$WEIR_AUTHORIZED_KEYS\" ../found; echo start >> ../starts; while :; do sleep 0.2; done";
    let config = scene.config();
    let workload = WorkloadCommand {
        program: config.workload.program.clone(),
        args: vec!["-c".into(), script.into()],
    };
    scene.fake.world().ssh_keys = vec!["ssh-ed25519 ONE", "ssh-ed25519 TWO"];
    let agent = scene.run(AgentConfig { workload, ..config });
    scene.rent().await;
    let found = scene.folder.path().join("rentals/found");
    assert_eq!(std::fs::read_to_string(found).unwrap(), "ssh-ed25519 ONE\nssh-ed25519 TWO\n");

    scene.fake.world().ssh_keys = vec!["ssh-ed25519 THREE"];
    scene.fake.world().order("access", scene.rental);
    scene.fake.until("not changed", |world| world.open.is_empty()).await;
    assert_eq!(keys(), "ssh-ed25519 THREE\n");
    // also after a restart, which leaves the file as it is
    agent.stop().await;
    assert_eq!(keys(), "ssh-ed25519 THREE\n");
    let agent = scene.start();
    scene.more_readings().await;
    scene.fake.world().ssh_keys = vec![];
    scene.fake.world().order("access", scene.rental);
    scene.fake.until("not changed", |world| world.open.is_empty()).await;
    assert_eq!(keys(), "");
    scene.end().await;
    agent.stop().await;
    assert_eq!(scene.starts(), 1, "nothing was started for it");
}

#[tokio::test]
async fn a_rental_that_does_not_run_lets_nobody_in() {
    let scene = Scene::new().await;
    let agent = scene.start();
    scene.fake.world().order("access", scene.rental);
    scene.fake.until("not answered", |world| !world.acks.is_empty()).await;
    let failed = json!({ "outcome": "failed", "reason": "internal" });
    assert_eq!(scene.fake.world().acks[0].1, failed);
    agent.stop().await;
    assert!(!scene.folder.path().join(format!("rentals/{}", scene.rental)).exists());
}
