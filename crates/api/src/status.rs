//! How the service is, for everybody: whether bookings are taken, and how old everything is that they go by. No balances, no
//! keys, no rentals.

use std::time::Duration;

use alloy::{primitives::Address, sol_types::SolCall as _};
use axum::{extract::State, http::HeaderMap, response::Response};
use chain::ReadClient;
use domain::{
    oracle,
    time::{Seconds, UnixSeconds},
};
use escrow::bindings::Escrow;
use futures_util::future::join_all;
use serde::Serialize;
use store::{
    blocks,
    deployment::Deployment,
    feeds::{self, Priced},
    freezes::{self, Frozen},
    health::{self, Waiting},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{AppState, Code, Problem, cache, kept::Kept, views::Time};

/// What was looked at is told for so long, to everybody, and may be kept by them as long.
const KEPT: Seconds = Seconds(5);
/// How long the chain may take to say which tokens it takes.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(status))
}

/// What was seen last.
pub(crate) type Watched = Kept<StatusView>;

/// Whether rentals can be booked.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct BookingStatus {
    possible: bool,
    /// Why not: `stopping`, `no_contract`, `paused` (the contract takes no deposit in any token), `no_price` (no token
    /// has a price that is vouched for).
    #[schema(value_type = Vec<String>, example = json!([]))]
    why_not: Vec<&'static str>,
}

/// What money waits for a person to look at a figure.
#[derive(Serialize, ToSchema)]
pub(crate) struct FrozenStatus {
    /// All of it.
    everything: bool,
    /// Tokens all of whose money does, by symbol or address.
    tokens: Vec<String>,
    /// Single rentals.
    #[schema(example = 0)]
    rentals: usize,
}

/// How far the chain is followed.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChainStatus {
    #[schema(example = 31337)]
    chain_id: u64,
    /// The newest block that was read.
    followed_block: Option<u64>,
    /// The newest of them that is final.
    final_block: Option<u64>,
    final_block_at: Option<Time>,
    #[schema(value_type = Option<u32>, example = 6)]
    final_block_age_s: Option<Seconds>,
}

/// Things that wait.
#[derive(Serialize, ToSchema)]
pub(crate) struct WaitingStatus {
    #[schema(example = 0)]
    count: u64,
    /// Since when the longest.
    #[schema(value_type = u32, example = 0)]
    oldest_s: Seconds,
}

impl From<Waiting> for WaitingStatus {
    fn from(Waiting { count, oldest }: Waiting) -> Self {
        Self { count, oldest_s: oldest }
    }
}

/// How far behind the calls to the contract are.
#[derive(Serialize, ToSchema)]
pub(crate) struct SettlementStatus {
    /// Calls that could be sent now.
    due: WaitingStatus,
    /// Calls that are sent and not final.
    sent: WaitingStatus,
}

/// The process that talks to the chain.
#[derive(Serialize, ToSchema)]
pub(crate) struct WorkerStatus {
    /// When it last said that it sends; it does every few seconds. Null if it never did.
    seen_at: Option<Time>,
    #[schema(value_type = Option<u32>, example = 3)]
    age_s: Option<Seconds>,
}

/// What can be paid in.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenStatus {
    #[schema(example = "USDC")]
    token: String,
    priced_at: Time,
    #[schema(value_type = u32, example = 20)]
    age_s: Seconds,
    /// Whether quotes are made at this price: it is not too old, and not doubted.
    usable: bool,
    /// Whether the contract takes no deposit in it; null if the chain did not say in time.
    paused: Option<bool>,
}

/// The index that searches go by.
#[derive(Serialize, ToSchema)]
pub(crate) struct MarketStatus {
    /// Whether it is built.
    ready: bool,
    /// How long ago it was last known to be as the database is.
    #[schema(example = 0)]
    age_s: u64,
}

