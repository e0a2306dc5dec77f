//! Reviews: by renters who paid, for everybody.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use domain::{
    id::{MachineId, RentalId},
    money::Amount,
    rental::RentalState,
    time::Seconds,
};
use serde::{Deserialize, Serialize};
use store::{
    machines, readings,
    reviews::{self, Review},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::cacheable;
use crate::{
    AppState, Code, Problem, cursor,
    extract::{Body, Id, Params},
    identity::Wallet,
    problem::refuse,
    provider::PageParams,
    views::{Time, page_limit},
};

/// The longest text, in characters.
const MAX_BODY: usize = 2_000;
const LIST: &str = "reviews";
/// For how long a page may be kept, in seconds.
const KEEP_S: u32 = 5;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(list))
}

/// A review.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReviewRequest {
    /// 1 to 5.
    #[schema(example = 5)]
    stars: u8,
    /// At most 2,000 characters; may be left out.
    #[serde(default)]
    #[schema(example = "Ready in twelve seconds, no interruption in three days.")]
    body: String,
}

/// A review of a machine.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReviewView {
    #[schema(example = 5)]
    stars: u8,
    body: String,
    /// How long the reviewer's rental was billed: its renter paid for so many seconds.
    #[schema(value_type = u32, example = 259_200)]
    billed_s: Seconds,
    at: Time,
}

/// Reviews the machine of a rental that the caller has paid for. Once, and it stays.
#[utoipa::path(post, path = "/v1/rentals/{id}/review", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    request_body = ReviewRequest, responses((status = 201, body = ReviewView)))]
async fn create(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
    Body(request): Body<ReviewRequest>,
) -> Result<(StatusCode, Json<ReviewView>), Problem> {
    if !(1..=5).contains(&request.stars) {
        return Err(Problem::invalid("/stars", "1 to 5"));
    }
    let control = |c: char| c.is_control() && c != '\n';
    if request.body.chars().count() > MAX_BODY || request.body.chars().any(control) {
        let message = format!("at most {MAX_BODY} characters, none a control but line ends");
        return Err(Problem::invalid("/body", message));
    }
    let (account, now) = (wallet.account.id, app.now());
    let view = app
        .store
        .write("reviews.create", move |tx| {
            let request = request.clone();
            Box::pin(async move {
                let found = readings::lock_rental(tx, id).await?;
                let Some(rental) = found.filter(|rental| rental.renter == account) else {
                    return refuse(Problem::not_found("rental"));
                };
                let settled =
                    matches!(rental.progress.state, RentalState::Settled | RentalState::Resolved);
                // a rental on whose price no fee is due costs its two sides nothing: its word is worth as much
                let paid = settled && rental.paid_fee > Amount::ZERO;
                let Some(billed) = rental.billed.filter(|billed| paid && *billed > Seconds::ZERO)
                else {
                    let detail = "only a rental that is settled and was paid for, the platform's fee included, can be reviewed";
                    return refuse(Problem::new(Code::StateConflict, detail));
                };
                let review = Review {
                    rental: id,
                    machine: rental.machine,
                    renter: account,
                    stars: request.stars,
                    body: request.body,
                    billed,
                    at: now,
                };
                match reviews::insert(tx, &review).await {
                    Err(error) if error.is_conflict_on("reviews_pkey") => {
                        let detail = "this rental is reviewed already, and a review stays";
                        return refuse(Problem::new(Code::AlreadyExists, detail));
                    }
                    done => done?,
                }
                Ok(ReviewView {
                    stars: review.stars,
                    body: review.body,
                    billed_s: billed,
                    at: Time(now),
                })
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// A page of reviews.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReviewPage {
    data: Vec<ReviewView>,
    next_cursor: Option<String>,
}

/// What renters who paid say of a machine, newest rental first. Who they are is not told.
#[utoipa::path(get, path = "/v1/machines/{id}/reviews", tag = "market",
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"), PageParams,
           ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = ReviewPage, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn list(
    State(app): State<AppState>,
    Id(id): Id<MachineId>,
    Params(page): Params<PageParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let limit = page_limit(page.limit)?;
    let list = format!("{LIST}:{id}");
    let before = match &page.cursor {
        Some(cursor) => {
            let [rental] = cursor::read::<1>(&list, cursor)?;
            Some(rental.parse().map_err(|_| cursor::invalid())?)
        }
        None => None,
    };
    let mut connection = app.store.read().await?;
    if machines::get(&mut connection, id).await?.is_none() {
        return Err(Problem::not_found("machine"));
    }
    let found = reviews::of(&mut connection, id, before, i64::from(limit)).await?;
    let full = found.len() >= usize::from(limit);
    let last = found.last().filter(|_| full).map(|review| review.rental.to_string());
    let next_cursor = last.map(|id| cursor::write(&list, &[id]));
    let data = found
        .into_iter()
        .map(|review| ReviewView {
            stars: review.stars,
            body: review.body,
            billed_s: review.billed,
            at: Time(review.at),
        })
        .collect();
    cacheable(&ReviewPage { data, next_cursor }, KEEP_S, &headers)
}
