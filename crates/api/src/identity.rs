//! Who is asking: bearer tokens, and signatures of keys.

use alloy::primitives::{Address, eip191_hash_message, hex};
use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use domain::{id::MachineId, id::SessionId};
use escrow::reading::recover_hash;
use rand::TryRngCore as _;
use sha2::{Digest as _, Sha256};
use store::accounts::{self, Account, SessionOwner};

use crate::{Code, Problem, problem::internal, renter, state::AppState};

/// Bytes of randomness in a secret.
const SECRET_BYTES: usize = 32;
/// Characters of a secret as text: base64 of its bytes, unpadded.
const SECRET_CHARS: usize = 43;

/// A secret that is shown once; only its hash is kept.
pub(crate) struct Secret {
    /// What the holder shows.
    pub(crate) text: String,
    /// What is stored.
    pub(crate) hash: [u8; 32],
}

impl Secret {
    /// A new one, from the operating system's randomness.
    ///
    /// # Errors
    /// [`Code::Internal`] if there is none.
    pub(crate) fn new() -> Result<Self, Problem> {
        let mut bytes = [0_u8; SECRET_BYTES];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(internal)?;
        let text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let hash = hash_of(&text);
        Ok(Self { text, hash })
    }
}

/// SHA-256 of a secret's text. The secret has 256 bits of randomness, so no salt or stretching is
/// needed, and looking it up by its hash tells a timing observer nothing of it.
pub(crate) fn hash_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// A random nonce of 32 hex digits: alphanumeric, as ERC-4361 asks.
///
/// # Errors
/// [`Code::Internal`] if there is no randomness.
pub(crate) fn nonce() -> Result<String, Problem> {
    let mut bytes = [0_u8; 16];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(internal)?;
    Ok(hex::encode(bytes))
}

/// Whether a text could be one of our nonces.
pub(crate) fn is_nonce(text: &str) -> bool {
    (8..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// A wallet that has signed in.
pub(crate) struct Wallet {
    pub(crate) session: SessionId,
    pub(crate) account: Account,
}

impl FromRequestParts<AppState> for Wallet {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        // whoever paid for a rental has a token for it alone
        if let Some(wallet) = renter::holder(parts, app).await? {
            return Ok(wallet);
        }
        let session = session(parts, app).await?;
        match session.owner {
            SessionOwner::Account(account) => Ok(Self { session: session.id, account }),
            SessionOwner::Machine(_) => {
                Err(Problem::new(Code::Forbidden, "an agent's session may use /v1/agent only"))
            }
        }
    }
}

/// A machine's agent that has signed in.
pub(crate) struct Agent(pub(crate) MachineId);

impl FromRequestParts<AppState> for Agent {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        match session(parts, app).await?.owner {
            SessionOwner::Machine(machine) => Ok(Self(machine)),
            SessionOwner::Account(_) => {
                Err(Problem::new(Code::Forbidden, "a wallet's session may not act as an agent"))
            }
        }
    }
}

async fn session(parts: &Parts, app: &AppState) -> Result<accounts::Session, Problem> {
    let refused = |detail: &str| Problem::new(Code::Unauthenticated, detail);
    let value = parts
        .headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| refused("this request needs Authorization: Bearer with a session token"))?;
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| token.len() == SECRET_CHARS)
        .ok_or_else(|| refused("the Authorization header holds no session token"))?;
    let mut connection = app.store.read().await?;
    accounts::find_session(&mut connection, &hash_of(token), app.now())
        .await?
        .ok_or_else(|| refused("the session has ended; sign in again"))
}

/// The 65 bytes of a signature given in hex, with or without `0x`.
pub(crate) fn signature_bytes(text: &str) -> Option<[u8; 65]> {
    hex::decode(text).ok()?.try_into().ok()
}

/// Who signed a text by EIP-191 (`personal_sign`). Malleable signatures are refused.
pub(crate) fn signer_of(text: &str, signature: &str) -> Option<Address> {
    let signature = signature_bytes(signature)?;
    recover_hash(&eip191_hash_message(text), &signature).ok()
}
