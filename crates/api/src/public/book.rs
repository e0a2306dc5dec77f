//! The depth of the market: what can be rented of a model, by price.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use domain::{
    money::UsdMicros,
    time::{Seconds, UnixSeconds},
};
use market::{Book, Depth, Level, Tier};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::cacheable;
use crate::{
    AppState, Code, Problem,
    extract::{Parameters, Params},
    kept::Kept,
    problem::internal,
    provider::is_region,
    search::{known_place, one_called},
    views::Usd,
};

/// For how long an answer may be kept, and is kept here; twice as long, while a new one is made.
const KEPT: Seconds = Seconds(5);
/// Books that are kept here.
const MOST_BOOKS: usize = 1_024;
/// Prices of one answer if none are asked for, and the most.
const LEVELS: u16 = 50;
const MOST_LEVELS: u16 = 200;
/// Offers that one answer looks at: some milliseconds.
const LOOKS: usize = 65_536;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(book))
}

/// Whose book: of a model, in a tier or in all, in a region or a country or in all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shelf {
    model: String,
    tier: Option<Tier>,
    region: Option<String>,
}

/// The books that were asked for lately, each made by one at a time.
#[derive(Clone, Default)]
pub(super) struct Books(Arc<Mutex<HashMap<Shelf, Kept<Book>>>>);

impl Books {
    /// The one that stands there; an empty place if nobody asked for it lately.
    fn of(&self, shelf: Shelf) -> Kept<Book> {
        // a book is put in whole
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if books.len() >= MOST_BOOKS && !books.contains_key(&shelf) {
            // whoever waits for one of them has it all the same
            books.clear();
        }
        books.entry(shelf).or_default().clone()
    }
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

fn views(levels: &[Level]) -> Vec<LevelView> {
    let mut gpus_up_to = 0_u64;
    let views = levels.iter().map(|level| {
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
/// costs. A name that no model has is answered 404, with the `nearest`; one of several models 422, with `candidates`; a place
/// that nobody knows 422, with the `nearest`.
#[utoipa::path(get, path = "/v1/market/book/{model}", tag = "market",
    params(("model" = String, Path, description = "In any spelling: `RTX 4090` is `rtx-4090`.", example = "rtx-4090"),
           BookParams,
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
    let region = params.region.map(|region| region.to_ascii_lowercase());
    if region.as_deref().is_some_and(|region| !is_region(region)) {
        return Err(wrong("region", "a region such as de-fra, or the two letters of a country"));
    }
    if let Some(region) = &region {
        known_place(&app, "region", region)?;
    }
    let levels = params.levels.unwrap_or(LEVELS);
    if !(1..=MOST_LEVELS).contains(&levels) {
        return Err(wrong("levels", "1 to 200"));
    }
    let model = one_called(&app, &model)?;
    let (known, listed) = app.market.read(|index| {
        let listed = region.as_deref().is_none_or(|region| index.has_region(region));
        (index.has_model(&model), listed)
    })?;
    if !known {
        return Err(Problem::not_found("GPU model"));
    }
    if !listed {
        // of most regions there is no book to be made and kept
        let nothing = BookView { model, asks: Vec::new(), more: false };
        return cacheable(&nothing, KEPT.get(), &headers);
    }
    let shelf = Shelf { model, tier, region };
    let (now, own, place) = (app.now(), app.clone(), shelf.clone());
    let book = app.figures.books.of(shelf.clone());
    let book = book.get(KEPT, now, || look(own, place, now)).await?;
    let asked = usize::from(levels);
    let shown = book.levels.get(..asked).unwrap_or(&book.levels);
    let more = book.more || book.levels.len() > asked;
    cacheable(&BookView { asks: views(shown), more, model: shelf.model }, KEPT.get(), &headers)
}

/// All that one answer can show, which takes some milliseconds: not where requests are answered.
async fn look(app: AppState, shelf: Shelf, now: UnixSeconds) -> Result<Book, Problem> {
    let second = u32::try_from(now.get()).map_err(internal)?;
    let read = move || {
        let depth = Depth {
            now: second,
            start_window: app.store.policy().start_window().get(),
            tier: shelf.tier,
            region: shelf.region.as_deref(),
            levels: MOST_LEVELS.into(),
            looks: LOOKS,
        };
        app.market.read(|index| index.book(&shelf.model, &depth))
    };
    let found = tokio::task::spawn_blocking(read).await.map_err(internal)??;
    found.ok_or_else(|| Problem::not_found("GPU model"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_books_are_kept_than_there_is_room_for() {
        let books = Books::default();
        let shelf = |n: usize| Shelf { model: n.to_string(), tier: None, region: None };
        for n in 0..MOST_BOOKS {
            drop(books.of(shelf(n)));
        }
        drop(books.of(shelf(0)));
        assert_eq!(books.0.lock().unwrap().len(), MOST_BOOKS);
        drop(books.of(shelf(MOST_BOOKS)));
        assert_eq!(books.0.lock().unwrap().len(), 1);
    }
}
