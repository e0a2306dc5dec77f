//! Escrows as the chain shows them to everybody, and invoices of what they came to.

use alloy::primitives::B256;
use domain::{
    money::Amount,
    rental::{CloseOutcome, RentalEvent},
    time::{Seconds, UnixSeconds},
};
use escrow::{EscrowEvent, Outcome};
use serde_json::{Value, json};
use store::{
    blocks::{self, FollowedBlock, NewEvent},
    rentals::MoneyDelta,
};

use crate::{
    fixture::{ESCROW, USDC, World},
    http::Reply,
    running::{Running, START},
};

fn units(value: u128) -> Amount {
    Amount::new(value).unwrap()
}

fn block_hash(number: u64) -> B256 {
    B256::left_padding_from(&(0xb10c_0000 + number).to_be_bytes())
}

pub fn tx_hash(number: u64, log_index: u32) -> B256 {
    B256::left_padding_from(&(0x7a00_0000 + number * 100 + u64::from(log_index)).to_be_bytes())
}

/// A block with these events, as the watcher follows it.
pub async fn mine(world: &World, number: u64, is_final: bool, events: &[EscrowEvent]) {
    let block = FollowedBlock {
        number,
        hash: block_hash(number),
        parent_hash: block_hash(number - 1),
        timestamp: UnixSeconds(START + number),
        is_final,
    };
    let events: Vec<NewEvent> = (0..)
        .zip(events)
        .map(|(log_index, event)| NewEvent {
            log_index,
            tx_hash: tx_hash(number, log_index),
            name: event.name(),
            escrow_id: event.rental(),
            body: serde_json::to_value(event).unwrap(),
        })
        .collect();
    world
        .store
        .write::<(), (), _>("test.mine", move |tx| {
            let (block, events) = (block.clone(), events.clone());
            Box::pin(async move { Ok(blocks::append(tx, &block, &events).await?) })
        })
        .await
        .unwrap();
}

pub fn locked(running: &Running) -> EscrowEvent {
    EscrowEvent::Locked {
        id: running.escrow_id,
        renter: running.renter.key.address(),
        provider: running.rig.provider.key.address(),
        token: USDC,
        deposit: units(650_000),
        prepaid: false,
    }
}

