//! Matching: the cheapest ways to get what is needed, from one offer or from several machines of one provider that stand
//! in one region, and why everything near was not taken.

use std::collections::HashMap;

use domain::quote::JobTotal;
use uuid::Uuid;

use crate::{
    compiled::{Compiled, Plan, disk_limit, price_fact, value},
    index::Index,
    listing::Listing,
    query::{Field, Job, Query},
    row::{Row, flags, largest, up_to},
    total,
};

mod combine;

use combine::{Choice, combine};

#[cfg(test)]
mod tests;

/// The most GPUs of one match.
pub const MAX_GPUS: u16 = 512;
/// The most offers of a model that are looked at, cheapest first.
pub const MAX_LOOKED_AT: usize = 100_000;
/// The most machines of one provider that are put together from, cheapest first.
const MAX_MACHINES: usize = 64;
/// The most proposals.
pub const MAX_PROPOSALS: usize = 20;

/// What is needed.
#[derive(Clone, Debug)]
pub struct Need {
    /// What every machine must be; its price by the hour, memory and speed in all as if all GPUs were of it. Its tests on
    /// GPU counts, sort, page and limit are not looked at; it needs a job, whose disk and network are for each machine.
    pub query: Query,
    /// GPUs in all.
    pub gpus: u16,
    /// What it may cost in all, in micro-dollars.
    pub budget: Option<u64>,
    /// Whether several machines will do.
    pub split: bool,
    /// How many proposals, at most [`MAX_PROPOSALS`].
    pub proposals: usize,
}

/// A rental of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The offer.
    pub listing: Listing,
    /// How many of its GPUs.
    pub gpus: u16,
    /// What that comes to.
    pub total: JobTotal,
}

/// A way to get what is needed: all of its parts together or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// One, or several of one provider in one region.
    pub parts: Vec<Part>,
    /// Micro-dollars in all.
    pub total: u64,
}

/// Why an offer was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A fact is not what was asked for, or not known.
    Fact(Field),
    /// It stands elsewhere.
    Place,
    /// It is not of the providers, machines or offers that were named.
    NotNamed,
    /// The machine was not heard of lately.
    Offline,
    /// The machine takes no new rentals.
    Closed,
    /// Its GPUs are rented, or too few are left.
    Taken,
    /// It is rented in other numbers of GPUs, and could not be put together with others; or it was not looked at with
    /// others, as its provider has 64 cheaper ones there.
    GpuCount,
    /// It is rented for longer or shorter times only.
    Duration,
    /// It ends before the job would.
    EndsTooSoon,
    /// It has too little disk.
    Disk,
    /// It has no discount for this duration.
    NotReserved,
    /// It would cost more than the budget.
    Budget,
}

impl Reason {
    /// Its stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fact(field) => field.as_str(),
            Self::Place => "region",
            Self::NotNamed => "not_named",
            Self::Offline => "offline",
            Self::Closed => "draining",
            Self::Taken => "gpus_taken",
            Self::GpuCount => "gpu_count",
            Self::Duration => "duration",
            Self::EndsTooSoon => "available_until",
            Self::Disk => "disk_gb",
            Self::NotReserved => "reserved",
            Self::Budget => "budget",
        }
    }
}

/// How many offers a reason kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// Offers that it applies to.
    pub offers: u64,
    /// Offers that nothing else keeps out: what giving this wish up would bring.
    pub alone: u64,
    /// The cheapest of those by price per GPU and hour: the offer and its price in micro-dollars.
    pub nearest: Option<(Uuid, u32)>,
}

/// What came of a need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Cheapest first.
    pub proposals: Vec<Proposal>,
    /// Offers of the right models that were looked at.
    pub looked_at: u64,
    /// Whether there were more than may be looked at; then the dearest were not.
    pub cut: bool,
    /// Why those that are in no proposal are not, most frequent first.
    pub refusals: Vec<Refusal>,
}

/// A machine that would do, by the GPUs that can be had.
struct Candidate {
    row: Row,
    sizes: u64,
    /// All GPUs can be had of it: what comes of that was said without its group.
    whole: bool,
}

/// Machines of one model and provider in one region.
#[derive(Default)]
struct Group {
    /// The cheapest, at most [`MAX_MACHINES`].
    machines: Vec<Candidate>,
    /// How many more would be parts of a whole, and the cheapest of them.
    beyond: Option<(u64, Row)>,
}

