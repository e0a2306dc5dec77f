//! Many offers in one request. Each item is done or refused by itself, as if it had come alone; withdrawals come first, as
//! a machine has room for one live offer.

use std::collections::HashSet;

use axum::{
    Extension, Json,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
};
use domain::id::OfferId;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use store::offers::Offer;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{OfferPatch, OfferRequest, etag, list, update};
use crate::{
    AppState, Problem,
    extract::{Body, BodyLimit, IfMatch},
    identity::Wallet,
    market::OfferView,
    problem::ItemProblem,
};

/// The most items of one request.
const MAX_ITEMS: usize = 500;
/// The most bytes of one request.
const MAX_BYTES: usize = 1024 * 1024;
/// Items that are worked on at once: a few connections to the database, not all of them.
const AT_ONCE: usize = 4;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(bulk))
        .layer(DefaultBodyLimit::max(MAX_BYTES))
        .layer(Extension(BodyLimit(MAX_BYTES)))
}

/// Offers to be listed, changed and withdrawn.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"items": [
    {"create": {"machine_id": "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f",
                "price": {"amount": "0.65", "currency": "USD"}, "gpu_count": 2,
                "min_duration_s": 60, "max_duration_s": 86400}},
    {"change": {"id": "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f", "if_match": "\"3-listed\"",
                "patch": {"price": {"amount": "0.60", "currency": "USD"}}}},
]}))]
pub(crate) struct BulkRequest {
    /// 1 to 500; no machine and no offer twice.
    items: Vec<BulkItem>,
}

/// One of `create`, `change` and `withdraw`.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BulkItem {
    /// As the body of `POST /v1/offers`.
    create: Option<OfferRequest>,
    change: Option<BulkChange>,
    withdraw: Option<BulkWithdrawal>,
}

/// A change of an offer.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BulkChange {
    #[schema(value_type = String, example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: OfferId,
    /// The ETag that was read.
    #[schema(example = "\"3-listed\"")]
    if_match: String,
    /// As the body of `PATCH /v1/offers/{id}`.
    patch: OfferPatch,
}

/// An offer to be taken off the market for good.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BulkWithdrawal {
    #[schema(value_type = String, example = "ofr_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: OfferId,
    /// The ETag that was read; whatever it is by now if left out.
    #[schema(example = "\"3-listed\"")]
    if_match: Option<String>,
}

/// What came of an item.
#[derive(Serialize, ToSchema)]
struct BulkResult {
    /// Its place in the request, from 0.
    index: usize,
    /// 201 for what was listed, 200 for what was changed or withdrawn, as the offer comes with it; for what was refused the status
    /// that it would have got alone.
    #[schema(example = 200)]
    status: u16,
    /// For the next If-Match; null if it was refused.
    #[schema(example = "\"4-listed\"")]
    etag: Option<String>,
    /// As it is now; null if it was refused.
    offer: Option<OfferView>,
    /// Why it was refused; null if it was done. Pointers are into the item's own body.
    problem: Option<ItemProblem>,
}

/// What came of each item, in their order.
#[derive(Serialize, ToSchema)]
pub(crate) struct BulkAnswer {
    data: Vec<BulkResult>,
    /// How many were done.
    #[schema(example = 2)]
    done: usize,
    /// How many were refused, and changed nothing.
    #[schema(example = 0)]
    refused: usize,
}

/// Lists, changes and withdraws up to 500 offers. Each item is done or refused by itself, so read `refused` of the answer. A
/// request that is sent again does nothing twice: what was listed exists already, what was changed has another ETag.
/// Whatever the order, withdrawals are done before all else: an offer can be withdrawn and its machine listed anew.
#[utoipa::path(post, path = "/v1/offers/bulk", tag = "provider", security(("bearer" = [])),
    request_body = BulkRequest, responses((status = 200, body = BulkAnswer)))]
