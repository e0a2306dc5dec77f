//! What was asked for is found, or it is said why not.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test"
)]

use market::{
    Field, Form, GpuModel, Index, Isolation, Job, Listing, Query, Set, Test, Vendor, Verification,
    generate::Generator,
    plan::{MAX_JUDGED, Match, Matching, Need, Reason},
};
use proptest::prelude::*;
use uuid::Uuid;

const NOW: u32 = 1_800_000_000;

fn models() -> Vec<GpuModel> {
    vec![GpuModel {
        slug: "rtx-4090".to_owned(),
        name: "NVIDIA GeForce RTX 4090".to_owned(),
        aliases: Vec::new(),
        vram_gb: 24,
        vendor: Vendor::Nvidia,
        form: Form::Pcie,
        compute_capability: Some(89),
        fp32_gflops: None,
    }]
}

/// A machine with nothing against it, at so many cents per GPU and hour.
fn machine(number: u128, provider: u128, gpus: u16, chunks: &[u16], cents: u32) -> Listing {
    Listing {
        id: Uuid::from_u128(number),
        machine: Uuid::from_u128(number),
        provider: Uuid::from_u128(provider),
        region: "de-fra".to_owned(),
        gpu_count: gpus,
        chunks: chunks.to_vec(),
        gpus_free: gpus,
        gpus_in_machine: gpus,
        price_micros: cents * 10_000,
        reserved: Vec::new(),
        disk_price_micros: 0,
        disk_gb: 100 * u32::from(gpus),
        up_price_micros: 0,
        down_price_micros: 0,
        min_duration_s: 60,
        max_duration_s: 86_400,
        isolation: Isolation::Gpu,
        available_until: None,
        verification: Verification::Verified,
        open: true,
        heard_at: NOW,
        ..Generator::new(&models(), 1, 1, NOW).next().unwrap()
    }
}

fn need(gpus: u16, disk_gb: u32, cents: Option<u64>) -> Need {
    let job = Job { duration_s: 3_600, disk_gb, up_gb: 0, down_gb: 0 };
    let query = Query { job: Some(job), now: NOW, ..Query::default() };
    let budget = cents.map(|cents| cents * 10_000);
    Need { query, gpus, budget, split: true, proposals: 20, explain: 0, judged: MAX_JUDGED }
}

fn found(listings: &[Listing], need: &Need) -> Match {
    Index::build(models(), 30, listings.to_vec(), NOW).0.matching(need)
}

/// Every refusal: the reason, how many offers, of how many it is the only one, and the nearest.
fn said(found: &Match) -> Vec<(Reason, u64, u64, Option<u128>)> {
    let nearest = |(id, _): (Uuid, u32)| id.as_u128();
    let said = found.refusals.iter();
    said.map(|said| (said.reason, said.offers, said.alone, said.nearest.map(nearest))).collect()
}

#[test]
fn machines_that_cannot_be_put_together_say_so() {
    // a pair of one provider and a single of another
    let apart = [machine(1, 1, 2, &[2], 40), machine(2, 2, 1, &[1], 30)];
    let nothing = found(&apart, &need(3, 0, None));
    assert!(nothing.proposals.is_empty());
    assert_eq!(said(&nothing), [(Reason::GpuCount, 2, 2, Some(2))]);
    // two pairs of one provider make no three
    let pairs = [machine(1, 1, 2, &[2], 40), machine(2, 1, 2, &[2], 30)];
    assert_eq!(said(&found(&pairs, &need(3, 0, None))), [(Reason::GpuCount, 2, 2, Some(2))]);
    let four = found(&pairs, &need(4, 0, None));
    assert_eq!((four.proposals.len(), said(&four)), (1, vec![]));
    assert_eq!(four.proposals[0].total, 1_400_000);
}

