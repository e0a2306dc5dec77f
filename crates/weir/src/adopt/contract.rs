//! The escrow on its chain, held against its manifest and against what this program was built with.

use std::collections::BTreeSet;

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, keccak256},
    sol_types::{SolConstructor as _, SolEvent as _},
};
use chain::{Identified, Identity, ReadClient};
use escrow::bindings::Escrow;

use super::{
    Chain, Findings,
    file::{Arguments, Contract, Manifest},
};
use crate::failure::Failure;

/// Blocks whose logs are asked for at once, at first and at most. Many providers take fewer.
const LARGEST_RANGE: u64 = 100_000;
/// The most questions for logs: a contract that is years old is not read to the end for one line.
const MOST_RANGES: u32 = 500;

/// The chain, if every endpoint that answers serves the manifest's and the contract is in a final block of it.
///
/// # Errors
/// If it is not, or the chain does not answer.
pub(super) async fn reach(
    client: ReadClient,
    manifest: &Manifest,
    found: &Findings,
) -> Result<Chain, Failure> {
    let ours = Identity { chain_id: manifest.chain_id, genesis: manifest.genesis_hash };
    let mut trouble = None;
    let mut answered = 0_u32;
    for Identified { endpoint, identity } in client.identify().await {
        match identity {
            Ok(theirs) if theirs == ours => answered = answered.saturating_add(1),
            Ok(theirs) => {
                return Err(Failure::new(format!(
                    "{endpoint} of RPC_URL serves chain {} with the first block {}, the manifest is of chain {} with {}",
                    theirs.chain_id, theirs.genesis, ours.chain_id, ours.genesis
                )));
            }
            Err(error) => {
                found.note(&format!(
                    "{endpoint} of RPC_URL does not say which chain it serves: {error}"
                ));
                trouble = Some(error);
            }
        }
    }
    if let Some(error) = trouble.filter(|_| answered == 0) {
        return Err(Failure::during("RPC_URL")(error));
    }
    client.expect(ours);
    found.good(&format!("chain {} with the first block {}", ours.chain_id, ours.genesis));
    let last = client.finalized().await.map_err(Failure::during("the chain"))?;
    let last = last.ok_or_else(|| Failure::new("the chain has no final block"))?;
    if last.number < manifest.escrow.block {
        return Err(Failure::new(format!(
            "the contract is in block {}, and the last final one is {}: wait, and run this again",
            manifest.escrow.block, last.number
        )));
    }
    Ok(Chain { client, last })
}

/// Code, address, origin, signing domain and roles.
///
/// # Errors
/// If the chain does not answer.
pub(super) async fn check(
    chain: &Chain,
    manifest: &Manifest,
    takes_changes: bool,
    found: &mut Findings,
) -> Result<(), Failure> {
    built_from(manifest, found);
    let escrow = &manifest.escrow;
    let code = chain.client.code_hash(escrow.address).await;
    let code = code.map_err(Failure::during("the chain"))?;
    let said = code.map_or("no code".to_owned(), |hash| format!("code {hash}"));
    found.require(
        code == Some(escrow.code_hash),
        &format!("escrow {}: {said}", escrow.address),
        &format!("is not the manifest's {}", escrow.code_hash),
    );
    origin(chain, escrow, found).await?;
    let separator = chain.ask(escrow.address, &Escrow::domainSeparatorCall {}).await?;
    found.require(
        separator == Some(escrow::domain(manifest.chain_id, escrow.address).separator()),
        "the contract signs in the domain that this program signs in",
        "is not so: use the weir that was built for this contract",
    );
    roles(chain, escrow, takes_changes, found).await
}

/// The address follows from deployer, salt, code and arguments: code that this program has lies there, or none.
fn built_from(manifest: &Manifest, found: &mut Findings) {
    let Arguments { owner, guardian, treasury, arbiter, operators, tokens } =
        &manifest.escrow.arguments;
    let config = Escrow::Config {
        owner: *owner,
        guardian: *guardian,
        treasury: *treasury,
        arbiter: *arbiter,
        operators: operators.clone(),
        tokens: tokens.clone(),
    };
    let mut init = Escrow::BYTECODE.to_vec();
    init.extend(Escrow::constructorCall { config }.abi_encode());
    let hash = keccak256(&init);
    found.require(
        hash == manifest.escrow.init_code_hash,
        "the contract is what this program was built with",
        &format!(
            "is not so: code and arguments have the hash {hash}, the manifest says {}",
            manifest.escrow.init_code_hash
        ),
    );
    let address = manifest.create2.deployer.create2(manifest.create2.salt, hash);
    found.require(
        address == manifest.escrow.address,
        "its address follows from code, arguments and salt",
        &format!("is not so: they give {address}, the manifest says {}", manifest.escrow.address),
    );
}

