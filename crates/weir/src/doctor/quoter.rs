//! The quoting key: nobody to the contract, and poor. Whoever steals it can promise prices, and nothing else. Only its
//! address is ever shown.

use ::chain::{ChainError, ReadClient, Signer};
use alloy::{primitives::Address, sol_types::SolCall};
use escrow::bindings::{Escrow, TestUSDC};
use store::{deployment::Deployment, tokens::Token};

use super::{
    chain::unanswered,
    finding::{Finding, Report},
};
use crate::{config::Config, failure::Failure};

pub(super) const ROLE: &str = "quoter.role";
pub(super) const FUNDS: &str = "quoter.funds";
const ANOTHER: &str = "make a new key for WEIR_QUOTE_KEY that is used for nothing else";

/// Looks at the key, where this process has it.
pub(super) async fn examine(
    config: &Config,
    client: &ReadClient,
    deployment: &Deployment,
    tokens: &[Token],
    report: &mut Report,
) {
    let key = match config.quoter() {
        Ok(Some(key)) => key.address(),
        Ok(None) => {
            let why = "WEIR_QUOTE_KEY is not set here; only `weir serve` needs it";
            report.add_all([ROLE, FUNDS].map(|id| Finding::skipped(id, why)));
            return;
        }
        Err(_) => {
            report.add(Finding::new(
                ROLE,
                false,
                "WEIR_QUOTE_KEY is not a private key",
                "32 bytes in hexadecimal",
                "correct WEIR_QUOTE_KEY",
            ));
            report.add(Finding::skipped(FUNDS, format!("needs {ROLE}")));
            return;
        }
    };
    report.add(match roles(config, client, deployment.escrow, key).await {
        Ok(roles) => {
            let found = if roles.is_empty() { "no role".to_owned() } else { roles.join(", ") };
            let found = format!("{key} has {found}");
            Finding::new(ROLE, roles.is_empty(), found, "no role in the escrow", ANOTHER)
        }
        Err(error) => unanswered(ROLE, &error),
    });
    report.add(match funds(client, deployment.escrow, tokens, key).await {
        Ok(funds) => {
            let found = if funds.is_empty() { "nothing".to_owned() } else { funds.join(", ") };
            let found = format!("{key} has {found}");
            Finding::new(FUNDS, funds.is_empty(), found, "no coin and no token", ANOTHER)
        }
        Err(error) => unanswered(FUNDS, &error),
    });
}

async fn ask<C: SolCall>(
    client: &ReadClient,
    to: Address,
    call: C,
) -> Result<C::Return, ChainError> {
    let answer = client.call(to, call.abi_encode()).await?;
    C::abi_decode_returns(&answer).map_err(|error| ChainError::Nonsense(error.to_string()))
}

/// Refuses to serve with a key that can do anything in the escrow: who answers requests must not hold it. A chain that
/// does not answer keeps nobody from serving: the doctor asks again.
///
/// # Errors
/// That the key has a role, and which.
pub(crate) async fn refuse_roles(
    config: &Config,
    client: &ReadClient,
    escrow: Address,
    key: Address,
) -> Result<(), Failure> {
    match roles(config, client, escrow, key).await {
        Ok(roles) if roles.is_empty() => Ok(()),
        Ok(roles) => Err(Failure::new(format!(
            "the key of WEIR_QUOTE_KEY, {key}, has {}: {ANOTHER}",
            roles.join(", ")
        ))),
        Err(error) => {
            tracing::warn!(%error, "whether the quoting key has a role in the escrow is not known");
            Ok(())
        }
    }
}

async fn roles(
    config: &Config,
    client: &ReadClient,
    escrow: Address,
    key: Address,
) -> Result<Vec<&'static str>, ChainError> {
    let mut roles = Vec::new();
    if ask(client, escrow, Escrow::isOperatorCall { account: key }).await? {
        roles.push("the role of an operator");
    }
    for (holder, role) in [
        (ask(client, escrow, Escrow::ownerCall {}).await?, "the role of the owner"),
        (ask(client, escrow, Escrow::pendingOwnerCall {}).await?, "the role of the next owner"),
        (ask(client, escrow, Escrow::guardianCall {}).await?, "the role of the guardian"),
        (ask(client, escrow, Escrow::treasuryCall {}).await?, "the role of the treasury"),
        (ask(client, escrow, Escrow::arbiterCall {}).await?, "the role of the arbiter"),
    ] {
        if holder == key {
            roles.push(role);
        }
    }
    let operators = config.signers().unwrap_or_default();
    if operators.iter().map(Signer::address).any(|operator| operator == key) {
        roles.push("a place in WEIR_OPERATOR_KEY");
    }
    Ok(roles)
}

/// What the key has: coins, listed tokens, and balances in the escrow.
async fn funds(
    client: &ReadClient,
    escrow: Address,
    tokens: &[Token],
    key: Address,
) -> Result<Vec<String>, ChainError> {
    let mut funds = Vec::new();
    if !client.balance(key).await?.is_zero() {
        funds.push("the chain's coin".to_owned());
    }
    for token in tokens {
        let inside = Escrow::balanceOfCall { account: key, token: token.address };
        if !ask(client, escrow, inside).await?.is_zero() {
            funds.push(format!("{} in the escrow", token.symbol));
        }
        if token.address.is_zero() {
            continue;
        }
        if !ask(client, token.address, TestUSDC::balanceOfCall { account: key }).await?.is_zero() {
            funds.push(token.symbol.clone());
        }
    }
    Ok(funds)
}
