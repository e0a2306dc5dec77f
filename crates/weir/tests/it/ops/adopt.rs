//! `weir adopt`: a deployment as `deploy/escrow` makes it, recorded in a database that knew none.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use alloy::{
    primitives::{Address, U256},
    sol_types::{SolCall as _, SolValue as _},
};
use escrow::bindings::Escrow;
use serde_json::{Value, json};
use testkit::{DEV_ADDRESSES, DEV_KEYS, TestChain, TestDb};

use super::process::weir;

/// Where a feed of POL is put.
const FEED: &str = "0x00000000000000000000000000000000000000fe";
/// The operator of deploy/networks/local.json.
const OPERATOR: usize = 4;

/// A chain with the contract, and a database that does not know of it.
struct Place {
    db: TestDb,
    chain: TestChain,
    folder: tempfile::TempDir,
    manifest: Value,
    network: Value,
}

impl Place {
    async fn open() -> Self {
        let db = TestDb::new(Some(&store::MIGRATOR)).await.unwrap();
        let chain = TestChain::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("deployed.json");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let tool = |program: &str| {
            let mut command = Command::new(root.join(program));
            command.current_dir(&root);
            command
        };
        succeeds(
            tool("deploy/escrow")
                .args(["local", "--out"])
                .arg(&manifest)
                .env("RPC_URL", chain.url())
                .env("WEIR_DEPLOYER_KEY", DEV_KEYS[9]),
        );
        succeeds(Command::new("node").current_dir(&root).args([
            "deploy/lib/place.mjs",
            chain.url(),
            "crates/escrow/abi/LocalFeed.json",
            FEED,
            "8",
            "POL / USD",
            "25000000",
        ]));
        let mut network = read(&root.join("deploy/networks/local.json"));
        network["priceFeeds"] = json!(format!("POL={FEED}/300"));
        let manifest = read(&manifest);
        let place = Self { db, chain, folder, manifest, network };
        place.mine().await;
        place
    }

    /// Makes what there is final.
    async fn mine(&self) {
        self.chain.anvil().call("anvil_mine", json!(["0x3"])).await.unwrap();
    }

    fn environment(&self) -> [(&str, &str); 2] {
        [("DATABASE_URL", &self.db.url), ("RPC_URL", self.chain.url())]
    }

