//! Two rentals, one after the other, on the same GPU.

use super::*;

#[tokio::test]
async fn the_next_workload_waits_for_the_end_of_the_last_one_on_its_gpu() {
    let scene = Scene::new().await;
    // it has to be killed, which takes its time
    let script = "trap '' TERM; echo start >> ../starts; while :; do sleep 0.2; done";
    let config = scene.config();
    let workload = WorkloadCommand {
        program: config.workload.program.clone(),
        args: vec!["-c".into(), script.into()],
    };
    let agent = scene.run(AgentConfig { workload, ..config });
    scene.rent().await;
    let last = scene.process().expect("a real process");
    let next = rental();
    {
        let mut world = scene.fake.world();
        world.stopped_at = Some(scene.fake.now());
        world.order("deprovision", scene.rental);
        world.order("provision", next);
    }
    let process = loop {
        if let Some(process) = Process::leader_for(next) {
            break process;
        }
        sleep(Duration::from_millis(5)).await;
    };
    let overlap = last.is_alive();
    scene.fake.until("not told", |world| world.open.is_empty()).await;
    scene.fake.world().order("deprovision", next);
    scene.fake.until("not deprovisioned", |world| world.open.is_empty()).await;
    agent.stop().await;
    kill(&process);
    assert!(!overlap, "both had the GPU");
    assert_eq!(scene.starts(), 2);
}
