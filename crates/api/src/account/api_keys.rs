//! API keys: what programs sign in with. Only somebody who signed in makes, lists and revokes them, so that no key
//! gives out more than it has.

use axum::{Json, extract::State, http::StatusCode};
use domain::{
    id::{ApiKeyId, MachineId, OfferId},
    money::UsdMicros,
    scope::Scope,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{
    api_keys::{self, ApiKey, Booked, Limits, MOST_KEYS, NewApiKey},
    gpu_models,
};
use utoipa::{
    ToSchema,
    openapi::{
        RefOr,
        schema::{ArrayBuilder, ObjectBuilder, Schema, Type},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::label;
use crate::{
    AppState, Code, Problem, api_token,
    extract::{Body, Id},
    identity::Wallet,
    problem::refuse,
    security,
    views::{Time, Usd},
};

/// The most things of a kind that a key can be limited to.
const MOST_NAMED: usize = 100;
/// Micro-dollars that the database can hold.
const MOST_MICROS: u64 = 9_000_000_000_000_000_000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(revoke))
}

/// What a key is limited to; what is left out is no limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(example = json!({
    "gpu_models": ["rtx-4090"], "max_usd_per_hour": {"amount": "2.00", "currency": "USD"},
    "spend_cap": {"amount": "50.00", "currency": "USD"},
    "spend_cap_per_day": {"amount": "10.00", "currency": "USD"},
}))]
pub(crate) struct KeyLimits {
    /// Only these machines, their offers and the rentals on them.
    #[schema(value_type = Option<Vec<String>>)]
    machines: Option<Vec<MachineId>>,
    /// Only these offers and what is rented of them.
    #[schema(value_type = Option<Vec<String>>)]
    offers: Option<Vec<OfferId>>,
    /// Only these models are quoted and booked.
    gpu_models: Option<Vec<String>>,
    /// Nothing is quoted or booked that costs more per hour, everything together.
    max_usd_per_hour: Option<Usd>,
    /// Deposits that the key may book in all. A booking that expires without a deposit does not count; what comes back
    /// of a deposit does.
    spend_cap: Option<Usd>,
    /// Deposits that it may book within any 24 hours.
    spend_cap_per_day: Option<Usd>,
}

/// A key to be made.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "label": "nightly training", "scopes": ["rentals:read", "rentals:write"],
    "limits": {"spend_cap_per_day": {"amount": "10.00", "currency": "USD"}},
    "expires_at": "2027-06-01T00:00:00Z",
}))]
pub(crate) struct KeyRequest {
    /// What you call it.
    label: String,
    #[schema(schema_with = scopes_schema)]
    scopes: Vec<Scope>,
    #[serde(default)]
    limits: KeyLimits,
    /// From then on it is dead; never if left out.
    expires_at: Option<Time>,
}

/// A key, without its secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyView {
    #[schema(value_type = String, example = "key_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: ApiKeyId,
    #[schema(example = "nightly training")]
    label: String,
    /// How the key begins and ends.
    #[schema(example = "weir_sk_...a5S5")]
    hint: String,
    #[schema(schema_with = scopes_schema)]
    scopes: Vec<Scope>,
    limits: KeyLimits,
    /// Deposits that it has booked.
    booked: Usd,
    /// Those of the last 24 hours.
    booked_last_day: Usd,
    /// What is left of `spend_cap`, if it has one.
    spend_cap_left: Option<Usd>,
    /// What is left of `spend_cap_per_day` now, if it has one.
    spend_cap_per_day_left: Option<Usd>,
    created_at: Time,
    expires_at: Option<Time>,
    /// To the hour.
    last_used_at: Option<Time>,
}

