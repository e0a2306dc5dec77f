//! Searches that cannot be understood, or cannot find anything whatever is listed.

use serde_json::{Value, json};

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
        // beyond what the market takes
        ("hours=744.01", &["?hours"]),
        ("hours=1&disk_gb=1048577", &["?disk_gb"]),
        ("hours=1&total_lte=0", &["?total_lte"]),
        ("duration_s=2678401", &["?duration_s"]),
        ("duration_s=0", &["?duration_s"]),
        ("min_duration_lte=0", &["?min_duration_lte"]),
        ("price_lte=0", &["?price_lte"]),
        ("disk_gb_gte=2000000", &["?disk_gb_gte"]),
        ("cpu_cores_gte=4097", &["?cpu_cores_gte"]),
        ("ram_gb_gte=65537", &["?ram_gb_gte"]),
        ("ports_gte=65536", &["?ports_gte"]),
        ("notice_s_gte=604801", &["?notice_s_gte"]),
        ("isolation=mig", &["?isolation"]),
        ("price_lte=0&q=price%3E1", &["?price_lte"]),
        ("q=isolation%3Dmig", &["?q"]),
        ("q=price%3E1000", &["?q"]),
        ("q=dph%3E64000", &["?q"]),
        ("q=duration%3E31", &["?q"]),
        ("q=disk_space%3E%3D1048577", &["?q"]),
        ("q=storage_cost%3E100", &["?q"]),
        ("q=inet_up_cost%3E100", &["?q"]),
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
        "hours=744&disk_gb=1048576&total_lte=0.000001",
        "duration_s=2678400&available_for_s=4294967295",
        "price_lte=0.000001&disk_gb_gte=1048576&cpu_cores_gte=4096&ram_gb_gte=65536&ports_gte=65535",
        "notice_s_gte=604800&isolation=mig,gpu&min_duration_lte=1",
        "q=price%3E%3D1000+isolation!=mig+duration%3E%3D31",
    ] {
        world.get(&format!("/v1/offers?{query}")).send().await.ok(200);
    }
    // as a need is asked for
    let need = json!({"gpus": 1, "hours": "1000"});
    let said = world.post("/v1/match").json(&need).send().await;
    let said = said.problem(422, "validation-failed");
    assert_eq!(said["errors"][0]["pointer"], "/hours");
    let told = said["detail"].as_str().unwrap();
    assert!(told.ends_with("longer than 2678400 s (31 days)"), "{told}");
    let need = json!({"gpus": 1, "hours": "1", "q": "price<1 isolation=mig"});
    let said = world.post("/v1/match").json(&need).send().await;
    assert_eq!(said.problem(422, "validation-failed")["errors"][0]["pointer"], "/q");
}
