//! An offer as it is shown, borrowed from the index: nothing is copied to show it.

use uuid::Uuid;

use crate::{
    catalog::GpuModel,
    index::Index,
    listing::{Isolation, Step, Tier, Verification},
    query::Query,
    row::{FOREVER, Row, UNKNOWN, UNKNOWN_BPS, flags},
    search::Found,
};

/// See [`crate::Listing`] for what the facts mean.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are those of a listing")]
pub struct Offer<'a> {
    pub id: Uuid,
    pub machine: Uuid,
    pub provider: Uuid,
    pub version: u32,
    pub model: &'a GpuModel,
    pub region: &'a str,
    pub gpu_count: u16,
    /// Bit `n - 1`: `n` GPUs may be rented at once.
    pub chunks: u64,
    pub gpus_free: u16,
    pub price_micros: u32,
    pub reserved: &'a [Step],
    pub disk_price_micros: u32,
    pub disk_gb: u32,
    pub up_price_micros: u32,
    pub down_price_micros: u32,
    pub min_duration_s: u32,
    pub max_duration_s: u32,
    pub notice_s: u32,
    pub isolation: Isolation,
    pub available_until: Option<u32>,
    pub cpu_cores: u32,
    pub ram_gb: u32,
    pub cuda: Option<u16>,
    pub disk_mb_s: Option<u32>,
    pub pcie_mb_s: Option<u32>,
    pub inet_up_mbps: Option<u32>,
    pub inet_down_mbps: Option<u32>,
    pub ports: u16,
    pub static_ip: bool,
    /// Whether the machine runs templates.
    pub runs_templates: bool,
    pub verification: Verification,
    pub tier: Tier,
    pub reliability_bps: Option<u16>,
    /// Where the reliability is known.
    pub starts: Option<u16>,
    pub ready_p95_ms: Option<u32>,
    /// Heard of lately.
    pub online: bool,
    /// Some chunk of it can be rented now, for the shortest time at least.
    pub available: bool,
    pub created_at: u32,
    pub updated_at: u32,
}

/// What the place of an offer is reckoned from: an [`Offer`] in little.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are those of an offer")]
pub struct Brief<'a> {
    pub id: Uuid,
    pub model: &'a GpuModel,
    pub price_micros: u32,
    pub reliability_bps: Option<u16>,
    pub ready_p95_ms: Option<u32>,
    pub online: bool,
    pub available: bool,
}

impl<'a> Offer<'a> {
    /// It in little.
    #[must_use]
    pub const fn brief(&self) -> Brief<'a> {
        Brief {
            id: self.id,
            model: self.model,
            price_micros: self.price_micros,
            reliability_bps: self.reliability_bps,
            ready_p95_ms: self.ready_p95_ms,
            online: self.online,
            available: self.available,
        }
    }
}

/// Whether GPUs are free for a rental, and it is offered for long enough: for the shortest one, if that begins as late as a
/// rental may that is quoted now.
pub(crate) fn is_rentable(row: &Row, begins: u32) -> bool {
    row.chunks_now() != 0 && row.until >= begins.saturating_add(row.min_duration)
}

impl Index {
    /// The offer of a [`Found`] in little, as long as the index was not changed since.
    #[must_use]
    pub fn brief(&self, found: &Found, query: &Query) -> Option<Brief<'_>> {
        let row = self.row(found)?;
        let online = self.is_online(row, query.now);
        Some(Brief {
            id: row.id,
            model: self.model_of(row)?,
            price_micros: row.price,
            reliability_bps: (row.reliability != UNKNOWN_BPS).then_some(row.reliability),
            ready_p95_ms: (row.ready_ms != UNKNOWN).then_some(row.ready_ms),
            online,
            available: online && is_rentable(row, query.begins()),
        })
    }

    pub(crate) const fn is_online(&self, row: &Row, now: u32) -> bool {
        row.has(flags::ONLINE) && row.heard_at.saturating_add(self.offline_after) >= now
    }

    /// The offer of a [`Found`], as long as the index was not changed since.
    #[must_use]
    pub fn offer(&self, found: &Found, query: &Query) -> Option<Offer<'_>> {
        self.view(self.row(found)?, query)
    }

    pub(crate) fn view(&self, row: &Row, query: &Query) -> Option<Offer<'_>> {
        let known = |value: u32| (value != UNKNOWN).then_some(value);
        let online = self.is_online(row, query.now);
        Some(Offer {
            id: row.id,
            machine: row.machine,
            provider: self.providers.get(row.provider).copied()?,
            version: row.version,
            model: self.model_of(row)?,
            region: self.regions.get(row.region.into())?,
            gpu_count: row.gpu_count.into(),
            chunks: row.chunks,
            gpus_free: row.gpus_free.into(),
            price_micros: row.price,
            reserved: self.steps(row),
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
            tier: Self::tier(row),
            reliability_bps: (row.reliability != UNKNOWN_BPS).then_some(row.reliability),
            starts: (row.reliability != UNKNOWN_BPS).then_some(row.starts),
            ready_p95_ms: known(row.ready_ms),
            online,
            available: online && is_rentable(row, query.begins()),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}
