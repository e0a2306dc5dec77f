//! What the index finds is what a plain look at every listing finds, also after many changes.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test"
)]

use std::collections::BTreeMap;

use market::{
    Concern, Field, Form, GpuModel, Index, Job, Listing, Names, Page, Position, Query, Searching,
    Set, Sort, Speeds, Step, Test, Vendor, generate::Generator, total,
};
use proptest::prelude::*;
use uuid::Uuid;

const NOW: u32 = 1_800_000_000;
const OFFLINE_AFTER: u32 = 30;

fn models() -> Vec<GpuModel> {
    let model = |slug: &str, vram_gb, form, compute_capability, gflops| GpuModel {
        slug: slug.to_owned(),
        name: format!("NVIDIA {slug}"),
        aliases: vec![slug.replace('-', "_").to_uppercase()],
        vram_gb,
        vendor: if slug == "odd-one" { Vendor::Amd } else { Vendor::Nvidia },
        form,
        compute_capability,
        fp32_gflops: gflops,
    };
    vec![
        model("rtx-4090", 24, Form::Pcie, Some(89), Some(82_500)),
        model("rtx-3090", 24, Form::Pcie, Some(86), Some(35_500)),
        model("h100-sxm", 80, Form::Sxm, Some(90), Some(494_500)),
        model("t4", 16, Form::Pcie, Some(75), None),
        model("odd-one", 12, Form::Nvl, None, Some(32_500)),
    ]
}

fn fact(listing: &Listing, model: &GpuModel, field: Field, gpus: u16) -> Option<u64> {
    Some(match field {
        Field::GpuCount => gpus.into(),
        Field::Vram => model.vram_gb.into(),
        Field::TotalVram => u64::from(model.vram_gb) * u64::from(gpus),
        Field::Vendor => model.vendor.code().into(),
        Field::TotalFlops => u64::from(model.fp32_gflops?) * u64::from(gpus),
        Field::Hourly => u64::from(listing.price_micros) * u64::from(gpus),
        Field::FlopsUsd => {
            u64::from(model.fp32_gflops?) * 1_000_000 / u64::from(listing.price_micros)
        }
        Field::Rented => {
            let fewest = listing.chunks.first().copied().unwrap_or(listing.gpu_count);
            (listing.gpus_free < fewest).into()
        }
        Field::Form => model.form.code().into(),
        Field::ComputeCapability => model.compute_capability?.into(),
        Field::Price => listing.price_micros.into(),
        Field::DiskPrice => listing.disk_price_micros.into(),
        Field::UpPrice => listing.up_price_micros.into(),
        Field::DownPrice => listing.down_price_micros.into(),
        Field::CpuCores => listing.cpu_cores.into(),
        Field::Ram => listing.ram_gb.into(),
        Field::Disk => listing.disk_gb.into(),
        Field::DiskSpeed => listing.disk_mb_s?.into(),
        Field::Pcie => listing.pcie_mb_s?.into(),
        Field::Up => listing.inet_up_mbps?.into(),
        Field::Down => listing.inet_down_mbps?.into(),
        Field::Ports => listing.ports.into(),
        Field::Cuda => listing.cuda?.into(),
        Field::Reliability => listing.reliability_bps?.into(),
        Field::Ready => listing.ready_p95_ms?.into(),
        Field::MinDuration => listing.min_duration_s.into(),
        Field::MaxDuration => listing.max_duration_s.into(),
        Field::Until => listing.available_until.unwrap_or(u32::MAX).into(),
        Field::Notice => listing.notice_s.into(),
        Field::Tier => listing.tier().code().into(),
        Field::Verification => listing.verification.code().into(),
        Field::Datacenter => listing.datacenter.into(),
        Field::Isolation => listing.isolation.code().into(),
        Field::StaticIp => listing.static_ip.into(),
        Field::Templates => listing.runs_templates.into(),
        Field::Updated => listing.updated_at.into(),
    })
}

