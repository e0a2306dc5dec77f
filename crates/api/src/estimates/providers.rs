//! One job at many providers: what others publish beside what can be rented here now.

use domain::{
    catalog::{GpuModel, Hint},
    estimate::{AtProvider, Job, Span, across_providers, cheapest},
    id::OfferId,
    money::UsdMicros,
    reference::COLLECTED_ON,
    time::Seconds,
};
use market::{Field, Index, Names, Page, Query, Searching, Set, Sort, Test};

use super::{
    answer::{AtProviderView, BillingView, HereView, ProvidersAnswer},
    bounds::At,
    compute::difference,
    request::ProvidersRequest,
};
use crate::{
    AppState, Problem,
    catalog::{NOTICE, PriceSpanView, model_called, models_called},
    problem::internal,
    search::{AT_ONCE, think},
};

/// Compares.
///
/// # Errors
/// [`crate::Code::ValidationFailed`], with the place; [`crate::Code::NotReady`] while the market is read;
/// [`crate::Code::Unavailable`] if there is much to look at, and too many look.
pub(super) async fn answer(
    app: &AppState,
    network: Vec<u8>,
    request: &ProvidersRequest,
) -> Result<ProvidersAnswer, Problem> {
    let at = At("");
    let models = wanted(request)?;
    let gpus = at.count("gpus", request.gpus, 1)?;
    let elapsed = at.elapsed(request.elapsed_s, request.hours)?;
    let vram_gb = models.first().map_or(0, |model| model.vram_gb);
    let gpu_models: Vec<&'static str> = models.iter().map(|model| model.slug.as_str()).collect();
    let mut forms: Vec<_> = models.iter().map(|model| model.form).collect();
    forms.sort_unstable();
    forms.dedup();
    let job = Job { models, gpus, elapsed };
    let found = across_providers(&job).map_err(|error| at.out_of_range(error))?;
    let least = cheapest(&found).map(|at| at.compared().low);
    let here = ours(app, network, &gpu_models, (gpus, elapsed), least).await?;
    let total = here.as_ref().map(|here| here.total.amount);
    let providers = found.into_iter().map(|at| elsewhere(at, total)).collect();
    let notice = NOTICE;
    Ok(ProvidersAnswer {
        notice,
        gpu_models,
        vram_gb,
        forms,
        gpus,
        elapsed_s: elapsed,
        here,
        providers,
    })
}

/// The models that will do: of one memory size.
fn wanted(request: &ProvidersRequest) -> Result<Vec<&'static GpuModel>, Problem> {
    let hint = Hint { vram_gb: request.vram_gb, form: request.form };
    let fits = |model: &&'static GpuModel| {
        hint.vram_gb.is_none_or(|vram| vram == model.vram_gb)
            && hint.form.is_none_or(|form| form == model.form)
    };
    let named = models_called(&request.gpu_model, "/gpu_model")?;
    let models: Vec<&'static GpuModel> = named.into_iter().filter(fits).collect();
    let first = models.first().map(|model| model.vram_gb);
    if models.is_empty() || models.iter().any(|model| Some(model.vram_gb) != first) {
        // one model, or a refusal that says what there is
        return Ok(vec![model_called(&request.gpu_model, hint, "/gpu_model")?]);
    }
    Ok(models)
}

/// Offers that are kept while one is looked for by pieces.
const SPARE: usize = 16;

/// The cheapest for the job, of what a quote could be had for now.
async fn ours(
    app: &AppState,
    network: Vec<u8>,
    models: &[&'static str],
    (gpus, elapsed): (u32, Seconds),
    cheapest_elsewhere: Option<UsdMicros>,
) -> Result<Option<HereView>, Problem> {
    let duration = elapsed.max(Seconds::ONE);
    let job = market::Job { duration_s: duration.get(), ..market::Job::default() };
    let query = Query {
        tests: vec![Test { field: Field::GpuCount, set: Set::OneOf(vec![gpus.into()]) }],
        models: vec![Names {
            names: models.iter().map(|slug| (*slug).to_owned()).collect(),
            not: false,
        }],
        available: true,
        job: Some(job),
        sort: Sort::Total,
        limit: 1,
        now: u32::try_from(app.now().get()).unwrap_or(u32::MAX),
        start_window: app.store.policy().start_window().get(),
        ..Query::default()
    };
    let first = |index: &Index, page: Page| {
        let found = page.found.first()?;
        Some((index.listing(found)?, found.gpus))
    };
    let found = app.market.read(|index| {
        let page = index.search_within(&query, app.config.looks)?;
        Some(first(index, page))
    })?;
    let found = match found {
        Some(found) => found,
        None => {
            let looked = think(app, network, move |market| {
                // more than one, as the first may be gone by the end
                let mut searching = Searching::new(Query { limit: SPARE, ..query });
                while !market.read(|index| searching.look(index, AT_ONCE))? {}
                market.read(|index| first(index, searching.told(index)))
            });
            looked.await?
        }
    };
    let Some((listing, gpus)) = found else {
        return Ok(None);
    };
    let total = market::total(&listing, &job, gpus).map_err(internal)?.total;
    Ok(Some(HereView {
        offer_id: OfferId::from_uuid(listing.id).to_string(),
        gpu_model: listing.model,
        price: UsdMicros::new(listing.price_micros.into()).into(),
        total: total.into(),
        display: total.cents_half_up(),
        change: cheapest_elsewhere.and_then(|elsewhere| difference(elsewhere, total)),
    }))
}

impl From<Span> for PriceSpanView {
    fn from(span: Span) -> Self {
        Self { low: span.low.into(), high: span.high.into() }
    }
}

/// A job elsewhere, beside what it comes to here.
fn elsewhere(at: AtProvider, here: Option<UsdMicros>) -> AtProviderView {
    let step = at.terms.and_then(|terms| terms.minimum_billing).map(Seconds::get);
    let billed = match step {
        Some(1) => Some("per_second"),
        Some(60) => Some("per_minute"),
        Some(3_600) => Some("per_hour"),
        _ => None,
    };
    let (total, compared) = (at.own(), at.compared().low);
    let here = here.filter(|_| !at.price.contradicted);
    AtProviderView {
        reference: at.price.into(),
        as_of: at.price.observed_on.as_deref().unwrap_or(COLLECTED_ON),
        units: at.units,
        gpus: at.gpus,
        totals: BillingView {
            per_second: at.by_second.into(),
            per_minute: at.by_minute.into(),
            per_hour: at.by_hour.into(),
        },
        billed,
        total: total.map(PriceSpanView::from),
        change: here.and_then(|here| difference(compared, here)),
        setup_s_low: at.terms.and_then(|terms| terms.setup_low),
        setup_s_high: at.terms.and_then(|terms| terms.setup_high),
    }
}
