//! What machines are, what they have shown, and when they take no rentals.

use std::{sync::Arc, time::Duration};

use domain::machine::{Measured, Requirement, Service, answer};
use escrow::reading::detail_hash;
use serde_json::{Value, json};
use store::{TxError, machines};
use tokio::sync::Notify;

use crate::{
    events::Stream,
    fixture::{CHAIN_ID, Person, Reply, Rig, World, sign},
};

/// What the fixture's machine is, seen by an agent that is honest.
fn measured(rig: &Rig) -> Value {
    let uuid = format!("GPU-{:x}-0", rig.provider.key.address());
    json!({"gpus": [{"uuid": uuid, "name": "NVIDIA GeForce RTX 4090", "vram_mib": 24_564}],
           "driver_version": "550.54.15", "cuda_version": 124, "cpu_cores": 16, "ram_gb": 67,
           "disk_gb": 512, "disk_mb_s": 900, "ports": 0})
}

async fn beat(world: &World, agent: &Person, measured: Value) -> Reply {
    let body = json!({"running": [], "measured": measured});
    world.post("/v1/agent/heartbeats").auth(&agent.token).json(&body).send().await
}

async fn order(world: &World, rig: &Rig) -> Value {
    let path = format!("/v1/machines/{}/verify", rig.machine);
    world.post(&path).auth(&rig.provider.token).send().await.ok(202)
}

/// The answer that an agent with this machine gives to what its heartbeat asks.
async fn answered(world: &World, rig: &Rig, measured: &Value, key: &Person) -> (String, Value) {
    let test = world.heartbeat(&rig.agent, &[]).await["self_test"].clone();
    let asked: Vec<Requirement> = serde_json::from_value(test["requirements"].clone()).unwrap();
    let found: Measured = serde_json::from_value(measured.clone()).unwrap();
    let checks = serde_json::to_value(answer(&asked, &found, 0)).unwrap();
    let id = test["id"].as_str().unwrap();
    let text = format!("weir-checks:{CHAIN_ID}:{}:{id}:{}", rig.machine, detail_hash(&checks));
    let body = json!({"checks": checks, "measured": measured, "signature": sign(&key.key, &text)});
    (format!("/v1/agent/self-tests/{id}"), body)
}

async fn show(world: &World, rig: &Rig, measured: &Value) -> Value {
    let (path, body) = answered(world, rig, measured, &rig.agent).await;
    world.post(&path).auth(&rig.agent.token).json(&body).send().await.ok(201)
}

async fn public(world: &World, machine: &str) -> Value {
    world.get(&format!("/v1/machines/{machine}/public")).send().await.ok(200)
}

