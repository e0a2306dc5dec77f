//! SSH keys of accounts, and which of them open a rental.

use domain::{
    id::{AccountId, CommandId, RentalId, SshKeyId},
    time::UnixSeconds,
};
use serde_json::{Value, json};

use crate::{
    Connection, StoreError,
    commands::{self, CommandKind, NewCommand},
    convert::{seconds, ts},
    rentals::Rental,
};

/// The most keys of one account.
pub const MOST_KEYS: i64 = 100;
/// The most keys that open one rental.
pub const MOST_OF_RENTAL: usize = 16;

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey {
    /// Its id.
    pub id: SshKeyId,
    /// What its owner calls it.
    pub label: String,
    /// Type and base64, in one line.
    pub public_key: String,
    /// `SHA256:` and base64.
    pub fingerprint: String,
    /// When it was added.
    pub created_at: UnixSeconds,
}

/// Stores a key. False if the account has [`MOST_KEYS`], which are counted under its lock.
///
/// # Errors
/// [`StoreError::Conflict`] on `ssh_keys_once` if the account has it already.
pub async fn insert(
    tx: &mut Connection,
    account: AccountId,
    key: &SshKey,
) -> Result<bool, StoreError> {
    sqlx::query!("SELECT id FROM accounts WHERE id = $1 FOR NO KEY UPDATE", account.uuid())
        .fetch_one(&mut *tx)
        .await?;
    let inserted = sqlx::query!(
        "INSERT INTO ssh_keys (id, account_id, label, public_key, fingerprint, created_at)
         SELECT $1, $2, $3, $4, $5, $6
         WHERE (SELECT count(*) FROM ssh_keys WHERE account_id = $2 AND deleted_at IS NULL
                AND rental_id IS NULL) < $7",
        key.id.uuid(),
        account.uuid(),
        key.label,
        key.public_key,
        key.fingerprint,
        ts(key.created_at)?,
        MOST_KEYS,
    )
    .execute(tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

struct Row {
    id: uuid::Uuid,
    label: String,
    public_key: String,
    fingerprint: String,
    created_at: time::OffsetDateTime,
}

impl TryFrom<Row> for SshKey {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: SshKeyId::from_uuid(row.id),
            label: row.label,
            public_key: row.public_key,
            fingerprint: row.fingerprint,
            created_at: seconds(row.created_at)?,
        })
    }
}

/// The account's keys, newest first; never more than [`MOST_KEYS`].
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(
    connection: &mut Connection,
    account: AccountId,
) -> Result<Vec<SshKey>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT id, label, public_key, fingerprint, created_at FROM ssh_keys
         WHERE account_id = $1 AND deleted_at IS NULL AND rental_id IS NULL ORDER BY id DESC LIMIT $2",
        account.uuid(),
        MOST_KEYS,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(SshKey::try_from)
    .collect()
}

/// The keys that open a rental, oldest first.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn of_rental(
    connection: &mut Connection,
    rental: RentalId,
) -> Result<Vec<SshKey>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT k.id, k.label, k.public_key, k.fingerprint, k.created_at
         FROM rental_ssh_keys r JOIN ssh_keys k ON k.id = r.ssh_key_id
         WHERE r.rental_id = $1 ORDER BY k.id",
        rental.uuid(),
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(SshKey::try_from)
    .collect()
}

/// Which of these keys the account has not.
///
/// # Errors
/// The database's.
pub async fn missing(
    tx: &mut Connection,
    account: AccountId,
    keys: &[SshKeyId],
) -> Result<Vec<SshKeyId>, StoreError> {
    let ids: Vec<_> = keys.iter().map(|key| key.uuid()).collect();
    // held, so that none is deleted before the rental that names it is there to be cleared
    let found = sqlx::query_scalar!(
        "SELECT id FROM ssh_keys WHERE id = ANY($1) AND account_id = $2 AND deleted_at IS NULL
             AND rental_id IS NULL
         ORDER BY id FOR SHARE",
        &ids,
        account.uuid(),
    )
    .fetch_all(tx)
    .await?;
    Ok(keys.iter().filter(|key| !found.contains(&key.uuid())).copied().collect())
}

