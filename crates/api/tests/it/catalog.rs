//! What anyone may read and keep: models, regions, templates, reference prices, the market as a file.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use domain::{id::OfferId, time::Seconds};
use market::generate::Generator;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::{catalog::Rentable, listings};
use testkit::Statements;

use crate::fixture::{Rig, World, fill};

fn slugs(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|model| model["slug"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_found_by_what_others_call_them() {
    let world = World::new().await;
    let all = world.get("/v1/gpu-models").send().await.ok(200);
    assert_eq!(all["data"].as_array().unwrap().len(), domain::catalog::models().len());
    let named =
        async |query: &str| world.get(&format!("/v1/gpu-models?{query}")).send().await.ok(200);
    assert_eq!(slugs(&named("name=RTX_4090").await), ["rtx-4090"]);
    assert_eq!(slugs(&named("name=A100%2080GB").await), ["a100-80gb-pcie", "a100-80gb-sxm"]);
    assert_eq!(slugs(&named("name=A100&form=sxm&min_vram_gb=80").await), ["a100-80gb-sxm"]);
    assert_eq!(slugs(&named("vendor=amd&min_vram_gb=192").await), ["mi300x", "mi325x"]);
    assert_eq!(named("vendor=NVIDIA").await, named("vendor=nvidia").await);
    assert!(!slugs(&named("vendor=NVIDIA").await).is_empty());
    let one = world.get("/v1/gpu-models/NVIDIA%20GeForce%20RTX%204090").send().await.ok(200);
    assert_eq!((&one["slug"], &one["fp32_gflops"]), (&json!("rtx-4090"), &json!(82_600)));
    let unsure = world.get("/v1/gpu-models/a10g").send().await.ok(200);
    assert_eq!(unsure["fp32_gflops"], Value::Null);

    let said = world.get("/v1/gpu-models/rtx-4091").send().await.problem(404, "not-found");
    assert!(said["detail"].as_str().unwrap().contains("did you mean rtx-4090?"), "{said}");
    assert_eq!(said["nearest"], "rtx-4090");
    let said = world.get("/v1/gpu-models/A100").send().await.problem(422, "validation-failed");
    assert_eq!(said["candidates"].as_array().unwrap().len(), 4);
    world.get("/v1/gpu-models?name=nonsense").send().await.problem(422, "validation-failed");
    world.get("/v1/gpu-models?form=round").send().await.problem(400, "invalid-request");
    let said = world.get("/v1/gpu-models?vendor=foo").send().await.problem(400, "invalid-request");
    assert_eq!(said["errors"][0]["pointer"], "?vendor");
    assert_eq!(said["detail"], "vendor must be one of amd, nvidia");
    world.get("/v1/gpu-models?nmae=x").send().await.problem(400, "invalid-request");
}

/// Rows point at models, so the database has all of them, with what the program says of each.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_holds_the_programs_models_and_takes_a_changed_one_back() {
    let world = World::new().await;
    let stored = async || {
        let mut connection = world.store.read().await.unwrap();
        store::gpu_models::list(&mut connection).await.unwrap()
    };
    let models = stored().await;
    assert_eq!(models.len(), domain::catalog::models().len());
    for (stored, ours) in models.iter().zip(domain::catalog::models()) {
        assert_eq!(
            (&stored.slug, stored.vram_gb, &stored.aliases),
            (&ours.slug, ours.vram_gb, &ours.aliases)
        );
    }
    let edit = "UPDATE gpu_models SET vram_gb = 25, fp16_gflops = NULL WHERE slug = 'rtx-4090';
                INSERT INTO gpu_models (slug, name, vendor, vram_gb, form, compute_capability)
                VALUES ('newer-1', 'of a newer program', 'nvidia', 1, 'pcie', '99.0')";
    sqlx::raw_sql(edit).execute(world.store.pool()).await.unwrap();
    let filled = async || {
        let written = world.store.write::<u64, (), _>("test.fill", |tx| {
            Box::pin(async move { Ok(store::gpu_models::fill(tx).await?) })
        });
        written.await.unwrap()
    };
    assert_eq!(filled().await, 1, "what was changed");
    assert_eq!(filled().await, 0, "nothing is left to write");
    let again = stored().await;
    assert!(again.iter().any(|model| model.slug == "newer-1"), "what a newer program added stays");
    assert_eq!(again.len(), models.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_need_not_be_read_again() {
    let world = World::new().await;
    for path in [
        "/v1/gpu-models",
        "/v1/gpu-models/rtx-4090",
        "/v1/regions",
        "/v1/reference-prices",
        "/v1/templates",
        "/v1/templates/pytorch@1",
        "/v1/catalog.csv?format=gpuhunt",
    ] {
        let first = world.get(path).send().await;
        assert!(first.header("cache-control").starts_with("public, max-age="), "{path}");
        let tag = first.header("etag").to_owned();
        assert!(tag.len() > 10, "{path}");
        first.ok(200);
        let again = world.get(path).header("if-none-match", &tag).send().await;
        assert_eq!(
            (again.header("etag"), again.header("content-type")),
            (tag.as_str(), ""),
            "{path}"
        );
        assert_eq!(again.ok(304), "", "{path}: nothing is sent");
        world.get(path).header("if-none-match", "\"other\"").send().await.ok(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_are_listed_by_continent() {
    let world = World::new().await;
    let all = world.get("/v1/regions").send().await.ok(200);
    let frankfurt =
        all["data"].as_array().unwrap().iter().find(|region| region["code"] == "de-fra");
    assert_eq!(
        frankfurt.unwrap(),
        &json!({"code": "de-fra", "name": "Frankfurt am Main",
                                           "country": "Germany", "continent": "europe"})
    );
    let africa = world.get("/v1/regions?continent=africa").send().await.ok(200);
    assert_eq!(africa["data"].as_array().unwrap().len(), 3);
    world.get("/v1/regions?continent=atlantis").send().await.problem(400, "invalid-request");
}

fn hash_by_hand(template: &Value) -> String {
    let mut content = serde_json::Map::new();
    for member in ["disk_gb", "env", "image", "min_vram_gb", "name", "ports", "readme"] {
        content.insert(member.to_owned(), template[member].clone());
    }
    let hash = Sha256::digest(Value::Object(content).to_string());
    format!("sha256:{}", alloy::primitives::hex::encode(hash))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platforms_templates_are_there_with_hashes_that_anyone_can_check() {
    let world = World::new().await;
    let page = world.get("/v1/templates?owner=platform").send().await.ok(200);
    assert_eq!(slugs(&page), ["comfyui", "pytorch", "ubuntu-ssh", "vllm"]);
    for template in page["data"].as_array().unwrap() {
        assert_eq!((&template["version"], &template["account"]), (&json!(1), &Value::Null));
        assert!(template.get("readme").is_none() && template.get("env").is_none(), "{template}");
        let path = format!("/v1/templates/{}", template["slug"].as_str().unwrap());
        let whole = world.get(&path).send().await.ok(200);
        assert_eq!(template["content_hash"], hash_by_hand(&whole), "{whole:#}");
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = world.get(&format!("/v1/templates?limit=3{cursor}")).send().await.ok(200);
        seen.extend(slugs(&page).into_iter().map(str::to_owned));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["comfyui", "pytorch", "ubuntu-ssh", "vllm"]);
    for path in
        ["pytorch@2", "pytorch@0", "pytorch@x", "pytorch@99999999999", "Pytorch", "nothing", "a--b"]
    {
        world.get(&format!("/v1/templates/{path}")).send().await.problem(404, "not-found");
    }
    world.get("/v1/templates?owner=me").send().await.problem(400, "invalid-request");
    let page = world.get("/v1/templates?limit=3").send().await.ok(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    world.get("/v1/templates?cursor=xx").send().await.problem(400, "invalid-cursor");
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).unwrap();
    let forged = String::from_utf8(bytes).unwrap().replace("ubuntu-ssh", "ubuntu\u{0}ssh");
    let forged = BASE64_URL_SAFE_NO_PAD.encode(forged);
    world
        .get(&format!("/v1/templates?cursor={forged}"))
        .send()
        .await
        .problem(400, "invalid-cursor");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_make_templates_whose_versions_never_change() {
    let world = World::new().await;
    let person = world.sign_in(9).await;
    let body = json!({"slug": "trainer", "name": "My trainer", "image": "ghcr.io/me/trainer:1.4", "disk_gb": 60,
                      "ports": [{"name": "ssh", "port": 22, "protocol": "tcp"}], "env": {"B": "2", "A": "ü\n"}});
    let make = async |body: &Value| {
        world.post("/v1/templates").auth(&person.token).json(body).send().await
    };
    let first = make(&body).await.ok(201);
    let owner = format!("{:x}", person.key.address());
    assert_eq!(first["slug"], format!("{}-trainer", &owner[..8]), "names are an account's own");
    assert_eq!(
        (&first["version"], &first["content_hash"]),
        (&json!(1), &json!(hash_by_hand(&first)))
    );
    assert_eq!(make(&body).await.ok(200), first, "the same again is the same");
    let mut changed = body.clone();
    changed["image"] = json!("ghcr.io/me/trainer:1.5");
    let second = make(&changed).await.ok(201);
    assert_eq!(second["version"], 2);
    let slug = first["slug"].as_str().unwrap();
    let read =
        async |name: String| world.get(&format!("/v1/templates/{name}")).send().await.ok(200);
    assert_eq!(read(slug.to_owned()).await, second);
    assert_eq!(read(format!("{slug}@1")).await, first);
    let platform = world.get("/v1/templates?owner=platform").send().await.ok(200);
    assert_eq!(platform["data"].as_array().unwrap().len(), 4);
    let direct =
        sqlx::query("UPDATE templates SET image = 'x:1'").execute(world.store.pool()).await;
    assert!(direct.is_err(), "versions are immutable in the database too");

    for (member, value, pointer) in [
        ("slug", json!("Bad"), "/slug"),
        ("image", json!("ubuntu"), "/image"),
        ("disk_gb", json!(0), "/disk_gb"),
        ("ports", json!([{"name": "a", "port": 0, "protocol": "tcp"}]), "/ports/0/port"),
        ("env", json!({"a b": "c"}), "/env"),
        ("readme", json!("x".repeat(16_385)), "/readme"),
        ("readme", json!("a\u{0}b"), "/readme"),
    ] {
        let mut bad = body.clone();
        bad[member] = value;
        let said = make(&bad).await.problem(422, "validation-failed");
        assert_eq!(said["errors"][0]["pointer"], pointer);
    }
    let mut bad = body.clone();
    bad["ports"][0]["protocol"] = json!("sctp");
    let said = make(&bad).await.problem(400, "invalid-request");
    assert_eq!(said["errors"][0]["pointer"], "/ports/0/protocol");
    world.post("/v1/templates").json(&body).send().await.problem(401, "unauthenticated");
    assert_eq!(read(slug.to_owned()).await, second, "refusals changed nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn reference_prices_are_dated_sourced_and_no_offers() {
    let world = World::new().await;
    let find =
        async |query: &str| world.get(&format!("/v1/reference-prices{query}")).send().await.ok(200);
    let all = find("").await;
    assert!(all["notice"].as_str().unwrap().contains("no offers"));
    assert_eq!(all["data"].as_array().unwrap().len(), domain::reference::prices().len());
    assert_eq!(all["platforms"].as_array().unwrap().len(), domain::reference::platforms().len());
    for price in all["data"].as_array().unwrap() {
        assert!(!price["source"].as_str().unwrap().is_empty());
    }
    let runpod = find("?provider=runpod&gpu_model=RTX%204090&kind=secure_cloud").await;
    assert_eq!(runpod["data"].as_array().unwrap().len(), 1);
    let row = &runpod["data"][0];
    assert_eq!(
        row["price"],
        json!({"low": {"amount": "0.590000", "currency": "USD"},
                                    "high": {"amount": "0.590000", "currency": "USD"}})
    );
    assert_eq!(
        (&row["observed_on"], &row["gpu_models"]),
        (&json!("2026-02-11"), &json!(["rtx-4090"]))
    );
    assert_eq!(runpod["platforms"][0]["minimum_billing_s"], 1);
    let instances = find("?unit=instance_hour&provider=AWS").await;
    assert_eq!(instances["data"].as_array().unwrap().len(), 5);
    assert_eq!(find("?provider=CoreWeave").await["data"], json!([]), "a platform without a price");
    for (query, nearest) in [
        ("provider=Runpodd", json!("RunPod")),
        ("provider=nobody", Value::Null),
        ("provider=", Value::Null),
        ("kind=on-demand", json!("on_demand")),
        ("kind=interruptible&provider=AWS", Value::Null),
    ] {
        let refused = world.get(&format!("/v1/reference-prices?{query}")).send().await;
        let refused = refused.problem(422, "validation-failed");
        let name = query.split('=').next().unwrap();
        assert_eq!(refused["errors"][0]["pointer"], format!("?{name}"), "{refused}");
        assert_eq!(refused["nearest"], nearest, "{refused}");
    }
    let open = find("?gpu_model=a100-80gb-sxm&provider=Azure").await;
    assert_eq!(open["data"].as_array().unwrap().len(), 2, "the form is left open there");
    world.get("/v1/reference-prices?gpu_model=xyz").send().await.problem(422, "validation-failed");
    world.get("/v1/reference-prices?unit=furlong").send().await.problem(400, "invalid-request");
}

/// What the files are made of.
async fn rentable(world: &World, limit: i64) -> Vec<Rentable> {
    let now = world.now();
    let start_by = now.saturating_plus(world.store.policy().start_window());
    let mut connection = world.store.read().await.unwrap();
    let since = now.saturating_minus(Seconds(30));
    store::catalog::rentable(&mut connection, since, now, start_by, limit).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_model_is_left_out_of_the_files_for_being_dear() {
    let world = World::new().await;
    let mut connection = world.store.read().await.unwrap();
    let models = listings::models(&mut connection).await.unwrap();
    let now = world.now();
    let made: Vec<_> = Generator::new(&models, 2, 500, u32::try_from(now.get()).unwrap()).collect();
    let until = now.saturating_plus(Seconds(3_600));
    drop(connection);
    fill(&world.store, made, until).await;
    let all = rentable(&world, 100_000).await;
    let of = |ways: &[Rentable]| {
        let mut of: BTreeMap<String, usize> = BTreeMap::new();
        ways.iter().for_each(|way| *of.entry(way.model.clone()).or_default() += 1);
        of
    };
    let every = of(&all);
    assert!(every.len() > 14 && every.values().max() > Some(&100), "{every:?}");
    // enough for one of each model, and then for three
    for each in [1, 3] {
        let limit: usize = every.values().map(|n| (*n).min(each)).sum();
        let some = rentable(&world, i64::try_from(limit).unwrap()).await;
        let told = of(&some);
        for (model, n) in &every {
            assert_eq!(told[model], (*n).min(each), "{model}");
        }
        assert!(some.is_sorted_by_key(|way| way.price), "cheapest first");
        // what is left out is dearer than what is told of its model, number of GPUs and region
        for left in all.iter().filter(|way| !some.contains(way)) {
            let alike = some.iter().filter(|told| {
                (&told.model, told.gpus, &told.region) == (&left.model, left.gpus, &left.region)
            });
            assert!(alike.into_iter().all(|told| told.price <= left.price), "{left:?}");
        }
    }
}

// one thread, so that all statements are sent from it, and those of other tests are not
#[tokio::test]
async fn the_files_of_half_a_minute_are_one_look() {
    let statements = Statements::default();
    let _counting = tracing::subscriber::set_default(statements.clone());
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.50").await;
    let looks = || Statements::mentioning(&statements.take(), &["turns AS"]);
    let file = async |format: &str| {
        let path = format!("/v1/catalog.csv?format={format}");
        world.get(&path).send().await.ok(200).as_str().unwrap().to_owned()
    };
    looks();
    assert!(file("gpuhunt").await.contains(&rig.offer));
    world.pass(29);
    futures_util::future::join_all([file("gpuhunt"), file("skypilot"), file("gpuhunt")]).await;
    assert_eq!(looks(), 1, "both files, of all who ask");
    world.pass(1);
    world.heartbeat(&rig.agent, &[]).await;
    futures_util::future::join_all([file("gpuhunt"), file("skypilot")]).await;
    assert_eq!(looks(), 1, "it is made anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_market_is_a_file_that_other_tools_read() {
    let world = World::new().await;
    let pair = world.rig(1, 2, "0.50").await;
    let single = world.rig(3, 1, "0.40").await;
    let other = world.rig(5, 1, "0.45").await;
    let file = async |format: &str| {
        let reply = world.get(&format!("/v1/catalog.csv?format={format}")).send().await;
        assert_eq!(reply.header("content-type"), "text/csv; charset=utf-8");
        reply.ok(200).as_str().unwrap().to_owned()
    };
    let gpuhunt = file("gpuhunt").await;
    let lines: Vec<&str> = gpuhunt.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0].starts_with("instance_name,location,price,cpu,memory,gpu_count,gpu_name"));
    let first = format!("{},de-fra,0.400000,16,64,1,RTX4090,24,False,0,nvidia,,x86,", single.offer);
    assert!(lines[1].starts_with(&first), "{gpuhunt}");
    let last = format!("{},de-fra,1.000000,16,64,2,RTX4090,24,False,0,nvidia,,x86,", pair.offer);
    assert!(lines[3].starts_with(&last), "all GPUs of an offer together: {gpuhunt}");

    let skypilot = file("skypilot").await;
    let lines: Vec<&str> = skypilot.lines().collect();
    assert_eq!(lines.len(), 3, "offers of one kind and region are one line: {skypilot}");
    assert!(lines[1].starts_with("1x-RTX4090-16-64,RTX4090,1,16,64,0.400000,,de-fra,\"{'Gpus': ["));
    assert!(lines[2].starts_with("2x-RTX4090-16-64,RTX4090,2,16,64,1.000000,,de-fra,"));

    // nor what ends, or goes into maintenance, before the shortest rental would: a minute, which begins ten minutes from
    // now at the latest
    let renter = world.sign_in(9).await;
    let told = async |rig: &Rig| {
        let offer: OfferId = rig.offer.parse().unwrap();
        rentable(&world, 100).await.iter().any(|way| way.offer == offer)
    };
    let is_told = async |rig: &Rig, code: Option<&str>| {
        assert_eq!(told(rig).await, code.is_none(), "{code:?}");
        let body = json!({"offer_id": rig.offer, "duration_s": 60, "token": "USDC"});
        let quoted = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await;
        match code {
            Some(code) => _ = quoted.problem(409, code),
            None => _ = quoted.ok(201),
        }
    };
    for (until, code) in [("08:10:59", Some("not-for-so-long")), ("08:11:00", None)] {
        let path = format!("/v1/offers/{}", other.offer);
        let tag = world.get(&path).send().await.header("etag").to_owned();
        let call = world.call("PATCH", &path).auth(&other.provider.token).header("if-match", &tag);
        let body = json!({"available_until": format!("2027-01-15T{until}Z")});
        call.json(&body).send().await.ok(200);
        is_told(&other, code).await;
    }
    let path = format!("/v1/machines/{}/maintenance", other.machine);
    let announce = |from: &str| {
        let body = json!({"from": format!("2027-01-15T{from}Z"), "to": "2027-01-15T12:00:00Z", "reason": "x"});
        world.post(&path).auth(&other.provider.token).json(&body).send()
    };
    let window = announce("08:11:00").await.ok(201)["window"]["id"].as_str().unwrap().to_owned();
    is_told(&other, None).await;
    world
        .call("DELETE", &format!("{path}/{window}"))
        .auth(&other.provider.token)
        .send()
        .await
        .ok(204);
    announce("08:10:59").await.ok(201);
    is_told(&other, Some("machine-maintenance")).await;

    // what is taken or not heard of is not in it
    let quote = world.quote(&renter, &single).await;
    world.book(&renter, &quote, "x").await.ok(201);
    assert!(!told(&single).await);
    world.pass(3_600);
    assert_eq!(file("gpuhunt").await.lines().count(), 1);
    world.get("/v1/catalog.csv").send().await.problem(400, "invalid-request");
    world.get("/v1/catalog.csv?format=xml").send().await.problem(400, "invalid-request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_tells_of_as_much_disk_as_can_be_rented() {
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.50").await;
    let path = format!("/v1/offers/{}", rig.offer);
    let tag = world.get(&path).send().await.header("etag").to_owned();
    let body = json!({"chunks": [1, 2],
        "disk": {"per_gb_month": {"amount": "0.10", "currency": "USD"}, "max_gb": 301}});
    let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", &tag);
    call.json(&body).send().await.ok(200);
    let told = async || {
        let ways = rentable(&world, 10).await;
        ways.iter().map(|way| (way.gpus, way.disk_gb)).collect::<Vec<_>>()
    };
    assert_eq!(told().await, [(1, 150), (2, 301)]);
    // the machine has less than was promised
    let said = json!({"running": [], "measured": {"disk_gb": 101}});
    world.post("/v1/agent/heartbeats").auth(&rig.agent.token).json(&said).send().await.ok(200);
    assert_eq!(told().await, [(1, 50), (2, 101)]);
    let renter = world.sign_in(9).await;
    let quote = async |disk_gb: u32| {
        let body = json!({"offer_id": rig.offer, "gpu_count": 1, "duration_s": 3_600, "token": "USDC",
                          "disk_gb": disk_gb});
        world.post("/v1/quotes").auth(&renter.token).json(&body).send().await
    };
    quote(51).await.problem(422, "validation-failed");
    quote(50).await.ok(201);
}
