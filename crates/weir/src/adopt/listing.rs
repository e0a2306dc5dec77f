//! The network's tokens, as the chain and the database have them.

use alloy::primitives::Address;
use domain::money::Decimals;
use escrow::{
    bindings::{Escrow, TestUSDC},
    signed,
};
use store::{
    Store, feeds,
    tokens::{self, Token},
};

use super::{
    Chain, Findings,
    file::{Entry, Manifest, Names, Network},
    price::{self, Feed, Price},
};
use crate::{
    config::{self, FeedSetting},
    failure::Failure,
};

/// What is to be recorded of a token.
#[derive(Clone)]
pub(super) struct Listing {
    pub(super) token: Token,
    /// Whether it is to be written: the database lacks it, or has it as a dollar where the network's file does not, or the
    /// other way round.
    pub(super) is_due: bool,
    /// The oracle to be named; none where it has none, or one is named.
    pub(super) feed: Option<Feed>,
}

/// Looks at every token of the network. What the database has is compared, and left as it is unless it has the token on
/// the market and prices it in another way.
///
/// # Errors
/// If chain or database do not answer, or the network's file makes no sense.
pub(super) async fn check(
    chain: &Chain,
    store: &Store,
    (manifest, network): (&Manifest, &Network),
    found: &mut Findings,
) -> Result<Vec<Listing>, Failure> {
    let settings = config::feeds("priceFeeds of the network's file", &network.price_feeds)?;
    for FeedSetting { symbol, .. } in &settings {
        if !network.tokens.iter().any(|entry| &entry.symbol == symbol) {
            found.fault(&format!("{symbol} has a feed and is no token of the network's file"));
        }
    }
    let mut listings = Vec::new();
    for entry in &network.tokens {
        let setting = settings.iter().find(|setting| setting.symbol == entry.symbol);
        let look = Look { chain, store, manifest, entry };
        listings.extend(look.at_it(setting, found).await?);
    }
    if listings.is_empty() {
        found.fault("no token of the network's file can be offered");
    }
    Ok(listings)
}

/// At one token.
struct Look<'a> {
    chain: &'a Chain,
    store: &'a Store,
    manifest: &'a Manifest,
    entry: &'a Entry,
}

