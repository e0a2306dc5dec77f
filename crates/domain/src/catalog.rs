//! What hardware there is, and where it may stand: GPU models and regions, as tables built into the program.
//!
//! They change with the program and not with the market, so they are code: reviewed, tested and the same for every
//! process of a version. The database holds a copy of the models, because rows point at them.

mod region;
mod resolve;

pub use region::{Continent, Region, is_country, is_place, region, regions};
pub use resolve::{Hint, Unresolved, candidates, resolve, sought};

use std::sync::LazyLock;

use crate::csv;
use crate::names::named_enum;

named_enum! {
    /// How a GPU is built in, which decides its power and its links.
    pub enum Form ("form") {
        /// A card in a PCIe slot.
        Pcie => "pcie",
        /// NVIDIA's SXM module, with NVLink.
        Sxm => "sxm",
        /// PCIe cards bridged in pairs.
        Nvl => "nvl",
        /// A module by the Open Compute Project.
        Oam => "oam",
        /// On one board with its CPU.
        Superchip => "superchip",
    }
}

named_enum! {
    /// Whether a model is still offered.
    pub enum ModelStatus ("model status") {
        /// It is.
        Current => "current",
        /// It stays for what was rented; nothing new should be offered.
        Deprecated => "deprecated",
    }
}

/// A model of GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuModel {
    /// Its name in addresses and filters; it never changes.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// Who makes it: `nvidia` or `amd`.
    pub vendor: String,
    /// What it has in common with models of other memory or form.
    pub family: String,
    /// Its memory in GB, as its maker counts it.
    pub vram_gb: u32,
    /// How it is built in.
    pub form: Form,
    /// Major and minor, such as `8.9`, as the maker's runtime reports them: CUDA's for NVIDIA, HIP's for AMD.
    pub compute_capability: String,
    /// Thousands of millions of 32-bit operations a second, by its maker's data sheet; `None` if not sure.
    pub fp32_gflops: Option<u32>,
    /// The same for 16-bit matrices added up in 32 bits, dense.
    pub fp16_gflops: Option<u32>,
    /// Memory bandwidth in GB a second, by its maker's data sheet.
    pub memory_gb_s: Option<u32>,
    /// Whether it is still offered.
    pub status: ModelStatus,
    /// Its name in gpuhunt's catalogs.
    pub gpuhunt: String,
    /// Its name in SkyPilot's catalogs.
    pub skypilot: String,
    /// Other spellings; one that several models share means all of them.
    pub aliases: Vec<String>,
}

static MODELS: LazyLock<Vec<GpuModel>> =
    LazyLock::new(|| csv::read(include_str!("../data/gpu-models.csv"), model));

fn model(record: &csv::Record<'_>) -> Option<GpuModel> {
    Some(GpuModel {
        slug: record.maybe("slug")?,
        name: record.maybe("name")?,
        vendor: record.maybe("vendor")?,
        family: record.maybe("family")?,
        vram_gb: record.parse("vram_gb")?,
        form: record.parse("form")?,
        compute_capability: record.maybe("compute_capability")?,
        fp32_gflops: record.parse("fp32_gflops"),
        fp16_gflops: record.parse("fp16_gflops"),
        memory_gb_s: record.parse("memory_gb_s"),
        status: record.parse("status")?,
        gpuhunt: record.maybe("gpuhunt")?,
        skypilot: record.maybe("skypilot")?,
        aliases: record.text("aliases").split('|').map(str::to_owned).collect(),
    })
}

/// All models, by slug.
#[must_use]
pub fn models() -> &'static [GpuModel] {
    &MODELS
}

/// The model with exactly this slug.
#[must_use]
pub fn model_by_slug(slug: &str) -> Option<&'static GpuModel> {
    let place = models().binary_search_by(|model| model.slug.as_str().cmp(slug)).ok()?;
    models().get(place)
}

#[cfg(test)]
mod tests;
