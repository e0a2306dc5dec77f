//! The asks for a model, by price: what a depth of the market is drawn from.

use crate::{index::Index, listing::Tier, row::Row, view::is_rentable};

/// Which part of the asks, and how much of it.
#[derive(Clone, Debug)]
pub struct Depth<'a> {
    /// The second that it is asked at.
    pub now: u32,
    /// Seconds from now within which what is booked begins: an offer must last for its shortest rental from the latest of them.
    pub start_window: u32,
    /// Only offers of this tier.
    pub tier: Option<Tier>,
    /// Only offers in this region, or in a region of this country.
    pub region: Option<&'a str>,
    /// So many prices at most, from the lowest on.
    pub levels: usize,
    /// So many offers are looked at, at most.
    pub looks: usize,
}

/// What can be rented at one price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Per GPU and hour.
    pub price_micros: u32,
    /// GPUs that are free at this price, as far as rentals can take them: with two free and rentals of four only there is
    /// none. A machine has one offer, so that none is counted twice.
    pub gpus: u64,
    /// Offers that can be rented now.
    pub offers: u64,
}

/// The asks for a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// The lowest price first.
    pub levels: Vec<Level>,
    /// True if there are more prices, or may be: the levels or the looks were not enough.
    pub more: bool,
}

/// The most of the free GPUs that rentals can take together.
fn takeable(row: &Row) -> u8 {
    let (chunks, free) = (row.chunks_now(), row.gpus_free.min(row.gpu_count));
    if chunks & 1 != 0 {
        return free;
    }
    // bit n of the first: rentals can take n GPUs together; of the second: one can
    let (mut sums, sizes) = (1_u128, u128::from(chunks) << 1);
    let mut most = 0;
    for sum in 0..=free {
        if sums.checked_shr(sum.into()).is_some_and(|rest| rest & 1 != 0) {
            most = sum;
            sums |= sizes.checked_shl(sum.into()).unwrap_or(0);
        }
    }
    most
}

impl Index {
    /// Whether the catalog has this model.
    #[must_use]
    pub fn has_model(&self, slug: &str) -> bool {
        self.number_of(slug).is_some()
    }

    /// Whether anything is listed in this region, or in a region of this country, or was not long ago.
    #[must_use]
    pub fn has_region(&self, wanted: &str) -> bool {
        self.regions.iter().any(|(_, name)| is_in(name, wanted))
    }

    /// The asks for a model; `None` if the catalog has no such model.
    #[must_use]
    pub fn book(&self, slug: &str, depth: &Depth<'_>) -> Option<Book> {
        let segment = self.segments.get(usize::from(self.number_of(slug)?))?;
        let mut book = Book::default();
        let begins = depth.now.saturating_add(depth.start_window);
        let wanted: Option<Vec<bool>> = depth
            .region
            .map(|wanted| self.regions.iter().map(|(_, name)| is_in(name, wanted)).collect());
        let mut looks = depth.looks;
        let blocks = (0..segment.blocks()).filter_map(|number| segment.block(number));
        for row in blocks.flat_map(|block| block.slots()).filter_map(|slot| self.slab.get(*slot)) {
            let Some(left) = looks.checked_sub(1) else {
                book.more = true;
                break;
            };
            looks = left;
            let is_there =
                |wanted: &[bool]| wanted.get(usize::from(row.region)).is_some_and(|there| *there);
            let fits = is_rentable(row, begins)
                && self.is_online(row, depth.now)
                && depth.tier.is_none_or(|tier| Self::tier(row) == tier)
                && wanted.as_deref().is_none_or(is_there);
            if !fits {
                continue;
            }
            if book.levels.last().is_none_or(|level| level.price_micros != row.price) {
                if book.levels.len() >= depth.levels {
                    book.more = true;
                    break;
                }
                book.levels.push(Level { price_micros: row.price, gpus: 0, offers: 0 });
            }
            if let Some(level) = book.levels.last_mut() {
                level.offers = level.offers.saturating_add(1);
                level.gpus = level.gpus.saturating_add(takeable(row).into());
            }
        }
        Some(book)
    }
}

