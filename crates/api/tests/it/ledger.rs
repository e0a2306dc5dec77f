//! Statements of the caller's own accounts.

use alloy::primitives::{Address, B256};
use domain::{
    ledger::{ClosedFigures, Parties, close_posting, lock_posting},
    money::Amount,
};
use serde_json::json;
use store::ledger::{self, Sourced};

use crate::{fixture::World, http::Reply};

fn units(value: u128) -> Amount {
    Amount::new(value).unwrap()
}

/// Books a rental and posts its lock and its close, ten seconds later. Returns the renter's and the provider's
/// tokens, the rental's id and the symbol of its token.
async fn settled(world: &World) -> (String, String, String, String) {
    let rig = world.rig(1, 1, "0.65").await;
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &rig).await;
    let booking = world.book(&renter, &quote, "k").await.ok(201);
    let rental = &booking["rental"];
    let symbol = quote["deposit"]["token"].as_str().unwrap().to_owned();
    let tokens = world.get("/v1/tokens").send().await.ok(200);
    let token = tokens["data"].as_array().unwrap().iter().find(|t| t["symbol"] == symbol.as_str());
    let address = |text: &str| text.parse::<Address>().unwrap();
    let parties = Parties {
        escrow_id: rental["escrow_id"].as_str().unwrap().parse::<B256>().unwrap(),
        renter: address(rental["renter"].as_str().unwrap()),
        provider: address(rental["provider"].as_str().unwrap()),
        treasury: Address::repeat_byte(0x77),
        token: address(token.unwrap()["address"].as_str().unwrap()),
    };
    let figures =
        ClosedFigures { net: units(440), fee: units(60), refund: units(500), pushed: true };
    let (source, now) = (format!("{}:0", B256::repeat_byte(6)), world.now());
    let facts = [
        Sourced { source, at: now, posting: lock_posting(&parties, units(1_000)) },
        Sourced {
            source: format!("{}:1", B256::repeat_byte(7)),
            at: now.saturating_plus(domain::time::Seconds(10)),
            posting: close_posting(&parties, &figures),
        },
    ];
    world
        .store
        .write::<(), (), _>("test.post", move |tx| {
            let facts = facts.clone();
            Box::pin(async move {
                assert_eq!(ledger::post(tx, &facts).await?, 2);
                Ok(())
            })
        })
        .await
        .unwrap();
    let id = rental["id"].as_str().unwrap().to_owned();
    (renter.token, rig.provider.token, id, symbol)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_shows_what_moved_and_to_nobody_else() {
    let world = World::new().await;
    let (renter, provider, rental, symbol) = settled(&world).await;
    let path = format!("/v1/ledger?token={symbol}");
    let body = world.get(&path).auth(&renter).send().await.ok(200);
    assert_eq!((&body["opening_balance"], &body["closing_balance"]), (&json!("0"), &json!("0")));
    let entries = body["entries"].as_array().unwrap();
    let said: Vec<_> = entries
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap().to_owned();
            (text("kind"), text("counter_account"), text("amount"), text("balance"))
        })
        .collect();
    let line = |kind: &str, counter: &str, amount: &str, balance: &str| {
        (kind.to_owned(), counter.to_owned(), amount.to_owned(), balance.to_owned())
    };
    assert_eq!(
        said,
        [
            line("lock", "outside", "1000", "1000"),
            line("close", "provider_earnings", "-440", "560"),
            line("close", "platform_fees", "-60", "500"),
            line("close", "outside", "-500", "0"),
        ]
    );
    assert!(entries.iter().all(|entry| entry["rental_id"] == rental.as_str()));
    let earned = world.get(&path).auth(&provider).send().await.ok(200);
    assert_eq!(earned["closing_balance"], "440");
    assert_eq!(earned["entries"].as_array().unwrap().len(), 1);
    let stranger = world.sign_in(33).await;
    let nothing = world.get(&path).auth(&stranger.token).send().await.ok(200);
    assert_eq!(nothing["entries"], json!([]));
    world.get(&path).send().await.problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_join_and_a_time_has_its_own_opening() {
    let world = World::new().await;
    let (renter, _, _, symbol) = settled(&world).await;
    let path = format!("/v1/ledger?token={symbol}");
    let whole = world.get(&path).auth(&renter).send().await.ok(200);
    let mut joined = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = world.get(&format!("{path}&limit=3{cursor}")).auth(&renter).send().await.ok(200);
        assert_eq!(page["closing_balance"], whole["closing_balance"]);
        joined.extend(page["entries"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(json!(joined), whole["entries"]);
    let later = &whole["entries"][1]["at"];
    let from = format!("{path}&from={}", later.as_str().unwrap());
    let late = world.get(&from).auth(&renter).send().await.ok(200);
    assert_eq!(late["opening_balance"], "1000");
    assert_eq!(late["entries"].as_array().unwrap().len(), 3);
    let to = format!("{path}&to={}", later.as_str().unwrap());
    let early = world.get(&to).auth(&renter).send().await.ok(200);
    assert_eq!(
        (&early["closing_balance"], early["entries"].as_array().unwrap().len()),
        (&json!("1000"), 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_is_asked_for_by_header_or_by_parameter() {
    let world = World::new().await;
    let (renter, _, rental, symbol) = settled(&world).await;
    let path = format!("/v1/ledger?token={symbol}");
    let header = world.get(&path).auth(&renter).header("accept", "text/csv").send().await;
    let parameter = world.get(&format!("{path}&format=csv")).auth(&renter).send().await;
    let text = |reply: &Reply| reply.body.as_str().unwrap().to_owned();
    assert_eq!(text(&header), text(&parameter));
    assert_eq!(header.header("content-type"), "text/csv; charset=utf-8");
    let body = text(&header);
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!(lines.len(), 5);
    let columns: Vec<&str> = lines[2].split(',').collect();
    assert_eq!(columns.len(), lines[0].split(',').count());
    assert_eq!(
        (columns[1], columns[4], columns[6], columns[7]),
        ("close", rental.as_str(), "-440", "560")
    );
    let part = world.get(&format!("{path}&format=csv&limit=3")).auth(&renter).send().await;
    assert_eq!(text(&part).lines().count(), 4);
    let next = format!("{path}&format=csv&limit=3&cursor={}", part.header("next-cursor"));
    let rest = world.get(&next).auth(&renter).send().await;
    assert_eq!(text(&rest).lines().nth(1), lines.get(4).copied());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_refuses_what_it_does_not_understand() {
    let world = World::new().await;
    let renter = world.sign_in(9).await;
    for (query, code) in [
        ("", "invalid-request"),
        ("?token=NONE", "invalid-request"),
        ("?token=USDC&from=yesterday", "invalid-request"),
        ("?token=USDC&to=1969-12-31T23:59:59Z", "invalid-request"),
        ("?token=USDC&limit=0", "invalid-request"),
        ("?token=USDC&cursor=zzz", "invalid-cursor"),
        ("?token=USDC&format=xml", "invalid-request"),
    ] {
        let reply = world.get(&format!("/v1/ledger{query}")).auth(&renter.token).send().await;
        reply.problem(400, code);
    }
}
