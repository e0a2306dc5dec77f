//! News of sessions and keys that were revoked: whatever goes on in their name has to end, in every process. News of
//! accounts come on the same connection.

use domain::id::AccountId;
use uuid::Uuid;

use crate::{Connection, Store, StoreError, account_events};

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

/// Of these sessions, keys and rentals: which sessions and keys are there and were not revoked, and for which rentals there
/// is a token.
///
/// # Errors
/// The database's.
pub async fn good(connection: &mut Connection, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT id AS "id!" FROM sessions WHERE id = ANY($1) AND revoked_at IS NULL
           UNION ALL SELECT id FROM api_keys WHERE id = ANY($1) AND revoked_at IS NULL
           UNION ALL SELECT rental_id FROM rental_tokens WHERE rental_id = ANY($1)"#,
        ids,
    )
    .fetch_all(connection)
    .await?)
}

/// Hears of revocations and of accounts' news, in whichever process they happen.
#[derive(Debug)]
pub struct Listener {
    inner: sqlx::postgres::PgListener,
}

/// What a [`Listener`] heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// This session or key was revoked.
    Revoked(Uuid),
    /// Something has happened to this account: there are events for its streams.
    Account(AccountId),
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
        inner.listen_all([CHANNEL, account_events::CHANNEL]).await?;
        Ok(Self { inner })
    }

    /// Waits for the next news.
    ///
    /// # Errors
    /// The database's, if the connection cannot be made anew.
    pub async fn next(&mut self) -> Result<Heard, StoreError> {
        let Some(notification) = self.inner.try_recv().await? else { return Ok(Heard::Gap) };
        let is_account = notification.channel() == account_events::CHANNEL;
        // what is no id is taken for news that were not understood
        Ok(notification.payload().parse().map_or(Heard::Gap, |id| {
            if is_account { Heard::Account(AccountId::from_uuid(id)) } else { Heard::Revoked(id) }
        }))
    }
}
