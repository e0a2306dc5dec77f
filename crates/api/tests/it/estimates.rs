//! Estimates: what each kind answers, and what is refused.

use serde_json::{Value, json};

use crate::fixture::{Rig, World};

fn usd(amount: &str) -> Value {
    json!({"amount": amount, "currency": "USD"})
}

async fn ask(world: &World, body: &Value) -> Value {
    world.state.catch_up_with_market().await.unwrap();
    world.post("/v1/estimates").json(body).send().await.ok(200)
}

/// Totals of the rows of one provider and kind, in the answer's order.
fn totals(said: &Value, provider: &str, kind: &str, billing: &str) -> Vec<String> {
    let rows =
        said["providers"].as_array().unwrap().iter().filter(|row| {
            row["reference"]["provider"] == provider && row["reference"]["kind"] == kind
        });
    rows.map(|row| row["totals"][billing]["low"]["amount"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_three_scenarios_are_compared_across_providers() {
    let world = World::new().await;
    let scenario = async |model: &str, hours: &str| {
        let body = json!({"kind": "compare_providers", "gpu_model": model, "hours": hours});
        ask(&world, &body).await
    };
    let two_hours = scenario("RTX 4090", "2").await;
    assert_eq!(totals(&two_hours, "RunPod", "secure_cloud", "per_second"), ["1.180000"]);
    assert_eq!(
        totals(&two_hours, "Vast.ai", "marketplace_average", "per_second"),
        ["0.800000", "1.000000"]
    );
    assert_eq!(totals(&two_hours, "GPUFlow", "marketplace_average", "per_second"), ["1.300000"]);
    let eight_hours = scenario("A100_80GB", "8").await;
    for (provider, kind, expected) in [
        ("AWS", "on_demand", &["32.800000"][..]),
        ("Azure", "on_demand", &["29.360000", "217.600000"]),
        ("GCP", "on_demand", &["23.440000"]),
        ("RunPod", "secure_cloud", &["11.120000", "11.920000"]),
        ("Vast.ai", "marketplace_average", &["8.800000"]),
        ("GPUFlow", "marketplace_average", &["12.000000"]),
    ] {
        assert_eq!(totals(&eight_hours, provider, kind, "per_second"), expected, "{provider}");
    }
    let month = scenario("rtx-4090", "720").await;
    assert_eq!(totals(&month, "RunPod", "secure_cloud", "per_second"), ["424.800000"]);
    assert_eq!(totals(&month, "Vast.ai", "marketplace_average", "per_second")[1], "360.000000");
    assert_eq!(totals(&month, "GPUFlow", "marketplace_average", "per_second"), ["468.000000"]);
    for said in [&two_hours, &eight_hours, &month] {
        assert!(said["notice"].as_str().unwrap().contains("no offers"), "{said}");
        let rows = said["providers"].as_array().unwrap();
        let ranked = rows.iter().take_while(|row| row["reference"]["contradicted"] == false);
        let lows: Vec<f64> = ranked.map(low).collect();
        assert!(lows.is_sorted() && lows.len() > 4, "cheapest first: {lows:?}");
        let told: Vec<_> = rows[lows.len()..].iter().map(|row| &row["reference"]).collect();
        assert!(told.iter().all(|row| row["contradicted"] == true), "behind all others: {told:?}");
        for row in rows {
            let seen = &row["reference"]["observed_on"];
            assert_eq!(
                row["as_of"],
                if seen.is_null() { "2026-02-11".into() } else { seen.clone() }
            );
        }
        assert_eq!(said["here"], Value::Null, "nothing is listed");
    }
}

/// What a source prices as something else stays in the answer, with its note, and no saving is reckoned against it.
#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_is_contradicted_is_told_and_compared_with_nothing() {
    let world = World::new().await;
    world.rig(1, 1, "2.00").await;
    let a100 = "ALTER TABLE offer_versions DISABLE TRIGGER USER; UPDATE offer_versions SET model = 'a100-80gb-sxm';
                UPDATE gpus SET model = 'a100-80gb-sxm'; UPDATE machines SET region = 'de-ber'";
    sqlx::raw_sql(a100).execute(world.store.pool()).await.unwrap();
    let body = json!({"kind": "compare_providers", "gpu_model": "A100 80GB", "hours": "8"});
    let said = ask(&world, &body).await;
    assert_eq!(said["here"]["total"]["amount"], "16.000000");
    assert_eq!(said["here"]["change"], "+138.10%", "the lowest of the others is 6.72");
    let rows = said["providers"].as_array().unwrap();
    let at =
        |provider: &str| rows.iter().find(|row| row["reference"]["provider"] == provider).unwrap();
    let gcp = at("GCP");
    assert_eq!(gcp["totals"]["per_second"]["low"]["amount"], "23.440000");
    assert_eq!((&gcp["reference"]["contradicted"], &gcp["change"]), (&json!(true), &Value::Null));
    assert!(gcp["reference"]["note"].as_str().unwrap().contains("2.93 is the 40GB price"));
    // 29.36 by the minute, as Azure bills
    assert_eq!(
        (&at("Azure")["change"], &at("Azure")["as_of"]),
        (&json!("-45.50%"), &json!("2026-02-11"))
    );
    assert_eq!(
        (&at("HuggingFace")["change"], &at("HuggingFace")["reference"]["observed_on"]),
        (&json!("-69.23%"), &Value::Null)
    );
}

/// What is saved is reckoned against what each would bill, and so is which of them is the cheapest.
#[tokio::test(flavor = "multi_thread")]
async fn each_is_compared_by_its_own_way_of_billing() {
    let world = World::new().await;
    world.rig(1, 1, "0.30").await;
    let t4 =
        "ALTER TABLE offer_versions DISABLE TRIGGER USER; UPDATE offer_versions SET model = 't4';
              UPDATE gpus SET model = 't4'; UPDATE machines SET region = 'de-ber'";
    sqlx::raw_sql(t4).execute(world.store.pool()).await.unwrap();
    let body = json!({"kind": "compare_providers", "gpu_model": "T4", "elapsed_s": 90});
    let said = ask(&world, &body).await;
    assert_eq!(said["here"]["total"]["amount"], "0.007500");
    let first = &said["providers"][0];
    assert_eq!(
        (&first["reference"]["provider"], &first["billed"], &first["total"]["low"]["amount"]),
        (&json!("GCP"), &json!("per_minute"), &json!("0.011666"))
    );
    // two minutes at 0.35 an hour, where 90 seconds are used
    assert_eq!((&first["change"], &said["here"]["change"]), (&json!("-35.71%"), &json!("-35.71%")));
}

fn low(row: &Value) -> f64 {
    row["totals"]["per_second"]["low"]["amount"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn billing_by_the_second_the_minute_and_the_hour_stand_side_by_side() {
    let world = World::new().await;
    let body = json!({"kind": "compare_providers", "gpu_model": "rtx-4090", "elapsed_s": 3_601});
    let said = ask(&world, &body).await;
    let at = |billing| totals(&said, "GPUFlow", "marketplace_average", billing);
    assert_eq!(at("per_second"), ["0.650180"]);
    assert_eq!(at("per_minute"), ["0.660833"]);
    assert_eq!(at("per_hour"), ["1.300000"]);
    for row in said["providers"].as_array().unwrap() {
        let own = match row["reference"]["provider"].as_str().unwrap() {
            "GPUFlow" | "RunPod" | "Vast.ai" => json!("per_second"),
            _ => Value::Null,
        };
        assert_eq!(row["billed"], own, "{row}");
        let expected = own.as_str().map_or(Value::Null, |own| row["totals"][own].clone());
        assert_eq!(row["total"], expected);
    }
    let azure =
        ask(&world, &json!({"kind": "compare_providers", "gpu_model": "T4", "elapsed_s": 61}))
            .await;
    let row =
        azure["providers"].as_array().unwrap().iter().find(|row| row["billed"] == "per_minute");
    let row = row.unwrap();
    assert_eq!(row["total"], row["totals"]["per_minute"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_rented_here_stands_beside_the_others() {
    let world = World::new().await;
    let cheap = world.rig(1, 1, "0.36").await;
    world.rig(3, 1, "0.60").await;
    world.rig(5, 2, "0.10").await;
    let body = json!({"kind": "compare_providers", "gpu_model": "rtx-4090", "hours": "2"});
    let here = ask(&world, &body).await["here"].clone();
    assert_eq!(here["offer_id"], cheap.offer, "one GPU is wanted, not two together");
    assert_eq!(here["total"]["amount"], "0.720000");
    assert_eq!(here["change"], "+24.14%", "the lowest of the others is 0.29 an hour");
    // longer than it is let for, and of another model
    for (model, hours) in [("rtx-4090", "720"), ("t4", "2")] {
        let body = json!({"kind": "compare_providers", "gpu_model": model, "hours": hours});
        assert_eq!(ask(&world, &body).await["here"], Value::Null);
    }
    world.pass(3_600);
    assert_eq!(ask(&world, &body).await["here"], Value::Null, "it went offline");
}

/// What is said to be the cheapest here is what a quote would say, and nothing that it would refuse.
#[tokio::test(flavor = "multi_thread")]
async fn the_cheapest_here_is_what_a_quote_would_be() {
    let world = World::new().await;
    let [long, short, shut] = [
        world.rig(1, 1, "0.40").await,
        world.rig(3, 1, "0.36").await,
        world.rig(5, 1, "0.10").await,
    ];
    let renter = world.sign_in(9).await;
    let patch = async |rig: &Rig, body: Value| {
        let path = format!("/v1/offers/{}", rig.offer);
        let tag = world.get(&path).send().await.header("etag").to_owned();
        let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", &tag);
        call.json(&body).send().await.ok(200)
    };
    patch(&long, json!({"reserved": [{"min_duration_s": 7_200, "discount_bps": 2_000}]})).await;
    // it is over before two hours are, counted from the latest second at which a rental may begin
    let until = |time: &str| json!({"available_until": format!("2027-01-15T{time}Z")});
    patch(&shut, until("10:09:59")).await;
    let here = async |hours: &str| {
        let body = json!({"kind": "compare_providers", "gpu_model": "rtx-4090", "hours": hours});
        ask(&world, &body).await["here"].clone()
    };
    let quoted = async |rig: &Rig, duration_s: u32| {
        let body = json!({"offer_id": rig.offer, "duration_s": duration_s, "token": "USDC"});
        world.post("/v1/quotes").auth(&renter.token).json(&body).send().await
    };
    // the dearer by the hour is the cheaper with its discount
    let two = here("2").await;
    assert_eq!(
        (&two["offer_id"], &two["total"]["amount"]),
        (&json!(long.offer), &json!("0.640000"))
    );
    assert_eq!(quoted(&long, 7_200).await.ok(201)["total_max"], two["total"]);
    quoted(&shut, 7_200).await.problem(409, "not-for-so-long");
    let one = here("1").await;
    assert_eq!(
        (&one["offer_id"], &one["total"]["amount"]),
        (&json!(shut.offer), &json!("0.100000"))
    );
    assert_eq!(quoted(&shut, 3_600).await.ok(201)["total_max"], one["total"]);
    patch(&shut, until("10:10:00")).await;
    assert_eq!(here("2").await["offer_id"], shut.offer);
    quoted(&shut, 7_200).await.ok(201);
    // nor what goes into maintenance meanwhile
    let path = format!("/v1/machines/{}/maintenance", shut.machine);
    let body =
        json!({"from": "2027-01-15T09:00:00Z", "to": "2027-01-15T09:30:00Z", "reason": "disks"});
    world.post(&path).auth(&shut.provider.token).json(&body).send().await.ok(201);
    assert_eq!(here("1").await["offer_id"], short.offer);
    quoted(&shut, 3_600).await.problem(409, "machine-maintenance");
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_filled_in_and_told() {
    let world = World::new().await;
    let said = ask(&world, &json!({"kind": "usage", "price": usd("0.65"), "hours": "2"})).await;
    assert_eq!(
        said["request"],
        json!({
            "kind": "usage", "price": usd("0.650000"), "units": 1, "hours": "2.000000", "granularity_s": 1,
            "min_s": 1, "fee_bps": 0, "fee_side": "provider", "ever_ready": true,
        })
    );
    assert_eq!(said["total"], usd("1.300000"));
    assert_eq!(said["kind"], "usage");
    let never = json!({"kind": "usage", "price": usd("0.65"), "hours": "2", "ever_ready": false});
    assert_eq!(ask(&world, &never).await["total"], usd("0.000000"));
    let capped = json!({"kind": "usage", "price": usd("0.65"), "hours": "2", "deposit": usd("1"),
                        "fee_bps": 1_000, "fee_side": "renter"});
    let said = ask(&world, &capped).await;
    assert_eq!((&said["total"], &said["refund"]), (&usd("0.999999"), &usd("0.000001")));
}

#[tokio::test(flavor = "multi_thread")]
async fn interruptible_work_and_buying_are_weighed() {
    let world = World::new().await;
    let spot = json!({"kind": "spot", "price": usd("1"), "discount_bps": 6_000, "hours": "95",
                      "interruptions_per_100h": "10", "restart_s": 300, "redo_s": 1_500});
    let said = ask(&world, &spot).await;
    assert_eq!(
        (&said["running_s"], &said["interruptions"]),
        (&json!(360_000), &json!("10.000000"))
    );
    assert_eq!((&said["total"], &said["change"]), (&usd("40.000000"), &json!("-57.89%")));
    assert_eq!(said["on_demand"]["total"], usd("95.000000"));
    assert_eq!(said["break_even_discount_bps"], 500);

    let buy = json!({"kind": "break_even", "purchase_price": usd("1600"), "price": usd("0.60")});
    let said = ask(&world, &buy).await;
    assert_eq!((&said["hours"], &said["days"]), (&json!("2666.666667"), &json!("111.111112")));
    assert_eq!(said["display"], "after 2666.67 h of use, 111.11 days at 24.00 h a day");
    let dear = json!({"kind": "break_even", "purchase_price": usd("1600"), "price": usd("0.60"),
                      "power_w": 1_500, "price_per_kwh": usd("0.40")});
    let said = ask(&world, &dear).await;
    assert_eq!((&said["hours"], &said["running_cost_per_hour"]), (&Value::Null, &usd("0.600000")));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_add_up_to_a_whole() {
    let world = World::new().await;
    let part = |label: &str, estimate: Value| json!({"label": label, "estimate": estimate});
    let parts = [
        part("GPU", json!({"kind": "usage", "price": usd("0.65"), "hours": "720"})),
        part("disk", json!({"kind": "item", "quantity": "100", "unit_price": usd("0.10")})),
        part("egress", json!({"kind": "item", "quantity": "12.5", "unit_price": usd("0.05")})),
        part(
            "tokens",
            json!({"kind": "per_million_tokens", "price": usd("4.80"), "tokens_per_second": 1_550,
                              "tokens": 10_000_000}),
        ),
    ];
    let said = ask(&world, &json!({"kind": "composite", "parts": parts})).await;
    let each: Vec<_> =
        said["parts"].as_array().unwrap().iter().map(|p| &p["total"]["amount"]).collect();
    assert_eq!(each, ["468.000000", "10.000000", "0.625000", "8.602150"]);
    assert_eq!((&said["total"], &said["display"]), (&usd("487.227150"), &json!("487.23")));
    assert_eq!(said["parts"][0]["estimate"]["billed_s"], 2_592_000);
}

/// Refused with 400 because it cannot be read, or with 422 because it makes no sense; and the place is named.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_at_its_place() {
    let world = World::new().await;
    let usage = |edit: Value| {
        let mut body = json!({"kind": "usage", "price": usd("0.65"), "hours": "2"});
        body.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        body
    };
    let many = vec![
        json!({"label": "x", "estimate": {"kind": "item", "quantity": "1", "unit_price": usd("1")}});
        33
    ];
    let inner = |estimate: Value| json!({"kind": "composite", "parts": [{"label": "x", "estimate": estimate}]});
    let way = |label: &str| json!({"label": label, "unit_price": usd("1")});
    for (body, status, pointer) in [
        (json!([]), 400, ""),
        (json!({}), 400, "/kind"),
        (json!({"kind": 3}), 400, "/kind"),
        (json!({"kind": "usaeg"}), 400, "/kind"),
        (json!({"kind": "usage", "hours": "2"}), 400, ""),
        (usage(json!({"price": 0.65})), 400, "/price"),
        (usage(json!({"price": {"amount": 0.65, "currency": "USD"}})), 400, "/price/amount"),
        (usage(json!({"price": {"amount": "0.65", "currency": "EUR"}})), 400, "/price/currency"),
        (usage(json!({"price": usd("-1")})), 400, "/price/amount"),
        (usage(json!({"price": usd("0.0000001")})), 400, "/price/amount"),
        (usage(json!({"price": usd("0")})), 422, "/price/amount"),
        (usage(json!({"price": usd("10000001")})), 422, "/price/amount"),
        (usage(json!({"untis": 1})), 400, "/untis"),
        (usage(json!({"units": 0})), 422, "/units"),
        (usage(json!({"units": 10_001})), 422, "/units"),
        (usage(json!({"units": -1})), 400, "/units"),
        (usage(json!({"hours": 2})), 400, "/hours"),
        (usage(json!({"hours": "two"})), 400, "/hours"),
        (usage(json!({"hours": "87601"})), 422, "/hours"),
        (usage(json!({"hours": "99999999999"})), 422, "/hours"),
        (usage(json!({"elapsed_s": 7_200})), 422, "/hours"),
        (usage(json!({"hours": null})), 422, "/hours"),
        (usage(json!({"granularity_s": 0})), 422, "/granularity_s"),
        (usage(json!({"min_s": 86_401})), 422, "/min_s"),
        (usage(json!({"fee_bps": 1_501})), 400, "/fee_bps"),
        (usage(json!({"fee_side": "nobody"})), 400, "/fee_side"),
        (usage(json!({"deposit": usd("10000001")})), 422, "/deposit/amount"),
        (
            json!({"kind": "replica", "price": usd("1"), "hours": "1", "min_replicas": 1, "scale_up_hours": "2"}),
            422,
            "/scale_up_hours",
        ),
        (
            json!({"kind": "replica", "price": usd("1"), "hours": "1", "min_replicas": 10_001}),
            422,
            "/min_replicas",
        ),
        (
            json!({"kind": "per_million_tokens", "price": usd("1"), "tokens_per_second": 0}),
            422,
            "/tokens_per_second",
        ),
        (
            json!({"kind": "per_million_tokens", "price": usd("10000000"), "units": 10_000, "tokens_per_second": 1,
                "tokens": u64::MAX}),
            422,
            "",
        ),
        (json!({"kind": "per_gpu", "instance_price": usd("1"), "gpus": 0}), 422, "/gpus"),
        (
            json!({"kind": "spot", "price": usd("1"), "discount_bps": 10_001, "hours": "1",
                "interruptions_per_100h": "1"}),
            400,
            "/discount_bps",
        ),
        (
            json!({"kind": "spot", "price": usd("1"), "discount_bps": 5_000, "hours": "1",
                "interruptions_per_100h": "100", "restart_s": 3_600}),
            422,
            "/interruptions_per_100h",
        ),
        (
            json!({"kind": "break_even", "purchase_price": usd("1"), "price": usd("1"), "hours_per_day": "0"}),
            422,
            "/hours_per_day",
        ),
        (
            json!({"kind": "break_even", "purchase_price": usd("1"), "price": usd("1"), "power_w": 450}),
            422,
            "/price_per_kwh",
        ),
        (json!({"kind": "compare", "count": 1, "ways": [way("a")]}), 422, "/ways"),
        (json!({"kind": "compare", "count": 1, "ways": [way("a"), way("")]}), 422, "/ways/1/label"),
        (
            json!({"kind": "compare", "count": 1, "ways": [way("a"), {"label": "b"}]}),
            400,
            "/ways/1",
        ),
        (json!({"kind": "compare", "count": u64::MAX, "ways": [way("a"), way("b")]}), 422, ""),
        (
            json!({"kind": "compare_providers", "gpu_model": "A100", "hours": "8"}),
            422,
            "/gpu_model",
        ),
        (
            json!({"kind": "compare_providers", "gpu_model": "rtx-4091", "hours": "8"}),
            422,
            "/gpu_model",
        ),
        (
            json!({"kind": "compare_providers", "gpu_model": "rtx-4090", "vram_gb": 48, "hours": "8"}),
            422,
            "/gpu_model",
        ),
        (
            json!({"kind": "compare_providers", "gpu_model": "rtx-4090", "form": "round", "hours": "8"}),
            400,
            "/form",
        ),
        (json!({"kind": "compare_providers", "gpu_model": "rtx-4090"}), 422, "/hours"),
        (json!({"kind": "composite", "parts": []}), 422, "/parts"),
        (json!({"kind": "composite", "parts": many}), 422, "/parts"),
        (
            inner(json!({"kind": "usage", "price": usd("0"), "hours": "1"})),
            422,
            "/parts/0/estimate/price/amount",
        ),
        (
            inner(json!({"kind": "usage", "price": usd("1"), "hours": 1})),
            400,
            "/parts/0/estimate/hours",
        ),
        (
            inner(json!({"kind": "item", "quantity": "1", "unit_price": usd("1"), "x": 1})),
            400,
            "/parts/0/estimate/x",
        ),
        (inner(json!({"kind": "composite", "parts": []})), 422, "/parts/0/estimate/kind"),
        (
            inner(json!({"kind": "per_gpu", "instance_price": usd("1"), "gpus": 8})),
            422,
            "/parts/0/estimate/kind",
        ),
        (
            inner(json!({"kind": "compare_providers", "gpu_model": "t4", "hours": "1"})),
            422,
            "/parts/0/estimate/kind",
        ),
    ] {
        let code = if status == 400 { "invalid-request" } else { "validation-failed" };
        let said = world.post("/v1/estimates").json(&body).send().await.problem(status, code);
        assert_eq!(said["errors"][0]["pointer"], pointer, "{body}: {said:#}");
    }
    let twice = r#"{"kind":"usage","price":{"amount":"1","currency":"USD"},"hours":"1","units":1,"units":2}"#;
    let said = world.post("/v1/estimates").raw(twice).send().await.problem(400, "invalid-request");
    assert!(said["detail"].as_str().unwrap().contains("duplicate field `units`"), "{said}");
    let ambiguous = json!({"kind": "compare_providers", "gpu_model": "A100", "hours": "8"});
    let said =
        world.post("/v1/estimates").json(&ambiguous).send().await.problem(422, "validation-failed");
    assert_eq!(said["candidates"].as_array().unwrap().len(), 4, "{said}");
}
