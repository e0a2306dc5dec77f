//! Readings: the signed evidence that a rental is billed by.

use alloy::primitives::{Address, B256};
use axum::{Json, extract::State, http::StatusCode};
use domain::{
    id::{MachineId, RentalId},
    metering::{Interval, ReadingClaim, ReadingError, ReadingHead, ReadingRules, check_reading},
    rental::{RentalEvent, RentalState},
    time::{Seconds, UnixSeconds},
};
use escrow::reading as signed;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::{
    TxError, advance, deployment, machines,
    readings::{self, Reading},
    rentals::{self, Rental},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState, Code, Problem,
    extract::Body,
    identity::{Agent, signature_bytes},
    problem::refuse,
};

/// The longest time that one reading may cover.
const MAX_SPAN: Seconds = Seconds(60);
/// How far an agent's clock may be ahead of ours.
const MAX_SKEW: Seconds = Seconds(2);
/// The longest detail of a reading, as JSON.
const MAX_DETAIL: usize = 1_024;
/// Readings that a rental may send at any time; beyond them one for every so many seconds that it runs.
/// A month of evidence thereby has a size that can be told.
const FREE_READINGS: u64 = 3_600;
const SECONDS_PER_READING: u64 = 2;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(append))
}

/// A reading.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadingRequest {
    #[schema(value_type = String, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    rental_id: RentalId,
    /// 1 for the first.
    #[schema(example = 1)]
    seq: u64,
    /// Unix seconds: the first that it covers.
    #[schema(example = 1_769_860_800_u64)]
    from: u64,
    /// Unix seconds: the one after the last that it covers; at most 60 more.
    #[schema(example = 1_769_860_805_u64)]
    to: u64,
    /// What was measured, at most 1 KiB. Its hash is keccak256 of its JSON with sorted keys and no spaces. Numbers in it
    /// are whole, of 64 bits at most: others have more than one spelling, and go into strings.
    #[schema(value_type = Object, example = json!({"gpus": [{"util": 97, "mem_mb": 20480}]}))]
    detail: Map<String, Value>,
    /// The hash of the reading before; zero for the first.
    #[schema(value_type = String)]
    prev_hash: B256,
    /// The agent's signature over the EIP-712 hash of
    /// `Reading(bytes32 rental,uint64 seq,uint64 from,uint64 to,bytes32 detailHash,bytes32 prevHash)`
    /// with the domain of `/v1/deployment`, in hex.
    #[schema(example = "0x")]
    signature: String,
}

/// The reading's place in the chain.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReadingAnswer {
    #[schema(example = 1)]
    accepted_seq: u64,
    /// What the next reading names.
    #[schema(value_type = String)]
    hash: B256,
}

/// Appends a reading to a rental's evidence. The same reading again is answered with 200.
#[utoipa::path(post, path = "/v1/agent/readings", tag = "agent", security(("bearer" = [])),
    request_body = ReadingRequest,
    responses((status = 201, body = ReadingAnswer),
              (status = 200, description = "It was taken before.", body = ReadingAnswer)))]
async fn append(
    State(app): State<AppState>,
    Agent(machine): Agent,
    Body(request): Body<ReadingRequest>,
) -> Result<(StatusCode, Json<ReadingAnswer>), Problem> {
    let (reading, agent) = verified(&app, machine, request).await?;
    let answer = ReadingAnswer { accepted_seq: reading.seq, hash: reading.hash };
    let store = app.store.clone();
    let fresh = store
        .write("agent.reading", move |tx| {
            let (app, reading) = (app.clone(), reading.clone());
            Box::pin(async move { accept(tx, &app, &reading, agent).await })
        })
        .await
        .map_err(Problem::from)?;
    let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(answer)))
}

