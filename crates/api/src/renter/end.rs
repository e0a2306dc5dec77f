//! Signing how a rental ended: what both sides sign is final at once; what one does not sign may be held by the
//! contract for a day.

use alloy::primitives::{Address, B256, hex};
use axum::{Json, extract::State, http::StatusCode};
use domain::{
    id::{AccountId, RentalId},
    time::Seconds,
};
use escrow::{reading::recover_hash, signed, typed_data};
use serde::{Deserialize, Serialize};
use store::{
    TxError, deployment,
    ends::{self, End, Side},
    intents,
    quotes::Quote,
    rentals::Rental,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::rentals::{Role, of_party};
use crate::{
    AppState, Code, Problem,
    detached::detached,
    extract::{Body, Id},
    identity::Wallet,
    limits::Origin,
    problem::refuse,
    views::Time,
    wallets,
};

/// The longest signature that is taken: a smart wallet's of some owners.
pub(super) const MAX_SIGNATURE: usize = 4_096;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read, sign))
}

/// An end that waits to be told to the contract.
#[derive(Serialize, ToSchema)]
pub(crate) struct EndView {
    /// The last measured second.
    stopped_at: Time,
    /// Seconds of outage before it, which are not billed.
    #[schema(value_type = u32)]
    credit_s: Seconds,
    /// It is sent at the latest then, signed or not.
    waits_until: Time,
    /// Who has signed it.
    signed_by: Vec<Role>,
    /// `End` as typed data, for the caller's wallet.
    #[schema(value_type = Value)]
    typed_data: escrow::typed_data::TypedData,
}

/// A signature under an end.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndSignature {
    /// By the caller's wallet, in hex.
    #[schema(example = "0x")]
    signature: String,
}

/// The end of a rental, while it can be signed: from the last reading until it is sent, half a minute at most.
#[utoipa::path(get, path = "/v1/rentals/{id}/end", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = EndView)))]
async fn read(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
) -> Result<Json<EndView>, Problem> {
    let mut connection = app.store.read().await?;
    let (rental, _) = of_party(&mut connection, wallet.account.id, id).await?;
    Ok(Json(view(&app, &mut connection, &rental).await?))
}

async fn view(
    app: &AppState,
    connection: &mut store::Connection,
    rental: &Rental,
) -> Result<EndView, Problem> {
    let (end, waits_until) = ends::open(connection, rental.id).await?.ok_or_else(none_to_sign)?;
    let contract = app.known(deployment::get(connection).await?)?;
    let domain = escrow::domain(contract.chain_id, contract.escrow);
    let told = signed::end(rental.escrow_id, end.stopped_at, end.credit);
    let signatures = ends::signatures(connection, rental.id, end).await?;
    let sides = [(Role::Renter, signatures.renter), (Role::Provider, signatures.provider)];
    Ok(EndView {
        stopped_at: Time(end.stopped_at),
        credit_s: end.credit,
        waits_until: Time(waits_until),
        signed_by: sides
            .into_iter()
            .filter(|(_, signature)| !signature.is_empty())
            .map(|(side, _)| side)
            .collect(),
        typed_data: typed_data::end(&told, &domain),
    })
}

fn none_to_sign() -> Problem {
    let detail = "no end waits to be signed: the rental goes on, or its end was sent";
    Problem::new(Code::StateConflict, detail)
}

