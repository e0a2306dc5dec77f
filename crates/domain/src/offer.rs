//! Offers: what a provider asks for, and the bounds on it.

mod terms;

pub use terms::{
    Isolation, MAX_DISK_GB, MAX_DISK_PRICE, MAX_DURATION, MAX_GPU_COUNT, MAX_NETWORK_PRICE,
    MAX_NOTICE, MAX_PRICE, MAX_RESERVED_STEPS, OfferError, OfferTerms, Reserved,
};

use serde::{Deserialize, Serialize};

use crate::names::named_enum;

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
