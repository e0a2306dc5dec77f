//! A million random rentals: the deposit is divided to the last base unit, however it is paid out.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

use domain::billing::{
    auto_stop_second, closing_between, deposit_ceil, payout_between, settlement_seconds, split,
};
use domain::{Amount, FeeBps, Seconds, TokenRate};

const RENTALS: u32 = 1_000_000;

/// SplitMix64: small, fast, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).unwrap()
    }

    /// A number of up to `bits` bits, small ones as likely as large ones.
    fn up_to_bits(&mut self, bits: u32) -> u128 {
        let wide = (u128::from(self.next()) << 64) | u128::from(self.next());
        wide >> (128 - 1 - self.below(bits))
    }
}

struct Rental {
    deposit: Amount,
    rate: TokenRate,
    fee: FeeBps,
    billed: Seconds,
}

fn random_rental(dice: &mut Dice) -> Rental {
    let per_hour = Amount::new(dice.up_to_bits(96).max(1)).unwrap();
    let rate = TokenRate::new(per_hour).unwrap();
    let fee = FeeBps::quotable(1_000 + u16::try_from(dice.below(501)).unwrap()).unwrap();
    let duration = Seconds(1 + dice.below(31 * 24 * 3_600));
    // Mostly a quoted deposit; sometimes any, which the contract takes as well.
    let deposit = match dice.below(4) {
        0 => Amount::new(dice.up_to_bits(96).max(1)).unwrap(),
        _ => deposit_ceil(rate, duration).unwrap_or(Amount::MAX),
    };
    // Mostly inside of the time paid for, at times on its edge or past it.
    let paid_for = auto_stop_second(deposit, rate);
    let ran = match dice.below(8) {
        0 => paid_for,
        1 => Seconds(dice.below(u32::MAX)),
        _ => Seconds(dice.below(paid_for.get().max(1))),
    };
    let billed = settlement_seconds(deposit, rate, Seconds::ZERO, ran);
    Rental { deposit, rate, fee, billed }
}

fn check(rental: &Rental, dice: &mut Dice) {
    let Rental { deposit, rate, fee, billed } = *rental;
    let whole = split(deposit, rate, fee, billed).unwrap();
    let gross = whole.provider.get() + whole.fee.get();
    // Amounts are unsigned, so the sum also says that none is negative and none is above the deposit.
    assert_eq!(gross + whole.refund.get(), deposit.get());
    assert_eq!(whole.fee.get(), gross * u128::from(fee.get()) / 10_000);
    assert!(whole.fee.get() * 10_000 <= gross * 1_500, "fee above 15 %");
    assert!((whole.fee.get() + 1) * 10_000 > gross * 1_000, "fee below 10 %, rounded down");
    // Any releases on the way: their sum with the closing is the same.
    let (mut settled, mut net, mut fees) = (Seconds::ZERO, 0, 0);
    for _ in 0..dice.below(3) {
        let next =
            Seconds(settled.get() + dice.below((billed.get() - settled.get()).saturating_add(1)));
        let part = payout_between(rate, fee, deposit, settled, next).unwrap();
        net += part.net.get();
        fees += part.fee.get();
        settled = next;
    }
    let last = closing_between(rate, fee, deposit, settled, billed).unwrap();
    assert_eq!(net + last.net.get(), whole.provider.get());
    assert_eq!(fees + last.fee.get(), whole.fee.get());
    assert_eq!(last.refund, whole.refund);
}

#[test]
fn a_million_deposits_are_divided_to_the_last_unit() {
    let mut dice = Dice(0x5eed);
    for _ in 0..RENTALS {
        let rental = random_rental(&mut dice);
        check(&rental, &mut dice);
    }
}
