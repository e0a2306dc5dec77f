//! Running what a template names, or saying that it is not run.

use super::*;

fn order() -> serde_json::Map<String, Value> {
    let order = json!({
        "template": "trainer@3", "disk_gb": 200,
        "network": {"up_gb": 50, "down_gb": 100, "over_s": 3_600},
        "run": {"image": "trainer:1.4", "ports": [{"name": "ssh", "port": 22, "protocol": "tcp"}],
                "env": {"MODE": "fast"}, "content_hash": "sha256:aa"},
    });
    order.as_object().unwrap().clone()
}

/// The scene's program, and the same with another beginning.
fn config(scene: &Scene, templates: bool, begin: &str) -> AgentConfig {
    let script = format!("{begin} echo start >> ../starts; while :; do sleep 0.2; done");
    let workload = WorkloadCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script] };
    AgentConfig { templates, workload, ..scene.config() }
}

#[tokio::test]
async fn a_template_is_told_to_the_program_which_says_when_it_is_ready() {
    let scene = Scene::new().await;
    scene.fake.world().templates = Some(false);
    scene.fake.world().ordered = order();
    let begin = "env > ../found; cat \"$WEIR_ORDER_FILE\" > ../order; \
                 while ! [ -e ../go ]; do sleep 0.1; done; : > \"$WEIR_READY_FILE\";";
    let agent = scene.run(config(&scene, true, begin));
    scene.fake.until("not told", |world| world.templates == Some(true)).await;
    scene.fake.world().order("provision", scene.rental);
    scene.fake.until("not taken", |world| world.open.is_empty()).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.fake.world().readies, 0, "nobody can come in yet");
    let place = scene.folder.path().join("rentals");
    std::fs::write(place.join("go"), "").unwrap();
    scene.fake.until("not ready", |world| world.readies > 0).await;

    let found = std::fs::read_to_string(place.join("found")).unwrap();
    let file = place.join(format!("{}/order.json", scene.rental));
    let named = format!("WEIR_ORDER_FILE={}", file.display());
    for told in ["WEIR_IMAGE=trainer:1.4", "WEIR_DISK_GB=200", "WEIR_ENV_MODE=fast", &named] {
        assert!(found.lines().any(|line| line == told), "{told}: {found}");
    }
    let read: Value =
        serde_json::from_str(&std::fs::read_to_string(place.join("order")).unwrap()).unwrap();
    assert_eq!(read, Value::Object(order()));

    // what ends is begun anew by the same order, and by another agent as well
    kill(&scene.process().unwrap());
    agent.stop().await;
    std::fs::remove_file(place.join("found")).unwrap();
    scene.fake.world().ordered.clear();
    let agent = scene.run(config(&scene, true, begin));
    let begun = std::time::Instant::now();
    while !place.join("found").exists() || scene.starts() < 2 {
        assert!(begun.elapsed() < LIMIT, "it is not begun anew");
        sleep(Duration::from_millis(100)).await;
    }
    let again = std::fs::read_to_string(place.join("found")).unwrap();
    assert!(again.contains("WEIR_IMAGE=trainer:1.4"), "{again}");
    assert_eq!(scene.fake.world().templates_said, 1, "once is enough");
    scene.end().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_machine_that_runs_none_starts_nothing_in_its_place() {
    let scene = Scene::new().await;
    // it ran them once
    scene.fake.world().templates = Some(true);
    let agent = scene.start();
    scene.fake.until("not told", |world| world.templates == Some(false)).await;
    scene.fake.world().ordered = order();
    scene.fake.world().order("provision", scene.rental);
    scene.fake.until("not answered", |world| !world.acks.is_empty()).await;
    let failed = json!({ "outcome": "failed", "reason": "image" });
    assert_eq!(scene.fake.world().acks[0].1, failed);
    agent.stop().await;
    assert_eq!(scene.starts(), 0);
    assert!(!scene.folder.path().join(format!("rentals/{}", scene.rental)).exists());
}

#[tokio::test]
async fn an_older_service_is_told_nothing_and_a_name_alone_is_not_run() {
    let scene = Scene::new().await;
    scene.fake.world().ordered = order();
    scene.fake.world().ordered.remove("run");
    let agent = scene.run(config(&scene, true, ""));
    scene.fake.world().order("provision", scene.rental);
    scene.fake.until("not answered", |world| !world.acks.is_empty()).await;
    assert_eq!(scene.fake.world().acks[0].1, json!({ "outcome": "failed", "reason": "image" }));
    agent.stop().await;
    assert_eq!((scene.starts(), scene.fake.world().templates_said), (0, 0));
}

#[tokio::test]
async fn an_older_service_beside_a_newer_one_hears_every_other_heartbeat() {
    let scene = Scene::new().await;
    scene.fake.world().templates = Some(false);
    scene.fake.world().refuse_templates = 2;
    let agent = scene.run(config(&scene, true, ""));
    scene.fake.until("not refused", |world| world.refuse_templates == 0).await;
    assert!(scene.fake.world().running.len() >= 2, "one was heard in between");
    scene.fake.until("not told", |world| world.templates == Some(true)).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_runs_none_any_more_begins_no_template_anew() {
    let scene = Scene::new().await;
    scene.fake.world().ordered = order();
    let agent = scene.run(config(&scene, true, ": > \"$WEIR_READY_FILE\";"));
    scene.rent().await;
    agent.stop().await;
    let process = scene.process().unwrap();
    let ready = scene.folder.path().join(format!("rentals/{}/ready", scene.rental));
    // it takes over what runs, by what that was told: nobody can come in without the file
    std::fs::remove_file(&ready).unwrap();
    let claimed = scene.fake.world().accepted.len();
    let agent = scene.run(config(&scene, false, ""));
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(scene.process().as_ref(), Some(&process));
    assert_eq!(scene.fake.world().accepted.len(), claimed);
    std::fs::write(&ready, "").unwrap();
    scene.more_readings().await;
    // and when that ends, the provider's own program is not what was rented
    kill(&process);
    sleep(Duration::from_secs(3)).await;
    assert_eq!((scene.starts(), scene.process()), (1, None));
    scene.end().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_program_that_was_told_of_no_file_goes_on_under_an_agent_that_awaits_one() {
    let scene = Scene::new().await;
    let agent = scene.start();
    scene.rent().await;
    agent.stop().await;
    let process = scene.process();
    let agent = scene.run(AgentConfig { templates: true, ..scene.config() });
    scene.more_readings().await;
    assert_eq!(scene.process(), process);
    scene.end().await;
    agent.stop().await;
}

#[tokio::test]
async fn the_last_reading_is_of_a_machine_that_the_renter_can_come_into() {
    for ready in [true, false] {
        let scene = Scene::new().await;
        scene.fake.world().ordered = order();
        let config = AgentConfig {
            // one turn, at the start
            reading_interval: Duration::from_secs(60),
            ..config(&scene, true, ": > \"$WEIR_READY_FILE\";")
        };
        let agent = scene.run(config);
        scene.fake.world().order("provision", scene.rental);
        scene.fake.until("not ready", |world| world.readies > 0).await;
        scene.fake.world().started_at = Some(scene.fake.now());
        sleep(Duration::from_secs(1)).await;
        if !ready {
            let file = format!("rentals/{}/ready", scene.rental);
            std::fs::remove_file(scene.folder.path().join(file)).unwrap();
        }
        scene.end().await;
        assert_eq!(!scene.fake.world().accepted.is_empty(), ready);
        agent.stop().await;
    }
}
