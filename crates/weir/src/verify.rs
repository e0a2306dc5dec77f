//! Checks a receipt without trusting anybody: offline by its own signatures and arithmetic, and against the chain.

mod against;
mod apart;

use std::{
    io::{Read as _, stdin},
    path::{Path, PathBuf},
};

use alloy::primitives::Address;
use chain::ReadClient;
use clap::Args as ClapArgs;
use escrow::receipt::{self, Fault, Proven, Receipt};
use serde_json::json;

use crate::failure::Failure;

/// A receipt with 10,000 readings of the longest detail has some 15 MB.
const MOST_BYTES: u64 = 64 * 1_024 * 1_024;
/// Readings of a month have some 500 MB, each of them less than this.
const MOST_READINGS: u64 = 2_048 * 1_024 * 1_024;

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The file from /v1/rentals/{id}/sealed-receipt, as it came; - reads standard input
    receipt: PathBuf,
    /// Hold it against the chain too, through this JSON-RPC endpoint (or several, separated by commas)
    #[arg(long, value_name = "URL")]
    rpc: Option<String>,
    /// Its readings, one as JSON per line and as they came, where the receipt does not hold them
    #[arg(long, value_name = "FILE")]
    readings: Option<PathBuf>,
    /// A key that signs for the platform; without one, any key is believed that signed quote and receipt, with a warning
    #[arg(long, value_name = "ADDRESS")]
    platform: Vec<Address>,
    /// The key of the machine's agent; without it, any key is believed that signed all of the readings
    #[arg(long, value_name = "ADDRESS")]
    agent: Option<Address>,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

/// Checks, and prints what was found.
///
/// # Errors
/// Exit code 8 if anything in it is not true; another if it could not be checked.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let bytes = bytes_of(&args.receipt)?;
    let apart = args.readings.as_deref().map(readings_of).transpose()?;
    let mut found = check(&bytes, apart.as_deref(), &args.platform, args.rpc.as_deref()).await?;
    if let Some(fault) = args.agent.and_then(|agent| other_agent(&bytes, agent)) {
        found = match found {
            Ok(_) => Err(vec![fault]),
            Err(faults) => Err(faults.into_iter().chain([fault]).collect()),
        };
    }
    if args.json {
        println!("{}", as_json(&found, &args));
    }
    match found {
        Ok((receipt, proven)) => {
            if !args.json {
                print(&receipt, &proven, &args);
            }
            Ok(())
        }
        Err(faults) => Err(untrue(&faults)),
    }
}

/// What was found in a receipt.
type Found = Result<(Receipt, Proven), Vec<Fault>>;

/// The one check: the demonstration makes it too.
///
/// # Errors
/// If the chain does not answer. What is not true is in the answer.
pub(crate) async fn check(
    bytes: &[u8],
    apart: Option<&str>,
    platform: &[Address],
    rpc: Option<&str>,
) -> Result<Found, Failure> {
    let receipt = match receipt::read(bytes) {
        Ok(receipt) => receipt,
        Err(fault) => return Ok(Err(vec![fault])),
    };
    let apart = match apart.map(|text| apart::read(text, &receipt)).transpose() {
        Ok(apart) => apart,
        Err(fault) => return Ok(Err(vec![fault])),
    };
    let mut faults = Vec::new();
    let proven = match receipt::verify(&receipt, apart.as_deref(), platform) {
        Ok(proven) => Some(proven),
        Err(found) => {
            faults = found;
            None
        }
    };
    if let Some(url) = rpc {
        let client = ReadClient::connect(url).map_err(Failure::during("--rpc"))?;
        faults.extend(against::chain(&receipt, &client).await?);
    }
    Ok(match proven {
        Some(proven) if faults.is_empty() => Ok((receipt, proven)),
        _ => Err(faults),
    })
}

/// Whether another key signed the readings than the machine's agent is known by.
fn other_agent(bytes: &[u8], agent: Address) -> Option<Fault> {
    let told = receipt::read(bytes).ok()?.readings.agent?;
    let problem = format!("{told} signed the readings, and not {agent}");
    (told != agent).then(|| Fault::new("/readings/agent", problem))
}

/// The failure of a check.
pub(crate) fn untrue(faults: &[Fault]) -> Failure {
    let lines: Vec<String> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    Failure::untrue(format!("the receipt is NOT verified:{}", lines.concat()))
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        stdin().lock().take(MOST_BYTES).read_to_end(&mut bytes)
    } else {
        let file = std::fs::File::open(path).map_err(Failure::during(&name))?;
        file.take(MOST_BYTES).read_to_end(&mut bytes)
    };
    read.map_err(Failure::during(&name))?;
    Ok(bytes)
}

fn readings_of(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(Failure::during(&name))?;
    let mut text = String::new();
    file.take(MOST_READINGS).read_to_string(&mut text).map_err(Failure::during(&name))?;
    Ok(text)
}

fn print(receipt: &Receipt, proven: &Proven, args: &Args) {
    let totals = proven.totals;
    let signers: Vec<String> = proven.platform.iter().map(ToString::to_string).collect();
    println!("verified  {}", receipt.rental);
    println!("  on the chain   {} of {} on chain {}", proven.id, receipt.escrow, receipt.chain_id);
    println!("  signed by      {} for the platform", signers.join(" and "));
    println!("  evidence       {} signed readings", proven.readings);
    if let Some(agent) = receipt.readings.agent {
        let whose = if args.agent.is_some() {
            "as --agent says"
        } else {
            "by its own word (--agent ADDRESS)"
        };
        println!("  by the machine {agent}, {whose}");
    }
    println!("  billed         {} at {} base units/h", totals.billed, proven.terms.pricePerHour);
    println!(
        "  split          {} provider + {} fee + {} refund = {} deposit",
        totals.provider, totals.fee, totals.refund, totals.deposit
    );
    if args.rpc.is_some() {
        println!("  the chain      says the same, in final blocks");
    } else {
        println!("  the chain      was not asked (--rpc URL)");
    }
    if args.platform.is_empty() {
        let signers = signers.join(" and ");
        println!(
            "  WARNING        {signers} may be anybody's key: name the platform's own (--platform ADDRESS, from a copy of \
             /v1/deployment)"
        );
    }
}

fn as_json(found: &Found, args: &Args) -> String {
    let with_chain = args.rpc.is_some();
    let answer = match found {
        Ok((receipt, proven)) => json!({
            "verified": true,
            "chain_asked": with_chain,
            "rental": receipt.rental,
            "escrow_id": proven.id,
            "chain_id": receipt.chain_id,
            "escrow": receipt.escrow,
            "platform": proven.platform,
            // keys that nobody vouched for
            "unproven": if args.platform.is_empty() { proven.platform.as_slice() } else { &[] },
            "readings": proven.readings,
            "agent": receipt.readings.agent,
            "totals": proven.totals,
            "faults": [],
        }),
        Err(faults) => {
            let faults: Vec<_> = faults
                .iter()
                .map(|fault| json!({ "pointer": fault.pointer, "problem": fault.problem }))
                .collect();
            json!({ "verified": false, "chain_asked": with_chain, "faults": faults })
        }
    };
    answer.to_string()
}
