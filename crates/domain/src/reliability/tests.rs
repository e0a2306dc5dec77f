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

    /// Second by second, as anybody would count.
    #[test]
    fn sums_are_those_of_single_seconds(
        listed in parts(), contact in parts(), maintenance in parts(), promised in parts(), covered in parts(),
        other in parts(), share in 1_u32..=4, from in 0_u64..40, length in 0_u64..60,
    ) {
        let window = span(from, from + length);
        let has = |parts: &[Interval], at: u64| parts.iter().any(|part| part.from.0 <= at && at < part.to.0);
        let seconds = |holds: &dyn Fn(u64) -> bool| (from..from + length).filter(|at| holds(*at)).count() as u64;
        let history = History {
            gpus: 4, listed, contact, maintenance,
            rentals: vec![
                RentedTime { gpus: 4, promised: promised.clone(), covered: covered.clone() },
                RentedTime { gpus: share, promised: other.clone(), covered: vec![] },
            ],
            ..History::default()
        };
        let shown = compute(&history, window);
        let idle = |at| has(&history.listed, at) && !has(&promised, at) && !has(&other, at)
            && !has(&history.maintenance, at);
        prop_assert_eq!(shown.idle_s, seconds(&idle));
        prop_assert_eq!(shown.idle_good_s, seconds(&|at| idle(at) && has(&history.contact, at)));
        let other_s = (seconds(&|at| has(&other, at)) * u64::from(share)).div_ceil(4);
        prop_assert_eq!(shown.rented_s, seconds(&|at| has(&promised, at)) + other_s);
        prop_assert_eq!(shown.rented_good_s, seconds(&|at| has(&promised, at) && has(&covered, at)));
        prop_assert_eq!(shown.promised_s, shown.idle_s + 2 * shown.rented_s);
        prop_assert_eq!(shown.good_s, shown.idle_good_s + 2 * shown.rented_good_s);
    }
}

fn parts() -> impl Strategy<Value = Vec<Interval>> {
    proptest::collection::vec((0_u64..100, 0_u64..30), 0..6)
        .prop_map(|parts| parts.into_iter().map(|(from, long)| span(from, from + long)).collect())
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
