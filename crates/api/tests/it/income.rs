//! What a provider looks up: payouts, reliability of all machines, settlements; and what everybody does: the depth of the
//! market, and how the service is.

use alloy::primitives::{Address, B256};
use domain::{
    id::MachineId,
    ledger::{AccountKind, LedgerAccount, prepay_posting, withdraw_posting},
    money::Amount,
    reliability::{Reliability, lower_bound_bps},
    rental::RentalEvent,
    time::UnixSeconds,
};
use escrow::EscrowEvent;
use serde_json::{Value, json};
use store::{
    Store, freezes,
    ledger::{self, Sourced},
    reliability::{self, Shown},
    txs,
};

use crate::{
    api_keys::make,
    escrows::{mine, tx_hash},
    fixture::{Person, USDC, World},
    running::Running,
};

fn units(value: u128) -> Amount {
    Amount::new(value).unwrap()
}

/// Final withdrawals of a wallet's, each in a block of its own: from how much earned and how much refunded.
pub async fn withdrawn(world: &World, owner: Address, of: &[(u128, u128)]) {
    let mut facts = Vec::new();
    for (number, (earned, refunded)) in (20_u64..).zip(of) {
        let amount = units(earned + refunded);
        let to = Address::repeat_byte(0xab);
        let event = EscrowEvent::Withdrawn { account: owner, token: USDC, to, amount };
        mine(world, number, true, &[event]).await;
        let account =
            |kind| LedgerAccount { kind, owner: Some(owner), escrow_id: None, token: USDC };
        let balances = [
            (account(AccountKind::ProviderEarnings), units(*earned)),
            (account(AccountKind::RenterCredit), units(*refunded)),
        ];
        let posting = withdraw_posting(owner, USDC, amount, &balances).unwrap();
        let hash: Vec<u8> = sqlx::query_scalar("SELECT hash FROM chain_blocks WHERE number = $1")
            .bind(i64::try_from(number).unwrap())
            .fetch_one(world.store.pool())
            .await
            .unwrap();
        let source = format!("{:#x}:0", B256::from_slice(&hash));
        facts.push(Sourced { source, at: UnixSeconds(world.now().get() + number), posting });
    }
    let posted = world.store.write::<(), (), _>("test.withdraw", move |tx| {
        let facts = facts.clone();
        Box::pin(async move {
            for fact in facts {
                ledger::post(tx, &[fact]).await?;
            }
            Ok(())
        })
    });
    posted.await.unwrap();
}

async fn pages(world: &World, path: &str, who: &Person) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = world.get(&format!("{path}{cursor}")).auth(&who.token).send().await.ok(200);
        all.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { return all };
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn payouts_are_told_with_their_transactions_and_to_nobody_else() {
    let world = World::new().await;
    let provider = world.sign_in(1).await;
    withdrawn(&world, provider.key.address(), &[(500, 0), (300, 40), (7, 0)]).await;
    let path = "/v1/provider/payouts";
    let page = world.get(path).auth(&provider.token).send().await.ok(200);
    let said: Vec<_> = page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&one["kind"]), text(&one["amount"]["base_units"]), one["block"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(said[0], ("provider_earnings".to_owned(), "7".to_owned(), 22), "newest first");
    assert_eq!(said.len(), 4, "one withdrawal emptied two balances: {said:?}");
    assert!(said.contains(&("renter_credit".to_owned(), "40".to_owned(), 21)));
    let first = &page["data"][0];
    assert_eq!((&first["tx_hash"], &first["log_index"]), (&json!(tx_hash(22, 0)), &json!(0)));
    assert_eq!(
        (&first["to"], &first["amount"]["token"]),
        (&json!(Address::repeat_byte(0xab)), &json!("USDC"))
    );
    assert_eq!(
        pages(&world, &format!("{path}?limit=1"), &provider).await,
        *page["data"].as_array().unwrap()
    );
    let stranger = world.sign_in(40).await;
    let none = world.get(path).auth(&stranger.token).send().await.ok(200);
    assert_eq!(none, json!({"data": [], "next_cursor": null}));
    let bad = world.get(&format!("{path}?cursor=zzz")).auth(&provider.token).send().await;
    bad.problem(400, "invalid-cursor");
}

