//! What was asked for is found, or it is said why not.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test"
)]

use market::{
    Form, GpuModel, Index, Isolation, Job, Listing, Query, Vendor, Verification,
    generate::Generator,
    plan::{Match, Need, Reason},
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
        gflops: None,
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
    Need { query, gpus, budget: cents.map(|cents| cents * 10_000), split: true, proposals: 20 }
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
