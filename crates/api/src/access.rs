//! What an API key may do: the one table of scopes by route, and the limits of a key on what it may touch.
//!
//! A route that needs a wallet and is not in the table takes no key at all: whoever signed in must ask for it. The
//! OpenAPI document and `docs/ACCESS.md` are made from this table.

use axum::{
    extract::{FromRequestParts as _, MatchedPath, RawPathParams},
    http::{Method, request::Parts},
};
use domain::{
    id::{AccountId, MachineId, OfferId, RentalId},
    scope::Scope::{
        self, AccountRead, AgentsWrite, BillingRead, DisputesWrite, MachinesRead, MachinesWrite,
        OffersWrite, RentalsRead, RentalsWrite, TemplatesWrite, WebhooksWrite,
    },
    webhook::EVENTS,
};
use store::{Connection, api_keys::ApiKey, disputes, offers, quotes, rentals};

use crate::{AppState, Code, Problem, security};

/// Method, path and the scope that a key needs for them.
pub(crate) const SCOPES: &[(&str, &str, Scope)] = &[
    ("GET", "/v1/me", AccountRead),
    ("GET", "/v1/ledger", BillingRead),
    ("GET", "/v1/provider/earnings", BillingRead),
    ("GET", "/v1/provider/payouts", BillingRead),
    ("GET", "/v1/settlements", BillingRead),
    ("GET", "/v1/invoices/{id}", BillingRead),
    ("GET", "/v1/machines", MachinesRead),
    ("GET", "/v1/machines/{id}", MachinesRead),
    ("GET", "/v1/machines/{id}/maintenance", MachinesRead),
    ("GET", "/v1/provider/offers", MachinesRead),
    ("GET", "/v1/provider/reliability", MachinesRead),
    ("POST", "/v1/machines", MachinesWrite),
    ("PATCH", "/v1/machines/{id}", MachinesWrite),
    ("POST", "/v1/machines/{id}/enroll-token", AgentsWrite),
    ("DELETE", "/v1/machines/{id}/agent-key", AgentsWrite),
    ("POST", "/v1/machines/{id}/verify", MachinesWrite),
    ("POST", "/v1/machines/{id}/drain", MachinesWrite),
    ("POST", "/v1/machines/{id}/undrain", MachinesWrite),
    ("POST", "/v1/machines/{id}/retire", MachinesWrite),
    ("POST", "/v1/machines/{id}/maintenance", MachinesWrite),
    ("DELETE", "/v1/machines/{id}/maintenance/{window}", MachinesWrite),
    ("POST", "/v1/offers", OffersWrite),
    ("POST", "/v1/offers/bulk", OffersWrite),
    ("PATCH", "/v1/offers/{id}", OffersWrite),
    ("DELETE", "/v1/offers/{id}", OffersWrite),
    ("POST", "/v1/templates", TemplatesWrite),
    ("GET", "/v1/quotes/{id}", RentalsRead),
    ("GET", "/v1/events", RentalsRead),
    ("GET", "/v1/rentals", RentalsRead),
    ("GET", "/v1/rentals/{id}", RentalsRead),
    ("GET", "/v1/rentals/{id}/cost", RentalsRead),
    ("GET", "/v1/rentals/{id}/end", RentalsRead),
    ("GET", "/v1/rentals/{id}/escrow", RentalsRead),
    ("GET", "/v1/rentals/{id}/timeline", RentalsRead),
    ("GET", "/v1/rentals/{id}/events", RentalsRead),
    ("GET", "/v1/rentals/{id}/readings", RentalsRead),
    ("GET", "/v1/rentals/{id}/receipt", RentalsRead),
    ("GET", "/v1/rentals/{id}/sealed-receipt", RentalsRead),
    ("GET", "/v1/rentals/{id}/ssh-keys", RentalsRead),
    ("GET", "/v1/ssh-keys", RentalsRead),
    ("GET", "/v1/disputes", RentalsRead),
    ("GET", "/v1/disputes/{id}", RentalsRead),
    ("POST", "/v1/disputes", DisputesWrite),
    ("POST", "/v1/disputes/{id}/evidence", DisputesWrite),
    ("POST", "/v1/disputes/{id}/propose", DisputesWrite),
    ("POST", "/v1/disputes/{id}/accept", DisputesWrite),
    ("POST", "/v1/disputes/{id}/withdraw", DisputesWrite),
    ("POST", "/v1/quotes", RentalsWrite),
    ("POST", "/v1/rentals", RentalsWrite),
    ("POST", "/v1/rentals/group", RentalsWrite),
    ("PATCH", "/v1/rentals/{id}", RentalsWrite),
    ("POST", "/v1/rentals/{id}/authorization", RentalsWrite),
    ("POST", "/v1/rentals/{id}/end", RentalsWrite),
    ("POST", "/v1/rentals/{id}/review", RentalsWrite),
    ("POST", "/v1/rentals/{id}/stop", RentalsWrite),
    ("POST", "/v1/rentals/{id}/top-up", RentalsWrite),
    ("PUT", "/v1/rentals/{id}/ssh-keys", RentalsWrite),
    ("GET", "/v1/webhooks", WebhooksWrite),
    ("GET", "/v1/webhooks/{id}", WebhooksWrite),
    ("GET", "/v1/webhooks/{id}/deliveries", WebhooksWrite),
    ("POST", "/v1/webhooks", WebhooksWrite),
    ("PATCH", "/v1/webhooks/{id}", WebhooksWrite),
    ("DELETE", "/v1/webhooks/{id}", WebhooksWrite),
    ("POST", "/v1/webhooks/{id}/rotate-secret", WebhooksWrite),
    ("POST", "/v1/webhooks/{id}/test", WebhooksWrite),
    ("POST", "/v1/deliveries/{id}/redeliver", WebhooksWrite),
];