/// How the service is.
#[derive(Serialize, ToSchema)]
pub(crate) struct StatusView {
    as_of: Time,
    booking: BookingStatus,
    /// Nothing is paid from what is named here, and nothing is lost.
    frozen: FrozenStatus,
    chain: ChainStatus,
    settlement: SettlementStatus,
    worker: WorkerStatus,
    tokens: Vec<TokenStatus>,
    market: MarketStatus,
}

/// Whether rentals can be booked, which block is final and how old it is, how long calls to the contract have waited,
/// when the worker was heard of, and how old prices and the market's index are. Looked at every five seconds at most.
#[utoipa::path(get, path = "/v1/status", tag = "system",
    params(("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = StatusView, headers(("ETag", description = "for If-None-Match"))),
              (status = 304, description = "Unchanged since the tag of `If-None-Match`.")))]
async fn status(State(app): State<AppState>, headers: HeaderMap) -> Result<Response, Problem> {
    let (now, own) = (app.now(), app.clone());
    let view = app.status.get(KEPT, now, || async move { look(&own, now).await }).await?;
    cache::json(&headers, KEPT.get(), &view)
}

async fn look(app: &AppState, now: UnixSeconds) -> Result<StatusView, Problem> {
    let mut connection = app.store.read().await?;
    let contract = match app.deployment(&mut connection).await {
        Ok(contract) => Some(contract),
        Err(problem) if problem.code() == Code::NotReady => None,
        Err(problem) => return Err(problem),
    };
    let followed = blocks::tip(&mut connection).await?;
    let last = blocks::final_tip(&mut connection).await?;
    let queues = health::queues(&mut connection, app.store.now()).await?;
    let seen = health::worker_seen(&mut connection).await?;
    let held = freezes::frozen(&mut connection).await?;
    let priced = feeds::priced(&mut connection).await?;
    // the chain may take its time, and a connection is not to wait for it
    drop(connection);
    let paused = paused(&app.chain, contract.as_ref(), &priced).await;
    let frozen = frozen(&held, &priced);
    let tokens: Vec<TokenStatus> = priced
        .into_iter()
        .zip(paused)
        .map(|(priced, paused)| token_status(priced, paused, now))
        .collect();
    Ok(StatusView {
        as_of: Time(now),
        booking: booking(app.leaving.is_cancelled(), contract.is_some(), &tokens),
        frozen,
        chain: ChainStatus {
            chain_id: app.config.chain_id,
            followed_block: followed.map(|block| block.number),
            final_block: last.as_ref().map(|block| block.number),
            final_block_at: last.as_ref().map(|block| Time(block.timestamp)),
            final_block_age_s: last.map(|block| now.saturating_since(block.timestamp)),
        },
        settlement: SettlementStatus {
            due: queues.intents_due.into(),
            sent: queues.intents_sent.into(),
        },
        worker: WorkerStatus {
            seen_at: seen.map(Time),
            age_s: seen.map(|seen| now.saturating_since(seen)),
        },
        tokens,
        market: MarketStatus { ready: app.market.is_built(), age_s: app.market.age().as_secs() },
    })
}

/// Whether the contract takes no deposits in each of these tokens, as far as the chain says so in time.
async fn paused(
    chain: &ReadClient,
    contract: Option<&Deployment>,
    tokens: &[Priced],
) -> Vec<Option<bool>> {
    let unknown = || tokens.iter().map(|_| None).collect();
    let Some(contract) = contract else { return unknown() };
    let asked = join_all(tokens.iter().map(async |priced| {
        let call = Escrow::tokenStateCall { token: priced.token }.abi_encode();
        let answer = chain.call(contract.escrow, call).await.ok()?;
        let state = Escrow::tokenStateCall::abi_decode_returns(&answer).ok()?;
        Some(!state.listed || state.paused)
    }));
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| unknown())
}

fn token_status(priced: Priced, paused: Option<bool>, now: UnixSeconds) -> TokenStatus {
    // without an oracle only a price that is a definition is quoted at
    let usable = priced.bounds.map_or(priced.fixed, |bounds| {
        bounds.doubted_since.is_none() && !oracle::is_stale(priced.at, bounds.max_age, now)
    });
    TokenStatus {
        token: priced.symbol,
        priced_at: Time(priced.at),
        age_s: now.saturating_since(priced.at),
        usable,
        paused,
    }
}

