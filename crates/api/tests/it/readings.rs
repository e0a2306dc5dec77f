//! Signed readings, the good and the bad.

use alloy::primitives::{B256, hex};
use domain::rental::RentalEvent;
use escrow::reading::{self, Reading};
use serde_json::{Value, json};

use crate::{
    fixture::{CHAIN_ID, ESCROW, World, key},
    running::{Running, START},
};

#[tokio::test(flavor = "multi_thread")]
async fn readings_are_a_chain_that_time_is_billed_by() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    world.pass(5);
    running.append(&world, 0, 5).await;
    world.pass(10);
    running.append(&world, 5, 15).await;
    // two seconds without evidence
    world.pass(7);
    running.append(&world, 17, 22).await;
    let rental = running.rental(&world).await;
    assert_eq!(rental["cost"]["seconds_billed"], 20);
    // floor(20 s * 650,000 / 3,600)
    assert_eq!(rental["cost"]["accrued"]["base_units"], "3611");
    assert_eq!(rental["cost"]["remaining"]["base_units"], "646389");
    assert_eq!(rental["cost"]["accrued_usd"]["amount"], "0.003611");
    assert_eq!(rental["cost"]["exhausts_at"], "2027-01-15T09:00:00Z");
    let said = world.heartbeat(&running.rig.agent, &[&running.id]).await;
    let head = &said["evidence"][0];
    assert_eq!((head["seq"].as_u64(), head["to"].as_u64()), (Some(3), Some(START + 22)));
    assert_eq!(head["hash"], format!("{:#x}", running.head));

    let path = format!("/v1/rentals/{}/readings", running.id);
    let page =
        world.get(&format!("{path}?limit=2")).auth(&running.renter.token).send().await.ok(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = world.get(&format!("{path}?limit=2&cursor={cursor}"));
    let rest = rest.auth(&running.renter.token).send().await.ok(200);
    let all: Vec<&Value> =
        [&page, &rest].iter().flat_map(|p| p["data"].as_array().unwrap()).collect();
    assert_eq!(all.len(), 3);
    assert!(rest["next_cursor"].is_null());
    // what a reader can check for themselves: the hashes, the chain, the signer
    let mut before = format!("{:#x}", B256::ZERO);
    for seen in all {
        assert_eq!(seen["prev_hash"], before);
        let signed = Reading {
            rental: running.escrow_id,
            seq: seen["seq"].as_u64().unwrap(),
            from: seen["from"].as_u64().unwrap(),
            to: seen["to"].as_u64().unwrap(),
            detailHash: reading::detail_hash(&seen["detail"]),
            prevHash: before.parse().unwrap(),
        };
        let signature = hex::decode(seen["signature"].as_str().unwrap()).unwrap();
        let domain = escrow::domain(CHAIN_ID, ESCROW);
        let signer = reading::recover(&signed, &signature, &domain).unwrap();
        assert_eq!(signer, running.rig.agent.key.address());
        before = format!("{:#x}", reading::hash(&signed, &domain));
        assert_eq!(seen["hash"], before);
    }
    assert_eq!(before, format!("{:#x}", running.head));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_is_harmless_and_a_contradiction_is_not() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    world.pass(5);
    let (first, detail) = running.next(0, 5);
    let body = running.body(&first, &detail, &running.rig.agent.key);
    running.append(&world, 0, 5).await;
    let again = running.post(&world, &body).await.ok(200);
    assert_eq!((again["accepted_seq"].as_u64(), &again["hash"]), (Some(1), &json!(running.head)));
    // however late the repetition comes
    world.pass(60);
    running.post(&world, &body).await.ok(200);

    let mut other = first.clone();
    other.to -= 1;
    let body = running.body(&other, &detail, &running.rig.agent.key);
    running.post(&world, &body).await.problem(409, "reading-conflict");
    let forked = Running { head: B256::repeat_byte(7), seq: 1, ..running };
    forked.send(&world, 60, 64).await.problem(409, "reading-conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_told_with_what_is_expected() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    world.pass(5);
    running.append(&world, 0, 5).await;
    world.pass(5);
    running.seq = 4;
    let body = running.send(&world, 5, 10).await.problem(409, "reading-gap");
    assert_eq!(body["expected_seq"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_machines_key_signs() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    world.pass(5);
    let (good, detail) = running.next(0, 5);
    let refused = async |body: Value| {
        running.post(&world, &body).await.problem(422, "reading-signature-invalid");
    };
    refused(running.body(&good, &detail, &key(77))).await;
    let body = running.body(&good, &detail, &running.rig.agent.key);
    for (member, value) in [
        ("to", json!(good.to - 1)),
        ("detail", json!({"gpus": []})),
        ("prev_hash", json!(B256::repeat_byte(1))),
        ("signature", json!("0x1234")),
        ("signature", json!("zz")),
    ] {
        let mut forged = body.clone();
        forged[member] = value;
        refused(forged).await;
    }
    // nor may another machine speak for it
    let stranger = world.rig(20, 1, "0.65").await;
    let call = world.post("/v1/agent/readings").auth(&stranger.agent.token).json(&body);
    call.send().await.problem(404, "not-found");
    let mut large = body.clone();
    large["detail"] = json!({"x": "y".repeat(9_000)});
    running.post(&world, &large).await.problem(422, "validation-failed");
    large["detail"] = json!({"x": "\u{0}"});
    running.post(&world, &large).await.problem(422, "validation-failed");
    // the database would give back another spelling, and the hash would be another's
    for odd in ["1e16", "-0.0", "0.5", "18446744073709551616"] {
        let number: Value = serde_json::from_str(odd).unwrap();
        large["detail"] = json!({"gpus": [{"util": number}]});
        let problem = running.post(&world, &large).await.problem(422, "validation-failed");
        assert_eq!(problem["errors"][0]["pointer"], "/detail", "{odd}");
    }
    large["detail"] = json!([1]);
    running.post(&world, &large).await.problem(400, "invalid-request");
    running.post(&world, &body).await.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_has_its_time() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    running.pass(&world, 40).await;
    // shown too late: what begins more than 30 s ago is not believed
    let body = running.send(&world, 9, 20).await.problem(422, "reading-too-late");
    assert_eq!(body["not_before"], START + 10);
    running.append(&world, 10, 40).await;
    let body = running.send(&world, 39, 41).await.problem(422, "reading-invalid");
    assert_eq!(body["not_before"], START + 40);
    let body = running.send(&world, 40, 43).await.problem(422, "reading-invalid");
    assert_eq!(body["not_after"], START + 42);
    running.send(&world, 40, 40).await.problem(422, "reading-invalid");
    running.send(&world, 41, 40).await.problem(422, "reading-invalid");
    running.pass(&world, 60).await;
    running.send(&world, 40, 101).await.problem(422, "reading-invalid");
    running.send(&world, u64::MAX - START, u64::MAX - START).await.problem(422, "reading-invalid");
    running.append(&world, 98, 102).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_billed_time_is_read() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    let id = booking["rental"]["id"].as_str().unwrap().to_owned();
    let escrow_id = quote["escrow_id"].as_str().unwrap().parse().unwrap();
    let early = Running { rig, renter, id, escrow_id, seq: 0, head: B256::ZERO };
    world.pass(5);
    early.send(&world, 0, 5).await.problem(409, "state-conflict");

    let world = World::new().await;
    let mut running = Running::new(&world).await;
    world.pass(5);
    let before = Running { ..running };
    let body = before.body(
        &Reading { from: START - 1, ..before.next(0, 5).0 },
        &before.next(0, 5).1,
        &before.rig.agent.key,
    );
    let body = before.post(&world, &body).await.problem(422, "reading-invalid");
    assert_eq!(body["not_before"], START);
    running = before;
    running.append(&world, 0, 5).await;
    world.pass(5);
    let stop = world.post(&format!("/v1/rentals/{}/stop", running.id));
    let said = stop.auth(&running.renter.token).key("s").send().await.ok(202);
    assert_eq!(said["preview"]["seconds_billed"], 5);
    // the part up to the end still counts, and no more
    let body = running.send(&world, 5, 11).await.problem(422, "reading-invalid");
    assert_eq!(body["not_after"], START + 10);
    running.append(&world, 5, 10).await;
    assert_eq!(running.rental(&world).await["cost"]["seconds_billed"], 10);
    world.advance(&running.id, RentalEvent::AgentStopped).await;
    running.send(&world, 10, 11).await.problem(409, "state-conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_ends_an_interruption() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    world.pass(5);
    running.append(&world, 0, 5).await;
    running.pass(&world, 40).await;
    let last_good = domain::time::UnixSeconds(START + 5);
    world.advance(&running.id, RentalEvent::EvidenceLost { last_good }).await;
    let rental = running.rental(&world).await;
    assert_eq!(
        (&rental["state"], &rental["cost"]["seconds_billed"]),
        (&json!("interrupted"), &json!(5))
    );
    running.append(&world, 43, 45).await;
    let rental = running.rental(&world).await;
    assert_eq!(
        (&rental["state"], &rental["cost"]["seconds_billed"]),
        (&json!("active"), &json!(7))
    );
    assert!(rental["interrupted_since"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn time_out_of_contact_is_not_claimed_afterwards() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    running.pass(&world, 10).await;
    running.append(&world, 0, 10).await;
    // silent for longer than the limit, then there again with evidence of all of it
    world.pass(31);
    world.heartbeat(&running.rig.agent, &[&running.id]).await;
    let body = running.send(&world, 11, 41).await.problem(422, "reading-too-late");
    assert_eq!(body["not_before"], START + 41);
    running.pass(&world, 5).await;
    running.append(&world, 41, 46).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_readings_for_one_place_one_is_taken() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    world.pass(20);
    let tries = (1..=8).map(|n| running.send(&world, 0, 10 + n));
    let replies = futures_util::future::join_all(tries).await;
    let mut taken = 0;
    for reply in replies {
        if reply.status == 201 {
            taken += 1;
        } else {
            reply.problem(409, "reading-conflict");
        }
    }
    assert_eq!(taken, 1);
}