impl KeyView {
    pub(crate) fn new(key: ApiKey, booked: Booked) -> Self {
        let limits = key.limits;
        let left = |cap: Option<UsdMicros>, booked| {
            cap.map(|cap| cap.checked_sub(booked).unwrap_or(UsdMicros::ZERO).into())
        };
        Self {
            id: key.id,
            label: key.label,
            hint: format!("{}...{}", api_token::PREFIX, key.hint),
            scopes: key.scopes,
            limits: KeyLimits {
                machines: limits.machines,
                offers: limits.offers,
                gpu_models: limits.gpu_models,
                max_usd_per_hour: limits.max_per_hour.map(Usd::from),
                spend_cap: limits.cap.map(Usd::from),
                spend_cap_per_day: limits.cap_per_day.map(Usd::from),
            },
            booked: booked.total.into(),
            booked_last_day: booked.day.into(),
            spend_cap_left: left(limits.cap, booked.total),
            spend_cap_per_day_left: left(limits.cap_per_day, booked.day),
            created_at: Time(key.created_at),
            expires_at: key.expires_at.map(Time),
            last_used_at: key.last_used_at.map(Time),
        }
    }
}

/// A key just made.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyCreated {
    /// To be sent as `Authorization: Bearer`; shown this once.
    #[schema(example = "weir_sk_0000000000000000000000000000000000000000003Na5S5")]
    token: String,
    key: KeyView,
}

/// Makes a key. Its secret is in this answer and nowhere else; what it may do never changes.
#[utoipa::path(post, path = "/v1/api-keys", tag = "account", security(("bearer" = [])),
    request_body = KeyRequest, responses((status = 201, body = KeyCreated)))]
async fn create(
    State(app): State<AppState>,
    wallet: Wallet,
    Body(request): Body<KeyRequest>,
) -> Result<(StatusCode, Json<KeyCreated>), Problem> {
    wallet.session()?;
    let (account, now) = (wallet.account.id, app.now());
    let limits = limits(request.limits, &request.scopes)?;
    if request.expires_at.is_some_and(|at| at.0 <= now) {
        return Err(Problem::invalid("/expires_at", "a time in the future"));
    }
    let secret = api_token::new()?;
    let key = ApiKey {
        id: ApiKeyId::from_uuid(Uuid::now_v7()),
        hint: api_token::hint(&secret.text),
        label: label(&request.label)?,
        scopes: scopes(request.scopes)?,
        limits,
        created_at: now,
        expires_at: request.expires_at.map(|at| at.0),
        last_used_at: None,
    };
    let new = NewApiKey { account, token_hash: secret.hash, key: key.clone() };
    app.store
        .write("api_keys.create", move |tx| {
            let new = new.clone();
            Box::pin(async move {
                check_models(tx, new.key.limits.gpu_models.as_deref()).await?.or_else(refuse)?;
                if api_keys::insert(tx, &new).await? {
                    return Ok(());
                }
                let detail = format!("you have {MOST_KEYS} keys; revoke one that is not used");
                refuse(Problem::new(Code::StateConflict, detail))
            })
        })
        .await
        .map_err(Problem::from)?;
    security::credential("api_key_made", account, key.id);
    let nothing = Booked { total: UsdMicros::ZERO, day: UsdMicros::ZERO };
    let answer = KeyCreated { token: secret.text, key: KeyView::new(key, nothing) };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// A list of scopes, by their names.
fn scopes_schema() -> RefOr<Schema> {
    let names = Scope::ALL.iter().map(|scope| scope.as_str());
    let name = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build();
    let about = "What it may do; at least one. Writing does not include reading.";
    let example = json!(["rentals:read", "rentals:write"]);
    ArrayBuilder::new().items(name).description(Some(about)).examples([example]).build().into()
}

/// The scopes in order, each once.
fn scopes(mut scopes: Vec<Scope>) -> Result<Vec<Scope>, Problem> {
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(Problem::invalid(
            "/scopes",
            "at least one: a key without any could do nothing",
        ));
    }
    Ok(scopes)
}

