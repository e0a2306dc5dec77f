//! Who is asking: bearer tokens, and signatures of keys.

use alloy::primitives::{Address, eip191_hash_message, hex};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use domain::{
    id::{MachineId, RentalId, SessionId},
    time::UnixSeconds,
};
use escrow::reading::recover_hash;
use rand::TryRngCore as _;
use sha2::{Digest as _, Sha256};
use store::{
    accounts::{self, Account, SessionOwner},
    api_keys::{self, ApiKey},
    sessions,
};

use crate::{
    Code, Problem, access, api_token,
    limits::Whose,
    problem::internal,
    renter::{self, Ahead},
    security,
    state::AppState,
};

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

/// How somebody showed who they are.
pub(crate) enum By {
    /// They signed in.
    Session(SessionId),
    /// A program of theirs has a key.
    Key(Box<ApiKey>),
    /// They paid for a rental, and have a token for it alone.
    Rental(RentalId),
}

/// Somebody known by a wallet, who signed in or whose key is used. Which routes take keys is in [`access::SCOPES`]:
/// elsewhere it is somebody who signed in.
pub(crate) struct Wallet {
    pub(crate) by: By,
    pub(crate) account: Account,
    /// When the session, the key or the token ends by itself, if it does.
    pub(crate) expires_at: Option<UnixSeconds>,
}

impl Wallet {
    /// Whoever has this session, if it is a wallet's and not an agent's.
    pub(crate) const fn of(session: accounts::Session) -> Option<Self> {
        match session.owner {
            SessionOwner::Account(account) => {
                let expires_at = Some(session.expires_at);
                Some(Self { by: By::Session(session.id), account, expires_at })
            }
            SessionOwner::Machine(_) => None,
        }
    }

    /// The key that is used, if one is.
    pub(crate) fn key(&self) -> Option<&ApiKey> {
        match &self.by {
            By::Session(_) | By::Rental(_) => None,
            By::Key(key) => Some(key),
        }
    }

    /// The id of the session or key, or of the rental that a token is for: what is announced when it is revoked.
    pub(crate) const fn credential(&self) -> uuid::Uuid {
        match &self.by {
            By::Session(id) => id.uuid(),
            By::Key(key) => key.id.uuid(),
            By::Rental(id) => id.uuid(),
        }
    }

    /// The only rental that this is good for, of a rental's token.
    pub(crate) const fn only(&self) -> Option<RentalId> {
        match &self.by {
            By::Rental(id) => Some(*id),
            By::Session(_) | By::Key(_) => None,
        }
    }

    /// The session, of somebody who signed in.
    ///
    /// # Errors
    /// [`Code::Forbidden`] for a key or a rental's token.
    pub(crate) fn session(&self) -> Result<SessionId, Problem> {
        match &self.by {
            By::Session(id) => Ok(*id),
            By::Key(_) | By::Rental(_) => {
                Err(Problem::new(Code::Forbidden, "sign in with the wallet for that"))
            }
        }
    }
}

impl FromRequestParts<AppState> for Wallet {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let token = bearer(parts)?;
        if token.starts_with(api_token::PREFIX) {
            let (key, account) = key(&token, app).await?;
            access::check(parts, app, &key, account.id).await?;
            let expires_at = key.expires_at;
            return Ok(Self { by: By::Key(Box::new(key)), account, expires_at });
        }
        // whoever paid for a rental has a token for it alone
        if let Some(wallet) = renter::holder(parts, app).await? {
            return Ok(wallet);
        }
        let session = session(&token, parts.extensions.get::<Ahead>(), app).await?;
        Self::of(session).ok_or_else(|| {
            let detail = "an agent's session may use /v1/agent only";
            access::refused("agent", Problem::new(Code::Forbidden, detail))
        })
    }
}

/// A machine's agent that has signed in.
pub(crate) struct Agent(pub(crate) MachineId);

impl FromRequestParts<AppState> for Agent {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let token = bearer(parts)?;
        let owner = if token.starts_with(api_token::PREFIX) {
            SessionOwner::Account(key(&token, app).await?.1)
        } else {
            session(&token, None, app).await?.owner
        };
        match owner {
            SessionOwner::Machine(machine) => Ok(Self(machine)),
            SessionOwner::Account(_) => {
                let detail = "a wallet's session or key may not act as an agent";
                Err(access::refused("agent", Problem::new(Code::Forbidden, detail)))
            }
        }
    }
}

