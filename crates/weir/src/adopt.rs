//! `weir adopt`: tells a database which contract it belongs to. Everything that the deployment's manifest and the network's
//! file say is held against the chain first, and nothing is written unless all of it is so.

use std::path::PathBuf;

use alloy::{eips::BlockId, primitives::Address, sol_types::SolCall};
use chain::{BlockHeader, ChainError, ReadClient};
use clap::Args as ClapArgs;
use store::{
    Store, StoreError, TxError,
    deployment::{self, Deployment},
    feeds, tokens,
};

use crate::{config::Config, failure::Failure, serve::open_store};

mod contract;
mod file;
mod listing;
mod price;

use file::{Manifest, Network};
use listing::Listing;
use price::Feed;

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// What deploy/escrow wrote, deploy/deployed/NETWORK.json
    manifest: PathBuf,
    /// Which tokens are offered and what prices them, deploy/networks/NETWORK.json
    #[arg(long, value_name = "FILE")]
    network: PathBuf,
    /// Check everything and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Take roles that were changed since the deployment; they are told all the same
    #[arg(long)]
    changed_roles: bool,
}

/// Checks, tells each thing in a line, and records.
///
/// # Errors
/// If anything is not as the files say, or the database belongs to another deployment.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let manifest: Manifest = file::read(&args.manifest)?;
    let network: Network = file::read(&args.network)?;
    if network.chain_id != manifest.chain_id {
        return Err(Failure::new(format!(
            "the network's file is of chain {}, the manifest of chain {}",
            network.chain_id, manifest.chain_id
        )));
    }
    let config = Config::from_env()?;
    let ours = deployment_of(&manifest);
    if let Some(told) = config.escrow.filter(|told| *told != ours.escrow) {
        return Err(Failure::new(format!(
            "WEIR_ESCROW is {told}, the manifest's contract is {}",
            ours.escrow
        )));
    }
    let store = open_store(&config).await?;
    let is_known = refuse_another(&store, &ours).await?;
    let client = ReadClient::connect(config.rpc()?).map_err(Failure::during("RPC_URL"))?;
    let mut found = Findings::default();
    let chain = contract::reach(client, &manifest, &found).await?;
    contract::check(&chain, &manifest, args.changed_roles, &mut found).await?;
    let listings = listing::check(&chain, &store, (&manifest, &network), &mut found).await?;
    found.all_good()?;
    let is_complete =
        is_known && listings.iter().all(|listing| !listing.is_due && listing.feed.is_none());
    match (is_complete, args.dry_run) {
        (true, _) => println!("all of it is recorded already"),
        (false, true) => println!("dry run: nothing was recorded"),
        (false, false) => {
            record(&store, ours, listings).await?;
            println!("recorded; for the services: WEIR_ESCROW={}", manifest.escrow.address);
        }
    }
    Ok(())
}

fn deployment_of(manifest: &Manifest) -> Deployment {
    Deployment {
        chain_id: manifest.chain_id,
        genesis_hash: manifest.genesis_hash,
        escrow: manifest.escrow.address,
        code_hash: manifest.escrow.code_hash,
        deployed_block: manifest.escrow.block,
    }
}

/// Whether the deployment is recorded.
///
/// # Errors
/// If another one is.
async fn refuse_another(store: &Store, ours: &Deployment) -> Result<bool, Failure> {
    let mut connection = store.read().await.map_err(Failure::during("the database"))?;
    let known = deployment::get(&mut connection).await.map_err(Failure::during("the database"))?;
    match known {
        Some(known) if known != *ours => Err(Failure::new(format!(
            "the database belongs to the contract {} on chain {}, deployed in block {}, and not to {} on chain {} in \
             block {}: it does so for ever, give the other one a database of its own",
            known.escrow,
            known.chain_id,
            known.deployed_block,
            ours.escrow,
            ours.chain_id,
            ours.deployed_block
        ))),
        Some(_) => Ok(true),
        None => Ok(false),
    }
}

async fn record(store: &Store, ours: Deployment, listings: Vec<Listing>) -> Result<(), Failure> {
    let recorded = store
        .write("adopt a deployment", move |tx| {
            let (ours, listings) = (ours.clone(), listings.clone());
            Box::pin(async move {
                deployment::record(tx, &ours).await?;
                for Listing { token, is_due, feed } in &listings {
                    if *is_due {
                        tokens::upsert(tx, token).await?;
                        if token.fixed {
                            // what it was priced by has no say in it any more
                            feeds::forget(tx, token.address).await?;
                        }
                    }
                    if let Some(Feed { at, decimals, max_age }) = feed {
                        feeds::name(tx, token.address, *at, *decimals, *max_age).await?;
                    }
                }
                Ok::<_, TxError<StoreError>>(())
            })
        })
        .await;
    recorded.map_err(Failure::during("recording the deployment"))
}

/// The chain as of its newest final block: what could leave it is not recorded.
struct Chain {
    client: ReadClient,
    last: BlockHeader,
}

impl Chain {
    /// What a contract answers; none where it has no such function, or another one of its name.
    ///
    /// # Errors
    /// If the chain does not answer.
    async fn ask<C: SolCall>(&self, to: Address, call: &C) -> Result<Option<C::Return>, Failure> {
        let at = BlockId::hash(self.last.hash);
        match self.client.call_at(to, call.abi_encode(), at).await {
            Ok(told) => Ok(C::abi_decode_returns(&told).ok()),
            Err(ChainError::Reverts { .. }) => Ok(None),
            Err(
                error @ (ChainError::Unavailable(_)
                | ChainError::Refused { .. }
                | ChainError::Nonsense(_)),
            ) => Err(Failure::during("the chain")(error)),
        }
    }
}

/// What was found, a line each as it comes.
#[derive(Default)]
struct Findings {
    faults: Vec<String>,
}

impl Findings {
    fn good(&self, what: &str) {
        println!("good   {what}");
    }

    fn note(&self, what: &str) {
        println!("note   {what}");
    }

    fn fault(&mut self, what: &str) {
        println!("WRONG  {what}");
        self.faults.push(what.to_owned());
    }

    fn require(&mut self, is_so: bool, what: &str, otherwise: &str) {
        if is_so {
            self.good(what);
        } else {
            self.fault(&format!("{what}: {otherwise}"));
        }
    }

    fn count(&self) -> usize {
        self.faults.len()
    }

    fn all_good(&self) -> Result<(), Failure> {
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("nothing was recorded: {}", self.faults.join("; "))))
    }
}
