//! The depth of the market: what can be rented of a model, by price.

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use domain::money::UsdMicros;
use market::{Book, Depth, Tier};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::cacheable;
use crate::{
    AppState, Code, Problem,
    extract::{Parameters, Params},
    views::Usd,
};

/// For how long an answer may be kept, in seconds.
const KEEP_S: u32 = 5;
/// Prices of one answer if none are asked for, and the most.
const LEVELS: u16 = 50;
const MOST_LEVELS: u16 = 200;
/// Offers that one answer looks at: some milliseconds.
const LOOKS: usize = 65_536;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(book))
}

/// Which part of the asks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BookParams {
    /// `unverified`, `verified` or `datacenter`; all if left out.
    #[param(example = "verified")]
    tier: Option<String>,
    /// A region such as `de-fra`, or a country such as `de`; all if left out.
    #[param(example = "de")]
    region: Option<String>,
    /// So many prices at most: 1 to 200; 50 if left out.
    #[param(minimum = 1, maximum = 200)]
    levels: Option<u16>,
}

impl Parameters for BookParams {
    const NAMES: &'static [&'static str] = &["tier", "region", "levels"];
}

/// What can be rented at one price.
#[derive(Serialize, ToSchema)]
pub(crate) struct LevelView {
    /// Per GPU and hour.
    price: Usd,
    /// GPUs that are free at this price.
    #[schema(example = 12)]
    gpus: u64,
    /// Of how many offers.
    #[schema(example = 3)]
    offers: u64,
    /// GPUs that are free at this price or a lower one.
    #[schema(example = 40)]
    gpus_up_to: u64,
}

/// The asks for a model. There is no bidding, so there are no bids.
#[derive(Serialize, ToSchema)]
pub(crate) struct BookView {
    #[schema(example = "rtx-4090")]
    model: String,
    /// The lowest price first.
    asks: Vec<LevelView>,
    /// True if there are more offers than were looked at or prices than were asked for.
    more: bool,
}

fn wrong(name: &str, detail: &str) -> Problem {
    Problem::new(Code::InvalidRequest, format!("{name}: {detail}")).at(format!("?{name}"), detail)
}

fn views(book: &Book) -> Vec<LevelView> {
    let mut gpus_up_to = 0_u64;
    let views = book.levels.iter().map(|level| {
        gpus_up_to = gpus_up_to.saturating_add(level.gpus);
        LevelView {
            price: UsdMicros::new(level.price_micros.into()).into(),
            gpus: level.gpus,
            offers: level.offers,
            gpus_up_to,
        }
    });
    views.collect()
}

/// The asks for a GPU model by price, as they can be booked now: how many GPUs are free at each price. It is read from
/// the same index as `/v1/offers`. Discounts for long rentals, disk and traffic are not in it: a quote says what a job
/// costs.
#[utoipa::path(get, path = "/v1/market/book/{model}", tag = "market",
    params(("model" = String, Path, example = "rtx-4090"), BookParams,
           ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = BookView, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn book(
    State(app): State<AppState>,
    Path(model): Path<String>,
    Params(params): Params<BookParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let tier = params.tier.map(|name| {
        name.parse::<Tier>().map_err(|_| wrong("tier", "one of unverified, verified, datacenter"))
    });
    let tier = tier.transpose()?;
    if params.region.as_deref().is_some_and(|region| !(2..=32).contains(&region.len())) {
        return Err(wrong("region", "a region such as de-fra, or the two letters of a country"));
    }
    let levels = params.levels.unwrap_or(LEVELS);
    if !(1..=MOST_LEVELS).contains(&levels) {
        return Err(wrong("levels", "1 to 200"));
    }
    let depth = Depth {
        now: u32::try_from(app.now().get()).unwrap_or(u32::MAX),
        tier,
        region: params.region.as_deref(),
        levels: levels.into(),
        looks: LOOKS,
    };
    let found = app.market.read(|index| index.book(&model, &depth))?;
    let book = found.ok_or_else(|| Problem::not_found("GPU model"))?;
    cacheable(&BookView { asks: views(&book), more: book.more, model }, KEEP_S, &headers)
}
