//! What a rental came to, in a form that can be checked without trusting the service.

use alloy::primitives::{Address, B256};
use axum::{Json, extract::State};
use domain::{
    billing::auto_stop_second, id::RentalId, metering::Interval, money::Amount,
    rental::RentalState, time::Seconds,
};
use escrow::{reading::recover_hash, receipt::MAX_INLINE};
use serde::Serialize;
use serde_json::Value;
use store::{
    Connection, StoreError, blocks, deployment, intents, quotes::Quote, readings, rentals::Rental,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    held::{HeldView, held},
    quotes::{terms_of, unit_of},
    rentals::{RentalView, of_party, rental_view},
};
use crate::{
    AppState, Code, Problem,
    extract::Id,
    identity::Wallet,
    problem::internal,
    views::{Time, TokenAmount, Unit, Usd, usd_of},
};

/// Events that a receipt shows at most, beside the lock. Anybody can add top-ups.
const MAX_EVENTS: i64 = 200;
/// Outages that a receipt shows at most. An agent that stutters makes a million of them in a month.
const MAX_OUTAGES: u32 = 1_000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read))
}

/// A share of the deposit.
#[derive(Serialize, ToSchema)]
pub(crate) struct ShareView {
    amount: TokenAmount,
    /// At the rate that the quote fixed, rounded down.
    usd: Usd,
}

impl ShareView {
    /// # Errors
    /// [`Code::Internal`] for figures out of range.
    pub(super) fn new(amount: Amount, quote: &Quote, unit: &Unit) -> Result<Self, Problem> {
        Ok(Self { amount: unit.amount(amount), usd: usd_of(amount, quote)? })
    }

    /// Base units and dollars, as text.
    pub(super) fn texts(&self) -> (String, String) {
        (self.amount.base_units.to_string(), self.usd.amount.to_string())
    }
}

/// Who got what; together it is the deposit, to the base unit.
#[derive(Serialize, ToSchema)]
pub(crate) struct SplitView {
    provider: ShareView,
    fee: ShareView,
    refund: ShareView,
}

/// The evidence in a word.
#[derive(Serialize, ToSchema)]
pub(crate) struct EvidenceView {
    /// How many readings there are.
    count: u64,
    /// The hash of the last one, which by naming the one before covers all; zero without any.
    #[schema(value_type = String)]
    root: B256,
    /// Who signed them; null without any. The machine may have another key by now.
    #[schema(value_type = Option<String>)]
    agent: Option<Address>,
}

/// A stretch of time that was not billed.
#[derive(Serialize, ToSchema)]
pub(crate) struct OutageView {
    from: Time,
    to: Time,
    #[schema(value_type = u32)]
    seconds: Seconds,
}

/// An event of the contract.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChainEventView {
    #[schema(example = "closed")]
    name: String,
    #[schema(value_type = String)]
    tx_hash: B256,
    block: u64,
    /// Its position in the block.
    #[schema(example = 3)]
    log_index: u32,
    at: Time,
    /// Whether its block is final.
    is_final: bool,
    body: Value,
}

impl ChainEventView {
    pub(super) const fn is_final(&self) -> bool {
        self.is_final
    }
}

/// A transaction that the platform sent.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChainTxView {
    /// `start`, `close`, `cancel`, `finalize`, `release` or `lock`.
    #[schema(example = "close")]
    purpose: String,
    state: String,
    #[schema(value_type = Option<String>)]
    tx_hash: Option<B256>,
    block: Option<u64>,
}

/// A receipt.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReceiptView {
    rental: RentalView,
    /// The terms whose EIP-712 hash is the `escrow_id`.
    #[schema(value_type = Value)]
    terms: escrow::typed_data::TypedData,
    deposit: TokenAmount,
    /// By the chain; 0 while some seconds are held.
    #[schema(value_type = u32)]
    seconds_billed: Seconds,
    /// Seconds of the rental that were not covered by readings.
    #[schema(value_type = u32)]
    outage_s: Seconds,
    /// In how many stretches they lie.
    outages_total: u64,
    /// Where they lie; the newest 1,000 stretches. Readings tell of the others.
    outages: Vec<OutageView>,
    readings: EvidenceView,
    /// What was paid so far; together with what is held it is the deposit.
    split: SplitView,
    /// What the contract holds, while it does.
    held: Option<HeldView>,
    /// The lock and the newest 200 events after it.
    events: Vec<ChainEventView>,
    txs: Vec<ChainTxView>,
    /// How to check all of it.
    verify: &'static str,
}

const VERIFY: &str = "1. Hash `terms` by EIP-712 with the domain of /v1/deployment: it is the rental's \
    escrow_id. 2. Fetch /v1/rentals/{id}/readings: each is signed by `readings.agent`, names the hash of \
    the one before, and the last hash is `readings.root`. 3. The seconds that they cover between \
    `started_at` and `stopped_at`, at least 1, are `seconds_billed`. 4. gross = min(deposit, \
    floor(seconds_billed * pricePerHour / 3600)); fee = floor(gross * feeBps / 10000); provider = gross - \
    fee; refund = deposit - gross. 5. The contract's Closed event of `events` says the same, in a final \
    block; where seconds were held, its Contested and Closed events together do. All of it in one signed \
    document is at /v1/rentals/{id}/sealed-receipt: `weir verify FILE --rpc URL` does these steps.";

/// The receipt of a rental that is settled or given back, or of which some seconds are held: then with what is
/// held. Only its renter and its provider see it.
#[utoipa::path(get, path = "/v1/rentals/{id}/receipt", tag = "renter", security(("bearer" = [])),
    params(("id" = String, Path, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")),
    responses((status = 200, body = ReceiptView)))]
