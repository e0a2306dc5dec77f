//! `weir up`: everything embedded on this machine. Starts what is missing (database, chain, contract),
//! runs the API, the worker and an agent as processes of their own, plays one rental, and keeps serving.

mod folder;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use chain::ReadClient;
use clap::Args as ClapArgs;
use store::Store;
use testkit::{Anvil, AnvilOptions, Cluster, ClusterOptions};

use crate::{
    clock::SystemClock,
    config::{self, Config},
    demo,
    deploy::{self, Roles},
    failure::Failure,
    fill,
    place::Place,
    serve,
    services::{Plan, Service},
    shutdown,
};

use folder::Folder;

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// Where everything that lasts is kept
    #[arg(long, value_name = "FOLDER", default_value = ".weir")]
    data: PathBuf,
    /// Exit when the rental has settled; non-zero if any figure does not add up
    #[arg(long)]
    once: bool,
    /// Port of the embedded chain; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8545)]
    chain_port: u16,
    /// Seconds that the rental runs before the outage, and again after it
    #[arg(long, value_name = "S", default_value_t = 4)]
    run_for: u64,
    /// Seconds of the outage inside the rental; 0 for none
    #[arg(long, value_name = "S", default_value_t = 5)]
    outage: u64,
    /// Let a renter rent who owns none of the chain's coin: the deposit is locked by a signature
    #[arg(long)]
    gasless: bool,
    /// Put so many generated offers into the market first, to look at the search
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    fill: u32,
    /// Do not play a rental, only serve
    #[arg(long, conflicts_with = "once")]
    no_demo: bool,
}

/// Shorter times than production's, so that a person can watch. What the user has set wins.
const LOCAL: &[(&str, &str)] = &[
    ("WEIR_EVIDENCE_TIMEOUT_S", "3"),
    ("WEIR_HEARTBEAT_S", "1"),
    ("WEIR_POLL_MS", "150"),
    ("WEIR_RECONCILE_S", "1"),
    ("WEIR_RESEND_S", "3"),
    ("WEIR_WEBHOOK_LOOPBACK", "true"),
    // no balancer stands before it
    ("WEIR_UNREADY_S", "0"),
];
/// Decides what a generated market is like.
const FILL_SEED: u64 = 1;
const BLOCK_TIME: Duration = Duration::from_secs(1);
/// Long enough for services whose parent was killed to end.
const PORT_FREE_WITHIN: Duration = Duration::from_secs(5);
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The servers that are ours to stop; absent where the user brought their own.
struct Servers {
    database: Option<Cluster>,
    chain: Option<Anvil>,
}

