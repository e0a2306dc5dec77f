//! The platform's signature under a quote: everything that was promised, as one EIP-712 struct.
//!
//! The key that signs it can do nothing else. Its domain has a name of its own, so that no signature of it is one that
//! the escrow, a token or Permit2 would take, and the contract gives it no role (`weir doctor` looks).

use alloy::{
    primitives::{Address, B256, Uint, keccak256},
    signers::local::PrivateKeySigner,
    sol_types::{Eip712Domain, SolStruct, eip712_domain},
};
use domain::{
    billing::{deposit_ceil, usd_gross_ceil},
    money::{Amount, Decimals, UsdMicros},
    rate::{TokenRate, UsdPerHour, token_rate_floor},
    time::Seconds,
};
use thiserror::Error;

use crate::{
    reading::SignatureError,
    signed,
    terms::{Terms as BoundTerms, terms_hash, uint96},
};

mod sol {
    #![allow(missing_docs)]
    alloy::sol! {
        /// A line: dollars in millionths; `max` and `unitPrice` are negative for what is taken off.
        #[derive(Debug, PartialEq, Eq)]
        struct Line {
            string kind;
            string unit;
            int64 unitPrice;
            uint64 quantity;
            int64 max;
        }

        /// What is ordered. Ids are those of the API.
        #[derive(Debug, PartialEq, Eq)]
        struct Order {
            string offer;
            uint32 offerVersion;
            string machine;
            string gpuModel;
            uint16 gpuCount;
            uint32 durationSecs;
            uint32 diskGb;
            uint32 upGb;
            uint32 downGb;
            string template;
        }

        /// The token's price: dollars for a whole one.
        #[derive(Debug, PartialEq, Eq)]
        struct Fx {
            uint64 usdPerToken;
            string source;
            uint40 pricedAt;
        }

        /// The escrow's own.
        #[derive(Debug, PartialEq, Eq)]
        struct Terms {
            address renter;
            address provider;
            address token;
            uint96 pricePerHour;
            uint16 feeBps;
            uint40 startBy;
            uint32 holdback;
            bytes32 orderHash;
        }

        /// A quote. Dollars are millionths, token amounts base units, times unix seconds.
        #[derive(Debug, PartialEq, Eq)]
        struct Quote {
            string id;
            Order order;
            Line[] lines;
            uint64 usdPerHour;
            uint64 usdMax;
            bytes32 rental;
            Terms terms;
            uint96 deposit;
            Fx fx;
            uint40 createdAt;
            uint40 expiresAt;
            uint32 readySecs;
            uint32 noticeSecs;
            bytes32 refundRule;
        }
    }
}
pub use sol::{Fx, Line, Order, Quote, Terms};

/// The name in the domain of quotes.
pub const NAME: &str = "Weir Quote";
/// The version in the domain of quotes.
pub const VERSION: &str = "1";

/// What goes back, in words that every quote has and that its signature covers by their hash.
pub const REFUND_RULE: &str = "Billed by the second from the start, at least one second, at one rate for everything; \
                               outages are not billed. A rental that ends early, a reserved one too, pays that rate for \
                               the seconds until then and no penalty: everything else goes back to the renter, the unused \
                               share of disk, network and discount alike, and everything does if the rental never starts. \
                               The network is an allowance that grows with the time used; what goes beyond it is not \
                               billed.";

/// The hash of [`REFUND_RULE`].
#[must_use]
pub fn refund_rule() -> B256 {
    keccak256(REFUND_RULE)
}

/// The domain of the quotes for the escrow at this address.
#[must_use]
pub fn domain(chain_id: u64, escrow: Address) -> Eip712Domain {
    eip712_domain! { name: NAME, version: VERSION, chain_id: chain_id, verifying_contract: escrow, }
}

/// Why a signed quote is not one that the platform made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuoteError {
    /// The signature is none.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Somebody else signed.
    #[error("{0} signed, and not the platform")]
    Signer(Address),
    /// `rental` is not the id of the terms that the quote names.
    #[error("the rental's id is not that of the quote's terms")]
    Terms,
    /// The lines do not add up to the most that it can cost.
    #[error("the lines do not add up to the total")]
    Sum,
    /// The total is not what the dollars per hour come to over the duration, rounded up.
    #[error("the total is not the dollars per hour times the duration")]
    Total,
    /// The terms' price per hour is not the dollars per hour at the token's price, whatever the token is divided into.
    #[error("the price per hour is not the dollars per hour at the token's price")]
    Price,
    /// The deposit is not what the rate comes to over the duration, rounded up.
    #[error("the deposit is not the rate times the duration")]
    Deposit,
}

