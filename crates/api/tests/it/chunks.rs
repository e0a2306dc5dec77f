//! Offers in parts: who gets which GPUs, at what price, and who comes too late.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::fixture::{Person, Rig, World};

fn usd(amount: &str) -> Value {
    json!({"amount": amount, "currency": "USD"})
}

/// A machine of so many GPUs that is offered in chunks, with disk, network and a discount.
async fn rig(world: &World, n: u8, gpus: usize, chunks: &[u16]) -> Rig {
    let rig = world.rig(n, gpus, "0.65").await;
    let path = format!("/v1/offers/{}", rig.offer);
    let tag = world.get(&path).send().await.header("etag").to_owned();
    let patch = json!({
        "chunks": chunks, "max_duration_s": 2_678_400,
        "reserved": [{"min_duration_s": 604_800, "discount_bps": 1_000}],
        "disk": {"per_gb_month": usd("0.10"), "max_gb": 500},
        "network": {"up_per_gb": usd("0.02"), "down_per_gb": usd("0.005")},
        "notice_s": 300,
    });
    let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", &tag);
    call.json(&patch).send().await.ok(200);
    rig
}

async fn quote(world: &World, renter: &Person, rig: &Rig, gpus: u16) -> Value {
    let body =
        json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC", "gpu_count": gpus});
    world.post("/v1/quotes").auth(&renter.token).json(&body).send().await.ok(201)
}

