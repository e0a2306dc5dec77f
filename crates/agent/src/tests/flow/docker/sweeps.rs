//! Containers that outlive their rentals.

use std::process::Command;

use super::*;

#[tokio::test]
async fn a_container_on_its_way_out_of_our_gpu_is_waited_for() {
    let scene = Scene::new().await;
    let docker = Docker::new("weir-rnt_before|GPU-1|\n");
    docker.mark("box.weir-rnt_before");
    docker.mark("stuck");
    scene.fake.world().ordered = order(json!({"image": "vllm:1"}));
    let agent = scene.run(docker.config(&scene, &[]));
    scene.fake.world().order("provision", scene.rental);
    docker.until_called("<rm>").await;
    sleep(Duration::from_millis(1_500)).await;
    assert!(!docker.called("<run>"), "both would have the GPU");
    docker.unmark("stuck");
    docker.until_called("<run>").await;
    scene.fake.until("not ready", |world| world.readies > 0).await;
    scene.end().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_docker_that_does_not_answer_is_no_empty_one() {
    let scene = Scene::new().await;
    let docker = Docker::new("");
    docker.mark("down");
    scene.fake.world().ordered = order(json!({"image": "vllm:1"}));
    let agent = scene.run(docker.config(&scene, &[]));
    scene.fake.world().order("provision", scene.rental);
    scene.fake.until("not answered", |world| !world.acks.is_empty()).await;
    assert_eq!(scene.fake.world().acks[0].1, json!({ "outcome": "failed", "reason": "image" }));
    assert!(docker.called("<ps>") && !docker.called("<run>"), "{:?}", docker.calls());
    agent.stop().await;
}

/// A state folder with the rentals `rnt_here` and `rnt_ended`, and containers of these and others.
fn left(state: &std::path::Path) -> String {
    let rentals = state.join("rentals");
    for name in ["rnt_here", "rnt_ended"] {
        std::fs::create_dir_all(rentals.join(name)).unwrap();
    }
    std::fs::write(rentals.join("rnt_ended/ended"), "").unwrap();
    let place = rentals.display();
    let ours = ["here", "ended", "gone"].map(|name| format!("weir-{name}||{place}/rnt_{name}\n"));
    // of a state folder whose disk is not there, and of an older version
    format!("{}weir-away||/no/such/rentals/rnt_away\nweir-old|GPU-7|\n", ours.concat())
}

const GONE: [&str; 2] =
    ["<rm><--force><--volumes><weir-ended>", "<rm><--force><--volumes><weir-gone>"];

fn removed(docker: &Docker) -> Vec<String> {
    docker.calls().into_iter().filter(|call| call.starts_with("<rm>")).collect()
}

#[tokio::test]
async fn the_next_rental_removes_what_outlived_its_own() {
    let scene = Scene::new().await;
    let state = scene.folder.path().canonicalize().unwrap();
    let docker = Docker::new(&left(&state));
    scene.fake.world().ordered = order(json!({"image": "vllm:1"}));
    let agent = scene.run(docker.config(&scene, &[]));
    scene.rent().await;
    // beside what the rental itself begins
    docker.until_calls("<rm>", GONE.len()).await;
    assert_eq!(removed(&docker), GONE);
    scene.end().await;
    agent.stop().await;
}

#[test]
fn an_agents_service_removes_what_outlived_its_rental_before_it_starts() {
    let state = folder();
    let docker = Docker::new(&left(state.path()));
    let sweep = || {
        let path = std::env::var("PATH").unwrap();
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/provider/start-docker");
        let mut command = Command::new(here);
        command.arg("sweep").env("PATH", format!("{}:{path}", docker.0.path().display()));
        command.env("WEIR_DOCKER_SETTINGS", "/no/such/file").status().unwrap().success()
    };
    assert!(sweep());
    // it says so itself; of the other one, the disk may not be mounted
    assert_eq!(removed(&docker), GONE[..1]);
    std::fs::write(state.path().join("agent.json"), "{}").unwrap();
    docker.mark("down");
    assert!(!sweep(), "Docker does not answer");
    docker.unmark("down");
    assert!(sweep());
    assert_eq!(removed(&docker)[1..], GONE);
}
