//! The operator's key: allowed by the contract, and not poor. Only its address is ever shown.

use ::chain::{Fees, ReadClient, Signer};
use alloy::sol_types::SolCall as _;
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

/// Looks at the signer, where this process has its key.
pub(super) async fn examine(
    config: &Config,
    client: &ReadClient,
    deployment: &Deployment,
    fees: Fees,
    closes: u64,
    report: &mut Report,
) {
    let Some(key) = &config.operator_key else {
        let why = "WEIR_OPERATOR_KEY is not set here; only `weir work` needs it";
        report.add_all([OPERATOR, BALANCE].map(|id| Finding::skipped(id, why)));
        return;
    };
    let Ok(signer) = key.parse::<Signer>() else {
        report.add(Finding::new(
            OPERATOR,
            false,
            "WEIR_OPERATOR_KEY is not a private key",
            "32 bytes in hexadecimal",
            "correct WEIR_OPERATOR_KEY",
        ));
        report.add(Finding::skipped(BALANCE, format!("needs {OPERATOR}")));
        return;
    };
    let address = signer.address();
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
