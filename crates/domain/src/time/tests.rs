use super::*;

#[test]
fn arithmetic_is_checked_or_saturates() {
    let (early, late) = (UnixSeconds(10), UnixSeconds(25));
    assert_eq!(early.plus(Seconds(15)), Some(late));
    assert_eq!(late.minus(Seconds(15)), Some(early));
    assert_eq!(early.minus(Seconds(11)), None);
    assert_eq!(UnixSeconds(u64::MAX).plus(Seconds::ONE), None);
    assert_eq!(early.saturating_minus(Seconds(11)), UnixSeconds(0));
    assert_eq!(late.since(early), Some(Seconds(15)));
    assert_eq!(early.since(late), None);
    assert_eq!(early.saturating_since(late), Seconds::ZERO);
    let far = UnixSeconds(u64::MAX);
    assert_eq!((far.since(early), far.saturating_since(early)), (None, Seconds::MAX));
}

#[test]
fn milliseconds_lie_in_seconds() {
    assert_eq!(UnixMillis(1_999).seconds(), UnixSeconds(1));
    assert_eq!(UnixSeconds(2).millis(), UnixMillis(2_000));
    assert_eq!(UnixMillis(1).plus(Seconds(2)), Some(UnixMillis(2_001)));
    assert_eq!(UnixMillis(u64::MAX).plus(Seconds::ONE), None);
    assert_eq!(UnixMillis(5).millis_since(UnixMillis(6)), None);
    assert_eq!(serde_json::to_string(&UnixSeconds(7)).unwrap(), "7");
}