/// The contract takes a token that this market's list does not have: whoever put some in must see it, and get it out.
#[tokio::test(flavor = "multi_thread")]
async fn money_in_a_token_that_the_list_lacks_is_told_by_its_address() {
    let world = World::new().await;
    let owner = world.sign_in(1).await;
    let (address, token) = (owner.key.address(), Address::repeat_byte(0x77));
    let credit = LedgerAccount::renter_credit(address, token);
    let taken = withdraw_posting(address, token, units(40), &[(credit, units(90))]).unwrap();
    let facts = [("in", prepay_posting(address, token, units(90))), ("out", taken)];
    let facts = facts.map(|(source, posting)| Sourced {
        source: source.to_owned(),
        at: world.now(),
        posting,
    });
    let posted = world.store.write::<(), (), _>("test.prepay", move |tx| {
        let facts = facts.clone();
        Box::pin(async move { Ok(ledger::post(tx, &facts).await.map(|_| ())?) })
    });
    posted.await.unwrap();
    let amount = |units: &str| json!({"base_units": units, "token": token, "decimals": 0, "chain": "eip155:31337"});
    let said = world.get("/v1/provider/earnings").auth(&owner.token).send().await.ok(200);
    let balance = &said["balances"][0];
    assert_eq!(
        (&balance["kind"], &balance["balance"]),
        (&json!("renter_credit"), &amount("50")),
        "{said}"
    );
    let call = escrow::calldata::withdraw(token, address, Amount::ZERO);
    assert_eq!(balance["withdraw"]["calldata"], json!(alloy::primitives::Bytes::from(call)));
    let paid = world.get("/v1/provider/payouts").auth(&owner.token).send().await.ok(200);
    assert_eq!(paid["data"][0]["amount"], amount("40"), "{paid}");
}

