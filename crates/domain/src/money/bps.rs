//! Shares in basis points, hundredths of a percent.

use serde::{Deserialize, Serialize};

use super::MoneyError;

/// A share of 0 to 10,000 basis points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Bps(u16);

impl Bps {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The whole: 10,000 basis points.
    pub const WHOLE: Self = Self(10_000);

    /// # Errors
    /// [`MoneyError::BpsOutOfRange`] above 10,000.
    pub const fn new(bps: u16) -> Result<Self, MoneyError> {
        if bps > Self::WHOLE.0 {
            return Err(MoneyError::BpsOutOfRange(bps));
        }
        Ok(Self(bps))
    }

    /// The number of basis points.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Bps {
    type Error = MoneyError;

    fn try_from(bps: u16) -> Result<Self, MoneyError> {
        Self::new(bps)
    }
}

impl From<Bps> for u16 {
    fn from(bps: Bps) -> Self {
        bps.0
    }
}

/// The platform's fee, 0 to 1,500 basis points of the gross: the cap stands in the contract's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct FeeBps(u16);

impl FeeBps {
    /// No fee; accepted by the contract, never quoted.
    pub const ZERO: Self = Self(0);
    /// The least that is quoted: 10 %.
    pub const MIN_QUOTED: Self = Self(1_000);
    /// The most that the contract accepts and that is quoted: 15 %.
    pub const MAX: Self = Self(1_500);

    /// A fee that the contract accepts.
    ///
    /// # Errors
    /// [`MoneyError::FeeAboveCap`] above 1,500.
    pub const fn new(bps: u16) -> Result<Self, MoneyError> {
        if bps > Self::MAX.0 {
            return Err(MoneyError::FeeAboveCap(bps));
        }
        Ok(Self(bps))
    }

    /// A fee that may be quoted.
    ///
    /// # Errors
    /// [`MoneyError::FeeNotQuotable`] outside 1,000 to 1,500.
    pub const fn quotable(bps: u16) -> Result<Self, MoneyError> {
        if bps < Self::MIN_QUOTED.0 || bps > Self::MAX.0 {
            return Err(MoneyError::FeeNotQuotable(bps));
        }
        Ok(Self(bps))
    }

    /// Whether this fee may be quoted.
    #[must_use]
    pub const fn is_quotable(self) -> bool {
        self.0 >= Self::MIN_QUOTED.0
    }

    /// The number of basis points.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The same share without the cap.
    #[must_use]
    pub const fn bps(self) -> Bps {
        Bps(self.0)
    }
}

impl TryFrom<u16> for FeeBps {
    type Error = MoneyError;

    fn try_from(bps: u16) -> Result<Self, MoneyError> {
        Self::new(bps)
    }
}

impl From<FeeBps> for u16 {
    fn from(bps: FeeBps) -> Self {
        bps.0
    }
}
