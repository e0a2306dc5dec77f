//! Agreeing on billed seconds: one side signs, the other signs the same, and the contract ends the rental so at once.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use domain::{
    billing::settlement_seconds,
    id::DisputeId,
    rental::RentalState,
    time::{Seconds, UnixSeconds},
};
use escrow::{EscrowEvent, signed, typed_data};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{
    Connection, StoreError, blocks, deployment,
    disputes::{self, Proposal},
    quotes::Quote,
    rentals::Rental,
    timeline,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    live, of_side, time,
    view::{DisputeView, view},
};
use crate::{
    AppState, Code, Problem,
    extract::{Body, Id},
    identity::Wallet,
    problem::{internal, refuse},
    renter::{
        end::{check_signature, signature_of},
        held::word,
    },
};

const MAX_PROPOSALS: usize = 32;
/// A proposal is an option for the other side: not for longer than the arbiter has.
const LONGEST_OFFER: Seconds = Seconds(15 * 24 * 3_600);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(propose)).routes(routes!(accept))
}

/// Billed seconds to agree on.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProposalRequest {
    /// Seconds to be billed in all: not below what is paid, not above the clock.
    #[schema(value_type = u32, example = 3_000)]
    billed_s: Seconds,
    /// The last second at which the contract takes it; at most 15 days ahead. Until then the other side may use it.
    #[schema(example = "2026-02-01T12:00:00Z")]
    valid_until: String,
    /// `AgreedEnd`, signed by the caller's wallet, in hex. Left out, the answer is what to sign.
    #[schema(example = "0x")]
    signature: Option<String>,
}

/// What to sign.
#[derive(Serialize, ToSchema)]
pub(crate) struct AgreementView {
    #[schema(value_type = Value)]
    typed_data: escrow::typed_data::TypedData,
}

/// Proposes billed seconds. Without a signature the answer (200) is the typed data for the caller's wallet; with it (201) the
/// proposal is kept, and once the other side has accepted it anybody can end the rental so (`close_agreed`).
#[utoipa::path(post, path = "/v1/disputes/{id}/propose", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "dsp_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    request_body = ProposalRequest,
    responses((status = 201, body = DisputeView), (status = 200, body = AgreementView)))]
