//! Booking several quotes at once, all or none: what a plan of several machines is worth.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy::primitives::Address;
use axum::{extract::State, http::StatusCode, response::Response};
use domain::{
    id::{AccountId, QuoteId, SshKeyId},
    money::Amount,
    time::UnixSeconds,
};
use escrow::calldata;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{
    StoreError, TxError,
    idempotency::{self, Claim},
    quotes,
    rentals::{self, Ground},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    authorization::replay,
    book::{Booking, BookingView, booking, given, in_flight, other_request, request_hash},
};
use crate::{
    AppState, Code, Problem,
    account::check_ids,
    detached::detached,
    extract::{Body, IdempotencyKey},
    identity::Wallet,
    problem::{internal, refuse},
    provider::CallView,
    views::{TokenAmount, json_of},
};

/// Quotes that are booked together, at most: what a match puts together.
const MOST: usize = market::plan::MAX_PARTS;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create))
}

/// The quotes that are booked together.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "quote_ids": ["quo_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f", "quo_0198f1c2a4b37c1e8d2f6a5b4c3d2e20"],
}))]
pub(crate) struct GroupRequest {
    /// 2 to 8 of your quotes, each another.
    #[schema(value_type = Vec<String>)]
    quote_ids: Vec<QuoteId>,
    /// Which of your SSH keys open the machines, at most 16; none if left out.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!([]))]
    ssh_key_ids: Vec<SshKeyId>,
}

/// The bookings, in the order of the quotes. From here on each is a rental of its own.
#[derive(Serialize, ToSchema)]
pub(crate) struct GroupView {
    /// `typed_data.permit` is in the first of each token only: the next permit is another once this one is used. What is
    /// not approved by `approvals` or `approve` is authorized (`typed_data.authorization`).
    data: Vec<BookingView>,
    /// For each ERC-20 token, the one approval of all its deposits together: with it they are locked in any order, and
    /// each booking's own `approve` is left out, which would replace it.
    approvals: Vec<ApprovalView>,
}

/// An approval of several deposits.
#[derive(Serialize, ToSchema)]
pub(crate) struct ApprovalView {
    /// What they come to.
    amount: TokenAmount,
    /// Send this to the chain first.
    approve: CallView,
}

/// Books several quotes, all or none: the GPUs of all are held from now on, or of none, and which quote it fails at is told
/// as `quote_id`. A booking costs nothing until its deposit is locked: lock them once you have all. Only for who has no
/// booking that waits for its deposit; then these may be more than are held one by one.
#[utoipa::path(post, path = "/v1/rentals/group", tag = "renter", security(("bearer" = [])),
    params(("Idempotency-Key" = String, Header, description = "new for each intent, the same for its retries")),
    request_body = GroupRequest,
    responses((status = 201, body = GroupView, headers(
        ("Idempotent-Replayed", description = "`true` if this answer was given before")))))]
async fn create(
    State(app): State<AppState>,
    wallet: Wallet,
    IdempotencyKey(key): IdempotencyKey,
    Body(request): Body<GroupRequest>,
) -> Result<Response, Problem> {
    detached(async move { book(&app, &wallet, key, request).await }).await
}

async fn book(
    app: &AppState,
    wallet: &Wallet,
    key: String,
    request: GroupRequest,
) -> Result<Response, Problem> {
    check(&request)?;
    let hash = request_hash("POST /v1/rentals/group", &json_of(&request)?);
    // before the chain is asked: an answer that was given is told again though the chain is slow
    let unit = "rentals.group_again";
    if let Some((status, body)) = replay(app, unit, wallet.account.id, &key, hash).await? {
        return given(status, body, true);
    }
    let mut found = {
        let mut connection = app.store.read().await?;
        quotes::many(&mut connection, &request.quote_ids).await?
    };
    found.retain(|quote| quote.account == wallet.account.id);
    let mut bookings = Vec::with_capacity(request.quote_ids.len());
    let mut tokens = BTreeSet::new();
    for (place, id) in request.quote_ids.iter().enumerate() {
        let quote = found.iter().find(|quote| quote.id == *id).cloned().ok_or_else(|| {
            Problem::invalid(format!("/quote_ids/{place}"), "you have no such quote")
        })?;
        let (name, keys) = ((key.clone(), hash), request.ssh_key_ids.clone());
        let is_first = tokens.insert(quote.token);
        let made = booking(app, wallet, quote, name, keys, is_first).await;
        bookings.push(made.map_err(|problem| problem.with("quote_id", json!(id)))?);
    }
    let (bookings, account) = (Arc::new(bookings), wallet.account.id);
    let (now, limit) = (app.now(), app.config.unfunded_limit);
    let done = app.store.write("rentals.book_group", move |tx| {
        let bookings = bookings.clone();
        Box::pin(async move { commit(tx, &bookings, account, (now, limit)).await })
    });
    let (status, body, replayed) = done.await.map_err(in_flight)?;
    given(status, body, replayed)
}

