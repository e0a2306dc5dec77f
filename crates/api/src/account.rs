//! What somebody sees and settles about their own access: sessions, API keys, SSH keys.

mod api_keys;
mod events;
mod given_keys;
mod rental_keys;
mod sessions;
mod ssh_keys;
mod ssh_text;

use utoipa_axum::router::OpenApiRouter;

use crate::{AppState, Problem};

pub(crate) use api_keys::KeyView;
pub(crate) use given_keys::{given_keys, refuse_private_keys};
pub(crate) use rental_keys::{check_ids, open_with};
pub(crate) use sessions::program;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(events::routes())
        .merge(sessions::routes())
        .merge(api_keys::routes())
        .merge(ssh_keys::routes())
        .merge(rental_keys::routes())
}

/// The longest label.
const MAX_LABEL: usize = 64;

/// A label as it is stored.
///
/// # Errors
/// [`crate::Code::ValidationFailed`].
pub(crate) fn label(text: &str) -> Result<String, Problem> {
    let label = text.trim();
    let good = (1..=MAX_LABEL).contains(&label.chars().count());
    if good && !label.chars().any(char::is_control) {
        return Ok(label.to_owned());
    }
    Err(Problem::invalid("/label", format!("1 to {MAX_LABEL} characters, in one line")))
}
