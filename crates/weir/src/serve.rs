//! `weir serve`: the HTTP API. Reads no key that moves money.

use std::sync::Arc;

use api::{ApiConfig, AppState};
use chain::{Identity, ReadClient};
use store::{Store, deployment};

use crate::{clock::SystemClock, config::Config, failure::Failure, shutdown, telemetry};

/// Serves until told to stop.
pub(crate) async fn run() -> Result<(), Failure> {
    let metrics = telemetry::start()?;
    let config = Config::from_env()?;
    let store = open_store(&config).await?;
    let client = ReadClient::connect(config.rpc()?).map_err(Failure::during("RPC_URL"))?;
    let site = {
        let mut connection = store.read().await.map_err(Failure::during("the database"))?;
        deployment::get(&mut connection).await.map_err(Failure::during("the database"))?
    };
    let site = site.ok_or_else(no_deployment)?;
    client.expect(Identity { chain_id: site.chain_id, genesis: site.genesis_hash });
    let mut settings = ApiConfig::new(&config.public_url, site.chain_id);
    settings.heartbeat_interval = config.heartbeat;
    let state = AppState::new(store, client, settings, Some(metrics));
    state.probe_tokens().await.map_err(Failure::during("the database"))?;
    let listener = tokio::net::TcpListener::bind(&config.listen).await.map_err(|error| {
        Failure::new(format!("{} cannot be listened on: {error}", config.listen))
    })?;
    tracing::info!(listen = config.listen, "serving");
    api::serve(listener, state, shutdown::token()?).await.map_err(Failure::during("serving"))
}

/// Applies pending migrations.
pub(crate) async fn migrate() -> Result<(), Failure> {
    let config = Config::from_env()?;
    let store = connect(&config).await?;
    store.migrate().await.map_err(Failure::during("migrating the database"))
}

/// Connects, and checks that the server is one that is supported.
pub(crate) async fn open_store(config: &Config) -> Result<Store, Failure> {
    let store = connect(config).await?;
    store::check_server(store.pool()).await.map_err(Failure::during("DATABASE_URL"))?;
    Ok(store)
}

async fn connect(config: &Config) -> Result<Store, Failure> {
    let clock = Arc::new(SystemClock);
    Store::connect(config.database()?, config.connections, clock, config.policy.clone())
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
        "this database knows no escrow contract; run `weir up` once, or record the deployment as the \
         runbook says",
    )
}
