//! Tokens of a local chain that are no dollars, each with a price feed that answers what its deployer says: the way from
//! an oracle to a quote is the real one, the prices are made up.

use alloy::{
    primitives::{Address, I256, U256},
    sol_types::{SolCall, SolConstructor},
};
use chain::ReadClient;
use domain::{
    money::{Decimals, UsdMicros},
    time::{Seconds, UnixSeconds},
};
use escrow::bindings::{LocalFeed, LocalToken};
use store::{Store, feeds, tokens::Token};

use super::{Roles, with_arguments};
use crate::{failure::Failure, wallet::Wallet};

/// Decimals of the feeds, as Chainlink's in dollars have them.
const DECIMALS: u8 = 8;
/// The longest that there can be: nobody renews these prices but `weir up` when it starts.
pub(super) const MAX_AGE: Seconds = Seconds(604_800);
/// Name, symbol, decimals, and dollars for one in hundredths of a millionth.
const WRAPPED: [(&str, &str, u8, u64); 2] =
    [("Wrapped Ether", "WETH", 18, 300_000_000_000), ("Wrapped SOL", "SOL", 9, 15_000_000_000)];
/// Dollars for a coin, in hundredths of a millionth.
const POL: u64 = 25_000_000;
/// What the renter gets of each wrapped token, in whole ones.
const GIFT: u128 = 100;

/// A token and its feed.
#[derive(Clone, Debug)]
pub(super) struct Priced {
    pub(super) token: Token,
    pub(super) feed: Address,
    pub(super) decimals: Decimals,
}

impl Priced {
    /// The same, priced at this time.
    pub(super) fn at(&self, at: UnixSeconds) -> Self {
        Self { token: Token { priced_at: at, ..self.token.clone() }, ..self.clone() }
    }
}

/// Deploys the feeds, and the tokens but for the coin.
///
/// # Errors
/// The chain's.
pub(super) async fn deploy(owner: &Wallet, renter: Address) -> Result<Vec<Priced>, Failure> {
    let mut priced = vec![listed(owner, (Address::ZERO, "POL", 18, POL)).await?];
    for (name, symbol, decimals, answer) in WRAPPED {
        let places = Decimals::new(decimals).map_err(Failure::during("decimals"))?;
        let constructor = LocalToken::constructorCall {
            name_: name.to_owned(),
            symbol_: symbol.to_owned(),
            decimals_: decimals,
            holder: renter,
            amount: U256::from(GIFT.saturating_mul(places.base_units())),
        };
        let code = with_arguments(&LocalToken::BYTECODE, constructor.abi_encode());
        let (address, _) = owner.deploy(code).await?;
        priced.push(listed(owner, (address, symbol, decimals, answer)).await?);
    }
    Ok(priced)
}

/// A token with a new feed.
async fn listed(
    owner: &Wallet,
    (address, symbol, decimals, answer): (Address, &str, u8, u64),
) -> Result<Priced, Failure> {
    let constructor = LocalFeed::constructorCall {
        decimals_: DECIMALS,
        description_: format!("{symbol} / USD"),
        answer_: I256::try_from(answer).map_err(Failure::during("a local price"))?,
    };
    let code = with_arguments(&LocalFeed::BYTECODE, constructor.abi_encode());
    let (feed, _) = owner.deploy(code).await?;
    let token = Token {
        address,
        symbol: symbol.to_owned(),
        decimals: Decimals::new(decimals).map_err(Failure::during("decimals"))?,
        usd: UsdMicros::new(answer / 100),
        price_source: format!("chainlink:{feed}"),
        priced_at: UnixSeconds(0),
        fixed: false,
        permit: None,
    };
    let decimals = Decimals::new(DECIMALS).map_err(Failure::during("decimals"))?;
    Ok(Priced { token, feed, decimals })
}

/// Has the feeds of a local chain answer anew what they answered before, as their prices would be too old one day.
///
/// # Errors
/// The chain's, or the database's.
pub(super) async fn renew(
    store: &Store,
    client: &ReadClient,
    rpc_url: &str,
    is_local: bool,
) -> Result<(), Failure> {
    if !is_local {
        return Ok(());
    }
    let known = {
        let mut connection = store.read().await.map_err(Failure::during("the database"))?;
        feeds::list(&mut connection).await.map_err(Failure::during("the database"))?
    };
    for feed in known {
        let owner = Wallet::open(Roles::OWNER, rpc_url).await?;
        let asked = client.call(feed.feed, LocalFeed::OWNERCall {}.abi_encode()).await;
        let theirs =
            asked.ok().and_then(|told| LocalFeed::OWNERCall::abi_decode_returns(&told).ok());
        if theirs != Some(owner.address()) {
            continue;
        }
        let told = client
            .call(feed.feed, LocalFeed::latestRoundDataCall {}.abi_encode())
            .await
            .map_err(Failure::during("a local price feed"))?;
        let round = LocalFeed::latestRoundDataCall::abi_decode_returns(&told)
            .map_err(Failure::during("a local price feed"))?;
        let again = LocalFeed::setCall { answer_: round.answer }.abi_encode();
        owner.send(feed.feed, again, U256::ZERO).await?;
    }
    Ok(())
}
