//! `weir fill`: a generated market, for looking at the search with many offers. Its machines have no agents: what is
//! offered there can be found and quoted, and a rental of it never becomes ready.

use std::sync::Arc;

use clap::Args as ClapArgs;
use domain::time::Seconds;
use market::{Listing, generate::Generator};
use store::{Store, TxError, listings};

use crate::{clock::SystemClock, config::Config, failure::Failure};

/// Offers that are stored in one transaction.
const AT_ONCE: usize = 1_000;
/// For so long the generated machines count as online.
const HEARD_FOR: Seconds = Seconds(24 * 3_600);
/// No more than search is measured with.
const MOST: i64 = 1_000_000;

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// How many offers
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1..=MOST))]
    offers: u32,
    /// The same seed makes the same market
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
}

/// Fills the database of `DATABASE_URL`.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let config = Config::from_env()?;
    let clock = Arc::new(SystemClock);
    let store = Store::connect(config.database()?, 2, clock, config.policy.clone())
        .await
        .map_err(Failure::during("DATABASE_URL"))?;
    fill(&store, args.offers, args.seed).await
}

/// Stores so many generated offers, unless there are generated ones already.
pub(crate) async fn fill(store: &Store, offers: u32, seed: u64) -> Result<(), Failure> {
    let doing = "filling the market";
    let models = {
        let mut connection = store.read().await.map_err(Failure::during(doing))?;
        if listings::is_filled(&mut connection).await.map_err(Failure::during(doing))? {
            println!("        the market has generated offers already");
            return Ok(());
        }
        listings::models(&mut connection).await.map_err(Failure::during(doing))?
    };
    let now = store.now().seconds();
    let second = u32::try_from(now.get()).map_err(Failure::during(doing))?;
    let mut generator = Generator::new(&models, seed, offers, second);
    let mut done = 0_usize;
    loop {
        let some: Arc<Vec<Listing>> = Arc::new(generator.by_ref().take(AT_ONCE).collect());
        if some.is_empty() {
            return Ok(());
        }
        done = done.saturating_add(some.len());
        let until = now.saturating_plus(HEARD_FOR);
        let stored = store.write::<(), String, _>("listings.fill", move |tx| {
            let some = some.clone();
            Box::pin(async move { Ok(listings::fill(tx, &some, until).await?) })
        });
        stored.await.map_err(|error| match error {
            TxError::Store(error) => Failure::new(format!("{doing}: {error}")),
            TxError::Refused(why) => Failure::new(format!("{doing}: {why}")),
        })?;
        if done.is_multiple_of(100_000) {
            println!("        {done} generated offers");
        }
    }
}
