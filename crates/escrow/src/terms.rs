//! The terms of a rental: what the renter signs and the contract hashes into the rental's id.

use alloy::{
    primitives::{Address, B256, U256, Uint},
    sol_types::{Eip712Domain, SolStruct, eip712_domain},
};
use domain::{money::Amount, terms::RentalTerms, time::UnixSeconds};

pub use crate::bindings::Escrow::Terms;

/// The contract's own name in its EIP-712 domain.
pub const NAME: &str = "Weir Escrow";
/// The contract's version in its EIP-712 domain.
pub const VERSION: &str = "1";

/// The EIP-712 domain of the contract on one chain.
#[must_use]
pub fn domain(chain_id: u64, escrow: Address) -> Eip712Domain {
    eip712_domain! { name: NAME, version: VERSION, chain_id: chain_id, verifying_contract: escrow, }
}

/// The rental's id on the chain: the EIP-712 digest of its terms.
#[must_use]
pub fn terms_hash(terms: &Terms, domain: &Eip712Domain) -> B256 {
    terms.eip712_signing_hash(domain)
}

impl From<&RentalTerms> for Terms {
    fn from(parts: &RentalTerms) -> Self {
        Self {
            renter: parts.renter,
            provider: parts.provider,
            token: parts.token,
            pricePerHour: uint96(parts.rate.amount()),
            feeBps: parts.fee.get(),
            startBy: uint40(parts.start_by),
            holdback: parts.holdback.get(),
            orderHash: parts.order_hash,
        }
    }
}

/// An amount as the contract's `uint96`; exact, because an amount never exceeds 2^96-1.
#[must_use]
pub fn uint96(amount: Amount) -> Uint<96, 2> {
    Uint::<96, 2>::saturating_from(amount.get())
}

/// A time as the contract's `uint40`; exact until the year 36812.
#[must_use]
pub fn uint40(at: UnixSeconds) -> Uint<40, 1> {
    Uint::<40, 1>::saturating_from(at.get())
}

/// An amount as a `uint256` word.
#[must_use]
pub fn uint256(amount: Amount) -> U256 {
    U256::from(amount.get())
}