/// The scope that a key needs for a route; `None` if it takes no keys.
pub(crate) fn scope_of(method: &str, path: &str) -> Option<Scope> {
    let mut rows = SCOPES.iter();
    rows.find(|(verb, place, _)| *verb == method && *place == path).map(|(_, _, scope)| *scope)
}

/// Whether a key may make this request, as far as its path tells.
///
/// # Errors
/// [`Code::Forbidden`], [`Code::ScopeMissing`], or the store's.
pub(crate) async fn check(
    parts: &mut Parts,
    app: &AppState,
    key: &ApiKey,
    account: AccountId,
) -> Result<(), Problem> {
    let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    // axum answers HEAD by what is there for GET
    let method = if parts.method == Method::HEAD { Method::GET } else { parts.method.clone() };
    let Some(scope) = scope_of(method.as_str(), &path) else {
        let detail = "no API key may do that; sign in with the wallet";
        return Err(refused("wallet-only", Problem::new(Code::Forbidden, detail)));
    };
    needs(key, scope)?;
    if key.limits.machines.is_none() && key.limits.offers.is_none() {
        return Ok(());
    }
    check_place(parts, app, key, (account, &path)).await
}

/// Refuses a key without this scope.
fn needs(key: &ApiKey, scope: Scope) -> Result<(), Problem> {
    if key.scopes.contains(&scope) {
        return Ok(());
    }
    let detail = format!("the key has not the scope {scope}");
    let problem = Problem::new(Code::ScopeMissing, detail).with("scope", scope.as_str());
    Err(refused("scope-missing", problem))
}

/// What a key needs to be told of events of this name.
pub(crate) fn scope_of_event(name: &str) -> Scope {
    match name.split('.').next().unwrap_or_default() {
        "machine" | "offer" => MachinesRead,
        "payout" => BillingRead,
        _ => RentalsRead,
    }
}

/// Refuses a key that would have somebody told of events that it may not see itself. `*` is all of them.
///
/// # Errors
/// [`Code::ScopeMissing`].
pub(crate) fn may_tell(key: &ApiKey, events: &[String]) -> Result<(), Problem> {
    let all = events.iter().any(|name| name == "*");
    let named = |name: &str| all || events.iter().any(|event| event == name);
    let mut told = EVENTS.iter().map(|(name, _)| *name).filter(|name| named(name));
    told.try_for_each(|name| needs(key, scope_of_event(name)))
}

