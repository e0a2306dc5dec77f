//! The key that moves money, and what it signs.

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope, transaction::SignerRecoverable as _},
    eips::{
        eip2718::{Decodable2718, Encodable2718},
        eip2930::AccessList,
    },
    primitives::{Address, B256, Bytes, TxKind, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use k256::ecdsa::SigningKey;
use thiserror::Error;

use crate::Fees;

/// Gas of a plain transfer.
pub const NOOP_GAS: u64 = 21_000;

/// Why a key cannot be used.
#[derive(Debug, Error)]
pub enum SignerError {
    /// The text is no private key. The text itself is never repeated.
    #[error("not a private key: 64 hex digits are expected, with or without 0x")]
    Malformed,
    /// The key did not sign.
    #[error("signing failed: {0}")]
    Failed(String),
    /// These bytes are to be signed again and are none that this key signed.
    #[error("not signed again: {0}")]
    NotOurs(String),
}

/// A local secp256k1 key. Its `Debug` shows the address only.
#[derive(Clone)]
pub struct Signer {
    key: PrivateKeySigner,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Signer").field(&self.address()).finish()
    }
}

impl std::str::FromStr for Signer {
    type Err = SignerError;

    fn from_str(text: &str) -> Result<Self, SignerError> {
        let bytes: B256 = text.trim().parse().map_err(|_| SignerError::Malformed)?;
        let key = SigningKey::from_slice(bytes.as_slice()).map_err(|_| SignerError::Malformed)?;
        Ok(Self { key: PrivateKeySigner::from_signing_key(key) })
    }
}

/// Everything in a transaction but the signature.
#[derive(Clone, Debug)]
pub struct TxFields {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The signer's nonce.
    pub nonce: u64,
    /// The contract.
    pub to: Address,
    /// What is called.
    pub calldata: Bytes,
    /// Most gas it may use.
    pub gas_limit: u64,
    /// What is paid for it.
    pub fees: Fees,
    /// Slots that are named beforehand, because that is cheaper (EIP-2930); empty for none.
    pub access_list: AccessList,
}

/// Bytes to store and then to send.
#[derive(Clone, Debug)]
pub struct SignedTx {
    /// The transaction's hash.
    pub hash: B256,
    /// EIP-2718 bytes.
    pub raw: Bytes,
}

impl Signer {
    /// The account that pays for gas.
    #[must_use]
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// Signs an EIP-1559 transaction that carries no value. Deterministic (RFC 6979): the same fields
    /// give the same bytes.
    ///
    /// # Errors
    /// [`SignerError::Failed`].
    pub fn sign(&self, fields: &TxFields) -> Result<SignedTx, SignerError> {
        let tx = TxEip1559 {
            chain_id: fields.chain_id,
            nonce: fields.nonce,
            gas_limit: fields.gas_limit,
            max_fee_per_gas: fields.fees.max_fee,
            max_priority_fee_per_gas: fields.fees.tip,
            to: TxKind::Call(fields.to),
            value: U256::ZERO,
            access_list: fields.access_list.clone(),
            input: fields.calldata.clone(),
        };
        self.signed(tx)
    }

    /// Signs the same transaction, number and all, with other fees. Whoever stored the bytes, only what this key signed
    /// before is signed again: a call of `to` on that chain, under that number, that carries no value.
    ///
    /// # Errors
    /// [`SignerError::NotOurs`] if `raw` is anything else, or [`SignerError::Failed`].
    pub fn resign(
        &self,
        raw: &[u8],
        (chain_id, to, nonce): (u64, Address, u64),
        fees: Fees,
    ) -> Result<SignedTx, SignerError> {
        let envelope = TxEnvelope::decode_2718_exact(raw)
            .map_err(|error| SignerError::NotOurs(error.to_string()))?;
        let not_ours = |why: &str| SignerError::NotOurs(why.to_owned());
        let old = envelope.as_eip1559().ok_or_else(|| not_ours("no EIP-1559 transaction"))?;
        if envelope.recover_signer().ok() != Some(self.address()) {
            return Err(not_ours("another key signed it"));
        }
        let mut tx = old.tx().clone();
        let call = (tx.chain_id, tx.to, tx.nonce, tx.value);
        if call != (chain_id, TxKind::Call(to), nonce, U256::ZERO) {
            return Err(not_ours("another chain, contract, number or value"));
        }
        tx.max_fee_per_gas = fees.max_fee;
        tx.max_priority_fee_per_gas = fees.tip;
        self.signed(tx)
    }

