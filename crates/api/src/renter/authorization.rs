//! Funding by signature: the renter authorizes the deposit (EIP-3009), and the platform sends it. The renter needs
//! none of the native coin.

use alloy::primitives::{B256, Bytes};
use axum::{extract::State, http::StatusCode, response::Response};
use domain::{
    id::{AccountId, RentalId},
    rental::{LockStatus, RentalState},
    time::UnixSeconds,
};
use escrow::signed;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{
    TxError, deployment,
    idempotency::{self, Claim},
    intents::{self, Call},
    timeline,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    book::{answered, in_flight, other_request, request_hash},
    end::{check_signature, signature_of},
    quotes::{terms_of, unit_of},
    rentals::{RentalView, of_party, rental_view},
    wait::{fill_in, mark, until_moved_on},
};
use crate::{
    AppState, Code, Problem,
    detached::detached,
    extract::{Body, Id, IdempotencyKey},
    identity::Wallet,
    limits::Origin,
    prefer::Wait,
    problem::refuse,
    views::json_of,
};

/// It must be valid for so long yet, to be mined in time.
pub(super) const LEAST_LEFT_S: u64 = 10;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(authorize))
}

/// A signed authorization, of exactly the deposit, to the escrow, with the rental's `escrow_id` as its nonce.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthorizationRequest {
    /// `validAfter` of the typed data: unix seconds, in the past.
    #[schema(example = 0)]
    valid_after: u64,
    /// `validBefore` of the typed data: unix seconds.
    #[schema(example = 1_800_000_120)]
    valid_before: u64,
    /// By the renter's wallet, in hex.
    #[schema(example = "0x")]
    signature: String,
}

/// A rental whose deposit is being locked.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuthorizedView {
    rental: RentalView,
    /// The transaction that carries the authorization, by its hash, once one is signed; `Prefer: wait` gives it time, and the
    /// same request again tells.
    #[schema(value_type = Option<String>, example = "0xe670ec64341771606e55d6b4ca35a1a6b75ee3d5145a99d05921026d1527331e")]
    transaction: Option<B256>,
}

/// Locks the deposit by the renter's authorization; the platform sends it and pays the gas. If the contract does not
/// take it, an event `funding_refused` says why, nothing is lost, and the renter can still lock by a transaction.
#[utoipa::path(post, path = "/v1/rentals/{id}/authorization", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("Idempotency-Key" = String, Header, description = "new for each intent, the same for its retries"),
           ("Prefer" = Option<String>, Header, description = "`wait=N`: answer once the lock is seen, or after N seconds, 30 at most")),
    request_body = AuthorizationRequest,
    responses((status = 202, body = AuthorizedView, headers(
        ("Preference-Applied", description = "`wait=N` if it was waited for: the answer tells what is then"),
        ("Idempotent-Replayed", description = "`true` if this answer was given before")))))]
async fn authorize(
    State(app): State<AppState>,
    (wallet, origin): (Wallet, Origin),
    Id(id): Id<RentalId>,
    IdempotencyKey(key): IdempotencyKey,
    wait: Wait,
    Body(request): Body<AuthorizationRequest>,
) -> Result<Response, Problem> {
    let (account, shared) = (wallet.account.id, app.clone());
    // to wait is for whoever is still there
    let said =
        detached(async move { fund((&shared, origin), &wallet, id, key, &request).await }).await?;
    tell(&app, account, wait, said).await
}

async fn fund(
    (app, origin): (&AppState, Origin),
    wallet: &Wallet,
    id: RentalId,
    key: String,
    request: &AuthorizationRequest,
) -> Result<(u16, Value, bool), Problem> {
    let account = wallet.account.id;
    let body = json!({
        "valid_after": request.valid_after,
        "valid_before": request.valid_before,
        "signature": request.signature,
    });
    let hash = request_hash(&format!("POST /v1/rentals/{id}/authorization"), &body);
    // what was answered is answered again, however late: the time range is judged once
    let seen = replay(app, "rentals.authorize.look", account, &key, hash).await?;
    let call = match seen {
        Some((status, response)) => return Ok((status, response, true)),
        None => checked((app, origin), wallet, id, request).await?,
    };
    let shared = app.clone();
    app.store
        .write("rentals.authorize", move |tx| {
            let (app, key, call) = (shared.clone(), key.clone(), call.clone());
            Box::pin(async move { commit(tx, &app, account, id, (&key, hash), &call).await })
        })
        .await
        .map_err(in_flight)
}

/// Answers, after a wait if the caller prefers that.
async fn tell(
    app: &AppState,
    account: AccountId,
    wait: Wait,
    (status, mut body, replayed): (u16, Value, bool),
) -> Result<Response, Problem> {
    let waited = until_moved_on(app, account, &mut body, wait).await;
    // none is signed yet when this is answered at once, but for a repetition there may be
    fill_in(app, &mut body, &["lock"]).await;
    Ok(mark(answered(status, body, replayed)?, wait, waited))
}

