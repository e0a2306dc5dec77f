//! Ending a rental, by either side.

use alloy::primitives::B256;
use axum::{extract::State, http::StatusCode, response::Response};
use domain::{
    billing::split,
    id::{AccountId, RentalId},
    rental::{Party, RentalEvent, RentalState},
    time::{Seconds, UnixSeconds},
};
use serde::Serialize;
use serde_json::{Value, json};
use store::{
    StoreError, TxError, advance,
    evictions::{self, Eviction},
    idempotency::{self, Claim},
    quotes::Quote,
    readings, rentals, timeline,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    book::{answered, in_flight, other_request, request_hash},
    cost::billed_by,
    quotes::unit_of,
    rentals::{RentalView, of_party, rental_view},
    wait::{fill_in, transaction},
};
use crate::{
    AppState, Problem,
    extract::{Id, IdempotencyKey},
    identity::Wallet,
    problem::{internal, refuse},
    views::{Time, TokenAmount, json_of},
};

/// The calls that end a rental.
const ENDS: [&str; 2] = ["close", "cancel"];

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(stop))
}

/// How the deposit would be divided by the evidence so far.
#[derive(Serialize, ToSchema)]
pub(crate) struct PreviewView {
    #[schema(value_type = u32)]
    seconds_billed: Seconds,
    provider: TokenAmount,
    fee: TokenAmount,
    refund: TokenAmount,
}

/// A rental that is ending, or will.
#[derive(Serialize, ToSchema)]
pub(crate) struct StopView {
    rental: RentalView,
    /// When it ends at the latest, if its provider has to give notice; `null` if it ends now.
    ends_at: Option<Time>,
    /// The transaction that ends it on the chain, by its hash, once one is signed: seldom in the first answer; the same request
    /// again tells.
    #[schema(value_type = Option<String>, example = "0xe670ec64341771606e55d6b4ca35a1a6b75ee3d5145a99d05921026d1527331e")]
    transaction: Option<B256>,
    /// Not final: readings on their way may add to it, and the contract decides.
    preview: PreviewView,
}

/// Ends a rental. Before the start everything goes back; after it, the seconds so far are billed. A renter's ends now. A
/// provider's, once it runs, ends when the notice is over that its quote promises (`sla.notice_s`): the renter is told, and until
/// `ends_at` it runs and is billed. A notice is not taken back.
#[utoipa::path(post, path = "/v1/rentals/{id}/stop", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("Idempotency-Key" = String, Header, description = "new for each intent, the same for its retries")),
    responses((status = 202, body = StopView, headers(
        ("Idempotent-Replayed", description = "`true` if this answer was given before")))))]
async fn stop(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
    IdempotencyKey(key): IdempotencyKey,
) -> Result<Response, Problem> {
    let (account, shared) = (wallet.account.id, app.clone());
    let (status, mut body, replayed) = app
        .store
        .write("rentals.stop", move |tx| {
            let (app, key) = (shared.clone(), key.clone());
            Box::pin(async move { commit(tx, &app, account, id, &key).await })
        })
        .await
        .map_err(in_flight)?;
    if replayed {
        fill_in(&app, &mut body, &ENDS).await;
    }
    answered(status, body, replayed)
}

async fn commit(
    tx: &mut store::Connection,
    app: &AppState,
    account: AccountId,
    id: RentalId,
    key: &str,
) -> Result<(u16, Value, bool), TxError<Problem>> {
    let (rental, quote) = of_party(tx, account, id).await.map_err(TxError::Refused)?;
    let now = app.now();
    let hash = request_hash(&format!("POST /v1/rentals/{id}/stop"), &json!({}));
    match idempotency::claim(tx, account, key, &hash, now).await? {
        Claim::Fresh => {}
        Claim::Replay { status, response } => return Ok((status, response, true)),
        Claim::OtherRequest => return refuse(other_request()),
    }
    let by = if rental.renter == account { Party::Renter } else { Party::Provider };
    let ends_at = match by {
        Party::Provider => notice(tx, id, &quote, now).await?,
        Party::Renter | Party::Operator => None,
    };
    let rental = match ends_at {
        Some(_) => rentals::get(tx, id).await?.ok_or(StoreError::Missing("the rental"))?,
        None => {
            let event = RentalEvent::StopRequested { by, now };
            advance::apply(tx, app.store.policy(), id, &event, now).await?.rental
        }
    };
    let answer = async {
        let billed = billed_by(tx, &rental, &quote, now).await?;
        let parts = split(rental.locked, quote.rate, quote.fee, billed).map_err(internal)?;
        let unit = unit_of(tx, quote.token, app.config.chain_id).await?;
        let preview = PreviewView {
            seconds_billed: billed,
            provider: unit.amount(parts.provider),
            fee: unit.amount(parts.fee),
            refund: unit.amount(parts.refund),
        };
        // a stop that is asked for twice under two keys
        let transaction = transaction(tx, id, &ENDS).await?;
        let rental = rental_view(tx, app, &rental, &quote, account).await?;
        json_of(&StopView { rental, ends_at: ends_at.map(Time), transaction, preview })
    };
    let body = answer.await.map_err(TxError::Refused)?;
    let status = StatusCode::ACCEPTED.as_u16();
    idempotency::finish(tx, account, key, status, &body).await?;
    Ok((status, body, false))
}

/// When a rental that runs ends by its provider's notice, which is given now unless it was; nothing if none is promised.
async fn notice(
    tx: &mut store::Connection,
    id: RentalId,
    quote: &Quote,
    now: UnixSeconds,
) -> Result<Option<UnixSeconds>, StoreError> {
    let promised = quote.sla.map_or(Seconds::ZERO, |sla| sla.notice);
    // so that it neither ends meanwhile nor is given two
    let rental = readings::lock_rental(tx, id).await?.ok_or(StoreError::Missing("the rental"))?;
    let runs = matches!(rental.progress.state, RentalState::Active | RentalState::Interrupted);
    if !runs || promised == Seconds::ZERO {
        return Ok(None);
    }
    if let Some(given) = evictions::get(tx, id).await? {
        advance::arm_end(tx, &rental, now).await?;
        return Ok(Some(given.ends_at));
    }
    let ends_at = now.saturating_plus(promised);
    evictions::give(tx, id, &Eviction { given_at: now, ends_at }).await?;
    advance::arm_end(tx, &rental, now).await?;
    let detail = json!({"about": "provider_stop", "ends_at": Time(ends_at).text()});
    timeline::append(tx, id, now, "notice", &detail).await?;
    Ok(Some(ends_at))
}