#[test]
fn machines_that_are_too_dear_together_say_so() {
    let two = [machine(1, 1, 2, &[1, 2], 40), machine(2, 1, 1, &[1], 30)];
    let dear = found(&two, &need(3, 0, Some(109)));
    assert_eq!((dear.proposals.len(), said(&dear)), (0, vec![(Reason::Budget, 2, 2, Some(2))]));
    assert_eq!(found(&two, &need(3, 0, Some(110))).proposals[0].total, 1_100_000);
    // one that has all of them is said of once
    let one = [machine(1, 1, 3, &[1, 3], 40), machine(2, 1, 1, &[1], 30)];
    let dear = found(&one, &need(3, 0, Some(109)));
    assert_eq!((dear.proposals.len(), said(&dear)), (0, vec![(Reason::Budget, 2, 2, Some(2))]));
}

#[test]
fn a_disk_that_keeps_parts_out_says_so() {
    // one GPU of four has a quarter of the disk: only the two wholes could be rented, and they make eight
    let two = [machine(1, 1, 4, &[1, 4], 40), machine(2, 1, 4, &[1, 4], 30)];
    let small = found(&two, &need(5, 200, None));
    assert_eq!((small.proposals.len(), said(&small)), (0, vec![(Reason::Disk, 2, 2, Some(2))]));
    assert_eq!(found(&two, &need(5, 100, None)).proposals.len(), 1);
}

#[test]
fn what_is_too_dear_whatever_the_combination_is_said_before_it_is_tried() {
    // two pairs make no three; but at 30 cents for one GPU, three for less are not to be had either
    let pairs = [machine(1, 1, 2, &[2], 40), machine(2, 1, 2, &[2], 31)];
    assert_eq!(said(&found(&pairs, &need(3, 0, Some(92)))), [(Reason::Budget, 2, 2, Some(2))]);
    assert_eq!(said(&found(&pairs, &need(3, 0, Some(93)))), [(Reason::GpuCount, 2, 2, Some(2))]);
    // too few GPUs come first
    assert_eq!(said(&found(&pairs, &need(5, 0, Some(92)))), [(Reason::GpuCount, 2, 2, Some(2))]);
}

fn with_query(gpus: u16, tests: Vec<Test>) -> Need {
    let need = need(gpus, 0, None);
    Need { query: Query { tests, ..need.query }, ..need }
}

#[test]
fn what_all_gpus_have_together_is_judged() {
    let mut models = models();
    models[0].fp32_gflops = Some(82_600);
    let listings = vec![machine(1, 1, 2, &[2], 40), machine(2, 1, 1, &[1], 30)];
    let ask = |field, set| {
        let need = with_query(3, vec![Test { field, set }]);
        Index::build(models.clone(), 30, listings.clone(), NOW).0.matching(&need)
    };
    for (field, all) in [(Field::TotalVram, 72), (Field::TotalFlops, 247_800)] {
        let enough = ask(field, Set::at_least(all));
        assert_eq!((enough.proposals.len(), said(&enough)), (1, vec![]), "{field:?}");
        let short = ask(field, Set::at_least(all + 1));
        assert!(short.proposals.is_empty(), "{field:?}");
        let fact = Reason::Fact(field);
        // the single one would be a part, and so would the pair
        assert_eq!(said(&short), [(fact, 2, 2, Some(2))]);
    }
    // what nobody knows is not enough
    let unknown = with_query(3, vec![Test { field: Field::TotalFlops, set: Set::at_least(1) }]);
    assert_eq!(
        said(&found(&listings, &unknown)),
        [(Reason::Fact(Field::TotalFlops), 2, 2, Some(2))]
    );
}

#[test]
fn a_fact_that_is_asked_for_twice_is_one_reason() {
    let one = [machine(1, 1, 1, &[1], 40)];
    let test = |field, most| Test { field, set: Set::at_most(most) };
    let price = |most| test(Field::Price, most);
    // another one is between them
    let apart = vec![price(1), test(Field::CpuCores, 0), price(2)];
    assert_eq!(
        said(&found(&one, &with_query(1, apart))),
        [(Reason::Fact(Field::CpuCores), 1, 0, None), (Reason::Fact(Field::Price), 1, 0, None)]
    );
    let hourly = vec![test(Field::Hourly, 1), test(Field::Hourly, 2)];
    assert_eq!(
        said(&found(&one, &with_query(1, hourly))),
        [(Reason::Fact(Field::Hourly), 1, 1, Some(1))]
    );
}

