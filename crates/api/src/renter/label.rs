//! What its renter calls a rental.

use std::sync::Arc;

use alloy::primitives::hex;
use axum::{Json, extract::State};
use domain::id::{AccountId, RentalId};
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};
use store::{
    TxError,
    rentals::{self, Rental},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::rentals::{RentalView, of_party, rental_view};
use crate::{
    AppState, Code, Problem,
    account::label,
    extract::{Body, Id, IfMatch},
    identity::Wallet,
    problem::refuse,
};

/// Bytes of the hash of a name in a tag.
const PART_BYTES: usize = 4;

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

/// The part of a rental's tag that tells what its renter calls it, as this account sees it. All else that changes, as the cost
/// does by the second, is no reason to refuse another name.
pub(super) fn label_tag(rental: &Rental, account: AccountId) -> String {
    let label = rental.label.as_deref().filter(|_| rental.renter == account);
    let hash =
        Sha256::digest(label.map_or_else(Vec::new, |label| format!("={label}").into_bytes()));
    hash.get(..PART_BYTES).map(hex::encode).unwrap_or_default()
}

/// `null` is said; nothing is not.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// Says what the renter calls a rental. Nobody else sees it, and nothing depends on it: the last word counts, unless `If-Match`
/// has the `ETag` that was read, and the rental is called something else by now. What else has changed does not matter.
#[utoipa::path(patch, path = "/v1/rentals/{id}", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("If-Match" = Option<String>, Header, description = "the `ETag` of the rental that was read")),
    request_body = RentalPatch,
    responses((status = 200, body = RentalView),
              (status = 412, description = "It was named anew since.")))]
async fn change(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
    condition: Option<IfMatch>,
    Body(patch): Body<RentalPatch>,
) -> Result<Json<RentalView>, Problem> {
    let account = wallet.account.id;
    let label = patch.label.as_deref().map(label).transpose()?;
    let (shared, condition) = (app.clone(), Arc::new(condition));
    let answer = app
        .store
        .write("rentals.label", move |tx| {
            let (app, label, condition) = (shared.clone(), label.clone(), condition.clone());
            Box::pin(async move {
                if condition.is_some() {
                    // nobody names it between the look and the change
                    store::readings::lock_rental(tx, id).await?;
                }
                let of = of_party(tx, account, id).await;
                let (rental, _) = of.map_err(TxError::Refused)?;
                if rental.renter != account {
                    return refuse(Problem::new(Code::Forbidden, "only the renter names a rental"));
                }
                let part = label_tag(&rental, account);
                if (*condition).as_ref().is_some_and(|condition| !condition.begins(&part)) {
                    let detail = "the rental was named anew since it was read";
                    return refuse(Problem::new(Code::EtagMismatch, detail));
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
