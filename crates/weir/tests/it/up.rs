//! `weir up` as a stranger runs it: whole rentals on a real chain and a real database, with processes
//! killed in the middle.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use alloy::signers::local::PrivateKeySigner;
use escrow::receipt;

/// Nothing here takes longer on a machine that is not stuck.
/// Less than a test may take in all.
const LIMIT: Duration = Duration::from_secs(150);

/// A data folder and a port of its own per test.
struct Market {
    folder: tempfile::TempDir,
    port: u16,
}

/// A running `weir up --once` and the lines it has printed.
struct Run {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Market {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), port: testkit::free_port().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .args(["up", "--once", "--chain-port", "0", "--data"])
            .arg(self.path())
            .args(arguments)
            .env("WEIR_LISTEN", format!("127.0.0.1:{}", self.port))
            .env_remove("DATABASE_URL")
            .env_remove("RPC_URL");
        command
    }

    fn start(&self, arguments: &[&str], pause_at: Option<&str>) -> Run {
        let mut command = self.command(arguments);
        if let Some(place) = pause_at {
            command.env("WEIR_PAUSE_AT", place);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
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
        Run { child, lines, seen: Vec::new() }
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join("log").join(name)).unwrap_or_default()
    }
}

impl Run {
    fn wait_for(&mut self, wanted: &str) {
        let since = Instant::now();
        while since.elapsed() < LIMIT {
            if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(200)) {
                let found = line.contains(wanted);
                self.seen.push(line);
                if found {
                    return;
                }
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before {wanted:?}");
        }
        panic!("{wanted:?} did not appear");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn finish(mut self) -> (ExitStatus, String) {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(10)) {
                    self.seen.push(line);
                }
                return (status, self.seen.join("\n"));
            }
            assert!(since.elapsed() < LIMIT, "it did not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn assert_adds_up(status: ExitStatus, output: &str) {
    assert!(status.success(), "{status}");
    assert!(output.contains("= deposit 650000"), "the parts are not the whole");
    assert_eq!(output.matches("  =\n").count(), 3, "three figures agree with the chain");
    assert!(!output.contains("DIFFERS"));
    let closed = output.lines().filter(|line| line.starts_with("  closed ")).count();
    assert_eq!(closed, 1, "settled once");
    assert!(output.contains("reconciler: contract = events = ledger"));
}

#[test]
fn an_outage_of_twenty_seconds_is_not_billed() {
    let market = Market::new();
    let (status, output) = market.start(&["--outage", "20", "--run-for", "2"], None).finish();
    assert_adds_up(status, &output);
    let line = output.lines().find(|line| line.contains("s of outage")).expect("an outage line");
    let seconds: u32 = line.split_whitespace().nth(2).unwrap().parse().unwrap();
    let at = |what: &str| -> u32 {
        let said = output.lines().find(|line| line.contains(what)).unwrap();
        said.split('.').next().unwrap().trim().parse().unwrap()
    };
    let frozen = at("agent goes on") - at("agent frozen") + 1;
    // the last reading before and the first after it may each miss a second or two, and more on a machine that is busy
    assert!((19..=frozen + 10).contains(&seconds), "{line}, of {frozen} s");
    assert_kept_receipt(&market, &output);
}

/// What `weir verify` makes of a file.
fn verify(file: &Path) -> (Option<i32>, String) {
    verify_with(file, &[])
}

fn verify_with(file: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = command.arg("verify").arg(file).args(more).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// The receipt that the run kept is what a stranger can check, and no byte of it can be another.
fn assert_kept_receipt(market: &Market, output: &str) {
    let line = output.lines().find(|line| line.contains("try `weir verify ")).expect("verified");
    let file = line.split('`').nth(1).unwrap().trim_start_matches("weir verify ");
    assert!(Path::new(file).starts_with(market.path()), "{file}");
    let (code, text) = verify(Path::new(file));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(" = 650000 deposit"), "{text}");
    let good = std::fs::read(file).unwrap();
    let bad = market.path().join("bad.json");
    let wrong = |bytes: &[u8], place: &str| {
        std::fs::write(&bad, bytes).unwrap();
        let (code, text) = verify(&bad);
        assert_eq!(code, Some(8), "{place}: {text}");
    };
    for place in (0..good.len()).step_by(good.len() / 23) {
        let mut other = good.clone();
        other[place] ^= 1;
        wrong(&other, &format!("byte {place}"));
    }
    wrong(&[&good[..], b"\n"].concat(), "a byte more");
    wrong(b"{}", "nothing");
    assert_eq!(verify(&market.path().join("none.json")).0, Some(1), "no such file");
    assert_says_whose_key_is_not_known(Path::new(file), &good);
    assert_every_byte_of_readings_counts(market, &good);
}

/// Anybody can make a receipt with a key of their own: who does not name the platform's is told.
fn assert_says_whose_key_is_not_known(file: &Path, good: &[u8]) {
    let signer = receipt::read(good).unwrap().quote.signer.to_string();
    let (_, text) = verify(file);
    let warning = text.lines().find(|line| line.contains("WARNING")).expect("a warning");
    assert!(warning.contains(&signer), "{warning}");
    let (code, text) = verify_with(file, &["--platform", &signer]);
    assert!(code == Some(0) && !text.contains("WARNING"), "{text}");
    let unproven = |more: &[&str]| {
        let (_, text) = verify_with(file, &[&["--json"], more].concat());
        let mut said: serde_json::Value = serde_json::from_str(&text).unwrap();
        said["unproven"].take()
    };
    assert_eq!(unproven(&[]), serde_json::json!([signer.to_lowercase()]));
    assert_eq!(unproven(&["--platform", &signer]), serde_json::json!([]));
}

/// The same receipt with its readings in a file of their own, as the API lists them.
fn assert_every_byte_of_readings_counts(market: &Market, good: &[u8]) {
    let mut receipt = receipt::read(good).unwrap();
    let quoted_by = receipt.quote.signer.to_string();
    let items = std::mem::take(&mut receipt.readings.items);
    let notary = PrivateKeySigner::random();
    receipt.seal(&notary).unwrap();
    let (apart, list) = (market.path().join("apart.json"), market.path().join("readings.jsonl"));
    std::fs::write(&apart, receipt.text()).unwrap();
    let lines: String = items
        .iter()
        .map(|item| {
            let hash = receipt::hash_of(item, receipt.id(), receipt.chain_id, receipt.escrow);
            let (detail, from, to) = (&item.detail, item.from.get(), item.to.get());
            format!(
                r#"{{"seq":{},"from":{from},"to":{to},"detail":{detail},"prev_hash":"{}","hash":"{hash}","signature":"{}"}}{}"#,
                item.seq, item.prev_hash, item.signature, "\n"
            )
        })
        .collect();
    let notary = notary.address().to_string();
    let named =
        ["--platform", &quoted_by, "--platform", &notary, "--readings", list.to_str().unwrap()];
    let found = |lines: &[u8]| {
        std::fs::write(&list, lines).unwrap();
        verify_with(&apart, &named)
    };
    let (code, text) = found(lines.as_bytes());
    assert_eq!(code, Some(0), "{text}");
    let hash = lines.find(r#""hash":"0x"#).unwrap() + 12;
    let mut places: Vec<usize> = (0..lines.len()).step_by(lines.len() / 23).collect();
    places.extend([hash, hash + 63]);
    for place in places {
        let mut other = lines.clone().into_bytes();
        other[place] ^= 1;
        let (code, text) = found(&other);
        assert_eq!(code, Some(8), "byte {place}: {text}");
    }
    // the last byte of a signature has another spelling, which the same key recovers from
    let (first, rest) = lines.split_once('\n').unwrap();
    let spelled = match (first.strip_suffix("1b\"}"), first.strip_suffix("1c\"}")) {
        (Some(begin), _) => format!("{begin}00\"}}\n{rest}"),
        (None, Some(begin)) => format!("{begin}01\"}}\n{rest}"),
        (None, None) => panic!("{first}"),
    };
    for other in [
        spelled,
        lines.replacen("\"seq\":1", "\"seq\": 1", 1),
        lines.replacen(r#""seq":1,"#, r#""seq":1,"seq":1,"#, 1),
        format!("{lines}\n"),
        lines.replacen('\n', "\r\n", 1),
    ] {
        let (code, text) = found(other.as_bytes());
        assert_eq!(code, Some(8), "{text}");
    }
}

#[test]
fn a_renter_without_coins_rents_by_signature() {
    let market = Market::new();
    let (status, output) = market.start(&["--outage", "0", "--gasless"], None).finish();
    assert_adds_up(status, &output);
    assert!(output.contains("authorization (EIP-3009), sent by the platform"));
    assert!(output.contains("the machine is reached at 127.0.0.1"), "its agent said so");
    assert!(
        output.contains("renter's coin    0 wei before, 0 wei after"),
        "gas was paid for by us"
    );
}

#[test]
fn killed_between_lock_and_start_it_goes_on() {
    let market = Market::new();
    let mut run = market.start(&["--outage", "0"], None);
    run.wait_for("(lock_included)");
    run.kill();
    let (status, output) = market.start(&["--outage", "0"], None).finish();
    assert!(output.contains("taking up rnt_"));
    assert_adds_up(status, &output);
}

#[test]
fn killed_between_start_and_stop_it_goes_on() {
    let market = Market::new();
    let mut run = market.start(&["--outage", "0"], None);
    run.wait_for("(start_final)");
    run.kill();
    let (status, output) = market.start(&["--outage", "0"], None).finish();
    assert!(output.contains("taking up rnt_"));
    assert_adds_up(status, &output);
}

#[test]
fn killed_between_signing_and_sending_the_close_it_sends_the_same_bytes_once() {
    let market = Market::new();
    let mut run = market.start(&["--outage", "0", "--run-for", "1"], Some("close.signed"));
    run.wait_for("settling");
    let since = Instant::now();
    while !market.log("work.log").contains("paused here") {
        assert!(since.elapsed() < LIMIT, "the close was not signed");
        std::thread::sleep(Duration::from_millis(50));
    }
    run.kill();
    let signed = closing_hash(&market.log("work.log"));
    let (status, output) = market.start(&["--outage", "0"], None).finish();
    assert_adds_up(status, &output);
    assert!(output.contains(&signed), "the bytes signed before the kill are the ones that settled");
}

/// The hash of the close that the worker signed last.
fn closing_hash(log: &str) -> String {
    let line =
        log.lines().rfind(|line| line.contains("signed and stored") && line.contains("close"));
    let line = line.expect("a signed close");
    let hash = line.split("tx.hash=").nth(1).expect("its hash");
    hash.chars().take(66).collect()
}

#[test]
fn a_killed_worker_is_started_again_and_finishes() {
    let market = Market::new();
    let mut run = market.start(&["--outage", "0"], None);
    run.wait_for("(lock_final)");
    let worker = child_of(run.child.id(), "work");
    assert!(Command::new("kill").args(["-9", &worker]).status().unwrap().success());
    let (status, output) = run.finish();
    assert_adds_up(status, &output);
}

/// The process id of a service, found by its parent and its argument.
fn child_of(parent: u32, argument: &str) -> String {
    let listed = Command::new("ps").args(["-eo", "pid=,ppid=,args="]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    listed
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words[1] == parent.to_string() && words.last() == Some(&argument))
        .map(|words| words[0].to_owned())
        .expect("the worker's process")
}

#[test]
fn own_servers_replace_the_embedded_ones() {
    let market = Market::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (cluster, chain) = runtime.block_on(async {
        let options = testkit::ClusterOptions::throwaway(market.path().join("own"));
        let cluster = testkit::Cluster::start(options).await.unwrap();
        cluster.ensure_database("market").await.unwrap();
        let options = testkit::AnvilOptions {
            block_time: Some(Duration::from_secs(1)),
            ..testkit::AnvilOptions::default()
        };
        (cluster, testkit::Anvil::start(options).await.unwrap())
    });
    let output = market
        .command(&["--outage", "0", "--run-for", "1"])
        .env("DATABASE_URL", cluster.url("market"))
        .env("RPC_URL", chain.url())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_adds_up(output.status, &text);
    assert!(
        !text.contains("PostgreSQL on") && !text.contains("anvil"),
        "nothing embedded was started"
    );
    assert!(!market.path().join("postgres").exists() && !market.path().join("chain.json").exists());
    drop((cluster, chain));
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let said = |command: &mut Command| {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(!child.wait().unwrap().success());
        assert_eq!(text.trim_end().lines().count(), 1, "{text}");
        text
    };
    let market = Market::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", market.port)).unwrap();
    assert!(said(&mut market.command(&[])).contains("set WEIR_LISTEN="));
    drop(taken);
    let text = said(market.command(&[]).env("WEIR_PG_BIN", "/nowhere"));
    assert!(text.contains("make setup"), "{text}");
    let text = said(market.command(&[]).env("WEIR_FEE_BPS", "2000"));
    assert!(text.contains("WEIR_FEE_BPS") && text.contains("1000 to 1500"), "{text}");
    let text =
        said(market.command(&[]).env("DATABASE_URL", "postgres://postgres@127.0.0.1:1/weir"));
    assert!(text.contains("database"), "{text}");
    std::fs::write(market.path().join("demo.json"), "not json").unwrap();
    let broken = market.path().join("postgres");
    std::fs::create_dir_all(&broken).unwrap();
    std::fs::write(broken.join("something"), "else").unwrap();
    let text = said(&mut market.command(&[]));
    assert!(text.contains("postgres"), "{text}");
}