fn check(request: &GroupRequest) -> Result<(), Problem> {
    check_ids(&request.ssh_key_ids)?;
    let ids = &request.quote_ids;
    if !(2..=MOST).contains(&ids.len()) {
        let text = format!("2 to {MOST} quotes are booked together, these are {}", ids.len());
        return Err(Problem::invalid("/quote_ids", text));
    }
    let twice = ids.iter().enumerate().find(|(at, id)| ids.iter().take(*at).any(|b| b == *id));
    match twice {
        Some((at, _)) => Err(Problem::invalid(format!("/quote_ids/{at}"), "it is named twice")),
        None => Ok(()),
    }
}

/// Books all of them, or finds that it was done before: status, answer, and whether it was. A refusal leaves nothing.
async fn commit(
    tx: &mut store::Connection,
    bookings: &[Booking],
    account: AccountId,
    (now, limit): (UnixSeconds, i64),
) -> Result<(u16, Value, bool), TxError<Problem>> {
    let Some(Booking { key, hash, .. }) = bookings.first() else {
        return refuse(internal("a group of none"));
    };
    match idempotency::claim(tx, account, key, hash, now).await? {
        Claim::Fresh => {}
        Claim::Replay { status, response } => return Ok((status, response, true)),
        Claim::OtherRequest => return refuse(other_request()),
    }
    let grounds = hold(tx, bookings, limit).await?;
    if grounds.iter().any(|ground| ground.unfunded > 0) {
        let detail = "bookings of yours hold GPUs and wait for their deposit: lock it, stop them, or let them expire \
                      before you book several at once";
        return refuse(Problem::new(Code::StateConflict, detail));
    }
    // by machine, so that two groups do not wait for each other's GPUs
    let mut order: Vec<_> = bookings.iter().zip(&grounds).enumerate().collect();
    order.sort_by_key(|(_, (booking, _))| (booking.quote.machine, booking.quote.id));
    let mut data = Vec::with_capacity(bookings.len());
    for (place, (booking, ground)) in order {
        let made = booking.make(tx, ground, now).await.map_err(|error| match error {
            TxError::Refused(problem) => {
                TxError::Refused(problem.with("quote_id", json!(booking.quote.id)))
            }
            TxError::Store(error) => TxError::Store(error),
        });
        data.push((place, made?));
    }
    data.sort_by_key(|(place, _)| *place);
    let data = data.into_iter().map(|(_, made)| made).collect();
    let approvals = approvals(bookings).map_err(TxError::Refused)?;
    let body = json_of(&GroupView { data, approvals }).map_err(TxError::Refused)?;
    let status = StatusCode::CREATED.as_u16();
    idempotency::finish(tx, account, key, status, &body).await?;
    Ok((status, body, false))
}

/// One approval for each token that needs one, of all the deposits in it.
fn approvals(bookings: &[Booking]) -> Result<Vec<ApprovalView>, Problem> {
    let mut tokens: BTreeMap<Address, (&Booking, Amount)> = BTreeMap::new();
    for booking in bookings.iter().filter(|booking| !booking.quote.token.is_zero()) {
        let sum = tokens.entry(booking.quote.token).or_insert((booking, Amount::ZERO));
        let added = sum.1.checked_add(booking.quote.deposit);
        sum.1 = added.ok_or_else(|| internal("deposits beyond any token's supply"))?;
    }
    Ok(tokens
        .into_iter()
        .map(|(token, (booking, sum))| ApprovalView {
            amount: booking.unit.amount(sum),
            approve: CallView {
                to: token,
                calldata: calldata::approve(booking.contract.escrow, sum).into(),
            },
        })
        .collect())
}

/// Holds what all of them depend on, in the order of the offers, so that two groups do not wait for each other; what was
/// found, in the order of the bookings.
async fn hold(
    tx: &mut store::Connection,
    bookings: &[Booking],
    limit: i64,
) -> Result<Vec<Ground>, StoreError> {
    let mut order: Vec<(usize, &Booking)> = bookings.iter().enumerate().collect();
    order.sort_by_key(|(_, booking)| (booking.quote.offer, booking.quote.id));
    let mut grounds = Vec::with_capacity(bookings.len());
    for (place, Booking { quote, .. }) in order {
        let (account, offer) = (quote.account, quote.offer);
        let ground = rentals::hold_ground(tx, account, offer, quote.escrow_id, limit).await?;
        grounds.push((place, ground));
    }
    grounds.sort_by_key(|(place, _)| *place);
    Ok(grounds.into_iter().map(|(_, ground)| ground).collect())
}
