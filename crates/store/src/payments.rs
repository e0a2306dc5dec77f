//! Prices that were given to somebody unknown, to be paid in the next request, and what the payer gets with the rental.

use domain::{
    id::{AccountId, QuoteId, RentalId},
    time::UnixSeconds,
};

use crate::{
    Connection, StoreError,
    accounts::Account,
    convert::{address, seconds, ts},
    quotes::Quote,
};

/// How many dead rows each new one clears away, so that the tables stay small without a timer.
const CLEARED: i64 = 20;

/// A price without a payer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentOffer {
    /// The quote, but for its renter: account, renter, the rental's id and the signature are nobody's.
    pub quote: Quote,
    /// The request that it answers.
    pub request_hash: [u8; 32],
}

/// Keeps a price, and clears a few that are over. False if `most` are open already: then it is not kept.
///
/// # Errors
/// The database's.
pub async fn offer(
    tx: &mut Connection,
    offer: &PaymentOffer,
    most: i64,
) -> Result<bool, StoreError> {
    let (quote, now) = (&offer.quote, offer.quote.created_at);
    let body = serde_json::to_value(quote).map_err(StoreError::corrupt)?;
    let done = sqlx::query!(
        "WITH old AS (
             DELETE FROM payment_offers WHERE id IN
                (SELECT id FROM payment_offers WHERE expires_at < $4
                 ORDER BY expires_at LIMIT $6 FOR UPDATE SKIP LOCKED))
         INSERT INTO payment_offers (id, request_hash, quote, created_at, expires_at)
         SELECT $1, $2, $3, $4, $5
         WHERE (SELECT count(*) FROM (SELECT FROM payment_offers WHERE expires_at >= $4 LIMIT $7) o) < $7",
        quote.id.uuid(),
        offer.request_hash.as_slice(),
        body,
        ts(now)?,
        ts(quote.expires_at)?,
        CLEARED,
        most,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The price that was given under this id, while it is kept.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn find(
    connection: &mut Connection,
    id: QuoteId,
) -> Result<Option<PaymentOffer>, StoreError> {
    let row =
        sqlx::query!("SELECT request_hash, quote FROM payment_offers WHERE id = $1", id.uuid())
            .fetch_optional(connection)
            .await?;
    row.map(|row| {
        Ok(PaymentOffer {
            quote: serde_json::from_value(row.quote).map_err(StoreError::corrupt)?,
            request_hash: row
                .request_hash
                .try_into()
                .map_err(|_| StoreError::corrupt("a hash that is not 32 bytes"))?,
        })
    })
    .transpose()
}

/// Gives the payer a token for its rental, and clears a few that are over.
///
/// # Errors
/// The database's.
pub async fn give_token(
    tx: &mut Connection,
    token_hash: &[u8; 32],
    rental: RentalId,
    account: AccountId,
    now: UnixSeconds,
    expires_at: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "WITH old AS (
             DELETE FROM rental_tokens WHERE token_hash IN
                (SELECT token_hash FROM rental_tokens WHERE expires_at < $4
                 LIMIT $6 FOR UPDATE SKIP LOCKED))
         INSERT INTO rental_tokens (token_hash, rental_id, account_id, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5)",
        token_hash.as_slice(),
        rental.uuid(),
        account.uuid(),
        ts(now)?,
        ts(expires_at)?,
        CLEARED,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What a payer has for a rental.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RentalToken {
    /// For which rental.
    pub rental: RentalId,
    /// Whose.
    pub account: Account,
    /// When it ends by itself.
    pub expires_at: UnixSeconds,
}

/// Whose token this is, and for which rental, unless its time is over.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn find_token(
    connection: &mut Connection,
    token_hash: &[u8; 32],
    now: UnixSeconds,
) -> Result<Option<RentalToken>, StoreError> {
    let row = sqlx::query!(
        "SELECT t.rental_id, t.expires_at, a.id, a.address, a.created_at
         FROM rental_tokens t JOIN accounts a ON a.id = t.account_id
         WHERE t.token_hash = $1 AND t.expires_at > $2",
        token_hash.as_slice(),
        ts(now)?,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let account = Account {
            id: AccountId::from_uuid(row.id),
            address: address(&row.address)?,
            created_at: seconds(row.created_at)?,
        };
        let expires_at = seconds(row.expires_at)?;
        Ok(RentalToken { rental: RentalId::from_uuid(row.rental_id), account, expires_at })
    })
    .transpose()
}

/// Ends all tokens of an account. For which rentals they were.
///
/// # Errors
/// The database's.
pub(crate) async fn end_tokens(
    tx: &mut Connection,
    account: AccountId,
    now: UnixSeconds,
) -> Result<Vec<RentalId>, StoreError> {
    let ended = sqlx::query_scalar!(
        "DELETE FROM rental_tokens WHERE account_id = $1 AND expires_at > $2 RETURNING rental_id",
        account.uuid(),
        ts(now)?,
    )
    .fetch_all(tx)
    .await?;
    Ok(ended.into_iter().map(RentalId::from_uuid).collect())
}
