//! The market in figures: supply, prices, and how prices went.

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use domain::{
    money::UsdMicros,
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
    cache::Written,
    extract::{Parameters, Params},
    kept::Kept,
    problem::internal,
    provider::{is_region, time_of},
    search::{known_place, models_named, one_called},
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
    prices: Kept<Prices>,
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
#[derive(Clone, Serialize, ToSchema)]
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
    /// By kind, model, tier and region: those that were asked for.
    data: Vec<BandView>,
}

/// Prices as they were made, and all of them as they are told: without filters nobody has them written anew.
pub(crate) struct Prices {
    view: PricesView,
    whole: Written,
}

/// Which of the rows; what is left out does not matter.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PricesParams {
    /// One or more models by any of their names, separated by commas. A name of several stands for all of them.
    #[param(example = "rtx-4090")]
    gpu_model: Option<String>,
    /// `ask` or `deal`.
    #[param(example = "ask")]
    kind: Option<String>,
    /// `unverified`, `verified` or `datacenter`; empty for the rows of all tiers together.
    #[param(example = "verified")]
    tier: Option<String>,
    /// A country, as two letters in any case; empty for the rows of all countries together.
    #[param(example = "de")]
    region: Option<String>,
}

impl Parameters for PricesParams {
    const NAMES: &'static [&'static str] = &["gpu_model", "kind", "tier", "region"];
}

const KINDS: &[&str] = &["ask", "deal"];
/// No tier is all of them.
const TIERS: &[&str] = &["", "unverified", "verified", "datacenter"];

