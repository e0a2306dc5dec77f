//! The receipt that a stranger can check: everything that it rests on in one document, signed by the platform.

use std::{sync::Arc, time::Duration};

use alloy::primitives::{Address, B256};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use domain::{
    billing::auto_stop_second,
    id::{AccountId, RentalId},
    metering::Interval,
    quote::QuoteLine,
    rental::RentalState,
};
use escrow::{
    EscrowEvent,
    reading::recover_hash,
    receipt::{
        ChainEvent, FORMAT, Item, MAX_INLINE, MAX_OUTAGES, Metered, Readings, Receipt, Seal,
        SignedQuote, Totals,
    },
};
use serde::Deserialize;
use store::{Connection, StoreError, blocks, deployment, quotes::Quote, readings, rentals::Rental};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{quotes::promised, rentals::of_party};
use crate::{
    AppState, Code, Problem,
    extract::{Id, Parameters, Params},
    identity::Wallet,
    problem::internal,
    streams::{Full, Seat, Seats},
};

/// Events that a receipt can hold. Anybody can add top-ups.
const MAX_EVENTS: i64 = 2_000;

const NO_KEY: &str = "this service has no key to sign receipts with";
/// Receipts that are put together at once: one can have 15 MB, several times, or a chain of a million readings.
const AT_ONCE: usize = 2;
/// Those that may be put together or wait for it, in a process and of one account: nobody waits because of one caller's
/// many.
const MOST: usize = 32;
const SHARE: usize = 2;
/// How long somebody waits for a turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Turns at putting receipts together.
#[derive(Clone)]
pub(crate) struct Seals {
    seats: Seats<AccountId>,
    turns: Arc<Semaphore>,
}

impl Default for Seals {
    fn default() -> Self {
        Self { seats: Seats::new(MOST, SHARE), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

/// A turn, which lasts until it is dropped.
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
    _seat: Seat<AccountId>,
}

impl Seals {
    /// Waits for a turn of a party's.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if too many wait, or too many of the account's, or it takes too long.
    pub(super) async fn take(&self, account: AccountId) -> Result<Turn, Problem> {
        let busy = |detail: &str| Problem::new(Code::Unavailable, detail);
        let seat = self.seats.take(Some(account)).map_err(|full| {
            busy(match full {
                Full::Share => "as many of your receipts as may be are being put together",
                Full::All => "too many receipts are being put together; come again later",
            })
        })?;
        match tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await {
            Ok(turn) => Ok(Turn { _permit: turn.map_err(internal)?, _seat: seat }),
            Err(_) => Err(busy("too many receipts are being put together; come again later")),
        }
    }
}

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read))
}

/// Where the readings are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// In the document.
    #[default]
    Inline,
    /// At `/v1/rentals/{id}/readings`; the document holds the hash that covers them.
    Apart,
}

/// What the document is to hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SealedParams {
    /// `inline` (the default; at most 10,000) or `apart`.
    #[param(inline)]
    readings: Option<Place>,
}

impl Parameters for SealedParams {
    const NAMES: &'static [&'static str] = &["readings"];
}

/// The receipt of a rental that has ended, to be kept and to be shown to anybody: `weir verify FILE` checks it offline,
/// and with `--rpc URL` against the chain. It is JSON in one form, with sorted keys and no spaces, and every byte of it
/// counts: save it as it comes. Only its renter and its provider get it.
#[utoipa::path(get, path = "/v1/rentals/{id}/sealed-receipt", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f"), SealedParams),
    responses((status = 200, body = Value, description = "The document; docs/RECEIPTS.md tells its fields.",
        example = json!({"format": "weir-receipt-1", "chain_id": 137}))))]
async fn read(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
    Params(params): Params<SealedParams>,
) -> Result<Response, Problem> {
    let account = wallet.account.id;
    let mut connection = app.store.read().await?;
    let (rental, quote) = of_party(&mut connection, account, id).await?;
    drop(connection);
    // before anything of it is in memory, for a party only; no connection waits for it
    let turn = app.seals.take(account).await?;
    let mut connection = app.store.read().await?;
    let place = params.readings.unwrap_or_default();
    let mut receipt = receipt(&mut connection, &app, &rental, &quote, place).await?;
    drop(connection);
    let sealed = tokio::task::spawn_blocking(move || {
        // it ends with the work, not with whoever waits for it
        let _turn = turn;
        let key = app.config.quoter.as_ref();
        let key = key.ok_or_else(|| Problem::new(Code::StateConflict, NO_KEY))?;
        receipt.seal(key).map_err(internal)?;
        Ok::<_, Problem>(receipt.text())
    });
    let mut answer = sealed.await.map_err(internal)??.into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let name = HeaderValue::from_str(&format!("attachment; filename=\"{id}.json\""));
    headers.insert(header::CONTENT_DISPOSITION, name.map_err(internal)?);
    Ok(answer)
}

