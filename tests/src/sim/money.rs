//! The money of a rental in the simulated contract: `domain::billing`'s one division, as the contract has it too.

use domain::{
    billing::{auto_stop_second, fee_floor, gross_floor},
    money::{Amount, FeeBps},
    rate::TokenRate,
    time::Seconds,
};

use super::contract::Slot;

/// What one payment gives to whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    pub net: u128,
    pub fee: u128,
    pub refund: u128,
}

fn rate(slot: &Slot) -> TokenRate {
    TokenRate::new(Amount::new(slot.terms.pricePerHour.to::<u128>()).unwrap()).unwrap()
}

fn deposit(slot: &Slot) -> Amount {
    Amount::new(slot.deposit).unwrap()
}

pub fn funded_secs(slot: &Slot) -> u32 {
    auto_stop_second(deposit(slot), rate(slot)).get()
}

/// Seconds billed when a rental ends after `secs`: no more than are funded, no fewer than are settled, at least 1.
pub fn billed_secs(slot: &Slot, settled: u32, secs: u64) -> u32 {
    u32::try_from(secs.min(funded_secs(slot).into())).unwrap().max(settled).max(1)
}

pub fn credited_secs(settled: u32, secs: u32, credit: u32) -> u32 {
    let least = settled.max(1);
    if secs - least > credit { secs - credit } else { least }
}

pub fn claim_secs(settled: u32, billed: u32, holdback: u32) -> u32 {
    holdback.min(billed - settled.max(1))
}

pub fn gross(slot: &Slot, secs: u32) -> u128 {
    gross_floor(rate(slot), Seconds(secs), deposit(slot)).get()
}

fn fee(slot: &Slot, gross: u128) -> u128 {
    fee_floor(Amount::new(gross).unwrap(), FeeBps::new(slot.terms.feeBps).unwrap()).get()
}

/// What is owed for the seconds after `from` up to `to`, and what of the deposit is left then.
pub fn shares(slot: &Slot, from: u32, to: u32) -> Shares {
    let (all, paid) = (gross(slot, to), gross(slot, from));
    let due = fee(slot, all) - fee(slot, paid);
    Shares { net: all - paid - due, fee: due, refund: slot.deposit - all }
}
