//! A deposit's renter is told how far it is used up: once each, whoever dies, and in time to add to it.

use domain::rental::{EndReason, RentalEvent, RentalState};
use tests::market::{Booked, Market, cut, people};

/// The events that webhooks are told of, that are about the deposit, in their order.
async fn told(market: &Market, rental: &Booked) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT name FROM rental_events e, unnest(rental_hooks(e.kind, e.detail)) name
         WHERE e.rental_id = $1 AND (name LIKE 'rental.budget%' OR name = 'rental.expiring') ORDER BY e.id",
    )
    .bind(rental.id.uuid())
    .fetch_all(market.store.pool())
    .await
    .unwrap()
}

/// So many seconds of service, and then the engine's round. What is told is told a few seconds later at the most.
async fn serve(market: &Market, rental: &Booked, seconds: u32) -> Vec<String> {
    market.run_for(rental, seconds - 5).await;
    market.tick().await;
    market.run_for(rental, 5).await;
    market.tick().await;
    told(market, rental).await
}

/// Seconds since the start.
async fn age(market: &Market, rental: &Booked) -> u32 {
    let started = market.rental(rental).await.progress.started_at.unwrap();
    market.now().saturating_since(started).get()
}

/// Seconds that the readings cover.
async fn billed(market: &Market, rental: &Booked) -> u32 {
    let mut connection = market.store.read().await.unwrap();
    let evidence = store::readings::evidence(&mut connection, rental.id).await.unwrap();
    evidence.map_or(0, |evidence| evidence.covered.get())
}

const WANTED: &str = "INSERT INTO webhooks (id, account_id, url, events, secret, created_at, updated_at)
    SELECT gen_random_uuid(), id, 'https://example.com/hook', '{*}', decode(repeat('07', 32), 'hex'), now(), now()
    FROM accounts";

#[tokio::test]
async fn each_is_told_once_and_what_is_added_moves_them() {
    let mut market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.tamper(WANTED).await;
    let to_half = 1_795 - billed(&market, &rental).await;
    assert!(serve(&market, &rental, to_half).await.is_empty());
    assert_eq!(serve(&market, &rental, 10).await, ["rental.budget_50"]);
    market.restart().await;
    assert_eq!(serve(&market, &rental, 10).await, ["rental.budget_50"], "also after a death");
    let to_four_fifths = 2_885 - billed(&market, &rental).await;
    let so_far = ["rental.budget_50", "rental.budget_80"];
    assert_eq!(serve(&market, &rental, to_four_fifths).await, so_far);
    let to_near_end = 3_299 - age(&market, &rental).await;
    assert_eq!(serve(&market, &rental, to_near_end).await, so_far);
    let so_far = ["rental.budget_50", "rental.budget_80", "rental.expiring"];
    assert_eq!(serve(&market, &rental, 6).await, so_far);

    // of the double deposit all of it lies ahead once more
    market.top_up(people::renter(), &rental, rental.deposit).await;
    market.settle_in().await;
    let to_half = 3_590 - billed(&market, &rental).await;
    assert_eq!(serve(&market, &rental, to_half).await, so_far);
    let mut so_far = so_far.to_vec();
    so_far.push("rental.budget_50");
    assert_eq!(serve(&market, &rental, 20).await, so_far);
    let to_near_end = 6_902 - age(&market, &rental).await;
    so_far.extend(["rental.budget_80", "rental.expiring"]);
    assert_eq!(serve(&market, &rental, to_near_end).await, so_far);

    market.run_for(&rental, 310).await;
    market.tick().await;
    so_far.push("rental.budget_100");
    assert_eq!(told(&market, &rental).await, so_far);
    let ended = market.rental(&rental).await.progress;
    assert_eq!(ended.end, Some(EndReason::DurationEnd));

    // the provider hears of the near end, and the renter of everything, with the figures
    let heard = "SELECT count(*) FROM hook_events WHERE (kind LIKE 'rental.budget%' OR kind = 'rental.expiring')";
    let of = |role: &str| format!("{heard} AND data ->> 'role' = '{role}'");
    for (role, times) in [("renter", 7_i64), ("provider", 2)] {
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(of(role)))
            .fetch_one(market.store.pool())
            .await
            .unwrap();
        assert_eq!(found, times, "{role}");
    }
    let figures = "SELECT count(*) FROM hook_events WHERE kind = 'rental.expiring'
                   AND data -> 'detail' ->> 'exhausts_at' ~ '^20.*Z$' AND data -> 'detail' ->> 'locked' ~ '^[0-9]+$'";
    assert_eq!(market.count(figures).await, 4);
}

#[tokio::test]
async fn an_outage_moves_what_is_spent_and_not_the_end() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.run_for(&rental, 1_000).await;
    let last_good = market.now();
    market.apply(&rental, RentalEvent::EvidenceLost { last_good }).await;
    market.pass(1_000).await;
    market.tick().await;
    assert!(told(&market, &rental).await.is_empty(), "half of the time is not half of the money");
    market.apply(&rental, RentalEvent::EvidenceBack).await;
    let to_near_end = 3_299 - age(&market, &rental).await;
    let half = ["rental.budget_50"];
    assert_eq!(serve(&market, &rental, to_near_end).await, half, "2,299 s less 1,000 are spent");
    assert_eq!(serve(&market, &rental, 6).await, ["rental.budget_50", "rental.expiring"]);
}

#[tokio::test]
async fn whoever_dies_or_races_tells_it_once() {
    let mut market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.run_for(&rental, 1_850).await;
    market.sync().await;
    // a tick is dropped wherever it may wait
    for polls in 0..40 {
        let _cut = cut(market.engine.conductor.tick(), polls).await;
        market.restart().await;
        market.pass(1).await;
        market.sync().await;
    }
    market.run_for(&rental, 1_500).await;
    market.sync().await;
    let other = market.another(market.chain.url()).await;
    let (one, two) = tokio::join!(market.engine.conductor.tick(), other.conductor.tick());
    one.unwrap();
    two.unwrap();
    market.tick().await;
    let all = ["rental.budget_50", "rental.budget_80", "rental.expiring"];
    assert_eq!(told(&market, &rental).await, all);
}

#[tokio::test]
async fn what_has_ended_is_forgotten() {
    let market = Market::new().await;
    let rental = market.running(market.usdc).await;
    market.run_for(&rental, 60).await;
    assert_eq!(market.count("SELECT count(*) FROM deposit_notices").await, 1);
    market.stop(&rental).await;
    market.until(&rental, RentalState::Settled).await;
    market.pass(1_900).await;
    market.tick().await;
    assert!(told(&market, &rental).await.is_empty());
    assert_eq!(market.count("SELECT count(*) FROM deposit_notices").await, 0);
}
