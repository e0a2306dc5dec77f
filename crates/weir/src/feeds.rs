//! The price feeds of WEIR_PRICE_FEEDS, brought into the store.

use chain::ReadClient;
use domain::money::Decimals;
use store::{Store, StoreError, TxError, feeds, tokens};

use crate::{
    config::{Config, FeedSetting},
    failure::Failure,
};

const FEEDS: &str = "WEIR_PRICE_FEEDS";

/// Names each token's feed, with the decimals that it has now.
///
/// # Errors
/// If a token is not listed, or what should be a feed is none.
pub(crate) async fn name(
    config: &Config,
    store: &Store,
    client: &ReadClient,
) -> Result<(), Failure> {
    if config.feeds.is_empty() {
        return Ok(());
    }
    let last = client.finalized().await.map_err(Failure::during(FEEDS))?;
    let last = last.ok_or_else(|| {
        Failure::new("the chain has no final block, of which the price feeds would be asked")
    })?;
    for FeedSetting { symbol, feed, max_age } in &config.feeds {
        let token = {
            let mut connection = store.read().await.map_err(Failure::during("the database"))?;
            tokens::find(&mut connection, symbol)
                .await
                .map_err(Failure::during("the database"))?
                .ok_or_else(|| {
                    Failure::new(format!("WEIR_PRICE_FEEDS: {symbol} is not a listed token"))
                })?
        };
        let decimals = client.feed_decimals(*feed, last.hash).await;
        let decimals = decimals.map_err(Failure::during(FEEDS))?;
        let decimals = Decimals::new(decimals).map_err(Failure::during(FEEDS))?;
        let (feed, max_age) = (*feed, *max_age);
        store
            .write("name a feed", move |tx| {
                Box::pin(async move {
                    let named = feeds::name(tx, token.address, feed, decimals, max_age).await;
                    Ok::<_, TxError<StoreError>>(named?)
                })
            })
            .await
            .map_err(Failure::during(FEEDS))?;
        tracing::info!(token.symbol = symbol, %feed, max_age_s = max_age.get(), "priced by this feed");
    }
    Ok(())
}
