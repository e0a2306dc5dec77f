//! Running a query: a merge of the models' lists where the order is theirs, else the best of everything that fits.

mod pieces;

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
};

use domain::quote::JobTotal;
use uuid::Uuid;

use crate::{
    block::Block,
    compiled::{Compiled, Plan, speed},
    index::{Change, Index},
    listing::Listing,
    query::{Position, Query, Sort},
    row::{Row, UNKNOWN, UNKNOWN_BPS},
    segment::{Key, Segment},
    table::Slot,
    total,
};

pub use pieces::Searching;

/// An offer that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    slot: Slot,
    /// How many of its GPUs would be rented.
    pub gpus: u16,
    /// Where it stands in the order.
    pub position: Position,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub found: Vec<Found>,
    /// Where the next page begins, if there may be one.
    pub next: Option<Position>,
}

/// What a change of an offer is to whoever follows a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// It is found now, with so many GPUs.
    Appeared(u16),
    /// It is found as before, with so many GPUs.
    Changed(u16),
    /// It is found no more.
    Gone,
}

impl Index {
    /// Runs a query.
    #[must_use]
    pub fn search(&self, query: &Query) -> Page {
        self.search_within(query, usize::MAX).unwrap_or_default()
    }

    /// Runs a query that need not look at more than `rows` offers one by one; `None` if it would have to. Those that the
    /// columns of masks rule out do not count.
    #[must_use]
    pub fn search_within(&self, query: &Query, rows: usize) -> Option<Page> {
        let compiled = Compiled::new(self, query);
        let run = Run::new(self, &compiled, rows);
        let found = if !query.offers.is_empty() {
            run.named()
        } else if is_merged(query) {
            let (found, bound) = run.merged();
            bound.is_none().then_some(found)?
        } else {
            let mut best = BinaryHeap::new();
            run.best(None, &mut best).is_none().then_some(())?;
            best.into_sorted_vec().into_iter().map(Found::from).collect()
        };
        Some(Page::of(found, query.limit))
    }

    /// What each of these changes is to whoever follows a query; `None` for nothing. Whether a machine is online is taken as
    /// the index noted it. What only time took out of the query's answer, is in it until something about it changes: if
    /// `earlier`, the same query as it was asked at the first moment that the follower remembers, finds it.
    #[must_use]
    pub fn concerns(
        &self,
        query: &Query,
        earlier: &Query,
        changes: &[Change],
    ) -> Vec<Option<Concern>> {
        let compiled = Compiled::new(self, query).by_the_flag();
        let ever = Compiled::new(self, earlier).by_the_flag();
        let size = |compiled: &Compiled<'_>, row: Option<Row>| {
            let row = row?;
            let plan = compiled.plan_of(&row)?;
            compiled.fits(self, plan, &row).map(u16::from)
        };
        let concern = |change: &Change| match size(&compiled, change.after) {
            None => size(&ever, change.before).map(|_| Concern::Gone),
            Some(gpus) if size(&compiled, change.before).is_some() => Some(Concern::Changed(gpus)),
            Some(gpus) => Some(Concern::Appeared(gpus)),
        };
        changes.iter().map(concern).collect()
    }

    /// The offer of a [`Found`], as long as the index was not changed since.
    #[must_use]
    pub fn listing(&self, found: &Found) -> Option<Listing> {
        self.slab.get(found.slot).map(|row| self.unpack(row))
    }

    pub(crate) fn row(&self, found: &Found) -> Option<&Row> {
        self.slab.get(found.slot)
    }

    /// What a changed offer is like now, if it is listed.
    #[must_use]
    pub fn changed(&self, change: &Change, query: &Query) -> Option<crate::Offer<'_>> {
        self.view(&change.after?, query)
    }

    /// What a job comes to on `gpus` GPUs of a changed offer.
    #[must_use]
    pub fn total_of_changed(&self, query: &Query, change: &Change, gpus: u16) -> Option<JobTotal> {
        let (row, job) = (change.after?, query.job.as_ref()?);
        total::of_row(&row, self.steps(&row), job, u8::try_from(gpus).ok()?)
    }

    /// What a query's job comes to on an offer.
    #[must_use]
    pub fn total_of(&self, query: &Query, found: &Found) -> Option<JobTotal> {
        let (row, job) = (self.row(found)?, query.job.as_ref()?);
        total::of_row(row, self.steps(row), job, u8::try_from(found.gpus).ok()?)
    }
}

