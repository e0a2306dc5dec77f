//! A market of any size from a seed: models by how common they are, prices around those that were seen in 2026, regions,
//! machines and providers with the skew that such markets have. The same seed makes the same market.

use uuid::Uuid;

use crate::{
    catalog::GpuModel,
    listing::{Isolation, Listing, Step, Verification},
};

mod data;

use data::{BANDS, GPU_COUNTS, REGIONS, Weighted};

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `bound - 1`.
    fn below(&mut self, bound: u32) -> u32 {
        let wide = u128::from(self.next()).wrapping_mul(u128::from(bound));
        u32::try_from(wide >> 64).unwrap_or(0)
    }

    fn between(&mut self, least: u32, most: u32) -> u32 {
        let span = most.saturating_sub(least).saturating_add(1);
        least.saturating_add(self.below(span))
    }

    /// The smaller of two draws: small values are more common.
    fn low(&mut self, least: u32, most: u32) -> u32 {
        self.between(least, most).min(self.between(least, most))
    }

    fn percent(&mut self, share: u32) -> bool {
        self.below(100) < share
    }

    fn pick<'a, T>(&mut self, items: &'a [Weighted<T>]) -> Option<&'a T> {
        let all = items.iter().fold(0_u32, |sum, (weight, _)| sum.saturating_add(*weight));
        let mut left = self.below(all);
        items.iter().find_map(|(weight, item)| match left.checked_sub(*weight) {
            Some(rest) => {
                left = rest;
                None
            }
            None => Some(item),
        })
    }

    /// An id of version 7 that was made at this second.
    fn id(&mut self, second: u32) -> Uuid {
        let millis = u128::from(second).wrapping_mul(1_000) | u128::from(self.below(900));
        let random = (u128::from(self.next()) << 64 | u128::from(self.next())) >> 48;
        let bits = (millis << 80) | random;
        let version = (bits & !(0xf << 76)) | (7 << 76);
        Uuid::from_u128((version & !(0b11 << 62)) | (0b10 << 62))
    }
}

/// Starts that every machine with a reliability has seen.
const STARTS: u16 = 20;

/// Makes listings, one of each machine.
#[derive(Clone, Debug)]
pub struct Generator {
    rng: Rng,
    models: Vec<Weighted<Offered>>,
    providers: Vec<Uuid>,
    now: u32,
    made: u32,
    count: u32,
}

#[derive(Clone, Debug)]
struct Offered {
    slug: String,
    vram_gb: u32,
    /// Micro-dollars per GPU and hour.
    low: u32,
    high: u32,
}

impl Generator {
    /// `count` listings of these models as of second `now`, with a provider for each dozen of them.
    #[must_use]
    pub fn new(models: &[GpuModel], seed: u64, count: u32, now: u32) -> Self {
        let mut rng = Rng(seed);
        let offered = |model: &GpuModel| {
            let known = BANDS.iter().find(|band| model.is_called(band.name));
            // what nobody has seen a price of: by its memory
            let guess =
                (1, model.vram_gb.saturating_mul(12_000), model.vram_gb.saturating_mul(30_000));
            let (weight, low, high) =
                known.map_or(guess, |band| (band.weight, band.low, band.high));
            (weight, Offered { slug: model.slug.clone(), vram_gb: model.vram_gb, low, high })
        };
        let models = models.iter().map(offered).collect();
        let providers = (0..count.div_ceil(12)).map(|_| rng.id(now)).collect();
        Self { rng, models, providers, now, made: 0, count }
    }

    /// The accounts that own the machines.
    #[must_use]
    pub fn providers(&self) -> &[Uuid] {
        &self.providers
    }

