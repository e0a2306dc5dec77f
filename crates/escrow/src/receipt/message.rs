//! A quote's message as JSON, as wallets are shown it: numbers are decimal strings.

use std::{fmt, str::FromStr};

use alloy::primitives::{Address, B256, Uint};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::quote::{Fx, Line, Order, Quote, Terms};

/// A number as a decimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.parse().map_err(|_| D::Error::custom("expected a number in digits"))?;
        Ok(Self(number))
    }
}

/// The EIP-712 message of a quote, exactly as [`crate::typed_data::quote`] shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuoteMessage {
    id: String,
    order: OrderMessage,
    lines: Vec<LineMessage>,
    usd_per_hour: Text<u64>,
    usd_max: Text<u64>,
    rental: B256,
    terms: TermsMessage,
    deposit: Text<Uint<96, 2>>,
    fx: FxMessage,
    created_at: Text<Uint<40, 1>>,
    expires_at: Text<Uint<40, 1>>,
    ready_secs: Text<u32>,
    notice_secs: Text<u32>,
    refund_rule: B256,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OrderMessage {
    offer: String,
    offer_version: Text<u32>,
    machine: String,
    gpu_model: String,
    gpu_count: Text<u16>,
    duration_secs: Text<u32>,
    disk_gb: Text<u32>,
    up_gb: Text<u32>,
    down_gb: Text<u32>,
    template: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LineMessage {
    kind: String,
    unit: String,
    unit_price: Text<i64>,
    quantity: Text<u64>,
    max: Text<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TermsMessage {
    renter: Address,
    provider: Address,
    token: Address,
    price_per_hour: Text<Uint<96, 2>>,
    fee_bps: Text<u16>,
    start_by: Text<Uint<40, 1>>,
    holdback: Text<u32>,
    order_hash: B256,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FxMessage {
    usd_per_token: Text<u64>,
    source: String,
    priced_at: Text<Uint<40, 1>>,
}

impl From<&Quote> for QuoteMessage {
    fn from(quote: &Quote) -> Self {
        let (order, terms, fx) = (&quote.order, &quote.terms, &quote.fx);
        let line = |line: &Line| LineMessage {
            kind: line.kind.clone(),
            unit: line.unit.clone(),
            unit_price: Text(line.unitPrice),
            quantity: Text(line.quantity),
            max: Text(line.max),
        };
        Self {
            id: quote.id.clone(),
            order: OrderMessage {
                offer: order.offer.clone(),
                offer_version: Text(order.offerVersion),
                machine: order.machine.clone(),
                gpu_model: order.gpuModel.clone(),
                gpu_count: Text(order.gpuCount),
                duration_secs: Text(order.durationSecs),
                disk_gb: Text(order.diskGb),
                up_gb: Text(order.upGb),
                down_gb: Text(order.downGb),
                template: order.template.clone(),
            },
            lines: quote.lines.iter().map(line).collect(),
            usd_per_hour: Text(quote.usdPerHour),
            usd_max: Text(quote.usdMax),
            rental: quote.rental,
            terms: TermsMessage {
                renter: terms.renter,
                provider: terms.provider,
                token: terms.token,
                price_per_hour: Text(terms.pricePerHour),
                fee_bps: Text(terms.feeBps),
                start_by: Text(terms.startBy),
                holdback: Text(terms.holdback),
                order_hash: terms.orderHash,
            },
            deposit: Text(quote.deposit),
            fx: FxMessage {
                usd_per_token: Text(fx.usdPerToken),
                source: fx.source.clone(),
                priced_at: Text(fx.pricedAt),
            },
            created_at: Text(quote.createdAt),
            expires_at: Text(quote.expiresAt),
            ready_secs: Text(quote.readySecs),
            notice_secs: Text(quote.noticeSecs),
            refund_rule: quote.refundRule,
        }
    }
}

impl From<&QuoteMessage> for Quote {
    fn from(message: &QuoteMessage) -> Self {
        let (order, terms, fx) = (&message.order, &message.terms, &message.fx);
        let line = |line: &LineMessage| Line {
            kind: line.kind.clone(),
            unit: line.unit.clone(),
            unitPrice: line.unit_price.0,
            quantity: line.quantity.0,
            max: line.max.0,
        };
        Self {
            id: message.id.clone(),
            order: Order {
                offer: order.offer.clone(),
                offerVersion: order.offer_version.0,
                machine: order.machine.clone(),
                gpuModel: order.gpu_model.clone(),
                gpuCount: order.gpu_count.0,
                durationSecs: order.duration_secs.0,
                diskGb: order.disk_gb.0,
                upGb: order.up_gb.0,
                downGb: order.down_gb.0,
                template: order.template.clone(),
            },
            lines: message.lines.iter().map(line).collect(),
            usdPerHour: message.usd_per_hour.0,
            usdMax: message.usd_max.0,
            rental: message.rental,
            terms: Terms {
                renter: terms.renter,
                provider: terms.provider,
                token: terms.token,
                pricePerHour: terms.price_per_hour.0,
                feeBps: terms.fee_bps.0,
                startBy: terms.start_by.0,
                holdback: terms.holdback.0,
                orderHash: terms.order_hash,
            },
            deposit: message.deposit.0,
            fx: Fx {
                usdPerToken: fx.usd_per_token.0,
                source: fx.source.clone(),
                pricedAt: fx.priced_at.0,
            },
            createdAt: message.created_at.0,
            expiresAt: message.expires_at.0,
            readySecs: message.ready_secs.0,
            noticeSecs: message.notice_secs.0,
            refundRule: message.refund_rule,
        }
    }
}