fn unauthenticated(detail: &str) -> Problem {
    access::refused("unauthenticated", Problem::new(Code::Unauthenticated, detail))
}

/// The token of a request.
fn bearer(parts: &Parts) -> Result<String, Problem> {
    let missing = || {
        let detail = "this request needs Authorization: Bearer with a session token or an API key";
        unauthenticated(detail)
    };
    let value = parts.headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim().to_owned())
        .ok_or_else(|| unauthenticated("the Authorization header holds no bearer token"))
}

/// The hash of the session token in these headers, if they hold what may be one.
pub(crate) fn session_hash(headers: &HeaderMap) -> Option<[u8; 32]> {
    let token = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let token = token.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token.map(|(_, token)| token.trim()).filter(|token| token.len() == SECRET_CHARS).map(hash_of)
}

async fn session(
    token: &str,
    ahead: Option<&Ahead>,
    app: &AppState,
) -> Result<accounts::Session, Problem> {
    if token.len() != SECRET_CHARS {
        return Err(unauthenticated("the Authorization header holds no session token"));
    }
    let hash = hash_of(token);
    let found = match ahead.and_then(|ahead| ahead.session(&hash)) {
        Some(found) => found,
        None => {
            let (now, idle) = (app.now(), app.config.session_idle);
            accounts::find_session(&mut *app.store.read().await?, &hash, now, idle).await?
        }
    };
    let whose = |session: &accounts::Session| match session.owner {
        SessionOwner::Account(account) => Whose::Account(account.id),
        SessionOwner::Machine(id) => Whose::Machine(id),
    };
    let session = vouched(app, &hash, found, whose, "the session has ended; sign in again")?;
    let (id, hour) = (session.id, sessions::hour(app.now()));
    if matches!(session.owner, SessionOwner::Account(_)) && session.last_used_at != Some(hour) {
        let noted = app.store.write::<(), Problem, _>("sessions.touch", move |tx| {
            Box::pin(async move { Ok(sessions::touch(tx, id, hour).await?) })
        });
        note(noted.await);
    }
    Ok(session)
}

async fn key(token: &str, app: &AppState) -> Result<(ApiKey, Account), Problem> {
    if !api_token::is_whole(token) {
        return Err(unauthenticated("this is no whole API key: its checksum does not match"));
    }
    let mut connection = app.store.read().await?;
    let hash = hash_of(token);
    let found = api_keys::find(&mut connection, &hash, app.now()).await?;
    drop(connection);
    let detail = "the key was revoked, has expired, or is not one of ours";
    let whose = |(_, account): &(ApiKey, Account)| Whose::Account(account.id);
    let (key, account) = vouched(app, &hash, found, whose, detail)?;
    let (id, hour) = (key.id, sessions::hour(app.now()));
    if key.last_used_at != Some(hour) {
        let noted = app.store.write::<(), Problem, _>("api_keys.touch", move |tx| {
            Box::pin(async move { Ok(api_keys::touch(tx, id, hour).await?) })
        });
        note(noted.await);
    }
    Ok((key, account))
}

/// What belongs to a token, which is then limited by whose it is and not by its address; the token of nothing is not.
pub(crate) fn vouched<T>(
    app: &AppState,
    hash: &[u8; 32],
    found: Option<T>,
    whose: impl FnOnce(&T) -> Whose,
    otherwise: &str,
) -> Result<T, Problem> {
    match found {
        Some(found) => {
            let whose = whose(&found);
            app.limits.vouch(hash, whose);
            security::asked_by(whose);
            Ok(found)
        }
        None => {
            app.limits.disown(hash);
            Err(unauthenticated(otherwise))
        }
    }
}

/// When something was used last is no reason to refuse it.
fn note(noted: Result<(), store::TxError<Problem>>) {
    if let Err(store::TxError::Store(error)) = noted {
        tracing::warn!(%error, "the use of a session or key was not noted");
    }
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
