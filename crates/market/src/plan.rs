//! Matching: the cheapest ways to get what is needed, from one offer or from several machines of one provider that stand
//! in one region, and why everything near was not taken.

use std::collections::{BTreeMap, HashMap};

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
mod refusals;

use combine::{Choice, combine};
use refusals::Refusals;
pub use refusals::{Explained, Reason, Refusal};

#[cfg(test)]
mod tests;

/// The most GPUs of one match.
pub const MAX_GPUS: u16 = 512;
/// The most offers of a model that are looked at only to say why they do not do, cheapest first.
pub const MAX_JUDGED: usize = 100_000;
/// The most refused offers that are explained one by one.
pub const MAX_EXPLAINED: usize = 50;
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
    /// Of how many refused offers everything is told that stands against them, at most [`MAX_EXPLAINED`].
    pub explain: usize,
    /// How many offers of each model are looked at whatever is known of them: [`MAX_JUDGED`].
    pub judged: usize,
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

/// What came of a need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Cheapest first.
    pub proposals: Vec<Proposal>,
    /// Offers of the right models that were looked at one by one.
    pub looked_at: u64,
    /// Whether there were more: dear ones that cannot be part of a proposal. They are in no refusal.
    pub cut: bool,
    /// Why those that are in no proposal are not, most frequent first.
    pub refusals: Vec<Refusal>,
    /// The cheapest of those by price per GPU and hour.
    pub explained: Vec<Explained>,
}

/// A machine that would do, by the GPUs that can be had.
struct Candidate<'a> {
    row: &'a Row,
    sizes: u64,
    /// All GPUs can be had of it: what comes of that was said without its group.
    whole: bool,
}

/// Machines of one model and provider in one region.
#[derive(Default)]
struct Group<'a> {
    /// The cheapest, at most [`MAX_MACHINES`].
    machines: Vec<Candidate<'a>>,
    /// More that would be parts of a whole.
    beyond: Vec<&'a Row>,
}

/// A need, with what is reckoned of it once.
struct Wish<'n> {
    need: &'n Need,
    job: Job,
    /// The largest discount that anybody gives for it.
    discount: u16,
    proposals: usize,
}