/// Whether a region is that one, or of that country.
fn is_in(name: &str, wanted: &str) -> bool {
    let rest = name.strip_prefix(wanted);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{Builder, Form, GpuModel, Listing, Vendor, Verification, generate::Generator};

    const NOW: u32 = 1_800_000_000;

    fn model() -> GpuModel {
        GpuModel {
            slug: "rtx-4090".to_owned(),
            name: "NVIDIA GeForce RTX 4090".to_owned(),
            aliases: Vec::new(),
            vram_gb: 24,
            vendor: Vendor::Nvidia,
            form: Form::Pcie,
            compute_capability: Some(89),
            fp32_gflops: None,
        }
    }

    fn listing(n: u128, price_micros: u32, gpus: u16) -> Listing {
        Listing {
            id: Uuid::from_u128(n),
            machine: Uuid::from_u128(n),
            region: "de-fra".to_owned(),
            price_micros,
            gpu_count: gpus,
            gpus_free: gpus,
            gpus_in_machine: gpus,
            chunks: (1..=gpus).collect(),
            verification: Verification::Verified,
            datacenter: false,
            open: true,
            heard_at: NOW,
            available_until: None,
            ..Generator::new(&[model()], 1, 1, NOW).next().unwrap()
        }
    }

    fn depth() -> Depth<'static> {
        Depth { now: NOW, start_window: 600, tier: None, region: None, levels: 10, looks: 1_000 }
    }

    fn levels(book: &Book) -> Vec<(u32, u64, u64)> {
        book.levels.iter().map(|level| (level.price_micros, level.gpus, level.offers)).collect()
    }

    fn index(listings: &[Listing]) -> Index {
        let mut builder = Builder::new(vec![model()], 30, NOW);
        listings.iter().for_each(|listing| builder.push(listing));
        let (index, refused) = builder.finish();
        assert!(refused.is_empty(), "{refused:?}");
        index
    }

    #[test]
    fn what_is_free_is_summed_by_price() {
        let rented = Listing { gpus_free: 0, ..listing(4, 300_000, 4) };
        let silent = Listing { heard_at: NOW - 31, ..listing(5, 300_000, 4) };
        let over = Listing { available_until: Some(NOW), ..listing(7, 300_000, 4) };
        let unverified = Listing {
            verification: Verification::Unverified,
            region: "us-nyc".to_owned(),
            ..listing(6, 500_000, 1)
        };
        let index = index(&[
            listing(1, 400_000, 2),
            listing(2, 400_000, 8),
            listing(3, 600_000, 1),
            rented,
            silent,
            over,
            unverified,
        ]);
        let book = index.book("rtx-4090", &depth()).unwrap();
        assert_eq!(levels(&book), [(400_000, 10, 2), (500_000, 1, 1), (600_000, 1, 1)]);
        assert!(!book.more);
        let tier = Depth { tier: Some(Tier::Unverified), ..depth() };
        assert_eq!(levels(&index.book("rtx-4090", &tier).unwrap()), [(500_000, 1, 1)]);
        for (region, found) in [("de", 2), ("de-fra", 2), ("us", 1), ("d", 0), ("de-ber", 0)] {
            let book = index.book("rtx-4090", &Depth { region: Some(region), ..depth() }).unwrap();
            assert_eq!(book.levels.len(), found, "{region}");
        }
        // a clock that went on: nobody has been heard of since
        let late = index.book("rtx-4090", &Depth { now: NOW + 31, ..depth() }).unwrap();
        assert_eq!(late, Book::default());
        assert_eq!(index.book("no-such", &depth()), None);
    }

    #[test]
    fn what_cannot_be_quoted_is_not_in_it() {
        let lasts = |n, price, until| Listing {
            available_until: Some(until),
            min_duration_s: 3_600,
            ..listing(n, price, 1)
        };
        let chunks = |n, price, gpus, free, chunks: &[u16]| Listing {
            chunks: chunks.to_vec(),
            gpus_free: free,
            ..listing(n, price, gpus)
        };
        let index = index(&[
            // a rental that begins at the end of the window lasts for an hour, or does not
            lasts(1, 100_000, NOW + 600 + 3_600),
            lasts(2, 200_000, NOW + 600 + 3_599),
            chunks(3, 300_000, 8, 3, &[4, 8]),
            chunks(4, 400_000, 8, 7, &[2, 4, 8]),
            chunks(5, 500_000, 8, 8, &[3, 5]),
            chunks(6, 600_000, 8, 7, &[3, 5]),
            chunks(7, 700_000, 64, 64, &[63]),
            chunks(8, 800_000, 64, 64, &[64]),
        ]);
        let book = index.book("rtx-4090", &depth()).unwrap();
        assert_eq!(
            levels(&book),
            [
                (100_000, 1, 1),
                (400_000, 6, 1),
                (500_000, 8, 1),
                (600_000, 6, 1),
                (700_000, 63, 1),
                (800_000, 64, 1)
            ]
        );
        assert!(index.has_model("rtx-4090") && !index.has_model("no-such"));
        assert!(index.has_region("de") && index.has_region("de-fra") && !index.has_region("d"));
    }

    #[test]
    fn it_says_where_it_stopped() {
        let all: Vec<Listing> =
            (1..=9_u8).map(|n| listing(n.into(), 100_000 + 1_000 * u32::from(n), 1)).collect();
        let index = index(&all);
        for (levels, looks, found, more) in
            [(3, 1_000, 3, true), (9, 1_000, 9, false), (10, 4, 4, true), (10, 9, 9, false)]
        {
            let book = index.book("rtx-4090", &Depth { levels, looks, ..depth() }).unwrap();
            assert_eq!((book.levels.len(), book.more), (found, more), "{levels} {looks}");
        }
    }
}
