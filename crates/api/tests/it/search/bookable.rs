//! What search, match and offers call bookable is what a quote can be had for.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{feed::patch, ids};
use crate::fixture::{Rig, World};

/// Announces ten seconds without service.
async fn maintenance(world: &World, rig: &Rig, after: i64) {
    let id: domain::id::MachineId = rig.machine.parse().unwrap();
    let mut connection = world.store.read().await.unwrap();
    sqlx::query(
        "INSERT INTO maintenance_windows (id, machine_id, during, reason, created_at)
         VALUES (gen_random_uuid(), $1, tstzrange(to_timestamp($2), to_timestamp($2 + 10)), 'fans', now())",
    )
    .bind(id.uuid())
    .bind(i64::try_from(world.now().get()).unwrap() + after)
    .execute(&mut *connection)
    .await
    .unwrap();
}

/// Has an offer end.
async fn ends(world: &World, rig: &Rig, after: i64) {
    let at = i64::try_from(world.now().get()).unwrap() + after;
    let at = OffsetDateTime::from_unix_timestamp(at).unwrap().format(&Rfc3339).unwrap();
    patch(world, rig, json!({"available_until": at})).await;
}

/// Whether a quote can be had for so many seconds, once everybody else says the same of it.
async fn can_be_booked(world: &World, rig: &Rig, seconds: u32) -> bool {
    let renter = world.sign_in(99).await;
    let body = json!({"offer_id": rig.offer, "duration_s": seconds, "token": "USDC"});
    let quote = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await;
    let quoted = quote.status == 201;
    // a job's time is in hours with six digits at most: as many seconds again once they are rounded up
    let micros = u64::from(seconds) * 1_000_000 / 3_600;
    let hours = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let found = ids(world, &format!("hours={hours}")).await;
    assert_eq!(found.contains(&rig.offer), quoted, "{seconds} s: {}", quote.body);
    let found = ids(world, &format!("duration_s={seconds}&available_for_s={seconds}")).await;
    assert_eq!(found.contains(&rig.offer), quoted, "{seconds} s");
    let body = json!({"gpus": 1, "hours": hours});
    let found = world.post("/v1/match").json(&body).send().await.ok(200);
    let proposed = found["proposals"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|one| one["parts"].as_array().unwrap());
    let proposed = proposed.map(|part| &part["offer_id"]).any(|offer| *offer == rig.offer);
    assert_eq!(proposed, quoted, "{seconds} s: {found}");
    quoted
}

