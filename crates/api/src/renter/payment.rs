//! Renting in two requests (x402 version 2): the first is answered with what is to be signed, the second books and
//! locks the deposit. The payer needs a key and the token, and no account, no session and no coin for gas.

mod check;
mod lock;
mod token;
mod wire;

use std::{convert::Infallible, sync::Arc};

use alloy::primitives::B256;
use axum::{
    body::{Body as HttpBody, to_bytes},
    extract::{FromRequest as _, FromRequestParts, Request},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use domain::{
    id::{AccountId, RentalId},
    time::UnixSeconds,
};
use serde_json::{Value, json};
use store::{
    TxError, accounts,
    deployment::Deployment,
    intents::{self, Call},
    payments::{self, Kept, PaymentOffer, Room},
    quotes::{self, Quote},
    rentals,
    ssh_keys::SshKey,
};
use tokio::time::Instant;
use tower::Service;
use uuid::Uuid;

use super::{
    ahead,
    authorization::as_tokens_take_it,
    book::{AccessView, Booking, Signable, answered, in_flight, request_hash},
    quotes::{QuoteRequest, draft, give, terms_of, unit_of},
    wait::mark,
};
use crate::{
    AppState, Code, Problem,
    account::{given_keys, label, refuse_private_keys},
    detached::detached,
    extract::{Body, IdempotencyKey},
    limits::Origin,
    prefer::Wait,
    problem::{internal, refuse},
    views::{Time, Unit, json_of},
};
use check::{affordable, check};
use lock::{Lock, outcome, patience};
pub(crate) use token::holder;
use wire::Payment;

const PATH: &str = "/v1/rentals";
/// Prices that may wait to be paid at once, in all and of one network.
const ROOM: Room = Room { most: 10_000, share: 100 };
/// An Idempotency-Key of fewer characters may be one that somebody else can guess: 22 hold 128 bits.
const SECRET_KEY: usize = 22;

/// What is paid for, as it was asked for.
struct Asked {
    order: QuoteRequest,
    hash: [u8; 32],
    key: String,
    ssh_keys: Vec<SshKey>,
    label: Option<String>,
    /// For how long its caller prefers to wait.
    wait: Wait,
    /// Where from.
    network: Vec<u8>,
    origin: Origin,
    /// When it came.
    since: Instant,
}

/// Whether a request is one for [`pay`].
pub(crate) fn may_pay(request: &Request) -> bool {
    request.method() == Method::POST && request.uri().path() == PATH
}

/// Answers `POST /v1/rentals` that names an offer instead of a quote; everything else goes on.
pub(crate) async fn pay<S>(app: AppState, request: Request, mut next: S) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let (parts, body) = request.into_parts();
    let limit = app.config.body_limit;
    let Ok(bytes) = to_bytes(body, limit).await else {
        let detail = format!("a body may have {limit} bytes");
        return Problem::new(Code::BodyTooLarge, detail).into_response();
    };
    let told: Option<Value> = serde_json::from_slice(&bytes).ok();
    let headers = parts.headers.clone();
    let mut request = Request::from_parts(parts, HttpBody::from(bytes));
    if let Some(ahead) = ahead::look(&app, &headers, told.as_ref()).await {
        request.extensions_mut().insert(ahead);
    }
    match told {
        Some(order) if order.get("offer_id").is_some() => {
            let done = answer(&app, request, &headers, order).await;
            done.unwrap_or_else(|problem| problem.into_response())
        }
        _ => {
            let Ok(response) = next.call(request).await;
            response
        }
    }
}

/// Asks for the payment, or takes it.
async fn answer(
    app: &AppState,
    request: Request,
    headers: &HeaderMap,
    order: Value,
) -> Result<Response, Problem> {
    let since = Instant::now();
    let network = app.limits.network(&request);
    let origin = app.limits.origin(request.extensions(), headers);
    let (mut parts, body) = request.into_parts();
    // to ask what it costs does nothing that could be done twice
    let key = if parts.headers.contains_key(wire::SIGNATURE) {
        <IdempotencyKey as FromRequestParts<AppState>>::from_request_parts(&mut parts, app).await?.0
    } else {
        String::new()
    };
    let request = Request::from_parts(parts, body);
    refuse_private_keys(&order)?;
    let hash = request_hash("POST /v1/rentals", &order);
    let Body(order) = Body::<QuoteRequest>::from_request(request, app).await?;
    let ssh_keys = given_keys(&order.ssh_public_keys, app.now())?;
    let label = order.label.as_deref().map(label).transpose()?;
    let wait = Wait::of(headers);
    let asked = Asked { order, hash, key, ssh_keys, label, wait, network, origin, since };
    match wire::payment(headers, app.config.chain_id)? {
        None => ask(app, asked).await,
        Some(payment) => {
            let app = app.clone();
            detached(async move { take(&app, asked, payment).await }).await
        }
    }
}

