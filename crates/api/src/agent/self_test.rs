//! What an agent found on its machine, and its answers to self-tests.

use std::sync::Arc;

use alloy::primitives::B256;
use axum::{Json, extract::State, http::StatusCode};
use domain::{
    id::{MachineId, TestId},
    machine::{
        Check, Measured, Reading, Requirement, Verification, contradictions, gpu_uuid,
        requirements, review,
    },
    time::UnixSeconds,
};
use escrow::reading::detail_hash;
use serde::{Deserialize, Serialize};
use store::{
    StoreError, TxError,
    machines::{self, SignedChecks},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState, Code, Problem,
    extract::{Body, Id},
    identity::{Agent, signature_bytes, signer_of},
    problem::{internal, refuse},
    provider::is_version,
    views::Time,
};

/// GPUs that a machine can have.
const MAX_GPUS: usize = 64;
/// The longest name that a driver gives.
const MAX_NAME: usize = 128;
/// Checks of one answer.
const MAX_CHECKS: usize = 64;
/// The longest advice, in characters.
const MAX_ADVICE: usize = 500;
/// Failed checks that a reason names.
const NAMED: usize = 6;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(answer))
}

/// A self-test to be made.
#[derive(Serialize, ToSchema)]
pub(crate) struct SelfTestView {
    #[schema(value_type = String, example = "tst_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: TestId,
    /// What to show: each with `id`, `op` and `required`.
    #[schema(value_type = Vec<Object>, example = json!([{"id": "cpu_cores", "op": ">=", "required": 32}]))]
    requirements: Vec<Requirement>,
    ordered_at: Time,
}

/// The machine's open self-test.
pub(super) async fn open_view(
    connection: &mut store::Connection,
    machine: MachineId,
) -> Result<Option<SelfTestView>, Problem> {
    let open = machines::open_test(connection, machine).await?;
    Ok(open.map(|test| SelfTestView {
        id: test.id,
        requirements: test.requirements,
        ordered_at: Time(test.ordered_at),
    }))
}

/// What an agent says that it found, if it can be, with its GPUs as they are spelled here.
///
/// # Errors
/// [`Code::ValidationFailed`] with the place that cannot.
pub(super) fn checked(mut measured: Measured) -> Result<Measured, Problem> {
    let invalid =
        |field: &str, message: &str| Err(Problem::invalid(format!("/measured/{field}"), message));
    let gpus = measured.gpus.as_deref().unwrap_or_default();
    let plain = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b))
    };
    if gpus.len() > MAX_GPUS
        || gpus.iter().any(|gpu| !plain(&gpu.uuid, 64) || !plain(&gpu.name, MAX_NAME))
    {
        return invalid("gpus", "at most 64, with uuids and names of printable ASCII");
    }
    if measured.driver_version.as_deref().is_some_and(|version| !is_version(version)) {
        return invalid("driver_version", "numbers between dots, such as 550.54.15");
    }
    if measured.cuda_version.is_some_and(|version| !(10..=9_999).contains(&version)) {
        return invalid("cuda_version", "10 to 9999: 124 is 12.4");
    }
    let numbers = [
        measured.cpu_cores,
        measured.ram_gb,
        measured.disk_gb,
        measured.disk_mb_s,
        measured.pcie_mb_s,
        measured.inet_up_mbps,
        measured.inet_down_mbps,
        measured.ports,
    ];
    // columns are 32-bit integers with a sign
    if numbers.into_iter().flatten().any(|number| i32::try_from(number).is_err()) {
        return Err(Problem::invalid("/measured", "numbers below 2^31"));
    }
    for gpu in measured.gpus.iter_mut().flatten() {
        gpu.uuid = gpu_uuid(&gpu.uuid);
    }
    Ok(measured)
}

/// Keeps what an agent found. A verified machine that contradicts what is declared of it is verified no more.
pub(super) async fn note(
    tx: &mut store::Connection,
    machine: MachineId,
    measured: &Measured,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    machines::note_measured(tx, machine, measured, now).await?;
    let Some(found) = machines::get(tx, machine).await? else { return Ok(()) };
    if found.standing.verification != Verification::Verified {
        return Ok(());
    }
    let Some(declared) = machines::declared(tx, machine).await? else { return Ok(()) };
    let wrong = contradictions(&declared, measured);
    if !wrong.is_empty() {
        let reason = wrong.join("; ");
        tracing::warn!(machine.id = %machine, reason, "a machine contradicts what it has shown");
        machines::set_verification(tx, machine, Verification::Deverified, Some(&reason), now)
            .await?;
    }
    Ok(())
}

