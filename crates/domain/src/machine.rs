//! What a machine is said to be, what it has shown, and where the two differ.

use serde::{Deserialize, Serialize};

use crate::names::named_enum;

mod checks;
use checks::vram_mib;
pub use checks::{
    AnswerError, Check, MAX_SKEW_S, MIN_DISK_MB_S, MIN_DRIVER, Op, Reading, Requirement, answer,
    judge, requirements, review,
};

named_enum! {
    /// Whether the machine has shown what its provider says of it.
    pub enum Verification ("verification") {
        /// Not shown, or not since it was declared anew.
        Unverified => "unverified",
        /// Its last self-test showed everything.
        Verified => "verified",
        /// It was shown once, and then contradicted, or taken away by the operator; the reason is public.
        Deverified => "deverified",
    }
}

named_enum! {
    /// How much is known of a machine.
    pub enum Tier ("tier") {
        /// The provider's word.
        Unverified => "unverified",
        /// Its self-test agrees.
        Verified => "verified",
        /// It is verified, and the operator has seen proof that it stands in a data centre.
        Datacenter => "datacenter",
    }
}

named_enum! {
    /// Whether a machine takes new rentals.
    pub enum Service ("service") {
        /// It does.
        Open => "open",
        /// What runs goes on, nothing new begins.
        Draining => "draining",
        /// It never will again.
        Retired => "retired",
    }
}

/// A GPU as its driver names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredGpu {
    /// The vendor's UUID.
    pub uuid: String,
    /// As the driver spells it.
    pub name: String,
    /// All of its memory, in MiB.
    pub vram_mib: u32,
}

/// What an agent found on its machine. What is missing could not be measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Measured {
    /// The GPUs that the driver lists; absent where there is no driver to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Vec<MeasuredGpu>>,
    /// Such as `550.54.15`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// The newest CUDA that the driver runs: 124 is 12.4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cuda_version: Option<u16>,
    /// Cores that the agent may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<u32>,
    /// Memory in GB of 10^9 bytes, rounded down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram_gb: Option<u32>,
    /// The file system that rentals are kept on, in GB of 10^9 bytes, rounded down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_gb: Option<u32>,
    /// Megabytes a second that it wrote and synced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_mb_s: Option<u32>,
    /// What the slowest GPU's link to the machine carries, in megabytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcie_mb_s: Option<u32>,
    /// To the network, in megabits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inet_up_mbps: Option<u32>,
    /// From the network, in megabits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inet_down_mbps: Option<u32>,
    /// Ports that renters can be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<u32>,
}

/// What a provider says of a machine, as far as it can be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The vendor's UUIDs of its GPUs.
    pub gpu_uuids: Vec<String>,
    /// Every spelling of their model.
    pub gpu_names: Vec<String>,
    /// Memory of one of them, in GB as the vendor states it.
    pub vram_gb: u32,
    /// CPU cores.
    pub cpu_cores: u32,
    /// Memory in GB.
    pub ram_gb: u32,
    /// Disk in GB.
    pub disk_gb: u32,
    /// Ports that renters can be given.
    pub ports: u32,
    /// The driver, if it is declared.
    pub driver_version: Option<String>,
    /// CUDA, if it is declared: 124 is 12.4.
    pub cuda_version: Option<u16>,
    /// The disk's speed, if it is declared.
    pub disk_mb_s: Option<u32>,
}

/// Where a report says less than what was declared: a sentence for each place, fit for the public. What the report
/// leaves out contradicts nothing.
#[must_use]
pub fn contradictions(declared: &Declared, measured: &Measured) -> Vec<String> {
    let mut found = Vec::new();
    let same = |one: &str, other: &str| gpu_uuid(one) == gpu_uuid(other);
    let (least, most) = vram_mib(declared.vram_gb);
    for gpu in measured.gpus.iter().flatten() {
        if !declared.gpu_uuids.iter().any(|uuid| same(uuid, &gpu.uuid)) {
            continue;
        }
        if !same_name(&declared.gpu_names, &gpu.name) {
            found.push(format!("GPU {} is a {}", gpu.uuid, gpu.name));
        }
        if !(least..=most).contains(&u64::from(gpu.vram_mib)) {
            let (has, said) = (gpu.vram_mib, declared.vram_gb);
            found.push(format!("GPU {} has {has} MiB in place of {said} GB", gpu.uuid));
        }
    }
    if let Some(gpus) = &measured.gpus {
        let missing =
            declared.gpu_uuids.iter().filter(|uuid| gpus.iter().all(|gpu| !same(uuid, &gpu.uuid)));
        found.extend(missing.map(|uuid| format!("GPU {uuid} is missing")));
    }
    for (what, said, shown) in [
        ("CPU cores", declared.cpu_cores, measured.cpu_cores),
        ("GB of memory", declared.ram_gb, measured.ram_gb),
        ("GB of disk", declared.disk_gb, measured.disk_gb),
    ] {
        if let Some(shown) = shown.filter(|shown| *shown < said) {
            found.push(format!("{shown} {what} in place of {said}"));
        }
    }
    found
}

/// The one spelling of a GPU's id: what NVIDIA's begin with in capitals, all else in small letters.
#[must_use]
pub fn gpu_uuid(given: &str) -> String {
    let small = given.to_ascii_lowercase();
    for (prefix, written) in [("gpu-", "GPU-"), ("mig-", "MIG-")] {
        if let Some(rest) = small.strip_prefix(prefix) {
            return format!("{written}{rest}");
        }
    }
    small
}

/// Whether a driver's spelling is one of a model's, whatever the case and the space around it.
#[must_use]
pub fn same_name(names: &[String], given: &str) -> bool {
    names.iter().any(|name| name.trim().eq_ignore_ascii_case(given.trim()))
}

#[cfg(test)]
mod tests;
