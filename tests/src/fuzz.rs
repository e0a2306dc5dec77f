//! Requests that nobody thought of, made from the API's description, to a market of real processes with rentals in it.

use std::{
    path::Path,
    process::Stdio,
    sync::{Arc, atomic::Ordering},
};

use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::chaos::{
    load::Load,
    world::{Plan, World},
};
use cast::Known;
pub use tally::Tally;

mod cast;
mod tally;

/// How much is asked.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub seed: u64,
    /// The most requests of a kind for each operation.
    pub examples: u64,
    /// Every pass asks in every way; else those that ask again what another did ask once of each kind, at random.
    pub whole: bool,
}

const EVERY_WAY: &str = "examples,coverage,fuzzing,stateful";
const AT_RANDOM: &str = "fuzzing";
/// What is not asked by the one session that all requests share: it would be over.
const ENDS_THE_SESSION: &str = "/v1/auth/logout";
/// A stream that begins for whoever signed in and goes on for an hour; each look at it would last as long as a request may.
const GOES_ON: &str = "/v1/events";
/// The same of a rental that runs.
const GOES_ON_WHILE_IT_RUNS: &str = "GET /v1/rentals/{id}/events";
const AGENT: &str = "^/v1/agent/";
const OF_A_RENTAL: &str = r"^/v1/rentals/\{id\}";
const AN_END: &str = r"^/v1/rentals/\{id\}/end$";
const OF_SOMETHING: &str = r"^(?!/v1/agent/).*\{";
/// What ends the thing that it is asked about: asked last of all.
const ENDS: &[&str] = &[
    "DELETE /v1/api-keys/{id}",
    "DELETE /v1/machines/{id}/maintenance/{window}",
    "DELETE /v1/offers/{id}",
    "DELETE /v1/rentals/{id}/tokens",
    "DELETE /v1/sessions",
    "DELETE /v1/sessions/{id}",
    "DELETE /v1/ssh-keys/{id}",
    "DELETE /v1/webhooks/{id}",
    "POST /v1/disputes/{id}/withdraw",
    "POST /v1/machines/{id}/retire",
    "POST /v1/rentals/{id}/stop",
];
const CONFIGURATION: &str = include_str!("../fuzz/schemathesis.toml");

/// Who asks for what.
struct Pass {
    name: &'static str,
    token: Option<String>,
    /// What schemathesis includes or excludes: options and their values.
    which: Vec<(&'static str, &'static str)>,
    /// What is there.
    known: Vec<Known>,
    /// What is left out of what is included.
    without: Vec<&'static str>,
    /// It asks what another pass asks too, as somebody else.
    again: bool,
}

impl Pass {
    fn new(name: &'static str, token: &str, paths: (&'static str, &'static str)) -> Self {
        let token = (!token.is_empty()).then(|| token.to_owned());
        let (known, without) = (Vec::new(), Vec::new());
        Self { name, token, which: vec![paths], known, without, again: false }
    }

    fn about(self, known: &[Known]) -> Self {
        Self { known: known.to_vec(), ..self }
    }

    /// What is asked about stays as it is.
    fn sparing(self) -> Self {
        let without = ENDS.iter().copied().chain([GOES_ON_WHILE_IT_RUNS]).collect();
        Self { without, ..self }
    }

    fn again(self) -> Self {
        Self { again: true, ..self }
    }
}

