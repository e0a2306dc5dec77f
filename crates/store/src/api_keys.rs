//! API keys: what programs sign in with, what each may do, and the deposits that each has booked.

use domain::{
    id::{AccountId, ApiKeyId, MachineId, OfferId, RentalId},
    money::UsdMicros,
    scope::Scope,
    time::UnixSeconds,
};
use sqlx::types::BigDecimal;

use crate::{
    Connection, StoreError,
    accounts::Account,
    convert::{address, seconds, ts},
    revocations,
};

/// The most live keys of one account.
pub const MOST_KEYS: i64 = 100;

/// What a key is limited to; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Only these machines, and what is on them.
    pub machines: Option<Vec<MachineId>>,
    /// Only these offers, and what was rented of them.
    pub offers: Option<Vec<OfferId>>,
    /// Only these models are rented.
    pub gpu_models: Option<Vec<String>>,
    /// Nothing is rented that costs more per hour, everything together.
    pub max_per_hour: Option<UsdMicros>,
    /// Deposits that it may book in all.
    pub cap: Option<UsdMicros>,
    /// Deposits that it may book within 24 hours.
    pub cap_per_day: Option<UsdMicros>,
}

/// A key that is live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Its last characters.
    pub hint: String,
    /// What its owner calls it.
    pub label: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// What it is limited to.
    pub limits: Limits,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// From this second on it is dead.
    pub expires_at: Option<UnixSeconds>,
    /// When it was used last, to the hour.
    pub last_used_at: Option<UnixSeconds>,
}

/// A key to be stored. The token itself is never stored, only its SHA-256.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// Whose.
    pub account: AccountId,
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// The rest of it.
    pub key: ApiKey,
}

fn micros(value: Option<UsdMicros>) -> Result<Option<i64>, StoreError> {
    value.map(|usd| i64::try_from(usd.get())).transpose().map_err(StoreError::corrupt)
}

fn usd(value: Option<i64>) -> Result<Option<UsdMicros>, StoreError> {
    let value = value.map(u64::try_from).transpose().map_err(StoreError::corrupt)?;
    Ok(value.map(UsdMicros::new))
}

/// Stores a key. False if the account has [`MOST_KEYS`] live ones, which are counted under its lock.
///
/// # Errors
/// The database's.
pub async fn insert(tx: &mut Connection, new: &NewApiKey) -> Result<bool, StoreError> {
    sqlx::query!("SELECT id FROM accounts WHERE id = $1 FOR NO KEY UPDATE", new.account.uuid())
        .fetch_one(&mut *tx)
        .await?;
    let (key, limits) = (&new.key, &new.key.limits);
    let scopes: Vec<String> = key.scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
    let machines = limits.machines.as_ref();
    let machines: Option<Vec<_>> = machines.map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let offers = limits.offers.as_ref();
    let offers: Option<Vec<_>> = offers.map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let inserted = sqlx::query!(
        "INSERT INTO api_keys (id, account_id, token_hash, hint, label, scopes, machines, offers, gpu_models,
                               max_usd_micros_per_hour, cap_usd_micros, cap_day_usd_micros, created_at, expires_at)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
         WHERE (SELECT count(*) FROM api_keys
                WHERE account_id = $2 AND revoked_at IS NULL
                  AND (expires_at IS NULL OR expires_at > $13)) < $15",
        key.id.uuid(),
        new.account.uuid(),
        new.token_hash.as_slice(),
        key.hint,
        key.label,
        &scopes,
        machines.as_deref(),
        offers.as_deref(),
        limits.gpu_models.as_deref(),
        micros(limits.max_per_hour)?,
        micros(limits.cap)?,
        micros(limits.cap_per_day)?,
        ts(key.created_at)?,
        key.expires_at.map(ts).transpose()?,
        MOST_KEYS,
    )
    .execute(tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

struct Row {
    id: uuid::Uuid,
    hint: String,
    label: String,
    scopes: Vec<String>,
    machines: Option<Vec<uuid::Uuid>>,
    offers: Option<Vec<uuid::Uuid>>,
    gpu_models: Option<Vec<String>>,
    max_usd_micros_per_hour: Option<i64>,
    cap_usd_micros: Option<i64>,
    cap_day_usd_micros: Option<i64>,
    created_at: time::OffsetDateTime,
    expires_at: Option<time::OffsetDateTime>,
    last_used_at: Option<time::OffsetDateTime>,
}

impl TryFrom<Row> for ApiKey {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let machines = row.machines.map(|ids| ids.into_iter().map(MachineId::from_uuid).collect());
        let offers = row.offers.map(|ids| ids.into_iter().map(OfferId::from_uuid).collect());
        Ok(Self {
            id: ApiKeyId::from_uuid(row.id),
            hint: row.hint,
            label: row.label,
            // what this program does not know of, it does not allow
            scopes: row.scopes.iter().filter_map(|scope| scope.parse().ok()).collect(),
            limits: Limits {
                machines,
                offers,
                gpu_models: row.gpu_models,
                max_per_hour: usd(row.max_usd_micros_per_hour)?,
                cap: usd(row.cap_usd_micros)?,
                cap_per_day: usd(row.cap_day_usd_micros)?,
            },
            created_at: seconds(row.created_at)?,
            expires_at: row.expires_at.map(seconds).transpose()?,
            last_used_at: row.last_used_at.map(seconds).transpose()?,
        })
    }
}

