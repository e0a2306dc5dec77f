//! Models are found by all of their names, and a name that no model has is refused.

use std::sync::Arc;

use domain::time::Clock as _;
use market::{Listing, generate::Generator};
use serde_json::{Value, json};
use store::{Store, listings};
use testkit::{ManualClock, TestDb};

use crate::{
    fixture::{NOW, World, fill, policy},
    rpc,
};

/// An offer of each model of the catalog, and of one that only the database knows.
async fn one_of_each() -> World {
    let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
    let clock = Arc::new(ManualClock::new(NOW.millis()));
    let store = Store::from_pool(db.pool, clock.clone(), policy());
    let world = World::over(store.clone(), clock.clone(), &rpc::start().await, |_| {}).await;
    let mut connection = store.read().await.unwrap();
    sqlx::query(
        "INSERT INTO gpu_models (slug, name, vendor, vram_gb, form, compute_capability, aliases)
         VALUES ('z999', 'Vendor Z 999', 'nvidia', 24, 'pcie', '9.9', '{Zed 999,H100 PCIE}')",
    )
    .execute(&mut *connection)
    .await
    .unwrap();
    let models = listings::models(&mut connection).await.unwrap();
    let now = u32::try_from(clock.now().seconds().get()).unwrap();
    let count = u32::try_from(models.len()).unwrap();
    let made =
        Generator::new(&models, 3, count, now).zip(&models).map(|(listing, model)| Listing {
            model: model.slug.clone(),
            gpus_free: listing.gpu_count,
            available_until: None,
            open: true,
            heard_at: now,
            ..listing
        });
    drop(connection);
    fill(&store, made.collect(), NOW).await;
    world.state.catch_up_with_market().await.unwrap();
    world
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn models_of(page: &Value, pointer: &str) -> Vec<String> {
    let data = page["data"].as_array().or(page["proposals"].as_array()).unwrap();
    let mut models: Vec<String> =
        data.iter().map(|one| one.pointer(pointer).unwrap().as_str().unwrap().to_owned()).collect();
    models.sort();
    models.dedup();
    models
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_finds_every_model_that_is_called_so() {
    let world = one_of_each().await;
    let matched = async |models: Value, q: Value| {
        let body = json!({"gpus": 1, "hours": "1", "gpu_models": models, "q": q, "explain": 50, "limit": 20});
        world.post("/v1/match").json(&body).send().await
    };
    for (name, slugs) in [
        ("H100", &["h100-nvl", "h100-pcie", "h100-sxm"][..]),
        ("H200", &["h200-nvl", "h200-sxm"]),
        ("A100", &["a100-40gb", "a100-40gb-pcie", "a100-80gb-pcie", "a100-80gb-sxm"]),
        ("V100", &["v100-16gb", "v100-16gb-pcie", "v100-32gb"]),
        ("A100 SXM4", &["a100-40gb", "a100-80gb-sxm"]),
        ("A100 PCIE", &["a100-40gb-pcie", "a100-80gb-pcie"]),
        ("Tesla V100", &["v100-16gb", "v100-16gb-pcie", "v100-32gb"]),
        ("RTX 4060 Ti", &["rtx-4060-ti-16gb", "rtx-4060-ti-8gb"]),
        ("A100_SXM_80GB", &["a100-80gb-sxm"]),
        ("H100_PCIE_80GB", &["h100-pcie"]),
        ("T4_16GB", &["t4"]),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", &["rtx-pro-6000"]),
        ("rtx-4090", &["rtx-4090"]),
        ("a100-40gb", &["a100-40gb"]),
        // what only the database knows, alone and beside the catalog's
        ("z999", &["z999"]),
        ("Zed_999", &["z999"]),
        ("H100 PCIE", &["h100-pcie", "z999"]),
    ] {
        let path = format!("/v1/offers?limit=200&gpu_model={}", encoded(name));
        assert_eq!(
            models_of(&world.get(&path).send().await.ok(200), "/gpu_model"),
            slugs,
            "{name}"
        );
        let q = format!("gpu_name=\"{name}\"");
        let path = format!("/v1/offers?limit=200&q={}", encoded(&q));
        assert_eq!(
            models_of(&world.get(&path).send().await.ok(200), "/gpu_model"),
            slugs,
            "{name}"
        );
        for (models, q) in [(json!([name]), Value::Null), (json!([]), json!(q))] {
            let found = matched(models, q).await.ok(200);
            assert_eq!(found["looked_at"], slugs.len(), "{name}");
            // those that have no single GPU for an hour are refused
            let mut seen = models_of(&found, "/parts/0/gpu_model");
            let refused = found["explained"].as_array().unwrap().iter();
            seen.extend(refused.map(|one| one["gpu_model"].as_str().unwrap().to_owned()));
            seen.sort();
            assert_eq!(seen, slugs, "{name}");
        }
    }
    let others = format!("/v1/offers?limit=200&q={}", encoded("gpu_name notin [A100, V100]"));
    let others = models_of(&world.get(&others).send().await.ok(200), "/gpu_model");
    assert_eq!(others.len(), domain::catalog::models().len() + 1 - 7);
    // CUDA's number is NVIDIA's alone, though AMD's 9.4 is larger
    let large = world.get("/v1/offers?limit=200&compute_capability_gte=9.0").send().await.ok(200);
    let large = models_of(&large, "/gpu_model");
    assert!(large.contains(&"h100-sxm".to_owned()) && !large.contains(&"mi300x".to_owned()));
    let mi300x = world.get("/v1/offers?gpu_model=mi300x").send().await.ok(200);
    assert_eq!(mi300x["data"][0]["compute_capability"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_model_has_is_refused_with_the_nearest() {
    let world = World::new().await;
    world.rig(1, 1, "0.40").await;
    for (name, nearest, says) in [
        ("rtx-4091", json!("rtx-4090"), "did you mean rtx-4090?"),
        ("RTX_4091", json!("rtx-4090"), "did you mean rtx-4090?"),
        ("RTX 4090 48GB", json!("rtx-4090"), "no such memory or form; there are rtx-4090"),
        ("abacus", Value::Null, "see /v1/gpu-models"),
    ] {
        let refused = |said: Value, pointer: &str, position: Value| {
            assert_eq!(said["errors"][0]["pointer"], pointer, "{said}");
            assert_eq!((&said["nearest"], &said["position"]), (&nearest, &position), "{said}");
            assert!(said["detail"].as_str().unwrap().contains(says), "{said}");
        };
        let model = encoded(name);
        let q = encoded(&format!("price<1 gpu_name in [T4, \"{name}\"]"));
        let not = encoded(&format!("gpu_name!=\"{name}\""));
        for path in ["/v1/offers", "/v1/offers/stream"] {
            for (query, pointer, position) in [
                (format!("gpu_model=t4,{model}"), "?gpu_model", Value::Null),
                (format!("tokens_per_s={model}:5"), "?tokens_per_s", Value::Null),
                (format!("q={q}"), "?q", json!(26)),
                (format!("q={not}"), "?q", json!(11)),
            ] {
                let said = world.get(&format!("{path}?{query}")).send().await;
                refused(said.problem(422, "validation-failed"), pointer, position);
            }
        }
        let body = json!({"gpus": 1, "hours": "1", "gpu_models": ["t4", name]});
        let said = world.post("/v1/match").json(&body).send().await;
        refused(said.problem(422, "validation-failed"), "/gpu_models", Value::Null);
        let body = json!({"gpus": 1, "hours": "1", "q": format!("gpu_name=\"{name}\"")});
        let said = world.post("/v1/match").json(&body).send().await;
        refused(said.problem(422, "validation-failed"), "/q", json!(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_nobody_knows_is_refused_with_the_nearest() {
    let world = World::new().await;
    world.rig(1, 1, "0.40").await;
    world.state.catch_up_with_market().await.unwrap();
    for path in ["/v1/offers", "/v1/offers/stream"] {
        for (query, pointer, position, nearest) in [
            ("region=us-ny", "?region", Value::Null, "us-nyc"),
            ("region=de,zz", "?region", Value::Null, "cz"),
            ("country=ZZ", "?country", Value::Null, "cz"),
            ("not_country=zz", "?not_country", Value::Null, "cz"),
            ("q=price%3C1+geolocation%3DGermany", "?q", json!(21), "de"),
            ("q=country+notin+[zz]", "?q", json!(16), "cz"),
        ] {
            let said = world.get(&format!("{path}?{query}")).send().await;
            let said = said.problem(422, "validation-failed");
            assert_eq!(said["errors"][0]["pointer"], pointer, "{said}");
            assert_eq!(
                (&said["nearest"], &said["position"]),
                (&json!(nearest), &position),
                "{said}"
            );
            assert!(said["detail"].as_str().unwrap().contains("did you mean"), "{said}");
        }
    }
    let matched = async |body: Value| {
        world.post("/v1/match").json(&body).send().await.problem(422, "validation-failed")
    };
    let said = matched(json!({"gpus": 1, "hours": "1", "regions": ["de", "us-ny"]})).await;
    assert_eq!(
        (&said["errors"][0]["pointer"], &said["nearest"]),
        (&json!("/regions"), &json!("us-nyc"))
    );
    let said = matched(json!({"gpus": 1, "hours": "1", "q": "region=us-ny"})).await;
    assert_eq!((&said["errors"][0]["pointer"], &said["position"]), (&json!("/q"), &json!(8)));

    let found = async |query: &str| {
        let page = world.get(&format!("/v1/offers?{query}")).send().await.ok(200);
        page["data"].as_array().unwrap().len()
    };
    for (query, offers) in [
        ("region=DE-FRA", 1),
        ("region=za-jnb", 0),
        ("country=De,us", 1),
        // countries, whether or not something is there
        ("country=gr", 0),
        ("not_country=ru,kp,gr", 1),
        ("q=geolocation+not+in+[RU,XV]", 1),
    ] {
        assert_eq!(found(query).await, offers, "{query}");
    }
    // where a machine stands since before
    let moved = sqlx::query("UPDATE machines SET region = 'zz-old'");
    moved.execute(world.store.pool()).await.unwrap();
    world.state.catch_up_with_market().await.unwrap();
    for (query, offers) in [("region=zz-old", 1), ("country=zz", 1), ("not_country=zz", 0)] {
        assert_eq!(found(query).await, offers, "{query}");
    }
}