#[derive(Default)]
struct Gathered {
    whole: Vec<(u64, Uuid, Row)>,
    groups: HashMap<(u32, u16, u16), Group>,
    refusals: HashMap<Reason, Refusal>,
    looked_at: u64,
    cut: bool,
}

impl Index {
    /// Finds what satisfies a need.
    #[must_use]
    pub fn matching(&self, need: &Need) -> Match {
        let query = Query {
            tests: need
                .query
                .tests
                .iter()
                .filter(|test| {
                    !matches!(test.field, Field::GpuCount | Field::TotalVram | Field::TotalFlops)
                })
                .cloned()
                .collect(),
            ..need.query.clone()
        };
        let job = query.job.unwrap_or_default();
        let compiled = Compiled::new(self, &query);
        let mut gathered = Gathered::default();
        for plan in &compiled.plans {
            self.gather(need, &job, &compiled, plan, &mut gathered);
        }
        let mut proposals = self.proposals(need, &job, &mut gathered);
        proposals.truncate(need.proposals.min(MAX_PROPOSALS));
        let mut refusals: Vec<Refusal> = gathered.refusals.into_values().collect();
        refusals.sort_by_key(|refusal| (u64::MAX ^ refusal.offers, refusal.reason.as_str()));
        Match { proposals, looked_at: gathered.looked_at, cut: gathered.cut, refusals }
    }

    fn gather(
        &self,
        need: &Need,
        job: &Job,
        compiled: &Compiled<'_>,
        plan: &Plan,
        into: &mut Gathered,
    ) {
        let Some(segment) = self.segments.get(plan.model) else { return };
        let mut left = MAX_LOOKED_AT;
        for number in 0..segment.blocks() {
            let slots = segment.block(number).map(|block| block.slots()).unwrap_or_default();
            for row in slots.iter().filter_map(|slot| self.slab.get(*slot)) {
                if left == 0 {
                    into.cut = true;
                    return;
                }
                left = left.saturating_sub(1);
                into.looked_at = into.looked_at.saturating_add(1);
                self.judge(need, job, compiled, row, into);
            }
        }
    }

    fn judge(
        &self,
        need: &Need,
        job: &Job,
        compiled: &Compiled<'_>,
        row: &Row,
        into: &mut Gathered,
    ) {
        let mut reasons = self.reasons(compiled, job, row);
        let model = self.model_of(row);
        for test in compiled.priced() {
            let value = price_fact(row, model, test.field, need.gpus);
            if !value.is_some_and(|value| test.set.holds(value)) {
                add(&mut reasons, Reason::Fact(test.field));
            }
        }
        for test in &need.query.tests {
            let each = if test.field == Field::TotalVram {
                model.map(|model| model.vram_gb)
            } else if test.field == Field::TotalFlops {
                model.and_then(|model| model.fp32_gflops)
            } else {
                continue;
            };
            let of_all = each.map(|each| u64::from(each).saturating_mul(need.gpus.into()));
            if !of_all.is_some_and(|value| test.set.holds(value)) {
                add(&mut reasons, Reason::Fact(test.field));
            }
        }
        let wanted = 1_u64.checked_shl(u32::from(need.gpus).saturating_sub(1)).unwrap_or(0);
        let now = row.chunks & up_to(row.gpus_free);
        let smaller = up_to(u8::try_from(need.gpus).unwrap_or(u8::MAX));
        let sizes = if need.split { now & smaller } else { now & wanted };
        if now == 0 || (row.chunks & wanted != 0 && now & wanted == 0 && !need.split) {
            reasons.push(Reason::Taken);
        } else if sizes == 0 {
            reasons.push(Reason::GpuCount);
        }
        let fewest = u8::try_from(sizes.trailing_zeros()).unwrap_or(63).saturating_add(1);
        let has_disk = |gpus: u8| disk_limit(row, gpus) >= job.disk_gb;
        if sizes != 0 && job.disk_gb > 0 && !has_disk(largest(sizes)) {
            reasons.push(Reason::Disk);
        }
        let total = |gpus: u8| {
            total::of_row(row, self.steps(row), job, gpus).map(|total| total.total.get())
        };
        if let (Some(budget), true) = (need.budget, sizes != 0)
            && total(fewest).is_none_or(|total| total > budget)
        {
            reasons.push(Reason::Budget);
        }
        if !reasons.is_empty() {
            note(&mut into.refusals, row, &reasons);
            return;
        }
        if sizes & wanted != 0
            && let Ok(gpus) = u8::try_from(need.gpus)
            && has_disk(gpus)
            && let Some(total) = total(gpus)
        {
            if need.budget.is_none_or(|budget| total <= budget) {
                into.whole.push((total, row.id, *row));
            } else {
                note(&mut into.refusals, row, &[Reason::Budget]);
            }
        }
        if need.split {
            let group = into.groups.entry((row.provider, row.model, row.region)).or_default();
            let whole = sizes & wanted != 0;
            if group.machines.len() < MAX_MACHINES {
                group.machines.push(Candidate { row: *row, sizes, whole });
            } else if !whole {
                let (more, _) = group.beyond.get_or_insert((0, *row));
                *more = more.saturating_add(1);
            }
        }
    }