    /// Signs a transaction that does nothing but spend a number: nothing, to ourselves.
    ///
    /// # Errors
    /// [`SignerError::Failed`].
    pub fn sign_noop(
        &self,
        chain_id: u64,
        nonce: u64,
        fees: Fees,
    ) -> Result<SignedTx, SignerError> {
        self.sign(&TxFields {
            chain_id,
            nonce,
            to: self.address(),
            calldata: Bytes::new(),
            gas_limit: NOOP_GAS,
            fees,
            access_list: AccessList::default(),
        })
    }

    fn signed(&self, tx: TxEip1559) -> Result<SignedTx, SignerError> {
        let signature = self
            .key
            .sign_hash_sync(&tx.signature_hash())
            .map_err(|error| SignerError::Failed(error.to_string()))?;
        let envelope = TxEnvelope::from(tx.into_signed(signature));
        Ok(SignedTx { hash: *envelope.tx_hash(), raw: envelope.encoded_2718().into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // anvil's well-known first test key
    const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

    #[test]
    fn the_same_fields_give_the_same_bytes_and_recover_the_signer() {
        let signer: Signer = KEY.parse().unwrap();
        let fields = TxFields {
            chain_id: 31337,
            nonce: 3,
            to: Address::repeat_byte(9),
            calldata: Bytes::from_static(&[1, 2, 3]),
            gas_limit: 50_000,
            fees: Fees { max_fee: 10, tip: 1 },
            access_list: AccessList::default(),
        };
        let one = signer.sign(&fields).unwrap();
        assert_eq!(one.raw, signer.sign(&fields).unwrap().raw);
        let decoded = TxEnvelope::decode_2718(&mut one.raw.as_ref()).unwrap();
        assert_eq!(decoded.recover_signer().unwrap(), signer.address());
        assert_eq!(*decoded.tx_hash(), one.hash);
    }

    fn call() -> TxFields {
        TxFields {
            chain_id: 137,
            nonce: 9,
            to: Address::repeat_byte(9),
            calldata: Bytes::from_static(&[1, 2, 3]),
            gas_limit: 50_000,
            fees: Fees { max_fee: 10, tip: 1 },
            access_list: AccessList::default(),
        }
    }

    #[test]
    fn other_fees_change_nothing_else() {
        let signer: Signer = KEY.parse().unwrap();
        let old = signer.sign(&call()).unwrap();
        let fees = Fees { max_fee: 20, tip: 2 };
        let new = signer.resign(&old.raw, (137, call().to, 9), fees).unwrap();
        let again = signer.sign(&TxFields { fees, ..call() }).unwrap();
        assert_eq!(new.raw, again.raw);
        assert_ne!(new.hash, old.hash);
    }

    #[test]
    fn only_what_the_key_signed_is_signed_again() {
        let signer: Signer = KEY.parse().unwrap();
        let other: Signer = format!("0x{}", "7".repeat(64)).parse().unwrap();
        let good = signer.sign(&call()).unwrap().raw;
        let place = (137, call().to, 9);
        let with_value = {
            let mut tx =
                TxEnvelope::decode_2718_exact(&good).unwrap().as_eip1559().unwrap().tx().clone();
            tx.value = U256::ONE;
            signer.signed(tx).unwrap().raw
        };
        let mut longer = good.to_vec();
        longer.push(0);
        let others = other.sign(&call()).unwrap().raw;
        let fees = Fees { max_fee: 20, tip: 2 };
        assert!(signer.resign(&good, place, fees).is_ok());
        for (raw, place) in [
            (others.as_ref(), place),
            (with_value.as_ref(), place),
            (good.as_ref(), (1, place.1, place.2)),
            (good.as_ref(), (place.0, signer.address(), place.2)),
            (good.as_ref(), (place.0, place.1, 8)),
            (&good[1..], place),
            (longer.as_ref(), place),
            (&[], place),
        ] {
            let error = signer.resign(raw, place, fees).unwrap_err();
            assert!(matches!(error, SignerError::NotOurs(_)), "{error}");
        }
    }

    #[test]
    fn a_bad_key_is_refused_without_repeating_it() {
        for text in ["", "0x12", "zz", &"0".repeat(64), &"f".repeat(64)] {
            let error = text.parse::<Signer>().unwrap_err().to_string();
            assert!(error.contains("not a private key"), "{error}");
        }
        assert!(!format!("{:?}", KEY.parse::<Signer>().unwrap()).contains("ac0974"));
    }
}
