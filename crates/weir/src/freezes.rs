//! `weir freezes` and `weir thaw`: what money waits and why, and the person who lets it go on.

use clap::Args as ClapArgs;
use store::{
    Store, TxError, convert,
    freezes::{self, Freeze},
};

use crate::{config::Config, failure::Failure, serve::open_store};

/// More than this nobody reads.
const LISTED: i64 = 1_000;

#[derive(ClapArgs)]
pub(crate) struct ThawArgs {
    /// The freeze's number, as `weir freezes` prints it
    id: i64,
    /// Who looked, and what was found
    #[arg(long, value_name = "TEXT")]
    note: String,
}

/// Prints the open freezes, a line each.
pub(crate) async fn list() -> Result<(), Failure> {
    let store = open_store(&Config::from_env()?).await?;
    let mut connection = store.read().await.map_err(Failure::during("the database"))?;
    let open = freezes::open(&mut connection, LISTED).await;
    let open = open.map_err(Failure::during("the database"))?;
    if open.is_empty() {
        println!("nothing is frozen");
    }
    for freeze in open {
        println!("{}", line(freeze)?);
    }
    Ok(())
}

fn line(freeze: Freeze) -> Result<String, Failure> {
    let Freeze { id, scope, reason, detail, block, frozen_at } = freeze;
    let (reason, since) = (reason.as_str(), convert::ts(frozen_at));
    let since = since.map_err(Failure::during("the database"))?;
    Ok(format!("{id}  {scope}  {reason}  since {since}, final block {block}: {detail}"))
}

/// Lifts one freeze.
pub(crate) async fn thaw(ThawArgs { id, note }: ThawArgs) -> Result<(), Failure> {
    let store = open_store(&Config::from_env()?).await?;
    lift(&store, id, &note).await?;
    println!("freeze {id} is lifted; what differs still is frozen again at the next final block");
    Ok(())
}

async fn lift(store: &Store, id: i64, note: &str) -> Result<(), Failure> {
    let (note, now) = (note.trim().to_owned(), store.now().seconds());
    if note.is_empty() || note.chars().count() > 500 {
        return Err(Failure::new(
            "--note says who looked and what was found, in 1 to 500 characters",
        ));
    }
    let lifted = store.write("thaw", move |tx| {
        let note = note.clone();
        Box::pin(async move { Ok::<_, TxError<Failure>>(freezes::lift(tx, id, &note, now).await?) })
    });
    let lifted = lifted.await.map_err(|error| match error {
        TxError::Store(error) => Failure::new(format!("the database: {error}")),
        TxError::Refused(failure) => failure,
    })?;
    if lifted {
        return Ok(());
    }
    Err(Failure::new(format!("no open freeze has the number {id}; see `weir freezes`")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use domain::time::UnixMillis;
    use store::{
        StoreError,
        freezes::{NewFreeze, Reason, Scope},
    };
    use testkit::{ManualClock, TestDb};

    use super::*;

    #[tokio::test]
    async fn a_freeze_is_listed_and_lifted_once_with_a_note() {
        let url = TestDb::new(Some(&store::MIGRATOR)).await.unwrap().url;
        let clock = Arc::new(ManualClock::new(UnixMillis(1_800_000_000_000)));
        let policy = Config::from_env().unwrap().policy;
        let store = Store::connect(&url, 2, clock, policy).await.unwrap();
        let new = NewFreeze {
            scope: Scope::All,
            reason: Reason::FinalBlockGone,
            detail: "another block is there".to_owned(),
            block: 7,
        };
        let now = store.now().seconds();
        let frozen = store.write("freeze", move |tx| {
            let new = new.clone();
            Box::pin(
                async move { Ok::<_, TxError<StoreError>>(freezes::freeze(tx, &new, now).await?) },
            )
        });
        assert!(frozen.await.unwrap());
        let open = async || {
            let mut connection = store.read().await.unwrap();
            freezes::open(&mut connection, 10).await.unwrap()
        };
        let listed = open().await;
        let id = listed[0].id;
        let said = line(listed[0].clone()).unwrap();
        for part in ["  all  final_block_gone  since 2027-01-15", "final block 7: another block"] {
            assert!(said.contains(part), "{said}");
        }
        let refused = lift(&store, id, " ").await.unwrap_err().to_string();
        assert!(refused.contains("--note says"), "{refused}");
        lift(&store, id, "compared with two providers").await.unwrap();
        assert!(open().await.is_empty());
        let again = lift(&store, id, "again").await.unwrap_err().to_string();
        assert!(again.contains("no open freeze"), "{again}");
    }
}
