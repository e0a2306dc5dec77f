//! The market in figures: supply, prices, and how prices went.

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use domain::{
    money::UsdMicros,
    offer::GpuModelSlug,
    time::{Seconds, UnixSeconds},
};
use serde::{Deserialize, Serialize};
use store::{
    gpu_models,
    prices::{self, Band, Point, STEPS, Series},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{book::Books, cacheable};
use crate::{
    AppState, Code, Problem,
    extract::{Parameters, Params},
    kept::Kept,
    problem::internal,
    provider::time_of,
    views::{Time, Usd},
};

/// Figures are told for so long after they were made; twice as long, while new ones are made.
const KEPT: Seconds = Seconds(10);
/// A day, in seconds.
const DAY: Seconds = Seconds(86_400);
/// Points of one answer.
const MAX_POINTS: u32 = 2_016;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(supply)).routes(routes!(current)).routes(routes!(course))
}

/// Figures of the whole market, made by one at a time and kept for some seconds: they cost a look at every offer.
#[derive(Clone, Default)]
pub(crate) struct Figures {
    supply: Kept<SupplyView>,
    prices: Kept<PricesView>,
    pub(super) books: Books,
}

/// GPUs of a model, in a tier and a country.
#[derive(Serialize, ToSchema)]
pub(crate) struct SupplyRow {
    #[schema(example = "rtx-4090")]
    model: String,
    #[schema(example = "verified")]
    tier: &'static str,
    #[schema(example = "de")]
    country: String,
    /// Offered.
    listed: u64,
    /// Of those, on machines that were heard of lately.
    online: u64,
    /// Of those offered, rented.
    rented: u64,
}

/// All GPUs that are offered.
#[derive(Serialize, ToSchema)]
pub(crate) struct SupplyView {
    as_of: Time,
    data: Vec<SupplyRow>,
}

/// How many GPUs of each model are offered, online and rented, by tier and country: of what is listed on machines that take
/// rentals, and neither at its end nor in maintenance.
#[utoipa::path(get, path = "/v1/market/supply", tag = "market",
    params(("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = SupplyView, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn supply(State(app): State<AppState>, headers: HeaderMap) -> Result<Response, Problem> {
    let (now, own) = (app.now(), app.clone());
    let make = || async move {
        let second = u32::try_from(now.get()).map_err(internal)?;
        // with a million offers the count takes as long as many searches
        let count = move || own.market.supply(second);
        let found = tokio::task::spawn_blocking(count).await.map_err(internal)??;
        let data = found
            .into_iter()
            .map(|row| SupplyRow {
                model: row.model,
                tier: row.tier.as_str(),
                country: row.country,
                listed: row.count.listed,
                online: row.count.online,
                rented: row.count.rented,
            })
            .collect();
        Ok(SupplyView { as_of: Time(now), data })
    };
    let view = app.figures.supply.get(KEPT, now, make).await?;
    cacheable(&view, KEPT.get(), &headers)
}

/// The spread of prices per GPU and hour.
#[derive(Serialize, ToSchema)]
pub(crate) struct BandView {
    /// `ask` for what is offered, `deal` for what was agreed.
    #[schema(example = "ask")]
    kind: &'static str,
    #[schema(example = "rtx-4090")]
    model: String,
    /// Empty for all tiers.
    #[schema(example = "verified")]
    tier: String,
    /// A country; empty for all.
    #[schema(example = "de")]
    region: String,
    /// How many offers or deals.
    n: u64,
    min: Usd,
    p10: Usd,
    median: Usd,
    p90: Usd,
    max: Usd,
    /// GPUs behind them.
    gpus: u64,
    /// Those of them that are rented now.
    gpus_rented: u64,
}

fn band_view(kind: &'static str, band: Band) -> BandView {
    let usd = |micros: u64| Usd::from(UsdMicros::new(micros));
    BandView {
        kind,
        model: band.model,
        tier: band.tier,
        region: band.region,
        n: band.n,
        min: usd(band.minimum),
        p10: usd(band.p10),
        median: usd(band.median),
        p90: usd(band.p90),
        max: usd(band.maximum),
        gpus: band.gpus,
        gpus_rented: band.gpus_rented,
    }
}

/// Sampled asks are told this old at most: two samples.
const SAMPLED: Seconds = Seconds(600);

/// Current prices.
#[derive(Serialize, ToSchema)]
pub(crate) struct PricesView {
    as_of: Time,
    /// When asks were looked at: with very many offers at the last sample of five minutes.
    asks_at: Time,
    /// Deals are those of the day before `as_of`.
    deals_from: Time,
    data: Vec<BandView>,
}

/// What GPUs are offered for now, and what they were rented for in the last 24 hours, per GPU and hour: for each model,
/// for all tiers and regions together and for each. Percentiles are by nearest rank. A deal is a booking whose deposit
/// is locked, finally.
#[utoipa::path(get, path = "/v1/market/prices", tag = "market",
    params(("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = PricesView, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn current(State(app): State<AppState>, headers: HeaderMap) -> Result<Response, Problem> {
    let (now, own) = (app.now(), app.clone());
    let view = app.figures.prices.get(KEPT, now, || prices_at(own, now)).await?;
    cacheable(&view, KEPT.get(), &headers)
}

async fn prices_at(app: AppState, now: UnixSeconds) -> Result<PricesView, Problem> {
    let deals_from = now.saturating_minus(DAY);
    let mut connection = app.store.read().await?;
    let sampled = if prices::is_large(&mut connection).await? {
        prices::sampled(&mut connection, now.saturating_minus(SAMPLED)).await?
    } else {
        None
    };
    let (asks_at, asks) = match sampled {
        Some(sampled) => sampled,
        None => (now, prices::asks(&mut connection, now, app.config.offline_after).await?),
    };
    let deals =
        prices::deals(&mut connection, deals_from, now.saturating_plus(Seconds::ONE)).await?;
    let asks = asks.into_iter().map(|band| band_view("ask", band));
    let data = asks.chain(deals.into_iter().map(|band| band_view("deal", band))).collect();
    Ok(PricesView { as_of: Time(now), asks_at: Time(asks_at), deals_from: Time(deals_from), data })
}

/// Which course of prices.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CourseParams {
    /// `ask` (the default) or `deal`.
    kind: Option<String>,
    /// `unverified`, `verified` or `datacenter`; all if left out.
    tier: Option<String>,
    /// A country; all if left out.
    region: Option<String>,
    /// RFC 3339; as far back as one answer can tell, at most, if left out.
    from: Option<String>,
    /// RFC 3339, not included; now and with it if left out.
    to: Option<String>,
    /// 300, 3600 (the default) or 86400 seconds.
    step: Option<u32>,
}

impl Parameters for CourseParams {
    const NAMES: &'static [&'static str] = &["kind", "tier", "region", "from", "to", "step"];
}

