//! The evidence that rentals are billed by: signed readings, each naming the hash of the one before.

use std::collections::HashMap;

use alloy_primitives::B256;
use domain::{
    id::RentalId,
    metering::{Interval, ReadingHead},
    time::{Seconds, UnixSeconds},
};
use serde_json::Value;

use crate::{
    Connection, StoreError,
    convert::{duration, hash, seconds, ts},
    rentals::{self, Rental},
};

/// An accepted reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Whose.
    pub rental: RentalId,
    /// Its number; the first is 1.
    pub seq: u64,
    /// The time it covers.
    pub span: Interval,
    /// What was measured, as JSON.
    pub detail: Value,
    /// The hash of the one before; zero for the first.
    pub prev_hash: B256,
    /// Its own hash.
    pub hash: B256,
    /// The agent's signature over that hash: r, s, v.
    pub signature: [u8; 65],
    /// When it came.
    pub received_at: UnixSeconds,
}

/// What the evidence of a rental comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Where the first reading begins.
    pub first_from: UnixSeconds,
    /// The newest reading.
    pub head: ReadingHead,
    /// Seconds that all readings cover; they never overlap.
    pub covered: Seconds,
}

/// The rental, so locked that its state and its evidence stay as they are until the transaction ends.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn lock_rental(tx: &mut Connection, id: RentalId) -> Result<Option<Rental>, StoreError> {
    rentals::lock(tx, id).await
}

/// Appends a reading, whose place in the chain the caller has checked under the rental's lock.
///
/// # Errors
/// [`StoreError::Conflict`] on `readings_pkey` if the number is taken, on `readings_disjoint` if it
/// overlaps another.
pub async fn append(tx: &mut Connection, reading: &Reading) -> Result<(), StoreError> {
    let seq = i64::try_from(reading.seq).map_err(StoreError::corrupt)?;
    sqlx::query!(
        "INSERT INTO readings (rental_id, seq, from_at, to_at, detail, prev_hash, hash, signature,
                               received_at, covered_s)
         SELECT $1, $2::bigint, $3, $4, $5, $6, $7, $8, $9,
                $10::bigint + coalesce((SELECT covered_s FROM readings
                                WHERE rental_id = $1 AND seq = $2::bigint - 1), 0)",
        reading.rental.uuid(),
        seq,
        ts(reading.span.from)?,
        ts(reading.span.to)?,
        reading.detail,
        reading.prev_hash.as_slice(),
        reading.hash.as_slice(),
        reading.signature.as_slice(),
        ts(reading.received_at)?,
        i64::from(reading.span.seconds().get()),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What a rental's evidence comes to, or `None` without any. Reads two rows, however long the chain.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn evidence(
    connection: &mut Connection,
    rental: RentalId,
) -> Result<Option<Evidence>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT r.seq, r.to_at, r.hash, r.covered_s,
                  (SELECT from_at FROM readings WHERE rental_id = $1 ORDER BY seq LIMIT 1) AS "first_from!"
           FROM readings r WHERE r.rental_id = $1 ORDER BY r.seq DESC LIMIT 1"#,
        rental.uuid()
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Evidence {
            first_from: seconds(row.first_from)?,
            head: ReadingHead {
                seq: u64::try_from(row.seq).map_err(StoreError::corrupt)?,
                to: seconds(row.to_at)?,
                hash: hash(&row.hash)?,
            },
            covered: duration(row.covered_s)?,
        })
    })
    .transpose()
}

/// The newest reading's place in the chain, or `None` without any.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn head(
    connection: &mut Connection,
    rental: RentalId,
) -> Result<Option<ReadingHead>, StoreError> {
    Ok(evidence(connection, rental).await?.map(|evidence| evidence.head))
}

