//! The agent with the program that runs rentals in Docker, and a Docker that only writes down what it is told.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, time::Instant};

use super::*;

mod ends;
mod sweeps;

const DOCKER: &str = r#"#!/bin/sh
here="$(dirname "$0")"
# in one write: two may be called at once
said=; for word; do said="$said<$word>"; done
printf '%s\n' "$said" >>"$here/calls"
case "$1" in
  ps) [ ! -e "$here/down" ] && cat "$here/boxes" ;;
  container) for box; do :; done; [ -e "$here/box.$box" ] && echo true ;;
  port) [ -z "$3" ] || printf '0.0.0.0:4%04d\n[::]:4%04d\n' "${3%/*}" "${3%/*}" ;;
  exec) [ -e "$here/server" ] ;;
  run) while [ "$1" != --name ]; do shift; done; [ -e "$here/short" ] || : >"$here/box.$2" ;;
  rm) [ -e "$here/stuck" ] || rm -f "$here/box.$4" ;;
  wait) while [ -e "$here/box.$2" ]; do sleep 0.1; done ;;
esac
"#;

/// A folder with that Docker, and what was written down.
struct Docker(Folder);

impl Docker {
    /// One in which these containers are. The servers in them are up.
    fn new(boxes: &str) -> Self {
        let folder = folder();
        let program = folder.path().join("docker");
        std::fs::write(&program, DOCKER).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(folder.path().join("boxes"), boxes).unwrap();
        std::fs::write(folder.path().join("server"), "").unwrap();
        Self(folder)
    }

    /// Makes a file that its program looks for, such as `down`.
    fn mark(&self, name: &str) {
        std::fs::write(self.0.path().join(name), "").unwrap();
    }

    fn unmark(&self, name: &str) {
        std::fs::remove_file(self.0.path().join(name)).unwrap();
    }

    /// Waits for a call that begins so.
    async fn until_called(&self, begin: &str) {
        self.until_calls(begin, 1).await;
    }

    /// Waits for one more.
    async fn until_called_again(&self, begin: &str) {
        self.until_calls(begin, self.count(begin) + 1).await;
    }

