//! One job at many providers, from the reference prices, under each way of rounding time.

use crate::billing::{billed_seconds, usd_gross_floor};
use crate::catalog::GpuModel;
use crate::money::{MoneyError, UsdMicros};
use crate::reference::{self, PlatformTerms, PriceUnit, ReferencePrice};
use crate::time::Seconds;

/// What is to be rented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The model, or all forms of it that will do; of one memory size.
    pub models: Vec<&'static GpuModel>,
    /// How many GPUs.
    pub gpus: u32,
    /// How long.
    pub elapsed: Seconds,
}

/// Totals at the lowest and the highest price that were published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// At the lowest.
    pub low: UsdMicros,
    /// At the highest.
    pub high: UsdMicros,
}

/// What a job comes to at one published price.
#[derive(Clone, Debug)]
pub struct AtProvider {
    /// The price.
    pub price: &'static ReferencePrice,
    /// The provider's terms, where they are known.
    pub terms: Option<&'static PlatformTerms>,
    /// How many of what the price is for must be rented: GPUs, or instances.
    pub units: u32,
    /// GPUs in them, at least what was asked for.
    pub gpus: u32,
    /// Time rounded up to seconds.
    pub by_second: Span,
    /// Time rounded up to minutes.
    pub by_minute: Span,
    /// Time rounded up to hours.
    pub by_hour: Span,
}

impl AtProvider {
    /// What it comes to in the provider's own way of billing; `None` where its terms do not state one.
    #[must_use]
    pub fn own(&self) -> Option<Span> {
        match self.terms.and_then(|terms| terms.minimum_billing).map(Seconds::get) {
            Some(1) => Some(self.by_second),
            Some(60) => Some(self.by_minute),
            Some(3_600) => Some(self.by_hour),
            Some(_) | None => None,
        }
    }

    /// What it is compared by: in the provider's own way of billing, by the second where none is stated.
    #[must_use]
    pub fn compared(&self) -> Span {
        self.own().unwrap_or(self.by_second)
    }
}

/// What the job comes to at every published price that fits, cheapest first as they are compared, in the table's order
/// between equals; behind all of them, in the same order, those that are the price of something else by their own note. A
/// price that leaves open which form is meant fits; one that leaves the memory open does not.
///
/// # Errors
/// [`MoneyError::Overflow`] out of range.
pub fn across_providers(job: &Job) -> Result<Vec<AtProvider>, MoneyError> {
    let mut found = Vec::new();
    for price in reference::prices().iter().filter(|price| fits(price, job)) {
        if let Some(at) = at_provider(price, job)? {
            found.push(at);
        }
    }
    found.sort_by_key(|at| (at.price.contradicted, at.compared().low, at.compared().high));
    Ok(found)
}

/// The cheapest of those that are not contradicted.
#[must_use]
pub fn cheapest(found: &[AtProvider]) -> Option<&AtProvider> {
    found.iter().find(|at| !at.price.contradicted)
}

fn fits(price: &ReferencePrice, job: &Job) -> bool {
    let Some(wanted) = job.models.first() else {
        return false;
    };
    price.models.iter().all(|model| model.vram_gb == wanted.vram_gb)
        && price.models.iter().any(|model| job.models.contains(model))
}

fn at_provider(
    price: &'static ReferencePrice,
    job: &Job,
) -> Result<Option<AtProvider>, MoneyError> {
    let (Some(low), Some(high)) = (price.low, price.high) else {
        return Ok(None);
    };
    let (units, gpus) = match (price.unit, price.gpu_count) {
        (PriceUnit::GpuHour, _) => (job.gpus, job.gpus),
        (PriceUnit::InstanceHour, Some(each)) if each > 0 => {
            let instances = job.gpus.div_ceil(each);
            (instances, instances.checked_mul(each).ok_or(MoneyError::Overflow)?)
        }
        _ => return Ok(None),
    };
    let rounded = |step| -> Result<Span, MoneyError> {
        let billed = billed_seconds(job.elapsed, Seconds(step), Seconds(step), true);
        let total = |rate| usd_gross_floor(rate, units, billed);
        Ok(Span { low: total(low)?, high: total(high)? })
    };
    Ok(Some(AtProvider {
        price,
        terms: reference::terms_of(&price.provider),
        units,
        gpus,
        by_second: rounded(1)?,
        by_minute: rounded(60)?,
        by_hour: rounded(3_600)?,
    }))
}
