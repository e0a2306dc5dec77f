//! An index as bytes, from which it can be made again without asking the database for everything.
//!
//! It is written piece by piece while the index changes, so that nobody waits for it. What changes meanwhile may be in it
//! as before, as after, twice, or not at all: whoever reads an image has to read again every offer that changed since the
//! writing began.

use uuid::Uuid;

use crate::{
    catalog::GpuModel,
    index::Index,
    listing::{Isolation, Step, Verification},
    row::{Row, flags},
    segment::Key,
};

/// Names how the bytes are laid out. To be raised with every change of that, and of what a row says of a listing.
pub const FORMAT: u32 = 3;
/// Bytes of a row.
pub const ROW: usize = 143;

/// Bytes that are no image, or one of another market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image {0}")]
pub struct Unreadable(&'static str);

const SHORT: Unreadable = Unreadable("ends early");

/// How far the writing has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    model: usize,
    after: Option<Key>,
}

impl Index {
    /// What the rows refer to by numbers. To be written before the rows: numbers that are given later, or given anew, are
    /// those of changed offers.
    #[must_use]
    pub fn image_names(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_list(&mut out, self.models.iter(), |out, model| put_text(out, &model.slug));
        let regions = self.regions.iter().map(|(_, region)| region);
        put_list(&mut out, regions, |out, region| put_text(out, region));
        let providers = self.providers.iter().map(|(_, provider)| provider);
        put_list(&mut out, providers, |out, provider| out.extend(provider.as_bytes()));
        put_list(&mut out, self.schedules.iter().map(|(_, steps)| steps), |out, steps| {
            put_list(out, steps.iter(), |out, step| {
                out.extend(step.min_duration_s.to_le_bytes());
                out.extend(step.discount_bps.to_le_bytes());
            });
        });
        out
    }

    /// Appends some rows, at least `least` unless there are no more, and says where to go on; `None` at the end.
    #[must_use]
    pub fn image_rows(&self, from: Place, least: usize, out: &mut Vec<u8>) -> Option<Place> {
        let mut written = 0_usize;
        let Place { mut model, mut after } = from;
        while let Some(segment) = self.segments.get(model) {
            let begin = after.map_or(0, |after| segment.start(|key| *key > after));
            for number in begin..segment.blocks() {
                let slots = segment.block(number).map(|block| block.slots()).unwrap_or_default();
                for row in slots.iter().filter_map(|slot| self.slab.get(*slot)) {
                    if after.is_none_or(|after| row.key() > after) {
                        put_row(out, row);
                        after = Some(row.key());
                        written = written.saturating_add(1);
                    }
                }
                if written >= least {
                    return Some(Place { model, after });
                }
            }
            (model, after) = (model.saturating_add(1), None);
        }
        None
    }
}

/// An index that is made from an image.
#[derive(Debug)]
pub struct Restored {
    index: Index,
    /// The numbers of the image's models in this index.
    models: Vec<u16>,
    /// Regions, providers and schedules that there are.
    known: (usize, usize, usize),
    /// Machines that were online count as heard of at this second at the earliest.
    heard_at: u32,
}

