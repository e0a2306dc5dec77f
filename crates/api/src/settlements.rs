//! The calls to the contract for the caller's rentals, and how far each is.

use alloy::primitives::B256;
use axum::{Json, extract::State};
use domain::id::RentalId;
use serde::{Deserialize, Serialize};
use store::{
    intents::{self, Operation},
    rentals::Party,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    AppState, Problem, cursor,
    extract::{Parameters, Params},
    identity::Wallet,
    renter::Role,
    views::{Time, page_limit},
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which calls.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SettlementParams {
    /// For rentals in which the caller is the `renter` (the default) or the `provider`.
    #[param(inline)]
    role: Option<Role>,
    /// 1 to 200; 50 if left out.
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl Parameters for SettlementParams {
    const NAMES: &'static [&'static str] = &["role", "limit", "cursor"];
}

/// A call to the contract.
#[derive(Serialize, ToSchema)]
pub(crate) struct SettlementView {
    #[schema(value_type = String, example = "0198f1c2-a4b3-7c1e-8d2f-6a5b4c3d2e1f")]
    id: Uuid,
    /// `lock`, `start`, `release`, `close`, `cancel` or `finalize`.
    #[schema(example = "close")]
    kind: String,
    /// `planned`, `submitted`, `included` (in a block that is not final), `final`, or `dropped`: nobody wants it any
    /// more, the contract refused it, or its transaction came to nothing. What is still wanted is then planned anew.
    #[schema(example = "final")]
    state: &'static str,
    #[schema(value_type = String, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    rental_id: RentalId,
    /// The rental's id on the chain.
    #[schema(value_type = String)]
    escrow_id: B256,
    #[schema(value_type = Option<String>)]
    tx_hash: Option<B256>,
    /// The block that the transaction is in.
    block: Option<u64>,
    created_at: Time,
}

/// A page of calls.
#[derive(Serialize, ToSchema)]
pub(crate) struct SettlementPage {
    data: Vec<SettlementView>,
    next_cursor: Option<String>,
}

/// The calls to the contract that the service makes for the caller's rentals, and how far each is: those of the newest
/// rental first, of each the newest first. What wallets send themselves is among the `events` of a rental's receipt and
/// of `/v1/escrow/{id}`.
#[utoipa::path(get, path = "/v1/settlements", tag = "account", security(("bearer" = [])),
    params(SettlementParams), responses((status = 200, body = SettlementPage)))]
async fn list(
    State(app): State<AppState>,
    wallet: Wallet,
    Params(params): Params<SettlementParams>,
) -> Result<Json<SettlementPage>, Problem> {
    let limit = page_limit(params.limit)?;
    let account = wallet.account.id;
    let (party, name) = match params.role {
        None | Some(Role::Renter) => (Party::Renter(account), "settlements:renter"),
        Some(Role::Provider) => (Party::Provider(account), "settlements:provider"),
    };
    let before = match &params.cursor {
        Some(text) => {
            let [rental, id] = cursor::read::<2>(name, text)?;
            let place = rental.parse().ok().zip(id.parse().ok());
            Some(place.ok_or_else(cursor::invalid)?)
        }
        None => None,
    };
    let mut connection = app.store.read().await?;
    let found = intents::operations(&mut connection, party, before, i64::from(limit)).await?;
    let full = found.len() >= usize::from(limit);
    let last =
        found.last().filter(|_| full).map(|one| [one.rental.to_string(), one.id.to_string()]);
    let next_cursor = last.map(|place| cursor::write(name, &place));
    Ok(Json(SettlementPage { data: found.into_iter().map(view).collect(), next_cursor }))
}

/// How far a call is, by its own state and that of the transaction that carries it.
fn state_of(intent: &str, tx: Option<&str>) -> &'static str {
    match (intent, tx) {
        ("queued", _) => "planned",
        ("done", _) => "final",
        ("sent", Some("mined")) => "included",
        ("sent", Some("final_ok")) => "final",
        ("sent", _) => "submitted",
        _ => "dropped",
    }
}

fn view(one: Operation) -> SettlementView {
    SettlementView {
        id: one.id,
        state: state_of(&one.intent, one.tx.as_deref()),
        kind: one.purpose,
        rental_id: one.rental,
        escrow_id: one.escrow_id,
        tx_hash: one.tx_hash,
        block: one.block,
        created_at: Time(one.created_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_as_far_as_the_transaction_that_carries_it() {
        for (intent, tx, state) in [
            ("queued", None, "planned"),
            ("sent", Some("numbered"), "submitted"),
            ("sent", Some("flying"), "submitted"),
            ("sent", Some("mined"), "included"),
            ("sent", Some("final_ok"), "final"),
            ("done", Some("final_ok"), "final"),
            ("refused", None, "dropped"),
            ("refused", Some("final_reverted"), "dropped"),
        ] {
            assert_eq!(state_of(intent, tx), state, "{intent} {tx:?}");
        }
    }
}
