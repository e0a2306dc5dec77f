#![allow(clippy::arithmetic_side_effects)]

use alloy_primitives::B256;
use proptest::prelude::*;

use super::*;

fn span(from: u64, to: u64) -> Interval {
    Interval::new(UnixSeconds(from), UnixSeconds(to))
}

#[test]
fn what_evidence_covers_is_billed_and_the_rest_is_credited() {
    let evidence = [span(150, 180), span(90, 120), span(110, 130), span(140, 140), span(190, 300)];
    let metered = meter(span(100, 200), &evidence, Seconds::MAX);
    assert_eq!((metered.elapsed, metered.billed), (Seconds(100), Seconds(70)));
    assert_eq!(metered.credit, Seconds(30));
    assert_eq!(metered.outages, [span(130, 150), span(180, 190)]);
}

#[test]
fn time_past_the_deposit_does_not_count() {
    let metered = meter(span(100, 200), &[span(0, 1_000)], Seconds(60));
    assert_eq!(
        (metered.elapsed, metered.billed, metered.credit),
        (Seconds(60), Seconds(60), Seconds::ZERO)
    );
    assert!(metered.outages.is_empty());
}

#[test]
fn the_first_second_is_always_billed() {
    for (window, evidence) in
        [(span(100, 200), vec![]), (span(100, 100), vec![]), (span(100, 50), vec![span(0, 9)])]
    {
        for auto_stop in [Seconds::ZERO, Seconds(50), Seconds::MAX] {
            let metered = meter(window, &evidence, auto_stop);
            assert_eq!(metered.billed, Seconds::ONE);
            assert!(metered.elapsed >= Seconds::ONE);
        }
    }
}

#[test]
fn a_late_close_bills_the_same_seconds() {
    let metered = meter(span(100, 200), &[span(100, 170)], Seconds::MAX);
    let started = UnixSeconds(100);
    let call = metered.close_call(started, UnixSeconds(0), Seconds::MAX).unwrap();
    assert_eq!(call, CloseCall { stopped_at: UnixSeconds(200), credit: Seconds(30) });
    let late = metered.close_call(started, UnixSeconds(5_000), Seconds::MAX).unwrap();
    assert_eq!(late, CloseCall { stopped_at: UnixSeconds(5_000), credit: Seconds(4_830) });
    // what the deposit does not pay for is not billed anyway
    let late = metered.close_call(started, UnixSeconds(5_000), Seconds(100)).unwrap();
    assert_eq!(late, CloseCall { stopped_at: UnixSeconds(5_000), credit: Seconds(30) });
}

/// Readings from second 100 on, with gaps of so many seconds before each.
fn chain(gaps: &[u64], length: u64) -> (Vec<Interval>, Coverage) {
    let (mut parts, mut at) = (Vec::new(), 100);
    for gap in gaps {
        parts.push(span(at + gap, at + gap + length));
        at += gap + length;
    }
    let (from, to) = (parts.first().unwrap().from, parts.last().unwrap().to);
    let covered: u32 = parts.iter().map(|part| part.seconds().get()).sum();
    (parts, Coverage { span: Interval::new(from, to), covered: Seconds(covered) })
}

#[test]
fn sums_tell_what_is_billed_though_an_agents_clock_is_ahead() {
    let (parts, sums) = chain(&[0, 0, 7, 0, 2, 0], 10);
    let end = sums.span.to.get();
    for ahead in 0..=3 {
        let window = span(100, end - ahead);
        let looked_up = meter(window, &parts, Seconds::MAX).billed;
        assert_eq!(sums.within(window), Some(looked_up), "{ahead} s ahead");
    }
    assert_eq!(sums.within(span(100, end + 50)), Some(Seconds(60)));
    // the readings have to be looked at
    assert_eq!(sums.within(span(100, end - 4)), None);
    assert_eq!(sums.within(span(101, end)), None);
    // where there is a gap ahead of us it is too little, never too much
    let (parts, sums) = chain(&[0, 1, 1, 1], 1);
    for (to, covered, told) in [(104, 2, 1), (105, 3, 2), (106, 3, 3), (107, 4, 4)] {
        let window = span(100, to);
        assert_eq!(meter(window, &parts, Seconds::MAX).billed, Seconds(covered));
        assert_eq!(sums.within(window), Some(Seconds(told)));
    }
}

const RULES: ReadingRules =
    ReadingRules { max_span: Seconds(60), max_lag: Seconds(300), max_skew: Seconds(5) };

fn head() -> ReadingHead {
    ReadingHead { seq: 7, to: UnixSeconds(1_000), hash: B256::repeat_byte(7) }
}

fn next() -> ReadingClaim {
    ReadingClaim {
        seq: 8,
        from: UnixSeconds(1_000),
        to: UnixSeconds(1_030),
        prev_hash: B256::repeat_byte(7),
    }
}

#[test]
fn a_reading_continues_the_chain() {
    let now = UnixSeconds(1_030);
    assert_eq!(check_reading(Some(&head()), &next(), now, &RULES), Ok(()));
    let first = ReadingClaim { seq: 1, prev_hash: B256::ZERO, ..next() };
    assert_eq!(check_reading(None, &first, now, &RULES), Ok(()));
}

