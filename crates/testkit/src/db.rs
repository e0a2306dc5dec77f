//! A database per test.

use std::time::Duration;

use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use crate::postgres::PostgresError;

mod shared;

/// Guards the making of templates; any number that nobody else uses.
const TEMPLATE_LOCK: i64 = 0x7765_6972_7470;
/// Connections of a test's pool. Two tests at a time on two cores stay far below the server's 200.
const POOL_SIZE: u32 = 10;

/// Begins a transaction on a test's own connection; the program has one place that does, `Store::write`.
///
/// # Errors
/// The database's.
pub async fn begin(
    connection: &mut PgConnection,
) -> Result<sqlx::Transaction<'_, sqlx::Postgres>, sqlx::Error> {
    #[expect(clippy::disallowed_methods, reason = "a test does not drop what it begins")]
    connection.begin().await
}

/// Why a test has no database.
#[derive(Debug, thiserror::Error)]
pub enum TestDbError {
    /// No server.
    #[error(transparent)]
    Server(#[from] PostgresError),
    /// The server refused.
    #[error("cannot {doing}: {source}")]
    Sql {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: sqlx::Error,
    },
    /// The migrations do not apply.
    #[error("cannot migrate the template database: {0}")]
    Migrate(#[from] MigrateError),
    /// The folder of the run's cluster could not be used.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// A fresh database with the migrations applied, and a pool on it.
///
/// The server is `DATABASE_URL` when set (its role must be allowed to create databases), else one
/// throwaway cluster per test run: the first test that needs it starts it under the target folder,
/// the others, in this process or another, find it there, and a watchdog stops and removes it when
/// the run's parent (nextest or cargo) has gone. Databases are copies of a template that is named
/// by the migrations' checksums, and are never dropped: look into one after a failed test.
#[derive(Debug, Clone)]
pub struct TestDb {
    /// The database's address, for further pools and for programs under test.
    pub url: String,
    /// Ten connections at most.
    pub pool: PgPool,
}

impl TestDb {
    /// A database of its own for one test; `None`: an empty one.
    ///
    /// # Errors
    /// When there is no server, or the migrations do not apply.
    pub async fn new(migrations: Option<&Migrator>) -> Result<Self, TestDbError> {
        let server = shared::server_url().await?;
        let mut connection = connect(&with_database(&server, "postgres")).await?;
        let template = match migrations {
            Some(migrations) => ensure_template(&mut connection, &server, migrations).await?,
            None => "template0".into(),
        };
        let name: String =
            sqlx::query_scalar("SELECT 'test_' || replace(gen_random_uuid()::text, '-', '')")
                .fetch_one(&mut connection)
                .await
                .map_err(sql("name the test's database"))?;
        let statement = format!("CREATE DATABASE \"{name}\" TEMPLATE \"{template}\"");
        execute(&mut connection, statement, "create the test's database").await?;
        connection.close().await.map_err(sql("disconnect"))?;
        let url = with_database(&server, &name);
        let pool = PgPoolOptions::new()
            .max_connections(POOL_SIZE)
            .acquire_timeout(Duration::from_secs(20))
            .connect(&url)
            .await
            .map_err(sql("connect to the test's database"))?;
        Ok(Self { url, pool })
    }
}

/// Makes the template once: migrated under another name, then renamed, so that one whose making
/// was interrupted is not taken for whole.
async fn ensure_template(
    connection: &mut PgConnection,
    server: &str,
    migrations: &Migrator,
) -> Result<String, TestDbError> {
    let name = template_name(connection, migrations).await?;
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(TEMPLATE_LOCK)
        .execute(&mut *connection)
        .await
        .map_err(sql("lock the template"))?;
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(&name)
            .fetch_one(&mut *connection)
            .await
            .map_err(sql("look for the template"))?;
    if !exists {
        let unfinished = format!("{name}_unfinished");
        let drop = format!("DROP DATABASE IF EXISTS \"{unfinished}\"");
        execute(connection, drop, "drop an unfinished template").await?;
        let create = format!("CREATE DATABASE \"{unfinished}\" TEMPLATE template0");
        execute(connection, create, "create the template").await?;
        let mut inside = connect(&with_database(server, &unfinished)).await?;
        inside.ensure_migrations_table("_sqlx_migrations").await?;
        migrations.run_direct(None, &mut inside, false).await?;
        inside.close().await.map_err(sql("disconnect"))?;
        let rename = format!("ALTER DATABASE \"{unfinished}\" RENAME TO \"{name}\"");
        execute(connection, rename, "rename the template").await?;
    }
    sqlx::query("SELECT pg_advisory_unlock($1)")
        .bind(TEMPLATE_LOCK)
        .execute(connection)
        .await
        .map_err(sql("unlock the template"))?;
    Ok(name)
}

/// The server hashes the checksums, which spares a dependency.
async fn template_name(
    connection: &mut PgConnection,
    migrations: &Migrator,
) -> Result<String, TestDbError> {
    let mut identity = Vec::new();
    for migration in migrations.iter() {
        identity.extend_from_slice(&migration.version.to_be_bytes());
        identity.extend_from_slice(&migration.checksum);
    }
    sqlx::query_scalar("SELECT 'weir_template_' || md5($1)")
        .bind(identity)
        .fetch_one(connection)
        .await
        .map_err(sql("name the template"))
}

async fn connect(url: &str) -> Result<PgConnection, TestDbError> {
    PgConnection::connect(url).await.map_err(sql("connect to PostgreSQL"))
}

async fn execute(
    connection: &mut PgConnection,
    statement: String,
    doing: &'static str,
) -> Result<(), TestDbError> {
    // Every name in it was made here: letters, digits and underscores.
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map_err(sql(doing))?;
    Ok(())
}

/// `server` with its path replaced; a query (`?sslmode=..`) stays.
fn with_database(server: &str, name: &str) -> String {
    let (address, query) = match server.split_once('?') {
        Some((address, query)) => (address, format!("?{query}")),
        None => (server, String::new()),
    };
    let authority_at = address.find("://").map_or(0, |at| at.saturating_add(3));
    let (scheme, rest) = address.split_at_checked(authority_at).unwrap_or(("", address));
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    format!("{scheme}{authority}/{name}{query}")
}

fn sql(doing: &'static str) -> impl FnOnce(sqlx::Error) -> TestDbError {
    move |source| TestDbError::Sql { doing, source }
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn only_the_database_changes() {
        let of = |url| with_database(url, "x");
        assert_eq!(of("postgres://u:p@h:1/db"), "postgres://u:p@h:1/x");
        assert_eq!(of("postgres://h"), "postgres://h/x");
        assert_eq!(of("postgres://h/a?sslmode=disable"), "postgres://h/x?sslmode=disable");
    }
}
