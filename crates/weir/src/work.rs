//! `weir work`: the engine. The only process that holds the operator's key.

use chain::{ReadClient, Signer};
use engine::{Engine, Site};
use store::deployment;

use crate::{
    config::Config,
    failure::Failure,
    serve::{no_deployment, open_store},
    shutdown, telemetry,
};

/// Works until told to stop.
pub(crate) async fn run() -> Result<(), Failure> {
    let metrics = telemetry::start()?;
    let config = Config::from_env()?;
    let key = config.operator_key.as_deref().ok_or_else(|| {
        Failure::new("WEIR_OPERATOR_KEY is not set; it is the key that starts and closes rentals")
    })?;
    let signer: Signer = key.parse().map_err(Failure::during("WEIR_OPERATOR_KEY"))?;
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
    tracing::info!(signer = %signer.address(), escrow = %site.escrow, "working");
    let engine = Engine { store, client, signer, site, settings: config.engine };
    engine::run(engine, stop).await.map_err(Failure::during("working"))
}