fn pointers(body: &Value) -> Vec<&str> {
    let errors = body["errors"].as_array().unwrap();
    errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_are_declared_changed_and_then_measured() {
    let world = World::new().await;
    let owner = world.sign_in(1).await;
    let mut body = json!({"name": "r", "region": "de", "cpu_cores": 1, "ram_gb": 1, "disk_gb": 1,
        "gpus": [{"uuid": "GPU-00000000", "model": "rtx-4090", "vram_gb": 24, "name": "rtx 4090"}],
        "driver_version": "550.54.15", "cuda_version": 124, "inet_up_mbps": 900, "ports": 100,
        "static_ip": true});
    let said = world.post("/v1/machines").auth(&owner.token).json(&body).send().await.ok(201);
    let facts = &said["machine"]["facts"];
    assert_eq!(facts["driver_version"], "550.54.15");
    assert_eq!((facts["ports"].as_u64(), facts["static_ip"].as_bool()), (Some(100), Some(true)));
    assert!(facts["disk_mb_s"].is_null() && facts["measured"] == json!([]));
    assert_eq!(said["machine"]["standing"]["tier"], "unverified");

    // hardware that cannot be
    body["gpus"] = json!([{"uuid": "GPU-00000001", "model": "rtx-4090", "vram_gb": 48},
                          {"uuid": "GPU-00000002", "model": "rtx-4090", "name": "Tesla T4"}]);
    let reply = world.post("/v1/machines").auth(&owner.token).json(&body).send().await;
    let refused = reply.problem(422, "validation-failed");
    assert_eq!(pointers(&refused), ["/gpus/0/vram_gb", "/gpus/1/name"]);
    body["driver_version"] = json!("new");
    body["cuda_version"] = json!(9);
    body["disk_mb_s"] = json!(1_000_001);
    body["ports"] = json!(65_536);
    let reply = world.post("/v1/machines").auth(&owner.token).json(&body).send().await;
    let refused = reply.problem(422, "validation-failed");
    assert_eq!(pointers(&refused), ["/driver_version", "/cuda_version", "/disk_mb_s", "/ports"]);

    let path = format!("/v1/machines/{}", said["machine"]["id"].as_str().unwrap());
    let tag = world.get(&path).auth(&owner.token).send().await.header("etag").to_owned();
    let patch = json!({"cpu_cores": 8, "inet_up_mbps": 1000});
    let change = |token: String, tag: String, patch: Value| {
        let call = world.call("PATCH", &path).auth(&token).header("if-match", tag);
        async move { call.json(&patch).send().await }
    };
    let bare = world.call("PATCH", &path).auth(&owner.token).json(&patch).send().await;
    bare.problem(428, "precondition-required");
    let stranger = world.sign_in(2).await;
    change(stranger.token, tag.clone(), patch.clone()).await.problem(404, "not-found");
    let seen = change(owner.token.clone(), tag.clone(), patch.clone()).await.ok(200);
    assert_eq!((seen["cpu_cores"].as_u64(), seen["ram_gb"].as_u64()), (Some(8), Some(1)));
    assert_eq!(seen["facts"]["inet_up_mbps"], 1000);
    change(owner.token.clone(), tag, patch).await.problem(412, "etag-mismatch");
    let tag = world.get(&path).auth(&owner.token).send().await.header("etag").to_owned();
    let wrong = json!({"region": "Germany", "cuda_version": 1});
    let refused = change(owner.token.clone(), tag, wrong).await.problem(422, "validation-failed");
    assert_eq!(pointers(&refused), ["/region", "/cuda_version"]);

    // a place that the catalog has not: the nearest are told
    body["region"] = json!("us-ny");
    let reply = world.post("/v1/machines").auth(&owner.token).json(&body).send().await;
    let refused = reply.problem(422, "validation-failed");
    assert_eq!(refused["errors"][0]["pointer"], "/region");
    let told = refused["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(told.contains("nearest are us-nyc, us-"), "{refused}");
    assert!(told.ends_with("; us alone will do for a place that is missing"), "{refused}");
    // and its country only if that would be taken
    body["region"] = json!("zz-old");
    let reply = world.post("/v1/machines").auth(&owner.token).json(&body).send().await;
    let refused = reply.problem(422, "validation-failed");
    let told = refused["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(told.starts_with("none of /v1/regions; nearest are "), "{refused}");
    assert!(!told.contains("alone"), "{refused}");
    // a machine that stands where the catalog had a place once can be changed otherwise
    let id = said["machine"]["id"].as_str().unwrap().split_once('_').unwrap().1;
    let mut connection = world.store.read().await.unwrap();
    sqlx::query("UPDATE machines SET region = 'zz-old' WHERE id = $1::uuid")
        .bind(id)
        .execute(&mut *connection)
        .await
        .unwrap();
    for (patch, status) in [
        (json!({"ram_gb": 2}), 200),
        (json!({"ram_gb": 3, "region": "zz-old"}), 200),
        (json!({"region": "zz-new"}), 422),
        (json!({"region": "de-ber"}), 200),
        (json!({"region": "zz-old"}), 422),
    ] {
        let tag = world.get(&path).auth(&owner.token).send().await.header("etag").to_owned();
        let call = world.call("PATCH", &path).auth(&owner.token).header("if-match", tag);
        let reply = call.json(&patch).send().await;
        if status == 200 {
            reply.ok(200);
        } else {
            reply.problem(422, "validation-failed");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_measures_takes_the_place_of_what_is_declared() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let said = json!({"cuda_version": 124, "cpu_cores": 4, "ports": 0});
    beat(&world, &rig.agent, said).await.ok(200);
    let path = format!("/v1/machines/{}", rig.machine);
    let seen = world.get(&path).auth(&rig.provider.token).send().await;
    let tag = seen.header("etag").to_owned();
    let facts = seen.ok(200)["facts"].clone();
    assert_eq!(facts["measured"], json!(["cpu_cores", "cuda_version"]));
    assert_eq!(facts["cuda_version"], 124);
    let patch = json!({"cuda_version": 130, "disk_mb_s": 9});
    let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", tag);
    let refused = call.json(&patch).send().await.problem(422, "validation-failed");
    assert_eq!(pointers(&refused), ["/cuda_version"]);
    for bad in [
        json!({"driver_version": "x"}),
        json!({"cuda_version": 3}),
        json!({"ram_gb": 3_000_000_000_u64}),
        json!({"gpus": [{"uuid": "", "name": "a", "vram_mib": 1}]}),
        json!({"gpus": [{"uuid": "a\u{0}", "name": "a", "vram_mib": 1}]}),
    ] {
        beat(&world, &rig.agent, bad).await.problem(422, "validation-failed");
    }
    beat(&world, &rig.agent, json!({"colour": "red"})).await.problem(400, "invalid-request");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_sold_than_is_declared_and_no_more_than_is_measured() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let path = format!("/v1/machines/{}", rig.machine);
    let own = async || world.get(&path).auth(&rig.provider.token).send().await.ok(200);
    let offer = format!("/v1/offers/{}", rig.offer);
    let patch = async |path: &str, body: Value| {
        let tag = world.get(path).auth(&rig.provider.token).send().await.header("etag").to_owned();
        let call = world.call("PATCH", path).auth(&rig.provider.token).header("if-match", tag);
        call.json(&body).send().await
    };
    let disk = |most: u32| json!({"disk": {"per_gb_month": {"amount": "0.10", "currency": "USD"}, "max_gb": most}});
    patch(&path, json!({"ports": 100})).await.ok(200);
    patch(&offer, disk(400)).await.ok(200);
    let found = async |query: &str| {
        world.state.catch_up_with_market().await.unwrap();
        let page = world.get(&format!("/v1/offers?{query}")).send().await.ok(200);
        page["data"].as_array().unwrap().len()
    };
    let all = "cpu_cores_gte=16&ram_gb_gte=64&disk_gb_gte=400";
    assert_eq!(found(all).await, 1);
    let declared = json!({"cpu_cores": 16, "ram_gb": 64, "disk_gb": 500, "ports": 100});
    assert_eq!(own().await["declared"], declared);

    // more than is declared is not sold
    let said = json!({"cpu_cores": 64, "ram_gb": 512, "disk_gb": 4_000, "ports": 1_000});
    beat(&world, &rig.agent, said).await.ok(200);
    let seen = own().await;
    assert_eq!((&seen["cpu_cores"], &seen["ram_gb"]), (&json!(16), &json!(64)));
    assert_eq!((&seen["disk_gb"], &seen["facts"]["ports"]), (&json!(500), &json!(100)));

    // less than is declared is what there is, for everybody; but of ports, which others use for a while
    let said = json!({"cpu_cores": 4, "ram_gb": 32, "disk_gb": 100, "ports": 10});
    beat(&world, &rig.agent, said).await.ok(200);
    let (seen, shown) = (own().await, public(&world, &rig.machine).await);
    for (name, value) in [("cpu_cores", 4), ("ram_gb", 32), ("disk_gb", 100)] {
        assert_eq!((&seen[name], &shown[name]), (&json!(value), &json!(value)), "{name}");
    }
    assert_eq!((&seen["facts"]["ports"], &shown["facts"]["ports"]), (&json!(100), &json!(100)));
    assert_eq!(shown["facts"]["measured"], json!(["cpu_cores", "disk_gb", "ram_gb"]));
    assert_eq!(found("ports_gte=100").await, 1);
    assert_eq!(seen["declared"], declared, "what was said can be read");
    for (query, offers) in [
        ("cpu_cores_gte=4&ram_gb_gte=32&disk_gb_gte=100", 1),
        ("cpu_cores_gte=5", 0),
        ("ram_gb_gte=33", 0),
        ("disk_gb_gte=101", 0),
        (all, 0),
    ] {
        assert_eq!(found(query).await, offers, "{query}");
    }
    assert_eq!(world.get(&offer).send().await.ok(200)["disk"]["max_gb"], 100);
    let renter = world.sign_in(9).await;
    let quote = async |disk_gb: u32| {
        let body = json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC", "disk_gb": disk_gb});
        world.post("/v1/quotes").auth(&renter.token).json(&body).send().await
    };
    assert_eq!(pointers(&quote(101).await.problem(422, "validation-failed")), ["/disk_gb"]);
    quote(100).await.ok(201);
    assert_eq!(
        pointers(&patch(&offer, disk(101)).await.problem(422, "validation-failed")),
        ["/disk/max_gb"]
    );
    let file = world.get("/v1/catalog.csv?format=gpuhunt").send().await.ok(200).to_string();
    assert!(file.contains(",4,32,") && !file.contains(",16,64,"), "{file}");

    // what changes something else changes nothing of the disk that was promised
    let changed = patch(&offer, json!({"notice_s": 300})).await.ok(200);
    assert_eq!((&changed["version"], &changed["disk"]["max_gb"]), (&json!(3), &json!(100)));
    for state in ["paused", "listed"] {
        let turned = patch(&offer, json!({"state": state})).await.ok(200);
        assert_eq!((&turned["version"], &turned["disk"]["max_gb"]), (&json!(3), &json!(100)));
    }
    assert_eq!(patch(&offer, disk(400)).await.ok(200)["version"], 3, "it is as it was");

    // it is as it was when the agent finds it again
    beat(&world, &rig.agent, json!({"cpu_cores": 16, "ram_gb": 64, "disk_gb": 500})).await.ok(200);
    assert_eq!(found(all).await, 1);
    assert_eq!(world.get(&offer).send().await.ok(200)["disk"]["max_gb"], 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_is_the_same_in_capitals_and_in_small_letters() {
    let world = World::new().await;
    let (owner, thief) = (world.sign_in(1).await, world.sign_in(5).await);
    let register = async |who: &Person, uuids: &[&str]| {
        let gpus: Vec<Value> =
            uuids.iter().map(|uuid| json!({"uuid": uuid, "model": "rtx-4090"})).collect();
        let body = json!({"name": "r", "region": "de", "cpu_cores": 1, "ram_gb": 1, "disk_gb": 1,
            "gpus": gpus});
        world.post("/v1/machines").auth(&who.token).json(&body).send().await
    };
    let twice = register(&owner, &["GPU-5F0C2A86", "gpu-5f0c2a86"]).await;
    assert_eq!(pointers(&twice.problem(422, "validation-failed")), ["/gpus/1/uuid"]);
    let said = register(&owner, &["gpu-5F0C2A86"]).await.ok(201);
    assert_eq!(said["machine"]["gpus"][0]["uuid"], "GPU-5f0c2a86");
    for spelled in ["GPU-5F0C2A86", "GPU-5f0c2a86", "gpu-5f0c2A86"] {
        register(&thief, &[spelled]).await.problem(409, "already-exists");
    }
    // nor does another spelling wash off what the operator said
    let machine = said["machine"]["id"].as_str().unwrap();
    let (id, now) = (machine.parse().unwrap(), world.now());
    let barring = world.store.write::<_, (), _>("test.bar", move |tx| {
        Box::pin(async move { Ok(machines::bar(tx, id, Some("it lied"), now).await?) })
    });
    assert!(barring.await.unwrap());
    let retire = format!("/v1/machines/{machine}/retire");
    world.post(&retire).auth(&owner.token).send().await.ok(200);
    let back = register(&thief, &["GPU-5F0C2A86"]).await.ok(201);
    assert_eq!(back["machine"]["standing"]["reason"], "it lied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_spells_gpus_as_it_likes_and_its_memory_counts() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let mut shown = measured(&rig);
    let uuid = shown["gpus"][0]["uuid"].as_str().unwrap().to_ascii_uppercase();
    shown["gpus"][0]["uuid"] = json!(uuid);
    order(&world, &rig).await;
    assert_eq!(show(&world, &rig, &shown).await["verification"], "verified");
    beat(&world, &rig.agent, shown.clone()).await.ok(200);
    assert_eq!(public(&world, &rig.machine).await["standing"]["tier"], "verified");
    shown["gpus"][0]["vram_mib"] = json!(15_360);
    beat(&world, &rig.agent, shown).await.ok(200);
    let standing = public(&world, &rig.machine).await["standing"].clone();
    assert_eq!(standing["verification"], "deverified");
    let reason = standing["reason"].as_str().unwrap();
    assert!(reason.ends_with("has 15360 MiB in place of 24 GB"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_is_in_the_market_once_until_its_machine_is_retired() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let thief = world.sign_in(5).await;
    let uuid = format!("GPU-{:x}-0", rig.provider.key.address());
    let body = json!({"name": "r", "region": "de", "cpu_cores": 1, "ram_gb": 1, "disk_gb": 1,
        "gpus": [{"uuid": uuid, "model": "rtx-4090"}]});
    let reply = world.post("/v1/machines").auth(&thief.token).json(&body).send().await;
    let refused = reply.problem(409, "already-exists");
    assert_eq!(pointers(&refused), ["/gpus"]);
    // what the operator took from it stays with its GPUs
    let (id, now) = (rig.machine.parse().unwrap(), world.now());
    let barring = world.store.write::<_, (), _>("test.bar", move |tx| {
        Box::pin(async move { Ok(machines::bar(tx, id, Some("it lied"), now).await?) })
    });
    assert!(barring.await.unwrap());
    let retire = format!("/v1/machines/{}/retire", rig.machine);
    let seen = world.post(&retire).auth(&rig.provider.token).send().await.ok(200);
    assert_eq!(seen["service"], "retired");
    world.post(&retire).auth(&rig.provider.token).send().await.ok(200);
    let offer = world.get(&format!("/v1/offers/{}", rig.offer)).send().await.ok(200);
    assert_eq!(offer["state"], "withdrawn");
    let said = world.post("/v1/machines").auth(&thief.token).json(&body).send().await.ok(201);
    let standing = &said["machine"]["standing"];
    assert_eq!(
        (&standing["verification"], &standing["reason"]),
        (&json!("deverified"), &json!("it lied"))
    );
    // a machine that is retired is offered no more
    let reply = world.list(&rig.provider, &rig.machine, 1, "0.65").await;
    reply.problem(423, "machine-draining");
    for verb in ["verify", "drain", "undrain"] {
        let path = format!("/v1/machines/{}/{verb}", rig.machine);
        let reply = world.post(&path).auth(&rig.provider.token).send().await;
        reply.problem(409, "state-conflict");
    }
}

/// As of a machine that named a GPU which another one had, when both could.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_gpu_another_one_has_is_not_opened_any_more() {
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    let verb = |verb: &str| {
        let path = format!("/v1/machines/{}/{verb}", rig.machine);
        world.post(&path).auth(&rig.provider.token).send()
    };
    verb("drain").await.ok(200);
    sqlx::query("UPDATE gpus SET retired = true WHERE ordinal = 1")
        .execute(world.store.pool())
        .await
        .unwrap();
    let refused = verb("undrain").await.problem(409, "state-conflict");
    let uuid = format!("GPU-{:x}-1", rig.provider.key.address());
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains(&uuid) && detail.contains("retire it"), "{detail}");
    // nor by a program that does not know of it
    let opening = sqlx::query("UPDATE machines SET service = 'open'");
    let refused = opening.execute(world.store.pool()).await.unwrap_err();
    assert!(refused.to_string().contains("has a GPU that another machine may have"), "{refused}");
    assert_eq!(verb("drain").await.ok(200)["service"], "draining");
    assert_eq!(verb("retire").await.ok(200)["service"], "retired");
}

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

fn resigned(rig: &Rig, ordered: &Value, body: &Value) -> String {
    let (id, digest) = (ordered["id"].as_str().unwrap(), detail_hash(&body["checks"]));
    sign(&rig.agent.key, &format!("weir-checks:{CHAIN_ID}:{}:{id}:{digest}", rig.machine))
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
async fn a_machine_that_drains_finishes_what_runs_and_begins_nothing() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let verb = |verb: &str| {
        let path = format!("/v1/machines/{}/{verb}", rig.machine);
        world.post(&path).auth(&rig.provider.token).send()
    };
    assert_eq!(verb("drain").await.ok(200)["service"], "draining");
    let offer = format!("/v1/offers/{}", rig.offer);
    let item = json!({"items": [{"create": {"machine_id": rig.machine, "gpu_count": 1,
        "price": {"amount": "0.65", "currency": "USD"}, "min_duration_s": 60, "max_duration_s": 86_400}}]});
    let bulk = world.post("/v1/offers/bulk").auth(&rig.provider.token).json(&item).send().await;
    assert_eq!(bulk.ok(200)["data"][0]["problem"]["code"], "machine-draining");
    let file = world.get("/v1/catalog.csv?format=gpuhunt").send().await;
    assert!(!file.ok(200).to_string().contains(&rig.offer), "it cannot be rented");
    world.get(&offer).send().await.ok(200);
    world.book(&renter, &quote, "late").await.problem(423, "machine-draining");
    let body = json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC"});
    let asked = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await;
    asked.problem(423, "machine-draining");
    assert_eq!(verb("undrain").await.ok(200)["service"], "open");
    let booking = world.start(&renter, &rig).await;
    verb("retire").await.problem(409, "state-conflict");
    verb("drain").await.ok(200);
    let path = format!("/v1/rentals/{}", booking["rental"]["id"].as_str().unwrap());
    let running = world.get(&path).auth(&renter.token).send().await.ok(200);
    assert_eq!(running["state"], "active");
    let stranger = world.sign_in(7).await;
    let path = format!("/v1/machines/{}/drain", rig.machine);
    world.post(&path).auth(&stranger.token).send().await.problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rented_into_a_maintenance_window_and_renters_are_told() {
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    let renter = world.sign_in(9).await;
    let path = format!("/v1/machines/{}/maintenance", rig.machine);
    let announce = |from: &str, to: &str, reason: &str| {
        let body = json!({"from": from, "to": to, "reason": reason});
        world.post(&path).auth(&rig.provider.token).json(&body).send()
    };
    // a quote may be booked after 120 s, funded after 120 more and ready after 300 more, and the contract takes a start
    // for 60 more: 600 s before it begins
    let said = announce("2027-01-15T09:00:00Z", "2027-01-15T10:00:00Z", "new fan").await.ok(201);
    assert_eq!(said["rentals_told"], 0);
    announce("2027-01-15T09:30:00Z", "2027-01-15T11:00:00Z", "x")
        .await
        .problem(409, "already-exists");
    for (from, to, reason, pointer) in [
        ("2027-01-15T07:59:59Z", "2027-01-15T09:00:00Z", "x", "/from"),
        ("tomorrow", "2027-01-15T09:00:00Z", "x", "/from"),
        ("2027-02-15T08:00:00Z", "2027-02-15T08:00:00Z", "x", "/to"),
        ("2027-02-15T08:00:00Z", "2027-04-15T08:00:00Z", "x", "/to"),
        ("2027-02-15T08:00:00Z", "2027-02-16T08:00:00Z", " ", "/reason"),
    ] {
        let refused = announce(from, to, reason).await.problem(422, "validation-failed");
        assert_eq!(pointers(&refused), [pointer]);
    }
    let quote = |seconds: u32| {
        let body = json!({"offer_id": rig.offer, "duration_s": seconds, "token": "USDC"});
        world.post("/v1/quotes").auth(&renter.token).json(&body).send()
    };
    let refused = quote(3_600).await.problem(409, "machine-maintenance");
    assert_eq!(
        (&refused["longest_s"], &refused["window"]["reason"]),
        (&json!(3_000), &json!("new fan"))
    );
    quote(3_001).await.problem(409, "machine-maintenance");
    let fits = quote(3_000).await.ok(201);
    let window = said["window"]["id"].as_str().unwrap();
    let cancel = |path: String, who: &Person| world.call("DELETE", &path).auth(&who.token).send();
    cancel(format!("{path}/{window}"), &renter).await.problem(404, "not-found");
    assert_eq!(cancel(format!("{path}/{window}"), &rig.provider).await.status, 204);
    assert_eq!(cancel(format!("{path}/{window}"), &rig.provider).await.status, 204);
    cancel(format!("{path}/nonsense"), &rig.provider).await.problem(400, "invalid-request");

    // announced between quote and booking; then between booking and end
    let said = announce("2027-01-15T08:30:00Z", "2027-01-15T09:00:00Z", "sooner").await.ok(201);
    world.book(&renter, &fits, "into").await.problem(409, "machine-maintenance");
    let window = said["window"]["id"].as_str().unwrap();
    cancel(format!("{path}/{window}"), &rig.provider).await;
    let booking = world.start(&renter, &rig).await;
    // who writes in a rental's timeline comes after whoever is at it
    let mut somebody = world.store.pool().acquire().await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT FROM rentals FOR UPDATE").execute(&mut *somebody).await.unwrap();
    let waiting = announce("2027-01-15T08:30:00Z", "2027-01-15T09:00:00Z", "sooner still");
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "it waits");
    let told = "SELECT count(*) FROM rental_events WHERE kind = 'notice'";
    let told: i64 = sqlx::query_scalar(told).fetch_one(&mut *somebody).await.unwrap();
    assert_eq!(told, 0);
    sqlx::raw_sql("ROLLBACK").execute(&mut *somebody).await.unwrap();
    let said = waiting.await.ok(201);
    assert_eq!(said["rentals_told"], 1);
    let after = announce("2027-01-15T09:00:00Z", "2027-01-15T09:10:00Z", "after it").await.ok(201);
    assert_eq!(after["rentals_told"], 0, "it has ended by then");
    let id = booking["rental"]["id"].as_str().unwrap().parse().unwrap();
    let mut connection = world.store.read().await.unwrap();
    let told = store::timeline::after(&mut connection, id, 0, 100).await.unwrap();
    let notice = told.iter().find(|entry| entry.kind == "notice").unwrap();
    assert_eq!(notice.detail["reason"], "sooner still");
    assert_eq!(notice.detail["from"], "2027-01-15T08:30:00Z");
    drop(connection);
    // whoever follows the rental sees that it is a notice
    let rental = booking["rental"]["id"].as_str().unwrap();
    let mut stream = Stream::open(&world, rental, &renter.token, Some(notice.id - 1)).await;
    let seen = stream.next().await.unwrap();
    assert_eq!((seen.id, seen.name.as_str()), (Some(notice.id), "notice"));
    assert_eq!(seen.data["reason"], "sooner still");
    let list = world.get(&format!("{path}?limit=3")).auth(&rig.provider.token).send().await.ok(200);
    assert_eq!(list["data"].as_array().unwrap().len(), 3);
    let cursor = list["next_cursor"].as_str().unwrap();
    let rest = format!("{path}?limit=3&cursor={cursor}");
    let rest = world.get(&rest).auth(&rig.provider.token).send().await.ok(200);
    assert_eq!(rest["data"].as_array().unwrap().len(), 1);
    assert_eq!(public(&world, &rig.machine).await["maintenance"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_that_meets_a_drain_waits_for_it_and_sees_it() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let (id, now) = (rig.machine.parse().unwrap(), world.now());
    let (store, held) = (world.store.clone(), Arc::new(Notify::new()));
    let told = held.clone();
    let draining = tokio::spawn(async move {
        let unit = store.write::<(), (), _>("test.drain", move |tx| {
            let told = told.clone();
            Box::pin(async move {
                machines::hold_offers(tx, id).await?;
                told.notify_one();
                // long enough for the booking to reach the offer
                tokio::time::sleep(Duration::from_millis(700)).await;
                machines::set_service(tx, id, Service::Draining, now).await?;
                Ok::<_, TxError<()>>(())
            })
        });
        unit.await.unwrap();
    });
    held.notified().await;
    world.book(&renter, &quote, "meets").await.problem(423, "machine-draining");
    draining.await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_is_turned_off_and_on_is_one_stretch() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let offer = format!("/v1/offers/{}", rig.offer);
    let turn = async |state: &str| {
        let tag = world.get(&offer).send().await.header("etag").to_owned();
        let call = world.call("PATCH", &offer).auth(&rig.provider.token).header("if-match", tag);
        call.json(&json!({"state": state})).send().await.ok(200);
    };
    let stretches = async || {
        let (all, open): (i64, i64) = sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE to_at IS NULL) FROM machine_listings",
        )
        .fetch_one(world.store.pool())
        .await
        .unwrap();
        (all, open)
    };
    for _ in 0..5 {
        turn("paused").await;
        assert_eq!(stretches().await, (1, 0));
        world.pass(59);
        turn("listed").await;
        assert_eq!(stretches().await, (1, 1));
        let verb = |verb: &str| {
            let path = format!("/v1/machines/{}/{verb}", rig.machine);
            world.post(&path).auth(&rig.provider.token).send()
        };
        verb("drain").await.ok(200);
        verb("undrain").await.ok(200);
        assert_eq!(stretches().await, (1, 1));
    }
    turn("paused").await;
    world.pass(60);
    turn("listed").await;
    assert_eq!(stretches().await, (2, 1));
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
