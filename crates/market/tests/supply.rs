//! Supply is what a plain count over the listings comes to.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;

use market::{Counting, Form, GpuModel, Index, Listing, Vendor, generate::Generator};

const NOW: u32 = 1_800_000_000;

fn models() -> Vec<GpuModel> {
    let model = |slug: &str| GpuModel {
        slug: slug.to_owned(),
        name: slug.to_owned(),
        aliases: Vec::new(),
        vram_gb: 24,
        vendor: Vendor::Nvidia,
        form: Form::Pcie,
        compute_capability: None,
        fp32_gflops: None,
    };
    ["rtx-4090", "l4", "t4"].map(model).to_vec()
}

#[test]
fn supply_is_a_count_over_all_that_is_listed() {
    let mut listings: Vec<Listing> = Generator::new(&models(), 3, 2_000, NOW).collect();
    // at its end, taken off, and one that is gone
    listings[0].available_until = Some(NOW);
    listings[1].open = false;
    // an offer of a part of the machine, all of which is rented
    let part = Listing {
        gpu_count: 2,
        chunks: vec![2],
        gpus_in_machine: 8,
        gpus_free: 0,
        ..listings[2].clone()
    };
    listings[2] = part;
    let (mut index, refused) = Index::build(models(), 30, listings.clone(), NOW);
    assert!(refused.is_empty());
    index.remove(listings[3].id);
    listings.remove(3);
    let mut counted: BTreeMap<(String, &str, String), [u64; 3]> = BTreeMap::new();
    for listing in &listings {
        if !listing.open || listing.available_until.is_some_and(|until| until <= NOW) {
            continue;
        }
        let country = listing.region.split('-').next().unwrap().to_owned();
        let tier = listing.tier().as_str();
        let [listed, online, rented] =
            counted.entry((listing.model.clone(), tier, country)).or_default();
        let held = listing.gpus_in_machine - listing.gpus_free;
        *listed += u64::from(listing.gpu_count);
        *online += if listing.heard_at + 30 >= NOW { u64::from(listing.gpu_count) } else { 0 };
        *rented += u64::from(held.min(listing.gpu_count));
    }
    let found: Vec<_> = index
        .supply(NOW)
        .into_iter()
        .map(|row| {
            let count = row.count;
            let place = (row.model, row.tier.as_str(), row.country);
            (place, [count.listed, count.online, count.rented])
        })
        .collect();
    assert!(found.len() > 50 && found.iter().any(|(_, [.., rented])| *rented > 0));
    assert_eq!(found, counted.into_iter().collect::<Vec<_>>());
    // piece by piece, while the last piece grows
    let mut counting = Counting::default();
    let mut more = Generator::new(&models(), 4, 9_000, NOW);
    let mut steps = 0;
    while index.count_on(&mut counting, NOW) {
        steps += 1;
        for listing in more.by_ref().take(5_000 * usize::from(steps == 1)) {
            index.upsert(&listing, NOW).unwrap();
        }
    }
    let sum = |rows: &[market::Supply]| rows.iter().map(|row| row.count.listed).sum::<u64>();
    let (found, now) = (index.counted(counting), index.supply(NOW));
    assert!(steps >= 2 && found.len() <= now.len() && sum(&found) < sum(&now), "{steps}");
    // a minute later nobody of them was heard of
    assert!(index.supply(NOW + 60).iter().all(|row| row.count.online == 0));
}
