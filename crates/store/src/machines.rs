//! Machines and their GPUs, the enrolment of their agents, and their heartbeats.

use alloy_primitives::Address;
use domain::{
    id::{AccountId, GpuId, MachineId},
    machine::{Measured, Service},
    time::UnixSeconds,
};

use crate::{
    Connection, StoreError,
    convert::{address, seconds, ts},
};

mod contact;
mod facts;
mod keys;
mod maintenance;
mod service;
mod standing;
mod tests_ordered;

pub use contact::{Contact, contact, forget_templates, heartbeat};
pub use facts::{Facts, change, declare, declared, note_measured};
pub use keys::{Enrolled, enroll, renew_enroll_token, revoke_key};
pub use maintenance::{
    MaintenanceWindow, NewWindow, RunsInto, announce, cancel_window, find_window, open_windows,
    runs_into, windows, windows_ahead,
};
pub use service::{
    Obstacle, Release, hold_machine, hold_offers, hold_service, lost_gpu, obstacle, release_gpu,
    retire, runs_something, set_service,
};
pub use standing::{Standing, bar, set_datacenter, set_verification};
pub use tests_ordered::{
    CheckedTest, OrderedTest, SignedChecks, checks, close_test, open_test, order_test,
    record_checks, test_of,
};

/// What a machine is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSpec {
    /// The owner's name for it, 1 to 64 characters.
    pub name: String,
    /// Where it stands, such as `de-fra`.
    pub region: String,
    /// CPU cores, 1 to 4,096.
    pub cpu_cores: u32,
    /// Memory in GB, 1 to 65,536.
    pub ram_gb: u32,
    /// Disk in GB, 1 to 1,048,576.
    pub disk_gb: u32,
}

/// What a machine is sold as: what is declared, or what its agent measured where that is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sold {
    /// CPU cores.
    pub cpu_cores: u32,
    /// Memory in GB.
    pub ram_gb: u32,
    /// Disk in GB.
    pub disk_gb: u32,
}

/// One GPU in a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its id here.
    pub id: GpuId,
    /// The vendor's own UUID for it in its one spelling ([`domain::machine::gpu_uuid`]), unique in the whole market.
    pub vendor_uuid: String,
    /// Its model's name.
    pub model: String,
}

/// A secret that binds an agent's key to a machine, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrollToken {
    /// SHA-256 of the token; the token itself is shown once and never stored.
    pub hash: [u8; 32],
    /// From this second on it is dead.
    pub expires_at: UnixSeconds,
}

/// A machine to be stored.
#[derive(Clone, Debug)]
pub struct NewMachine {
    /// Its id.
    pub id: MachineId,
    /// Whose it is.
    pub account: AccountId,
    /// What it is made of.
    pub spec: MachineSpec,
    /// Its GPUs, in the order of their slots.
    pub gpus: Vec<Gpu>,
    /// How its agent gets in.
    pub enroll: EnrollToken,
    /// When.
    pub now: UnixSeconds,
}

/// A stored machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its id.
    pub id: MachineId,
    /// Whose it is.
    pub account: AccountId,
    /// What it is made of.
    pub spec: MachineSpec,
    /// Its GPUs, in the order of their slots.
    pub gpus: Vec<Gpu>,
    /// What of it is sold.
    pub sold: Sold,
    /// The key its agent signs with, once enrolled.
    pub agent: Option<Address>,
    /// When its agent was enrolled.
    pub enrolled_at: Option<UnixSeconds>,
    /// When its agent was last heard of.
    pub last_heartbeat_at: Option<UnixSeconds>,
    /// When it was registered.
    pub created_at: UnixSeconds,
    /// What else is known of it.
    pub facts: Facts,
    /// Whether its agent says that it runs templates.
    pub templates: bool,
    /// What its agent said last of it, and when.
    pub measured: Option<(Measured, UnixSeconds)>,
    /// What it has shown.
    pub standing: Standing,
    /// Whether it takes new rentals.
    pub service: Service,
    /// Grows with every change of what is declared, of its standing or its service.
    pub version: u32,
}

