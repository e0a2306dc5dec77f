//! What every request has in common, and every way to be refused by it.

use std::{sync::Arc, time::Duration};

use domain::time::{Clock as _, UnixMillis};
use serde_json::{Value, json};
use store::Store;
use testkit::{ManualClock, TestDb};

use crate::{
    fixture::{NOW, World, policy},
    rpc,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_routed_is_a_problem_too() {
    let world = World::new().await;
    let body = world.get("/v1/nothing").send().await.problem(404, "not-found");
    assert_eq!(body["instance"], "/v1/nothing");
    let reply = world.call("PUT", "/v1/offers").send().await;
    assert!(reply.header("allow").contains("GET"), "{reply:?}");
    reply.problem(405, "method-not-allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_an_id_of_its_own_or_the_callers() {
    let world = World::new().await;
    let reply = world.get("/healthz").header("x-request-id", "mine-7").send().await;
    assert_eq!(reply.header("x-request-id"), "mine-7");
    for bad in ["", "with space", &"x".repeat(65)] {
        let reply = world.get("/healthz").header("x-request-id", bad).send().await;
        assert_eq!(reply.header("x-request-id").len(), 32);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_read_strictly() {
    let world = World::new().await;
    let person = world.sign_in(1).await;
    let offers = || world.post("/v1/offers").auth(&person.token);
    let good = json!({"machine_id": "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f",
        "price": {"amount": "0.65", "currency": "USD"}, "gpu_count": 1, "min_duration_s": 60,
        "max_duration_s": 3_600});
    let edited = |pointer: &str, value: Value| {
        let mut body = good.clone();
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    let mut unknown = good.clone();
    unknown["prise"] = json!(1);
    let mut missing = good.clone();
    missing.as_object_mut().unwrap().remove("gpu_count");
    for (body, pointer, says) in [
        (unknown, "/prise", "unknown field"),
        (missing, "", "gpu_count"),
        (edited("/price/amount", json!(0.65)), "/price/amount", "not as a JSON number"),
        (edited("/price/amount", json!("0.6500001")), "/price/amount", "at most 6 fraction digits"),
        (edited("/price/amount", json!("-1")), "/price/amount", "fraction digits"),
        (edited("/price/amount", json!("1e3")), "/price/amount", "fraction digits"),
        (edited("/price/currency", json!("EUR")), "/price/currency", "USD"),
        (edited("/gpu_count", json!("two")), "/gpu_count", "u16"),
        (edited("/gpu_count", json!(-1)), "/gpu_count", "u16"),
        (edited("/gpu_count", json!(1.5)), "/gpu_count", "u16"),
        (edited("/max_duration_s", json!(1e30)), "/max_duration_s", "u32"),
        (
            edited("/machine_id", json!("ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
            "/machine_id",
            "mch_",
        ),
    ] {
        let body = offers().json(&body).send().await.problem(400, "invalid-request");
        let error = &body["errors"][0];
        assert_eq!(error["pointer"], pointer, "{body:#}");
        assert!(error["message"].as_str().unwrap().contains(says), "{body:#}");
    }
    for raw in ["", "{", "[]x", "{\"a\":1}}", "\u{0}"] {
        offers().raw(raw.to_owned()).send().await.problem(400, "invalid-request");
    }
    let twice = good.to_string().replacen('{', "{\"gpu_count\":1,", 1);
    offers().raw(twice).send().await.problem(400, "invalid-request");
    let untyped = offers().header("content-type", "text/plain").send().await;
    untyped.problem(415, "unsupported-media-type");
    offers().send().await.problem(415, "unsupported-media-type");
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(64 * 1_024));
    offers().raw(large).send().await.problem(413, "body-too-large");

    let body = json!({"enroll_token": "x", "agent_address": "0x123", "signature": "0x"});
    let reply = world.post("/v1/agent/enroll").json(&body).send().await;
    assert_eq!(reply.problem(400, "invalid-request")["errors"][0]["pointer"], "/agent_address");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_queries_are_read_strictly() {
    let world = World::new().await;
    let person = world.sign_in(1).await;
    for (path, says) in [
        ("/v1/offers/nonsense", "ofr_"),
        ("/v1/offers/ofr_0198F1C2A4B37C1E8D2F6A5B4C3D2E1F", "ofr_"),
        ("/v1/rentals/ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f", "rnt_"),
        ("/v1/machines/1", "mch_"),
        ("/v1/quotes/%20", "quo_"),
    ] {
        let body = world.get(path).auth(&person.token).send().await.problem(400, "invalid-request");
        assert!(body["detail"].as_str().unwrap().contains(says), "{body}");
    }
    for (query, says) in [
        ("gpu_modle=x", "did you mean gpu_model?"),
        ("gpu_count=-1", "gpu_count"),
        ("gpu_count=99999999999", "gpu_count"),
        ("price_lte=1e3", "price_lte"),
        ("provider=me", "acc_"),
        ("sort=cheap", "-created"),
        ("limit=0", "1 to 200"),
        ("limit=201", "1 to 200"),
        ("region=d_e", "de-fra"),
        ("limit=1&limit=2", "twice"),
    ] {
        let reply = world.get(&format!("/v1/offers?{query}")).send().await;
        let body = reply.problem(400, "invalid-request");
        assert!(body["detail"].as_str().unwrap().contains(says), "{query}: {body}");
        let pointer = body["errors"][0]["pointer"].as_str().unwrap();
        let name = query.split('=').next().unwrap();
        assert!(pointer == format!("?{name}"), "{query}: {body}");
    }
    world.get("/v1/offers?cursor=abc").send().await.problem(400, "invalid-cursor");
    let nothing = world.get("/v1/offers?gpu_count=65535&min_vram_gb=4294967295").send().await;
    assert_eq!(nothing.problem(422, "validation-failed")["errors"][0]["pointer"], "?gpu_count");
    let most = "price_lte=18446744073709.551615";
    world.get(&format!("/v1/offers?{most}")).send().await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_request_is_given_up() {
    let world = World::with(|config| config.request_timeout = Duration::from_secs(1)).await;
    // somebody holds what it reads, for longer than a request may take
    let mut holder = world.store.read().await.unwrap();
    let mut held = testkit::begin(&mut holder).await.unwrap();
    let lock = "LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    world.get("/v1/tokens").send().await.problem(503, "timed-out");
    held.rollback().await.unwrap();
    world.get("/healthz").send().await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_the_service_says_so() {
    let world = World::new().await;
    world.get("/readyz").send().await.ok(200);
    world.store.pool().close().await;
    // what the database said is good for a second
    let ready = async || world.get("/readyz").send().await;
    let mut reply = ready().await;
    while reply.status == 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        reply = ready().await;
    }
    reply.problem(503, "unavailable");
    world.get("/v1/tokens").send().await.problem(503, "unavailable");
    // what is for rent is known all the same, for a while
    world.get("/v1/offers").send().await.ok(200);
    world.post("/v1/auth/siwe/nonce").send().await.problem(503, "unavailable");
    world.get("/healthz").send().await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_migrated_database_or_a_contract_it_is_not_ready() {
    for migrations in [None, Some(&store::MIGRATOR)] {
        let db = TestDb::new(migrations).await.unwrap();
        let clock = Arc::new(ManualClock::new(UnixMillis(NOW.get() * 1_000)));
        assert_eq!(clock.now().seconds(), NOW);
        let store = Store::from_pool(db.pool, clock, policy());
        let chain = chain::ReadClient::connect(&rpc::dead()).unwrap();
        let config = api::ApiConfig::new("http://localhost:8080", 1);
        let state = api::AppState::new(store.clone(), chain, config, None);
        let router = api::router(state.clone());
        let clock = Arc::new(ManualClock::new(NOW.millis()));
        let world = World { store, clock, state, router };
        world.get("/readyz").send().await.problem(503, "not-ready");
        if migrations.is_some() {
            world.get("/v1/deployment").send().await.problem(503, "not-ready");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_behind_tls_says_so() {
    let plain = World::new().await;
    let reply = plain.get("/v1/tokens").send().await;
    assert_eq!(reply.header("strict-transport-security"), "");
    let url = "https://api.example.com";
    let world = World::with(|config| config.public_url = url.to_owned()).await;
    for path in ["/v1/tokens", "/healthz", "/v1/nothing"] {
        let reply = world.get(path).send().await;
        assert_eq!(reply.header("strict-transport-security"), "max-age=31536000", "{path}");
    }
}
