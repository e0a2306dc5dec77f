//! GPU models and their many names.

use std::collections::BTreeSet;

use axum::{http::HeaderMap, response::Response};
use domain::catalog::{self, Form, GpuModel, Hint, ModelStatus, Unresolved};
use market::language::NoName;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::KEEP_S;
use crate::{
    Code, Problem, cache,
    extract::{Id, Parameters, Params, distance},
};

/// A GPU model.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelView {
    /// Its name in addresses and filters.
    #[schema(example = "rtx-4090")]
    slug: &'static str,
    #[schema(example = "NVIDIA GeForce RTX 4090")]
    name: &'static str,
    /// `nvidia` or `amd`.
    #[schema(example = "nvidia")]
    vendor: &'static str,
    /// Memory of one GPU, as its maker counts it.
    #[schema(example = 24)]
    vram_gb: u32,
    /// `pcie`, `sxm`, `nvl`, `oam` or `superchip`.
    #[schema(value_type = String, example = "pcie")]
    form: Form,
    /// As the maker's runtime reports it: CUDA's for NVIDIA, HIP's for AMD.
    #[schema(example = "8.9")]
    compute_capability: &'static str,
    /// 32-bit operations by the maker's data sheet, in GFLOPS; null where we are not sure.
    #[schema(example = 82_600)]
    fp32_gflops: Option<u32>,
    /// 16-bit matrices added up in 32 bits, dense, by the maker's data sheet, in GFLOPS.
    #[schema(example = 165_200)]
    fp16_gflops: Option<u32>,
    /// Memory bandwidth in GB a second.
    #[schema(example = 1_008)]
    memory_gb_s: Option<u32>,
    /// `current` or `deprecated`.
    #[schema(value_type = String, example = "current")]
    status: ModelStatus,
    /// Other spellings; one that several models share means all of them.
    #[schema(example = json!(["RTX 4090", "NVIDIA GeForce RTX 4090"]))]
    aliases: Vec<&'static str>,
    /// Its name in gpuhunt's catalogs.
    #[schema(example = "RTX4090")]
    gpuhunt: &'static str,
    /// Its name in SkyPilot's catalogs.
    #[schema(example = "RTX4090")]
    skypilot: &'static str,
}

impl From<&'static GpuModel> for ModelView {
    fn from(model: &'static GpuModel) -> Self {
        Self {
            slug: &model.slug,
            name: &model.name,
            vendor: &model.vendor,
            vram_gb: model.vram_gb,
            form: model.form,
            compute_capability: &model.compute_capability,
            fp32_gflops: model.fp32_gflops,
            fp16_gflops: model.fp16_gflops,
            memory_gb_s: model.memory_gb_s,
            status: model.status,
            aliases: model.aliases.iter().map(String::as_str).collect(),
            gpuhunt: &model.gpuhunt,
            skypilot: &model.skypilot,
        }
    }
}

/// GPU models.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    data: Vec<ModelView>,
}

/// Which models; what is left out does not matter.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ModelParams {
    /// All that this may mean, in the spelling of Vast, RunPod, gpuhunt, SkyPilot, nvidia-smi or ours.
    #[param(example = "A100 80GB")]
    name: Option<String>,
    /// `nvidia` or `amd`, in any case.
    vendor: Option<String>,
    /// At least so much memory, in GB.
    min_vram_gb: Option<u32>,
    /// `pcie`, `sxm`, `nvl`, `oam` or `superchip`.
    #[param(value_type = Option<String>)]
    form: Option<Form>,
}

impl Parameters for ModelParams {
    const NAMES: &'static [&'static str] = &["name", "vendor", "min_vram_gb", "form"];
}

/// The GPU models that can be offered.
#[utoipa::path(get, path = "/v1/gpu-models", tag = "market", params(ModelParams),
    responses((status = 200, body = ModelList), (status = 304, description = "The caller has it already.")))]
pub(super) async fn list(
    headers: HeaderMap,
    Params(params): Params<ModelParams>,
) -> Result<Response, Problem> {
    let named: Vec<&'static GpuModel> = match &params.name {
        None => catalog::models().iter().collect(),
        Some(name) => models_called(name, "?name")?,
    };
    let vendor = params.vendor.as_deref().map(maker).transpose()?;
    let fits = |model: &&'static GpuModel| {
        vendor.is_none_or(|vendor| vendor == model.vendor)
            && params.min_vram_gb.is_none_or(|least| model.vram_gb >= least)
            && params.form.is_none_or(|form| form == model.form)
    };
    let data = named.into_iter().filter(fits).map(ModelView::from).collect();
    cache::json(&headers, KEEP_S, &ModelList { data })
}