    fn make(&mut self) -> Option<Listing> {
        let Self { rng, models, providers, now, .. } = self;
        let Offered { slug, vram_gb, low, high } = rng.pick(models)?;
        let count = *rng.pick(GPU_COUNTS)?;
        // data centres: larger machines, dearer, better
        let datacenter = rng.percent(if *vram_gb >= 80 { 60 } else { 12 });
        let price = rng.low(*low, *high).max(if datacenter { rng.low(*low, *high) } else { 0 });
        let created_at = now.saturating_sub(rng.low(0, 300 * 86_400));
        let crowd = u32::try_from(providers.len()).unwrap_or(u32::MAX);
        let provider = usize::try_from(rng.low(0, crowd.saturating_sub(1))).unwrap_or(0);
        let verified = datacenter || rng.percent(45);
        let free = if rng.percent(62) {
            count
        } else {
            u16::try_from(rng.below(u32::from(count).saturating_add(1))).unwrap_or(0)
        };
        let known = rng.percent(92);
        let ready_known = verified && rng.percent(80);
        Some(Listing {
            id: rng.id(created_at),
            machine: rng.id(created_at),
            provider: providers.get(provider).copied()?,
            version: rng.low(1, 12),
            model: slug.clone(),
            region: (*rng.pick(REGIONS)?).to_owned(),
            gpu_count: count,
            chunks: chunks(count, rng.percent(70)),
            gpus_free: free,
            gpus_in_machine: count,
            price_micros: (price / 1_000).saturating_mul(1_000).max(1_000),
            reserved: reserved(rng),
            disk_price_micros: rng.low(20, 200).saturating_mul(1_000),
            disk_gb: rng.low(1, 64).saturating_mul(u32::from(count)).saturating_mul(64),
            up_price_micros: if rng.percent(60) { 0 } else { rng.low(1, 50).saturating_mul(1_000) },
            down_price_micros: if rng.percent(70) {
                0
            } else {
                rng.low(1, 20).saturating_mul(1_000)
            },
            min_duration_s: *[60, 60, 300, 3_600]
                .get(usize::try_from(rng.below(4)).unwrap_or(0))?,
            max_duration_s: rng.between(1, 31).saturating_mul(86_400),
            notice_s: *[0, 120, 120, 600].get(usize::try_from(rng.below(4)).unwrap_or(0))?,
            isolation: if rng.percent(8) { Isolation::Machine } else { Isolation::Gpu },
            available_until: rng
                .percent(30)
                .then(|| now.saturating_add(rng.between(1, 90).saturating_mul(86_400))),
            cpu_cores: u32::from(count).saturating_mul(rng.between(4, 24)),
            ram_gb: u32::from(count).saturating_mul(rng.between(1, 16)).saturating_mul(16),
            cuda: known.then(|| {
                *[118, 121, 124, 126, 128, 130]
                    .get(usize::try_from(rng.below(6)).unwrap_or(0))
                    .unwrap_or(&124)
            }),
            disk_mb_s: known.then(|| rng.low(200, 7_000)),
            pcie_mb_s: known.then(|| rng.between(3, 26).saturating_mul(1_000)),
            inet_up_mbps: known.then(|| rng.low(20, if datacenter { 10_000 } else { 1_200 })),
            inet_down_mbps: known.then(|| rng.low(50, if datacenter { 20_000 } else { 2_500 })),
            ports: u16::try_from(rng.low(0, 500)).unwrap_or(0),
            static_ip: datacenter || rng.percent(20),
            // whose agent measures runs what it is given
            runs_templates: known,
            verification: if verified {
                Verification::Verified
            } else if rng.percent(5) {
                Verification::Deverified
            } else {
                Verification::Unverified
            },
            datacenter,
            reliability_bps: rng.percent(85).then(|| {
                10_000_u16.saturating_sub(u16::try_from(rng.low(0, 1_200)).unwrap_or(0).min(10_000))
            }),
            starts: STARTS,
            ready_p95_ms: ready_known.then(|| rng.low(4_000, 120_000)),
            open: rng.percent(97),
            heard_at: if rng.percent(90) {
                *now
            } else {
                now.saturating_sub(rng.between(60, 86_400))
            },
            created_at,
            updated_at: created_at.max(now.saturating_sub(rng.low(0, 30 * 86_400))),
        })
    }
}

/// Powers of two up to the whole, and the whole.
fn chunks(count: u16, parts: bool) -> Vec<u16> {
    let mut chunks: Vec<u16> = if parts {
        std::iter::successors(Some(1_u16), |chunk| chunk.checked_mul(2))
            .take_while(|chunk| *chunk < count)
            .collect()
    } else {
        Vec::new()
    };
    chunks.push(count);
    chunks
}

