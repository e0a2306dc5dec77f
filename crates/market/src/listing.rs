//! One offer version with everything that a renter may ask about.

use thiserror::Error;
use uuid::Uuid;

macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $code:literal, $text:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$about])* $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name, as stored and as written in filters.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Its number in [`crate::Test`]s.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The one with this number.
            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|item| item.code() == code)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Unlistable;

            fn from_str(text: &str) -> Result<Self, Unlistable> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|item| item.as_str() == text)
                    .ok_or(Unlistable::Name(stringify!($name)))
            }
        }
    };
}

named! {
    /// How a GPU sits in its machine.
    Form {
        /// A card.
        Pcie = 0, "pcie";
        /// On the board.
        Sxm = 1, "sxm";
        /// Two cards, bridged.
        Nvl = 2, "nvl";
        /// An accelerator module on the board (OCP).
        Oam = 3, "oam";
        /// One package with the CPU.
        Superchip = 4, "superchip";
    }
}
named! {
    /// Who makes a GPU.
    Vendor {
        /// NVIDIA.
        Nvidia = 0, "nvidia";
        /// AMD.
        Amd = 1, "amd";
    }
}
named! {
    /// What the platform has seen of a machine.
    Verification {
        /// Nothing yet.
        Unverified = 0, "unverified";
        /// It passed the self-test.
        Verified = 1, "verified";
        /// It did once, and then something was wrong.
        Deverified = 2, "deverified";
    }
}
named! {
    /// What a renter may rely on.
    Tier {
        /// The provider's word.
        Unverified = 0, "unverified";
        /// A passed self-test.
        Verified = 1, "verified";
        /// That, in a data centre that the operator has seen proof of.
        Datacenter = 2, "datacenter";
    }
}
named! {
    /// What a renter shares with others.
    Isolation {
        /// Nothing.
        Machine = 0, "machine";
        /// The machine, not the GPU.
        Gpu = 1, "gpu";
        /// The GPU, by the hardware's own partitions.
        Mig = 2, "mig";
    }
}

impl Tier {
    /// The tier of a machine.
    #[must_use]
    pub const fn of(verification: Verification, datacenter: bool) -> Self {
        match (verification, datacenter) {
            (Verification::Verified, true) => Self::Datacenter,
            (Verification::Verified, false) => Self::Verified,
            (Verification::Unverified | Verification::Deverified, _) => Self::Unverified,
        }
    }
}

/// A step of a discount schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// From this duration on, in seconds.
    pub min_duration_s: u32,
    /// Off the price of the GPUs, in basis points.
    pub discount_bps: u16,
}

/// An offer at its current version, as it is listed. `None` is "nobody knows".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The offer.
    pub id: Uuid,
    /// The machine it is of.
    pub machine: Uuid,
    /// The account that earns.
    pub provider: Uuid,
    /// The offer's version.
    pub version: u32,
    /// The GPU model's slug.
    pub model: String,
    /// The region, such as `de-fra`.
    pub region: String,
    /// GPUs of the offer, 1 to 64.
    pub gpu_count: u16,
    /// How many GPUs may be rented at once, ascending; empty for all of them together only.
    pub chunks: Vec<u16>,
    /// GPUs of this model in the machine that no rental holds.
    pub gpus_free: u16,
    /// GPUs of this model in the machine.
    pub gpus_in_machine: u16,
    /// Per GPU and hour.
    pub price_micros: u32,
    /// Longer is cheaper; ascending.
    pub reserved: Vec<Step>,
    /// Per GB of disk and month of 720 h.
    pub disk_price_micros: u32,
    /// Most disk that may be rented with the whole machine, in GB.
    pub disk_gb: u32,
    /// Per GB from the machine.
    pub up_price_micros: u32,
    /// Per GB to the machine.
    pub down_price_micros: u32,
    /// Shortest rental.
    pub min_duration_s: u32,
    /// Longest rental.
    pub max_duration_s: u32,
    /// How long before an eviction the renter is told.
    pub notice_s: u32,
    /// What is shared.
    pub isolation: Isolation,
    /// No rental runs beyond this second since 1970.
    pub available_until: Option<u32>,
    /// CPU cores.
    pub cpu_cores: u32,
    /// Memory in GB.
    pub ram_gb: u32,
    /// 124 is CUDA 12.4.
    pub cuda: Option<u16>,
    /// MB per second.
    pub disk_mb_s: Option<u32>,
    /// MB per second.
    pub pcie_mb_s: Option<u32>,
    /// Megabits per second.
    pub inet_up_mbps: Option<u32>,
    /// Megabits per second.
    pub inet_down_mbps: Option<u32>,
    /// Ports that reach the machine.
    pub ports: u16,
    /// Whether its address stays.
    pub static_ip: bool,
    /// Whether the machine runs templates.
    pub runs_templates: bool,
    /// What the platform has seen of it.
    pub verification: Verification,
    /// Whether it stands in a data centre.
    pub datacenter: bool,
    /// Reliability of the last 30 days, 0 to 10,000.
    pub reliability_bps: Option<u16>,
    /// Starts that it saw, 65,535 for more.
    pub starts: u16,
    /// Of the last 30 days.
    pub ready_p95_ms: Option<u32>,
    /// Whether new rentals may begin at all (the machine is not being drained).
    pub open: bool,
    /// When the machine was last heard of, in seconds since 1970; 0 for never.
    pub heard_at: u32,
    /// When the offer was made.
    pub created_at: u32,
    /// When the offer was last changed.
    pub updated_at: u32,
}

/// Why an offer cannot be listed: a value that the market's rules exclude, such as a price above 4,294 dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unlistable {
    /// A model that the catalog does not have.
    #[error("the catalog has no such GPU model")]
    Model,
    /// No GPUs, more than 64, or chunks that are not among them.
    #[error("an offer has 1 to 64 GPUs, and its chunks are among them")]
    Gpus,
    /// More models, regions, providers or schedules than can be numbered.
    #[error("too many different {0}")]
    Crowd(&'static str),
    /// A name that is none of the known ones.
    #[error("not a known {0}")]
    Name(&'static str),
}

impl Listing {
    /// The tier of its machine.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        Tier::of(self.verification, self.datacenter)
    }

    /// The discount at a duration, in basis points.
    #[must_use]
    pub fn discount_bps(&self, duration_s: u32) -> u16 {
        discount(&self.reserved, duration_s)
    }
}

/// The discount of the longest step that is reached.
pub(crate) fn discount(steps: &[Step], duration_s: u32) -> u16 {
    let reached = steps.iter().filter(|step| step.min_duration_s <= duration_s);
    reached.max_by_key(|step| step.min_duration_s).map_or(0, |step| step.discount_bps)
}