/// The GPUs that would be rented, by the rules as one would write them down.
fn fits(listing: &Listing, query: &Query) -> Option<u16> {
    let models = models();
    let model = models.iter().find(|model| model.slug == listing.model)?;
    let called = |names: &Names| names.names.iter().any(|name| model.is_called(name)) != names.not;
    let inside = |place: &String| {
        listing.region == *place || listing.region.starts_with(&format!("{place}-"))
    };
    let placed = |names: &Names| names.names.iter().any(inside) != names.not;
    let sized = query
        .tests
        .iter()
        .any(|t| matches!(t.field, Field::GpuCount | Field::TotalVram | Field::TotalFlops));
    let online = listing.heard_at != 0 && listing.heard_at + OFFLINE_AFTER >= query.now;
    let mut sizes: Vec<u16> =
        if listing.chunks.is_empty() { vec![listing.gpu_count] } else { listing.chunks.clone() };
    if !sized {
        sizes.reverse();
    }
    // a rental may begin so late
    let begins = query.now + query.start_window;
    let until = listing.available_until.unwrap_or(u32::MAX);
    let lasts = match &query.job {
        Some(job) => {
            listing.min_duration_s <= job.duration_s
                && job.duration_s <= listing.max_duration_s
                && until >= begins.saturating_add(job.duration_s)
        }
        None => !query.available || until >= begins + listing.min_duration_s,
    };
    let reserved = !query.reserved
        || match &query.job {
            Some(job) => listing.reserved.iter().any(|step| step.min_duration_s <= job.duration_s),
            None => !listing.reserved.is_empty(),
        };
    let whole = query.models.iter().all(called)
        && query.places.iter().all(placed)
        && (query.providers.is_empty() || query.providers.contains(&listing.provider))
        && (query.offers.is_empty() || query.offers.contains(&listing.id))
        && lasts
        && reserved
        && (!query.available || (online && listing.open));
    if !whole {
        return None;
    }
    sizes.into_iter().find(|gpus| {
        (!query.available || *gpus <= listing.gpus_free)
            && query.tests.iter().all(|test| {
                fact(listing, model, test.field, *gpus).is_some_and(|value| test.set.holds(value))
            })
            && query.job.is_none_or(|job| {
                let of = listing.gpus_in_machine.max(listing.gpu_count);
                let share = u64::from(listing.disk_gb) * u64::from(*gpus) / u64::from(of);
                let most = query.total_most.unwrap_or(u64::MAX);
                share >= u64::from(job.disk_gb)
                    && total(listing, &job, *gpus).unwrap().total.get() <= most
            })
    })
}

fn key(listing: &Listing, query: &Query, gpus: u16) -> (u128, u128) {
    let models = models();
    let model = models.iter().find(|model| model.slug == listing.model).unwrap();
    let price = u128::from(listing.price_micros);
    let first = match query.sort {
        Sort::Total if query.job.is_some() => {
            total(listing, &query.job.unwrap(), gpus).unwrap().total.get().into()
        }
        Sort::Price | Sort::Total => price,
        // dollars per operation, over a common denominator
        Sort::PerfPerUsd => model.fp32_gflops.map_or(u128::MAX / 2 + price, |gflops| {
            price * 82_500 * 35_500 * 494_500 * 32_500 / u128::from(gflops)
        }),
        // dollars per token, over one
        Sort::PerToken => {
            let speed = query.speeds.as_ref().and_then(|speeds| match speeds {
                Speeds::Every(speed) => Some(*speed),
                Speeds::Of(speeds) => speeds.get(&model.slug).copied(),
            });
            speed.map_or(u128::MAX / 2 + price, |speed| {
                price * 3_000 * 1_550 * 7 / u128::from(speed)
            })
        }
        Sort::Reliability => listing.reliability_bps.map_or(65_535, |bps| 10_000 - u128::from(bps)),
        Sort::Ready => listing.ready_p95_ms.unwrap_or(u32::MAX).into(),
        Sort::Newest => !listing.id.as_u128(),
    };
    (first, listing.id.as_u128())
}

fn plainly(listings: &BTreeMap<Uuid, Listing>, query: &Query) -> Vec<(Uuid, u16)> {
    let mut found: Vec<_> = listings
        .values()
        .filter_map(|listing| {
            fits(listing, query).map(|gpus| (key(listing, query, gpus), listing.id, gpus))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, id, gpus)| (id, gpus)).collect()
}

/// All pages of a search.
fn paged(index: &Index, query: &Query) -> Vec<(Uuid, u16)> {
    let mut query = query.clone();
    let mut found = Vec::new();
    loop {
        let page = index.search(&query);
        found.extend(page.found.iter().map(|hit| (index.listing(hit).unwrap().id, hit.gpus)));
        let Some(next) = page.next else { return found };
        let later = page.found.windows(2).all(|pair| pair[0].position < pair[1].position);
        assert!(later && query.after.is_none_or(|after: Position| after < next));
        query.after = Some(next);
    }
}

/// A page that is looked for by so many offers at a time.
fn by_pieces(index: &Index, query: &Query, rows: usize) -> Page {
    let mut searching = Searching::new(query.clone());
    while !searching.look(index, rows) {}
    searching.told(index)
}

