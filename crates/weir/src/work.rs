//! `weir work`: the engine. The only process that holds the operator's key.

use std::time::Duration;

use chain::{ReadClient, Signer};
use engine::{Courier, Engine, Site};
use store::deployment;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    failure::Failure,
    feeds,
    metrics::Process,
    serve::{CLOSE_WITHIN, connect, no_deployment, open_store},
    shutdown, telemetry,
    vitals::Vitals,
};

/// The courier has connections of its own: however much there is to tell, it takes none from those who move money.
const CONNECTIONS_TO_CALL: u32 = 4;

/// Works until told to stop.
pub(crate) async fn run() -> Result<(), Failure> {
    let metrics = telemetry::start(Process::Work)?;
    let config = Config::from_env()?;
    let signers = config.signers()?;
    let store = open_store(&config).await?;
    let calling = connect(&config, CONNECTIONS_TO_CALL).await?;
    let client = ReadClient::connect(config.rpc()?).map_err(Failure::during("RPC_URL"))?;
    let known = {
        let mut connection = store.read().await.map_err(Failure::during("the database"))?;
        deployment::get(&mut connection).await.map_err(Failure::during("the database"))?
    };
    let known = config.ours(known.ok_or_else(no_deployment)?)?;
    if config.escrow.is_none() {
        tracing::warn!("WEIR_ESCROW is not set: the database is believed about the contract");
    }
    let site = Site::check(&client, &known).await.map_err(Failure::during("RPC_URL"))?;
    feeds::name(&config, &store, &client).await?;
    let stop = shutdown::token()?;
    if let Some(listen) = &config.metrics_listen {
        crate::metrics::serve(listen, metrics, stop.clone()).await?;
    }
    for signer in &signers {
        tracing::info!(signer = %signer.address(), escrow = %site.escrow, "working");
    }
    let vitals = Vitals {
        store: store.clone(),
        client: client.clone(),
        signers: signers.iter().map(Signer::address).collect(),
        fees: config.engine.lane.fees,
    };
    let watching = tokio::spawn(vitals.keep(stop.clone()));
    let engine = Engine { store: store.clone(), client, signers, site, settings: config.engine };
    let courier = Courier::new(calling.clone(), config.webhooks, config.policy.offline_after());
    // Told to stop, each loop finishes the round that it is in and takes no new work: every timer that it has
    // claimed is done or given back by then.
    let outcome = tokio::select! {
        () = async {
            tokio::join!(engine::run(engine, stop.clone()), engine::deliver(courier, stop.clone()));
        } => Ok(()),
        // A round that hangs must not keep us: its writes are whole or not there, and the leases of its timers
        // run out by themselves.
        () = overdue(&stop, config.drain) => {
            tracing::warn!("a loop did not finish in time; stopping all the same");
            Ok(())
        }
    };
    watching.abort();
    shutdown::close(&calling, CLOSE_WITHIN).await;
    shutdown::close(&store, CLOSE_WITHIN).await;
    tracing::info!("stopped");
    outcome
}

async fn overdue(stop: &CancellationToken, drain: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(drain).await;
}