/// Keeps keys that are given with a rental, for that rental alone: the ids that they have.
///
/// # Errors
/// The database's.
pub async fn give(
    tx: &mut Connection,
    renter: AccountId,
    rental: RentalId,
    keys: &[SshKey],
) -> Result<Vec<SshKeyId>, StoreError> {
    let mut ids = Vec::with_capacity(keys.len());
    for key in keys {
        let id = sqlx::query_scalar!(
            "INSERT INTO ssh_keys (id, account_id, label, public_key, fingerprint, created_at, rental_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (rental_id, fingerprint) WHERE rental_id IS NOT NULL
                DO UPDATE SET label = EXCLUDED.label
             RETURNING id",
            key.id.uuid(),
            renter.uuid(),
            key.label,
            key.public_key,
            key.fingerprint,
            ts(key.created_at)?,
            rental.uuid(),
        )
        .fetch_one(&mut *tx)
        .await?;
        ids.push(SshKeyId::from_uuid(id));
    }
    Ok(ids)
}

/// From now on exactly these keys open a rental. Those that were given with it and do not are forgotten.
///
/// # Errors
/// The database's.
pub async fn set(
    tx: &mut Connection,
    rental: RentalId,
    keys: &[SshKeyId],
) -> Result<(), StoreError> {
    let ids: Vec<_> = keys.iter().map(|key| key.uuid()).collect();
    sqlx::query!(
        "DELETE FROM rental_ssh_keys WHERE rental_id = $1 AND ssh_key_id <> ALL($2)",
        rental.uuid(),
        &ids,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO rental_ssh_keys (rental_id, ssh_key_id) SELECT $1, unnest($2::uuid[])
         ON CONFLICT DO NOTHING",
        rental.uuid(),
        &ids,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "DELETE FROM ssh_keys WHERE rental_id = $1 AND id <> ALL($2)",
        rental.uuid(),
        &ids
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The rentals that a key of an account opens, in the order in which they are to be locked.
///
/// # Errors
/// The database's.
pub async fn opens(
    tx: &mut Connection,
    account: AccountId,
    id: SshKeyId,
) -> Result<Vec<RentalId>, StoreError> {
    let opened = sqlx::query_scalar!(
        "SELECT r.rental_id FROM rental_ssh_keys r JOIN ssh_keys k ON k.id = r.ssh_key_id
         JOIN rentals l ON l.id = r.rental_id
         WHERE k.id = $1 AND k.account_id = $2 AND k.deleted_at IS NULL
           AND l.state IN ('awaiting_funds', 'funded', 'provisioning', 'active', 'interrupted')
         ORDER BY r.rental_id",
        id.uuid(),
        account.uuid(),
    )
    .fetch_all(tx)
    .await?;
    Ok(opened.into_iter().map(RentalId::from_uuid).collect())
}

/// Takes a key from an account. `None` if it has no such key; else the rentals that it opened and that have not ended,
/// which it opens no more: their machines have to be told.
///
/// # Errors
/// The database's.
pub async fn delete(
    tx: &mut Connection,
    account: AccountId,
    id: SshKeyId,
    now: UnixSeconds,
) -> Result<Option<Vec<RentalId>>, StoreError> {
    let deleted = sqlx::query!(
        "UPDATE ssh_keys SET deleted_at = $3
         WHERE id = $1 AND account_id = $2 AND deleted_at IS NULL AND rental_id IS NULL",
        id.uuid(),
        account.uuid(),
        ts(now)?,
    )
    .execute(&mut *tx)
    .await?;
    if deleted.rows_affected() == 0 {
        return Ok(None);
    }
    let opened = sqlx::query_scalar!(
        "DELETE FROM rental_ssh_keys r USING rentals l
         WHERE r.ssh_key_id = $1 AND l.id = r.rental_id
           AND l.state IN ('awaiting_funds', 'funded', 'provisioning', 'active', 'interrupted')
         RETURNING r.rental_id",
        id.uuid(),
    )
    .fetch_all(tx)
    .await?;
    Ok(Some(opened.into_iter().map(RentalId::from_uuid).collect()))
}

/// What a machine is told of the keys: lines of an authorized_keys file.
///
/// # Errors
/// The database's.
pub async fn lines(connection: &mut Connection, rental: RentalId) -> Result<Value, StoreError> {
    let keys = of_rental(connection, rental).await?;
    Ok(keys.into_iter().map(|key| Value::String(key.public_key)).collect())
}

/// Tells the rental's machine which keys open it now, in place of what it was told and has not done yet.
///
/// # Errors
/// The database's.
pub async fn tell(
    tx: &mut Connection,
    rental: &Rental,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    commands::drop_access(tx, rental.id, now).await?;
    let payload = json!({ "ssh_keys": lines(tx, rental.id).await? });
    let command = NewCommand {
        id: CommandId::from_uuid(uuid::Uuid::now_v7()),
        machine: rental.machine,
        rental: rental.id,
        kind: CommandKind::Access,
        payload,
        now,
    };
    commands::push(tx, &command).await
}
