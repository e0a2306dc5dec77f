//! Templates: what runs on a rented machine. A version never changes; a change makes the next.

use domain::{
    id::AccountId,
    template::{Content, Port},
    time::UnixSeconds,
};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    Connection, StoreError,
    convert::{seconds, ts},
};

/// The platform's own.
const PLATFORM: &str = include_str!("../data/templates.json");

/// One version of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its name in addresses.
    pub slug: String,
    /// Counts from 1.
    pub version: u32,
    /// Who made it; `None` for the platform.
    pub account: Option<AccountId>,
    /// What it consists of.
    pub content: Content,
    /// SHA-256 of the content's canonical JSON.
    pub content_hash: [u8; 32],
    /// When this version was made.
    pub created_at: UnixSeconds,
}

#[derive(Deserialize)]
struct Platform {
    slug: String,
    content: Content,
}

/// SHA-256 of the content as JSON with its members in the order of their names and without spaces.
///
/// # Errors
/// [`StoreError::Bug`] if it cannot be written as JSON.
pub fn content_hash(content: &Content) -> Result<[u8; 32], StoreError> {
    let text = serde_json::to_vec(content).map_err(|error| StoreError::Bug(error.to_string()))?;
    Ok(Sha256::digest(text).into())
}

/// Adds the platform's templates, or their next version where the program's differ from the newest stored; returns
/// how many.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn fill(tx: &mut Connection, now: UnixSeconds) -> Result<u64, StoreError> {
    let known: Vec<Platform> = serde_json::from_str(PLATFORM).map_err(StoreError::corrupt)?;
    let mut added = 0_u64;
    for Platform { slug, content } in known {
        let hash = content_hash(&content)?;
        let newest = newest_hash(tx, &slug).await?;
        let version = match newest {
            Some((_, stored)) if stored == hash => continue,
            Some((version, _)) => version.saturating_add(1),
            None => 1,
        };
        // another process may have been first with the same
        if insert(
            tx,
            &Template {
                slug,
                version,
                account: None,
                content,
                content_hash: hash,
                created_at: now,
            },
        )
        .await?
        {
            added = added.saturating_add(1);
        }
    }
    Ok(added)
}

async fn newest_hash(
    tx: &mut Connection,
    slug: &str,
) -> Result<Option<(u32, [u8; 32])>, StoreError> {
    let row = sqlx::query!(
        "SELECT version, content_hash FROM templates WHERE slug = $1 ORDER BY version DESC LIMIT 1",
        slug
    )
    .fetch_optional(tx)
    .await?;
    row.map(|row| Ok((version(row.version)?, hash(&row.content_hash)?))).transpose()
}

fn version(stored: i32) -> Result<u32, StoreError> {
    u32::try_from(stored).map_err(StoreError::corrupt)
}

fn hash(stored: &[u8]) -> Result<[u8; 32], StoreError> {
    stored.try_into().map_err(StoreError::corrupt)
}

/// Stores a version; false if there is one of this name and number.
///
/// # Errors
/// The database's.
pub async fn insert(tx: &mut Connection, template: &Template) -> Result<bool, StoreError> {
    let content = &template.content;
    let stored = sqlx::query!(
        "INSERT INTO templates (slug, version, account_id, name, image, ports, env, disk_gb, min_vram_gb, readme,
                                content_hash, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         ON CONFLICT (slug, version) DO NOTHING",
        template.slug,
        i32::try_from(template.version).map_err(StoreError::corrupt)?,
        template.account.map(AccountId::uuid),
        content.name,
        content.image,
        json!(content.ports),
        json!(content.env),
        i32::try_from(content.disk_gb).map_err(StoreError::corrupt)?,
        i32::try_from(content.min_vram_gb).map_err(StoreError::corrupt)?,
        content.readme,
        template.content_hash.as_slice(),
        ts(template.created_at)?,
    )
    .execute(tx)
    .await?;
    Ok(stored.rows_affected() == 1)
}