async fn show(store: &Store, machine: &str, (promised_s, good_s): (u64, u64)) {
    let machine: MachineId = machine.parse().unwrap();
    let as_of = UnixSeconds(1_799_999_000);
    let figures = Reliability {
        idle_s: promised_s,
        idle_good_s: good_s,
        rented_s: 0,
        rented_good_s: 0,
        promised_s,
        good_s,
        starts: 15,
        starts_ok: 14,
        ready_p50_ms: Some(9_000),
        ready_p95_ms: Some(20_000),
        interruptions: 1,
        disputes_lost: 0,
        score_bps: lower_bound_bps(good_s, promised_s),
    };
    let shown = Shown { days: 30, as_of, figures, computed_at: as_of };
    let stored = store.write::<(), (), _>("test.show", move |tx| {
        Box::pin(async move { Ok(reliability::store(tx, machine, &shown).await?) })
    });
    stored.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_summed_by_the_formula_of_one() {
    let world = World::new().await;
    let rig = world.rig(1, 1, "0.65").await;
    let body = json!({"name": "rack 2", "region": "de-fra", "cpu_cores": 16, "ram_gb": 64, "disk_gb": 500,
                      "gpus": [{"uuid": "GPU-second-0", "model": "rtx-4090"}]});
    let made =
        world.post("/v1/machines").auth(&rig.provider.token).json(&body).send().await.ok(201);
    let second = made["machine"]["id"].as_str().unwrap();
    let other = world.rig(20, 1, "0.65").await;
    show(&world.store, &rig.machine, (720_000, 719_000)).await;
    show(&world.store, second, (360_000, 300_000)).await;
    show(&world.store, &other.machine, (360_000, 0)).await;
    let path = "/v1/provider/reliability";
    let page = world.get(path).auth(&rig.provider.token).send().await.ok(200);
    let sum = &page["summary"][0];
    assert_eq!((&sum["days"], &sum["machines"]), (&json!(30), &json!(2)));
    assert_eq!((&sum["promised_s"], &sum["good_s"]), (&json!(1_080_000), &json!(1_019_000)));
    assert_eq!(sum["score_bps"], lower_bound_bps(1_019_000, 1_080_000));
    assert_eq!((&sum["starts"], &sum["enough"]), (&json!(30), &json!(true)));
    let machines = page["data"].as_array().unwrap();
    assert_eq!(machines.len(), 2);
    let public =
        world.get(&format!("/v1/machines/{}/reliability", rig.machine)).send().await.ok(200);
    let own = machines.iter().find(|one| one["machine_id"] == rig.machine.as_str()).unwrap();
    assert_eq!(own["windows"], public["windows"], "as everybody sees it");
    let each = pages(&world, &format!("{path}?limit=1"), &rig.provider).await;
    assert_eq!(each, *machines);
    let limited = json!({"machines": [second]});
    let key = make(&world, &rig.provider, &["machines:read"], limited).await.person;
    let page = world.get(path).auth(&key.token).send().await.ok(200);
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&page["summary"][0]["machines"], &page["summary"][0]["good_s"]),
        (&json!(1), &json!(300_000))
    );
    // a machine that is retired shows nothing any more
    let retire = world.post(&format!("/v1/machines/{second}/retire"));
    retire.auth(&rig.provider.token).send().await.ok(200);
    let page = world.get(path).auth(&rig.provider.token).send().await.ok(200);
    let sum = &page["summary"][0];
    assert_eq!((&sum["machines"], &sum["good_s"]), (&json!(1), &json!(719_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn settlements_are_a_partys_calls_and_how_far_they_are() {
    let world = World::new().await;
    let running = Running::new(&world).await;
    let path = "/v1/settlements";
    let renter = world.get(path).auth(&running.renter.token).send().await.ok(200);
    let first = &renter["data"][0];
    assert_eq!((&first["kind"], &first["state"]), (&json!("start"), &json!("planned")));
    assert_eq!((&first["rental_id"], &first["tx_hash"]), (&json!(running.id), &Value::Null));
    assert_eq!(first["escrow_id"], json!(running.escrow_id));
    let started_at = world.now();
    world.advance(&running.id, RentalEvent::StartFinal { started_at }).await;
    running.pass(&world, 10).await;
    let stop = world.post(&format!("/v1/rentals/{}/stop", running.id));
    stop.auth(&running.renter.token).key("s").send().await.ok(202);
    world.advance(&running.id, RentalEvent::AgentStopped).await;
    let provider = format!("{path}?role=provider&limit=1");
    let all = pages(&world, &provider, &running.rig.provider).await;
    let kinds: Vec<_> = all.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["close", "start"], "the newest first");
    let own = world.get(path).auth(&running.rig.provider.token).send().await.ok(200);
    assert_eq!(own["data"], json!([]), "it rents nothing");
    let stranger = world.sign_in(40).await;
    let none = world.get(path).auth(&stranger.token).send().await.ok(200);
    assert_eq!(none["data"], json!([]));
    for bad in ["?role=judge", "?limit=0", "?state=final"] {
        let said = world.get(&format!("{path}{bad}")).auth(&stranger.token).send().await;
        said.problem(400, "invalid-request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_book_tells_what_is_free_at_each_price() {
    let world = World::new().await;
    world.rig(1, 2, "0.65").await;
    world.rig(20, 1, "0.65").await;
    let dear = world.rig(30, 4, "0.90").await;
    world.state.catch_up_with_market().await.unwrap();
    let path = "/v1/market/book/rtx-4090";
    let reply = world.get(path).send().await;
    assert_eq!(reply.header("cache-control"), "public, max-age=5");
    let tag = reply.header("etag").to_owned();
    let book = reply.ok(200);
    let usd = |amount: &str| json!({"amount": amount, "currency": "USD"});
    assert_eq!(
        book["asks"],
        json!([{"price": usd("0.650000"), "gpus": 3, "offers": 2, "gpus_up_to": 3},
               {"price": usd("0.900000"), "gpus": 4, "offers": 1, "gpus_up_to": 7}])
    );
    assert_eq!((&book["more"], book.get("bids")), (&json!(false), None));
    let again = world.get(path).header("if-none-match", &tag).send().await;
    assert_eq!(again.status, 304);
    let one = world.get(&format!("{path}?levels=1")).send().await.ok(200);
    assert_eq!((one["asks"].as_array().unwrap().len(), &one["more"]), (1, &json!(true)));
    for (query, levels) in [
        ("region=de", 2),
        ("region=DE", 2),
        ("region=us", 0),
        ("tier=unverified", 2),
        ("tier=datacenter", 0),
    ] {
        let found = world.get(&format!("{path}?{query}")).send().await.ok(200);
        assert_eq!(found["asks"].as_array().unwrap().len(), levels, "{query}");
    }
    // what is rented is free no more
    let renter = world.sign_in(9).await;
    let quote = world.quote(&renter, &dear).await;
    world.book(&renter, &quote, "k").await.ok(201);
    world.state.catch_up_with_market().await.unwrap();
    world.pass(4);
    assert_eq!(world.get(path).send().await.ok(200), book, "it is kept for five seconds");
    world.pass(8);
    let left = world.get(path).send().await.ok(200);
    assert_eq!(left["asks"].as_array().unwrap().len(), 1);
    world.get("/v1/market/book/no-such").send().await.problem(404, "not-found");
    for bad in ["levels=0", "levels=201", "tier=gold", "region=x", "region=de_fra", "depth=3"] {
        world.get(&format!("{path}?{bad}")).send().await.problem(400, "invalid-request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_sees_how_the_service_is() {
    let world = World::new().await;
    let reply = world.get("/v1/status").send().await;
    assert_eq!(reply.header("cache-control"), "public, max-age=5");
    let tag = reply.header("etag").to_owned();
    let body = reply.ok(200);
    assert_eq!(body["booking"], json!({"possible": true, "why_not": []}));
    assert_eq!(body["frozen"], json!({"everything": false, "tokens": [], "rentals": 0}));
    assert_eq!(
        (&body["worker"]["seen_at"], &body["chain"]["final_block"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(body["market"]["ready"], true);
    assert_eq!(body["tokens"].as_array().unwrap().len(), 2);
    let again = world.get("/v1/status").header("if-none-match", &tag).send().await;
    assert_eq!(again.status, 304);

    mine(&world, 7, true, &[]).await;
    mine(&world, 8, false, &[]).await;
    let now = world.store.now();
    let wrote = world.store.write::<(), (), _>("test.work", move |tx| {
        Box::pin(async move {
            let signer = Address::repeat_byte(3);
            txs::register_signer(tx, signer, 0).await?;
            let term = std::time::Duration::from_secs(10);
            txs::lease(tx, signer, 1, now, term).await?.unwrap();
            let scope = freezes::Scope::Token(USDC);
            let (reason, detail) = (freezes::Reason::ContractDrift, "one unit".to_owned());
            let freeze = freezes::NewFreeze { scope, reason, detail, block: 7 };
            freezes::freeze(tx, &freeze, now.seconds()).await?;
            Ok(())
        })
    });
    wrote.await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO price_feeds (token, feed, decimals, max_age_s)
         SELECT address, repeat('f', 20)::bytea, 8, 60 FROM tokens",
    )
    .execute(world.store.pool())
    .await
    .unwrap();
    let told_again = world.get("/v1/status").send().await.ok(200);
    assert_eq!(told_again, body, "looked at every five seconds at most");
    world.pass(100);
    let body = world.get("/v1/status").send().await.ok(200);
    let chain = &body["chain"];
    assert_eq!((&chain["followed_block"], &chain["final_block"]), (&json!(8), &json!(7)));
    assert_eq!(chain["final_block_age_s"], 93);
    assert_eq!(body["worker"]["age_s"], 100);
    assert_eq!(body["frozen"]["tokens"], json!(["USDC"]));
    assert_eq!(body["booking"], json!({"possible": false, "why_not": ["no_price"]}));
    assert!(body["tokens"].as_array().unwrap().iter().all(|token| token["usable"] == false));
    let text = body.to_string();
    assert!(!text.contains("one unit"), "what a figure was is for the operator: {text}");

    // however many rentals were frozen before everything was
    sqlx::raw_sql(
        "INSERT INTO freezes (scope, subject, reason, detail, block, frozen_at)
         SELECT 'rental', sha256(n::text::bytea), 'rental_drift', 'x', 7, now()
         FROM generate_series(1, 1001) n;
         INSERT INTO freezes (scope, reason, detail, block, frozen_at)
         VALUES ('all', 'ledger_drift', 'x', 7, now())",
    )
    .execute(world.store.pool())
    .await
    .unwrap();
    // a price that is no definition, and has no oracle any more
    let prices = "DELETE FROM price_feeds; UPDATE tokens SET fixed = (symbol <> 'USDC')";
    sqlx::raw_sql(prices).execute(world.store.pool()).await.unwrap();
    world.pass(10);
    let body = world.get("/v1/status").send().await.ok(200);
    assert_eq!(body["frozen"], json!({"everything": true, "tokens": ["USDC"], "rentals": 1_001}));
    for token in body["tokens"].as_array().unwrap() {
        assert_eq!(token["usable"], token["token"] != "USDC", "{token}");
    }
}
