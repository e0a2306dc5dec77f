//! A query against an index as it is now: names become numbers, and every condition that has a column a mask.

mod mask;

use self::mask::{Mask, masks_of};
use crate::{
    block::{Block, Pattern},
    catalog::GpuModel,
    code::{self, Column},
    index::Index,
    query::{Field, Names, Query, Set, Sort, Test},
    row::{Row, UNKNOWN, UNKNOWN_BPS, flags, largest, up_to},
    total,
};

/// The part of a query that is about one model's offers.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Which model.
    pub(crate) model: usize,
    /// What a dollar buys of it, in the orders that need it: see [`speed`].
    pub(crate) speed: Option<u32>,
    /// Bit `n - 1`: a rental of `n` GPUs would do.
    sizes: u64,
    first: Option<Mask>,
}

/// More masks than most queries have.
const MOST_MASKS: usize = 16;

/// A query, ready to run.
#[derive(Debug)]
pub(crate) struct Compiled<'q> {
    pub(crate) query: &'q Query,
    pub(crate) plans: Vec<Plan>,
    /// Prices that can be found.
    pub(crate) prices: (u64, u64),
    masks: Vec<Mask>,
    tests: Vec<&'q Test>,
    /// Those of them that the masks do not decide.
    open: Vec<&'q Test>,
    /// Conditions on what the price makes with the model, or with the number of GPUs.
    priced: Vec<&'q Test>,
    regions: Option<Vec<bool>>,
    providers: Option<Vec<u32>>,
    /// Whether anything was said about how many GPUs: then the fewest that do, else all that can be had.
    sized: bool,
    /// Whether `heard_at` decides who is online; else the flag alone.
    by_the_clock: bool,
    offline_after: u32,
}

fn satisfies(model: &GpuModel, test: &Test) -> bool {
    let value = if test.field == Field::Vram {
        Some(u64::from(model.vram_gb))
    } else if test.field == Field::Vendor {
        Some(u64::from(model.vendor.code()))
    } else if test.field == Field::Form {
        Some(u64::from(model.form.code()))
    } else if test.field == Field::ComputeCapability {
        model.compute_capability.map(u64::from)
    } else {
        return true;
    };
    value.is_some_and(|value| test.set.holds(value))
}

fn named(names: &Names, is_called: impl Fn(&str) -> bool) -> bool {
    names.names.iter().any(|name| is_called(name)) != names.not
}

/// The models that a query names, if it names any.
fn models(index: &Index, query: &Query) -> Vec<bool> {
    let mut wanted = vec![true; index.models.len()];
    for names in &query.models {
        let mut called = vec![names.not; index.models.len()];
        for number in names.names.iter().flat_map(|name| index.called(name)) {
            if let Some(place) = called.get_mut(usize::from(*number)) {
                *place = !names.not;
            }
        }
        for (wanted, called) in wanted.iter_mut().zip(called) {
            *wanted &= called;
        }
    }
    wanted
}

/// Of what a GPU does in a second, what the order is about: operations or tokens. `None` if that is not known.
pub(crate) fn speed(query: &Query, model: &GpuModel) -> Option<u32> {
    match query.sort {
        Sort::PerfPerUsd => model.fp32_gflops,
        Sort::PerToken => query.speeds.as_ref()?.of(&model.slug),
        Sort::Price | Sort::Total | Sort::Reliability | Sort::Ready | Sort::Newest => None,
    }
}

/// `de` is `de` and everything inside it.
fn lies_in(region: &str, place: &str) -> bool {
    let (region, place) = (region.as_bytes(), place.as_bytes());
    // most differ in their first letters
    region.first() == place.first()
        && region.strip_prefix(place).is_some_and(|rest| rest.first().is_none_or(|b| *b == b'-'))
}

/// Sizes of a rental, as bits, that a test on a number of GPUs allows.
fn counts(set: &Set) -> u64 {
    let bit = |gpus: &u64| {
        let shift = gpus.checked_sub(1).and_then(|shift| u32::try_from(shift).ok());
        shift.and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or(0)
    };
    let any = |values: &[u64]| values.iter().fold(0, |sizes, gpus| sizes | bit(gpus));
    let most = |gpus: u64| up_to(u8::try_from(gpus).unwrap_or(u8::MAX));
    match set {
        Set::Span(least, largest) => most(*largest) & !most(least.saturating_sub(1)),
        Set::OneOf(values) => any(values),
        Set::NoneOf(values) => !any(values),
    }
}

