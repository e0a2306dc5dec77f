//! The operator vanishes while a rental runs: every process of ours is gone for good. Renter and provider get what is
//! theirs with their own wallets and nothing but the chain, to the unit.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    providers::{DynProvider, Provider as _},
    rpc::types::{Filter, TransactionReceipt, TransactionRequest},
    signers::local::PrivateKeySigner,
    sol_types::{SolCall as _, SolEvent as _},
};
use escrow::{
    Terms,
    bindings::{Escrow, TestUSDC},
    calldata,
};
use serde_json::json;
use testkit::{Anvil, AnvilOptions, DEV_KEYS};

/// Less than a test may take in all.
const LIMIT: Duration = Duration::from_secs(150);
/// The parts that `weir up` gives to anvil's well-known test accounts.
const RENTER: &str = DEV_KEYS[4];
const PROVIDER: &str = DEV_KEYS[5];
const TREASURY: &str = DEV_KEYS[2];

fn address(key: &str) -> Address {
    key.parse::<PrivateKeySigner>().unwrap().address()
}

/// `weir up` on a chain of the test's own, so that the chain outlives it.
fn start(folder: &std::path::Path, rpc: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["up", "--once", "--outage", "0", "--run-for", "120", "--data"])
        .arg(folder)
        .env("WEIR_LISTEN", format!("127.0.0.1:{}", testkit::free_port().unwrap()))
        .env("RPC_URL", rpc)
        .env_remove("DATABASE_URL")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_for(child: &mut Child, wanted: &str) {
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (tell, lines) = channel();
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            println!("{line}");
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    let since = Instant::now();
    // until then, or until it ends
    while let Ok(line) = lines.recv_timeout(LIMIT.saturating_sub(since.elapsed())) {
        if line.contains(wanted) {
            return;
        }
    }
    child.kill().unwrap();
    panic!("{wanted:?} did not appear");
}

/// A transaction of somebody's own wallet, whose key the chain holds.
async fn send(anvil: &Anvil, from: Address, to: Address, data: Vec<u8>) -> TransactionReceipt {
    let request = json!([{ "from": from, "to": to, "data": Bytes::from(data), "gas": "0x1e8480" }]);
    let hash = anvil.call("eth_sendTransaction", request).await.unwrap();
    let since = Instant::now();
    while since.elapsed() < LIMIT {
        let found = anvil.call("eth_getTransactionReceipt", json!([hash])).await.unwrap();
        if !found.is_null() {
            let receipt: TransactionReceipt = serde_json::from_value(found).unwrap();
            assert!(receipt.status(), "{receipt:?}");
            return receipt;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{hash} was not mined");
}

struct Chain {
    provider: DynProvider,
    escrow: Address,
    token: Address,
}

impl Chain {
    async fn wallet(&self, owner: Address) -> U256 {
        let call = TestUSDC::balanceOfCall { account: owner };
        let answer = self.ask(self.token, call.abi_encode()).await;
        TestUSDC::balanceOfCall::abi_decode_returns(&answer).unwrap()
    }

    async fn kept(&self, owner: Address) -> U256 {
        let call = Escrow::balanceOfCall { account: owner, token: self.token };
        let answer = self.ask(self.escrow, call.abi_encode()).await;
        Escrow::balanceOfCall::abi_decode_returns(&answer).unwrap()
    }

    async fn ask(&self, to: Address, data: Vec<u8>) -> Bytes {
        let request = TransactionRequest::default().to(to).input(Bytes::from(data).into());
        self.provider.call(request).await.unwrap()
    }

    async fn clock(&self, block: u64) -> u64 {
        let block = self.provider.get_block_by_number(block.into()).await.unwrap().unwrap();
        block.header.timestamp
    }
}

/// The one lock on the chain: who is told nothing finds the terms there.
async fn the_lock(provider: &DynProvider) -> (Address, B256, Terms, U256) {
    let filter = Filter::new().from_block(0).event_signature(Escrow::Locked::SIGNATURE_HASH);
    let logs = provider.get_logs(&filter).await.unwrap();
    let [log] = &logs[..] else { panic!("{logs:?}") };
    let locked = Escrow::Locked::decode_log(&log.inner).unwrap();
    (log.address(), locked.id, locked.terms.clone(), U256::from(locked.deposit))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_vanishes_takes_nothing_along() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        AnvilOptions { block_time: Some(Duration::from_secs(1)), ..AnvilOptions::default() };
    let anvil = Anvil::start(options).await.unwrap();
    let mut up = start(folder.path(), anvil.url());
    let up = tokio::task::spawn_blocking(move || {
        wait_for(&mut up, "(start_final)");
        // its services see that it is gone, and end
        up.kill().unwrap();
        up.wait().unwrap();
    });
    up.await.unwrap();

    let provider = chain::provider(anvil.url()).unwrap();
    let (escrow, id, terms, deposit) = the_lock(&provider).await;
    let chain = Chain { provider, escrow, token: terms.token };
    assert_eq!((terms.renter, terms.provider), (address(RENTER), address(PROVIDER)));
    let before = chain.wallet(terms.renter).await;

    let stopped = send(&anvil, terms.renter, escrow, calldata::stop(&terms)).await;
    let ended = chain.clock(stopped.block_number.unwrap()).await;
    let filter =
        Filter::new().from_block(0).event_signature(Escrow::Started::SIGNATURE_HASH).topic1(id);
    let started = chain.provider.get_logs(&filter).await.unwrap();
    let started = Escrow::Started::decode_log(&started[0].inner).unwrap().startedAt.to::<u64>();

    // worked out here, by the rule in the contract's own words
    let rate = U256::from(terms.pricePerHour);
    let gross = (U256::from(ended - started) * rate / U256::from(3_600)).min(deposit);
    let fee = gross * U256::from(terms.feeBps) / U256::from(10_000);
    assert!(gross > U256::ZERO && gross < deposit);
    assert_eq!(
        chain.wallet(terms.renter).await,
        before + deposit - gross,
        "the renter's rest is back"
    );
    assert_eq!(chain.kept(terms.provider).await, gross - fee);
    assert_eq!(chain.kept(address(TREASURY)).await, fee);

    let had = chain.wallet(terms.provider).await;
    let all = calldata::withdraw(terms.token, terms.provider, domain::money::Amount::ZERO);
    let paid = send(&anvil, terms.provider, escrow, all).await;
    assert_eq!(chain.wallet(terms.provider).await, had + gross - fee, "the provider has it");
    assert_eq!(chain.wallet(escrow).await, fee, "nothing else is left");

    // the last word on the chain is theirs, not ours
    let operator = address(DEV_KEYS[1]);
    let last = chain.provider.get_block_number().await.unwrap();
    for number in stopped.block_number.unwrap()..=last {
        let block =
            chain.provider.get_block_by_number(number.into()).full().await.unwrap().unwrap();
        for tx in block.transactions.txns() {
            let from = tx.inner.signer();
            assert_ne!(from, operator, "nothing of ours is left");
        }
    }
    assert!(paid.block_number > stopped.block_number);
}