/// Checks who signed a reading, outside of any transaction: it is the costly part. Returned with the key.
async fn verified(
    app: &AppState,
    machine: MachineId,
    request: ReadingRequest,
) -> Result<(Reading, Address), Problem> {
    let detail = Value::Object(request.detail);
    let text = detail.to_string();
    // PostgreSQL's jsonb cannot hold the NUL character
    if text.len() > MAX_DETAIL || text.contains("\\u0000") {
        let message = format!("at most {MAX_DETAIL} bytes of JSON, without NUL characters");
        return Err(Problem::invalid("/detail", message));
    }
    if !has_one_spelling(&detail) {
        let message = "a number in it is no whole one of 64 bits; write it as a string";
        return Err(Problem::invalid("/detail", message));
    }
    let signature = signature_bytes(&request.signature).ok_or_else(|| {
        let detail = "the signature is not 65 bytes in hex";
        Problem::new(Code::ReadingSignatureInvalid, detail).at("/signature", detail)
    })?;
    let span = Interval::new(UnixSeconds(request.from), UnixSeconds(request.to));
    let mut connection = app.store.read().await?;
    let rental = rentals::get(&mut connection, request.rental_id)
        .await?
        .filter(|rental| rental.machine == machine)
        .ok_or_else(|| Problem::not_found("rental"))?;
    let agent: Option<Address> =
        machines::get(&mut connection, machine).await?.and_then(|found| found.agent);
    let contract = app.known(deployment::get(&mut connection).await?)?;
    drop(connection);
    let message = signed::Reading {
        rental: rental.escrow_id,
        seq: request.seq,
        from: request.from,
        to: request.to,
        detailHash: signed::detail_hash(&detail),
        prevHash: request.prev_hash,
    };
    let domain = escrow::domain(contract.chain_id, contract.escrow);
    let signer = match signed::recover(&message, &signature, &domain) {
        Ok(signer) if Some(signer) == agent => signer,
        Ok(_) => {
            let detail = "the reading is signed by another key than the machine's agent";
            return Err(Problem::new(Code::ReadingSignatureInvalid, detail));
        }
        Err(error) => {
            return Err(Problem::new(Code::ReadingSignatureInvalid, error.to_string()));
        }
    };
    let reading = Reading {
        rental: rental.id,
        seq: request.seq,
        span,
        detail,
        prev_hash: request.prev_hash,
        hash: signed::hash(&message, &domain),
        signature,
        received_at: app.now(),
    };
    Ok((reading, signer))
}

