//! Matching: the cheapest ways to get what is needed, from one offer or from several machines of one provider that stand
//! in one region, and why everything near was not taken.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use domain::quote::JobTotal;
use uuid::Uuid;

use crate::{
    compiled::Compiled,
    index::Index,
    listing::Listing,
    query::{Field, Job, Query},
    row::up_to,
    total,
};

mod combine;
mod draft;
mod look;
mod refusals;

use draft::{Draft, drafts};
use look::{At, Gathered, Look, Wish};
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
/// The most machines that are put together: so many are booked at once, all or none.
pub const MAX_PARTS: usize = 8;
/// The most machines of one provider that are put together from, cheapest first.
const MAX_MACHINES: usize = 64;
/// Of these the most that could not make up what is needed with [`MAX_PARTS`] of their size: others have to find room.
const MAX_SMALL: usize = 32;
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
    /// One, or up to [`MAX_PARTS`] of one provider in one region.
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
        let parts = proposals.saturating_mul(MAX_PARTS);
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

/// The bit of a chunk of so many GPUs; none if no offer has so many.
fn only(gpus: u16) -> u64 {
    1_u64.checked_shl(u32::from(gpus).saturating_sub(1)).unwrap_or(0)
}