impl Page {
    fn of(found: Vec<Found>, limit: usize) -> Self {
        let full = found.len() >= limit;
        let next = found.last().filter(|_| full).map(|last| last.position);
        Self { found, next }
    }
}

/// One of the best: what it is ordered by, and what it is.
type Best = (u128, Uuid, Slot, u8);

impl From<Best> for Found {
    fn from((key, id, slot, gpus): Best) -> Self {
        Self { slot, gpus: gpus.into(), position: Position { key, id } }
    }
}

/// Whether the models' lists have the order that is asked for.
fn is_merged(query: &Query) -> bool {
    match query.sort {
        Sort::Price | Sort::PerfPerUsd | Sort::PerToken => true,
        Sort::Total => query.job.is_none(),
        Sort::Reliability | Sort::Ready | Sort::Newest => false,
    }
}

/// The place of a price in the order of a merge: rises with the price within a model.
fn rank(sort: Sort, speed: Option<u32>, price: u32) -> u128 {
    let price = u128::from(price);
    if !matches!(sort, Sort::PerfPerUsd | Sort::PerToken) {
        return price;
    }
    // Two fractions of 32-bit numbers that differ, differ by more than 2^-64: rounding down keeps their order.
    let speed = speed.map(u128::from);
    speed.and_then(|speed| (price << 64).checked_div(speed)).unwrap_or(price | (1 << 100))
}

struct Run<'a> {
    index: &'a Index,
    compiled: &'a Compiled<'a>,
    /// How many more rows may be looked at.
    left: Cell<usize>,
}

/// How far a merge has come in one model's list.
struct Cursor<'a> {
    plan: &'a Plan,
    segment: &'a Segment,
    block: usize,
    /// Rows of that block that are still to be looked at.
    rows: u64,
    /// Whether `rows` was set for that block.
    begun: bool,
    /// Blocks that are looked at before others may go first.
    stride: usize,
}

/// The least that is still to come of a cursor, by the place in the order and the id: an offer that fits, or only where
/// to look on.
type Next = Reverse<(u128, u128, usize, Option<(Slot, u8)>)>;

impl<'a> Run<'a> {
    const fn new(index: &'a Index, compiled: &'a Compiled<'a>, rows: usize) -> Self {
        Self { index, compiled, left: Cell::new(rows) }
    }

    /// Counts a row that is looked at; false if it is one too many.
    fn may_look(&self) -> bool {
        let left = self.left.get().checked_sub(1);
        left.inspect(|left| self.left.set(*left)).is_some()
    }