struct Row {
    slug: String,
    version: i32,
    account_id: Option<uuid::Uuid>,
    name: String,
    image: String,
    ports: Value,
    env: Value,
    disk_gb: i32,
    min_vram_gb: i32,
    readme: String,
    content_hash: Vec<u8>,
    created_at: time::OffsetDateTime,
}

impl TryFrom<Row> for Template {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let gb = |stored: i32| u32::try_from(stored).map_err(StoreError::corrupt);
        Ok(Self {
            slug: row.slug,
            version: version(row.version)?,
            account: row.account_id.map(AccountId::from_uuid),
            content: Content {
                disk_gb: gb(row.disk_gb)?,
                env: serde_json::from_value(row.env).map_err(StoreError::corrupt)?,
                image: row.image,
                min_vram_gb: gb(row.min_vram_gb)?,
                name: row.name,
                ports: serde_json::from_value(row.ports).map_err(StoreError::corrupt)?,
                readme: row.readme,
            },
            content_hash: hash(&row.content_hash)?,
            created_at: seconds(row.created_at)?,
        })
    }
}

/// A version of a template, or its newest.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn get(
    connection: &mut Connection,
    slug: &str,
    version: Option<u32>,
) -> Result<Option<Template>, StoreError> {
    // a number too large for its column is of no version
    let version = version.map(|version| i32::try_from(version).unwrap_or(0));
    sqlx::query_as!(
        Row,
        "SELECT slug, version, account_id, name, image, ports, env, disk_gb, min_vram_gb, readme, content_hash,
                created_at
         FROM templates WHERE slug = $1 AND ($2::int IS NULL OR version = $2)
         ORDER BY version DESC LIMIT 1",
        slug,
        version,
    )
    .fetch_optional(connection)
    .await?
    .map(Template::try_from)
    .transpose()
}

/// A template in a list: without what may be long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name in addresses.
    pub slug: String,
    /// Counts from 1.
    pub version: u32,
    /// Who made it; `None` for the platform.
    pub account: Option<AccountId>,
    /// Its name for people.
    pub name: String,
    /// A container image with a tag or a digest.
    pub image: String,
    /// Ports that are opened.
    pub ports: Vec<Port>,
    /// Disk in GB.
    pub disk_gb: u32,
    /// Memory of one GPU in GB that it needs.
    pub min_vram_gb: u32,
    /// SHA-256 of the content's canonical JSON.
    pub content_hash: [u8; 32],
    /// When this version was made.
    pub created_at: UnixSeconds,
}

/// The newest version of each template, by name; the platform's only if asked for.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(
    connection: &mut Connection,
    platform_only: bool,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Listed>, StoreError> {
    sqlx::query!(
        "SELECT DISTINCT ON (slug) slug, version, account_id, name, image, ports, disk_gb, min_vram_gb,
                content_hash, created_at
         FROM templates
         WHERE ($1::text IS NULL OR slug > $1) AND (NOT $2 OR account_id IS NULL)
         ORDER BY slug, version DESC LIMIT $3",
        after,
        platform_only,
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        let gb = |stored: i32| u32::try_from(stored).map_err(StoreError::corrupt);
        Ok(Listed {
            slug: row.slug,
            version: version(row.version)?,
            account: row.account_id.map(AccountId::from_uuid),
            name: row.name,
            image: row.image,
            ports: serde_json::from_value(row.ports).map_err(StoreError::corrupt)?,
            disk_gb: gb(row.disk_gb)?,
            min_vram_gb: gb(row.min_vram_gb)?,
            content_hash: hash(&row.content_hash)?,
            created_at: seconds(row.created_at)?,
        })
    })
    .collect()
}

/// How many versions of templates an account has made. The account is held until the transaction ends, so that of two
/// that count at once the second sees what the first has made.
///
/// # Errors
/// The database's.
pub async fn count_of(connection: &mut Connection, account: AccountId) -> Result<i64, StoreError> {
    sqlx::query!("SELECT id FROM accounts WHERE id = $1 FOR NO KEY UPDATE", account.uuid())
        .fetch_optional(&mut *connection)
        .await?;
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM templates WHERE account_id = $1"#,
        account.uuid()
    )
    .fetch_one(connection)
    .await?;
    Ok(count)
}
