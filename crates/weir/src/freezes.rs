//! `weir freezes` and `weir thaw`: what money waits and why, and the person who lets it go on.

use clap::Args as ClapArgs;
use store::{Store, TxError, freezes};

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
        println!(
            "{}  {}  {}  since {} at final block {}: {}",
            freeze.id,
            freeze.scope,
            freeze.reason.as_str(),
            freeze.frozen_at,
            freeze.block,
            freeze.detail
        );
    }
    Ok(())
}

/// Lifts one freeze.
pub(crate) async fn thaw(args: ThawArgs) -> Result<(), Failure> {
    let note = args.note.trim().to_owned();
    if note.is_empty() || note.chars().count() > 500 {
        return Err(Failure::new(
            "--note says who looked and what was found, in 1 to 500 characters",
        ));
    }
    let store = open_store(&Config::from_env()?).await?;
    if lift(&store, args.id, note).await? {
        println!(
            "freeze {} is lifted; what differs still is frozen again at the next final block",
            args.id
        );
        return Ok(());
    }
    Err(Failure::new(format!("no open freeze has the number {}; see `weir freezes`", args.id)))
}

async fn lift(store: &Store, id: i64, note: String) -> Result<bool, Failure> {
    let now = store.now().seconds();
    let lifted = store.write("thaw", move |tx| {
        let note = note.clone();
        Box::pin(async move { Ok::<_, TxError<Failure>>(freezes::lift(tx, id, &note, now).await?) })
    });
    lifted.await.map_err(|error| match error {
        TxError::Store(error) => Failure::new(format!("the database: {error}")),
        TxError::Refused(failure) => failure,
    })
}
