//! Who gets what of a deposit.
//!
//! Every payment is the difference of two cumulative values, so paying in parts changes nothing, to the base unit.

use serde::{Deserialize, Serialize};

use super::{auto_stop_second, fee_floor, gross_floor};
use crate::money::{Amount, FeeBps, MoneyError};
use crate::rate::TokenRate;
use crate::time::Seconds;

/// A whole deposit divided: `provider + fee + refund` is the deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// What the provider earns.
    pub provider: Amount,
    /// What the platform earns.
    pub fee: Amount,
    /// What goes back to the renter.
    pub refund: Amount,
}

impl Split {
    /// What the renter pays in the end: provider and fee.
    #[must_use]
    pub fn gross(self) -> Option<Amount> {
        self.provider.checked_add(self.fee)
    }
}

/// One payment for a stretch of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// The provider's part.
    pub net: Amount,
    /// The platform's part.
    pub fee: Amount,
}

/// The last payment of a rental, after whatever was released before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The provider's part of this payment.
    pub net: Amount,
    /// The platform's part of this payment.
    pub fee: Amount,
    /// What goes back to the renter.
    pub refund: Amount,
}

/// The seconds that the contract settles when a rental that has started ends after `seconds`: no more than the
/// deposit pays for, no fewer than are `settled`, at least 1.
#[must_use]
pub fn settlement_seconds(
    deposit: Amount,
    rate: TokenRate,
    settled: Seconds,
    seconds: Seconds,
) -> Seconds {
    seconds.min(auto_stop_second(deposit, rate)).max(settled).max(Seconds::ONE)
}

/// Divides `deposit` after `billed` seconds. With 0 billed seconds everything goes back; that a started rental is
/// billed at least 1 second is the metering's rule.
///
/// # Errors
/// None are expected: a gross is never above its deposit, a fee never above its gross. [`MoneyError::Overflow`]
/// stands for the impossible.
pub fn split(
    deposit: Amount,
    rate: TokenRate,
    bps: FeeBps,
    billed: Seconds,
) -> Result<Split, MoneyError> {
    let (provider, fee, gross) = cumulative(rate, bps, deposit, billed)?;
    let refund = deposit.checked_sub(gross).ok_or(MoneyError::Overflow)?;
    Ok(Split { provider, fee, refund })
}

/// What is paid when the settled seconds grow from `settled_before` to `settled_after`: the difference of the
/// cumulative provider's parts and of the cumulative fees.
///
/// # Errors
/// [`MoneyError::SettledFell`] when `settled_after` is the smaller.
pub fn payout_between(
    rate: TokenRate,
    bps: FeeBps,
    deposit: Amount,
    settled_before: Seconds,
    settled_after: Seconds,
) -> Result<Payout, MoneyError> {
    if settled_after < settled_before {
        return Err(MoneyError::SettledFell {
            before: settled_before.get(),
            after: settled_after.get(),
        });
    }
    let (net_before, fee_before, _) = cumulative(rate, bps, deposit, settled_before)?;
    let (net_after, fee_after, _) = cumulative(rate, bps, deposit, settled_after)?;
    Ok(Payout {
        net: net_after.checked_sub(net_before).ok_or(MoneyError::Overflow)?,
        fee: fee_after.checked_sub(fee_before).ok_or(MoneyError::Overflow)?,
    })
}

/// What the closing call pays when `settled` seconds were released before and `billed` are owed in all.
///
/// # Errors
/// [`MoneyError::SettledFell`] when `billed` is the smaller.
pub fn closing_between(
    rate: TokenRate,
    bps: FeeBps,
    deposit: Amount,
    settled: Seconds,
    billed: Seconds,
) -> Result<Closing, MoneyError> {
    let Payout { net, fee } = payout_between(rate, bps, deposit, settled, billed)?;
    let Split { refund, .. } = split(deposit, rate, bps, billed)?;
    Ok(Closing { net, fee, refund })
}

/// What becomes of held seconds, those after `settled` up to `clock`, when `billed` are owed in all: the refund is
/// what the seconds beyond those cost.
///
/// # Errors
/// [`MoneyError::SettledFell`] when `billed` is below `settled`; [`MoneyError::Overflow`] when it is above `clock`.
pub fn held_between(
    rate: TokenRate,
    bps: FeeBps,
    deposit: Amount,
    settled: Seconds,
    billed: Seconds,
    clock: Seconds,
) -> Result<Closing, MoneyError> {
    let Payout { net, fee } = payout_between(rate, bps, deposit, settled, billed)?;
    let (_, _, all) = cumulative(rate, bps, deposit, clock)?;
    let (_, _, owed) = cumulative(rate, bps, deposit, billed)?;
    let refund = all.checked_sub(owed).ok_or(MoneyError::Overflow)?;
    Ok(Closing { net, fee, refund })
}

/// Provider's part, fee and gross of the first `seconds`.
fn cumulative(
    rate: TokenRate,
    bps: FeeBps,
    deposit: Amount,
    seconds: Seconds,
) -> Result<(Amount, Amount, Amount), MoneyError> {
    let gross = gross_floor(rate, seconds, deposit);
    let fee = fee_floor(gross, bps);
    let net = gross.checked_sub(fee).ok_or(MoneyError::Overflow)?;
    Ok((net, fee, gross))
}
