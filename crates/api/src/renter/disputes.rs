//! Disputes: a case is recorded here, and decided by the contract. The platform judges by numbers what numbers can judge,
//! hands each side the call for its wallet, and keeps what both show and sign.

mod agree;
mod facts;
mod once;
mod range;
mod view;
mod who;

use alloy::primitives::B256;
use axum::{Json, extract::State, http::StatusCode};
use domain::{
    dispute::{Dispute, DisputeCode, DisputeError, DisputeEvent, DisputeState, Side, step},
    id::{AccountId, DisputeId, RentalId},
    metering::Interval,
    rental::RentalState,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{
    Connection, TxError,
    api_keys::ApiKey,
    deployment,
    disputes::{self, Case, Evidence},
    quotes::Quote,
    readings,
    rentals::Rental,
    timeline,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{held::word, rentals::of_party};
use crate::{
    AppState, Code, Problem,
    access::may_touch_offer,
    cursor,
    extract::{Body, Id, Params},
    identity::Wallet,
    problem::refuse,
    provider::{PageParams, time_of},
    views::page_limit,
};
use view::{Calls, DisputeSummary, DisputeView, summary, view};
use who::{Asker, seen};

const LIST: &str = "disputes";
/// The longest statement, in bytes.
const MAX_STATEMENT: usize = 4_096;
const MAX_URI: usize = 1_024;
/// Pieces of evidence in one request, and of a side in a case: neither takes the other's room.
const MAX_AT_ONCE: usize = 16;
const MAX_EVIDENCE: usize = 32;
/// Cases about a rental that one side may open, those over and taken back included.
const MAX_CASES: i64 = 4;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read))
        .routes(routes!(add_evidence))
        .merge(agree::routes())
        .routes(routes!(withdraw))
}

/// Something to be shown.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DisputeEvidenceRequest {
    /// Of the file, in hex.
    #[schema(value_type = String, example = "0x9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    sha256: B256,
    /// Where it is, `https:` or `ipfs:`; the platform does not fetch it.
    #[schema(example = "https://example.com/log.txt")]
    uri: String,
}

/// A case to be opened.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DisputeRequest {
    #[schema(value_type = String, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    rental_id: RentalId,
    /// `wrong_hardware`, `not_reachable`, `underperforming`, `data_loss`, `billing` or `abuse`.
    #[schema(value_type = String, example = "not_reachable")]
    code: DisputeCode,
    /// At most 4,096 bytes.
    #[serde(default)]
    #[schema(example = "ssh timed out from 12:03 on")]
    statement: String,
    /// The time that it is about, RFC 3339; both or none.
    #[schema(example = "2026-01-31T12:03:00Z")]
    from: Option<String>,
    #[schema(example = "2026-01-31T12:09:00Z")]
    to: Option<String>,
    /// At most 16 at once.
    #[serde(default)]
    evidence: Vec<DisputeEvidenceRequest>,
}

fn time(text: &str, pointer: &str) -> Result<UnixSeconds, Problem> {
    time_of(text).ok_or_else(|| Problem::invalid(pointer, "a time such as 2027-02-01T02:00:00Z"))
}

fn span(from: Option<&str>, to: Option<&str>) -> Result<Option<Interval>, Problem> {
    match (from, to) {
        (None, None) => Ok(None),
        (Some(from), Some(to)) => {
            let span = Interval::new(time(from, "/from")?, time(to, "/to")?);
            if span.is_empty() {
                return Err(Problem::invalid("/to", "it must be after `from`"));
            }
            Ok(Some(span))
        }
        (None, Some(_)) => Err(Problem::invalid("/from", "give both ends or none")),
        (Some(_), None) => Err(Problem::invalid("/to", "give both ends or none")),
    }
}

