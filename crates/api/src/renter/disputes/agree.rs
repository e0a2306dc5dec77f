//! Agreeing on billed seconds: one side signs, the other signs the same, and the contract ends the rental so at once.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use domain::{
    id::DisputeId,
    time::{Seconds, UnixSeconds},
};
use escrow::{signed, typed_data};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{
    Connection, StoreError, TxError, deployment,
    disputes::{self, Proposal},
    quotes::Quote,
    rentals::Rental,
    timeline,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    live, of_side,
    once::Once,
    range::range,
    time,
    view::{DisputeView, view},
    who::Asker,
};
use crate::{
    AppState, Code, Problem,
    extract::{Body, Id, IdempotencyKey},
    identity::Wallet,
    limits::Origin,
    problem::refuse,
    renter::{
        book::{given, in_flight},
        end::{check_signature, signature_of},
    },
};

/// Proposals of a side in a case.
const MAX_PROPOSALS: usize = 16;
/// A proposal is an option for the other side: not for longer than the arbiter has.
const LONGEST_OFFER: Seconds = Seconds(15 * 24 * 3_600);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(propose)).routes(routes!(accept))
}

/// Billed seconds to agree on.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
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
/// proposal is kept, and once the other side has accepted it anybody can end the rental so (`close_agreed`). What was proposed
/// in the same words and under the same signature is kept once.
#[utoipa::path(post, path = "/v1/disputes/{id}/propose", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "dsp_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("Idempotency-Key" = Option<String>, Header, description = "with a signature: the same for the retries of it, which are answered alike")),
    request_body = ProposalRequest,
    responses((status = 201, body = DisputeView, headers(
                  ("Idempotent-Replayed", description = "`true` if this answer was given before"))),
              (status = 200, body = AgreementView)))]
async fn propose(
    State(app): State<AppState>,
    (wallet, origin): (Wallet, Origin),
    Id(id): Id<DisputeId>,
    key: Option<IdempotencyKey>,
    Body(request): Body<ProposalRequest>,
) -> Result<Response, Problem> {
    let (asker, now) = (Asker::of(&wallet), app.now());
    let once = Once::of(key, id, "propose", request.signature.is_some(), &json!(request));
    if let Some(said) = once.said(&app, asker).await? {
        return said;
    }
    let until = time(&request.valid_until, "/valid_until")?;
    if until <= now || until > now.saturating_plus(LONGEST_OFFER) {
        return Err(Problem::invalid("/valid_until", "in the future, at most 15 days ahead"));
    }
    let mut connection = app.store.read().await?;
    let found = disputes::get(&mut connection, id).await?;
    let (_, rental, quote, _) = of_side(&mut connection, asker, found).await?;
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
    check_signature((&app, origin), wallet.account.address, digest, &signature).await?;
    let (shared, once) = (app.clone(), Arc::new(once));
    let said = app.store.write("disputes.propose", move |tx| {
        let (app, once, signature) = (shared.clone(), once.clone(), signature.clone());
        Box::pin(async move {
            if let Some(said) = once.claim(tx, asker, now).await? {
                return Ok(said);
            }
            let (case, rental, quote, role) = live(tx, asker, id).await?;
            let ranged = in_range(tx, &rental, &quote, request.billed_s, now).await;
            ranged.map_err(TxError::Refused)?;
            let proposal = Proposal {
                seq: 0,
                side: role,
                billed: request.billed_s,
                valid_until: until,
                signature,
                accepted: None,
                at: now,
            };
            keep(tx, id, &proposal).await?;
            let view = view(tx, &app, &case, (&rental, &quote), role).await;
            once.finish(tx, asker, &view.map_err(TxError::Refused)?).await
        })
    });
    let (status, body, replayed) = said.await.map_err(in_flight)?;
    given(status, body, replayed)
}

/// Keeps a proposal, unless it is there. Each side has room of its own: neither can take the other's.
async fn keep(
    tx: &mut Connection,
    id: DisputeId,
    proposal: &Proposal,
) -> Result<(), TxError<Problem>> {
    let before = disputes::proposals(tx, id).await?;
    let same = |one: &Proposal| {
        (one.side, one.billed, one.valid_until)
            == (proposal.side, proposal.billed, proposal.valid_until)
            && one.signature == proposal.signature
    };
    if before.iter().any(same) {
        return Ok(());
    }
    if before.iter().filter(|one| one.side == proposal.side).count() >= MAX_PROPOSALS {
        let detail = format!("you have made {MAX_PROPOSALS} proposals, and no more are taken");
        return refuse(Problem::new(Code::StateConflict, detail));
    }
    Ok(disputes::propose(tx, id, proposal).await?)
}

