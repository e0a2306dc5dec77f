//! What is signed and sent again under its key is done once, and answered as the first time.

use axum::{http::StatusCode, response::Response};
use domain::{id::DisputeId, time::UnixSeconds};
use serde_json::Value;
use store::{
    Connection, TxError,
    idempotency::{self, Claim},
};

use super::{view::DisputeView, who::Asker};
use crate::{
    AppState, Problem,
    extract::IdempotencyKey,
    problem::refuse,
    renter::{
        authorization::replay,
        book::{given, other_request, request_hash},
    },
    views::json_of,
};

/// A request that acts once, if it came with a key.
pub(super) struct Once(Option<(String, [u8; 32])>);

/// Status, body, and whether it was said before.
type Said = (u16, Value, bool);

impl Once {
    /// Of a request about a case. One that asks only what to sign does nothing, and needs no key.
    pub(super) fn of(
        key: Option<IdempotencyKey>,
        id: DisputeId,
        what: &str,
        acts: bool,
        body: &Value,
    ) -> Self {
        let key = key.filter(|_| acts);
        Self(key.map(|IdempotencyKey(key)| {
            (key, request_hash(&format!("POST /v1/disputes/{id}/{what}"), body))
        }))
    }

    /// The answer that was given before, however late it is by now.
    pub(super) async fn said(
        &self,
        app: &AppState,
        asker: Asker,
    ) -> Result<Option<Result<Response, Problem>>, Problem> {
        let Some((key, hash)) = &self.0 else { return Ok(None) };
        let seen = replay(app, "disputes.look", asker.account, key, *hash).await?;
        Ok(seen.map(|(status, body)| given(status, body, true)))
    }

    /// Claims the key; or finds the answer of a twin that was faster.
    pub(super) async fn claim(
        &self,
        tx: &mut Connection,
        asker: Asker,
        now: UnixSeconds,
    ) -> Result<Option<Said>, TxError<Problem>> {
        let Some((key, hash)) = &self.0 else { return Ok(None) };
        match idempotency::claim(tx, asker.account, key, hash, now).await? {
            Claim::Fresh => Ok(None),
            Claim::Replay { status, response } => Ok(Some((status, response, true))),
            Claim::OtherRequest => refuse(other_request()),
        }
    }

    /// Keeps the answer under the key.
    pub(super) async fn finish(
        &self,
        tx: &mut Connection,
        asker: Asker,
        view: &DisputeView,
    ) -> Result<Said, TxError<Problem>> {
        let status = StatusCode::CREATED.as_u16();
        let body = json_of(view).map_err(TxError::Refused)?;
        if let Some((key, _)) = &self.0 {
            idempotency::finish(tx, asker.account, key, status, &body).await?;
        }
        Ok((status, body, false))
    }
}
