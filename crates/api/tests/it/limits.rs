//! How many requests somebody may make, and how it is told.

use std::net::SocketAddr;

use api::{ApiConfig, Quota, Setting};
use axum::extract::ConnectInfo;
use serde_json::json;

use crate::fixture::{Call, Reply, World};

/// A call from an address.
fn from(call: Call, address: &str) -> Call {
    let address: SocketAddr = format!("{address}:4711").parse().unwrap();
    call.extension(ConnectInfo(address))
}

fn limited(edit: impl FnOnce(&mut ApiConfig)) -> impl Future<Output = World> {
    World::with(move |config| {
        config.limits.proxies = vec!["10.0.0.0/8".parse().unwrap()];
        edit(config);
    })
}

const fn quota(requests: u32, window_s: u32) -> Setting {
    Setting(Quota::new(requests, window_s))
}

async fn tokens(world: &World, address: &str) -> Reply {
    from(world.get("/v1/tokens"), address).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_tells_what_is_left_and_one_too_many_when_to_come_again() {
    let world = limited(|config| config.limits.address = quota(3, 3_600)).await;
    for left in [2, 1, 0] {
        let reply = tokens(&world, "192.0.2.1").await;
        assert_eq!(reply.header("ratelimit-policy"), "\"address\";q=3;w=3600");
        assert_eq!(reply.header("ratelimit"), format!("\"address\";r={left};t=1200"));
        reply.ok(200);
    }
    let refused = tokens(&world, "192.0.2.1").await;
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1_190..=1_200).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit"), format!("\"address\";r=0;t={wait}"));
    assert_eq!(refused.header("ratelimit-policy"), "\"address\";q=3;w=3600");
    let body = refused.problem(429, "rate-limited");
    assert_eq!(body["violated-policies"], json!(["address"]));
    assert_eq!(body["retryable"], true);
    assert!(body["detail"].as_str().unwrap().contains("3 requests in 3600 s"), "{body}");

    // another address is another caller; errors count and tell as well; what is not of the API does not
    tokens(&world, "192.0.2.2").await.ok(200);
    let reply = from(world.get("/v1/nothing"), "192.0.2.2").send().await;
    assert_eq!(reply.header("ratelimit"), "\"address\";r=1;t=1200");
    reply.problem(404, "not-found");
    let health = from(world.get("/healthz"), "192.0.2.1").send().await;
    assert_eq!(health.header("ratelimit"), "");
    health.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_one_caller_and_only_our_proxies_name_others() {
    let world = limited(|config| config.limits.address = quota(1, 3_600)).await;
    tokens(&world, "[2001:db8:0:1::1]").await.ok(200);
    tokens(&world, "[2001:db8:0:1:ffff::2]").await.problem(429, "rate-limited");
    tokens(&world, "[2001:db8:0:2::1]").await.ok(200);
    let behind = |proxy: &str, client: &str| {
        from(world.get("/v1/tokens"), proxy).header("x-forwarded-for", client).send()
    };
    behind("10.0.0.1", "198.51.100.1").await.ok(200);
    behind("10.0.0.2", "198.51.100.1").await.problem(429, "rate-limited");
    behind("10.0.0.1", "198.51.100.2").await.ok(200);
    // a stranger who names somebody is still a stranger
    behind("192.0.2.9", "198.51.100.3").await.ok(200);
    behind("192.0.2.9", "198.51.100.4").await.problem(429, "rate-limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_a_quota_of_its_own_and_an_invented_one_does_not_help() {
    let world = limited(|config| {
        config.limits.identity = quota(4, 3_600);
        config.limits.address = quota(9, 3_600);
        config.limits.writes = quota(2, 3_600);
    })
    .await;
    let person = world.sign_in(1).await;
    let me = || from(world.get("/v1/me"), "192.0.2.1").auth(&person.token);
    // the first one is the address's: nothing is known of the token before
    assert_eq!(me().send().await.header("ratelimit-policy"), "\"address\";q=9;w=3600");
    let second = me().send().await;
    assert_eq!(second.header("ratelimit"), "\"identity\";r=3;t=900");
    // from wherever it comes
    let other = from(world.get("/v1/me"), "192.0.2.77").auth(&person.token).send().await;
    assert_eq!(other.header("ratelimit"), "\"identity\";r=2;t=900");
    // writes are told and counted beside
    let write = || {
        let body = json!({});
        from(world.post("/v1/quotes"), "192.0.2.1").auth(&person.token).json(&body)
    };
    let reply = write().send().await;
    let policy = "\"identity\";q=4;w=3600, \"writes\";q=2;w=3600";
    assert_eq!(reply.header("ratelimit-policy"), policy);
    assert_eq!(reply.header("ratelimit"), "\"identity\";r=1;t=900, \"writes\";r=1;t=1800");
    reply.problem(400, "invalid-request");
    write().send().await.problem(400, "invalid-request");
    me().send().await.problem(429, "rate-limited");

    // invented tokens are the address's, each anew
    for number in 0..8 {
        let token = format!("{number:0>43}");
        let call = from(world.get("/v1/me"), "192.0.2.1").auth(&token);
        call.send().await.problem(401, "unauthenticated");
    }
    let token = "x".repeat(43);
    let call = from(world.get("/v1/tokens"), "192.0.2.1").auth(&token);
    call.send().await.problem(429, "rate-limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_ended_is_nobody_s() {
    let world = limited(|config| config.limits.identity = quota(100, 3_600)).await;
    let person = world.sign_in(1).await;
    let me = || world.get("/v1/me").auth(&person.token).send();
    me().await.ok(200);
    assert!(me().await.header("ratelimit").starts_with("\"identity\""));
    world.post("/v1/auth/logout").auth(&person.token).send().await.ok(204);
    let last = me().await;
    assert!(last.header("ratelimit").starts_with("\"identity\""));
    last.problem(401, "unauthenticated");
    assert!(me().await.header("ratelimit").starts_with("\"address\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_is_limited_by_address_whatever_else_one_has() {
    let world = limited(|config| config.limits.sign_in = quota(4, 3_600)).await;
    let nonce = |address: &str| from(world.post("/v1/auth/siwe/nonce"), address);
    let person = world.sign_in(1).await;
    world.get("/v1/me").auth(&person.token).send().await.ok(200);
    for left in [3, 2, 1, 0] {
        let reply = nonce("192.0.2.1").auth(&person.token).send().await;
        assert_eq!(reply.header("ratelimit"), format!("\"sign-in\";r={left};t=900"));
        reply.ok(201);
    }
    nonce("192.0.2.1").auth(&person.token).send().await.problem(429, "rate-limited");
    from(world.post("/v1/agent/challenge"), "192.0.2.1").send().await.problem(429, "rate-limited");
    nonce("192.0.2.2").send().await.ok(201);
    // whoever has a session goes on
    from(world.get("/v1/me"), "192.0.2.1").auth(&person.token).send().await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_can_be_turned_off() {
    let world = World::with(|config| config.limits = api::LimitConfig::off()).await;
    for _ in 0..20 {
        let reply = tokens(&world, "192.0.2.1").await;
        assert_eq!((reply.header("ratelimit"), reply.header("ratelimit-policy")), ("", ""));
        reply.ok(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_sessions_of_an_account_share_one_quota() {
    let world = limited(|config| config.limits.identity = quota(4, 3_600)).await;
    let (one, two, other) =
        (world.sign_in(1).await, world.sign_in(1).await, world.sign_in(2).await);
    let me = |token: &str| world.get("/v1/me").auth(token).send();
    // of each the first is counted by address
    for person in [&one, &two, &other] {
        assert!(me(&person.token).await.header("ratelimit").starts_with("\"address\""));
    }
    for (person, left) in [(&one, 3), (&two, 2), (&one, 1), (&two, 0)] {
        let reply = me(&person.token).await;
        assert_eq!(reply.header("ratelimit"), format!("\"identity\";r={left};t=900"));
    }
    me(&one.token).await.problem(429, "rate-limited");
    me(&two.token).await.problem(429, "rate-limited");
    me(&other.token).await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_has_a_limit_whoever_it_is_but_for_machines() {
    let world = limited(|config| config.limits.address = quota(10, 3_600)).await;
    let rig = world.rig(1, 1, "0.65").await;
    world.heartbeat(&rig.agent, &[]).await;
    // each from an address of its own, all from one house: 16 times as many as from one address
    for number in 0..160 {
        tokens(&world, &format!("[2001:db8:7:{number:x}::1]")).await.ok(200);
    }
    let refused = tokens(&world, "[2001:db8:7:ffff::1]").await.problem(429, "rate-limited");
    assert_eq!(refused["violated-policies"], json!(["network"]));
    let me = from(world.get("/v1/me"), "[2001:db8:7:fffe::1]").auth(&rig.provider.token);
    me.send().await.problem(429, "rate-limited");
    let heartbeat = from(world.post("/v1/agent/heartbeat"), "[2001:db8:7:fffd::1]");
    let body = json!({"running": []});
    let reply = heartbeat.auth(&rig.agent.token).json(&body).send().await;
    assert_ne!(reply.status, 429, "a house full of machines has one address");
    tokens(&world, "[2001:db8:8::1]").await.ok(200);
}
