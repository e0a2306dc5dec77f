//! Orders by what a dollar buys: in one unit, and what is not known last.

use std::sync::Arc;

use market::{Listing, generate::Generator};
use serde_json::{Value, json};
use store::{Store, listings};
use testkit::{ManualClock, TestDb};

use crate::{
    fixture::{NOW, World, fill, policy},
    rpc,
};

/// One offer of each of these models, at this price in millionths of a dollar.
async fn with(offers: &[(&str, u32)]) -> World {
    let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
    let clock = Arc::new(ManualClock::new(NOW.millis()));
    let store = Store::from_pool(db.pool, clock.clone(), policy());
    let world = World::over(store.clone(), clock, &rpc::start().await, |_| {}).await;
    let mut connection = store.read().await.unwrap();
    let models = listings::models(&mut connection).await.unwrap();
    let now = u32::try_from(NOW.get()).unwrap();
    let count = u32::try_from(offers.len()).unwrap();
    let made =
        Generator::new(&models, 3, count, now).zip(offers).map(|(listing, (model, price))| {
            Listing {
                model: (*model).to_owned(),
                price_micros: *price,
                gpus_free: listing.gpu_count,
                available_until: None,
                open: true,
                heard_at: now,
                ..listing
            }
        });
    drop(connection);
    fill(&store, made.collect(), NOW).await;
    world.state.catch_up_with_market().await.unwrap();
    world
}

/// Of each offer the model and a member, and why it stands first.
async fn ordered(world: &World, query: &str, member: &str) -> (Vec<(String, Value)>, String) {
    let page = world.get(&format!("/v1/offers?{query}")).send().await.ok(200);
    let data = page["data"].as_array().unwrap();
    let text = |offer: &Value, name: &str| offer[name].as_str().unwrap().to_owned();
    let offers = data.iter().map(|offer| (text(offer, "gpu_model"), offer[member].clone()));
    (offers.collect(), text(&data[0], "rank_reason"))
}

#[tokio::test(flavor = "multi_thread")]
async fn speed_for_the_dollar_is_compared_in_one_unit() {
    // an A100 has 312 TFLOPS in half precision and 19.5 in single; a 3060 has 12.7 in single, and nobody says more
    let offers = [("a100-80gb-sxm", 2_000_000), ("rtx-3060", 1_000_000), ("b300", 500_000)];
    let world = with(&offers).await;
    let (found, reason) = ordered(&world, "sort=perf_per_usd", "gflops_per_usd").await;
    let wanted =
        [("rtx-3060", json!(12_700)), ("a100-80gb-sxm", json!(9_750)), ("b300", Value::Null)];
    assert_eq!(found, wanted.map(|(model, speed)| (model.to_owned(), speed)));
    assert_eq!(reason, "place 1 of this page by speed: 12700 GFLOPS (fp32) for a dollar per hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_reckoned_by_the_speed_of_each_model() {
    let offers =
        [("rtx-4090", 400_000), ("h100-sxm", 700_000), ("t4", 100_000), ("h100-pcie", 680_000)];
    let world = with(&offers).await;
    let sorted = async |speeds: &str| {
        let query = format!("sort=per_million_tokens&tokens_per_s={speeds}");
        let (found, reason) = ordered(&world, &query, "per_million_tokens").await;
        let amounts = found.into_iter().map(|(model, tokens)| (model, tokens["amount"].clone()));
        (amounts.collect::<Vec<_>>(), reason)
    };
    let (found, reason) = sorted("h100-sxm:3000,RTX_4090:1550").await;
    let wanted = [
        ("h100-sxm", json!("0.064814")),
        ("rtx-4090", json!("0.071684")),
        ("t4", Value::Null),
        ("h100-pcie", Value::Null),
    ];
    assert_eq!(found, wanted.map(|(model, tokens)| (model.to_owned(), tokens)));
    assert_eq!(reason, "place 1 of this page by tokens: 0.064814 for a million");
    // a name of several models is a speed of all of them, and the last that names a model counts
    let (found, _) = sorted("H100:3000,h100-pcie:100,rtx-4090:1550").await;
    let models: Vec<&str> = found.iter().map(|(model, _)| model.as_str()).collect();
    assert_eq!(models, ["h100-sxm", "rtx-4090", "h100-pcie", "t4"]);
    // one speed for all is the order of price
    let (found, _) = sorted("1550").await;
    let models: Vec<&str> = found.iter().map(|(model, _)| model.as_str()).collect();
    assert_eq!(models, ["t4", "rtx-4090", "h100-pcie", "h100-sxm"]);
    assert_eq!(found[1].1, "0.071684");
    // null is said, and nothing where nothing was asked
    let page = world.get("/v1/offers?gpu_model=t4&tokens_per_s=rtx-4090:5").send().await.ok(200);
    assert_eq!(page["data"][0].get("per_million_tokens"), Some(&Value::Null));
    let page = world.get("/v1/offers?gpu_model=t4").send().await.ok(200);
    assert_eq!(page["data"][0].get("per_million_tokens"), None);
    // pages go on where they ended
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let query = "sort=per_million_tokens&tokens_per_s=h100-sxm:3000,rtx-4090:1550&limit=1";
        let page = world.get(&format!("/v1/offers?{query}{cursor}")).send().await.ok(200);
        let offers = page["data"].as_array().unwrap().iter();
        seen.extend(offers.map(|offer| offer["gpu_model"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ["h100-sxm", "rtx-4090", "t4", "h100-pcie"]);
    for wrong in ["0", "-1", "fast", "1.5", "h100-sxm:", "h100-sxm:0", "h100-sxm:5,7", ":5", "%2b5"]
    {
        let said = world.get(&format!("/v1/offers?tokens_per_s={wrong}")).send().await;
        let body = said.problem(400, "invalid-request");
        assert_eq!(body["errors"][0]["pointer"], "?tokens_per_s", "{wrong}: {body}");
    }
}
