//! One full rental, played by two people: a provider whose machine runs an agent, and a renter with a
//! wallet. Everything goes through the public API and the chain, as it would for a stranger; whatever
//! was left unfinished by an earlier run is taken up where it was.

mod chain;
mod client;
mod follow;
mod funding;
mod memory;
mod provider;
mod receipt;
mod renter;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use crate::{deploy::Roles, failure::Failure, place::Place, services::Service, wallet::Wallet};

use chain::Eyes;
use client::Api;
use memory::Memory;

/// Where the agent's process is kept, so that whoever stops everything finds it.
pub(crate) type AgentSlot = Arc<Mutex<Option<Service>>>;

/// How the rental goes.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    /// Running time before the outage, and again after it.
    pub(crate) run_for: Duration,
    /// How long the machine is away; zero for no outage.
    pub(crate) outage: Duration,
    /// The renter has no native coin: the deposit is locked by authorization.
    pub(crate) gasless: bool,
}

/// A rental that was played to its end.
pub(crate) struct Played {
    /// Its id.
    pub(crate) rental: String,
    /// The renter's session, for a person to go on with.
    pub(crate) token: String,
}

/// The people of the play and what they see.
struct Stage<'a> {
    place: &'a Place,
    script: Script,
    since: Instant,
    agent: AgentSlot,
    memory: Memory,
    eyes: Eyes,
    renter: Wallet,
    renter_api: Api,
    provider: Wallet,
    provider_api: Api,
}

impl Stage<'_> {
    /// A line of the timeline.
    fn say(&self, who: &str, what: &str) {
        say(self.since, who, what);
    }
}

fn say(since: Instant, who: &str, what: &str) {
    println!("{:>6.1} s  {who:<9} {what}", since.elapsed().as_secs_f32());
}

/// Plays one rental and shows its receipt beside what the chain says.
///
/// # Errors
/// What went wrong, or which figure does not add up.
pub(crate) async fn play(
    place: &Place,
    script: Script,
    since: Instant,
    agent: AgentSlot,
) -> Result<Played, Failure> {
    let mut memory = Memory::open(&place.folder.join("demo.json"))?;
    // a rental that was left is its own renter's
    let gasless = memory.notes.rental.as_ref().map_or(script.gasless, |playing| playing.gasless);
    let script = Script { gasless, ..script };
    let renter = if gasless {
        funding::poor_renter(&mut memory, place).await?
    } else {
        Wallet::open(Roles::RENTER, &place.rpc).await?
    };
    let provider = Wallet::open(Roles::PROVIDER, &place.rpc).await?;
    let mut stage = Stage {
        place,
        script,
        since,
        agent,
        memory,
        eyes: Eyes::new(&place.rpc, place.escrow)?,
        renter_api: Api::sign_in(&place.api, &renter).await?,
        provider_api: Api::sign_in(&place.api, &provider).await?,
        renter,
        provider,
    };
    provider::list_machine(&mut stage).await?;
    let rental = renter::rent(&mut stage).await?;
    let token = stage.renter_api.token().to_owned();
    receipt::show(&mut stage, &rental).await?;
    Ok(Played { rental, token })
}
