//! The market as the files that others' tools read.

use std::{collections::BTreeSet, fmt::Write as _};

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use domain::{
    catalog::{self, Form, GpuModel},
    money::UsdMicros,
    time::{Seconds, UnixSeconds},
};
use serde::Deserialize;
use store::catalog::Rentable;
use utoipa::{IntoParams, ToSchema};

use crate::{
    AppState, Problem, cache,
    extract::{Parameters, Params},
    kept::Kept,
    problem::internal,
};

/// The most ways to rent that are told.
const MAX_ROWS: i64 = 20_000;
/// How long the files may be kept, and are kept here.
const KEEP: Seconds = Seconds(30);

/// Both files, made together: the look at every offer is what they cost.
pub(crate) struct Files {
    skypilot: Bytes,
    gpuhunt: Bytes,
}

/// The files as they were made last.
pub(crate) type Export = Kept<Files>;

/// Whose file.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CatalogFormat {
    /// SkyPilot's `vms.csv`: a line for each kind of instance and region, at the cheapest price.
    Skypilot,
    /// A gpuhunt catalog of version 2: a line for each way to rent an offer, named by its id.
    Gpuhunt,
}

/// Which file.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportParams {
    /// `skypilot` or `gpuhunt`.
    #[param(inline, example = "gpuhunt")]
    format: CatalogFormat,
}

impl Parameters for ExportParams {
    const NAMES: &'static [&'static str] = &["format"];
}

/// What can be rented now, in the file that SkyPilot or gpuhunt reads: up to 20,000 ways to rent. With more, as many of each
/// model, and of a model the cheapest in each number of GPUs and region before the second cheapest: every model that is for
/// rent is there, and what is left out is the dearer of what is alike. Prices are without the discounts of long rentals; what
/// ends, or goes into maintenance, before its shortest rental would is not in it. At most 30 s old, a minute while it is made
/// anew.
#[utoipa::path(get, path = "/v1/catalog.csv", tag = "market", params(ExportParams),
    responses(
        (status = 200, body = String, content_type = "text/csv", example =
            "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,SpotPrice,Region,GpuInfo\n"),
        (status = 304, description = "The caller has it already.")))]
pub(super) async fn csv(
    State(app): State<AppState>,
    headers: HeaderMap,
    Params(params): Params<ExportParams>,
) -> Result<Response, Problem> {
    let (now, own) = (app.now(), app.clone());
    let files = app.export.get(KEEP, now, || files_at(own, now)).await?;
    let text = match params.format {
        CatalogFormat::Skypilot => &files.skypilot,
        CatalogFormat::Gpuhunt => &files.gpuhunt,
    };
    cache::bytes_of(&headers, KEEP.get(), "text/csv; charset=utf-8", text.clone())
}

async fn files_at(app: AppState, now: UnixSeconds) -> Result<Files, Problem> {
    let since = now.saturating_minus(app.config.offline_after);
    let start_by = now.saturating_plus(app.store.policy().start_window());
    let looked = app.store.write::<_, Problem, _>("catalog.rentable", move |tx| {
        Box::pin(async move {
            store::prices::take_time(tx).await?;
            Ok(store::catalog::rentable(tx, since, now, start_by, MAX_ROWS).await?)
        })
    });
    let found = looked.await.map_err(Problem::from)?;
    Ok(Files { skypilot: skypilot(&found)?.into(), gpuhunt: gpuhunt(&found)?.into() })
}

/// Each with its model; one of a newer program's is left out.
fn with_models(found: &[Rentable]) -> impl Iterator<Item = (&Rentable, &'static GpuModel)> {
    found.iter().filter_map(|one| Some((one, catalog::model_by_slug(&one.model)?)))
}

/// Dollars an hour for all GPUs together.
fn hourly(one: &Rentable) -> Result<UsdMicros, Problem> {
    one.price.usd().checked_mul(u64::from(one.gpus)).ok_or_else(|| internal("a price out of range"))
}

fn skypilot(found: &[Rentable]) -> Result<String, Problem> {
    let mut text = String::from(
        "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,SpotPrice,Region,GpuInfo\n",
    );
    let mut seen = BTreeSet::new();
    for (one, model) in with_models(found) {
        let Rentable { gpus, cpu_cores, ram_gb, region, .. } = one;
        let name = &model.skypilot;
        let instance = format!("{gpus}x-{name}-{cpu_cores}-{ram_gb}");
        // cheapest first: what comes later is another offer of the same kind
        if !seen.insert((instance.clone(), region.clone())) {
            continue;
        }
        let price = hourly(one)?;
        let (each, maker) =
            (model.vram_gb.saturating_mul(1_024), model.vendor.to_ascii_uppercase());
        let all = each.saturating_mul(*gpus);
        writeln!(
            text,
            "{instance},{name},{gpus},{cpu_cores},{ram_gb},{price},,{region},\"{{'Gpus': [{{'Name': '{name}', \
             'Manufacturer': '{maker}', 'Count': {gpus}, 'MemoryInfo': {{'SizeInMiB': {each}}}}}], \
             'TotalGpuMemoryInMiB': {all}}}\"",
        )
        .map_err(internal)?;
    }
    Ok(text)
}

fn gpuhunt(found: &[Rentable]) -> Result<String, Problem> {
    let mut text = String::from(
        "instance_name,location,price,cpu,memory,gpu_count,gpu_name,gpu_memory,spot,disk_size,gpu_vendor,flags,\
         cpu_arch,provider_data\n",
    );
    for (one, model) in with_models(found) {
        let Rentable { offer, version, gpus, region, cpu_cores, ram_gb, disk_gb, .. } = one;
        let price = hourly(one)?;
        let arch = if model.form == Form::Superchip { "arm" } else { "x86" };
        let (name, vram, vendor) = (&model.gpuhunt, model.vram_gb, &model.vendor);
        writeln!(
            text,
            "{offer},{region},{price},{cpu_cores},{ram_gb},{gpus},{name},{vram},False,{disk_gb},{vendor},,{arch},\
             \"{{\"\"gpu_model\"\": \"\"{}\"\", \"\"version\"\": {version}}}\"",
            one.model,
        )
        .map_err(internal)?;
    }
    Ok(text)
}