    /// Everything that keeps an offer out, whatever number of its GPUs is wanted.
    fn reasons(&self, compiled: &Compiled<'_>, job: &Job, row: &Row) -> Vec<Reason> {
        let query = compiled.query;
        let mut reasons: Vec<Reason> = Vec::new();
        for test in compiled.facts() {
            if !value(row, test.field).is_some_and(|value| test.set.holds(value)) {
                add(&mut reasons, Reason::Fact(test.field));
            }
        }
        let ends = query.now.saturating_add(job.duration_s);
        let heard = row.heard_at.saturating_add(self.offline_after) >= query.now;
        let discount = self.steps(row).iter().any(|step| step.min_duration_s <= job.duration_s);
        for (keeps_out, reason) in [
            (!compiled.is_where(row), Reason::Place),
            (!compiled.is_one_of(row), Reason::NotNamed),
            (!heard || !row.has(flags::ONLINE), Reason::Offline),
            (!row.has(flags::OPEN), Reason::Closed),
            (
                job.duration_s < row.min_duration || job.duration_s > row.max_duration,
                Reason::Duration,
            ),
            (row.until < ends, Reason::EndsTooSoon),
            (query.reserved && !discount, Reason::NotReserved),
        ] {
            if keeps_out {
                reasons.push(reason);
            }
        }
        reasons
    }

    fn proposals(&self, need: &Need, job: &Job, gathered: &mut Gathered) -> Vec<Proposal> {
        gathered.whole.sort_by_key(|(total, id, _)| (*total, *id));
        let limit = need.proposals.min(MAX_PROPOSALS);
        let gpus = u8::try_from(need.gpus).unwrap_or(u8::MAX);
        let whole = gathered.whole.iter().take(limit);
        let mut proposals: Vec<Proposal> =
            whole.filter_map(|(_, _, row)| self.proposal(job, &[(*row, gpus)])).collect();
        let (several, single): (Vec<_>, Vec<_>) =
            gathered.groups.values().partition(|group| group.machines.len() > 1);
        for group in single {
            note_group(&mut gathered.refusals, group, Reason::GpuCount);
        }
        let mut groups: Vec<(u64, &Group)> = several
            .into_iter()
            .map(|group| (self.least(need, job, &group.machines), group))
            .collect();
        groups.sort_by_key(|(least, group)| (*least, group.machines.first().map(|one| one.row.id)));
        for (least, group) in groups {
            let worst = proposals.get(limit.saturating_sub(1)).map(|worst| worst.total);
            if worst.is_some_and(|worst| least >= worst) {
                break;
            }
            let chosen = match self.chosen(need, job, &group.machines, least) {
                Ok(chosen) => chosen,
                Err(reason) => {
                    note_group(&mut gathered.refusals, group, reason);
                    continue;
                }
            };
            let rows: Vec<(Row, u8)> = chosen
                .iter()
                .filter_map(|(which, gpus)| group.machines.get(*which).map(|one| (one.row, *gpus)))
                .collect();
            let Some(proposal) = self.proposal(job, &rows) else { continue };
            if need.budget.is_some_and(|budget| proposal.total > budget) {
                note_group(&mut gathered.refusals, group, Reason::Budget);
                continue;
            }
            // a single machine was proposed already
            if chosen.len() > 1 {
                proposals.push(proposal);
                proposals.sort_by_key(|one| (one.total, one.parts.len()));
                proposals.truncate(limit);
            }
        }
        proposals
    }