fn set() -> impl Strategy<Value = Set> {
    let value = prop_oneof![
        0_u64..4,
        1_u64..70,
        Just(64),
        Just(128),
        100_u64..2_000,
        8_800_u64..10_001,
        Just(124),
        1_000_u64..200_000,
        200_000_u64..3_000_000,
        Just(86_400),
        Just(u64::from(u32::MAX)),
        (u64::from(NOW) - 2_000_000)..u64::from(NOW),
        Just(u64::MAX),
    ];
    let values = proptest::collection::vec(value.clone(), 1..4);
    prop_oneof![
        4 => value.clone().prop_map(Set::at_least),
        4 => value.clone().prop_map(Set::at_most),
        1 => (value.clone(), value).prop_map(|(a, b)| Set::Span(a.min(b), a.max(b))),
        1 => values.clone().prop_map(Set::OneOf),
        1 => values.prop_map(Set::NoneOf),
    ]
}

fn some_names(all: &'static [&'static str]) -> impl Strategy<Value = Vec<Names>> {
    let names =
        (proptest::sample::subsequence(all, 1..3), any::<bool>()).prop_map(|(names, not)| Names {
            names: names.into_iter().map(str::to_owned).collect(),
            not,
        });
    proptest::collection::vec(names, 0..2)
}

/// Conditions on what the price makes with the model and the number of GPUs, near what offers have.
fn priced() -> impl Strategy<Value = Test> {
    let near = [
        (Field::Hourly, 200_000_u64, 8_000_000_u64),
        (Field::FlopsUsd, 20_000, 400_000),
        (Field::TotalFlops, 30_000, 2_000_000),
        (Field::Rented, 0, 2),
    ];
    let value = proptest::sample::select(near.to_vec())
        .prop_flat_map(|(field, from, to)| (Just(field), from..to, any::<bool>()));
    value.prop_map(|(field, value, least)| {
        let set = if least { Set::at_least(value) } else { Set::at_most(value) };
        Test { field, set }
    })
}

