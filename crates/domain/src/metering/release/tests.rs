use super::*;

const STARTED: UnixSeconds = UnixSeconds(1_000_000);
const FUNDED: UnixSeconds = UnixSeconds(9_000_000);
const HOUR: Seconds = Seconds(3_600);
const DAY: Seconds = Seconds(86_400);

fn at(seconds: u32) -> UnixSeconds {
    STARTED.saturating_plus(Seconds(seconds))
}

/// Covered from second `from` to second `to` but for `gone` seconds.
fn ask(now: u32, from: u32, to: u32, gone: u32) -> ReleaseAnswer {
    let span = Interval::new(at(from), at(to));
    let coverage = Coverage { span, covered: span.seconds().saturating_sub(Seconds(gone)) };
    may_release(STARTED, at(now), FUNDED, HOUR, Some(&coverage))
}

#[test]
fn half_the_holdback_may_be_missing_and_no_second_more() {
    let yes = ReleaseAnswer::Now { until: at(10_900) };
    assert_eq!(ask(10_000, 0, 10_000, 0), yes);
    assert_eq!(ask(10_000, 0, 8_200, 0), yes);
    assert_eq!(ask(10_000, 0, 8_199, 0), ReleaseAnswer::NotYet);
    assert_eq!(ask(10_000, 0, 10_000, 1_800), yes);
    assert_eq!(ask(10_000, 0, 10_000, 1_801), ReleaseAnswer::Never);
    assert_eq!(ask(10_000, 0, 9_999, 1_800), ReleaseAnswer::NotYet);
    assert_eq!(ask(10_000, 1_801, 10_000, 0), ReleaseAnswer::Never);
}

#[test]
fn what_is_younger_than_the_holdback_waits() {
    assert_eq!(ask(3_600, 0, 3_600, 0), ReleaseAnswer::NotYet);
    assert_eq!(ask(3_601, 0, 3_601, 0), ReleaseAnswer::Now { until: at(4_501) });
    assert_eq!(may_release(STARTED, at(5_000), FUNDED, HOUR, None), ReleaseAnswer::NotYet);
    for holdback in [0, 1, 3] {
        let answer = may_release(STARTED, at(5_000), FUNDED, Seconds(holdback), None);
        assert_eq!(answer, ReleaseAnswer::Never);
    }
}

#[test]
fn evidence_outside_of_the_time_that_counts_covers_nothing() {
    let ask = |now: u32, from: UnixSeconds, to: UnixSeconds, covered: u32, funded: UnixSeconds| {
        let coverage = Coverage { span: Interval::new(from, to), covered: Seconds(covered) };
        may_release(STARTED, at(now), funded, HOUR, Some(&coverage))
    };
    // before the start, which moved
    let early = STARTED.saturating_minus(Seconds(4_000));
    assert_eq!(ask(10_000, early, at(10_000), 12_199, FUNDED), ReleaseAnswer::Never);
    assert_eq!(
        ask(10_000, early, at(10_000), 12_200, FUNDED),
        ReleaseAnswer::Now { until: at(10_900) }
    );
    // ahead of us
    assert_eq!(ask(10_000, STARTED, at(10_005), 8_204, FUNDED), ReleaseAnswer::Never);
    // past what is paid for
    assert_eq!(ask(10_000, STARTED, at(10_000), 10_000, at(8_199)), ReleaseAnswer::NotYet);
    assert_eq!(
        ask(10_000, STARTED, at(10_000), 10_000, at(8_200)),
        ReleaseAnswer::Now { until: at(10_900) }
    );
}

#[test]
fn releases_come_a_whole_number_of_intervals_after_the_start_on_the_hour() {
    let next = |now: u32| next_release(STARTED, at(now), FUNDED, HOUR, DAY).unwrap().get();
    let first = next(0);
    assert!(first.is_multiple_of(3_600) && (1_086_400..1_090_000).contains(&first), "{first}");
    assert_eq!(next(86_399), first);
    let second = next(u32::try_from(first - STARTED.get()).unwrap());
    assert_eq!(second, first + 86_400);
}

#[test]
fn no_release_is_planned_that_the_end_would_overtake() {
    let next = |funded: UnixSeconds, every| next_release(STARTED, STARTED, funded, HOUR, every);
    let due = next(FUNDED, DAY).unwrap();
    assert_eq!(next(due.saturating_plus(HOUR), DAY), Some(due));
    assert_eq!(next(due.saturating_plus(Seconds(3_599)), DAY), None);
    assert_eq!(next(FUNDED, Seconds::ZERO), None);
    assert_eq!(next(UnixSeconds(u64::MAX), Seconds::MAX), Some(UnixSeconds(4_473_924_250)));
    assert_eq!(next_release(STARTED, UnixSeconds(u64::MAX), FUNDED, HOUR, DAY), None);
}
