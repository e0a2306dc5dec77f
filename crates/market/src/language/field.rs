//! The fields of the language: our names for them, and Vast.ai's.

use domain::id::{AccountId, MachineId, OfferId};
use uuid::Uuid;

use super::{LanguageError, Value};
use crate::query::Field;

/// What a field's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A decimal number times `scale`, divided by 10 to the `shift`.
    Number {
        field: Field,
        scale: u64,
        shift: u32,
    },
    /// One of some names, by their numbers.
    Choice {
        field: Field,
        names: &'static [(&'static str, u64)],
    },
    /// True or false.
    Flag {
        field: Field,
    },
    /// Whether it can be booked now.
    Rentable,
    Model,
    Region,
    Provider,
    Machine,
    Offer,
}

/// A known field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) kind: Kind,
}

const fn number(field: Field, scale: u64) -> Kind {
    Kind::Number { field, scale, shift: 0 }
}

const TIERS: &[(&str, u64)] =
    &[("unverified", 0), ("community", 0), ("verified", 1), ("datacenter", 2), ("secure", 2)];
const VERIFICATIONS: &[(&str, u64)] = &[("unverified", 0), ("verified", 1), ("deverified", 2)];
const ISOLATIONS: &[(&str, u64)] = &[("machine", 0), ("gpu", 1), ("mig", 2)];
const VENDORS: &[(&str, u64)] = &[("nvidia", 0), ("amd", 1)];
const FORMS: &[(&str, u64)] = &[("pcie", 0), ("sxm", 1), ("nvl", 2), ("oam", 3), ("superchip", 4)];
const VERIFIED: &[(&str, u64)] =
    &[("true", 1), ("1", 1), ("yes", 1), ("false", 0), ("0", 0), ("no", 0)];

/// Every name, with what it means. The first names are ours, the others Vast.ai's.
const FIELDS: &[(&str, Kind)] = &[
    ("gpu_model", Kind::Model),
    ("gpu_name", Kind::Model),
    ("gpu_count", number(Field::GpuCount, 1)),
    ("num_gpus", number(Field::GpuCount, 1)),
    ("vram_gb", number(Field::Vram, 1)),
    ("gpu_ram", number(Field::Vram, 1)),
    ("gpu_mem", number(Field::Vram, 1)),
    ("total_vram_gb", number(Field::TotalVram, 1)),
    ("gpu_total_ram", number(Field::TotalVram, 1)),
    ("gpu_arch", Kind::Choice { field: Field::Vendor, names: VENDORS }),
    ("form", Kind::Choice { field: Field::Form, names: FORMS }),
    ("compute_capability", number(Field::ComputeCapability, 10)),
    // Vast.ai writes 8.6 as 860
    ("compute_cap", Kind::Number { field: Field::ComputeCapability, scale: 1, shift: 1 }),
    ("price", number(Field::Price, 1_000_000)),
    // Vast.ai's are for the whole rental
    ("dph", number(Field::Hourly, 1_000_000)),
    ("dph_total", number(Field::Hourly, 1_000_000)),
    ("dph_base", number(Field::Hourly, 1_000_000)),
    // Vast.ai counts in TFLOPS of single precision
    ("total_flops", number(Field::TotalFlops, 1_000)),
    ("flops_usd", number(Field::FlopsUsd, 1_000)),
    ("disk_price", number(Field::DiskPrice, 1_000_000)),
    ("storage_cost", number(Field::DiskPrice, 1_000_000)),
    ("up_price", number(Field::UpPrice, 1_000_000)),
    ("inet_up_cost", number(Field::UpPrice, 1_000_000)),
    ("down_price", number(Field::DownPrice, 1_000_000)),
    ("inet_down_cost", number(Field::DownPrice, 1_000_000)),
    ("cpu_cores", number(Field::CpuCores, 1)),
    ("cpu_cores_effective", number(Field::CpuCores, 1)),
    ("ram_gb", number(Field::Ram, 1)),
    ("cpu_ram", number(Field::Ram, 1)),
    ("disk_gb", number(Field::Disk, 1)),
    ("disk_space", number(Field::Disk, 1)),
    ("disk_bw", number(Field::DiskSpeed, 1)),
    // Vast.ai's pcie_bw is in GB per second
    ("pcie_bw", number(Field::Pcie, 1_000)),
    ("inet_up", number(Field::Up, 1)),
    ("inet_down", number(Field::Down, 1)),
    ("ports", number(Field::Ports, 1)),
    ("direct_port_count", number(Field::Ports, 1)),
    ("cuda", number(Field::Cuda, 10)),
    ("cuda_vers", number(Field::Cuda, 10)),
    ("cuda_max_good", number(Field::Cuda, 10)),
    ("reliability", number(Field::Reliability, 10_000)),
    ("reliability2", number(Field::Reliability, 10_000)),
    // seconds; stored in milliseconds
    ("ready_p95", number(Field::Ready, 1_000)),
    ("min_duration_s", number(Field::MinDuration, 1)),
    ("max_duration_s", number(Field::MaxDuration, 1)),
    // Vast.ai's duration is in days
    ("duration", number(Field::MaxDuration, 86_400)),
    ("notice_s", number(Field::Notice, 1)),
    ("tier", Kind::Choice { field: Field::Tier, names: TIERS }),
    ("verification", Kind::Choice { field: Field::Verification, names: VERIFICATIONS }),
    ("verified", Kind::Choice { field: Field::Verification, names: VERIFIED }),
    ("datacenter", Kind::Flag { field: Field::Datacenter }),
    ("isolation", Kind::Choice { field: Field::Isolation, names: ISOLATIONS }),
    ("static_ip", Kind::Flag { field: Field::StaticIp }),
    ("runs_templates", Kind::Flag { field: Field::Templates }),
    ("region", Kind::Region),
    ("country", Kind::Region),
    ("geolocation", Kind::Region),
    ("available", Kind::Rentable),
    ("rentable", Kind::Rentable),
    ("rented", Kind::Flag { field: Field::Rented }),
    ("provider", Kind::Provider),
    ("host_id", Kind::Provider),
    ("machine_id", Kind::Machine),
    ("id", Kind::Offer),
];

