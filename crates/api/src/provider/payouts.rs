//! What was taken out of the contract: by the caller's wallet, to wherever it said.

use alloy::primitives::{Address, B256};
use axum::{Json, extract::State};
use serde::Serialize;
use store::{
    ledger::{self, Payout},
    tokens,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::PageParams;
use crate::{
    AppState, Problem, cursor,
    extract::Params,
    identity::Wallet,
    problem::internal,
    views::{Time, TokenAmount, Unit, page_limit},
};

const LIST: &str = "payouts";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(payouts))
}

/// A withdrawal, or what it took from one of two balances.
#[derive(Serialize, ToSchema)]
pub(crate) struct PayoutView {
    at: Time,
    /// `provider_earnings`, or `renter_credit` for a refund that could not be pushed. A withdrawal that took from both is
    /// told twice, with one transaction.
    #[schema(example = "provider_earnings")]
    kind: &'static str,
    amount: TokenAmount,
    /// Where it went.
    #[schema(value_type = Option<String>, example = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8")]
    to: Option<Address>,
    #[schema(value_type = Option<String>)]
    tx_hash: Option<B256>,
    block: Option<u64>,
    /// The event's position in the block.
    #[schema(example = 3)]
    log_index: Option<u32>,
}

/// A page of payouts.
#[derive(Serialize, ToSchema)]
pub(crate) struct PayoutPage {
    data: Vec<PayoutView>,
    next_cursor: Option<String>,
}

/// What the caller's wallet took out of the contract, newest first, by final events only. What can be taken out is at
/// `/v1/provider/earnings`.
#[utoipa::path(get, path = "/v1/provider/payouts", tag = "provider", security(("bearer" = [])),
    params(PageParams), responses((status = 200, body = PayoutPage)))]
async fn payouts(
    State(app): State<AppState>,
    wallet: Wallet,
    Params(page): Params<PageParams>,
) -> Result<Json<PayoutPage>, Problem> {
    let limit = page_limit(page.limit)?;
    let before = match &page.cursor {
        Some(text) => {
            let [seq] = cursor::read::<1>(LIST, text)?;
            Some(seq.parse().map_err(|_| cursor::invalid())?)
        }
        None => None,
    };
    let mut connection = app.store.read().await?;
    let owner = wallet.account.address;
    let found = ledger::payouts(&mut connection, owner, before, i64::from(limit)).await?;
    let full = found.len() >= usize::from(limit);
    let last = found.last().filter(|_| full).map(|payout| payout.seq.to_string());
    let next_cursor = last.map(|seq| cursor::write(LIST, &[seq]));
    let mut units: Vec<Unit> = Vec::new();
    let mut data = Vec::with_capacity(found.len());
    for payout in found {
        let known = units.iter().find(|unit| unit.token().address == payout.token).cloned();
        let unit = match known {
            Some(unit) => unit,
            None => {
                // what was paid stays paid when its token leaves the list
                let token = tokens::at(&mut connection, payout.token).await?;
                let token = token.ok_or_else(|| internal("a payout in an unknown token"))?;
                let unit = Unit::new(token, app.config.chain_id);
                units.push(unit.clone());
                unit
            }
        };
        data.push(view(payout, &unit));
    }
    Ok(Json(PayoutPage { data, next_cursor }))
}

fn view(payout: Payout, unit: &Unit) -> PayoutView {
    PayoutView {
        at: Time(payout.at),
        kind: payout.account.as_str(),
        amount: unit.amount(payout.amount),
        to: payout.event.and_then(|event| event.to),
        tx_hash: payout.event.map(|event| event.tx_hash),
        block: payout.event.map(|event| event.block),
        log_index: payout.event.map(|event| event.log_index),
    }
}
