//! What a payer holds: a token for one rental.

use axum::http::{header, request::Parts};
use store::payments;

use crate::{
    AppState, Code, Problem, access,
    identity::{By, Secret, Wallet, hash_of, vouched},
    limits::Whose,
};

/// What such a token begins with.
const PREFIX: &str = "weir_rt_";

/// A new one.
pub(super) fn secret() -> Result<Secret, Problem> {
    let text = format!("{PREFIX}{}", Secret::new()?.text);
    Ok(Secret { hash: hash_of(&text), text })
}

/// Cases, of which such a token sees those about its own rental: their handlers look.
const CASES: &str = "/v1/disputes";

/// The payer of a rental, if the request shows its token: for that rental and the cases about it, and nothing else.
///
/// # Errors
/// [`Code::Unauthenticated`] if the token is over; [`Code::Forbidden`] elsewhere than at its rental.
pub(crate) async fn holder(parts: &Parts, app: &AppState) -> Result<Option<Wallet>, Problem> {
    let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|text| text.split_once(' ')).filter(|(scheme, token)| {
        scheme.eq_ignore_ascii_case("bearer") && token.trim().starts_with(PREFIX)
    });
    let Some((_, token)) = token else { return Ok(None) };
    let mut connection = app.store.read().await?;
    let hash = hash_of(token.trim());
    let found = payments::find_token(&mut connection, &hash, app.now()).await?;
    let detail = "the rental's token is over, or was never given";
    let whose = |token: &payments::RentalToken| Whose::Account(token.account.id);
    let token = vouched(app, &hash, found, whose, detail)?;
    let rental = token.rental;
    let place = format!("/v1/rentals/{rental}");
    let path = parts.uri.path();
    let within = |place: &str| {
        path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if !within(&place) && !within(CASES) {
        let detail = format!(
            "this token is good for {place} and cases about it only; sign in for anything else"
        );
        return Err(access::refused("rental-token", Problem::new(Code::Forbidden, detail)));
    }
    let expires_at = Some(token.expires_at);
    Ok(Some(Wallet { by: By::Rental(rental), account: token.account, expires_at }))
}