fn reserved(rng: &mut Rng) -> Vec<Step> {
    let day = 86_400_u32;
    let schedules: [&[(u32, u16)]; 4] = [&[], &[], &[(7, 500)], &[(7, 500), (21, 1_500)]];
    let chosen =
        schedules.get(usize::try_from(rng.below(4)).unwrap_or(0)).copied().unwrap_or_default();
    let step = |(days, discount_bps): &(u32, u16)| Step {
        min_duration_s: day.saturating_mul(*days),
        discount_bps: *discount_bps,
    };
    chosen.iter().map(step).collect()
}

impl Iterator for Generator {
    type Item = Listing;

    fn next(&mut self) -> Option<Listing> {
        if self.made == self.count {
            return None;
        }
        self.made = self.made.saturating_add(1);
        let mut made = self.make()?;
        // what nobody can rent for so long has no discount for it
        let longest = made.max_duration_s;
        made.reserved.retain(|step| step.min_duration_s <= longest);
        Some(made)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.count.saturating_sub(self.made)).unwrap_or(0);
        (left, Some(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_stand_where_the_catalog_has_a_place() {
        for (_, code) in REGIONS {
            assert!(domain::catalog::region(code).is_some(), "{code}");
        }
    }

    fn models() -> Vec<GpuModel> {
        let listed = domain::catalog::models().iter();
        listed
            .map(|model| GpuModel {
                slug: model.slug.clone(),
                name: model.name.clone(),
                aliases: model.aliases.clone(),
                vram_gb: model.vram_gb,
                vendor: crate::Vendor::Nvidia,
                form: crate::Form::Pcie,
                compute_capability: None,
                fp32_gflops: None,
            })
            .collect()
    }

    #[test]
    fn discounts_are_for_what_can_be_rented() {
        let mut some = 0;
        for listing in Generator::new(&models(), 3, 2_000, 1_800_000_000) {
            let rentable = listing.min_duration_s..=listing.max_duration_s;
            assert!(listing.reserved.iter().all(|step| rentable.contains(&step.min_duration_s)));
            some += listing.reserved.len();
        }
        assert!(some > 200, "{some}");
    }

    #[test]
    fn the_same_seed_makes_the_same_market_and_another_another() {
        let market = |seed, count, now| Generator::new(&models(), seed, count, now);
        let one: Vec<Listing> = market(9, 500, 1_800_000_000).collect();
        assert_eq!(one, market(9, 500, 1_800_000_000).collect::<Vec<_>>());
        assert_ne!(one, market(10, 500, 1_800_000_000).collect::<Vec<_>>());
        // what is asked does not depend on when it is made
        let later =
            market(9, 500, 1_800_009_000).map(|listing| (listing.model, listing.price_micros));
        let now = one.iter().map(|listing| (listing.model.clone(), listing.price_micros));
        assert!(now.eq(later));
    }

    #[test]
    fn prices_are_those_of_the_reference_table() {
        use domain::reference::{PriceUnit, prices};
        let marketplaces = ["Vast.ai", "RunPod", "GPUFlow"];
        for band in BANDS {
            let of_model = || {
                prices().iter().filter(|price| {
                    let memory = price.models.first().map(|model| model.vram_gb);
                    price.models.iter().any(|model| model.slug == band.name)
                        && price.models.iter().all(|model| Some(model.vram_gb) == memory)
                        && price.gpu_count == Some(1)
                        && price.unit != PriceUnit::UnstatedHour
                })
            };
            let asked =
                || of_model().filter(|price| marketplaces.contains(&price.provider.as_str()));
            let span: Vec<_> =
                if asked().next().is_some() { asked().collect() } else { of_model().collect() };
            let micros = |price: Option<domain::rate::UsdPerHour>| price.unwrap().usd().get();
            let low = span.iter().map(|price| micros(price.low)).min().unwrap();
            let high = span.iter().map(|price| micros(price.high)).max().unwrap();
            assert_eq!((u64::from(band.low), u64::from(band.high)), (low, high), "{}", band.name);
        }
    }
}