/// Sizes of a rental, as bits, of which a model satisfies everything that was asked.
fn sizes(query: &Query, model: &GpuModel) -> u64 {
    let of_all = |each: Option<u32>, set: &Set| {
        let fits = |bit: u32| {
            let gpus = u64::from(bit).saturating_add(1);
            each.is_some_and(|each| set.holds(gpus.saturating_mul(each.into())))
        };
        (0_u32..64).fold(0, |sizes, bit| sizes | (u64::from(fits(bit)) << bit))
    };
    query.tests.iter().fold(u64::MAX, |sizes, test| {
        if test.field == Field::GpuCount {
            sizes & counts(&test.set)
        } else if test.field == Field::TotalVram {
            sizes & of_all(Some(model.vram_gb), &test.set)
        } else if test.field == Field::TotalFlops {
            sizes & of_all(model.fp32_gflops, &test.set)
        } else {
            sizes
        }
    })
}

impl<'q> Compiled<'q> {
    pub(crate) fn new(index: &Index, query: &'q Query) -> Self {
        let regions = (!query.places.is_empty()).then(|| {
            let allowed = |region: &str| {
                query.places.iter().all(|names| named(names, |place| lies_in(region, place)))
            };
            index.regions.iter().map(|(_, region)| allowed(region)).collect::<Vec<bool>>()
        });
        let providers = (!query.providers.is_empty()).then(|| {
            query.providers.iter().filter_map(|id| index.providers.find(id)).collect::<Vec<u32>>()
        });
        let sized = query.tests.iter().any(|test| {
            matches!(test.field, Field::GpuCount | Field::TotalVram | Field::TotalFlops)
        });
        let wanted = models(index, query);
        let models = index.models.iter().enumerate().zip(wanted).filter(|((_, model), wanted)| {
            *wanted && query.tests.iter().all(|test| satisfies(model, test))
        });
        let plans = models
            .map(|((number, model), _)| Plan::new(query, number, model))
            .filter(|plan| plan.sizes != 0)
            .collect();
        let mut compiled = Self {
            query,
            plans,
            prices: (0, u64::MAX),
            masks: Vec::with_capacity(MOST_MASKS),
            tests: Vec::with_capacity(query.tests.len()),
            open: Vec::with_capacity(query.tests.len()),
            priced: Vec::new(),
            regions,
            providers,
            sized,
            by_the_clock: true,
            offline_after: index.offline_after,
        };
        compiled.mask();
        compiled
    }

