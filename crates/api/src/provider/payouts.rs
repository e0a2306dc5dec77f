//! What was taken out of the contract: by the caller's wallet, to wherever it said.

use alloy::primitives::{Address, B256};
use axum::{Json, extract::State};
use serde::Serialize;
use store::ledger::{self, Payout};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::PageParams;
use crate::{
    AppState, Problem, cursor,
    extract::Params,
    identity::Wallet,
    views::{Coin, Time, TokenAmount, page_limit},
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
    let mut coins: Vec<Coin> = Vec::new();
    let mut data = Vec::with_capacity(found.len());
    for payout in found {
        let known = coins.iter().find(|coin| coin.address() == payout.token).cloned();
        let coin = match known {
            Some(coin) => coin,
            None => {
                // what was paid stays paid when its token leaves the list
                let coin = Coin::at(&mut connection, payout.token, app.config.chain_id).await?;
                coins.push(coin.clone());
                coin
            }
        };
        data.push(view(payout, &coin));
    }
    Ok(Json(PayoutPage { data, next_cursor }))
}

fn view(payout: Payout, coin: &Coin) -> PayoutView {
    PayoutView {
        at: Time(payout.at),
        kind: payout.account.as_str(),
        amount: coin.amount(payout.amount),
        to: payout.event.and_then(|event| event.to),
        tx_hash: payout.event.map(|event| event.tx_hash),
        block: payout.event.map(|event| event.block),
        log_index: payout.event.map(|event| event.log_index),
    }
}
