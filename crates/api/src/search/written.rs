//! Pages as bytes. Most of an offer's JSON is the same in every answer, so it is written once and kept, for offers that
//! were found lately.

use std::{collections::HashMap, mem};

use market::{Found, Index, Offer, Query};
use serde::Serialize;
use uuid::Uuid;

use super::view::{ListedOffer, PlacedOffer};

/// Offers that are kept, about a kilobyte each.
const KEPT: usize = 64 * 1_024;

/// What was written of offers. Whoever changes an offer of the index makes it forget that one while nobody reads the
/// index.
#[derive(Debug, Default)]
pub(crate) struct Written {
    young: HashMap<Uuid, Box<[u8]>>,
    /// Thrown away as a whole when the young ones are half of what is kept; who is found till then is young again.
    old: HashMap<Uuid, Box<[u8]>>,
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
        tokens_per_s: Option<u32>,
        body: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        let mut place = 0_u32;
        for one in found {
            let Some(offer) = index.offer(one, query.now) else { continue };
            if place > 0 {
                body.push(b',');
            }
            place = place.saturating_add(1);
            body.push(b'{');
            self.append_listed(&offer, body)?;
            let sized = (one.gpus, index.total_of(query, one));
            PlacedOffer::of(&offer, query, sized, tokens_per_s, place).write(body);
            body.push(b'}');
        }
        Ok(())
    }

    fn append_listed(&mut self, offer: &Offer<'_>, body: &mut Vec<u8>) -> serde_json::Result<()> {
        if let Some(members) = self.young.get(&offer.id) {
            body.extend_from_slice(members);
            return Ok(());
        }
        let members = match self.old.remove(&offer.id) {
            Some(members) => members,
            None => members_of(&ListedOffer::of(offer))?,
        };
        body.extend_from_slice(&members);
        if self.young.len() >= KEPT / 2 {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(offer.id, members);
        Ok(())
    }
}

/// A JSON object without its braces.
fn members_of(object: &impl Serialize) -> serde_json::Result<Box<[u8]>> {
    let text = serde_json::to_vec(object)?;
    let members = text.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}"));
    Ok(members.unwrap_or_default().into())
}

#[cfg(test)]
mod tests {
    use market::{Builder, Form, GpuModel, Job, Sort, generate::Generator};
    use serde_json::Value;

    use super::{super::view::FoundOffer, *};

    const NOW: u32 = 1_800_000_000;

    fn model(slug: &str, vram_gb: u32, form: Form) -> GpuModel {
        GpuModel {
            slug: slug.to_owned(),
            name: slug.to_owned(),
            aliases: Vec::new(),
            vram_gb,
            form,
            compute_capability: Some(89),
            gflops: Some(165_000),
        }
    }

    fn slow(index: &Index, query: &Query) -> Value {
        let found = index.search(query).found;
        let place = |(place, found): (u32, &Found)| {
            let offer = index.offer(found, NOW).unwrap();
            let total = index.total_of(query, found);
            FoundOffer::of(&offer, query, found.gpus, total, Some(900), place)
        };
        let all: Vec<_> = (1..).zip(&found).map(place).collect();
        serde_json::to_value(all).unwrap()
    }

    fn fast(written: &mut Written, index: &Index, query: &Query) -> Value {
        let found = index.search(query).found;
        let mut body = b"[".to_vec();
        written.append((index, query), &found, Some(900), &mut body).unwrap();
        body.push(b']');
        serde_json::from_slice(&body).unwrap()
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
        let query = |sort| Query { sort, limit: 100, now: NOW, ..Query::default() };
        let job = Job { duration_s: 7_200, disk_gb: 20, up_gb: 3, down_gb: 1 };
        for sort in [
            Sort::Price,
            Sort::Newest,
            Sort::PerfPerUsd,
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
                assert_eq!(fast(&mut written, &index, &query), page);
            }
        }
        let cheapest = index.search(&query(Sort::Price)).found[0];
        let mut changed = index.get(index.offer(&cheapest, NOW).unwrap().id).unwrap();
        changed.notice_s += 60;
        index.upsert(&changed, NOW).unwrap();
        written.forget(changed.id);
        let page = slow(&index, &query(Sort::Price));
        assert_eq!(page[0]["notice_s"], changed.notice_s);
        assert_eq!(fast(&mut written, &index, &query(Sort::Price)), page);
    }
}
