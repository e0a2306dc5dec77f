//! What a job comes to: GPUs, disk and network, each line rounded up once, as a quote's lines are.

use crate::billing::usd_gross_ceil;
use crate::money::{MoneyError, UsdMicros, mul_div_ceil, mul_div_floor};
use crate::rate::UsdPerHour;
use crate::time::Seconds;

/// Hours of the month that prices of disk are for.
const MONTH_SECONDS: u128 = 720 * 3_600;

/// What a job needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobNeeds {
    /// How long it runs.
    pub duration: Seconds,
    /// On how many GPUs.
    pub gpus: u32,
    /// Disk, in GB, all the time.
    pub disk_gb: u32,
    /// GB sent from the machine.
    pub up_gb: u32,
    /// GB sent to the machine.
    pub down_gb: u32,
}

/// What an offer asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobPrices {
    /// Per GPU and hour, before any discount.
    pub gpu: UsdPerHour,
    /// Off the price of the GPUs at this duration, in basis points, at most 10,000.
    pub discount_bps: u16,
    /// Per GB of disk and month of 720 h.
    pub disk: UsdMicros,
    /// Per GB sent from the machine.
    pub up: UsdMicros,
    /// Per GB sent to the machine.
    pub down: UsdMicros,
}

/// What a job comes to at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobTotal {
    /// The GPUs, rounded up.
    pub compute: UsdMicros,
    /// The disk, rounded up.
    pub disk: UsdMicros,
    /// The network; exact.
    pub network: UsdMicros,
    /// All of it.
    pub total: UsdMicros,
}

/// A price after a discount, rounded down: in the renter's favour.
///
/// # Errors
/// [`MoneyError::Overflow`] for a discount above the whole.
pub fn discounted_floor(rate: UsdPerHour, discount_bps: u16) -> Result<UsdPerHour, MoneyError> {
    let left = 10_000_u16.checked_sub(discount_bps).ok_or(MoneyError::Overflow)?;
    let micros = mul_div_floor(u128::from(rate.usd().get()), u128::from(left), 10_000)?;
    UsdMicros::try_from_micros(micros).map(UsdPerHour)
}

/// What a job comes to: `ceil(price * gpus * seconds / 3600)` at the discounted price, `ceil(disk_gb * price * seconds /
/// 2592000)`, and the network's GB at their prices.
///
/// # Errors
/// [`MoneyError::Overflow`] above about 18 trillion dollars.
pub fn job_total_ceil(prices: &JobPrices, needs: &JobNeeds) -> Result<JobTotal, MoneyError> {
    let rate = discounted_floor(prices.gpu, prices.discount_bps)?;
    let compute = usd_gross_ceil(rate, needs.gpus, needs.duration)?;
    let gb_seconds = u128::from(needs.disk_gb).saturating_mul(u128::from(needs.duration.get()));
    let disk = mul_div_ceil(u128::from(prices.disk.get()), gb_seconds, MONTH_SECONDS)?;
    let disk = UsdMicros::try_from_micros(disk)?;
    let up = prices.up.checked_mul(u64::from(needs.up_gb)).ok_or(MoneyError::Overflow)?;
    let down = prices.down.checked_mul(u64::from(needs.down_gb)).ok_or(MoneyError::Overflow)?;
    let network = up.checked_add(down).ok_or(MoneyError::Overflow)?;
    let total = compute
        .checked_add(disk)
        .and_then(|sum| sum.checked_add(network))
        .ok_or(MoneyError::Overflow)?;
    Ok(JobTotal { compute, disk, network, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_rounded_up_once() {
        let prices = JobPrices {
            gpu: UsdPerHour(UsdMicros::new(650_000)),
            discount_bps: 1_000,
            disk: UsdMicros::new(100_000),
            up: UsdMicros::new(20_000),
            down: UsdMicros::new(1),
        };
        let needs =
            JobNeeds { duration: Seconds(3_601), gpus: 2, disk_gb: 100, up_gb: 5, down_gb: 3 };
        let total = job_total_ceil(&prices, &needs).unwrap();
        // 585000 * 2 * 3601 / 3600 = 1170325; 100 * 100000 * 3601 / 2592000 = 13892.7
        assert_eq!(total.compute, UsdMicros::new(1_170_325));
        assert_eq!(total.disk, UsdMicros::new(13_893));
        assert_eq!(total.network, UsdMicros::new(100_003));
        assert_eq!(total.total, UsdMicros::new(1_284_221));
        let free = job_total_ceil(&JobPrices::default(), &needs).unwrap();
        assert_eq!(free, JobTotal::default());
        let beyond = JobPrices { discount_bps: 10_001, ..prices };
        assert_eq!(job_total_ceil(&beyond, &needs), Err(MoneyError::Overflow));
    }
}
