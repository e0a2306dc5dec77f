//! How an agent's key is bound to its machine, and how it signs in.

use alloy::primitives::Address;
use axum::{Json, extract::State, http::StatusCode};
use domain::{
    id::{MachineId, SessionId},
    machine::Service,
};
use serde::{Deserialize, Serialize};
use store::{
    accounts::{self, NewOwner, NewSession, NonceUse},
    machines::{self, Enrolled},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    AppState, Code, Problem,
    auth::store_nonce,
    extract::Body,
    identity::{self, Secret, hash_of, is_nonce, signer_of},
    problem::refuse,
    security,
    views::Time,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(enroll)).routes(routes!(challenge)).routes(routes!(session))
}

/// A key that shows that it belongs to the holder of an enrolment token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnrollRequest {
    /// As the provider got it.
    #[schema(example = "pZ4m0s3x1v5u7w9y2A4C6E8G0I2K4M6O8Q0S2U4W6Y8")]
    enroll_token: String,
    /// The agent's own key; it holds no money.
    #[schema(value_type = String, example = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8")]
    agent_address: Address,
    /// EIP-191 signature by that key over `weir-enroll:<chain_id>:<enroll_token>`, in hex.
    #[schema(example = "0x")]
    signature: String,
}

/// The machine that the agent speaks for.
#[derive(Serialize, ToSchema)]
pub(crate) struct EnrollAnswer {
    #[schema(value_type = String, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    machine_id: MachineId,
}

/// Binds an agent's key to a machine. The token is used up by it. A key that the machine had before is replaced: its
/// sessions end, and no machine takes it again. While a rental of the machine is measured by readings, which one key
/// signs, it is refused with 409.
#[utoipa::path(post, path = "/v1/agent/enroll", tag = "agent", request_body = EnrollRequest,
    responses((status = 201, body = EnrollAnswer)))]
async fn enroll(
    State(app): State<AppState>,
    Body(request): Body<EnrollRequest>,
) -> Result<(StatusCode, Json<EnrollAnswer>), Problem> {
    let agent = request.agent_address;
    let done = bind(&app, request).await;
    security::signed_in("enrolment", Some(agent), &done);
    Ok((StatusCode::CREATED, Json(EnrollAnswer { machine_id: done? })))
}

async fn bind(app: &AppState, request: EnrollRequest) -> Result<MachineId, Problem> {
    let text = format!("weir-enroll:{}:{}", app.config.chain_id, request.enroll_token);
    if signer_of(&text, &request.signature) != Some(request.agent_address) {
        let detail = "the signature is not by agent_address over weir-enroll:<chain_id>:<token>";
        return Err(Problem::new(Code::EnrollInvalid, detail).at("/signature", detail));
    }
    let (hash, agent, now) = (hash_of(&request.enroll_token), request.agent_address, app.now());
    app.store
        .write("agent.enroll", move |tx| {
            Box::pin(async move {
                match machines::enroll(tx, &hash, agent, now).await {
                    Ok(Enrolled::Bound(machine)) => Ok(machine),
                    Ok(Enrolled::NoSuchToken) => {
                        let detail = "the token is unknown, used or expired";
                        refuse(Problem::new(Code::EnrollInvalid, detail))
                    }
                    Ok(Enrolled::KeyEnded) => {
                        let detail = "this key was replaced or revoked; make a new one";
                        refuse(Problem::new(Code::AlreadyExists, detail))
                    }
                    Ok(Enrolled::Rented) => {
                        let detail = "a rental of the machine runs, and one key signs all of its readings: enrol a new \
                                      one once it has ended; the token stays good until it expires";
                        refuse(Problem::new(Code::StateConflict, detail))
                    }
                    Err(error) if error.is_conflict_on("machines_agent_key_key") => {
                        let detail = "this key belongs to another machine; make a new one";
                        refuse(Problem::new(Code::AlreadyExists, detail))
                    }
                    Err(error) => Err(error.into()),
                }
            })
        })
        .await
        .map_err(Problem::from)
}

