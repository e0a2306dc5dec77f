//! What a job comes to on an offer.

use domain::{
    UsdMicros, UsdPerHour,
    money::MoneyError,
    quote::{JobNeeds, JobPrices, JobTotal, job_total_ceil},
    time::Seconds,
};

use crate::{
    listing::{Listing, Step, discount},
    query::Job,
    row::Row,
};

/// What `job` comes to on `gpus` GPUs of an offer.
///
/// # Errors
/// [`MoneyError::Overflow`], for no offer that the market's bounds allow.
pub fn total(listing: &Listing, job: &Job, gpus: u16) -> Result<JobTotal, MoneyError> {
    let prices = JobPrices {
        gpu: micros_per_hour(listing.price_micros),
        discount_bps: listing.discount_bps(job.duration_s),
        disk: UsdMicros::new(listing.disk_price_micros.into()),
        up: UsdMicros::new(listing.up_price_micros.into()),
        down: UsdMicros::new(listing.down_price_micros.into()),
    };
    job_total_ceil(&prices, &needs(job, gpus.into()))
}

pub(crate) fn of_row(row: &Row, steps: &[Step], job: &Job, gpus: u8) -> Option<JobTotal> {
    at(&prices_of(row, steps, job), job, gpus)
}

/// What an offer asks for a job.
pub(crate) fn prices_of(row: &Row, steps: &[Step], job: &Job) -> JobPrices {
    JobPrices {
        gpu: micros_per_hour(row.price),
        discount_bps: discount(steps, job.duration_s),
        disk: UsdMicros::new(row.disk_price.into()),
        up: UsdMicros::new(row.up_price.into()),
        down: UsdMicros::new(row.down_price.into()),
    }
}

/// What a job comes to at these prices.
pub(crate) fn at(prices: &JobPrices, job: &Job, gpus: u8) -> Option<JobTotal> {
    job_total_ceil(prices, &needs(job, gpus.into())).ok()
}

/// The least that any offer at this price can ask, if no discount is above `discount_bps`.
pub(crate) fn least(price: u32, discount_bps: u16, job: &Job, gpus: u32) -> u128 {
    let prices = JobPrices { gpu: micros_per_hour(price), discount_bps, ..JobPrices::default() };
    let needs = JobNeeds { disk_gb: 0, up_gb: 0, down_gb: 0, ..needs(job, gpus) };
    job_total_ceil(&prices, &needs).map_or(0, |total| total.total.get().into())
}

fn micros_per_hour(micros: u32) -> UsdPerHour {
    UsdPerHour(UsdMicros::new(micros.into()))
}

fn needs(job: &Job, gpus: u32) -> JobNeeds {
    JobNeeds {
        duration: Seconds(job.duration_s),
        gpus,
        disk_gb: job.disk_gb,
        up_gb: job.up_gb,
        down_gb: job.down_gb,
    }
}
