//! What its renter calls a rental.

use axum::{Json, extract::State};
use domain::id::RentalId;
use serde::{Deserialize, Deserializer};
use store::{TxError, rentals};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::rentals::{RentalView, of_party, rental_view};
use crate::{
    AppState, Code, Problem,
    account::label,
    extract::{Body, Id},
    identity::Wallet,
    problem::refuse,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(change))
}

/// A change of what its renter says of a rental.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"label": "nightly training"}))]
pub(crate) struct RentalPatch {
    /// 1 to 64 characters in one line, without space around them; `null` takes it away.
    #[serde(deserialize_with = "said")]
    #[schema(required)]
    label: Option<String>,
}

/// `null` is said; nothing is not.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// Says what the renter calls a rental. Nobody else sees it, and nothing depends on it: the last word counts.
#[utoipa::path(patch, path = "/v1/rentals/{id}", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    request_body = RentalPatch, responses((status = 200, body = RentalView)))]
async fn change(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
    Body(patch): Body<RentalPatch>,
) -> Result<Json<RentalView>, Problem> {
    let account = wallet.account.id;
    let label = patch.label.as_deref().map(label).transpose()?;
    let shared = app.clone();
    let answer = app
        .store
        .write("rentals.label", move |tx| {
            let (app, label) = (shared.clone(), label.clone());
            Box::pin(async move {
                let of = of_party(tx, account, id).await;
                let (rental, _) = of.map_err(TxError::Refused)?;
                if rental.renter != account {
                    return refuse(Problem::new(Code::Forbidden, "only the renter names a rental"));
                }
                rentals::set_label(tx, id, label.as_deref()).await?;
                let of = of_party(tx, account, id).await;
                let (rental, quote) = of.map_err(TxError::Refused)?;
                let view = rental_view(tx, &app, &rental, &quote, account).await;
                view.map_err(TxError::Refused)
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok(Json(answer))
}
