//! Pages as bytes. Most of an offer's JSON is the same in every answer, so it is written once and kept, for offers that
//! were found lately.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    mem,
};

use axum::body::Bytes;
use market::{Found, Index, Offer, Query};
use serde::Serialize;
use uuid::Uuid;

use super::view::{ListedOffer, PlacedOffer, by_price};

/// Offers that are kept, about a kilobyte each.
const KEPT: usize = 64 * 1_024;
/// Room for a page of 50 offers, so that writing it copies nothing.
const PAGE_BYTES: usize = 96 * 1_024;
/// Pages that a thread keeps for the next ones, and the most that one of them may have room for.
const SPARE: usize = 8;
const SPARE_BYTES: usize = 2 * PAGE_BYTES;

/// A quick hash of ids, which nobody outside chooses: version 7 is random in its last eight bytes.
#[derive(Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let word = part.first_chunk().copied().map_or(0, u64::from_le_bytes);
            self.0 = (self.0.rotate_left(32) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
}

/// What is kept of an offer.
#[derive(Debug)]
struct Text {
    /// The members of [`ListedOffer`], and behind them what [`by_price`] writes.
    bytes: Box<[u8]>,
    listed: usize,
}

impl Text {
    fn of(offer: &Offer<'_>) -> serde_json::Result<Self> {
        let mut bytes = members_of(&ListedOffer::of(offer))?;
        let listed = bytes.len();
        by_price(offer.price_micros.into(), &mut bytes);
        Ok(Self { bytes: bytes.into(), listed })
    }
}

type Texts = HashMap<Uuid, Text, BuildHasherDefault<Mix>>;

/// What was written of offers. Whoever changes an offer of the index makes it forget that one while nobody reads the
/// index.
#[derive(Debug, Default)]
pub(crate) struct Written {
    young: Texts,
    /// Thrown away as a whole when the young ones are half of what is kept; who is found till then is young again.
    old: Texts,
}

impl Written {
    pub(super) fn forget(&mut self, offer: Uuid) {
        self.young.remove(&offer);
        self.old.remove(&offer);
    }

    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }

    /// Appends the found offers as members of a list.
    pub(super) fn append(
        &mut self,
        (index, query): (&Index, &Query),
        found: &[Found],
        body: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        let mut place = 0_u32;
        for one in found {
            let Some(offer) = index.brief(one, query) else { continue };
            let next = place.saturating_add(1);
            let sized = (one.gpus, index.total_of(query, one));
            let placed = PlacedOffer::of(&offer, query, sized, next);
            if let Some(text) = self.young.get(&offer.id) {
                write(text, &placed, place > 0, body);
            } else {
                let text = match (self.old.remove(&offer.id), index.offer(one, query)) {
                    (Some(text), _) => text,
                    (None, Some(offer)) => Text::of(&offer)?,
                    (None, None) => continue,
                };
                write(&text, &placed, place > 0, body);
                self.keep(offer.id, text);
            }
            place = next;
        }
        Ok(())
    }

    fn keep(&mut self, offer: Uuid, text: Text) {
        if self.young.len() >= KEPT / 2 {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(offer, text);
    }
}

/// Appends an offer, behind another one or not.
fn write(text: &Text, placed: &PlacedOffer, behind: bool, body: &mut Vec<u8>) {
    let (listed, price) = text.bytes.split_at_checked(text.listed).unwrap_or_default();
    body.extend_from_slice(if behind { b",{" } else { b"{" });
    body.extend_from_slice(listed);
    placed.write(price, body);
    body.push(b'}');
}

