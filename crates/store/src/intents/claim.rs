//! Handing queued intents out: each to the lane of one key, with all that is needed to call the contract.

use std::time::Duration;

use alloy_primitives::Address;
use domain::{
    id::RentalId,
    money::FeeBps,
    rate::TokenRate,
    terms::RentalTerms,
    time::{UnixMillis, UnixSeconds},
};

use super::Intent;
use crate::{
    Connection, StoreError,
    convert::{address, amount, duration, hash, seconds, ts_millis},
};

/// An intent in the hands of a lane.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The intent.
    pub intent: Intent,
    /// What the rental was agreed on.
    pub terms: RentalTerms,
    /// Since when it may be sent.
    pub since: UnixSeconds,
    /// The most items of a batch that it may go in; none is no limit.
    pub batch_cap: Option<u32>,
}

/// Takes up to `limit` queued intents that may be sent now and that no other lane has, for `term`; oldest first. Those of
/// frozen money wait.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn claim(
    connection: &mut Connection,
    signer: Address,
    now: UnixMillis,
    term: Duration,
    limit: i64,
) -> Result<Vec<Claimed>, StoreError> {
    let at = ts_millis(now)?;
    let until = at.checked_add(term.try_into().map_err(StoreError::corrupt)?);
    sqlx::query!(
        "WITH due AS (
             SELECT id FROM chain_intents
             WHERE state = 'queued' AND not_before <= $2
               AND (claimed_until IS NULL OR claimed_until < $2 OR claimed_by = $1)
               AND NOT EXISTS (SELECT FROM freezes f, rentals r JOIN quotes q ON q.id = r.quote_id
                               WHERE r.id = chain_intents.rental_id AND f.lifted_at IS NULL
                                 AND (f.scope = 'all' OR f.subject IN (r.escrow_id, q.token)))
             ORDER BY created_at, id LIMIT $4 FOR UPDATE SKIP LOCKED),
         taken AS (
             UPDATE chain_intents i SET claimed_by = $1, claimed_until = $3
             FROM due WHERE i.id = due.id
             RETURNING i.id, i.rental_id, i.args, i.deferrals, i.not_before, i.batch_cap, i.created_at)
         SELECT t.id, t.rental_id, t.args, t.deferrals, t.not_before, t.batch_cap,
                q.renter, q.provider, q.token, q.price_per_hour, q.fee_bps, q.start_by, q.holdback_s,
                q.order_hash
         FROM taken t JOIN rentals r ON r.id = t.rental_id JOIN quotes q ON q.id = r.quote_id
         ORDER BY t.created_at, t.id",
        signer.as_slice(),
        at,
        until,
        limit
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        let fee = u16::try_from(row.fee_bps).map_err(StoreError::corrupt)?;
        Ok(Claimed {
            intent: Intent {
                id: row.id,
                rental: RentalId::from_uuid(row.rental_id),
                call: serde_json::from_value(row.args).map_err(StoreError::corrupt)?,
                deferrals: u32::try_from(row.deferrals).map_err(StoreError::corrupt)?,
            },
            terms: RentalTerms {
                renter: address(&row.renter)?,
                provider: address(&row.provider)?,
                token: address(&row.token)?,
                rate: TokenRate::new(amount(&row.price_per_hour)?).map_err(StoreError::corrupt)?,
                fee: FeeBps::quotable(fee).map_err(StoreError::corrupt)?,
                start_by: seconds(row.start_by)?,
                holdback: duration(row.holdback_s)?,
                order_hash: hash(&row.order_hash)?,
            },
            since: seconds(row.not_before)?,
            batch_cap: row.batch_cap.map(u32::try_from).transpose().map_err(StoreError::corrupt)?,
        })
    })
    .collect()
}

/// Gives everything back that a lane claimed and did not send, for others to take; with a word on why if it cannot.
///
/// # Errors
/// The database's.
pub async fn unclaim(
    connection: &mut Connection,
    signer: Address,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE chain_intents
         SET claimed_by = NULL, claimed_until = NULL, last_error = COALESCE($2, last_error)
         WHERE state = 'queued' AND claimed_by = $1",
        signer.as_slice(),
        reason
    )
    .execute(connection)
    .await?;
    Ok(())
}
