//! Webhooks: whom an account wants told of what. Calls are the worker's; here they are only asked for.

mod deliveries;
mod view;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use domain::{
    id::WebhookId,
    time::Seconds,
    webhook::{EVENTS, Target, is_event},
};
use rand::TryRngCore as _;
use serde::Deserialize;
use store::{
    TxError,
    webhooks::{self, Webhook, Wish},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use self::view::{WebhookList, WebhookSecret, WebhookView};
use crate::{
    AppState, Code, Problem,
    access::may_tell,
    extract::{Body, Id, IfMatch, distance},
    identity::Wallet,
    problem::{internal, refuse},
    views::Time,
};

/// Webhooks of one account.
const MOST: i64 = 16;
/// The longest description, in characters.
const MAX_DESCRIPTION: usize = 200;
/// Bytes of a secret.
const SECRET_BYTES: usize = 32;
/// For how long the secret before signs too.
const OLD_SIGNS_FOR: Seconds = Seconds(24 * 3_600);

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, change, remove))
        .routes(routes!(rotate))
        .merge(deliveries::routes())
}

/// Whom to tell of what.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookRequest {
    /// `https://`, and leading to a public address.
    #[schema(example = "https://hooks.example.com/weir")]
    url: String,
    /// Names of events (docs/WEBHOOKS.md), or `*` for all.
    #[schema(example = json!(["rental.ready", "rental.ended", "settlement.final"]))]
    events: Vec<String>,
    /// Your own words, at most 200 characters.
    #[schema(example = "billing")]
    description: Option<String>,
}

/// What to change; what is left out stays.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookPatch {
    #[schema(example = "https://hooks.example.com/weir")]
    url: Option<String>,
    #[schema(example = json!(["*"]))]
    events: Option<Vec<String>>,
    description: Option<String>,
    /// `true` calls a disabled webhook again, of what happens from now on; `false` disables it.
    enabled: Option<bool>,
}

/// Judges what an owner says.
fn judged(mut wish: Wish, app: &AppState) -> Result<Wish, Problem> {
    let target = Target::parse(&wish.url, app.config.webhooks)
        .map_err(|error| Problem::invalid("/url", error.to_string()))?;
    // as it was understood: what a parser drops or escapes is neither kept nor called
    wish.url = target.url;
    if wish.events.is_empty() || wish.events.len() > EVENTS.len() {
        let message = "name at least one event and each only once, or \"*\" for all";
        return Err(Problem::invalid("/events", message));
    }
    for (place, name) in wish.events.iter().enumerate() {
        let pointer = format!("/events/{place}");
        if !is_event(name) {
            let short: String = name.chars().take(64).collect();
            let names = EVENTS.iter().map(|(name, _)| *name);
            let nearest = names.min_by_key(|known| distance(&short, known)).unwrap_or_default();
            let message = format!("there is no event {short:?}; the nearest is {nearest:?}");
            return Err(Problem::invalid(pointer, message));
        }
        if wish.events.iter().take(place).any(|other| other == name) {
            return Err(Problem::invalid(pointer, "it is named twice"));
        }
    }
    if wish.description.chars().count() > MAX_DESCRIPTION || wish.description.contains('\0') {
        let message = format!("at most {MAX_DESCRIPTION} characters, without NUL");
        return Err(Problem::invalid("/description", message));
    }
    Ok(wish)
}

/// A new secret, and how it is shown: once.
fn secret() -> Result<([u8; SECRET_BYTES], String), Problem> {
    let mut bytes = [0_u8; SECRET_BYTES];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(internal)?;
    Ok((bytes, format!("whsec_{}", BASE64_STANDARD.encode(bytes))))
}

/// Registers a webhook. Its secret is shown here and never again. What is sent is signed with it as Standard Webhooks
/// says: verify `webhook-signature` before you believe a call. A key needs the scopes to see what it has told:
/// `rentals:read`, for `machine.*` and `offer.*` `machines:read`, for `payout.*` `billing:read`.
#[utoipa::path(post, path = "/v1/webhooks", tag = "webhooks", security(("bearer" = [])),
    request_body = WebhookRequest,
    responses((status = 201, body = WebhookSecret, headers(
        ("Location", description = "the webhook"), ("ETag", description = "for If-Match")))))]