fn gpus(booking: &Value) -> Vec<String> {
    let held = booking["rental"]["gpus"].as_array().unwrap();
    held.iter().map(|gpu| gpu["uuid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_renters_share_a_machine_and_a_third_comes_too_late() {
    let world = World::new().await;
    let rig = rig(&world, 1, 4, &[2, 4]).await;
    let path = format!("/v1/offers/{}", rig.offer);
    let (one, two, three) =
        (world.sign_in(9).await, world.sign_in(10).await, world.sign_in(11).await);
    let whole = quote(&world, &three, &rig, 4).await;
    let late = quote(&world, &three, &rig, 2).await;
    let first = quote(&world, &one, &rig, 2).await;
    let second = quote(&world, &two, &rig, 2).await;
    assert_eq!(first["rate"]["per_hour"]["base_units"], "1300000");

    let first = world.book(&one, &first, "k").await.ok(201);
    let seen = world.get(&path).send().await.ok(200);
    assert_eq!((&seen["gpus_free"], &seen["available"]), (&json!(2), &json!(true)));
    world.book(&three, &whole, "w").await.problem(409, "offer-taken");
    let body = json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC"});
    let reply = world.post("/v1/quotes").auth(&three.token).json(&body).send().await;
    let refused = reply.problem(409, "offer-taken");
    assert_eq!(refused["detail"], "only 2 of the machine's GPUs are free at present");

    let second = world.book(&two, &second, "k").await.ok(201);
    let held: BTreeSet<String> = gpus(&first).into_iter().chain(gpus(&second)).collect();
    assert_eq!((gpus(&first).len(), gpus(&second).len(), held.len()), (2, 2, 4));
    assert_eq!(world.get(&path).send().await.ok(200)["available"], false);
    world.book(&three, &late, "l").await.problem(409, "offer-taken");

    // one goes, and its GPUs are the next one's
    let stop = format!("/v1/rentals/{}/stop", first["rental"]["id"].as_str().unwrap());
    world.post(&stop).auth(&one.token).key("s").send().await.ok(202);
    world.pass(1);
    let third = world.book(&three, &late, "l").await.ok(201);
    assert_eq!(gpus(&third), gpus(&first));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_bookings_of_four_chunks_four_are_made() {
    let world = World::new().await;
    let rig = rig(&world, 1, 4, &[1, 4]).await;
    let mut quotes = Vec::new();
    for n in 0..64 {
        let renter = world.sign_in(100 + n).await;
        let quote = quote(&world, &renter, &rig, 1).await;
        quotes.push((renter, quote));
    }
    let bookings = quotes.iter().map(|(renter, quote)| world.book(renter, quote, "k"));
    let replies = futures_util::future::join_all(bookings).await;
    let (mut held, mut taken) = (Vec::new(), 0);
    for reply in replies {
        if reply.status == 201 {
            held.extend(gpus(&reply.ok(201)));
        } else {
            reply.problem(409, "offer-taken");
            taken += 1;
        }
    }
    assert_eq!((held.len(), taken), (4, 60));
    assert_eq!(held.iter().collect::<BTreeSet<_>>().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_priced_line_by_line_and_sent_to_the_machine() {
    let world = World::new().await;
    let rig = rig(&world, 1, 4, &[1, 2, 4]).await;
    let renter = world.sign_in(9).await;
    template(&world).await;
    world.runs_templates(&rig.agent, true).await;
    let body = json!({"offer_id": rig.offer, "duration_s": 604_800, "token": "USDC", "gpu_count": 2,
        "disk_gb": 200, "up_gb": 50, "down_gb": 100, "template": "pytorch@3",
        "max_price": usd("0.603354")});
    let quote = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await.ok(201);
    let lines: Vec<(&str, &str)> = quote["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["kind"].as_str().unwrap(), line["max"]["amount"].as_str().unwrap()))
        .collect();
    assert_eq!(
        lines,
        [
            ("compute", "218.400000"),
            ("reserved_discount", "-21.840000"),
            ("disk", "4.666667"),
            ("network_up", "1.000000"),
            ("network_down", "0.500000"),
            ("fee", "0.000000"),
            ("rounding", "0.000109"),
        ]
    );
    assert_eq!(quote["subtotal"]["amount"], "202.726667");
    assert_eq!(quote["total_max"]["amount"], "202.726776");
    assert_eq!(quote["deposit"]["base_units"], "202726776");
    assert_eq!(quote["rate"]["usd_per_hour"]["amount"], "1.206707");
    assert_eq!(quote["sla"]["notice_s"], 300);
    assert_eq!(quote["fx"]["usd_per_token"]["amount"], "1.000000");
    assert_eq!(quote["signed"], Value::Null, "no key, no signature");
    let path = format!("/v1/quotes/{}", quote["id"].as_str().unwrap());
    assert_eq!(world.get(&path).auth(&renter.token).send().await.ok(200), quote);

    let booking = world.book(&renter, &quote, "k").await.ok(201);
    assert_eq!(gpus(&booking).len(), 2);
    assert_eq!(booking["rental"]["gpu_count"], 2);
    let id = booking["rental"]["id"].as_str().unwrap();
    world.advance(id, domain::rental::RentalEvent::LockIncluded).await;
    let orders = world.heartbeat(&rig.agent, &[]).await;
    let payload = &orders["commands"][0]["payload"];
    assert_eq!(payload["gpus"], json!(gpus(&booking)));
    assert_eq!((&payload["disk_gb"], &payload["template"]), (&json!(200), &json!("pytorch@3")));
    assert_eq!(payload["network"], json!({"up_gb": 50, "down_gb": 100, "over_s": 604_800}));
    let run = json!({
        "image": "pytorch/pytorch:2", "env": {"MODE": "fast"},
        "ports": [{"name": "ssh", "port": 22, "protocol": "tcp"}],
        "content_hash": format!("sha256:{}", "11".repeat(32)),
    });
    assert_eq!(payload["run"], run);
}

/// The version that was ordered is what is sent, whatever the newest is; without one there is nothing to run.
#[tokio::test(flavor = "multi_thread")]
async fn templates_are_sold_where_they_are_run() {
    let world = World::new().await;
    let rig = rig(&world, 1, 4, &[1, 2, 4]).await;
    let renter = world.sign_in(9).await;
    template(&world).await;
    let ask = |edit: Value| {
        let mut body =
            json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC", "gpu_count": 1});
        body.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        world.post("/v1/quotes").auth(&renter.token).json(&body).send()
    };
    let trained = json!({"template": "pytorch@3", "disk_gb": 20});
    let facts = async || {
        let path = format!("/v1/machines/{}", rig.machine);
        world.get(&path).auth(&rig.provider.token).send().await.ok(200)["facts"]["templates"]
            .clone()
    };
    // an agent that was never told of templates runs none
    assert_eq!(world.heartbeat(&rig.agent, &[]).await["templates"], false);
    assert_eq!(facts().await, false);
    let refused = ask(trained.clone()).await.problem(409, "runs-no-templates");
    assert_eq!(refused["errors"][0]["pointer"], "/template");
    let plain = ask(json!({})).await.ok(201);
    world.runs_templates(&rig.agent, true).await;
    // what is not said again stays
    assert_eq!(world.heartbeat(&rig.agent, &[]).await["templates"], true);
    assert_eq!(facts().await, true);
    let quote = ask(trained.clone()).await.ok(201);
    assert_eq!(quote["template"], "pytorch@3");
    world.runs_templates(&rig.agent, false).await;
    ask(trained.clone()).await.problem(409, "runs-no-templates");
    world.runs_templates(&rig.agent, true).await;
    // another version of the agent may be put there, which says nothing
    world.agent_session(&rig.agent.key, &rig.machine).await.ok(201);
    ask(trained.clone()).await.problem(409, "runs-no-templates");
    assert_eq!(world.heartbeat(&rig.agent, &[]).await["templates"], false);

    let booking = world.book(&renter, &plain, "k").await.ok(201);
    let id = booking["rental"]["id"].as_str().unwrap();
    world.advance(id, domain::rental::RentalEvent::LockIncluded).await;
    let orders = world.heartbeat(&rig.agent, &[]).await;
    let payload = &orders["commands"][0]["payload"];
    assert_eq!((&payload["template"], &payload["run"]), (&Value::Null, &Value::Null));

    world.runs_templates(&rig.agent, true).await;
    let large = "INSERT INTO templates (slug, version, name, image, disk_gb, min_vram_gb, readme, content_hash, created_at, env)
         VALUES ('pytorch', 9, 'PyTorch', 'pytorch/pytorch:2', 20, 8, '', decode(repeat('11', 32), 'hex'), now(),
                 (SELECT jsonb_object_agg('A' || n, repeat('x', 4096)) FROM generate_series(1, 8) n))";
    sqlx::query(large).execute(world.store.pool()).await.unwrap();
    let refused = ask(json!({"template": "pytorch@9", "disk_gb": 20}))
        .await
        .problem(422, "validation-failed");
    assert_eq!(refused["errors"][0]["pointer"], "/template");
}

/// An agent reads no answer beyond 1 MiB: a large order must not keep a machine from hearing of the others.
#[tokio::test(flavor = "multi_thread")]
async fn orders_that_have_no_room_in_one_answer_come_with_the_next() {
    let world = World::new().await;
    let rig = rig(&world, 1, 4, &[1, 2, 4]).await;
    let renter = world.sign_in(9).await;
    let mut ids = Vec::new();
    for key in ["a", "b", "c"] {
        let body =
            json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC", "gpu_count": 1});
        let quote = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await.ok(201);
        let booking = world.book(&renter, &quote, key).await.ok(201);
        let id = booking["rental"]["id"].as_str().unwrap().to_owned();
        world.advance(&id, domain::rental::RentalEvent::LockIncluded).await;
        ids.push(id);
    }
    let swell = "UPDATE agent_commands SET payload = payload || jsonb_build_object('run', repeat('x', 300000))
                 WHERE id IN (SELECT id FROM agent_commands ORDER BY id LIMIT 2)";
    sqlx::query(swell).execute(world.store.pool()).await.unwrap();
    let named = |orders: &Value| -> Vec<String> {
        let listed = orders["commands"].as_array().unwrap().iter();
        listed.map(|order| order["rental_id"].as_str().unwrap().to_owned()).collect()
    };
    let orders = world.heartbeat(&rig.agent, &[]).await;
    assert_eq!(named(&orders), [ids[0].clone(), ids[2].clone()], "small ones pass");
    let path = format!("/v1/agent/commands/{}/ack", orders["commands"][0]["id"].as_str().unwrap());
    let ack = json!({"outcome": "ok"});
    world.post(&path).auth(&rig.agent.token).json(&ack).send().await.ok(200);
    assert_eq!(named(&world.heartbeat(&rig.agent, &[]).await), ids[1..]);
}

async fn template(world: &World) {
    sqlx::query(
        r#"INSERT INTO templates (slug, version, name, image, disk_gb, min_vram_gb, readme, content_hash, created_at,
                               ports, env)
         VALUES ('pytorch', 3, 'PyTorch', 'pytorch/pytorch:2', 20, 8, '', decode(repeat('11', 32), 'hex'), now(),
                 '[{"name": "ssh", "port": 22, "protocol": "tcp"}]', '{"MODE": "fast"}'),
                ('pytorch', 4, 'PyTorch', 'pytorch/pytorch:9', 20, 25, '', decode(repeat('11', 32), 'hex'), now(),
                 '[]', '{}')"#,
    )
    .execute(world.store.pool())
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_offer_does_not_sell_is_refused_by_its_place() {
    let world = World::new().await;
    let rig = rig(&world, 1, 4, &[1, 2, 4]).await;
    let renter = world.sign_in(9).await;
    template(&world).await;
    world.runs_templates(&rig.agent, true).await;
    let good = json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC", "gpu_count": 2});
    let ask = |edit: Value| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        world.post("/v1/quotes").auth(&renter.token).json(&body).send()
    };
    for (edit, pointer) in [
        (json!({"gpu_count": 0}), "/gpu_count"),
        (json!({"gpu_count": 3}), "/gpu_count"),
        (json!({"gpu_count": 5}), "/gpu_count"),
        // 2 of 4 GPUs get half of the disk
        (json!({"disk_gb": 251}), "/disk_gb"),
        (json!({"disk_gb": u32::MAX}), "/disk_gb"),
        (json!({"up_gb": 1_000_001}), "/up_gb"),
        (json!({"down_gb": u32::MAX}), "/down_gb"),
        (json!({"template": "pytorch@3", "disk_gb": 19}), "/disk_gb"),
        (json!({"template": "pytorch@3", "disk_gb": 0}), "/disk_gb"),
        (json!({"template": "pytorch@3"}), "/disk_gb"),
        (json!({"template": "pytorch@4", "disk_gb": 20}), "/template"),
        (json!({"template": "pytorch"}), "/template"),
        (json!({"template": "pytorch@03"}), "/template"),
        (json!({"template": "pytorch@2"}), "/template"),
        (json!({"template": "'; DROP TABLE quotes; --@3"}), "/template"),
        (json!({"template": "pytorch@99999999999"}), "/template"),
        (json!({"template": "py\u{0}torch@3"}), "/template"),
        (json!({"token": "US\u{0}DC"}), "/token"),
        (json!({"token": "usdc"}), "/token"),
        (json!({"token": ""}), "/token"),
    ] {
        let body = ask(edit).await.problem(422, "validation-failed");
        assert_eq!(body["errors"][0]["pointer"], pointer);
    }
    for edit in [
        json!({"disk_gb": -1}),
        json!({"disk_gb": 1.5}),
        json!({"up_gb": "10"}),
        json!({"gpu_count": 70_000}),
        json!({"egress_gb": 1}),
    ] {
        ask(edit).await.problem(400, "invalid-request");
    }
    ask(json!({"disk_gb": 250})).await.ok(201);
    // the bound is on everything: 2 GPUs at 0.65, and a GB at 0.02 for an hour of them
    let dear = json!({"up_gb": 1, "max_price": usd("0.659999")});
    ask(dear).await.problem(422, "price-above-max");
    ask(json!({"up_gb": 1, "max_price": usd("0.66")})).await.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_quoted_beyond_an_announced_end() {
    let world = World::new().await;
    let rig = rig(&world, 1, 1, &[1]).await;
    let renter = world.sign_in(9).await;
    let ask = |duration: u32| {
        let body = json!({"offer_id": rig.offer, "duration_s": duration, "token": "USDC"});
        world.post("/v1/quotes").auth(&renter.token).json(&body).send()
    };
    // 08:00:00 now, and a start may be 600 s later: 120 to book, 120 to lock, 300 to be ready, 60 to spare
    let path = format!("/v1/offers/{}", rig.offer);
    let until = async |until: Value| {
        let tag = world.get(&path).send().await.header("etag").to_owned();
        let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", &tag);
        call.json(&json!({"available_until": until})).send().await
    };
    let ended = until(json!("2027-01-15T08:00:00Z")).await.problem(422, "validation-failed");
    assert_eq!(ended["errors"][0]["pointer"], "/available_until");
    for text in ["soon", "9999-12-31T23:59:59-12:00", "1969-12-31T23:59:59Z", ""] {
        until(json!(text)).await.problem(400, "invalid-request");
    }
    until(json!("2027-01-15T09:10:00Z")).await.ok(200);
    ask(3_600).await.ok(201);
    let body = ask(3_601).await.problem(409, "not-for-so-long");
    assert_eq!(
        (&body["longest_s"], &body["until"]),
        (&json!(3_600), &json!("2027-01-15T09:10:00Z"))
    );
    until(Value::Null).await.ok(200);
    ask(3_601).await.ok(201);

    let drain = "UPDATE machines SET service = 'draining'";
    sqlx::query(drain).execute(world.store.pool()).await.unwrap();
    ask(60).await.problem(423, "machine-draining");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_price_says_what_the_same_order_costs_now() {
    let world = World::new().await;
    let rig = rig(&world, 1, 4, &[1, 2, 4]).await;
    let renter = world.sign_in(9).await;
    let body = json!({"offer_id": rig.offer, "offer_version": 2, "duration_s": 3_600, "token": "USDC",
        "gpu_count": 1, "disk_gb": 72, "up_gb": 1});
    let quote = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await.ok(201);
    // 0.65 + 72 * 0.1 / 720 + 0.02
    assert_eq!(quote["rate"]["usd_per_hour"]["amount"], "0.680000");
    let path = format!("/v1/offers/{}", rig.offer);
    let tag = world.get(&path).send().await.header("etag").to_owned();
    let patch = json!({"disk": {"per_gb_month": usd("0.20"), "max_gb": 500}});
    let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", &tag);
    call.json(&patch).send().await.ok(200);
    // what was never checked may be anything
    for edit in [json!({"duration_s": 0}), json!({"duration_s": 1, "up_gb": u32::MAX})] {
        let mut odd = body.clone();
        odd.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        let reply = world.post("/v1/quotes").auth(&renter.token).json(&odd).send().await;
        reply.problem(409, "offer-changed");
    }
    for reply in [
        world.book(&renter, &quote, "k").await,
        world.post("/v1/quotes").auth(&renter.token).json(&body).send().await,
    ] {
        let body = reply.problem(409, "offer-changed");
        assert_eq!(body["price_difference"]["direction"], "higher");
        assert_eq!(body["price_difference"]["usd_per_hour"]["amount"], "0.010000");
        assert_eq!(body["offer"]["disk"]["per_gb_month"]["amount"], "0.200000");
    }
}

/// What a search says that a job comes to is what a quote for it says, to the millionth, whatever the rate rounds to.
#[tokio::test(flavor = "multi_thread")]
async fn a_searchs_total_is_the_quotes() {
    let world = World::new().await;
    let rig = rig(&world, 1, 4, &[1, 2, 4]).await;
    let renter = world.sign_in(9).await;
    world.state.catch_up_with_market().await.unwrap();
    let jobs = [
        ("1", 3_600, 1, 0, 0, 0),
        ("0.25", 900, 2, 7, 3, 1),
        ("1.37", 4_932, 4, 499, 0, 11),
        ("7.0003", 25_202, 1, 1, 97, 0),
        ("167.99", 604_764, 2, 33, 5, 5),
        // the discount of a week
        ("168", 604_800, 2, 33, 5, 5),
        ("700.5", 2_521_800, 4, 400, 1_000, 333),
    ];
    for (hours, duration, gpus, disk, up, down) in jobs {
        let query = format!(
            "hours={hours}&gpu_count={gpus}&disk_gb={disk}&egress_gb={up}&ingress_gb={down}"
        );
        let page = world.get(&format!("/v1/offers?{query}")).send().await.ok(200);
        let body = json!({
            "offer_id": rig.offer, "duration_s": duration, "token": "USDC", "gpu_count": gpus,
            "disk_gb": disk, "up_gb": up, "down_gb": down,
        });
        let quote = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await.ok(201);
        assert_eq!(page["data"].as_array().unwrap().len(), 1, "{query}");
        assert_eq!(page["data"][0]["total"]["total"], quote["total_max"], "{query}");
    }
}