/// Whether the database gives a value back as it was signed. Of numbers, it does not keep how they were written: 1e16 and
/// -0.0 come back as others, and so with another hash.
fn has_one_spelling(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Array(items) => items.iter().all(has_one_spelling),
        Value::Object(members) => members.values().all(has_one_spelling),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// Appends a verified reading. False if it was there already.
async fn accept(
    tx: &mut store::Connection,
    app: &AppState,
    reading: &Reading,
    agent: Address,
) -> Result<bool, TxError<Problem>> {
    let Some(rental) = readings::lock_rental(tx, reading.rental).await? else {
        return refuse(Problem::not_found("rental"));
    };
    let head = readings::head(tx, reading.rental).await?;
    if head.is_some_and(|head| reading.seq <= head.seq) {
        let known = readings::get(tx, reading.rental, reading.seq).await?;
        if known.is_some_and(|known| known.hash == reading.hash) {
            return Ok(false);
        }
        let detail = format!("another reading has number {}", reading.seq);
        return refuse(Problem::new(Code::ReadingConflict, detail));
    }
    check_state(&rental, reading.span).or_else(refuse)?;
    check_number(&rental, reading).or_else(refuse)?;
    check_place(app, head.as_ref(), reading).or_else(refuse)?;
    check_contact(tx, app, (rental.machine, agent), reading).await?;
    readings::append(tx, reading).await?;
    let now = reading.received_at;
    let policy = app.store.policy();
    match rental.progress.state {
        RentalState::Interrupted => {
            advance::apply(tx, policy, rental.id, &RentalEvent::EvidenceBack, now).await?;
        }
        // whoever watches for silence looks at the reading itself
        RentalState::Active
        | RentalState::AwaitingFunds
        | RentalState::Funded
        | RentalState::Provisioning
        | RentalState::Stopping
        | RentalState::Settling
        | RentalState::Settled
        | RentalState::Expired
        | RentalState::Cancelled
        | RentalState::StartFailed
        | RentalState::Refunding
        | RentalState::Refunded
        | RentalState::Contested
        | RentalState::Resolved => {}
    }
    Ok(true)
}

/// Whether the rental takes readings of this time.
fn check_state(rental: &Rental, span: Interval) -> Result<(), Problem> {
    let progress = &rental.progress;
    let takes = matches!(
        progress.state,
        RentalState::Active | RentalState::Interrupted | RentalState::Stopping
    );
    let Some(started) = progress.started_at.filter(|_| takes) else {
        let detail = format!("a rental that is {} takes no readings", progress.state);
        return Err(Problem::new(Code::StateConflict, detail));
    };
    let invalid = |detail: String| Problem::new(Code::ReadingInvalid, detail);
    if span.from < started {
        let detail = format!("billing began at {started}: begin there or later");
        return Err(invalid(detail).with("not_before", started.get()));
    }
    if let Some(stopped) = progress.stopped_at
        && span.to > stopped
    {
        let detail = format!("billing ended at {stopped}: end there or earlier");
        return Err(invalid(detail).with("not_after", stopped.get()));
    }
    Ok(())
}

/// Whether the rental has run long enough for so many readings.
fn check_number(rental: &Rental, reading: &Reading) -> Result<(), Problem> {
    let ran = rental
        .progress
        .started_at
        .map_or(0, |started| reading.received_at.get().saturating_sub(started.get()));
    let most = FREE_READINGS.saturating_add(ran / SECONDS_PER_READING);
    if reading.seq <= most {
        return Ok(());
    }
    let detail = format!("there are {most} readings already: let the next cover more time");
    Err(Problem::new(Code::ReadingInvalid, detail))
}

/// Whether the machine was in contact for the time that it speaks of, and its key is still the one that signed. A machine
/// that was away cannot come back and claim the time: it begins anew.
async fn check_contact(
    tx: &mut store::Connection,
    app: &AppState,
    machine: (MachineId, Address),
    reading: &Reading,
) -> Result<(), TxError<Problem>> {
    let now = reading.received_at;
    let timeout = app.store.policy().evidence_timeout;
    let Some(contact) = machines::contact(tx, machine, now, timeout).await? else {
        let detail = "the key that signed it is not the machine's any more";
        return refuse(Problem::new(Code::ReadingSignatureInvalid, detail));
    };
    let since = contact.since.unwrap_or(now);
    if reading.span.from >= since {
        return Ok(());
    }
    let detail = format!("the machine was out of contact before {since}: begin there or later");
    refuse(Problem::new(Code::ReadingTooLate, detail).with("not_before", since.get()))
}

/// Whether the reading follows the one before it, in time to be believed.
fn check_place(
    app: &AppState,
    head: Option<&ReadingHead>,
    reading: &Reading,
) -> Result<(), Problem> {
    let rules = ReadingRules {
        max_span: MAX_SPAN,
        max_lag: app.store.policy().evidence_timeout,
        max_skew: MAX_SKEW,
    };
    let claim = ReadingClaim {
        seq: reading.seq,
        from: reading.span.from,
        to: reading.span.to,
        prev_hash: reading.prev_hash,
    };
    let Err(error) = check_reading(head, &claim, reading.received_at, &rules) else {
        return Ok(());
    };
    let problem = |code: Code| Problem::new(code, error.to_string());
    Err(match error {
        ReadingError::Gap { expected_seq } => {
            problem(Code::ReadingGap).with("expected_seq", expected_seq)
        }
        ReadingError::Duplicate | ReadingError::BrokenChain => problem(Code::ReadingConflict),
        ReadingError::TooLate { not_before } => {
            problem(Code::ReadingTooLate).with("not_before", not_before.get())
        }
        ReadingError::Overlaps { not_before } => {
            problem(Code::ReadingInvalid).with("not_before", not_before.get())
        }
        ReadingError::FromFuture { not_after } => {
            problem(Code::ReadingInvalid).with("not_after", not_after.get())
        }
        ReadingError::TooLong { .. } | ReadingError::EmptyInterval => problem(Code::ReadingInvalid),
    })
}
