//! Listings as rows, and back.

use super::Index;
use crate::{
    catalog::GpuModel,
    listing::{Listing, Tier, Unlistable},
    row::{FOREVER, Row, UNKNOWN, UNKNOWN_BPS, flags, up_to},
};

/// The most regions, providers and discount schedules: their numbers have to fit their rows. Of regions and schedules only
/// those count that some offer has.
const MAX_REGIONS: u32 = 65_535;
const MAX_SCHEDULES: u32 = 65_535;
const MAX_PROVIDERS: u32 = u32::MAX;

impl Index {
    /// A row, which holds its region and its schedule: it is to be put in, or to be released.
    pub(super) fn pack(&mut self, listing: &Listing, now: u32) -> Result<Row, Unlistable> {
        let model = self.slugs.get(&listing.model).copied().ok_or(Unlistable::Model)?;
        let gpu_count =
            u8::try_from(listing.gpu_count).ok().filter(|count| (1..=64).contains(count));
        let gpu_count = gpu_count.ok_or(Unlistable::Gpus)?;
        let bit = |count: u16| {
            let inside = (1..=listing.gpu_count).contains(&count);
            let bit = 1_u64.checked_shl(u32::from(count).saturating_sub(1)).filter(|_| inside);
            bit.ok_or(Unlistable::Gpus)
        };
        let mut chunks = if listing.chunks.is_empty() { bit(listing.gpu_count)? } else { 0 };
        for count in &listing.chunks {
            chunks |= bit(*count)?;
        }
        let provider = self.providers.number(&listing.provider, MAX_PROVIDERS, "providers")?;
        let number = self.regions.number(listing.region.as_str(), MAX_REGIONS, "regions")?;
        let region = u16::try_from(number).map_err(|_| Unlistable::Crowd("regions"))?;
        self.regions.hold(number);
        let number = self.schedules.number(&listing.reserved, MAX_SCHEDULES, "schedules");
        let reserved = number
            .and_then(|number| u16::try_from(number).map_err(|_| Unlistable::Crowd("schedules")));
        let reserved = match reserved {
            Ok(reserved) => reserved,
            Err(error) => {
                self.regions.release(region.into());
                return Err(error);
            }
        };
        if self.schedules.hold(reserved.into()) {
            self.best.take();
        }
        let online =
            listing.heard_at != 0 && listing.heard_at.saturating_add(self.offline_after) >= now;
        let flag = |holds: bool, flag: u8| if holds { flag } else { 0 };
        Ok(Row {
            id: listing.id,
            machine: listing.machine,
            chunks: chunks & up_to(gpu_count),
            provider,
            version: listing.version,
            price: listing.price_micros,
            disk_price: listing.disk_price_micros,
            up_price: listing.up_price_micros,
            down_price: listing.down_price_micros,
            min_duration: listing.min_duration_s,
            max_duration: listing.max_duration_s,
            notice: listing.notice_s,
            until: listing.available_until.unwrap_or(FOREVER),
            disk_gb: listing.disk_gb,
            ram_gb: listing.ram_gb,
            disk_mb_s: listing.disk_mb_s.unwrap_or(UNKNOWN),
            pcie_mb_s: listing.pcie_mb_s.unwrap_or(UNKNOWN),
            up_mbps: listing.inet_up_mbps.unwrap_or(UNKNOWN),
            down_mbps: listing.inet_down_mbps.unwrap_or(UNKNOWN),
            ready_ms: listing.ready_p95_ms.unwrap_or(UNKNOWN),
            heard_at: listing.heard_at,
            created_at: listing.created_at,
            updated_at: listing.updated_at,
            model,
            region,
            reserved,
            cuda: listing.cuda.unwrap_or(0),
            cpu_cores: u16::try_from(listing.cpu_cores).unwrap_or(u16::MAX),
            ports: listing.ports,
            reliability: listing.reliability_bps.unwrap_or(UNKNOWN_BPS),
            starts: listing.starts,
            templates: listing.runs_templates,
            gpu_count,
            gpus_free: u8::try_from(listing.gpus_free).unwrap_or(u8::MAX),
            gpus_in_machine: u8::try_from(listing.gpus_in_machine).unwrap_or(u8::MAX),
            isolation: listing.isolation,
            verification: listing.verification,
            flags: flag(online, flags::ONLINE)
                | flag(listing.open, flags::OPEN)
                | flag(listing.static_ip, flags::STATIC_IP)
                | flag(listing.datacenter, flags::DATACENTER),
        })
    }

    pub(crate) fn model_of(&self, row: &Row) -> Option<&GpuModel> {
        self.models.get(usize::from(row.model))
    }

    pub(crate) fn tier(row: &Row) -> Tier {
        Tier::of(row.verification, row.has(flags::DATACENTER))
    }

    pub(crate) fn unpack(&self, row: &Row) -> Listing {
        let known = |value: u32| (value != UNKNOWN).then_some(value);
        let chunks = (1..=64_u16).filter(|count| {
            row.chunks & up_to(1).rotate_left(u32::from(*count).saturating_sub(1)) != 0
        });
        Listing {
            id: row.id,
            machine: row.machine,
            provider: self.providers.get(row.provider).copied().unwrap_or_default(),
            version: row.version,
            model: self.model_of(row).map(|model| model.slug.clone()).unwrap_or_default(),
            region: self.regions.get(row.region.into()).cloned().unwrap_or_default(),
            gpu_count: row.gpu_count.into(),
            chunks: chunks.collect(),
            gpus_free: row.gpus_free.into(),
            gpus_in_machine: row.gpus_in_machine.into(),
            price_micros: row.price,
            reserved: self.steps(row).to_vec(),
            disk_price_micros: row.disk_price,
            disk_gb: row.disk_gb,
            up_price_micros: row.up_price,
            down_price_micros: row.down_price,
            min_duration_s: row.min_duration,
            max_duration_s: row.max_duration,
            notice_s: row.notice,
            isolation: row.isolation,
            available_until: (row.until != FOREVER).then_some(row.until),
            cpu_cores: row.cpu_cores.into(),
            ram_gb: row.ram_gb,
            cuda: (row.cuda != 0).then_some(row.cuda),
            disk_mb_s: known(row.disk_mb_s),
            pcie_mb_s: known(row.pcie_mb_s),
            inet_up_mbps: known(row.up_mbps),
            inet_down_mbps: known(row.down_mbps),
            ports: row.ports,
            static_ip: row.has(flags::STATIC_IP),
            runs_templates: row.templates,
            verification: row.verification,
            datacenter: row.has(flags::DATACENTER),
            reliability_bps: (row.reliability != UNKNOWN_BPS).then_some(row.reliability),
            starts: row.starts,
            ready_p95_ms: known(row.ready_ms),
            open: row.has(flags::OPEN),
            heard_at: row.heard_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
