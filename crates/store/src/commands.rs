//! Orders for a provider's machine: delivered with every heartbeat until the agent acknowledges them, and announced for
//! agents that wait for them.

use alloy_primitives::B256;
use domain::{
    id::{CommandId, MachineId, RentalId},
    time::UnixSeconds,
};
use serde_json::Value;

use crate::{
    Connection, StoreError,
    convert::{hash, seconds, ts},
};

/// The channel on which it is announced that a machine may have a new order; the payload is the machine's id in hex.
pub const CHANNEL: &str = "machine_orders";

/// What the machine is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// Make the rental's GPUs usable for the renter.
    Provision,
    /// Take them away again.
    Deprovision,
    /// Sign how the rental ended, if the machine's own records agree.
    SignEnd,
    /// Let these SSH keys in, and no others.
    Access,
}

impl CommandKind {
    /// The stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Deprovision => "deprovision",
            Self::SignEnd => "sign_end",
            Self::Access => "access",
        }
    }

    /// What undoes it.
    const fn contrary(self) -> Option<Self> {
        match self {
            Self::Provision => Some(Self::Deprovision),
            Self::Deprovision => Some(Self::Provision),
            Self::SignEnd | Self::Access => None,
        }
    }

    fn parse(name: &str) -> Result<Self, StoreError> {
        [Self::Provision, Self::Deprovision, Self::SignEnd, Self::Access]
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| StoreError::corrupt(format_args!("command kind {name:?}")))
    }
}

/// An order to be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCommand {
    /// Its id.
    pub id: CommandId,
    /// The machine it is for.
    pub machine: MachineId,
    /// The rental it is about.
    pub rental: RentalId,
    /// What to do.
    pub kind: CommandKind,
    /// What the agent needs to know for it.
    pub payload: Value,
    /// When it is given.
    pub now: UnixSeconds,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its id, by which the agent acknowledges it.
    pub id: CommandId,
    /// The machine it is for.
    pub machine: MachineId,
    /// The rental it is about.
    pub rental: RentalId,
    /// The rental's id on the chain, which its readings name.
    pub escrow_id: B256,
    /// What to do.
    pub kind: CommandKind,
    /// What the agent needs to know for it.
    pub payload: Value,
    /// When it was given.
    pub created_at: UnixSeconds,
    /// When the agent said that it was done, or when it was overtaken by its opposite.
    pub acked_at: Option<UnixSeconds>,
}

/// Drops a rental's open orders to sign: the end that they name is not the one that is sent, or it was sent.
///
/// # Errors
/// The database's.
pub async fn drop_sign_end(
    tx: &mut Connection,
    rental: RentalId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE agent_commands SET acked_at = $2
         WHERE rental_id = $1 AND kind = 'sign_end' AND acked_at IS NULL",
        rental.uuid(),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Drops a rental's open orders about its SSH keys: newer ones were set, or nobody is to be let in any more.
///
/// # Errors
/// The database's.
pub async fn drop_access(
    tx: &mut Connection,
    rental: RentalId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE agent_commands SET acked_at = $2
         WHERE rental_id = $1 AND kind = 'access' AND acked_at IS NULL",
        rental.uuid(),
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Gives an order, and announces it when the transaction commits. It overtakes the rental's open order to the contrary,
/// and an order that is still open is not given twice.
///
/// # Errors
/// The database's.
pub async fn push(tx: &mut Connection, command: &NewCommand) -> Result<(), StoreError> {
    let now = ts(command.now)?;
    sqlx::query!(
        "UPDATE agent_commands SET acked_at = $3
         WHERE rental_id = $1 AND kind = $2 AND acked_at IS NULL",
        command.rental.uuid(),
        command.kind.contrary().map(CommandKind::as_str),
        now,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "WITH given AS (
             INSERT INTO agent_commands (id, machine_id, rental_id, kind, payload, created_at)
             SELECT $1, $2, $3, $4, $5, $6
             WHERE NOT EXISTS (SELECT FROM agent_commands
                               WHERE rental_id = $3 AND kind = $4 AND acked_at IS NULL)
             RETURNING machine_id)
         SELECT pg_notify($7, replace(machine_id::text, '-', '')) FROM given",
        command.id.uuid(),
        command.machine.uuid(),
        command.rental.uuid(),
        command.kind.as_str(),
        command.payload,
        now,
        CHANNEL,
    )
    .execute(tx)
    .await?;
    Ok(())
}

struct Row {
    id: uuid::Uuid,
    machine_id: uuid::Uuid,
    rental_id: uuid::Uuid,
    escrow_id: Vec<u8>,
    kind: String,
    payload: Value,
    created_at: time::OffsetDateTime,
    acked_at: Option<time::OffsetDateTime>,
}

impl TryFrom<Row> for Command {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: CommandId::from_uuid(row.id),
            machine: MachineId::from_uuid(row.machine_id),
            rental: RentalId::from_uuid(row.rental_id),
            escrow_id: hash(&row.escrow_id)?,
            kind: CommandKind::parse(&row.kind)?,
            payload: row.payload,
            created_at: seconds(row.created_at)?,
            acked_at: row.acked_at.map(seconds).transpose()?,
        })
    }
}

