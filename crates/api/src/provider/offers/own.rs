//! A provider's own offers, also those that nobody else finds: paused and withdrawn ones.

use axum::{Json, extract::State};
use domain::{id::OfferId, offer::OfferState};
use serde::{Deserialize, Serialize};
use store::offers;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::etag;
use crate::{
    AppState, Problem, access, cursor,
    extract::{Parameters, Params},
    identity::Wallet,
    market::OfferView,
    views::page_limit,
};

const LIST: &str = "provider-offers";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(own))
}

/// Which of them, and which part.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OwnOfferParams {
    /// `listed`, `paused` or `withdrawn`; all if left out.
    #[param(value_type = Option<String>)]
    state: Option<OfferState>,
    /// 1 to 200; 50 if left out.
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl Parameters for OwnOfferParams {
    const NAMES: &'static [&'static str] = &["state", "limit", "cursor"];
}

/// An offer of one's own.
#[derive(Serialize, ToSchema)]
pub(crate) struct OwnOffer {
    /// For the If-Match of a change.
    #[schema(example = "\"3-paused\"")]
    etag: String,
    #[serde(flatten)]
    offer: OfferView,
}

/// A page of one's own offers.
#[derive(Serialize, ToSchema)]
pub(crate) struct OwnOfferPage {
    data: Vec<OwnOffer>,
    next_cursor: Option<String>,
}

/// The caller's offers, oldest first, whether they are listed or not.
#[utoipa::path(get, path = "/v1/provider/offers", tag = "provider", security(("bearer" = [])),
    params(OwnOfferParams), responses((status = 200, body = OwnOfferPage)))]
async fn own(
    State(app): State<AppState>,
    wallet: Wallet,
    Params(page): Params<OwnOfferParams>,
) -> Result<Json<OwnOfferPage>, Problem> {
    let limit = page_limit(page.limit)?;
    // a cursor is good for its own filter
    let list = format!("{LIST}:{}", page.state.map_or("", OfferState::as_str));
    let after: Option<OfferId> = match &page.cursor {
        Some(cursor) => {
            let [id] = cursor::read::<1>(&list, cursor)?;
            Some(id.parse().map_err(|_| cursor::invalid())?)
        }
        None => None,
    };
    let (account, now) = (wallet.account.id, app.now());
    let mut connection = app.store.read().await?;
    let found =
        offers::list(&mut connection, account, page.state, after, i64::from(limit), now).await?;
    let full = found.len() >= usize::from(limit);
    let last = found.last().filter(|_| full).map(|offer| offer.id.to_string());
    let next_cursor = last.map(|id| cursor::write(&list, &[id]));
    let seen = found.iter().filter(|offer| {
        wallet.key().is_none_or(|key| access::allows_offer(key, offer.id, offer.machine))
    });
    let data = seen.map(|offer| OwnOffer { etag: etag(offer), offer: OfferView::new(offer, &app) });
    Ok(Json(OwnOfferPage { data: data.collect(), next_cursor }))
}
