//! What a token is priced by: an oracle, or that it counts as a dollar. The network's file says which.

use alloy::primitives::Address;
use domain::{
    money::{Decimals, UsdMicros},
    oracle::believe,
    time::{Clock as _, Seconds, UnixSeconds},
};
use escrow::bindings::LocalFeed;
use store::tokens::Token;

use super::{Chain, Findings, file::Entry};
use crate::{clock::SystemClock, config::FeedSetting, failure::Failure};

/// What `tokens.price_source` says of a token that counts as a dollar.
const A_DOLLAR: &str = "a US dollar by definition";

/// An oracle.
#[derive(Clone)]
pub(super) struct Feed {
    pub(super) at: Address,
    pub(super) decimals: Decimals,
    pub(super) max_age: Seconds,
}

/// A price, where it is from and since when it is, and who is asked from then on.
pub(super) struct Price {
    pub(super) usd: UsdMicros,
    pub(super) source: String,
    pub(super) at: UnixSeconds,
    pub(super) feed: Option<Feed>,
}

/// A token's price; none where it has none and so is not offered. One that is recorded keeps the price that it has: the
/// worker renews it.
///
/// # Errors
/// If the chain does not answer.
pub(super) async fn of(
    chain: &Chain,
    (entry, setting): (&Entry, Option<&FeedSetting>),
    known: Option<&Token>,
    found: &mut Findings,
) -> Result<Option<Price>, Failure> {
    let symbol = &entry.symbol;
    match (setting, entry.is_dollar) {
        (Some(_), true) => {
            found.fault(&format!("token {symbol} has a feed and is said to be a dollar: choose"));
            Ok(None)
        }
        (Some(setting), false) => asked(chain, setting, known, found).await,
        (None, true) => {
            found.good(&format!("token {symbol} is {A_DOLLAR}, as the network's file says"));
            Ok(Some(Price {
                usd: UsdMicros::new(1_000_000),
                source: A_DOLLAR.to_owned(),
                at: chain.last.timestamp,
                feed: None,
            }))
        }
        (None, false) => {
            found.note(&format!(
                "token {symbol} is not offered: the network's file names no feed for it and does not say that it is a \
                 dollar"
            ));
            Ok(None)
        }
    }
}

async fn asked(
    chain: &Chain,
    FeedSetting { symbol, feed, max_age }: &FeedSetting,
    known: Option<&Token>,
    found: &mut Findings,
) -> Result<Option<Price>, Failure> {
    let round = match chain.client.latest_round(*feed, chain.last.hash).await {
        Ok(round) => round,
        Err(error) => {
            found.fault(&format!("token {symbol}: the feed {feed} does not answer: {error}"));
            return Ok(None);
        }
    };
    let decimals = Decimals::new(round.decimals).map_err(Failure::during("the feed's decimals"))?;
    let (usd, source, at) = match known {
        Some(known) => (known.usd, known.price_source.clone(), known.priced_at),
        None => match believe(&round, decimals, *max_age, None, SystemClock.now().seconds()) {
            Ok(answer) => (answer.usd, format!("chainlink:{feed}"), answer.at),
            Err(error) => {
                found.fault(&format!("token {symbol}: the feed {feed} is not believed: {error}"));
                return Ok(None);
            }
        },
    };
    let pair = chain.ask(*feed, &LocalFeed::descriptionCall {}).await?;
    let pair = pair.unwrap_or_else(|| "it does not say of what".to_owned());
    found.good(&format!(
        "token {symbol} is priced by {feed} ({pair}, {} decimals): {usd} USD",
        round.decimals
    ));
    let feed = Feed { at: *feed, decimals, max_age: *max_age };
    Ok(Some(Price { usd, source, at, feed: Some(feed) }))
}
