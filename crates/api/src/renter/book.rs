//! Booking a quote: the GPUs are held, and the renter is told how to lock the deposit.

use std::time::Duration;

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::Eip712Domain,
};
use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{
    id::{AccountId, QuoteId, RentalId, SshKeyId},
    money::Amount,
    offer::OfferState,
    time::{Seconds, UnixSeconds},
};
use escrow::{
    calldata, signed,
    typed_data::{self, Permit, TypedData},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::{
    StoreError, TxError,
    api_keys::ApiKey,
    deployment::Deployment,
    idempotency::{self, Known},
    offers,
    quotes::Quote,
    rentals::{self, Ground, HeldGpu, NewRental, Rental},
    ssh_keys::SshKey,
    tokens,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    ahead::{self, Ahead},
    booker::Booked,
    cost::cost_at,
    quotes::{QuoteRequest, changed, ordered, terms_of},
    rentals::{RentalView, view},
    spending,
    wait::{mark, until_moved_on},
};
use crate::{
    AppState, Code, Problem,
    account::{check_ids, label, open_with},
    extract::{Body, IdempotencyKey},
    identity::Wallet,
    prefer::Wait,
    problem::{internal, refuse},
    provider::{CallView, free_of_obstacles},
    views::{Time, Unit, json_of},
};

/// How long the chain may take to tell a permit nonce; without it the renter approves by a transaction.
const PERMIT_PATIENCE: Duration = Duration::from_secs(2);
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create))
}

/// The quote that is booked.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BookingRequest {
    #[schema(value_type = String, example = "quo_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    quote_id: QuoteId,
    /// Which of your SSH keys open the machine, at most 16; none if left out.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!([]))]
    ssh_key_ids: Vec<SshKeyId>,
    /// What you call the rental: 1 to 64 characters in one line, without space around them; nobody else sees it.
    #[serde(default)]
    #[schema(example = "nightly training")]
    label: Option<String>,
}

impl BookingRequest {
    /// What makes it the same request. What is left out is not in it, so that it is what it was before there was more to
    /// be said.
    fn identity(&self) -> Value {
        let mut told = json!({"quote_id": self.quote_id});
        if let Some(members) = told.as_object_mut().filter(|_| !self.ssh_key_ids.is_empty()) {
            members.insert("ssh_key_ids".to_owned(), json!(self.ssh_key_ids));
        }
        if let Some((members, label)) = told.as_object_mut().zip(self.label.as_ref()) {
            members.insert("label".to_owned(), json!(label));
        }
        told
    }
}

/// What is booked: a quote, or an offer that is paid for at once by x402.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes the two forms; each is read by itself")]
pub(crate) enum RentalRequest {
    /// By who signed in.
    Quoted(BookingRequest),
    /// By whoever pays.
    Paid(QuoteRequest),
}

/// Typed data for the renter's wallet.
#[derive(Serialize, ToSchema)]
pub(crate) struct TypedDataView {
    /// The terms, for showing: their hash is the `escrow_id`.
    #[schema(value_type = Value)]
    terms: TypedData,
    /// The token's approval by signature (EIP-2612), for the contract's `lockWithPermit` in place of
    /// `approve` and `lock`; null if the token has none or the chain did not tell the nonce.
    #[schema(value_type = Option<Value>)]
    permit: Option<TypedData>,
    /// The deposit's authorization (EIP-3009): signed and posted to `/v1/rentals/{id}/authorization` it takes the place
    /// of `approve` and `lock`, and the platform pays the gas; null if the token has none.
    #[schema(value_type = Option<Value>)]
    authorization: Option<TypedData>,
}

/// How the deposit is locked.
#[derive(Serialize, ToSchema)]
pub(crate) struct FundingView {
    /// The escrow contract.
    #[schema(value_type = String)]
    to: Address,
    /// `lock(terms, deposit)`, encoded.
    #[schema(value_type = String, example = "0x")]
    calldata: Bytes,
    /// Native coin to send with it, in wei.
    #[schema(value_type = String, example = "0")]
    value: Amount,
    #[schema(example = 31337)]
    chain_id: u64,
    /// After that the booking expires and the GPUs go back to the market.
    deadline: Time,
    /// To be sent before, unless the permit is signed; null for the native coin.
    approve: Option<CallView>,
    typed_data: TypedDataView,
}