async fn escrow(world: &World, id: &B256) -> Reply {
    world.get(&format!("/v1/escrow/{id:#x}")).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_recomputes_a_split_from_the_public_page() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let (id, renter) = (running.escrow_id, running.renter.key.address());
    let label = json!({"label": "secret plans"});
    let path = format!("/v1/rentals/{}", running.id);
    let named = world.call("PATCH", &path).auth(&running.renter.token).json(&label).send();
    named.await.ok(200);
    // booked, and nothing of it on the chain: nothing is told
    escrow(&world, &id).await.problem(404, "not-found");
    for bad in ["nonsense", "0x12", &format!("0x{}", "g".repeat(64)), &"1".repeat(64)] {
        let said = world.get(&format!("/v1/escrow/{bad}")).send().await;
        assert!(
            said.problem(400, "invalid-request")["detail"].as_str().unwrap().contains("64 hex")
        );
    }

    world.get("/v1/escrow/%ff").send().await.problem(400, "invalid-request");

    mine(&world, 10, true, &[locked(&running)]).await;
    let page = escrow(&world, &id).await.ok(200);
    assert_eq!((&page["state"], &page["is_final"]), (&json!("locked"), &json!(true)));
    assert_eq!((&page["symbol"], &page["decimals"]), (&json!("USDC"), &json!(6)));
    assert_eq!(page["deposit"], "650000");
    assert_eq!(page["contract"], json!(ESCROW));
    assert_eq!(page["closed"], Value::Null);
    let own = world.get(&format!("{path}/escrow")).auth(&running.renter.token).send().await.ok(200);
    assert_eq!(page["terms"], own["terms"], "the terms that hash to its id");
    assert_eq!(page["terms"]["message"]["renter"], json!(renter));

    let started = EscrowEvent::Started { id, started_at: UnixSeconds(START) };
    let more =
        EscrowEvent::ToppedUp { id, from: renter, amount: units(350), deposit: units(650_350) };
    mine(&world, 11, true, &[started, more]).await;
    let released =
        EscrowEvent::Released { id, settled: Seconds(20), net: units(3_177), fee: units(433) };
    mine(&world, 12, true, &[released]).await;
    let page = escrow(&world, &id).await.ok(200);
    assert_eq!((&page["state"], &page["deposit"]), (&json!("running"), &json!("650350")));
    assert_eq!(page["started_at"], "2027-01-15T08:00:00Z");
    assert_eq!(page["paid"], json!({"provider": "3177", "fee": "433", "refund": "0"}));

    let closed = EscrowEvent::Closed {
        id,
        outcome: Outcome::ClosedByOperator,
        billed: Seconds(30),
        net: units(1_590),
        fee: units(216),
        refund: units(644_934),
        pushed: true,
    };
    mine(&world, 13, false, &[closed]).await;
    let reply = escrow(&world, &id).await;
    let tag = reply.header("etag").to_owned();
    assert_eq!(reply.header("cache-control"), "public, max-age=5");
    let page = reply.ok(200);
    assert_eq!((&page["state"], &page["is_final"]), (&json!("closed"), &json!(false)));
    assert_eq!(page["closed"]["outcome"], "closed_by_operator");
    assert_eq!(page["closed"]["seconds_billed"], 30);
    // floor(30 * 650,000 / 3,600) = 5,416 and 12 % of it, by three calls
    let amount = |name: &str| page["paid"][name].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!((amount("provider"), amount("fee")), (4_767, 649));
    assert_eq!(amount("provider") + amount("fee") + amount("refund"), 650_350);
    let events = page["events"].as_array().unwrap();
    let said: Vec<_> = events.iter().map(|event| event["name"].as_str().unwrap()).collect();
    assert_eq!(said, ["locked", "started", "topped_up", "released", "closed"]);
    let last = &events[4];
    assert_eq!((&last["block"], &last["log_index"]), (&json!(13), &json!(0)));
    assert_eq!((&last["tx_hash"], &last["is_final"]), (&json!(tx_hash(13, 0)), &json!(false)));
    let again = world.get(&format!("/v1/escrow/{id:#x}")).header("if-none-match", &tag);
    assert_eq!(again.send().await.status, 304);

    // nothing that is not on the chain
    let text = page.to_string();
    for secret in ["acc_", "rnt_", "quo_", "mch_", "ofr_", "gpu_", "label", "secret plans"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_escrow_that_was_locked_elsewhere_is_told_without_terms() {
    let world = World::new().await;
    let id = B256::repeat_byte(0x77);
    let renter = alloy::primitives::Address::repeat_byte(1);
    let lock = EscrowEvent::Locked {
        id,
        renter,
        provider: renter,
        token: alloy::primitives::Address::repeat_byte(0x99),
        deposit: units(5),
        prepaid: true,
    };
    mine(&world, 10, true, &[lock]).await;
    let page = escrow(&world, &id).await.ok(200);
    assert_eq!((&page["terms"], &page["symbol"]), (&Value::Null, &Value::Null));
    assert_eq!(page["deposit"], "5");
}

/// Runs a rental for 30 seconds, stops it, and has the chain pay it.
pub async fn settle(world: &World, running: &mut Running) {
    let started_at = UnixSeconds(START);
    world.advance(&running.id, RentalEvent::StartFinal { started_at }).await;
    running.pass(world, 30).await;
    running.append(world, 0, 30).await;
    let stop = world.post(&format!("/v1/rentals/{}/stop", running.id));
    stop.auth(&running.renter.token).key("s").send().await.ok(202);
    world.advance(&running.id, RentalEvent::AgentStopped).await;
    let (net, fee, refund) = (units(4_767), units(649), units(644_584));
    let closed = EscrowEvent::Closed {
        id: running.escrow_id,
        outcome: Outcome::ClosedByOperator,
        billed: Seconds(30),
        net,
        fee,
        refund,
        pushed: true,
    };
    mine(world, 10, true, &[locked(running), closed]).await;
    let delta = MoneyDelta {
        provider: net,
        fee,
        refund,
        billed: Some(Seconds(30)),
        ..MoneyDelta::default()
    };
    world.pay(&running.id, delta).await;
    let outcome = CloseOutcome::ClosedByOperator;
    world.advance(&running.id, RentalEvent::ClosedFinal { outcome }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_adds_up_and_comes_when_money_is_divided() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    let path = format!("/v1/invoices/{}.json", running.id);
    let asked = |path: &str, token: &str| world.get(path).auth(token).send();
    let early = asked(&path, &running.renter.token).await.problem(409, "receipt-not-ready");
    assert_eq!(early["state"], "active");
    settle(&world, &mut running).await;

    let body = asked(&path, &running.renter.token).await.ok(200);
    assert_eq!(asked(&path, &running.rig.provider.token).await.ok(200), body, "both see the same");
    for (part, amount, usd) in [
        ("gross", "5416", "0.005416"),
        ("net", "4767", "0.004767"),
        ("refund", "644584", "0.644584"),
        ("deposit", "650000", "0.650000"),
    ] {
        assert_eq!(body[part]["amount"]["base_units"], amount, "{part}");
        assert_eq!(body[part]["usd"]["amount"], usd, "{part}");
    }
    assert_eq!(
        (&body["fee"]["bps"], &body["fee"]["amount"]["base_units"]),
        (&json!(1_200), &json!("649"))
    );
    let lines = body["lines"].as_array().unwrap();
    let sum: i64 =
        lines.iter().map(|line| line["base_units"].as_str().unwrap().parse::<i64>().unwrap()).sum();
    assert_eq!(sum, 5_416, "{lines:?}");
    assert_eq!(lines[0]["kind"], "compute");
    assert_eq!(body["payments"].as_array().unwrap().len(), 1);
    assert_eq!(body["payments"][0]["tx_hash"], json!(tx_hash(10, 1)));
    assert_eq!(body["issued_at"], "2027-01-15T08:00:10Z");
    assert_eq!(body["seconds_billed"], 30);

    let stranger = world.sign_in(50).await;
    asked(&path, &stranger.token).await.problem(404, "not-found");
    for bad in [running.id.clone(), format!("{}.pdf", running.id), "x.json".to_owned()] {
        let path = format!("/v1/invoices/{bad}");
        asked(&path, &running.renter.token).await.problem(400, "invalid-request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_as_csv_says_the_same() {
    let world = World::new().await;
    let mut running = Running::new(&world).await;
    settle(&world, &mut running).await;
    let path = format!("/v1/invoices/{}.csv", running.id);
    let reply = world.get(&path).auth(&running.renter.token).send().await;
    assert_eq!(reply.header("content-type"), "text/csv; charset=utf-8");
    assert!(reply.header("content-disposition").contains(&format!("{}.csv", running.id)));
    let text = reply.ok(200);
    let text = text.as_str().unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
    let column = |name: &str| rows[0].iter().position(|column| *column == name).unwrap();
    let (row, kind, amount) = (column("row"), column("kind"), column("base_units"));
    let of = |what: &str, which: &str| {
        let found = rows.iter().find(|line| (line[row], line[kind]) == (what, which));
        found.unwrap_or_else(|| panic!("no {what} {which} in {text}"))[amount]
    };
    let lines = rows.iter().filter(|line| line[row] == "line");
    let sum: i64 = lines.map(|line| line[amount].parse::<i64>().unwrap()).sum();
    assert_eq!((sum.to_string().as_str(), of("sum", "gross")), ("5416", "5416"));
    assert_eq!(
        (of("sum", "fee"), of("sum", "net"), of("sum", "refund")),
        ("649", "4767", "644584")
    );
    let hash = format!("{:#x}", tx_hash(10, 1));
    let payment = rows.iter().find(|line| line[row] == "payment").unwrap();
    assert_eq!(payment[column("tx_hash")], hash);
}
