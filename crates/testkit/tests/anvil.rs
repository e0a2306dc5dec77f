//! anvil starts, keeps its chain over a stop and a killed owner, and says what is wrong.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Anvil, AnvilOptions, DEV_ADDRESSES, TestChain};

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("anvil").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    folder
}

async fn call(anvil: &Anvil, method: &'static str, parameters: Value) -> Value {
    anvil.call(method, parameters).await.unwrap()
}

/// Sends one wei from the first development account to the second and returns its receipt.
async fn pay(anvil: &Anvil) -> Value {
    let [from, to] = [DEV_ADDRESSES[0], DEV_ADDRESSES[1]];
    let transaction = json!([{ "from": from, "to": to, "value": "0x1" }]);
    let hash = call(anvil, "eth_sendTransaction", transaction).await;
    let began = Instant::now();
    loop {
        let receipt = call(anvil, "eth_getTransactionReceipt", json!([hash])).await;
        if !receipt.is_null() {
            return receipt;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "no receipt");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn number(anvil: &Anvil, tag: &str) -> u64 {
    let block = call(anvil, "eth_getBlockByNumber", json!([tag, false])).await;
    u64::from_str_radix(block["number"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

fn kept(folder: &Path) -> AnvilOptions {
    AnvilOptions { state_file: Some(folder.join("chain.json")), ..AnvilOptions::default() }
}

#[tokio::test]
async fn a_stop_preserves_blocks_transactions_and_nonces() {
    let folder = folder("keeps");
    let anvil = Anvil::start(kept(&folder)).await.unwrap();
    let receipt = pay(&anvil).await;
    pay(&anvil).await;
    let block = call(&anvil, "eth_getBlockByNumber", json!(["0x2", true])).await;
    anvil.stop().await.unwrap();

    let anvil = Anvil::start(kept(&folder)).await.unwrap();
    assert_eq!(call(&anvil, "eth_getBlockByNumber", json!(["0x2", true])).await, block);
    let hash = &receipt["transactionHash"];
    let found = call(&anvil, "eth_getTransactionReceipt", json!([hash])).await;
    assert_eq!(found["blockHash"], receipt["blockHash"]);
    let nonce = call(&anvil, "eth_getTransactionCount", json!([DEV_ADDRESSES[0], "latest"])).await;
    assert_eq!(nonce, json!("0x2"));
    // Two empty blocks were mined on the old head, so that the final state can be read.
    assert_eq!((number(&anvil, "latest").await, number(&anvil, "finalized").await), (4, 2));
    call(&anvil, "eth_getBalance", json!([DEV_ADDRESSES[0], "finalized"])).await;
    anvil.stop().await.unwrap();
}

#[tokio::test]
async fn blocks_come_by_themselves_and_become_final() {
    let options =
        AnvilOptions { block_time: Some(Duration::from_millis(100)), ..AnvilOptions::default() };
    let chain = TestChain::start_with(options).await.unwrap();
    let began = Instant::now();
    while number(chain.anvil(), "finalized").await < 1 {
        assert!(began.elapsed() < Duration::from_secs(10), "nothing became final");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn chains_are_separate() {
    let (one, other) = (TestChain::start().await.unwrap(), TestChain::start().await.unwrap());
    assert_ne!(one.url(), other.url());
    pay(one.anvil()).await;
    assert_eq!(
        (number(one.anvil(), "latest").await, number(other.anvil(), "latest").await),
        (1, 0)
    );
}

#[tokio::test]
async fn what_is_wrong_is_one_line() {
    let folder = folder("wrong");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = AnvilOptions { port: Some(port), ..AnvilOptions::default() };
    let message = Anvil::start(taken).await.unwrap_err().to_string();
    assert!(message.starts_with(&format!("port {port} is taken")), "{message}");

    fs::write(folder.join("chain.json"), "{\"blocks\": [").unwrap();
    let message = Anvil::start(kept(&folder)).await.unwrap_err().to_string();
    assert!(message.contains("cannot be read") && message.lines().count() == 1, "{message}");

    let missing = AnvilOptions { bin: Some("no/anvil".into()), ..AnvilOptions::default() };
    let message = Anvil::start(missing).await.unwrap_err().to_string();
    assert_eq!(message, "anvil not found at no/anvil: run `make setup`, or set ANVIL");
}

#[tokio::test]
async fn an_owner_that_is_killed_loses_no_block() {
    let data = folder("killed");
    let note = data.join("note");
    let pay = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"eth_sendTransaction","params":[{{"from":"{}","to":"{}","value":"0x1"}}]}}"#,
        DEV_ADDRESSES[0], DEV_ADDRESSES[1]
    );
    let note_url =
        format!("echo $WEIR_RPC_URL > {0}.new; mv {0}.new {0}; exec sleep 60", note.display());
    let mut owner = Command::new(env!("CARGO_BIN_EXE_with-servers"))
        .arg("--data")
        .arg(&data)
        .args(["--chain", "--", "sh", "-c", &note_url])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !note.exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "the servers did not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let url = fs::read_to_string(&note).unwrap();
    let authority = url.trim().trim_start_matches("http://").to_owned();
    assert!(post(&authority, &pay).contains("result"));
    owner.kill().unwrap();
    owner.wait().unwrap();
    // At once: the successor waits until the killed owner's anvil has written its state.
    let anvil = Anvil::start(kept(&data)).await.unwrap();
    let nonce = call(&anvil, "eth_getTransactionCount", json!([DEV_ADDRESSES[0], "latest"])).await;
    assert_eq!(nonce, json!("0x1"));
    anvil.stop().await.unwrap();
}

fn post(authority: &str, body: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
