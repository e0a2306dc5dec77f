//! EIP-712 typed data in the JSON form that wallets take (`eth_signTypedData_v4`). Amounts are decimal
//! strings, because JavaScript's numbers are not exact.

use alloy::{
    primitives::{Address, U256},
    sol_types::Eip712Domain,
};
use domain::{money::Amount, time::UnixSeconds};
use serde_json::{Value, json};

use crate::terms::Terms;

fn domain_types() -> Value {
    json!([
        {"name": "name", "type": "string"},
        {"name": "version", "type": "string"},
        {"name": "chainId", "type": "uint256"},
        {"name": "verifyingContract", "type": "address"},
    ])
}

/// The terms, to be shown to and signed by the renter.
#[must_use]
pub fn terms(terms: &Terms, domain: &Eip712Domain) -> Value {
    json!({
        "types": {
            "EIP712Domain": domain_types(),
            "Terms": [
                {"name": "renter", "type": "address"},
                {"name": "provider", "type": "address"},
                {"name": "token", "type": "address"},
                {"name": "pricePerHour", "type": "uint96"},
                {"name": "feeBps", "type": "uint16"},
                {"name": "startBy", "type": "uint40"},
                {"name": "holdback", "type": "uint32"},
                {"name": "orderHash", "type": "bytes32"},
            ],
        },
        "primaryType": "Terms",
        "domain": {
            "name": domain.name,
            "version": domain.version,
            "chainId": domain.chain_id.map(|id| id.to_string()),
            "verifyingContract": domain.verifying_contract,
        },
        "message": {
            "renter": terms.renter,
            "provider": terms.provider,
            "token": terms.token,
            "pricePerHour": terms.pricePerHour.to_string(),
            "feeBps": terms.feeBps.to_string(),
            "startBy": terms.startBy.to_string(),
            "holdback": terms.holdback.to_string(),
            "orderHash": terms.orderHash,
        },
    })
}

/// What an EIP-2612 permit says.
#[derive(Clone, Debug)]
pub struct Permit<'a> {
    /// The token's contract.
    pub token: Address,
    /// The token's EIP-712 domain name, read from the chain.
    pub name: &'a str,
    /// The token's EIP-712 domain version.
    pub version: &'a str,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Whose tokens.
    pub owner: Address,
    /// Who may take them: the escrow.
    pub spender: Address,
    /// How many.
    pub value: Amount,
    /// The owner's next permit nonce.
    pub nonce: U256,
    /// The last second at which it is valid.
    pub deadline: UnixSeconds,
}

/// An EIP-2612 permit, for `lockWithPermit`.
#[must_use]
pub fn permit(permit: &Permit<'_>) -> Value {
    json!({
        "types": {
            "EIP712Domain": domain_types(),
            "Permit": [
                {"name": "owner", "type": "address"},
                {"name": "spender", "type": "address"},
                {"name": "value", "type": "uint256"},
                {"name": "nonce", "type": "uint256"},
                {"name": "deadline", "type": "uint256"},
            ],
        },
        "primaryType": "Permit",
        "domain": {
            "name": permit.name,
            "version": permit.version,
            "chainId": permit.chain_id.to_string(),
            "verifyingContract": permit.token,
        },
        "message": {
            "owner": permit.owner,
            "spender": permit.spender,
            "value": permit.value.to_string(),
            "nonce": permit.nonce.to_string(),
            "deadline": permit.deadline.get().to_string(),
        },
    })
}
