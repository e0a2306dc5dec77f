//! The terms of one version of an offer, and the bounds on them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::money::{Bps, UsdMicros, mul_div_floor};
use crate::names::named_enum;
use crate::rate::UsdPerHour;
use crate::time::{Seconds, UnixSeconds};

/// The highest price that is accepted: 1,000 dollars per GPU and hour, well above any GPU and below a slipped point.
pub const MAX_PRICE: UsdPerHour = UsdPerHour(UsdMicros::new(1_000_000_000));
/// The highest price of a GB of disk for a month of 720 h: 100 dollars.
pub const MAX_DISK_PRICE: UsdMicros = UsdMicros::new(100_000_000);
/// The highest price of a GB sent or received: 100 dollars.
pub const MAX_NETWORK_PRICE: UsdMicros = UsdMicros::new(100_000_000);
/// The most GPUs in one offer.
pub const MAX_GPU_COUNT: u16 = 1_024;
/// The longest rental: 31 days.
pub const MAX_DURATION: Seconds = Seconds(31 * 24 * 3_600);
/// The longest notice before the provider ends a rental: 7 days.
pub const MAX_NOTICE: Seconds = Seconds(7 * 24 * 3_600);
/// The largest discount: 90 %, so that no price becomes nothing.
pub const MAX_DISCOUNT: u16 = 9_000;
/// The most steps of a discount schedule.
pub const MAX_RESERVED_STEPS: usize = 8;
/// The most disk of one offer, in GB.
pub const MAX_DISK_GB: u32 = 1_048_576;

named_enum! {
    /// What a renter shares with others on the machine.
    pub enum Isolation ("isolation") {
        /// Nothing: the machine is rented whole.
        Machine => "machine",
        /// The machine; its GPUs are the renter's own.
        Gpu => "gpu",
        /// A GPU: what is rented are slices of it that the hardware keeps apart (MIG).
        Mig => "mig",
    }
}

/// A step of a discount schedule: who reserves so long pays so much less for the GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserved {
    /// The shortest duration that gets the discount.
    #[serde(rename = "min_duration_s")]
    pub min_duration: Seconds,
    /// Off the price of the GPUs, 1 to 9,000 basis points.
    pub discount_bps: Bps,
}

/// The terms of one version of an offer. A rental is billed by the second, at least one: that is the escrow's rule
/// and not the offer's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferTerms {
    /// Dollars per GPU and hour, gross of the platform's fee; above 0, at most [`MAX_PRICE`].
    pub price: UsdPerHour,
    /// The most GPUs of one rental, 1 to [`MAX_GPU_COUNT`].
    pub gpu_count: u16,
    /// How many GPUs a rental can take: ascending, the last is `gpu_count`.
    pub chunks: Vec<u16>,
    /// The shortest rental, at least 1 second.
    pub min_duration: Seconds,
    /// The longest rental, at least `min_duration`, at most [`MAX_DURATION`].
    pub max_duration: Seconds,
    /// Longer is cheaper: durations and discounts ascend; at most [`MAX_RESERVED_STEPS`] steps, none means no discount.
    pub reserved: Vec<Reserved>,
    /// Dollars for a GB of disk for a month of 720 h, at most [`MAX_DISK_PRICE`]; may be 0.
    pub disk_price: UsdMicros,
    /// The most disk that can be rented with all of the machine's GPUs, in GB; fewer GPUs get their share.
    pub disk_gb: u32,
    /// Dollars for a GB sent from the machine, at most [`MAX_NETWORK_PRICE`]; may be 0.
    pub up_price: UsdMicros,
    /// Dollars for a GB received by the machine, at most [`MAX_NETWORK_PRICE`]; may be 0.
    pub down_price: UsdMicros,
    /// How long before the provider ends a rental the renter is told, at most [`MAX_NOTICE`].
    pub notice: Seconds,
    /// What is shared with others.
    pub isolation: Isolation,
    /// No rental runs beyond this second.
    pub available_until: Option<UnixSeconds>,
}

/// What is wrong with an offer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OfferError {
    /// A price of nothing.
    #[error("the price must be above 0")]
    PriceZero,
    /// A price above [`MAX_PRICE`].
    #[error("the price is above {MAX_PRICE} USD per GPU and hour")]
    PriceTooHigh,
    /// No GPUs, or too many.
    #[error("the GPU count must be 1 to {MAX_GPU_COUNT}, not {0}")]
    GpuCount(u16),
    /// Chunks that are none, not ascending, 0, or do not end with the whole.
    #[error("the chunks must ascend from at least 1 to the GPU count, {0}, which is the last")]
    Chunks(u16),
    /// A shortest rental of no time.
    #[error("the shortest duration must be at least 1 s")]
    MinDurationZero,
    /// A shortest rental longer than the longest.
    #[error("the shortest duration, {min}, is longer than the longest, {max}")]
    MinAboveMax {
        /// The shortest.
        min: Seconds,
        /// The longest.
        max: Seconds,
    },
    /// A longest rental above [`MAX_DURATION`].
    #[error("the longest duration is above {MAX_DURATION}")]
    MaxDurationTooLong,
    /// Too many steps of discount.
    #[error("at most {MAX_RESERVED_STEPS} discounts")]
    ReservedTooMany,
    /// A discount of nothing or above [`MAX_DISCOUNT`].
    #[error("a discount must be 1 to {MAX_DISCOUNT} basis points")]
    Discount(usize),
    /// A discount for a duration that cannot be rented.
    #[error("a discount's duration must be one that the offer allows")]
    ReservedDuration(usize),
    /// Durations or discounts that do not rise from step to step.
    #[error("durations and discounts must both rise from one discount to the next")]
    ReservedOrder(usize),
    /// A price of disk above [`MAX_DISK_PRICE`].
    #[error("the price is above {MAX_DISK_PRICE} USD per GB and month")]
    DiskPriceTooHigh,
    /// More disk than any machine has.
    #[error("at most {MAX_DISK_GB} GB of disk")]
    DiskTooLarge,
    /// A price of the network above [`MAX_NETWORK_PRICE`]; true for what is sent.
    #[error("the price is above {MAX_NETWORK_PRICE} USD per GB")]
    NetworkPriceTooHigh {
        /// True for what is sent, false for what is received.
        up: bool,
    },
    /// A notice above [`MAX_NOTICE`].
    #[error("the notice is above {MAX_NOTICE}")]
    NoticeTooLong,
    /// A whole machine in parts.
    #[error("with isolation `machine` all GPUs are rented together: leave chunks out")]
    IsolatedInParts,
    /// A GPU model's name in the wrong form.
    #[error(
        "a GPU model is 2 to 48 lowercase letters and digits with single hyphens between, such as h100-sxm-80gb"
    )]
    ModelSlug,
}

