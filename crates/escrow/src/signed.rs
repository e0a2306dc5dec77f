//! What people sign, beside the terms themselves: how a rental ended, how it is paid for, what is withdrawn. Each
//! is an EIP-712 struct; the digest, the signature and the signer come from the functions here.

use alloy::{
    primitives::{Address, B256, U256, address},
    signers::{SignerSync, local::PrivateKeySigner},
    sol_types::{Eip712Domain, SolStruct, eip712_domain},
};
use domain::{
    money::Amount,
    time::{Seconds, UnixSeconds},
};

use crate::{
    reading::{SignatureError, recover_hash},
    terms::{Terms as BoundTerms, uint40, uint96, uint256},
};

mod sol {
    #![allow(missing_docs)]
    alloy::sol! {
        /// An end as the operator told it, signed by renter or provider, or an agent of theirs.
        #[derive(Debug, PartialEq, Eq)]
        struct End {
            bytes32 id;
            uint40 stoppedAt;
            uint32 creditSecs;
        }

        /// Seconds that renter and provider agree to be billed, if it is sent in time.
        #[derive(Debug, PartialEq, Eq)]
        struct AgreedEnd {
            bytes32 id;
            uint32 billedSecs;
            uint40 validUntil;
        }

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

        /// A lock that is paid from the renter's balance in the escrow.
        #[derive(Debug, PartialEq, Eq)]
        struct PrepaidLock {
            Terms terms;
            uint96 deposit;
        }

        /// A withdrawal that anyone may send.
        #[derive(Debug, PartialEq, Eq)]
        struct Withdrawal {
            address account;
            address token;
            address to;
            uint96 amount;
            uint256 nonce;
            uint256 deadline;
        }

        /// EIP-2612, in the token's domain.
        #[derive(Debug, PartialEq, Eq)]
        struct Permit {
            address owner;
            address spender;
            uint256 value;
            uint256 nonce;
            uint256 deadline;
        }

        /// EIP-3009, in the token's domain.
        #[derive(Debug, PartialEq, Eq)]
        struct ReceiveWithAuthorization {
            address from;
            address to;
            uint256 value;
            uint256 validAfter;
            uint256 validBefore;
            bytes32 nonce;
        }

        #[derive(Debug, PartialEq, Eq)]
        struct TokenPermissions {
            address token;
            uint256 amount;
        }

        /// Permit2's transfer, in Permit2's domain, with the terms as its witness.
        #[derive(Debug, PartialEq, Eq)]
        struct PermitWitnessTransferFrom {
            TokenPermissions permitted;
            address spender;
            uint256 nonce;
            uint256 deadline;
            Terms witness;
        }
    }
}
pub use sol::{
    AgreedEnd, End, Permit, PermitWitnessTransferFrom, PrepaidLock, ReceiveWithAuthorization,
    TokenPermissions, Withdrawal,
};

/// Uniswap's Permit2, at the same address on every chain.
pub const PERMIT2: Address = address!("000000000022D473030F116dDEE9F6B43aC78BA3");

/// Permit2's own domain, which has no version.
#[must_use]
pub fn permit2_domain(chain_id: u64) -> Eip712Domain {
    eip712_domain! { name: "Permit2", chain_id: chain_id, verifying_contract: PERMIT2, }
}

/// A token's domain, of the name and version that the token itself tells.
#[must_use]
pub fn token_domain(name: &str, version: &str, chain_id: u64, token: Address) -> Eip712Domain {
    Eip712Domain::new(
        Some(name.to_owned().into()),
        Some(version.to_owned().into()),
        Some(U256::from(chain_id)),
        Some(token),
        None,
    )
}

impl From<&BoundTerms> for sol::Terms {
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

/// The end of the rental `id` as `close` tells it.
#[must_use]
pub fn end(id: B256, stopped_at: UnixSeconds, credit: Seconds) -> End {
    End { id, stoppedAt: uint40(stopped_at), creditSecs: credit.get() }
}

/// The seconds of the rental `id` that both sides agree on, until `valid_until`.
#[must_use]
pub fn agreed_end(id: B256, billed: Seconds, valid_until: UnixSeconds) -> AgreedEnd {
    AgreedEnd { id, billedSecs: billed.get(), validUntil: uint40(valid_until) }
}

/// A lock of `terms` from the renter's balance.
#[must_use]
pub fn prepaid_lock(terms: &BoundTerms, deposit: Amount) -> PrepaidLock {
    PrepaidLock { terms: terms.into(), deposit: uint96(deposit) }
}

/// The renter's authorization of a deposit: its nonce is the rental's id, so that nobody can use it for another.
#[must_use]
pub fn authorization(
    terms: &BoundTerms,
    id: B256,
    escrow: Address,
    deposit: Amount,
    valid: (UnixSeconds, UnixSeconds),
) -> ReceiveWithAuthorization {
    ReceiveWithAuthorization {
        from: terms.renter,
        to: escrow,
        value: uint256(deposit),
        validAfter: U256::from(valid.0.get()),
        validBefore: U256::from(valid.1.get()),
        nonce: id,
    }
}

/// Permit2's transfer of a deposit, with the terms as its witness.
#[must_use]
pub fn permit2(
    terms: &BoundTerms,
    escrow: Address,
    deposit: Amount,
    nonce: U256,
    deadline: UnixSeconds,
) -> PermitWitnessTransferFrom {
    PermitWitnessTransferFrom {
        permitted: TokenPermissions { token: terms.token, amount: uint256(deposit) },
        spender: escrow,
        nonce,
        deadline: U256::from(deadline.get()),
        witness: terms.into(),
    }
}

/// The 32 bytes that are signed.
#[must_use]
pub fn digest(message: &impl SolStruct, domain: &Eip712Domain) -> B256 {
    message.eip712_signing_hash(domain)
}

/// Signs a message with a key: r, s and v.
///
/// # Errors
/// [`SignatureError::NoKey`] if the key cannot sign.
pub fn sign(
    message: &impl SolStruct,
    key: &PrivateKeySigner,
    domain: &Eip712Domain,
) -> Result<[u8; 65], SignatureError> {
    let signature =
        key.sign_hash_sync(&digest(message, domain)).map_err(|_| SignatureError::NoKey)?;
    Ok(signature.as_bytes())
}

/// Who signed a message.
///
/// # Errors
/// [`SignatureError`].
pub fn recover(
    message: &impl SolStruct,
    signature: &[u8],
    domain: &Eip712Domain,
) -> Result<Address, SignatureError> {
    recover_hash(&digest(message, domain), signature)
}

#[cfg(test)]
mod tests;
