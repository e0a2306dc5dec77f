//! The operator's key: allowed by the contract, and not poor. Only its address is ever shown.

use ::chain::{Fees, ReadClient, Signer};
use alloy::{primitives::Address, sol_types::SolCall as _};
use escrow::bindings::Escrow;
use store::deployment::Deployment;

use super::{
    chain::unanswered,
    finding::{Finding, Report},
    judge,
};
use crate::config::Config;

const OPERATOR: &str = "signer.operator";
const BALANCE: &str = "signer.balance";

/// Looks at each signer, where this process has the keys.
pub(super) async fn examine(
    config: &Config,
    client: &ReadClient,
    deployment: &Deployment,
    fees: Fees,
    closes: u64,
    report: &mut Report,
) {
    if config.operator_key.is_none() {
        let why = "WEIR_OPERATOR_KEY is not set here; only `weir work` needs it";
        report.add_all([OPERATOR, BALANCE].map(|id| Finding::skipped(id, why)));
        return;
    }
    let Ok(signers) = config.signers() else {
        report.add(Finding::new(
            OPERATOR,
            false,
            "WEIR_OPERATOR_KEY is not a private key, or names one twice",
            "32 bytes in hexadecimal; several with commas between them",
            "correct WEIR_OPERATOR_KEY",
        ));
        report.add(Finding::skipped(BALANCE, format!("needs {OPERATOR}")));
        return;
    };
    for address in signers.iter().map(Signer::address) {
        examine_one(address, client, deployment, fees, closes, report).await;
    }
}

async fn examine_one(
    address: Address,
    client: &ReadClient,
    deployment: &Deployment,
    fees: Fees,
    closes: u64,
    report: &mut Report,
) {
    let call = Escrow::isOperatorCall { account: address }.abi_encode();
    report.add(match client.call(deployment.escrow, call).await {
        Ok(answer) => {
            let allowed = Escrow::isOperatorCall::abi_decode_returns(&answer).unwrap_or(false);
            Finding::new(
                OPERATOR,
                allowed,
                format!("{address} is {}an operator", if allowed { "" } else { "not " }),
                format!("an operator of {}", deployment.escrow),
                "use the operator's key, or have the owner add this one (deploy/README.md)",
            )
        }
        Err(error) => unanswered(OPERATOR, &error),
    });
    report.add(match client.balance(address).await {
        Ok(wei) => judge::balance(address, wei, fees, closes),
        Err(error) => unanswered(BALANCE, &error),
    });
}
