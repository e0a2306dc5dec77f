//! The connection pool and the one way to begin a transaction.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use domain::time::{Clock, UnixMillis};
use sqlx::{
    Connection as _, PgConnection, PgPool, Postgres,
    migrate::MigrateError,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{Policy, StoreError, TxError, catalog, seam, shelf::Shelf};

/// What every query function takes.
pub type Connection = PgConnection;

/// A boxed unit of work, as [`Store::write`] takes it.
pub type Unit<'c, T, R> = Pin<Box<dyn Future<Output = Result<T, TxError<R>>> + Send + 'c>>;

/// All migrations, embedded.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// PostgreSQL majors that every test passes on.
const SUPPORTED: std::ops::RangeInclusive<u32> = 15..=18;
const CONTENTION_RETRIES: u32 = 8;
const STATEMENT_TIMEOUT: &str = "10s";
const LOCK_TIMEOUT: &str = "5s";
/// How many connections may turn out to have ended, one after the other, before a unit of work has begun.
const BEGIN_TRIES: u32 = 4;
/// How often a migration is tried that does not get its locks. Others wait behind it while it waits, and go on in the pauses.
const MIGRATION_TRIES: u32 = 10;
const MIGRATION_PAUSE: Duration = Duration::from_secs(1);
/// A connection that has been idle for so long is asked whether it still lives before it is lent.
pub(crate) const RESTED: Duration = Duration::from_millis(20);

/// Whether a migration stopped because somebody held a lock.
fn is_in_the_way(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(|error| error.code());
    // deadlock_detected, lock_not_available
    code.is_some_and(|code| code == "40P01" || code == "55P03")
}

/// The database, the clock and the policy that together decide what is written.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    shelf: Arc<Shelf>,
    clock: Arc<dyn Clock>,
    policy: Policy,
}

impl Store {
    /// Connects, with at most `connections` connections, waiting at most 5 s for one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the server cannot be reached, [`StoreError::Bug`] if the URL is
    /// not one of PostgreSQL.
    pub async fn connect(
        url: &str,
        connections: u32,
        clock: Arc<dyn Clock>,
        policy: Policy,
    ) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
            ("idle_in_transaction_session_timeout", "30s"),
            ("timezone", "UTC"),
            // no statement here is long enough to be worth compiling, and what is estimated to be is compiled each time
            ("jit", "off"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(5))
            // A connection that comes back is asked whether it lives, which is enough for one that did just
            // now; one that has rested is asked again before it is lent.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for >= RESTED {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_with(options)
            .await?;
        let shelf = Arc::new(Shelf::of(connections));
        Ok(Self { pool, shelf, clock, policy })
    }

    /// Wraps a pool that a test made.
    #[must_use]
    pub fn from_pool(pool: PgPool, clock: Arc<dyn Clock>, policy: Policy) -> Self {
        let shelf = Arc::new(Shelf::of(0));
        Self { pool, shelf, clock, policy }
    }

    /// Applies all pending migrations, and writes the catalog. One that does not get its locks beside the work that goes on,
    /// or that was chosen to end a deadlock, has changed nothing and is tried again.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if an applied migration differs from the one built in, or one cannot be applied.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut tries = 1;
        while let Err(error) = MIGRATOR.run(&self.pool).await {
            if tries >= MIGRATION_TRIES || !is_in_the_way(&error) {
                return Err(StoreError::corrupt(error));
            }
            tracing::warn!(%error, "a migration did not get its locks; trying again");
            tokio::time::sleep(MIGRATION_PAUSE).await;
            tries = tries.saturating_add(1);
        }
        self.fill_catalog().await
    }

    /// Writes the program's GPU models and templates where the database has others or none.
    ///
    /// # Errors
    /// The database's, or [`StoreError::Corrupt`].
    pub async fn fill_catalog(&self) -> Result<(), StoreError> {
        let now = self.now().seconds();
        let filled = self
            .write::<(), std::convert::Infallible, _>("catalog.fill", move |tx| {
                Box::pin(async move { Ok(catalog::fill(tx, now).await?) })
            })
            .await;
        filled.map_err(|error| match error {
            TxError::Store(error) => error,
            TxError::Refused(never) => match never {},
        })
    }

    /// The time, from the clock given at start.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// The timeouts and prices that the operator set.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The pool, for reads and for `LISTEN`. Writing goes through [`Store::write`].
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection for reads.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if none comes free in 5 s.
    pub async fn read(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        Ok(self.shelf.read(&self.pool).await?)
    }

    /// A connection that was kept a moment ago, or else one of the pool. It must be between transactions when it is
    /// [kept](Self::keep) again.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if none comes free in 5 s.
    pub async fn borrow(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        Ok(self.shelf.borrow(&self.pool).await?)
    }

    /// Keeps a connection, on which all that was begun has ended, for whoever borrows next: neither the pool nor the server
    /// is asked anything. One that is dropped instead goes back to the pool, which asks whether it still serves.
    pub fn keep(&self, connection: PoolConnection<Postgres>) {
        self.shelf.keep(&self.pool, connection);
    }

    /// Closes the pool, and waits until all connections are back.
    pub async fn close(&self) {
        let closed = self.pool.close();
        self.shelf.clear();
        closed.await;
    }

    /// Runs `work` in one transaction and commits it if it returns `Ok`.
    ///
    /// The transaction runs in a task of its own: a caller that goes away (an HTTP client that hangs
    /// up) neither aborts it half way nor leaves a connection inside a transaction. Serialization
    /// failures and deadlocks are retried with the same `work`, which therefore must have no effects
    /// outside the database.
    ///
    /// # Errors
    /// What `work` returned, or the store's own error; nothing is stored in either case.
    pub async fn write<T, R, F>(&self, name: &'static str, work: F) -> Result<T, TxError<R>>
    where
        T: Send + 'static,
        R: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> Unit<'c, T, R> + Send + Sync + 'static,
    {
        seam::at(name).await;
        let (pool, shelf) = (self.pool.clone(), self.shelf.clone());
        let task = tokio::spawn(async move {
            let mut attempt = 0_u32;
            loop {
                attempt = attempt.saturating_add(1);
                match run(&pool, &shelf, &work).await {
                    Err(TxError::Store(error))
                        if error.is_contention() && attempt < CONTENTION_RETRIES =>
                    {
                        metrics::counter!("weir_store_retries_total", "unit" => name).increment(1);
                        tracing::debug!(unit = name, attempt, %error, "transaction retried");
                    }
                    done => return done,
                }
            }
        });
        let done = match task.await {
            Ok(done) => done,
            Err(join) => Err(StoreError::Bug(format!("{name}: {join}")).into()),
        };
        seam::at(name).await;
        done
    }
}

