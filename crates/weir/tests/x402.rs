//! Renting as an agent does, with the independent x402 client of the npm registry: a key, some USDC, nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test stops at the first surprise

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

/// Nothing here takes longer on a machine that is not stuck.
const LIMIT: Duration = Duration::from_secs(240);

/// A market that serves until it is dropped.
struct Market {
    child: Child,
    lines: Receiver<String>,
}

impl Market {
    fn start(folder: &Path, port: u16, chain_port: u16) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["up", "--outage", "0", "--run-for", "1", "--chain-port"])
            .arg(chain_port.to_string())
            .arg("--data")
            .arg(folder)
            .env("WEIR_LISTEN", format!("127.0.0.1:{port}"))
            .env_remove("DATABASE_URL")
            .env_remove("RPC_URL")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
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
        Self { child, lines }
    }

    fn wait_for(&mut self, wanted: &str) {
        let since = Instant::now();
        while since.elapsed() < LIMIT {
            if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(200))
                && line.contains(wanted)
            {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before {wanted:?}");
        }
        panic!("{wanted:?} did not appear");
    }
}

impl Drop for Market {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-INT", &pid]).status();
        let stopped = asked.is_ok_and(|status| status.success());
        if !stopped || self.child.wait().is_err() {
            println!("the market did not stop by itself");
        }
    }
}

fn client() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/x402");
    let installed = folder.join("node_modules/@x402/fetch/package.json");
    assert!(installed.exists(), "{} is missing: run make setup", installed.display());
    folder
}

fn told(output: &str, what: &str) -> serde_json::Value {
    let lines = output.lines().filter_map(|line| serde_json::from_str(line).ok());
    let mut lines = lines.filter(|line: &serde_json::Value| line["what"] == what);
    lines.next().unwrap_or_else(|| panic!("nothing of {what:?}"))
}

#[test]
fn an_agent_with_a_key_and_some_usdc_rents_with_one_retry() {
    let folder = tempfile::tempdir().unwrap();
    let (port, chain_port) = (testkit::free_port().unwrap(), testkit::free_port().unwrap());
    let mut market = Market::start(folder.path(), port, chain_port);
    market.wait_for("Try next");
    let rpc = format!("http://127.0.0.1:{chain_port}");
    let receipt = folder.path().join("agents.json");
    let output = Command::new("node")
        .current_dir(client())
        .args(["agent.mjs", &format!("http://127.0.0.1:{port}"), &rpc])
        .arg(&receipt)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);

    let stock = told(&text, "stock");
    assert_eq!(stock["spent"], "0", "a client that does not know the scheme pays nothing");
    assert_ne!(stock["refused"], "paid");
    let rented = told(&text, "rented");
    assert_eq!((&rented["requests"], &rented["status"]), (&2.into(), &201.into()));
    assert_eq!(rented["settled"]["success"], true);
    assert_eq!(rented["settled"]["network"], rented["network"]);
    assert_eq!(rented["settled"]["payer"], rented["payer"]);
    assert_eq!(rented["mined"], "success");
    assert_eq!(rented["spent"], rented["deposit"], "the deposit, and not a unit more");
    let settled = told(&text, "settled");
    assert_eq!(settled["coin"], "0", "it never had any of the chain's coin");
    let number = |value: &serde_json::Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let (deposit, refund) = (number(&rented["deposit"]), number(&settled["refund"]));
    assert_eq!(number(&settled["spent"]), deposit.checked_sub(refund).unwrap());

    // and the receipt of it can be checked by a stranger, with the chain
    let verify = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("verify")
        .arg(&receipt)
        .args(["--json", "--rpc", &rpc])
        .output()
        .unwrap();
    let found: serde_json::Value = serde_json::from_slice(&verify.stdout).unwrap();
    assert_eq!(
        (&found["verified"], &found["chain_asked"]),
        (&true.into(), &true.into()),
        "{found}"
    );
    assert_eq!(found["rental"], rented["rental"]);
    assert_eq!(verify.status.code(), Some(0));

    // by the machine's key that is known, and no other
    let agent = found["agent"].as_str().unwrap();
    for (agent, code) in [(agent, 0), ("0x00000000000000000000000000000000000000a9", 8)] {
        let verify = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("verify")
            .arg(&receipt)
            .args(["--json", "--agent", agent])
            .output()
            .unwrap();
        assert_eq!(verify.status.code(), Some(code));
        let found: serde_json::Value = serde_json::from_slice(&verify.stdout).unwrap();
        let pointer = found.pointer("/faults/0/pointer").and_then(|value| value.as_str());
        assert_eq!(pointer, (code == 8).then_some("/readings/agent"));
    }

    // who is not answered does not know
    let nobody = format!("http://127.0.0.1:{}", testkit::free_port().unwrap());
    let verify = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("verify")
        .arg(&receipt)
        .args(["--rpc", &nobody])
        .output()
        .unwrap();
    assert_eq!(verify.status.code(), Some(7), "{}", String::from_utf8_lossy(&verify.stderr));

    // a wrong transaction is noticed offline by the seal, and on the chain by itself
    let mut other: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&receipt).unwrap()).unwrap();
    let tx = other["events"][1]["tx"].clone();
    other["events"][0]["tx"] = tx;
    std::fs::write(&receipt, other.to_string()).unwrap();
    let verify = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("verify")
        .arg(&receipt)
        .args(["--json", "--rpc", &rpc])
        .output()
        .unwrap();
    let found: serde_json::Value = serde_json::from_slice(&verify.stdout).unwrap();
    let pointers: Vec<&str> = found["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/seal/signature", "/events/0/tx"]);
    assert_eq!(verify.status.code(), Some(8));
}
