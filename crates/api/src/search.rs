//! The search over what can be rented, from the index in memory; PostgreSQL stays the truth when it is booked.

mod follow;
mod image;
mod index;
mod matching;
mod models;
mod params;
mod places;
mod satisfiable;
mod seal;
mod text;
mod view;
mod written;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use market::language::NoName;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{AppState, Code, Problem, extract::Params, problem::internal};

pub(crate) use follow::{MarketSeats, market_seats};
pub(crate) use index::Market;
pub(crate) use matching::{Needs, needs};
pub(crate) use models::{names as models_named, one_called};
pub(crate) use params::SearchParams;
pub(crate) use text::digits;

use view::FoundOffer;
use written::Sheet;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(search)).merge(follow::routes()).merge(matching::routes())
}

/// Room for the headers that an answer is given on its way, so that they are not moved.
const HEADERS: usize = 12;

/// A page of offers.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of what is written as bytes")]
struct OfferPage<'a> {
    data: Vec<FoundOffer<'a>>,
    /// For the next page, if there may be one. Good for an hour.
    next_cursor: Option<String>,
    /// The filters as they were understood.
    applied_filters: &'a SearchParams,
}

/// Searches the offers that can be booked now; with `available=false`, all that are listed. What is listed or booked
/// shows within a tenth of a second. Facts that nobody knows match no filter that needs them.
#[utoipa::path(get, path = "/v1/offers", tag = "market", params(SearchParams),
    responses((status = 200, body = OfferPage)))]
async fn search(
    State(app): State<AppState>,
    Params(mut params): Params<Box<SearchParams>>,
) -> Result<Response, Problem> {
    let mut query = params.asked(&app)?;
    let (filters, fingerprint) = params.told()?;
    let secret = app.market.secret()?;
    let now = query.now;
    let after = params.cursor.as_deref();
    query.after = after.map(|text| seal::read(&secret, &fingerprint, now, text)).transpose()?;
    let body = app.market.read_page(|index, written| {
        let page = index.search(&query);
        let mut sheet = Sheet::new();
        let body = &mut sheet.0;
        body.extend_from_slice(br#"{"data":["#);
        written.append((index, &query), &page.found, body)?;
        let next_cursor = page.next.map(|next| seal::write(&secret, &fingerprint, now, next));
        body.extend_from_slice(br#"],"next_cursor":"#);
        serde_json::to_writer(&mut *body, &next_cursor)?;
        body.extend_from_slice(br#","applied_filters":"#);
        body.extend_from_slice(&filters);
        body.push(b'}');
        Ok::<_, serde_json::Error>(sheet.into_bytes())
    })?;
    let mut response = Response::new(Body::from(body.map_err(internal)?));
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// A refusal of a query parameter.
fn refused(name: &str, detail: impl Into<String>) -> Problem {
    let detail = detail.into();
    Problem::new(Code::InvalidRequest, detail.clone()).at(format!("?{name}"), detail)
}

/// A refusal of a name in a query parameter that nothing has, with the nearest.
fn nameless(name: &str, why: NoName) -> Problem {
    let problem = Problem::invalid(format!("?{name}"), why.reason);
    match why.nearest {
        Some(nearest) => problem.with("nearest", nearest),
        None => problem,
    }
}
