//! The evidence of a rental, for whoever wants to check the bill.

use alloy::primitives::{B256, Bytes};
use axum::{Json, extract::State};
use domain::id::RentalId;
use serde::Serialize;
use serde_json::Value;
use store::readings::{self, Reading};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::rentals::of_party;
use crate::{
    AppState, Problem, cursor,
    extract::{Id, Params},
    identity::Wallet,
    provider::PageParams,
    views::page_limit,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A signed reading. Its times are unix seconds, as they are signed.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReadingView {
    /// 1, 2, 3 and so on.
    #[schema(example = 1)]
    seq: u64,
    /// The first second that it covers.
    #[schema(example = 1_769_860_800_u64)]
    from: u64,
    /// The second after the last that it covers.
    #[schema(example = 1_769_860_805_u64)]
    to: u64,
    /// What was measured.
    detail: Value,
    /// The hash of the reading before; zero for the first.
    #[schema(value_type = String)]
    prev_hash: B256,
    /// The EIP-712 hash that is signed.
    #[schema(value_type = String)]
    hash: B256,
    /// r, s, v.
    #[schema(value_type = String, example = "0x")]
    signature: Bytes,
}

impl From<Reading> for ReadingView {
    fn from(reading: Reading) -> Self {
        Self {
            seq: reading.seq,
            from: reading.span.from.get(),
            to: reading.span.to.get(),
            detail: reading.detail,
            prev_hash: reading.prev_hash,
            hash: reading.hash,
            signature: Bytes::copy_from_slice(&reading.signature),
        }
    }
}

/// A page of readings.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReadingPage {
    data: Vec<ReadingView>,
    next_cursor: Option<String>,
}

/// The readings of a rental, in order. Only its renter and its provider see them.
#[utoipa::path(get, path = "/v1/rentals/{id}/readings", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"), PageParams),
    responses((status = 200, body = ReadingPage)))]
async fn list(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
    Params(page): Params<PageParams>,
) -> Result<Json<ReadingPage>, Problem> {
    let limit = page_limit(page.limit)?;
    let name = format!("readings:{id}");
    let after = match &page.cursor {
        Some(text) => {
            let [seq] = cursor::read::<1>(&name, text)?;
            seq.parse()
                .ok()
                .filter(|seq| i64::try_from(*seq).is_ok())
                .ok_or_else(cursor::invalid)?
        }
        None => 0_u64,
    };
    let mut connection = app.store.read().await?;
    of_party(&mut connection, wallet.account.id, id).await?;
    let found = readings::list(&mut connection, id, after, i64::from(limit)).await?;
    let full = found.len() >= usize::from(limit);
    let last = found.last().filter(|_| full).map(|reading| reading.seq.to_string());
    let next_cursor = last.map(|seq| cursor::write(&name, &[seq]));
    let data = found.into_iter().map(ReadingView::from).collect();
    Ok(Json(ReadingPage { data, next_cursor }))
}