/// Closes its connection, unless it is known whether that is inside a transaction. A `begin()` that is dropped has sent
/// BEGIN, and sqlx does not know it (#4393): the next borrower would write into that transaction.
struct Lent {
    connection: Option<PoolConnection<Postgres>>,
    is_known: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.as_mut().filter(|_| !self.is_known) {
            connection.close_on_drop();
        }
    }
}

async fn run<T, R, F>(pool: &PgPool, shelf: &Shelf, work: &F) -> Result<T, TxError<R>>
where
    F: for<'c> Fn(&'c mut PgConnection) -> Unit<'c, T, R>,
{
    let mut tries = 0_u32;
    let mut lent: Lent;
    let mut tx = loop {
        lent = Lent { connection: None, is_known: false };
        let connection = shelf.borrow(pool).await.map_err(StoreError::from)?;
        let connection = lent.connection.insert(connection);
        tries = tries.saturating_add(1);
        #[expect(clippy::disallowed_methods, reason = "the one place that begins")]
        match connection.begin().await.map_err(StoreError::from) {
            Ok(begun) => break begun,
            // it ended while it rested, as when the server is started anew: nothing was begun on it
            Err(StoreError::Unavailable(_)) if tries < BEGIN_TRIES => {}
            Err(error) => return Err(error.into()),
        }
    };
    // from here on sqlx rolls back whatever is dropped
    lent.is_known = true;
    let value = work(&mut tx).await?;
    tx.commit().await.map_err(StoreError::from)?;
    if let Some(connection) = lent.connection.take() {
        shelf.keep(pool, connection);
    }
    Ok(value)
}

/// Checks that the server is a supported PostgreSQL and that its settings keep a commit durable.
///
/// # Errors
/// One line that says what was found and what is needed.
pub async fn check_server(pool: &PgPool) -> Result<u32, StoreError> {
    let number: String = sqlx::query_scalar("SHOW server_version_num")
        .fetch_one(pool)
        .await
        .map_err(StoreError::from)?;
    let major = number.parse::<u32>().map_err(StoreError::corrupt)? / 10_000;
    if !SUPPORTED.contains(&major) {
        return Err(StoreError::Bug(format!(
            "PostgreSQL {major} is not supported; use {} to {}",
            SUPPORTED.start(),
            SUPPORTED.end()
        )));
    }
    Ok(major)
}

#[cfg(test)]
mod tests {
    use testkit::TestDb;

    use super::*;

    async fn left_inside(url: &str, is_known: bool) -> (i32, i32) {
        let pool = PgPoolOptions::new().max_connections(1).connect(url).await.unwrap();
        let pid = async |connection: &mut PgConnection| -> i32 {
            let pid = sqlx::query_scalar("SELECT pg_backend_pid()");
            pid.fetch_one(connection).await.unwrap()
        };
        let mut connection = pool.acquire().await.unwrap();
        let first = pid(&mut connection).await;
        // as a `begin()` leaves it that is dropped before it is answered
        sqlx::raw_sql("BEGIN").execute(&mut *connection).await.unwrap();
        drop(Lent { connection: Some(connection), is_known });
        let mut next = pool.acquire().await.unwrap();
        (first, pid(&mut next).await)
    }

    #[tokio::test]
    async fn nobody_gets_a_connection_that_may_be_inside_a_transaction() {
        let db = TestDb::new(None).await.unwrap();
        let (first, next) = left_inside(&db.url, false).await;
        assert_ne!(first, next, "it was closed");
        let (first, next) = left_inside(&db.url, true).await;
        assert_eq!(first, next, "it went back to the pool");
    }
}
