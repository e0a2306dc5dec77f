//! The index itself: what is listed, kept in order as it changes.

mod packing;

use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    hint::black_box,
    sync::{Arc, OnceLock},
};

use uuid::Uuid;

use crate::{
    catalog::{Counted, GpuModel, Mix, Numbered},
    code::COLUMNS,
    listing::{Listing, Step, Unlistable},
    row::{Row, flags},
    segment::Segment,
    slab::Slab,
    table::{Slot, Table},
};

/// Rows, and their places in the table, that are fetched at once when an index is built: in the order of prices each lies
/// somewhere else, and memory is waited for once instead of for each.
const AHEAD: usize = 32;
/// The durations from which on the largest of these discounts is more than before, and how much it is.
fn ladder<'a>(steps: impl Iterator<Item = &'a Step>) -> Vec<(u32, u16)> {
    let mut all: Vec<(u32, u16)> =
        steps.map(|step| (step.min_duration_s, step.discount_bps)).collect();
    all.sort_unstable();
    let mut best: Vec<(u32, u16)> = Vec::new();
    for (from, discount) in all {
        if best.last().is_none_or(|(_, most)| discount > *most) {
            best.push((from, discount));
        }
    }
    best
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
}

impl Change {
    /// The offer.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.after.or(self.before).map_or(Uuid::nil(), |row| row.id)
    }

    /// Whether a renter can see that anything changed.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        let seen = |row: Option<Row>| row.map(|row| Row { heard_at: 0, ..row });
        seen(self.before) != seen(self.after)
    }
}

/// Bytes that the index takes, by its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Rows, including room for more.
    pub rows: usize,
    /// Bit masks and order.
    pub blocks: usize,
    /// From ids to rows.
    pub table: usize,
    /// Models, regions, providers, schedules.
    pub catalog: usize,
}

impl Memory {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> usize {
        let Self { rows, blocks, table, catalog } = *self;
        rows.saturating_add(blocks).saturating_add(table).saturating_add(catalog)
    }
}

/// An index in the making: offers come one by one, and are put in order at the end.
#[derive(Debug)]
pub struct Builder {
    index: Index,
    rows: Vec<Row>,
    refused: Vec<(Uuid, Unlistable)>,
    now: u32,
}

impl Builder {
    /// See [`Index::new`].
    #[must_use]
    pub fn new(models: Vec<GpuModel>, offline_after_s: u32, now: u32) -> Self {
        let index = Index::new(models, offline_after_s);
        Self { index, rows: Vec::new(), refused: Vec::new(), now }
    }

    /// Takes an offer.
    pub fn push(&mut self, listing: &Listing) {
        match self.index.pack(listing, self.now) {
            Ok(row) => self.rows.push(row),
            Err(error) => self.refused.push((listing.id, error)),
        }
    }

    /// The index, and what cannot be listed.
    #[must_use]
    pub fn finish(self) -> (Index, Vec<(Uuid, Unlistable)>) {
        let Self { mut index, rows, refused, .. } = self;
        index.fill(rows);
        (index, refused)
    }
}

/// Everything that is listed.
#[derive(Debug)]
pub struct Index {
    pub(crate) models: Vec<GpuModel>,
    slugs: HashMap<String, u16>,
    /// Which models are called so, by [`crate::normal`] names.
    names: HashMap<String, Vec<u16>, BuildHasherDefault<Mix>>,
    pub(crate) segments: Vec<Segment>,
    /// Every row in the slab that is not free holds its region and its schedule.
    pub(crate) regions: Counted<String>,
    pub(crate) providers: Numbered<Uuid>,
    pub(crate) schedules: Counted<Vec<Step>>,
    /// The most that any step takes off which is reached at a duration, by the durations from which on it is more; made
    /// when it is asked for.
    best: OnceLock<Vec<(u32, u16)>>,
    /// Shared with who looks at this index more than once, and wants to know whether it is still the same.
    pub(crate) identity: Arc<()>,
    pub(crate) slab: Slab,
    table: Table,
    pub(crate) offline_after: u32,
    swept: Slot,
}

