//! Offers: a machine's GPUs at a price. A change of terms makes a new version; rentals keep theirs.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{
    id::{MachineId, OfferId},
    offer::{OfferError, OfferState, OfferTerms},
    rate::UsdPerHour,
    time::Seconds,
};
use serde::Deserialize;
use store::{
    machines,
    offers::{self, NewOffer, Offer},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    AppState, Code, Problem,
    extract::{Body, Id, IfMatch},
    identity::Wallet,
    market::OfferView,
    problem::{internal, refuse},
    views::Usd,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(read, change, withdraw))
}

/// An offer to be listed.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "machine_id": "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f",
    "price": {"amount": "0.65", "currency": "USD"}, "gpu_count": 2,
    "min_duration_s": 60, "max_duration_s": 86400,
}))]
pub(crate) struct OfferRequest {
    /// The machine that is offered; it has one live offer at a time.
    #[schema(value_type = String)]
    machine_id: MachineId,
    /// Per GPU and hour, gross of the platform's fee; above 0, at most 1,000 dollars.
    price: Usd,
    /// How many of the machine's GPUs; they are rented together.
    gpu_count: u16,
    /// The shortest rental in seconds, at least 1.
    #[schema(value_type = u32)]
    min_duration_s: Seconds,
    /// The longest rental in seconds, at most 31 days.
    #[schema(value_type = u32)]
    max_duration_s: Seconds,
}

/// A change of an offer: what is left out stays.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"price": {"amount": "0.70", "currency": "USD"}}))]
pub(crate) struct OfferPatch {
    price: Option<Usd>,
    gpu_count: Option<u16>,
    #[schema(value_type = Option<u32>)]
    min_duration_s: Option<Seconds>,
    #[schema(value_type = Option<u32>)]
    max_duration_s: Option<Seconds>,
    /// `listed` or `paused`.
    #[schema(value_type = Option<String>, example = "paused")]
    state: Option<OfferState>,
}

/// The entity tag of an offer: its version and its state.
fn etag(offer: &Offer) -> String {
    format!("\"{}-{}\"", offer.version, offer.state)
}

/// An offer with its tag, or nothing if the reader has it already.
fn tagged(status: StatusCode, offer: &Offer, app: &AppState) -> Result<Response, Problem> {
    let tag = HeaderValue::from_str(&etag(offer)).map_err(internal)?;
    let mut response = (status, Json(OfferView::new(offer, app))).into_response();
    response.headers_mut().insert(header::ETAG, tag);
    // public, and never stale: the next read asks again, and may be told "not modified"
    let revalidate = HeaderValue::from_static("no-cache");
    response.headers_mut().insert(header::CACHE_CONTROL, revalidate);
    Ok(response)
}

fn checked(terms: OfferTerms) -> Result<OfferTerms, Problem> {
    match terms.validate() {
        Ok(()) => Ok(terms),
        Err(error) => {
            let pointer = match error {
                OfferError::PriceZero | OfferError::PriceTooHigh => "/price/amount",
                OfferError::GpuCount(_) => "/gpu_count",
                OfferError::MinDurationZero | OfferError::MinAboveMax { .. } => "/min_duration_s",
                OfferError::MaxDurationTooLong => "/max_duration_s",
                OfferError::ModelSlug => "/model",
            };
            Err(Problem::invalid(pointer, error.to_string()))
        }
    }
}

fn check_count(terms: &OfferTerms, gpus: usize) -> Result<(), Problem> {
    if usize::from(terms.gpu_count) <= gpus {
        return Ok(());
    }
    Err(Problem::invalid("/gpu_count", format!("the machine has {gpus} GPUs")))
}

/// Lists a machine's GPUs at a price.
#[utoipa::path(post, path = "/v1/offers", tag = "provider", security(("bearer" = [])),
    request_body = OfferRequest,
    responses((status = 201, body = OfferView, headers(("ETag", description = "for If-Match")))))]
async fn create(
    State(app): State<AppState>,
    wallet: Wallet,
    Body(request): Body<OfferRequest>,
) -> Result<Response, Problem> {
    let terms = checked(OfferTerms {
        price: UsdPerHour(request.price.amount),
        gpu_count: request.gpu_count,
        min_duration: request.min_duration_s,
        max_duration: request.max_duration_s,
    })?;
    let (account, machine, now) = (wallet.account.id, request.machine_id, app.now());
    let offer = app
        .store
        .write("offers.create", move |tx| {
            Box::pin(async move {
                let owned =
                    machines::get(tx, machine).await?.filter(|found| found.account == account);
                let Some(found) = owned else {
                    return refuse(Problem::invalid("/machine_id", "you have no such machine"));
                };
                check_count(&terms, found.gpus.len()).or_else(refuse)?;
                let Some(gpu) = found.gpus.first() else {
                    return refuse(Problem::invalid("/machine_id", "the machine has no GPUs"));
                };
                let id = OfferId::from_uuid(Uuid::now_v7());
                let model = gpu.model.clone();
                match offers::create(tx, &NewOffer { id, machine, account, model, terms, now })
                    .await
                {
                    Err(error) if error.is_conflict_on("offers_one_live_per_machine") => {
                        let detail = "the machine has a live offer: change it or withdraw it";
                        return refuse(Problem::new(Code::AlreadyExists, detail));
                    }
                    done => done?,
                }
                offers::get(tx, id, now)
                    .await?
                    .ok_or(store::StoreError::Missing("the offer").into())
            })
        })
        .await
        .map_err(Problem::from)?;
    tagged(StatusCode::CREATED, &offer, &app)
}

