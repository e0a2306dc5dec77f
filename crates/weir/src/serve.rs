//! `weir serve`: the HTTP API. Reads no key that moves money.

use std::{sync::Arc, time::Duration};

use api::{ApiConfig, AppState};
use chain::{Identity, ReadClient};
use store::{Store, StoreError, deployment, schema};

use crate::{
    clock::SystemClock, config::Config, doctor::quoter, failure::Failure, metrics::Process,
    shutdown, telemetry, vitals,
};

/// After all requests and rounds: what may still run is a transaction whose caller has hung up.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// Serves until told to stop.
pub(crate) async fn run() -> Result<(), Failure> {
    let metrics = telemetry::start(Process::Serve)?;
    let config = Config::from_env()?;
    let store = open_store(&config).await?;
    store.fill_catalog().await.map_err(Failure::during("writing the catalog"))?;
    let client = ReadClient::connect(config.rpc()?).map_err(Failure::during("RPC_URL"))?;
    let site = {
        let mut connection = store.read().await.map_err(Failure::during("the database"))?;
        deployment::get(&mut connection).await.map_err(Failure::during("the database"))?
    };
    let site = config.ours(site.ok_or_else(no_deployment)?)?;
    if config.escrow.is_none() {
        tracing::warn!("WEIR_ESCROW is not set: the database is believed about the contract");
    }
    client.expect(Identity { chain_id: site.chain_id, genesis: site.genesis_hash });
    let mut settings = ApiConfig::new(&config.public_url, site.chain_id);
    settings.escrow = config.escrow;
    settings.heartbeat_interval = config.heartbeat;
    settings.offline_after = config.policy.offline_after();
    settings.cors_origins = config.cors_origins.clone();
    settings.connections = config.clients;
    settings.market_image = config.market_image.clone();
    settings.session_idle = config.session_idle;
    settings.unready_for = config.unready;
    settings.drain_timeout = config.drain;
    settings.limits = config.limits.clone();
    settings.webhooks = config.webhooks;
    settings.quoter = config.quoter()?;
    match &settings.quoter {
        Some(key) => {
            quoter::refuse_roles(&config, &client, site.escrow, key.address()).await?;
            tracing::info!(quoter = %key.address(), "quotes are signed");
        }
        None => tracing::warn!("WEIR_QUOTE_KEY is not set: quotes are not signed"),
    }
    let state = AppState::new(store.clone(), client, settings, Some(metrics));
    state.probe_tokens().await.map_err(Failure::during("the database"))?;
    let listener = tokio::net::TcpListener::bind(&config.listen).await.map_err(|error| {
        Failure::new(format!("{} cannot be listened on: {error}", config.listen))
    })?;
    tracing::info!(listen = config.listen, "serving");
    let stop = shutdown::token()?;
    let watching = tokio::spawn(vitals::keep_pool(store.clone(), stop.clone()));
    let outcome = api::serve(listener, state, stop).await.map_err(Failure::during("serving"));
    watching.abort();
    shutdown::close(&store, CLOSE_WITHIN).await;
    tracing::info!("stopped");
    outcome
}

/// Applies pending migrations.
pub(crate) async fn migrate() -> Result<(), Failure> {
    let config = Config::from_env()?;
    let store = connect(&config, config.connections).await?;
    store::check_server(store.pool()).await.map_err(Failure::during("DATABASE_URL"))?;
    apply_migrations(&store).await
}

/// Applies what is pending, unless a newer program was here before: then there is nothing of ours to apply, and
/// either we can live with what it did or we must not touch it.
pub(crate) async fn apply_migrations(store: &Store) -> Result<(), Failure> {
    let schema = look(store).await.map_err(Failure::during("the database"))?;
    schema.migratable().map_err(|misfit| Failure::new(misfit.to_string()))?;
    if schema.newer.is_empty() {
        return store.migrate().await.map_err(Failure::during("migrating the database"));
    }
    if schema.pending.is_empty() {
        eprintln!("weir: a newer program has migrated this database; nothing to do");
        return Ok(());
    }
    Err(Failure::new(
        "the database has migrations that this program does not know, and lacks some that it knows: migrate it with \
         the newer program",
    ))
}

/// Connects, and checks that server and schema are ones that this program can work with.
pub(crate) async fn open_store(config: &Config) -> Result<Store, Failure> {
    let store = connect(config, config.connections).await?;
    store::check_server(store.pool()).await.map_err(Failure::during("DATABASE_URL"))?;
    let schema = look(&store).await.map_err(Failure::during("DATABASE_URL"))?;
    schema.usable().map_err(|misfit| Failure::new(misfit.to_string()))?;
    for newer in &schema.newer {
        tracing::info!(
            migration = newer.version,
            newer.description,
            "the database is newer than this program, by a migration that breaks nothing"
        );
    }
    Ok(store)
}

async fn look(store: &Store) -> Result<schema::Schema, StoreError> {
    let mut connection = store.read().await?;
    schema::look(&mut connection).await
}

pub(crate) async fn connect(config: &Config, connections: u32) -> Result<Store, Failure> {
    let clock = Arc::new(SystemClock);
    Store::connect(config.database()?, connections, clock, config.policy.clone())
        .await
        .map_err(|error| {
            Failure::new(format!(
                "the database of DATABASE_URL cannot be used: {error}; check that it runs and may be entered"
            ))
        })
}

/// What to do when the database knows no contract.
pub(crate) fn no_deployment() -> Failure {
    Failure::new(
        "this database knows no escrow contract; tell it with `weir adopt`, as deploy/README.md says (on a local chain, \
         run `weir up` once)",
    )
}
