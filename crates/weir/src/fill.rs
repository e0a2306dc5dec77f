//! `weir fill`: a generated market, for looking at the search with many offers. Its machines have no agents: what is
//! offered there can be found and quoted, and a rental of it never becomes ready.

use std::sync::Arc;

use clap::Args as ClapArgs;
use domain::{
    id::MachineId,
    time::{Seconds, UnixSeconds},
};
use market::{Listing, generate::Generator};
use store::{Store, TxError, listings, machines};

use crate::{clock::SystemClock, config::Config, failure::Failure};

/// Offers that are stored in one transaction.
const AT_ONCE: usize = 1_000;
/// For so long the generated machines count as online, from the last fill.
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

/// Has the market so many generated offers: those that are stored are heard of for another day, and what is missing is
/// stored. What is interrupted goes on where it was, to the same market.
pub(crate) async fn fill(store: &Store, offers: u32, seed: u64) -> Result<(), Failure> {
    let doing = "filling the market";
    let now = store.now().seconds();
    let until = now.saturating_plus(HEARD_FOR);
    renew(store, until).await?;
    let (mut done, mut generator) = {
        let mut connection = store.read().await.map_err(Failure::during(doing))?;
        let stored = listings::filled(&mut connection).await.map_err(Failure::during(doing))?;
        if stored.offers >= offers {
            println!("        the market has {} generated offers already", stored.offers);
            return Ok(());
        }
        let models = listings::models(&mut connection).await.map_err(Failure::during(doing))?;
        let of = |seed: u64, count: u32, at: UnixSeconds| -> Result<Generator, Failure> {
            let second = u32::try_from(at.get()).map_err(Failure::during(doing))?;
            Ok(Generator::new(&models, seed, count, second))
        };
        let same = of(seed, offers, stored.as_of.unwrap_or(now))?;
        let first = same.clone().next().map(|listing| MachineId::from_uuid(listing.machine));
        let begun = match first {
            Some(first) => machines::get(&mut connection, first).await,
            None => Ok(None),
        };
        let goes_on = stored.offers == 0 || begun.map_err(Failure::during(doing))?.is_some();
        let skipped = usize::try_from(stored.offers).map_err(Failure::during(doing))?;
        let (whole, made) = if goes_on {
            (same, skipped)
        } else {
            // another market than this was begun: what is missing is of a seed that nothing of it was made with
            let other = seed.wrapping_add(u64::from(stored.offers));
            (of(other, offers.saturating_sub(stored.offers), now)?, 0)
        };
        let rest = whole.skip(made);
        (skipped, rest)
    };
    loop {
        let some: Arc<Vec<Listing>> = Arc::new(generator.by_ref().take(AT_ONCE).collect());
        if some.is_empty() {
            return Ok(());
        }
        done = done.saturating_add(some.len());
        let stored = store.write::<(), String, _>("listings.fill", move |tx| {
            let some = some.clone();
            Box::pin(async move { Ok(listings::fill(tx, &some, until).await?) })
        });
        stored.await.map_err(failed)?;
        if done.is_multiple_of(100_000) {
            println!("        {done} generated offers");
        }
    }
}

