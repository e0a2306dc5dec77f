//! What a job comes to: GPUs, disk and network, reckoned as a quote for it would be.

use crate::billing::{SECONDS_PER_HOUR, usd_gross_ceil};
use crate::money::{MoneyError, UsdMicros, mul_div_ceil, mul_div_floor};
use crate::rate::UsdPerHour;
use crate::time::Seconds;

/// Hours of the month that prices of disk are for.
const MONTH_HOURS: u128 = 720;

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

/// What a job comes to at most. The parts are rounded up one by one, so that they may be some millionths more than the
/// total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobTotal {
    /// The GPUs, after the discount.
    pub compute: UsdMicros,
    /// The disk.
    pub disk: UsdMicros,
    /// The network.
    pub network: UsdMicros,
    /// All of it: what a quote for the job would come to.
    pub total: UsdMicros,
}

/// What a job comes to, as a quote reckons: a price for each hour of everything together, `price * gpus` less the
/// discount (rounded down), disk and network (each rounded up), for the duration, rounded up once.
///
/// # Errors
/// [`MoneyError::Overflow`] above about 18 trillion dollars or for a discount above the whole;
/// [`MoneyError::DivisionByZero`] for network in no time.
pub fn job_total_ceil(prices: &JobPrices, needs: &JobNeeds) -> Result<JobTotal, MoneyError> {
    let times = |price: UsdMicros, count: u32| {
        u128::from(price.get()).checked_mul(u128::from(count)).ok_or(MoneyError::Overflow)
    };
    let gpus = times(prices.gpu.usd(), needs.gpus)?;
    let taken_off = mul_div_floor(gpus, u128::from(prices.discount_bps), 10_000)?;
    let compute = gpus.checked_sub(taken_off).ok_or(MoneyError::Overflow)?;
    let disk = mul_div_ceil(times(prices.disk, needs.disk_gb)?, 1, MONTH_HOURS)?;
    let traffic = times(prices.up, needs.up_gb)?
        .checked_add(times(prices.down, needs.down_gb)?)
        .ok_or(MoneyError::Overflow)?;
    let network = match traffic {
        0 => 0,
        _ => mul_div_ceil(traffic, SECONDS_PER_HOUR, u128::from(needs.duration.get()))?,
    };
    let for_all = |hourly: u128| -> Result<UsdMicros, MoneyError> {
        let rate = UsdPerHour(UsdMicros::try_from_micros(hourly)?);
        usd_gross_ceil(rate, 1, needs.duration)
    };
    let hourly = compute.checked_add(disk).and_then(|sum| sum.checked_add(network));
    Ok(JobTotal {
        compute: for_all(compute)?,
        disk: for_all(disk)?,
        network: for_all(network)?,
        total: for_all(hourly.ok_or(MoneyError::Overflow)?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_reckoned_by_the_hour_and_rounded_up_once() {
        let prices = JobPrices {
            gpu: UsdPerHour(UsdMicros::new(650_001)),
            discount_bps: 1_000,
            disk: UsdMicros::new(100_000),
            up: UsdMicros::new(20_000),
            down: UsdMicros::new(1),
        };
        let needs =
            JobNeeds { duration: Seconds(3_601), gpus: 2, disk_gb: 100, up_gb: 5, down_gb: 3 };
        let total = job_total_ceil(&prices, &needs).unwrap();
        // by the hour: 1300002 - 130000, ceil(10000000 / 720) = 13889, ceil(100003 * 3600 / 3601) = 99976
        assert_eq!(total.compute, UsdMicros::new(1_170_328));
        assert_eq!(total.disk, UsdMicros::new(13_893));
        assert_eq!(total.network, UsdMicros::new(100_004));
        assert_eq!(total.total, UsdMicros::new(1_284_224));
        let free = job_total_ceil(&JobPrices::default(), &needs).unwrap();
        assert_eq!(free, JobTotal::default());
        let beyond = JobPrices { discount_bps: 10_001, ..prices };
        assert_eq!(job_total_ceil(&beyond, &needs), Err(MoneyError::Overflow));
    }
}