impl Index {
    /// An index with nothing in it. A machine that was not heard of for `offline_after_s` seconds is offline.
    #[must_use]
    pub fn new(models: Vec<GpuModel>, offline_after_s: u32) -> Self {
        let mut index = Self {
            models: Vec::new(),
            slugs: HashMap::new(),
            names: HashMap::default(),
            segments: Vec::new(),
            regions: Counted::default(),
            providers: Numbered::default(),
            schedules: Counted::default(),
            best: OnceLock::new(),
            identity: Arc::new(()),
            slab: Slab::default(),
            table: Table::new(),
            offline_after: offline_after_s,
            swept: 0,
        };
        index.set_models(models);
        index
    }

    /// Takes the catalog's models anew; those that are known keep their offers, whatever changed about them.
    pub fn set_models(&mut self, models: Vec<GpuModel>) {
        for model in models {
            if let Some(number) = self.slugs.get(&model.slug) {
                if let Some(known) = self.models.get_mut(usize::from(*number)) {
                    *known = model;
                }
            } else if let Ok(number) = u16::try_from(self.models.len()) {
                self.slugs.insert(model.slug.clone(), number);
                self.models.push(model);
                self.segments.push(Segment::default());
            }
        }
        self.names.clear();
        for (number, model) in (0_u16..).zip(&self.models) {
            for name in model.names().filter(|name| !name.is_empty()) {
                let called = self.names.entry(name).or_default();
                if !called.contains(&number) {
                    called.push(number);
                }
            }
        }
    }

