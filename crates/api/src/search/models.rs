//! Models by any of their names.

use std::collections::BTreeMap;

use domain::{catalog, offer::GpuModelSlug};
use market::{Names, Speeds, language::NoName};

use super::{nameless, params::list, refused};
use crate::{
    AppState, Code, Problem,
    catalog::{model_at, no_model},
};

/// The names under which the index has every model that a name stands for. A slug stands for itself.
pub(super) fn called(app: &AppState, name: &str) -> Result<Vec<String>, NoName> {
    if catalog::model_by_slug(name).is_some() {
        return Ok(vec![name.to_owned()]);
    }
    let sought = catalog::sought(name);
    if sought.is_empty() {
        // a newer program may have written more models than this one knows
        return match app.market.read(|index| index.slugs_called(name)) {
            Ok(slugs) if slugs.is_empty() => Err(no_model(name)),
            Ok(slugs) => Ok(slugs),
            // there is no market yet, which is what the caller will be told
            Err(_) => Ok(vec![name.to_owned()]),
        };
    }
    // and may have written others of this name
    let slugs = sought.iter().map(|model| model.slug.clone());
    Ok(slugs.chain([name.to_owned()]).collect())
}

/// The slug of the one model that `{model}` in a path names, in any spelling.
///
/// # Errors
/// [`Code::NotFound`], with the `nearest`; [`Code::ValidationFailed`], with `candidates`, where several are called so.
pub(crate) fn one_called(app: &AppState, name: &str) -> Result<String, Problem> {
    let refused = match model_at(name, "/model") {
        Ok(model) => return Ok(model.slug.clone()),
        Err(refused) => refused,
    };
    if refused.code() != Code::NotFound {
        return Err(refused);
    }
    // a newer program may have written more models than this one knows
    let slugs = app.market.read(|index| index.slugs_called(name))?;
    match slugs.as_slice() {
        [] => Err(refused),
        [slug] => Ok(slug.clone()),
        several => {
            let detail = format!("several models are called so: {}", several.join(", "));
            Err(Problem::invalid("/model", detail).with("candidates", several))
        }
    }
}

/// A refusal of a name in a parameter.
fn unknown(parameter: &str, name: &str, why: NoName) -> Problem {
    let letter = |c: char| if c == '_' || c == ' ' { '-' } else { c.to_ascii_lowercase() };
    let slug: String = name.chars().map(letter).collect();
    if let Err(error) = GpuModelSlug::new(slug) {
        return refused(parameter, error.to_string());
    }
    nameless(parameter, why)
}

/// The models of a list, which `gpu_model` has.
pub(crate) fn names(app: &AppState, text: &str) -> Result<Names, Problem> {
    let mut names = Vec::new();
    for name in list("gpu_model", text)? {
        names.extend(called(app, name).map_err(|why| unknown("gpu_model", name, why))?);
    }
    Ok(Names { names, not: false })
}

/// Tokens per second: of every GPU, or of each model that is named.
pub(super) fn speeds(app: &AppState, text: &str) -> Result<Speeds, Problem> {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u32>().ok().filter(|number| digits && *number > 0);
        number.ok_or_else(|| {
            let form =
                "a number from 1 on, or one of each model such as h100-sxm:3000,rtx-4090:1550";
            refused("tokens_per_s", format!("tokens_per_s must be {form}"))
        })
    };
    if !text.contains(':') {
        return Ok(Speeds::Every(number(text.trim())?));
    }
    // the last that is said of a model
    let mut speeds = BTreeMap::new();
    for part in list("tokens_per_s", text)? {
        let (name, speed) = part.split_once(':').unwrap_or((part, ""));
        let (name, speed) = (name.trim(), number(speed.trim())?);
        let models = called(app, name).map_err(|why| unknown("tokens_per_s", name, why))?;
        speeds.extend(models.into_iter().map(|model| (model, speed)));
    }
    Ok(Speeds::Of(speeds))
}
