//! Quotes: an offer's price for one request, in dollars for people and in base units for the escrow.

mod total;

pub use total::{JobNeeds, JobPrices, JobTotal, job_total_ceil};

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::billing::{auto_stop_second, deposit_ceil, split, unit_seconds, usd_gross_ceil};
use crate::money::{Amount, Decimals, FeeBps, MoneyError, UsdMicros};
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

/// What a renter asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteRequest {
    /// How long, within the offer's bounds.
    pub duration: Seconds,
    /// How many GPUs, 1 to the offer's count.
    pub gpu_count: u16,
    /// Paid in what.
    pub token: TokenSpec,
}

named_enum! {
    /// What a line of a quote is for.
    pub enum LineKind ("line kind") {
        /// The GPUs.
        Compute => "compute",
    }
}

named_enum! {
    /// What the unit price of a line is the price of.
    pub enum PriceUnit ("price unit") {
        /// One GPU for one hour.
        GpuHour => "gpu_hour",
    }
}

impl PriceUnit {
    /// How many of the things that a line's `qty` counts make one unit: 3,600 GPU-seconds a GPU-hour.
    #[must_use]
    pub const fn qty_per_unit(self) -> u64 {
        match self {
            Self::GpuHour => 3_600,
        }
    }
}

/// One line of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteLine {
    /// What it is for.
    pub kind: LineKind,
    /// Dollars per `unit`.
    pub unit_price: UsdPerHour,
    /// What `unit_price` is the price of.
    pub unit: PriceUnit,
    /// How much at most, in GPU-seconds: exact, where hours would not be.
    pub qty: u64,
    /// Dollars at most, rounded up.
    pub max_usd: UsdMicros,
}

/// The figures of a quote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteFigures {
    /// What is paid for.
    pub lines: Vec<QuoteLine>,
    /// Dollars per hour for all GPUs together.
    pub rate_usd_per_hour: UsdPerHour,
    /// Base units per hour for all GPUs together, rounded down: the contract's `pricePerHour`.
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
    /// No GPUs were asked for, or more than the offer has.
    #[error("the GPU count must be 1 to {max}")]
    GpuCountOutOfRange {
        /// The offer's count.
        max: u16,
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
/// # Errors
/// See [`QuoteError`]; all are refusals of the request or the offer.
pub fn price_quote(
    offer: &OfferTerms,
    request: &QuoteRequest,
    fee: FeeBps,
) -> Result<QuoteFigures, QuoteError> {
    check(offer, request, fee)?;
    let gpus = u32::from(request.gpu_count);
    let line = QuoteLine {
        kind: LineKind::Compute,
        unit_price: offer.price,
        unit: PriceUnit::GpuHour,
        qty: u64::try_from(unit_seconds(gpus, request.duration))
            .map_err(|_| MoneyError::Overflow)?,
        max_usd: usd_gross_ceil(offer.price, gpus, request.duration)?,
    };
    let rate_usd_per_hour =
        offer.price.usd().checked_mul(u64::from(gpus)).ok_or(MoneyError::Overflow)?;
    let token = &request.token;
    let token_rate = token_rate_floor(offer.price, gpus, token.decimals, token.usd_per_token)?;
    let deposit = deposit_ceil(token_rate, request.duration)?;
    let auto_stop = auto_stop_second(deposit, token_rate);
    let whole = split(deposit, token_rate, fee, auto_stop)?;
    Ok(QuoteFigures {
        lines: vec![line],
        rate_usd_per_hour: UsdPerHour(rate_usd_per_hour),
        token_rate,
        deposit,
        fee_max: whole.fee,
        provider_max: whole.provider,
        auto_stop,
    })
}

fn check(offer: &OfferTerms, request: &QuoteRequest, fee: FeeBps) -> Result<(), QuoteError> {
    offer.validate()?;
    if request.duration < offer.min_duration || request.duration > offer.max_duration {
        return Err(QuoteError::DurationOutOfRange {
            min: offer.min_duration,
            max: offer.max_duration,
        });
    }
    if request.gpu_count == 0 || request.gpu_count > offer.gpu_count {
        return Err(QuoteError::GpuCountOutOfRange { max: offer.gpu_count });
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
