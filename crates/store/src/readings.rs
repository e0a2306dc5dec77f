//! The evidence that rentals are billed by: signed readings, each naming the hash of the one before.

use std::collections::HashMap;

use alloy_primitives::B256;
use domain::{
    id::RentalId,
    metering::{Coverage, Interval, ReadingHead, counted, meter},
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

impl Evidence {
    /// The same without the chain of it.
    #[must_use]
    pub const fn coverage(&self) -> Coverage {
        Coverage { span: Interval::new(self.first_from, self.head.to), covered: self.covered }
    }
}

/// What [`meter`] makes of a rental's readings, with no more of the outages than were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Billing {
    /// The seconds that count: those of the window, no more than the deposit pays for, at least 1.
    pub elapsed: Seconds,
    /// The seconds of them that readings cover, at least 1.
    pub billed: Seconds,
    /// The newest outages, in order.
    pub newest: Vec<Interval>,
    /// Whether there are older ones.
    pub more: bool,
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

/// The seconds of `window` that a rental's readings cover, by the sums that they carry: the chain is not read, but for what
/// of it lies outside of the window.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn covered_in(
    connection: &mut Connection,
    rental: RentalId,
    window: Interval,
) -> Result<Seconds, StoreError> {
    // what lies before the window's end, less what lies before its beginning
    let covered = sqlx::query_scalar!(
        r#"SELECT GREATEST(0, COALESCE(
               (SELECT covered_s - GREATEST(0, extract(epoch FROM to_at - $3::timestamptz))::bigint
                FROM readings WHERE rental_id = $1 AND from_at < $3 ORDER BY seq DESC LIMIT 1)
             - (SELECT covered_s - extract(epoch FROM to_at - GREATEST(from_at, $2::timestamptz))::bigint
                FROM readings WHERE rental_id = $1 AND to_at > $2 ORDER BY seq LIMIT 1), 0)) AS "covered!""#,
        rental.uuid(),
        ts(window.from)?,
        ts(window.to)?,
    )
    .fetch_one(connection)
    .await?;
    Ok(duration(covered)?.min(window.seconds()))
}

/// The seconds that [`meter`] bills of `window` by a rental's readings, looked up as [`covered_in`] does.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn billed(
    connection: &mut Connection,
    rental: RentalId,
    window: Interval,
    auto_stop: Seconds,
) -> Result<Seconds, StoreError> {
    let covered = covered_in(connection, rental, counted(window, auto_stop)).await?;
    Ok(covered.max(Seconds::ONE))
}

/// What `window` comes to by a rental's readings, with the newest `most` outages. Where there are any, the database goes
/// through the chain from its end until it has found so many.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn billing(
    connection: &mut Connection,
    rental: RentalId,
    window: Interval,
    auto_stop: Seconds,
    most: u32,
) -> Result<Billing, StoreError> {
    let counted = counted(window, auto_stop);
    let covered = covered_in(connection, rental, counted).await?;
    let (elapsed, mut newest) = if covered == Seconds::ZERO {
        // a second is billed even so, and the rest is one outage
        let metered = meter(window, &[], auto_stop);
        (metered.elapsed, metered.outages)
    } else if covered == counted.seconds() {
        (covered, Vec::new())
    } else {
        let limit = i64::from(most).saturating_add(1);
        (counted.seconds(), newest_gaps(connection, rental, counted, limit).await?)
    };
    let more = newest.len().saturating_sub(usize::try_from(most).map_err(StoreError::corrupt)?);
    newest.drain(..more);
    Ok(Billing { elapsed, billed: covered.max(Seconds::ONE), newest, more: more > 0 })
}

/// How many outages `window` has by a rental's readings. The database goes through all of the chain.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn outages(
    connection: &mut Connection,
    rental: RentalId,
    window: Interval,
    auto_stop: Seconds,
) -> Result<u64, StoreError> {
    let newest = billing(connection, rental, window, auto_stop, 1).await?;
    if newest.more {
        return gaps(connection, rental, counted(window, auto_stop)).await;
    }
    u64::try_from(newest.newest.len()).map_err(StoreError::corrupt)
}

/// The newest `limit` stretches of `window` without a reading, in order.
async fn newest_gaps(
    connection: &mut Connection,
    rental: RentalId,
    window: Interval,
    limit: i64,
) -> Result<Vec<Interval>, StoreError> {
    // after each reading that reaches into the window, the newest first; and before the first of them
    let mut found = sqlx::query!(
        r#"SELECT gone_at AS "gone_at!", back_at AS "back_at!" FROM (
               (SELECT gone_at, back_at FROM (
                    SELECT seq, to_at AS gone_at,
                           lag(from_at, 1, $3::timestamptz) OVER (ORDER BY seq DESC) AS back_at
                    FROM readings WHERE rental_id = $1 AND to_at > $2 AND from_at < $3) AS told
                WHERE gone_at < back_at ORDER BY seq DESC LIMIT $4)
               UNION ALL
               SELECT $2::timestamptz, COALESCE(
                   (SELECT from_at FROM readings WHERE rental_id = $1 AND to_at > $2 AND from_at < $3
                    ORDER BY seq LIMIT 1), $3::timestamptz)) AS gaps
           WHERE gone_at < back_at ORDER BY gone_at DESC LIMIT $4"#,
        rental.uuid(),
        ts(window.from)?,
        ts(window.to)?,
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| Ok(Interval::new(seconds(row.gone_at)?, seconds(row.back_at)?)))
    .collect::<Result<Vec<_>, StoreError>>()?;
    found.reverse();
    Ok(found)
}

/// How many stretches of `window` have no reading, if some have one.
async fn gaps(
    connection: &mut Connection,
    rental: RentalId,
    window: Interval,
) -> Result<u64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"SELECT (SELECT count(*) FROM (
                       SELECT to_at AS gone_at,
                              lag(from_at, 1, $3::timestamptz) OVER (ORDER BY seq DESC) AS back_at
                       FROM readings WHERE rental_id = $1 AND to_at > $2 AND from_at < $3) AS told
                   WHERE gone_at < back_at)
                + (SELECT count(*) FROM (
                       SELECT from_at FROM readings WHERE rental_id = $1 AND to_at > $2 AND from_at < $3
                       ORDER BY seq LIMIT 1) AS first
                   WHERE from_at > $2) AS "count!""#,
        rental.uuid(),
        ts(window.from)?,
        ts(window.to)?,
    )
    .fetch_one(connection)
    .await?;
    u64::try_from(count).map_err(StoreError::corrupt)
}

/// The stretches of time that a rental's readings cover, in order; readings that touch are one stretch.
/// This is what [`domain::metering::meter`] bills by. There can be a million of them: [`billed`] and
/// [`billing`] come to the same, and this is there to hold them against.
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
