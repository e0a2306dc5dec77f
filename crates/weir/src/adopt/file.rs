//! The two files: the manifest that `deploy/escrow` wrote, and what is expected of the network. Only what is needed of
//! them is read.

use std::{fs::File, io::Read as _, path::Path};

use alloy::primitives::{Address, B256};
use serde::{Deserialize, de::DeserializeOwned};

use crate::failure::Failure;

/// No such file has more bytes.
const MOST_BYTES: u64 = 1 << 20;

/// Reads a file of JSON.
///
/// # Errors
/// If it cannot be read, or is none of the form.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let name = path.display().to_string();
    let mut text = String::new();
    let file = File::open(path).map_err(Failure::during(&name))?;
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(Failure::during(&name))?;
    serde_json::from_str(&text).map_err(Failure::during(&name))
}

/// What was deployed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) chain_id: u64,
    pub(super) genesis_hash: B256,
    pub(super) escrow: Contract,
    pub(super) create2: Create2,
    pub(super) tokens: Vec<Deployed>,
}

/// The escrow, as it was when it was deployed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Contract {
    pub(super) address: Address,
    pub(super) block: u64,
    /// None where another contract had it deployed.
    pub(super) transaction: Option<B256>,
    pub(super) code_hash: B256,
    pub(super) init_code_hash: B256,
    pub(super) arguments: Arguments,
}

/// What its constructor was given.
#[derive(Deserialize)]
pub(super) struct Arguments {
    pub(super) owner: Address,
    pub(super) guardian: Address,
    pub(super) treasury: Address,
    pub(super) arbiter: Address,
    pub(super) operators: Vec<Address>,
    pub(super) tokens: Vec<Address>,
}

/// What its address follows from, with its code and arguments.
#[derive(Deserialize)]
pub(super) struct Create2 {
    pub(super) deployer: Address,
    pub(super) salt: B256,
}

/// A token that it was deployed with.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deployed {
    pub(super) address: Address,
    pub(super) symbol: String,
    /// Of its code; the native coin has none.
    pub(super) code_hash: Option<B256>,
}

/// What is expected of a network.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Network {
    pub(super) chain_id: u64,
    pub(super) tokens: Vec<Entry>,
    /// As in `WEIR_PRICE_FEEDS`.
    #[serde(default)]
    pub(super) price_feeds: String,
}

/// A token to be offered.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    /// Zero is the native coin; none is a test token, whose address the manifest has.
    pub(super) address: Option<Address>,
    pub(super) symbol: String,
    pub(super) decimals: u8,
    /// What permits are signed with; none where it has none, or they are not used.
    pub(super) domain: Option<Names>,
    /// Counts as a US dollar, whatever it is traded at.
    #[serde(default)]
    pub(super) is_dollar: bool,
}

/// The names that a token's EIP-712 domain may have.
#[derive(Deserialize)]
pub(super) struct Names {
    pub(super) names: Vec<String>,
    pub(super) version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_networks_files_are_read_as_they_are_committed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/networks");
        let polygon: Network = read(&folder.join("polygon.json")).unwrap();
        assert_eq!(polygon.chain_id, 137);
        let feeds = crate::config::feeds("priceFeeds", &polygon.price_feeds).unwrap();
        let mut priced: Vec<_> = feeds.iter().map(|feed| feed.symbol.as_str()).collect();
        let mut offered: Vec<_> =
            polygon.tokens.iter().map(|token| token.symbol.as_str()).collect();
        priced.sort_unstable();
        offered.sort_unstable();
        assert_eq!(priced, offered, "each of Polygon's tokens is priced by a feed");
        assert!(polygon.tokens.iter().all(|token| !token.is_dollar), "and by nothing else");
        let local: Network = read(&folder.join("local.json")).unwrap();
        let usdc = local.tokens.iter().find(|token| token.symbol == "USDC").unwrap();
        assert!(usdc.is_dollar && usdc.address.is_none());
        let amoy: Network = read(&folder.join("amoy.json")).unwrap();
        assert!(amoy.tokens.iter().any(|token| token.symbol == "USDC" && token.is_dollar));
    }

    #[test]
    fn what_is_no_manifest_is_said_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("polygon.json");
        let absent = read::<Manifest>(&path).err().unwrap().to_string();
        assert!(absent.contains("polygon.json: No such file"), "{absent}");
        std::fs::write(&path, r#"{"chainId": 137}"#).unwrap();
        let half = read::<Manifest>(&path).err().unwrap().to_string();
        assert!(half.contains("polygon.json: missing field `genesisHash`"), "{half}");
    }
}