impl OfferTerms {
    /// Terms with nothing but a price: all GPUs together, no discount, no disk, the network free.
    #[must_use]
    pub fn plain(
        price: UsdPerHour,
        gpu_count: u16,
        min_duration: Seconds,
        max_duration: Seconds,
    ) -> Self {
        Self {
            price,
            gpu_count,
            chunks: vec![gpu_count],
            min_duration,
            max_duration,
            reserved: Vec::new(),
            disk_price: UsdMicros::ZERO,
            disk_gb: 0,
            up_price: UsdMicros::ZERO,
            down_price: UsdMicros::ZERO,
            notice: Seconds(120),
            isolation: Isolation::Gpu,
            available_until: None,
        }
    }

    /// # Errors
    /// The first bound that the terms break.
    pub fn validate(&self) -> Result<(), OfferError> {
        if self.price.usd() == UsdMicros::ZERO {
            return Err(OfferError::PriceZero);
        }
        if self.price > MAX_PRICE {
            return Err(OfferError::PriceTooHigh);
        }
        if self.gpu_count == 0 || self.gpu_count > MAX_GPU_COUNT {
            return Err(OfferError::GpuCount(self.gpu_count));
        }
        let ascending = self.chunks.windows(2).all(|pair| pair.first() < pair.last());
        let least = self.chunks.first().copied().unwrap_or_default();
        if !ascending || least == 0 || self.chunks.last() != Some(&self.gpu_count) {
            return Err(OfferError::Chunks(self.gpu_count));
        }
        if self.min_duration == Seconds::ZERO {
            return Err(OfferError::MinDurationZero);
        }
        if self.min_duration > self.max_duration {
            return Err(OfferError::MinAboveMax { min: self.min_duration, max: self.max_duration });
        }
        if self.max_duration > MAX_DURATION {
            return Err(OfferError::MaxDurationTooLong);
        }
        self.validate_reserved()?;
        self.validate_extras()
    }

    fn validate_reserved(&self) -> Result<(), OfferError> {
        if self.reserved.len() > MAX_RESERVED_STEPS {
            return Err(OfferError::ReservedTooMany);
        }
        let mut before: Option<&Reserved> = None;
        for (index, step) in self.reserved.iter().enumerate() {
            if step.discount_bps == Bps::ZERO || step.discount_bps.get() > MAX_DISCOUNT {
                return Err(OfferError::Discount(index));
            }
            if step.min_duration < self.min_duration || step.min_duration > self.max_duration {
                return Err(OfferError::ReservedDuration(index));
            }
            if before.is_some_and(|before| {
                step.min_duration <= before.min_duration || step.discount_bps <= before.discount_bps
            }) {
                return Err(OfferError::ReservedOrder(index));
            }
            before = Some(step);
        }
        Ok(())
    }

    fn validate_extras(&self) -> Result<(), OfferError> {
        if self.disk_price > MAX_DISK_PRICE {
            return Err(OfferError::DiskPriceTooHigh);
        }
        if self.disk_gb > MAX_DISK_GB {
            return Err(OfferError::DiskTooLarge);
        }
        if self.up_price > MAX_NETWORK_PRICE {
            return Err(OfferError::NetworkPriceTooHigh { up: true });
        }
        if self.down_price > MAX_NETWORK_PRICE {
            return Err(OfferError::NetworkPriceTooHigh { up: false });
        }
        if self.notice > MAX_NOTICE {
            return Err(OfferError::NoticeTooLong);
        }
        if self.isolation == Isolation::Machine && self.chunks.len() != 1 {
            return Err(OfferError::IsolatedInParts);
        }
        Ok(())
    }

    /// The discount of a rental that is reserved for `duration`: that of the longest step it reaches, or none.
    #[must_use]
    pub fn discount(&self, duration: Seconds) -> Bps {
        let reached = self.reserved.iter().rev().find(|step| step.min_duration <= duration);
        reached.map_or(Bps::ZERO, |step| step.discount_bps)
    }

    /// The most disk with `gpu_count` of a machine's `of` GPUs, in GB: their share, rounded down, so that the rentals of
    /// one machine together never get more than the whole.
    #[must_use]
    pub fn disk_limit(&self, gpu_count: u16, of: u32) -> u32 {
        let parts = u128::from(gpu_count).min(u128::from(of));
        let share = mul_div_floor(u128::from(self.disk_gb), parts, u128::from(of)).unwrap_or(0);
        u32::try_from(share).unwrap_or(self.disk_gb)
    }

    /// The fewest GPUs of one rental.
    #[must_use]
    pub fn least_chunk(&self) -> u16 {
        self.chunks.first().copied().unwrap_or(self.gpu_count)
    }
}
