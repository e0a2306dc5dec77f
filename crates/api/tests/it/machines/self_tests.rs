//! What a machine shows in its self-test, and what comes of it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_verified_by_what_it_shows_and_loses_it_by_what_it_says() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let ordered = order(&world, &rig).await;
    assert_eq!(order(&world, &rig).await, ordered, "an open order stays");
    let shown = measured(&rig);

    // somebody else's signature, an answer that flatters itself, an answer to something else
    let (path, body) = answered(&world, &rig, &shown, &rig.provider).await;
    let post = |body: Value| world.post(&path).auth(&rig.agent.token).json(&body).send();
    post(body).await.problem(422, "validation-failed");
    let (_, mut body) = answered(&world, &rig, &json!({}), &rig.agent).await;
    body["checks"][0]["pass"] = json!(true);
    body["signature"] = json!(resigned(&rig, &ordered, &body));
    let refused = post(body).await.problem(422, "validation-failed");
    assert!(refused["detail"].as_str().unwrap().contains("gpu_count is called enough"));

    let said = show(&world, &rig, &shown).await;
    assert_eq!(said, json!({"passed": true, "verification": "verified"}));
    let page = public(&world, &rig.machine).await;
    assert_eq!(page["standing"]["tier"], "verified");
    assert_eq!(
        (page["gpu_model"].as_str(), page["online"].as_bool()),
        (Some("rtx-4090"), Some(true))
    );
    for secret in ["name", "enroll_token", "last_heartbeat_at"] {
        assert!(page.get(secret).is_none(), "{secret}");
    }

    // everybody can check the signature
    let checks = world.get(&format!("/v1/machines/{}/checks", rig.machine)).send().await.ok(200);
    let kept = &checks["data"][0];
    assert_eq!(kept["passed"], true);
    assert_eq!(kept["digest"], json!(detail_hash(&kept["checks"])));
    assert_eq!(kept["signer"], json!(rig.agent.key.address()));
    assert_eq!(kept["signature"], json!(resigned(&rig, &ordered, kept)));

    // a report that a GPU is gone takes it away, with a reason that everybody reads
    let mut gone = shown.clone();
    gone["gpus"] = json!([]);
    beat(&world, &rig.agent, gone).await.ok(200);
    let standing = public(&world, &rig.machine).await["standing"].clone();
    assert_eq!(
        (&standing["tier"], &standing["verification"]),
        (&json!("unverified"), &json!("deverified"))
    );
    assert!(standing["reason"].as_str().unwrap().contains("is missing"), "{standing}");

    // and showing it again gives it back
    order(&world, &rig).await;
    show(&world, &rig, &shown).await;
    assert_eq!(public(&world, &rig.machine).await["standing"]["tier"], "verified");
    order(&world, &rig).await;
    let mut slow = shown;
    slow["disk_mb_s"] = json!(3);
    let said = show(&world, &rig, &slow).await;
    assert_eq!(said, json!({"passed": false, "verification": "deverified"}));
    let standing = public(&world, &rig.machine).await["standing"].clone();
    assert_eq!(standing["reason"], "the self-test failed: disk_mb_s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_test_is_answered_once_and_by_its_own_machine() {
    let world = World::new().await;
    let (rig, other) = (world.rig(1, 1, "0.65").await, world.rig(3, 1, "0.65").await);
    let said = world.machine(&world.sign_in(9).await, 1).await;
    let id = said["machine"]["id"].as_str().unwrap();
    let owner = world.sign_in(9).await;
    let reply = world.post(&format!("/v1/machines/{id}/verify")).auth(&owner.token).send().await;
    reply.problem(409, "state-conflict");
    order(&world, &rig).await;
    let shown = measured(&rig);
    let (path, body) = answered(&world, &rig, &shown, &rig.agent).await;
    let foreign = world.post(&path).auth(&other.agent.token).json(&body).send().await;
    foreign.problem(422, "validation-failed");
    world.post(&path).auth(&rig.agent.token).json(&body).send().await.ok(201);
    let again = world.post(&path).auth(&rig.agent.token).json(&body).send().await.ok(200);
    assert_eq!(again["passed"], true);
    assert!(world.heartbeat(&rig.agent, &[]).await["self_test"].is_null());
    let checks = world.get(&format!("/v1/machines/{}/checks", rig.machine)).send().await.ok(200);
    assert_eq!(checks["data"].as_array().unwrap().len(), 1);

    // what is declared anew has to be shown anew
    let path = format!("/v1/machines/{}", rig.machine);
    let tag = world.get(&path).auth(&rig.provider.token).send().await.header("etag").to_owned();
    let patch = |tag: String, body: Value| {
        let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", tag);
        async move { call.json(&body).send().await }
    };
    let seen = patch(tag, json!({"name": "another"})).await;
    let tag = seen.header("etag").to_owned();
    assert_eq!(seen.ok(200)["standing"]["tier"], "verified");
    let seen = patch(tag, json!({"cpu_cores": 64})).await.ok(200);
    assert_eq!(seen["standing"]["verification"], "unverified");
    assert!(seen["standing"]["reason"].as_str().unwrap().contains("verify it again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_test_shows_nothing_that_was_declared_after_it_was_ordered() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let path = format!("/v1/machines/{}", rig.machine);
    let declare = async |body: Value| {
        let tag = world.get(&path).auth(&rig.provider.token).send().await.header("etag").to_owned();
        let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", tag);
        call.json(&body).send().await
    };
    let ordered = order(&world, &rig).await;
    let shown = measured(&rig);
    let (answer, body) = answered(&world, &rig, &shown, &rig.agent).await;
    let post = |body: Value| world.post(&answer).auth(&rig.agent.token).json(&body).send();
    for (field, value) in [
        ("remediation", json!("a\u{0}b")),
        ("remediation", json!("x".repeat(501))),
        ("actual", json!("\u{7}")),
        ("actual", json!(["x".repeat(129)])),
    ] {
        let mut bad = body.clone();
        bad["checks"][1][field] = value;
        bad["signature"] = json!(resigned(&rig, &ordered, &bad));
        let refused = post(bad).await.problem(422, "validation-failed");
        assert_eq!(pointers(&refused), [format!("/checks/1/{field}")]);
    }
    declare(json!({"cpu_cores": 4_096})).await.ok(200);
    post(body).await.problem(409, "state-conflict");
    assert_eq!(public(&world, &rig.machine).await["standing"]["verification"], "unverified");
    assert!(world.heartbeat(&rig.agent, &[]).await["self_test"].is_null(), "it is closed");

    // an offer's disk is not taken from under it
    let offer = format!("/v1/offers/{}", rig.offer);
    let tag = world.get(&offer).send().await.header("etag").to_owned();
    let call = world.call("PATCH", &offer).auth(&rig.provider.token).header("if-match", tag);
    let disk =
        json!({"disk": {"per_gb_month": {"amount": "0.10", "currency": "USD"}, "max_gb": 400}});
    call.json(&disk).send().await.ok(200);
    let refused = declare(json!({"disk_gb": 399})).await.problem(409, "state-conflict");
    assert_eq!(pointers(&refused), ["/disk_gb"]);
    declare(json!({"disk_gb": 400})).await.ok(200);
}

/// Whoever ends the key of the machine's agent while a self-test is answered is waited for, and then nothing is shown by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_ends_while_its_self_test_is_answered_verifies_nothing() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    order(&world, &rig).await;
    let measured = measured(&rig);
    let (path, body) = answered(&world, &rig, &measured, &rig.agent).await;
    let mut somebody = world.store.pool().acquire().await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT FROM machines FOR UPDATE").execute(&mut *somebody).await.unwrap();
    let call = world.post(&path).auth(&rig.agent.token).json(&body);
    let mut answering = std::pin::pin!(call.send());
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut answering).await;
    assert!(early.is_err(), "it waits");
    let ended = "UPDATE machines SET agent_key = NULL, enrolled_at = NULL; COMMIT";
    sqlx::raw_sql(ended).execute(&mut *somebody).await.unwrap();
    answering.await.problem(422, "validation-failed");
    let standing = public(&world, &rig.machine).await["standing"].clone();
    assert_eq!(standing["verification"], "unverified");
}