/// The account's live keys, newest first; never more than [`MOST_KEYS`].
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(
    connection: &mut Connection,
    account: AccountId,
    now: UnixSeconds,
) -> Result<Vec<ApiKey>, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT id, hint, label, scopes, machines, offers, gpu_models, max_usd_micros_per_hour, cap_usd_micros,
                cap_day_usd_micros, created_at, expires_at, last_used_at
         FROM api_keys
         WHERE account_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
         ORDER BY id DESC LIMIT $3",
        account.uuid(),
        ts(now)?,
        MOST_KEYS,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(ApiKey::try_from)
    .collect()
}

/// The live key with this token, and whose it is.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn find(
    connection: &mut Connection,
    token_hash: &[u8; 32],
    now: UnixSeconds,
) -> Result<Option<(ApiKey, Account)>, StoreError> {
    let row = sqlx::query!(
        "SELECT k.id, k.hint, k.label, k.scopes, k.machines, k.offers, k.gpu_models, k.max_usd_micros_per_hour,
                k.cap_usd_micros, k.cap_day_usd_micros, k.created_at, k.expires_at, k.last_used_at,
                k.account_id, a.address, a.created_at AS account_created_at
         FROM api_keys k JOIN accounts a ON a.id = k.account_id
         WHERE k.token_hash = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)",
        token_hash.as_slice(),
        ts(now)?,
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let account = Account {
        id: AccountId::from_uuid(row.account_id),
        address: address(&row.address)?,
        created_at: seconds(row.account_created_at)?,
    };
    let key = Row {
        id: row.id,
        hint: row.hint,
        label: row.label,
        scopes: row.scopes,
        machines: row.machines,
        offers: row.offers,
        gpu_models: row.gpu_models,
        max_usd_micros_per_hour: row.max_usd_micros_per_hour,
        cap_usd_micros: row.cap_usd_micros,
        cap_day_usd_micros: row.cap_day_usd_micros,
        created_at: row.created_at,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
    };
    Ok(Some((key.try_into()?, account)))
}

/// Notes that a key was used in the hour that begins at `hour`.
///
/// # Errors
/// The database's.
pub async fn touch(tx: &mut Connection, id: ApiKeyId, hour: UnixSeconds) -> Result<(), StoreError> {
    sqlx::query!("UPDATE api_keys SET last_used_at = $2 WHERE id = $1", id.uuid(), ts(hour)?)
        .execute(tx)
        .await?;
    Ok(())
}

/// Revokes a live key of an account. False if it has none with this id.
///
/// # Errors
/// The database's.
pub async fn revoke(
    tx: &mut Connection,
    account: AccountId,
    id: ApiKeyId,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let revoked = sqlx::query!(
        "UPDATE api_keys SET revoked_at = $3 WHERE id = $1 AND account_id = $2 AND revoked_at IS NULL",
        id.uuid(),
        account.uuid(),
        ts(now)?,
    )
    .execute(&mut *tx)
    .await?;
    revocations::announce(tx, &[id.uuid()]).await?;
    Ok(revoked.rows_affected() == 1)
}

/// What a key has booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Booked {
    /// In all.
    pub total: UsdMicros,
    /// In the last 24 hours.
    pub day: UsdMicros,
}

/// What keys of an account have booked. A booking that expired without a deposit does not count.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn booked(
    connection: &mut Connection,
    id: ApiKeyId,
    now: UnixSeconds,
) -> Result<Booked, StoreError> {
    let row = sqlx::query!(
        r#"SELECT COALESCE(sum(s.usd_micros), 0) AS "total!",
                  COALESCE(sum(s.usd_micros) FILTER (WHERE s.at > $2::timestamptz - interval '24 hours'), 0) AS "day!"
           FROM api_key_spends s JOIN rentals r ON r.id = s.rental_id
           WHERE s.key_id = $1 AND r.state <> 'expired'"#,
        id.uuid(),
        ts(now)?,
    )
    .fetch_one(connection)
    .await?;
    Ok(Booked { total: sum(&row.total)?, day: sum(&row.day)? })
}

fn sum(value: &BigDecimal) -> Result<UsdMicros, StoreError> {
    let micros: u64 = value.with_scale(0).to_plain_string().parse().map_err(StoreError::corrupt)?;
    Ok(UsdMicros::new(micros))
}

/// Holds a key until the transaction ends, so that its bookings count each other. False if it is live no more.
///
/// # Errors
/// The database's.
pub async fn hold(tx: &mut Connection, id: ApiKeyId, now: UnixSeconds) -> Result<bool, StoreError> {
    let held = sqlx::query!(
        "SELECT id FROM api_keys
         WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2) FOR UPDATE",
        id.uuid(),
        ts(now)?,
    )
    .fetch_optional(tx)
    .await?;
    Ok(held.is_some())
}

/// Notes the deposit of a rental that a key booked, in the transaction of the booking.
///
/// # Errors
/// The database's.
pub async fn spend(
    tx: &mut Connection,
    id: ApiKeyId,
    rental: RentalId,
    deposit: UsdMicros,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO api_key_spends (rental_id, key_id, usd_micros, at) VALUES ($1, $2, $3, $4)",
        rental.uuid(),
        id.uuid(),
        i64::try_from(deposit.get()).map_err(StoreError::corrupt)?,
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}
