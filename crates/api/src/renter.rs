//! What a renter does: ask for a price, book it, follow the rental, stop it, read what it came to.

mod ahead;
mod authorization;
mod batcher;
mod book;
mod booker;
mod cost;
mod course;
mod disputes;
mod end;
mod escrow;
mod events;
mod group;
mod held;
mod invoice;
mod label;
mod payment;
mod quotes;
mod readings;
mod receipt;
mod rentals;
mod sealed;
mod shared;
mod spending;
mod stop;
mod tokens;
mod wait;

pub(crate) use ahead::{Ahead, Scout};
pub(crate) use booker::Booker;
pub(crate) use cost::{billed_by, billed_known, cost_at};
pub(crate) use end::hasten_if_signed;
pub(crate) use payment::{holder, may_pay, pay};
pub(crate) use quotes::{Quoting, unit_of};
pub(crate) use rentals::Role;
pub(crate) use sealed::Seals;
use utoipa_axum::router::OpenApiRouter;

use crate::AppState;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(quotes::routes())
        .merge(book::routes())
        .merge(authorization::routes())
        .merge(rentals::routes())
        .merge(label::routes())
        .merge(course::routes())
        .merge(escrow::routes())
        .merge(group::routes())
        .merge(stop::routes())
        .merge(tokens::routes())
        .merge(end::routes())
        .merge(disputes::routes())
        .merge(receipt::routes())
        .merge(invoice::routes())
        .merge(sealed::routes())
        .merge(readings::routes())
        .merge(events::routes())
}
