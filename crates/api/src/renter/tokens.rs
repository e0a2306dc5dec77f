//! The tokens that came with a rental that was paid for by x402: whoever fears for one ends them.

use axum::{extract::State, http::StatusCode};
use domain::id::RentalId;
use store::payments;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::rentals::of_party;
use crate::{
    AppState, Code, Problem,
    extract::Id,
    identity::{By, Wallet},
    problem::refuse,
    security,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(end))
}

/// Ends the tokens that were given with this rental, at once and everywhere; nothing else of the rental changes. For its
/// renter, signed in with the wallet, and for whoever holds such a token. No other is given afterwards. No API key may ask.
#[utoipa::path(delete, path = "/v1/rentals/{id}/tokens", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 204, description = "No token opens the rental any more.")))]
async fn end(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
) -> Result<StatusCode, Problem> {
    if matches!(wallet.by, By::Key(_)) {
        wallet.session()?;
    }
    let account = wallet.account.id;
    app.store
        .write("rentals.end_tokens", move |tx| {
            Box::pin(async move {
                let (rental, _) = of_party(tx, account, id).await.or_else(refuse)?;
                if rental.renter != account {
                    let detail = "only the renter's payment came with tokens";
                    return refuse(Problem::new(Code::Forbidden, detail));
                }
                if payments::end_tokens_of(tx, id, account).await? == 0 {
                    return refuse(Problem::not_found("token of this rental"));
                }
                Ok(())
            })
        })
        .await
        .map_err(Problem::from)?;
    security::credential("rental_tokens_ended", account, id);
    Ok(StatusCode::NO_CONTENT)
}
