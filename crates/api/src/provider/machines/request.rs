//! What a machine is registered with.

use domain::{
    catalog,
    machine::{gpu_uuid, same_name},
    offer::GpuModelSlug,
};
use serde::Deserialize;
use store::{
    gpu_models::GpuModel,
    machines::{Facts, MachineSpec},
};
use utoipa::ToSchema;

use crate::{Code, Problem, catalog::nearest_regions};

/// How the vendor's ids of slices of a GPU begin.
const SLICE: &str = "MIG-";
/// The most GPUs in one machine.
const MAX_GPUS: usize = 64;
/// The most CPU cores, GB of memory and ports of one machine.
pub(crate) const MAX_CPU_CORES: u32 = 4_096;
pub(crate) const MAX_RAM_GB: u32 = 65_536;
pub(crate) const MAX_PORTS: u32 = 65_535;

/// A machine to be registered.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MachineRequest {
    /// The owner's name for it, 1 to 64 characters.
    #[schema(example = "rack-7")]
    pub(super) name: String,
    /// One of `/v1/regions`, or the country of one alone (`de`) for a place that is missing there.
    #[schema(example = "de-fra")]
    pub(super) region: String,
    /// 1 to 4,096.
    #[schema(example = 32)]
    pub(super) cpu_cores: u32,
    /// 1 to 65,536.
    #[schema(example = 256)]
    pub(super) ram_gb: u32,
    /// 1 to 1,048,576.
    #[schema(example = 2000)]
    pub(super) disk_gb: u32,
    /// 1 to 64, all of one model.
    pub(super) gpus: Vec<GpuRequest>,
    /// The driver, numbers between dots; as all that follows it may be left out, and what the agent measures takes
    /// the place of what is declared.
    #[schema(example = "550.54.15")]
    pub(super) driver_version: Option<String>,
    /// The newest CUDA that the driver runs: 124 is 12.4.
    #[schema(example = 124)]
    pub(super) cuda_version: Option<u16>,
    /// Megabits a second, at most 1,000,000.
    #[schema(example = 1000)]
    pub(super) inet_up_mbps: Option<u32>,
    /// Megabits a second, at most 1,000,000.
    #[schema(example = 1000)]
    pub(super) inet_down_mbps: Option<u32>,
    /// What the disk writes, in megabytes a second, at most 1,000,000.
    #[schema(example = 2000)]
    pub(super) disk_mb_s: Option<u32>,
    /// What the slowest GPU's link carries, in megabytes a second, at most 1,000,000.
    #[schema(example = 31504)]
    pub(super) pcie_mb_s: Option<u32>,
    /// Ports that renters can be given, at most 65,535.
    #[schema(example = 100)]
    pub(super) ports: Option<u32>,
    /// Whether its address stays the same.
    pub(super) static_ip: Option<bool>,
}

/// A change of what is declared; what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "rack 3", "ram_gb": 256, "driver_version": "580.95.05", "static_ip": true,
}))]
pub(crate) struct MachinePatch {
    /// The owner's name for it, 1 to 64 characters.
    pub(super) name: Option<String>,
    /// One of `/v1/regions`, or the country of one alone (`de`) for a place that is missing there.
    pub(super) region: Option<String>,
    /// 1 to 4,096.
    pub(super) cpu_cores: Option<u32>,
    /// 1 to 65,536.
    pub(super) ram_gb: Option<u32>,
    /// 1 to 1,048,576.
    pub(super) disk_gb: Option<u32>,
    /// The driver, numbers between dots.
    pub(super) driver_version: Option<String>,
    /// The newest CUDA that the driver runs: 124 is 12.4.
    pub(super) cuda_version: Option<u16>,
    /// Megabits a second, at most 1,000,000.
    pub(super) inet_up_mbps: Option<u32>,
    /// Megabits a second, at most 1,000,000.
    pub(super) inet_down_mbps: Option<u32>,
    /// Megabytes a second, at most 1,000,000.
    pub(super) disk_mb_s: Option<u32>,
    /// Megabytes a second, at most 1,000,000.
    pub(super) pcie_mb_s: Option<u32>,
    /// At most 65,535.
    pub(super) ports: Option<u32>,
    /// Whether its address stays the same.
    pub(super) static_ip: Option<bool>,
}

/// A GPU to be registered.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GpuRequest {
    /// The vendor's UUID, as the driver reports it, in whatever case: 8 to 64 characters. Slices of GPUs (`MIG-`) are not
    /// taken.
    #[schema(example = "GPU-5f0c2a86-0f7d-4a1e-9c53-8f1d2b7a6e40")]
    pub(super) uuid: String,
    /// One of `/v1/gpu-models`.
    #[schema(value_type = String, example = "rtx-4090")]
    pub(super) model: GpuModelSlug,
    /// As the driver spells it, if it is to be compared: one of the model's aliases.
    #[schema(example = "NVIDIA GeForce RTX 4090")]
    pub(super) name: Option<String>,
    /// Its memory in GB, if it is to be compared: the model's.
    #[schema(example = 24)]
    pub(super) vram_gb: Option<u32>,
}