/// Whether the thing that the path names is one that the key is limited to. What is not the account's own is left to
/// the handler, which finds nothing.
async fn check_place(
    parts: &mut Parts,
    app: &AppState,
    key: &ApiKey,
    (account, path): (AccountId, &str),
) -> Result<(), Problem> {
    let params = RawPathParams::from_request_parts(parts, app).await;
    let params =
        params.map_err(|_| Problem::new(Code::InvalidRequest, "the path is not valid UTF-8"))?;
    let kind = path.strip_prefix("/v1/").and_then(|rest| rest.split('/').next());
    let kind = kind.unwrap_or_default();
    if matches!(kind, "webhooks" | "deliveries" | "events") {
        // they tell of everything that the account has
        return Err(outside(if kind == "events" { "stream" } else { "webhook" }));
    }
    let Some(id) = params.iter().find(|(name, _)| *name == "id").map(|(_, id)| id) else {
        return Ok(());
    };
    let malformed =
        |error: domain::id::IdError| Problem::new(Code::InvalidRequest, error.to_string());
    let mut connection = app.store.read().await?;
    match kind {
        "machines" => may_touch_machine(key, id.parse().map_err(malformed)?),
        "offers" => {
            let id: OfferId = id.parse().map_err(malformed)?;
            let offer = offers::get(&mut connection, id, app.now()).await?;
            match offer.filter(|offer| offer.account == account) {
                Some(offer) => may_touch_offer(key, offer.id, offer.machine),
                None => Ok(()),
            }
        }
        "quotes" => {
            let quote = quotes::get(&mut connection, id.parse().map_err(malformed)?).await?;
            match quote.filter(|quote| quote.account == account) {
                Some(quote) => may_touch_offer(key, quote.offer, quote.machine),
                None => Ok(()),
            }
        }
        "rentals" => {
            check_rental(&mut connection, key, account, id.parse().map_err(malformed)?).await
        }
        "disputes" => match disputes::get(&mut connection, id.parse().map_err(malformed)?).await? {
            Some(case) => check_rental(&mut connection, key, account, case.rental).await,
            None => Ok(()),
        },
        // a new kind of thing is closed to limited keys until somebody says how they are limited to it
        _ => Err(outside("thing")),
    }
}

async fn check_rental(
    connection: &mut Connection,
    key: &ApiKey,
    account: AccountId,
    id: RentalId,
) -> Result<(), Problem> {
    let own = |rental: &rentals::Rental| rental.renter == account || rental.provider == account;
    let Some(rental) = rentals::get(connection, id).await?.filter(own) else { return Ok(()) };
    match quotes::get(connection, rental.quote_id).await? {
        Some(quote) => may_touch_offer(key, quote.offer, quote.machine),
        None => Err(outside("rental")),
    }
}

/// Whether this machine is among those that a key is limited to.
pub(crate) fn allows_machine(key: &ApiKey, machine: MachineId) -> bool {
    key.limits.machines.as_ref().is_none_or(|machines| machines.contains(&machine))
}

/// Whether this offer of this machine is.
pub(crate) fn allows_offer(key: &ApiKey, offer: OfferId, machine: MachineId) -> bool {
    let named = key.limits.offers.as_ref().is_none_or(|offers| offers.contains(&offer));
    named && allows_machine(key, machine)
}

/// Refuses a machine that a key is not limited to.
///
/// # Errors
/// [`Code::Forbidden`].
pub(crate) fn may_touch_machine(key: &ApiKey, machine: MachineId) -> Result<(), Problem> {
    if allows_machine(key, machine) { Ok(()) } else { Err(outside("machine")) }
}

/// Refuses an offer that a key is not limited to, and what was rented of it.
///
/// # Errors
/// [`Code::Forbidden`].
pub(crate) fn may_touch_offer(
    key: &ApiKey,
    offer: OfferId,
    machine: MachineId,
) -> Result<(), Problem> {
    if allows_offer(key, offer, machine) { Ok(()) } else { Err(outside("offer")) }
}

/// Whether a key is limited to certain machines or offers.
pub(crate) const fn is_limited(key: &ApiKey) -> bool {
    key.limits.machines.is_some() || key.limits.offers.is_some()
}

/// The refusal of what lies outside a key's limits.
pub(crate) fn outside(what: &str) -> Problem {
    let detail = format!("the key is limited to others than this {what}");
    refused("limited", Problem::new(Code::Forbidden, detail))
}

/// Counts and logs a refusal, and passes it on.
pub(crate) fn refused(reason: &'static str, problem: Problem) -> Problem {
    metrics::counter!("weir_access_refusals_total", "reason" => reason).increment(1);
    security::refused(reason, &problem);
    problem
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_of_the_table_is_a_route_that_wallets_use() {
        let api = serde_json::to_value(crate::openapi()).unwrap();
        let mut rows = BTreeSet::new();
        for (method, path, scope) in SCOPES {
            assert!(rows.insert((method, path)), "{method} {path} twice");
            let operation = &api["paths"][path][method.to_lowercase()];
            let security = operation["security"].to_string();
            assert!(security.contains("\"bearer\""), "{method} {path}: {security}");
            assert!(security.contains(scope.as_str()), "{method} {path}: {security}");
        }
        assert!(Scope::ALL.iter().all(|scope| SCOPES.iter().any(|row| row.2 == *scope)));
    }

    #[test]
    fn the_description_names_every_scope() {
        let api = serde_json::to_value(crate::openapi()).unwrap();
        let all: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        for schema in ["KeyRequest", "KeyView"] {
            let scopes = &api["components"]["schemas"][schema]["properties"]["scopes"];
            assert_eq!(scopes["items"]["enum"], serde_json::json!(all), "{schema}: {scopes}");
        }
    }
}