    /// The plan of an offer's model, if the query finds any of its offers.
    pub(crate) fn plan_of(&self, row: &Row) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.model == usize::from(row.model))
    }

    /// The conditions on offers' own facts.
    pub(crate) fn facts(&self) -> &[&'q Test] {
        &self.tests
    }

    /// The conditions on what the price makes with the model, or with the number of GPUs.
    pub(crate) fn priced(&self) -> &[&'q Test] {
        &self.priced
    }

    /// For what is told of changes: who is online is what the index last noted.
    pub(crate) fn by_the_flag(mut self) -> Self {
        self.by_the_clock = false;
        self
    }

    fn mask(&mut self) {
        if let Some(regions) = &self.regions {
            let allowed = (0_u32..).zip(regions).filter(|(_, allowed)| **allowed);
            let mut bytes: Vec<u8> = allowed.map(|(number, _)| code::low(number)).collect();
            bytes.sort_unstable();
            bytes.dedup();
            let bytes = bytes.into_iter().map(Pattern::of).collect();
            self.masks.push(Mask::AnyOf(Column::Region, bytes));
        }
        if let Some(providers) = &self.providers {
            let bytes = providers.iter().map(|number| Pattern::of(code::low(*number))).collect();
            self.masks.push(Mask::AnyOf(Column::Provider, bytes));
        }
        if let Some(job) = &self.query.job {
            self.masks.push(Mask::at_most(Column::MinDuration, code::log(job.duration_s)));
            self.masks.push(Mask::at_least(Column::MaxDuration, code::log(job.duration_s)));
            if job.disk_gb > 0 {
                self.masks.push(Mask::at_least(Column::Disk, code::log(job.disk_gb)));
            }
        }
        if self.query.reserved {
            self.masks.push(Mask::at_least(Column::Discount, 1));
        }
        for test in &self.query.tests {
            if matches!(
                test.field,
                Field::GpuCount
                    | Field::TotalVram
                    | Field::TotalFlops
                    | Field::Vram
                    | Field::Vendor
                    | Field::Form
                    | Field::ComputeCapability
            ) {
                continue;
            }
            let (least, most) = test.set.bounds();
            if matches!(test.field, Field::Hourly | Field::FlopsUsd) {
                self.priced.push(test);
                if test.field == Field::Hourly {
                    let sizes = self.plans.iter().fold(0, |sizes, plan| sizes | plan.sizes);
                    let fewest = u64::from(sizes.trailing_zeros()).saturating_add(1);
                    let least = least.checked_div(largest(sizes).into()).unwrap_or(0);
                    let most = most.checked_div(fewest).unwrap_or(most);
                    self.prices = (self.prices.0.max(least), self.prices.1.min(most));
                }
                continue;
            }
            self.tests.push(test);
            if test.field == Field::Price {
                self.prices = (self.prices.0.max(least), self.prices.1.min(most));
            }
            if !masks_of(test.field, &test.set, least, most, &mut self.masks) {
                self.open.push(test);
            }
        }
        self.masks.sort_by_key(Mask::cost);
    }

    /// Rows of a block that may fit, and that may come before `worst` in the order.
    pub(crate) fn better(&self, plan: &Plan, block: &Block, worst: u128) -> u64 {
        let code = || Pattern::of(code::log(u32::try_from(worst).unwrap_or(u32::MAX)));
        let rows = match self.query.sort {
            Sort::Newest if block.newest() < !worst => 0,
            Sort::Reliability if worst < u128::from(UNKNOWN_BPS) => {
                code().at_most(block.column(Column::Unreliability), block.all())
            }
            Sort::Ready if worst < u128::from(UNKNOWN) => {
                code().at_most(block.column(Column::Ready), block.all())
            }
            Sort::Newest | Sort::Reliability | Sort::Ready => block.all(),
            Sort::Price | Sort::Total | Sort::PerfPerUsd | Sort::PerToken => block.all(),
        };
        self.candidates_of(plan, block, rows)
    }

    /// Rows of a block that may fit.
    pub(crate) fn candidates(&self, plan: &Plan, block: &Block) -> u64 {
        self.candidates_of(plan, block, block.all())
    }

    fn candidates_of(&self, plan: &Plan, block: &Block, rows: u64) -> u64 {
        let mut rows = rows;
        for mask in plan.first.iter().chain(&self.masks) {
            if rows == 0 {
                return 0;
            }
            rows = mask.rows(block, rows);
        }
        rows
    }

    /// How many GPUs of this offer would be rented, if it is one that is looked for.
    pub(crate) fn fits(&self, index: &Index, plan: &Plan, row: &Row) -> Option<u8> {
        self.satisfies(&self.tests, index, plan, row)
    }

    /// The same of one that is among the [candidates](Self::candidates).
    pub(crate) fn candidate_fits(&self, index: &Index, plan: &Plan, row: &Row) -> Option<u8> {
        self.satisfies(&self.open, index, plan, row)
    }

    fn satisfies(&self, tests: &[&Test], index: &Index, plan: &Plan, row: &Row) -> Option<u8> {
        let facts = tests
            .iter()
            .all(|test| value(row, test.field).is_some_and(|value| test.set.holds(value)));
        (facts && self.is_where(row) && self.is_one_of(row) && self.lasts(row)).then_some(())?;
        self.size(index, plan, row)
    }

    pub(crate) fn is_where(&self, row: &Row) -> bool {
        self.regions
            .as_ref()
            .is_none_or(|regions| regions.get(usize::from(row.region)).copied().unwrap_or(false))
    }

    pub(crate) fn is_one_of(&self, row: &Row) -> bool {
        let Query { offers, machines, .. } = self.query;
        self.providers.as_ref().is_none_or(|providers| providers.contains(&row.provider))
            && (offers.is_empty() || offers.contains(&row.id))
            && (machines.is_empty() || machines.contains(&row.machine))
    }

    /// Whether there is time for what is to be run, however late it may begin.
    fn lasts(&self, row: &Row) -> bool {
        let begins = self.query.begins();
        let Some(job) = &self.query.job else {
            return !self.query.available || row.until >= begins.saturating_add(row.min_duration);
        };
        row.min_duration <= job.duration_s
            && job.duration_s <= row.max_duration
            && row.until >= begins.saturating_add(job.duration_s)
    }

    /// The chunks of an offer that could be rented.
    fn chunks(&self, row: &Row) -> u64 {
        if !self.query.available {
            return row.chunks;
        }
        let heard = row.heard_at.saturating_add(self.offline_after) >= self.query.now;
        if self.by_the_clock && !heard { 0 } else { row.chunks_now() }
    }

    fn size(&self, index: &Index, plan: &Plan, row: &Row) -> Option<u8> {
        let mut sizes = self.chunks(row) & plan.sizes;
        let steps = index.steps(row);
        if self.query.reserved {
            let duration = self.query.job.map(|job| job.duration_s);
            steps.iter().find(|step| duration.is_none_or(|span| step.min_duration_s <= span))?;
        }
        let model = index.models.get(plan.model);
        let priced = |gpus: u8| {
            self.priced.iter().all(|test| {
                let value = price_fact(row, model, test.field, gpus.into());
                value.is_some_and(|value| test.set.holds(value))
            })
        };
        while sizes != 0 {
            let gpus = if self.sized {
                u8::try_from(sizes.trailing_zeros()).ok()?.saturating_add(1)
            } else {
                largest(sizes)
            };
            let would_do = match &self.query.job {
                None => true,
                Some(job) => {
                    let affordable = match self.query.total_most {
                        Some(most) => total::of_row(row, steps, job, gpus)?.total.get() <= most,
                        None => true,
                    };
                    affordable && (job.disk_gb == 0 || disk_limit(row, gpus) >= job.disk_gb)
                }
            };
            if would_do && priced(gpus) {
                return Some(gpus);
            }
            sizes &= !up_to(gpus) | up_to(gpus.saturating_sub(1));
        }
        None
    }
}

