//! What anyone may see.

use serde_json::Value;

use crate::fixture::{ESCROW, World};

fn ids(page: &Value) -> Vec<String> {
    let data = page["data"].as_array().unwrap();
    data.iter().map(|offer| offer["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn models_tokens_and_the_contract_are_public() {
    let world = World::new().await;
    let models = world.get("/v1/gpu-models").send().await.ok(200);
    assert!(models["data"].as_array().unwrap().iter().any(|model| model["slug"] == "h100-sxm"));
    let tokens = world.get("/v1/tokens").send().await.ok(200);
    let symbols: Vec<_> = tokens["data"].as_array().unwrap().iter().map(|t| &t["symbol"]).collect();
    assert_eq!(symbols, ["POL", "USDC"]);
    assert_eq!(tokens["data"][1]["permit"], true);
    assert_eq!(tokens["data"][0]["price"]["amount"], "0.500000");
    let contract = world.get("/v1/deployment").send().await.ok(200);
    assert_eq!(contract["chain_id"], 31_337);
    assert_eq!(contract["escrow"], format!("{ESCROW:#x}"));
    assert_eq!(contract["domain"]["name"], "Weir Escrow");
    assert_eq!(contract["domain"]["verifyingContract"], contract["escrow"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_are_found_by_what_they_are() {
    let world = World::new().await;
    let cheap = world.rig(1, 1, "0.40").await.offer;
    let double = world.rig(3, 2, "0.50").await.offer;
    let dear = world.rig(5, 1, "0.60").await.offer;
    let find = async |query: &str| {
        world.state.catch_up_with_market().await.unwrap();
        ids(&world.get(&format!("/v1/offers?{query}")).send().await.ok(200))
    };
    let all = [cheap.clone(), double.clone(), dear.clone()];
    assert_eq!(find("").await, all);
    assert_eq!(find("sort=-created").await, [dear.clone(), double.clone(), cheap.clone()]);
    assert_eq!(find("gpu_count=2").await, all[1..2]);
    assert_eq!(find("price_lte=0.5").await, [cheap.clone(), double.clone()]);
    assert_eq!(find("gpu_model=t4,rtx-4090&region=de").await, all);
    assert_eq!(find("gpu_model=t4").await, [""; 0]);
    assert_eq!(find("region=de-ber").await, [""; 0]);
    let part = world.get("/v1/offers?region=de-fr").send().await.problem(422, "validation-failed");
    assert_eq!(part["nearest"], "de-fra", "a region is whole parts: {part}");
    assert_eq!(find("region=de-fra").await, all);
    assert_eq!(find("min_vram_gb=25").await, [""; 0]);
    assert_eq!(find("min_duration_lte=59").await, [""; 0]);
    assert_eq!(find("min_duration_lte=60&duration_s=86400").await, all);
    assert_eq!(find("duration_s=86401").await, [""; 0]);
    let account = world.get(&format!("/v1/offers/{dear}")).send().await.ok(200)["provider"].clone();
    assert_eq!(find(&format!("provider={}", account.as_str().unwrap())).await, [dear]);

    let page = world.get("/v1/offers?gpu_count=2&sort=price").send().await.ok(200);
    assert_eq!(page["applied_filters"]["gpu_count"], 2);
    assert_eq!(page["data"][0]["available"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_offer_once() {
    let world = World::new().await;
    let mut made = Vec::new();
    for n in 0..5_u8 {
        // two prices only: the id decides between equals
        let price = if n % 2 == 0 { "0.40" } else { "0.50" };
        made.push(world.rig(1 + 2 * n, 1, price).await.offer);
    }
    for sort in ["price", "-created"] {
        world.state.catch_up_with_market().await.unwrap();
        let mut seen = Vec::new();
        let mut path = format!("/v1/offers?sort={sort}&limit=2");
        loop {
            let page = world.get(&path).send().await.ok(200);
            seen.extend(ids(&page));
            let Some(cursor) = page["next_cursor"].as_str() else {
                break;
            };
            path = format!("/v1/offers?sort={sort}&limit=2&cursor={cursor}");
            let other = if sort == "price" { "-created" } else { "price" };
            let wrong = format!("/v1/offers?sort={other}&cursor={cursor}");
            world.get(&wrong).send().await.problem(400, "invalid-cursor");
        }
        assert_eq!(seen.len(), 5, "{sort}");
        let mut sorted = seen.clone();
        sorted.sort();
        let mut expected = made.clone();
        expected.sort();
        assert_eq!(sorted, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_booked_is_shown_only_when_asked_for() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.40").await;
    let count = async |query: &str| {
        world.state.catch_up_with_market().await.unwrap();
        ids(&world.get(&format!("/v1/offers{query}")).send().await.ok(200)).len()
    };
    assert_eq!(count("").await, 1);
    // silent for longer than the limit
    world.pass(31);
    assert_eq!((count("").await, count("?available=false").await), (0, 1));
    world.heartbeat(&rig.agent, &[]).await;
    assert_eq!(count("").await, 1);
    // rented
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    assert_eq!((count("").await, count("?available=false").await), (0, 1));
    // and free again
    let id = booking["rental"]["id"].as_str().unwrap();
    let stop = world.post(&format!("/v1/rentals/{id}/stop")).auth(&renter.token).key("s");
    stop.send().await.ok(202);
    world.pass(1);
    assert_eq!(count("").await, 1);
    // paused offers are no part of the market
    let path = format!("/v1/offers/{}", rig.offer);
    let tag = world.get(&path).send().await.header("etag").to_owned();
    let pause = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", &tag);
    pause.json(&serde_json::json!({"state": "paused"})).send().await.ok(200);
    assert_eq!(count("?available=false").await, 0);
}
