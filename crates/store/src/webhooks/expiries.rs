//! Quotes that were not booked in time.

use domain::time::{Seconds, UnixSeconds};

use crate::{Connection, StoreError, convert::ts};

/// A booking that began in time has ended after so long: until then a quote has not surely expired.
const MARGIN: Seconds = Seconds(30);

/// Tells accounts which of their quotes were not booked, up to `limit` at a time, half a minute after the fact. Returns
/// how many those were.
///
/// # Errors
/// The database's.
pub async fn tell(tx: &mut Connection, now: UnixSeconds, limit: i64) -> Result<u64, StoreError> {
    let told = sqlx::query_scalar!(
        r#"WITH due AS (
             DELETE FROM quote_expiries WHERE quote_id IN (
               SELECT quote_id FROM quote_expiries WHERE expires_at < $1
               ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
             RETURNING quote_id),
           told AS (
             SELECT hook(q.account_id, 'quote.expired', q.expires_at,
                         jsonb_build_object('quote_id', public_id('quo', q.id), 'offer_id', public_id('ofr', q.offer_id)))
             FROM due JOIN quotes q ON q.id = due.quote_id
             WHERE NOT EXISTS (SELECT FROM rentals r WHERE r.quote_id = q.id))
           SELECT count(*) AS "count!" FROM told"#,
        ts(now.saturating_minus(MARGIN))?,
        limit,
    )
    .fetch_one(tx)
    .await?;
    u64::try_from(told).map_err(StoreError::corrupt)
}