/// Stores a machine with its GPUs, whose models must exist. If one of them was in a machine that is barred, this one is
/// barred from the first, for the same reason.
///
/// # Errors
/// [`StoreError::Conflict`] on `gpus_vendor_uuid_key` if one of the GPUs is registered already.
pub async fn create(tx: &mut Connection, machine: &NewMachine) -> Result<(), StoreError> {
    let spec = &machine.spec;
    sqlx::query!(
        "INSERT INTO machines (id, account_id, name, region, cpu_cores, ram_gb, disk_gb,
                               enroll_token_hash, enroll_expires_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        machine.id.uuid(),
        machine.account.uuid(),
        spec.name,
        spec.region,
        i32::try_from(spec.cpu_cores).map_err(StoreError::corrupt)?,
        i32::try_from(spec.ram_gb).map_err(StoreError::corrupt)?,
        i32::try_from(spec.disk_gb).map_err(StoreError::corrupt)?,
        machine.enroll.hash.as_slice(),
        ts(machine.enroll.expires_at)?,
        ts(machine.now)?,
    )
    .execute(&mut *tx)
    .await?;
    for (ordinal, gpu) in machine.gpus.iter().enumerate() {
        sqlx::query!(
            "INSERT INTO gpus (id, machine_id, vendor_uuid, model, ordinal) VALUES ($1, $2, $3, $4, $5)",
            gpu.id.uuid(),
            machine.id.uuid(),
            gpu.vendor_uuid,
            gpu.model,
            i16::try_from(ordinal).map_err(StoreError::corrupt)?,
        )
        .execute(&mut *tx)
        .await?;
    }
    inherit_bar(tx, machine).await
}

/// How many machines an account has that are not retired.
///
/// # Errors
/// The database's.
pub async fn count(connection: &mut Connection, account: AccountId) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "n!" FROM machines WHERE account_id = $1 AND service <> 'retired'"#,
        account.uuid()
    )
    .fetch_one(connection)
    .await?)
}

/// What the operator took away from a machine stays away from its GPUs, under whatever machine they come back.
async fn inherit_bar(tx: &mut Connection, machine: &NewMachine) -> Result<(), StoreError> {
    let uuids: Vec<String> =
        machine.gpus.iter().map(|gpu| gpu.vendor_uuid.to_ascii_lowercase()).collect();
    sqlx::query!(
        "UPDATE machines SET barred = true, verification = 'deverified', verification_reason = was.reason,
                verification_at = $3
         FROM (SELECT o.verification_reason AS reason FROM machines o JOIN gpus g ON g.machine_id = o.id
               WHERE o.barred AND g.retired AND lower(g.vendor_uuid) = ANY($2)
               ORDER BY o.verification_at DESC, o.id DESC LIMIT 1) was
         WHERE id = $1",
        machine.id.uuid(),
        &uuids,
        ts(machine.now)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

struct Row {
    id: uuid::Uuid,
    account_id: uuid::Uuid,
    name: String,
    region: String,
    cpu_cores: i32,
    ram_gb: i32,
    disk_gb: i32,
    agent_key: Option<Vec<u8>>,
    enrolled_at: Option<time::OffsetDateTime>,
    last_heartbeat_at: Option<time::OffsetDateTime>,
    created_at: time::OffsetDateTime,
    driver_version: Option<String>,
    cuda_version: Option<i16>,
    inet_up_mbps: Option<i32>,
    inet_down_mbps: Option<i32>,
    disk_mb_s: Option<i32>,
    pcie_mb_s: Option<i32>,
    ports: i32,
    static_ip: bool,
    templates: bool,
    measured: Option<serde_json::Value>,
    measured_at: Option<time::OffsetDateTime>,
    verification: String,
    verification_reason: Option<String>,
    verification_at: Option<time::OffsetDateTime>,
    datacenter: bool,
    barred: bool,
    tier: String,
    service: String,
    version: i32,
    sold_cpu_cores: i32,
    sold_ram_gb: i32,
    sold_disk_gb: i32,
}

impl TryFrom<Row> for Machine {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let number = |value: i32| u32::try_from(value).map_err(StoreError::corrupt);
        let maybe = |value: Option<i32>| value.map(number).transpose();
        let measured = match (row.measured, row.measured_at) {
            (Some(said), Some(at)) => {
                let said: Measured = serde_json::from_value(said).map_err(StoreError::corrupt)?;
                Some((said, seconds(at)?))
            }
            _ => None,
        };
        Ok(Self {
            id: MachineId::from_uuid(row.id),
            account: AccountId::from_uuid(row.account_id),
            spec: MachineSpec {
                name: row.name,
                region: row.region,
                cpu_cores: number(row.cpu_cores)?,
                ram_gb: number(row.ram_gb)?,
                disk_gb: number(row.disk_gb)?,
            },
            gpus: Vec::new(),
            sold: Sold {
                cpu_cores: number(row.sold_cpu_cores)?,
                ram_gb: number(row.sold_ram_gb)?,
                disk_gb: number(row.sold_disk_gb)?,
            },
            agent: row.agent_key.as_deref().map(address).transpose()?,
            enrolled_at: row.enrolled_at.map(seconds).transpose()?,
            last_heartbeat_at: row.last_heartbeat_at.map(seconds).transpose()?,
            created_at: seconds(row.created_at)?,
            facts: Facts {
                driver_version: row.driver_version,
                cuda_version: row
                    .cuda_version
                    .map(|version| u16::try_from(version).map_err(StoreError::corrupt))
                    .transpose()?,
                inet_up_mbps: maybe(row.inet_up_mbps)?,
                inet_down_mbps: maybe(row.inet_down_mbps)?,
                disk_mb_s: maybe(row.disk_mb_s)?,
                pcie_mb_s: maybe(row.pcie_mb_s)?,
                ports: number(row.ports)?,
                static_ip: row.static_ip,
            },
            templates: row.templates,
            measured,
            standing: Standing {
                verification: row.verification.parse().map_err(StoreError::corrupt)?,
                reason: row.verification_reason,
                at: row.verification_at.map(seconds).transpose()?,
                datacenter: row.datacenter,
                barred: row.barred,
                tier: row.tier.parse().map_err(StoreError::corrupt)?,
            },
            service: row.service.parse().map_err(StoreError::corrupt)?,
            version: number(row.version)?,
        })
    }
}

/// One text for every read of machines.
macro_rules! machines {
    ($tail:literal, $($argument:expr),+ $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"SELECT id, account_id, name, region, cpu_cores, ram_gb, disk_gb, agent_key, enrolled_at,
                      last_heartbeat_at, created_at, driver_version, cuda_version, inet_up_mbps,
                      inet_down_mbps, disk_mb_s, pcie_mb_s, ports, static_ip, templates, measured, measured_at,
                      verification, verification_reason, verification_at, datacenter, barred,
                      tier AS "tier!", service, version, sold_cpu_cores AS "sold_cpu_cores!",
                      sold_ram_gb AS "sold_ram_gb!", sold_disk_gb AS "sold_disk_gb!"
               FROM machines "# + $tail,
            $($argument),+
        )
    };
}

