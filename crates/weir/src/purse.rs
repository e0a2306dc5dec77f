//! For how many transactions a signer's coins suffice.

use alloy::primitives::U256;
use chain::Fees;

/// Gas of a close, with headroom: docs/GAS.md has at most 84,000 for one, to new accounts, and the lane adds a
/// quarter to what it estimates.
pub(crate) const CLOSE_GAS: u64 = 120_000;

/// What a node wants to see on the account before it takes one close, in wei.
pub(crate) fn price_of_close(fees: Fees) -> U256 {
    U256::from(CLOSE_GAS).saturating_mul(U256::from(fees.max_fee))
}

/// How many closes `balance` wei pay for at these fees.
pub(crate) fn closes_left(balance: U256, fees: Fees) -> u64 {
    let count = balance.checked_div(price_of_close(fees)).unwrap_or(U256::MAX);
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_rounded_down() {
        let fees = Fees { max_fee: 100, tip: 1 };
        let one = U256::from(100 * CLOSE_GAS);
        assert_eq!(closes_left(one * U256::from(3) - U256::ONE, fees), 2);
        assert_eq!(closes_left(U256::ZERO, fees), 0);
        assert_eq!(closes_left(one, Fees { max_fee: 0, tip: 0 }), u64::MAX, "gas is free");
    }
}