impl Look<'_> {
    async fn at_it(
        &self,
        setting: Option<&FeedSetting>,
        found: &mut Findings,
    ) -> Result<Option<Listing>, Failure> {
        let symbol = &self.entry.symbol;
        let Some(address) = self.address(found) else {
            return Ok(None);
        };
        let decimals = Decimals::new(self.entry.decimals).map_err(Failure::during(symbol))?;
        let (known, is_listed) = self.known(address).await?;
        let before = found.count();
        self.taken(address, found).await?;
        let permit = self.contract(address, found).await?;
        if found.count() == before {
            let permits = permit.as_ref().map_or("no permits".to_owned(), |(name, version)| {
                format!("permits of {name:?} version {version:?}")
            });
            found.good(&format!(
                "token {symbol} {address}: listed, {} decimals, {permits}",
                self.entry.decimals
            ));
        }
        let fixed = self.entry.is_dollar;
        let is_other = known.as_ref().is_some_and(|known| known.fixed != fixed);
        let again = is_other && is_listed;
        if known.is_some() && !is_listed {
            found.note(&format!(
                "token {symbol} {address} was taken off the market, and stays off it{}",
                if is_other { ", priced as it was" } else { "" }
            ));
        } else if again {
            let has = if fixed { "priced by an oracle" } else { "a US dollar by definition" };
            found.note(&format!(
                "token {symbol} {address} is {has} in the database and not in the network's file: it is written again"
            ));
        }
        // what was the price of a dollar is none that an oracle gave
        let priced_before = known.as_ref().filter(|_| !again);
        let priced = price::of(self.chain, (self.entry, setting), priced_before, found).await?;
        let Some(Price { usd, source: price_source, at: priced_at, feed }) = priced else {
            let known = known.filter(|_| again && found.count() == before);
            // nobody says any more that it is a dollar: from now on nothing is quoted in it
            return Ok(known.map(|known| Listing {
                token: Token { fixed: false, ..known },
                is_due: true,
                feed: None,
            }));
        };
        let symbol = symbol.clone();
        let token =
            Token { address, symbol, decimals, usd, price_source, priced_at, fixed, permit };
        let is_new = known.is_none();
        if known.is_some_and(|known| identity(&known) != identity(&token)) {
            found.fault(&format!("the row of {address} in `tokens` is not what the chain says"));
        }
        let feed = match feed {
            Some(feed) if !is_new => self.unnamed(&token, feed, found).await?,
            feed => feed,
        };
        Ok(Some(Listing { token, is_due: is_new || again, feed }))
    }

    /// What the database has of it, and whether that is on the market.
    async fn known(&self, address: Address) -> Result<(Option<Token>, bool), Failure> {
        let mut connection = self.store.read().await.map_err(Failure::during("the database"))?;
        let known = tokens::at(&mut connection, address).await;
        let known = known.map_err(Failure::during("the database"))?;
        let listed = tokens::list(&mut connection).await;
        let listed = listed.map_err(Failure::during("the database"))?;
        Ok((known, listed.iter().any(|token| token.address == address)))
    }

    /// In the network's file, or of a test token in the manifest; both must say the same.
    fn address(&self, found: &mut Findings) -> Option<Address> {
        let symbol = &self.entry.symbol;
        let deployed = self.manifest.tokens.iter().find(|token| &token.symbol == symbol);
        let deployed = deployed.map(|token| token.address);
        match (self.entry.address, deployed) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                found.fault(&format!(
                    "{symbol} is {ours} in the network's file, {theirs} in the manifest"
                ));
                None
            }
            (Some(address), _) | (None, Some(address)) => Some(address),
            (None, None) => {
                found.fault(&format!("{symbol} has no address in the network's file"));
                None
            }
        }
    }

    /// Whether the contract takes it.
    async fn taken(&self, address: Address, found: &mut Findings) -> Result<(), Failure> {
        let call = Escrow::tokenStateCall { token: address };
        let state = self.chain.ask(self.manifest.escrow.address, &call).await?;
        let symbol = &self.entry.symbol;
        match state {
            Some(state) if state.listed && !state.paused => {}
            Some(state) if state.listed => {
                found.fault(&format!("token {symbol} {address} is paused on the contract"));
            }
            Some(_) | None => {
                found.fault(&format!("token {symbol} {address} is not listed on the contract"));
            }
        }
        Ok(())
    }

    /// Symbol, decimals and code as the token itself has them; the name and version that permits are signed with.
    async fn contract(
        &self,
        address: Address,
        found: &mut Findings,
    ) -> Result<Option<(String, String)>, Failure> {
        if address.is_zero() {
            return Ok(None);
        }
        let Entry { symbol, decimals, domain, .. } = self.entry;
        let said = self.chain.ask(address, &TestUSDC::symbolCall {}).await?;
        if said.as_ref() != Some(symbol) {
            let said = said.unwrap_or_default();
            found.fault(&format!("token {symbol} {address} says that its symbol is {said:?}"));
        }
        let said = self.chain.ask(address, &TestUSDC::decimalsCall {}).await?;
        if said != Some(*decimals) {
            let said = said.map_or("none".to_owned(), |said| said.to_string());
            found.fault(&format!(
                "token {symbol} {address} says that its decimals are {said}, not {decimals}"
            ));
        }
        let deployed = self.manifest.tokens.iter().find(|token| token.address == address);
        let code = self.chain.client.code_hash(address).await;
        let code = code.map_err(Failure::during("the chain"))?;
        if deployed.is_some_and(|token| token.code_hash != code) {
            // its issuer may exchange it; that is worth a look, and no fault of the deployment
            found.note(&format!("token {symbol} {address} has other code than at the deployment"));
        }
        match domain {
            None => Ok(None),
            Some(names) => self.domain(address, names, found).await,
        }
    }

    async fn domain(
        &self,
        address: Address,
        Names { names, version }: &Names,
        found: &mut Findings,
    ) -> Result<Option<(String, String)>, Failure> {
        let symbol = &self.entry.symbol;
        let separator = self.chain.ask(address, &TestUSDC::DOMAIN_SEPARATORCall {}).await?;
        let is_of = |name: &&String| {
            let domain = signed::token_domain(name, version, self.manifest.chain_id, address);
            Some(domain.separator()) == separator
        };
        let Some(name) = names.iter().find(is_of) else {
            found.fault(&format!(
                "token {symbol} {address}: DOMAIN_SEPARATOR() is of none of {names:?} version {version:?}"
            ));
            return Ok(None);
        };
        // not every token has EIP-5267; one that does must agree with itself
        let told = self.chain.ask(address, &TestUSDC::eip712DomainCall {}).await?;
        if let Some(told) = told.filter(|told| (&told.name, &told.version) != (name, version)) {
            found.fault(&format!(
                "token {symbol} {address}: eip712Domain() says {:?} version {:?}, its separator is of {name:?} version \
                 {version:?}",
                told.name, told.version
            ));
        }
        Ok(Some((name.clone(), version.clone())))
    }

    /// The feed, if none is named for the token. One that is named stays: WEIR_PRICE_FEEDS may have named it.
    async fn unnamed(
        &self,
        token: &Token,
        feed: Feed,
        found: &mut Findings,
    ) -> Result<Option<Feed>, Failure> {
        let mut connection = self.store.read().await.map_err(Failure::during("the database"))?;
        let named = feeds::list(&mut connection).await.map_err(Failure::during("the database"))?;
        if let Some(named) = named.iter().find(|named| named.token == token.address) {
            if named.feed != feed.at {
                found.note(&format!(
                    "token {} is priced by {} in the database, which stays: WEIR_PRICE_FEEDS of `weir work` changes it",
                    token.symbol, named.feed
                ));
            }
            return Ok(None);
        }
        // what was taken off the market is left alone
        let listed = tokens::find(&mut connection, &token.symbol).await;
        let listed = listed.map_err(Failure::during("the database"))?;
        Ok(listed.map(|_| feed))
    }
}

/// What never changes of a token.
fn identity(token: &Token) -> (Address, &str, Decimals, Option<&(String, String)>) {
    (token.address, &token.symbol, token.decimals, token.permit.as_ref())
}