/// What GPUs are offered for now, and what they were rented for in the last 24 hours, per GPU and hour: for each model,
/// for all tiers and regions together and for each; all rows, or those that `gpu_model`, `kind`, `tier` and `region` leave.
/// Percentiles are by nearest rank. A deal is a booking whose deposit is locked, finally, in the tier and the country that its
/// machine had when it was booked. A model or a country that nobody knows is refused with the nearest (422).
#[utoipa::path(get, path = "/v1/market/prices", tag = "market",
    params(PricesParams, ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = PricesView, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn current(
    State(app): State<AppState>,
    Params(params): Params<PricesParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let named = params.gpu_model.map(|text| models_named(&app, &text)).transpose()?;
    let kind = params.kind.map(|kind| one_of("kind", &kind, KINDS)).transpose()?;
    let tier = params.tier.map(|tier| one_of("tier", &tier, TIERS)).transpose()?;
    let region = params.region.map(|region| country(&app, &region)).transpose()?;
    let (now, own) = (app.now(), app.clone());
    let prices = app.figures.prices.get(KEPT, now, || prices_at(own, now)).await?;
    if named.is_none() && kind.is_none() && tier.is_none() && region.is_none() {
        return prices.whole.answer(&headers, KEPT.get());
    }
    let is_wanted = |band: &&BandView| {
        named.as_ref().is_none_or(|named| named.names.contains(&band.model))
            && kind.is_none_or(|kind| kind == band.kind)
            && tier.is_none_or(|tier| tier == band.tier)
            && region.as_ref().is_none_or(|region| *region == band.region)
    };
    let PricesView { as_of, asks_at, deals_from, data } = &prices.view;
    let (as_of, asks_at, deals_from) = (*as_of, *asks_at, *deals_from);
    let data = data.iter().filter(is_wanted).cloned().collect();
    cacheable(&PricesView { as_of, asks_at, deals_from, data }, KEPT.get(), &headers)
}

async fn prices_at(app: AppState, now: UnixSeconds) -> Result<Prices, Problem> {
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
    let bands = asks.chain(deals.into_iter().map(|band| band_view("deal", band)));
    let (as_of, asks_at, deals_from) = (Time(now), Time(asks_at), Time(deals_from));
    let view = PricesView { as_of, asks_at, deals_from, data: bands.collect() };
    let whole = Written::json(&view)?;
    Ok(Prices { view, whole })
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
    /// A country, as two letters in any case; all if left out.
    region: Option<String>,
    /// RFC 3339; as far back as one answer can tell, at most, if left out.
    from: Option<String>,
    /// RFC 3339, not included; the end of the step that is under way if left out.
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
    kind: &'static str,
    /// Empty for all.
    tier: &'static str,
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

/// One of `known`.
fn one_of(name: &str, given: &str, known: &[&'static str]) -> Result<&'static str, Problem> {
    let found = known.iter().copied().find(|known| *known == given);
    found.ok_or_else(|| {
        let named: Vec<&str> = known.iter().copied().filter(|known| !known.is_empty()).collect();
        wrong(name, &format!("one of {}", named.join(", ")))
    })
}

/// A country in lower case, or none, which is all.
fn country(app: &AppState, given: &str) -> Result<String, Problem> {
    let region = given.to_ascii_lowercase();
    if region.is_empty() {
        return Ok(region);
    }
    if region.len() == 2 && region.bytes().all(|b| b.is_ascii_lowercase()) {
        known_place(app, "region", &region)?;
        return Ok(region);
    }
    match region.split_once('-') {
        Some((country, _)) if is_region(&region) => {
            Err(wrong("region", &format!("prices are kept by country: ask for {country}")))
        }
        _ => Err(wrong("region", "two letters of a country")),
    }
}

/// From when up to when, not included: as was asked for, else up to the end of the step that is under way, so that whoever asks
/// again within it asks for the same.
fn span(
    now: UnixSeconds,
    step: u32,
    (from, to): (Option<String>, Option<String>),
) -> Result<(UnixSeconds, UnixSeconds), Problem> {
    let time = |text: Option<String>, name: &str| match text {
        None => Ok(None),
        Some(text) => time_of(&text)
            .map(Some)
            .ok_or_else(|| wrong(name, "a time such as 2027-02-01T02:00:00Z")),
    };
    let longest = Seconds(step.saturating_mul(MAX_POINTS));
    let under_way = now.get().checked_rem(step.into()).unwrap_or_default();
    let end = UnixSeconds(now.get().saturating_sub(under_way)).saturating_plus(Seconds(step));
    let (from, to) = (time(from, "from")?, time(to, "to")?);
    // where only a beginning is said, it may be so long ago that the rest of this step would be too much
    let so_far = |from: UnixSeconds| {
        end.min(from.saturating_plus(longest)).max(now.saturating_plus(Seconds::ONE))
    };
    let to = to.unwrap_or_else(|| from.map_or(end, so_far));
    let from = from.unwrap_or_else(|| to.saturating_minus(longest));
    if from >= to || to > from.saturating_plus(longest) {
        let detail = format!("before `to`, by at most {MAX_POINTS} steps");
        return Err(wrong("from", &detail));
    }
    Ok((from, to))
}

/// How prices of a model went, by steps of time. Steps of five minutes are kept for seven days, of an hour for 400 days,
/// of a day for ever. A name that no model has is answered 404, with the `nearest`; one of several models 422, with
/// `candidates`; a country that nobody knows 422, with the `nearest`.
#[utoipa::path(get, path = "/v1/market/prices/{model}/history", tag = "market",
    params(("model" = String, Path, description = "In any spelling: `RTX 4090` is `rtx-4090`.", example = "rtx-4090"),
           CourseParams,
           ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = CourseView, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn course(
    State(app): State<AppState>,
    Path(model): Path<String>,
    Params(params): Params<CourseParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let kind = one_of("kind", params.kind.as_deref().unwrap_or("ask"), KINDS)?;
    let tier = one_of("tier", params.tier.as_deref().unwrap_or_default(), TIERS)?;
    let region = country(&app, params.region.as_deref().unwrap_or_default())?;
    let step = params.step.unwrap_or(3_600);
    if !STEPS.contains(&step) {
        return Err(wrong("step", "300, 3600 or 86400"));
    }
    let (from, to) = span(app.now(), step, (params.from, params.to))?;
    let mut connection = app.store.read().await?;
    // a newer program may have written more models than this one knows
    let known = gpu_models::list(&mut connection).await?.iter().any(|known| known.slug == model);
    let model = if known { model } else { one_called(&app, &model)? };
    let series = Series { kind, model: &model, tier, region: &region, step };
    let limit = i64::from(MAX_POINTS.saturating_add(1));
    let found = prices::points(&mut connection, &series, from, to, limit).await?;
    drop(connection);
    let points = found.into_iter().map(point_view).collect();
    let view =
        CourseView { model, kind, tier, region, step, from: Time(from), to: Time(to), points };
    cacheable(&view, 60, &headers)
}
