//! EIP-712 typed data in the JSON form that wallets take (`eth_signTypedData_v4`). Amounts are decimal
//! strings, because JavaScript's numbers are not exact.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use alloy::{
    primitives::{Address, U256},
    sol_types::{Eip712Domain, SolStruct},
};
use domain::{money::Amount, time::UnixSeconds};
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    quote::Quote,
    signed::{
        self, AgreedEnd, End, PermitWitnessTransferFrom, PrepaidLock, ReceiveWithAuthorization,
        Withdrawal,
    },
    terms::Terms,
};

/// The fields of each struct in an encoded type, as in `PrepaidLock(Terms terms,uint96 deposit)Terms(..)`.
fn types_in(encoded: &str) -> impl Iterator<Item = (String, Value)> {
    encoded.split_terminator(')').filter_map(|one| {
        let (name, fields) = one.split_once('(')?;
        let fields: Vec<Value> = fields
            .split(',')
            .filter_map(|field| field.split_once(' '))
            .map(|(kind, name)| json!({ "name": name, "type": kind }))
            .collect();
        Some((name.to_owned(), Value::Array(fields)))
    })
}

fn domain_of(domain: &Eip712Domain) -> Value {
    let mut shown = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            shown.insert(name.to_owned(), value);
        }
    };
    add("name", domain.name.as_ref().map(|name| json!(name)));
    add("version", domain.version.as_ref().map(|version| json!(version)));
    add("chainId", domain.chain_id.map(|id| json!(id.to_string())));
    add("verifyingContract", domain.verifying_contract.map(|address| json!(address)));
    Value::Object(shown)
}

/// Typed data as a wallet takes it.
#[derive(Clone, Debug, Serialize)]
pub struct TypedData {
    domain: Value,
    message: Value,
    #[serde(rename = "primaryType")]
    primary_type: &'static str,
    types: &'static RawValue,
}

/// A struct's name, and which parts its domain has.
type Kind = (&'static str, [bool; 4]);

/// The types of a struct and its domain. They never change, so they are written once.
fn types_of<S: SolStruct>(domain: &Eip712Domain) -> &'static RawValue {
    static KNOWN: Mutex<BTreeMap<Kind, &'static RawValue>> = Mutex::new(BTreeMap::new());
    let parts = [
        domain.name.is_some(),
        domain.version.is_some(),
        domain.chain_id.is_some(),
        domain.verifying_contract.is_some(),
    ];
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry((S::NAME, parts)).or_insert_with(|| {
        let types: Map<String, Value> =
            types_in(&domain.encode_type()).chain(types_in(&S::eip712_encode_type())).collect();
        // names and arrays of names: there is nothing in them that JSON cannot say
        serde_json::value::to_raw_value(&types).map_or(RawValue::NULL, |types| Box::leak(types))
    })
}

fn typed_data<S: SolStruct>(domain: &Eip712Domain, message: Value) -> TypedData {
    TypedData {
        domain: domain_of(domain),
        message,
        primary_type: S::NAME,
        types: types_of::<S>(domain),
    }
}

macro_rules! message_of_terms {
    ($terms:expr) => {
        json!({
            "renter": $terms.renter,
            "provider": $terms.provider,
            "token": $terms.token,
            "pricePerHour": $terms.pricePerHour.to_string(),
            "feeBps": $terms.feeBps.to_string(),
            "startBy": $terms.startBy.to_string(),
            "holdback": $terms.holdback.to_string(),
            "orderHash": $terms.orderHash,
        })
    };
}

/// The terms, to be shown to and signed by the renter.
#[must_use]
pub fn terms(terms: &Terms, domain: &Eip712Domain) -> TypedData {
    typed_data::<Terms>(domain, message_of_terms!(terms))
}

/// An end, to be signed by renter or provider, for `close`.
#[must_use]
pub fn end(end: &End, domain: &Eip712Domain) -> TypedData {
    let message = json!({
        "id": end.id,
        "stoppedAt": end.stoppedAt.to_string(),
        "creditSecs": end.creditSecs.to_string(),
    });
    typed_data::<End>(domain, message)
}

/// An end that both sides sign, for `closeAgreed`.
#[must_use]
pub fn agreed_end(end: &AgreedEnd, domain: &Eip712Domain) -> TypedData {
    let message = json!({
        "id": end.id,
        "billedSecs": end.billedSecs.to_string(),
        "validUntil": end.validUntil.to_string(),
    });
    typed_data::<AgreedEnd>(domain, message)
}

