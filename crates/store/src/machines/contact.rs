//! When a machine's agent was heard of.

use alloy_primitives::Address;
use domain::{
    id::MachineId,
    time::{Seconds, UnixSeconds},
};

use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
};

/// Notes that a machine's agent was heard of. After a silence of more than `timeout` a new stretch of
/// contact begins: only then is anything written beside the machine's own row. `templates` is whether it runs
/// templates, if it says so now; returned is what is known of that.
///
/// # Errors
/// The database's.
pub async fn heartbeat(
    tx: &mut Connection,
    id: MachineId,
    now: UnixSeconds,
    timeout: Seconds,
    templates: Option<bool>,
) -> Result<bool, StoreError> {
    let silent_since = ts(now.saturating_minus(timeout))?;
    let was = sqlx::query!(
        "UPDATE machines m
         SET contact_since = CASE WHEN m.last_heartbeat_at >= $3 THEN m.contact_since ELSE $2 END,
             last_heartbeat_at = greatest(m.last_heartbeat_at, $2),
             templates = coalesce($4, m.templates)
         FROM (SELECT id, last_heartbeat_at FROM machines WHERE id = $1 FOR NO KEY UPDATE) was
         WHERE m.id = was.id RETURNING was.last_heartbeat_at, m.templates",
        id.uuid(),
        ts(now)?,
        silent_since,
        templates,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(was) = was else { return Ok(false) };
    let before = was.last_heartbeat_at;
    if before.is_some_and(|before| before >= silent_since) {
        return Ok(was.templates);
    }
    sqlx::query!(
        "UPDATE machine_contacts SET to_at = greatest(from_at, $2) WHERE machine_id = $1 AND to_at IS NULL",
        id.uuid(),
        before,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO machine_contacts (machine_id, from_at) VALUES ($1, $2)
         ON CONFLICT (machine_id, from_at) DO UPDATE SET to_at = NULL",
        id.uuid(),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(was.templates)
}

/// Takes it that the machine runs no templates until its agent says so again. An agent of another version may be the one
/// that signs in, and an older one says nothing.
///
/// # Errors
/// The database's.
pub async fn forget_templates(tx: &mut Connection, id: MachineId) -> Result<(), StoreError> {
    sqlx::query!("UPDATE machines SET templates = false WHERE id = $1 AND templates", id.uuid())
        .execute(tx)
        .await?;
    Ok(())
}

/// Since when a machine has been in contact without a silence of more than `timeout`, up to `now`; `None` if it is out of
/// contact. What it says of earlier time is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The time.
    pub since: Option<UnixSeconds>,
}

/// The contact of a machine whose agent has this key; `None` if the key is not its agent's any more. Until the transaction
/// ends nobody replaces or revokes the key.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn contact(
    tx: &mut Connection,
    (id, agent): (MachineId, Address),
    now: UnixSeconds,
    timeout: Seconds,
) -> Result<Option<Contact>, StoreError> {
    let found = sqlx::query!(
        "SELECT contact_since, last_heartbeat_at FROM machines WHERE id = $1 AND agent_key = $2 FOR KEY SHARE",
        id.uuid(),
        agent.as_slice(),
    )
    .fetch_optional(tx)
    .await?;
    let silent = ts(now.saturating_minus(timeout))?;
    found
        .map(|found| {
            let is_heard = found.last_heartbeat_at.is_some_and(|heard| heard >= silent);
            let since = found.contact_since.filter(|_| is_heard);
            Ok(Contact { since: since.map(seconds).transpose()? })
        })
        .transpose()
}