    /// What no combination of a group can be cheaper than: all GPUs at the cheapest one's price.
    fn least(&self, need: &Need, job: &Job, group: &[Candidate]) -> u64 {
        let discount = self.best_discount(job.duration_s);
        let price = group.iter().map(|one| one.row.price).min().unwrap_or(0);
        let all = total::least(price, discount, job, need.gpus.into());
        // discounts of parts are rounded down one by one, which may take a millionth per hour more off
        let slack = u128::from(job.duration_s / 3_600).saturating_add(1);
        let all = all.saturating_sub(slack.saturating_mul(need.gpus.into()));
        u64::try_from(all).unwrap_or(u64::MAX)
    }

    /// The cheapest way to what is needed with the machines of a group, by their places in it, or why there is none. It may
    /// be over the budget.
    fn chosen(
        &self,
        need: &Need,
        job: &Job,
        group: &[Candidate],
        least: u64,
    ) -> Result<Vec<(usize, u8)>, Reason> {
        // what can be said without trying all ways
        let most: u32 = group.iter().map(|one| u32::from(largest(one.sizes))).sum();
        if most < need.gpus.into() {
            return Err(Reason::GpuCount);
        }
        if need.budget.is_some_and(|budget| least > budget) {
            return Err(Reason::Budget);
        }
        if let Some(chosen) = self.combined(job, group, need.gpus) {
            return Ok(chosen);
        }
        let without_disk = Job { disk_gb: 0, ..*job };
        if job.disk_gb > 0 && self.combined(&without_disk, group, need.gpus).is_some() {
            return Err(Reason::Disk);
        }
        Err(Reason::GpuCount)
    }

    /// The cheapest way to so many GPUs with the machines of a group, by their places in it.
    fn combined(&self, job: &Job, group: &[Candidate], gpus: u16) -> Option<Vec<(usize, u8)>> {
        let choices: Vec<Vec<Choice>> = group.iter().map(|one| self.choices(job, one)).collect();
        combine(&choices, gpus)
    }

    fn choices(&self, job: &Job, one: &Candidate) -> Vec<Choice> {
        let sizes =
            (0_u8..64).filter(|bit| (one.sizes >> bit) & 1 == 1).map(|bit| bit.saturating_add(1));
        sizes
            .filter(|gpus| disk_limit(&one.row, *gpus) >= job.disk_gb)
            .filter_map(|gpus| {
                let total = total::of_row(&one.row, self.steps(&one.row), job, gpus)?;
                Some(Choice { gpus, total: total.total.get() })
            })
            .collect()
    }

    fn proposal(&self, job: &Job, rows: &[(Row, u8)]) -> Option<Proposal> {
        let mut sum = 0_u64;
        let mut parts = Vec::new();
        for (row, gpus) in rows {
            let total = total::of_row(row, self.steps(row), job, *gpus)?;
            sum = sum.checked_add(total.total.get())?;
            parts.push(Part { listing: self.unpack(row), gpus: u16::from(*gpus), total });
        }
        Some(Proposal { parts, total: sum })
    }
}

fn add(reasons: &mut Vec<Reason>, reason: Reason) {
    if !reasons.contains(&reason) {
        reasons.push(reason);
    }
}

/// Why a group comes to nothing, for each of it that would have been a part.
fn note_group(refusals: &mut HashMap<Reason, Refusal>, group: &Group, reason: Reason) {
    for one in group.machines.iter().filter(|one| !one.whole) {
        note(refusals, &one.row, &[reason]);
    }
    if let Some((more, cheapest)) = &group.beyond {
        note_all(refusals, cheapest, *more, &[Reason::GpuCount]);
    }
}

fn note(refusals: &mut HashMap<Reason, Refusal>, row: &Row, reasons: &[Reason]) {
    note_all(refusals, row, 1, reasons);
}

/// Notes so many offers that the same keeps out, and of which this is the cheapest.
fn note_all(refusals: &mut HashMap<Reason, Refusal>, row: &Row, offers: u64, reasons: &[Reason]) {
    for reason in reasons {
        let refusal = refusals.entry(*reason).or_insert(Refusal {
            reason: *reason,
            offers: 0,
            alone: 0,
            nearest: None,
        });
        refusal.offers = refusal.offers.saturating_add(offers);
        if reasons.len() == 1 {
            refusal.alone = refusal.alone.saturating_add(offers);
            if refusal.nearest.is_none_or(|(id, price)| row.key() < (price, id)) {
                refusal.nearest = Some((row.id, row.price));
            }
        }
    }
}
