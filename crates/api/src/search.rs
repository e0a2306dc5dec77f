//! The search over what can be rented, from the index in memory; PostgreSQL stays the truth when it is booked.

mod follow;
mod from_now;
mod image;
mod index;
mod matching;
mod models;
mod params;
mod places;
mod satisfiable;
mod seal;
mod text;
mod turns;
mod view;
mod written;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use market::{Index, Page, Query, Searching, language::NoName};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{AppState, Code, Problem, extract::Params, limits::Caller, problem::internal};

pub(crate) use follow::{MarketSeats, market_seats};
pub(crate) use index::Market;
pub(crate) use models::{names as models_named, one_called};
pub(crate) use params::SearchParams;
pub(crate) use places::known_in as known_place;
pub(crate) use text::digits;
pub(crate) use turns::{AT_ONCE, Needs, needs, think};

use view::FoundOffer;
use written::{Sheet, Written};

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
    responses((status = 200, body = OfferPage),
              (status = 503, description = "It has to look at many offers one by one, and others do already, or four from the same network: come \
                                            again after `Retry-After`, or ask for less.")))]
async fn search(
    State(app): State<AppState>,
    caller: Caller,
    Params(mut params): Params<Box<SearchParams>>,
) -> Result<Response, Problem> {
    let mut query = params.asked(&app)?;
    let (filters, fingerprint) = params.told()?;
    let secret = app.market.secret()?;
    let after = params.cursor.as_deref();
    query.after =
        after.map(|text| seal::read(&secret, &fingerprint, query.now, text)).transpose()?;
    let paper = Paper { filters, fingerprint, secret };
    let page = app.market.read_page(
        |index| index.search_within(&query, app.config.looks),
        |index, page, written| paper.write((index, &query), page, written),
    )?;
    let page = match page {
        Some(page) => page,
        // in a box, as few need its room
        None => Box::pin(by_pieces(&app, caller, query, paper)).await?,
    };
    let mut response = Response::new(Body::from(page.map_err(internal)?));
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The page of a search that has to look at many offers one by one.
async fn by_pieces(
    app: &AppState,
    caller: Caller,
    query: Query,
    paper: Paper,
) -> Result<serde_json::Result<Bytes>, Problem> {
    think(app, caller.network(), move |market| {
        let mut searching = Searching::new(query.clone());
        while !market.read(|index| searching.look(index, AT_ONCE))? {}
        let page = market.read_page(
            |index| Some(searching.told(index)),
            |index, page, written| paper.write((index, &query), page, written),
        )?;
        page.ok_or_else(index::not_ready)
    })
    .await
}

/// What a page is written on.
struct Paper {
    filters: Vec<u8>,
    fingerprint: seal::Fingerprint,
    secret: [u8; 32],
}

impl Paper {
    fn write(
        &self,
        (index, query): (&Index, &Query),
        page: &Page,
        written: &mut Written,
    ) -> serde_json::Result<Bytes> {
        let mut sheet = Sheet::new();
        let body = &mut sheet.0;
        body.extend_from_slice(br#"{"data":["#);
        written.append((index, query), &page.found, body)?;
        let seal = |next| seal::write(&self.secret, &self.fingerprint, query.now, next);
        body.extend_from_slice(br#"],"next_cursor":"#);
        serde_json::to_writer(&mut *body, &page.next.map(seal))?;
        body.extend_from_slice(br#","applied_filters":"#);
        body.extend_from_slice(&self.filters);
        body.push(b'}');
        Ok(sheet.into_bytes())
    }
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