/// An offer, whoever's it is, with its entity tag.
#[utoipa::path(get, path = "/v1/offers/{id}", tag = "market",
    params(("id" = String, Path, example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = OfferView, headers(("ETag", description = "for If-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn read(
    State(app): State<AppState>,
    Id(id): Id<OfferId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut connection = app.store.read().await?;
    let offer = offers::get(&mut connection, id, app.now())
        .await?
        .ok_or_else(|| Problem::not_found("offer"))?;
    let mut response = tagged(StatusCode::OK, &offer, &app)?;
    let known = headers.get(header::IF_NONE_MATCH);
    if known.is_some() && known == response.headers().get(header::ETAG) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = axum::body::Body::empty();
        response.headers_mut().remove(header::CONTENT_TYPE);
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    Ok(response)
}

fn mismatch(offer: &Offer) -> Problem {
    Problem::new(Code::EtagMismatch, format!("the offer is at {} now", etag(offer)))
}

/// Changes an offer that is as the caller read it. Live rentals are not touched.
#[utoipa::path(patch, path = "/v1/offers/{id}", tag = "provider", security(("bearer" = [])),
    params(("id" = String, Path, example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("If-Match" = String, Header, description = "the ETag that was read")),
    request_body = OfferPatch,
    responses((status = 200, body = OfferView, headers(("ETag", description = "for If-Match")))))]
async fn change(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<OfferId>,
    condition: Option<IfMatch>,
    Body(patch): Body<OfferPatch>,
) -> Result<Response, Problem> {
    let detail = "a change of an offer needs If-Match with the ETag that was read";
    let condition = condition.ok_or_else(|| Problem::new(Code::PreconditionRequired, detail))?;
    if patch.state == Some(OfferState::Withdrawn) {
        return Err(Problem::invalid("/state", "withdraw an offer with DELETE"));
    }
    let offer = update(&app, &wallet, id, Some(condition), patch).await?;
    tagged(StatusCode::OK, &offer, &app)
}

/// Takes an offer off the market for good. Live rentals are not touched. Repeating it is harmless.
#[utoipa::path(delete, path = "/v1/offers/{id}", tag = "provider", security(("bearer" = [])),
    params(("id" = String, Path, example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Withdrawn.")))]
async fn withdraw(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<OfferId>,
    condition: Option<IfMatch>,
) -> Result<StatusCode, Problem> {
    let patch = OfferPatch {
        price: None,
        gpu_count: None,
        min_duration_s: None,
        max_duration_s: None,
        state: Some(OfferState::Withdrawn),
    };
    update(&app, &wallet, id, condition, patch).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn update(
    app: &AppState,
    wallet: &Wallet,
    id: OfferId,
    condition: Option<IfMatch>,
    patch: OfferPatch,
) -> Result<Offer, Problem> {
    let (account, now) = (wallet.account.id, app.now());
    let condition = std::sync::Arc::new(condition);
    app.store
        .write("offers.change", move |tx| {
            let (patch, condition) = (patch.clone(), condition.clone());
            Box::pin(async move {
                let found = offers::get(tx, id, now).await?;
                let Some(offer) = found.filter(|offer| offer.account == account) else {
                    return refuse(Problem::not_found("offer"));
                };
                if condition.as_ref().as_ref().is_some_and(|tag| !tag.names(&etag(&offer))) {
                    return refuse(mismatch(&offer));
                }
                let state = patch.state.unwrap_or(offer.state);
                if !offer.state.may_become(state) {
                    let detail = "the offer is withdrawn for good; make a new one";
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                let terms = patched(&offer.terms, &patch).or_else(refuse)?;
                if let Some(machine) = machines::get(tx, offer.machine).await? {
                    check_count(&terms, machine.gpus.len()).or_else(refuse)?;
                }
                match offers::change(tx, &offer, state, &terms, now).await {
                    Err(error) if error.is_conflict_on("offer_version") => {
                        return refuse(mismatch(&offer));
                    }
                    done => done?,
                }
                offers::get(tx, id, now)
                    .await?
                    .ok_or(store::StoreError::Missing("the offer").into())
            })
        })
        .await
        .map_err(Problem::from)
}

fn patched(terms: &OfferTerms, patch: &OfferPatch) -> Result<OfferTerms, Problem> {
    checked(OfferTerms {
        price: patch.price.map_or(terms.price, |price| UsdPerHour(price.amount)),
        gpu_count: patch.gpu_count.unwrap_or(terms.gpu_count),
        min_duration: patch.min_duration_s.unwrap_or(terms.min_duration),
        max_duration: patch.max_duration_s.unwrap_or(terms.max_duration),
    })
}
