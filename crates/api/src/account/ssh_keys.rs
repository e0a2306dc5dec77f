//! The caller's SSH public keys, by which rented machines are reached.

use axum::{Json, extract::State, http::StatusCode};
use domain::id::{RentalId, SshKeyId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{
    StoreError, TxError, readings, rentals,
    ssh_keys::{self, MOST_KEYS, SshKey},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{label, rental_keys::tell_machine, ssh_text};
use crate::{
    AppState, Code, Problem,
    extract::{self, Body, Id},
    identity::Wallet,
    problem::refuse,
    views::Time,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(delete))
}

/// A public key to be added.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkbe7gwx7s0dlApEEzpUyOAPrzPLy4czEZw/sh8m8rd me@laptop",
}))]
pub(crate) struct SshKeyRequest {
    /// The one line of a `.pub` file: Ed25519, ECDSA, RSA of 2,048 bits or more, or one of a security key. Its comment
    /// is not kept.
    public_key: String,
    /// What you call it; the key's comment if left out.
    label: Option<String>,
}

/// A public key.
#[derive(Serialize, ToSchema)]
pub(crate) struct SshKeyView {
    #[schema(value_type = String, example = "ssh_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: SshKeyId,
    #[schema(example = "me@laptop")]
    label: String,
    #[schema(
        example = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkbe7gwx7s0dlApEEzpUyOAPrzPLy4czEZw/sh8m8rd"
    )]
    public_key: String,
    /// As `ssh-keygen -l` tells it.
    #[schema(example = "SHA256:ciQkdxjFUhk2E2vRkWJD9kB8pi+EneOkaCJJHNWzPC4")]
    fingerprint: String,
    created_at: Time,
}

impl From<SshKey> for SshKeyView {
    fn from(key: SshKey) -> Self {
        Self {
            id: key.id,
            label: key.label,
            public_key: key.public_key,
            fingerprint: key.fingerprint,
            created_at: Time(key.created_at),
        }
    }
}

/// Public keys; there are 100 at the most.
#[derive(Serialize, ToSchema)]
pub(crate) struct SshKeyList {
    pub(super) data: Vec<SshKeyView>,
}

/// Adds a public key. A private key, a path or a weak key is refused with the reason, and kept nowhere.
#[utoipa::path(post, path = "/v1/ssh-keys", tag = "account", security(("bearer" = [])),
    request_body = SshKeyRequest, responses((status = 201, body = SshKeyView)))]
async fn create(
    State(app): State<AppState>,
    wallet: Wallet,
    Body(body): Body<Value>,
) -> Result<(StatusCode, Json<SshKeyView>), Problem> {
    wallet.session()?;
    // before anything is said of its shape: what does not fit would be quoted
    ssh_text::refuse_private(&body.to_string())?;
    let request: SshKeyRequest = extract::value(body, "")?;
    let pasted = ssh_text::read(&request.public_key)?;
    let named = request.label.unwrap_or_else(|| match pasted.comment.as_str() {
        "" => "SSH key".to_owned(),
        comment => comment.chars().filter(|c| !c.is_control()).take(64).collect(),
    });
    let key = SshKey {
        id: SshKeyId::from_uuid(Uuid::now_v7()),
        label: label(&named)?,
        public_key: pasted.line,
        fingerprint: pasted.fingerprint,
        created_at: app.now(),
    };
    let (account, new) = (wallet.account.id, key.clone());
    app.store
        .write("ssh_keys.create", move |tx| {
            let key = new.clone();
            Box::pin(async move {
                match ssh_keys::insert(tx, account, &key).await {
                    Err(error) if error.is_conflict_on("ssh_keys_once") => {
                        let detail = format!("you have {} already", key.fingerprint);
                        let problem = Problem::new(Code::AlreadyExists, detail.clone());
                        refuse(problem.at("/public_key", detail))
                    }
                    Err(error) => Err(error.into()),
                    Ok(true) => Ok(()),
                    Ok(false) => {
                        let detail = format!("you have {MOST_KEYS} SSH keys; delete one");
                        refuse(Problem::new(Code::StateConflict, detail))
                    }
                }
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok((StatusCode::CREATED, Json(key.into())))
}

/// The caller's public keys, newest first.
#[utoipa::path(get, path = "/v1/ssh-keys", tag = "account", security(("bearer" = [])),
    responses((status = 200, body = SshKeyList)))]
async fn list(State(app): State<AppState>, wallet: Wallet) -> Result<Json<SshKeyList>, Problem> {
    let mut connection = app.store.read().await?;
    let keys = ssh_keys::list(&mut connection, wallet.account.id).await?;
    Ok(Json(SshKeyList { data: keys.into_iter().map(SshKeyView::from).collect() }))
}

/// Deletes a public key. Rentals that it opens are closed to it: their machines are told.
#[utoipa::path(delete, path = "/v1/ssh-keys/{id}", tag = "account", security(("bearer" = [])),
    params(("id" = String, Path, example = "ssh_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 204, description = "Deleted.")))]
async fn delete(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<SshKeyId>,
) -> Result<StatusCode, Problem> {
    wallet.session()?;
    let (account, now) = (wallet.account.id, app.now());
    app.store
        .write("ssh_keys.delete", move |tx| {
            Box::pin(async move {
                // the rentals first and in one order, as everybody locks them: who waits for us has nothing of ours
                for rental in ssh_keys::opens(tx, account, id).await? {
                    readings::lock_rental(tx, rental).await?;
                }
                let Some(mut opened) = ssh_keys::delete(tx, account, id, now).await? else {
                    return refuse(Problem::not_found("SSH key"));
                };
                opened.sort_unstable();
                for rental in opened {
                    told(tx, rental, now).await?;
                }
                Ok(())
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn told(
    tx: &mut store::Connection,
    id: RentalId,
    now: domain::time::UnixSeconds,
) -> Result<(), TxError<Problem>> {
    readings::lock_rental(tx, id).await?;
    let rental = rentals::get(tx, id).await?.ok_or(StoreError::Missing("the rental"))?;
    Ok(tell_machine(tx, &rental, now).await?)
}
