//! What renter and provider signed about an end. A close that carries a side's signature leaves that side
//! nothing to dispute, so that nothing is held for it.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use domain::{
    id::RentalId,
    time::{Seconds, UnixSeconds},
};

use uuid::Uuid;

use crate::{
    Connection, StoreError,
    convert::{duration, seconds, ts},
    intents::Call,
};

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who pays.
    Renter,
    /// Who earns.
    Provider,
}

impl Side {
    /// The stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Renter => "renter",
            Self::Provider => "provider",
        }
    }
}

/// An end as a close tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The last measured second.
    pub stopped_at: UnixSeconds,
    /// Seconds of outage before it.
    pub credit: Seconds,
}

/// The signatures that a close can carry; empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signatures {
    /// The renter's.
    pub renter: Vec<u8>,
    /// The provider's, or its agent's.
    pub provider: Vec<u8>,
}

/// The end that can be signed now, if one waits to be sent, and when it is sent at the latest.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn open(
    connection: &mut Connection,
    rental: RentalId,
) -> Result<Option<(End, UnixSeconds)>, StoreError> {
    let row = sqlx::query!(
        "SELECT args, not_before FROM chain_intents
         WHERE rental_id = $1 AND purpose = 'close' AND state = 'queued' ORDER BY seq DESC LIMIT 1",
        rental.uuid()
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let call: Call = serde_json::from_value(row.args).map_err(StoreError::corrupt)?;
    Ok(match call {
        Call::Close { stopped_at, credit } => {
            Some((End { stopped_at, credit }, seconds(row.not_before)?))
        }
        Call::Start { .. }
        | Call::Cancel
        | Call::Finalize
        | Call::Release { .. }
        | Call::Lock { .. } => None,
    })
}

/// Keeps a side's signature; the first one stays.
///
/// # Errors
/// The database's.
pub async fn sign(
    tx: &mut Connection,
    rental: RentalId,
    side: Side,
    end: End,
    signature: &[u8],
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO end_signatures (rental_id, side, stopped_at, credit_s, signature, signed_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        rental.uuid(),
        side.as_str(),
        ts(end.stopped_at)?,
        i64::from(end.credit.get()),
        signature,
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The signatures under an end that were not refused.
///
/// # Errors
/// The database's.
pub async fn signatures(
    connection: &mut Connection,
    rental: RentalId,
    end: End,
) -> Result<Signatures, StoreError> {
    Ok(signatures_of(connection, &[(rental, end)])
        .await?
        .remove(&(rental, end))
        .unwrap_or_default())
}

/// The signatures under these ends that were not refused; an end without any is not in the answer.
///
/// # Errors
/// The database's.
pub async fn signatures_of(
    connection: &mut Connection,
    told: &[(RentalId, End)],
) -> Result<BTreeMap<(RentalId, End), Signatures>, StoreError> {
    let rentals: Vec<Uuid> = told.iter().map(|(rental, _)| rental.uuid()).collect();
    let stops = told.iter().map(|(_, end)| ts(end.stopped_at)).collect::<Result<Vec<_>, _>>()?;
    let credits: Vec<i64> = told.iter().map(|(_, end)| i64::from(end.credit.get())).collect();
    let rows = sqlx::query!(
        "SELECT s.rental_id, s.stopped_at, s.credit_s, s.side, s.signature
         FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[]) AS e(rental_id, stopped_at, credit_s)
         JOIN end_signatures s ON s.rental_id = e.rental_id AND s.stopped_at = e.stopped_at
              AND s.credit_s = e.credit_s AND NOT s.refused",
        &rentals,
        &stops,
        &credits,
    )
    .fetch_all(connection)
    .await?;
    let mut found = BTreeMap::<(RentalId, End), Signatures>::new();
    for row in rows {
        let end = End { stopped_at: seconds(row.stopped_at)?, credit: duration(row.credit_s)? };
        let signatures = found.entry((RentalId::from_uuid(row.rental_id), end)).or_default();
        if row.side == Side::Renter.as_str() {
            signatures.renter = row.signature;
        } else {
            signatures.provider = row.signature;
        }
    }
    Ok(found)
}

/// Drops one signature that the contract refused: this side's; where it is not known which, the provider's, whose
/// agent can be another on the chain, before the renter's. False if there was none.
///
/// # Errors
/// The database's.
pub async fn refuse_one(
    tx: &mut Connection,
    rental: RentalId,
    end: End,
    side: Option<Side>,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE end_signatures SET refused = true
         WHERE rental_id = $1 AND stopped_at = $2 AND credit_s = $3
           AND NOT refused
           AND side = COALESCE($4, (SELECT min(side) FROM end_signatures
                       WHERE rental_id = $1 AND stopped_at = $2 AND credit_s = $3 AND NOT refused))",
        rental.uuid(),
        ts(end.stopped_at)?,
        i64::from(end.credit.get()),
        side.map(Side::as_str),
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Who signs for an account by the chain's newest word, and until when.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn agent_of(
    connection: &mut Connection,
    account: Address,
) -> Result<Option<(Address, UnixSeconds)>, StoreError> {
    let key = serde_json::to_value(account).map_err(StoreError::corrupt)?;
    let row = sqlx::query!(
        r#"SELECT body ->> 'agent' AS "agent!", (body ->> 'expires_at')::bigint AS "expires_at!"
           FROM chain_events WHERE name = 'agent_set' AND body ->> 'account' = $1
           ORDER BY block_number DESC, log_index DESC LIMIT 1"#,
        key.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let agent = row.agent.parse().map_err(StoreError::corrupt)?;
        let until = u64::try_from(row.expires_at).map_err(StoreError::corrupt)?;
        Ok((agent, UnixSeconds(until)))
    })
    .transpose()
}