/// Prices in one step of time.
#[derive(Serialize, ToSchema)]
pub(crate) struct PointView {
    /// Where the step begins.
    t: Time,
    /// How many offers or deals.
    n: u64,
    min: Usd,
    p10: Usd,
    median: Usd,
    p90: Usd,
    max: Usd,
    /// GPUs behind them.
    gpus: u64,
    /// Those of them that were rented.
    rented: u64,
    /// Those that were not.
    available: u64,
}

/// How prices of a model went.
#[derive(Serialize, ToSchema)]
pub(crate) struct CourseView {
    #[schema(example = "rtx-4090")]
    model: String,
    #[schema(example = "ask")]
    kind: String,
    /// Empty for all.
    tier: String,
    /// Empty for all.
    region: String,
    #[schema(example = 3600)]
    step: u32,
    from: Time,
    to: Time,
    /// Oldest first; steps without a price are left out.
    points: Vec<PointView>,
}

fn point_view(point: Point) -> PointView {
    PointView {
        t: Time(point.at),
        n: point.n,
        min: point.minimum.into(),
        p10: point.p10.into(),
        median: point.median.into(),
        p90: point.p90.into(),
        max: point.maximum.into(),
        gpus: point.gpus,
        rented: point.gpus_rented,
        available: point.gpus.saturating_sub(point.gpus_rented),
    }
}

fn wrong(name: &str, detail: &str) -> Problem {
    Problem::new(Code::InvalidRequest, format!("{name}: {detail}")).at(format!("?{name}"), detail)
}

/// One of `known`, or the first of them if nothing is given.
fn one_of(name: &str, given: Option<String>, known: &[&str]) -> Result<String, Problem> {
    let Some(given) = given else {
        return Ok(known.first().copied().unwrap_or_default().to_owned());
    };
    if known.contains(&given.as_str()) && !given.is_empty() {
        return Ok(given);
    }
    let known: Vec<&str> = known.iter().copied().filter(|known| !known.is_empty()).collect();
    Err(wrong(name, &format!("one of {}", known.join(", "))))
}

/// How prices of a model went, by steps of time. Steps of five minutes are kept for seven days, of an hour for 400 days,
/// of a day for ever.
#[utoipa::path(get, path = "/v1/market/prices/{model}/history", tag = "market",
    params(("model" = String, Path, example = "rtx-4090"), CourseParams,
           ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = CourseView, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn course(
    State(app): State<AppState>,
    Path(model): Path<String>,
    Params(params): Params<CourseParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let kind = one_of("kind", params.kind, &["ask", "deal"])?;
    let tier = one_of("tier", params.tier, &["", "unverified", "verified", "datacenter"])?;
    let region = params.region.unwrap_or_default();
    let country = region.len() == 2 && region.bytes().all(|b| b.is_ascii_lowercase());
    if !(region.is_empty() || country) {
        return Err(wrong("region", "two letters of a country"));
    }
    let step = params.step.unwrap_or(3_600);
    if !STEPS.contains(&step) {
        return Err(wrong("step", "300, 3600 or 86400"));
    }
    let time = |text: Option<String>, name: &str| match text {
        None => Ok(None),
        Some(text) => time_of(&text)
            .map(Some)
            .ok_or_else(|| wrong(name, "a time such as 2027-02-01T02:00:00Z")),
    };
    let longest = Seconds(step.saturating_mul(MAX_POINTS));
    let to = time(params.to, "to")?.unwrap_or_else(|| app.now().saturating_plus(Seconds::ONE));
    let from = time(params.from, "from")?.unwrap_or_else(|| to.saturating_minus(longest));
    if from >= to || to > from.saturating_plus(longest) {
        let detail = format!("before `to`, by at most {MAX_POINTS} steps");
        return Err(wrong("from", &detail));
    }
    let known = GpuModelSlug::new(model.as_str()).is_ok();
    let mut connection = app.store.read().await?;
    let known = known && gpu_models::list(&mut connection).await?.iter().any(|m| m.slug == model);
    if !known {
        return Err(Problem::not_found("GPU model"));
    }
    let series = Series { kind: &kind, model: &model, tier: &tier, region: &region, step };
    let limit = i64::from(MAX_POINTS.saturating_add(1));
    let found = prices::points(&mut connection, &series, from, to, limit).await?;
    drop(connection);
    let points = found.into_iter().map(point_view).collect();
    let view =
        CourseView { model, kind, tier, region, step, from: Time(from), to: Time(to), points };
    cacheable(&view, 60, &headers)
}