/// The same for each of these rentals that has any, in one statement.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn evidence_of(
    connection: &mut Connection,
    rentals: &[RentalId],
) -> Result<HashMap<RentalId, Evidence>, StoreError> {
    let ids: Vec<_> = rentals.iter().map(|rental| rental.uuid()).collect();
    sqlx::query!(
        r#"SELECT r.id AS "rental!", h.seq, h.to_at, h.hash, h.covered_s, f.from_at
           FROM unnest($1::uuid[]) AS r(id)
           CROSS JOIN LATERAL (SELECT seq, to_at, hash, covered_s FROM readings
                               WHERE rental_id = r.id ORDER BY seq DESC LIMIT 1) h
           CROSS JOIN LATERAL (SELECT from_at FROM readings WHERE rental_id = r.id ORDER BY seq LIMIT 1) f"#,
        &ids,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        let evidence = Evidence {
            first_from: seconds(row.from_at)?,
            head: ReadingHead {
                seq: u64::try_from(row.seq).map_err(StoreError::corrupt)?,
                to: seconds(row.to_at)?,
                hash: hash(&row.hash)?,
            },
            covered: duration(row.covered_s)?,
        };
        Ok((RentalId::from_uuid(row.rental), evidence))
    })
    .collect()
}

/// A running rental and the last second that its evidence covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The rental.
    pub rental: RentalId,
    /// The end of its newest reading, or its start if that is later.
    pub until: UnixSeconds,
}

/// The `limit` active rentals whose evidence ends first, in that order: whoever may have fallen silent. This is
/// all that watching them costs: nothing is written while their readings come.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn least_heard(
    connection: &mut Connection,
    limit: i64,
) -> Result<Vec<Heard>, StoreError> {
    sqlx::query!(
        r#"SELECT r.id, GREATEST(r.started_at, newest.to_at) AS "until!"
           FROM rentals r
           LEFT JOIN LATERAL (SELECT to_at FROM readings WHERE rental_id = r.id
                              ORDER BY seq DESC LIMIT 1) newest ON true
           WHERE r.state = 'active' ORDER BY 2 LIMIT $1"#,
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| Ok(Heard { rental: RentalId::from_uuid(row.id), until: seconds(row.until)? }))
    .collect()
}

/// The stretches of time that a rental's readings cover, in order; readings that touch are one stretch.
/// This is what [`domain::metering::meter`] bills by.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn covered(
    connection: &mut Connection,
    rental: RentalId,
) -> Result<Vec<Interval>, StoreError> {
    sqlx::query!(
        r#"SELECT min(from_at) AS "from_at!", max(to_at) AS "to_at!" FROM (
               SELECT from_at, to_at, sum(begins) OVER (ORDER BY seq) AS stretch FROM (
                   SELECT seq, from_at, to_at,
                          (from_at IS DISTINCT FROM lag(to_at) OVER (ORDER BY seq))::int AS begins
                   FROM readings WHERE rental_id = $1) AS marked) AS numbered
           GROUP BY stretch ORDER BY 1"#,
        rental.uuid()
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| Ok(Interval::new(seconds(row.from_at)?, seconds(row.to_at)?)))
    .collect()
}

struct Row {
    seq: i64,
    from_at: time::OffsetDateTime,
    to_at: time::OffsetDateTime,
    detail: Value,
    prev_hash: Vec<u8>,
    hash: Vec<u8>,
    signature: Vec<u8>,
    received_at: time::OffsetDateTime,
}

impl Row {
    fn into_reading(self, rental: RentalId) -> Result<Reading, StoreError> {
        Ok(Reading {
            rental,
            seq: u64::try_from(self.seq).map_err(StoreError::corrupt)?,
            span: Interval::new(seconds(self.from_at)?, seconds(self.to_at)?),
            detail: self.detail,
            prev_hash: hash(&self.prev_hash)?,
            hash: hash(&self.hash)?,
            signature: self
                .signature
                .try_into()
                .map_err(|_| StoreError::corrupt("a signature that is not 65 bytes"))?,
            received_at: seconds(self.received_at)?,
        })
    }
}

/// Up to `limit` readings after number `after`, in order; `after` 0 begins at the start.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(
    connection: &mut Connection,
    rental: RentalId,
    after: u64,
    limit: i64,
) -> Result<Vec<Reading>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT seq, from_at, to_at, detail, prev_hash, hash, signature, received_at FROM readings
         WHERE rental_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        rental.uuid(),
        i64::try_from(after).map_err(StoreError::corrupt)?,
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| row.into_reading(rental))
    .collect()
}

/// The reading with this number.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn get(
    connection: &mut Connection,
    rental: RentalId,
    seq: u64,
) -> Result<Option<Reading>, StoreError> {
    let before = seq.saturating_sub(1);
    let found = list(connection, rental, before, 1).await?;
    Ok(found.into_iter().find(|reading| reading.seq == seq))
}
