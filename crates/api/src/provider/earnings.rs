//! What a provider has earned and can take out.

use alloy::primitives::{Address, Bytes};
use axum::{Json, extract::State};
use domain::{ledger::AccountKind, money::Amount};
use escrow::calldata;
use serde::Serialize;
use store::{deployment, ledger};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState, Problem,
    identity::Wallet,
    views::{Coin, TokenAmount},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(earnings))
}

/// A balance in the contract, as final events have made it.
#[derive(Serialize, ToSchema)]
pub(crate) struct BalanceView {
    /// `provider_earnings`, or `renter_credit` for a refund that could not be pushed.
    #[schema(example = "provider_earnings")]
    kind: &'static str,
    balance: TokenAmount,
    /// The call that takes it all out to the wallet itself.
    withdraw: CallView,
}

/// A call for a wallet to send.
#[derive(Serialize, ToSchema)]
pub(crate) struct CallView {
    /// The contract.
    #[schema(value_type = String)]
    pub(crate) to: Address,
    /// What to call, encoded.
    #[schema(value_type = String, example = "0x")]
    pub(crate) calldata: Bytes,
}

/// All balances.
#[derive(Serialize, ToSchema)]
pub(crate) struct Earnings {
    balances: Vec<BalanceView>,
    /// Always null: all of them are on one page. For whoever reads every list alike.
    next_cursor: Option<String>,
}

/// The caller's balances in the escrow contract, by final events only.
#[utoipa::path(get, path = "/v1/provider/earnings", tag = "provider", security(("bearer" = [])),
    responses((status = 200, body = Earnings)))]
async fn earnings(State(app): State<AppState>, wallet: Wallet) -> Result<Json<Earnings>, Problem> {
    let owner = wallet.account.address;
    let mut connection = app.store.read().await?;
    let contract = app.known(deployment::get(&mut connection).await?)?;
    let mut balances = Vec::new();
    for entry in ledger::balances(&mut connection, owner).await? {
        // the world outside the contract is the other side of every sum, not a balance of theirs
        if matches!(entry.account.kind, AccountKind::Outside | AccountKind::GasSpent) {
            continue;
        }
        let base_units = store::convert::amount(&entry.balance)?;
        if base_units.is_zero() {
            continue;
        }
        // what was earned stays earned when its token leaves the list
        let coin = Coin::at(&mut connection, entry.account.token, app.config.chain_id).await?;
        let data = calldata::withdraw(coin.address(), owner, Amount::ZERO);
        balances.push(BalanceView {
            kind: entry.account.kind.as_str(),
            withdraw: CallView { to: contract.escrow, calldata: Bytes::from(data) },
            balance: coin.amount(base_units),
        });
    }
    Ok(Json(Earnings { balances, next_cursor: None }))
}
