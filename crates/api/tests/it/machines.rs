//! What machines are, what they have shown, and when they take no rentals.

mod self_tests;
mod windows;

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

fn resigned(rig: &Rig, ordered: &Value, body: &Value) -> String {
    let (id, digest) = (ordered["id"].as_str().unwrap(), detail_hash(&body["checks"]));
    sign(&rig.agent.key, &format!("weir-checks:{CHAIN_ID}:{}:{id}:{digest}", rig.machine))
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
