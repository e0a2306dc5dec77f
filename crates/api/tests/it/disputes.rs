//! What a case may hold, and who may open one. What becomes of it is in `crates/weir/tests/it/disputes.rs`, with the chain.

use domain::{
    money::Amount,
    rental::{CloseOutcome, RentalEvent},
    time::{Seconds, UnixSeconds},
};
use serde_json::{Value, json};
use store::{Store, rentals::MoneyDelta};
use testkit::{ManualClock, TestDb};

use crate::{
    api_keys::make,
    docs::assert_is_as_shown,
    fixture::{NOW, World, policy},
    rpc,
    running::Running,
};

/// A market whose contract holds the last ten minutes.
pub async fn world() -> World {
    let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
    let clock = std::sync::Arc::new(ManualClock::new(NOW.millis()));
    let policy = store::Policy { holdback: Seconds(600), ..policy() };
    let store = Store::from_pool(db.pool, clock.clone(), policy);
    World::over(store, clock, &rpc::start().await, |_| {}).await
}

fn piece(n: u8) -> Value {
    json!({"sha256": format!("0x{}", format!("{n:02x}").repeat(32)), "uri": "https://example.com/log"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_holds_what_was_said_within_bounds() {
    let world = world().await;
    let running = Running::new(&world).await;
    let renter = &running.renter;
    let post = |path: String, body: Value| world.post(&path).auth(&renter.token).json(&body).send();
    let open = |change: &dyn Fn(&mut Value)| {
        let mut body = json!({"rental_id": running.id, "code": "abuse", "statement": "s"});
        change(&mut body);
        post("/v1/disputes".to_owned(), body)
    };
    open(&|body| body["code"] = json!("weather")).await.problem(400, "invalid-request");
    open(&|body| body["statement"] = json!("a".repeat(4_097)))
        .await
        .problem(422, "validation-failed");
    open(&|body| body["statement"] = json!("a\u{7}")).await.problem(422, "validation-failed");
    open(&|body| body["from"] = json!("2027-01-15T08:00:00Z"))
        .await
        .problem(422, "validation-failed");
    let said = open(&|body| {
        body["from"] = json!("2027-01-15T08:00:00Z");
        body["to"] = json!("2027-01-15T08:00:00Z");
    });
    assert_eq!(said.await.problem(422, "validation-failed")["errors"][0]["pointer"], "/to");
    open(&|body| body["from"] = json!("yesterday")).await.problem(422, "validation-failed");
    for uri in ["http://example.com/x", "file:///etc/passwd", "https://a b", ""] {
        let said = open(&|body| {
            body["evidence"] = json!([piece(1), {"sha256": "0x01", "uri": uri}]);
        });
        said.await.problem(400, "invalid-request");
        let said = open(&|body| {
            let mut bad = piece(2);
            bad["uri"] = json!(uri);
            body["evidence"] = json!([piece(1), bad]);
        });
        let problem = said.await.problem(422, "validation-failed");
        assert_eq!(problem["errors"][0]["pointer"], "/evidence/1/uri");
    }
    let many: Vec<Value> = (0..17).map(piece).collect();
    open(&|body| body["evidence"] = json!(many)).await.problem(422, "validation-failed");
    open(&|body| body["rental_id"] = json!("rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"))
        .await
        .problem(404, "not-found");
    let case = open(&|body| body["evidence"] = json!(many[..16])).await.ok(201);
    assert_eq!(case["evidence"].as_array().unwrap().len(), 16);
    assert_eq!(case["facts"]["judgement"], "not_judged");
    let path = format!("/v1/disputes/{}", case["id"].as_str().unwrap());

    // each side has room for 32 pieces, whatever the other one shows
    let evidence = format!("{path}/evidence");
    post(evidence.clone(), json!({"evidence": []})).await.problem(422, "validation-failed");
    post(evidence.clone(), json!({"evidence": many[..16]})).await.ok(201);
    post(evidence.clone(), json!({"evidence": [piece(1)]})).await.problem(409, "state-conflict");
    let theirs =
        |body: Value| world.post(&evidence).auth(&running.rig.provider.token).json(&body).send();
    for _ in 0..2 {
        theirs(json!({"evidence": many[..16]})).await.ok(201);
    }
    theirs(json!({"evidence": [piece(1)]})).await.problem(409, "state-conflict");
    let seen = world.get(&path).auth(&running.rig.provider.token).send().await.ok(200);
    assert_eq!(seen["evidence"].as_array().unwrap().len(), 64);
    assert_eq!(seen["role"], "provider");

    // proposals are for a while, and within the clock
    let propose = format!("{path}/propose");
    for until in ["2027-01-15T08:00:00Z", "2027-01-31T08:00:00Z", "soon"] {
        let body = json!({"billed_s": 1, "valid_until": until});
        post(propose.clone(), body).await.problem(422, "validation-failed");
    }
    let body = json!({"billed_s": 1, "valid_until": "2027-01-15T09:00:00Z"});
    // nothing has passed yet: the first second is always billed
    let second = json!({"billed_s": 2, "valid_until": "2027-01-15T09:00:00Z"});
    post(propose.clone(), second).await.problem(422, "validation-failed");
    world.pass(10);
    let said = post(propose.clone(), body).await.ok(200);
    assert_eq!(said["typed_data"]["message"]["billedSecs"], "1");
    for asked in ["propose", "accept"] {
        assert_is_as_shown("post", &format!("/v1/disputes/{{id}}/{asked}"), &said);
    }
    let unsigned = json!({"billed_s": 1, "valid_until": "2027-01-15T09:00:00Z", "signature": "0x"});
    post(propose, unsigned).await.problem(422, "validation-failed");
    post(format!("{path}/accept"), json!({"seq": 1})).await.problem(422, "validation-failed");

    // somebody else finds nothing
    let stranger = world.sign_in(30).await;
    for (method, path) in [("GET", path.clone()), ("POST", format!("{path}/withdraw"))] {
        world.call(method, &path).auth(&stranger.token).send().await.problem(404, "not-found");
    }
    let list = world.get("/v1/disputes?limit=1").auth(&renter.token).send().await.ok(200);
    assert_eq!(list["data"][0]["id"], case["id"]);
    let cursor = list["next_cursor"].as_str().unwrap();
    let rest = world.get(&format!("/v1/disputes?limit=1&cursor={cursor}"));
    let rest = rest.auth(&renter.token).send().await.ok(200);
    assert_eq!((&rest["data"], &rest["next_cursor"]), (&json!([]), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_disputes_what_it_is_limited_to() {
    let world = world().await;
    let running = Running::new(&world).await;
    let (renter, offer) = (&running.renter, &running.rig.offer);
    let other = world.rig(20, 1, "0.65").await;
    let body = json!({"rental_id": running.id, "code": "abuse"});
    let open = |token: &str| world.post("/v1/disputes").auth(token).json(&body).send();
    let scopes = ["disputes:write", "rentals:read"];
    let elsewhere = make(&world, renter, &scopes, json!({"offers": [other.offer]})).await.person;
    let here = make(&world, renter, &scopes, json!({"offers": [offer]})).await.person;
    let reader = make(&world, renter, &["rentals:read"], json!({})).await.person;
    open(&elsewhere.token).await.problem(403, "forbidden");
    let said = open(&reader.token).await.problem(403, "scope-missing");
    assert_eq!(said["scope"], "disputes:write");
    let case = open(&here.token).await.ok(201);
    let path = format!("/v1/disputes/{}", case["id"].as_str().unwrap());
    let list = async |token: &str| {
        let page = world.get("/v1/disputes").auth(token).send().await.ok(200);
        page["data"].as_array().unwrap().len()
    };
    for (token, sees) in [(&here.token, true), (&reader.token, true), (&elsewhere.token, false)] {
        assert_eq!(list(token).await, usize::from(sees));
        let read = world.get(&path).auth(token).send().await;
        assert_eq!(read.status, if sees { 200 } else { 403 });
    }
    let withdraw = || world.post(&format!("{path}/withdraw"));
    withdraw().auth(&elsewhere.token).send().await.problem(403, "forbidden");
    withdraw().auth(&reader.token).send().await.problem(403, "scope-missing");
    withdraw().auth(&here.token).send().await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paid_cannot_be_disputed() {
    let world = world().await;
    let running = Running::new(&world).await;
    let body = json!({"rental_id": running.id, "code": "billing"});
    let open = |token: &str| world.post("/v1/disputes").auth(token).json(&body).send();
    // the contract does not hear a provider while the rental runs
    open(&running.rig.provider.token).await.problem(409, "state-conflict");
    let started_at = UnixSeconds(NOW.0);
    world.advance(&running.id, RentalEvent::StartFinal { started_at }).await;
    world.pass(10);
    let stop = world.post(&format!("/v1/rentals/{}/stop", running.id));
    stop.auth(&running.renter.token).key("s").send().await.ok(202);
    open(&running.renter.token).await.problem(409, "state-conflict");
    world.advance(&running.id, RentalEvent::AgentStopped).await;
    let units = |value| Amount::new(value).unwrap();
    let delta = MoneyDelta {
        provider: units(159),
        fee: units(21),
        refund: units(649_820),
        billed: Some(Seconds::ONE),
        ..MoneyDelta::default()
    };
    world.pay(&running.id, delta).await;
    let outcome = CloseOutcome::ClosedByOperator;
    world.advance(&running.id, RentalEvent::ClosedFinal { outcome }).await;
    let said = open(&running.renter.token).await.problem(409, "state-conflict");
    assert!(said["detail"].as_str().unwrap().contains("final"), "{said}");

    // without a holdback a renter has nothing to contest either
    let world = World::new().await;
    let running = Running::new(&world).await;
    let body = json!({"rental_id": running.id, "code": "billing"});
    let said = world.post("/v1/disputes").auth(&running.renter.token).json(&body).send().await;
    said.problem(409, "state-conflict");
}

/// What could not be looked up is not said to be missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_case_is_there_though_the_database_has_trouble() {
    let world = world().await;
    let running = Running::new(&world).await;
    let token = &running.renter.token;
    let body = json!({"rental_id": running.id, "code": "abuse"});
    let case = world.post("/v1/disputes").auth(token).json(&body).send().await.ok(201);
    let path = format!("/v1/disputes/{}", case["id"].as_str().unwrap());
    let away = sqlx::raw_sql("ALTER TABLE quotes RENAME TO away");
    away.execute(world.store.pool()).await.unwrap();
    world.get(&path).auth(token).send().await.problem(500, "internal");
}