fn check_evidence(evidence: &[DisputeEvidenceRequest]) -> Result<(), Problem> {
    if evidence.len() > MAX_AT_ONCE {
        return Err(Problem::invalid("/evidence", format!("at most {MAX_AT_ONCE} at once")));
    }
    for (index, one) in evidence.iter().enumerate() {
        let known = one.uri.starts_with("https://") || one.uri.starts_with("ipfs://");
        let plain = one.uri.bytes().all(|byte| byte.is_ascii_graphic());
        if !known || !plain || one.uri.len() > MAX_URI {
            let message =
                format!("a URI with https or ipfs, of at most {MAX_URI} ASCII characters");
            return Err(Problem::invalid(format!("/evidence/{index}/uri"), message));
        }
    }
    Ok(())
}

/// On which side of a rental an account is, which is a party of it.
fn side_of(rental: &Rental, account: AccountId) -> Side {
    if rental.renter == account { Side::Renter } else { Side::Provider }
}

/// Opens a case about a rental whose seconds the contract can still hold: while it runs, by its renter; or while some
/// are held, by either side. What is paid is final, and nothing can be disputed of it. There is one case about a rental at
/// a time; both sides use it. The answer's `actions` are for the caller's wallet: the contract hears of nothing else.
#[utoipa::path(post, path = "/v1/disputes", tag = "renter", security(("bearer" = [])),
    request_body = DisputeRequest, responses((status = 201, body = DisputeView)))]
async fn create(
    State(app): State<AppState>,
    wallet: Wallet,
    Body(request): Body<DisputeRequest>,
) -> Result<(StatusCode, Json<DisputeView>), Problem> {
    let control = |c: char| c.is_control() && c != '\n';
    if request.statement.len() > MAX_STATEMENT || request.statement.chars().any(control) {
        let message = format!("at most {MAX_STATEMENT} bytes, no control characters but line ends");
        return Err(Problem::invalid("/statement", message));
    }
    check_evidence(&request.evidence)?;
    let span = span(request.from.as_deref(), request.to.as_deref())?;
    let asker = Asker::of(&wallet);
    if !asker.sees(request.rental_id) {
        return Err(Problem::new(Code::Forbidden, "this token is for another rental"));
    }
    let key = wallet.key().cloned();
    let store = app.store.clone();
    let answer = store
        .write("disputes.open", move |tx| {
            let (app, request, key) = (app.clone(), request.clone(), key.clone());
            Box::pin(async move { open(tx, &app, (asker, key), &request, span).await })
        })
        .await
        .map_err(Problem::from)?;
    Ok((StatusCode::CREATED, Json(answer)))
}

