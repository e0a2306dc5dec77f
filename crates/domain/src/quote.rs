//! Quotes: an offer's price for one request, in dollars for people and in base units for the escrow.

mod total;

pub use total::{JobNeeds, JobPrices, JobTotal, job_total_ceil};

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::billing::{
    SECONDS_PER_HOUR, auto_stop_second, deposit_ceil, split, unit_seconds, usd_gross_ceil,
    usd_gross_floor,
};
use crate::money::{
    Amount, Bps, Decimals, FeeBps, MoneyError, UsdDelta, UsdMicros, mul_div_ceil, mul_div_floor,
};
use crate::names::named_enum;
use crate::offer::{OfferError, OfferTerms};
use crate::rate::{TokenRate, UsdPerHour, token_rate_floor};
use crate::time::Seconds;

/// The token that a rental is paid in, at the price that the quote holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSpec {
    /// The token's contract; the zero address is the chain's own coin.
    pub address: Address,
    /// The token's decimals.
    pub decimals: Decimals,
    /// Dollars for one whole token, above 0.
    pub usd_per_token: UsdMicros,
}

/// The most GB that a quote includes in either direction: a petabyte.
pub const MAX_TRAFFIC_GB: u32 = 1_000_000;

/// What a renter asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteRequest {
    /// How long, within the offer's bounds.
    pub duration: Seconds,
    /// How many GPUs: one of the offer's chunks.
    pub gpu_count: u16,
    /// Disk in GB, up to the offer's.
    pub disk_gb: u32,
    /// GB to be sent from the machine, at most [`MAX_TRAFFIC_GB`].
    pub up_gb: u32,
    /// GB to be received by the machine, at most [`MAX_TRAFFIC_GB`].
    pub down_gb: u32,
    /// Paid in what.
    pub token: TokenSpec,
}

named_enum! {
    /// What a line of a quote is for.
    pub enum LineKind ("line kind") {
        /// The GPUs.
        Compute => "compute",
        /// What is taken off for reserving so long.
        ReservedDiscount => "reserved_discount",
        /// The disk.
        Disk => "disk",
        /// An allowance of what is sent from the machine.
        NetworkUp => "network_up",
        /// An allowance of what is received by the machine.
        NetworkDown => "network_down",
        /// The platform's fee: nothing on top, the provider pays it.
        Fee => "fee",
        /// From the sum of the lines to the total, which is billed at one rate per hour.
        Rounding => "rounding",
    }
}

named_enum! {
    /// What the unit price of a line is the price of.
    pub enum PriceUnit ("price unit") {
        /// One GPU for one hour.
        GpuHour => "gpu_hour",
        /// All of it for one hour.
        Hour => "hour",
        /// A GB for a month of 720 hours.
        GbMonth => "gb_month",
        /// A GB.
        Gb => "gb",
        /// The whole.
        Quote => "quote",
    }
}

/// Hours of the month that disks are priced by.
const MONTH_HOURS: u64 = 720;

impl PriceUnit {
    /// How many of the things that a line's `qty` counts make one unit: 3,600 GPU-seconds a GPU-hour, 3,600 seconds an
    /// hour, 2,592,000 GB-seconds a GB for a month.
    #[must_use]
    pub const fn qty_per_unit(self) -> u64 {
        match self {
            Self::GpuHour | Self::Hour => 3_600,
            Self::GbMonth => MONTH_HOURS.saturating_mul(3_600),
            Self::Gb | Self::Quote => 1,
        }
    }
}

/// One line of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteLine {
    /// What it is for.
    pub kind: LineKind,
    /// Dollars per `unit`; negative for what is taken off.
    pub unit_price: UsdDelta,
    /// What `unit_price` is the price of.
    pub unit: PriceUnit,
    /// How much at most, in parts of `unit` (see [`PriceUnit::qty_per_unit`]): exact, where hours would not be.
    pub qty: u64,
    /// Dollars at most: rounded up, or down for what is taken off.
    pub max_usd: UsdDelta,
}

/// The figures of a quote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteFigures {
    /// What is paid for; the last line is the rounding, with which they add up to `total_usd`.
    pub lines: Vec<QuoteLine>,
    /// Taken off the price of the GPUs.
    pub discount: Bps,
    /// The lines without the rounding.
    pub subtotal_usd: UsdMicros,
    /// What the whole duration costs: `ceil(rate_usd_per_hour * duration / 3600)`.
    pub total_usd: UsdMicros,
    /// Dollars per hour for everything together: one rate, which is all that the escrow bills by.
    pub rate_usd_per_hour: UsdPerHour,
    /// Base units per hour for everything together, rounded down: the contract's `pricePerHour`.
    pub token_rate: TokenRate,
    /// What the renter locks, rounded up.
    pub deposit: Amount,
    /// The platform's part if the whole time is used.
    pub fee_max: Amount,
    /// The provider's part if the whole time is used.
    pub provider_max: Amount,
    /// The second after which the deposit is used up: at least the duration asked for, and the same unless a base
    /// unit pays for more than a second.
    pub auto_stop: Seconds,
}