async fn bulk(
    State(app): State<AppState>,
    wallet: Wallet,
    Body(request): Body<BulkRequest>,
) -> Result<Json<BulkAnswer>, Problem> {
    check(&request.items)?;
    let (app, wallet) = (&app, &wallet);
    let work = |(index, item): (usize, BulkItem)| async move {
        let (status, outcome) = match item {
            BulkItem { create: Some(request), .. } => {
                (StatusCode::CREATED, list(app, wallet, request).await)
            }
            BulkItem { change: Some(change), .. } => {
                (StatusCode::OK, changed(app, wallet, change).await)
            }
            BulkItem { withdraw: Some(BulkWithdrawal { id, if_match }), .. } => {
                let patch = OfferPatch::withdrawal();
                (StatusCode::OK, update(app, wallet, id, if_match.map(IfMatch), patch).await)
            }
            BulkItem { create: None, change: None, withdraw: None } => {
                (StatusCode::OK, Err(Problem::invalid("", NEITHER)))
            }
        };
        result(index, status, outcome, app)
    };
    let items = request.items.into_iter().enumerate();
    let (gone, rest): (Vec<_>, Vec<_>) = items.partition(|(_, item)| item.withdraw.is_some());
    let mut data: Vec<BulkResult> = stream::iter(gone).map(work).buffered(AT_ONCE).collect().await;
    data.extend(stream::iter(rest).map(work).buffered(AT_ONCE).collect::<Vec<_>>().await);
    data.sort_by_key(|result| result.index);
    let refused = data.iter().filter(|result| result.problem.is_some()).count();
    let done = data.len().saturating_sub(refused);
    Ok(Json(BulkAnswer { data, done, refused }))
}

const NEITHER: &str = "exactly one of create, change and withdraw";

async fn changed(app: &AppState, wallet: &Wallet, change: BulkChange) -> Result<Offer, Problem> {
    change.patch.check_state()?;
    update(app, wallet, change.id, Some(IfMatch(change.if_match)), change.patch).await
}

fn result(
    index: usize,
    status: StatusCode,
    outcome: Result<Offer, Problem>,
    app: &AppState,
) -> BulkResult {
    match outcome {
        Ok(offer) => BulkResult {
            index,
            status: status.as_u16(),
            etag: Some(etag(&offer)),
            offer: Some(OfferView::new(&offer, app)),
            problem: None,
        },
        Err(problem) => BulkResult {
            index,
            status: problem.code().status().as_u16(),
            etag: None,
            offer: None,
            problem: Some(problem.item()),
        },
    }
}

/// Refuses the whole request where items would depend on each other, or are none.
fn check(items: &[BulkItem]) -> Result<(), Problem> {
    if items.is_empty() || items.len() > MAX_ITEMS {
        return Err(Problem::invalid("/items", format!("1 to {MAX_ITEMS} items")));
    }
    let (mut machines, mut offers) = (HashSet::new(), HashSet::new());
    for (index, item) in items.iter().enumerate() {
        match (&item.create, &item.change, &item.withdraw) {
            (Some(create), None, None) => {
                if !machines.insert(create.machine_id) {
                    let pointer = format!("/items/{index}/create/machine_id");
                    return Err(Problem::invalid(pointer, "the machine is named twice"));
                }
            }
            (None, Some(change), None) => named_once(&mut offers, change.id, index, "change")?,
            (None, None, Some(gone)) => named_once(&mut offers, gone.id, index, "withdraw")?,
            (Some(_), Some(_), _)
            | (Some(_), _, Some(_))
            | (_, Some(_), Some(_))
            | (None, None, None) => {
                return Err(Problem::invalid(format!("/items/{index}"), NEITHER));
            }
        }
    }
    Ok(())
}

fn named_once(
    offers: &mut HashSet<OfferId>,
    id: OfferId,
    index: usize,
    what: &str,
) -> Result<(), Problem> {
    if offers.insert(id) {
        return Ok(());
    }
    Err(Problem::invalid(format!("/items/{index}/{what}/id"), "the offer is named twice"))
}