/// The answer to a self-test.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SelfTestAnswer {
    /// An answer to each requirement, in their order: `id`, `actual`, `op`, `required`, `pass`, `remediation`.
    #[schema(value_type = Vec<Object>, example = json!([{"id": "cpu_cores", "actual": 32, "op": ">=",
        "required": 32, "pass": true, "remediation": null}]))]
    checks: Vec<Check>,
    /// What was found, as in heartbeats.
    #[schema(value_type = Object, example = json!({"cpu_cores": 32}))]
    measured: Measured,
    /// EIP-191 signature by the machine's key over `weir-checks:<chain_id>:<machine_id>:<test_id>:<digest>`, where the
    /// digest is keccak256 of the checks as JSON with sorted keys and no spaces, `0x` and hex; in hex.
    #[schema(example = "0x")]
    signature: String,
}

/// What follows from a self-test.
#[derive(Serialize, ToSchema)]
pub(crate) struct SelfTestResult {
    /// Whether everything was shown.
    passed: bool,
    /// `unverified`, `verified` or `deverified`.
    #[schema(value_type = String, example = "verified")]
    verification: Verification,
}

/// Answers a self-test, which is public from then on. Every answer is judged anew by its own figures. Repeating the same
/// answer is harmless.
#[utoipa::path(post, path = "/v1/agent/self-tests/{id}", tag = "agent", security(("bearer" = [])),
    params(("id" = String, Path, example = "tst_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    request_body = SelfTestAnswer,
    responses((status = 201, body = SelfTestResult),
              (status = 200, description = "It was taken before.", body = SelfTestResult)))]
async fn answer(
    State(app): State<AppState>,
    Agent(machine): Agent,
    Id(id): Id<TestId>,
    Body(request): Body<SelfTestAnswer>,
) -> Result<(StatusCode, Json<SelfTestResult>), Problem> {
    if request.checks.len() > MAX_CHECKS {
        return Err(Problem::invalid("/checks", format!("at most {MAX_CHECKS}")));
    }
    for (index, check) in request.checks.iter().enumerate() {
        if !check.actual.as_ref().is_none_or(is_plain) {
            let message = "printable characters, at most 128 in a text and 64 texts";
            return Err(Problem::invalid(format!("/checks/{index}/actual"), message));
        }
        if !check.remediation.as_deref().is_none_or(|text| is_printable(text, MAX_ADVICE)) {
            let message = format!("at most {MAX_ADVICE} printable characters");
            return Err(Problem::invalid(format!("/checks/{index}/remediation"), message));
        }
    }
    let measured = checked(request.measured)?;
    let digest = detail_hash(&serde_json::to_value(&request.checks).map_err(internal)?);
    let text = format!("weir-checks:{}:{machine}:{id}:{digest}", app.config.chain_id);
    let signed = signature_bytes(&request.signature).zip(signer_of(&text, &request.signature));
    let Some((signature, signer)) = signed else {
        return Err(Problem::invalid(
            "/signature",
            "65 bytes in hex, of a signature in its lower form",
        ));
    };
    let said = SignedChecks { checks: request.checks, passed: false, digest, signer, signature };
    let (said, now) = (Arc::new((said, measured)), app.now());
    app.store
        .write("agent.self_test", move |tx| {
            let said = said.clone();
            Box::pin(async move { take(tx, machine, id, &said, now).await })
        })
        .await
        .map_err(Problem::from)?
        .map(|(status, result)| (status, Json(result)))
}

fn is_printable(text: &str, most: usize) -> bool {
    text.chars().count() <= most && !text.chars().any(char::is_control)
}

/// Whether a value can be kept and shown.
fn is_plain(value: &Reading) -> bool {
    match value {
        Reading::Number(_) => true,
        Reading::Text(text) => is_printable(text, MAX_NAME),
        Reading::Names(names) => {
            names.len() <= MAX_GPUS && names.iter().all(|name| is_printable(name, MAX_NAME))
        }
    }
}

