//! When a machine takes no rentals: drains and maintenance windows.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_drains_finishes_what_runs_and_begins_nothing() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let verb = |verb: &str| {
        let path = format!("/v1/machines/{}/{verb}", rig.machine);
        world.post(&path).auth(&rig.provider.token).send()
    };
    assert_eq!(verb("drain").await.ok(200)["service"], "draining");
    let offer = format!("/v1/offers/{}", rig.offer);
    let item = json!({"items": [{"create": {"machine_id": rig.machine, "gpu_count": 1,
        "price": {"amount": "0.65", "currency": "USD"}, "min_duration_s": 60, "max_duration_s": 86_400}}]});
    let bulk = world.post("/v1/offers/bulk").auth(&rig.provider.token).json(&item).send().await;
    assert_eq!(bulk.ok(200)["data"][0]["problem"]["code"], "machine-draining");
    let file = world.get("/v1/catalog.csv?format=gpuhunt").send().await;
    assert!(!file.ok(200).to_string().contains(&rig.offer), "it cannot be rented");
    world.get(&offer).send().await.ok(200);
    world.book(&renter, &quote, "late").await.problem(423, "machine-draining");
    let body = json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC"});
    let asked = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await;
    asked.problem(423, "machine-draining");
    assert_eq!(verb("undrain").await.ok(200)["service"], "open");
    let booking = world.start(&renter, &rig).await;
    verb("retire").await.problem(409, "state-conflict");
    verb("drain").await.ok(200);
    let path = format!("/v1/rentals/{}", booking["rental"]["id"].as_str().unwrap());
    let running = world.get(&path).auth(&renter.token).send().await.ok(200);
    assert_eq!(running["state"], "active");
    let stranger = world.sign_in(7).await;
    let path = format!("/v1/machines/{}/drain", rig.machine);
    world.post(&path).auth(&stranger.token).send().await.problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rented_into_a_maintenance_window_and_renters_are_told() {
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    let renter = world.sign_in(9).await;
    let path = format!("/v1/machines/{}/maintenance", rig.machine);
    let announce = |from: &str, to: &str, reason: &str| {
        let body = json!({"from": from, "to": to, "reason": reason});
        world.post(&path).auth(&rig.provider.token).json(&body).send()
    };
    // a quote may be booked after 120 s, funded after 120 more and ready after 300 more, and the contract takes a start
    // for 60 more: 600 s before it begins
    let said = announce("2027-01-15T09:00:00Z", "2027-01-15T10:00:00Z", "new fan").await.ok(201);
    assert_eq!(said["rentals_told"], 0);
    announce("2027-01-15T09:30:00Z", "2027-01-15T11:00:00Z", "x")
        .await
        .problem(409, "already-exists");
    for (from, to, reason, pointer) in [
        ("2027-01-15T07:59:59Z", "2027-01-15T09:00:00Z", "x", "/from"),
        ("tomorrow", "2027-01-15T09:00:00Z", "x", "/from"),
        ("2027-02-15T08:00:00Z", "2027-02-15T08:00:00Z", "x", "/to"),
        ("2027-02-15T08:00:00Z", "2027-04-15T08:00:00Z", "x", "/to"),
        ("2027-02-15T08:00:00Z", "2027-02-16T08:00:00Z", " ", "/reason"),
    ] {
        let refused = announce(from, to, reason).await.problem(422, "validation-failed");
        assert_eq!(pointers(&refused), [pointer]);
    }
    let quote = |seconds: u32| {
        let body = json!({"offer_id": rig.offer, "duration_s": seconds, "token": "USDC"});
        world.post("/v1/quotes").auth(&renter.token).json(&body).send()
    };
    let refused = quote(3_600).await.problem(409, "machine-maintenance");
    assert_eq!(
        (&refused["longest_s"], &refused["window"]["reason"]),
        (&json!(3_000), &json!("new fan"))
    );
    quote(3_001).await.problem(409, "machine-maintenance");
    let fits = quote(3_000).await.ok(201);
    let window = said["window"]["id"].as_str().unwrap();
    let cancel = |path: String, who: &Person| world.call("DELETE", &path).auth(&who.token).send();
    cancel(format!("{path}/{window}"), &renter).await.problem(404, "not-found");
    assert_eq!(cancel(format!("{path}/{window}"), &rig.provider).await.status, 204);
    assert_eq!(cancel(format!("{path}/{window}"), &rig.provider).await.status, 204);
    cancel(format!("{path}/nonsense"), &rig.provider).await.problem(400, "invalid-request");

    // announced between quote and booking; then between booking and end
    let said = announce("2027-01-15T08:30:00Z", "2027-01-15T09:00:00Z", "sooner").await.ok(201);
    world.book(&renter, &fits, "into").await.problem(409, "machine-maintenance");
    let window = said["window"]["id"].as_str().unwrap();
    cancel(format!("{path}/{window}"), &rig.provider).await;
    let booking = world.start(&renter, &rig).await;
    // who writes in a rental's timeline comes after whoever is at it
    let mut somebody = world.store.pool().acquire().await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT FROM rentals FOR UPDATE").execute(&mut *somebody).await.unwrap();
    let waiting = announce("2027-01-15T08:30:00Z", "2027-01-15T09:00:00Z", "sooner still");
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "it waits");
    let told = "SELECT count(*) FROM rental_events WHERE kind = 'notice'";
    let told: i64 = sqlx::query_scalar(told).fetch_one(&mut *somebody).await.unwrap();
    assert_eq!(told, 0);
    sqlx::raw_sql("ROLLBACK").execute(&mut *somebody).await.unwrap();
    let said = waiting.await.ok(201);
    assert_eq!(said["rentals_told"], 1);
    let after = announce("2027-01-15T09:00:00Z", "2027-01-15T09:10:00Z", "after it").await.ok(201);
    assert_eq!(after["rentals_told"], 0, "it has ended by then");
    let id = booking["rental"]["id"].as_str().unwrap().parse().unwrap();
    let mut connection = world.store.read().await.unwrap();
    let told = store::timeline::after(&mut connection, id, 0, 100).await.unwrap();
    let notice = told.iter().find(|entry| entry.kind == "notice").unwrap();
    assert_eq!(notice.detail["reason"], "sooner still");
    assert_eq!(notice.detail["from"], "2027-01-15T08:30:00Z");
    drop(connection);
    // whoever follows the rental sees that it is a notice
    let rental = booking["rental"]["id"].as_str().unwrap();
    let mut stream = Stream::open(&world, rental, &renter.token, Some(notice.id - 1)).await;
    let seen = stream.next().await.unwrap();
    assert_eq!((seen.id, seen.name.as_str()), (Some(notice.id), "notice"));
    assert_eq!(seen.data["reason"], "sooner still");
    let list = world.get(&format!("{path}?limit=3")).auth(&rig.provider.token).send().await.ok(200);
    assert_eq!(list["data"].as_array().unwrap().len(), 3);
    let cursor = list["next_cursor"].as_str().unwrap();
    let rest = format!("{path}?limit=3&cursor={cursor}");
    let rest = world.get(&rest).auth(&rig.provider.token).send().await.ok(200);
    assert_eq!(rest["data"].as_array().unwrap().len(), 1);
    assert_eq!(public(&world, &rig.machine).await["maintenance"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_that_meets_a_drain_waits_for_it_and_sees_it() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let (id, now) = (rig.machine.parse().unwrap(), world.now());
    let (store, held) = (world.store.clone(), Arc::new(Notify::new()));
    let told = held.clone();
    let draining = tokio::spawn(async move {
        let unit = store.write::<(), (), _>("test.drain", move |tx| {
            let told = told.clone();
            Box::pin(async move {
                machines::hold_offers(tx, id).await?;
                told.notify_one();
                // long enough for the booking to reach the offer
                tokio::time::sleep(Duration::from_millis(700)).await;
                machines::set_service(tx, id, Service::Draining, now).await?;
                Ok::<_, TxError<()>>(())
            })
        });
        unit.await.unwrap();
    });
    held.notified().await;
    world.book(&renter, &quote, "meets").await.problem(423, "machine-draining");
    draining.await.unwrap();
}

/// What was called off is in nobody's way.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_shows_a_window_however_many_were_called_off_after_it() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let path = format!("/v1/machines/{}/maintenance", rig.machine);
    let body =
        json!({"from": "2027-02-01T08:00:00Z", "to": "2027-02-01T10:00:00Z", "reason": "new fans"});
    world.post(&path).auth(&rig.provider.token).json(&body).send().await.ok(201);
    sqlx::query(
        "INSERT INTO maintenance_windows (id, machine_id, during, reason, created_at, cancelled_at)
         SELECT overlay(gen_random_uuid()::text PLACING 'f' FROM 1 FOR 1)::uuid, w.machine_id, w.during, 'x',
                w.created_at, w.created_at
         FROM maintenance_windows w, generate_series(1, 150)",
    )
    .execute(world.store.pool())
    .await
    .unwrap();
    let page = public(&world, &rig.machine).await;
    assert_eq!(page["maintenance"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!(page["maintenance"][0]["reason"], "new fans");
}
