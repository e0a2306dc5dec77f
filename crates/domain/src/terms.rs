//! The terms of a rental, which the renter signs and the contract hashes into the rental's id on the chain.

use alloy_primitives::{Address, B256};

use crate::money::FeeBps;
use crate::rate::TokenRate;
use crate::time::{Seconds, UnixSeconds};

/// What a rental is agreed on. Nothing in it can change once money is locked under its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RentalTerms {
    /// Pays the deposit and gets the rest back.
    pub renter: Address,
    /// Earns.
    pub provider: Address,
    /// What it is paid in; the zero address is the chain's own coin.
    pub token: Address,
    /// Gross base units per hour.
    pub rate: TokenRate,
    /// The platform's share of the gross.
    pub fee: FeeBps,
    /// The last second at which the rental may be locked or started.
    pub start_by: UnixSeconds,
    /// The newest seconds that `release` leaves alone.
    pub holdback: Seconds,
    /// Ties the hardware ordered to the money.
    pub order_hash: B256,
}