impl Restored {
    /// Begins with what [`Index::image_names`] wrote. Nobody was listened to since the image was made: machines that
    /// were online then are taken to be so, and are the first that [`Index::quiet`] finds.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn new(
        models: Vec<GpuModel>,
        offline_after_s: u32,
        now: u32,
        names: &[u8],
    ) -> Result<Self, Unreadable> {
        let mut index = Index::new(models, offline_after_s);
        let mut bytes = Bytes(names);
        let slugs = bytes.list(Bytes::text)?;
        let models = slugs.iter().map(|slug| index.number_of(slug));
        let models = models.collect::<Option<Vec<u16>>>();
        let models = models.ok_or(Unreadable("names a model that the catalog has not"))?;
        let crowded = |_| Unreadable("has too many names");
        for region in bytes.list(Bytes::text)? {
            index.regions.number(region.as_str(), u32::MAX, "regions").map_err(crowded)?;
        }
        for provider in bytes.list(Bytes::uuid)? {
            index.providers.number(&provider, u32::MAX, "providers").map_err(crowded)?;
        }
        let step = |bytes: &mut Bytes<'_>| {
            Ok(Step { min_duration_s: bytes.u32()?, discount_bps: bytes.u16()? })
        };
        for steps in bytes.list(|bytes| bytes.list(step))? {
            index.schedules.number(&steps, u32::MAX, "schedules").map_err(crowded)?;
        }
        let known = (
            index.regions.iter().count(),
            index.providers.iter().count(),
            index.schedules.iter().count(),
        );
        let heard_at = now.saturating_sub(index.patience());
        Ok(Self { index, models, known, heard_at })
    }

    /// Makes room for so many rows in all.
    pub fn reserve(&mut self, rows: usize) {
        self.index.reserve(rows);
    }

    /// Takes rows as [`Index::image_rows`] wrote them, in that order.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn take(&mut self, rows: &[u8]) -> Result<(), Unreadable> {
        let (rows, rest) = rows.as_chunks::<ROW>();
        if !rest.is_empty() {
            return Err(SHORT);
        }
        let mut rows = rows.iter().map(|bytes| self.row(bytes)).collect::<Result<Vec<_>, _>>()?;
        // what has a number that was given later has changed
        let (regions, providers, schedules) = self.known;
        rows.retain(|row| {
            usize::from(row.region) < regions
                && usize::try_from(row.provider).is_ok_and(|number| number < providers)
                && usize::from(row.reserved) < schedules
        });
        for rows in rows.chunk_by(|left, right| left.model == right.model) {
            self.index.append(rows);
        }
        Ok(())
    }

    /// The index.
    #[must_use]
    pub fn finish(mut self) -> Index {
        self.index.rest_unused();
        self.index
    }

    fn row(&self, bytes: &[u8; ROW]) -> Result<Row, Unreadable> {
        let mut row = row_of(bytes)?;
        let model = self.models.get(usize::from(row.model));
        row.model = *model.ok_or(Unreadable("has a row of no model"))?;
        if row.has(flags::ONLINE) {
            row.heard_at = row.heard_at.max(self.heard_at);
        }
        Ok(row)
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend(text.as_bytes());
}

fn put_list<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, put: impl Fn(&mut Vec<u8>, T)) {
    let at = out.len();
    put_count(out, 0);
    let mut count = 0_u32;
    for item in items {
        put(out, item);
        count = count.saturating_add(1);
    }
    if let Some(place) = out.get_mut(at..at.saturating_add(4)) {
        place.copy_from_slice(&count.to_le_bytes());
    }
}

fn put_row(out: &mut Vec<u8>, row: &Row) {
    out.extend(row.id.as_bytes());
    out.extend(row.machine.as_bytes());
    out.extend(row.chunks.to_le_bytes());
    for value in [
        row.provider,
        row.version,
        row.price,
        row.disk_price,
        row.up_price,
        row.down_price,
        row.min_duration,
        row.max_duration,
        row.notice,
        row.until,
        row.disk_gb,
        row.ram_gb,
        row.disk_mb_s,
        row.pcie_mb_s,
        row.up_mbps,
        row.down_mbps,
        row.ready_ms,
        row.heard_at,
        row.created_at,
        row.updated_at,
    ] {
        out.extend(value.to_le_bytes());
    }
    for value in [
        row.model,
        row.region,
        row.reserved,
        row.cuda,
        row.cpu_cores,
        row.ports,
        row.reliability,
        row.starts,
    ] {
        out.extend(value.to_le_bytes());
    }
    out.extend([
        row.gpu_count,
        row.gpus_free,
        row.gpus_in_machine,
        row.isolation.code(),
        row.verification.code(),
        row.flags,
        row.templates.into(),
    ]);
}

fn row_of(bytes: &[u8; ROW]) -> Result<Row, Unreadable> {
    let mut bytes = Bytes(bytes);
    let strange = Unreadable("has a row of no known kind");
    Ok(Row {
        id: bytes.uuid()?,
        machine: bytes.uuid()?,
        chunks: bytes.take().map(u64::from_le_bytes)?,
        provider: bytes.u32()?,
        version: bytes.u32()?,
        price: bytes.u32()?,
        disk_price: bytes.u32()?,
        up_price: bytes.u32()?,
        down_price: bytes.u32()?,
        min_duration: bytes.u32()?,
        max_duration: bytes.u32()?,
        notice: bytes.u32()?,
        until: bytes.u32()?,
        disk_gb: bytes.u32()?,
        ram_gb: bytes.u32()?,
        disk_mb_s: bytes.u32()?,
        pcie_mb_s: bytes.u32()?,
        up_mbps: bytes.u32()?,
        down_mbps: bytes.u32()?,
        ready_ms: bytes.u32()?,
        heard_at: bytes.u32()?,
        created_at: bytes.u32()?,
        updated_at: bytes.u32()?,
        model: bytes.u16()?,
        region: bytes.u16()?,
        reserved: bytes.u16()?,
        cuda: bytes.u16()?,
        cpu_cores: bytes.u16()?,
        ports: bytes.u16()?,
        reliability: bytes.u16()?,
        starts: bytes.u16()?,
        gpu_count: bytes.u8()?,
        gpus_free: bytes.u8()?,
        gpus_in_machine: bytes.u8()?,
        isolation: Isolation::from_code(bytes.u8()?).ok_or(strange)?,
        verification: Verification::from_code(bytes.u8()?).ok_or(strange)?,
        flags: bytes.u8()?,
        templates: match bytes.u8()? {
            0 => false,
            1 => true,
            _ => return Err(strange),
        },
    })
}