#[test]
fn machines_beyond_those_that_are_put_together_are_counted() {
    let many: Vec<Listing> = (1_u32..=70).map(|n| machine(n.into(), 1, 1, &[1], 100 - n)).collect();
    // eight make no nine
    let short = found(&many, &need(9, 0, None));
    assert_eq!(
        (short.proposals.len(), said(&short)),
        (0, vec![(Reason::GpuCount, 70, 70, Some(70))])
    );
    assert_eq!(found(&many, &need(8, 0, None)).proposals.len(), 1);
    // what the others are refused for is not known of them
    let dear = found(&many, &need(8, 0, Some(8 * 31)));
    assert_eq!(
        said(&dear),
        [(Reason::Budget, 64, 64, Some(70)), (Reason::GpuCount, 6, 6, Some(6))]
    );
    // one that has all of them was said of already
    let whole: Vec<Listing> = (1_u128..=70).map(|n| machine(n, 1, 2, &[1, 2], 40)).collect();
    let dear = found(&whole, &need(2, 0, Some(60)));
    assert_eq!((dear.proposals.len(), said(&dear)), (0, vec![(Reason::Budget, 70, 70, Some(1))]));
}

#[test]
fn what_is_dear_is_found_however_many_are_cheaper() {
    // two hundred that have too little memory, then one that has enough, and one behind it that costs more
    let ram = |listing: Listing, ram_gb| Listing { ram_gb, ..listing };
    let cheap = (1..=200).map(|number| ram(machine(number, number, 1, &[1], 10), 16));
    let rest = [
        ram(machine(301, 301, 1, &[1], 40), 512),
        ram(machine(302, 302, 1, &[1], 50), 512),
        ram(machine(303, 303, 1, &[1], 60), 16),
    ];
    let listings: Vec<Listing> = cheap.chain(rest).collect();
    let wanted = with_query(1, vec![Test { field: Field::Ram, set: Set::at_least(256) }]);
    let few = found(&listings, &Need { judged: 10, ..wanted.clone() });
    let proposed: Vec<u128> =
        few.proposals.iter().map(|one| one.parts[0].listing.id.as_u128()).collect();
    assert_eq!(proposed, [301, 302]);
    assert_eq!((few.looked_at, few.cut), (12, true));
    assert_eq!(said(&few), [(Reason::Fact(Field::Ram), 10, 10, Some(1))]);
    let all = found(&listings, &wanted);
    assert_eq!((all.proposals.len(), all.looked_at, all.cut), (2, 203, false));
    assert_eq!(said(&all), [(Reason::Fact(Field::Ram), 201, 201, Some(1))]);
}

#[test]
fn what_is_not_looked_at_would_not_have_been_proposed() {
    let (mut fewer, mut proposed) = (0, 0);
    for seed in 0..6 {
        let listings: Vec<Listing> = Generator::new(&models(), seed, 600, NOW)
            // few providers, so that their machines can be put together
            .map(|made| Listing {
                provider: Uuid::from_u128(made.provider.as_u128() % 5),
                region: "de-fra".to_owned(),
                ..made
            })
            .collect();
        let index = Index::build(models(), 30, listings, NOW).0;
        let tests = vec![Test { field: Field::Ram, set: Set::at_least(64 * (seed + 1)) }];
        for (gpus, proposals, cents) in [
            (1, 1, None),
            (1, 20, None),
            (2, 3, Some(150)),
            (3, 5, Some(200)),
            (8, 1, None),
            (11, 2, Some(900)),
        ] {
            for split in [true, false] {
                let budget = cents.map(|cents: u64| cents * 10_000);
                let need = Need { proposals, budget, split, ..with_query(gpus, tests.clone()) };
                let all = index.matching(&need);
                let few = index.matching(&Need { judged: 0, ..need });
                assert_eq!(few.proposals, all.proposals, "{seed}: {gpus} GPUs, {cents:?}");
                assert_eq!((all.looked_at, all.cut), (600, false));
                fewer += u32::from(few.cut && few.looked_at < 200);
                proposed += all.proposals.len();
            }
        }
    }
    assert!(fewer > 10 && proposed > 50, "{fewer} looked at less, {proposed} proposals");
}

