//! Cases about held seconds: what both sides show and sign, and what the chain said.

use alloy_primitives::B256;
use domain::{
    dispute::{Dispute, DisputeCode, Side},
    id::{AccountId, DisputeId, RentalId},
    metering::Interval,
    time::{Seconds, UnixSeconds},
};

use crate::{
    Connection, StoreError,
    convert::{duration, hash, seconds, ts},
};

/// A case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its id.
    pub id: DisputeId,
    /// About which rental.
    pub rental: RentalId,
    /// Who opened it.
    pub opened_by: Side,
    /// What about.
    pub code: DisputeCode,
    /// In the opener's words.
    pub statement: String,
    /// The time that it is about, if a part.
    pub span: Option<Interval>,
    /// Where it is.
    pub progress: Dispute,
    /// Counts its changes.
    pub version: u32,
    /// When it was opened.
    pub created_at: UnixSeconds,
    /// When it changed last.
    pub updated_at: UnixSeconds,
}

/// Something that a side shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Who shows it.
    pub side: Side,
    /// SHA-256 of the file.
    pub sha256: B256,
    /// Where the file is.
    pub uri: String,
    /// When it was shown.
    pub at: UnixSeconds,
}

/// Billed seconds that a side signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// 1, 2, 3 and so on.
    pub seq: u32,
    /// Who proposes.
    pub side: Side,
    /// Seconds to be billed in all.
    pub billed: Seconds,
    /// The last second at which the contract takes it.
    pub valid_until: UnixSeconds,
    /// The proposer's signature.
    pub signature: Vec<u8>,
    /// The other side's, once it agrees.
    pub accepted: Option<Vec<u8>>,
    /// When it was made.
    pub at: UnixSeconds,
}

struct Row {
    id: uuid::Uuid,
    rental_id: uuid::Uuid,
    opened_by: String,
    code: String,
    statement: String,
    from_at: Option<time::OffsetDateTime>,
    to_at: Option<time::OffsetDateTime>,
    state: String,
    renter_disputes: bool,
    provider_disputes: bool,
    outcome: Option<String>,
    version: i32,
    created_at: time::OffsetDateTime,
    updated_at: time::OffsetDateTime,
}

impl TryFrom<Row> for Case {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let span = match (row.from_at, row.to_at) {
            (Some(from), Some(to)) => Some(Interval::new(seconds(from)?, seconds(to)?)),
            _ => None,
        };
        let outcome = row.outcome.map(|text| text.parse()).transpose();
        Ok(Self {
            id: DisputeId::from_uuid(row.id),
            rental: RentalId::from_uuid(row.rental_id),
            opened_by: row.opened_by.parse().map_err(StoreError::corrupt)?,
            code: row.code.parse().map_err(StoreError::corrupt)?,
            statement: row.statement,
            span,
            progress: Dispute {
                state: row.state.parse().map_err(StoreError::corrupt)?,
                renter_disputes: row.renter_disputes,
                provider_disputes: row.provider_disputes,
                outcome: outcome.map_err(StoreError::corrupt)?,
            },
            version: u32::try_from(row.version).map_err(StoreError::corrupt)?,
            created_at: seconds(row.created_at)?,
            updated_at: seconds(row.updated_at)?,
        })
    }
}

/// Records a case.
///
/// # Errors
/// [`StoreError::Conflict`] on `disputes_one_live` if one about the rental is not over.
pub async fn insert(tx: &mut Connection, case: &Case) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO disputes (id, rental_id, opened_by, code, statement, from_at, to_at, state,
                               renter_disputes, provider_disputes, version, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, $11, $11)",
        case.id.uuid(),
        case.rental.uuid(),
        case.opened_by.as_str(),
        case.code.as_str(),
        case.statement,
        case.span.map(|span| ts(span.from)).transpose()?,
        case.span.map(|span| ts(span.to)).transpose()?,
        case.progress.state.as_str(),
        case.progress.renter_disputes,
        case.progress.provider_disputes,
        ts(case.created_at)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The case with this id.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn get(connection: &mut Connection, id: DisputeId) -> Result<Option<Case>, StoreError> {
    sqlx::query_as!(Row, "SELECT * FROM disputes WHERE id = $1", id.uuid())
        .fetch_optional(connection)
        .await?
        .map(Case::try_from)
        .transpose()
}

/// The case about a rental that is not over, so locked that it stays as it is until the transaction ends.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn lock_live(tx: &mut Connection, rental: RentalId) -> Result<Option<Case>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT * FROM disputes WHERE rental_id = $1 AND state IN ('open', 'disputed') FOR UPDATE",
        rental.uuid()
    )
    .fetch_optional(tx)
    .await?
    .map(Case::try_from)
    .transpose()
}

/// How many cases about a rental one side has opened.
///
/// # Errors
/// The database's.
pub async fn count(
    connection: &mut Connection,
    rental: RentalId,
    by: Side,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM disputes WHERE rental_id = $1 AND opened_by = $2"#,
        rental.uuid(),
        by.as_str()
    )
    .fetch_one(connection)
    .await?)
}

