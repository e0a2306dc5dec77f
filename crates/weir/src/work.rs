//! `weir work`: the engine. The only process that holds the operator's key.

use std::{collections::BTreeSet, time::Duration};

use chain::{ReadClient, Signer};
use engine::{Engine, Site};
use store::deployment;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    failure::Failure,
    serve::{no_deployment, open_store},
    shutdown, telemetry,
};

/// A tick takes milliseconds; one that waits for a slow chain takes a few seconds.
const FINISH_WITHIN: Duration = Duration::from_secs(8);

/// Works until told to stop.
pub(crate) async fn run() -> Result<(), Failure> {
    let metrics = telemetry::start()?;
    let config = Config::from_env()?;
    let signers = signers(config.operator_key.as_deref())?;
    let store = open_store(&config).await?;
    let client = ReadClient::connect(config.rpc()?).map_err(Failure::during("RPC_URL"))?;
    let known = {
        let mut connection = store.read().await.map_err(Failure::during("the database"))?;
        deployment::get(&mut connection).await.map_err(Failure::during("the database"))?
    };
    let known = known.ok_or_else(no_deployment)?;
    let site = Site::check(&client, &known).await.map_err(Failure::during("RPC_URL"))?;
    let stop = shutdown::token()?;
    if let Some(listen) = &config.metrics_listen {
        crate::metrics::serve(listen, metrics, stop.clone()).await?;
    }
    for signer in &signers {
        tracing::info!(signer = %signer.address(), escrow = %site.escrow, "working");
    }
    let engine = Engine { store, client, signers, site, settings: config.engine };
    tokio::select! {
        done = engine::run(engine, stop.clone()) => done.map_err(Failure::during("working")),
        // a tick that hangs must not keep us: all of its writes are whole or not there
        () = overdue(&stop) => {
            tracing::warn!("a loop did not finish in time; stopping all the same");
            Ok(())
        }
    }
}

/// The operator's keys: one, or several with commas between them.
fn signers(keys: Option<&str>) -> Result<Vec<Signer>, Failure> {
    let keys = keys.ok_or_else(|| {
        Failure::new("WEIR_OPERATOR_KEY is not set; it is the key that starts and closes rentals")
    })?;
    let signers = keys
        .split(',')
        .map(|key| key.trim().parse().map_err(Failure::during("WEIR_OPERATOR_KEY")))
        .collect::<Result<Vec<Signer>, _>>()?;
    let addresses: BTreeSet<_> = signers.iter().map(Signer::address).collect();
    if addresses.len() < signers.len() {
        return Err(Failure::new("WEIR_OPERATOR_KEY names a key twice"));
    }
    Ok(signers)
}

async fn overdue(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FINISH_WITHIN).await;
}
