//! How often all ways to put machines together are tried.

use uuid::Uuid;

use super::{MAX_JUDGED, MAX_PROPOSALS, Match, Matching, Need, Reason, combine::TRIED};
use crate::{
    Form, GpuModel, Index, Isolation, Job, Listing, Query, Vendor, Verification,
    generate::Generator,
};

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

/// Two machines of four GPUs at 30 cents, rented whole or in pairs, a fourth of their 400 GB for each GPU.
fn pairs() -> Vec<Listing> {
    let machine = |number: u128| Listing {
        id: Uuid::from_u128(number),
        machine: Uuid::from_u128(number),
        provider: Uuid::from_u128(1),
        region: "de-fra".to_owned(),
        gpu_count: 4,
        chunks: vec![2, 4],
        gpus_free: 4,
        gpus_in_machine: 4,
        price_micros: 300_000,
        reserved: Vec::new(),
        disk_price_micros: 0,
        disk_gb: 400,
        up_price_micros: 0,
        down_price_micros: 0,
        min_duration_s: 60,
        max_duration_s: 86_400,
        isolation: Isolation::Gpu,
        available_until: None,
        verification: Verification::Verified,
        open: true,
        heard_at: NOW,
        ..Generator::new(&[model()], 1, 1, NOW).next().unwrap()
    };
    vec![machine(1), machine(2)]
}

/// What came of it, and how often all ways were tried for it.
fn tried(gpus: u16, disk_gb: u32, cents: Option<u64>) -> (Match, u32) {
    let job = Job { duration_s: 3_600, disk_gb, up_gb: 0, down_gb: 0 };
    let query = Query { job: Some(job), now: NOW, ..Query::default() };
    let budget = cents.map(|cents| cents.saturating_mul(10_000));
    let (proposals, judged) = (MAX_PROPOSALS, MAX_JUDGED);
    let need = Need { query, gpus, budget, split: true, proposals, explain: 0, judged };
    let index = Index::build(vec![model()], 30, pairs(), NOW).0;
    TRIED.with(|tried| tried.set(0));
    let found = index.matching(&need);
    (found, TRIED.with(std::cell::Cell::get))
}

#[test]
fn all_ways_are_tried_only_where_one_might_do() {
    for (gpus, disk_gb, cents, times, reason) in [
        // eight are all there are
        (8, 0, None, 1, None),
        (9, 0, None, 0, Some(Reason::GpuCount)),
        (9, 100, None, 0, Some(Reason::GpuCount)),
        (512, 0, None, 0, Some(Reason::GpuCount)),
        // no disk is asked for: without it there is no other way
        (7, 0, None, 1, Some(Reason::GpuCount)),
        (7, 100, None, 2, Some(Reason::GpuCount)),
        (6, 300, None, 2, Some(Reason::Disk)),
        // seven are 2.10 at the least
        (7, 0, Some(208), 0, Some(Reason::Budget)),
        (7, 0, Some(210), 1, Some(Reason::GpuCount)),
        (6, 0, Some(180), 1, None),
    ] {
        let (found, tried) = tried(gpus, disk_gb, cents);
        assert_eq!(tried, times, "{gpus} GPUs, {disk_gb} GB, {cents:?}");
        let said: Vec<Reason> = found.refusals.iter().map(|said| said.reason).collect();
        assert_eq!(said, Vec::from_iter(reason), "{gpus} GPUs, {disk_gb} GB, {cents:?}");
        assert_eq!(found.proposals.is_empty(), reason.is_some());
    }
}

/// Machines of one provider each, with one GPU.
fn singles(of: u128) -> Vec<Listing> {
    let single = pairs().remove(0);
    let single = |number| Listing {
        id: Uuid::from_u128(number),
        machine: Uuid::from_u128(number),
        provider: Uuid::from_u128(number),
        gpu_count: 1,
        gpus_free: 1,
        gpus_in_machine: 1,
        chunks: vec![1],
        ..single.clone()
    };
    (1..=of).map(single).collect()
}

#[test]
fn what_can_be_no_part_is_kept_nowhere_and_what_is_alone_takes_the_room_of_one() {
    let index = Index::build(vec![model()], 30, singles(100), NOW).0;
    for (gpus, groups) in [(1, 0), (8, 100)] {
        let job = Job { duration_s: 3_600, disk_gb: 0, up_gb: 0, down_gb: 0 };
        let query = Query { job: Some(job), now: NOW, ..Query::default() };
        let (proposals, judged) = (MAX_PROPOSALS, MAX_JUDGED);
        let need = Need { query, gpus, budget: None, split: true, proposals, explain: 0, judged };
        let mut matching = Matching::new(&need);
        assert!(matching.look(&index, 1_000));
        assert_eq!(matching.gathered.looked_at, 100);
        let kept = &matching.gathered.groups;
        assert_eq!(kept.len(), groups, "{gpus}");
        assert!(kept.values().all(|group| group.machines.capacity() == 1));
        matching.put_together();
        assert_eq!(matching.told(&index).proposals.is_empty(), gpus > 1);
    }
}

/// What is proposed is booked at once, all or none: of no more machines than can be.
#[test]
fn no_more_machines_are_put_together_than_are_booked_at_once() {
    let of_one = |mut listing: Listing| {
        listing.provider = Uuid::from_u128(1);
        listing
    };
    let mut listings: Vec<Listing> = singles(70).into_iter().map(of_one).collect();
    let proposed = |listings: &[Listing], gpus: u16| {
        let job = Job { duration_s: 3_600, disk_gb: 0, up_gb: 0, down_gb: 0 };
        let query = Query { job: Some(job), now: NOW, ..Query::default() };
        let (proposals, judged) = (1, MAX_JUDGED);
        let need = Need { query, gpus, budget: None, split: true, proposals, explain: 0, judged };
        let found = Index::build(vec![model()], 30, listings.to_vec(), NOW).0.matching(&need);
        let parts = found.proposals.first().map_or(0, |proposal| proposal.parts.len());
        (parts, found.proposals.first().map(|proposal| proposal.total))
    };
    assert_eq!(proposed(&listings, 8), (8, Some(8 * 300_000)));
    assert_eq!(proposed(&listings, 9), (0, None));
    // two larger ones that are dearer find room beside them all
    let large = |number: u128| Listing {
        id: Uuid::from_u128(number),
        machine: Uuid::from_u128(number),
        provider: Uuid::from_u128(1),
        gpu_count: 8,
        gpus_free: 8,
        gpus_in_machine: 8,
        chunks: vec![8],
        price_micros: 350_000,
        ..pairs().remove(0)
    };
    listings.extend([large(101), large(102)]);
    assert_eq!(proposed(&listings, 16), (2, Some(16 * 350_000)));
    assert_eq!(proposed(&listings, 15), (8, Some(8 * 350_000 + 7 * 300_000)));
    assert_eq!(proposed(&listings, 17), (3, Some(16 * 350_000 + 300_000)));
}
