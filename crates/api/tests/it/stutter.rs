//! Evidence in as many pieces as there can be: what is told of it has an end, and is what the whole chain comes to.

use domain::{
    id::RentalId,
    metering::{Interval, meter},
    money::Amount,
    rental::{CloseOutcome, Party, RentalEvent},
    time::{Seconds, UnixSeconds},
};
use escrow::{EscrowEvent, receipt};
use serde_json::json;
use store::{readings, rentals::MoneyDelta};

use crate::{
    disputes,
    fixture::{World, key},
    running::{Running, START},
    sealed::say,
};

fn units(value: u128) -> Amount {
    Amount::new(value).unwrap()
}

/// A rental with a reading of twenty seconds, and then so many of one second, each after a second without, up to now. Those
/// are nobody's: they have the signature of the first.
async fn stuttering(world: &World, pieces: u32) -> Running {
    let mut running = Running::new(world).await;
    let started_at = UnixSeconds(START);
    world.advance(&running.id, RentalEvent::StartFinal { started_at }).await;
    running.pass(world, 20).await;
    running.append(world, 0, 20).await;
    let stutter = "INSERT INTO readings (rental_id, seq, from_at, to_at, detail, prev_hash, hash, signature,
                                         received_at, covered_s)
        SELECT r.rental_id, r.seq + n, r.to_at + make_interval(secs => 2 * n - 1),
               r.to_at + make_interval(secs => 2 * n), '{}', r.hash,
               sha256(convert_to('reading ' || n, 'UTF8')), r.signature, r.received_at, r.covered_s + n
        FROM readings r, generate_series(1, $2::bigint) n WHERE r.rental_id = $1";
    let id: RentalId = running.id.parse().unwrap();
    let stutter = sqlx::query(stutter).bind(id.uuid()).bind(i64::from(pieces));
    stutter.execute(world.store.pool()).await.unwrap();
    world.pass(2 * pieces);
    running
}

