//! Facts as one byte each, for the bit masks: monotone, so that a filter on the byte keeps every offer that the filter
//! on the fact would keep. What it keeps too much is looked at in full.

/// The facts that have a column of masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Bits: see [`crate::row::flags`].
    Flags,
    /// The largest number of GPUs that can be rented now; 0 for none.
    Largest,
    /// The region's number.
    Region,
    /// The provider's number, its low byte.
    Provider,
    CpuCores,
    Ram,
    Disk,
    DiskSpeed,
    Pcie,
    Up,
    Down,
    Ports,
    Cuda,
    /// 10,000 less the reliability: small is good.
    Unreliability,
    Ready,
    MinDuration,
    MaxDuration,
    Notice,
    /// The largest discount for a long rental: see [`discount`].
    Discount,
}

impl Column {
    /// Its place among the columns.
    pub(crate) const fn number(self) -> usize {
        match self {
            Self::Flags => 0,
            Self::Largest => 1,
            Self::Region => 2,
            Self::Provider => 3,
            Self::CpuCores => 4,
            Self::Ram => 5,
            Self::Disk => 6,
            Self::DiskSpeed => 7,
            Self::Pcie => 8,
            Self::Up => 9,
            Self::Down => 10,
            Self::Ports => 11,
            Self::Cuda => 12,
            Self::Unreliability => 13,
            Self::Ready => 14,
            Self::MinDuration => 15,
            Self::MaxDuration => 16,
            Self::Notice => 17,
            Self::Discount => 18,
        }
    }
}

/// How many columns there are.
pub(crate) const COLUMNS: usize = 19;

/// What an unknown fact is written as where more is better: no least asked for is reached.
pub(crate) const UNKNOWN_LOW: u8 = 0;
/// What an unknown fact is written as where less is better.
pub(crate) const UNKNOWN_HIGH: u8 = 255;

/// 1 to 240: exact below 8, then eight steps to each doubling.
pub(crate) fn log(value: u32) -> u8 {
    let code = match value.checked_ilog2() {
        Some(power) if power >= 3 => {
            let shift = power.saturating_sub(3);
            let step = (value >> shift) & 7;
            power.saturating_sub(2).saturating_mul(8).saturating_add(step)
        }
        _ => value,
    };
    u8::try_from(code).unwrap_or(u8::MAX).saturating_add(1)
}

/// 1 to 240 for CUDA 8.1 and later: versions differ by units.
pub(crate) fn cuda(version: u16) -> u8 {
    u8::try_from(version.saturating_sub(80).min(239)).unwrap_or(239).saturating_add(1)
}

/// Hundredths of a percent that a step of [`discount`] has.
const DISCOUNT_STEP: u16 = 40;

/// 0 to 250: a discount of 0 to 100 percent, rounded up.
pub(crate) fn discount(bps: u16) -> u8 {
    u8::try_from(bps.div_ceil(DISCOUNT_STEP)).unwrap_or(u8::MAX)
}

/// The largest discount that is written so.
pub(crate) fn discount_of(code: u8) -> u16 {
    u16::from(code).saturating_mul(DISCOUNT_STEP)
}

/// The low byte of a number.
pub(crate) const fn low(number: u32) -> u8 {
    let [_, _, _, byte] = number.to_be_bytes();
    byte
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_rise_with_what_they_stand_for() {
        let mut before = log(0);
        assert_eq!(before, 1);
        for value in
            (1..100_000_u32).chain((17..32).map(|power| (1 << power) - 1)).chain([u32::MAX])
        {
            let code = log(value);
            assert!(code >= before, "{value}");
            before = code;
        }
        assert_eq!(before, 240);
        assert!((10..9_999_u16).all(|version| cuda(version) <= cuda(version + 1)));
        assert_eq!((cuda(80), cuda(9_999)), (1, 240));
        for bps in 0..=10_000_u16 {
            let most = discount_of(discount(bps));
            assert!(most >= bps && most < bps + DISCOUNT_STEP, "{bps}");
        }
        for power in 3..31 {
            assert!(log((1 << power) - 1) < log(1 << power), "powers of two begin a step");
        }
    }
}