/// What an agent signs to sign in.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChallengeAnswer {
    #[schema(example = "3f0c9a1de2b84c77a9d05e61f2b83c4d")]
    nonce: String,
    expires_at: Time,
}

/// Gives out a nonce for an agent's sign-in.
#[utoipa::path(post, path = "/v1/agent/challenge", tag = "agent",
    responses((status = 201, body = ChallengeAnswer)))]
async fn challenge(
    State(app): State<AppState>,
) -> Result<(StatusCode, Json<ChallengeAnswer>), Problem> {
    let nonce = identity::nonce()?;
    let expires_at = Time(app.now().saturating_plus(app.config.nonce_ttl));
    store_nonce(&app, nonce.clone()).await?;
    Ok((StatusCode::CREATED, Json(ChallengeAnswer { nonce, expires_at })))
}

/// A signed challenge.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionRequest {
    #[schema(value_type = String, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    machine_id: MachineId,
    #[schema(example = "3f0c9a1de2b84c77a9d05e61f2b83c4d")]
    nonce: String,
    /// EIP-191 signature over `weir-agent:<chain_id>:<machine_id>:<nonce>`, in hex.
    #[schema(example = "0x")]
    signature: String,
}

/// An agent's session.
#[derive(Serialize, ToSchema)]
pub(crate) struct AgentSession {
    /// To be sent as `Authorization: Bearer`.
    #[schema(example = "pZ4m0s3x1v5u7w9y2A4C6E8G0I2K4M6O8Q0S2U4W6Y8")]
    token: String,
    expires_at: Time,
}

/// Exchanges a signed challenge for a session.
#[utoipa::path(post, path = "/v1/agent/session", tag = "agent", request_body = SessionRequest,
    responses((status = 201, body = AgentSession)))]
async fn session(
    State(app): State<AppState>,
    Body(request): Body<SessionRequest>,
) -> Result<(StatusCode, Json<AgentSession>), Problem> {
    let machine = request.machine_id;
    let done = open(&app, request).await;
    security::signed_in("agent", Some(machine), &done);
    Ok((StatusCode::CREATED, Json(done?)))
}

async fn open(app: &AppState, request: SessionRequest) -> Result<AgentSession, Problem> {
    let machine = request.machine_id;
    if !is_nonce(&request.nonce) {
        return Err(Problem::invalid("/nonce", "8 to 64 letters and digits"));
    }
    let text = format!("weir-agent:{}:{machine}:{}", app.config.chain_id, request.nonce);
    let signer = signer_of(&text, &request.signature);
    let secret = Secret::new()?;
    let now = app.now();
    let expires_at = now.saturating_plus(app.config.agent_session_ttl);
    let (token_hash, nonce) = (secret.hash, request.nonce);
    app.store
        .write("agent.session", move |tx| {
            let nonce = nonce.clone();
            Box::pin(async move {
                // whoever ends its key or retires it is waited for
                let service = machines::hold_service(tx, machine).await?;
                let agent = machines::get(tx, machine).await?.and_then(|found| found.agent);
                let retired = service == Some(Service::Retired);
                if agent.is_none() || agent != signer || retired {
                    let detail = "the signature is not by this machine's agent";
                    return refuse(Problem::new(Code::AgentInvalid, detail));
                }
                if accounts::use_nonce(tx, &nonce, now).await? != NonceUse::Accepted {
                    let detail = "the nonce is unknown, expired or was used before";
                    return refuse(Problem::new(Code::AgentInvalid, detail));
                }
                let id = SessionId::from_uuid(Uuid::now_v7());
                let owner = NewOwner::Machine(machine);
                let user_agent = None;
                let session = NewSession { id, token_hash, owner, user_agent, now, expires_at };
                // it may be another version than the last one
                machines::forget_templates(tx, machine).await?;
                Ok(accounts::open_session(tx, &session).await?)
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok(AgentSession { token: secret.text, expires_at: Time(expires_at) })
}
