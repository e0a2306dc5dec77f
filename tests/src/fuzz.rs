//! Requests that nobody thought of, made from the API's description, to a market of real processes with rentals in it.

use std::{
    path::Path,
    process::Stdio,
    sync::{Arc, atomic::Ordering},
};

use alloy::signers::local::PrivateKeySigner;
use serde_json::json;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::{
    chaos::{
        client::{Client, text},
        load::Load,
        machine::Machine,
        site,
        world::{Plan, World},
    },
    random::Random,
};

/// How much is asked.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub seed: u64,
    /// The most requests of a kind for each operation.
    pub examples: u64,
}

/// What is not asked by the one session that all requests share: it would be over.
const ENDS_THE_SESSION: &str = "/v1/auth/logout";
/// A stream that begins for whoever signed in and goes on for an hour; each look at it would last as long as a request may.
const GOES_ON: &str = "/v1/events";
const AGENT: &str = "^/v1/agent/";
const CONFIGURATION: &str = include_str!("../fuzz/schemathesis.toml");

/// Who asks for what.
struct Pass {
    name: &'static str,
    token: String,
    /// `--include-path-regex` or `--exclude-path-regex`, and its expression.
    paths: (&'static str, &'static str),
    /// Ids of what is there, by the beginnings of the paths that name them.
    known: Vec<(&'static str, String)>,
}

/// Runs everything; how many requests there were.
///
/// # Errors
/// What schemathesis found.
pub async fn run(weir: &Path, st: &Path, size: Size) -> Result<usize, String> {
    let plan = Plan { seed: size.seed, machines: 4, renters: 3, ..Plan::default() };
    let world = World::start(weir, plan).await;
    let mut load = Load::start(&world, 6).await;
    let stop = CancellationToken::new();
    let mut asked = 0;
    for pass in passes(&world, &load, size.seed, &stop).await {
        asked += fuzz(&world, st, size, &pass).await?;
    }
    stop.cancel();
    if world.ended.load(Ordering::SeqCst) > 0 {
        return Err("a process ended".to_owned());
    }
    load.finish().await?;
    Ok(asked)
}

/// A wallet that owns a machine and has booked another, asked about whatever comes up and about what it has; and the
/// machine's agent.
async fn passes(world: &Arc<World>, load: &Load, seed: u64, stop: &CancellationToken) -> Vec<Pass> {
    let mut random = Random(!seed);
    let mut key = || PrivateKeySigner::from_bytes(&random.bytes::<32>().into()).unwrap();
    let (owner, agent, other, its_agent) = (key(), key(), key(), key());
    site::give_coins(&world.rpc, &[owner.clone(), other.clone()]).await;
    let own = Machine::list(world, &load.record, &owner, agent.clone(), 98).await;
    let rented = Machine::list(world, &load.record, &other, its_agent, 99).await;
    let wallet = Client::new(world, &load.record);
    wallet.sign_in(&owner).await;
    let of_agent = Client::new(world, &load.record);
    assert!(of_agent.sign_in_agent(&own.id, &agent).await);
    let order = json!({ "offer_id": rented.offer, "duration_s": 600, "token": "USDC" });
    let (_, quote) = wallet.post("/v1/quotes", &order).await;
    let quote = text(&quote, "/id");
    let (_, booked) = wallet.keyed("/v1/rentals", &json!({ "quote_id": quote }), "fuzz").await;
    let rental = text(&booked, "/rental/id");
    let known = [("machines", &own.id), ("offers", &own.offer), ("quotes", &quote)];
    let mut known = known.map(|(path, id)| (path, id.clone())).to_vec();
    known.push(("rentals", rental));
    tokio::spawn(rented.run(stop.clone()));
    tokio::spawn(own.run(stop.clone()));
    let (with_wallet, with_agent) = (wallet.token().await, of_agent.token().await);
    let pass =
        |name, token: &String, paths, known| Pass { name, token: token.clone(), paths, known };
    vec![
        pass("a wallet", &with_wallet, ("--exclude-path-regex", AGENT), Vec::new()),
        pass("what it has", &with_wallet, ("--include-path-regex", r"\{id\}"), known),
        pass("an agent", &with_agent, ("--include-path-regex", AGENT), Vec::new()),
    ]
}

async fn fuzz(world: &Arc<World>, st: &Path, size: Size, pass: &Pass) -> Result<usize, String> {
    let url = &world.url;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (log, configuration) = (folder.path().join("asked"), folder.path().join("st.toml"));
    let mut told = CONFIGURATION.to_owned();
    for (path, id) in &pass.known {
        told += &format!(
            "\n[[operations]]\ninclude-path-regex = '^/v1/{path}/\\{{id\\}}'\nparameters = {{ 'path.id' = '{id}' }}\n"
        );
    }
    std::fs::write(&configuration, told).map_err(|error| error.to_string())?;
    eprintln!("fuzz: {} ...", pass.name);
    let (which, expression) = pass.paths;
    let ended = Command::new(st)
        .arg("--config-file")
        .arg(&configuration)
        .args(["run", &format!("{url}/openapi.json"), "--url", url])
        .args(["--header", &format!("Authorization: Bearer {}", pass.token)])
        .args([which, expression, "--exclude-path", ENDS_THE_SESSION])
        .args(["--exclude-path", GOES_ON])
        .args(["--max-examples", &size.examples.to_string(), "--seed", &size.seed.to_string()])
        .args(["--phases", "examples,coverage,fuzzing,stateful", "--workers", "2", "--no-color"])
        .args(["--warnings", "off", "--report-ndjson-path"])
        .arg(&log)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .status()
        .await
        .map_err(|error| format!("{}: {error}", st.display()))?;
    let asked = std::fs::read_to_string(&log).unwrap_or_default();
    let asked = asked.matches("\"status_code\"").count();
    if ended.success() {
        return Ok(asked);
    }
    Err(format!("{}: schemathesis found something, see above", pass.name))
}
