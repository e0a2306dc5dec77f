//! What the program on a provider's machine does.

mod commands;
mod enroll;
mod orders;
pub(crate) mod reach;
mod readings;
mod self_test;

use utoipa_axum::router::OpenApiRouter;

use crate::AppState;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(enroll::routes())
        .merge(commands::routes())
        .merge(orders::routes())
        .merge(reach::routes())
        .merge(readings::routes())
        .merge(self_test::routes())
}
