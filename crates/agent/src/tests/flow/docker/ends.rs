//! What ends and goes on: the agent, its program, the container.

use super::*;

fn ssh() -> serde_json::Map<String, Value> {
    let ssh = json!({"name": "ssh", "port": 22, "protocol": "tcp"});
    order(json!({"image": "trainer:1.4", "ports": [ssh]}))
}

#[tokio::test]
async fn what_ends_with_the_agent_leaves_the_renters_container() {
    let scene = Scene::new().await;
    let docker = Docker::new("");
    scene.fake.world().ordered = ssh();
    let config = AgentConfig { stop_workloads_on_exit: true, ..docker.config(&scene, &[]) };
    let agent = scene.run(config);
    scene.rent().await;
    agent.stop().await;
    assert_eq!(scene.process(), None);
    // what removes it would do so in a session of its own, and take a moment
    sleep(Duration::from_millis(500)).await;
    assert!(docker.boxed(&scene).exists() && !docker.called("<rm>"), "{:?}", docker.calls());
    // as an order to clean up leaves it that was not carried out and was taken back
    let ended = scene.folder.path().join(format!("rentals/{}/ended", scene.rental));
    std::fs::write(&ended, "").unwrap();
    let agent = scene.run(docker.config(&scene, &[]));
    scene.more_readings().await;
    assert!(!ended.exists());
    assert!(docker.called(&format!("<start><weir-{}>", scene.rental)));
    scene.end().await;
    assert!(!docker.boxed(&scene).exists(), "it is over now");
    agent.stop().await;
}

/// What is claimed, once nothing was for a second: what was before may still be on its way.
async fn claimed(scene: &Scene) -> usize {
    for _ in 0..20 {
        let claimed = scene.fake.world().accepted.len();
        sleep(Duration::from_secs(1)).await;
        if scene.fake.world().accepted.len() == claimed {
            return claimed;
        }
    }
    panic!("nobody can come in");
}

#[tokio::test]
async fn time_in_which_a_container_comes_up_again_is_not_claimed() {
    let scene = Scene::new().await;
    let docker = Docker::new("");
    scene.fake.world().ordered = ssh();
    let agent = scene.run(docker.config(&scene, &[]));
    scene.rent().await;
    docker.unmark("server");
    kill(&scene.process().unwrap());
    docker.until_called("<start>").await;
    // the program runs, and waits for the server
    docker.until_called_again("<exec>").await;
    let claimed = claimed(&scene).await;
    // nor by what the agent says when it stops, nor by one that takes the program over
    agent.stop().await;
    let agent = scene.run(docker.config(&scene, &[]));
    sleep(Duration::from_secs(2)).await;
    assert!(scene.process().is_some());
    assert_eq!(scene.fake.world().accepted.len(), claimed, "nobody can come in yet");
    docker.mark("server");
    scene.more_readings().await;
    let covered = scene.fake.world().covered();
    assert_eq!(gaps(&covered), 1, "{covered:?}");
    scene.end().await;
    agent.stop().await;
}
