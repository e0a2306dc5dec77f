//! pgbench's tables, as `pgbench --initialize --init-steps=dtGvp` makes them.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::BenchError;

const DEFINE: &str = "
    CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
    CREATE TABLE pgbench_tellers (tid int NOT NULL, bid int, tbalance int, filler char(84))
        WITH (fillfactor = 100);
    CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84))
        WITH (fillfactor = 100);
    CREATE TABLE pgbench_branches (bid int NOT NULL, bbalance int, filler char(88))
        WITH (fillfactor = 100);";

const KEYS: [&str; 7] = [
    "VACUUM ANALYZE pgbench_branches",
    "VACUUM ANALYZE pgbench_tellers",
    "VACUUM ANALYZE pgbench_accounts",
    "VACUUM ANALYZE pgbench_history",
    "ALTER TABLE pgbench_branches ADD PRIMARY KEY (bid)",
    "ALTER TABLE pgbench_tellers ADD PRIMARY KEY (tid)",
    "ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)",
];

/// Accounts of one branch.
pub(super) const ACCOUNTS: u32 = 100_000;
/// Tellers of one branch.
pub(super) const TELLERS: u32 = 10;

/// Makes and fills the tables: `scale` branches, ten tellers and 100,000 accounts each.
pub(super) async fn load(connection: &mut PgConnection, scale: u32) -> Result<(), BenchError> {
    let (tellers, accounts) = (scale.saturating_mul(TELLERS), scale.saturating_mul(ACCOUNTS));
    let fill = format!(
        "INSERT INTO pgbench_branches (bid, bbalance)
             SELECT bid, 0 FROM generate_series(1, {scale}) AS bid;
         INSERT INTO pgbench_tellers (tid, bid, tbalance)
             SELECT tid, (tid - 1) / {TELLERS} + 1, 0 FROM generate_series(1, {tellers}) AS tid;
         INSERT INTO pgbench_accounts (aid, bid, abalance, filler)
             SELECT aid, (aid - 1) / {ACCOUNTS} + 1, 0, '' FROM generate_series(1, {accounts}) AS aid;"
    );
    let statements = [DEFINE.to_owned(), fill];
    for statement in statements.into_iter().chain(KEYS.map(str::to_owned)) {
        // Made of constants and numbers only.
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *connection)
            .await
            .map_err(BenchError::sql("load pgbench's tables"))?;
    }
    Ok(())
}

/// What the tables say of all transactions so far.
pub(super) struct Sums {
    pub(super) rows: i64,
    pub(super) history: i64,
    pub(super) branches: i64,
    pub(super) tellers: i64,
}

pub(super) async fn sums(connection: &mut PgConnection) -> Result<Sums, BenchError> {
    // The accounts' own sum would read 2,000,000 rows after each slice.
    let (rows, history, branches, tellers) = sqlx::query_as(
        "SELECT count(*), coalesce(sum(delta), 0),
                (SELECT sum(bbalance) FROM pgbench_branches),
                (SELECT sum(tbalance) FROM pgbench_tellers)
         FROM pgbench_history",
    )
    .fetch_one(connection)
    .await
    .map_err(BenchError::sql("add up pgbench's tables"))?;
    Ok(Sums { rows, history, branches, tellers })
}