/// What an offer's price makes of so many GPUs of its model; `None` if nobody knows it, or if that is another fact.
pub(crate) fn price_fact(
    row: &Row,
    model: Option<&GpuModel>,
    field: Field,
    gpus: u16,
) -> Option<u64> {
    let price = u64::from(row.price);
    if field == Field::Hourly {
        return Some(price.saturating_mul(gpus.into()));
    }
    let gflops = model.filter(|_| field == Field::FlopsUsd)?.fp32_gflops?;
    u64::from(gflops).saturating_mul(1_000_000).checked_div(price)
}

/// A machine's disk is shared among its GPUs.
fn disk_limit(row: &Row, gpus: u8) -> u32 {
    disk_share(row.disk_gb, row.gpus_in_machine.max(row.gpu_count), gpus)
}

/// What so many GPUs have of a disk that `of` GPUs share.
pub(crate) fn disk_share(disk_gb: u32, of: u8, gpus: u8) -> u32 {
    let share = u64::from(disk_gb).saturating_mul(u64::from(gpus)).checked_div(u64::from(of));
    share.and_then(|share| u32::try_from(share).ok()).unwrap_or(0)
}

impl Plan {
    /// The fewest GPUs that would do.
    pub(crate) fn fewest(&self) -> u8 {
        u8::try_from(self.sizes.trailing_zeros()).unwrap_or(63).saturating_add(1)
    }

    fn new(query: &Query, number: usize, model: &GpuModel) -> Self {
        let (sizes, speed) = (sizes(query, model), speed(query, model));
        let first = query.available.then(|| match sizes {
            1 => Mask::Flags(flags::ONE_NOW),
            2 => Mask::Flags(flags::TWO_NOW),
            128 => Mask::Flags(flags::EIGHT_NOW),
            _ => {
                let fewest = u8::try_from(sizes.trailing_zeros()).unwrap_or(63);
                Mask::at_least(Column::Largest, fewest.saturating_add(1))
            }
        });
        Self { model: number, speed, sizes, first }
    }
}

/// A fact of an offer as a number; `None` if nobody knows it, or if it is not the offer's own.
pub(crate) fn value(row: &Row, field: Field) -> Option<u64> {
    let known = |value: u32| (value != UNKNOWN).then_some(u64::from(value));
    Some(match field {
        Field::Price => row.price.into(),
        Field::DiskPrice => row.disk_price.into(),
        Field::UpPrice => row.up_price.into(),
        Field::DownPrice => row.down_price.into(),
        Field::CpuCores => row.cpu_cores.into(),
        Field::Ram => row.ram_gb.into(),
        Field::Disk => row.disk_gb.into(),
        Field::DiskSpeed => return known(row.disk_mb_s),
        Field::Pcie => return known(row.pcie_mb_s),
        Field::Up => return known(row.up_mbps),
        Field::Down => return known(row.down_mbps),
        Field::Ports => row.ports.into(),
        Field::Cuda => return (row.cuda != 0).then_some(row.cuda.into()),
        Field::Reliability => {
            return (row.reliability != UNKNOWN_BPS).then_some(row.reliability.into());
        }
        Field::Ready => return known(row.ready_ms),
        Field::MinDuration => row.min_duration.into(),
        Field::MaxDuration => row.max_duration.into(),
        Field::Until => row.until.into(),
        Field::Notice => row.notice.into(),
        Field::Tier => Index::tier(row).code().into(),
        Field::Verification => row.verification.code().into(),
        Field::Datacenter => row.has(flags::DATACENTER).into(),
        Field::Isolation => row.isolation.code().into(),
        Field::StaticIp => row.has(flags::STATIC_IP).into(),
        Field::Templates => row.templates.into(),
        Field::Rented => (row.chunks & up_to(row.gpus_free) == 0).into(),
        Field::Updated => row.updated_at.into(),
        Field::GpuCount
        | Field::Vram
        | Field::TotalVram
        | Field::Vendor
        | Field::TotalFlops
        | Field::Form
        | Field::ComputeCapability
        | Field::Hourly
        | Field::FlopsUsd => {
            return None;
        }
    })
}
