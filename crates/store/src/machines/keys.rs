//! The keys of machines' agents: how one is bound to its machine, replaced and revoked.

use alloy_primitives::Address;
use domain::{
    id::{AccountId, MachineId},
    machine::Verification,
    time::UnixSeconds,
};
use uuid::Uuid;

use super::{EnrollToken, standing::set_verification};
use crate::{Connection, StoreError, convert::ts, sessions};

/// What came of an agent's enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolled {
    /// The key speaks for this machine.
    Bound(MachineId),
    /// The token is unknown, used or expired.
    NoSuchToken,
    /// The key was replaced or revoked once.
    KeyEnded,
    /// A rental of the machine is measured by readings, which are all signed by one key.
    Rented,
}

/// Gives a machine a new enrolment token in place of the one before. Its present key stays until an agent enrols with
/// the token. False if the account has no such machine, or if it is retired.
///
/// # Errors
/// The database's.
pub async fn renew_enroll_token(
    tx: &mut Connection,
    account: AccountId,
    id: MachineId,
    token: &EnrollToken,
) -> Result<bool, StoreError> {
    let updated = sqlx::query!(
        "UPDATE machines SET enroll_token_hash = $3, enroll_expires_at = $4
         WHERE id = $1 AND account_id = $2 AND service <> 'retired'",
        id.uuid(),
        account.uuid(),
        token.hash.as_slice(),
        ts(token.expires_at)?,
    )
    .execute(tx)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Binds an agent's key to the machine of an enrolment token, which is used up by that; a key that the machine had
/// before ends with its sessions. A key that is bound already gets its machine again, so that an agent whose answer was
/// lost is not locked out. The caller has proved that the agent holds the key, and rolls back what was not bound.
///
/// # Errors
/// [`StoreError::Conflict`] on `machines_agent_key_key` if the key belongs to another machine.
pub async fn enroll(
    tx: &mut Connection,
    token_hash: &[u8; 32],
    agent: Address,
    now: UnixSeconds,
) -> Result<Enrolled, StoreError> {
    let named = sqlx::query_scalar!(
        "SELECT id FROM machines WHERE enroll_token_hash = $1 AND enroll_expires_at > $2 AND service <> 'retired'",
        token_hash.as_slice(),
        ts(now)?,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(id) = named else { return bound(tx, agent).await };
    let rented = hold_rentals(tx, id).await?;
    // whoever signs in or enrols meanwhile waits, or has done it
    let held = sqlx::query_scalar!(
        "SELECT agent_key FROM machines WHERE id = $1 AND enroll_token_hash = $2 FOR UPDATE",
        id,
        token_hash.as_slice(),
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(key) = held else { return bound(tx, agent).await };
    // in a statement of its own: one that waited for the machine sees the others' rows as they were before
    if has_ended(tx, agent).await? {
        return Ok(Enrolled::KeyEnded);
    }
    let machine = MachineId::from_uuid(id);
    if key.as_deref() == Some(agent.as_slice()) {
        sqlx::query!(
            "UPDATE machines SET enroll_token_hash = NULL, enroll_expires_at = NULL WHERE id = $1",
            id
        )
        .execute(&mut *tx)
        .await?;
        sessions::revoke_of_machine(tx, machine, now).await?;
        return Ok(Enrolled::Bound(machine));
    }
    if rented {
        return Ok(Enrolled::Rented);
    }
    end_key(tx, machine, "the key of its agent was replaced: verify it again", now).await?;
    sqlx::query!(
        "UPDATE machines
         SET agent_key = $2, enrolled_at = $3, enroll_token_hash = NULL, enroll_expires_at = NULL
         WHERE id = $1",
        id,
        agent.as_slice(),
        ts(now)?,
    )
    .execute(&mut *tx)
    .await?;
    // another machine may have had it until a moment ago: that its key was revoked was waited for
    if has_ended(tx, agent).await? {
        return Ok(Enrolled::KeyEnded);
    }
    Ok(Enrolled::Bound(machine))
}

/// Whether the key was replaced or revoked once, of whatever machine.
async fn has_ended(tx: &mut Connection, agent: Address) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM ended_agent_keys WHERE agent_key = $1) AS "ended!""#,
        agent.as_slice()
    )
    .fetch_one(tx)
    .await?)
}

/// The machine that a key speaks for already.
async fn bound(tx: &mut Connection, agent: Address) -> Result<Enrolled, StoreError> {
    let id = sqlx::query_scalar!(
        "SELECT id FROM machines WHERE agent_key = $1 AND service <> 'retired'",
        agent.as_slice()
    )
    .fetch_optional(tx)
    .await?;
    Ok(id.map_or(Enrolled::NoSuchToken, |id| Enrolled::Bound(MachineId::from_uuid(id))))
}

/// Takes the machine's rentals that can still be measured, so that none begins to be until the transaction ends. Whether
/// one takes readings now.
async fn hold_rentals(tx: &mut Connection, machine: Uuid) -> Result<bool, StoreError> {
    let states = sqlx::query_scalar!(
        "SELECT state FROM rentals
         WHERE machine_id = $1 AND state NOT IN ('settled', 'expired', 'cancelled', 'refunded', 'resolved')
         ORDER BY id FOR UPDATE",
        machine
    )
    .fetch_all(tx)
    .await?;
    Ok(states.iter().any(|state| ["active", "interrupted", "stopping"].contains(&state.as_str())))
}

/// Revokes the key of a machine's agent: it signs in no more, and nothing counts that it signs from now on. An enrolment
/// token that was given out before is dead as well: whoever has the host may have that, too. False if the machine has no
/// key.
///
/// # Errors
/// The database's.
pub async fn revoke_key(
    tx: &mut Connection,
    machine: MachineId,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    sqlx::query!("SELECT id FROM machines WHERE id = $1 FOR UPDATE", machine.uuid())
        .fetch_optional(&mut *tx)
        .await?;
    let reason = "the key of its agent was revoked: enrol it anew and verify it again";
    let had = end_key(tx, machine, reason, now).await?;
    sqlx::query!(
        "UPDATE machines
         SET agent_key = NULL, enrolled_at = NULL, enroll_token_hash = NULL, enroll_expires_at = NULL
         WHERE id = $1 AND (agent_key IS NOT NULL OR enroll_token_hash IS NOT NULL)",
        machine.uuid()
    )
    .execute(tx)
    .await?;
    Ok(had)
}

/// Notes that the present key of a machine ends, ends its sessions, and with them what was shown by it. False if there
/// is none. The caller holds the machine.
async fn end_key(
    tx: &mut Connection,
    machine: MachineId,
    reason: &str,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let was = sqlx::query_scalar!(
        "SELECT verification FROM machines WHERE id = $1 AND agent_key IS NOT NULL",
        machine.uuid()
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(verification) = was else { return Ok(false) };
    sqlx::query!(
        "INSERT INTO ended_agent_keys (agent_key, machine_id, enrolled_at, ended_at)
         SELECT agent_key, id, enrolled_at, greatest(enrolled_at, $2) FROM machines
         WHERE id = $1 AND agent_key IS NOT NULL
         ON CONFLICT DO NOTHING",
        machine.uuid(),
        ts(now)?,
    )
    .execute(&mut *tx)
    .await?;
    sessions::revoke_of_machine(tx, machine, now).await?;
    if verification.parse::<Verification>() == Ok(Verification::Verified) {
        set_verification(tx, machine, Verification::Unverified, Some(reason), now).await?;
    }
    Ok(true)
}
