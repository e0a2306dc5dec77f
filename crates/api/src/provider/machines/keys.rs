//! The key of a machine's agent, as its provider replaces and revokes it.

use axum::{Json, extract::State, http::StatusCode};
use domain::id::MachineId;
use store::machines;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{EnrollTokenView, mine, new_enroll_token, owned, retired};
use crate::{
    AppState, Problem, extract::Id, identity::Wallet, problem::refuse, security, views::Time,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(renew_enroll_token)).routes(routes!(revoke))
}

/// Gives out a new token that an agent of the machine can enrol with, in place of the one before. An agent that is
/// enrolled goes on until another has: what that does to its key is at `/v1/agent/enroll`.
#[utoipa::path(post, path = "/v1/machines/{id}/enroll-token", tag = "provider",
    security(("bearer" = [])),
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 201, body = EnrollTokenView)))]
async fn renew_enroll_token(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<MachineId>,
) -> Result<(StatusCode, Json<EnrollTokenView>), Problem> {
    let mut connection = app.store.read().await?;
    owned(&mut connection, &wallet, id).await?;
    drop(connection);
    let (secret, enroll) = new_enroll_token(&app)?;
    let (account, token) = (wallet.account.id, enroll.clone());
    app.store
        .write("machines.renew_enroll_token", move |tx| {
            let token = token.clone();
            Box::pin(async move {
                if machines::renew_enroll_token(tx, account, id, &token).await? {
                    return Ok(());
                }
                refuse(retired())
            })
        })
        .await
        .map_err(Problem::from)?;
    security::credential("enrolment_token_made", wallet.account.id, id);
    let answer = EnrollTokenView { enroll_token: secret.text, expires_at: Time(enroll.expires_at) };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Revokes the key of the machine's agent at once: its sessions end, it signs in no more, and no reading that it signs
/// counts from now on. An enrolment token that was given out before is dead with it. A rental that runs has an outage from
/// then on, and a new agent enrols, with a new token, once it has ended. Repeating it is harmless.
#[utoipa::path(delete, path = "/v1/machines/{id}/agent-key", tag = "provider", security(("bearer" = [])),
    params(("id" = String, Path, example = "mch_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 204, description = "Revoked.")))]
async fn revoke(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<MachineId>,
) -> Result<StatusCode, Problem> {
    let (account, now) = (wallet.account.id, app.now());
    let had = app
        .store
        .write("machines.revoke_key", move |tx| {
            Box::pin(async move {
                mine(tx, account, id).await?;
                Ok(machines::revoke_key(tx, id, now).await?)
            })
        })
        .await
        .map_err(Problem::from)?;
    if had {
        security::credential("agent_key_revoked", account, id);
    }
    Ok(StatusCode::NO_CONTENT)
}