#[test]
fn each_fault_of_a_reading_has_its_name() {
    let check = |claim| check_reading(Some(&head()), &claim, UnixSeconds(1_030), &RULES);
    let at = |from, to| ReadingClaim { from: UnixSeconds(from), to: UnixSeconds(to), ..next() };
    assert_eq!(check(ReadingClaim { seq: 7, ..next() }), Err(ReadingError::Duplicate));
    assert_eq!(check(ReadingClaim { seq: 0, ..next() }), Err(ReadingError::Duplicate));
    assert_eq!(
        check(ReadingClaim { seq: 9, ..next() }),
        Err(ReadingError::Gap { expected_seq: 8 })
    );
    let broken = ReadingClaim { prev_hash: B256::ZERO, ..next() };
    assert_eq!(check(broken), Err(ReadingError::BrokenChain));
    assert_eq!(check(at(1_010, 1_010)), Err(ReadingError::EmptyInterval));
    assert_eq!(
        check(at(999, 1_030)),
        Err(ReadingError::Overlaps { not_before: UnixSeconds(1_000) })
    );
    assert_eq!(
        check(at(1_000, 1_061)),
        Err(ReadingError::TooLong { span: Seconds(61), max_span: Seconds(60) })
    );
    assert_eq!(
        check(at(1_000, 1_036)),
        Err(ReadingError::FromFuture { not_after: UnixSeconds(1_035) })
    );
    assert_eq!(check(at(1_000, 1_035)), Ok(()));
    let late = check_reading(Some(&head()), &next(), UnixSeconds(1_301), &RULES);
    assert_eq!(late, Err(ReadingError::TooLate { not_before: UnixSeconds(1_001) }));
    assert_eq!(check_reading(Some(&head()), &next(), UnixSeconds(1_300), &RULES), Ok(()));
}

#[test]
fn the_first_reading_is_number_one_with_no_hash_before_it() {
    let check = |claim| check_reading(None, &claim, UnixSeconds(1_030), &RULES);
    assert_eq!(check(next()), Err(ReadingError::Gap { expected_seq: 1 }));
    assert_eq!(check(ReadingClaim { seq: 1, ..next() }), Err(ReadingError::BrokenChain));
    assert_eq!(check(ReadingClaim { seq: 0, ..next() }), Err(ReadingError::Duplicate));
}

fn spans() -> impl Strategy<Value = Vec<Interval>> {
    let one = (0_u64..400, 0_u64..60).prop_map(|(from, length)| span(from, from + length));
    prop::collection::vec(one, 0..12)
}

proptest! {
    #[test]
    fn metering_agrees_with_counting(
        window in (50_u64..200, 0_u64..200).prop_map(|(from, length)| span(from, from + length)),
        evidence in spans(),
        auto_stop in 0_u32..250,
    ) {
        let metered = meter(window, &evidence, Seconds(auto_stop));
        let counted = window.from.get()..window.from.get() + u64::from(metered.elapsed.get());
        let covered = |second: &u64| {
            evidence.iter().any(|part| part.from.get() <= *second && *second < part.to.get())
        };
        // Only seconds of the window are evidence, even when its one counted second is made up.
        let good = counted.clone().filter(|s| *s < window.to.get() && covered(s)).count();
        prop_assert_eq!(usize::try_from(metered.billed.get()).unwrap(), good.max(1));

        prop_assert!(metered.elapsed <= window.seconds().min(Seconds(auto_stop)).max(Seconds::ONE));
        prop_assert_eq!(metered.billed.get() + metered.credit.get(), metered.elapsed.get());
        let missing: u32 = metered.outages.iter().map(|outage| outage.seconds().get()).sum();
        prop_assert_eq!(missing, metered.credit.get());
        for outage in &metered.outages {
            prop_assert!(!outage.is_empty());
            prop_assert!(outage.from.get() >= counted.start && outage.to.get() <= counted.end);
        }
        for pair in metered.outages.windows(2) {
            prop_assert!(pair[0].to < pair[1].from);
        }
    }

    #[test]
    fn order_and_cuts_of_evidence_do_not_matter(evidence in spans(), at in 0_usize..12) {
        let window = span(100, 300);
        let metered = meter(window, &evidence, Seconds::MAX);
        let mut other: Vec<Interval> = evidence.iter().rev().copied().collect();
        if let Some(part) = other.get(at).copied().filter(|part| part.seconds() > Seconds::ONE) {
            let middle = UnixSeconds(part.from.get() + 1);
            other.push(Interval::new(part.from, middle));
            other[at] = Interval::new(middle, part.to);
        }
        prop_assert_eq!(meter(window, &other, Seconds::MAX), metered);
    }

    #[test]
    fn what_the_contract_is_told_bills_what_was_metered(
        evidence in spans(),
        earliest in 0_u64..1_000,
        auto_stop in 0_u32..400,
    ) {
        let (window, auto_stop) = (span(100, 300), Seconds(auto_stop));
        let metered = meter(window, &evidence, auto_stop);
        let call = metered.close_call(window.from, UnixSeconds(earliest), auto_stop).unwrap();
        prop_assert!(call.stopped_at.get() >= earliest);
        // as the contract's Split has it: no more than is funded, at least 1, less the credit
        let clock = call.stopped_at.since(window.from).unwrap().min(auto_stop).max(Seconds::ONE);
        prop_assert_eq!(clock.get() - call.credit.get(), metered.billed.get());
    }
}
