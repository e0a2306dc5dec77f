//! Searches that cannot be understood, or cannot find anything whatever is listed.

use serde_json::Value;

use crate::fixture::World;

fn parameters() -> Vec<String> {
    let api: Value = serde_json::from_str(include_str!("../../../openapi.json")).unwrap();
    let list = api["paths"]["/v1/offers"]["get"]["parameters"].as_array().unwrap().clone();
    list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_refuses_what_it_is_not_and_is_named() {
    let world = World::new().await;
    world.rig(1, 1, "0.40").await;
    let names = parameters();
    assert!(names.len() > 40 && names.contains(&"q".to_owned()), "{names:?}");
    for name in &names {
        for value in ["~", "~,~", "-1", "%00"] {
            let path = format!("/v1/offers?{name}={value}");
            let reply = world.get(&path).send().await;
            assert!(reply.status == 400 || reply.status == 422, "{path}: {}", reply.body);
            let pointer = &reply.body["errors"][0]["pointer"];
            assert_eq!(*pointer, format!("?{name}"), "{path}: {}", reply.body);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_can_satisfy_is_refused_where_it_was_asked() {
    let world = World::new().await;
    world.rig(1, 1, "0.40").await;
    for (query, pointers) in [
        ("gpu_count=0", &["?gpu_count"][..]),
        ("gpu_count=65", &["?gpu_count"]),
        ("q=num_gpus%3C1", &["?q"]),
        ("gpu_count=2&q=num_gpus%3E2", &["?gpu_count", "?q"]),
        ("country=us&not_country=us", &["?country", "?not_country"]),
        ("country=us&not_country=US,de", &["?country", "?not_country"]),
        ("region=us-lax&not_country=us", &["?not_country", "?region"]),
        ("region=de-fra&country=us", &["?country", "?region"]),
        ("country=us&q=geolocation+notin+[US]", &["?country", "?q"]),
        ("duration_s=60&q=min_duration_s%3E60", &["?duration_s", "?q"]),
        ("min_duration_lte=60&q=min_duration_s%3E60", &["?min_duration_lte", "?q"]),
        ("price_lte=0.5&q=price%3E1", &["?price_lte", "?q"]),
        ("tier=verified&q=tier!=verified", &["?q", "?tier"]),
        ("q=reliability%3E1", &["?q"]),
        ("q=datacenter%3Dtrue+datacenter%3Dfalse", &["?q"]),
        ("q=rentable+notin+[true,false]", &["?q"]),
    ] {
        for path in ["/v1/offers", "/v1/offers/stream"] {
            let said = world.get(&format!("{path}?{query}")).send().await;
            let said = said.problem(422, "validation-failed");
            let errors = said["errors"].as_array().unwrap().iter();
            let said: Vec<&str> = errors.map(|error| error["pointer"].as_str().unwrap()).collect();
            assert_eq!(said, pointers, "{query}");
        }
    }
    for query in [
        "gpu_count=64",
        "country=us,de&not_country=us",
        "region=us-lax&country=us",
        "country=us&q=region!=us-lax",
        "tier=verified,datacenter&q=tier!=verified",
    ] {
        world.get(&format!("/v1/offers?{query}")).send().await.ok(200);
    }
}