/// Has the generated machines heard of until then.
async fn renew(store: &Store, until: UnixSeconds) -> Result<(), Failure> {
    let limit = i64::try_from(AT_ONCE).map_err(Failure::during("renewing the market"))?;
    let mut after = None;
    loop {
        let renewed = store.write::<_, String, _>("listings.renew", move |tx| {
            Box::pin(async move { Ok(listings::renew(tx, after, until, limit).await?) })
        });
        after = renewed.await.map_err(failed)?;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn failed(error: TxError<String>) -> Failure {
    match error {
        TxError::Store(error) => Failure::new(format!("filling the market: {error}")),
        TxError::Refused(why) => Failure::new(format!("filling the market: {why}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use std::collections::BTreeSet;

    use domain::time::UnixMillis;
    use testkit::{ManualClock, TestDb};

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const SEED: u64 = 5;

    async fn empty() -> (Store, Arc<ManualClock>) {
        let url = TestDb::new(Some(&store::MIGRATOR)).await.unwrap().url;
        let clock = Arc::new(ManualClock::new(UnixMillis(NOW * 1_000)));
        let policy = ::tests::booking::policy();
        let store = Store::connect(&url, 2, clock.clone(), policy).await.unwrap();
        store.fill_catalog().await.unwrap();
        (store, clock)
    }

    async fn machines(store: &Store) -> BTreeSet<uuid::Uuid> {
        let ids = sqlx::query_scalar("SELECT id FROM machines").fetch_all(store.pool());
        ids.await.unwrap().into_iter().collect()
    }

    async fn online(store: &Store) -> i64 {
        let now = i64::try_from(store.now().seconds().get()).unwrap();
        sqlx::query_scalar(
            "SELECT count(*) FROM machines WHERE last_heartbeat_at >= to_timestamp($1)",
        )
        .bind(now)
        .fetch_one(store.pool())
        .await
        .unwrap()
    }

    async fn generator(store: &Store, offers: u32) -> Generator {
        let mut connection = store.read().await.unwrap();
        let models = listings::models(&mut connection).await.unwrap();
        Generator::new(&models, SEED, offers, u32::try_from(NOW).unwrap())
    }

    #[tokio::test]
    async fn what_was_interrupted_goes_on_to_the_same_market_hours_later() {
        let (store, clock) = empty().await;
        let some: Vec<_> = generator(&store, 1_500).await.take(1_000).collect();
        let mut connection = store.read().await.unwrap();
        listings::fill(&mut connection, &some, UnixSeconds(NOW + 86_400)).await.unwrap();
        drop(connection);
        clock.advance(Seconds(7_200));
        fill(&store, 1_500, SEED).await.unwrap();
        let whole = generator(&store, 1_500).await.map(|listing| listing.machine).collect();
        assert_eq!(machines(&store).await, whole);
    }

    #[tokio::test]
    async fn a_second_fill_renews_what_is_there_and_adds_what_is_missing() {
        let (store, clock) = empty().await;
        fill(&store, 300, SEED).await.unwrap();
        let first = machines(&store).await;
        let heard = online(&store).await;
        assert!((240..300).contains(&heard), "nine in ten: {heard}");
        clock.advance(Seconds(90_000));
        assert_eq!(online(&store).await, 0);
        fill(&store, 200, SEED).await.unwrap();
        assert_eq!((machines(&store).await, online(&store).await), (first.clone(), heard));
        // a larger market is another one: the same draws would make the same ids
        fill(&store, 700, SEED).await.unwrap();
        let second = machines(&store).await;
        assert!(second.is_superset(&first) && second.len() == 700, "{}", second.len());
        clock.advance(Seconds(90_000));
        fill(&store, 700, SEED).await.unwrap();
        assert_eq!(machines(&store).await, second);
        let heard = online(&store).await;
        assert!((560..700).contains(&heard), "{heard}");
    }

    #[tokio::test]
    async fn a_machine_that_had_an_agent_is_not_taken_for_a_generated_one() {
        let (store, clock) = empty().await;
        fill(&store, 100, SEED).await.unwrap();
        let heard = online(&store).await;
        // as if its provider had called it so, and revoked the key of its agent
        sqlx::query(
            "INSERT INTO ended_agent_keys (agent_key, machine_id, enrolled_at, ended_at)
             SELECT substr(sha256(uuid_send(id)), 1, 20), id, created_at, created_at FROM machines
             WHERE last_heartbeat_at > contact_since ORDER BY id LIMIT 1",
        )
        .execute(store.pool())
        .await
        .unwrap();
        clock.advance(Seconds(90_000));
        fill(&store, 99, SEED).await.unwrap();
        assert_eq!(online(&store).await, heard - 1);
    }

    /// The score of every machine, and how many have been computed.
    async fn scores(store: &Store) -> (Vec<i32>, i64) {
        let scores = sqlx::query_scalar(
            "SELECT score_bps FROM machine_reliability ORDER BY machine_id, window_days",
        );
        let computed = "SELECT count(*) FROM machine_reliability WHERE window_days = 7";
        let computed = sqlx::query_scalar(computed).fetch_one(store.pool()).await.unwrap();
        (scores.fetch_all(store.pool()).await.unwrap(), computed)
    }

    #[tokio::test]
    async fn the_assessor_leaves_machines_without_an_agent_as_they_are_and_goes_on_with_others() {
        let (store, _) = empty().await;
        fill(&store, 250, SEED).await.unwrap();
        let (before, none) = scores(&store).await;
        assert!(before.len() > 150 && none == 0 && before.iter().all(|score| *score > 8_000));
        assert_eq!(engine::Assessor::new(store.clone()).tick().await.unwrap(), 0);
        assert_eq!(scores(&store).await, (before, 0), "those that were generated stay");
        // as if each had an agent: a round in three ticks, without a pause of the loop's in between
        sqlx::query(
            "UPDATE machines SET enrolled_at = created_at, agent_key = substr(sha256(uuid_send(id)), 1, 20)",
        )
        .execute(store.pool())
        .await
        .unwrap();
        let assessor = engine::Assessor::new(store.clone());
        let mut assessed = Vec::new();
        for _ in 0..4 {
            assessed.push(assessor.tick().await.unwrap());
        }
        assert_eq!(assessed, [100, 100, 50, 0]);
        assert_eq!(scores(&store).await.1, 250);
    }
}