/// What a payer holds.
#[derive(Serialize, ToSchema)]
pub(crate) struct AccessView {
    /// To be sent as `Authorization: Bearer` to `/v1/rentals/{id}` and what lies below. Who lost it repeats the request, whose
    /// Idempotency-Key nobody else can know if it is random and has 22 characters or more: that is answered with another.
    #[schema(example = "weir_rt_pZ4m0s3x1v5u7w9y2A4C6E8G0I2K4M6O8Q0S2U4W6Y8")]
    pub(super) token: String,
    pub(super) expires_at: Time,
}

/// A booking.
#[derive(Serialize, ToSchema)]
pub(crate) struct BookingView {
    rental: RentalView,
    funding: FundingView,
    /// For who paid by x402: in the first answer, and in those to its repetitions whose Idempotency-Key has 22 characters or
    /// more, 8 in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<AccessView>,
    /// For who pays by x402: the transaction that locks the deposit, by its hash, once one is signed; null until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "0xe670ec64341771606e55d6b4ca35a1a6b75ee3d5145a99d05921026d1527331e")]
    transaction: Option<B256>,
}

/// Everything that makes a request the same request.
pub(super) fn request_hash(what: &str, body: &Value) -> [u8; 32] {
    Sha256::digest(format!("{what}\n{body}").as_bytes()).into()
}

/// The refusal of a key that was used for something else.
pub(super) fn other_request() -> Problem {
    Problem::new(Code::IdempotencyMismatch, "this Idempotency-Key came with another request before")
}

/// An answer with its status, marked if it was given before.
pub(super) fn answered(status: u16, body: Value, replayed: bool) -> Result<Response, Problem> {
    let id = body.pointer("/rental/id").and_then(Value::as_str).unwrap_or_default();
    let location = HeaderValue::from_str(&format!("/v1/rentals/{id}")).map_err(internal)?;
    let mut response = given(status, body, replayed)?;
    if response.status() == StatusCode::CREATED {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The same of something that is not a rental.
pub(super) fn given(status: u16, body: Value, replayed: bool) -> Result<Response, Problem> {
    let status = StatusCode::from_u16(status).map_err(internal)?;
    let mut response = (status, Json(body)).into_response();
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The answer to a booking that was made just now.
fn made(rental: RentalId, body: String) -> Result<Response, Problem> {
    let location = HeaderValue::from_str(&format!("/v1/rentals/{rental}")).map_err(internal)?;
    let json = HeaderValue::from_static("application/json");
    let headers = [(header::LOCATION, location), (header::CONTENT_TYPE, json)];
    Ok((StatusCode::CREATED, headers, body).into_response())
}

/// Books a quote. Its GPUs are held from now on; which ones they are is fixed here. A body that names an offer instead, as
/// for `/v1/quotes`, is paid for by x402 and needs no session: without `PAYMENT-SIGNATURE` the answer is 402 with what is to
/// be signed, with it the rental is booked, its deposit locked, and `access.token` is good for this rental and its disputes.
#[utoipa::path(post, path = "/v1/rentals", tag = "renter", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "new for each intent, the same for its retries; required but for x402's \
                                                                      first request, which only asks what to sign"),
           ("Prefer" = Option<String>, Header, description = "`wait=N`: answer once the rental has moved on, or after N seconds, 30 at most; \
                                                             paid by x402, once the deposit's lock is in a block"),
           ("PAYMENT-SIGNATURE" = Option<String>, Header, description = "x402 version 2: a payment of the scheme `weir-escrow`")),
    request_body = RentalRequest,
    responses(
        (status = 201, body = BookingView, headers(
            ("Location", description = "the rental"),
            ("Preference-Applied", description = "`wait=N` if it was waited for: `rental` is then as it is after that"),
            ("PAYMENT-RESPONSE", description = "x402: the transaction that locked the deposit"),
            ("Idempotent-Replayed", description = "`true` if this answer was given before"))),
        (status = 202, description = "Paid for and booked; the lock is not in a block yet. `transaction` carries it, once signed; the \
                                      same request again tells.",
            body = BookingView),
        (status = 402, description = "To be paid for by x402, or the payment was not accepted.", headers(
            ("PAYMENT-REQUIRED", description = "x402: what is to be signed"),
            ("PAYMENT-RESPONSE", description = "x402: why a payment was not accepted")))))]