fn limits(asked: KeyLimits, scopes: &[Scope]) -> Result<Limits, Problem> {
    let counts = [
        ("machines", asked.machines.as_ref().map(Vec::len)),
        ("offers", asked.offers.as_ref().map(Vec::len)),
        ("gpu_models", asked.gpu_models.as_ref().map(Vec::len)),
    ];
    for (name, count) in counts {
        if count.is_some_and(|count| !(1..=MOST_NAMED).contains(&count)) {
            let message = format!("1 to {MOST_NAMED}, or left out for no limit");
            return Err(Problem::invalid(format!("/limits/{name}"), message));
        }
    }
    let amounts = [
        ("max_usd_per_hour", asked.max_usd_per_hour),
        ("spend_cap", asked.spend_cap),
        ("spend_cap_per_day", asked.spend_cap_per_day),
    ];
    for (name, amount) in amounts {
        if amount.is_some_and(|usd| usd.amount.get() > MOST_MICROS) {
            return Err(Problem::invalid(format!("/limits/{name}"), "more than there is"));
        }
    }
    let whole: &[Scope] = if asked.offers.is_some() {
        // an offer's machine is more than the offer
        &[
            Scope::AgentsWrite,
            Scope::BillingRead,
            Scope::TemplatesWrite,
            Scope::MachinesRead,
            Scope::MachinesWrite,
        ]
    } else if asked.machines.is_some() {
        &[Scope::BillingRead, Scope::TemplatesWrite]
    } else {
        &[]
    };
    if let Some(scope) = scopes.iter().find(|scope| whole.contains(scope)) {
        let message = format!("{scope} cannot be limited so; make a key of its own for it");
        return Err(Problem::invalid("/scopes", message));
    }
    Ok(Limits {
        machines: asked.machines,
        offers: asked.offers,
        gpu_models: asked.gpu_models,
        max_per_hour: asked.max_usd_per_hour.map(|usd| usd.amount),
        cap: asked.spend_cap.map(|usd| usd.amount),
        cap_per_day: asked.spend_cap_per_day.map(|usd| usd.amount),
    })
}

async fn check_models(
    connection: &mut store::Connection,
    models: Option<&[String]>,
) -> Result<Result<(), Problem>, store::StoreError> {
    let Some(models) = models else { return Ok(Ok(())) };
    let known = gpu_models::list(connection).await?;
    let unknown = models.iter().position(|slug| known.iter().all(|model| model.slug != *slug));
    Ok(unknown.map_or(Ok(()), |at| {
        let message = "none of the slugs of /v1/gpu-models";
        Err(Problem::invalid(format!("/limits/gpu_models/{at}"), message))
    }))
}

/// The caller's live keys, newest first; there are 100 at the most.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyList {
    data: Vec<KeyView>,
}

/// The caller's live keys.
#[utoipa::path(get, path = "/v1/api-keys", tag = "account", security(("bearer" = [])),
    responses((status = 200, body = KeyList)))]
async fn list(State(app): State<AppState>, wallet: Wallet) -> Result<Json<KeyList>, Problem> {
    wallet.session()?;
    let now = app.now();
    let mut connection = app.store.read().await?;
    let mut data = Vec::new();
    for key in api_keys::list(&mut connection, wallet.account.id, now).await? {
        let booked = api_keys::booked(&mut connection, key.id, now).await?;
        data.push(KeyView::new(key, booked));
    }
    Ok(Json(KeyList { data }))
}

/// Revokes a key, at once: it is dead with the answer, and a booking of its that is under way does not happen.
#[utoipa::path(delete, path = "/v1/api-keys/{id}", tag = "account", security(("bearer" = [])),
    params(("id" = String, Path, example = "key_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 204, description = "The key is dead.")))]
async fn revoke(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<ApiKeyId>,
) -> Result<StatusCode, Problem> {
    wallet.session()?;
    let (account, now) = (wallet.account.id, app.now());
    app.store
        .write("api_keys.revoke", move |tx| {
            Box::pin(async move {
                if api_keys::revoke(tx, account, id, now).await? {
                    return Ok(());
                }
                refuse(Problem::not_found("key"))
            })
        })
        .await
        .map_err(Problem::from)?;
    security::credential("api_key_revoked", account, id);
    Ok(StatusCode::NO_CONTENT)
}
