//! The search on the index: filters and orders beside a plain SQL answer, names of models, what can be booked, what changes,
//! cursors, matching, bad input.

mod bookable;
mod feed;
mod image;
mod named;
mod orders;
mod plain;
mod refused;

use serde_json::{Value, json};

use crate::fixture::World;

async fn ids(world: &World, query: &str) -> Vec<String> {
    world.state.catch_up_with_market().await.unwrap();
    let page = world.get(&format!("/v1/offers?{query}")).send().await.ok(200);
    page["data"].as_array().unwrap().iter().map(|o| o["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_a_total_for_each_offer_and_an_order_by_it() {
    let world = World::new().await;
    let cheap = world.rig(1, 2, "0.40").await;
    let dear = world.rig(3, 2, "0.50").await;
    world.state.catch_up_with_market().await.unwrap();
    // disk makes the cheaper GPUs the dearer job
    for (offer, per_gb) in [(&cheap, 7_200_000), (&dear, 0)] {
        let id: domain::id::OfferId = offer.offer.parse().unwrap();
        let mut connection = world.store.read().await.unwrap();
        sqlx::query(
            "WITH next AS (UPDATE offers SET version = version + 1 WHERE id = $1 RETURNING id, version)
             INSERT INTO offer_versions (offer_id, version, model, gpu_count, chunks, usd_micros_per_hour, reserved,
                                         disk_micros_per_gb_month, disk_gb, min_duration_s, max_duration_s, created_at)
             SELECT v.offer_id, next.version, model, gpu_count, '{1,2}', usd_micros_per_hour,
                    '[{\"min_duration_s\": 7200, \"discount_bps\": 1000}]', $2, 100, 60, 86400, now()
             FROM offer_versions v JOIN next ON next.id = v.offer_id AND v.version = next.version - 1",
        )
        .bind(id.uuid())
        .bind(i64::from(per_gb))
        .execute(&mut *connection)
        .await
        .unwrap();
    }
    assert_eq!(ids(&world, "hours=2&disk_gb=50").await, [&*cheap.offer, &*dear.offer]);
    assert_eq!(ids(&world, "hours=2&disk_gb=50&sort=total").await, [&*dear.offer, &*cheap.offer]);
    assert_eq!(
        ids(&world, "hours=2&disk_gb=51&gpu_count=1").await,
        [""; 0],
        "a GPU has half of the disk"
    );
    let page = world
        .get("/v1/offers?hours=2&disk_gb=50&gpu_count=2&tokens_per_s=1550")
        .send()
        .await
        .ok(200);
    let first = &page["data"][0];
    // 2 * 0.40 less 10 %, and 50 GB at 7.20 a month of 720 hours: 0.72 + 0.50 an hour
    assert_eq!(first["total"]["total"], json!({"amount": "2.440000", "currency": "USD"}));
    assert_eq!(first["total"]["compute"]["amount"], "1.440000");
    assert_eq!(first["total"]["disk"]["amount"], "1.000000");
    assert_eq!(first["per_million_tokens"]["amount"], "0.071684");
    assert_eq!((&first["gpus"], &first["chunks"]), (&json!(2), &json!([1, 2])));
    assert!(first["rank_reason"].as_str().unwrap().starts_with("place 1 of this page by price"));
    assert_eq!(page["applied_filters"]["hours"], "2");
    assert_eq!(
        ids(&world, "hours=2&total_lte=1.80&gpu_count=2").await,
        [&*cheap.offer, &*dear.offer]
    );
    assert_eq!(ids(&world, "hours=2&total_lte=1.799999&gpu_count=2").await, [&*cheap.offer]);
    assert_eq!(ids(&world, "hours=1&kind=reserved").await, [""; 0]);
    assert_eq!(ids(&world, "hours=2&kind=reserved").await.len(), 2);
    assert_eq!(ids(&world, "hours=25").await, [""; 0], "it cannot be rented for so long");
    // Vast.ai's prices are of the whole rental, ours of a GPU
    for (text, found) in [
        ("num_gpus=2 price<0.45", true),
        ("num_gpus=2 dph_total<=0.8", true),
        ("num_gpus=2 dph_total<0.8", false),
        ("num_gpus=2 dph<0.45", false),
        ("num_gpus=2 price<0.45 geolocation not in ['DE', 'XZ']", false),
        (
            "num_gpus=2 price<0.45 geolocation not in ['XV', 'XZ'] gpu_arch=nvidia rented=false",
            true,
        ),
        ("num_gpus=2 price<0.45 total_flops>=165.2 flops_usd>=206.5", true),
        ("num_gpus=2 price<0.45 total_flops>165.2", false),
        ("num_gpus=2 price<0.45 flops_usd>206.5", false),
    ] {
        let text = format!("gpu_name%3DRTX_4090 {text}").replace('<', "%3C").replace('>', "%3E");
        let text = text.replace('\'', "%27").replace(' ', "+");
        let found = if found { vec![&*cheap.offer] } else { vec![] };
        assert_eq!(ids(&world, &format!("q={text}")).await, found, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_refused_with_its_place() {
    let world = World::new().await;
    world.rig(1, 1, "0.40").await;
    for (query, code, says) in [
        ("hours=0", "invalid-request", "above 0"),
        ("hours=two", "invalid-request", "hours"),
        ("disk_gb=5", "invalid-request", "needs hours"),
        ("sort=total", "invalid-request", "needs hours"),
        ("sort=per_million_tokens", "invalid-request", "needs tokens_per_s"),
        ("total_lte=5", "invalid-request", "needs hours"),
        ("kind=interruptible", "invalid-request", "on_demand or reserved"),
        ("form=hgx", "invalid-request", "must be one of pcie, sxm"),
        ("tier=gold,verified", "invalid-request", "must be one of unverified"),
        ("isolation=", "invalid-request", "empty name"),
        ("reliability_gte=1.5", "invalid-request", "0.98"),
        ("reliability_gte=NaN", "invalid-request", "0.98"),
        ("cuda_gte=-1", "invalid-request", "12.4"),
        ("country=germany", "invalid-request", "of the form de"),
        ("not_country=%27%3B+DROP+TABLE+offers", "invalid-request", "of the form de"),
        ("updated_since=yesterday", "invalid-request", "RFC 3339"),
        ("static_ip=maybe", "invalid-request", "static_ip"),
        ("cpu_cores_gte=1.5", "invalid-request", "cpu_cores_gte"),
    ] {
        let body = world.get(&format!("/v1/offers?{query}")).send().await.problem(400, code);
        let name = query.split('=').next().unwrap();
        assert_eq!(body["errors"][0]["pointer"], format!("?{name}"), "{body}");
        assert!(body["detail"].as_str().unwrap().contains(says), "{query}: {body}");
    }
    for (q, position, nearest) in [
        ("gpu_nmae=RTX_4090", 1, json!("gpu_name")),
        ("price<1 relibility>0.9", 9, json!("reliability")),
        ("price<cheap", 7, Value::Null),
        ("price<1'; DROP TABLE offers; --", 8, Value::Null),
    ] {
        let q: String = q.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let body =
            world.get(&format!("/v1/offers?q={q}")).send().await.problem(422, "validation-failed");
        assert_eq!((&body["position"], &body["nearest"]), (&json!(position), &nearest), "{body}");
        assert_eq!(body["errors"][0]["pointer"], "?q");
    }
    let empty = world.get("/v1/offers?q=price%3E1&price_lte=0.5").send().await;
    let body = empty.problem(422, "validation-failed");
    assert!(body["detail"].as_str().unwrap().contains("no value of price"), "{body}");
    assert_eq!(ids(&world, "").await.len(), 1, "nothing happened to anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_are_good_for_their_own_search_and_for_an_hour() {
    let world = World::new().await;
    for n in 0..3_u8 {
        world.rig(1 + 2 * n, 1, "0.40").await;
    }
    assert_eq!(ids(&world, "available=false").await.len(), 3);
    let page = world.get("/v1/offers?limit=2&available=false").send().await.ok(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let next = async |query: &str, cursor: &str| {
        world.get(&format!("/v1/offers?{query}&cursor={cursor}")).send().await
    };
    // the size of a page may change between pages
    let rest = next("limit=200&available=false", cursor).await.ok(200);
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
    for query in
        ["limit=2", "limit=2&available=false&price_lte=1", "limit=2&available=false&sort=-created"]
    {
        let body = next(query, cursor).await.problem(400, "invalid-cursor");
        assert!(body["detail"].as_str().unwrap().contains("other filters"), "{body}");
    }
    let mut forged = cursor.to_owned().into_bytes();
    forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    next("limit=2&available=false", &forged).await.problem(400, "invalid-cursor");
    // another process of the same market takes it, too
    let chain = world.state.chain.clone();
    let config = api::ApiConfig::clone(&world.state.config);
    let other = api::AppState::new(world.store.clone(), chain, config, None);
    other.catch_up_with_market().await.unwrap();
    let path = format!("/v1/offers?limit=2&available=false&cursor={cursor}");
    let call = crate::fixture::Call::new(&api::router(other), "GET", &path);
    assert_eq!(call.send().await.ok(200)["data"].as_array().unwrap().len(), 1);
    world.pass(3_601);
    let body = next("limit=2&available=false", cursor).await.problem(400, "invalid-cursor");
    assert!(body["detail"].as_str().unwrap().contains("hour old"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_are_matched_or_it_is_said_why_not() {
    let world = World::new().await;
    let pair = world.rig(1, 2, "0.40").await;
    let single = world.rig(3, 1, "0.30").await;
    let ask = async |body: Value| {
        world.state.catch_up_with_market().await.unwrap();
        world.post("/v1/match").json(&body).send().await
    };
    let found = ask(json!({"gpus": 2, "hours": "2", "gpu_models": ["RTX 4090"]})).await.ok(200);
    assert_eq!(found["proposals"].as_array().unwrap().len(), 1);
    let first = &found["proposals"][0];
    assert_eq!(first["total"]["amount"], "1.600000");
    assert_eq!(
        (&first["parts"][0]["offer_id"], &first["parts"][0]["gpus"]),
        (&json!(pair.offer), &json!(2))
    );
    // the other machine is somebody else's: three GPUs are nowhere
    let found = ask(json!({"gpus": 3, "hours": "2"})).await.ok(200);
    assert_eq!((&found["proposals"], &found["looked_at"]), (&json!([]), &json!(2)));
    let nearest =
        json!({"offer_id": single.offer, "price": {"amount": "0.300000", "currency": "USD"}});
    let refused = |reason| json!([{"reason": reason, "offers": 2, "alone": 2, "nearest": nearest}]);
    assert_eq!(found["refusals"], refused("gpu_count"));

    // once it is the same provider's, both machines together do it
    let mut connection = world.store.read().await.unwrap();
    for (table, column, id) in [
        ("offers", "id", single.offer.split_once('_').unwrap().1),
        ("machines", "id", single.machine.split_once('_').unwrap().1),
    ] {
        let statement = format!(
            "UPDATE {table} SET account_id = (SELECT account_id FROM offers WHERE id = $1::uuid) WHERE {column} = $2::uuid"
        );
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(pair.offer.split_once('_').unwrap().1)
            .bind(id)
            .execute(&mut *connection)
            .await
            .unwrap();
    }
    let found = ask(json!({"gpus": 3, "hours": "2"})).await.ok(200);
    let parts = found["proposals"][0]["parts"].as_array().unwrap();
    assert_eq!((parts.len(), &found["proposals"][0]["total"]["amount"]), (2, &json!("2.200000")));
    let alone = ask(json!({"gpus": 3, "hours": "2", "split": false})).await.ok(200);
    assert_eq!(alone["refusals"], refused("gpu_count"));
    let found =
        ask(json!({"gpus": 3, "hours": "2", "budget": {"amount": "2.19", "currency": "USD"}}))
            .await
            .ok(200);
    assert_eq!((&found["proposals"], &found["refusals"]), (&json!([]), &refused("budget")));

    // 24 GB each and 82.6 TFLOPS
    for (q, reason) in [
        ("total_vram_gb>=72 total_flops>=247.8", None),
        ("total_vram_gb>72", Some("total_vram_gb")),
        ("total_flops>247.8", Some("total_flops")),
    ] {
        let found = ask(json!({"gpus": 3, "hours": "2", "q": q})).await.ok(200);
        assert_eq!(found["proposals"].as_array().unwrap().is_empty(), reason.is_some(), "{q}");
        assert_eq!(found["refusals"], reason.map_or(json!([]), refused), "{q}");
    }

    let found = ask(json!({"gpus": 1, "hours": "2", "tiers": ["verified"], "regions": ["us"]}))
        .await
        .ok(200);
    let reasons: Vec<_> =
        found["refusals"].as_array().unwrap().iter().map(|r| &r["reason"]).collect();
    assert_eq!(reasons, ["region", "tier", "gpu_count"]);
    assert_eq!(found["explained"], json!([]));
    let asked =
        json!({"gpus": 1, "hours": "2", "tiers": ["verified"], "kind": "reserved", "explain": 1});
    let found = ask(asked).await.ok(200);
    let cheapest = json!([{
        "offer_id": single.offer, "gpu_model": "rtx-4090", "region": "de-fra", "reasons": ["tier", "reserved"],
        "price": {"amount": "0.300000", "currency": "USD"},
    }]);
    assert_eq!(found["explained"], cheapest);
    let reasons: Vec<_> =
        found["refusals"].as_array().unwrap().iter().map(|r| &r["reason"]).collect();
    assert_eq!(reasons, ["reserved", "tier", "gpu_count"]);
    world.pass(31);
    let found = ask(json!({"gpus": 1, "hours": "2"})).await.ok(200);
    assert_eq!(found["refusals"][0]["reason"], "offline");

    for (body, status, code, pointer) in [
        (json!({"gpus": 0, "hours": "2"}), 422, "validation-failed", "/gpus"),
        (json!({"gpus": 513, "hours": "2"}), 422, "validation-failed", "/gpus"),
        (json!({"gpus": 1, "hours": "2", "limit": 21}), 422, "validation-failed", "/limit"),
        (json!({"gpus": 1, "hours": "2", "explain": 51}), 422, "validation-failed", "/explain"),
        (json!({"gpus": 1, "hours": "2", "kind": "spot"}), 400, "invalid-request", "/kind"),
        (json!({"gpus": 1, "hours": "2", "q": "price<0"}), 422, "validation-failed", "/q"),
        (json!({"gpus": 1, "hours": "-2"}), 400, "invalid-request", "/hours"),
        (json!({"gpus": 1, "hours": 2}), 400, "invalid-request", "/hours"),
        (
            json!({"gpus": 1, "hours": "2", "regions": ["moon base"]}),
            400,
            "invalid-request",
            "/regions",
        ),
        (json!({"gpus": 1, "hours": "2", "q": "price<"}), 422, "validation-failed", "/q"),
        (json!({"gpus": 1, "hours": "2", "colour": "red"}), 400, "invalid-request", "/colour"),
    ] {
        let said = ask(body.clone()).await.problem(status, code);
        assert_eq!(said["errors"][0]["pointer"], pointer, "{body}: {said}");
    }
}
