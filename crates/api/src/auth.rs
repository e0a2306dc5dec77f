//! Signing in with a wallet.

use alloy::primitives::{Address, B256, eip191_hash_message, hex};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use domain::id::{AccountId, SessionId};
use serde::{Deserialize, Serialize};
use store::{
    accounts::{self, Account, NewOwner, NewSession, NonceUse},
    api_keys,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    AppState, Code, Problem,
    account::{KeyView, program},
    extract::Body,
    identity::{self, Secret, Wallet},
    limits::Origin,
    problem::refuse,
    security,
    siwe::{self, STATEMENT},
    views::Time,
    wallets,
};

/// The longest signature that is taken: that of a contract wallet which is not deployed yet says how to deploy it.
const MAX_SIGNATURE: usize = 16_384;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(nonce))
        .routes(routes!(verify))
        .routes(routes!(logout))
        .routes(routes!(me))
}

/// What a sign-in message must say.
#[derive(Serialize, ToSchema)]
pub(crate) struct NonceAnswer {
    /// Once and before `expires_at`.
    #[schema(example = "3f0c9a1de2b84c77a9d05e61f2b83c4d")]
    nonce: String,
    #[schema(example = "localhost:8080")]
    domain: String,
    #[schema(example = "http://localhost:8080")]
    uri: String,
    #[schema(example = 31337)]
    chain_id: u64,
    /// The message's statement.
    statement: &'static str,
    expires_at: Time,
}

/// Gives out a nonce and the values that the ERC-4361 message must hold.
#[utoipa::path(post, path = "/v1/auth/siwe/nonce", tag = "account",
    responses((status = 201, body = NonceAnswer)))]
async fn nonce(State(app): State<AppState>) -> Result<(StatusCode, Json<NonceAnswer>), Problem> {
    let nonce = identity::nonce()?;
    let now = app.now();
    let expires_at = now.saturating_plus(app.config.nonce_ttl);
    store_nonce(&app, nonce.clone()).await?;
    let answer = NonceAnswer {
        nonce,
        domain: app.config.siwe_domain.clone(),
        uri: app.config.public_url.clone(),
        chain_id: app.config.chain_id,
        statement: STATEMENT,
        expires_at: Time(expires_at),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Stores a nonce that wallets or agents may use once.
pub(crate) async fn store_nonce(app: &AppState, nonce: String) -> Result<(), Problem> {
    let now = app.now();
    let expires_at = now.saturating_plus(app.config.nonce_ttl);
    app.store
        .write("auth.nonce", move |tx| {
            let nonce = nonce.clone();
            Box::pin(async move { Ok(accounts::add_nonce(tx, &nonce, now, expires_at).await?) })
        })
        .await
        .map_err(Problem::from)
}

/// A signed sign-in message.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyRequest {
    /// The ERC-4361 message, exactly as it was signed.
    #[schema(
        example = "localhost:8080 wants you to sign in with your Ethereum account:\n0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\n\nSign in to Weir. This costs nothing and allows nothing to be spent.\n\nURI: http://localhost:8080\nVersion: 1\nChain ID: 31337\nNonce: 3f0c9a1de2b84c77a9d05e61f2b83c4d\nIssued At: 2026-01-31T12:00:00Z"
    )]
    message: String,
    /// The wallet's EIP-191 signature in hex, or a contract wallet's by EIP-1271, which ERC-6492 wraps if it is not
    /// deployed yet.
    #[schema(example = "0x0a1b2c")]
    signature: String,
}

/// An account.
#[derive(Serialize, ToSchema)]
pub(crate) struct AccountView {
    #[schema(value_type = String, example = "acc_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: AccountId,
    #[schema(value_type = String, example = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")]
    address: Address,
    created_at: Time,
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        Self { id: account.id, address: account.address, created_at: Time(account.created_at) }
    }
}

/// A session.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionAnswer {
    /// To be sent as `Authorization: Bearer`; shown once.
    #[schema(example = "pZ4m0s3x1v5u7w9y2A4C6E8G0I2K4M6O8Q0S2U4W6Y8")]
    token: String,
    expires_at: Time,
    account: AccountView,
}

/// Exchanges a signed sign-in message for a session. The account is made at the first sign-in.
#[utoipa::path(post, path = "/v1/auth/siwe/verify", tag = "account", request_body = VerifyRequest,
    responses((status = 201, body = SessionAnswer)))]
async fn verify(
    State(app): State<AppState>,
    origin: Origin,
    headers: HeaderMap,
    Body(request): Body<VerifyRequest>,
) -> Result<(StatusCode, Json<SessionAnswer>), Problem> {
    let claim = siwe::check(&request.message, &app.config, app.now());
    let wallet = claim.as_ref().ok().map(|claim| claim.wallet);
    let done = match claim {
        Ok(claim) => open((&app, origin), &headers, claim, request).await,
        Err(problem) => Err(problem),
    };
    security::signed_in("wallet", wallet, &done);
    Ok((StatusCode::CREATED, Json(done?)))
}