pub(super) fn find(name: &str) -> Option<Known> {
    let named = |(known, _): &&(&str, Kind)| known.eq_ignore_ascii_case(name);
    FIELDS.iter().find(named).map(|(_, kind)| Known { kind: *kind })
}

/// The known name with the fewest letters to change, if those are few.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let by_distance = FIELDS.iter().map(|(known, _)| (distance(&name, known), *known));
    let (distance, known) = by_distance.min_by_key(|(distance, _)| *distance)?;
    (distance <= known.len().div_ceil(2).min(4)).then_some(known)
}

/// Levenshtein's distance: letters to change, add or take away.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (number, a) in left.chars().enumerate() {
        let mut diagonal = number;
        let mut before = number.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, b) in row.iter_mut().skip(1).zip(right.chars()) {
            let changed = diagonal.saturating_add(usize::from(a != b));
            diagonal = *cell;
            before = changed.min(before.saturating_add(1)).min(cell.saturating_add(1));
            *cell = before;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// A value among names.
pub(super) fn choice(value: &Value, names: &[(&str, u64)]) -> Result<u64, LanguageError> {
    let found = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(&value.text));
    found.map(|(_, number)| *number).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let reason = format!("{:?} is none of {}", super::short(&value.text), names.join(", "));
        LanguageError::new(value.position, reason)
    })
}

/// True or false as 1 or 0.
pub(super) fn flag(value: &Value) -> Result<u64, LanguageError> {
    choice(value, &[("true", 1), ("1", 1), ("yes", 1), ("false", 0), ("0", 0), ("no", 0)])
}

/// An id of the right kind.
pub(super) fn id(kind: Kind, value: &Value) -> Result<Uuid, LanguageError> {
    let text = value.text.as_str();
    let read = match kind {
        Kind::Provider => text.parse::<AccountId>().map(AccountId::uuid),
        Kind::Machine => text.parse::<MachineId>().map(MachineId::uuid),
        Kind::Offer
        | Kind::Model
        | Kind::Region
        | Kind::Rentable
        | Kind::Number { .. }
        | Kind::Choice { .. }
        | Kind::Flag { .. } => text.parse::<OfferId>().map(OfferId::uuid),
    };
    read.map_err(|error| LanguageError::new(value.position, error.to_string()))
}
