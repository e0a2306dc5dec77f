//! What to pay for gas.

/// Bounds on fees, in wei per gas.
#[derive(Clone, Copy, Debug)]
pub struct FeePolicy {
    /// Never tip less: Polygon's nodes drop below 25 gwei.
    pub tip_floor: u128,
    /// Never pay more in all, whatever the base fee.
    pub max_fee_ceiling: u128,
}

/// The two fees of an EIP-1559 transaction, in wei per gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// Most that is paid in all.
    pub max_fee: u128,
    /// Most that goes to the block's producer.
    pub tip: u128,
}

impl FeePolicy {
    /// Fees that stay valid while the base fee doubles, within floor and ceiling.
    #[must_use]
    pub fn fees(&self, base_fee: u128, suggested_tip: u128) -> Fees {
        let tip = suggested_tip.max(self.tip_floor).min(self.max_fee_ceiling);
        let max_fee =
            base_fee.saturating_mul(2).saturating_add(tip).min(self.max_fee_ceiling).max(tip);
        Fees { max_fee, tip }
    }

    /// Fees for a replacement: at least 12.5 % above both old ones (nodes ask for 10 %), rounded up,
    /// and at least today's. `None` if that would exceed the ceiling.
    #[must_use]
    pub fn replacement(&self, old: Fees, today: Fees) -> Option<Fees> {
        let bump = |fee: u128| fee.saturating_add(fee.div_ceil(8));
        let fees = Fees {
            max_fee: bump(old.max_fee).max(today.max_fee),
            tip: bump(old.tip).max(today.tip),
        };
        (fees.max_fee <= self.max_fee_ceiling).then_some(fees)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GWEI: u128 = 1_000_000_000;
    const POLICY: FeePolicy = FeePolicy { tip_floor: 25 * GWEI, max_fee_ceiling: 500 * GWEI };

    #[test]
    fn the_floor_and_the_ceiling_hold() {
        assert_eq!(POLICY.fees(100 * GWEI, 1), Fees { max_fee: 225 * GWEI, tip: 25 * GWEI });
        assert_eq!(POLICY.fees(400 * GWEI, 30 * GWEI).max_fee, 500 * GWEI);
    }

    #[test]
    fn a_replacement_raises_both_fees_by_an_eighth() {
        let old = Fees { max_fee: 81, tip: 9 };
        let new = FeePolicy { tip_floor: 0, max_fee_ceiling: 1_000 }
            .replacement(old, Fees { max_fee: 1, tip: 1 });
        assert_eq!(new, Some(Fees { max_fee: 92, tip: 11 }));
        assert_eq!(POLICY.replacement(Fees { max_fee: 490 * GWEI, tip: 1 }, old), None);
    }
}
