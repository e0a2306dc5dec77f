//! Wilson's score interval, its lower end, in integers.

/// The 97.5th percentile of the normal distribution, in millionths: 95 % lie within it on both sides.
const Z: u128 = 1_959_964;
/// The sample is counted in hours: seconds of one hour are not independent of each other.
const HOUR: u128 = 3_600;
/// (10^6)^2, the scale of the whole computation.
const SCALE: u128 = 1_000_000_000_000;
/// More seconds than this are treated alike: 34,865 years of one machine.
const MOST_S: u64 = 1 << 40;

/// The lower end of Wilson's 95 % interval for the share of good hours, in basis points, rounded down. 0 where
/// nothing was promised. Seconds beyond 2^40 do not count; more good than promised counts as all.
///
/// With `N` promised and `G` good seconds, `h` = 3,600 and `n = N / h` hours, the textbook's
/// `(p + z²/2n - z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)` is
/// `(2G + z²h - sqrt(z²h (4G(N-G)/N + z²h))) / (2 (N + z²h))`.
#[must_use]
pub fn lower_bound_bps(good_s: u64, promised_s: u64) -> u32 {
    let promised = u128::from(promised_s.min(MOST_S));
    let good = u128::from(good_s).min(promised);
    bound(good, promised).and_then(|bps| u32::try_from(bps).ok()).unwrap_or(0)
}

/// `None` where nothing was promised; within 2^40 seconds nothing overflows.
fn bound(good: u128, promised: u128) -> Option<u128> {
    let z2h = Z.checked_mul(Z)?.checked_mul(HOUR)?;
    let bad = promised.checked_sub(good)?;
    // 4G(N-G)/N, scaled; rounded up, so that the bound is never above the true one
    let spread =
        4_u128.checked_mul(good)?.checked_mul(bad)?.checked_div(promised).and_then(|whole| {
            let rest = 4_u128.checked_mul(good)?.checked_mul(bad)?.checked_rem(promised)?;
            let fraction = rest.checked_mul(SCALE)?.checked_div(promised)?.checked_add(1)?;
            whole.checked_mul(SCALE)?.checked_add(fraction)
        })?;
    let root = sqrt_of_product(z2h, spread.checked_add(z2h)?)?;
    let top = 2_u128.checked_mul(good)?.checked_mul(SCALE)?.checked_add(z2h)?;
    let bottom = promised.checked_mul(SCALE)?.checked_add(z2h)?.checked_mul(2)?;
    // the true value is never below nothing; a root rounded up may be, by a hair
    top.saturating_sub(root).checked_mul(10_000)?.checked_div(bottom)
}

/// `sqrt(a * b)`, rounded up by at most one part in 2^20 of the last places kept.
fn sqrt_of_product(a: u128, b: u128) -> Option<u128> {
    if let Some(product) = a.checked_mul(b) {
        return ceil_sqrt(product);
    }
    // too wide: give up the last binary places of `b`, rounding up
    let coarse = b.checked_shr(20)?.checked_add(1)?;
    ceil_sqrt(a.checked_mul(coarse)?)?.checked_mul(1 << 10)
}

fn ceil_sqrt(value: u128) -> Option<u128> {
    let root = value.isqrt();
    if root.checked_mul(root)? == value { Some(root) } else { root.checked_add(1) }
}