    /// The models that are called so. A slug is never anything else.
    pub(crate) fn called(&self, name: &str) -> &[u16] {
        if let Some(number) = self.slugs.get(name) {
            return std::slice::from_ref(number);
        }
        self.names.get(&crate::normal(name)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The slugs of the models that are called so.
    #[must_use]
    pub fn slugs_called(&self, name: &str) -> Vec<String> {
        let models =
            self.called(name).iter().filter_map(|number| self.models.get(usize::from(*number)));
        models.map(|model| model.slug.clone()).collect()
    }

    /// The models of the catalog.
    #[must_use]
    pub fn models(&self) -> &[GpuModel] {
        &self.models
    }

    /// How many offers are listed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// An index of many offers at once; what cannot be listed is handed back with the reason.
    #[must_use]
    pub fn build(
        models: Vec<GpuModel>,
        offline_after_s: u32,
        listings: impl IntoIterator<Item = Listing>,
        now: u32,
    ) -> (Self, Vec<(Uuid, Unlistable)>) {
        let listings = listings.into_iter();
        let mut builder = Builder::new(models, offline_after_s, now);
        builder.rows.reserve(listings.size_hint().0);
        for listing in listings {
            builder.push(&listing);
        }
        builder.finish()
    }

    /// Notes that one more row has its region and its schedule.
    fn hold(&mut self, row: &Row) {
        self.regions.hold(row.region.into());
        if self.schedules.hold(row.reserved.into()) {
            self.best.take();
        }
    }

    /// Notes that one row less has them.
    fn release(&mut self, row: &Row) {
        self.regions.release(row.region.into());
        if self.schedules.release(row.reserved.into()) {
            self.best.take();
        }
    }

    /// Lets the numbers rest that no row has.
    pub(crate) fn rest_unused(&mut self) {
        self.regions.rest_unused();
        self.schedules.rest_unused();
    }

    /// Puts packed rows into an empty index, in order. They hold what they have.
    fn fill(&mut self, rows: Vec<Row>) {
        let mut order: Vec<(u64, u64, u32)> = (0_u32..)
            .zip(&rows)
            .map(|(number, row)| {
                let (high, _) = row.id.as_u64_pair();
                (u64::from(row.model) << 32 | u64::from(row.price), high, number)
            })
            .collect();
        let row_of = |number: u32| usize::try_from(number).ok().and_then(|number| rows.get(number));
        let id_of = |number: u32| row_of(number).map(|row| row.id.as_u128());
        order.sort_unstable_by(|left, right| {
            (left.0, left.1)
                .cmp(&(right.0, right.1))
                .then_with(|| id_of(left.2).cmp(&id_of(right.2)))
        });
        self.table.reserve(rows.len());
        let mut ahead: Vec<Row> = Vec::with_capacity(AHEAD);
        for model in order.chunk_by(|left, right| left.0 >> 32 == right.0 >> 32) {
            let mut placed = Vec::with_capacity(model.len());
            for some in model.chunks(AHEAD) {
                ahead.clear();
                ahead.extend(some.iter().filter_map(|(_, _, number)| row_of(*number)));
                for row in &ahead {
                    let slab = &self.slab;
                    black_box(self.table.get(row.id, |slot| slab.id(slot)));
                }
                for row in &ahead {
                    let slab = &self.slab;
                    if self.table.get(row.id, |slot| slab.id(slot)).is_some() {
                        self.release(row);
                        continue;
                    }
                    let Some(slot) = self.slab.put(*row) else { return };
                    let slab = &self.slab;
                    self.table.insert(row.id, slot, |slot| slab.id(slot));
                    placed.push((row.key(), slot, self.codes(row)));
                }
            }
            let first = model.first().and_then(|(_, _, number)| row_of(*number));
            let number = first.map_or(usize::MAX, |row| usize::from(row.model));
            if let Some(segment) = self.segments.get_mut(number) {
                segment.extend(&placed);
            }
        }
    }

    /// Makes room for so many offers.
    pub(crate) fn reserve(&mut self, offers: usize) {
        self.table.reserve(offers);
    }

    /// Puts rows of one model behind all that it has. What is out of order, or known by its id, is left out.
    pub(crate) fn append(&mut self, rows: &[Row]) {
        let Some(model) = rows.first().map(|row| usize::from(row.model)) else { return };
        let slab = &self.slab;
        let mut last =
            self.segments.get(model).and_then(|segment| segment.last(|slot| slab.key(slot)));
        let mut placed = Vec::with_capacity(rows.len());
        for row in rows {
            let slab = &self.slab;
            let known = self.table.get(row.id, |slot| slab.id(slot)).is_some();
            if known || last.is_some_and(|last| row.key() <= last) {
                continue;
            }
            let Some(slot) = self.slab.put(*row) else { return };
            self.hold(row);
            let slab = &self.slab;
            self.table.insert(row.id, slot, |slot| slab.id(slot));
            placed.push((row.key(), slot, self.codes(row)));
            last = Some(row.key());
        }
        if let Some(segment) = self.segments.get_mut(model) {
            segment.extend(&placed);
        }
    }

    /// Puts a row in that holds what it has, and whose id is not known.
    fn add(&mut self, row: Row) {
        let Some(slot) = self.slab.put(row) else { return };
        let codes = self.codes(&row);
        let slab = &self.slab;
        self.table.insert(row.id, slot, |slot| slab.id(slot));
        if let Some(segment) = self.segments.get_mut(usize::from(row.model)) {
            segment.insert(row.key(), slot, &codes, &|slot| slab.key(slot));
        }
    }

    /// Lists an offer, in place of what was listed under its id.
    ///
    /// # Errors
    /// [`Unlistable`]; what was listed under its id still is, and is to be removed.
    pub fn upsert(&mut self, listing: &Listing, now: u32) -> Result<Change, Unlistable> {
        let row = self.pack(listing, now)?;
        Ok(self.put(row))
    }

    /// Puts a row that holds what it has in the place of what is there under its id.
    fn put(&mut self, row: Row) -> Change {
        let slab = &mut self.slab;
        let found = self.table.get(row.id, |slot| slab.id(slot));
        let before = found.and_then(|slot| slab.get(slot).copied());
        if let (Some(slot), Some(old)) = (found, before)
            && old.key() == row.key()
            && old.model == row.model
        {
            if let Some(place) = slab.get_mut(slot) {
                *place = row;
            }
            // before its schedule is let go
            let (known, codes) = (self.codes(&old), self.codes(&row));
            self.release(&old);
            if codes != known
                && let Some(segment) = self.segments.get_mut(usize::from(row.model))
            {
                let slab = &self.slab;
                segment.set(row.key(), &codes, &|slot| slab.key(slot));
            }
        } else {
            self.remove(row.id);
            self.add(row);
        }
        Change { before, after: Some(row) }
    }

    /// Forgets an offer.
    pub fn remove(&mut self, id: Uuid) -> Option<Change> {
        let slab = &mut self.slab;
        let slot = self.table.remove(id, |slot| slab.id(slot))?;
        let row = *slab.get(slot)?;
        if let Some(segment) = self.segments.get_mut(usize::from(row.model)) {
            segment.remove(row.key(), &|slot| slab.key(slot));
        }
        slab.free(slot);
        if let Some(place) = slab.get_mut(slot) {
            // a free row is nobody's, and no sweep takes it for a machine that fell silent
            *place = Row { id: Uuid::nil(), flags: 0, ..row };
        }
        self.release(&row);
        Some(Change { before: Some(row), after: None })
    }

    /// Seconds after which a machine that was not heard of is asked about.
    pub(crate) const fn patience(&self) -> u32 {
        self.offline_after.saturating_sub(self.offline_after / 3)
    }

    /// The number of the model with this slug.
    pub(crate) fn number_of(&self, slug: &str) -> Option<u16> {
        self.slugs.get(slug).copied()
    }

    /// Offers whose machines may have fallen silent by now: their last words, as far as known here, are older than two
    /// thirds of what makes them offline. Looks at `rows` rows and goes on there the next time.
    pub fn quiet(&mut self, now: u32, rows: usize) -> Vec<Uuid> {
        let patience = self.patience();
        let total = self.slab.len();
        let mut found = Vec::new();
        for _ in 0..rows.min(total) {
            if self.slab.get(self.swept).is_none() {
                self.swept = 0;
            }
            let Some(row) = self.slab.get(self.swept) else { break };
            self.swept = self.swept.saturating_add(1);
            if row.has(flags::ONLINE) && row.heard_at.saturating_add(patience) < now {
                found.push(row.id);
            }
        }
        found
    }

    /// Notes when an offer's machine was last heard of.
    pub fn heard(&mut self, id: Uuid, at: u32, now: u32) -> Option<Change> {
        let slot = self.table.get(id, |slot| self.slab.id(slot))?;
        let old = *self.slab.get(slot)?;
        let online = at.saturating_add(self.offline_after) >= now;
        let flags = if online { old.flags | flags::ONLINE } else { old.flags & !flags::ONLINE };
        self.hold(&old);
        Some(self.put(Row { heard_at: at, flags, ..old }))
    }

    /// The offer with this id, if it is listed.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<Listing> {
        self.row_of(id).map(|row| self.unpack(row))
    }

    pub(crate) fn row_of(&self, id: Uuid) -> Option<&Row> {
        self.place_of(id).map(|(_, row)| row)
    }

    /// Where the offer with this id is, if it is listed.
    pub(crate) fn place_of(&self, id: Uuid) -> Option<(Slot, &Row)> {
        let slot = self.table.get(id, |slot| self.slab.id(slot))?;
        Some((slot, self.slab.get(slot)?))
    }

    /// A row's byte in each column.
    fn codes(&self, row: &Row) -> [u8; COLUMNS] {
        let discount = self.steps(row).iter().map(|step| step.discount_bps).max();
        row.codes(discount.unwrap_or(0))
    }

    /// What the index takes. Exact but for the maps of the catalog, whose allocations are computed from their capacity.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let names = self.models.len().saturating_mul(512);
        let regions =
            self.regions.bytes().saturating_add(self.regions.iter().count().saturating_mul(64));
        let steps = self.schedules.iter().map(|(_, steps)| std::mem::size_of_val(steps.as_slice()));
        let schedules = steps
            .fold(self.schedules.bytes(), |sum, steps| sum.saturating_add(steps.saturating_mul(2)));
        let best = self.best.get().map_or(0, |best| std::mem::size_of_val(best.as_slice()));
        Memory {
            rows: self.slab.bytes(),
            blocks: self.segments.iter().map(Segment::bytes).fold(0, usize::saturating_add),
            table: self.table.bytes(),
            catalog: names
                .saturating_add(regions)
                .saturating_add(schedules)
                .saturating_add(best)
                .saturating_add(self.providers.bytes()),
        }
    }

    pub(crate) fn steps(&self, row: &Row) -> &[Step] {
        self.schedules.get(row.reserved.into()).map(Vec::as_slice).unwrap_or_default()
    }

    /// At least the largest discount that anybody gives at this duration, and more only where somebody gives more for a
    /// shorter time.
    pub(crate) fn best_discount(&self, duration_s: u32) -> u16 {
        let best = self.best.get_or_init(|| ladder(self.schedules.used().flatten()));
        let reached = best.partition_point(|(from, _)| *from <= duration_s);
        let last = reached.checked_sub(1).and_then(|last| best.get(last));
        last.map_or(0, |(_, discount)| *discount)
    }
}