/// What came of it in looks at so many offers each.
fn by_pieces(index: &Index, need: &Need, rows: usize) -> Match {
    let mut matching = Matching::new(need);
    while !matching.look(index, rows) {}
    matching.put_together();
    matching.told(index)
}

#[test]
fn what_is_looked_at_by_pieces_is_what_is_looked_at_at_once() {
    let mut models = models();
    models.push(GpuModel { slug: "l4".to_owned(), ..models[0].clone() });
    let listings: Vec<Listing> = Generator::new(&models, 5, 900, NOW)
        .map(|made| Listing { provider: Uuid::from_u128(made.provider.as_u128() % 5), ..made })
        .collect();
    let index = Index::build(models, 30, listings, NOW).0;
    let tests = vec![Test { field: Field::Ram, set: Set::at_least(128) }];
    for (gpus, judged, budget) in
        [(1, MAX_JUDGED, None), (4, 100, Some(3_000_000)), (4, 0, None), (9, 70, None)]
    {
        let need = Need { judged, budget, explain: 20, ..with_query(gpus, tests.clone()) };
        let whole = index.matching(&need);
        for rows in [0, 1, 64, 100, 1_000] {
            assert_eq!(by_pieces(&index, &need, rows), whole, "{gpus} GPUs, {rows} rows");
        }
    }
}

#[test]
fn what_changes_between_two_looks_is_proposed_as_it_is_or_not_at_all() {
    let listings: Vec<Listing> = (1..=200).map(|n| machine(n, n, 1, &[1], 10)).collect();
    let mut index = Index::build(models(), 30, listings.clone(), NOW).0;
    let need = Need { proposals: 3, ..need(1, 0, None) };
    let mut matching = Matching::new(&need);
    assert!(!matching.look(&index, 1));
    // one is gone, one is dearer, one is rented
    index.remove(Uuid::from_u128(1)).unwrap();
    index.upsert(&Listing { version: 9, ..machine(2, 2, 1, &[1], 90) }, NOW).unwrap();
    index.upsert(&Listing { gpus_free: 0, ..listings[2].clone() }, NOW).unwrap();
    while !matching.look(&index, 1) {}
    matching.put_together();
    assert!(matching.told(&index).proposals.is_empty());
    // another index is looked at from its beginning
    let mut matching = Matching::new(&need);
    assert!(!matching.look(&index, 1));
    let other = Index::build(models(), 30, listings, NOW).0;
    while !matching.look(&other, 1) {}
    matching.put_together();
    assert_eq!(matching.told(&other), other.matching(&need));
}

#[test]
fn what_costs_more_than_was_asked_for_is_not_looked_at_for_nothing() {
    let listings: Vec<Listing> =
        (1_u32..=300).map(|n| machine(n.into(), n.into(), 1, &[1], n)).collect();
    let dear = |field| with_query(1, vec![Test { field, set: Set::at_most(50_000) }]);
    for field in [Field::Price, Field::Hourly] {
        let few = found(&listings, &Need { judged: 0, ..dear(field) });
        assert_eq!((few.proposals.len(), few.looked_at, few.cut), (5, 64, true));
    }
}

#[test]
fn as_many_are_explained_as_are_asked_for() {
    let listings = [
        // too dear alone, and taken together with the next
        machine(1, 1, 2, &[1, 2], 60),
        machine(2, 1, 1, &[1], 40),
        Listing { open: false, ..machine(3, 3, 1, &[1], 70) },
        Listing { open: false, ..machine(4, 4, 1, &[1], 80) },
    ];
    let found = found(&listings, &Need { explain: 1, ..need(2, 0, Some(110)) });
    assert_eq!(found.proposals[0].parts.len(), 2);
    let explained: Vec<_> =
        found.explained.iter().map(|one| (one.listing.id.as_u128(), one.reasons.clone())).collect();
    assert_eq!(explained, [(3, vec![Reason::Closed])]);
}