/// Runs everything: what was asked, and what was found.
pub async fn run(weir: &Path, st: &Path, size: Size) -> (Tally, Vec<String>) {
    let plan = Plan { seed: size.seed, machines: 4, renters: 3, ..Plan::default() };
    let world = World::start(weir, plan).await;
    let mut load = Load::start(&world, 6).await;
    let stop = CancellationToken::new();
    let (mut tally, mut found) = (Tally::default(), Vec::new());
    let stage = cast::Stage::new(&world, &load.record, size.seed, &stop);
    let busy = stage.busy().await;
    // its rentals come to where they have to be while the first pass asks
    let holder = {
        let stage = stage.clone();
        tokio::spawn(async move { stage.holder().await })
    };
    let mut ask = async |pass: Pass| {
        if let Err(reason) = fuzz(&world, st, size, &pass, &mut tally).await {
            found.push(reason);
        }
    };
    ask(Pass::new("a wallet", &busy, ("--exclude-path-regex", AGENT))).await;
    let holder = holder.await.expect("the rentals to be asked about");
    for pass in passes(&holder) {
        ask(pass).await;
    }
    let known = stage.ending(&holder).await;
    let paths = ("--include-path-regex", AN_END);
    ask(Pass::new("a rental that ends", &holder.token, paths).about(&known)).await;
    let (agent, known) = stage.agent().await;
    ask(Pass::new("an agent", &agent, ("--include-path-regex", AGENT)).about(&known)).await;
    let which = ENDS.iter().map(|operation| ("--include-name", *operation)).collect();
    let ends = Pass::new("a wallet that ends what it has", &holder.token, ("", ""));
    ask(Pass { which, ..ends }.about(&holder.known)).await;
    stop.cancel();
    if world.ended.load(Ordering::SeqCst) > 0 {
        found.push("a process ended".to_owned());
    }
    if let Err(reason) = load.finish().await {
        found.push(reason);
    }
    (tally, found)
}

/// What is asked about a wallet's things: by itself, by its rental's and its program's tokens, by nobody.
fn passes(holder: &cast::Holder) -> Vec<Pass> {
    let paths = ("--include-path-regex", OF_A_RENTAL);
    let (token, known) = (&holder.token, &holder.known);
    vec![
        Pass::new("what a wallet has", token, ("--include-path-regex", OF_SOMETHING))
            .about(known)
            .sparing(),
        Pass::new("a rental that is over", token, paths).about(&holder.settled),
        Pass::new("a rental's token", &holder.rental_token, paths).about(known).sparing().again(),
        Pass::new("a key with two scopes", &holder.key, ("--exclude-path-regex", AGENT))
            .about(known)
            .sparing()
            .again(),
        Pass::new("nobody", "", ("--include-path-regex", "^/")).about(known).again(),
    ]
}

async fn fuzz(
    world: &Arc<World>,
    st: &Path,
    size: Size,
    pass: &Pass,
    tally: &mut Tally,
) -> Result<(), String> {
    let url = &world.url;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (log, configuration) = (folder.path().join("asked"), folder.path().join("st.toml"));
    std::fs::write(&configuration, told(pass)).map_err(|error| error.to_string())?;
    eprintln!("fuzz: {} ...", pass.name);
    let briefly = pass.again && !size.whole;
    let (phases, examples) = if briefly { (AT_RANDOM, 1) } else { (EVERY_WAY, size.examples) };
    let mut command = Command::new(st);
    command.arg("--config-file").arg(&configuration);
    command.args(["run", &format!("{url}/openapi.json"), "--url", url]);
    if let Some(token) = &pass.token {
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    for (which, value) in &pass.which {
        command.args([which, value]);
    }
    let ended = command
        .args(["--exclude-path", ENDS_THE_SESSION, "--exclude-path", GOES_ON])
        .args(["--max-examples", &examples.to_string(), "--seed", &size.seed.to_string()])
        .args(["--phases", phases, "--workers", "2", "--no-color"])
        .args(["--warnings", "off", "--report-ndjson-path"])
        .arg(&log)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .status()
        .await
        .map_err(|error| format!("{}: {error}", st.display()))?;
    tally.count(&log).map_err(|error| format!("{}: its record: {error}", pass.name))?;
    if ended.success() {
        return Ok(());
    }
    Err(format!("{}: schemathesis found something, see above", pass.name))
}

/// The configuration of a pass.
fn told(pass: &Pass) -> String {
    let mut told = CONFIGURATION.to_owned();
    for Known { path, parameter, value } in &pass.known {
        told += &format!(
            "\n[[operations]]\ninclude-path-regex = '{path}'\nparameters = {{ 'path.{parameter}' = '{value}' }}\n"
        );
    }
    for operation in &pass.without {
        told += &format!("\n[[operations]]\ninclude-name = '{operation}'\nenabled = false\n");
    }
    told
}