thread_local! {
    static PAGES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A page in the making. The memory of one that was sent is used again: to take so much anew for each answer, and to
/// give it back, costs more than to write it.
pub(super) struct Sheet(pub(super) Vec<u8>);

impl Sheet {
    pub(super) fn new() -> Self {
        let spare = PAGES.try_with(|pages| pages.try_borrow_mut().ok()?.pop());
        Self(spare.ok().flatten().unwrap_or_else(|| Vec::with_capacity(PAGE_BYTES)))
    }

    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Sheet {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        let mut page = mem::take(&mut self.0);
        if page.capacity() > SPARE_BYTES {
            return;
        }
        page.clear();
        // at the end of a thread there is nothing to keep it in
        let kept = PAGES.try_with(|pages| {
            if let Ok(mut pages) = pages.try_borrow_mut()
                && pages.len() < SPARE
            {
                pages.push(page);
            }
        });
        kept.unwrap_or_default();
    }
}

/// A JSON object without its braces.
fn members_of(object: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let text = serde_json::to_vec(object)?;
    let members = text.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}"));
    Ok(members.unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use market::{Builder, Form, GpuModel, Job, Sort, Speeds, Vendor, generate::Generator};
    use serde_json::Value;

    use super::{super::view::FoundOffer, *};

    const NOW: u32 = 1_800_000_000;

    fn model(slug: &str, vram_gb: u32, form: Form) -> GpuModel {
        GpuModel {
            slug: slug.to_owned(),
            name: slug.to_owned(),
            aliases: Vec::new(),
            vram_gb,
            vendor: Vendor::Nvidia,
            form,
            compute_capability: Some(89),
            fp32_gflops: Some(82_600),
        }
    }

    fn slow(index: &Index, query: &Query) -> Value {
        let found = index.search(query).found;
        let place = |(place, found): (u32, &Found)| {
            let offer = index.offer(found, query).unwrap();
            let total = index.total_of(query, found);
            FoundOffer::of(&offer, query, found.gpus, total, place)
        };
        let all: Vec<_> = (1..).zip(&found).map(place).collect();
        serde_json::to_value(all).unwrap()
    }

    fn fast(written: &mut Written, index: &Index, query: &Query) -> Value {
        let found = index.search(query).found;
        let mut body = b"[".to_vec();
        written.append((index, query), &found, &mut body).unwrap();
        body.push(b']');
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn a_sheet_is_used_again_and_empty() {
        let mut sheet = Sheet::new();
        sheet.0.extend_from_slice(b"secret");
        let place = sheet.0.as_ptr();
        let bytes = sheet.into_bytes();
        assert_eq!((bytes.as_ptr(), &bytes[..]), (place, &b"secret"[..]));
        let other = Sheet::new();
        assert_ne!(other.0.as_ptr(), place, "as long as it is being sent, it is nobody else's");
        drop(bytes);
        let again = Sheet::new();
        assert_eq!((again.0.as_ptr(), again.0.len()), (place, 0));
        let mut large = Sheet::new();
        large.0.reserve_exact(SPARE_BYTES + 1);
        drop(large);
        assert!(Sheet::new().0.capacity() <= SPARE_BYTES, "what is too large is not kept");
        let many: Vec<_> = (0..2 * SPARE).map(|_| Sheet::new()).collect();
        drop(many);
        assert_eq!(PAGES.with(|pages| pages.borrow().len()), SPARE);
    }

    #[test]
    fn what_is_kept_is_what_would_be_written() {
        let models = vec![model("rtx-4090", 24, Form::Pcie), model("h100-sxm", 80, Form::Sxm)];
        let listings: Vec<_> = Generator::new(&models, 7, 400, NOW).collect();
        let mut builder = Builder::new(models, 30, NOW);
        listings.iter().for_each(|listing| builder.push(listing));
        let (mut index, refused) = builder.finish();
        assert!(refused.is_empty());
        let mut written = Written::default();
        let speeds = Some(Speeds::Of([("rtx-4090".to_owned(), 900)].into()));
        let query = |sort| Query {
            sort,
            speeds: speeds.clone(),
            limit: 100,
            now: NOW,
            start_window: 600,
            ..Query::default()
        };
        let job = Job { duration_s: 7_200, disk_gb: 20, up_gb: 3, down_gb: 1 };
        for sort in [
            Sort::Price,
            Sort::Newest,
            Sort::PerfPerUsd,
            Sort::PerToken,
            Sort::Reliability,
            Sort::Ready,
            Sort::Total,
            Sort::Price,
        ] {
            for (job, available) in [(None, true), (Some(job), true), (None, false)] {
                let query = Query { job, available, ..query(sort) };
                let page = slow(&index, &query);
                assert_eq!(page.as_array().unwrap().len(), 100);
                assert_eq!(page[0].get("total").is_some(), job.is_some());
                for offer in page.as_array().unwrap() {
                    let has_speed = offer["gpu_model"] == "rtx-4090";
                    assert_eq!(offer["per_million_tokens"].is_object(), has_speed);
                    assert!(offer.get("per_million_tokens").is_some());
                }
                assert_eq!(fast(&mut written, &index, &query), page);
            }
        }
        let cheapest = index.search(&query(Sort::Price)).found[0];
        let mut changed =
            index.get(index.offer(&cheapest, &query(Sort::Price)).unwrap().id).unwrap();
        changed.notice_s += 60;
        index.upsert(&changed, NOW).unwrap();
        written.forget(changed.id);
        let page = slow(&index, &query(Sort::Price));
        assert_eq!(page[0]["notice_s"], changed.notice_s);
        assert_eq!(fast(&mut written, &index, &query(Sort::Price)), page);
    }
}
