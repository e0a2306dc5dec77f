//! Looking at offers: what each is good for, or why it is not.

use std::collections::{BTreeMap, HashMap};

use domain::quote::{JobPrices, JobTotal};
use uuid::Uuid;

use super::{MAX_MACHINES, MAX_PARTS, MAX_SMALL, Need, Reason, only, refusals::Refusals};
use crate::{
    compiled::{Compiled, Plan, disk_share, price_fact, value},
    index::Index,
    query::{Field, Job},
    row::{Row, flags, largest, up_to},
    segment::Key,
    total,
};

/// A need, with what is reckoned of it once.
pub(super) struct Wish<'n> {
    pub(super) need: &'n Need,
    pub(super) job: Job,
    /// The largest discount that anybody gives for it.
    pub(super) discount: u16,
    pub(super) proposals: usize,
}

/// What is kept of an offer: what its totals are reckoned from, and by what it is found again.
#[derive(Clone, Copy)]
pub(super) struct Offered {
    pub(super) key: Key,
    pub(super) version: u32,
    pub(super) prices: JobPrices,
    pub(super) disk_gb: u32,
    /// GPUs that share the disk.
    pub(super) disk_of: u8,
}

impl Offered {
    pub(super) fn total(&self, job: &Job, gpus: u8) -> Option<JobTotal> {
        total::at(&self.prices, job, gpus)
    }

    pub(super) fn has_disk(&self, job: &Job, gpus: u8) -> bool {
        disk_share(self.disk_gb, self.disk_of, gpus) >= job.disk_gb
    }
}

/// A machine that would do, by the GPUs that can be had.
pub(super) struct Candidate {
    pub(super) offer: Offered,
    pub(super) sizes: u64,
    /// All GPUs can be had of it: what comes of that was said without its group.
    pub(super) whole: bool,
}

/// Machines of one model and provider in one region.
#[derive(Default)]
pub(super) struct Group {
    /// The cheapest, at most [`MAX_MACHINES`].
    pub(super) machines: Vec<Candidate>,
    /// More that would be parts of a whole.
    pub(super) beyond: Vec<Key>,
}

pub(super) struct Gathered {
    /// The cheapest that have all GPUs, as many as may be proposed.
    pub(super) whole: BTreeMap<(u64, Uuid), Offered>,
    pub(super) groups: HashMap<(u32, u16, u16), Group>,
    pub(super) refusals: Refusals,
    pub(super) looked_at: u64,
    pub(super) cut: bool,
}

/// How far the looking has come.
pub(super) struct At {
    pub(super) model: usize,
    pub(super) after: Option<Key>,
    /// Of how many more of the model it is told whatever is known of them.
    pub(super) left: usize,
    /// The model's cheapest price that was seen.
    pub(super) cheapest: u32,
}

impl At {
    pub(super) const fn begin(model: usize, left: usize) -> Self {
        Self { model, after: None, left, cheapest: u32::MAX }
    }
}

/// A look at the offers of an index.
pub(super) struct Look<'a> {
    pub(super) index: &'a Index,
    pub(super) wish: &'a Wish<'a>,
    pub(super) compiled: &'a Compiled<'a>,
}