/// A machine's open orders but for those that it says it knows, oldest first. A `Provision` waits until the machine has
/// said that the GPUs' last renter is off them, an `Access` until there is something to let anybody into.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn open(
    connection: &mut Connection,
    machine: MachineId,
    known: &[CommandId],
    limit: i64,
) -> Result<Vec<Command>, StoreError> {
    let known: Vec<_> = known.iter().map(|id| id.uuid()).collect();
    sqlx::query_as!(
        Row,
        "SELECT c.id, c.machine_id, c.rental_id, r.escrow_id, c.kind, c.payload, c.created_at, c.acked_at
         FROM agent_commands c JOIN rentals r ON r.id = c.rental_id
         WHERE c.machine_id = $1 AND c.acked_at IS NULL AND c.id <> ALL($3)
           AND NOT (c.kind = 'provision' AND EXISTS (
               SELECT FROM agent_commands d
               JOIN rental_gpus theirs ON theirs.rental_id = d.rental_id
               JOIN rental_gpus ours ON ours.gpu_id = theirs.gpu_id AND ours.rental_id = c.rental_id
               WHERE d.machine_id = c.machine_id AND d.kind = 'deprovision' AND d.acked_at IS NULL
                 AND d.rental_id <> c.rental_id))
           AND NOT (c.kind = 'access' AND EXISTS (
               SELECT FROM agent_commands p
               WHERE p.rental_id = c.rental_id AND p.kind = 'provision' AND p.acked_at IS NULL))
         ORDER BY c.id LIMIT $2",
        machine.uuid(),
        limit,
        &known,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Command::try_from)
    .collect()
}

/// A machine's order with this id, open or not.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn find(
    connection: &mut Connection,
    machine: MachineId,
    id: CommandId,
) -> Result<Option<Command>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT c.id, c.machine_id, c.rental_id, r.escrow_id, c.kind, c.payload, c.created_at, c.acked_at
         FROM agent_commands c JOIN rentals r ON r.id = c.rental_id
         WHERE c.id = $1 AND c.machine_id = $2",
        id.uuid(),
        machine.uuid(),
    )
    .fetch_optional(connection)
    .await?
    .map(Command::try_from)
    .transpose()
}

/// Closes an order; one that is closed stays as it is. It is announced as a new one is: others may have waited for it.
///
/// # Errors
/// The database's.
pub async fn ack(tx: &mut Connection, id: CommandId, now: UnixSeconds) -> Result<(), StoreError> {
    sqlx::query!(
        "WITH closed AS (UPDATE agent_commands SET acked_at = $2 WHERE id = $1 AND acked_at IS NULL
                         RETURNING machine_id)
         SELECT pg_notify($3, replace(machine_id::text, '-', '')) FROM closed",
        id.uuid(),
        ts(now)?,
        CHANNEL,
    )
    .execute(tx)
    .await?;
    Ok(())
}
