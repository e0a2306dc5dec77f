//! Waiting for a rental to move on, for whoever prefers that to asking again (`Prefer: wait=N`). What was asked for is
//! done already: a wait that fails or ends without news takes nothing back.

use std::time::Duration;

use alloy::primitives::B256;
use axum::response::Response;
use domain::id::{AccountId, RentalId};
use serde_json::Value;
use store::{Connection, StoreError, intents};
use tokio::time::Instant;

use super::rentals::{of_party, rental_view};
use crate::{AppState, Problem, prefer, views::json_of};

/// The rental is looked at so often even without news.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Waits until the rental of an answer is not as the answer tells it, and then tells it as it is. Returns whether it
/// waited: not if nobody asked, nor if it could not look, nor if as many streams are open as may be: it is one, too.
pub(super) async fn until_moved_on(
    app: &AppState,
    account: AccountId,
    body: &mut Value,
    wait: prefer::Wait,
) -> bool {
    let Some(wait) = wait.0 else { return false };
    let Some(before) = Told::of(body) else { return false };
    let Ok(_permit) = app.streams.take(Some(account)) else { return false };
    let until = Instant::now().checked_add(wait);
    let Ok(room) = app.feed.follow(before.id).await else { return false };
    loop {
        // before the look: what happens after it is heard
        let version = room.snapshot().map_or(0, |shown| shown.version);
        let seen = match look(app, account, before.id).await {
            Ok(seen) => seen,
            Err(problem) => {
                tracing::warn!(rental.id = %before.id, error.code = problem.code().as_str(), "not waited for");
                return false;
            }
        };
        let over = until.is_none_or(|until| Instant::now() >= until) || app.closing.is_cancelled();
        if over || Told::of(&seen).as_ref() != Some(&before) {
            merge(body, seen);
            return true;
        }
        let patience = Instant::now().checked_add(LOOK_EVERY).into_iter().chain(until).min();
        let Some(patience) = patience else { return false };
        tokio::select! {
            () = tokio::time::sleep_until(patience) => {}
            () = app.closing.cancelled() => {}
            () = room.changed_from(version) => {}
        }
    }
}

/// Says in an answer's head that it was waited for.
pub(super) fn mark(mut response: Response, wait: prefer::Wait, waited: bool) -> Response {
    if let Some(value) = wait.0.filter(|_| waited).and_then(prefer::applied) {
        response.headers_mut().insert(prefer::APPLIED, value);
    }
    response
}

/// How an answer tells a rental.
#[derive(PartialEq, Eq)]
struct Told {
    id: RentalId,
    state: String,
    lock: String,
}

impl Told {
    fn of(body: &Value) -> Option<Self> {
        let text = |pointer| body.pointer(pointer).and_then(Value::as_str);
        Some(Self {
            id: text("/rental/id")?.parse().ok()?,
            state: text("/rental/state")?.to_owned(),
            lock: text("/rental/lock")?.to_owned(),
        })
    }
}

/// The rental as it is, and the transaction that locks its deposit for the renter.
async fn look(app: &AppState, account: AccountId, id: RentalId) -> Result<Value, Problem> {
    let mut connection = app.store.read().await?;
    let (rental, quote) = of_party(&mut connection, account, id).await?;
    let view = rental_view(&mut connection, app, &rental, &quote, account).await?;
    let hash = transaction(&mut connection, id, &["lock"]).await?;
    Ok(serde_json::json!({ "rental": json_of(&view)?, "transaction": hash }))
}

/// The transaction that carries the newest of these calls for a rental, once it is signed. That of a call before, which came
/// to nothing, is not it.
///
/// # Errors
/// The store's.
pub(super) async fn transaction(
    connection: &mut Connection,
    id: RentalId,
    purposes: &[&str],
) -> Result<Option<B256>, StoreError> {
    let steps = intents::for_rental(connection, id).await?;
    let newest = steps.iter().rev().find(|step| purposes.contains(&&*step.purpose));
    Ok(newest.and_then(|step| step.tx_hash))
}

/// Fills in the transaction that an answer did not know when it was first given. What it tells besides is so without it:
/// without the database it is left out.
pub(super) async fn fill_in(app: &AppState, body: &mut Value, purposes: &[&str]) {
    let id = body.pointer("/rental/id").and_then(Value::as_str).and_then(|id| id.parse().ok());
    let (Some(id), Some(Value::Null)) = (id, body.get("transaction")) else { return };
    let found = async {
        let mut connection = app.store.read().await?;
        transaction(&mut connection, id, purposes).await
    };
    match found.await {
        Ok(None) => {}
        Ok(Some(hash)) => {
            if let Some(member) = body.get_mut("transaction") {
                *member = serde_json::json!(hash);
            }
        }
        Err(error) => tracing::warn!(rental.id = %id, %error, "a transaction is not told"),
    }
}

/// Takes the members that the answer has from what was seen.
fn merge(body: &mut Value, seen: Value) {
    let (Some(members), Value::Object(seen)) = (body.as_object_mut(), seen) else { return };
    for (name, value) in seen {
        if let Some(member) = members.get_mut(&name) {
            *member = value;
        }
    }
}