async fn create(
    State(app): State<AppState>,
    wallet: Wallet,
    Body(request): Body<WebhookRequest>,
) -> Result<Response, Problem> {
    let WebhookRequest { url, events, description } = request;
    let description = description.unwrap_or_default();
    let wish = judged(Wish { url, events, description }, &app)?;
    if let Some(key) = wallet.key() {
        may_tell(key, &wish.events)?;
    }
    let (id, account, now) = (WebhookId::from_uuid(Uuid::now_v7()), wallet.account.id, app.now());
    let (bytes, secret) = secret()?;
    let made = app
        .store
        .write("webhooks.create", move |tx| {
            let wish = wish.clone();
            Box::pin(async move {
                if !webhooks::create(tx, (id, account), &wish, &bytes, MOST, now).await? {
                    let detail = format!("an account may have {MOST} webhooks; delete one");
                    return refuse(Problem::new(Code::StateConflict, detail));
                }
                webhooks::get(tx, id).await?.map_or_else(|| refuse(gone()), Ok)
            })
        })
        .await
        .map_err(Problem::from)?;
    let location = HeaderValue::from_str(&format!("/v1/webhooks/{id}")).map_err(internal)?;
    let answer = WebhookSecret { webhook: made.clone().into(), secret, old_secret_until: None };
    let mut response = tagged(&made, Json(answer))?;
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// The caller's webhooks, oldest first; there are at most 16.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks", security(("bearer" = [])),
    responses((status = 200, body = WebhookList)))]
async fn list(State(app): State<AppState>, wallet: Wallet) -> Result<Json<WebhookList>, Problem> {
    let mut connection = app.store.read().await?;
    let found = webhooks::list(&mut connection, wallet.account.id).await?;
    Ok(Json(WebhookList { data: found.into_iter().map(WebhookView::from).collect() }))
}

fn gone() -> Problem {
    Problem::not_found("webhook")
}

/// The caller's webhook with this id.
async fn owned(
    connection: &mut store::Connection,
    wallet: &Wallet,
    id: WebhookId,
) -> Result<Webhook, Problem> {
    let found = webhooks::get(connection, id).await?;
    found.filter(|webhook| webhook.account == wallet.account.id).ok_or_else(gone)
}

/// The same inside a transaction.
async fn owned_in(
    tx: &mut store::Connection,
    wallet: &Wallet,
    id: WebhookId,
) -> Result<Webhook, TxError<Problem>> {
    owned(tx, wallet, id).await.map_err(TxError::Refused)
}

fn etag(webhook: &Webhook) -> String {
    format!("\"{}\"", webhook.version)
}

