//! Prices that were given to somebody unknown, to be paid in the next request, and what the payer gets with the rental.

use domain::{
    id::{AccountId, QuoteId, RentalId},
    time::{Seconds, UnixSeconds},
};

use crate::{
    Connection, StoreError,
    accounts::Account,
    convert::{address, seconds, ts},
    quotes::Quote,
    revocations,
};

/// How many dead rows each new one clears away, so that the tables stay small also while nobody else clears them.
const CLEARED: i64 = 20;
/// So many prices of a network are kept until they are over, however many others ask.
const KEPT: i64 = 10;
/// A payment of a price that began in time has ended after so long, by anybody's clock.
const MARGIN: Seconds = Seconds(60);
/// The most tokens of one rental.
pub const MOST_TOKENS: i64 = 8;

/// A price without a payer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentOffer {
    /// The quote, but for its renter: account, renter, the rental's id and the signature are nobody's.
    pub quote: Quote,
    /// The request that it answers.
    pub request_hash: [u8; 32],
}

/// How many prices may be open.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// In all.
    pub most: i64,
    /// Of one network.
    pub share: i64,
}

/// What became of a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    Yes,
    /// It is not: the network has its share.
    ShareUsed,
    /// It is not: there is no room for anybody.
    Full,
}

/// Keeps a price for a network, and clears a few that are over, if there is room.
///
/// # Errors
/// The database's.
pub async fn offer(
    tx: &mut Connection,
    offer: &PaymentOffer,
    network: &[u8],
    room: Room,
) -> Result<Kept, StoreError> {
    let (quote, now) = (&offer.quote, offer.quote.created_at);
    let body = serde_json::to_value(quote).map_err(StoreError::corrupt)?;
    let open = sqlx::query!(
        r#"SELECT (SELECT count(*) FROM (SELECT FROM payment_offers WHERE expires_at >= $1 LIMIT $3) o) AS "all!",
                  (SELECT count(*) FROM (SELECT FROM payment_offers
                                         WHERE network = $2 AND expires_at >= $1 LIMIT $4) o) AS "here!""#,
        ts(now)?,
        network,
        room.most,
        room.share,
    )
    .fetch_one(&mut *tx)
    .await?;
    if open.here >= room.share {
        return Ok(Kept::ShareUsed);
    }
    if open.all >= room.most && !give_way(&mut *tx, now, open.here).await? {
        return Ok(Kept::Full);
    }
    sqlx::query!(
        "WITH old AS (
             DELETE FROM payment_offers WHERE id IN
                (SELECT id FROM payment_offers WHERE expires_at < $4
                 ORDER BY expires_at LIMIT $6 FOR UPDATE SKIP LOCKED))
         INSERT INTO payment_offers (id, request_hash, quote, created_at, expires_at, network)
         VALUES ($1, $2, $3, $4, $5, $7)",
        quote.id.uuid(),
        offer.request_hash.as_slice(),
        body,
        ts(now)?,
        ts(quote.expires_at)?,
        CLEARED,
        network,
    )
    .execute(tx)
    .await?;
    Ok(Kept::Yes)
}

/// Drops the price that ends first of the network that has most of them, if that has two more than the one that asks and
/// more than [`KEPT`]: so a hundred networks that take all the room have it to themselves until somebody else asks. True if
/// there was one.
async fn give_way(tx: &mut Connection, now: UnixSeconds, here: i64) -> Result<bool, StoreError> {
    let dropped = sqlx::query!(
        "WITH most AS (
             SELECT network FROM payment_offers WHERE expires_at >= $1
             GROUP BY network HAVING count(*) > greatest($2::bigint + 1, $3) ORDER BY count(*) DESC, network LIMIT 1)
         DELETE FROM payment_offers WHERE id IN
            (SELECT o.id FROM payment_offers o JOIN most USING (network) WHERE o.expires_at >= $1
             ORDER BY o.expires_at, o.id LIMIT 1 FOR UPDATE OF o SKIP LOCKED)",
        ts(now)?,
        here,
        KEPT,
    )
    .execute(tx)
    .await?;
    Ok(dropped.rows_affected() > 0)
}

