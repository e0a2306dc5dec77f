//! An independent look at the chain: raw JSON-RPC, none of the service's own code, so that what the
//! service says can be checked against it.

use std::time::Duration;

use alloy::primitives::{Address, U256};
use serde_json::{Value, json};

use crate::failure::Failure;

/// Reads balances.
pub(crate) struct Eyes {
    http: reqwest::Client,
    url: String,
    escrow: Address,
}

/// keccak256("balanceOf(address)"), first four bytes.
const BALANCE_OF: &str = "70a08231";
/// keccak256("balanceOf(address,address)"), first four bytes: the escrow's balances.
const ESCROW_BALANCE_OF: &str = "f7888aec";

/// For one question.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Eyes {
    /// Looks at `escrow` through `url`.
    ///
    /// # Errors
    /// If there can be no HTTP client.
    pub(crate) fn new(url: &str, escrow: Address) -> Result<Self, Failure> {
        let http = tls::direct(TIMEOUT).map_err(Failure::during("the HTTP client"))?;
        Ok(Self { http, url: url.to_owned(), escrow })
    }

    /// A wallet's own balance of an ERC-20 token.
    ///
    /// # Errors
    /// If the chain does not answer.
    pub(crate) async fn wallet(&self, token: Address, owner: Address) -> Result<U256, Failure> {
        self.call(token, &format!("0x{BALANCE_OF}{}", word(owner))).await
    }

    /// A wallet's native coin, in wei.
    ///
    /// # Errors
    /// If the chain does not answer.
    pub(crate) async fn coin(&self, owner: Address) -> Result<U256, Failure> {
        let digits = self.ask("eth_getBalance", json!([owner, "latest"])).await?;
        U256::from_str_radix(&digits, 16).map_err(Failure::during("the chain's answer"))
    }

    /// What the escrow keeps for somebody, to be withdrawn at any time.
    ///
    /// # Errors
    /// If the chain does not answer.
    pub(crate) async fn kept(&self, token: Address, owner: Address) -> Result<U256, Failure> {
        let data = format!("0x{ESCROW_BALANCE_OF}{}{}", word(owner), word(token));
        self.call(self.escrow, &data).await
    }

    /// Whether anything was ever locked under this id.
    ///
    /// # Errors
    /// If the chain does not answer.
    pub(crate) async fn is_locked(&self, escrow_id: &str) -> Result<bool, Failure> {
        let id = escrow_id.trim_start_matches("0x");
        // the answer's first word is the status; zero is none
        let answer = self.raw(self.escrow, &format!("0x{RENTAL}{id}")).await?;
        let status = answer.get(..64).unwrap_or(&answer);
        Ok(status.chars().any(|digit| digit != '0'))
    }

    async fn call(&self, to: Address, data: &str) -> Result<U256, Failure> {
        let digits = self.raw(to, data).await?;
        U256::from_str_radix(&digits, 16).map_err(Failure::during("the chain's answer"))
    }

    async fn raw(&self, to: Address, data: &str) -> Result<String, Failure> {
        self.ask("eth_call", json!([{ "to": to, "data": data }, "latest"])).await
    }

    async fn ask(&self, method: &str, params: Value) -> Result<String, Failure> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = self.http.post(&self.url).json(&body).send().await;
        let answer: Value = answer
            .map_err(Failure::during("the chain"))?
            .json()
            .await
            .map_err(Failure::during("the chain"))?;
        let hex = answer
            .pointer("/result")
            .and_then(Value::as_str)
            .ok_or_else(|| Failure::new(format!("the chain answers {answer}")))?;
        Ok(hex.trim_start_matches("0x").to_owned())
    }
}

fn word(address: Address) -> String {
    format!("{:0>64}", alloy::primitives::hex::encode(address))
}

/// keccak256("rental(bytes32)"), first four bytes.
const RENTAL: &str = "527bf466";

#[cfg(test)]
mod tests {
    use alloy::primitives::{hex, keccak256};

    use super::*;

    #[test]
    fn the_selectors_are_those_of_their_signatures() {
        let selector = |signature: &str| hex::encode(&keccak256(signature)[..4]);
        assert_eq!(selector("balanceOf(address)"), BALANCE_OF);
        assert_eq!(selector("balanceOf(address,address)"), ESCROW_BALANCE_OF);
        assert_eq!(selector("rental(bytes32)"), RENTAL);
    }
}