/// Whether the contract would take so many billed seconds now.
async fn in_range(
    connection: &mut Connection,
    rental: &Rental,
    quote: &Quote,
    billed: Seconds,
    now: UnixSeconds,
) -> Result<(), Problem> {
    let Some(taken) = range(connection, rental, quote, now).await? else {
        let detail =
            format!("the rental is {}: there is nothing to agree on", rental.progress.state);
        return Err(Problem::new(Code::StateConflict, detail));
    };
    if taken.contains(&billed) {
        return Ok(());
    }
    let (least, most) = taken.into_inner();
    Err(Problem::invalid("/billed_s", format!("{least} to {most}: what is paid, and the clock")))
}

/// The same of a proposal that was made before: what has been paid or held since may leave it no room.
async fn still_in_range(
    connection: &mut Connection,
    (rental, quote): (&Rental, &Quote),
    proposal: &Proposal,
    now: UnixSeconds,
) -> Result<(), Problem> {
    if proposal.valid_until < now {
        return Err(Problem::new(Code::StateConflict, "the proposal's time is over"));
    }
    let taken = range(connection, rental, quote, now).await?;
    if taken.as_ref().is_some_and(|taken| taken.contains(&proposal.billed)) {
        return Ok(());
    }
    let detail = match taken {
        Some(taken) => format!(
            "the contract takes {} to {} billed seconds by now, and the proposal has {}: propose anew",
            taken.start(),
            taken.end(),
            proposal.billed
        ),
        None => format!("the rental is {}: there is nothing to agree on", rental.progress.state),
    };
    Err(Problem::new(Code::StateConflict, detail))
}

/// A signature under the other side's proposal.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
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
/// it (201) `actions` has the call that ends the rental, for anybody to send while it is valid. To accept it again under the
/// same signature changes nothing.
#[utoipa::path(post, path = "/v1/disputes/{id}/accept", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "dsp_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("Idempotency-Key" = Option<String>, Header, description = "with a signature: the same for the retries of it, which are answered alike")),
    request_body = ProposalAcceptance,
    responses((status = 201, body = DisputeView, headers(
                  ("Idempotent-Replayed", description = "`true` if this answer was given before"))),
              (status = 200, body = AgreementView)))]
async fn accept(
    State(app): State<AppState>,
    (wallet, origin): (Wallet, Origin),
    Id(id): Id<DisputeId>,
    key: Option<IdempotencyKey>,
    Body(request): Body<ProposalAcceptance>,
) -> Result<Response, Problem> {
    let (asker, now) = (Asker::of(&wallet), app.now());
    let once = Once::of(key, id, "accept", request.signature.is_some(), &json!(request));
    if let Some(said) = once.said(&app, asker).await? {
        return said;
    }
    let mut connection = app.store.read().await?;
    let found = disputes::get(&mut connection, id).await?;
    let (_, rental, quote, role) = of_side(&mut connection, asker, found).await?;
    let proposal = proposal_of(&mut connection, id, request.seq).await?;
    if proposal.side == role {
        return Err(Problem::invalid("/seq", "it is your own; the other side accepts it"));
    }
    if proposal.accepted.is_none() {
        still_in_range(&mut connection, (&rental, &quote), &proposal, now).await?;
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
    check_signature((&app, origin), wallet.account.address, digest, &signature).await?;
    let (shared, once) = (app.clone(), Arc::new(once));
    let said = app.store.write("disputes.accept", move |tx| {
        let (app, once, signature) = (shared.clone(), once.clone(), signature.clone());
        Box::pin(async move {
            if let Some(said) = once.claim(tx, asker, now).await? {
                return Ok(said);
            }
            let (case, rental, quote, role) = live(tx, asker, id).await?;
            let proposal = proposal_of(tx, id, request.seq).await.map_err(TxError::Refused)?;
            match &proposal.accepted {
                Some(before) if *before == signature => {}
                Some(_) => {
                    let detail = "the proposal was accepted before, under another signature";
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                None => {
                    let of = (&rental, &quote);
                    let ranged = still_in_range(tx, of, &proposal, now).await;
                    ranged.map_err(TxError::Refused)?;
                    if !disputes::accept(tx, id, request.seq, &signature).await? {
                        return Err(StoreError::Missing("the proposal as read").into());
                    }
                    let detail =
                        json!({ "dispute": id.to_string(), "agreed": request.seq, "by": role });
                    timeline::append(tx, rental.id, now, "dispute", &detail).await?;
                }
            }
            let view = view(tx, &app, &case, (&rental, &quote), role).await;
            once.finish(tx, asker, &view.map_err(TxError::Refused)?).await
        })
    });
    let (status, body, replayed) = said.await.map_err(in_flight)?;
    given(status, body, replayed)
}

async fn proposal_of(
    connection: &mut Connection,
    id: DisputeId,
    seq: u32,
) -> Result<Proposal, Problem> {
    let proposals = disputes::proposals(connection, id).await?;
    let found = proposals.into_iter().find(|proposal| proposal.seq == seq);
    found.ok_or_else(|| Problem::invalid("/seq", "there is no such proposal"))
}