/// It ends now. The chain gives all of the deposit back, which is no matter here.
async fn settle(world: &World, running: &Running, deposit: u128) {
    let now = world.now();
    world.advance(&running.id, RentalEvent::StopRequested { by: Party::Renter, now }).await;
    world.advance(&running.id, RentalEvent::AgentStopped).await;
    let delta =
        MoneyDelta { refund: units(deposit), billed: Some(Seconds(1)), ..MoneyDelta::default() };
    world.pay(&running.id, delta).await;
    let outcome = CloseOutcome::ClosedByOperator;
    world.advance(&running.id, RentalEvent::ClosedFinal { outcome }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_counts_outages_and_lists_the_newest() {
    let world = World::new().await;
    let running = stuttering(&world, 1_200).await;
    settle(&world, &running, 650_000).await;
    let path = format!("/v1/rentals/{}/receipt", running.id);
    let body = world.get(&path).auth(&running.renter.token).send().await.ok(200);
    assert_eq!((&body["outages_total"], &body["outage_s"]), (&json!(1_200), &json!(1_200)));
    let listed = body["outages"].as_array().unwrap();
    assert_eq!(listed.len(), 1_000);
    let of = |from: &str, to: &str| json!({"from": from, "to": to, "seconds": 1});
    assert_eq!(listed[0], of("2027-01-15T08:07:00Z", "2027-01-15T08:07:01Z"));
    assert_eq!(listed[999], of("2027-01-15T08:40:18Z", "2027-01-15T08:40:19Z"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_leaves_out_outages_without_end_and_says_how_many() {
    let world = World::with(|config| config.quoter = Some(key(77))).await;
    let running = stuttering(&world, 10_100).await;
    // it lasts for ten hours
    let more = MoneyDelta { locked: units(5_850_000), ..MoneyDelta::default() };
    world.pay(&running.id, more).await;
    settle(&world, &running, 6_500_000).await;
    let (id, started_at) = (running.escrow_id, UnixSeconds(START));
    say(&world, 6, START + 2, &[EscrowEvent::Started { id, started_at }]).await;
    let path = format!("/v1/rentals/{}/sealed-receipt", running.id);
    let ask = |path: &str| world.get(path).auth(&running.renter.token).send();
    let refused = ask(&path).await.problem(409, "state-conflict");
    assert_eq!(refused["errors"][0]["message"], "apart");
    let body = ask(&format!("{path}?readings=apart")).await.ok(200);
    let metered = &body["metered"];
    assert_eq!((&metered["outages"], &metered["left_out"]), (&json!([]), &json!(10_100)));
    assert_eq!((&metered["elapsed"], &metered["covered"]), (&json!(20_220), &json!(10_120)));
    receipt::read(body.to_string().as_bytes()).unwrap();
    // what is for people counts them too
    let receipt = ask(&format!("/v1/rentals/{}/receipt", running.id)).await.ok(200);
    assert_eq!(receipt["outages_total"], 10_100);
    assert_eq!(receipt["outages"].as_array().unwrap().len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_lists_the_newest_gaps_and_counts_those_in_question() {
    let world = disputes::world().await;
    let running = stuttering(&world, 100).await;
    let body = json!({"rental_id": running.id, "code": "not_reachable",
                      "from": "2027-01-15T08:00:30Z", "to": "2027-01-15T08:01:30Z"});
    let call = world.post("/v1/disputes").auth(&running.renter.token).json(&body);
    let facts = call.send().await.ok(201)["facts"].clone();
    let figures = ["clock_s", "covered_s", "uncovered_s", "uncovered_in_question_s"];
    assert_eq!(figures.map(|name| facts[name].as_u64().unwrap()), [220, 120, 100, 30]);
    assert_eq!(facts["judgement"], "supported");
    let listed = facts["uncovered"].as_array().unwrap();
    assert_eq!(listed.len(), 50);
    assert_eq!(listed[49]["from"], "2027-01-15T08:03:38Z");
}

/// Whatever window is asked about, and wherever the deposit ends in it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_up_is_what_the_whole_chain_comes_to() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    let id: RentalId = running.id.parse().unwrap();
    let at = |second: u64| UnixSeconds(START + second);
    let mut connection = world.store.read().await.unwrap();
    let mut passed = 0;
    for readings_so_far in 0..=7_usize {
        let covered = readings::covered(&mut connection, id).await.unwrap();
        for (from, to) in [
            (0, 0),
            (0, 3),
            (0, 60),
            (2, 24),
            (3, 42),
            (4, 4),
            (7, 22),
            (10, 13),
            (11, 12),
            (22, 34),
            (30, 31),
            (41, 60),
            (50, 60),
        ] {
            for auto_stop in [Seconds(12), Seconds::MAX] {
                let window = Interval::new(at(from), at(to));
                let whole = meter(window, &covered, auto_stop);
                let found =
                    readings::billing(&mut connection, id, window, auto_stop, 50).await.unwrap();
                let about = format!("{readings_so_far} readings, {from} to {to}, {auto_stop}");
                assert_eq!((found.elapsed, found.billed), (whole.elapsed, whole.billed), "{about}");
                assert_eq!((found.newest, found.more), (whole.outages.clone(), false), "{about}");
                let few =
                    readings::billing(&mut connection, id, window, auto_stop, 2).await.unwrap();
                let older = whole.outages.len().saturating_sub(2);
                assert_eq!(few.newest, whole.outages[older..], "{about}");
                assert_eq!(few.more, older > 0, "{about}");
                let count = readings::outages(&mut connection, id, window, auto_stop).await;
                assert_eq!(count.unwrap(), u64::try_from(whole.outages.len()).unwrap(), "{about}");
                let billed = readings::billed(&mut connection, id, window, auto_stop).await;
                assert_eq!(billed.unwrap(), whole.billed, "{about}");
            }
        }
        let spans = [(2_u32, 5), (5, 10), (13, 20), (20, 21), (24, 30), (31, 32), (33, 42)];
        let Some((from, to)) = spans.get(readings_so_far).copied() else { continue };
        running.pass(&world, to - passed).await;
        passed = to;
        running.append(&world, u64::from(from), u64::from(to)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_clock_is_ahead_is_billed_up_to_now() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    running.pass(&world, 10).await;
    running.append(&world, 0, 6).await;
    running.append(&world, 6, 12).await;
    assert_eq!(running.rental(&world).await["cost"]["seconds_billed"], 10);
    running.pass(&world, 5).await;
    assert_eq!(running.rental(&world).await["cost"]["seconds_billed"], 12);
}
