//! Offers: a machine's GPUs at a price. A change of terms makes a new version; rentals keep theirs.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use domain::{id::OfferId, machine::Service, offer::OfferState};
use store::{
    machines,
    offers::{self, NewOffer, Offer},
};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    AppState, Code, Problem, access, cache,
    extract::{Body, Id, IfMatch},
    identity::Wallet,
    market::OfferView,
    problem::refuse,
};

mod bulk;
mod own;
mod request;

use request::{OfferPatch, OfferRequest, check_disk, check_hardware, check_until};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(read, change, withdraw))
        .merge(bulk::routes())
        .merge(own::routes())
}

/// The part of an offer's tag that a change is conditional on: its version and its state.
fn part(offer: &Offer) -> String {
    format!("{}-{}", offer.version, offer.state)
}

/// A tag for the condition of a change, without the rest, which tells what else is shown.
fn etag(offer: &Offer) -> String {
    format!("\"{}\"", part(offer))
}

/// An offer with its tag, or nothing if the reader has it already. Public, and never stale: the next read asks again.
fn tagged(request: &HeaderMap, offer: &Offer, app: &AppState) -> Result<Response, Problem> {
    cache::revalidated(request, &part(offer), &OfferView::new(offer, app))
}

/// An offer as it was made or changed.
fn fresh(status: StatusCode, offer: &Offer, app: &AppState) -> Result<Response, Problem> {
    let mut response = tagged(&HeaderMap::new(), offer, app)?;
    *response.status_mut() = status;
    Ok(response)
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
    let offer = list(&app, &wallet, request).await?;
    fresh(StatusCode::CREATED, &offer, &app)
}

/// Makes an offer of a machine of the caller's.
async fn list(app: &AppState, wallet: &Wallet, request: OfferRequest) -> Result<Offer, Problem> {
    let (account, machine, now) = (wallet.account.id, request.machine_id, app.now());
    if let Some(key) = wallet.key() {
        access::may_touch_machine(key, machine)?;
        if key.limits.offers.is_some() {
            return Err(access::outside("new offer"));
        }
    }
    check_until(request.available_until, now)?;
    app.store
        .write("offers.create", move |tx| {
            let request = request.clone();
            Box::pin(async move {
                // not retired until this is done: an offer would be left over
                let service = machines::hold_service(tx, machine).await?;
                let owned =
                    machines::get(tx, machine).await?.filter(|found| found.account == account);
                let Some(found) = owned else {
                    return refuse(Problem::invalid("/machine_id", "you have no such machine"));
                };
                match service {
                    Some(Service::Draining) => {
                        let detail = "the machine finishes what runs and begins nothing new";
                        return refuse(Problem::new(Code::MachineDraining, detail));
                    }
                    Some(Service::Retired) => {
                        let detail = "the machine is retired";
                        return refuse(Problem::new(Code::MachineDraining, detail));
                    }
                    Some(Service::Open) | None => {}
                }
                let Some(gpu) = found.gpus.first() else {
                    return refuse(Problem::invalid("/machine_id", "the machine has no GPUs"));
                };
                let terms = request.terms(&found).or_else(refuse)?;
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
        .map_err(Problem::from)
}

/// An offer, whoever's it is, with its entity tag.
#[utoipa::path(get, path = "/v1/offers/{id}", tag = "market",
    params(("id" = String, Path, example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = OfferView, headers(
                  ("ETag", description = "for If-None-Match, and for If-Match of a change"))),
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
    tagged(&headers, &offer, &app)
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
    patch.check_state()?;
    let offer = update(&app, &wallet, id, Some(condition), patch).await?;
    fresh(StatusCode::OK, &offer, &app)
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
    update(&app, &wallet, id, condition, OfferPatch::withdrawal()).await?;
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
    check_until(patch.available_until.flatten(), now)?;
    let (condition, key) = (Arc::new(condition), Arc::new(wallet.key().cloned()));
    app.store
        .write("offers.change", move |tx| {
            let (patch, condition, key) = (patch.clone(), condition.clone(), key.clone());
            Box::pin(async move {
                let found = offers::get(tx, id, now).await?;
                let Some(offer) = found.filter(|offer| offer.account == account) else {
                    return refuse(Problem::not_found("offer"));
                };
                if let Some(key) = key.as_ref() {
                    access::may_touch_offer(key, offer.id, offer.machine).or_else(refuse)?;
                }
                if condition.as_ref().as_ref().is_some_and(|tag| !tag.begins(&part(&offer))) {
                    return refuse(mismatch(&offer));
                }
                let state = patch.state.unwrap_or(offer.state);
                if !offer.state.may_become(state) {
                    let detail = "the offer is withdrawn for good; make a new one";
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                // what is shown may have less disk: what is left out of the change stays as it was stored
                let stored = offers::terms_at(tx, id, offer.version)
                    .await?
                    .ok_or(store::StoreError::Missing("the offer's version"))?;
                let terms = patch.applied(&stored).or_else(refuse)?;
                let returns = state == OfferState::Listed && state != offer.state;
                if (terms != stored || returns)
                    && let Some(machine) = machines::get(tx, offer.machine).await?
                {
                    if terms.disk_gb != stored.disk_gb {
                        check_disk(&terms, &machine).or_else(refuse)?;
                    }
                    check_hardware(&terms, &machine).or_else(refuse)?;
                }
                let other = (terms != stored).then_some(&terms);
                match offers::change(tx, &offer, state, other, now).await {
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
