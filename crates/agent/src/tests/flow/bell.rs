//! Orders between two heartbeats.

use reqwest::StatusCode;

use super::*;

/// Far longer than any test waits.
const SELDOM_S: u32 = 60;

#[tokio::test]
async fn an_order_is_heard_of_between_two_heartbeats_and_carried_out_once() {
    let scene = Scene::new().await;
    {
        let mut world = scene.fake.world();
        (world.rings, world.next_in_s) = (true, Some(SELDOM_S));
    }
    let agent = scene.start();
    scene.fake.until("it does not wait", |world| world.waits > 0).await;
    scene.fake.until("it does not beat", |world| !world.running.is_empty()).await;
    let order = scene.fake.world().order("provision", scene.rental);
    // the next heartbeat by itself is a minute away
    scene.fake.until("not ready", |world| world.readies > 0).await;
    scene.fake.until("not waited for the next", |world| world.waits > 1).await;
    scene.end().await;
    {
        let world = scene.fake.world();
        let acks: Vec<_> = world.acks.iter().filter(|(id, _)| *id == order).collect();
        assert!(!acks.is_empty() && acks.iter().all(|(_, ack)| ack["outcome"] == "ok"), "{acks:?}");
        assert_eq!(world.readies, 1);
    }
    agent.stop().await;
    assert_eq!(scene.starts(), 1);
}

#[tokio::test]
async fn a_service_that_cannot_be_waited_at_is_not_asked_again_and_again() {
    let scene = Scene::new().await;
    let agent = scene.start();
    scene.rent().await;
    scene.end().await;
    agent.stop().await;
    let world = scene.fake.world();
    assert_eq!((world.waits, world.acks.len()), (0, 2));
}

#[tokio::test]
async fn a_fault_while_it_waits_is_waited_out() {
    let scene = Scene::new().await;
    scene.fake.world().rings = true;
    let agent = scene.start();
    scene.fake.until("it does not wait", |world| world.waits > 0).await;
    // the order wakes it, and what it asks next fails
    scene.fake.world().faults.extend([StatusCode::SERVICE_UNAVAILABLE; 3]);
    scene.rent().await;
    scene.end().await;
    scene.fake.until("it does not wait again", |world| world.waits > 1).await;
    agent.stop().await;
    assert_eq!(scene.starts(), 1);
}

#[tokio::test]
async fn nothing_is_asked_before_a_heartbeat_has_come_through() {
    let scene = Scene::new().await;
    {
        let mut world = scene.fake.world();
        (world.rings, world.next_in_s) = (true, Some(SELDOM_S));
        world.lose_beats = 2;
    }
    let agent = scene.start();
    scene.fake.until("it does not wait", |world| world.waits > 0).await;
    agent.stop().await;
    let world = scene.fake.world();
    assert_eq!((world.lose_beats, world.early_waits), (0, 0));
}
