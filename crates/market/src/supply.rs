//! How many GPUs there are, counted over everything that is listed.

use std::collections::{BTreeMap, HashMap};

use crate::{index::Index, listing::Tier, row::flags};

/// GPUs of a model in a tier and a country.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supply {
    /// The model's slug.
    pub model: String,
    /// The tier.
    pub tier: Tier,
    /// The country.
    pub country: String,
    /// GPUs that are offered.
    pub count: Count,
}

/// GPUs that are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub listed: u64,
    /// Those on machines that were heard of lately.
    pub online: u64,
    /// Those that are rented.
    pub rented: u64,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.listed = self.listed.saturating_add(other.listed);
        self.online = self.online.saturating_add(other.online);
        self.rented = self.rented.saturating_add(other.rented);
    }
}

/// A count of the supply, as far as it has come. It is of one index: numbers of another one mean something else.
#[derive(Clone, Debug, Default)]
pub struct Counting {
    /// Pieces that were counted.
    pieces: usize,
    /// By model, tier and region.
    places: HashMap<(u16, Tier, u16), Count>,
}

impl Index {
    /// The GPUs that are offered on machines that take rentals, in the order of models' slugs, tiers and countries. One that
    /// is at its end, or in maintenance, does not count.
    #[must_use]
    pub fn supply(&self, now: u32) -> Vec<Supply> {
        let mut counting = Counting::default();
        while self.count_on(&mut counting, now) {}
        self.counted(counting)
    }

    /// Counts some thousand rows more, so that the index may change in between: an offer that changes then is counted as it
    /// was or as it is. False if there are no more.
    pub fn count_on(&self, counting: &mut Counting, now: u32) -> bool {
        let Some(rows) = self.slab.piece(counting.pieces) else { return false };
        counting.pieces = counting.pieces.saturating_add(1);
        for row in rows.iter().filter(|row| row.has(flags::OPEN) && row.until > now) {
            let gpus = u64::from(row.gpu_count);
            let held = row.gpus_in_machine.saturating_sub(row.gpus_free).min(row.gpu_count);
            let online = if self.is_online(row, now) { gpus } else { 0 };
            let one = Count { listed: gpus, online, rented: held.into() };
            let place = (row.model, Self::tier(row), row.region);
            counting.places.entry(place).or_default().add(one);
        }
        true
    }

    /// What was counted, as [`Index::supply`] tells it.
    #[must_use]
    pub fn counted(&self, counting: Counting) -> Vec<Supply> {
        let mut countries: BTreeMap<(&str, &str, &str), (Tier, Count)> = BTreeMap::new();
        for ((model, tier, region), count) in counting.places {
            let model = self.models.get(usize::from(model)).map_or("", |model| &model.slug);
            let region = self.regions.get(region.into()).map_or("", String::as_str);
            let country = region.split('-').next().unwrap_or(region);
            let all = countries.entry((model, tier.as_str(), country));
            all.or_insert((tier, Count::default())).1.add(count);
        }
        countries
            .into_iter()
            .map(|((model, _, country), (tier, count))| Supply {
                model: model.to_owned(),
                tier,
                country: country.to_owned(),
                count,
            })
            .collect()
    }
}