async fn create(
    State(app): State<AppState>,
    wallet: Wallet,
    ahead: Option<Extension<Ahead>>,
    IdempotencyKey(key): IdempotencyKey,
    wait: Wait,
    Body(request): Body<BookingRequest>,
) -> Result<Response, Problem> {
    check_ids(&request.ssh_key_ids)?;
    let quote = ahead::quote(ahead, &app, &wallet, request.quote_id).await?;
    let hash = request_hash("POST /v1/rentals", &request.identity());
    let label = request.label.as_deref().map(label).transpose()?;
    let plain = booking(&app, &wallet, quote, (key, hash), request.ssh_key_ids, true).await?;
    let booking = Booking { label, ..plain };
    let (status, mut body, replayed) = match app.booker.book(booking).await.map_err(in_flight)? {
        Booked::Made { rental, body } if wait.0.is_none() => return made(rental, body),
        Booked::Made { body, .. } => {
            (StatusCode::CREATED.as_u16(), serde_json::from_str(&body).map_err(internal)?, false)
        }
        Booked::Said(status, body, replayed) => (status, body, replayed),
    };
    let waited = until_moved_on(&app, wallet.account.id, &mut body, wait).await;
    Ok(mark(answered(status, body, replayed)?, wait, waited))
}

/// The refusal of one more booking beside so many that wait for their deposit.
fn unfunded(limit: i64) -> Problem {
    let detail = format!(
        "{limit} bookings of yours hold GPUs and wait for their deposit: lock it, stop one of them, or let it expire"
    );
    Problem::new(Code::StateConflict, detail)
}

/// Everything that is needed to book a quote of the caller's; with a permit to be signed if that is asked for.
pub(super) async fn booking(
    app: &AppState,
    wallet: &Wallet,
    quote: Quote,
    (key, hash): (String, [u8; 32]),
    ssh_keys: Vec<SshKeyId>,
    with_permit: bool,
) -> Result<Booking, Problem> {
    spending::may_book(wallet.key(), &quote)?;
    let (contract, unit) = app.ground(quote.token).await?;
    let token = unit.token();
    let gasless = app.gasless.domain(&app.chain, token, contract.chain_id).await;
    let nonce = match token.permit {
        Some(_) if with_permit => permit_nonce(app, &quote).await,
        Some(_) | None => None,
    };
    let permit = token.permit.clone().zip(nonce);
    Ok(Booking {
        app: app.clone(),
        key,
        hash,
        quote,
        unit,
        contract,
        signable: Signable { permit, gasless },
        by: wallet.key().cloned(),
        ssh_keys,
        given_keys: Vec::new(),
        label: None,
    })
}

/// A twin that still runs has locked the key for longer than a lock is waited for.
pub(super) fn in_flight(error: TxError<Problem>) -> Problem {
    match error {
        TxError::Store(StoreError::Unavailable(reason)) if reason.contains("lock timeout") => {
            Problem::new(Code::IdempotencyInFlight, "a request with this key is still running")
        }
        TxError::Store(_) | TxError::Refused(_) => error.into(),
    }
}

/// The nonce of the permit to be signed, or `None` if the chain does not tell it in time.
async fn permit_nonce(app: &AppState, quote: &Quote) -> Option<U256> {
    let asked = app.chain.erc20_permit_nonce(quote.token, quote.renter);
    match tokio::time::timeout(PERMIT_PATIENCE, asked).await {
        Ok(Ok(nonce)) => Some(nonce),
        Ok(Err(error)) => {
            tracing::warn!(%error, "no permit nonce; the renter is told to approve instead");
            None
        }
        Err(_) => None,
    }
}

/// Everything the unit of work needs.
pub(super) struct Booking {
    pub(super) app: AppState,
    pub(super) key: String,
    pub(super) hash: [u8; 32],
    pub(super) quote: Quote,
    pub(super) unit: Unit,
    pub(super) contract: Deployment,
    pub(super) signable: Signable,
    /// The API key that books, if one does.
    pub(super) by: Option<ApiKey>,
    pub(super) ssh_keys: Vec<SshKeyId>,
    /// Keys that come with the booking.
    pub(super) given_keys: Vec<SshKey>,
    /// What the renter calls the rental.
    pub(super) label: Option<String>,
}

/// What the renter may sign in place of a transaction, short of the deadline.
#[derive(Default)]
pub(super) struct Signable {
    /// Name and version of the token's EIP-712 domain, and the renter's nonce.
    permit: Option<((String, String), U256)>,
    /// The domain of the token's authorizations.
    gasless: Option<Eip712Domain>,
}

