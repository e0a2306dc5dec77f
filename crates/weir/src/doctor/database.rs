//! The database: there, of a supported version, migrated, with room, and in time.

use std::sync::Arc;

use domain::time::Clock as _;
use store::{
    Connection, Store, StoreError,
    deployment::{self, Deployment},
    feeds::{self, Feed},
    health,
    schema::{self, Schema},
    tokens::{self, Token},
};

use super::{
    finding::{Finding, Report},
    judge,
};
use crate::{clock::SystemClock, config::Config};

/// What the database tells the other checks.
#[derive(Default)]
pub(super) struct Known {
    pub(super) deployment: Option<Deployment>,
    pub(super) tokens: Vec<Token>,
    pub(super) feeds: Vec<Feed>,
}

/// Checks that need a connection.
const INSIDE: [&str; 6] = [
    "database.version",
    "database.migrations",
    "database.connections",
    "database.clock",
    "money.freezes",
    "deployment.recorded",
];
const MIGRATE: &str = "run `weir migrate`";

/// Looks at the database.
pub(super) async fn examine(config: &Config, report: &mut Report) -> Known {
    match connect(config).await {
        Ok(store) => {
            report.add(reachable(true, "it answers".to_owned()));
            inside(&store, config, report).await
        }
        Err(reason) => {
            report.add(reachable(false, reason));
            report.add_all(INSIDE.map(|id| Finding::skipped(id, "needs database.reachable")));
            Known::default()
        }
    }
}

async fn connect(config: &Config) -> Result<Store, String> {
    let url = config.database().map_err(|failure| failure.to_string())?;
    let policy = config.policy.clone();
    Store::connect(url, 1, Arc::new(SystemClock), policy).await.map_err(|error| error.to_string())
}

fn reachable(good: bool, found: String) -> Finding {
    Finding::new(
        "database.reachable",
        good,
        found,
        "a connection with DATABASE_URL",
        "check that PostgreSQL runs, that DATABASE_URL names it, and that it may be entered",
    )
}

async fn inside(store: &Store, config: &Config, report: &mut Report) -> Known {
    let version = store::check_server(store.pool()).await;
    report.add(Finding::new(
        "database.version",
        version.is_ok(),
        version.map_or_else(|error| error.to_string(), |major| format!("PostgreSQL {major}")),
        "PostgreSQL 15 to 18",
        "move the database to a supported version",
    ));
    let mut connection = match store.read().await {
        Ok(connection) => connection,
        Err(error) => {
            report.add(reachable(false, error.to_string()));
            return Known::default();
        }
    };
    report.add(migrations(schema::look(&mut connection).await));
    report.add(match health::connections(&mut connection).await {
        Ok(of) => judge::connections(of, config.connections),
        Err(error) => unanswered("database.connections", &error),
    });
    report.add(match health::clock(&mut connection).await {
        Ok(theirs) => judge::database_clock(theirs, SystemClock.now().seconds()),
        Err(error) => unanswered("database.clock", &error),
    });
    report.add(freezes(&mut connection).await);
    recorded(&mut connection, config, report).await
}

fn unanswered(id: &str, error: &StoreError) -> Finding {
    Finding::new(id, false, error.to_string(), "an answer", "look at PostgreSQL's log")
}

fn migrations(looked: Result<Schema, StoreError>) -> Finding {
    let id = "database.migrations";
    let schema = match looked {
        Ok(schema) => schema,
        Err(error) => return unanswered(id, &error),
    };
    let newest = schema.newest.map_or("none".to_owned(), |version| version.to_string());
    let mut found = format!("newest applied: {newest}; pending: {}", schema.pending.len());
    if !schema.newer.is_empty() {
        found.push_str(&format!("; of a newer program: {}", schema.newer.len()));
    }
    let required = "all of this program's applied, and none that breaks it";
    match schema.usable() {
        Ok(()) => Finding::new(id, true, found, required, MIGRATE),
        Err(misfit) => Finding::new(id, false, found, required, misfit.to_string()),
    }
}

async fn freezes(connection: &mut Connection) -> Finding {
    let id = "money.freezes";
    match health::open_freezes(connection).await {
        Ok(Some(open)) => Finding::new(
            id,
            open == 0,
            format!("{open} open"),
            "none open",
            "money waits for a person to look (runbook: WeirFreezesOpen)",
        ),
        Ok(None) => Finding::skipped(id, "this database keeps none"),
        Err(error) => unanswered(id, &error),
    }
}

async fn recorded(connection: &mut Connection, config: &Config, report: &mut Report) -> Known {
    let deployment = deployment::get(connection).await;
    let tokens = tokens::list(connection).await.unwrap_or_default();
    let feeds = feeds::list(connection).await.unwrap_or_default();
    let (found, deployment) = match deployment {
        Ok(Some(deployment)) => {
            (format!("{} on chain {}", deployment.escrow, deployment.chain_id), Some(deployment))
        }
        Ok(None) => ("none".to_owned(), None),
        Err(error) => (error.to_string(), None),
    };
    let (required, remedy) = match (config.escrow, &deployment) {
        (Some(ours), Some(_)) => (
            format!("the contract of WEIR_ESCROW, {ours}"),
            "if WEIR_ESCROW is what was deployed, the database was tampered with (runbook: the database names another \
             escrow contract)",
        ),
        (_, _) => (
            "the escrow contract that this database belongs to".to_owned(),
            "tell it with `weir adopt`, as deploy/README.md says (on a local chain, run `weir up` once)",
        ),
    };
    let as_told = deployment
        .as_ref()
        .is_some_and(|found| config.escrow.is_none_or(|ours| ours == found.escrow));
    report.add(Finding::new("deployment.recorded", as_told, found, required, remedy));
    Known { deployment, tokens, feeds }
}