async fn receipt(
    connection: &mut Connection,
    app: &AppState,
    rental: &Rental,
    quote: &Quote,
    place: Place,
) -> Result<Receipt, Problem> {
    let state = rental.progress.state;
    if !matches!(state, RentalState::Settled | RentalState::Refunded | RentalState::Resolved) {
        let detail = format!("the rental is {state}; its receipt is sealed once all of it is paid");
        return Err(Problem::new(Code::ReceiptNotReady, detail));
    }
    let unsigned = |what: &str| Problem::new(Code::StateConflict, what);
    if app.config.quoter.is_none() {
        return Err(unsigned(NO_KEY));
    }
    let seal = quote.seal.as_ref();
    let seal = seal.ok_or_else(|| unsigned("the rental's quote was never signed"))?;
    let contract = app.known(deployment::get(connection).await?)?;
    let lines: Vec<QuoteLine> = serde_json::from_value(quote.lines.clone()).map_err(internal)?;
    let events = events(connection, rental.escrow_id).await?;
    Ok(Receipt {
        format: FORMAT.to_owned(),
        chain_id: contract.chain_id,
        escrow: contract.escrow,
        rental: rental.id.to_string(),
        quote: SignedQuote {
            message: (&promised(quote, &lines)?).into(),
            signer: seal.signer,
            signature: seal.signature.to_vec().into(),
        },
        readings: evidence(connection, rental.id, place).await?,
        metered: metered(connection, rental, quote, &events).await?,
        events,
        totals: Totals {
            deposit: rental.locked,
            billed: rental.billed.unwrap_or_default(),
            provider: rental.paid_provider,
            fee: rental.paid_fee,
            refund: rental.paid_refund,
        },
        seal: Seal::default(),
    })
}

/// All that the contract said, final only.
async fn events(connection: &mut Connection, escrow_id: B256) -> Result<Vec<ChainEvent>, Problem> {
    let seen = blocks::events_for(connection, escrow_id, MAX_EVENTS).await?;
    if i64::try_from(seen.len()).map_err(internal)? >= MAX_EVENTS {
        let detail =
            format!("the chain has {MAX_EVENTS} events of it or more: too many for a document");
        return Err(Problem::new(Code::StateConflict, detail));
    }
    let final_ones = seen.into_iter().filter(|event| event.is_final);
    final_ones
        .map(|event| {
            Ok(ChainEvent {
                tx: event.tx_hash,
                block: event.block_number,
                at: event.at,
                log: event.log_index,
                said: serde_json::from_value(event.body).map_err(StoreError::corrupt)?,
            })
        })
        .collect()
}

/// The chain of readings, and whose it is.
async fn evidence(
    connection: &mut Connection,
    id: RentalId,
    place: Place,
) -> Result<Readings, Problem> {
    let Some(head) = readings::head(connection, id).await? else {
        return Ok(Readings { agent: None, count: 0, root: B256::ZERO, items: Vec::new() });
    };
    if place == Place::Inline && head.seq > MAX_INLINE {
        let detail = format!("there are {} readings; ask for ?readings=apart", head.seq);
        return Err(Problem::new(Code::StateConflict, detail).at("?readings", "apart"));
    }
    let wanted = if place == Place::Inline { MAX_INLINE } else { 1 };
    let limit = i64::try_from(wanted).map_err(internal)?;
    let found = readings::list(connection, id, 0, limit).await?;
    let first = found.first().ok_or(StoreError::Missing("the rental's first reading"))?;
    // the machine may have another key by now
    let agent: Address = recover_hash(&first.hash, &first.signature).map_err(internal)?;
    let items = if place == Place::Inline { found } else { Vec::new() };
    let items = items.into_iter().map(|reading| Item {
        seq: reading.seq,
        from: reading.span.from,
        to: reading.span.to,
        detail: reading.detail,
        prev_hash: reading.prev_hash,
        signature: reading.signature.to_vec().into(),
    });
    Ok(Readings { agent: Some(agent), count: head.seq, root: head.hash, items: items.collect() })
}

/// What the readings come to, from the start as the chain has it.
async fn metered(
    connection: &mut Connection,
    rental: &Rental,
    quote: &Quote,
    events: &[ChainEvent],
) -> Result<Option<Metered>, Problem> {
    let started = events.iter().find_map(|event| {
        let EscrowEvent::Started { started_at, .. } = event.said else { return None };
        Some(started_at)
    });
    let Some((from, to)) = started.zip(rental.progress.stopped_at) else { return Ok(None) };
    let window = Interval::new(from, to);
    let auto_stop = auto_stop_second(rental.locked, quote.rate);
    let found = readings::billing(connection, rental.id, window, auto_stop, MAX_OUTAGES).await?;
    let (outages, left_out) = if found.more {
        let count = readings::outages(connection, rental.id, window, auto_stop).await?;
        (Vec::new(), Some(count))
    } else {
        (found.newest, None)
    };
    Ok(Some(Metered { window, elapsed: found.elapsed, covered: found.billed, outages, left_out }))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn an_account_has_its_share_of_the_turns_and_others_wait_for_theirs() {
        let seals = Seals::default();
        let fresh = || AccountId::from_uuid(Uuid::now_v7());
        let (one, other) = (fresh(), fresh());
        let held = [seals.take(one).await.unwrap(), seals.take(one).await.unwrap()];
        // at once, and without a place among those who wait
        let refused = seals.take(one).now_or_never().unwrap().map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(seals.take(other).now_or_never().is_none(), "both turns are taken");
        drop(held);
        assert!(seals.take(other).await.is_ok());
        assert!(seals.take(one).await.is_ok(), "what was held is given back");
    }

    #[tokio::test]
    async fn so_many_wait_and_no_more() {
        let seals = Seals::default();
        let fresh = || AccountId::from_uuid(Uuid::now_v7());
        let mut asked: Vec<_> = (0..MOST).map(|_| Box::pin(seals.take(fresh()))).collect();
        let turns: Vec<_> =
            asked.iter_mut().filter_map(|one| one.as_mut().now_or_never()).collect();
        assert_eq!(turns.len(), AT_ONCE, "the others wait");
        let refused = seals.take(fresh()).now_or_never().unwrap().map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        drop((turns, asked));
        assert!(seals.take(fresh()).await.is_ok());
    }
}