/// Whether the test asked for all that is declared now. What the agent has measured since is nobody's word any more,
/// and need not be asked for.
async fn asks_for_all(
    tx: &mut store::Connection,
    machine: MachineId,
    asked: &[Requirement],
) -> Result<bool, TxError<Problem>> {
    let found = machines::get(tx, machine).await?.ok_or(StoreError::Missing("the machine"))?;
    let declared = machines::declared(tx, machine).await?;
    let declared = declared.ok_or(StoreError::Missing("the machine's GPUs"))?;
    let measured = found.measured.map(|(measured, _)| measured).unwrap_or_default();
    let shown = |id: &str| match id {
        "driver_version" => measured.driver_version.is_some(),
        "cuda_version" => measured.cuda_version.is_some(),
        "disk_mb_s" => measured.disk_mb_s.is_some(),
        _ => false,
    };
    let now = requirements(&declared);
    Ok(now.iter().all(|must| asked.contains(must) || shown(&must.id)))
}

/// What follows from a self-test, or why the test is void from now on.
type Taken = Result<(StatusCode, SelfTestResult), Problem>;

async fn take(
    tx: &mut store::Connection,
    machine: MachineId,
    id: TestId,
    (said, measured): &(SignedChecks, Measured),
    now: UnixSeconds,
) -> Result<Taken, TxError<Problem>> {
    // whoever declares something else waits, or has done it
    machines::hold_machine(tx, machine).await?;
    // and whoever revokes its key
    let found = machines::get(tx, machine).await?;
    if found.is_none_or(|found| found.agent != Some(said.signer)) {
        let detail = "it is not by the machine's key over these checks";
        return refuse(Problem::invalid("/signature", detail));
    }
    let Some(test) = machines::test_of(tx, machine, id).await? else {
        return refuse(Problem::not_found("self-test"));
    };
    if test.closed_at.is_some() {
        let newest = machines::checks(tx, machine, None, 1).await?.into_iter().next();
        if newest.is_some_and(|kept| kept.id == id && kept.said.digest == said.digest) {
            return Ok(Ok((StatusCode::OK, result(tx, machine, said.digest).await?)));
        }
        let detail = "it was answered otherwise, or a newer one was ordered";
        return refuse(Problem::new(Code::StateConflict, detail));
    }
    if !asks_for_all(tx, machine, &test.requirements).await? {
        machines::close_test(tx, id, now).await?;
        let detail = "something else was declared since it was ordered: order it again";
        return Ok(Err(Problem::new(Code::StateConflict, detail)));
    }
    let passed = match review(&test.requirements, &said.checks) {
        Ok(passed) => passed,
        Err(error) => return refuse(Problem::invalid("/checks", error.to_string())),
    };
    let said = SignedChecks { passed, ..said.clone() };
    machines::record_checks(tx, machine, id, &said, now).await?;
    machines::note_measured(tx, machine, measured, now).await?;
    let found = machines::get(tx, machine).await?.ok_or(StoreError::Missing("the machine"))?;
    if !found.standing.barred {
        let (verification, reason) = follows(found.standing.verification, &said.checks, passed);
        machines::set_verification(tx, machine, verification, reason.as_deref(), now).await?;
    }
    Ok(Ok((StatusCode::CREATED, result(tx, machine, said.digest).await?)))
}

/// What a machine is after a self-test. What was shown once and is shown no more is taken away.
fn follows(before: Verification, checks: &[Check], passed: bool) -> (Verification, Option<String>) {
    if passed {
        return (Verification::Verified, None);
    }
    let failed: Vec<&str> =
        checks.iter().filter(|check| !check.pass).map(|check| check.id.as_str()).collect();
    let mut named = failed.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if failed.len() > NAMED {
        named.push_str(" and more");
    }
    let after = match before {
        Verification::Unverified => Verification::Unverified,
        Verification::Verified | Verification::Deverified => Verification::Deverified,
    };
    (after, Some(format!("the self-test failed: {named}")))
}

async fn result(
    tx: &mut store::Connection,
    machine: MachineId,
    digest: B256,
) -> Result<SelfTestResult, StoreError> {
    let found = machines::get(tx, machine).await?.ok_or(StoreError::Missing("the machine"))?;
    let newest = machines::checks(tx, machine, None, 1).await?.into_iter().next();
    let passed = newest.is_some_and(|kept| kept.said.digest == digest && kept.said.passed);
    Ok(SelfTestResult { passed, verification: found.standing.verification })
}