/// One GPU model, by its slug or another of its names.
#[utoipa::path(get, path = "/v1/gpu-models/{slug}", tag = "market",
    params(("slug" = String, Path, example = "rtx-4090")),
    responses((status = 200, body = ModelView), (status = 304, description = "The caller has it already.")))]
pub(super) async fn read(headers: HeaderMap, Id(slug): Id<String>) -> Result<Response, Problem> {
    cache::json(&headers, KEEP_S, &ModelView::from(model_at(&slug, "/slug")?))
}

/// A maker by its name in any case.
fn maker(name: &str) -> Result<&'static str, Problem> {
    let makers = catalog::models().iter().map(|model| model.vendor.as_str());
    let makers: BTreeSet<&'static str> = makers.collect();
    let named = makers.iter().copied().find(|maker| maker.eq_ignore_ascii_case(name));
    named.ok_or_else(|| {
        let known: Vec<&str> = makers.into_iter().collect();
        let detail = format!("vendor must be one of {}", known.join(", "));
        Problem::new(Code::InvalidRequest, detail.clone()).at("?vendor", detail)
    })
}

/// The one model that a path names, in any spelling.
///
/// # Errors
/// [`Code::NotFound`], with the `nearest` if one is near; [`Code::ValidationFailed`] at `pointer`, with `candidates`, where
/// several are called so.
pub(crate) fn model_at(name: &str, pointer: &str) -> Result<&'static GpuModel, Problem> {
    catalog::resolve(name, Hint::default()).map_err(|why| match &why {
        Unresolved::Unknown { .. } => {
            let problem = Problem::new(Code::NotFound, unknown(&why, name));
            match nearest(name) {
                Some(slug) => problem.with("nearest", slug),
                None => problem,
            }
        }
        Unresolved::Ambiguous { .. } | Unresolved::Contradicted { .. } => {
            refused(&why, name, pointer)
        }
    })
}

/// The one model that is meant by a name, with what else the request says of it.
///
/// # Errors
/// [`Code::ValidationFailed`] at `pointer`, with `candidates` if there are several.
pub(crate) fn model_called(
    name: &str,
    hint: Hint,
    pointer: &str,
) -> Result<&'static GpuModel, Problem> {
    catalog::resolve(name, hint).map_err(|why| refused(&why, name, pointer))
}

/// All models that a name may mean, at least one.
///
/// # Errors
/// [`Code::ValidationFailed`] at `pointer`.
pub(crate) fn models_called(name: &str, pointer: &str) -> Result<Vec<&'static GpuModel>, Problem> {
    let found = catalog::candidates(name);
    if !found.is_empty() {
        return Ok(found);
    }
    match catalog::resolve(name, Hint::default()) {
        Ok(model) => Ok(vec![model]),
        Err(why) => Err(refused(&why, name, pointer)),
    }
}

fn refused(why: &Unresolved, name: &str, pointer: &str) -> Problem {
    match why {
        Unresolved::Unknown { .. } => Problem::invalid(pointer, unknown(why, name)),
        Unresolved::Ambiguous { candidates, .. } | Unresolved::Contradicted { candidates, .. } => {
            Problem::invalid(pointer, why.to_string()).with("candidates", candidates.as_slice())
        }
    }
}

fn unknown(why: &Unresolved, name: &str) -> String {
    match nearest(name) {
        Some(slug) => format!("{why}; did you mean {slug}?"),
        None => format!("{why}; see /v1/gpu-models"),
    }
}

/// The slug with the fewest letters to change, if those are few.
fn nearest(name: &str) -> Option<&'static str> {
    let letter = |c: char| if matches!(c, ' ' | '_') { '-' } else { c.to_ascii_lowercase() };
    let short: String = name.chars().take(64).map(letter).collect();
    let slugs = catalog::models().iter().map(|model| model.slug.as_str());
    let by_distance = slugs.map(|slug| (distance(&short, slug), slug));
    let (distance, slug) = by_distance.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2).then_some(slug)
}

/// Why a name is no model's, and the one that may have been meant.
pub(crate) fn no_model(name: &str) -> NoName {
    match catalog::resolve(name, Hint::default()) {
        Ok(model) => NoName {
            reason: format!("this model is called {} here", model.slug),
            nearest: Some(&model.slug),
        },
        Err(why @ Unresolved::Unknown { .. }) => {
            NoName { reason: unknown(&why, name), nearest: nearest(name) }
        }
        Err(why) => {
            let nearest = match &why {
                Unresolved::Ambiguous { candidates, .. }
                | Unresolved::Contradicted { candidates, .. } => candidates.first().copied(),
                Unresolved::Unknown { .. } => None,
            };
            NoName { reason: why.to_string(), nearest }
        }
    }
}