async fn open(
    tx: &mut Connection,
    app: &AppState,
    (asker, key): (Asker, Option<ApiKey>),
    request: &DisputeRequest,
    span: Option<Interval>,
) -> Result<DisputeView, TxError<Problem>> {
    let id = request.rental_id;
    readings::lock_rental(tx, id).await?;
    let party = of_party(tx, asker.account, id).await;
    let (rental, quote) = party.map_err(TxError::Refused)?;
    if let Some(key) = &key {
        // the rental is named in the body, where nobody has looked before
        may_touch_offer(key, quote.offer, quote.machine).map_err(TxError::Refused)?;
    }
    let (role, now) = (side_of(&rental, asker.account), app.now());
    if let Some(live) = disputes::lock_live(tx, id).await? {
        let detail = "a case about this rental is not over; both sides use it";
        let problem = Problem::new(Code::AlreadyExists, detail);
        return refuse(problem.with("dispute_id", live.id.to_string()));
    }
    if disputes::count(tx, id, role).await? >= MAX_CASES {
        let detail =
            format!("you have opened {MAX_CASES} cases about this rental, and no more are taken");
        return refuse(Problem::new(Code::StateConflict, detail));
    }
    let contract = app.known(deployment::get(tx).await?).map_err(TxError::Refused)?;
    let said = word(tx, &rental, &quote).await.map_err(TxError::Refused)?;
    let calls =
        Calls { quote: &quote, to: contract.escrow, rental: &rental, word: said, role, now };
    if !calls.can_be_heard() {
        let detail = format!(
            "the rental is {} and you are its {role}: the contract hears a renter while the rental runs and has a \
             holdback, and both sides while seconds are held; what is paid is final",
            rental.progress.state
        );
        return refuse(Problem::new(Code::StateConflict, detail));
    }
    let contested = rental.progress.state == RentalState::Contested;
    // what the chain said before the case was opened
    let told = said.filter(|_| contested);
    let mut progress = Dispute::OPENED;
    for (by, disputes) in [
        (Side::Renter, told.is_some_and(|word| word.renter_disputes)),
        (Side::Provider, told.is_some_and(|word| word.provider_disputes)),
    ] {
        if disputes {
            let heard = step(&progress, &DisputeEvent::DisputedFinal { by });
            progress = heard.or_else(|error| refuse(refusal(error)))?;
        }
    }
    let case = Case {
        id: DisputeId::from_uuid(Uuid::now_v7()),
        rental: id,
        opened_by: role,
        code: request.code,
        statement: request.statement.clone(),
        span,
        progress,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    disputes::insert(tx, &case).await?;
    keep(tx, case.id, role, &request.evidence, now).await?;
    let detail = json!({ "dispute": case.id.to_string(), "state": progress.state, "by": role });
    timeline::append(tx, id, now, "dispute", &detail).await?;
    view(tx, app, &case, (&rental, &quote), role).await.map_err(TxError::Refused)
}

fn refusal(error: DisputeError) -> Problem {
    Problem::new(Code::StateConflict, error.to_string())
}

async fn keep(
    tx: &mut Connection,
    id: DisputeId,
    side: Side,
    evidence: &[DisputeEvidenceRequest],
    now: UnixSeconds,
) -> Result<(), TxError<Problem>> {
    for one in evidence {
        let shown = Evidence { side, sha256: one.sha256, uri: one.uri.clone(), at: now };
        disputes::show(tx, id, &shown).await?;
    }
    Ok(())
}

/// A case of a rental of the caller's, with that rental. To anyone else it does not exist.
async fn of_side(
    connection: &mut Connection,
    asker: Asker,
    case: Option<Case>,
) -> Result<(Case, Rental, Quote, Side), Problem> {
    let case = case.filter(|case| asker.sees(case.rental));
    let case = case.ok_or_else(|| Problem::not_found("dispute"))?;
    let party = of_party(connection, asker.account, case.rental).await;
    let (rental, quote) = party.map_err(|problem| {
        if problem.code() == Code::NotFound { Problem::not_found("dispute") } else { problem }
    })?;
    let role = side_of(&rental, asker.account);
    Ok((case, rental, quote, role))
}

/// A page of disputes.
#[derive(Serialize, ToSchema)]
pub(crate) struct DisputePage {
    data: Vec<DisputeSummary>,
    next_cursor: Option<String>,
}

/// The disputes about the caller's rentals, on either side, newest first.
#[utoipa::path(get, path = "/v1/disputes", tag = "renter", security(("bearer" = [])),
    params(PageParams), responses((status = 200, body = DisputePage)))]
async fn list(
    State(app): State<AppState>,
    wallet: Wallet,
    Params(page): Params<PageParams>,
) -> Result<Json<DisputePage>, Problem> {
    let limit = page_limit(page.limit)?;
    let before = match &page.cursor {
        Some(text) => {
            let [id] = cursor::read::<1>(LIST, text)?;
            Some(id.parse().map_err(|_| cursor::invalid())?)
        }
        None => None,
    };
    let (account, asker) = (wallet.account.id, Asker::of(&wallet));
    let mut connection = app.store.read().await?;
    let found = disputes::list(&mut connection, account, before, i64::from(limit)).await?;
    let full = found.len() >= usize::from(limit);
    let last = found.last().filter(|_| full).map(|case| case.id.to_string());
    let next_cursor = last.map(|id| cursor::write(LIST, &[id]));
    let own = disputes::as_renter(&mut connection, account, &found).await?;
    let side = |case: &Case| if own.contains(&case.rental) { Side::Renter } else { Side::Provider };
    let mut data = Vec::with_capacity(found.len());
    for case in found.iter().filter(|case| asker.sees(case.rental)) {
        if seen(&mut connection, wallet.key(), case).await? {
            data.push(summary(case, side(case)));
        }
    }
    Ok(Json(DisputePage { data, next_cursor }))
}

