//! Percentiles by the nearest-rank rule: always one of the values, never something between two.

/// The value at the `percent`-th percentile, 0 to 100, of values in ascending order: the one with number
/// `ceil(percent / 100 * n)`, counted from 1, and the first for 0. `None` of nothing.
#[must_use]
pub fn nearest_rank<T: Copy>(ascending: &[T], percent: u8) -> Option<T> {
    let rank = ascending.len().saturating_mul(usize::from(percent.min(100))).div_ceil(100);
    ascending.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_s_own_example() {
        // the textbook's: 15 20 35 40 50
        let values = [15, 20, 35, 40, 50];
        for (percent, value) in
            [(0, 15), (5, 15), (30, 20), (40, 20), (50, 35), (100, 50), (200, 50)]
        {
            assert_eq!(nearest_rank(&values, percent), Some(value), "{percent}");
        }
        assert_eq!(nearest_rank::<u8>(&[], 50), None);
        assert_eq!(nearest_rank(&[7], 95), Some(7));
    }
}
