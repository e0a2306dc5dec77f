//! Self-tests: ordered, answered once, and kept for everybody to see.

use alloy_primitives::{Address, B256};
use domain::{
    id::{MachineId, TestId},
    machine::{Check, Requirement},
    time::UnixSeconds,
};

use crate::{
    Connection, StoreError,
    convert::{address, hash, seconds, ts},
};

/// A self-test that was ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderedTest {
    /// Its id.
    pub id: TestId,
    /// What has to be shown.
    pub requirements: Vec<Requirement>,
    /// When it was ordered.
    pub ordered_at: UnixSeconds,
    /// When it was answered, or overtaken by a newer order.
    pub closed_at: Option<UnixSeconds>,
}

/// An answer as the agent signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedChecks {
    /// What it showed.
    pub checks: Vec<Check>,
    /// Whether that was everything.
    pub passed: bool,
    /// keccak256 of the checks as canonical JSON.
    pub digest: B256,
    /// The agent's key.
    pub signer: Address,
    /// r, s, v.
    pub signature: [u8; 65],
}

/// An answer that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedTest {
    /// The test.
    pub id: TestId,
    /// The answer.
    pub said: SignedChecks,
    /// When it came.
    pub at: UnixSeconds,
}

/// Orders a self-test in place of one that is still open.
///
/// # Errors
/// The database's.
pub async fn order_test(
    tx: &mut Connection,
    id: TestId,
    machine: MachineId,
    requirements: &[Requirement],
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE machine_tests SET closed_at = $2 WHERE machine_id = $1 AND closed_at IS NULL",
        machine.uuid(),
        ts(now)?,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO machine_tests (id, machine_id, requirements, ordered_at) VALUES ($1, $2, $3, $4)",
        id.uuid(),
        machine.uuid(),
        serde_json::to_value(requirements).map_err(StoreError::corrupt)?,
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

struct Row {
    id: uuid::Uuid,
    requirements: serde_json::Value,
    ordered_at: time::OffsetDateTime,
    closed_at: Option<time::OffsetDateTime>,
}

impl TryFrom<Row> for OrderedTest {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: TestId::from_uuid(row.id),
            requirements: serde_json::from_value(row.requirements).map_err(StoreError::corrupt)?,
            ordered_at: seconds(row.ordered_at)?,
            closed_at: row.closed_at.map(seconds).transpose()?,
        })
    }
}

/// The machine's self-test that waits for its answer.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn open_test(
    connection: &mut Connection,
    machine: MachineId,
) -> Result<Option<OrderedTest>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT id, requirements, ordered_at, closed_at FROM machine_tests
         WHERE machine_id = $1 AND closed_at IS NULL",
        machine.uuid()
    )
    .fetch_optional(connection)
    .await?
    .map(OrderedTest::try_from)
    .transpose()
}

/// The machine's self-test with this id, locked until the transaction ends.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn test_of(
    tx: &mut Connection,
    machine: MachineId,
    id: TestId,
) -> Result<Option<OrderedTest>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT id, requirements, ordered_at, closed_at FROM machine_tests
         WHERE machine_id = $1 AND id = $2 FOR UPDATE",
        machine.uuid(),
        id.uuid(),
    )
    .fetch_optional(tx)
    .await?
    .map(OrderedTest::try_from)
    .transpose()
}

/// Closes an order that no answer is taken to any more.
///
/// # Errors
/// The database's.
pub async fn close_test(
    tx: &mut Connection,
    id: TestId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!("UPDATE machine_tests SET closed_at = $2 WHERE id = $1", id.uuid(), ts(now)?)
        .execute(tx)
        .await?;
    Ok(())
}

/// Keeps an answer, and closes the order.
///
/// # Errors
/// The database's; [`StoreError::Conflict`] on `machine_checks_pkey` if it is answered.
pub async fn record_checks(
    tx: &mut Connection,
    machine: MachineId,
    id: TestId,
    said: &SignedChecks,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO machine_checks (id, machine_id, checks, passed, digest, signer, signature, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        id.uuid(),
        machine.uuid(),
        serde_json::to_value(&said.checks).map_err(StoreError::corrupt)?,
        said.passed,
        said.digest.as_slice(),
        said.signer.as_slice(),
        said.signature.as_slice(),
        ts(now)?,
    )
    .execute(&mut *tx)
    .await?;
    close_test(tx, id, now).await
}

/// Up to `limit` answers of a machine before the one with id `before`, newest first.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn checks(
    connection: &mut Connection,
    machine: MachineId,
    before: Option<TestId>,
    limit: i64,
) -> Result<Vec<CheckedTest>, StoreError> {
    sqlx::query!(
        "SELECT id, checks, passed, digest, signer, signature, created_at FROM machine_checks
         WHERE machine_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        machine.uuid(),
        before.map(TestId::uuid),
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(CheckedTest {
            id: TestId::from_uuid(row.id),
            said: SignedChecks {
                checks: serde_json::from_value(row.checks).map_err(StoreError::corrupt)?,
                passed: row.passed,
                digest: hash(&row.digest)?,
                signer: address(&row.signer)?,
                signature: row
                    .signature
                    .try_into()
                    .map_err(|_| StoreError::corrupt("a signature that is not 65 bytes"))?,
            },
            at: seconds(row.created_at)?,
        })
    })
    .collect()
}
