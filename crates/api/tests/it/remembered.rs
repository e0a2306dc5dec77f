//! Quotes that are made from memory: as a look would make them, in one statement, and only while all of it is so.

use std::collections::BTreeSet;

use alloy::primitives::keccak256;
use domain::{
    id::{AccountId, MachineId, QuoteId},
    money::{Decimals, UsdMicros},
    rate::UsdPerHour,
    time::{Seconds, UnixSeconds},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::quotes::{self, AsOf, Quote, Remembered};
use testkit::Statements;
use uuid::Uuid;

use crate::fixture::{Person, Rig, World};

/// Everything that an offer can sell.
fn rich() -> Value {
    json!({"disk": {"per_gb_month": {"amount": "0.10", "currency": "USD"}, "max_gb": 500},
           "network": {"up_per_gb": {"amount": "0.02", "currency": "USD"},
                       "down_per_gb": {"amount": "0.01", "currency": "USD"}},
           "reserved": [{"min_duration_s": 3_600, "discount_bps": 1_500}],
           "chunks": [1, 2], "notice_s": 600})
}

async fn patch(world: &World, rig: &Rig, body: &Value) {
    let path = format!("/v1/offers/{}", rig.offer);
    let tag = world.get(&path).send().await.header("etag").to_owned();
    let call = world.call("PATCH", &path).auth(&rig.provider.token).header("if-match", &tag);
    call.json(body).send().await.ok(200);
}

async fn ask(world: &World, renter: &Person, rig: &Rig) -> Value {
    let body = json!({"offer_id": rig.offer, "duration_s": 7_200, "token": "USDC", "gpu_count": 1,
                      "disk_gb": 50, "up_gb": 3, "down_gb": 4});
    world.post("/v1/quotes").auth(&renter.token).json(&body).send().await.ok(201)
}

/// A quote without what no two have in common.
fn plain(mut quote: Value) -> Value {
    let fields = quote.as_object_mut().unwrap();
    for own in ["id", "escrow_id", "order", "seal"] {
        assert!(own == "seal" || fields.contains_key(own), "{own}");
        fields.remove(own);
    }
    fields["eip712"]["message"].as_object_mut().unwrap().remove("orderHash").unwrap();
    quote
}

// one thread, so that all statements are sent from it, and those of other tests are not
#[tokio::test]
async fn what_is_remembered_makes_the_same_quote_in_one_statement() {
    let statements = Statements::default();
    let _counting = tracing::subscriber::set_default(statements.clone());
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    patch(&world, &rig, &rich()).await;
    let renter = world.sign_in(9).await;
    world.state.catch_up_with_market().await.unwrap();
    let about = |sent: &std::collections::BTreeMap<String, u64>| {
        let count = |words: &[&str]| Statements::mentioning(sent, words);
        (count(&["WITH ORDINALITY"]), count(&["INSERT INTO quotes"]), count(&["sessions"]))
    };
    // nothing is known of the renter, who is noted to be there
    let looked = ask(&world, &renter, &rig).await;
    ask(&world, &renter, &rig).await;
    statements.take();
    let recalled = ask(&world, &renter, &rig).await;
    let sent = statements.take();
    assert_eq!(about(&sent), (0, 1, 1), "{sent:#?}");
    assert_eq!(plain(recalled.clone()), plain(looked));
    assert_ne!(recalled["id"], Value::Null);
    let path = format!("/v1/quotes/{}", recalled["id"].as_str().unwrap());
    assert_eq!(world.get(&path).auth(&renter.token).send().await.ok(200), recalled);
    // and it can be booked
    world.book(&renter, &recalled, "k").await.ok(201);

    // what has changed is looked at, whatever the market in memory says
    patch(&world, &rig, &json!({"price": {"amount": "0.80", "currency": "USD"}})).await;
    statements.take();
    let dearer = ask(&world, &renter, &rig).await;
    assert_eq!(dearer["offer_version"], 3);
    assert_ne!(dearer["subtotal"], recalled["subtotal"]);
}

#[tokio::test]
async fn who_has_left_is_not_remembered() {
    let statements = Statements::default();
    let _counting = tracing::subscriber::set_default(statements.clone());
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    let renter = world.sign_in(9).await;
    world.state.catch_up_with_market().await.unwrap();
    for _ in 0..2 {
        world.quote(&renter, &rig).await;
    }
    let looks = |sent| Statements::mentioning(&sent, &["WITH ORDINALITY"]);
    assert!(looks(statements.take()) > 0);
    world.quote(&renter, &rig).await;
    assert_eq!(looks(statements.take()), 0, "it is remembered");
    // as another process does it
    sqlx::query("UPDATE sessions SET revoked_at = now() WHERE token_hash = $1")
        .bind(Sha256::digest(renter.token.as_bytes()).to_vec())
        .execute(world.store.pool())
        .await
        .unwrap();
    let body = json!({"offer_id": rig.offer, "duration_s": 3_600, "token": "USDC"});
    let asked = || world.post("/v1/quotes").auth(&renter.token).json(&body).send();
    asked().await.problem(401, "unauthenticated");
    // and is forgotten: the second time nothing is tried
    statements.take();
    asked().await.problem(401, "unauthenticated");
    let sent = statements.take();
    assert_eq!(Statements::mentioning(&sent, &["INSERT INTO quotes"]), 0, "{sent:#?}");
    let nothing = json!({"offer_id": "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f", "duration_s": 3_600, "token": "USDC"});
    let ask = world.post("/v1/quotes").auth(&renter.token).json(&nothing).send();
    ask.await.problem(401, "unauthenticated");
}

/// A stored quote and what it rests on.
struct Kept {
    world: World,
    quote: Quote,
    remembered: Remembered,
}

impl Kept {
    /// Whether the quote would be stored as of now under another id, if `edit` is what is remembered.
    async fn holds(&self, edit: impl Fn(&mut Quote, &mut Remembered)) -> bool {
        let (mut quote, mut remembered) = (self.quote.clone(), self.remembered.clone());
        quote.id = QuoteId::from_uuid(Uuid::now_v7());
        quote.escrow_id = keccak256(quote.id.uuid());
        edit(&mut quote, &mut remembered);
        let now = self.world.now();
        let heard_since = UnixSeconds(now.get() - 30);
        let as_of = AsOf { now, heard_since, idle: Seconds(86_400) };
        let mut connection = self.world.store.borrow().await.unwrap();
        let promises = [(&quote, Some(&remembered))];
        let stored = quotes::promise(&mut connection, &promises, &as_of).await.unwrap();
        let found = quotes::get(&mut connection, quote.id).await.unwrap();
        assert_eq!(found.is_some(), stored == BTreeSet::from([quote.id]));
        assert!(found.is_none_or(|found| found == quote));
        !stored.is_empty()
    }

    /// Of many in one statement, those are stored of which all is so, and those that were looked at.
    async fn many_at_once(&self) {
        // whose quotes' ends are told
        self.change("INSERT INTO account_streams (account_id) SELECT account_id FROM sessions WHERE machine_id IS NULL ON CONFLICT DO NOTHING").await;
        let quotes: Vec<Quote> = (0..32)
            .map(|_| {
                let mut quote = self.quote.clone();
                quote.id = QuoteId::from_uuid(Uuid::now_v7());
                quote.escrow_id = keccak256(quote.id.uuid());
                quote
            })
            .collect();
        let wrong = Remembered { gpus_all: 9, ..self.remembered.clone() };
        let known = [None, Some(&self.remembered), Some(&wrong)];
        let promises: Vec<_> = quotes.iter().zip(known.into_iter().cycle()).collect();
        let now = self.world.now();
        let as_of = AsOf { now, heard_since: now, idle: Seconds::ZERO };
        let mut connection = self.world.store.borrow().await.unwrap();
        let stored = quotes::promise(&mut connection, &promises, &as_of).await.unwrap();
        let good =
            promises.iter().filter(|(_, known)| known.is_none_or(|known| known.gpus_all == 2));
        let good: BTreeSet<QuoteId> = good.map(|(quote, _)| quote.id).collect();
        assert_eq!(stored, good);
        let ids: Vec<QuoteId> = quotes.iter().map(|quote| quote.id).collect();
        assert_eq!(quotes::many(&mut connection, &ids).await.unwrap().len(), 22);
        let told: i64 = sqlx::query_scalar("SELECT count(*) FROM quote_expiries")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        assert_eq!(told, 22, "each once");
        // one that cannot be stored keeps all from it
        let twice = [(&quotes[0], None), (&quotes[2], None)];
        let error = quotes::promise(&mut connection, &twice, &as_of).await.unwrap_err();
        assert!(error.is_conflict_on("quotes_pkey"), "{error}");
        assert!(quotes::get(&mut connection, quotes[2].id).await.unwrap().is_none());
    }

    async fn change(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(self.world.store.pool()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_promised_on_what_is_no_longer_so() {
    let world = World::new().await;
    let rig = world.rig(1, 2, "0.65").await;
    let renter = world.sign_in(9).await;
    let id: QuoteId = world.quote(&renter, &rig).await["id"].as_str().unwrap().parse().unwrap();
    let quote = quotes::get(&mut world.store.read().await.unwrap(), id).await.unwrap().unwrap();
    let caller = Sha256::digest(renter.token.as_bytes()).into();
    let remembered = Remembered {
        caller,
        listed: UsdPerHour(UsdMicros::new(650_000)),
        gpus_all: 2,
        symbol: "USDC".to_owned(),
        decimals: Decimals::new(6).unwrap(),
        max_age: None,
    };
    let kept = Kept { world, quote, remembered };
    assert!(kept.holds(|_, _| {}).await, "as it was");

    // what is remembered is not what is there
    assert!(!kept.holds(|_, known| known.caller[0] ^= 1).await, "a session of nobody");
    let listed = |micros| UsdPerHour(UsdMicros::new(micros));
    assert!(
        !kept.holds(|_, known| known.listed = listed(650_001)).await,
        "a version at another price"
    );
    assert!(!kept.holds(|quote, _| quote.model.push('x')).await, "another model");
    let machine = MachineId::from_uuid(Uuid::now_v7());
    assert!(!kept.holds(|quote, _| quote.machine = machine).await, "another machine");
    assert!(!kept.holds(|quote, _| quote.expires_at = quote.created_at).await, "it is over");
    assert!(!kept.holds(|_, known| known.gpus_all = 3).await, "a machine with more GPUs");
    assert!(!kept.holds(|_, known| known.max_age = Some(Seconds(60))).await, "a token with a feed");
    let dearer =
        |quote: &mut Quote| quote.fx.as_mut().unwrap().usd_per_token = UsdMicros::new(2_000_000);
    assert!(!kept.holds(|quote, _| dearer(quote)).await, "a token at another price");
    let later = |quote: &mut Quote| quote.fx.as_mut().unwrap().at.0 += 1;
    assert!(!kept.holds(|quote, _| later(quote)).await, "a token priced at another time");
    let other = |quote: &mut Quote| quote.fx.as_mut().unwrap().source.push('x');
    assert!(!kept.holds(|quote, _| other(quote)).await, "a token priced by another");
    assert!(!kept.holds(|quote, _| quote.gpu_count = 3).await, "more GPUs than are free");
    assert!(
        !kept.holds(|quote, _| quote.extras.disk_gb = 1_000_000).await,
        "more disk than it has"
    );
    let provider: (Uuid,) = sqlx::query_as("SELECT account_id FROM offers")
        .fetch_one(kept.world.store.pool())
        .await
        .unwrap();
    let account = AccountId::from_uuid(provider.0);
    assert!(!kept.holds(|quote, _| quote.account = account).await, "somebody else's session");

    // what is there has changed: how, and how it is as before
    for (change, back) in [
        ("UPDATE offers SET state = 'paused'", "UPDATE offers SET state = 'listed'"),
        (
            "INSERT INTO offer_versions SELECT (jsonb_populate_record(v, '{\"version\": 2}')).* FROM offer_versions v;
             UPDATE offers SET version = 2",
            "UPDATE offers SET version = 1",
        ),
        ("UPDATE machines SET service = 'draining'", "UPDATE machines SET service = 'open'"),
        (
            "UPDATE machines SET last_heartbeat_at = last_heartbeat_at - interval '31 s'",
            "UPDATE machines SET last_heartbeat_at = last_heartbeat_at + interval '31 s'",
        ),
        (
            "UPDATE sessions SET created_at = created_at - interval '25 h', expires_at = expires_at - interval '24 h'",
            "UPDATE sessions SET created_at = created_at + interval '25 h', expires_at = expires_at + interval '24 h'",
        ),
        (
            "UPDATE sessions SET last_used_at = last_used_at - interval '26 h'",
            "UPDATE sessions SET last_used_at = last_used_at + interval '26 h'",
        ),
        ("UPDATE tokens SET usd_micros = usd_micros + 1", "UPDATE tokens SET usd_micros = usd_micros - 1"),
        ("UPDATE tokens SET decimals = decimals + 2", "UPDATE tokens SET decimals = decimals - 2"),
        ("UPDATE tokens SET symbol = symbol || '.e'", "UPDATE tokens SET symbol = replace(symbol, '.e', '')"),
        ("UPDATE tokens SET listed = false", "UPDATE tokens SET listed = true"),
        (
            "INSERT INTO price_feeds (token, feed, decimals, max_age_s)
             SELECT address, decode(repeat('01', 20), 'hex'), 8, 60 FROM tokens",
            "DELETE FROM price_feeds",
        ),
        (
            "INSERT INTO maintenance_windows (id, machine_id, during, reason, created_at)
             SELECT gen_random_uuid(), id, tstzrange(last_heartbeat_at + interval '20 min', last_heartbeat_at + interval '1 h'),
                    'a new fan', last_heartbeat_at FROM machines",
            "UPDATE maintenance_windows SET cancelled_at = created_at",
        ),
        ("UPDATE sessions SET revoked_at = now()", "UPDATE sessions SET revoked_at = NULL"),
    ] {
        kept.change(change).await;
        assert!(!kept.holds(|_, _| {}).await, "{change}");
        kept.change(back).await;
        assert!(kept.holds(|_, _| {}).await, "{back}");
    }
    // an oracle's price may be as old as was remembered, and not be doubted
    kept.change(
        "INSERT INTO price_feeds (token, feed, decimals, max_age_s)
                 SELECT address, decode(repeat('01', 20), 'hex'), 8, 60 FROM tokens",
    )
    .await;
    let sixty = |known: &mut Remembered| known.max_age = Some(Seconds(60));
    assert!(kept.holds(|_, known| sixty(known)).await);
    let past = "UPDATE tokens SET priced_at = priced_at - interval '61 s'";
    kept.change(past).await;
    let old = |quote: &mut Quote, known: &mut Remembered| {
        sixty(known);
        quote.fx.as_mut().unwrap().at.0 -= 61;
    };
    assert!(!kept.holds(old).await, "too old by now");
    kept.change("UPDATE tokens SET priced_at = priced_at + interval '1 s'").await;
    let just = |quote: &mut Quote, known: &mut Remembered| {
        sixty(known);
        quote.fx.as_mut().unwrap().at.0 -= 60;
    };
    assert!(kept.holds(just).await, "as old as it may be");
    kept.change("UPDATE tokens SET priced_at = priced_at + interval '60 s'").await;
    kept.change("UPDATE price_feeds SET doubted_at = now()").await;
    assert!(!kept.holds(|_, known| sixty(known)).await);
    kept.change("DELETE FROM price_feeds").await;
    kept.many_at_once().await;
    // the GPUs are somebody's
    let renter = kept.world.sign_in(19).await;
    let quote = kept.world.quote(&renter, &rig).await;
    kept.world.book(&renter, &quote, "k").await.ok(201);
    assert!(!kept.holds(|_, _| {}).await, "no GPU is free");
}
