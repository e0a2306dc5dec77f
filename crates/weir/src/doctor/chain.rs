//! The chain: the recorded one, alive and in time; the contract on it; the fees it wants.

use ::chain::{BlockHeader, ChainError, ReadClient};
use alloy::{eips::BlockNumberOrTag, primitives::U256, sol_types::SolCall as _};
use domain::time::Clock as _;
use escrow::bindings::Escrow;
use store::deployment::Deployment;

use super::{
    database::Known,
    finding::{Finding, Report},
    judge, quoter, signer, tokens,
};
use crate::{clock::SystemClock, config::Config};

/// Checks that need the RPC alone.
const OUTSIDE: [&str; 4] = ["chain.clock", "chain.finality", "fee.tip", "fee.ceiling"];
/// Checks that compare the chain with what the database has recorded.
const RECORDED: [&str; 8] = [
    "chain.id",
    "chain.genesis",
    "escrow.code",
    "escrow.abi",
    "signer.operator",
    "signer.balance",
    quoter::ROLE,
    quoter::FUNDS,
];
const ANOTHER_CHAIN: &str = "point RPC_URL at the chain that this database belongs to";

/// Looks at the chain.
pub(super) async fn examine(config: &Config, known: &Known, closes: u64, report: &mut Report) {
    let reached = reach(config).await;
    report.add(Finding::new(
        "chain.reachable",
        reached.is_ok(),
        match &reached {
            Ok((_, chain_id, head)) => format!("chain {chain_id}, block {}", head.number),
            Err(reason) => reason.clone(),
        },
        "an answer from RPC_URL",
        "check RPC_URL, the network, and the provider's state",
    ));
    let Ok((client, chain_id, head)) = reached else {
        let ids = OUTSIDE.into_iter().chain(RECORDED);
        report.add_all(ids.map(|id| Finding::skipped(id, "needs chain.reachable")));
        return;
    };
    alive(&client, &head, report).await;
    let policy = config.engine.lane.fees;
    let suggested = client.suggested_tip().await;
    report.add_all(match &suggested {
        Ok(suggested) => judge::fees(policy, chain_id, head.base_fee, *suggested),
        Err(error) => {
            [unanswered("fee.tip", error), Finding::skipped("fee.ceiling", "needs fee.tip")]
        }
    });
    let Some(deployment) = &known.deployment else {
        report.add_all(RECORDED.map(|id| Finding::skipped(id, "needs deployment.recorded")));
        return;
    };
    identity(&client, chain_id, deployment, report).await;
    report.add(abi(&client, deployment).await);
    tokens::examine(&client, deployment, known, report).await;
    let fees = policy.fees(head.base_fee, suggested.unwrap_or_default());
    signer::examine(config, &client, deployment, fees, closes, report).await;
    quoter::examine(config, &client, deployment, &known.tokens, report).await;
}

async fn reach(config: &Config) -> Result<(ReadClient, u64, BlockHeader), String> {
    let url = config.rpc().map_err(|failure| failure.to_string())?;
    let asked = async {
        let client = ReadClient::connect(url)?;
        let chain_id = client.chain_id().await?;
        let head = client.head().await?;
        Ok::<_, ChainError>((client, chain_id, head))
    };
    asked.await.map_err(|error| error.to_string())
}

/// A question that the chain did not answer.
pub(super) fn unanswered(id: impl Into<String>, error: &ChainError) -> Finding {
    Finding::new(id, false, error.to_string(), "an answer", "ask again, or another RPC provider")
}

async fn alive(client: &ReadClient, head: &BlockHeader, report: &mut Report) {
    let now = SystemClock.now().seconds();
    report.add(judge::chain_clock(head.timestamp, now));
    report.add(match client.finalized().await {
        Ok(last) => judge::finality(last.map(|block| (block.number, block.timestamp)), now),
        Err(error) => unanswered("chain.finality", &error),
    });
}

/// Id, first block and code, as they were recorded.
async fn identity(
    client: &ReadClient,
    chain_id: u64,
    deployment: &Deployment,
    report: &mut Report,
) {
    report.add(Finding::new(
        "chain.id",
        chain_id == deployment.chain_id,
        chain_id.to_string(),
        deployment.chain_id.to_string(),
        ANOTHER_CHAIN,
    ));
    report.add(match client.header(BlockNumberOrTag::Earliest).await {
        Ok(first) => {
            let hash = first.map(|block| block.hash);
            Finding::new(
                "chain.genesis",
                hash == Some(deployment.genesis_hash),
                hash.map_or("the chain has no first block".to_owned(), |hash| hash.to_string()),
                deployment.genesis_hash.to_string(),
                ANOTHER_CHAIN,
            )
        }
        Err(error) => unanswered("chain.genesis", &error),
    });
    report.add(match client.code_hash(deployment.escrow).await {
        Ok(code) => Finding::new(
            "escrow.code",
            code == Some(deployment.code_hash),
            code.map_or("no code".to_owned(), |hash| hash.to_string()),
            deployment.code_hash.to_string(),
            format!("the code at {} is not what was recorded: {ANOTHER_CHAIN}", deployment.escrow),
        ),
        Err(error) => unanswered("escrow.code", &error),
    });
}

/// Whether the contract signs in the domain that this program was built for (EIP-5267).
async fn abi(client: &ReadClient, deployment: &Deployment) -> Finding {
    let id = "escrow.abi";
    let call = Escrow::eip712DomainCall {}.abi_encode();
    let answer = match client.call(deployment.escrow, call).await {
        Ok(answer) => answer,
        Err(error) => return unanswered(id, &error),
    };
    let (good, found) = match Escrow::eip712DomainCall::abi_decode_returns(&answer) {
        Ok(said) => (
            said.name == escrow::terms::NAME
                && said.version == escrow::terms::VERSION
                && said.chainId == U256::from(deployment.chain_id)
                && said.verifyingContract == deployment.escrow,
            format!(
                "{} version {} on chain {} at {}",
                said.name, said.version, said.chainId, said.verifyingContract
            ),
        ),
        Err(_) => (false, "the contract does not tell its domain (EIP-5267)".to_owned()),
    };
    Finding::new(
        id,
        good,
        found,
        format!(
            "{} version {} on chain {} at {}",
            escrow::terms::NAME,
            escrow::terms::VERSION,
            deployment.chain_id,
            deployment.escrow
        ),
        "use the weir that was built for this contract",
    )
}