/// Prices the order and says what is to be signed.
async fn ask(app: &AppState, asked: Asked) -> Result<Response, Problem> {
    let Asked { order, hash, network, .. } = asked;
    let mut connection = app.store.read().await?;
    let drafted = draft(app, &mut connection, None, order, None).await?;
    drop(connection);
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
        .write::<Kept, Problem, _>("payments.offer", move |tx| {
            let (offer, network) = (offer.clone(), network.clone());
            Box::pin(async move { Ok(payments::offer(tx, &offer, &network, ROOM).await?) })
        })
        .await?;
    let refused = |what: &str| {
        let detail = format!("{what}; sign in and ask for a quote, or try again in some minutes");
        Err(Problem::new(Code::Unavailable, detail))
    };
    match kept {
        Kept::Yes => {}
        Kept::ShareUsed => {
            let share = ROOM.share;
            let what = format!("{share} prices that your network asked for wait to be paid");
            return refused(&what);
        }
        Kept::Full => return refused("too many prices wait to be paid"),
    }
    let header = wire::header_of(&required)?;
    let problem = Problem::new(Code::PaymentRequired, error).with("payment", required);
    let mut response = problem.into_response();
    response.headers_mut().insert(wire::REQUIRED, header);
    Ok(response)
}

/// Takes a payment: every refusal says so in the protocol's words too.
async fn take(app: &AppState, asked: Asked, payment: Payment) -> Result<Response, Problem> {
    let (chain_id, payer) = (app.config.chain_id, payment.authorization.from);
    let problem = match settle(app, asked, payment).await {
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

async fn settle(app: &AppState, asked: Asked, payment: Payment) -> Result<Response, Problem> {
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
            if offered.request_hash != asked.hash {
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
    check((app, asked.origin), &quote, (id, &contract, &unit), &payment).await?;
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
    book(app, asked, quote, (unit, contract), &payment).await
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
    asked: Asked,
    quote: Quote,
    (unit, contract): (Unit, Deployment),
    payment: &Payment,
) -> Result<Response, Problem> {
    let Asked { hash, key, ssh_keys: given_keys, label, since, wait, .. } = asked;
    let now = app.now();
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
    let is_secret = key.len() >= SECRET_KEY;
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
        by,
        ssh_keys,
        given_keys,
        label,
    };
    let order = Arc::new((booking, call));
    let (id, mut body, replayed, expires) = app
        .store
        .write("payments.book", move |tx| {
            let order = order.clone();
            Box::pin(async move {
                let (booking, call) = &*order;
                let (_, body, replayed) = booking.commit(tx).await?;
                let id = rental_of(&body).map_err(TxError::Refused)?;
                let expires = if !replayed {
                    intents::queue(tx, id, call, now, now).await?;
                    payments::note_paid(tx, id, now).await?;
                    payments::give_token(tx, &token_hash, id, account, now, ends).await?;
                    Some(ends)
                } else if is_secret {
                    // the signature is public once it is mined, the key of the request is not
                    payments::give_another(tx, &token_hash, id, now).await?
                } else {
                    None
                };
                Ok((id, body, replayed, expires))
            })
        })
        .await
        .map_err(in_flight)?;
    if let Some((members, expires)) = body.as_object_mut().zip(expires) {
        let access = AccessView { token: secret.text, expires_at: Time(expires) };
        members.insert("access".to_owned(), json_of(&access)?);
    }
    let told = tell(app, (id, account), (body, replayed), (since, wait)).await?;
    let (mut response, settled) = told;
    if let Some(transaction) = settled {
        let header = wire::header_of(&wire::settled(chain_id, payer, transaction))?;
        response.headers_mut().insert(wire::RESPONSE, header);
    }
    Ok(response)
}

/// Waits for the lock, and tells what is known of it then; with the transaction of a lock that is in a block.
async fn tell(
    app: &AppState,
    (id, account): (RentalId, AccountId),
    (mut body, replayed): (Value, bool),
    (since, wait): (Instant, Wait),
) -> Result<(Response, Option<B256>), Problem> {
    // to wait for longer than is usual is a stream, too
    let seat = wait.0.and_then(|_| app.streams.take(Some(account)).ok());
    let wait = Wait(wait.0.filter(|_| seat.is_some()));
    let until = match wait.0 {
        None if replayed => Instant::now(),
        wait => patience(app, since, wait),
    };
    let (status, transaction, settled) = match outcome(app, id, until).await {
        Lock::Mined(transaction) => (StatusCode::CREATED, transaction, true),
        Lock::Open(transaction) => (StatusCode::ACCEPTED, transaction, false),
        Lock::Refused(why) => {
            let problem = invalid(format!("the deposit was not locked: {why}"));
            return Err(problem.with("rental_id", id.to_string()));
        }
    };
    if let Some(members) = body.as_object_mut() {
        members.insert("transaction".to_owned(), json!(transaction));
    }
    let response = mark(answered(status.as_u16(), body, replayed)?, wait, wait.0.is_some());
    Ok((response, transaction.filter(|_| settled)))
}

fn rental_of(body: &Value) -> Result<RentalId, Problem> {
    let id = body.pointer("/rental/id").and_then(Value::as_str);
    id.and_then(|id| id.parse().ok()).ok_or_else(|| internal("a booking without a rental"))
}
