//! Seeing and ending one's sessions.

use serde_json::Value;

use crate::fixture::{Person, World, key, sign};

async fn sessions(world: &World, person: &Person) -> Vec<Value> {
    let said = world.get("/v1/sessions").auth(&person.token).send().await.ok(200);
    assert_eq!(said["next_cursor"], Value::Null);
    said["data"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_with_what_tells_them_apart() {
    let world = World::new().await;
    let first = world.sign_in(1).await;
    world.pass(2 * 3_600);
    let message = world.message(key(1).address()).await;
    let said = world
        .post("/v1/auth/siwe/verify")
        .header("user-agent", format!("weir/{}", "9".repeat(300)))
        .json(&serde_json::json!({"message": message, "signature": sign(&key(1), &message)}))
        .send()
        .await
        .ok(201);
    let second = Person { key: key(1), token: said["token"].as_str().unwrap().to_owned() };
    world.pass(1_000);
    let listed = sessions(&world, &second).await;
    assert_eq!(listed.len(), 2, "newest first");
    assert_eq!((&listed[0]["current"], &listed[1]["current"]), (&true.into(), &false.into()));
    assert_eq!(listed[0]["user_agent"].as_str().unwrap().len(), 120);
    assert_eq!(listed[1]["user_agent"], Value::Null);
    assert_eq!(listed[0]["created_at"], "2027-01-15T10:00:00Z");
    assert_eq!(listed[0]["last_used_at"], "2027-01-15T10:00:00Z", "to the hour");
    assert_eq!(listed[1]["last_used_at"], "2027-01-15T08:00:00Z");
    for secret in [&first.token, &second.token] {
        assert!(!Value::from(listed.clone()).to_string().contains(secret.as_str()));
    }
    world.get("/v1/me").auth(&first.token).send().await.ok(200);
    let listed = sessions(&world, &second).await;
    assert_eq!(listed[1]["last_used_at"], "2027-01-15T10:00:00Z", "it was used just now");

    let page = world.get("/v1/sessions?limit=1").auth(&second.token).send().await.ok(200);
    assert_eq!(page["data"][0]["id"], listed[0]["id"]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let path = format!("/v1/sessions?limit=1&cursor={cursor}");
    let page = world.get(&path).auth(&second.token).send().await.ok(200);
    assert_eq!(page["data"][0]["id"], listed[1]["id"]);

    // the first ends by itself
    world.pass(22 * 3_600);
    assert_eq!(sessions(&world, &second).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_ended_at_once_by_its_owner_only() {
    let world = World::new().await;
    let (one, two) = (world.sign_in(1).await, world.sign_in(1).await);
    let other = world.sign_in(2).await;
    let listed = sessions(&world, &one).await;
    let target = listed.iter().find(|session| session["current"] == false).unwrap();
    let path = format!("/v1/sessions/{}", target["id"].as_str().unwrap());
    world.call("DELETE", &path).auth(&other.token).send().await.problem(404, "not-found");
    world.get("/v1/me").auth(&two.token).send().await.ok(200);
    world.call("DELETE", &path).auth(&one.token).send().await.ok(204);
    world.get("/v1/me").auth(&two.token).send().await.problem(401, "unauthenticated");
    world.call("DELETE", &path).auth(&one.token).send().await.problem(404, "not-found");
    assert_eq!(sessions(&world, &one).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_others_are_ended_together() {
    let world = World::new().await;
    let mut mine = Vec::new();
    for _ in 0..4 {
        mine.push(world.sign_in(1).await);
    }
    let rig = world.rig(3, 1, "0.65").await;
    let said = world.call("DELETE", "/v1/sessions").auth(&mine[1].token).send().await.ok(200);
    assert_eq!(said["ended"], 3);
    for (at, person) in mine.iter().enumerate() {
        let reply = world.get("/v1/me").auth(&person.token).send().await;
        assert_eq!(reply.status, if at == 1 { 200 } else { 401 });
    }
    // nobody else's, and no agent's
    world.get("/v1/me").auth(&rig.provider.token).send().await.ok(200);
    world.heartbeat(&rig.agent, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_sessions_the_oldest_ends() {
    let world = World::new().await;
    let other = world.sign_in(2).await;
    let mut mine = Vec::new();
    for _ in 0..65 {
        mine.push(world.sign_in(1).await);
    }
    world.get("/v1/me").auth(&mine[0].token).send().await.problem(401, "unauthenticated");
    world.get("/v1/me").auth(&mine[1].token).send().await.ok(200);
    let listed = world.get("/v1/sessions?limit=200").auth(&mine[64].token).send().await.ok(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 64);
    world.get("/v1/me").auth(&other.token).send().await.ok(200);
}

/// Uses are noted to the hour, so that it is between the time that is set and an hour more.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_used_ends() {
    let idle = domain::time::Seconds(3_600 * 2);
    let world = World::with(|config| config.session_idle = idle).await;
    let (used, unused) = (world.sign_in(1).await, world.sign_in(1).await);
    let me = |person: &Person| world.get("/v1/me").auth(&person.token).send();
    world.pass(1_800);
    me(&unused).await.ok(200);
    for _ in 0..2 {
        world.pass(3_600);
        me(&used).await.ok(200);
    }
    // used half past eight, it is half past ten
    me(&unused).await.ok(200);
    for _ in 0..3 {
        world.pass(3_600);
        me(&used).await.ok(200);
    }
    me(&unused).await.problem(401, "unauthenticated");
    assert_eq!(sessions(&world, &used).await.len(), 1);
    // an agent's does not: a machine may have been away
    let rig = world.rig(5, 1, "0.65").await;
    world.pass(4 * 3_600);
    world.heartbeat(&rig.agent, &[]).await;
    me(&rig.provider).await.problem(401, "unauthenticated");
}