async fn read(
    State(app): State<AppState>,
    wallet: Wallet,
    Id(id): Id<RentalId>,
) -> Result<Json<ReceiptView>, Problem> {
    let account = wallet.account.id;
    let mut connection = app.store.read().await?;
    let (mut rental, mut quote) = of_party(&mut connection, account, id).await?;
    let state = rental.progress.state;
    let has_receipt = matches!(
        state,
        RentalState::Settled
            | RentalState::Refunded
            | RentalState::Contested
            | RentalState::Resolved
    );
    if !has_receipt {
        let detail = format!("the rental is {state}; there is a receipt once money has moved");
        return Err(Problem::new(Code::ReceiptNotReady, detail));
    }
    let mut readings = evidence(&mut connection, &rental).await?;
    // a long chain is gone through in turn; no connection waits for it
    let _turn = if readings.count > MAX_INLINE {
        drop(connection);
        let turn = app.seals.take(account).await?;
        connection = app.store.read().await?;
        // it may have moved on meanwhile, from one state with a receipt to another
        (rental, quote) = of_party(&mut connection, account, id).await?;
        readings = evidence(&mut connection, &rental).await?;
        Some(turn)
    } else {
        None
    };
    let outages = Outages::of(&mut connection, &rental, &quote).await?;
    let contract = app.known(deployment::get(&mut connection).await?)?;
    let unit = unit_of(&mut connection, quote.token, contract.chain_id).await?;
    let domain = escrow::domain(contract.chain_id, contract.escrow);
    Ok(Json(ReceiptView {
        terms: escrow::typed_data::terms(&terms_of(&quote), &domain),
        deposit: unit.amount(rental.locked),
        seconds_billed: rental.billed.unwrap_or(Seconds::ZERO),
        outage_s: outages.seconds,
        outages_total: outages.total,
        outages: outages.newest,
        readings,
        split: split_view(&rental, &quote, &unit)?,
        held: held(&mut connection, &rental, &quote, &unit).await?,
        events: events_of(&mut connection, rental.escrow_id).await?,
        txs: transactions(&mut connection, id).await?,
        rental: rental_view(&mut connection, &app, &rental, &quote, account).await?,
        verify: VERIFY,
    }))
}

fn split_view(rental: &Rental, quote: &Quote, unit: &Unit) -> Result<SplitView, Problem> {
    let share = |amount: Amount| ShareView::new(amount, quote, unit);
    Ok(SplitView {
        provider: share(rental.paid_provider)?,
        fee: share(rental.paid_fee)?,
        refund: share(rental.paid_refund)?,
    })
}

/// What was not billed.
#[derive(Default)]
struct Outages {
    seconds: Seconds,
    total: u64,
    newest: Vec<OutageView>,
}

impl Outages {
    async fn of(
        connection: &mut Connection,
        rental: &Rental,
        quote: &Quote,
    ) -> Result<Self, Problem> {
        let Some(window) = rental.progress.billing_window() else {
            return Ok(Self::default());
        };
        let auto_stop = auto_stop_second(rental.locked, quote.rate);
        let found =
            readings::billing(connection, rental.id, window, auto_stop, MAX_OUTAGES).await?;
        let total = if found.more {
            readings::outages(connection, rental.id, window, auto_stop).await?
        } else {
            u64::try_from(found.newest.len()).map_err(internal)?
        };
        let view = |outage: Interval| OutageView {
            from: Time(outage.from),
            to: Time(outage.to),
            seconds: outage.seconds(),
        };
        Ok(Self {
            seconds: found.elapsed.saturating_sub(found.billed),
            total,
            newest: found.newest.into_iter().map(view).collect(),
        })
    }
}

async fn evidence(connection: &mut Connection, rental: &Rental) -> Result<EvidenceView, Problem> {
    let Some(head) = readings::head(connection, rental.id).await? else {
        return Ok(EvidenceView { count: 0, root: B256::ZERO, agent: None });
    };
    let newest = readings::get(connection, rental.id, head.seq).await?;
    let newest = newest.ok_or(StoreError::Missing("the rental's newest reading"))?;
    let agent = recover_hash(&newest.hash, &newest.signature).map_err(internal)?;
    Ok(EvidenceView { count: head.seq, root: head.hash, agent: Some(agent) })
}

/// The lock of an escrow and the newest events after it.
///
/// # Errors
/// The store's.
pub(super) async fn events_of(
    connection: &mut Connection,
    escrow_id: B256,
) -> Result<Vec<ChainEventView>, StoreError> {
    let mut seen = blocks::events_for(connection, escrow_id, MAX_EVENTS).await?;
    if !seen.iter().any(|event| event.name == "locked") {
        let lock = blocks::lock_of(connection, escrow_id).await?;
        seen.splice(0..0, lock);
    }
    Ok(seen
        .into_iter()
        .map(|event| ChainEventView {
            name: event.name,
            tx_hash: event.tx_hash,
            block: event.block_number,
            log_index: event.log_index,
            at: Time(event.at),
            is_final: event.is_final,
            body: event.body,
        })
        .collect())
}

async fn transactions(
    connection: &mut Connection,
    id: RentalId,
) -> Result<Vec<ChainTxView>, Problem> {
    let steps = intents::for_rental(connection, id).await?;
    Ok(steps
        .into_iter()
        .map(|step| ChainTxView {
            purpose: step.purpose,
            state: step.state,
            tx_hash: step.tx_hash,
            block: step.block,
        })
        .collect())
}
