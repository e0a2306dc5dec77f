//! Machines, enrolment and offers.

use serde_json::{Value, json};

use crate::fixture::{CHAIN_ID, World, key, sign};

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_registered_once_and_seen_by_its_owner() {
    let world = World::new().await;
    let owner = world.sign_in(1).await;
    let said = world.machine(&owner, 2).await;
    let id = said["machine"]["id"].as_str().unwrap();
    assert_eq!(said["enroll_token"].as_str().unwrap().len(), 43);
    assert_eq!(said["expires_at"], "2027-01-16T08:00:00Z");
    assert_eq!(said["machine"]["gpus"].as_array().unwrap().len(), 2);
    assert_eq!(said["machine"]["online"], false);

    let path = format!("/v1/machines/{id}");
    let seen = world.get(&path).auth(&owner.token).send().await.ok(200);
    assert_eq!(seen, said["machine"]);
    let stranger = world.sign_in(2).await;
    world.get(&path).auth(&stranger.token).send().await.problem(404, "not-found");

    let mut body = json!({"name": "r", "region": "de", "cpu_cores": 1, "ram_gb": 1, "disk_gb": 1,
        "gpus": [{"uuid": said["machine"]["gpus"][0]["uuid"], "model": "rtx-4090"}]});
    let again = world.post("/v1/machines").auth(&stranger.token).json(&body).send().await;
    again.problem(409, "already-exists");
    body["gpus"] = json!([{"uuid": "GPU-00000000", "model": "rtx-9999"}]);
    let reply = world.post("/v1/machines").auth(&stranger.token).json(&body).send().await;
    assert_eq!(reply.problem(422, "validation-failed")["errors"][0]["pointer"], "/gpus/0/model");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_machine_that_is_wrong_is_named() {
    let world = World::new().await;
    let owner = world.sign_in(1).await;
    let gpu = json!({"uuid": "GPU-00000000", "model": "rtx-4090"});
    let body = json!({"name": "", "region": "Germany", "cpu_cores": 0, "ram_gb": 70_000,
        "disk_gb": 0, "gpus": [gpu, gpu, {"uuid": "x y", "model": "h200-sxm"}]});
    let reply = world.post("/v1/machines").auth(&owner.token).json(&body).send().await;
    let body = reply.problem(422, "validation-failed");
    let pointers: Vec<&str> = body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(
        pointers,
        [
            "/name",
            "/region",
            "/cpu_cores",
            "/ram_gb",
            "/disk_gb",
            "/gpus/1/uuid",
            "/gpus/2/uuid",
            "/gpus/2/model"
        ]
    );
    let body = json!({"name": "a\u{0}b", "region": "de", "cpu_cores": 1, "ram_gb": 1, "disk_gb": 1,
        "gpus": []});
    let reply = world.post("/v1/machines").auth(&owner.token).json(&body).send().await;
    assert_eq!(reply.problem(422, "validation-failed")["errors"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_listed_in_pages() {
    let world = World::new().await;
    let owner = world.sign_in(1).await;
    for n in 0..3 {
        let body = json!({"name": format!("m{n}"), "region": "de", "cpu_cores": 1, "ram_gb": 1,
            "disk_gb": 1, "gpus": [{"uuid": format!("GPU-0000000{n}"), "model": "t4"}]});
        world.post("/v1/machines").auth(&owner.token).json(&body).send().await.ok(201);
    }
    let mut names = Vec::new();
    let mut path = "/v1/machines?limit=2".to_owned();
    loop {
        let page = world.get(&path).auth(&owner.token).send().await.ok(200);
        let data = page["data"].as_array().unwrap();
        names.extend(data.iter().map(|machine| machine["name"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/v1/machines?limit=2&cursor={cursor}");
    }
    assert_eq!(names, ["m0", "m1", "m2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_enrols_with_its_own_key_once_for_each_token() {
    let world = World::new().await;
    let owner = world.sign_in(1).await;
    let said = world.machine(&owner, 1).await;
    let (id, token) =
        (said["machine"]["id"].as_str().unwrap(), said["enroll_token"].as_str().unwrap());
    let agent = key(2);

    let body = json!({"enroll_token": token, "agent_address": agent.address(),
        "signature": sign(&key(3), &format!("weir-enroll:{CHAIN_ID}:{token}"))});
    world.post("/v1/agent/enroll").json(&body).send().await.problem(401, "enroll-invalid");
    world.enroll(&agent, "another").await.problem(401, "enroll-invalid");
    world.agent_session(&agent, id).await.problem(401, "agent-invalid");

    let renewed = format!("/v1/machines/{id}/enroll-token");
    let fresh = world.post(&renewed).auth(&owner.token).send().await.ok(201);
    world.enroll(&agent, token).await.problem(401, "enroll-invalid");
    let token = fresh["enroll_token"].as_str().unwrap();
    assert_eq!(world.enroll(&agent, token).await.ok(201)["machine_id"], id);
    // the token is used up, but an agent whose answer was lost gets it again
    assert_eq!(world.enroll(&agent, token).await.ok(201)["machine_id"], id);
    world.enroll(&key(3), token).await.problem(401, "enroll-invalid");
    world.post(&renewed).auth(&owner.token).send().await.ok(201);

    world.agent_session(&key(3), id).await.problem(401, "agent-invalid");
    world.agent_session(&agent, id).await.ok(201);
    let said = world.post("/v1/agent/challenge").send().await.ok(201);
    let nonce = said["nonce"].as_str().unwrap();
    let body = json!({"machine_id": id, "nonce": nonce,
        "signature": sign(&agent, &format!("weir-agent:{CHAIN_ID}:{id}:{nonce}"))});
    let session = || world.post("/v1/agent/session").json(&body).send();
    session().await.ok(201);
    session().await.problem(401, "agent-invalid");

    // one key speaks for one machine
    let other = world.sign_in(4).await;
    let said = world.machine(&other, 1).await;
    let reply = world.enroll(&agent, said["enroll_token"].as_str().unwrap()).await;
    reply.problem(409, "already-exists");
    world.pass(24 * 3_600);
    let reply = world.enroll(&key(5), said["enroll_token"].as_str().unwrap()).await;
    reply.problem(401, "enroll-invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_changes_only_as_it_was_read() {
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    let path = format!("/v1/offers/{}", rig.offer);
    let patch = |tag: Option<&str>, body: Value| {
        let call = world.call("PATCH", &path).auth(&rig.provider.token).json(&body);
        match tag {
            Some(tag) => call.header("if-match", tag).send(),
            None => call.send(),
        }
    };
    let first = world.get(&path).send().await;
    let tag = first.header("etag").to_owned();
    let unchanged = world.get(&path).header("if-none-match", &tag).send().await;
    assert_eq!((unchanged.status.as_u16(), unchanged.header("etag")), (304, tag.as_str()));
    assert_eq!(first.ok(200)["price"]["amount"], "0.650000");

    let dearer = json!({"price": {"amount": "0.70", "currency": "USD"}});
    patch(None, dearer.clone()).await.problem(428, "precondition-required");
    patch(Some("\"7-listed\""), dearer.clone()).await.problem(412, "etag-mismatch");
    let changed = patch(Some(&tag), dearer.clone()).await;
    let next = changed.header("etag").to_owned();
    let body = changed.ok(200);
    assert_eq!(
        (body["version"].as_u64(), body["price"]["amount"].as_str()),
        (Some(2), Some("0.700000"))
    );
    patch(Some(&tag), dearer.clone()).await.problem(412, "etag-mismatch");
    world.get(&path).header("if-none-match", &tag).send().await.ok(200);

    // a pause is no new version, and still a change that the tag tells
    let paused = patch(Some(&next), json!({"state": "paused"})).await;
    assert_ne!(paused.header("etag"), next);
    let tag = paused.header("etag").to_owned();
    assert_eq!(paused.ok(200)["version"], 2);
    for (body, pointer) in [
        (json!({"price": {"amount": "0", "currency": "USD"}}), "/price/amount"),
        (json!({"price": {"amount": "1000.000001", "currency": "USD"}}), "/price/amount"),
        (json!({"gpu_count": 3}), "/gpu_count"),
        (json!({"gpu_count": 0}), "/gpu_count"),
        (json!({"min_duration_s": 0}), "/min_duration_s"),
        (json!({"min_duration_s": 90_000}), "/min_duration_s"),
        (json!({"max_duration_s": 2_678_401}), "/max_duration_s"),
        (json!({"state": "withdrawn"}), "/state"),
    ] {
        let body = patch(Some(&tag), body).await.problem(422, "validation-failed");
        assert_eq!(body["errors"][0]["pointer"], pointer);
    }
    let stranger = world.sign_in(9).await;
    let call = world.call("PATCH", &path).auth(&stranger.token).header("if-match", &tag);
    call.json(&dearer).send().await.problem(404, "not-found");

    let withdraw = || world.call("DELETE", &path).auth(&rig.provider.token);
    withdraw().header("if-match", "\"1-listed\"").send().await.problem(412, "etag-mismatch");
    withdraw().send().await.ok(204);
    withdraw().send().await.ok(204);
    let tag = world.get(&path).send().await.header("etag").to_owned();
    patch(Some(&tag), json!({"state": "listed"})).await.problem(409, "state-conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_has_one_live_offer() {
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    world.list(&rig.provider, &rig.machine, 1, "0.60").await.problem(409, "already-exists");
    world
        .call("DELETE", &format!("/v1/offers/{}", rig.offer))
        .auth(&rig.provider.token)
        .send()
        .await
        .ok(204);
    world.list(&rig.provider, &rig.machine, 3, "0.60").await.problem(422, "validation-failed");
    world.list(&rig.provider, &rig.machine, 1, "0.60").await.ok(201);
    let stranger = world.sign_in(9).await;
    let reply = world.list(&stranger, &rig.machine, 1, "0.60").await;
    assert_eq!(reply.problem(422, "validation-failed")["errors"][0]["pointer"], "/machine_id");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_changes_at_once_one_is_made() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let path = format!("/v1/offers/{}", rig.offer);
    let tag = world.get(&path).send().await.header("etag").to_owned();
    let bodies: Vec<Value> = (1..=8)
        .map(|n| json!({"price": {"amount": format!("0.{n}"), "currency": "USD"}}))
        .collect();
    let calls = bodies.iter().map(|body| {
        let call = world.call("PATCH", &path).auth(&rig.provider.token);
        call.header("if-match", &tag).json(body).send()
    });
    let replies = futures_util::future::join_all(calls).await;
    let mut made = 0;
    for reply in replies {
        if reply.status == 200 {
            made += 1;
        } else {
            reply.problem(412, "etag-mismatch");
        }
    }
    assert_eq!(made, 1);
}

/// What one wallet takes of everybody's memory has a bound.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_so_many_machines_and_room_again_when_one_is_retired() {
    let world = World::new().await;
    let owner = world.sign_in(1).await;
    world.machine(&owner, 1).await;
    let sql = |text: &'static str| sqlx::query(text).execute(world.store.pool());
    sql("INSERT INTO machines (id, account_id, name, region, cpu_cores, ram_gb, disk_gb, created_at)
         SELECT gen_random_uuid(), account_id, name, region, cpu_cores, ram_gb, disk_gb, created_at
         FROM machines, generate_series(1, 4999)")
    .await
    .unwrap();
    let body = json!({"name": "r", "region": "de", "cpu_cores": 1, "ram_gb": 1, "disk_gb": 1,
        "gpus": [{"uuid": "GPU-11111111", "model": "rtx-4090"}]});
    let one_more = || world.post("/v1/machines").auth(&owner.token).json(&body).send();
    let refused = one_more().await.problem(409, "state-conflict");
    assert!(refused["detail"].as_str().unwrap().contains("5000 machines"), "{refused}");
    sql("UPDATE machines SET service = 'retired' WHERE id = (SELECT min(id::text)::uuid FROM machines)")
        .await
        .unwrap();
    one_more().await.ok(201);
}