/// Why there is no quote.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuoteError {
    /// The offer itself breaks its bounds.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The duration is outside of what the offer allows.
    #[error("the duration must be {min} to {max}")]
    DurationOutOfRange {
        /// The shortest.
        min: Seconds,
        /// The longest.
        max: Seconds,
    },
    /// So many GPUs are not rented together.
    #[error("the GPU count must be one of {chunks:?}")]
    NoSuchChunk {
        /// The offer's chunks.
        chunks: Vec<u16>,
    },
    /// More disk than the offer has for so many GPUs.
    #[error("at most {max} GB of disk for so many GPUs")]
    DiskTooLarge {
        /// The most.
        max: u32,
    },
    /// More traffic than is sold; true for what is sent.
    #[error("at most {MAX_TRAFFIC_GB} GB in each direction")]
    TrafficTooLarge {
        /// True for what is sent, false for what is received.
        up: bool,
    },
    /// The fee is not one that is quoted.
    #[error("a fee of {} basis points is outside 1000 to 1500, the range that is quoted", .0.get())]
    FeeNotQuotable(FeeBps),
    /// The token has no price.
    #[error("the token has no price")]
    TokenWithoutPrice,
    /// The sums are out of range, such as a token so dear that the rate rounds to nothing.
    #[error(transparent)]
    Money(#[from] MoneyError),
}

/// Prices `request` against `offer` with the platform's `fee`, which is taken from the provider's part.
///
/// Everything becomes one rate per hour, as the escrow bills by one: the GPUs less the discount (rounded down to a
/// micro-dollar per hour), the disk (up), and the traffic spread over the duration (up). Whoever ends early pays that
/// rate for the seconds until then and nothing else.
///
/// # Errors
/// See [`QuoteError`]; all are refusals of the request or the offer.
pub fn price_quote(
    offer: &OfferTerms,
    request: &QuoteRequest,
    fee: FeeBps,
) -> Result<QuoteFigures, QuoteError> {
    check(offer, request, fee)?;
    let parts = Parts::of(offer, request)?;
    let rate_usd_per_hour = parts.rate()?;
    let token = &request.token;
    let token_rate = token_rate_floor(rate_usd_per_hour, 1, token.decimals, token.usd_per_token)?;
    let deposit = deposit_ceil(token_rate, request.duration)?;
    let auto_stop = auto_stop_second(deposit, token_rate);
    let whole = split(deposit, token_rate, fee, auto_stop)?;
    let total_usd = usd_gross_ceil(rate_usd_per_hour, 1, request.duration)?;
    let mut lines = lines(offer, request, &parts)?;
    let subtotal = lines
        .iter()
        .try_fold(UsdDelta::ZERO, |sum, line| sum.checked_add(line.max_usd))
        .ok_or(MoneyError::Overflow)?;
    let rounding = UsdDelta::plus(total_usd)?.checked_sub(subtotal).ok_or(MoneyError::Overflow)?;
    lines.push(QuoteLine {
        kind: LineKind::Rounding,
        unit_price: rounding,
        unit: PriceUnit::Quote,
        qty: 1,
        max_usd: rounding,
    });
    Ok(QuoteFigures {
        lines,
        discount: parts.discount,
        subtotal_usd: subtotal.amount().ok_or(MoneyError::Overflow)?,
        total_usd,
        rate_usd_per_hour,
        token_rate,
        deposit,
        fee_max: whole.fee,
        provider_max: whole.provider,
        auto_stop,
    })
}

/// Dollars per hour for everything in `request` at the offer's prices, whether or not it can be had like that: for
/// comparing one version of an offer with another. The token does not matter.
///
/// # Errors
/// [`MoneyError`] for sums out of range.
pub fn usd_rate(offer: &OfferTerms, request: &QuoteRequest) -> Result<UsdPerHour, MoneyError> {
    Parts::of(offer, request)?.rate()
}

/// What an hour costs, part by part, in millionths of a dollar.
struct Parts {
    discount: Bps,
    compute: u128,
    /// Rounded down.
    taken_off: u128,
    /// Rounded up.
    disk: u128,
    /// Rounded up.
    network: u128,
}

