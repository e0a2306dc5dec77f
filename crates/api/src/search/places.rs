//! Places that may be asked for.

use domain::catalog;
use market::language::NoName;

use super::nameless;
use crate::{AppState, Problem, catalog::no_place};

/// Whether there is a place of this name in lower case: a region, a country, whether or not something stands there, or where
/// something is listed all the same.
///
/// # Errors
/// If there is none.
pub(super) fn known(app: &AppState, name: &str) -> Result<(), NoName> {
    // without a market the caller will be told that
    let listed = || app.market.read(|index| index.has_region(name)).unwrap_or(true);
    if catalog::is_place(name) || catalog::is_country(name) || listed() {
        Ok(())
    } else {
        Err(no_place(name))
    }
}

/// The same of a name in a query parameter.
///
/// # Errors
/// [`Code::ValidationFailed`](crate::Code::ValidationFailed), with the `nearest`, if there is none.
pub(crate) fn known_in(app: &AppState, parameter: &str, name: &str) -> Result<(), Problem> {
    known(app, name).map_err(|why| nameless(parameter, why))
}
