//! Who holds the API process: its database, its memory, and a wallet of its own.

use alloy::primitives::{Address, B256, Bytes};
use domain::{
    money::Amount,
    time::{Seconds, UnixSeconds},
};
use serde_json::Value;
use store::intents::Call;
use testkit::{DEV_ADDRESSES, DEV_KEYS};
use tests::market::{Booked, Market};
use uuid::Uuid;

pub const KEY: &str = DEV_KEYS[8];

pub fn thief() -> Address {
    DEV_ADDRESSES[8].parse().unwrap()
}

/// Forged calls are told from true ones by their age.
const FORGED: &str = "to_timestamp(0)";

/// Any statement, with the triggers and rules of the schema out of its way.
pub async fn write(market: &Market, statement: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()))
        .execute(market.store.pool())
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// A call that nobody decided on, in the worker's queue.
pub async fn want(market: &Market, rental: &Booked, purpose: &str, args: &Value) {
    let statement = format!(
        "INSERT INTO chain_intents (id, rental_id, purpose, seq, args, state, not_before, created_at)
         SELECT $1, $2, $3, COALESCE(max(seq), 0) + 1, $4, 'queued', {FORGED}, {FORGED}
         FROM chain_intents WHERE rental_id = $2 AND purpose = $3"
    );
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(Uuid::now_v7())
        .bind(rental.id.uuid())
        .bind(purpose)
        .bind(args)
        .execute(market.store.pool())
        .await
        .unwrap();
}

pub async fn want_call(market: &Market, rental: &Booked, call: &Call) {
    want(market, rental, call.purpose(), &serde_json::to_value(call).unwrap()).await;
}

/// Takes the forged calls out again that were not done, so that the next attack is seen by itself.
pub async fn forget(market: &Market) {
    let statement = format!(
        "DELETE FROM chain_intents WHERE state IN ('queued', 'refused') AND created_at = {FORGED}"
    );
    write(market, &statement).await;
}

/// The worker works on for some rounds: a loop that stumbles over a lie says so and tries again.
pub async fn work(market: &Market) {
    for _ in 0..4 {
        market.sync().await;
        market.engine.lane.tick().await.ok();
        market.engine.watcher.tick().await.ok();
        market.engine.conductor.tick().await.ok();
        market.mine().await;
    }
}

/// A call of every kind, with ends and amounts out of the attacker's head.
pub fn every_call(market: &Market, rental: &Booked) -> Vec<Call> {
    let now = market.now();
    vec![
        Call::Start { started_at: now },
        Call::Close { stopped_at: now, credit: Seconds(0) },
        Call::Close { stopped_at: now, credit: Seconds(u32::MAX) },
        Call::Cancel,
        Call::Finalize,
        Call::Release { until: UnixSeconds(u64::from(u32::MAX)) },
        lock(rental.deposit, Bytes::from(vec![27; 65])),
        lock(Amount::MAX, Bytes::new()),
    ]
}

pub fn lock(deposit: Amount, signature: Bytes) -> Call {
    let (valid_after, valid_before) = (UnixSeconds(0), UnixSeconds(u64::from(u32::MAX)));
    Call::Lock { deposit, valid_after, valid_before, signature }
}

/// What both sides are said to have signed.
pub async fn sign_end(
    market: &Market,
    rental: &Booked,
    side: &str,
    (stopped_at, credit): (UnixSeconds, Seconds),
    signature: &[u8],
) {
    sqlx::query(
        "INSERT INTO end_signatures (rental_id, side, stopped_at, credit_s, signature, signed_at)
         VALUES ($1, $2, to_timestamp($3), $4, $5, now())",
    )
    .bind(rental.id.uuid())
    .bind(side)
    .bind(i64::try_from(stopped_at.get()).unwrap())
    .bind(i64::from(credit.get()))
    .bind(signature)
    .execute(market.store.pool())
    .await
    .unwrap();
}

pub fn hex(bytes: &[u8]) -> String {
    format!("'\\x{}'::bytea", alloy::primitives::hex::encode(bytes))
}

pub fn hex_of(id: B256) -> String {
    hex(id.as_slice())
}