/// What an offer and a search say of the offer, which is whether its shortest rental could be quoted.
async fn is_available(world: &World, rig: &Rig) -> bool {
    let renter = world.sign_in(99).await;
    let body = json!({"offer_id": rig.offer, "duration_s": 60, "token": "USDC"});
    let quote = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await;
    let quoted = quote.status == 201;
    world.state.catch_up_with_market().await.unwrap();
    let offer = world.get(&format!("/v1/offers/{}", rig.offer)).send().await.ok(200);
    assert_eq!(offer["available"], quoted, "{}", quote.body);
    let all = world.get("/v1/offers?available=false").send().await.ok(200);
    let all = all["data"].as_array().unwrap();
    let listed: Vec<&Value> = all.iter().filter(|one| one["id"] == rig.offer).collect();
    assert!(listed.iter().all(|one| one["available"] == quoted), "{listed:?}");
    assert_eq!(ids(world, "").await.contains(&rig.offer), quoted, "{}", quote.body);
    // a quote of another version is refused with the offer as it is now
    let body = json!({"offer_id": rig.offer, "offer_version": 9, "duration_s": 1, "token": "USDC"});
    let said = world.post("/v1/quotes").auth(&renter.token).json(&body).send().await;
    let said = said.problem(409, "offer-changed");
    assert_eq!(said["offer"]["available"], quoted, "{said}");
    quoted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rental_may_begin_as_late_as_its_quote_allows() {
    let world = World::new().await;
    // the quote, its payment and the machine may take 600 seconds
    let open = world.rig(1, 1, "0.40").await;
    let soon = world.rig(3, 1, "0.41").await;
    let later = world.rig(5, 1, "0.42").await;
    maintenance(&world, &soon, 100).await;
    maintenance(&world, &later, 1_000).await;
    for seconds in [60, 100, 400, 401] {
        assert!(can_be_booked(&world, &open, seconds).await);
        assert!(!can_be_booked(&world, &soon, seconds).await, "in 100 seconds its service ends");
        assert_eq!(can_be_booked(&world, &later, seconds).await, seconds <= 400);
    }
    ends(&world, &open, 700).await;
    assert!(can_be_booked(&world, &open, 100).await);
    assert!(!can_be_booked(&world, &open, 101).await);
    ends(&world, &open, 100).await;
    assert!(!can_be_booked(&world, &open, 60).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_is_available_if_it_can_be_quoted() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.40").await;
    assert!(is_available(&world, &rig).await);
    let verb = async |verb: &str| {
        let path = format!("/v1/machines/{}/{verb}", rig.machine);
        world.post(&path).auth(&rig.provider.token).json(&json!({})).send().await.ok(200);
    };
    verb("drain").await;
    assert!(!is_available(&world, &rig).await);
    verb("undrain").await;
    assert!(is_available(&world, &rig).await);
    maintenance(&world, &rig, 660).await;
    assert!(is_available(&world, &rig).await, "the shortest rental is just over");
    world.pass(1);
    assert!(!is_available(&world, &rig).await);
    world.pass(660);
    world.heartbeat(&rig.agent, &[]).await;
    assert!(!is_available(&world, &rig).await, "there is no service now");
    let other = world.rig(3, 1, "0.40").await;
    ends(&world, &other, 660).await;
    assert!(is_available(&world, &other).await);
    ends(&world, &other, 659).await;
    assert!(!is_available(&world, &other).await);
    // silent, and taken
    let third = world.rig(5, 1, "0.40").await;
    world.pass(31);
    assert!(!is_available(&world, &third).await);
    world.heartbeat(&third.agent, &[]).await;
    assert!(is_available(&world, &third).await);
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &third).await;
    world.book(&renter, &quote, "taken").await.ok(201);
    assert!(!is_available(&world, &third).await);
}

/// What `available` and `q` say of it holds together, whichever of them says it.
#[tokio::test(flavor = "multi_thread")]
async fn what_asks_for_what_can_be_booked_is_not_undone_by_what_asks_for_more() {
    let world = World::new().await;
    let offline = world.rig(1, 1, "0.40").await;
    world.pass(31);
    let online = world.rig(3, 1, "0.50").await;
    for (query, all) in [
        ("", false),
        ("available=true", false),
        ("available=false", true),
        ("q=rentable%3Dtrue", false),
        ("q=rentable%3Dfalse", true),
        ("q=rentable%3Dtrue+rentable%3Dfalse", false),
        ("q=rentable%3Dfalse+rentable%3Dtrue", false),
        ("available=true&q=rentable%3Dfalse", false),
        ("available=false&q=rentable%3Dtrue", false),
        ("available=false&q=rentable%3Dfalse", true),
        ("available=false&q=price%3C1", true),
    ] {
        let both = [offline.offer.clone(), online.offer.clone()];
        let wanted = if all { &both[..] } else { &both[1..] };
        assert_eq!(ids(&world, query).await, wanted, "{query}");
    }
}

/// Whoever wants a template finds what can be quoted with one, as soon as an agent says that it runs them.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_templates_is_found_by_that() {
    let world = World::new().await;
    let (rig, plain) = (world.rig(1, 1, "0.65").await, world.rig(3, 1, "0.60").await);
    let found = async |filter: &str| ids(&world, filter).await;
    for runs in [false, true, false] {
        world.runs_templates(&rig.agent, runs).await;
        for filter in ["runs_templates=true", "q=runs_templates=true"] {
            let of: Vec<String> = runs.then(|| rig.offer.clone()).into_iter().collect();
            assert_eq!(found(filter).await, of, "{filter} {runs}");
        }
        assert!(found("runs_templates=false").await.contains(&plain.offer));
        let body = json!({"gpus": 1, "hours": "1", "q": "runs_templates=true"});
        let said = world.post("/v1/match").json(&body).send().await.ok(200);
        let cheapest = &said["proposals"][0]["parts"][0]["offer_id"];
        assert_eq!(*cheapest == rig.offer, runs, "{said}");
        let all = world.get("/v1/offers").send().await.ok(200);
        let all = all["data"].as_array().unwrap();
        let told = all.iter().find(|one| one["id"] == rig.offer).unwrap();
        assert_eq!(told["runs_templates"], runs);
    }
}