async fn propose(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<DisputeId>,
    Body(request): Body<ProposalRequest>,
) -> Result<Response, Problem> {
    let (account, now) = (wallet.account.id, app.now());
    let until = time(&request.valid_until, "/valid_until")?;
    if until <= now || until > now.saturating_plus(LONGEST_OFFER) {
        return Err(Problem::invalid("/valid_until", "in the future, at most 15 days ahead"));
    }
    let mut connection = app.store.read().await?;
    let found = disputes::get(&mut connection, id).await?;
    let (_, rental, quote, _) = of_side(&mut connection, account, found).await?;
    in_range(&mut connection, &rental, &quote, request.billed_s, now).await?;
    let contract = app.known(deployment::get(&mut connection).await?)?;
    drop(connection);
    let domain = escrow::domain(contract.chain_id, contract.escrow);
    let agreed = signed::agreed_end(rental.escrow_id, request.billed_s, until);
    let Some(text) = &request.signature else {
        let typed_data = typed_data::agreed_end(&agreed, &domain);
        return Ok(Json(AgreementView { typed_data }).into_response());
    };
    let signature = signature_of(text)?;
    let digest = signed::digest(&agreed, &domain);
    check_signature(&app, wallet.account.address, digest, &signature).await?;
    let store = app.store.clone();
    let answer = store
        .write("disputes.propose", move |tx| {
            let (app, signature) = (app.clone(), signature.clone());
            Box::pin(async move {
                let (case, rental, quote, role) = live(tx, account, id).await?;
                if disputes::proposals(tx, id).await?.len() >= MAX_PROPOSALS {
                    let detail =
                        format!("there are {MAX_PROPOSALS} proposals, and no room for more");
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                let proposal = Proposal {
                    seq: 0,
                    side: role,
                    billed: request.billed_s,
                    valid_until: until,
                    signature,
                    accepted: None,
                    at: now,
                };
                disputes::propose(tx, id, &proposal).await?;
                view(tx, &app, &case, (&rental, &quote), role)
                    .await
                    .map_err(store::TxError::Refused)
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// Whether the contract would take so many billed seconds now.
async fn in_range(
    connection: &mut Connection,
    rental: &Rental,
    quote: &Quote,
    billed: Seconds,
    now: UnixSeconds,
) -> Result<(), Problem> {
    let said = word(connection, rental, quote).await?;
    let contested = rental.progress.state == RentalState::Contested;
    let (least, most) = match (said.filter(|_| contested), rental.progress.started_at) {
        (Some(word), _) => (word.settled, word.settled.saturating_add(word.seconds)),
        (None, Some(started)) if !contested => {
            let paid = released(connection, rental).await?;
            let elapsed = now.saturating_since(started);
            let clock = settlement_seconds(rental.locked, quote.rate, paid, elapsed);
            (paid.max(Seconds::ONE), clock)
        }
        (None, _) => {
            let detail =
                format!("the rental is {}: there is nothing to agree on", rental.progress.state);
            return Err(Problem::new(Code::StateConflict, detail));
        }
    };
    if (least..=most).contains(&billed) {
        return Ok(());
    }
    Err(Problem::invalid("/billed_s", format!("{least} to {most}: what is paid, and the clock")))
}

/// The seconds that are paid already, finally.
async fn released(connection: &mut Connection, rental: &Rental) -> Result<Seconds, Problem> {
    let newest = blocks::final_named(connection, rental.escrow_id, &["released"], 1).await?;
    let Some(seen) = newest.into_iter().next() else { return Ok(Seconds::ZERO) };
    let said = serde_json::from_value(seen.body).map_err(StoreError::corrupt)?;
    let EscrowEvent::Released { settled, .. } = said else {
        return Err(internal(format!("{} is named released", said.name())));
    };
    Ok(settled)
}

/// A signature under the other side's proposal.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProposalAcceptance {
    /// Which proposal.
    #[schema(example = 1)]
    seq: u32,
    /// The same `AgreedEnd`, signed by the caller's wallet, in hex. Left out, the answer is what to sign.
    #[schema(example = "0x")]
    signature: Option<String>,
}

/// Accepts a proposal of the other side. Without a signature the answer (200) is the typed data for the caller's wallet; with
/// it `actions` has the call that ends the rental, for anybody to send while it is valid.
#[utoipa::path(post, path = "/v1/disputes/{id}/accept", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "dsp_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    request_body = ProposalAcceptance,
    responses((status = 201, body = DisputeView), (status = 200, body = AgreementView)))]
async fn accept(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<DisputeId>,
    Body(request): Body<ProposalAcceptance>,
) -> Result<Response, Problem> {
    let (account, now) = (wallet.account.id, app.now());
    let mut connection = app.store.read().await?;
    let found = disputes::get(&mut connection, id).await?;
    let (_, rental, _, role) = of_side(&mut connection, account, found).await?;
    let proposals = disputes::proposals(&mut connection, id).await?;
    let proposal = proposals.into_iter().find(|proposal| proposal.seq == request.seq);
    let proposal = proposal.ok_or_else(|| Problem::invalid("/seq", "there is no such proposal"))?;
    if proposal.side == role {
        return Err(Problem::invalid("/seq", "it is your own; the other side accepts it"));
    }
    if proposal.valid_until < now {
        return Err(Problem::new(Code::StateConflict, "the proposal's time is over"));
    }
    let contract = app.known(deployment::get(&mut connection).await?)?;
    drop(connection);
    let domain = escrow::domain(contract.chain_id, contract.escrow);
    let agreed = signed::agreed_end(rental.escrow_id, proposal.billed, proposal.valid_until);
    let Some(text) = &request.signature else {
        let typed_data = typed_data::agreed_end(&agreed, &domain);
        return Ok(Json(AgreementView { typed_data }).into_response());
    };
    let signature = signature_of(text)?;
    let digest = signed::digest(&agreed, &domain);
    check_signature(&app, wallet.account.address, digest, &signature).await?;
    let store = app.store.clone();
    let answer = store
        .write("disputes.accept", move |tx| {
            let (app, signature) = (app.clone(), signature.clone());
            Box::pin(async move {
                let (case, rental, quote, role) = live(tx, account, id).await?;
                if !disputes::accept(tx, id, request.seq, &signature).await? {
                    let detail = "the proposal was accepted before";
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                let detail =
                    json!({ "dispute": id.to_string(), "agreed": request.seq, "by": role });
                timeline::append(tx, rental.id, app.now(), "dispute", &detail).await?;
                view(tx, &app, &case, (&rental, &quote), role)
                    .await
                    .map_err(store::TxError::Refused)
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}