/// What is wrong with a request, place by place.
struct Wrong(Problem, bool);

impl Wrong {
    fn new(detail: &str) -> Self {
        Self(Problem::new(Code::ValidationFailed, detail), false)
    }

    fn unless(&mut self, ok: bool, pointer: &str, message: impl Into<String>) {
        if !ok {
            self.1 = true;
            self.0 = self.0.clone().at(pointer, message);
        }
    }

    fn result(self) -> Result<(), Problem> {
        if self.1 { Err(self.0) } else { Ok(()) }
    }

    fn region(&mut self, region: &str) {
        if !is_region(region) {
            self.unless(false, "/region", "a country code and a place, such as de-fra");
        } else if !catalog::is_place(region) {
            let near = nearest_regions(region).join(", ");
            let country = region.split('-').next().unwrap_or_default();
            let alone = if catalog::is_place(country) {
                format!("; {country} alone will do for a place that is missing")
            } else {
                String::new()
            };
            let message = format!("none of /v1/regions; nearest are {near}{alone}");
            self.unless(false, "/region", message);
        }
    }

    fn spec(&mut self, spec: &MachineSpec, before: Option<&MachineSpec>) {
        let name = spec.name.chars().count();
        let plain = !spec.name.chars().any(char::is_control);
        let named = plain && (1..=64).contains(&name);
        self.unless(named, "/name", "1 to 64 characters, none a control");
        // where it stands already it may stay, whatever the catalog says by now
        if before.is_none_or(|before| before.region != spec.region) {
            self.region(&spec.region);
        }
        let cores = (1..=MAX_CPU_CORES).contains(&spec.cpu_cores);
        self.unless(cores, "/cpu_cores", format!("1 to {MAX_CPU_CORES}"));
        let ram = (1..=MAX_RAM_GB).contains(&spec.ram_gb);
        self.unless(ram, "/ram_gb", format!("1 to {MAX_RAM_GB}"));
        self.unless((1..=1_048_576).contains(&spec.disk_gb), "/disk_gb", "1 to 1048576");
    }

    fn facts(&mut self, facts: &Facts) {
        let driver = facts.driver_version.as_deref().is_none_or(is_version);
        self.unless(driver, "/driver_version", "numbers between dots, such as 550.54.15");
        let cuda = facts.cuda_version.is_none_or(|version| (10..=9_999).contains(&version));
        self.unless(cuda, "/cuda_version", "10 to 9999: 124 is 12.4");
        for (value, pointer) in [
            (facts.inet_up_mbps, "/inet_up_mbps"),
            (facts.inet_down_mbps, "/inet_down_mbps"),
            (facts.disk_mb_s, "/disk_mb_s"),
            (facts.pcie_mb_s, "/pcie_mb_s"),
        ] {
            let within = value.is_none_or(|value| value <= MAX_SPEED);
            self.unless(within, pointer, format!("0 to {MAX_SPEED}"));
        }
        self.unless(facts.ports <= MAX_PORTS, "/ports", format!("0 to {MAX_PORTS}"));
    }
}

/// The fastest link or disk that is believed, in megabits or megabytes a second.
const MAX_SPEED: u32 = 1_000_000;

/// Numbers between dots, 32 characters at most.
pub(crate) fn is_version(text: &str) -> bool {
    let number =
        |part: &str| (1..=9).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    text.len() <= 32 && text.split('.').count() <= 8 && text.split('.').all(number)
}

impl MachineRequest {
    pub(super) fn spec(&self) -> MachineSpec {
        MachineSpec {
            name: self.name.clone(),
            region: self.region.clone(),
            cpu_cores: self.cpu_cores,
            ram_gb: self.ram_gb,
            disk_gb: self.disk_gb,
        }
    }

    pub(super) fn facts(&self) -> Facts {
        Facts {
            driver_version: self.driver_version.clone(),
            cuda_version: self.cuda_version,
            inet_up_mbps: self.inet_up_mbps,
            inet_down_mbps: self.inet_down_mbps,
            disk_mb_s: self.disk_mb_s,
            pcie_mb_s: self.pcie_mb_s,
            ports: self.ports.unwrap_or(0),
            static_ip: self.static_ip.unwrap_or(false),
        }
    }
}