    /// The offers that the query names, in order.
    fn named(&self) -> Vec<Found> {
        let Self { index, compiled, .. } = self;
        let query = compiled.query;
        let mut found: Vec<Best> = query
            .offers
            .iter()
            .filter_map(|id| {
                let (slot, row) = index.place_of(*id)?;
                let plan = compiled.plan_of(row)?;
                let gpus = compiled.fits(index, plan, row)?;
                let key = self.key(row, gpus)?;
                let ahead = query.after.is_none_or(|after| Position { key, id: *id } > after);
                ahead.then_some((key, *id, slot, gpus))
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found.truncate(query.limit);
        found.into_iter().map(Found::from).collect()
    }

    /// Offers in the order of price or of what depends on nothing else within a model; and if that was too much to look
    /// at, the first place that may have more.
    fn merged(&self) -> (Vec<Found>, Option<Position>) {
        let mut cursors: Vec<Cursor<'a>> =
            self.compiled.plans.iter().filter_map(|plan| self.cursor(plan)).collect();
        let mut heap = BinaryHeap::with_capacity(cursors.len());
        for (number, cursor) in cursors.iter().enumerate() {
            heap.extend(self.ahead(cursor, number));
        }
        let limit = self.compiled.query.limit;
        if limit == 0 {
            return (Vec::new(), None);
        }
        let mut found = Vec::with_capacity(limit.min(256));
        let mut least = heap.pop();
        while let Some(Reverse((key, id, number, hit))) = least {
            if let Some((slot, gpus)) = hit {
                let position = Position { key, id: Uuid::from_u128(id) };
                found.push(Found { slot, gpus: gpus.into(), position });
                if found.len() >= limit {
                    break;
                }
            }
            let next = cursors.get_mut(number).and_then(|cursor| self.advance(cursor, number));
            if self.left.get() == 0 {
                let Some(Reverse((key, id, ..))) = next.into_iter().chain(heap.pop()).max() else {
                    break;
                };
                return (found, Some(Position { key, id: Uuid::from_u128(id) }));
            }
            least = match (next, heap.peek_mut()) {
                (None, None) => None,
                (None, Some(rival)) => Some(PeekMut::pop(rival)),
                // the larger one of two that are reversed comes first
                (Some(next), Some(mut rival)) if next < *rival => {
                    Some(std::mem::replace(&mut *rival, next))
                }
                (Some(next), _) => Some(next),
            };
        }
        (found, None)
    }

    fn cursor(&self, plan: &'a Plan) -> Option<Cursor<'a>> {
        let segment = self.index.segments.get(plan.model)?;
        let least = self.compiled.prices.0;
        let after = self.compiled.query.after;
        let sort = self.compiled.query.sort;
        let block = segment.start(|(price, id)| {
            let position = Position { key: rank(sort, plan.speed, *price), id: *id };
            u64::from(*price) >= least && after.is_none_or(|after| position > after)
        });
        Some(Cursor { plan, segment, block, rows: 0, begun: false, stride: 1 })
    }

    /// Where a cursor that has nothing at hand goes on.
    fn ahead(&self, cursor: &Cursor<'_>, number: usize) -> Option<Next> {
        let (price, id) = cursor.segment.first(cursor.block)?;
        if u64::from(price) > self.compiled.prices.1 {
            return None;
        }
        let key = rank(self.compiled.query.sort, cursor.plan.speed, price);
        Some(Reverse((key, id.as_u128(), number, None)))
    }

    fn advance(&self, cursor: &mut Cursor<'_>, number: usize) -> Option<Next> {
        let Self { index, compiled, .. } = self;
        for _ in 0..cursor.stride {
            let block = cursor.segment.block(cursor.block)?;
            if !cursor.begun {
                cursor.rows = compiled.candidates(cursor.plan, block);
                cursor.begun = true;
            }
            while cursor.rows != 0 {
                let place = cursor.rows.trailing_zeros();
                cursor.rows &= cursor.rows.wrapping_sub(1);
                let slot = usize::try_from(place).ok().and_then(|place| block.slots().get(place));
                let Some((slot, row)) = slot.and_then(|slot| Some((*slot, index.slab.get(*slot)?)))
                else {
                    continue;
                };
                if u64::from(row.price) > compiled.prices.1 {
                    return None;
                }
                let key = rank(compiled.query.sort, cursor.plan.speed, row.price);
                let seen = |after| Position { key, id: row.id } <= after;
                if compiled.query.after.is_some_and(seen) {
                    continue;
                }
                if !self.may_look() {
                    return Some(Reverse((key, row.id.as_u128(), number, None)));
                }
                if let Some(gpus) = compiled.candidate_fits(index, cursor.plan, row) {
                    cursor.stride = 1;
                    return Some(Reverse((key, row.id.as_u128(), number, Some((slot, gpus)))));
                }
            }
            cursor.block = cursor.block.saturating_add(1);
            cursor.begun = false;
        }
        cursor.stride = cursor.stride.saturating_mul(2).min(1_024);
        self.ahead(cursor, number)
    }

    /// The first of everything that fits, by a key of its own, beside what is among the best already. Begins at a model's
    /// key, and hands out where to go on if that was too much to look at.
    fn best(
        &self,
        from: Option<(usize, Key)>,
        best: &mut BinaryHeap<Best>,
    ) -> Option<(usize, Key)> {
        let Self { index, compiled, .. } = self;
        let query = compiled.query;
        let discount = query.job.map_or(0, |job| index.best_discount(job.duration_s));
        let begun = from.map_or(0, |(model, _)| model);
        for plan in compiled.plans.iter().filter(|plan| plan.model >= begun) {
            let Some(segment) = index.segments.get(plan.model) else { continue };
            let seen = from.filter(|(model, _)| *model == plan.model).map(|(_, key)| key);
            let begin = segment.start(|key| {
                u64::from(key.0) >= compiled.prices.0 && seen.is_none_or(|seen| *key >= seen)
            });
            for number in begin..segment.blocks() {
                let (Some(block), Some(first)) = (segment.block(number), segment.first(number))
                else {
                    break;
                };
                if u64::from(first.0) > compiled.prices.1
                    || self.is_too_dear(plan, first, discount, best)
                {
                    break;
                }
                if self.left.get() == 0 {
                    return Some((plan.model, seen.map_or(first, |seen| seen.max(first))));
                }
                // one large discount somewhere does not have everything looked at
                let own = block.discount();
                if own >= discount || !self.is_too_dear(plan, first, own, best) {
                    self.take(plan, block, seen, best);
                }
            }
        }
        None
    }

    /// Whether nothing from this price on, with this discount at most, can be among the best by total.
    fn is_too_dear(&self, plan: &Plan, first: Key, discount: u16, best: &BinaryHeap<Best>) -> bool {
        let query = self.compiled.query;
        let (Sort::Total, Some(job)) = (query.sort, &query.job) else { return false };
        let least = total::least(first.0, discount, job, plan.fewest().into());
        let above = query.total_most.is_some_and(|most| least > u128::from(most));
        above
            || (best.len() >= query.limit && best.peek().is_some_and(|(worst, ..)| least > *worst))
    }

    /// Takes what is among the best of a block's rows, from a key on.
    fn take(&self, plan: &Plan, block: &Block, from: Option<Key>, best: &mut BinaryHeap<Best>) {
        let Self { index, compiled, .. } = self;
        let query = compiled.query;
        let worst =
            best.peek().filter(|_| best.len() >= query.limit).map_or(u128::MAX, |(key, ..)| *key);
        // where the order is that of a row's own fact, most are no better than what there is
        let is_behind = |row: &Row| {
            let by_itself = query.sort != Sort::Total;
            by_itself && self.key(row, 1).is_none_or(|key| key > worst)
        };
        let mut rows = compiled.better(plan, block, worst);
        while rows != 0 {
            let place = rows.trailing_zeros();
            rows &= rows.wrapping_sub(1);
            let slot = usize::try_from(place).ok().and_then(|place| block.slots().get(place));
            let Some((slot, row)) = slot.and_then(|slot| Some((*slot, index.slab.get(*slot)?)))
            else {
                continue;
            };
            if u64::from(row.price) > compiled.prices.1 {
                return;
            }
            if from.is_some_and(|from| row.key() < from) {
                continue;
            }
            // the block is looked at to its end in any case
            self.may_look();
            if is_behind(row) {
                continue;
            }
            let Some(gpus) = compiled.candidate_fits(index, plan, row) else { continue };
            let Some(key) = self.key(row, gpus) else { continue };
            if query.after.is_some_and(|after| Position { key, id: row.id } <= after) {
                continue;
            }
            if best.len() < query.limit {
                best.push((key, row.id, slot, gpus));
            } else if let Some(mut worst) = best.peek_mut()
                && (key, row.id) < (worst.0, worst.1)
            {
                *worst = (key, row.id, slot, gpus);
            }
        }
    }

    fn key(&self, row: &Row, gpus: u8) -> Option<u128> {
        let query = self.compiled.query;
        if is_merged(query) {
            let speed = self.index.model_of(row).and_then(|model| speed(query, model));
            return Some(rank(query.sort, speed, row.price));
        }
        Some(match query.sort {
            Sort::Total => {
                let job = query.job.as_ref()?;
                total::of_row(row, self.index.steps(row), job, gpus)?.total.get().into()
            }
            Sort::Reliability if row.reliability == UNKNOWN_BPS => u128::from(UNKNOWN_BPS),
            Sort::Reliability => u128::from(10_000_u16.saturating_sub(row.reliability)),
            Sort::Ready if row.ready_ms == UNKNOWN => u128::from(UNKNOWN),
            Sort::Ready => row.ready_ms.into(),
            Sort::Newest => !row.id.as_u128(),
            Sort::Price | Sort::PerfPerUsd | Sort::PerToken => return None,
        })
    }
}
