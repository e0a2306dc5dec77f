//! Telling where the renter comes in.

use super::*;

/// The scene's program with another beginning, on a machine that is reached by this name.
fn config(scene: &Scene, host: Option<&str>, begin: &str) -> AgentConfig {
    let script = format!("{begin} echo start >> ../starts; while :; do sleep 0.2; done");
    let workload = WorkloadCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script] };
    let public_host = host.map(|host| host.parse().unwrap());
    AgentConfig { public_host, workload, ..scene.config() }
}

const SSH: &str = r#"echo '{"ports":{"ssh":41022,"http":41080}}' > "$WEIR_ACCESS_FILE";"#;

#[tokio::test]
async fn the_service_hears_it_before_ready_and_again_when_it_changes() {
    let scene = Scene::new().await;
    // it says it at its first start only
    let begin = format!("[ -e ../starts ] || {SSH} : > \"$WEIR_READY_FILE\";");
    let config =
        AgentConfig { templates: true, ..config(&scene, Some("gpu1.example.com"), &begin) };
    let agent = scene.run(config.clone());
    scene.rent().await;
    let first = json!({"host": "gpu1.example.com", "ports": [{"name": "http", "port": 41_080}, {"name": "ssh", "port": 41_022}]});
    assert_eq!(scene.fake.world().told, [(0, scene.rental, first.clone())], "once, before ready");

    // no file of that kind: what was told stands, and the rental goes on
    let file = scene.folder.path().join(format!("rentals/{}/access.json", scene.rental));
    std::fs::write(&file, r#"{"ports":{"ssh":0}}"#).unwrap();
    scene.more_readings().await;
    assert_eq!(scene.fake.world().told.len(), 1);
    std::fs::write(&file, r#"{"ports":{"ssh":41023}}"#).unwrap();
    scene.fake.until("not told anew", |world| world.told.len() == 2).await;
    let second = json!({"host": "gpu1.example.com", "ports": [{"name": "ssh", "port": 41_023}]});
    assert_eq!(scene.fake.world().told[1].2, second);

    // what the program said at its last start is not what it says now
    kill(&scene.process().unwrap());
    scene.fake.until("not told anew", |world| world.told.len() >= 3).await;
    let third = json!({"host": "gpu1.example.com", "ports": []});
    assert_eq!(scene.fake.world().told[2].2, third);
    agent.stop().await;
    // another run of the agent tells it once more
    let agent = scene.run(config);
    scene.fake.until("not told again", |world| world.told.len() >= 4).await;
    scene.end().await;
    agent.stop().await;
}

#[tokio::test]
async fn an_older_service_loses_nothing_by_it() {
    let scene = Scene::new().await;
    scene.fake.world().knows_no_reach = true;
    let agent = scene.run(config(&scene, Some("10.0.0.8"), SSH));
    scene.rent().await;
    assert_eq!(scene.fake.world().told, []);
    scene.fake.world().knows_no_reach = false;
    scene.fake.until("not told", |world| !world.told.is_empty()).await;
    scene.end().await;
    agent.stop().await;
}

#[tokio::test]
async fn nothing_is_told_unless_the_provider_says_so_and_the_address_alone_without_a_file() {
    for host in [None, Some("2001:db8::1")] {
        let scene = Scene::new().await;
        let agent = scene.run(config(&scene, host, if host.is_none() { SSH } else { "" }));
        scene.rent().await;
        let told: Vec<Value> =
            scene.fake.world().told.iter().map(|(_, _, said)| said.clone()).collect();
        let wanted = host.map(|host| json!({"host": host, "ports": []}));
        assert_eq!(told, Vec::from_iter(wanted));
        scene.end().await;
        agent.stop().await;
    }
}