/// The answer that was given to this request before.
pub(super) async fn replay(
    app: &AppState,
    unit: &'static str,
    account: AccountId,
    key: &str,
    hash: [u8; 32],
) -> Result<Option<(u16, Value)>, Problem> {
    let (key, now) = (key.to_owned(), app.now());
    let claimed = app
        .store
        .write(unit, move |tx| {
            let key = key.clone();
            Box::pin(async move {
                match idempotency::claim(tx, account, &key, &hash, now).await? {
                    // claimed in earnest later, with its effect
                    Claim::Fresh => Err(TxError::Refused(None)),
                    Claim::Replay { status, response } => Ok(Some((status, response))),
                    Claim::OtherRequest => Err(TxError::Refused(Some(other_request()))),
                }
            })
        })
        .await;
    match claimed {
        Ok(seen) => Ok(seen),
        Err(TxError::Refused(None)) => Ok(None),
        Err(TxError::Refused(Some(problem))) => Err(problem),
        Err(TxError::Store(error)) => Err(in_flight(TxError::Store(error))),
    }
}

/// The call to send, if the authorization is the renter's over this rental.
async fn checked(
    (app, origin): (&AppState, Origin),
    wallet: &Wallet,
    id: RentalId,
    request: &AuthorizationRequest,
) -> Result<Call, Problem> {
    let signature = signature_of(&request.signature)?;
    let mut connection = app.store.read().await?;
    let (rental, quote) = of_party(&mut connection, wallet.account.id, id).await?;
    if rental.renter != wallet.account.id {
        return Err(Problem::new(Code::Forbidden, "only the renter funds a rental"));
    }
    let contract = app.known(deployment::get(&mut connection).await?)?;
    let unit = unit_of(&mut connection, quote.token, contract.chain_id).await?;
    drop(connection);
    let now = app.now().get();
    if request.valid_after > now {
        return Err(Problem::invalid("/valid_after", "it is not valid yet"));
    }
    if request.valid_before < now.saturating_add(LEAST_LEFT_S) {
        return Err(Problem::invalid("/valid_before", "it has ended, or ends too soon to be sent"));
    }
    let domain = app.gasless.domain(&app.chain, unit.token(), contract.chain_id).await;
    let domain = domain.ok_or_else(|| {
        let detail = "the token takes no authorizations; lock by a transaction";
        Problem::new(Code::StateConflict, detail)
    })?;
    let valid = (UnixSeconds(request.valid_after), UnixSeconds(request.valid_before));
    let message = signed::authorization(
        &terms_of(&quote),
        rental.escrow_id,
        contract.escrow,
        quote.deposit,
        valid,
    );
    let digest = signed::digest(&message, &domain);
    check_signature((app, origin), quote.renter, digest, &signature).await?;
    Ok(Call::Lock {
        deposit: quote.deposit,
        valid_after: valid.0,
        valid_before: valid.1,
        signature: as_tokens_take_it(signature),
    })
}

/// Some wallets write the parity bit where tokens expect 27 or 28.
pub(super) fn as_tokens_take_it(mut signature: Vec<u8>) -> Bytes {
    if signature.len() == 65
        && let Some(v @ (0 | 1)) = signature.last_mut()
    {
        *v = v.saturating_add(27);
    }
    signature.into()
}

async fn commit(
    tx: &mut store::Connection,
    app: &AppState,
    account: AccountId,
    id: RentalId,
    (key, hash): (&str, [u8; 32]),
    call: &Call,
) -> Result<(u16, Value, bool), TxError<Problem>> {
    let now = app.now();
    match idempotency::claim(tx, account, key, &hash, now).await? {
        Claim::Fresh => {}
        Claim::Replay { status, response } => return Ok((status, response, true)),
        Claim::OtherRequest => return refuse(other_request()),
    }
    store::readings::lock_rental(tx, id).await?;
    let (rental, quote) = of_party(tx, account, id).await.map_err(TxError::Refused)?;
    let progress = &rental.progress;
    if progress.state != RentalState::AwaitingFunds || progress.lock != LockStatus::None {
        let detail = format!("the rental is {} and its lock {}", progress.state, progress.lock);
        return refuse(Problem::new(Code::StateConflict, detail));
    }
    if intents::is_open(tx, id, call.purpose()).await? {
        let detail = "an authorization of this rental is on its way";
        return refuse(Problem::new(Code::StateConflict, detail));
    }
    intents::queue(tx, id, call, now, now).await?;
    timeline::append(tx, id, now, "funding_authorized", &json!({ "by": "eip3009" })).await?;
    let rental = rental_view(tx, app, &rental, &quote, account).await.map_err(TxError::Refused)?;
    let body = json_of(&AuthorizedView { rental, transaction: None }).map_err(TxError::Refused)?;
    let status = StatusCode::ACCEPTED.as_u16();
    idempotency::finish(tx, account, key, status, &body).await?;
    Ok((status, body, false))
}
