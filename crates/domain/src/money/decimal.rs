//! Exact decimal fractions as scaled integers.

/// Fraction digits that are kept: one unit of the result is 10^-6.
const FRACTION_DIGITS: usize = 6;
/// One whole in units of the result.
pub(super) const SCALE: u64 = 1_000_000;

/// Reads `182.5` as 182,500,000 millionths.
///
/// Digits, and at most one point with 1 to 6 digits after it; no sign, exponent, space or empty side. `None`
/// otherwise, or when the value does not fit.
pub(crate) fn parse_scaled(text: &str) -> Option<u64> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if (1..=FRACTION_DIGITS).contains(&fraction.len()) => {
            (whole, fraction)
        }
        Some(_) => return None,
        None => (text, ""),
    };
    let is_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    // "5" stands for 500,000 millionths: fill up to six digits and read as a whole number.
    let millionths: u64 = format!("{fraction:0<FRACTION_DIGITS$}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(SCALE)?.checked_add(millionths)
}
