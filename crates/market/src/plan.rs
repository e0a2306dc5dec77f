//! Matching: the cheapest ways to get what is needed, from one offer or from several machines of one provider that stand
//! in one region, and why everything near was not taken.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use domain::quote::{JobPrices, JobTotal};
use uuid::Uuid;

use crate::{
    compiled::{Compiled, Plan, disk_share, price_fact, value},
    index::Index,
    listing::Listing,
    query::{Field, Job, Query},
    row::{Row, flags, largest, up_to},
    segment::Key,
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

/// What is kept of an offer: what its totals are reckoned from, and by what it is found again.
#[derive(Clone, Copy)]
struct Offered {
    key: Key,
    version: u32,
    prices: JobPrices,
    disk_gb: u32,
    /// GPUs that share the disk.
    disk_of: u8,
}

impl Offered {
    fn total(&self, job: &Job, gpus: u8) -> Option<JobTotal> {
        total::at(&self.prices, job, gpus)
    }

    fn has_disk(&self, job: &Job, gpus: u8) -> bool {
        disk_share(self.disk_gb, self.disk_of, gpus) >= job.disk_gb
    }
}

/// A machine that would do, by the GPUs that can be had.
struct Candidate {
    offer: Offered,
    sizes: u64,
    /// All GPUs can be had of it: what comes of that was said without its group.
    whole: bool,
}

/// Machines of one model and provider in one region.
#[derive(Default)]
struct Group {
    /// The cheapest, at most [`MAX_MACHINES`].
    machines: Vec<Candidate>,
    /// More that would be parts of a whole.
    beyond: Vec<Key>,
}

/// A need, with what is reckoned of it once.
struct Wish<'n> {
    need: &'n Need,
    job: Job,
    /// The largest discount that anybody gives for it.
    discount: u16,
    proposals: usize,
}

struct Gathered {
    /// The cheapest that have all GPUs, as many as may be proposed.
    whole: BTreeMap<(u64, Uuid), Offered>,
    groups: HashMap<(u32, u16, u16), Group>,
    refusals: Refusals,
    looked_at: u64,
    cut: bool,
}

/// A proposal before its offers are looked up.
struct Draft {
    parts: Vec<(Offered, u8, JobTotal)>,
    total: u64,
}

/// How far the looking has come.
struct At {
    model: usize,
    after: Option<Key>,
    /// Of how many more of the model it is told whatever is known of them.
    left: usize,
    /// The model's cheapest price that was seen.
    cheapest: u32,
}

impl At {
    const fn begin(model: usize, left: usize) -> Self {
        Self { model, after: None, left, cheapest: u32::MAX }
    }
}

/// A need that is looked into piece by piece, so that whoever changes the index meanwhile need not wait for the whole.
/// An offer that changes meanwhile may be judged as before or as after, and is in no proposal if its price or its
/// GPUs are others at the end.
pub struct Matching<'n> {
    wish: Wish<'n>,
    /// The need's, without tests on what the need says itself.
    query: Query,
    /// Which index is looked at.
    of: Option<Arc<()>>,
    at: At,
    gathered: Gathered,
    drafts: Vec<Draft>,
}

impl<'n> Matching<'n> {
    /// Begins with a need.
    #[must_use]
    pub fn new(need: &'n Need) -> Self {
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
        let proposals = need.proposals.min(MAX_PROPOSALS);
        // a refused offer may be taken together with others, and is then in no need of explaining
        let parts = proposals.saturating_mul(MAX_MACHINES);
        let explain = need.explain.min(MAX_EXPLAINED);
        let kept = if explain == 0 { 0 } else { explain.saturating_add(parts) };
        Self {
            wish: Wish { need, job, discount: 0, proposals },
            query,
            of: None,
            at: At::begin(0, need.judged),
            gathered: Gathered {
                whole: BTreeMap::new(),
                groups: HashMap::new(),
                refusals: Refusals::new(kept),
                looked_at: 0,
                cut: false,
            },
            drafts: Vec::new(),
        }
    }

