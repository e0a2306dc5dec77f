//! Renting in two requests (x402 version 2): the first is answered with what is to be signed, the second books and
//! locks the deposit. The payer needs a key and the token, and no account, no session and no coin for gas.

mod token;
mod wire;

use std::{sync::Arc, time::Duration};

use alloy::{eips::BlockId, primitives::B256};
use axum::{
    body::{Body as HttpBody, to_bytes},
    extract::{FromRequest as _, FromRequestParts as _, Request, State},
    http::{HeaderMap, Method, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use domain::{
    id::{AccountId, RentalId},
    rental::LockStatus,
    time::UnixSeconds,
};
use escrow::{signed, terms::uint256};
use serde_json::{Value, json};
use store::{
    StoreError, TxError, accounts,
    deployment::Deployment,
    intents::{self, Call},
    payments::{self, PaymentOffer},
    quotes::{self, Quote},
    rentals, timeline,
};
use uuid::Uuid;

use super::{
    authorization::{LEAST_LEFT_S, as_tokens_take_it},
    book::{AccessView, Booking, Signable, answered, in_flight, request_hash},
    end::{MAX_SIGNATURE, check_signature},
    quotes::{QuoteRequest, draft, give, terms_of, unit_of},
};
use crate::{
    AppState, Code, Problem,
    extract::{Body, IdempotencyKey},
    problem::{internal, refuse},
    views::{Time, Unit, json_of},
};
pub(crate) use token::holder;
use wire::Payment;

const PATH: &str = "/v1/rentals";
/// Prices that may wait to be paid at once.
const MOST_OPEN: i64 = 10_000;
/// How often the deposit is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Answers `POST /v1/rentals` that names an offer instead of a quote; everything else goes on.
pub(crate) async fn pay(State(app): State<AppState>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || request.uri().path() != PATH {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let limit = app.config.body_limit;
    let Ok(bytes) = to_bytes(body, limit).await else {
        let detail = format!("a body may have {limit} bytes");
        return Problem::new(Code::BodyTooLarge, detail).into_response();
    };
    let told: Option<Value> = serde_json::from_slice(&bytes).ok();
    let headers = parts.headers.clone();
    let request = Request::from_parts(parts, HttpBody::from(bytes));
    match told {
        Some(order) if order.get("offer_id").is_some() => {
            let done = answer(&app, request, &headers, order).await;
            done.unwrap_or_else(|problem| problem.into_response())
        }
        _ => next.run(request).await,
    }
}

/// Asks for the payment, or takes it.
async fn answer(
    app: &AppState,
    request: Request,
    headers: &HeaderMap,
    order: Value,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let IdempotencyKey(key) = IdempotencyKey::from_request_parts(&mut parts, app).await?;
    let request = Request::from_parts(parts, body);
    let Body(asked) = Body::<QuoteRequest>::from_request(request, app).await?;
    let hash = request_hash("POST /v1/rentals", &order);
    match wire::payment(headers, app.config.chain_id)? {
        None => ask(app, asked, hash).await,
        Some(payment) => take(app, key, hash, payment).await,
    }
}

/// Prices the order and says what is to be signed.
async fn ask(app: &AppState, asked: QuoteRequest, hash: [u8; 32]) -> Result<Response, Problem> {
    let drafted = draft(app, None, asked).await?;
    let (quote, contract) = (drafted.quote, drafted.contract);
    if app.gasless.domain(&app.chain, &drafted.token, contract.chain_id).await.is_none() {
        let detail =
            "the token takes no authorizations (EIP-3009): sign in, and lock by a transaction";
        return Err(Problem::invalid("/token", detail));
    }
    let domain = drafted.token.permit.ok_or_else(|| internal("a token without a domain"))?;
    let error = "the deposit is to be authorized: send the same request with PAYMENT-SIGNATURE";
    let required = wire::required(&quote, &contract, &domain, &app.config.public_url, error);
    let offer = PaymentOffer { quote, request_hash: hash };
    let kept = app
        .store
        .write::<bool, Problem, _>("payments.offer", move |tx| {
            let offer = offer.clone();
            Box::pin(async move { Ok(payments::offer(tx, &offer, MOST_OPEN).await?) })
        })
        .await?;
    if !kept {
        let detail = "too many prices wait to be paid; sign in and ask for a quote, or try again";
        return Err(Problem::new(Code::Unavailable, detail));
    }
    let header = wire::header_of(&required)?;
    let problem = Problem::new(Code::PaymentRequired, error).with("payment", required);
    let mut response = problem.into_response();
    response.headers_mut().insert(wire::REQUIRED, header);
    Ok(response)
}

/// Takes a payment: every refusal says so in the protocol's words too.
async fn take(
    app: &AppState,
    key: String,
    hash: [u8; 32],
    payment: Payment,
) -> Result<Response, Problem> {
    let (chain_id, payer) = (app.config.chain_id, payment.authorization.from);
    let problem = match settle(app, key, hash, payment).await {
        Ok(response) => return Ok(response),
        Err(problem) => problem,
    };
    let header = wire::header_of(&wire::failed(chain_id, payer, problem.code().as_str()))?;
    let mut response = problem.into_response();
    response.headers_mut().insert(wire::RESPONSE, header);
    Ok(response)
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::PaymentInvalid, detail)
}

async fn settle(
    app: &AppState,
    key: String,
    hash: [u8; 32],
    payment: Payment,
) -> Result<Response, Problem> {
    let mut connection = app.store.read().await?;
    let contract = app.deployment(&mut connection).await?;
    let known = quotes::get(&mut connection, payment.quote).await?;
    let offered = payments::find(&mut connection, payment.quote).await?;
    let booked = match &known {
        Some(quote) => rentals::id_of(&mut connection, quote.escrow_id).await?.is_some(),
        None => false,
    };
    let over = || invalid("the price is over, or was never given");
    let mut quote = match (offered, known) {
        (Some(offered), known) => {
            if offered.request_hash != hash {
                return Err(invalid("the price was given for another request"));
            }
            known.unwrap_or(offered.quote)
        }
        // what was booked is told of as long as it is remembered
        (None, Some(quote)) if booked => quote,
        (None, _) => return Err(over()),
    };
    let fresh = quote.renter.is_zero();
    let unit = unit_of(&mut connection, quote.token, contract.chain_id).await?;
    drop(connection);
    let payer = payment.authorization.from;
    if !fresh && quote.renter != payer {
        return Err(invalid("somebody else has paid this price; ask for a new one"));
    }
    if quote.provider == payer {
        return Err(invalid("this is your own offer"));
    }
    quote.renter = payer;
    let terms = terms_of(&quote);
    let id = escrow::terms_hash(&terms, &escrow::domain(contract.chain_id, contract.escrow));
    check(app, &quote, (id, &contract, &unit), &payment).await?;
    if !booked {
        affordable(app, &quote, &payment).await?;
    }
    if fresh {
        enter(app, quote.clone(), &contract, payer).await?;
        let mut connection = app.store.read().await?;
        let entered = quotes::get(&mut connection, quote.id).await?;
        quote = entered
            .filter(|entered| entered.renter == payer)
            .ok_or_else(|| invalid("somebody else has paid this price; ask for a new one"))?;
    }
    book(app, key, hash, quote, (unit, contract), &payment).await
}

/// Whether the payment is the payer's, of this deposit, for this rental.
async fn check(
    app: &AppState,
    quote: &Quote,
    (id, contract, unit): (B256, &Deployment, &Unit),
    payment: &Payment,
) -> Result<(), Problem> {
    let told = &payment.authorization;
    let parts = [
        (told.to == contract.escrow, "`to` is not the escrow contract"),
        (payment.value == uint256(quote.deposit), "`value` is not the deposit"),
        (
            told.nonce == id,
            "`nonce` is not the rental's id: the EIP-712 hash of `extra.terms` with the payer as renter, in the \
             domain of the escrow",
        ),
    ];
    if let Some((_, what)) = parts.into_iter().find(|(good, _)| !good) {
        return Err(invalid(what));
    }
    if payment.signature.is_empty() || payment.signature.len() > MAX_SIGNATURE {
        return Err(invalid("the signature has no length that a wallet's can have"));
    }
    let domain = app.gasless.domain(&app.chain, unit.token(), contract.chain_id).await;
    let domain = domain.ok_or_else(|| {
        Problem::new(Code::ChainUnavailable, "the token could not be asked for its signing domain")
    })?;
    let valid = (UnixSeconds(payment.valid_after), UnixSeconds(payment.valid_before));
    let message =
        signed::authorization(&terms_of(quote), id, contract.escrow, quote.deposit, valid);
    let digest = signed::digest(&message, &domain);
    check_signature(app, quote.renter, digest, &payment.signature).await.map_err(|problem| {
        if problem.code() == Code::ValidationFailed {
            invalid("the signature is not by `from` over this authorization")
        } else {
            problem
        }
    })
}

/// Whether the payment can be sent now, and the payer has the money.
async fn affordable(app: &AppState, quote: &Quote, payment: &Payment) -> Result<(), Problem> {
    let now = app.now().get();
    if payment.valid_after >= now {
        return Err(invalid("the authorization is not valid yet"));
    }
    if payment.valid_before < now.saturating_add(LEAST_LEFT_S) {
        return Err(invalid("the authorization has ended, or ends too soon to be sent"));
    }
    let balance = app.chain.token_balance(quote.token, quote.renter, BlockId::latest()).await;
    let balance = balance.map_err(|error| {
        tracing::warn!(%error, "a payer's balance could not be asked for");
        Problem::new(Code::ChainUnavailable, "the chain could not be asked for the payer's balance")
    })?;
    if balance < uint256(quote.deposit) {
        let detail =
            format!("the payer has {balance} base units, the deposit is {}", quote.deposit);
        return Err(invalid(detail));
    }
    Ok(())
}

/// The payer has an account from here on, and the quote is its own.
async fn enter(
    app: &AppState,
    quote: Quote,
    contract: &Deployment,
    payer: alloy::primitives::Address,
) -> Result<(), Problem> {
    let (state, contract, now) = (app.clone(), contract.clone(), app.now());
    let done = app
        .store
        .write("payments.enter", move |tx| {
            let (app, mut quote, contract) = (state.clone(), quote.clone(), contract.clone());
            Box::pin(async move {
                let new = AccountId::from_uuid(Uuid::now_v7());
                let account = accounts::find_or_create(tx, new, payer, now).await?;
                give(&app, &mut quote, &account, &contract).map_err(TxError::Refused)?;
                match quotes::insert(tx, &quote).await {
                    // a twin was faster: what it entered is looked at afterwards
                    Err(error) if error.is_conflict_on("quotes_pkey") => {
                        refuse(Problem::new(Code::AlreadyExists, "entered before"))
                    }
                    done => Ok(done?),
                }
            })
        })
        .await
        .map_err(Problem::from);
    match done {
        Err(problem) if problem.code() == Code::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Books, orders the lock and gives the token, in one transaction; then waits a while for the lock.
async fn book(
    app: &AppState,
    key: String,
    hash: [u8; 32],
    quote: Quote,
    (unit, contract): (Unit, Deployment),
    payment: &Payment,
) -> Result<Response, Problem> {
    let now = app.now();
    let deadline = now.saturating_plus(app.store.policy().funding_ttl);
    let (chain_id, payer) = (contract.chain_id, quote.renter);
    let call = Call::Lock {
        deposit: quote.deposit,
        valid_after: UnixSeconds(payment.valid_after),
        valid_before: UnixSeconds(payment.valid_before),
        signature: as_tokens_take_it(payment.signature.to_vec()),
    };
    let ends = now.saturating_plus(quote.duration).saturating_plus(app.config.session_ttl);
    let (secret, account) = (token::secret()?, quote.account);
    let token_hash = secret.hash;
    let signable = Signable::default();
    let (by, ssh_keys) = (None, Vec::new());
    let booking = Booking {
        app: app.clone(),
        key,
        hash,
        quote,
        unit,
        contract,
        signable,
        deadline,
        by,
        ssh_keys,
    };
    let order = Arc::new((booking, call));
    let (_, mut body, replayed) = app
        .store
        .write("payments.book", move |tx| {
            let order = order.clone();
            Box::pin(async move {
                let (booking, call) = &*order;
                let (status, body, replayed) = booking.commit(tx).await?;
                if !replayed {
                    let id = rental_of(&body).map_err(TxError::Refused)?;
                    intents::queue(tx, id, call, now, now).await?;
                    let by = json!({ "by": "x402" });
                    timeline::append(tx, id, now, "funding_authorized", &by).await?;
                    payments::give_token(tx, &token_hash, id, account, now, ends).await?;
                }
                Ok((status, body, replayed))
            })
        })
        .await
        .map_err(in_flight)?;
    let id = rental_of(&body)?;
    // the signature is public once it is mined: a repetition of the request is not given a token
    if let Some(members) = body.as_object_mut().filter(|_| !replayed) {
        let access = AccessView { token: secret.text, expires_at: Time(ends) };
        members.insert("access".to_owned(), json_of(&access)?);
    }
    let lock = locked(app, id).await?;
    let status = if lock.is_some() { StatusCode::CREATED } else { StatusCode::ACCEPTED };
    let mut response = answered(status.as_u16(), body, replayed)?;
    if let Some(transaction) = lock {
        let header = wire::header_of(&wire::settled(chain_id, payer, transaction))?;
        response.headers_mut().insert(wire::RESPONSE, header);
    }
    Ok(response)
}

fn rental_of(body: &Value) -> Result<RentalId, Problem> {
    let id = body.pointer("/rental/id").and_then(Value::as_str);
    id.and_then(|id| id.parse().ok()).ok_or_else(|| internal("a booking without a rental"))
}

/// The transaction that locked the deposit, once it is in a block; none if that takes too long.
///
/// # Errors
/// [`Code::PaymentInvalid`] if the contract or the token does not take it.
async fn locked(app: &AppState, id: RentalId) -> Result<Option<B256>, Problem> {
    let since = tokio::time::Instant::now();
    loop {
        let mut connection = app.store.read().await?;
        let rental = rentals::get(&mut connection, id).await?;
        let rental = rental.ok_or(StoreError::Missing("the rental"))?;
        let steps = intents::for_rental(&mut connection, id).await?;
        drop(connection);
        let step = steps.into_iter().rfind(|step| step.purpose == "lock");
        if rental.progress.lock != LockStatus::None {
            return Ok(step.and_then(|step| step.tx_hash));
        }
        if let Some(why) = step.filter(|step| step.state == "refused") {
            let why = why.last_error.unwrap_or_default();
            return Err(invalid(format!("the deposit was not locked: {why}"))
                .with("rental_id", id.to_string()));
        }
        if since.elapsed() >= app.config.payment_patience || app.leaving.is_cancelled() {
            return Ok(None);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