impl MachinePatch {
    /// What is declared after the change.
    pub(super) fn apply(self, spec: &MachineSpec, facts: &Facts) -> (MachineSpec, Facts) {
        let spec = MachineSpec {
            name: self.name.unwrap_or_else(|| spec.name.clone()),
            region: self.region.unwrap_or_else(|| spec.region.clone()),
            cpu_cores: self.cpu_cores.unwrap_or(spec.cpu_cores),
            ram_gb: self.ram_gb.unwrap_or(spec.ram_gb),
            disk_gb: self.disk_gb.unwrap_or(spec.disk_gb),
        };
        let facts = Facts {
            driver_version: self.driver_version.or_else(|| facts.driver_version.clone()),
            cuda_version: self.cuda_version.or(facts.cuda_version),
            inet_up_mbps: self.inet_up_mbps.or(facts.inet_up_mbps),
            inet_down_mbps: self.inet_down_mbps.or(facts.inet_down_mbps),
            disk_mb_s: self.disk_mb_s.or(facts.disk_mb_s),
            pcie_mb_s: self.pcie_mb_s.or(facts.pcie_mb_s),
            ports: self.ports.unwrap_or(facts.ports),
            static_ip: self.static_ip.unwrap_or(facts.static_ip),
        };
        (spec, facts)
    }

    /// The facts that it speaks of.
    pub(super) fn names(&self) -> Vec<&'static str> {
        [
            ("driver_version", self.driver_version.is_some()),
            ("cuda_version", self.cuda_version.is_some()),
            ("inet_up_mbps", self.inet_up_mbps.is_some()),
            ("inet_down_mbps", self.inet_down_mbps.is_some()),
            ("disk_mb_s", self.disk_mb_s.is_some()),
            ("pcie_mb_s", self.pcie_mb_s.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }
}

/// Checks what is declared anew, in place of what was.
///
/// # Errors
/// [`Code::ValidationFailed`] with every field that is wrong.
pub(super) fn validate_declared(
    (spec, facts): (&MachineSpec, &Facts),
    before: &MachineSpec,
) -> Result<(), Problem> {
    let mut wrong = Wrong::new("the machine is not acceptable");
    wrong.spec(spec, Some(before));
    wrong.facts(facts);
    wrong.result()
}

/// Checks all fields, and names every one that is wrong.
///
/// # Errors
/// [`Code::ValidationFailed`].
pub(super) fn validate(request: &MachineRequest) -> Result<(), Problem> {
    let mut wrong = Wrong::new("the machine is not acceptable");
    wrong.spec(&request.spec(), None);
    wrong.facts(&request.facts());
    wrong.unless((1..=MAX_GPUS).contains(&request.gpus.len()), "/gpus", "1 to 64 GPUs");
    let first = request.gpus.first().map(|gpu| &gpu.model);
    let mut seen = Vec::new();
    for (index, gpu) in request.gpus.iter().take(MAX_GPUS).enumerate() {
        let plain = gpu.uuid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let uuid = format!("/gpus/{index}/uuid");
        wrong.unless(
            plain && (8..=64).contains(&gpu.uuid.len()),
            &uuid,
            "8 to 64 letters, digits and hyphens",
        );
        let spelled = gpu_uuid(&gpu.uuid);
        wrong.unless(!seen.contains(&spelled), &uuid, "the same GPU twice");
        // nobody measures them, and they would be sold with the memory of the whole
        let message = "a slice of a GPU (MIG): they are not taken; register whole GPUs";
        wrong.unless(!spelled.starts_with(SLICE), &uuid, message);
        // a rental takes any free GPUs of its machine, so all must be what the offer says
        let model = format!("/gpus/{index}/model");
        wrong.unless(Some(&gpu.model) == first, &model, "all GPUs of a machine are of one model");
        seen.push(spelled);
    }
    wrong.result()
}

/// Checks that the GPUs are what their model is.
///
/// # Errors
/// [`Code::ValidationFailed`] with every field that is wrong.
pub(super) fn validate_gpus(request: &MachineRequest, models: &[GpuModel]) -> Result<(), Problem> {
    let mut wrong = Wrong::new("the GPUs are not what their model is");
    for (index, gpu) in request.gpus.iter().enumerate() {
        let slug = gpu.model.to_string();
        let pointer = |field: &str| format!("/gpus/{index}/{field}");
        let Some(model) = models.iter().find(|model| model.slug == slug) else {
            let message = format!("{slug} is none of /v1/gpu-models");
            wrong.unless(false, &pointer("model"), message);
            continue;
        };
        let vram = gpu.vram_gb.is_none_or(|vram| vram == model.vram_gb);
        let message = format!("a {} has {} GB", model.slug, model.vram_gb);
        wrong.unless(vram, &pointer("vram_gb"), message);
        let named = gpu.name.as_deref().is_none_or(|name| {
            same_name(&model.aliases, name) || same_name(std::slice::from_ref(&model.name), name)
        });
        let message = format!("that is no spelling of {}", model.slug);
        wrong.unless(named, &pointer("name"), message);
    }
    wrong.result()
}

/// Two letters, then parts of letters and digits behind hyphens, 32 characters at most.
pub(crate) fn is_region(text: &str) -> bool {
    let mut parts = text.split('-');
    let country = parts.next().unwrap_or_default();
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    text.len() <= 32
        && country.len() == 2
        && country.bytes().all(|b| b.is_ascii_lowercase())
        && parts.all(word)
}