/// A lock from the renter's balance, for `lockPrepaid`.
#[must_use]
pub fn prepaid_lock(lock: &PrepaidLock, domain: &Eip712Domain) -> TypedData {
    let message =
        json!({ "terms": message_of_terms!(lock.terms), "deposit": lock.deposit.to_string() });
    typed_data::<PrepaidLock>(domain, message)
}

/// A withdrawal, for `withdrawBySig`.
#[must_use]
pub fn withdrawal(withdrawal: &Withdrawal, domain: &Eip712Domain) -> TypedData {
    let message = json!({
        "account": withdrawal.account,
        "token": withdrawal.token,
        "to": withdrawal.to,
        "amount": withdrawal.amount.to_string(),
        "nonce": withdrawal.nonce.to_string(),
        "deadline": withdrawal.deadline.to_string(),
    });
    typed_data::<Withdrawal>(domain, message)
}

/// An EIP-3009 authorization in the token's domain, for `lockWithAuthorization`.
#[must_use]
pub fn authorization(signed: &ReceiveWithAuthorization, domain: &Eip712Domain) -> TypedData {
    let message = json!({
        "from": signed.from,
        "to": signed.to,
        "value": signed.value.to_string(),
        "validAfter": signed.validAfter.to_string(),
        "validBefore": signed.validBefore.to_string(),
        "nonce": signed.nonce,
    });
    typed_data::<ReceiveWithAuthorization>(domain, message)
}

/// A Permit2 transfer with the terms as its witness, in Permit2's domain, for `lockWithPermit2`.
#[must_use]
pub fn permit2(signed: &PermitWitnessTransferFrom, domain: &Eip712Domain) -> TypedData {
    let message = json!({
        "permitted": {
            "token": signed.permitted.token,
            "amount": signed.permitted.amount.to_string(),
        },
        "spender": signed.spender,
        "nonce": signed.nonce.to_string(),
        "deadline": signed.deadline.to_string(),
        "witness": message_of_terms!(signed.witness),
    });
    typed_data::<PermitWitnessTransferFrom>(domain, message)
}

/// A quote that the platform signed, in the domain of quotes.
#[must_use]
pub fn quote(quote: &Quote, domain: &Eip712Domain) -> TypedData {
    let lines: Vec<Value> = quote
        .lines
        .iter()
        .map(|line| {
            json!({
                "kind": line.kind,
                "unit": line.unit,
                "unitPrice": line.unitPrice.to_string(),
                "quantity": line.quantity.to_string(),
                "max": line.max.to_string(),
            })
        })
        .collect();
    let order = &quote.order;
    let message = json!({
        "id": quote.id,
        "order": {
            "offer": order.offer,
            "offerVersion": order.offerVersion.to_string(),
            "machine": order.machine,
            "gpuModel": order.gpuModel,
            "gpuCount": order.gpuCount.to_string(),
            "durationSecs": order.durationSecs.to_string(),
            "diskGb": order.diskGb.to_string(),
            "upGb": order.upGb.to_string(),
            "downGb": order.downGb.to_string(),
            "template": order.template,
        },
        "lines": lines,
        "usdPerHour": quote.usdPerHour.to_string(),
        "usdMax": quote.usdMax.to_string(),
        "rental": quote.rental,
        "terms": message_of_terms!(quote.terms),
        "deposit": quote.deposit.to_string(),
        "fx": {
            "usdPerToken": quote.fx.usdPerToken.to_string(),
            "source": quote.fx.source,
            "pricedAt": quote.fx.pricedAt.to_string(),
        },
        "createdAt": quote.createdAt.to_string(),
        "expiresAt": quote.expiresAt.to_string(),
        "readySecs": quote.readySecs.to_string(),
        "noticeSecs": quote.noticeSecs.to_string(),
        "refundRule": quote.refundRule,
    });
    typed_data::<Quote>(domain, message)
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
pub fn permit(permit: &Permit<'_>) -> TypedData {
    let domain = signed::token_domain(permit.name, permit.version, permit.chain_id, permit.token);
    let message = json!({
        "owner": permit.owner,
        "spender": permit.spender,
        "value": permit.value.to_string(),
        "nonce": permit.nonce.to_string(),
        "deadline": permit.deadline.get().to_string(),
    });
    typed_data::<signed::Permit>(&domain, message)
}