    async fn until_calls(&self, begin: &str, count: usize) {
        let begun = Instant::now();
        while self.count(begin) < count {
            assert!(begun.elapsed() < LIMIT, "no {begin}: {:#?}", self.calls());
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn called(&self, begin: &str) -> bool {
        self.count(begin) > 0
    }

    fn count(&self, begin: &str) -> usize {
        self.calls().iter().filter(|call| call.starts_with(begin)).count()
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn boxed(&self, scene: &Scene) -> PathBuf {
        self.0.path().join(format!("box.weir-{}", scene.rental))
    }

    fn config(&self, scene: &Scene, settings: &[&str]) -> AgentConfig {
        let path = std::env::var("PATH").unwrap();
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/provider/start-docker");
        let mut args = vec![format!("PATH={}:{path}", self.0.path().display())];
        args.push("WEIR_DOCKER_SETTINGS=/no/such/file".into());
        args.extend(settings.iter().map(ToString::to_string));
        args.push(here.into());
        AgentConfig {
            templates: true,
            ports: Some(40_000..=40_009),
            workload: WorkloadCommand { program: "/usr/bin/env".into(), args },
            ..scene.config()
        }
    }
}

fn order(run: Value) -> serde_json::Map<String, Value> {
    let mut order = json!({"template": "trainer@3", "disk_gb": 200});
    order["run"] = run;
    order.as_object().unwrap().clone()
}

#[tokio::test]
async fn a_template_becomes_a_container_which_ends_with_the_rental() {
    let scene = Scene::new().await;
    let docker = Docker::new("weir-rnt_before|GPU-0,GPU-1|\nweir-rnt_beside|GPU-10|\n");
    scene.fake.world().templates = Some(false);
    scene.fake.world().ordered = order(json!({
        "image": "trainer:1.4",
        "ports": [{"name": "ssh", "port": 22, "protocol": "tcp"},
                  {"name": "game", "port": 9000, "protocol": "udp"}],
        "env": {"MODE": "fast; $(touch /tmp/weir-evil) \"and\" loose", "DOCKER_HOST": "tcp://evil"},
    }));
    let config = docker.config(&scene, &["WEIR_DOCKER_ARGS=--network=renters --memory=64g"]);
    let agent = scene.run(AgentConfig { public_host: Some("gpu1".parse().unwrap()), ..config });
    // the image's server takes its time
    let server = docker.0.path().join("server");
    std::fs::remove_file(&server).unwrap();
    scene.fake.world().order("provision", scene.rental);
    docker.until_called("<exec>").await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(scene.fake.world().readies, 0, "nobody can come in yet");
    std::fs::write(server, "").unwrap();
    scene.rent().await;
    let ports = json!([{"name": "game", "port": 49_000}, {"name": "ssh", "port": 40_022}]);
    let told = scene.fake.world().told.clone();
    assert_eq!(told, [(0, scene.rental, json!({"host": "gpu1", "ports": ports}))]);
    let calls = docker.calls();
    let gone: Vec<&String> = calls.iter().filter(|call| call.starts_with("<rm>")).collect();
    assert_eq!(gone, ["<rm><--force><--volumes><weir-rnt_before>"], "GPU-1 is ours now");
    let run = calls.iter().find(|call| call.starts_with("<run>")).unwrap();
    let id = scene.rental.to_string();
    let folder = scene.folder.path().canonicalize().unwrap().join("rentals").join(&id);
    for words in [
        format!("<--name><weir-{id}>"),
        format!("<--label><weir.rental={id}><--label><weir.gpus=GPU-1>"),
        format!("<--label><weir.folder={}>", folder.display()),
        "<--gpus><\"device=GPU-1\">".to_owned(),
        "<--storage-opt><size=220G>".to_owned(),
        format!("<--volume><{}:/weir:ro>", folder.display()),
        "<--publish><40000-40009:22/tcp><--publish><40000-40009:9000/udp>".to_owned(),
        "<--env><DOCKER_HOST=tcp://evil>".to_owned(),
        "<--env><MODE=fast; $(touch /tmp/weir-evil) \"and\" loose>".to_owned(),
        "<--network=renters><--memory=64g><--user><0:0><--entrypoint></bin/sh><trainer:1.4></weir-enter>"
            .to_owned(),
    ] {
        assert!(run.contains(&words), "{words}\n{run}");
    }
    assert!(run.ends_with("</weir-enter>"), "{run}");
    assert!(!std::path::Path::new("/tmp/weir-evil").exists());

    // its main process ends: the same container goes on
    std::fs::remove_file(docker.boxed(&scene)).unwrap();
    std::fs::write(docker.boxed(&scene), "").unwrap();
    kill(&scene.process().unwrap());
    docker.until_called(&format!("<start><weir-{id}>")).await;
    assert_eq!(docker.count("<run>"), 1);

    scene.more_readings().await;
    scene.end().await;
    assert!(!docker.boxed(&scene).exists(), "the container is gone before the machine says so");
    agent.stop().await;
}

#[tokio::test]
async fn an_image_with_its_own_server_is_left_to_it() {
    for (name, port) in [("http", 8000), ("ssh", 2222)] {
        let scene = Scene::new().await;
        let docker = Docker::new("");
        docker.unmark("server");
        scene.fake.world().ordered = order(json!({
            "image": "vllm:1", "ports": [{"name": name, "port": port, "protocol": "tcp"}],
        }));
        let agent = scene.run(docker.config(&scene, &["WEIR_DISK_LIMIT=no"]));
        scene.rent().await;
        let calls = docker.calls();
        let run = calls.iter().find(|call| call.starts_with("<run>")).unwrap();
        assert!(run.ends_with(&format!("<--publish><40000-40009:{port}/tcp><vllm:1>")), "{run}");
        for word in ["--storage-opt", "--entrypoint", "--user"] {
            assert!(!run.contains(word), "{run}");
        }
        scene.end().await;
        agent.stop().await;
    }
}

#[tokio::test]
async fn an_image_that_ends_at_once_is_not_ready() {
    let scene = Scene::new().await;
    let docker = Docker::new("");
    docker.mark("short");
    scene.fake.world().ordered = order(json!({"image": "vllm:1"}));
    let agent = scene.run(docker.config(&scene, &[]));
    scene.fake.world().order("provision", scene.rental);
    docker.until_called("<run>").await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.fake.world().readies, 0);
    docker.unmark("short");
    scene.fake.until("not ready", |world| world.readies > 0).await;
    scene.end().await;
    agent.stop().await;
}

#[tokio::test]
async fn without_a_template_the_providers_own_image_runs_or_nothing_does() {
    for (settings, runs) in [(&["WEIR_DEFAULT_IMAGE=ubuntu:24.04"][..], true), (&[][..], false)] {
        let scene = Scene::new().await;
        let docker = Docker::new("");
        let agent = scene.run(docker.config(&scene, settings));
        scene.fake.world().order("provision", scene.rental);
        if runs {
            scene.fake.until("not ready", |world| world.readies > 0).await;
            let calls = docker.calls();
            let run = calls.iter().find(|call| call.starts_with("<run>")).unwrap();
            assert!(run.ends_with("</bin/sh><ubuntu:24.04></weir-enter>"), "{run}");
            scene.end().await;
        } else {
            scene.fake.until("not answered", |world| !world.acks.is_empty()).await;
            let failed = json!({ "outcome": "failed", "reason": "image" });
            assert_eq!(scene.fake.world().acks[0].1, failed);
            assert!(docker.calls().is_empty());
        }
        agent.stop().await;
    }
}