    /// Looks at some offers, about `rows` unless there are fewer, and goes on there the next time. True once everything
    /// was looked at. Begins anew if this is another index than the last time.
    pub fn look(&mut self, index: &Index, rows: usize) -> bool {
        if self.of.as_ref().is_none_or(|of| !Arc::ptr_eq(of, &index.identity)) {
            *self = Self { of: Some(index.identity.clone()), ..Self::new(self.wish.need) };
        }
        let Self { wish, query, at, gathered, .. } = self;
        wish.discount = wish.discount.max(index.best_discount(wish.job.duration_s));
        let compiled = Compiled::new(index, query);
        let look = Look { index, wish, compiled: &compiled };
        let mut left = rows.max(1);
        for plan in &compiled.plans {
            if plan.model < at.model {
                continue;
            }
            if plan.model > at.model {
                *at = At::begin(plan.model, wish.need.judged);
            }
            if !look.gather(plan, at, gathered, &mut left) {
                return false;
            }
            *at = At::begin(plan.model.saturating_add(1), wish.need.judged);
        }
        true
    }

    /// Makes proposals of what was looked at. Needs no index, and takes the longest where many machines can be put
    /// together.
    pub fn put_together(&mut self) {
        self.drafts = drafts(&self.wish, &mut self.gathered);
    }

    /// What came of it.
    #[must_use]
    pub fn told(self, index: &Index) -> Match {
        let Self { wish, gathered, drafts, .. } = self;
        let proposals: Vec<Proposal> =
            drafts.iter().filter_map(|draft| index.proposal(&wish.job, draft)).collect();
        let Gathered { refusals, looked_at, cut, .. } = gathered;
        let (refusals, cheapest) = refusals.told();
        let parts = || proposals.iter().flat_map(|proposal| &proposal.parts);
        // too dear alone is not out of the question together with others
        let is_taken = |id: Uuid| parts().any(|part| part.listing.id == id);
        let explained = cheapest.into_iter().filter(|((_, id), _)| !is_taken(*id));
        let explained = explained
            .filter_map(|((_, id), reasons)| Some(Explained { listing: index.get(id)?, reasons }))
            .take(wish.need.explain.min(MAX_EXPLAINED))
            .collect();
        Match { proposals, looked_at, cut, refusals, explained }
    }
}

impl Index {
    /// Finds what satisfies a need, all of it at once.
    #[must_use]
    pub fn matching(&self, need: &Need) -> Match {
        let mut matching = Matching::new(need);
        while !matching.look(self, usize::MAX) {}
        matching.put_together();
        matching.told(self)
    }

    /// A proposal, if all of its offers are still what they were.
    fn proposal(&self, job: &Job, draft: &Draft) -> Option<Proposal> {
        let mut parts = Vec::with_capacity(draft.parts.len());
        for (offer, gpus, total) in &draft.parts {
            let row = self.row_of(offer.key.1)?;
            let sizes = row.chunks & up_to(row.gpus_free);
            let is_same = row.version == offer.version
                && total::prices_of(row, self.steps(row), job) == offer.prices
                && sizes & only(u16::from(*gpus)) != 0;
            is_same.then_some(())?;
            parts.push(Part { listing: self.unpack(row), gpus: u16::from(*gpus), total: *total });
        }
        Some(Proposal { parts, total: draft.total })
    }
}

/// A look at the offers of an index.
struct Look<'a> {
    index: &'a Index,
    wish: &'a Wish<'a>,
    compiled: &'a Compiled<'a>,
}