fn query() -> impl Strategy<Value = Query> {
    let test =
        (proptest::sample::select(Field::ALL), set()).prop_map(|(field, set)| Test { field, set });
    let sorts = [
        Sort::Price,
        Sort::Total,
        Sort::PerfPerUsd,
        Sort::PerToken,
        Sort::Reliability,
        Sort::Ready,
        Sort::Newest,
    ];
    let speeds = prop_oneof![
        Just(Speeds::Every(7)),
        Just(Speeds::Of(BTreeMap::from([
            ("h100-sxm".to_owned(), 3_000),
            ("rtx-4090".to_owned(), 1_550),
        ]))),
    ];
    // some end days from now, so that days are what decides
    let windows = proptest::sample::select(vec![0_u32, 600, 86_400 * 5]);
    let job = (60_u32..3_000_000, 0_u32..800, 0_u32..100, 0_u32..100).prop_map(
        |(duration_s, disk_gb, up_gb, down_gb)| Job { duration_s, disk_gb, up_gb, down_gb },
    );
    (
        (proptest::collection::vec(test, 0..4), proptest::collection::vec(priced(), 0..3))
            .prop_map(|(some, more)| if some.len() > 1 { some } else { [some, more].concat() }),
        some_names(&["RTX_4090", "rtx3090", "h100-sxm", "nothing", "nvidia t4"]),
        some_names(&["us", "us-lax", "de", "de-fra", "s", "zz"]),
        any::<(bool, bool)>(),
        proptest::option::of(job),
        proptest::option::of(100_000_u64..50_000_000),
        (proptest::sample::select(sorts.to_vec()), proptest::option::of(speeds), windows),
        1_usize..90,
    )
        .prop_map(|(tests, models, places, (available, reserved), job, most, order, limit)| {
            let (sort, speeds, start_window) = order;
            Query {
                tests,
                models,
                places,
                available,
                reserved: reserved && available,
                job,
                total_most: most.filter(|_| job.is_some()),
                speeds,
                sort,
                limit,
                now: NOW,
                start_window,
                ..Query::default()
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_index_finds_what_a_plain_look_finds(
        seed in any::<u64>(),
        queries in proptest::collection::vec(query(), 12),
        changes in proptest::collection::vec((any::<u16>(), 0_u8..6), 0..300),
    ) {
        let listings: Vec<Listing> = Generator::new(&models(), seed, 700, NOW).collect();
        let (mut index, refused) = Index::build(models(), OFFLINE_AFTER, listings.clone(), NOW);
        prop_assert!(refused.is_empty());
        let mut known: BTreeMap<Uuid, Listing> = listings.iter().map(|l| (l.id, l.clone())).collect();
        let mut fresh = Generator::new(&models(), seed ^ 1, 1_000, NOW);
        for (which, what) in changes {
            let mut listing = listings[usize::from(which) % listings.len()].clone();
            match what {
                0 => {
                    index.remove(listing.id);
                    known.remove(&listing.id);
                    continue;
                }
                1 => listing = fresh.next().unwrap(),
                2 => listing.price_micros = 300_000 + u32::from(which % 7) * 1_000,
                3 => listing.gpus_free = which % (listing.gpu_count + 1),
                4 => listing.heard_at = NOW - u32::from(which % 60),
                _ => listing.model = models()[usize::from(which) % 5].slug.clone(),
            }
            let change = index.upsert(&listing, NOW).unwrap();
            prop_assert_eq!(change.id(), listing.id);
            known.insert(listing.id, listing);
        }
        prop_assert_eq!(index.len(), known.len());
        for query in &queries {
            prop_assert_eq!(paged(&index, query), plainly(&known, query), "{:?}", query);
            let page = index.search(query);
            for rows in [1, 9, 200] {
                prop_assert_eq!(&by_pieces(&index, query, rows), &page, "{} {:?}", rows, query);
                let within = index.search_within(query, rows);
                prop_assert!(within.is_none_or(|within| within == page), "{} {:?}", rows, query);
            }
            let mut offers: Vec<Uuid> = listings.iter().step_by(5).map(|listing| listing.id).collect();
            let mut expected = plainly(&known, query);
            expected.retain(|(id, _)| offers.contains(id));
            // named twice, and one that is nobody's
            offers.extend([listings[0].id, Uuid::nil()]);
            let named = Query { offers, ..query.clone() };
            prop_assert_eq!(paged(&index, &named), expected, "{:?}", named);
        }
        let providers: Vec<Uuid> = listings.iter().take(3).map(|listing| listing.provider).collect();
        let theirs = Query { providers, limit: 50, now: NOW, ..Query::default() };
        prop_assert_eq!(paged(&index, &theirs), plainly(&known, &theirs));
    }
}

#[test]
fn a_machine_that_falls_silent_is_found_by_the_sweep() {
    let mut listings: Vec<Listing> = Generator::new(&models(), 3, 100, NOW).collect();
    for listing in &mut listings {
        listing.heard_at = NOW;
    }
    let (mut index, _) = Index::build(models(), OFFLINE_AFTER, listings.clone(), NOW);
    assert!(index.quiet(NOW + 20, 100).is_empty());
    let quiet = index.quiet(NOW + 21, 1_000);
    assert_eq!(quiet.len(), 100);
    let find = |index: &Index, now| {
        index.search(&Query { available: true, limit: 200, now, ..Query::default() }).found.len()
    };
    let before = find(&index, NOW);
    assert!(before > 0);
    let one = index.search(&Query { available: true, limit: 1, now: NOW, ..Query::default() });
    let one = index.listing(&one.found[0]).unwrap().id;
    index.heard(one, NOW + 20, NOW + 21).unwrap();
    assert_eq!(find(&index, NOW + 30), before);
    assert_eq!(find(&index, NOW + 31), 1, "to the second, without waiting for the sweep");
    let change = index.heard(one, NOW + 20, NOW + 51).unwrap();
    assert!(change.is_visible());
    assert_eq!(find(&index, NOW + 51), 0);
}

#[test]
fn who_follows_is_told_of_what_time_took_out_once_it_changes() {
    let listing = Listing {
        min_duration_s: 60,
        available_until: Some(NOW + 3_600),
        heard_at: NOW,
        ..Generator::new(&models(), 5, 1, NOW).next().unwrap()
    };
    let rented = Listing { gpus_free: 0, ..listing.clone() };
    let dearer = Listing { price_micros: listing.price_micros + 1, ..listing.clone() };
    let longer = Listing { available_until: Some(NOW + 36_000), ..listing.clone() };
    let whole = Listing { gpus_free: listing.gpu_count, ..listing.clone() };
    let short = Listing { available_until: Some(NOW - 50), ..whole.clone() };
    let shorter = Listing { price_micros: listing.price_micros + 1, ..short.clone() };
    for (now, before, after, told) in [
        (NOW, &rented, &whole, "appeared"),
        (NOW, &whole, &dearer, "changed"),
        (NOW, &whole, &rented, "gone"),
        (NOW, &rented, &rented, "nothing"),
        // it ends too soon by now, which nobody was told
        (NOW + 3_600, &whole, &rented, "gone"),
        (NOW + 3_600, &rented, &rented, "nothing"),
        (NOW + 3_600, &whole, &longer, "appeared"),
        // it never lasted long enough
        (NOW, &short, &shorter, "nothing"),
    ] {
        let (mut index, _) = Index::build(models(), OFFLINE_AFTER, [before.clone()], NOW);
        let change = index.upsert(after, NOW).unwrap();
        let query = Query { available: true, now, ..Query::default() };
        let earlier = Query { now: NOW - 100, ..query.clone() };
        let found = index.concerns(&query, &earlier, &[change, change]);
        for found in found {
            let name = match found {
                Some(Concern::Appeared(_)) => "appeared",
                Some(Concern::Changed(_)) => "changed",
                Some(Concern::Gone) => "gone",
                None => "nothing",
            };
            assert_eq!(name, told, "{found:?}");
        }
    }
}

#[test]
fn what_changes_between_two_pieces_is_found_as_it_is_or_not_at_all() {
    let listings: Vec<Listing> = Generator::new(&models(), 9, 600, NOW).collect();
    for sort in [Sort::Price, Sort::Total, Sort::Reliability] {
        let (mut index, _) = Index::build(models(), OFFLINE_AFTER, listings.clone(), NOW);
        let mut known: BTreeMap<Uuid, Listing> =
            listings.iter().map(|listing| (listing.id, listing.clone())).collect();
        let job = Some(Job { duration_s: 7_200, ..Job::default() });
        let query = Query { sort, job, limit: 300, now: NOW, ..Query::default() };
        let mut searching = Searching::new(query.clone());
        let mut pieces = 0_usize;
        while !searching.look(&index, 20) {
            for step in 0..3 {
                let mut listing = listings[(pieces * 7 + step * 200) % listings.len()].clone();
                // some come to stand where nobody has looked yet
                let price = if step == 2 { 4_000_000 } else { 200_000 };
                listing.price_micros = price + u32::try_from(pieces * 997 % 900_000).unwrap();
                index.upsert(&listing, NOW).unwrap();
                known.insert(listing.id, listing);
            }
            index.remove(listings[pieces * 13 % listings.len()].id);
            known.remove(&listings[pieces * 13 % listings.len()].id);
            pieces += 1;
        }
        assert!(pieces > 5, "{pieces}");
        let page = searching.told(&index);
        let found: Vec<(u128, u128)> = page
            .found
            .iter()
            .map(|hit| {
                let id = index.listing(hit).unwrap().id;
                let listing = &known[&id];
                assert_eq!(fits(listing, &query), Some(hit.gpus));
                let place = key(listing, &query, hit.gpus);
                assert_eq!((hit.position.key, hit.position.id), (place.0, id));
                place
            })
            .collect();
        assert!(found.len() > 50 && found.windows(2).all(|pair| pair[0] < pair[1]), "{sort:?}");
    }
}

#[test]
fn one_large_discount_does_not_have_everything_looked_at() {
    let model = "rtx-4090".to_owned();
    let mut listings: Vec<Listing> = Generator::new(&models(), 4, 3_000, NOW)
        .zip(0_u32..)
        .map(|(listing, number)| Listing {
            model: model.clone(),
            price_micros: 200_000 + number * 500,
            reserved: Vec::new(),
            ..listing
        })
        .collect();
    // the dearest gives nine tenths off from the first second
    let last = listings.last_mut().unwrap();
    last.reserved = vec![Step { min_duration_s: 1, discount_bps: 9_000 }];
    last.available_until = None;
    last.chunks = vec![1];
    last.gpus_free = 1;
    (last.open, last.heard_at, last.min_duration_s, last.max_duration_s) = (true, NOW, 60, 86_400);
    let cheapest = last.id;
    let (index, _) = Index::build(models(), OFFLINE_AFTER, listings, NOW);
    let count = Test { field: Field::GpuCount, set: Set::OneOf(vec![1]) };
    let job = Some(Job { duration_s: 7_200, ..Job::default() });
    let query = Query {
        tests: vec![count],
        sort: Sort::Total,
        job,
        available: true,
        limit: 10,
        now: NOW,
        ..Query::default()
    };
    let all = index.search(&query);
    let ids: Vec<Uuid> = all.found.iter().map(|hit| index.listing(hit).unwrap().id).collect();
    assert!(ids.len() == 10 && ids.contains(&cheapest), "its total is among the least");
    // some blocks of 64 that may have more, and the one that has the discount
    assert_eq!(index.search_within(&query, 400), Some(all));
}