struct Gathered<'a> {
    /// The cheapest that have all GPUs, as many as may be proposed.
    whole: BTreeMap<(u64, Uuid), &'a Row>,
    groups: HashMap<(u32, u16, u16), Group<'a>>,
    refusals: Refusals<'a>,
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
        let discount = self.best_discount(job.duration_s);
        let wish = Wish { need, job, discount, proposals: need.proposals.min(MAX_PROPOSALS) };
        let compiled = Compiled::new(self, &query);
        let mut gathered = Gathered {
            whole: BTreeMap::new(),
            groups: HashMap::new(),
            refusals: Refusals::new(need.explain.min(MAX_EXPLAINED)),
            looked_at: 0,
            cut: false,
        };
        for plan in &compiled.plans {
            self.gather(&wish, &compiled, plan, &mut gathered);
        }
        let proposals = self.proposals(&wish, &mut gathered);
        let Gathered { refusals, looked_at, cut, .. } = gathered;
        let (refusals, cheapest) = refusals.told();
        let parts = || proposals.iter().flat_map(|proposal| &proposal.parts);
        // too dear alone is not out of the question together with others
        let is_taken = |row: &Row| parts().any(|part| part.listing.id == row.id);
        let explained = cheapest.into_iter().filter(|(row, _)| !is_taken(row));
        let explained = explained
            .map(|(row, reasons)| Explained { listing: self.unpack(row), reasons })
            .collect();
        Match { proposals, looked_at, cut, refusals, explained }
    }

    /// Looks at a model's offers, cheapest first: at so many in any case, at those beyond only where they may do.
    fn gather<'a>(
        &'a self,
        wish: &Wish<'_>,
        compiled: &Compiled<'_>,
        plan: &Plan,
        into: &mut Gathered<'a>,
    ) {
        let Some(segment) = self.segments.get(plan.model) else { return };
        let cheapest = segment.first(0).map_or(0, |(price, _)| price);
        let mut left = wish.need.judged;
        for number in 0..segment.blocks() {
            let (Some(block), Some((price, _))) = (segment.block(number), segment.first(number))
            else {
                return;
            };
            if left == 0 && wish.is_too_dear(cheapest, price, into) {
                into.cut = true;
                return;
            }
            let judged = up_to(u8::try_from(left).unwrap_or(u8::MAX)) & block.all();
            left = left.saturating_sub(block.len());
            let mut rows = judged | compiled.candidates(plan, block);
            into.cut |= rows != block.all();
            while rows != 0 {
                let place = usize::try_from(rows.trailing_zeros()).unwrap_or(usize::MAX);
                rows &= rows.wrapping_sub(1);
                let slot = block.slots().get(place);
                if let Some(row) = slot.and_then(|slot| self.slab.get(*slot)) {
                    into.looked_at = into.looked_at.saturating_add(1);
                    self.judge(wish, compiled, row, into);
                }
            }
        }
    }

    fn judge<'a>(
        &'a self,
        wish: &Wish<'_>,
        compiled: &Compiled<'_>,
        row: &'a Row,
        into: &mut Gathered<'a>,
    ) {
        let Wish { need, job, .. } = wish;
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
            into.refusals.note(row, &reasons);
            return;
        }
        if sizes & wanted != 0
            && let Ok(gpus) = u8::try_from(need.gpus)
            && has_disk(gpus)
            && let Some(total) = total(gpus)
        {
            if need.budget.is_none_or(|budget| total <= budget) {
                into.whole.insert((total, row.id), row);
                if into.whole.len() > wish.proposals {
                    into.whole.pop_last();
                }
            } else {
                into.refusals.note(row, &[Reason::Budget]);
            }
        }
        if need.split {
            let group = into.groups.entry((row.provider, row.model, row.region)).or_default();
            let whole = sizes & wanted != 0;
            if group.machines.len() < MAX_MACHINES {
                group.machines.push(Candidate { row, sizes, whole });
            } else if !whole {
                group.beyond.push(row);
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
        let ends = query.begins().saturating_add(job.duration_s);
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

    fn proposals(&self, wish: &Wish<'_>, gathered: &mut Gathered<'_>) -> Vec<Proposal> {
        let Wish { need, job, proposals: limit, .. } = wish;
        let Gathered { whole, groups, refusals, .. } = gathered;
        let gpus = u8::try_from(need.gpus).unwrap_or(u8::MAX);
        let mut proposals: Vec<Proposal> =
            whole.values().filter_map(|row| self.proposal(job, &[(*row, gpus)])).collect();
        let (several, single): (Vec<_>, Vec<_>) =
            groups.values().partition(|group| group.machines.len() > 1);
        for group in single {
            note_group(refusals, group, Reason::GpuCount);
        }
        let mut groups: Vec<(u64, &Group<'_>)> =
            several.into_iter().map(|group| (wish.least_of(&group.machines), group)).collect();
        groups.sort_by_key(|(least, group)| (*least, group.machines.first().map(|one| one.row.id)));
        for (least, group) in groups {
            let worst = proposals.get(limit.saturating_sub(1)).map(|worst| worst.total);
            if worst.is_some_and(|worst| least >= worst) {
                break;
            }
            let chosen = match self.chosen(need, job, &group.machines, least) {
                Ok(chosen) => chosen,
                Err(reason) => {
                    note_group(refusals, group, reason);
                    continue;
                }
            };
            let rows: Vec<(&Row, u8)> = chosen
                .iter()
                .filter_map(|(which, gpus)| group.machines.get(*which).map(|one| (one.row, *gpus)))
                .collect();
            let Some(proposal) = self.proposal(job, &rows) else { continue };
            if need.budget.is_some_and(|budget| proposal.total > budget) {
                note_group(refusals, group, Reason::Budget);
                continue;
            }
            // a single machine was proposed already
            if chosen.len() > 1 {
                proposals.push(proposal);
                proposals.sort_by_key(|one| (one.total, one.parts.len()));
                proposals.truncate(*limit);
            }
        }
        proposals
    }

    /// The cheapest way to what is needed with the machines of a group, by their places in it, or why there is none. It may
    /// be over the budget.
    fn chosen(
        &self,
        need: &Need,
        job: &Job,
        group: &[Candidate<'_>],
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
    fn combined(&self, job: &Job, group: &[Candidate<'_>], gpus: u16) -> Option<Vec<(usize, u8)>> {
        let choices: Vec<Vec<Choice>> = group.iter().map(|one| self.choices(job, one)).collect();
        combine(&choices, gpus)
    }

    fn choices(&self, job: &Job, one: &Candidate<'_>) -> Vec<Choice> {
        let sizes =
            (0_u8..64).filter(|bit| (one.sizes >> bit) & 1 == 1).map(|bit| bit.saturating_add(1));
        sizes
            .filter(|gpus| disk_limit(one.row, *gpus) >= job.disk_gb)
            .filter_map(|gpus| {
                let total = total::of_row(one.row, self.steps(one.row), job, gpus)?;
                Some(Choice { gpus, total: total.total.get() })
            })
            .collect()
    }

    fn proposal(&self, job: &Job, rows: &[(&Row, u8)]) -> Option<Proposal> {
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

impl Wish<'_> {
    /// What so many GPUs at this price cannot be cheaper than, in a rental or in several.
    fn least(&self, price: u32, gpus: u16) -> u64 {
        let all = total::least(price, self.discount, &self.job, gpus.into());
        // discounts of parts are rounded down one by one, which may take a millionth per hour more off
        let slack = u128::from(self.job.duration_s / 3_600).saturating_add(1);
        let all = all.saturating_sub(slack.saturating_mul(gpus.into()));
        u64::try_from(all).unwrap_or(u64::MAX)
    }

    /// What no combination of a group can be cheaper than: all GPUs at the cheapest one's price.
    fn least_of(&self, group: &[Candidate<'_>]) -> u64 {
        let price = group.iter().map(|one| one.row.price).min().unwrap_or(0);
        self.least(price, self.need.gpus)
    }

    /// Whether no offer at this price can be in a proposal: one GPU of it, with all others at the cheapest price, is dearer
    /// than the last of enough proposals that are known, or than what may be spent.
    fn is_too_dear(&self, cheapest: u32, price: u32, gathered: &Gathered<'_>) -> bool {
        let is_full = gathered.whole.len() >= self.proposals;
        let last =
            gathered.whole.last_key_value().filter(|_| is_full).map(|((total, _), _)| *total);
        let most = [last, self.need.budget].into_iter().flatten().min();
        most.is_some_and(|most| {
            let others = self.least(cheapest, self.need.gpus.saturating_sub(1));
            others.saturating_add(self.least(price, 1)) > most
        })
    }
}

/// Why a group comes to nothing, for each of it that would have been a part.
fn note_group<'a>(refusals: &mut Refusals<'a>, group: &Group<'a>, reason: Reason) {
    for one in group.machines.iter().filter(|one| !one.whole) {
        refusals.note(one.row, &[reason]);
    }
    for row in group.beyond.iter().copied() {
        refusals.note(row, &[Reason::GpuCount]);
    }
}
