//! The index at a million offers: how long it takes to build, what it weighs, and what searches cost. Run with
//! `cargo test -p market --release --test figures -- --nocapture`; unoptimised it checks a smaller market for its size.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a test"
)]

use std::time::Instant;

use market::{
    Field, Form, GpuModel, Index, Job, Names, Query, Set, Sort, Test, Vendor, generate::Generator,
};

const NOW: u32 = 1_800_000_000;

fn model(slug: &str, vram_gb: u32, form: Form, gflops: u32) -> GpuModel {
    GpuModel {
        slug: slug.to_owned(),
        name: slug.to_owned(),
        aliases: Vec::new(),
        vram_gb,
        vendor: Vendor::Nvidia,
        form,
        compute_capability: Some(86),
        fp32_gflops: Some(gflops),
    }
}

fn models() -> Vec<GpuModel> {
    vec![
        model("rtx-3090", 24, Form::Pcie, 71_000),
        model("rtx-4090", 24, Form::Pcie, 165_000),
        model("rtx-5090", 32, Form::Pcie, 210_000),
        model("rtx-a6000", 48, Form::Pcie, 155_000),
        model("v100-16gb", 16, Form::Sxm, 125_000),
        model("t4", 16, Form::Pcie, 65_000),
        model("l4", 24, Form::Pcie, 121_000),
        model("a10g", 24, Form::Pcie, 125_000),
        model("a100-40gb", 40, Form::Sxm, 312_000),
        model("a100-80gb-pcie", 80, Form::Pcie, 312_000),
        model("a100-80gb-sxm", 80, Form::Sxm, 312_000),
        model("h100-pcie", 80, Form::Pcie, 756_000),
        model("h100-sxm", 80, Form::Sxm, 989_000),
        model("h200-sxm", 141, Form::Sxm, 989_000),
    ]
}

fn test(field: Field, set: Set) -> Test {
    Test { field, set }
}

fn names(names: &[&str]) -> Names {
    Names { names: names.iter().map(|name| (*name).to_owned()).collect(), not: false }
}

/// Eight filters.
fn typical() -> Query {
    Query {
        tests: vec![
            test(Field::GpuCount, Set::Span(2, 2)),
            test(Field::Ram, Set::at_least(64)),
            test(Field::CpuCores, Set::at_least(16)),
            test(Field::Up, Set::at_least(100)),
            test(Field::Reliability, Set::at_least(9_500)),
            test(Field::Tier, Set::OneOf(vec![1, 2])),
        ],
        models: vec![names(&["rtx-4090", "rtx-5090", "rtx-a6000"])],
        places: vec![names(&["de", "se", "nl", "fr"])],
        available: true,
        limit: 50,
        now: NOW,
        ..Query::default()
    }
}

/// Eight filters, each of which some offer satisfies, and no offer all.
fn worst() -> Query {
    Query {
        tests: vec![
            test(Field::GpuCount, Set::Span(8, 8)),
            test(Field::Ram, Set::at_least(1_900)),
            test(Field::CpuCores, Set::at_least(180)),
            test(Field::Up, Set::at_least(9_500)),
            test(Field::Reliability, Set::at_least(9_990)),
            test(Field::Pcie, Set::at_least(26_000)),
            test(Field::Ready, Set::at_most(4_200)),
        ],
        places: vec![names(&["is", "za"])],
        available: true,
        limit: 50,
        now: NOW,
        ..Query::default()
    }
}

/// How long this thread was on a processor: others on the machine do not count.
fn on_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|text| text.parse::<f64>().ok());
    nanos.unwrap_or_default() / 1e9
}

fn micros(times: u32, mut work: impl FnMut()) -> (f64, f64) {
    let mut taken: Vec<f64> = (0..times)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    (taken[taken.len() / 2], taken[taken.len() * 99 / 100])
}

#[test]
fn an_offer_weighs_at_most_200_bytes_and_an_index_is_soon_built() {
    let sizes: &[u32] =
        if cfg!(debug_assertions) { &[20_000] } else { &[1_000, 10_000, 100_000, 1_000_000] };
    for size in sizes {
        let listings: Vec<_> = Generator::new(&models(), 1, *size, NOW).collect();
        let (began, before) = (Instant::now(), on_cpu());
        let (index, refused) = Index::build(models(), 30, listings, NOW);
        let (built, cpu) = (began.elapsed(), on_cpu() - before);
        assert!(refused.is_empty());
        assert_eq!(index.len(), *size as usize);
        let memory = index.memory();
        let each = memory.total() as f64 / f64::from(*size);
        println!(
            "{size}: built in {built:?} ({cpu:.3} s of CPU), {each:.1} bytes per offer, {memory:?}"
        );
        if *size >= 20_000 {
            assert!(each <= 200.0, "{each}");
        }
        // what nobody counted is no little time
        assert!(cpu > 0.0 && cpu < 1.0, "{size} took {cpu} s");
        let hits = index.search(&typical()).found.len();
        let (p50, p99) = micros(2_000, || drop(std::hint::black_box(index.search(&typical()))));
        println!("  typical: {hits} found, p50 {p50:.1} us, p99 {p99:.1} us");
        let hits = index.search(&worst()).found.len();
        let (p50, p99) = micros(300, || drop(std::hint::black_box(index.search(&worst()))));
        println!("  unsatisfiable: {hits} found, p50 {p50:.1} us, p99 {p99:.1} us");
        for (name, sort) in [
            ("total", Sort::Total),
            ("perf_per_usd", Sort::PerfPerUsd),
            ("reliability", Sort::Reliability),
            ("ready", Sort::Ready),
            ("-created", Sort::Newest),
        ] {
            let job = Some(Job { duration_s: 7_200, disk_gb: 50, up_gb: 10, down_gb: 0 });
            for (kind, query) in [
                ("typical", typical()),
                ("all", Query { available: true, limit: 50, now: NOW, ..Query::default() }),
            ] {
                let query = Query { sort, job, ..query };
                let (p50, p99) = micros(100, || drop(std::hint::black_box(index.search(&query))));
                println!("  {name}, {kind}: p50 {p50:.1} us, p99 {p99:.1} us");
            }
        }
    }
}
