//! Offers: what a provider asks for, and the bounds on it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::money::UsdMicros;
use crate::names::named_enum;
use crate::rate::UsdPerHour;
use crate::time::Seconds;

/// The highest price that is accepted: 1,000 dollars per GPU and hour, well above any GPU and below a slipped point.
pub const MAX_PRICE: UsdPerHour = UsdPerHour(UsdMicros::new(1_000_000_000));
/// The most GPUs in one offer.
pub const MAX_GPU_COUNT: u16 = 1_024;
/// The longest rental: 31 days.
pub const MAX_DURATION: Seconds = Seconds(31 * 24 * 3_600);

named_enum! {
    /// Whether an offer can be rented.
    pub enum OfferState ("offer state") {
        /// Shown and open for quotes.
        Listed => "listed",
        /// Hidden for now.
        Paused => "paused",
        /// Gone for good; its versions stay for the rentals that were made from them.
        Withdrawn => "withdrawn",
    }
}

impl OfferState {
    /// Whether the provider may put the offer into `next`. Staying is allowed; nothing leads out of `Withdrawn`.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Listed | Self::Paused => true,
            Self::Withdrawn => matches!(next, Self::Withdrawn),
        }
    }
}

/// The terms of one version of an offer. A rental is billed by the second, at least one: that is the escrow's rule
/// and not the offer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferTerms {
    /// Dollars per GPU and hour, gross of the platform's fee; above 0, at most [`MAX_PRICE`].
    pub price: UsdPerHour,
    /// GPUs in the offer, 1 to [`MAX_GPU_COUNT`].
    pub gpu_count: u16,
    /// The shortest rental, at least 1 second.
    pub min_duration: Seconds,
    /// The longest rental, at least `min_duration`, at most [`MAX_DURATION`].
    pub max_duration: Seconds,
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
    /// A GPU model's name in the wrong form.
    #[error(
        "a GPU model is 2 to 48 lowercase letters and digits with single hyphens between, such as h100-sxm-80gb"
    )]
    ModelSlug,
}

impl OfferTerms {
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
        if self.min_duration == Seconds::ZERO {
            return Err(OfferError::MinDurationZero);
        }
        if self.min_duration > self.max_duration {
            return Err(OfferError::MinAboveMax { min: self.min_duration, max: self.max_duration });
        }
        if self.max_duration > MAX_DURATION {
            return Err(OfferError::MaxDurationTooLong);
        }
        Ok(())
    }
}

/// The name of a GPU model as used in addresses and filters, such as `h100-sxm-80gb`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GpuModelSlug(String);

impl GpuModelSlug {
    /// # Errors
    /// [`OfferError::ModelSlug`] unless it is 2 to 48 lowercase letters and digits with single hyphens between.
    pub fn new(slug: impl Into<String>) -> Result<Self, OfferError> {
        let slug = slug.into();
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
        };
        if !(2..=48).contains(&slug.len()) || !slug.split('-').all(is_word) {
            return Err(OfferError::ModelSlug);
        }
        Ok(Self(slug))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for GpuModelSlug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for GpuModelSlug {
    type Err = OfferError;

    fn from_str(slug: &str) -> Result<Self, OfferError> {
        Self::new(slug)
    }
}

impl TryFrom<String> for GpuModelSlug {
    type Error = OfferError;

    fn try_from(slug: String) -> Result<Self, OfferError> {
        Self::new(slug)
    }
}

impl From<GpuModelSlug> for String {
    fn from(slug: GpuModelSlug) -> Self {
        slug.0
    }
}

#[cfg(test)]
mod tests;
