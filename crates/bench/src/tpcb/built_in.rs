//! pgbench's `tpcb-like` script over prepared statements, where there is no pgbench.

use sqlx::PgConnection;

use super::tables::{ACCOUNTS, TELLERS};
use crate::{
    BenchError,
    closed_loop::{Client, Step},
    rng::SplitMix64,
};

/// How the report names it: never to be taken for pgbench itself.
pub(super) const NAME: &str =
    concat!("built-in tpcb-like client ", env!("CARGO_PKG_VERSION"), " (sqlx, prepared)");

/// One client with its connection.
pub(super) struct Teller {
    connection: PgConnection,
    rng: SplitMix64,
    scale: u32,
}

impl Teller {
    pub(super) fn new(connection: PgConnection, scale: u32, seed: u64, client: u64) -> Self {
        Self { connection, rng: SplitMix64::part(seed, client), scale }
    }

    /// From 1 to `each` times the scale, as `random(1, ..)` in pgbench.
    fn id(&mut self, each: u32) -> i32 {
        let bound = u64::from(self.scale).saturating_mul(u64::from(each));
        i32::try_from(self.rng.below(bound).saturating_add(1)).unwrap_or(1)
    }

    /// The seven statements of the script, one round trip each.
    async fn transaction(&mut self) -> Result<(), sqlx::Error> {
        let (account, branch, teller) = (self.id(ACCOUNTS), self.id(1), self.id(TELLERS));
        let delta = i32::try_from(self.rng.below(10_001)).unwrap_or(0).saturating_sub(5_000);
        let connection = &mut self.connection;
        // As pgbench does, not through `Store::write`: this is what the store is compared with.
        sqlx::query("BEGIN").execute(&mut *connection).await?;
        sqlx::query("UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2")
            .bind(delta)
            .bind(account)
            .execute(&mut *connection)
            .await?;
        sqlx::query("SELECT abalance FROM pgbench_accounts WHERE aid = $1")
            .bind(account)
            .fetch_one(&mut *connection)
            .await?;
        sqlx::query("UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2")
            .bind(delta)
            .bind(teller)
            .execute(&mut *connection)
            .await?;
        sqlx::query("UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2")
            .bind(delta)
            .bind(branch)
            .execute(&mut *connection)
            .await?;
        sqlx::query(
            "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)
             VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP)",
        )
        .bind(teller)
        .bind(branch)
        .bind(account)
        .bind(delta)
        .execute(&mut *connection)
        .await?;
        sqlx::query("END").execute(&mut *connection).await?;
        Ok(())
    }
}

impl Client for Teller {
    async fn once(&mut self) -> Result<Step, BenchError> {
        self.transaction().await.map_err(BenchError::sql("run a TPC-B transaction"))?;
        Ok(Step::Done(1))
    }
}
