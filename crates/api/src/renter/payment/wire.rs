//! What x402 version 2 sends in headers: base64 of JSON.

use alloy::primitives::{Address, B256, Bytes, U256};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use domain::id::QuoteId;
use escrow::terms::{NAME, VERSION};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{deployment::Deployment, quotes::Quote};

use crate::{Code, Problem, problem::internal, renter::quotes::terms_of};

/// Says what is to be paid.
pub(super) const REQUIRED: HeaderName = HeaderName::from_static("payment-required");
/// Holds the payment.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("payment-signature");
/// Says what became of it.
pub(super) const RESPONSE: HeaderName = HeaderName::from_static("payment-response");

/// The scheme (docs/adr/0015): the deposit is authorized (EIP-3009) with the id of the rental as its nonce.
pub(super) const SCHEME: &str = "weir-escrow";
const X402_VERSION: u64 = 2;
/// The longest payment that is read.
const MAX_PAYMENT: usize = 16 * 1_024;

/// CAIP-2.
pub(super) fn network(chain_id: u64) -> String {
    format!("eip155:{chain_id}")
}

pub(super) fn header_of(value: &Value) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(&BASE64_STANDARD.encode(value.to_string())).map_err(internal)
}

/// What is to be paid: all of the rental's terms but the renter, who is whoever pays.
pub(super) fn required(
    quote: &Quote,
    contract: &Deployment,
    (name, version): &(String, String),
    url: &str,
    error: &str,
) -> Value {
    let terms = terms_of(quote);
    let seconds = quote.expires_at.saturating_since(quote.created_at);
    json!({
        "x402Version": X402_VERSION,
        "error": error,
        "resource": {
            "url": format!("{url}/v1/rentals"),
            "description": format!(
                "{} x {} for {} s; what is not used goes back to the payer",
                quote.gpu_count, quote.model, quote.duration
            ),
            "mimeType": "application/json",
        },
        "accepts": [{
            "scheme": SCHEME,
            "network": network(contract.chain_id),
            "amount": quote.deposit,
            "asset": quote.token.to_checksum(None),
            "payTo": contract.escrow.to_checksum(None),
            "maxTimeoutSeconds": seconds,
            "extra": {
                "name": name,
                "version": version,
                "assetTransferMethod": "eip3009-receive",
                "quote": quote.id,
                "escrow": { "name": NAME, "version": VERSION },
                "terms": {
                    "provider": terms.provider.to_checksum(None),
                    "token": terms.token.to_checksum(None),
                    "pricePerHour": terms.pricePerHour.to_string(),
                    "feeBps": terms.feeBps.to_string(),
                    "startBy": terms.startBy.to_string(),
                    "holdback": terms.holdback.to_string(),
                    "orderHash": terms.orderHash,
                },
            },
        }],
    })
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "x402Version")]
    version: u64,
    accepted: Accepted,
    payload: Signed,
}

#[derive(Deserialize)]
struct Accepted {
    scheme: String,
    network: String,
    extra: Extra,
}

#[derive(Deserialize)]
struct Extra {
    quote: QuoteId,
}

#[derive(Deserialize)]
struct Signed {
    signature: Bytes,
    authorization: Authorization,
}

/// An EIP-3009 authorization. Numbers are decimal strings.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Authorization {
    pub(super) from: Address,
    pub(super) to: Address,
    value: String,
    valid_after: String,
    valid_before: String,
    pub(super) nonce: B256,
}

/// A payment as it came.
#[derive(Clone, Debug)]
pub(super) struct Payment {
    pub(super) quote: QuoteId,
    pub(super) authorization: Authorization,
    pub(super) value: U256,
    pub(super) valid_after: u64,
    pub(super) valid_before: u64,
    pub(super) signature: Bytes,
}

/// The payment of a request, if it has one.
///
/// # Errors
/// [`Code::InvalidRequest`] if it is not one of this scheme on this chain.
pub(super) fn payment(headers: &HeaderMap, chain_id: u64) -> Result<Option<Payment>, Problem> {
    let Some(value) = headers.get(SIGNATURE) else {
        return Ok(None);
    };
    let odd = |what: String| {
        let detail = format!("PAYMENT-SIGNATURE is not a payment: {what}");
        Problem::new(Code::InvalidRequest, detail)
    };
    if value.len() > MAX_PAYMENT {
        return Err(odd(format!("it has more than {MAX_PAYMENT} bytes")));
    }
    let bytes = BASE64_STANDARD.decode(value).map_err(|_| odd("it is not base64".to_owned()))?;
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    let read: Payload = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| odd(format!("{}: {}", error.path(), error.inner())))?;
    if read.version != X402_VERSION {
        return Err(odd(format!("x402Version must be {X402_VERSION}")));
    }
    if read.accepted.scheme != SCHEME || read.accepted.network != network(chain_id) {
        return Err(odd(format!("only {SCHEME} on {} is taken", network(chain_id))));
    }
    let authorization = read.payload.authorization;
    let number = |name: &str, text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let read: Option<U256> = digits.then(|| text.parse().ok()).flatten();
        read.ok_or_else(|| odd(format!("{name} is not a whole number")))
    };
    let second = |name: &str, text: &str| {
        let value = number(name, text)?;
        u64::try_from(value).map_err(|_| odd(format!("{name} is out of range")))
    };
    Ok(Some(Payment {
        quote: read.accepted.extra.quote,
        value: number("value", &authorization.value)?,
        valid_after: second("validAfter", &authorization.valid_after)?,
        valid_before: second("validBefore", &authorization.valid_before)?,
        signature: read.payload.signature,
        authorization,
    }))
}

/// What became of a payment.
pub(super) fn settled(chain_id: u64, payer: Address, transaction: B256) -> Value {
    json!({
        "success": true,
        "transaction": transaction,
        "network": network(chain_id),
        "payer": payer.to_checksum(None),
    })
}

/// Why a payment was not taken.
pub(super) fn failed(chain_id: u64, payer: Address, reason: &str) -> Value {
    json!({
        "success": false,
        "errorReason": reason,
        "transaction": "",
        "network": network(chain_id),
        "payer": payer.to_checksum(None),
    })
}