/// The machine with this id.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn get(
    connection: &mut Connection,
    id: MachineId,
) -> Result<Option<Machine>, StoreError> {
    let row = machines!("WHERE id = $1", id.uuid()).fetch_optional(&mut *connection).await?;
    let Some(row) = row else { return Ok(None) };
    let mut machines = [Machine::try_from(row)?];
    add_gpus(connection, &mut machines).await?;
    let [machine] = machines;
    Ok(Some(machine))
}

/// Up to `limit` machines of an account after the one with id `after`, oldest first.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn list(
    connection: &mut Connection,
    account: AccountId,
    after: Option<MachineId>,
    limit: i64,
) -> Result<Vec<Machine>, StoreError> {
    let rows = machines!(
        "WHERE account_id = $1 AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3",
        account.uuid(),
        after.map(MachineId::uuid),
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut machines =
        rows.into_iter().map(Machine::try_from).collect::<Result<Vec<_>, StoreError>>()?;
    add_gpus(connection, &mut machines).await?;
    Ok(machines)
}

async fn add_gpus(connection: &mut Connection, machines: &mut [Machine]) -> Result<(), StoreError> {
    let ids: Vec<_> = machines.iter().map(|machine| machine.id.uuid()).collect();
    let rows = sqlx::query!(
        "SELECT id, machine_id, vendor_uuid, model FROM gpus
         WHERE machine_id = ANY($1) ORDER BY machine_id, ordinal",
        &ids
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        let owner = machines.iter_mut().find(|machine| machine.id.uuid() == row.machine_id);
        if let Some(machine) = owner {
            machine.gpus.push(Gpu {
                id: GpuId::from_uuid(row.id),
                vendor_uuid: row.vendor_uuid,
                model: row.model,
            });
        }
    }
    Ok(())
}
