//! News of sessions and keys that were revoked: whatever goes on in their name has to end, in every process.

use uuid::Uuid;

use crate::{Connection, Store, StoreError};

const CHANNEL: &str = "weir_revoked";

/// Tells everybody who listens, when the transaction commits.
///
/// # Errors
/// The database's.
pub async fn announce(tx: &mut Connection, ids: &[Uuid]) -> Result<(), StoreError> {
    sqlx::query!("SELECT pg_notify($1, id::text) FROM unnest($2::uuid[]) AS id", CHANNEL, ids,)
        .fetch_all(tx)
        .await?;
    Ok(())
}

/// Whether the session or key with this id is there and was not revoked.
///
/// # Errors
/// The database's.
pub async fn is_good(connection: &mut Connection, id: Uuid) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM sessions WHERE id = $1 AND revoked_at IS NULL)
               OR EXISTS (SELECT FROM api_keys WHERE id = $1 AND revoked_at IS NULL) AS "good!""#,
        id,
    )
    .fetch_one(connection)
    .await?)
}

/// Hears of revocations, in whichever process they happen.
#[derive(Debug)]
pub struct Listener {
    inner: sqlx::postgres::PgListener,
}

/// What a [`Listener`] heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// This session or key was revoked.
    Revoked(Uuid),
    /// The connection was lost and made anew: anything may have been missed in between.
    Gap,
}

impl Listener {
    /// Begins to listen. Takes one connection of the pool for as long as it lives.
    ///
    /// # Errors
    /// The database's.
    pub async fn start(store: &Store) -> Result<Self, StoreError> {
        let mut inner = sqlx::postgres::PgListener::connect_with(store.pool()).await?;
        inner.listen(CHANNEL).await?;
        Ok(Self { inner })
    }

    /// Waits for the next news.
    ///
    /// # Errors
    /// The database's, if the connection cannot be made anew.
    pub async fn next(&mut self) -> Result<Heard, StoreError> {
        let Some(notification) = self.inner.try_recv().await? else { return Ok(Heard::Gap) };
        // what is no id is taken for news that were not understood
        Ok(notification.payload().parse().map_or(Heard::Gap, Heard::Revoked))
    }
}