impl Booking {
    /// Books, or finds that it was done before: status, answer, and whether it was.
    pub(super) async fn commit(
        &self,
        tx: &mut store::Connection,
    ) -> Result<(u16, Value, bool), TxError<Problem>> {
        let (quote, now) = (&self.quote, self.app.now());
        let limit = self.app.config.unfunded_limit;
        let ground =
            rentals::hold_ground(tx, quote.account, quote.offer, quote.escrow_id, limit).await?;
        match idempotency::look(tx, quote.account, &self.key, &self.hash).await? {
            Known::New => {}
            Known::Answered { status, response } => {
                let body = match response {
                    Some(body) => body,
                    // it shared a transaction; the request names the quote, so that it was this one
                    None => self.said(tx).await?,
                };
                return Ok((status, body, true));
            }
            Known::OtherRequest => return refuse(other_request()),
        }
        if ground.unfunded >= limit {
            return refuse(unfunded(limit));
        }
        let answer = self.make(tx, &ground, now).await?;
        let body = json_of(&answer).map_err(TxError::Refused)?;
        let status = StatusCode::CREATED.as_u16();
        let said = (status, &body);
        if !idempotency::record(tx, quote.account, &self.key, &self.hash, said, now).await? {
            return refuse(other_request());
        }
        Ok((status, body, false))
    }

    /// Makes the booking on ground that is held, whatever else the renter has booked.
    pub(super) async fn make(
        &self,
        tx: &mut store::Connection,
        ground: &Ground,
        now: UnixSeconds,
    ) -> Result<BookingView, TxError<Problem>> {
        let quote = &self.quote;
        self.check(tx, ground, now).await?;
        let (mut rental, gpus) = self.insert(tx, ground.offer.2, now).await?;
        if let Some(label) = &self.label {
            rentals::set_label(tx, rental.id, Some(label)).await?;
            rental.label = Some(label.clone());
        }
        spending::count(tx, self.by.as_ref(), quote, rental.id, now).await?;
        if !self.ssh_keys.is_empty() || !self.given_keys.is_empty() {
            let (named, given) = (&self.ssh_keys, &self.given_keys);
            open_with(tx, quote.account, rental.id, named, given).await?;
        }
        self.answer(&rental, gpus, now).map_err(TxError::Refused)
    }

    /// What was told of the quote's rental when it was booked. All of it is in the quote, the rental's first state and the
    /// deployment; a permit has the nonce of now, which is the one that it needs.
    async fn said(&self, tx: &mut store::Connection) -> Result<Value, TxError<Problem>> {
        let gone = || StoreError::Missing("the rental of the key");
        let id = rentals::id_of(tx, self.quote.escrow_id).await?.ok_or_else(gone)?;
        let rental = rentals::get(tx, id).await?.ok_or_else(gone)?;
        let gpus = rentals::gpus(tx, id).await?;
        let booked = rentals::as_booked(&rental, self.quote.gpu_count);
        let answer = self.answer(&booked, gpus, booked.created_at).map_err(TxError::Refused)?;
        json_of(&answer).map_err(TxError::Refused)
    }

    /// What is told of a rental that was booked just now.
    pub(super) fn answer(
        &self,
        rental: &Rental,
        gpus: Vec<HeldGpu>,
        now: UnixSeconds,
    ) -> Result<BookingView, Problem> {
        let quote = &self.quote;
        let cost = cost_at(rental, quote, &self.unit, Seconds::ZERO, now)?;
        let view = view(rental, quote, quote.account, (gpus, &self.unit, cost, false));
        let funding = self.funding(now);
        Ok(BookingView { rental: view, funding, access: None, transaction: None })
    }

    /// Whether it may share a transaction: what has to be looked at or written beside a plain booking, has one of its own.
    pub(super) fn is_plain(&self) -> bool {
        let keys = !self.ssh_keys.is_empty() || !self.given_keys.is_empty();
        self.by.is_none() && !keys && self.label.is_none()
    }

    /// The rental that is booked.
    pub(super) fn rental(&self, provider: AccountId, now: UnixSeconds) -> NewRental {
        let quote = &self.quote;
        NewRental {
            id: RentalId::from_uuid(Uuid::now_v7()),
            quote_id: quote.id,
            escrow_id: quote.escrow_id,
            renter: quote.account,
            provider,
            machine: quote.machine,
            gpu_count: quote.gpu_count,
            now,
        }
    }