/// A dispute. Only the rental's renter and provider see it.
#[utoipa::path(get, path = "/v1/disputes/{id}", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "dsp_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = DisputeView)))]
async fn read(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<DisputeId>,
) -> Result<Json<DisputeView>, Problem> {
    let mut connection = app.store.read().await?;
    let found = disputes::get(&mut connection, id).await?;
    let (case, rental, quote, role) = of_side(&mut connection, Asker::of(&wallet), found).await?;
    Ok(Json(view(&mut connection, &app, &case, (&rental, &quote), role).await?))
}

/// A case that is not over, locked, with its rental.
async fn live(
    tx: &mut Connection,
    asker: Asker,
    id: DisputeId,
) -> Result<(Case, Rental, Quote, Side), TxError<Problem>> {
    // the rental before its case, as everybody who changes both locks them
    if let Some(case) = disputes::get(tx, id).await? {
        readings::lock_rental(tx, case.rental).await?;
    }
    let found = disputes::lock(tx, id).await?;
    let parts = of_side(tx, asker, found).await.map_err(TxError::Refused)?;
    if matches!(parts.0.progress.state, DisputeState::Closed | DisputeState::Withdrawn) {
        return refuse(refusal(DisputeError::Over));
    }
    Ok(parts)
}

/// What a side shows.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DisputeEvidenceBatch {
    /// 1 to 16.
    evidence: Vec<DisputeEvidenceRequest>,
}

/// Shows evidence, on the caller's side. Each side may show 32 pieces; each stays.
#[utoipa::path(post, path = "/v1/disputes/{id}/evidence", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "dsp_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    request_body = DisputeEvidenceBatch, responses((status = 201, body = DisputeView)))]
async fn add_evidence(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<DisputeId>,
    Body(request): Body<DisputeEvidenceBatch>,
) -> Result<(StatusCode, Json<DisputeView>), Problem> {
    if request.evidence.is_empty() {
        return Err(Problem::invalid("/evidence", "at least one"));
    }
    check_evidence(&request.evidence)?;
    let asker = Asker::of(&wallet);
    let store = app.store.clone();
    let answer = store
        .write("disputes.show", move |tx| {
            let (app, request) = (app.clone(), request.clone());
            Box::pin(async move {
                let (case, rental, quote, role) = live(tx, asker, id).await?;
                let shown = disputes::shown(tx, id).await?;
                let before = shown.iter().filter(|one| one.side == role).count();
                if before.saturating_add(request.evidence.len()) > MAX_EVIDENCE {
                    let detail =
                        format!("you have shown {before} pieces, and {MAX_EVIDENCE} are the most");
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                keep(tx, id, role, &request.evidence, app.now()).await?;
                view(tx, &app, &case, (&rental, &quote), role).await.map_err(TxError::Refused)
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Takes a case back, by who opened it, before the contract has heard of it. Afterwards only the contract's `concede` gives in.
#[utoipa::path(post, path = "/v1/disputes/{id}/withdraw", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "dsp_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = DisputeView)))]
async fn withdraw(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<DisputeId>,
) -> Result<Json<DisputeView>, Problem> {
    let asker = Asker::of(&wallet);
    let store = app.store.clone();
    let answer = store
        .write("disputes.withdraw", move |tx| {
            let app = app.clone();
            Box::pin(async move {
                let (mut case, rental, quote, role) = live(tx, asker, id).await?;
                if case.opened_by != role {
                    let detail =
                        "only who opened it takes it back; concede on the chain to give in";
                    return refuse(Problem::new(Code::Forbidden, detail));
                }
                let next = step(&case.progress, &DisputeEvent::Withdrawn)
                    .or_else(|error| refuse(refusal(error)))?;
                let now = app.now();
                disputes::advance(tx, &case, &next, now).await?;
                let detail = json!({ "dispute": id.to_string(), "state": next.state, "by": role });
                timeline::append(tx, rental.id, now, "dispute", &detail).await?;
                case.progress = next;
                view(tx, &app, &case, (&rental, &quote), role).await.map_err(TxError::Refused)
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok(Json(answer))
}