impl Look<'_> {
    /// Looks at a model's offers, cheapest first: at so many in any case, at those beyond only where they may do. False
    /// if there are more of them than may be looked at in one go.
    pub(super) fn gather(
        &self,
        plan: &Plan,
        at: &mut At,
        into: &mut Gathered,
        left: &mut usize,
    ) -> bool {
        let Self { index, wish, compiled } = self;
        let Some(segment) = index.segments.get(plan.model) else { return true };
        at.cheapest = at.cheapest.min(segment.first(0).map_or(0, |(price, _)| price));
        let begin = at.after.map_or(0, |after| segment.start(|key| *key > after));
        for number in begin..segment.blocks() {
            let (Some(block), Some((price, _))) = (segment.block(number), segment.first(number))
            else {
                return true;
            };
            // of the first one some may have been looked at before
            let seen = at.after.filter(|_| number == begin).map_or(0, |after| {
                block.slots().partition_point(|slot| index.slab.key(*slot) <= after)
            });
            let ahead = block.all() & !up_to(u8::try_from(seen).unwrap_or(u8::MAX));
            if ahead == 0 {
                continue;
            }
            if *left == 0 {
                return false;
            }
            let is_beyond = || u64::from(price) > compiled.prices.1;
            if at.left == 0 && (is_beyond() || wish.is_too_dear(at.cheapest, price, into)) {
                into.cut = true;
                return true;
            }
            let judged = seen.saturating_add(at.left);
            let judged = up_to(u8::try_from(judged).unwrap_or(u8::MAX)) & ahead;
            at.left = at.left.saturating_sub(block.len().saturating_sub(seen));
            let mut rows = judged | (compiled.candidates(plan, block) & ahead);
            into.cut |= rows != ahead;
            let looks = usize::try_from(rows.count_ones()).unwrap_or(usize::MAX);
            *left = left.saturating_sub(looks.saturating_add(1));
            while rows != 0 {
                let place = usize::try_from(rows.trailing_zeros()).unwrap_or(usize::MAX);
                rows &= rows.wrapping_sub(1);
                let slot = block.slots().get(place);
                if let Some(row) = slot.and_then(|slot| index.slab.get(*slot)) {
                    into.looked_at = into.looked_at.saturating_add(1);
                    self.judge(row, at.cheapest, into);
                }
            }
            at.after = block.slots().last().map(|slot| index.slab.key(*slot));
        }
        true
    }

    /// Notes what an offer is good for, or why it is not. `cheapest` is the least that any of its model asks.
    fn judge(&self, row: &Row, cheapest: u32, into: &mut Gathered) {
        let Self { index, wish, compiled } = self;
        let Wish { need, job, .. } = wish;
        let mut reasons = self.reasons(row);
        let model = index.model_of(row);
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
        let offer = Offered {
            key: row.key(),
            version: row.version,
            prices: total::prices_of(row, index.steps(row), job),
            disk_gb: row.disk_gb,
            disk_of: row.gpus_in_machine.max(row.gpu_count),
        };
        let wanted = only(need.gpus);
        let now = row.chunks & up_to(row.gpus_free);
        let smaller = up_to(u8::try_from(need.gpus).unwrap_or(u8::MAX));
        let sizes = if need.split { now & smaller } else { now & wanted };
        if now == 0 || (row.chunks & wanted != 0 && now & wanted == 0 && !need.split) {
            reasons.push(Reason::Taken);
        } else if sizes == 0 {
            reasons.push(Reason::GpuCount);
        }
        let fewest = u8::try_from(sizes.trailing_zeros()).unwrap_or(63).saturating_add(1);
        if sizes != 0 && job.disk_gb > 0 && !offer.has_disk(job, largest(sizes)) {
            reasons.push(Reason::Disk);
        }
        let total = |gpus: u8| offer.total(job, gpus).map(|total| total.total.get());
        if let (Some(budget), true) = (need.budget, sizes != 0)
            && total(fewest).is_none_or(|total| total > budget)
        {
            reasons.push(Reason::Budget);
        }
        if !reasons.is_empty() {
            into.refusals.note(offer.key, &reasons);
            return;
        }
        if sizes & wanted != 0
            && let Ok(gpus) = u8::try_from(need.gpus)
            && offer.has_disk(job, gpus)
            && let Some(total) = total(gpus)
        {
            if need.budget.is_none_or(|budget| total <= budget) {
                into.whole.insert((total, row.id), offer);
                if into.whole.len() > wish.proposals {
                    into.whole.pop_last();
                }
            } else {
                into.refusals.note(offer.key, &[Reason::Budget]);
            }
        }
        let whole = sizes & wanted != 0;
        // one that is no part of anything, and was said to be good or not as a whole, needs no group
        let is_told = whole && (need.gpus == 1 || wish.is_too_dear(cheapest, row.price, into));
        if need.split && !is_told {
            let group = into.groups.entry((row.provider, row.model, row.region)).or_default();
            if group.machines.is_empty() {
                // most have one machine
                group.machines.reserve_exact(1);
            }
            let together = usize::from(largest(sizes)).saturating_mul(MAX_PARTS);
            let room = if together < need.gpus.into() { MAX_SMALL } else { MAX_MACHINES };
            if group.machines.len() < room {
                group.machines.push(Candidate { offer, sizes, whole });
            } else if !whole {
                group.beyond.push(offer.key);
            }
        }
    }

    /// Everything that keeps an offer out, whatever number of its GPUs is wanted.
    fn reasons(&self, row: &Row) -> Vec<Reason> {
        let Self { index, wish: Wish { job, .. }, compiled } = self;
        let query = compiled.query;
        let mut reasons: Vec<Reason> = Vec::new();
        for test in compiled.facts() {
            if !value(row, test.field).is_some_and(|value| test.set.holds(value)) {
                add(&mut reasons, Reason::Fact(test.field));
            }
        }
        let ends = query.begins().saturating_add(job.duration_s);
        let heard = row.heard_at.saturating_add(index.offline_after) >= query.now;
        let discount = index.steps(row).iter().any(|step| step.min_duration_s <= job.duration_s);
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
    pub(super) fn least_of(&self, group: &[Candidate]) -> u64 {
        let price = group.iter().map(|one| one.offer.key.0).min().unwrap_or(0);
        self.least(price, self.need.gpus)
    }

    /// Whether no offer at this price can be in a proposal: one GPU of it, with all others at the cheapest price, is dearer
    /// than the last of enough proposals that are known, or than what may be spent.
    pub(super) fn is_too_dear(&self, cheapest: u32, price: u32, gathered: &Gathered) -> bool {
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