    /// Whether the quote still holds.
    async fn check(
        &self,
        tx: &mut store::Connection,
        ground: &Ground,
        now: UnixSeconds,
    ) -> Result<(), TxError<Problem>> {
        let quote = &self.quote;
        if quote.expires_at <= now {
            let text = Time(quote.expires_at).text().unwrap_or_default();
            return refuse(Problem::new(Code::QuoteExpired, format!("it expired at {text}")));
        }
        let (state, version, _) = ground.offer;
        if state != OfferState::Listed || version != quote.offer_version {
            let offer = offers::get(tx, quote.offer, now)
                .await?
                .ok_or(StoreError::Missing("the quote's offer"))?;
            // at today's price, which is not that of the facts that are remembered
            let token =
                tokens::at(tx, quote.token).await?.ok_or(StoreError::Missing("the token"))?;
            let order = ordered(quote, &token);
            let before = Some((quote.usd_per_hour.usd(), &order));
            return refuse(changed(&self.app, &offer, before).map_err(TxError::Refused)?);
        }
        // what was announced since the quote; the offer is held, so that nothing is announced meanwhile
        free_of_obstacles(tx, quote.machine, (now, quote.start_by, quote.duration))
            .await?
            .or_else(refuse)?;
        if ground.locked_before {
            let detail = "these terms were locked on the chain before they were booked, so nothing was \
                          held for them; take a new quote, and reclaim the lock on the chain ten minutes \
                          after its start_by";
            return refuse(Problem::new(Code::StateConflict, detail));
        }
        Ok(())
    }

    async fn insert(
        &self,
        tx: &mut store::Connection,
        provider: AccountId,
        now: UnixSeconds,
    ) -> Result<(Rental, Vec<HeldGpu>), TxError<Problem>> {
        let new = self.rental(provider, now);
        match rentals::insert(tx, self.app.store.policy(), &new).await {
            Err(error) if error.is_conflict_on("gpu_rented_once") => {
                refuse(Problem::new(Code::OfferTaken, "somebody booked these GPUs first"))
            }
            Err(error)
                if error.is_conflict_on("rentals_quote_id_key")
                    || error.is_conflict_on("rentals_escrow_id_key") =>
            {
                refuse(Problem::new(Code::AlreadyExists, "this quote is booked already"))
            }
            done => Ok(done?),
        }
    }

    /// How the deposit of a rental that is booked now is locked.
    fn funding(&self, now: UnixSeconds) -> FundingView {
        let (quote, contract) = (&self.quote, &self.contract);
        let deadline = now.saturating_plus(self.app.store.policy().funding_ttl);
        let terms = terms_of(quote);
        let domain = escrow::domain(contract.chain_id, contract.escrow);
        let native = quote.token.is_zero();
        let approve = (!native).then(|| CallView {
            to: quote.token,
            calldata: calldata::approve(contract.escrow, quote.deposit).into(),
        });
        FundingView {
            to: contract.escrow,
            calldata: calldata::lock(&terms, quote.deposit).into(),
            value: if native { quote.deposit } else { Amount::ZERO },
            chain_id: contract.chain_id,
            deadline: Time(deadline),
            approve,
            typed_data: TypedDataView {
                terms: typed_data::terms(&terms, &domain),
                permit: self.permit(deadline),
                authorization: self.authorization(deadline),
            },
        }
    }

    fn permit(&self, deadline: UnixSeconds) -> Option<TypedData> {
        let ((name, version), nonce) = self.signable.permit.as_ref()?;
        Some(typed_data::permit(&Permit {
            token: self.quote.token,
            name,
            version,
            chain_id: self.contract.chain_id,
            owner: self.quote.renter,
            spender: self.contract.escrow,
            value: self.quote.deposit,
            nonce: *nonce,
            deadline,
        }))
    }

    fn authorization(&self, deadline: UnixSeconds) -> Option<TypedData> {
        let domain = self.signable.gasless.as_ref()?;
        let (quote, escrow) = (&self.quote, self.contract.escrow);
        let (terms, valid) = (terms_of(quote), (UnixSeconds(0), deadline));
        let message = signed::authorization(&terms, quote.escrow_id, escrow, quote.deposit, valid);
        Some(typed_data::authorization(&message, domain))
    }
}