/// Forgets up to `limit` prices that have been over for a minute, and with each from where it was asked for. Returns how
/// many.
///
/// # Errors
/// The database's.
pub async fn forget(tx: &mut Connection, now: UnixSeconds, limit: i64) -> Result<u64, StoreError> {
    let over = sqlx::query!(
        "DELETE FROM payment_offers WHERE id IN
            (SELECT id FROM payment_offers WHERE expires_at < $1
             ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        ts(now.saturating_minus(MARGIN))?,
        limit,
    )
    .execute(tx)
    .await?;
    Ok(over.rows_affected())
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

/// Gives the payer another token, as long as one of its tokens is good and it has fewer than [`MOST_TOKENS`]: until
/// when it is good. Who ends them at this moment is waited for, or waits for us.
///
/// # Errors
/// The database's.
pub async fn give_another(
    tx: &mut Connection,
    token_hash: &[u8; 32],
    rental: RentalId,
    now: UnixSeconds,
) -> Result<Option<UnixSeconds>, StoreError> {
    hold_tokens(tx, rental).await?;
    let given = sqlx::query_scalar!(
        "INSERT INTO rental_tokens (token_hash, rental_id, account_id, created_at, expires_at)
         SELECT $1, rental_id, account_id, $3, max(expires_at) FROM rental_tokens
         WHERE rental_id = $2 AND expires_at > $3 GROUP BY rental_id, account_id HAVING count(*) < $4
         RETURNING expires_at",
        token_hash.as_slice(),
        rental.uuid(),
        ts(now)?,
        MOST_TOKENS,
    )
    .fetch_optional(tx)
    .await?;
    given.map(seconds).transpose()
}

/// Notes in a rental's timeline, in the transaction of its booking, that it is paid for by x402. As the booking's own entry
/// it is not announced: nobody can be waiting for it yet, and transactions that announce something commit one after the
/// other.
///
/// # Errors
/// The database's.
pub async fn note_paid(
    tx: &mut Connection,
    rental: RentalId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"INSERT INTO rental_events (rental_id, at, kind, detail)
           VALUES ($1, $2, 'funding_authorized', '{"by": "x402"}')"#,
        rental.uuid(),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Whether a rental was paid for with its booking, by x402. Its timeline knows for ever; its tokens can be ended.
///
/// # Errors
/// The database's.
pub async fn is_paid(connection: &mut Connection, rental: RentalId) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM rental_events WHERE rental_id = $1
                          AND kind = 'funding_authorized' AND detail ->> 'by' = 'x402') AS "paid!""#,
        rental.uuid()
    )
    .fetch_one(connection)
    .await?)
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

/// Ends the payer's tokens for one rental, in every process, and with them its way to another one. How many there were.
///
/// # Errors
/// The database's.
pub async fn end_tokens_of(
    tx: &mut Connection,
    rental: RentalId,
    account: AccountId,
) -> Result<u64, StoreError> {
    hold_tokens(tx, rental).await?;
    let ended = sqlx::query!(
        "DELETE FROM rental_tokens WHERE rental_id = $1 AND account_id = $2",
        rental.uuid(),
        account.uuid(),
    )
    .execute(&mut *tx)
    .await?;
    revocations::announce(tx, &[rental.uuid()]).await?;
    Ok(ended.rows_affected())
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
    // as in `hold_tokens`, for all of them
    sqlx::query!(
        "SELECT FROM rentals WHERE id IN (SELECT rental_id FROM rental_tokens WHERE account_id = $1)
         ORDER BY id FOR NO KEY UPDATE",
        account.uuid(),
    )
    .execute(&mut *tx)
    .await?;
    let ended = sqlx::query_scalar!(
        "DELETE FROM rental_tokens WHERE account_id = $1 AND expires_at > $2 RETURNING rental_id",
        account.uuid(),
        ts(now)?,
    )
    .fetch_all(tx)
    .await?;
    Ok(ended.into_iter().map(RentalId::from_uuid).collect())
}

/// Holds a rental's row, so that its tokens are given and ended one after the other. A statement of its own: the next one
/// sees what those wrote that were waited for.
async fn hold_tokens(tx: &mut Connection, rental: RentalId) -> Result<(), StoreError> {
    sqlx::query!("SELECT FROM rentals WHERE id = $1 FOR NO KEY UPDATE", rental.uuid())
        .execute(tx)
        .await?;
    Ok(())
}
