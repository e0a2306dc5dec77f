//! The formula by hand, against floats, and by its properties.
#![allow(clippy::float_arithmetic, clippy::as_conversions, clippy::arithmetic_side_effects)]

use proptest::prelude::*;

use super::*;

fn span(from: u64, to: u64) -> Interval {
    Interval::new(UnixSeconds(from), UnixSeconds(to))
}

/// The textbook's formula, in floats.
fn wilson(good_s: u64, promised_s: u64) -> f64 {
    let n = promised_s as f64 / 3_600.0;
    let p = good_s as f64 / promised_s as f64;
    let z = 1.959_964_f64;
    let middle = p + z * z / (2.0 * n);
    let root = (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((middle - z * root) / (1.0 + z * z / n)).max(0.0)
}

#[test]
fn known_bounds() {
    // one good hour of one is no 100 %; a perfect month nearly is
    for (good, promised, bps) in [
        (0, 0, 0),
        (3_600, 3_600, 2_065),
        (36_000, 36_000, 7_224),
        (36_000, 72_000, 2_992),
        (720 * 3_600, 720 * 3_600, 9_946),
        (0, 3_600_000, 0),
        (u64::MAX, u64::MAX, 9_999),
        (5, 3, lower_bound_bps(3, 3)),
    ] {
        assert_eq!(lower_bound_bps(good, promised), bps, "{good} of {promised}");
    }
}

proptest! {
    #[test]
    fn the_integers_agree_with_floats(promised in 1_u64..1_u64 << 40, share in 0_u64..=10_000) {
        let good = u64::try_from(u128::from(promised) * u128::from(share) / 10_000).unwrap();
        let bps = f64::from(lower_bound_bps(good, promised));
        let exact = wilson(good, promised) * 10_000.0;
        prop_assert!(bps <= exact + 0.01 && exact - bps < 1.01, "{good}/{promised}: {bps}, {exact}");
    }

    #[test]
    fn more_good_time_is_never_worse(promised in 1_u64..1_u64 << 32, a in 0_u64..1 << 32, b in 0_u64..1 << 32) {
        let (a, b) = (a.min(promised), b.min(promised));
        prop_assert!(lower_bound_bps(a.min(b), promised) <= lower_bound_bps(a.max(b), promised));
    }

    /// Second by second and GPU by GPU, as anybody would count.
    #[test]
    fn sums_are_those_of_single_seconds(
        listed in parts(), contact in parts(), maintenance in parts(), rentals in some_rentals(),
        gpus in 1_u32..=8, from in 0_u64..40, length in 0_u64..60,
    ) {
        let window = span(from, from + length);
        let has = |parts: &[Interval], at: u64| parts.iter().any(|part| part.from.0 <= at && at < part.to.0);
        let history =
            History { gpus, listed, contact, maintenance, rentals, ..History::default() };
        let shown = compute(&history, window);
        let (mut idle, mut silent, mut rented, mut uncovered) = (0, 0, 0, 0);
        for at in from..from + length {
            let mut free = u64::from(gpus);
            for rental in history.rentals.iter().filter(|rental| has(&rental.promised, at)) {
                let share = u64::from(rental.gpus);
                free = free.saturating_sub(share);
                rented += share;
                uncovered += if has(&rental.covered, at) { 0 } else { share };
            }
            if has(&history.listed, at) && !has(&history.maintenance, at) {
                idle += free;
                silent += if has(&history.contact, at) { 0 } else { free };
            }
        }
        let of_machine = |gpu_s: u64| gpu_s.div_ceil(u64::from(gpus));
        prop_assert_eq!(shown.rented_s, of_machine(rented));
        prop_assert_eq!(shown.idle_s + shown.rented_s, of_machine(idle + rented));
        prop_assert_eq!(shown.idle_good_s, shown.idle_s.saturating_sub(of_machine(silent)));
        prop_assert_eq!(shown.rented_good_s, shown.rented_s - of_machine(uncovered));
        prop_assert_eq!(shown.promised_s, shown.idle_s + 2 * shown.rented_s);
        prop_assert_eq!(shown.good_s, shown.idle_good_s + 2 * shown.rented_good_s);
    }

    /// Of a machine that misses nothing, however much of it is listed or in maintenance.
    #[test]
    fn renting_more_of_it_is_never_worse(
        listed in parts(), maintenance in parts(), rentals in some_rentals(), share in 1_u32..=8, more in parts(),
        gpus in 1_u32..=8, from in 0_u64..40, length in 0_u64..60,
    ) {
        let window = span(from, from + length);
        let perfect = |rental: RentedTime| RentedTime { covered: rental.promised.clone(), ..rental };
        let rentals: Vec<RentedTime> = rentals.into_iter().map(perfect).collect();
        let contact = vec![window];
        let mut history = History { gpus, listed, contact, maintenance, rentals, ..History::default() };
        let before = compute(&history, window);
        history.rentals.push(perfect(RentedTime { gpus: share, promised: more, covered: vec![] }));
        let after = compute(&history, window);
        prop_assert_eq!((before.good_s, after.good_s), (before.promised_s, after.promised_s));
        prop_assert!(before.promised_s <= after.promised_s, "{before:?}, {after:?}");
        prop_assert!(before.score_bps <= after.score_bps, "{before:?}, {after:?}");
    }
}

/// Eight GPUs, listed for 30 days: how many are rented all the time, hours promised, and the score.
#[test]
fn a_machine_that_is_rented_in_part_has_shown_more_than_an_idle_one() {
    const HOUR: u64 = 3_600;
    let month = span(0, 720 * HOUR);
    let with = |rented: u32, contact: Vec<Interval>| {
        let time = RentedTime { gpus: rented, promised: vec![month], covered: vec![month] };
        let rentals = if rented == 0 { vec![] } else { vec![time] };
        let listed = vec![month];
        compute(&History { gpus: 8, listed, contact, rentals, ..History::default() }, month)
    };
    for (rented, hours, bps) in
        [(0, 720, 9_946), (1, 810, 9_952), (4, 1_080, 9_964), (8, 1_440, 9_973)]
    {
        let shown = with(rented, vec![month]);
        assert_eq!((shown.promised_s, shown.good_s), (hours * HOUR, hours * HOUR), "{rented}");
        assert_eq!(shown.score_bps, bps, "{rented}");
    }
    // the silence of the seven that are idle counts: 180 good hours of 810
    let silent = with(1, vec![]);
    assert_eq!((silent.idle_s, silent.idle_good_s), (630 * HOUR, 0));
    assert_eq!((silent.rented_s, silent.rented_good_s), (90 * HOUR, 90 * HOUR));
    assert_eq!(silent.score_bps, 1_949);
    // a third of a machine: what was promised is rounded up, and so is what of it is missing
    let time = RentedTime { gpus: 1, promised: vec![span(0, 100)], covered: vec![span(0, 98)] };
    let (listed, contact) = (vec![span(0, 200)], vec![span(0, 200)]);
    let third = History { gpus: 3, listed, contact, rentals: vec![time], ..History::default() };
    let shown = compute(&third, span(0, 200));
    assert_eq!((shown.rented_s, shown.rented_good_s), (34, 33));
    assert_eq!((shown.idle_s, shown.idle_good_s), (166, 166));
}

fn parts() -> impl Strategy<Value = Vec<Interval>> {
    proptest::collection::vec((0_u64..100, 0_u64..30), 0..6)
        .prop_map(|parts| parts.into_iter().map(|(from, long)| span(from, from + long)).collect())
}

fn some_rentals() -> impl Strategy<Value = Vec<RentedTime>> {
    let rental = (1_u32..=4, parts(), parts());
    let rental =
        rental.prop_map(|(gpus, promised, covered)| RentedTime { gpus, promised, covered });
    proptest::collection::vec(rental, 0..4)
}

#[test]
fn starts_interruptions_and_disputes_count_by_their_time() {
    let start = |at, ready_ms| Start { at: UnixSeconds(at), ready_ms };
    let history = History {
        starts: vec![
            start(99, Some(1)),
            start(100, Some(9_000)),
            start(150, None),
            start(160, Some(4_000)),
            start(200, Some(1)),
        ],
        interruptions: vec![UnixSeconds(99), UnixSeconds(100), UnixSeconds(199)],
        disputes_lost: vec![UnixSeconds(150)],
        ..History::default()
    };
    let shown = compute(&history, span(100, 200));
    assert_eq!((shown.starts, shown.starts_ok), (3, 2));
    assert_eq!((shown.ready_p50_ms, shown.ready_p95_ms), (Some(4_000), Some(9_000)));
    assert_eq!((shown.interruptions, shown.disputes_lost), (2, 1));
    assert_eq!(shown.score_bps, 0);
}