/// The watcher begins at the block: an event before it would never be seen.
async fn origin(chain: &Chain, escrow: &Contract, found: &mut Findings) -> Result<(), Failure> {
    let Some(transaction) = escrow.transaction else {
        found.note(&format!(
            "the manifest names no transaction; that the contract came in block {} is believed",
            escrow.block
        ));
        return Ok(());
    };
    let asked = chain.client.header(BlockNumberOrTag::Number(escrow.block)).await;
    let block = asked.map_err(Failure::during("the chain"))?;
    let block = block.ok_or_else(|| {
        Failure::new(format!("the chain's node does not have block {}", escrow.block))
    })?;
    let receipts = chain.client.receipts(&block).await.map_err(Failure::during("the chain"))?;
    let came = receipts.iter().any(|receipt| {
        receipt.hash == transaction && receipt.succeeded && receipt.logged.contains(&escrow.address)
    });
    found.require(
        came,
        &format!("it came with transaction {transaction} in block {}", escrow.block),
        "is not so",
    );
    Ok(())
}

async fn roles(
    chain: &Chain,
    escrow: &Contract,
    takes_changes: bool,
    found: &mut Findings,
) -> Result<(), Failure> {
    let at = escrow.address;
    let then = &escrow.arguments;
    let changed = |found: &mut Findings, line: &str| {
        if takes_changes {
            found.note(line);
        } else {
            found.fault(&format!("{line} (if that is meant: --changed-roles)"));
        }
    };
    let others = other_operators(chain, escrow).await;
    let held = [
        ("owner", chain.ask(at, &Escrow::ownerCall {}).await?, then.owner),
        ("guardian", chain.ask(at, &Escrow::guardianCall {}).await?, then.guardian),
        ("treasury", chain.ask(at, &Escrow::treasuryCall {}).await?, then.treasury),
        ("arbiter", chain.ask(at, &Escrow::arbiterCall {}).await?, then.arbiter),
    ];
    let mut as_deployed = true;
    for (role, now, then) in held {
        if now != Some(then) {
            as_deployed = false;
            let now = now.unwrap_or(Address::ZERO);
            let line = format!("changed since the deployment: {role} is {now}, not {then}");
            changed(found, &line);
        }
    }
    for operator in &then.operators {
        if chain.ask(at, &Escrow::isOperatorCall { account: *operator }).await? != Some(true) {
            as_deployed = false;
            changed(found, &format!("changed since the deployment: {operator} is no operator"));
        }
    }
    let others = match others {
        Ok(others) => others,
        Err(why) => {
            found.note(&format!(
                "whether other operators were added since the deployment is not known: {why}; the contract's events \
                 OperatorSet from block {} on tell it",
                escrow.block
            ));
            if as_deployed {
                found.good(
                    "owner, guardian, treasury and arbiter are those of the deployment, and its operators are still \
                     operators",
                );
            }
            return Ok(());
        }
    };
    for other in others {
        if chain.ask(at, &Escrow::isOperatorCall { account: other }).await? == Some(true) {
            as_deployed = false;
            changed(found, &format!("changed since the deployment: {other} is an operator"));
        }
    }
    if as_deployed {
        found.good("owner, guardian, treasury, arbiter and operators are those of the deployment");
    }
    Ok(())
}

/// Who was made an operator, ever, and is none of the manifest's; or why that cannot be told.
async fn other_operators(chain: &Chain, escrow: &Contract) -> Result<BTreeSet<Address>, String> {
    let mut seen = BTreeSet::new();
    let (mut from, mut size) = (escrow.block, LARGEST_RANGE);
    for _ in 0..MOST_RANGES {
        let to = chain.last.number.min(from.saturating_add(size.saturating_sub(1)));
        match chain.client.logs_between((from, to), escrow.address).await {
            Ok(logs) => {
                for log in logs {
                    if log.topic0() != Some(&Escrow::OperatorSet::SIGNATURE_HASH) {
                        continue;
                    }
                    let set = Escrow::OperatorSet::decode_log(&log.inner);
                    seen.insert(set.map_err(|error| error.to_string())?.operator);
                }
                if to >= chain.last.number {
                    return without_the_deployments(seen, escrow);
                }
                from = to.saturating_add(1);
                size = size.saturating_mul(2).min(LARGEST_RANGE);
            }
            Err(error) if error.asks_for_less() && size > 1 => size = (size / 2).max(1),
            Err(error) => return Err(format!("the chain's node tells no logs: {error}")),
        }
    }
    Err(format!("the logs of {MOST_RANGES} ranges of blocks end before block {from}"))
}

/// A node that has forgotten the deployment's own events has forgotten others, too.
fn without_the_deployments(
    mut seen: BTreeSet<Address>,
    escrow: &Contract,
) -> Result<BTreeSet<Address>, String> {
    let ours: BTreeSet<Address> = escrow.arguments.operators.iter().copied().collect();
    if !ours.is_subset(&seen) {
        return Err("the chain's node does not have the logs of the deployment".to_owned());
    }
    seen.retain(|operator| !ours.contains(operator));
    Ok(seen)
}
