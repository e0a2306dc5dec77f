//! The agent tells what its machine is, and answers self-tests.

use std::os::unix::fs::PermissionsExt as _;

use domain::machine::{Declared, Requirement, requirements};

use super::*;

/// A program that answers as the driver's does.
const DRIVER: &str = "#!/bin/sh
case \"$1\" in
  --query-gpu=*) echo 'GPU-aaaaaaaa, NVIDIA GeForce RTX 4090, 24564, 550.54.15, 4, 16' ;;
  *) echo '| NVIDIA-SMI 550.54.15  Driver Version: 550.54.15  CUDA Version: 12.4 |' ;;
esac
";

fn asked(gpu: &str) -> Vec<Requirement> {
    requirements(&Declared {
        gpu_uuids: vec![gpu.into()],
        gpu_names: vec!["NVIDIA GeForce RTX 4090".into()],
        vram_gb: 24,
        cpu_cores: 1,
        ram_gb: 1,
        disk_gb: 1,
        ports: 0,
        driver_version: None,
        cuda_version: None,
        // a busy disk is not what is tested here
        disk_mb_s: Some(1),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_test_is_answered_signed_and_once() {
    let scene = Scene::new().await;
    let driver = scene.folder.path().join("driver");
    std::fs::write(&driver, DRIVER).unwrap();
    std::fs::set_permissions(&driver, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = scene.config();
    config.nvidia_smi = driver.display().to_string();
    let shutdown = CancellationToken::new();
    let running = Running { task: tokio::spawn(crate::run(config, shutdown.clone())), shutdown };

    // it says what it is without being asked, and writes nothing for that
    scene.fake.until("nothing is told", |world| !world.measured.is_empty()).await;
    let told = scene.fake.world().measured[0].clone();
    assert_eq!(told.gpus.unwrap()[0].uuid, "GPU-aaaaaaaa");
    assert_eq!((told.cuda_version, told.disk_mb_s), (Some(124), None));

    let test = |byte: char| format!("tst_{}", byte.to_string().repeat(32)).parse().unwrap();
    scene.fake.world().self_test = Some((test('a'), asked("GPU-aaaaaaaa")));
    scene.fake.until("no answer", |world| !world.tested.is_empty()).await;
    // the fake's clock is an hour ahead, and only that is wrong
    let (passed, checks) = scene.fake.world().tested[0].clone();
    let failed: Vec<&str> = checks.iter().filter(|c| !c.pass).map(|c| c.id.as_str()).collect();
    assert_eq!((passed, failed), (false, vec!["clock_skew_s"]), "{checks:?}");
    assert!(scene.fake.world().measured.last().unwrap().disk_mb_s.is_some());

    scene.fake.world().self_test = Some((test('b'), asked("GPU-bbbbbbbb")));
    scene.fake.until("no second answer", |world| world.tested.len() > 1).await;
    let (_, checks) = scene.fake.world().tested[1].clone();
    let uuids = checks.iter().find(|check| check.id == "gpu_uuids").unwrap();
    assert!(!uuids.pass && uuids.remediation.as_deref().unwrap().contains("nvidia-smi"));
    assert_eq!(scene.fake.world().tested.len(), 2, "each is answered once");

    // an answer that is refused is not made again with every heartbeat: that would write to the disk without end
    scene.fake.world().refuse_tests = true;
    scene.fake.world().self_test = Some((test('c'), asked("GPU-aaaaaaaa")));
    scene.fake.until("no third answer", |world| world.refused_tests > 0).await;
    let beats = scene.fake.world().running.len();
    scene.fake.until("no more beats", |world| world.running.len() > beats + 3).await;
    assert_eq!(scene.fake.world().refused_tests, 1);
    running.stop().await;
}