impl Parts {
    fn of(offer: &OfferTerms, request: &QuoteRequest) -> Result<Self, MoneyError> {
        let times = |price: UsdMicros, count: u32| {
            u128::from(price.get()).checked_mul(u128::from(count)).ok_or(MoneyError::Overflow)
        };
        let discount = offer.discount(request.duration);
        let compute = times(offer.price.usd(), u32::from(request.gpu_count))?;
        let taken_off =
            mul_div_floor(compute, u128::from(discount.get()), u128::from(Bps::WHOLE.get()))?;
        let disk = times(offer.disk_price, request.disk_gb)?;
        let traffic = times(offer.up_price, request.up_gb)?
            .checked_add(times(offer.down_price, request.down_gb)?)
            .ok_or(MoneyError::Overflow)?;
        Ok(Self {
            discount,
            compute,
            taken_off,
            disk: mul_div_ceil(disk, 1, u128::from(MONTH_HOURS))?,
            network: mul_div_ceil(traffic, SECONDS_PER_HOUR, u128::from(request.duration.get()))?,
        })
    }

    fn rate(&self) -> Result<UsdPerHour, MoneyError> {
        let micros = self
            .compute
            .checked_sub(self.taken_off)
            .and_then(|sum| sum.checked_add(self.disk))
            .and_then(|sum| sum.checked_add(self.network))
            .ok_or(MoneyError::Overflow)?;
        UsdMicros::try_from_micros(micros).map(UsdPerHour)
    }
}

/// The lines without the rounding; what was not asked for has none.
fn lines(
    offer: &OfferTerms,
    request: &QuoteRequest,
    parts: &Parts,
) -> Result<Vec<QuoteLine>, MoneyError> {
    let seconds = u64::from(request.duration.get());
    let gpus = u32::from(request.gpu_count);
    let gpu_seconds = u64::try_from(unit_seconds(gpus, request.duration));
    let mut lines = vec![QuoteLine {
        kind: LineKind::Compute,
        unit_price: UsdDelta::plus(offer.price.usd())?,
        unit: PriceUnit::GpuHour,
        qty: gpu_seconds.map_err(|_| MoneyError::Overflow)?,
        max_usd: UsdDelta::plus(usd_gross_ceil(offer.price, gpus, request.duration)?)?,
    }];
    if parts.discount != Bps::ZERO {
        let hourly = UsdMicros::try_from_micros(parts.taken_off)?;
        let whole = usd_gross_floor(UsdPerHour(hourly), 1, request.duration)?;
        lines.push(QuoteLine {
            kind: LineKind::ReservedDiscount,
            unit_price: UsdDelta::minus(hourly)?,
            unit: PriceUnit::Hour,
            qty: seconds,
            max_usd: UsdDelta::minus(whole)?,
        });
    }
    let priced = [
        (LineKind::Disk, offer.disk_price, PriceUnit::GbMonth, request.disk_gb, seconds),
        (LineKind::NetworkUp, offer.up_price, PriceUnit::Gb, request.up_gb, 1),
        (LineKind::NetworkDown, offer.down_price, PriceUnit::Gb, request.down_gb, 1),
    ];
    for (kind, price, unit, gb, times) in priced {
        if gb == 0 {
            continue;
        }
        let qty = u64::from(gb).checked_mul(times).ok_or(MoneyError::Overflow)?;
        let max = mul_div_ceil(
            u128::from(price.get()),
            u128::from(qty),
            u128::from(unit.qty_per_unit()),
        )?;
        lines.push(QuoteLine {
            kind,
            unit_price: UsdDelta::plus(price)?,
            unit,
            qty,
            max_usd: UsdDelta::plus(UsdMicros::try_from_micros(max)?)?,
        });
    }
    lines.push(QuoteLine {
        kind: LineKind::Fee,
        unit_price: UsdDelta::ZERO,
        unit: PriceUnit::Quote,
        qty: 1,
        max_usd: UsdDelta::ZERO,
    });
    Ok(lines)
}

fn check(offer: &OfferTerms, request: &QuoteRequest, fee: FeeBps) -> Result<(), QuoteError> {
    offer.validate()?;
    if request.duration < offer.min_duration || request.duration > offer.max_duration {
        return Err(QuoteError::DurationOutOfRange {
            min: offer.min_duration,
            max: offer.max_duration,
        });
    }
    if !offer.chunks.contains(&request.gpu_count) {
        return Err(QuoteError::NoSuchChunk { chunks: offer.chunks.clone() });
    }
    if request.disk_gb > offer.disk_gb {
        return Err(QuoteError::DiskTooLarge { max: offer.disk_gb });
    }
    for (gb, up) in [(request.up_gb, true), (request.down_gb, false)] {
        if gb > MAX_TRAFFIC_GB {
            return Err(QuoteError::TrafficTooLarge { up });
        }
    }
    if !fee.is_quotable() {
        return Err(QuoteError::FeeNotQuotable(fee));
    }
    if request.token.usd_per_token == UsdMicros::ZERO {
        return Err(QuoteError::TokenWithoutPrice);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