impl Look<'_> {
    /// Looks at a model's offers, cheapest first: at so many in any case, at those beyond only where they may do. False
    /// if there are more of them than may be looked at in one go.
    fn gather(&self, plan: &Plan, at: &mut At, into: &mut Gathered, left: &mut usize) -> bool {
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
            if group.machines.len() < MAX_MACHINES {
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

/// The bit of a chunk of so many GPUs; none if no offer has so many.
fn only(gpus: u16) -> u64 {
    1_u64.checked_shl(u32::from(gpus).saturating_sub(1)).unwrap_or(0)
}

fn drafts(wish: &Wish<'_>, gathered: &mut Gathered) -> Vec<Draft> {
    let Wish { need, job, proposals: limit, .. } = wish;
    let Gathered { whole, groups, refusals, .. } = gathered;
    let gpus = u8::try_from(need.gpus).unwrap_or(u8::MAX);
    let mut drafts: Vec<Draft> =
        whole.values().filter_map(|offer| Draft::new(job, &[(*offer, gpus)])).collect();
    let (several, single): (Vec<_>, Vec<_>) =
        groups.values().partition(|group| group.machines.len() > 1);
    for group in single {
        note_group(refusals, group, Reason::GpuCount);
    }
    let mut groups: Vec<(u64, &Group)> =
        several.into_iter().map(|group| (wish.least_of(&group.machines), group)).collect();
    let first_of = |group: &Group| group.machines.first().map(|one| one.offer.key.1);
    groups.sort_by_key(|(least, group)| (*least, first_of(group)));
    for (least, group) in groups {
        let worst = drafts.get(limit.saturating_sub(1)).map(|worst| worst.total);
        if worst.is_some_and(|worst| least >= worst) {
            break;
        }
        let chosen = match chosen(need, job, &group.machines, least) {
            Ok(chosen) => chosen,
            Err(reason) => {
                note_group(refusals, group, reason);
                continue;
            }
        };
        let offers: Vec<(Offered, u8)> = chosen
            .iter()
            .filter_map(|(which, gpus)| group.machines.get(*which).map(|one| (one.offer, *gpus)))
            .collect();
        let Some(draft) = Draft::new(job, &offers) else { continue };
        if need.budget.is_some_and(|budget| draft.total > budget) {
            note_group(refusals, group, Reason::Budget);
            continue;
        }
        // a single machine was proposed already
        if chosen.len() > 1 {
            drafts.push(draft);
            drafts.sort_by_key(|one| (one.total, one.parts.len()));
            drafts.truncate(*limit);
        }
    }
    drafts
}

/// The cheapest way to what is needed with the machines of a group, by their places in it, or why there is none. It may
/// be over the budget.
fn chosen(
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
    if let Some(chosen) = combined(job, group, need.gpus) {
        return Ok(chosen);
    }
    let without_disk = Job { disk_gb: 0, ..*job };
    if job.disk_gb > 0 && combined(&without_disk, group, need.gpus).is_some() {
        return Err(Reason::Disk);
    }
    Err(Reason::GpuCount)
}

/// The cheapest way to so many GPUs with the machines of a group, by their places in it.
fn combined(job: &Job, group: &[Candidate], gpus: u16) -> Option<Vec<(usize, u8)>> {
    let choices: Vec<Vec<Choice>> = group.iter().map(|one| choices(job, one)).collect();
    combine(&choices, gpus)
}

fn choices(job: &Job, one: &Candidate) -> Vec<Choice> {
    let sizes =
        (0_u8..64).filter(|bit| (one.sizes >> bit) & 1 == 1).map(|bit| bit.saturating_add(1));
    sizes
        .filter(|gpus| one.offer.has_disk(job, *gpus))
        .filter_map(|gpus| {
            let total = one.offer.total(job, gpus)?;
            Some(Choice { gpus, total: total.total.get() })
        })
        .collect()
}

impl Draft {
    fn new(job: &Job, offers: &[(Offered, u8)]) -> Option<Self> {
        let mut sum = 0_u64;
        let mut parts = Vec::with_capacity(offers.len());
        for (offer, gpus) in offers {
            let total = offer.total(job, *gpus)?;
            sum = sum.checked_add(total.total.get())?;
            parts.push((*offer, *gpus, total));
        }
        Some(Self { parts, total: sum })
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
    fn least_of(&self, group: &[Candidate]) -> u64 {
        let price = group.iter().map(|one| one.offer.key.0).min().unwrap_or(0);
        self.least(price, self.need.gpus)
    }

    /// Whether no offer at this price can be in a proposal: one GPU of it, with all others at the cheapest price, is dearer
    /// than the last of enough proposals that are known, or than what may be spent.
    fn is_too_dear(&self, cheapest: u32, price: u32, gathered: &Gathered) -> bool {
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
fn note_group(refusals: &mut Refusals, group: &Group, reason: Reason) {
    for one in group.machines.iter().filter(|one| !one.whole) {
        refusals.note(one.offer.key, &[reason]);
    }
    for key in group.beyond.iter().copied() {
        refusals.note(key, &[Reason::GpuCount]);
    }
}
