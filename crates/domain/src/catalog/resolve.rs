//! From the many spellings of a GPU's name to the one model that is meant.
//!
//! Vast writes `RTX 4090` and `RTX_4090`, RunPod and nvidia-smi `NVIDIA GeForce RTX 4090`, gpuhunt and SkyPilot
//! `RTX4090`: case, spaces and punctuation do not matter. `A100` alone is four different cards; which of them is for
//! the caller to say.

use std::collections::HashMap;
use std::sync::LazyLock;

use thiserror::Error;

use super::{Form, GpuModel, model_by_slug, models};

/// The longest name that is looked at, in bytes.
const MAX_NAME: usize = 128;
/// Words that tell a maker or a line of products, and that people leave out.
const BRANDS: [&str; 6] = ["nvidia", "geforce", "tesla", "amd", "instinct", "generation"];

/// What the caller knows beside the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// Memory in GB.
    pub vram_gb: Option<u32>,
    /// How it is built in.
    pub form: Option<Form>,
}

impl Hint {
    fn fits(self, model: &GpuModel) -> bool {
        self.vram_gb.is_none_or(|vram| vram == model.vram_gb)
            && self.form.is_none_or(|form| form == model.form)
    }
}

/// Why a name is not one model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unresolved {
    /// Nobody calls a model so.
    #[error("{given:?} is no GPU model that is known here")]
    Unknown {
        /// The name, cut to 64 characters.
        given: String,
    },
    /// Several models are called so.
    #[error("{given:?} may be {}: say {ask}, or use one of these names", .candidates.join(" or "))]
    Ambiguous {
        /// The name, cut to 64 characters.
        given: String,
        /// Slugs of what it may mean.
        candidates: Vec<&'static str>,
        /// What tells them apart.
        ask: &'static str,
    },
    /// There are models called so, and none with the memory or form that was said.
    #[error("{given:?} has no such memory or form; there are {}", .candidates.join(" and "))]
    Contradicted {
        /// The name, cut to 64 characters.
        given: String,
        /// Slugs of what there is.
        candidates: Vec<&'static str>,
    },
}

#[derive(Default)]
struct Index {
    /// By name or alias as written.
    exact: HashMap<String, Vec<&'static GpuModel>>,
    /// By alias without brands.
    short: HashMap<String, Vec<&'static GpuModel>>,
    /// By what models of different memory and form have in common.
    family: HashMap<String, Vec<&'static GpuModel>>,
}

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let mut index = Index::default();
    for model in models() {
        index.family.entry(squeezed(&model.family)).or_default().push(model);
        for name in std::iter::once(&model.name).chain(&model.aliases) {
            for (map, key) in
                [(&mut index.exact, squeezed(name)), (&mut index.short, brandless(name))]
            {
                let found = map.entry(key).or_default();
                if !found.contains(&model) {
                    found.push(model);
                }
            }
        }
    }
    index
});

/// The one model that is meant by a name and what else is known. A slug is never anything else.
///
/// # Errors
/// [`Unresolved`], whose text says what to do.
pub fn resolve(name: &str, hint: Hint) -> Result<&'static GpuModel, Unresolved> {
    let given = || name.chars().take(64).collect::<String>();
    let mut contradicted = None;
    for (named, said) in readings(name) {
        let fits = |model: &&'static GpuModel| hint.fits(model) && said.fits(model);
        let fitting: Vec<&'static GpuModel> = named.iter().copied().filter(fits).collect();
        match fitting.as_slice() {
            [model] => return Ok(model),
            [] => contradicted = contradicted.or(Some(slugs(&named))),
            several => {
                let (candidates, ask) = (slugs(several), what_differs(several));
                return Err(Unresolved::Ambiguous { given: given(), candidates, ask });
            }
        }
    }
    Err(match contradicted {
        Some(candidates) => Unresolved::Contradicted { given: given(), candidates },
        None => Unresolved::Unknown { given: given() },
    })
}

/// All models that a name may mean, by slug; none if nobody calls a model so.
#[must_use]
pub fn candidates(name: &str) -> Vec<&'static GpuModel> {
    let mut fitting = readings(name).into_iter().map(|(named, said)| {
        named.into_iter().filter(|model| said.fits(model)).collect::<Vec<_>>()
    });
    fitting.find(|models| !models.is_empty()).unwrap_or_default()
}

/// All models that a search for a name is for: every model of a family by the family's bare name, whatever else is called
/// so, else the [`candidates`].
#[must_use]
pub fn sought(name: &str) -> Vec<&'static GpuModel> {
    if let Some(model) = model_by_slug(name) {
        return vec![model];
    }
    if name.len() > MAX_NAME {
        return Vec::new();
    }
    INDEX.family.get(&squeezed(name)).cloned().unwrap_or_else(|| candidates(name))
}

/// What a name may mean, the closest reading first: models, and the memory and form that the name itself says.
fn readings(name: &str) -> Vec<(Vec<&'static GpuModel>, Hint)> {
    if name.len() > MAX_NAME {
        return Vec::new();
    }
    if let Some(model) = model_by_slug(name) {
        return vec![(vec![model], Hint::default())];
    }
    let (family, said) = taken_apart(name);
    let as_written = Hint::default();
    let readings = [
        (INDEX.exact.get(&squeezed(name)), as_written),
        (INDEX.short.get(&brandless(name)), as_written),
        (INDEX.family.get(&family), said),
    ];
    readings.into_iter().filter_map(|(models, said)| Some((models?.clone(), said))).collect()
}

fn slugs(models: &[&'static GpuModel]) -> Vec<&'static str> {
    models.iter().map(|model| model.slug.as_str()).collect()
}

fn what_differs(models: &[&'static GpuModel]) -> &'static str {
    let [first, rest @ ..] = models else {
        return "which one";
    };
    let vram = rest.iter().any(|model| model.vram_gb != first.vram_gb);
    let form = rest.iter().any(|model| model.form != first.form);
    match (vram, form) {
        (true, true) => "memory and form",
        (true, false) => "memory",
        (false, true) => "form",
        (false, false) => "which one",
    }
}

/// Letters and digits only, in lower case.
fn squeezed(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).filter(|word| !BRANDS.contains(&word.as_str())).collect()
}

fn brandless(text: &str) -> String {
    words(text).concat()
}

/// The words that name a family, and what the others say about memory and form.
fn taken_apart(text: &str) -> (String, Hint) {
    let mut family = Vec::new();
    let mut hint = Hint::default();
    for word in words(text) {
        let number =
            word.strip_suffix("gib").or(word.strip_suffix("gb")).or(word.strip_suffix('g'));
        let form = match word.as_str() {
            "pcie" => Some(Form::Pcie),
            "sxm" | "sxm2" | "sxm3" | "sxm4" | "sxm5" => Some(Form::Sxm),
            "nvl" => Some(Form::Nvl),
            "oam" => Some(Form::Oam),
            _ => None,
        };
        if let Some(form) = form {
            hint.form = Some(form);
        } else if let Some(vram) = number.and_then(|number| number.parse().ok()) {
            hint.vram_gb = Some(vram);
        } else if let ("gb" | "gib", Some(vram)) =
            (word.as_str(), family.last().and_then(|last: &String| last.parse().ok()))
        {
            // "80 GB", in two words
            family.pop();
            hint.vram_gb = Some(vram);
        } else if !word.starts_with("hbm") {
            family.push(word);
        }
    }
    (family.concat(), hint)
}