/// What is left to be read.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Unreadable> {
        self.take().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Unreadable> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Unreadable> {
        self.take().map(u32::from_le_bytes)
    }

    fn uuid(&mut self) -> Result<Uuid, Unreadable> {
        self.take().map(Uuid::from_bytes)
    }

    fn text(&mut self) -> Result<String, Unreadable> {
        let len = usize::try_from(self.u32()?).map_err(|_| SHORT)?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| Unreadable("has a name that is no text"))
    }

    fn list<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<Vec<T>, Unreadable> {
        (0..self.u32()?).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        generate::Generator,
        listing::{Form, Listing, Vendor},
        query::{Query, Sort},
    };

    const NOW: u32 = 1_800_000_000;

    fn model(slug: &str, vram_gb: u32) -> GpuModel {
        GpuModel {
            slug: slug.to_owned(),
            name: slug.to_owned(),
            aliases: Vec::new(),
            vram_gb,
            vendor: Vendor::Nvidia,
            form: Form::Pcie,
            compute_capability: Some(89),
            fp32_gflops: Some(82_600),
        }
    }

    fn models() -> Vec<GpuModel> {
        vec![model("rtx-4090", 24), model("h100-sxm", 80), model("l4", 24)]
    }

    fn market(offers: u32) -> (Index, Vec<Listing>) {
        let listings: Vec<Listing> = Generator::new(&models(), 7, offers, NOW).collect();
        let (index, refused) = Index::build(models(), 30, listings.iter().cloned(), NOW);
        assert!(refused.is_empty());
        (index, listings)
    }

    fn pieces(index: &Index, least: usize) -> Vec<Vec<u8>> {
        let (mut place, mut pieces) = (Some(Place::default()), Vec::new());
        while let Some(from) = place {
            let mut piece = Vec::new();
            place = index.image_rows(from, least, &mut piece);
            pieces.push(piece);
        }
        pieces
    }

    fn restored(models: Vec<GpuModel>, names: &[u8], pieces: &[Vec<u8>]) -> Index {
        let mut restored = Restored::new(models, 30, NOW, names).unwrap();
        pieces.iter().for_each(|piece| restored.take(piece).unwrap());
        restored.finish()
    }

    fn everything(index: &Index) -> Vec<Listing> {
        let query = Query {
            sort: Sort::Price,
            limit: 10_000,
            available: false,
            now: NOW,
            ..Query::default()
        };
        let found = index.search(&query).found;
        found.iter().map(|found| index.listing(found).unwrap()).collect()
    }

    #[test]
    fn what_was_written_is_read() {
        let (index, listings) = market(3_000);
        for least in [1, 64, 1_000, 10_000] {
            let mut order = models();
            order.reverse();
            order.push(model("b200", 192));
            let same = restored(order, &index.image_names(), &pieces(&index, least));
            assert_eq!(same.len(), listings.len());
            let (mut left, mut right) = (everything(&index), everything(&same));
            // only who was online was heard of since
            for (left, right) in left.iter_mut().zip(&mut right) {
                left.heard_at = left.heard_at.max(NOW - 20);
                right.heard_at = right.heard_at.max(NOW - 20);
            }
            left.sort_by_key(|listing| listing.id);
            right.sort_by_key(|listing| listing.id);
            assert_eq!(left, right);
        }
    }

    #[test]
    fn machines_that_were_online_are_asked_about_first() {
        let (index, listings) = market(500);
        let names = index.image_names();
        let mut later = Restored::new(models(), 30, NOW + 400, &names).unwrap();
        pieces(&index, 100).iter().for_each(|piece| later.take(piece).unwrap());
        let mut later = later.finish();
        let online = listings.iter().filter(|listing| listing.heard_at + 30 >= NOW).count();
        assert!(online > 100);
        assert_eq!(later.quiet(NOW + 401, usize::MAX).len(), online);
        let query = Query { limit: 10_000, now: NOW + 401, ..Query::default() };
        let before = Query { now: NOW, ..query.clone() };
        assert_eq!(later.search(&query).found.len(), index.search(&before).found.len());
    }

    #[test]
    fn changes_while_it_is_written_leave_what_did_not_change() {
        let (mut index, listings) = market(2_000);
        let names = index.image_names();
        let (mut place, mut pieces, mut changed) = (Some(Place::default()), Vec::new(), Vec::new());
        let mut turn = 0_usize;
        while let Some(from) = place {
            let mut piece = Vec::new();
            place = index.image_rows(from, 64, &mut piece);
            pieces.push(piece);
            for step in 0..40 {
                let mut listing = listings[(turn * 7_919 + step * 104_729) % 2_000].clone();
                changed.push(listing.id);
                match step % 4 {
                    0 => {
                        index.remove(listing.id);
                    }
                    1 => {
                        listing.region = format!("xx-{turn}");
                        index.upsert(&listing, NOW).unwrap();
                    }
                    2 => {
                        listing.model = "l4".to_owned();
                        index.upsert(&listing, NOW).unwrap();
                    }
                    _ => {
                        listing.price_micros = listing.price_micros / 3 * 5 + 1;
                        index.upsert(&listing, NOW).unwrap();
                    }
                }
            }
            turn += 1;
        }
        assert!(turn > 12);
        let mut image = restored(models(), &names, &pieces);
        for id in &changed {
            match index.get(*id) {
                Some(listing) => drop(image.upsert(&listing, NOW).unwrap()),
                None => drop(image.remove(*id)),
            }
        }
        assert_eq!(image.len(), index.len());
        let sorted = |index: &Index| {
            let mut all = everything(index);
            all.iter_mut().for_each(|listing| listing.heard_at = listing.heard_at.max(NOW - 20));
            all.sort_by_key(|listing| listing.id);
            all
        };
        assert_eq!(sorted(&image), sorted(&index));
    }

    #[test]
    fn numbers_that_nobody_uses_are_written_and_given_away_afterwards() {
        let (mut index, listings) = market(300);
        let with = |listing: &Listing, step: u32| Listing {
            region: format!("xx-{step}"),
            reserved: vec![Step { min_duration_s: 60 + step, discount_bps: 9_000 }],
            ..listing.clone()
        };
        assert!(index.best_discount(3_600) < 9_000);
        for step in 0..70_000 {
            index.upsert(&with(&listings[0], step), NOW).unwrap();
        }
        assert_eq!(index.best_discount(u32::MAX), 9_000);
        let (names, pieces) = (index.image_names(), pieces(&index, 64));
        let mut image = restored(models(), &names, &pieces);
        for index in [&mut index, &mut image] {
            assert_eq!(index.get(listings[0].id).unwrap().region, "xx-69999");
            for (step, listing) in (100_000..).zip(&listings[1..200]) {
                let listing = with(listing, step);
                index.upsert(&listing, NOW).unwrap();
                let now = index.get(listing.id).unwrap();
                assert_eq!((now.region, now.reserved), (listing.region, listing.reserved));
            }
            assert!(listings[200..].iter().all(|listing| {
                let now = index.get(listing.id).unwrap();
                (now.region, now.reserved) == (listing.region.clone(), listing.reserved.clone())
            }));
            assert!(index.regions.iter().count() < 10_000);
            assert!(index.schedules.iter().count() < 10_000);
            for listing in &listings[..200] {
                index.remove(listing.id).unwrap();
            }
            assert!(index.best_discount(u32::MAX) < 9_000);
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let (index, _) = market(100);
        let (names, pieces) = (index.image_names(), pieces(&index, 1_000));
        for len in 0..names.len() {
            assert!(Restored::new(models(), 30, NOW, &names[..len]).is_err(), "{len}");
        }
        assert!(Restored::new(vec![model("rtx-4090", 24)], 30, NOW, &names).is_err());
        let mut restored = Restored::new(models(), 30, NOW, &names).unwrap();
        assert_eq!(restored.take(&pieces[0][1..]), Err(SHORT));
        // what is either one or the other, and a verification
        for from_the_end in [1, 3] {
            let mut strange = pieces[0].clone();
            strange[ROW - from_the_end] = 99;
            assert!(restored.take(&strange).is_err(), "{from_the_end}");
        }
    }
}
