//! Faults of the service and of the network, and refusals.

use reqwest::StatusCode;

use super::*;

#[tokio::test]
async fn faults_are_waited_out_and_sessions_renewed() {
    let scene = Scene::new().await;
    scene.fake.world().faults.extend([StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE]);
    let agent = scene.start();
    scene.rent().await;
    // a session that the service has forgotten
    scene.fake.world().token = None;
    scene.more_readings().await;
    assert_eq!(scene.fake.world().sign_ins, 2);
    let faults = [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::TOO_MANY_REQUESTS];
    scene.fake.world().faults.extend(faults.repeat(2));
    scene.more_readings().await;
    scene.end().await;
    agent.stop().await;
    let world = scene.fake.world();
    assert_eq!(world.enrolments, 1);
    assert_eq!(gaps(&world.covered()), 0, "{:?}", world.covered());
}

#[tokio::test]
async fn an_order_whose_acknowledgement_is_lost_is_carried_out_once() {
    let scene = Scene::new().await;
    scene.fake.world().lose_acks = 3;
    let agent = scene.start();
    scene.rent().await;
    scene.fake.until("not acknowledged", |world| world.open.is_empty()).await;
    let provisions = scene.fake.world().acks.len();
    assert!(provisions >= 4, "{provisions}");
    scene.fake.world().lose_acks = 2;
    scene.end().await;
    agent.stop().await;
    assert_eq!(scene.starts(), 1);
    let world = scene.fake.world();
    assert_eq!(world.acks.len(), provisions + 3);
    assert!(world.acks.iter().all(|(_, ack)| ack["outcome"] == "ok"));
}

#[tokio::test]
async fn a_machine_whose_acknowledgement_was_heard_unknown_to_it_gets_ready_all_the_same() {
    let scene = Scene::new().await;
    scene.fake.world().lose_answers = 1;
    let agent = scene.start();
    scene.rent().await;
    assert_eq!(scene.fake.world().acks.len(), 1);
    scene.end().await;
    agent.stop().await;
    assert_eq!(scene.starts(), 1);
}

#[tokio::test]
async fn a_reading_whose_answer_is_lost_is_sent_again_and_counts_once() {
    let scene = Scene::new().await;
    let agent = scene.start();
    scene.rent().await;
    scene.fake.world().lose_readings = 2;
    scene.fake.until("not repeated", |world| world.repeated >= 2).await;
    scene.more_readings().await;
    scene.end().await;
    agent.stop().await;
    let world = scene.fake.world();
    assert_eq!(gaps(&world.covered()), 0, "{:?}", world.covered());
    assert!(!world.refusals.contains(&"reading-conflict"), "{:?}", world.refusals);
}

#[tokio::test]
async fn a_chain_that_the_service_does_not_have_is_taken_from_the_service() {
    let scene = Scene::new().await;
    let agent = scene.start();
    scene.rent().await;
    // as if restored from a backup: the newest readings are gone
    {
        let mut world = scene.fake.world();
        world.head = None;
        world.accepted.clear();
        world.refusals.clear();
    }
    scene.more_readings().await;
    assert!(scene.fake.world().refusals.contains(&"reading-gap"));
    scene.end().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_start_that_fails_is_told_with_its_reason() {
    let scene = Scene::new().await;
    let workload = WorkloadCommand { program: "/no/such/program".into(), args: Vec::new() };
    let agent = scene.run(AgentConfig { workload, ..scene.config() });
    scene.fake.world().order("provision", scene.rental);
    scene.fake.until("not told", |world| world.open.is_empty()).await;
    let ack = scene.fake.world().acks[0].1.clone();
    assert_eq!(ack, json!({ "outcome": "failed", "reason": "image" }));
    agent.stop().await;
    assert!(!scene.folder.path().join(format!("rentals/{}.json", scene.rental)).exists());
    assert!(scene.fake.world().running.iter().all(Vec::is_empty));
}

#[tokio::test]
async fn an_order_about_an_unknown_rental_is_acknowledged() {
    let scene = Scene::new().await;
    let agent = scene.start();
    scene.fake.world().order("deprovision", scene.rental);
    scene.fake.world().order("a_newer_kind", rental());
    scene.fake.until("not acknowledged", |world| world.open.len() == 1).await;
    assert_eq!(scene.fake.world().acks[0].1["outcome"], "ok");
    agent.stop().await;
}

#[tokio::test]
async fn enrolment_that_cannot_succeed_ends_the_agent() {
    let scene = Scene::new().await;
    let wrong = AgentConfig { enroll_token: Some("wrong".into()), ..scene.config() };
    let error = crate::run(wrong, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(&error, AgentError::EnrollRefused { code, .. } if code == "enroll-invalid"));
    let none = AgentConfig { enroll_token: None, ..scene.config() };
    let error = crate::run(none, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, AgentError::NotEnrolled), "{error}");
}

#[tokio::test]
async fn a_service_that_is_away_is_waited_for_until_told_to_stop() {
    let scene = Scene::new().await;
    let nobody = "http://127.0.0.1:9".parse().unwrap();
    let agent = scene.run(AgentConfig { server: nobody, ..scene.config() });
    sleep(Duration::from_millis(700)).await;
    assert!(!agent.task.is_finished());
    agent.stop().await;
}