/// Signs the end. Once both sides have, it is sent without waiting; a side that does not sign keeps a day to
/// dispute what is held.
#[utoipa::path(post, path = "/v1/rentals/{id}/end", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    request_body = EndSignature, responses((status = 202, body = EndView)))]
async fn sign(
    State(app): State<AppState>,
    wallet: Wallet,
    origin: Origin,
    Id(id): Id<RentalId>,
    Body(request): Body<EndSignature>,
) -> Result<(StatusCode, Json<EndView>), Problem> {
    let signature = signature_of(&request.signature)?;
    let by = (wallet.account.id, wallet.account.address);
    let answer = detached(async move { take((&app, origin), by, id, signature).await }).await?;
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

async fn take(
    (app, origin): (&AppState, Origin),
    (account, signer): (AccountId, Address),
    id: RentalId,
    signature: Vec<u8>,
) -> Result<EndView, Problem> {
    let (end, digest) = {
        let mut connection = app.store.read().await?;
        let (rental, _) = of_party(&mut connection, account, id).await?;
        let (end, _) = ends::open(&mut connection, id).await?.ok_or_else(none_to_sign)?;
        let contract = app.known(deployment::get(&mut connection).await?)?;
        let domain = escrow::domain(contract.chain_id, contract.escrow);
        let told = signed::end(rental.escrow_id, end.stopped_at, end.credit);
        (end, signed::digest(&told, &domain))
    };
    check_signature((app, origin), signer, digest, &signature).await?;
    let shared = app.clone();
    app.store
        .write("rentals.sign_end", move |tx| {
            let (app, signature) = (shared.clone(), signature.clone());
            Box::pin(async move { keep(tx, &app, account, id, end, &signature).await })
        })
        .await
        .map_err(Problem::from)
}

async fn keep(
    tx: &mut store::Connection,
    app: &AppState,
    account: AccountId,
    id: RentalId,
    end: End,
    signature: &[u8],
) -> Result<EndView, TxError<Problem>> {
    let (rental, quote) = of_party(tx, account, id).await.map_err(TxError::Refused)?;
    if ends::open(tx, id).await?.is_none_or(|(open, _)| open != end) {
        return refuse(none_to_sign());
    }
    let side = if rental.renter == account { Side::Renter } else { Side::Provider };
    ends::sign(tx, id, side, end, signature, app.now()).await?;
    hasten_if_signed(tx, app, &rental, &quote, end).await?;
    view(app, tx, &rental).await.map_err(TxError::Refused)
}

/// Sends the end at once if every side has signed that would have something to dispute.
pub(crate) async fn hasten_if_signed(
    tx: &mut store::Connection,
    app: &AppState,
    rental: &Rental,
    quote: &Quote,
    end: End,
) -> Result<(), store::StoreError> {
    let signatures = ends::signatures(tx, rental.id, end).await?;
    let by_renter = quote.holdback == Seconds::ZERO || !signatures.renter.is_empty();
    let by_provider = end.credit == Seconds::ZERO || !signatures.provider.is_empty();
    if by_renter && by_provider {
        intents::hasten_close(tx, rental.id, app.now()).await?;
    }
    Ok(())
}

/// A signature given in hex, of a length that a wallet could make.
pub(super) fn signature_of(text: &str) -> Result<Vec<u8>, Problem> {
    hex::decode(text)
        .ok()
        .filter(|bytes| (1..=MAX_SIGNATURE).contains(&bytes.len()))
        .ok_or_else(|| Problem::invalid("/signature", "expected hex of 1 to 4096 bytes"))
}

/// Whether a wallet signed: by its key, or as a contract (EIP-1271).
pub(super) async fn check_signature(
    (app, origin): (&AppState, Origin),
    wallet: Address,
    digest: B256,
    signature: &[u8],
) -> Result<(), Problem> {
    if recover_hash(&digest, signature).ok() == Some(wallet) {
        return Ok(());
    }
    let refused =
        || Problem::invalid("/signature", "it is not by the wallet's key over this typed data");
    let offline = |error: chain::ChainError| {
        tracing::warn!(%error, "the chain could not be asked about a wallet");
        let detail = "the signature is not by the wallet's key, and the chain could not be asked \
                      whether it is by a contract wallet";
        Problem::new(Code::ChainUnavailable, detail)
    };
    let valid = wallets::signed_as_deployed((app, origin), wallet, digest, signature).await;
    if valid.map_err(offline)? { Ok(()) } else { Err(refused()) }
}
