//! A provider's stop of a rental that runs is a notice, as long as the quote promised.

use serde_json::{Value, json};

use crate::{
    events::Stream,
    fixture::{Person, Rig, World},
};

/// A machine that is offered with so much notice.
pub async fn rig(world: &World, n: u8, notice: u32) -> Rig {
    let rig = world.rig(n, 1, "0.65").await;
    let path = format!("/v1/offers/{}", rig.offer);
    let tag = world.get(&path).send().await.header("etag").to_owned();
    let patch = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", &tag);
    patch.json(&json!({"notice_s": notice})).send().await.ok(200);
    rig
}

async fn stop(world: &World, by: &Person, id: &str, key: &str) -> Value {
    let path = format!("/v1/rentals/{id}/stop");
    world.post(&path).auth(&by.token).key(key).send().await.ok(202)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_cannot_end_it_before_the_notice_is_over() {
    let world = World::new().await;
    let rig = rig(&world, 1, 600).await;
    let renter = world.sign_in(9).await;
    let booking = world.start(&renter, &rig).await;
    let id = booking["rental"]["id"].as_str().unwrap();
    let read = |by: Person| {
        let call = world.get(&format!("/v1/rentals/{id}")).auth(&by.token);
        async move { call.send().await.ok(200) }
    };
    assert_eq!(read(renter.clone()).await["evicted_at"], Value::Null);

    let said = stop(&world, &rig.provider, id, "a").await;
    assert_eq!(said["rental"]["state"], "active");
    let ends_at = said["ends_at"].clone();
    assert_eq!(ends_at, "2027-01-15T08:10:00Z");
    assert_eq!(read(renter.clone()).await["evicted_at"], ends_at);
    // asked again, with the key or a new one, it is the same notice
    world.pass(100);
    world.heartbeat(&rig.agent, &[id]).await;
    assert_eq!(stop(&world, &rig.provider, id, "a").await["ends_at"], ends_at);
    assert_eq!(stop(&world, &rig.provider, id, "b").await["ends_at"], ends_at);
    // the renter is told, once
    let mut stream = Stream::open(&world, id, &renter.token, None).await;
    let notice = stream.named("notice").await;
    assert_eq!(
        (&notice.data["about"], &notice.data["ends_at"]),
        (&json!("provider_stop"), &ends_at)
    );
    let told = "SELECT count(*) FROM rental_events WHERE kind = 'notice'";
    let told: i64 = sqlx::query_scalar(told).fetch_one(world.store.pool()).await.unwrap();
    assert_eq!(told, 1);
    drop(stream);
    // and may go at once
    let said = stop(&world, &renter, id, "c").await;
    assert_eq!((&said["ends_at"], &said["rental"]["state"]), (&Value::Null, &json!("stopping")));
    assert_eq!(said["rental"]["end_reason"], "renter_stop");
    assert_eq!(read(renter).await["evicted_at"], Value::Null);
    let after = stop(&world, &rig.provider, id, "d").await;
    assert_eq!((&after["ends_at"], &after["rental"]["state"]), (&Value::Null, &json!("stopping")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_run_or_promised_none_ends_now() {
    let world = World::new().await;
    let none = rig(&world, 1, 0).await;
    let renter = world.sign_in(9).await;
    let booking = world.start(&renter, &none).await;
    let id = booking["rental"]["id"].as_str().unwrap();
    let said = stop(&world, &none.provider, id, "a").await;
    assert_eq!((&said["ends_at"], &said["rental"]["state"]), (&Value::Null, &json!("stopping")));
    assert_eq!(said["rental"]["end_reason"], "provider_stop");

    // not funded yet
    let rig = rig(&world, 11, 600).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    let id = booking["rental"]["id"].as_str().unwrap();
    let said = stop(&world, &rig.provider, id, "b").await;
    assert_eq!((&said["ends_at"], &said["rental"]["state"]), (&Value::Null, &json!("cancelled")));
}