fn tagged(webhook: &Webhook, body: impl IntoResponse) -> Result<Response, Problem> {
    let mut response = body.into_response();
    let tag = HeaderValue::from_str(&etag(webhook)).map_err(internal)?;
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

/// One of the caller's webhooks.
#[utoipa::path(get, path = "/v1/webhooks/{id}", tag = "webhooks", security(("bearer" = [])),
    params(("id" = String, Path, example = "whk_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = WebhookView, headers(("ETag", description = "for If-Match")))))]
async fn read(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<WebhookId>,
) -> Result<Response, Problem> {
    let mut connection = app.store.read().await?;
    let webhook = owned(&mut connection, &wallet, id).await?;
    tagged(&webhook, Json(WebhookView::from(webhook.clone())))
}

/// Changes a webhook that is as the caller read it. Deliveries that wait go to the new URL.
#[utoipa::path(patch, path = "/v1/webhooks/{id}", tag = "webhooks", security(("bearer" = [])),
    params(("id" = String, Path, example = "whk_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"),
           ("If-Match" = String, Header, description = "the ETag that was read")),
    request_body = WebhookPatch,
    responses((status = 200, body = WebhookView, headers(("ETag", description = "for If-Match")))))]
async fn change(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<WebhookId>,
    condition: Option<IfMatch>,
    Body(patch): Body<WebhookPatch>,
) -> Result<Response, Problem> {
    let detail = "a change of a webhook needs If-Match with the ETag that was read";
    let condition = condition.ok_or_else(|| Problem::new(Code::PreconditionRequired, detail))?;
    let (wallet, condition) = (std::sync::Arc::new(wallet), std::sync::Arc::new(condition));
    let (store, now) = (app.store.clone(), app.now());
    let changed = store
        .write("webhooks.change", move |tx| {
            let (app, wallet, condition) = (app.clone(), wallet.clone(), condition.clone());
            let patch = patch.clone();
            Box::pin(async move {
                let old = owned_in(tx, &wallet, id).await?;
                let mismatch = || {
                    let detail = format!("the webhook is at {} now", etag(&old));
                    Problem::new(Code::EtagMismatch, detail)
                };
                if !condition.names(&etag(&old)) {
                    return refuse(mismatch());
                }
                let tells_more =
                    patch.url.is_some() || patch.events.is_some() || patch.enabled == Some(true);
                let wish = Wish {
                    url: patch.url.unwrap_or_else(|| old.url.clone()),
                    events: patch.events.unwrap_or_else(|| old.events.clone()),
                    description: patch.description.unwrap_or_else(|| old.description.clone()),
                };
                let wish = judged(wish, &app).or_else(refuse)?;
                if let Some(key) = wallet.key().filter(|_| tells_more) {
                    may_tell(key, &wish.events).or_else(refuse)?;
                }
                if !webhooks::change(tx, id, old.version, &wish, now).await? {
                    return refuse(mismatch());
                }
                match patch.enabled {
                    Some(true) => webhooks::enable(tx, id, now).await?,
                    Some(false) => webhooks::disable(tx, id, "its owner disabled it", now).await?,
                    None => {}
                }
                owned_in(tx, &wallet, id).await
            })
        })
        .await
        .map_err(Problem::from)?;
    tagged(&changed, Json(WebhookView::from(changed.clone())))
}

/// Deletes a webhook with its deliveries. Nothing is sent any more.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", tag = "webhooks", security(("bearer" = [])),
    params(("id" = String, Path, example = "whk_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 204, description = "It is gone.")))]
async fn remove(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<WebhookId>,
) -> Result<StatusCode, Problem> {
    let (wallet, now) = (std::sync::Arc::new(wallet), app.now());
    app.store
        .write("webhooks.delete", move |tx| {
            let wallet = wallet.clone();
            Box::pin(async move {
                owned_in(tx, &wallet, id).await?;
                Ok(webhooks::delete(tx, id, now).await?)
            })
        })
        .await
        .map_err(Problem::from)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a webhook a new secret, shown here and never again. For a day the old secret signs too: each call has both
/// signatures, and whoever knows either can verify it. Ask again if the answer was lost: within that day only the new secret
/// is replaced, and signs no more; the old one signs for as long as was said.
#[utoipa::path(post, path = "/v1/webhooks/{id}/rotate-secret", tag = "webhooks", security(("bearer" = [])),
    params(("id" = String, Path, example = "whk_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = WebhookSecret, headers(("ETag", description = "for If-Match")))))]
async fn rotate(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<WebhookId>,
) -> Result<Response, Problem> {
    let (bytes, secret) = secret()?;
    let now = app.now();
    let old_until = now.saturating_plus(OLD_SIGNS_FOR);
    let wallet = std::sync::Arc::new(wallet);
    let changed = app
        .store
        .write("webhooks.rotate", move |tx| {
            let wallet = wallet.clone();
            Box::pin(async move {
                owned_in(tx, &wallet, id).await?;
                webhooks::rotate(tx, id, &bytes, old_until, now).await?;
                owned_in(tx, &wallet, id).await
            })
        })
        .await
        .map_err(Problem::from)?;
    // an earlier one, if the secret was changed within the last day
    let old_secret_until = changed.old_until.map(Time);
    let answer = WebhookSecret { webhook: changed.clone().into(), secret, old_secret_until };
    tagged(&changed, Json(answer))
}
