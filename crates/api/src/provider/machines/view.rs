//! A machine as it is shown.

use alloy::primitives::Address;
use domain::{
    id::{GpuId, MachineId},
    machine::{Measured, Service, Tier, Verification},
    time::UnixSeconds,
};
use serde::Serialize;
use store::machines::{Facts, Machine, Standing};
use utoipa::ToSchema;

use crate::{AppState, state::ApiConfig, views::Time};

/// A registered machine.
#[derive(Serialize, ToSchema)]
pub(crate) struct MachineView {
    #[schema(value_type = String, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: MachineId,
    name: String,
    region: String,
    /// What is sold: as declared, or as measured where that is less. So are `ram_gb` and `disk_gb`.
    cpu_cores: u32,
    ram_gb: u32,
    disk_gb: u32,
    declared: DeclaredView,
    gpus: Vec<GpuView>,
    facts: FactsView,
    standing: StandingView,
    /// `open`, `draining` or `retired`: whether it takes new rentals.
    #[schema(value_type = String, example = "open")]
    service: Service,
    /// The key that its agent signs with, once enrolled.
    #[schema(value_type = Option<String>)]
    agent: Option<Address>,
    /// Since when it has this key.
    enrolled_at: Option<Time>,
    last_heartbeat_at: Option<Time>,
    /// Whether its agent was heard of lately.
    online: bool,
    created_at: Time,
}

/// What its provider says that a machine has.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeclaredView {
    #[schema(example = 32)]
    cpu_cores: u32,
    #[schema(example = 256)]
    ram_gb: u32,
    #[schema(example = 2000)]
    disk_gb: u32,
    #[schema(example = 100)]
    ports: u32,
}

/// A GPU.
#[derive(Serialize, ToSchema)]
pub(crate) struct GpuView {
    #[schema(value_type = String, example = "gpu_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: GpuId,
    uuid: String,
    model: String,
}

/// What is known of a machine; null is not known.
#[derive(Serialize, ToSchema)]
pub(crate) struct FactsView {
    #[schema(example = "550.54.15")]
    driver_version: Option<String>,
    /// The newest CUDA that the driver runs: 124 is 12.4.
    #[schema(example = 124)]
    cuda_version: Option<u16>,
    /// Megabits a second.
    inet_up_mbps: Option<u32>,
    /// Megabits a second.
    inet_down_mbps: Option<u32>,
    /// Megabytes a second.
    disk_mb_s: Option<u32>,
    /// Megabytes a second.
    pcie_mb_s: Option<u32>,
    /// Ports that renters can be given, as its provider says.
    ports: u32,
    static_ip: bool,
    /// Whether its agent says that it runs what templates name.
    templates: bool,
    /// What the machine's agent found, and not its provider said. Never `ports`: how many are free at a moment is no fact.
    #[schema(example = json!(["cpu_cores", "driver_version"]))]
    measured: Vec<String>,
    measured_at: Option<Time>,
}

/// What a machine has shown.
#[derive(Serialize, ToSchema)]
pub(crate) struct StandingView {
    /// `unverified`, `verified` or `datacenter`.
    #[schema(value_type = String, example = "verified")]
    tier: Tier,
    /// `unverified`, `verified` or `deverified`.
    #[schema(value_type = String, example = "verified")]
    verification: Verification,
    /// Why not.
    reason: Option<String>,
    since: Option<Time>,
}

/// Whether a machine that was heard of then is online now.
pub(crate) fn is_online(heard: Option<UnixSeconds>, config: &ApiConfig, now: UnixSeconds) -> bool {
    heard.is_some_and(|at| at.saturating_plus(config.offline_after) >= now)
}

/// What is known of a machine.
pub(crate) fn facts_view(machine: &Machine) -> FactsView {
    let Facts {
        driver_version,
        cuda_version,
        inet_up_mbps,
        inet_down_mbps,
        disk_mb_s,
        pcie_mb_s,
        ports,
        static_ip,
    } = machine.facts.clone();
    let said = machine.measured.as_ref();
    let measured = said
        .map(|(measured, _)| Measured { ports: None, ..measured.clone() })
        .and_then(|measured| serde_json::to_value(measured).ok())
        .and_then(|measured| Some(measured.as_object()?.keys().cloned().collect()));
    FactsView {
        driver_version,
        cuda_version,
        inet_up_mbps,
        inet_down_mbps,
        disk_mb_s,
        pcie_mb_s,
        ports,
        static_ip,
        templates: machine.templates,
        measured: measured.unwrap_or_default(),
        measured_at: said.map(|(_, at)| Time(*at)),
    }
}

/// What a machine has shown.
pub(crate) fn standing_view(standing: &Standing) -> StandingView {
    StandingView {
        tier: standing.tier,
        verification: standing.verification,
        reason: standing.reason.clone(),
        since: standing.at.map(Time),
    }
}

pub(super) fn view(machine: Machine, app: &AppState) -> MachineView {
    let (facts, standing) = (facts_view(&machine), standing_view(&machine.standing));
    let (spec, sold) = (machine.spec, machine.sold);
    MachineView {
        id: machine.id,
        name: spec.name,
        region: spec.region,
        cpu_cores: sold.cpu_cores,
        ram_gb: sold.ram_gb,
        disk_gb: sold.disk_gb,
        declared: DeclaredView {
            cpu_cores: spec.cpu_cores,
            ram_gb: spec.ram_gb,
            disk_gb: spec.disk_gb,
            ports: machine.facts.ports,
        },
        gpus: machine
            .gpus
            .into_iter()
            .map(|gpu| GpuView { id: gpu.id, uuid: gpu.vendor_uuid, model: gpu.model })
            .collect(),
        facts,
        standing,
        service: machine.service,
        agent: machine.agent,
        enrolled_at: machine.enrolled_at.map(Time),
        last_heartbeat_at: machine.last_heartbeat_at.map(Time),
        online: is_online(machine.last_heartbeat_at, &app.config, app.now()),
        created_at: Time(machine.created_at),
    }
}