    /// Whether it succeeds, and all that it says.
    fn adopt(&self, manifest: &Value, network: &Value, more: &[&str]) -> (bool, String) {
        let path = |name: &str, content: &Value| -> PathBuf {
            let path = self.folder.path().join(name);
            std::fs::write(&path, content.to_string()).unwrap();
            path
        };
        let mut command = weir(&["adopt"], &self.environment());
        command.arg(path("manifest.json", manifest)).arg("--network");
        command.arg(path("network.json", network)).args(more).env_remove("WEIR_ESCROW");
        let output = command.output().unwrap();
        let said =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.success(), said)
    }

    fn refuses(&self, manifest: &Value, network: &Value, why: &str) {
        let (done, said) = self.adopt(manifest, network, &[]);
        assert!(!done && said.contains(why), "not refused with {why:?}: {said}");
    }

    /// Rows of deployment, tokens and feeds.
    async fn rows(&self) -> [i64; 3] {
        let mut rows = [0; 3];
        for (count, query) in rows.iter_mut().zip([
            "SELECT count(*) FROM deployment",
            "SELECT count(*) FROM tokens",
            "SELECT count(*) FROM price_feeds",
        ]) {
            *count = sqlx::query_scalar(query).fetch_one(&self.db.pool).await.unwrap();
        }
        rows
    }

    /// Whether USDC counts as a dollar, and whether it is on the market.
    async fn usdc(&self) -> (bool, bool) {
        sqlx::query_as("SELECT fixed, listed FROM tokens WHERE symbol = 'USDC'")
            .fetch_one(&self.db.pool)
            .await
            .unwrap()
    }

    /// Calls the contract from an account whose key the node has.
    async fn send(&self, from: &str, data: &[u8]) {
        let call = json!([{
            "from": from,
            "to": self.manifest["escrow"]["address"],
            "data": alloy::primitives::hex::encode_prefixed(data),
        }]);
        self.chain.anvil().call("eth_sendTransaction", call).await.unwrap();
    }

    async fn sql(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.db.pool).await.unwrap();
    }
}

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The same with another value at this pointer.
fn but(value: &Value, pointer: &str, other: Value) -> Value {
    let mut value = value.clone();
    *value.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = other;
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_recorded_once_all_of_it_was_seen_on_the_chain() {
    let place = Place::open().await;
    let lost = weir(&["serve"], &place.environment()).output().unwrap();
    let said = String::from_utf8(lost.stderr).unwrap();
    assert!(!lost.status.success() && said.contains("weir adopt"), "{said}");

    other_manifests(&place);
    other_networks(&place);
    let (done, said) = place.adopt(&place.manifest, &place.network, &["--dry-run"]);
    assert!(done && said.contains("dry run: nothing was recorded"), "{said}");
    assert_eq!(place.rows().await, [0; 3]);

    let (done, said) = place.adopt(&place.manifest, &place.network, &[]);
    assert!(done && said.contains("recorded; for the services: WEIR_ESCROW=0x"), "{said}");
    for line in
        ["POL is priced by 0x", "(POL / USD, 8 decimals): 0.250000 USD", "USDC is a US dollar"]
    {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
    assert_eq!(place.rows().await, [1, 2, 1]);
    let prices: Vec<(String, i64)> =
        sqlx::query_as("SELECT price_source, usd_micros FROM tokens ORDER BY symbol")
            .fetch_all(&place.db.pool)
            .await
            .unwrap();
    let [(pol, quarter), (usdc, dollar)] = &prices[..] else { panic!("{prices:?}") };
    assert!(pol.starts_with("chainlink:0x"), "{pol}");
    assert_eq!(
        (*quarter, usdc.as_str(), *dollar),
        (250_000, "a US dollar by definition", 1_000_000)
    );

    healthy(&place);
    again(&place).await;
    changed_roles(&place).await;
}

fn other_manifests(place: &Place) {
    let hash = json!(format!("0x{}", "12".repeat(32)));
    let block = place.manifest["escrow"]["block"].as_u64().unwrap();
    for (pointer, other, why) in [
        ("/genesisHash", hash.clone(), "the manifest is of chain 31337 with 0x1212"),
        ("/chainId", json!(137), "the network's file is of chain 31337, the manifest of chain 137"),
        ("/escrow/codeHash", hash.clone(), "is not the manifest's 0x1212"),
        ("/escrow/initCodeHash", hash.clone(), "the manifest says 0x1212"),
        ("/escrow/address", json!(DEV_ADDRESSES[0]), "its address follows from code"),
        ("/escrow/transaction", hash.clone(), "it came with transaction 0x1212"),
        ("/escrow/block", json!(block - 1), "it came with transaction"),
        ("/escrow/block", json!(block + 1_000), "wait, and run this again"),
        ("/escrow/arguments/owner", json!(DEV_ADDRESSES[9]), "owner is 0xf39F"),
        ("/create2/salt", hash, "its address follows from code"),
        ("/tokens/0/address", json!(DEV_ADDRESSES[0]), "POL is 0x0000"),
    ] {
        place.refuses(&but(&place.manifest, pointer, other), &place.network, why);
    }
    // both files of another chain than the endpoint's
    let manifest = but(&place.manifest, "/chainId", json!(137));
    let network = but(&place.network, "/chainId", json!(137));
    place.refuses(&manifest, &network, "RPC_URL serves chain 31337");
}

fn other_networks(place: &Place) {
    let usdc = place.manifest.pointer("/tokens/1/address").unwrap().as_str().unwrap();
    let nowhere = format!("POL={usdc}/300");
    for (pointer, other, why) in [
        ("/tokens/1/decimals", json!(18), "says that its decimals are 6, not 18"),
        ("/tokens/1/symbol", json!("USDT"), "USDT has no address"),
        ("/tokens/1/domain/version", json!("9"), "DOMAIN_SEPARATOR() is of none of"),
        ("/tokens/0/address", json!(FEED), "POL is 0x0000"),
        ("/priceFeeds", json!(nowhere), "does not answer"),
        ("/priceFeeds", json!("POL"), "is not of the form"),
        ("/priceFeeds", json!(format!("ETH={FEED}/300")), "ETH has a feed and is no token"),
        ("/priceFeeds", json!(format!("USDC={FEED}/300")), "said to be a dollar: choose"),
        ("/tokens", json!([]), "no token of the network's file can be offered"),
    ] {
        place.refuses(&place.manifest, &but(&place.network, pointer, other), why);
    }
    let symbol = json!({"address": usdc, "symbol": "USDT", "decimals": 6, "isDollar": true});
    let network = but(&place.network, "/tokens/1", symbol);
    place.refuses(&place.manifest, &network, "says that its symbol is \"USDC\"");
}

/// The doctor finds nothing, and so the parts would start.
fn healthy(place: &Place) {
    let escrow = place.manifest["escrow"]["address"].as_str().unwrap();
    let [database, rpc] = place.environment();
    let environment =
        [database, rpc, ("WEIR_OPERATOR_KEY", DEV_KEYS[OPERATOR]), ("WEIR_ESCROW", escrow)];
    let output = weir(&["doctor"], &environment).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Nothing changes, whatever else the database has meanwhile; another deployment is refused.
async fn again(place: &Place) {
    place.sql("UPDATE tokens SET listed = false WHERE symbol = 'POL'").await;
    let (done, said) = place.adopt(&place.manifest, &place.network, &[]);
    assert!(done && said.contains("all of it is recorded already"), "{said}");
    let listed: bool = sqlx::query_scalar("SELECT listed FROM tokens WHERE symbol = 'POL'")
        .fetch_one(&place.db.pool)
        .await
        .unwrap();
    assert!(!listed, "what was taken off the market stays off it");
    // a row that is missing comes back
    place.sql("UPDATE tokens SET listed = true; DELETE FROM price_feeds").await;
    assert!(place.adopt(&place.manifest, &place.network, &[]).0);
    assert_eq!(place.rows().await, [1, 2, 1]);
    written_again(place).await;
    // one that is wrong is told
    place.sql("UPDATE tokens SET permit_version = '7' WHERE symbol = 'USDC'").await;
    place.refuses(&place.manifest, &place.network, "in `tokens` is not what the chain says");
    place.sql("UPDATE tokens SET permit_version = '1' WHERE symbol = 'USDC'").await;
    place.sql("UPDATE deployment SET deployed_block = deployed_block - 1").await;
    place.refuses(&place.manifest, &place.network, "the database belongs to the contract");
    place.sql("UPDATE deployment SET deployed_block = deployed_block + 1").await;
}

/// A token that the network's file prices in another way is written again, unless it is off the market.
async fn written_again(place: &Place) {
    place.sql("UPDATE tokens SET fixed = false WHERE symbol = 'USDC'").await;
    let (done, said) = place.adopt(&place.manifest, &place.network, &["--dry-run"]);
    assert!(done && said.contains("dry run") && said.contains("it is written again"), "{said}");
    assert_eq!(place.usdc().await, (false, true));
    let (done, said) = place.adopt(&place.manifest, &place.network, &[]);
    assert!(done && said.contains("recorded; for") && said.contains("written again"), "{said}");
    assert_eq!(place.usdc().await, (true, true));
    // nobody says that it is a dollar any more
    let silent = but(&place.network, "/tokens/1/isDollar", json!(false));
    let (done, said) = place.adopt(&place.manifest, &silent, &[]);
    assert!(done && said.contains("recorded; for") && said.contains("written again"), "{said}");
    assert_eq!(place.usdc().await, (false, true));
    // a dollar again, whatever an oracle said meanwhile
    let [.., feeds] = place.rows().await;
    place
        .sql(
            "INSERT INTO price_feeds (token, feed, decimals, max_age_s)
             SELECT address, decode(repeat('fe', 20), 'hex'), 8, 300 FROM tokens WHERE symbol = 'USDC'",
        )
        .await;
    let (done, said) = place.adopt(&place.manifest, &place.network, &[]);
    assert!(done && said.contains("recorded; for"), "{said}");
    assert_eq!((place.usdc().await, place.rows().await[2]), ((true, true), feeds));
    let (done, said) = place.adopt(&place.manifest, &place.network, &[]);
    assert!(done && said.contains("all of it is recorded already"), "{said}");
    place.sql("UPDATE tokens SET fixed = false, listed = false WHERE symbol = 'USDC'").await;
    let (done, said) = place.adopt(&place.manifest, &place.network, &[]);
    assert!(done && said.contains("all of it is recorded already"), "{said}");
    let why = "was taken off the market, and stays off it, priced as it was";
    assert!(said.contains(why), "{said}");
    assert_eq!(place.usdc().await, (false, false));
    place.sql("UPDATE tokens SET fixed = true, listed = true WHERE symbol = 'USDC'").await;
}

async fn changed_roles(place: &Place) {
    added_operator(place).await;
    let remove = Escrow::removeOperatorCall { operator: DEV_ADDRESSES[OPERATOR].parse().unwrap() };
    place.send(DEV_ADDRESSES[1], &remove.abi_encode()).await;
    place.mine().await;
    place.refuses(&place.manifest, &place.network, "is no operator (if that is meant");
    let (done, said) = place.adopt(&place.manifest, &place.network, &["--changed-roles"]);
    assert!(done && said.contains("note   changed since the deployment"), "{said}");
}

/// One that the owner added is none of the deployment's.
async fn added_operator(place: &Place) {
    let other: Address = DEV_ADDRESSES[8].parse().unwrap();
    // the change is AddOperator, the second of its kind
    let arguments = (U256::ONE, other).abi_encode();
    let schedule = [&Escrow::scheduleChangeCall::SELECTOR[..], &arguments].concat();
    let execute = [&Escrow::executeChangeCall::SELECTOR[..], &arguments].concat();
    place.send(DEV_ADDRESSES[0], &schedule).await;
    place.mine().await;
    place.chain.anvil().call("evm_increaseTime", json!([172_860])).await.unwrap();
    place.mine().await;
    place.send(DEV_ADDRESSES[0], &execute).await;
    place.mine().await;
    let why = format!("{other} is an operator (if that is meant");
    place.refuses(&place.manifest, &place.network, &why);
    let (done, said) = place.adopt(&place.manifest, &place.network, &["--changed-roles"]);
    assert!(done && said.contains(&format!("{other} is an operator")), "{said}");
    let remove = Escrow::removeOperatorCall { operator: other };
    place.send(DEV_ADDRESSES[0], &remove.abi_encode()).await;
    place.mine().await;
    let (done, said) = place.adopt(&place.manifest, &place.network, &[]);
    assert!(done && said.contains("arbiter and operators are those of the deployment"), "{said}");
}