#[test]
fn the_cheapest_that_are_refused_are_explained() {
    let listings = [
        Listing { open: false, ram_gb: 16, ..machine(1, 1, 1, &[1], 10) },
        Listing { ram_gb: 16, ..machine(2, 2, 1, &[1], 20) },
        Listing { ram_gb: 512, ..machine(3, 3, 1, &[1], 30) },
        Listing { ram_gb: 512, gpus_free: 0, ..machine(4, 4, 1, &[1], 40) },
    ];
    let wanted = with_query(1, vec![Test { field: Field::Ram, set: Set::at_least(256) }]);
    let explained = |explain| {
        let found = found(&listings, &Need { explain, ..wanted.clone() });
        assert_eq!(found.proposals.len(), 1);
        let explained = found.explained.into_iter();
        explained.map(|one| (one.listing.id.as_u128(), one.reasons)).collect::<Vec<_>>()
    };
    let ram = Reason::Fact(Field::Ram);
    assert_eq!(explained(0), []);
    assert_eq!(explained(1), [(1, vec![ram, Reason::Closed])]);
    let all = [(1, vec![ram, Reason::Closed]), (2, vec![ram]), (4, vec![Reason::Taken])];
    assert_eq!(explained(50), all);
    // one that could not be put together with others
    let alone = [machine(1, 1, 1, &[1], 10)];
    let found = found(&alone, &Need { explain: 5, ..need(2, 0, None) });
    assert_eq!(found.explained[0].reasons, [Reason::GpuCount]);
}

#[test]
fn what_ends_before_a_late_begin_would_let_it_is_refused() {
    let until = |number, after: u32| Listing {
        available_until: Some(NOW + after),
        ..machine(number, number, 1, &[1], 10)
    };
    let listings = [until(1, 4_199), until(2, 4_200)];
    let need = need(1, 0, None);
    let need = Need { query: Query { start_window: 600, ..need.query }, ..need };
    let found = found(&listings, &need);
    assert_eq!(found.proposals[0].parts[0].listing.id.as_u128(), 2);
    assert_eq!(said(&found), [(Reason::EndsTooSoon, 1, 1, Some(1))]);
}

proptest! {
    #[test]
    fn nothing_goes_unsaid(
        machines in proptest::collection::vec((1_u128..4, 0_usize..3, 1_u32..60), 0..10),
        gpus in 1_u16..9,
        disk_gb in prop_oneof![Just(0_u32), 1_u32..900],
        budget in proptest::option::of(1_u64..400),
        split in any::<bool>(),
    ) {
        const SIZES: [(u16, &[u16]); 3] = [(1, &[1]), (2, &[2]), (4, &[1, 2, 4])];
        let listings: Vec<Listing> = (1_u128..)
            .zip(&machines)
            .map(|(number, (provider, size, cents))| {
                let (gpus, chunks) = SIZES[*size];
                machine(number, *provider, gpus, chunks, *cents)
            })
            .collect();
        let found = found(&listings, &Need { split, ..need(gpus, disk_gb, budget) });
        for said in &found.refusals {
            prop_assert!(said.alone <= said.offers && said.offers <= found.looked_at);
            prop_assert_eq!(said.nearest.is_some(), said.alone > 0);
        }
        if found.proposals.is_empty() {
            // each for one reason at least, and no offer twice for the same
            let offers: u64 = found.refusals.iter().map(|said| said.offers).sum();
            prop_assert!(offers >= found.looked_at, "{found:?}");
            let alone: u64 = found.refusals.iter().map(|said| said.alone).sum();
            prop_assert!(alone <= found.looked_at, "{found:?}");
        }
    }
}