impl Servers {
    /// Waits until a server that is ours ends by itself.
    async fn end_of_one(&mut self, folder: &Folder) -> Failure {
        loop {
            if self.database.as_mut().is_some_and(Cluster::has_ended) {
                let log = folder.path("postgres.log");
                return Failure::new(format!(
                    "PostgreSQL ended by itself; its log is {}",
                    log.display()
                ));
            }
            if self.chain.as_mut().is_some_and(Anvil::has_ended) {
                let log = folder.log("anvil");
                return Failure::new(format!(
                    "the chain ended by itself; its log is {}",
                    log.display()
                ));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Brings everything up and down again.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let config = Config::from_env()?;
    let folder = Folder::open(&args.data)?;
    check_port(&config.listen).await?;
    let stop = shutdown::token()?;
    let since = Instant::now();
    let note = |what: &str| println!("{:>6.1} s  {what}", since.elapsed().as_secs_f32());

    let (mut servers, place) = start_servers(&args, &config, &folder, &note).await?;
    let outcome = operate(&args, &config, &folder, &place, since, async {
        tokio::select! {
            failure = servers.end_of_one(&folder) => Err(failure),
            () = stop.cancelled() => Ok(()),
        }
    })
    .await;
    println!("\nstopping chain and database; everything that lasts is in {}", args.data.display());
    let stopped = stop_servers(servers).await;
    outcome.and(stopped)
}

/// Runs our own processes around the play, and stops them whatever happens in it.
async fn operate(
    args: &Args,
    config: &Config,
    folder: &Folder,
    place: &Place,
    since: Instant,
    end: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let worker = Service::start(worker(config, folder, place))?;
    let server = Service::start(server(config, folder, place))?;
    let agent = demo::AgentSlot::default();
    let outcome = tokio::select! {
        outcome = perform(args, folder, place, since, agent.clone()) => outcome,
        ended = end => ended,
    };
    // the agent first, so that it can hand its last reading in
    if let Some(agent) = agent.lock().await.take() {
        agent.stop().await;
    }
    worker.stop().await;
    server.stop().await;
    outcome
}

/// The play, then nothing until the person stops us; with `--once`, the play alone.
async fn perform(
    args: &Args,
    folder: &Folder,
    place: &Place,
    since: Instant,
    agent: demo::AgentSlot,
) -> Result<(), Failure> {
    wait_until_ready(&place.api, &folder.log("serve")).await?;
    println!("{:>6.1} s  serving at {}", since.elapsed().as_secs_f32(), place.api);
    let mut played = None;
    if !args.no_demo {
        let script = demo::Script {
            run_for: Duration::from_secs(args.run_for),
            outage: Duration::from_secs(args.outage),
            gasless: args.gasless,
        };
        match demo::play(place, script, since, agent).await {
            Ok(done) => played = Some(done),
            Err(failure) if args.once => return Err(failure),
            Err(failure) => println!("weir: {failure}"),
        }
    }
    if args.once {
        return Ok(());
    }
    try_next(place, played.as_ref());
    std::future::pending().await
}

/// A predecessor that was killed may take a moment to let the port go.
async fn check_port(listen: &str) -> Result<(), Failure> {
    let since = Instant::now();
    loop {
        match std::net::TcpListener::bind(listen) {
            Ok(_) => return Ok(()),
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse
                    && since.elapsed() < PORT_FREE_WITHIN =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => {
                return Err(Failure::new(format!(
                    "{listen} cannot be listened on ({error}); stop what uses it, or set \
                     WEIR_LISTEN=127.0.0.1:PORT"
                )));
            }
        }
    }
}

async fn start_servers(
    args: &Args,
    config: &Config,
    folder: &Folder,
    note: &impl Fn(&str),
) -> Result<(Servers, Place), Failure> {
    let (cluster, database) = match &config.database_url {
        Some(url) => (None, url.clone()),
        None => {
            let cluster = Cluster::start(ClusterOptions::durable(folder.path("postgres")))
                .await
                .map_err(|error| Failure::new(error.to_string()))?;
            cluster
                .ensure_database("weir")
                .await
                .map_err(|error| Failure::new(error.to_string()))?;
            let url = cluster.url("weir");
            note(&format!("PostgreSQL on 127.0.0.1:{}", cluster.port()));
            (Some(cluster), url)
        }
    };
    let (anvil, rpc) = match &config.rpc_url {
        Some(url) => (None, url.clone()),
        None => {
            let options = AnvilOptions {
                port: Some(args.chain_port).filter(|port| *port != 0),
                block_time: Some(BLOCK_TIME),
                state_file: Some(folder.path("chain.json")),
                // written whole each time; an orderly stop writes it anyway
                state_interval: Duration::from_secs(10),
                log_file: Some(folder.log("anvil")),
                ..AnvilOptions::default()
            };
            let anvil =
                Anvil::start(options).await.map_err(|error| Failure::new(error.to_string()))?;
            let url = anvil.url().to_owned();
            note(&format!("chain 31337 (anvil, a block a second) at {url}"));
            (Some(anvil), url)
        }
    };
    let servers = Servers { database: cluster, chain: anvil };
    let deployment = prepare(config, &database, &rpc, args.fill).await?;
    let deployment = config.ours(deployment)?;
    note(&format!("escrow contract at {}", deployment.escrow));
    let metrics_port = testkit::free_port().map_err(Failure::during("finding a free port"))?;
    let place = Place {
        worker_metrics: format!("http://127.0.0.1:{metrics_port}/metrics"),
        api: config.public_url.trim_end_matches('/').to_owned(),
        rpc,
        database,
        folder: folder.path(""),
        escrow: deployment.escrow,
    };
    Ok((servers, place))
}

/// Checks and migrates the database, and deploys the contract unless it is there.
async fn prepare(
    config: &Config,
    database: &str,
    rpc: &str,
    offers: u32,
) -> Result<store::deployment::Deployment, Failure> {
    let clock = Arc::new(SystemClock);
    let store = Store::connect(database, 2, clock, config.policy.clone())
        .await
        .map_err(Failure::during("the database"))?;
    store::check_server(store.pool()).await.map_err(Failure::during("the database"))?;
    serve::apply_migrations(&store).await?;
    if offers > 0 {
        fill::fill(&store, offers, FILL_SEED).await?;
    }
    let client = ReadClient::connect(rpc).map_err(Failure::during("RPC_URL"))?;
    tokio::time::timeout(deploy::DEPLOY_WITHIN, deploy::ensure(&store, &client, rpc))
        .await
        .map_err(|_| {
            Failure::new("the escrow was not deployed in time; does the chain make blocks?")
        })?
}

fn environment(config: &Config, place: &Place) -> BTreeMap<String, String> {
    let mut environment: BTreeMap<String, String> = LOCAL
        .iter()
        .filter(|(name, _)| std::env::var_os(name).is_none())
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    environment.insert("DATABASE_URL".to_owned(), place.database.clone());
    environment.insert("RPC_URL".to_owned(), place.rpc.clone());
    environment.insert("WEIR_ESCROW".to_owned(), place.escrow.to_string());
    environment.insert("WEIR_LISTEN".to_owned(), config.listen.clone());
    environment.insert("WEIR_PUBLIC_URL".to_owned(), place.api.clone());
    environment
}

fn worker(config: &Config, folder: &Folder, place: &Place) -> Plan {
    let mut environment = environment(config, place);
    let key = config::text("WEIR_OPERATOR_KEY");
    let key = if key.is_empty() { Roles::OPERATOR.to_owned() } else { key };
    environment.insert("WEIR_OPERATOR_KEY".to_owned(), key);
    let metrics = place.worker_metrics.trim_start_matches("http://").trim_end_matches("/metrics");
    environment.insert("WEIR_METRICS_LISTEN".to_owned(), metrics.to_owned());
    Plan {
        name: "work",
        arguments: vec!["work".to_owned()],
        environment,
        without: &["WEIR_QUOTE_KEY"],
        log: folder.log("work"),
    }
}

fn server(config: &Config, folder: &Folder, place: &Place) -> Plan {
    let mut environment = environment(config, place);
    let key = config::text("WEIR_QUOTE_KEY");
    let key = if key.is_empty() { Roles::QUOTER.to_owned() } else { key };
    environment.insert("WEIR_QUOTE_KEY".to_owned(), key);
    let image = folder.path("market.image").display().to_string();
    environment.insert("WEIR_MARKET_IMAGE".to_owned(), image);
    Plan {
        name: "serve",
        arguments: vec!["serve".to_owned()],
        environment,
        // the process that answers the internet holds no key that moves money
        without: &["WEIR_OPERATOR_KEY"],
        log: folder.log("serve"),
    }
}

async fn wait_until_ready(api: &str, log: &Path) -> Result<(), Failure> {
    let since = Instant::now();
    let http = tls::direct(READY_WITHIN).map_err(Failure::during("the HTTP client"))?;
    while since.elapsed() < READY_WITHIN {
        let answer = http.get(format!("{api}/readyz")).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Failure::new(format!(
        "the API did not become ready in {} s; its log is {}",
        READY_WITHIN.as_secs(),
        log.display()
    )))
}

async fn stop_servers(servers: Servers) -> Result<(), Failure> {
    if let Some(chain) = servers.chain {
        chain.stop().await.map_err(|error| Failure::new(error.to_string()))?;
    }
    if let Some(database) = servers.database {
        database.stop().await.map_err(|error| Failure::new(error.to_string()))?;
    }
    Ok(())
}

fn try_next(place: &Place, played: Option<&demo::Played>) {
    let api = &place.api;
    println!("\nTry next (Ctrl-C stops everything):");
    println!("  {api}/docs                                the API, interactive");
    println!("  curl -s {api}/v1/offers                    what is for rent");
    println!("  curl -s {api}/v1/gpu-models                what could be");
    if let Some(played) = played {
        let rental = &played.rental;
        println!(
            "  export RENTER='Authorization: Bearer {}'   # a day's session of the demo renter",
            played.token
        );
        println!("  curl -s -H \"$RENTER\" {api}/v1/rentals/{rental}/receipt");
        println!("  curl -sN -H \"$RENTER\" {api}/v1/rentals/{rental}/events");
    }
    println!("  curl -s {} | grep weir_", place.worker_metrics);
}
