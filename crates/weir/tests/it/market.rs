//! A whole market for a client to use, and what clients leave behind.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Nothing here takes longer on a machine that is not stuck.
const LIMIT: Duration = Duration::from_secs(240);

/// A market that serves until it is dropped.
pub struct Market {
    child: Child,
    lines: Receiver<String>,
    pub folder: tempfile::TempDir,
    pub api: String,
    pub rpc: String,
}

impl Market {
    /// With a machine that can be rented, and one rental behind it.
    pub fn start() -> Self {
        Self::with(&["--outage", "0", "--run-for", "1"])
    }

    /// With so many generated offers of machines that nobody runs.
    pub fn filled(offers: u32) -> Self {
        Self::with(&["--no-demo", "--fill", &offers.to_string()])
    }

    fn with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, chain_port) = (testkit::free_port().unwrap(), testkit::free_port().unwrap());
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("up")
            .args(arguments)
            .arg("--chain-port")
            .arg(chain_port.to_string())
            .arg("--data")
            .arg(folder.path())
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
        let [api, rpc] = [port, chain_port].map(|port| format!("http://127.0.0.1:{port}"));
        let mut market = Self { child, lines, folder, api, rpc };
        market.wait_for("Try next");
        market
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

/// A folder of the checkout whose packages are there.
pub fn installed(folder: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let stamp = folder.join("node_modules/.weir-stamp");
    assert!(stamp.exists(), "{} is missing: run make setup", stamp.display());
    folder
}

/// What a program printed that has to succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    text
}

/// The line of JSON that tells this.
pub fn told(output: &str, what: &str) -> Value {
    let lines = output.lines().filter_map(|line| serde_json::from_str(line).ok());
    let mut lines = lines.filter(|line: &Value| line["what"] == what);
    lines.next().unwrap_or_else(|| panic!("nothing of {what:?}"))
}

/// What `weir verify` says of a receipt with the chain at this address; null if it could not say.
pub fn verify(receipt: &Path, rpc: &str) -> (Option<i32>, Value) {
    let verify = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("verify")
        .arg(receipt)
        .args(["--json", "--rpc", rpc])
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&verify.stderr));
    (verify.status.code(), serde_json::from_slice(&verify.stdout).unwrap_or_default())
}