impl From<&BoundTerms> for Terms {
    fn from(terms: &BoundTerms) -> Self {
        Self {
            renter: terms.renter,
            provider: terms.provider,
            token: terms.token,
            pricePerHour: terms.pricePerHour,
            feeBps: terms.feeBps,
            startBy: terms.startBy,
            holdback: terms.holdback,
            orderHash: terms.orderHash,
        }
    }
}

impl From<&Terms> for BoundTerms {
    fn from(terms: &Terms) -> Self {
        Self {
            renter: terms.renter,
            provider: terms.provider,
            token: terms.token,
            pricePerHour: terms.pricePerHour,
            feeBps: terms.feeBps,
            startBy: terms.startBy,
            holdback: terms.holdback,
            orderHash: terms.orderHash,
        }
    }
}

/// The hash that is signed.
#[must_use]
pub fn hash(quote: &Quote, domain: &Eip712Domain) -> B256 {
    quote.eip712_signing_hash(domain)
}

/// Signs a quote.
///
/// # Errors
/// [`SignatureError::NoKey`] if the key cannot sign.
pub fn sign(
    quote: &Quote,
    key: &PrivateKeySigner,
    domain: &Eip712Domain,
) -> Result<[u8; 65], SignatureError> {
    signed::sign(quote, key, domain)
}

/// Whether the platform, known by `signer`, made this quote for the escrow at `escrow` on this chain: the signature is
/// its own, the rental's id is that of the terms, the lines add up to the total, the total is the rate's, and the rate in the
/// token is the one in dollars at the token's price.
///
/// # Errors
/// See [`QuoteError`].
pub fn verify(
    quote: &Quote,
    signature: &[u8],
    signer: Address,
    chain_id: u64,
    escrow: Address,
) -> Result<(), QuoteError> {
    let by = signed::recover(quote, signature, &domain(chain_id, escrow))?;
    if by != signer {
        return Err(QuoteError::Signer(by));
    }
    if terms_hash(&(&quote.terms).into(), &crate::terms::domain(chain_id, escrow)) != quote.rental {
        return Err(QuoteError::Terms);
    }
    let sum = quote.lines.iter().try_fold(0_i64, |sum, line| sum.checked_add(line.max));
    if sum.and_then(|sum| u64::try_from(sum).ok()) != Some(quote.usdMax) {
        return Err(QuoteError::Sum);
    }
    if total(quote) != Some(quote.usdMax) {
        return Err(QuoteError::Total);
    }
    if !is_at_its_price(quote) {
        return Err(QuoteError::Price);
    }
    if due(quote) != Some(quote.deposit) {
        return Err(QuoteError::Deposit);
    }
    Ok(())
}

/// `ceil(usdPerHour * durationSecs / 3600)`, by the function that the quote was made with.
fn total(quote: &Quote) -> Option<u64> {
    let rate = UsdPerHour(UsdMicros::new(quote.usdPerHour));
    usd_gross_ceil(rate, 1, Seconds(quote.order.durationSecs)).ok().map(UsdMicros::get)
}

/// Whether the price in the token is the one in dollars, by the function that the quote was made with. The quote does not say
/// what the token is divided into, so this holds the figures and not where the point stands; the chain says that. Quotes
/// from before the token's price was kept name none.
fn is_at_its_price(quote: &Quote) -> bool {
    let rate = UsdPerHour(UsdMicros::new(quote.usdPerHour));
    let price = UsdMicros::new(quote.fx.usdPerToken);
    let at = |places| {
        let decimals = Decimals::new(places).ok()?;
        Some(uint96(token_rate_floor(rate, 1, decimals, price).ok()?.amount()))
    };
    price == UsdMicros::ZERO
        || (0..=u8::MAX).any(|places| at(places) == Some(quote.terms.pricePerHour))
}

/// `ceil(pricePerHour * durationSecs / 3600)`, by the function that the quote was made with.
fn due(quote: &Quote) -> Option<Uint<96, 2>> {
    let rate = Amount::new(quote.terms.pricePerHour.to::<u128>()).ok()?;
    let deposit =
        deposit_ceil(TokenRate::new(rate).ok()?, Seconds(quote.order.durationSecs)).ok()?;
    Some(uint96(deposit))
}

#[cfg(test)]
mod tests;
