//! What a renter may ask.

use std::collections::BTreeMap;

use uuid::Uuid;

macro_rules! fields {
    ($($(#[$about:meta])* $name:ident = $text:literal;)+) => {
        /// A fact as a number, in the unit that its documentation gives.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Field { $($(#[$about])* $name,)+ }

        impl Field {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name, as refusals and reasons write it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

fields! {
    /// GPUs of the rental.
    GpuCount = "gpu_count";
    /// GB of one GPU.
    Vram = "vram_gb";
    /// GB of all GPUs of the rental.
    TotalVram = "total_vram_gb";
    /// [`crate::Vendor`].
    Vendor = "gpu_arch";
    /// GFLOPS of all GPUs of the rental, in single precision.
    TotalFlops = "total_flops";
    /// [`crate::Form`].
    Form = "form";
    /// 86 is 8.6.
    ComputeCapability = "compute_capability";
    /// Micro-dollars per GPU and hour.
    Price = "price";
    /// Micro-dollars per hour for all GPUs of the rental, without disk and network.
    Hourly = "dph_total";
    /// GFLOPS in single precision for a dollar an hour, rounded down.
    FlopsUsd = "flops_usd";
    /// Micro-dollars per GB and month.
    DiskPrice = "disk_price";
    /// Micro-dollars per GB from the machine.
    UpPrice = "up_price";
    /// Micro-dollars per GB to the machine.
    DownPrice = "down_price";
    /// Cores.
    CpuCores = "cpu_cores";
    /// GB.
    Ram = "ram_gb";
    /// GB that may be rented.
    Disk = "disk_gb";
    /// MB per second.
    DiskSpeed = "disk_bw";
    /// MB per second.
    Pcie = "pcie_bw";
    /// Megabits per second.
    Up = "inet_up";
    /// Megabits per second.
    Down = "inet_down";
    /// Ports.
    Ports = "ports";
    /// 124 is 12.4.
    Cuda = "cuda";
    /// Basis points.
    Reliability = "reliability";
    /// Milliseconds.
    Ready = "ready_p95";
    /// Seconds: the shortest rental.
    MinDuration = "min_duration";
    /// Seconds: the longest rental.
    MaxDuration = "max_duration";
    /// Seconds since 1970: no rental runs beyond; the far future if there is no end.
    Until = "available_until";
    /// Seconds.
    Notice = "notice_s";
    /// [`crate::Tier`].
    Tier = "tier";
    /// [`crate::Verification`].
    Verification = "verification";
    /// 0 or 1.
    Datacenter = "datacenter";
    /// [`crate::Isolation`].
    Isolation = "isolation";
    /// 0 or 1.
    StaticIp = "static_ip";
    /// 0 or 1: whether the machine runs templates.
    Templates = "runs_templates";
    /// 0 or 1: whether too few GPUs are left for any rental.
    Rented = "rented";
    /// Seconds since 1970.
    Updated = "updated";
}

/// Values that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    /// From the first to the second, both included; nothing if the first is larger.
    Span(u64, u64),
    /// One of these.
    OneOf(Vec<u64>),
    /// None of these, but known.
    NoneOf(Vec<u64>),
}

impl Set {
    /// At least this.
    #[must_use]
    pub const fn at_least(value: u64) -> Self {
        Self::Span(value, u64::MAX)
    }

    /// At most this.
    #[must_use]
    pub const fn at_most(value: u64) -> Self {
        Self::Span(0, value)
    }

    /// Whether it holds a value.
    #[must_use]
    pub fn holds(&self, value: u64) -> bool {
        match self {
            Self::Span(least, most) => (*least..=*most).contains(&value),
            Self::OneOf(values) => values.contains(&value),
            Self::NoneOf(values) => !values.contains(&value),
        }
    }

    /// The least and the largest value that it may hold.
    #[must_use]
    pub fn bounds(&self) -> (u64, u64) {
        match self {
            Self::Span(least, most) => (*least, *most),
            Self::OneOf(values) => (
                values.iter().copied().min().unwrap_or(u64::MAX),
                values.iter().copied().max().unwrap_or(0),
            ),
            Self::NoneOf(_) => (0, u64::MAX),
        }
    }
}

/// A condition on one fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Which fact.
    pub field: Field,
    /// What it must be; a fact that is not known is in no set.
    pub set: Set,
}

/// Names that are wanted, or not wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The names. Of at most [`MAX_VALUES`] that somebody writes, each may stand for several.
    pub names: Vec<String>,
    /// True if none of them is wanted.
    pub not: bool,
}

/// The most values of one condition.
pub const MAX_VALUES: usize = 64;

/// What is to be run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// How long. Offers that do not allow that are not found.
    pub duration_s: u32,
    /// GB of disk. Offers without are not found.
    pub disk_gb: u32,
    /// GB sent from the machine.
    pub up_gb: u32,
    /// GB sent to the machine.
    pub down_gb: u32,
}

/// Tokens per second that one GPU makes of what is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speeds {
    /// Whatever its model.
    Every(u32),
    /// By the slugs of models; what others make is not known.
    Of(BTreeMap<String, u32>),
}

impl Speeds {
    /// A model's.
    #[must_use]
    pub fn of(&self, slug: &str) -> Option<u32> {
        match self {
            Self::Every(speed) => Some(*speed),
            Self::Of(speeds) => speeds.get(slug).copied(),
        }
    }
}

/// The order of the answer; equals are ordered by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Cheapest GPU and hour first.
    #[default]
    Price,
    /// Cheapest for the job first; without a job as [`Sort::Price`].
    Total,
    /// Most operations in single precision for the dollar first; models of unknown speed last.
    PerfPerUsd,
    /// Cheapest tokens first; models of unknown [`Speeds`] last.
    PerToken,
    /// Most reliable first, unknown last.
    Reliability,
    /// Quickest to be ready first, unknown last.
    Ready,
    /// Newest first.
    Newest,
}

/// Where a page ended: what comes after is the next page, whatever changed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The place in the order; smaller comes first.
    pub key: u128,
    /// Between equals.
    pub id: Uuid,
}

/// A search. [`Query::default`] finds every offer.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// All must hold.
    pub tests: Vec<Test>,
    /// GPU models, by any of their names; all must hold.
    pub models: Vec<Names>,
    /// Regions; `de` is `de-fra` too. All must hold.
    pub places: Vec<Names>,
    /// One of these providers; empty for any.
    pub providers: Vec<Uuid>,
    /// One of these offers; empty for any.
    pub offers: Vec<Uuid>,
    /// Of one of these machines; empty for any.
    pub machines: Vec<Uuid>,
    /// Only what can be booked now.
    pub available: bool,
    /// Only offers with a discount for the job's duration, or for any without a job.
    pub reserved: bool,
    /// What is to be run.
    pub job: Option<Job>,
    /// The job's total at most, in micro-dollars; needs a job.
    pub total_most: Option<u64>,
    /// What a GPU makes of the job.
    pub speeds: Option<Speeds>,
    /// In which order.
    pub sort: Sort,
    /// After where.
    pub after: Option<Position>,
    /// At most so many.
    pub limit: usize,
    /// Seconds since 1970.
    pub now: u32,
    /// Seconds from now within which what is booked begins: it must last from the latest of them.
    pub start_window: u32,
}

impl Query {
    /// The latest second at which a rental may begin that is quoted now.
    #[must_use]
    pub const fn begins(&self) -> u32 {
        self.now.saturating_add(self.start_window)
    }
}