/// Opens a session for whoever signed the message.
async fn open(
    (app, origin): (&AppState, Origin),
    headers: &HeaderMap,
    claim: siwe::Claim,
    request: VerifyRequest,
) -> Result<SessionAnswer, Problem> {
    let now = app.now();
    let signature = hex::decode(&request.signature)
        .ok()
        .filter(|bytes| bytes.len() <= MAX_SIGNATURE)
        .ok_or_else(|| invalid("the signature is not hex").at("/signature", "expected hex"))?;
    if !siwe::is_by_key(&claim, &request.message, &signature) {
        let hash = eip191_hash_message(request.message.as_bytes());
        check_contract((app, origin), &claim, hash, &signature).await?;
    }
    let secret = Secret::new()?;
    let expires_at = now.saturating_plus(app.config.session_ttl);
    let (token_hash, wallet, nonce) = (secret.hash, claim.wallet, claim.nonce);
    let user_agent = program(headers);
    let account = app
        .store
        .write("auth.verify", move |tx| {
            let (nonce, user_agent) = (nonce.clone(), user_agent.clone());
            Box::pin(async move {
                spend_nonce(accounts::use_nonce(tx, &nonce, now).await?).or_else(refuse)?;
                let id = AccountId::from_uuid(Uuid::now_v7());
                let account = accounts::find_or_create(tx, id, wallet, now).await?;
                let id = SessionId::from_uuid(Uuid::now_v7());
                let owner = NewOwner::Account(account.id);
                let session = NewSession { id, token_hash, owner, user_agent, now, expires_at };
                accounts::open_session(tx, &session).await?;
                Ok(account)
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok(SessionAnswer { token: secret.text, expires_at: Time(expires_at), account: account.into() })
}

fn invalid(detail: &str) -> Problem {
    Problem::new(Code::SiweInvalid, detail)
}

fn spend_nonce(outcome: NonceUse) -> Result<(), Problem> {
    match outcome {
        NonceUse::Accepted => Ok(()),
        NonceUse::Expired => Err(Problem::new(Code::SiweExpired, "the nonce has expired")),
        NonceUse::Unknown => Err(invalid("the nonce is unknown or was used before")),
    }
}

/// How often the chain is asked for one nonce: a wallet of several owners may be slow to agree.
const MOST_ASKED: i32 = 8;

/// Asks a contract wallet (EIP-1271, ERC-6492), for an open nonce only and a few times: an invented message costs the
/// chain no call.
async fn check_contract(
    (app, origin): (&AppState, Origin),
    claim: &siwe::Claim,
    hash: B256,
    signature: &[u8],
) -> Result<(), Problem> {
    let (nonce, now) = (claim.nonce.clone(), app.now());
    let may_ask = app.store.write::<bool, Problem, _>("auth.ask", move |tx| {
        let nonce = nonce.clone();
        Box::pin(async move { Ok(accounts::note_asked(tx, &nonce, MOST_ASKED, now).await?) })
    });
    if !may_ask.await? {
        return Err(invalid("the nonce is unknown or was used before; ask for another"));
    }
    let asked = wallets::signed((app, origin), claim.wallet, hash, signature).await;
    let valid = asked.map_err(|error| {
        tracing::warn!(%error, "the chain could not be asked about a wallet");
        let detail = "the signature is not by the wallet's key, and the chain could not be asked \
                      whether it is by a contract wallet";
        Problem::new(Code::ChainUnavailable, detail)
    })?;
    if valid {
        return Ok(());
    }
    Err(invalid("the signature is not by the wallet that the message names"))
}

/// Ends the session.
#[utoipa::path(post, path = "/v1/auth/logout", tag = "account", security(("bearer" = [])),
    responses((status = 204, description = "The token is dead.")))]
async fn logout(State(app): State<AppState>, wallet: Wallet) -> Result<StatusCode, Problem> {
    let (session, now) = (wallet.session()?, app.now());
    app.store
        .write("auth.logout", move |tx| {
            Box::pin(async move { Ok(accounts::revoke_session(tx, session, now).await?) })
        })
        .await
        .map_err(Problem::from)?;
    security::credential("session_ended", wallet.account.id, session);
    Ok(StatusCode::NO_CONTENT)
}

/// Who asks.
#[derive(Serialize, ToSchema)]
pub(crate) struct CallerView {
    #[serde(flatten)]
    account: AccountView,
    /// The API key that was used, with what is left of its caps; null for somebody who signed in.
    key: Option<KeyView>,
}

/// Whose the session or the API key is, and what the key may do. A key needs the scope `account:read` for it.
#[utoipa::path(get, path = "/v1/me", tag = "account", security(("bearer" = [])),
    responses((status = 200, body = CallerView)))]
async fn me(State(app): State<AppState>, wallet: Wallet) -> Result<Json<CallerView>, Problem> {
    let key = match wallet.key() {
        None => None,
        Some(key) => {
            let mut connection = app.store.read().await?;
            let booked = api_keys::booked(&mut connection, key.id, app.now()).await?;
            Some(KeyView::new(key.clone(), booked))
        }
    };
    Ok(Json(CallerView { account: wallet.account.into(), key }))
}
