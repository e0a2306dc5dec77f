//! What an offer may promise, and many offers at once.

use domain::{
    money::Amount,
    rental::{CloseOutcome, RentalEvent},
    time::{Seconds, UnixSeconds},
};
use serde_json::{Value, json};
use store::rentals::MoneyDelta;

use crate::{
    fixture::World,
    running::{Running, START},
};

fn usd(amount: &str) -> Value {
    json!({"amount": amount, "currency": "USD"})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_promises_no_more_than_its_machine_has() {
    let world = World::new().await;
    let owner = world.sign_in(1).await;
    let said = world.machine(&owner, 4).await;
    let machine = said["machine"]["id"].as_str().unwrap();
    let good = json!({"machine_id": machine, "price": usd("0.65"), "gpu_count": 4,
        "min_duration_s": 60, "max_duration_s": 86_400});
    let list = |edit: Value| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        world.post("/v1/offers").auth(&owner.token).json(&body).send()
    };
    let step = |at: u32, bps: u32| json!({"min_duration_s": at, "discount_bps": bps});
    let disk = |price: &str, max: u32| json!({"disk": {"per_gb_month": usd(price), "max_gb": max}});
    let network =
        |up: &str, down: &str| json!({"network": {"up_per_gb": usd(up), "down_per_gb": usd(down)}});
    for (edit, pointer) in [
        (json!({"gpu_count": 5}), "/gpu_count"),
        (json!({"chunks": []}), "/chunks"),
        (json!({"chunks": [0, 4]}), "/chunks"),
        (json!({"chunks": [4, 2]}), "/chunks"),
        (json!({"chunks": [1, 2]}), "/chunks"),
        (json!({"chunks": [1, 8]}), "/chunks"),
        (json!({"gpu_model": "h100-sxm"}), "/gpu_model"),
        (json!({"price": usd("0")}), "/price/amount"),
        (json!({"price": usd("1000.000001")}), "/price/amount"),
        (json!({"reserved": [step(60, 0)]}), "/reserved/0/discount_bps"),
        (json!({"reserved": [step(60, 9_001)]}), "/reserved/0/discount_bps"),
        (json!({"reserved": [step(60, 10_001)]}), "/reserved/0/discount_bps"),
        (json!({"reserved": [step(86_401, 1)]}), "/reserved/0/min_duration_s"),
        (json!({"reserved": [step(60, 2), step(120, 1)]}), "/reserved/1"),
        (json!({"reserved": [step(120, 1), step(60, 2)]}), "/reserved/1"),
        (disk("100.000001", 10), "/disk/per_gb_month/amount"),
        (disk("0.10", 501), "/disk/max_gb"),
        (disk("0.10", u32::MAX), "/disk/max_gb"),
        (network("100.000001", "0"), "/network/up_per_gb/amount"),
        (network("0", "100.000001"), "/network/down_per_gb/amount"),
        (json!({"notice_s": 604_801}), "/notice_s"),
        (json!({"isolation": "machine", "chunks": [2, 4]}), "/chunks"),
        (json!({"isolation": "machine", "gpu_count": 2}), "/isolation"),
        (json!({"isolation": "mig"}), "/isolation"),
        (json!({"available_until": "2027-01-15T07:59:59Z"}), "/available_until"),
        (json!({"machine_id": "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"}), "/machine_id"),
    ] {
        let body = list(edit.clone()).await.problem(422, "validation-failed");
        assert_eq!(body["errors"][0]["pointer"], pointer, "{edit}");
    }
    for edit in [
        json!({"price": usd("-1")}),
        json!({"price": {"amount": 0.65, "currency": "USD"}}),
        json!({"chunks": [-1, 4]}),
        json!({"chunks": [1, 70_000]}),
        json!({"isolation": "container"}),
        json!({"min_charge_s": 60}),
        json!({"granularity_s": 60}),
    ] {
        list(edit).await.problem(400, "invalid-request");
    }
    let body = list(json!({"gpu_model": "rtx-4090", "isolation": "machine", "notice_s": 0})).await;
    let offer = body.ok(201);
    assert_eq!((&offer["chunks"], &offer["isolation"]), (&json!([4]), &json!("machine")));
    assert_eq!((&offer["granularity_s"], &offer["min_charge_s"]), (&json!(1), &json!(1)));
    assert_eq!(offer["available_until"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_of_gpus_are_not_taken() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let body = json!({"name": "m", "region": "de", "cpu_cores": 1, "ram_gb": 1, "disk_gb": 1,
        "gpus": [{"uuid": "GPU-00000000", "model": "a100-80gb-sxm"},
                 {"uuid": "mig-00000001", "model": "a100-80gb-sxm"}]});
    let said = world.post("/v1/machines").auth(&rig.provider.token).json(&body).send().await;
    let refused = said.problem(422, "validation-failed");
    assert_eq!(refused["errors"][0]["pointer"], "/gpus/1/uuid");
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("slice of a GPU (MIG)"));

    // a machine that has some since before they were refused is offered no more
    let path = format!("/v1/offers/{}", rig.offer);
    let patch = async |body: Value| {
        let tag = world.get(&path).send().await.header("etag").to_owned();
        let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", &tag);
        call.json(&body).send().await
    };
    patch(json!({"state": "paused"})).await.ok(200);
    sqlx::query("UPDATE gpus SET vendor_uuid = 'MIG-00000002'")
        .execute(world.store.pool())
        .await
        .unwrap();
    let refused = patch(json!({"state": "listed"})).await.problem(422, "validation-failed");
    assert_eq!(refused["errors"][0]["pointer"], "/isolation");
}

/// What a rental costs was agreed when it was booked.
#[tokio::test(flavor = "multi_thread")]
async fn a_rental_that_runs_keeps_its_price_when_its_offer_changes() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    let started_at = UnixSeconds(START);
    world.advance(&running.id, RentalEvent::StartFinal { started_at }).await;
    running.pass(&world, 20).await;
    running.append(&world, 0, 20).await;
    let before = running.rental(&world).await;
    assert_eq!(before["cost"]["accrued"]["base_units"], "3611");
    let path = format!("/v1/offers/{}", running.rig.offer);
    let tag = world.get(&path).send().await.header("etag").to_owned();
    let call = world.call("PATCH", &path).auth(&running.rig.provider.token);
    let call = call.header("if-match", &tag).json(&json!({"price": usd("1.30")}));
    assert_eq!(call.send().await.ok(200)["version"], 2);

    running.pass(&world, 20).await;
    running.append(&world, 20, 40).await;
    let after = running.rental(&world).await;
    assert_eq!(after["state"], "active");
    for what in ["escrow_id", "deposit", "quote_id"] {
        assert!(after[what] == before[what] && !after[what].is_null(), "{what}");
    }
    assert!(after["cost"]["rate"] == before["cost"]["rate"] && after["cost"]["rate"].is_object());
    // floor(40 s * 650,000 / 3,600), and it ends when it would have
    assert_eq!(after["cost"]["accrued"]["base_units"], "7222");
    assert_eq!(after["cost"]["exhausts_at"], before["cost"]["exhausts_at"]);
    let stop = world.post(&format!("/v1/rentals/{}/stop", running.id));
    let said = stop.auth(&running.renter.token).key("s").send().await.ok(202);
    for (part, amount) in [("provider", "6356"), ("fee", "866"), ("refund", "642778")] {
        assert_eq!(said["preview"][part]["base_units"], amount, "{part}");
    }
    // the terms that the contract settles by are those that were signed
    world.advance(&running.id, RentalEvent::AgentStopped).await;
    let delta = MoneyDelta {
        provider: Amount::new(6_356).unwrap(),
        fee: Amount::new(866).unwrap(),
        refund: Amount::new(642_778).unwrap(),
        billed: Some(Seconds(40)),
        ..MoneyDelta::default()
    };
    world.pay(&running.id, delta).await;
    let outcome = CloseOutcome::ClosedByOperator;
    world.advance(&running.id, RentalEvent::ClosedFinal { outcome }).await;
    let receipt = format!("/v1/rentals/{}/receipt", running.id);
    let receipt = world.get(&receipt).auth(&running.renter.token).send().await.ok(200);
    assert_eq!(receipt["terms"]["message"]["pricePerHour"], "650000");
    // the next one pays the new price
    let renter = world.sign_in(11).await;
    let quote = world.quote(&renter, &running.rig).await;
    assert_eq!(quote["deposit"]["base_units"], "1300000");
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_gpus_follow_only_where_all_go_together() {
    let world = World::new().await;
    let rig = world.rig(1, 4, "0.65").await;
    let path = format!("/v1/offers/{}", rig.offer);
    let patch = async |body: Value| {
        let tag = world.get(&path).send().await.header("etag").to_owned();
        let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", &tag);
        call.json(&body).send().await
    };
    assert_eq!(patch(json!({"gpu_count": 2})).await.ok(200)["chunks"], json!([2]));
    assert_eq!(patch(json!({"gpu_count": 4, "chunks": [1, 4]})).await.ok(200)["version"], 3);
    let body = patch(json!({"gpu_count": 2})).await.problem(422, "validation-failed");
    assert_eq!(body["errors"][0]["pointer"], "/chunks");
    // nothing changed is no new version
    assert_eq!(patch(json!({"chunks": [1, 4]})).await.ok(200)["version"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_is_done_or_refused_by_itself() {
    let world = World::new().await;
    let one = world.rig(1, 2, "0.65").await;
    let owner = &one.provider;
    let path = format!("/v1/offers/{}", one.offer);
    let tag = world.get(&path).send().await.header("etag").to_owned();
    let machine = |n: u32| {
        let gpu = json!({"uuid": format!("GPU-bulk-{n:04}"), "model": "t4"});
        let body = json!({"name": format!("m{n}"), "region": "de", "cpu_cores": 1, "ram_gb": 1,
            "disk_gb": 1, "gpus": [gpu]});
        world.post("/v1/machines").auth(&owner.token).json(&body).send()
    };
    let mut items = Vec::new();
    for n in 0..20 {
        let said = machine(n).await.ok(201);
        items.push(json!({"create": {"machine_id": said["machine"]["id"], "price": usd("0.20"),
            "gpu_count": if n == 7 { 2 } else { 1 }, "min_duration_s": 60, "max_duration_s": 86_400}}));
    }
    let change = |id: &str, tag: &str, patch: Value| json!({"change": {"id": id, "if_match": tag, "patch": patch}});
    items.push(change(&one.offer, &tag, json!({"price": usd("0.60")})));
    let nobody = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f";
    items.push(change(nobody, &tag, json!({"price": usd("0.60")})));
    let send = async |body: Value| {
        world.post("/v1/offers/bulk").auth(&owner.token).json(&body).send().await
    };
    let said = send(json!({"items": items})).await.ok(200);
    assert_eq!((&said["done"], &said["refused"]), (&json!(20), &json!(2)));
    let data = said["data"].as_array().unwrap();
    for (index, result) in data.iter().enumerate() {
        assert_eq!(result["index"], index);
        let (status, code) = match index {
            7 => (422, "validation-failed"),
            20 => (200, ""),
            21 => (404, "not-found"),
            _ => (201, ""),
        };
        assert_eq!(result["status"], status, "{result}");
        assert_eq!(result["problem"]["code"].as_str().unwrap_or_default(), code);
        assert_eq!(result["offer"].is_object(), code.is_empty());
    }
    assert_eq!(data[7]["problem"]["errors"][0]["pointer"], "/gpu_count");
    assert_eq!(data[20]["offer"]["price"]["amount"], "0.600000");
    // sent again it does nothing twice
    let again = send(json!({"items": items})).await.ok(200);
    assert_eq!((&again["done"], &again["refused"]), (&json!(0), &json!(22)));
    assert_eq!(again["data"][0]["problem"]["code"], "already-exists");
    assert_eq!(again["data"][20]["problem"]["code"], "etag-mismatch");
    // the new tags are for the next change
    let next = data[0]["offer"]["id"].as_str().unwrap();
    let item = change(next, data[0]["etag"].as_str().unwrap(), json!({"state": "paused"}));
    let said = send(json!({"items": [item]})).await.ok(200);
    assert_eq!(said["data"][0]["offer"]["state"], "paused");

    let twice = change(&one.offer, "\"2-listed\"", json!({}));
    for (items, pointer) in [
        (json!([]), "/items"),
        (json!(vec![twice.clone(); 501]), "/items"),
        (json!([twice, twice]), "/items/1/change/id"),
        (json!([items[0], items[0]]), "/items/1/create/machine_id"),
        (json!([twice, {"withdraw": {"id": one.offer}}]), "/items/1/withdraw/id"),
        (json!([{"change": twice["change"], "withdraw": {"id": one.offer}}]), "/items/0"),
        (json!([{}]), "/items/0"),
    ] {
        let body = send(json!({"items": items})).await.problem(422, "validation-failed");
        assert_eq!(body["errors"][0]["pointer"], pointer);
    }
    let withdrawn = change(&one.offer, "\"2-listed\"", json!({"state": "withdrawn"}));
    let said = send(json!({"items": [withdrawn]})).await.ok(200);
    assert_eq!(said["data"][0]["problem"]["errors"][0]["pointer"], "/state");
    // its own verb does, at the tag that was read, or at any
    let gone = |id: &Value, tag: Value| json!({"withdraw": {"id": id, "if_match": tag}});
    let paused = &data[0]["offer"]["id"];
    let items_gone = json!([
        gone(paused, json!("\"1-listed\"")),
        gone(&data[1]["offer"]["id"], data[1]["etag"].clone()),
        gone(&data[2]["offer"]["id"], Value::Null),
    ]);
    let said = send(json!({"items": items_gone})).await.ok(200);
    assert_eq!(said["data"][0]["problem"]["code"], "etag-mismatch");
    for place in [1, 2] {
        assert_eq!(said["data"][place]["offer"]["state"], "withdrawn", "{said}");
    }
    let broken = send(
        json!({"items": [{"change": {"id": one.offer, "if_match": "x", "patch": {"pice": 1}}}]}),
    );
    let body = broken.await.problem(400, "invalid-request");
    assert_eq!(body["errors"][0]["pointer"], "/items/0/change/patch/pice");
    // somebody else's offers are not found, and machines neither
    let stranger = world.sign_in(9).await;
    let foreign = json!({"items": [change(&one.offer, "\"2-listed\"", json!({})), items[0]]});
    let said =
        world.post("/v1/offers/bulk").auth(&stranger.token).json(&foreign).send().await.ok(200);
    assert_eq!(
        (&said["data"][0]["status"], &said["data"][1]["status"]),
        (&json!(404), &json!(422))
    );
}

/// A machine has one live offer: withdrawn and listed anew in one request, the withdrawal is over before.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_withdrawn_and_listed_anew_in_either_order() {
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    let mut live = json!(rig.offer);
    for round in 0..6 {
        let gone = json!({"withdraw": {"id": live}});
        let anew = json!({"create": {"machine_id": rig.machine, "price": usd("0.50"), "gpu_count": 1,
            "min_duration_s": 60, "max_duration_s": 86_400}});
        let (items, [old, new]) =
            if round % 2 == 0 { ([anew, gone], [1, 0]) } else { ([gone, anew], [0, 1]) };
        let call = world.post("/v1/offers/bulk").auth(&rig.provider.token);
        let said = call.json(&json!({"items": items})).send().await.ok(200);
        assert_eq!((&said["done"], &said["refused"]), (&json!(2), &json!(0)), "{said}");
        assert_eq!((&said["data"][0]["index"], &said["data"][1]["index"]), (&json!(0), &json!(1)));
        assert_eq!(said["data"][old]["offer"]["state"], "withdrawn");
        assert_eq!(said["data"][old]["offer"]["id"], live);
        assert_eq!(said["data"][new]["status"], 201);
        live = said["data"][new]["offer"]["id"].clone();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_finds_what_nobody_else_does() {
    let world = World::new().await;
    let first = world.rig(1, 2, "0.65").await;
    world.rig(3, 1, "0.30").await;
    let owner = &first.provider.token;
    let own = async |query: &str| {
        world.get(&format!("/v1/provider/offers{query}")).auth(owner).send().await
    };
    let listed = own("").await.ok(200);
    let expected = world.get(&format!("/v1/offers/{}", first.offer)).send().await;
    let tag = expected.header("etag").to_owned();
    let mut expected = expected.ok(200);
    // the part of the tag that a change is conditional on
    let (terms, _) = tag.split_once('.').unwrap();
    expected["etag"] = json!(format!("{terms}\""));
    assert_eq!(listed, json!({"data": [expected], "next_cursor": null}), "nobody else's");
    let change = |tag: &str, state: &str| {
        let path = format!("/v1/offers/{}", first.offer);
        let call = world.call("PATCH", &path).auth(owner).header("if-match", tag);
        call.json(&json!({"state": state})).send()
    };
    change(&tag, "paused").await.ok(200);
    let paused = own("?state=paused").await.ok(200);
    assert_eq!(paused["data"][0]["id"], first.offer, "paused, and found without its id");
    let tag = paused["data"][0]["etag"].as_str().unwrap().to_owned();
    assert_eq!(own("?state=listed").await.ok(200)["data"], json!([]));
    change(&tag, "listed").await.ok(200);

    // page by page, oldest first
    let gone = world.call("DELETE", &format!("/v1/offers/{}", first.offer)).auth(owner);
    gone.send().await.ok(204);
    let body = json!({"machine_id": first.machine, "price": usd("0.50"), "gpu_count": 1,
        "min_duration_s": 60, "max_duration_s": 86_400});
    let second = world.post("/v1/offers").auth(owner).json(&body).send().await.ok(201);
    let page = own("?limit=1").await.ok(200);
    assert_eq!(
        (&page["data"][0]["id"], &page["data"][0]["state"]),
        (&json!(first.offer), &json!("withdrawn"))
    );
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = own(&format!("?limit=1&cursor={cursor}")).await.ok(200);
    assert_eq!(page["data"][0]["id"], second["id"]);
    own(&format!("?state=paused&cursor={cursor}")).await.problem(400, "invalid-cursor");
    own("?state=gone").await.problem(400, "invalid-request");
    own("?limit=201").await.problem(400, "invalid-request");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_fit_into_one_request_and_no_more_than_a_megabyte() {
    let world = World::new().await;
    let owner = world.sign_in(1).await;
    let items = |padding: usize| -> Value {
        let item = |n: u32| {
            json!({"change": {"id": format!("ofr_{n:032x}"), "if_match": "x".repeat(padding),
                "patch": {"price": usd("0.60"), "reserved": [{"min_duration_s": 60, "discount_bps": 1}]}}})
        };
        json!({"items": (0..500).map(item).collect::<Vec<_>>()})
    };
    let send = async |body: Value| {
        world.post("/v1/offers/bulk").auth(&owner.token).json(&body).send().await
    };
    // above what other bodies may have
    assert!(items(100).to_string().len() > 2 * 64 * 1_024);
    let said = send(items(100)).await.ok(200);
    assert_eq!((&said["done"], &said["refused"]), (&json!(0), &json!(500)));
    let body = send(items(2_048)).await.problem(413, "body-too-large");
    assert_eq!(body["detail"], "a body may have 1048576 bytes");
}
