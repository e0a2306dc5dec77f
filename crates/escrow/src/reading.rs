//! Signed readings: the evidence that a rental is billed by. Each names the hash of the one before, so
//! that none can be removed, changed or inserted afterwards.

use alloy::{
    primitives::{Address, B256, Signature, keccak256},
    signers::{SignerSync, local::PrivateKeySigner},
    sol_types::{Eip712Domain, SolStruct},
};
use thiserror::Error;

mod sol {
    #![allow(missing_docs)]
    alloy::sol! {
        /// One span of running time on one rental, in whole unix seconds, `from` before `to`.
        #[derive(Debug, PartialEq, Eq)]
        struct Reading {
            bytes32 rental;
            uint64 seq;
            uint64 from;
            uint64 to;
            bytes32 detailHash;
            bytes32 prevHash;
        }
    }
}
pub use sol::Reading;

/// Why a signature was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SignatureError {
    /// Not 65 bytes of r, s and v.
    #[error("the signature is malformed")]
    Malformed,
    /// s is in the upper half of the curve's order: a second valid form of the same signature.
    #[error("the signature is malleable: s is in the upper half")]
    HighS,
    /// No key can have made it.
    #[error("no key recovers from the signature")]
    NoKey,
}

/// The hash that is signed, and that the next reading names.
#[must_use]
pub fn hash(reading: &Reading, domain: &Eip712Domain) -> B256 {
    reading.eip712_signing_hash(domain)
}

/// Signs a reading.
///
/// # Errors
/// [`SignatureError::NoKey`] if the key cannot sign.
pub fn sign(
    reading: &Reading,
    key: &PrivateKeySigner,
    domain: &Eip712Domain,
) -> Result<[u8; 65], SignatureError> {
    let signature =
        key.sign_hash_sync(&hash(reading, domain)).map_err(|_| SignatureError::NoKey)?;
    Ok(signature.as_bytes())
}

/// Who signed a reading. Its signature has one spelling, which ends in 27 or 28: nothing else covers its bytes.
///
/// # Errors
/// [`SignatureError`].
pub fn recover(
    reading: &Reading,
    signature: &[u8],
    domain: &Eip712Domain,
) -> Result<Address, SignatureError> {
    if !matches!(signature.last(), Some(27 | 28)) {
        return Err(SignatureError::Malformed);
    }
    recover_hash(&hash(reading, domain), signature)
}

/// Who signed a 32-byte hash, refusing malleable signatures.
///
/// # Errors
/// [`SignatureError`].
pub fn recover_hash(hash: &B256, signature: &[u8]) -> Result<Address, SignatureError> {
    // 27 and 28 as wallets write it, 0 and 1 as some devices do; what EIP-155 has there is of transactions
    if signature.len() != 65 || !matches!(signature.last(), Some(0 | 1 | 27 | 28)) {
        return Err(SignatureError::Malformed);
    }
    let signature = Signature::from_raw(signature).map_err(|_| SignatureError::Malformed)?;
    if signature.normalize_s().is_some() {
        return Err(SignatureError::HighS);
    }
    signature.recover_address_from_prehash(hash).map_err(|_| SignatureError::NoKey)
}

/// The hash of a reading's detail: keccak256 of its JSON with sorted keys and no spaces, so that both
/// sides hash the same bytes whatever order they were written in.
#[must_use]
pub fn detail_hash(detail: &serde_json::Value) -> B256 {
    // serde_json's maps are sorted (its `preserve_order` feature is off in this workspace)
    keccak256(detail.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::domain;

    fn reading() -> Reading {
        Reading {
            rental: B256::repeat_byte(7),
            seq: 1,
            from: 100,
            to: 105,
            detailHash: detail_hash(&serde_json::json!({"b": 1, "a": [2, 3]})),
            prevHash: B256::ZERO,
        }
    }

    #[test]
    fn a_signature_names_its_signer_and_covers_every_field() {
        let key = PrivateKeySigner::random();
        let domain = domain(31337, Address::repeat_byte(1));
        let good = reading();
        let signature = sign(&good, &key, &domain).unwrap();
        assert_eq!(recover(&good, &signature, &domain), Ok(key.address()));
        let changed = [
            Reading { rental: B256::ZERO, ..reading() },
            Reading { seq: 2, ..reading() },
            Reading { from: 99, ..reading() },
            Reading { to: 106, ..reading() },
            Reading { detailHash: B256::ZERO, ..reading() },
            Reading { prevHash: B256::repeat_byte(1), ..reading() },
        ];
        for other in changed {
            assert_ne!(recover(&other, &signature, &domain), Ok(key.address()), "{other:?}");
        }
        // as some devices spell the last byte
        let mut spelled = signature;
        spelled[64] -= 27;
        assert_eq!(recover(&good, &spelled, &domain), Err(SignatureError::Malformed));
        assert_eq!(recover_hash(&hash(&good, &domain), &spelled), Ok(key.address()));
        let elsewhere = crate::terms::domain(137, Address::repeat_byte(1));
        assert_ne!(recover(&good, &signature, &elsewhere), Ok(key.address()));
    }

    #[test]
    fn malleable_and_short_signatures_are_refused() {
        let key = PrivateKeySigner::random();
        let domain = domain(31337, Address::repeat_byte(1));
        let signature = Signature::from_raw(&sign(&reading(), &key, &domain).unwrap()).unwrap();
        let order = alloy::primitives::uint!(
            0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256
        );
        let twin = Signature::new(signature.r(), order.wrapping_sub(signature.s()), !signature.v());
        assert_eq!(recover(&reading(), &twin.as_bytes(), &domain), Err(SignatureError::HighS));
        assert_eq!(recover(&reading(), &[0; 64], &domain), Err(SignatureError::Malformed));
    }

    #[test]
    fn detail_is_hashed_in_one_form() {
        let one: serde_json::Value = serde_json::from_str(r#"{"b":1, "a":2}"#).unwrap();
        let two: serde_json::Value = serde_json::from_str(r#"{"a":2,"b":1}"#).unwrap();
        assert_eq!(detail_hash(&one), detail_hash(&two));
    }
}
