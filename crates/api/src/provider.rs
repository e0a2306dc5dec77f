//! What a provider does: register machines, offer them, see what they earn.

mod earnings;
mod machines;
mod offers;
mod payouts;
mod reliability;

use utoipa_axum::router::OpenApiRouter;

use crate::AppState;

pub(crate) use earnings::CallView;
pub(crate) use machines::{
    FactsView, MAX_CPU_CORES, MAX_PORTS, MAX_RAM_GB, PageParams, StandingView, facts_view,
    free_of_obstacles, in_the_way, is_online, is_region, is_version, standing_view, time_of,
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(machines::routes())
        .merge(offers::routes())
        .merge(earnings::routes())
        .merge(payouts::routes())
        .merge(reliability::routes())
}