fn frozen(held: &Frozen, tokens: &[Priced]) -> FrozenStatus {
    let name = |token: &Address| {
        let known = tokens.iter().find(|priced| priced.token == *token);
        known.map_or_else(|| token.to_string(), |known| known.symbol.clone())
    };
    FrozenStatus {
        everything: held.everything,
        tokens: held.tokens.iter().map(name).collect(),
        rentals: usize::try_from(held.rentals).unwrap_or(usize::MAX),
    }
}

fn booking(stopping: bool, has_contract: bool, tokens: &[TokenStatus]) -> BookingStatus {
    let open = |token: &TokenStatus| token.paused != Some(true);
    let why_not: Vec<&'static str> = [
        (stopping, "stopping"),
        (!has_contract, "no_contract"),
        (!tokens.is_empty() && !tokens.iter().any(open), "paused"),
        (!tokens.iter().any(|token| token.usable), "no_price"),
    ]
    .into_iter()
    .filter_map(|(holds, why)| holds.then_some(why))
    .collect();
    let payable = tokens.iter().any(|token| open(token) && token.usable);
    let why_not = if why_not.is_empty() && !payable { vec!["no_price"] } else { why_not };
    BookingStatus { possible: why_not.is_empty(), why_not }
}

#[cfg(test)]
mod tests {
    use store::quotes::Bounds;

    use super::*;

    fn token(usable: bool, paused: Option<bool>) -> TokenStatus {
        let at = UnixSeconds(1);
        TokenStatus {
            token: "T".to_owned(),
            priced_at: Time(at),
            age_s: Seconds(1),
            usable,
            paused,
        }
    }

    #[test]
    fn a_price_without_an_oracle_is_usable_only_if_it_is_a_definition() {
        let usable = |fixed, bounds| {
            let (token, symbol) = (Address::ZERO, "T".to_owned());
            let priced = Priced { token, symbol, at: UnixSeconds(100), fixed, bounds };
            token_status(priced, None, UnixSeconds(120)).usable
        };
        let bounds = |max_age, doubted_since| Some(Bounds { max_age, doubted_since });
        assert!(usable(true, None) && !usable(false, None));
        // with one it is its answer's age that counts, whatever the price was before
        for fixed in [false, true] {
            assert!(usable(fixed, bounds(Seconds(60), None)));
            assert!(!usable(fixed, bounds(Seconds(10), None)));
            assert!(!usable(fixed, bounds(Seconds(60), Some(UnixSeconds(110)))));
        }
    }

    #[test]
    fn bookings_need_a_contract_and_one_token_that_is_taken_at_a_price() {
        let good = || token(true, Some(false));
        let why = |stopping, contract, tokens: &[TokenStatus]| {
            let said = booking(stopping, contract, tokens);
            assert_eq!(said.possible, said.why_not.is_empty());
            said.why_not
        };
        assert_eq!(why(false, true, &[good()]), [""; 0]);
        // a chain that does not answer is no reason
        assert_eq!(why(false, true, &[token(true, None)]), [""; 0]);
        assert_eq!(why(false, true, &[good(), token(false, Some(true))]), [""; 0]);
        assert_eq!(why(true, true, &[good()]), ["stopping"]);
        assert_eq!(why(false, false, &[good()]), ["no_contract"]);
        assert_eq!(why(false, true, &[token(true, Some(true))]), ["paused"]);
        assert_eq!(why(false, true, &[token(false, Some(false))]), ["no_price"]);
        assert_eq!(why(false, true, &[]), ["no_price"]);
        // one is taken and has no price, the other has one and is not taken
        assert_eq!(why(false, true, &[token(true, Some(true)), token(false, None)]), ["no_price"]);
    }
}
