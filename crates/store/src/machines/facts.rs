//! What is known of a machine beside what it is made of: declared by its provider, then measured by its agent.

use domain::{
    id::MachineId,
    machine::{Declared, Measured},
    time::UnixSeconds,
};

use super::MachineSpec;
use crate::{Connection, StoreError, convert::ts};

/// Facts that may not be known. What the agent measured takes the place of what was declared, but for the ports: those
/// are sold as declared, for how many are free at a moment says nothing of the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The driver, such as `550.54.15`.
    pub driver_version: Option<String>,
    /// The newest CUDA that it runs: 124 is 12.4.
    pub cuda_version: Option<u16>,
    /// To the network, in megabits a second.
    pub inet_up_mbps: Option<u32>,
    /// From the network, in megabits a second.
    pub inet_down_mbps: Option<u32>,
    /// What the disk writes, in megabytes a second.
    pub disk_mb_s: Option<u32>,
    /// What the slowest GPU's link carries, in megabytes a second.
    pub pcie_mb_s: Option<u32>,
    /// Ports that renters can be given.
    pub ports: u32,
    /// Whether its address stays.
    pub static_ip: bool,
}

fn small(value: Option<u32>) -> Result<Option<i32>, StoreError> {
    value.map(|value| i32::try_from(value).map_err(StoreError::corrupt)).transpose()
}

fn smaller(value: Option<u16>) -> Result<Option<i16>, StoreError> {
    value.map(|value| i16::try_from(value).map_err(StoreError::corrupt)).transpose()
}

/// Stores what a provider declares of a machine just registered.
///
/// # Errors
/// The database's, or [`StoreError::Missing`].
pub async fn declare(tx: &mut Connection, id: MachineId, facts: &Facts) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "UPDATE machines SET driver_version = $2, cuda_version = $3, inet_up_mbps = $4, inet_down_mbps = $5,
                disk_mb_s = $6, pcie_mb_s = $7, ports = $8, static_ip = $9
         WHERE id = $1",
        id.uuid(),
        facts.driver_version,
        smaller(facts.cuda_version)?,
        small(facts.inet_up_mbps)?,
        small(facts.inet_down_mbps)?,
        small(facts.disk_mb_s)?,
        small(facts.pcie_mb_s)?,
        i32::try_from(facts.ports).map_err(StoreError::corrupt)?,
        facts.static_ip,
    )
    .execute(tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Missing("the machine")) }
}

/// Changes what a provider declares of a machine that is at `version`. False if it is at another.
///
/// # Errors
/// The database's.
pub async fn change(
    tx: &mut Connection,
    id: MachineId,
    version: u32,
    spec: &MachineSpec,
    facts: &Facts,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE machines SET name = $3, region = $4, cpu_cores = $5, ram_gb = $6, disk_gb = $7,
                datacenter = datacenter AND region = $4, version = version + 1
         WHERE id = $1 AND version = $2",
        id.uuid(),
        i32::try_from(version).map_err(StoreError::corrupt)?,
        spec.name,
        spec.region,
        i32::try_from(spec.cpu_cores).map_err(StoreError::corrupt)?,
        i32::try_from(spec.ram_gb).map_err(StoreError::corrupt)?,
        i32::try_from(spec.disk_gb).map_err(StoreError::corrupt)?,
    )
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() != 1 {
        return Ok(false);
    }
    declare(tx, id, facts).await?;
    Ok(true)
}

/// Stores what an agent measured: it is added to what it said before, and takes the place of what was declared. Of cores,
/// memory and disk the declared stays, and no more is sold than was measured ([`super::Sold`]); of ports it stays, too.
///
/// # Errors
/// The database's.
pub async fn note_measured(
    tx: &mut Connection,
    id: MachineId,
    measured: &Measured,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let said = serde_json::to_value(measured).map_err(StoreError::corrupt)?;
    sqlx::query!(
        "UPDATE machines SET measured = coalesce(measured, '{}') || $2, measured_at = $3,
                driver_version = coalesce($4, driver_version), cuda_version = coalesce($5, cuda_version),
                inet_up_mbps = coalesce($6, inet_up_mbps), inet_down_mbps = coalesce($7, inet_down_mbps),
                disk_mb_s = coalesce($8, disk_mb_s), pcie_mb_s = coalesce($9, pcie_mb_s)
         WHERE id = $1",
        id.uuid(),
        said,
        ts(now)?,
        measured.driver_version,
        smaller(measured.cuda_version)?,
        small(measured.inet_up_mbps)?,
        small(measured.inet_down_mbps)?,
        small(measured.disk_mb_s)?,
        small(measured.pcie_mb_s)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What a machine is said to be, as far as it can be checked. What its agent measured is not its provider's word any
/// more, so that a self-test does not compare it with itself.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn declared(
    connection: &mut Connection,
    id: MachineId,
) -> Result<Option<Declared>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT m.cpu_cores, m.ram_gb, m.disk_gb, m.ports, m.driver_version, m.cuda_version, m.disk_mb_s,
                  coalesce(m.measured ? 'driver_version', false) AS "driver_shown!",
                  coalesce(m.measured ? 'cuda_version', false) AS "cuda_shown!",
                  coalesce(m.measured ? 'disk_mb_s', false) AS "disk_shown!",
                  array_agg(g.vendor_uuid ORDER BY g.ordinal) AS "uuids!",
                  min(k.vram_gb) AS "vram_gb!", min(k.name) AS "model!",
                  (SELECT aliases FROM gpu_models WHERE slug = min(g.model)) AS "aliases!"
           FROM machines m JOIN gpus g ON g.machine_id = m.id JOIN gpu_models k ON k.slug = g.model
           WHERE m.id = $1 GROUP BY m.id"#,
        id.uuid()
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let number = |value: i32| u32::try_from(value).map_err(StoreError::corrupt);
        let mut names = row.aliases;
        names.push(row.model);
        let cuda = row.cuda_version.filter(|_| !row.cuda_shown);
        Ok(Declared {
            gpu_uuids: row.uuids,
            gpu_names: names,
            vram_gb: number(row.vram_gb)?,
            cpu_cores: number(row.cpu_cores)?,
            ram_gb: number(row.ram_gb)?,
            disk_gb: number(row.disk_gb)?,
            ports: number(row.ports)?,
            driver_version: row.driver_version.filter(|_| !row.driver_shown),
            cuda_version: cuda
                .map(|version| u16::try_from(version).map_err(StoreError::corrupt))
                .transpose()?,
            disk_mb_s: row.disk_mb_s.filter(|_| !row.disk_shown).map(number).transpose()?,
        })
    })
    .transpose()
}