/// The case with this id, so locked that it stays as it is until the transaction ends.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn lock(tx: &mut Connection, id: DisputeId) -> Result<Option<Case>, StoreError> {
    sqlx::query_as!(Row, "SELECT * FROM disputes WHERE id = $1 FOR UPDATE", id.uuid())
        .fetch_optional(tx)
        .await?
        .map(Case::try_from)
        .transpose()
}

/// Up to `limit` cases about rentals of an account, on either side, before the one given, newest first.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(
    connection: &mut Connection,
    account: AccountId,
    before: Option<DisputeId>,
    limit: i64,
) -> Result<Vec<Case>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT d.* FROM disputes d JOIN rentals r ON r.id = d.rental_id
         WHERE (r.renter_id = $1 OR r.provider_id = $1) AND ($2::uuid IS NULL OR d.id < $2)
         ORDER BY d.id DESC LIMIT $3",
        account.uuid(),
        before.map(DisputeId::uuid),
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Case::try_from)
    .collect()
}

/// Those of these cases whose rental the account pays for; of the others it is the provider.
///
/// # Errors
/// The database's.
pub async fn as_renter(
    connection: &mut Connection,
    account: AccountId,
    cases: &[Case],
) -> Result<Vec<RentalId>, StoreError> {
    let rentals: Vec<uuid::Uuid> = cases.iter().map(|case| case.rental.uuid()).collect();
    let found = sqlx::query_scalar!(
        "SELECT id FROM rentals WHERE id = ANY($1) AND renter_id = $2",
        &rentals,
        account.uuid(),
    )
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(RentalId::from_uuid).collect())
}

/// Writes where a case is now; the caller has locked it.
///
/// # Errors
/// [`StoreError::Missing`] if it is not at the version that was read.
pub async fn advance(
    tx: &mut Connection,
    case: &Case,
    next: &Dispute,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "UPDATE disputes SET state = $3, renter_disputes = $4, provider_disputes = $5, outcome = $6,
                version = version + 1, updated_at = $7
         WHERE id = $1 AND version = $2",
        case.id.uuid(),
        i32::try_from(case.version).map_err(StoreError::corrupt)?,
        next.state.as_str(),
        next.renter_disputes,
        next.provider_disputes,
        next.outcome.map(|outcome| outcome.as_str()),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Missing("the case as read")) }
}

/// Adds what a side shows, under the next number.
///
/// # Errors
/// The database's; a case has room for 64.
pub async fn show(
    tx: &mut Connection,
    id: DisputeId,
    evidence: &Evidence,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO dispute_evidence (dispute_id, seq, side, sha256, uri, created_at)
         SELECT $1, coalesce(max(seq), 0) + 1, $2, $3, $4, $5 FROM dispute_evidence WHERE dispute_id = $1",
        id.uuid(),
        evidence.side.as_str(),
        evidence.sha256.as_slice(),
        evidence.uri,
        ts(evidence.at)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// All that was shown, in order.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn shown(
    connection: &mut Connection,
    id: DisputeId,
) -> Result<Vec<Evidence>, StoreError> {
    sqlx::query!(
        "SELECT side, sha256, uri, created_at FROM dispute_evidence WHERE dispute_id = $1 ORDER BY seq",
        id.uuid()
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Evidence {
            side: row.side.parse().map_err(StoreError::corrupt)?,
            sha256: hash(&row.sha256)?,
            uri: row.uri,
            at: seconds(row.created_at)?,
        })
    })
    .collect()
}

/// Adds a proposal, under the next number.
///
/// # Errors
/// The database's; a case has room for 32.
pub async fn propose(
    tx: &mut Connection,
    id: DisputeId,
    proposal: &Proposal,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO dispute_proposals (dispute_id, seq, side, billed_s, valid_until, signature, created_at)
         SELECT $1, coalesce(max(seq), 0) + 1, $2, $3, $4, $5, $6 FROM dispute_proposals
         WHERE dispute_id = $1",
        id.uuid(),
        proposal.side.as_str(),
        i64::from(proposal.billed.get()),
        ts(proposal.valid_until)?,
        proposal.signature,
        ts(proposal.at)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds the other side's signature to a proposal. False if it has one.
///
/// # Errors
/// The database's.
pub async fn accept(
    tx: &mut Connection,
    id: DisputeId,
    seq: u32,
    signature: &[u8],
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE dispute_proposals SET accepted = $3
         WHERE dispute_id = $1 AND seq = $2 AND accepted IS NULL",
        id.uuid(),
        i32::try_from(seq).map_err(StoreError::corrupt)?,
        signature,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// All proposals, in order.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn proposals(
    connection: &mut Connection,
    id: DisputeId,
) -> Result<Vec<Proposal>, StoreError> {
    sqlx::query!(
        "SELECT seq, side, billed_s, valid_until, signature, accepted, created_at
         FROM dispute_proposals WHERE dispute_id = $1 ORDER BY seq",
        id.uuid()
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Proposal {
            seq: u32::try_from(row.seq).map_err(StoreError::corrupt)?,
            side: row.side.parse().map_err(StoreError::corrupt)?,
            billed: duration(row.billed_s)?,
            valid_until: seconds(row.valid_until)?,
            signature: row.signature,
            accepted: row.accepted,
            at: seconds(row.created_at)?,
        })
    })
    .collect()
}
