//! Intents that a transaction carries: one, or all items of a batch.

use alloy_primitives::B256;
use domain::{
    id::{RentalId, TxId},
    time::UnixMillis,
};
use uuid::Uuid;

use super::Intent;
use crate::{
    Connection, StoreError,
    convert::{hash, ts_millis},
};

/// An intent that a transaction carries.
#[derive(Clone, Debug)]
pub struct Carried {
    /// The intent.
    pub intent: Intent,
    /// The rental's id on the chain.
    pub escrow_id: B256,
    /// Why the contract passed over it, if the transaction was mined and it did: the name of its error.
    pub skipped: Option<String>,
}

/// Hands intents to a transaction that is signed at `now`. False if one of them is no longer queued, or a release whose
/// time is over, by our clock or the chain's: then the transaction must not be made either.
///
/// # Errors
/// The database's.
pub async fn sent(
    tx: &mut Connection,
    intents: &[Uuid],
    carrier: TxId,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE chain_intents SET state = 'sent', tx_id = $2, last_error = NULL
         WHERE id = ANY($1) AND state = 'queued'
           AND (purpose <> 'release' OR to_timestamp((args ->> 'until')::bigint) > GREATEST($3,
                (SELECT timestamp FROM chain_blocks ORDER BY number DESC LIMIT 1)))",
        intents,
        carrier.uuid(),
        ts_millis(now)?
    )
    .execute(tx)
    .await?;
    Ok(usize::try_from(done.rows_affected()).is_ok_and(|count| count == intents.len()))
}

/// What a transaction carries and what became of each item, as the events of `attempt` tell it.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn carried(
    connection: &mut Connection,
    carrier: TxId,
    attempt: B256,
) -> Result<Vec<Carried>, StoreError> {
    sqlx::query!(
        r#"SELECT i.id, i.rental_id, i.args, i.deferrals, r.escrow_id,
                  (SELECT e.body ->> 'reason' FROM chain_events e
                   WHERE e.escrow_id = r.escrow_id AND e.tx_hash = $2 AND e.name = 'skipped' LIMIT 1)
                  AS reason
           FROM chain_intents i JOIN rentals r ON r.id = i.rental_id
           WHERE i.tx_id = $1 AND i.state = 'sent' ORDER BY i.created_at, i.id"#,
        carrier.uuid(),
        attempt.as_slice()
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Carried {
            intent: Intent {
                id: row.id,
                rental: RentalId::from_uuid(row.rental_id),
                call: serde_json::from_value(row.args).map_err(StoreError::corrupt)?,
                deferrals: u32::try_from(row.deferrals).map_err(StoreError::corrupt)?,
            },
            escrow_id: hash(&row.escrow_id)?,
            skipped: row.reason,
        })
    })
    .collect()
}

/// Ends intents that a final transaction carried and that the contract did.
///
/// # Errors
/// The database's.
pub async fn settle(tx: &mut Connection, intents: &[Uuid]) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE chain_intents SET state = 'done', last_error = NULL
         WHERE id = ANY($1) AND state = 'sent'",
        intents
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends an intent whose transaction did not do what it was to do: what follows is for the state machine to say
/// ([`to_ask_anew`]). The next one for the same rental and purpose goes in a batch of at most `batch_cap` items, if there is
/// one.
///
/// # Errors
/// The database's.
pub async fn refuse_sent(
    tx: &mut Connection,
    intent: Uuid,
    error: &str,
    batch_cap: Option<u32>,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let cap = batch_cap.map(i32::try_from).transpose().map_err(StoreError::corrupt)?;
    sqlx::query!(
        "UPDATE chain_intents
         SET state = 'refused', last_error = $2, batch_cap = LEAST(batch_cap, $3), anew_at = $4
         WHERE id = $1 AND state = 'sent'",
        intent,
        error,
        cap,
        ts_millis(now)?
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// How many calls of this purpose came to nothing for this reason.
///
/// # Errors
/// The database's.
pub async fn count_failed(
    connection: &mut Connection,
    rental: RentalId,
    purpose: &str,
    reason: &str,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM chain_intents
           WHERE rental_id = $1 AND purpose = $2 AND state = 'refused' AND last_error = $3"#,
        rental.uuid(),
        purpose,
        reason
    )
    .fetch_one(connection)
    .await?)
}

/// Calls that came to nothing and of which the state machine does not know yet, with the reason.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn to_ask_anew(
    connection: &mut Connection,
    now: UnixMillis,
    limit: i64,
) -> Result<Vec<(Uuid, RentalId)>, StoreError> {
    Ok(sqlx::query!(
        "SELECT id, rental_id FROM chain_intents WHERE anew_at <= $1 ORDER BY anew_at, id LIMIT $2",
        ts_millis(now)?,
        limit
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| (row.id, RentalId::from_uuid(row.rental_id)))
    .collect())
}

/// Takes one of [`to_ask_anew`], in the transaction in which the state machine is asked, with the reason. `None` if somebody
/// else did.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn take_anew(
    tx: &mut Connection,
    intent: Uuid,
) -> Result<Option<(Intent, String)>, StoreError> {
    let row = sqlx::query!(
        r#"UPDATE chain_intents SET anew_at = NULL WHERE id = $1 AND anew_at IS NOT NULL
           RETURNING id, rental_id, args, deferrals, COALESCE(last_error, '') AS "reason!""#,
        intent
    )
    .fetch_optional(tx)
    .await?;
    row.map(|row| {
        let intent = Intent {
            id: row.id,
            rental: RentalId::from_uuid(row.rental_id),
            call: serde_json::from_value(row.args).map_err(StoreError::corrupt)?,
            deferrals: u32::try_from(row.deferrals).map_err(StoreError::corrupt)?,
        };
        Ok((intent, row.reason))
    })
    .transpose()
}

/// The state machine could not be asked: it is tried again then.
///
/// # Errors
/// The database's.
pub async fn ask_later(
    connection: &mut Connection,
    intent: Uuid,
    until: UnixMillis,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE chain_intents SET anew_at = $2 WHERE id = $1 AND anew_at IS NOT NULL",
        intent,
        ts_millis(until)?
    )
    .execute(connection)
    .await?;
    Ok(())
}
