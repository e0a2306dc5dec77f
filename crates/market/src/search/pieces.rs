//! A search by pieces, for one that has to look at many offers one by one: the index may change between two of them.

use std::{collections::BinaryHeap, sync::Arc};

use uuid::Uuid;

use super::{Best, Found, Page, Run, is_merged};
use crate::{
    compiled::Compiled,
    index::Index,
    query::{Position, Query},
    segment::Key,
};

/// How far a search has come.
#[derive(Debug)]
pub struct Searching {
    query: Query,
    /// The index that was looked at.
    of: Option<Arc<()>>,
    found: Vec<Best>,
    /// Where a merge goes on: behind this place.
    after: Option<Position>,
    /// Where a search of everything goes on: at this key of this model.
    from: Option<(usize, Key)>,
}

/// The place just before this one: what comes behind it, comes at this one or later.
fn before(position: Position) -> Position {
    let Position { key, id } = position;
    match id.as_u128().checked_sub(1) {
        Some(id) => Position { key, id: Uuid::from_u128(id) },
        None => Position { key: key.saturating_sub(1), id: Uuid::max() },
    }
}

impl Searching {
    /// A search that has not begun.
    #[must_use]
    pub fn new(query: Query) -> Self {
        Self { after: query.after, query, of: None, found: Vec::new(), from: None }
    }

    /// Looks at about `rows` offers, and goes on there the next time. True once everything was looked at that has to be.
    /// Begins anew if this is another index than the last time.
    pub fn look(&mut self, index: &Index, rows: usize) -> bool {
        if self.of.as_ref().is_none_or(|of| !Arc::ptr_eq(of, &index.identity)) {
            let query = std::mem::take(&mut self.query);
            *self = Self { of: Some(index.identity.clone()), ..Self::new(query) };
        }
        if !is_merged(&self.query) {
            let compiled = Compiled::new(index, &self.query);
            let mut best = BinaryHeap::from(std::mem::take(&mut self.found));
            self.from = Run::new(index, &compiled, rows.max(1)).best(self.from, &mut best);
            self.found = best.into_vec();
            return self.from.is_none();
        }
        let mut rows = rows.max(1);
        loop {
            let limit = self.query.limit.saturating_sub(self.found.len());
            let query = Query { after: self.after, limit, ..self.query.clone() };
            let compiled = Compiled::new(index, &query);
            let (found, bound) = Run::new(index, &compiled, rows).merged();
            self.found.extend(found.into_iter().map(|found| {
                let Position { key, id } = found.position;
                (key, id, found.slot, u8::try_from(found.gpus).unwrap_or(u8::MAX))
            }));
            let Some(bound) = bound.map(before) else { return true };
            if self.after.is_none_or(|after| bound > after) {
                self.after = Some(bound);
                return false;
            }
            // too few to come any further: every model's list is begun with anew
            rows = rows.saturating_mul(2);
        }
    }

    /// What was found, without what has changed since so that it would not be found there now.
    #[must_use]
    pub fn told(self, index: &Index) -> Page {
        let Self { query, mut found, .. } = self;
        found.sort_unstable();
        let compiled = Compiled::new(index, &query);
        let run = Run::new(index, &compiled, usize::MAX);
        // its place may be the same with fewer GPUs
        let same = |(key, id, ..): &Best| {
            let (slot, row) = index.place_of(*id)?;
            let gpus = compiled.fits(index, compiled.plan_of(row)?, row)?;
            let is_there = run.key(row, gpus) == Some(*key);
            is_there.then(|| Found::from((*key, *id, slot, gpus)))
        };
        let last = found.last().map(|(key, id, ..)| Position { key: *key, id: *id });
        let next = last.filter(|_| found.len() >= query.limit);
        // one that came to another price was met again where the order is of something else
        found.dedup_by_key(|(key, id, ..)| (*key, *id));
        Page { found: found.iter().filter_map(same).collect(), next }
    }
}
