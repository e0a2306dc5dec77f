//! PostgreSQL's own load program.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use crate::{BenchError, Histogram, Server, Slice, machine::cores, server::TPCB};

/// What a slice may take beyond its length: connecting, and the last transactions.
const GRACE: Duration = Duration::from_secs(30);

/// pgbench, pointed at the server.
pub(super) struct Pgbench {
    program: PathBuf,
    port: u16,
    clients: u16,
    /// Where it writes the latency of each transaction.
    logs: PathBuf,
}

impl Pgbench {
    pub(super) fn new(program: PathBuf, server: &Server, clients: u16) -> Self {
        let logs = server.folder().join("pgbench");
        Self { program, port: server.port(), clients, logs }
    }

    /// Its name and version, such as `pgbench 18.4`.
    pub(super) async fn version(&self) -> Result<String, BenchError> {
        let output = self.run(Command::new(&self.program).arg("--version"), GRACE).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_whitespace().nth(2).unwrap_or("of unknown version");
        Ok(format!("pgbench {version}"))
    }

    /// Runs for `span`, in whole seconds, rounded up: it knows no shorter unit. As fast as it can, or so many times a second;
    /// the latency then begins when a transaction was due.
    pub(super) async fn slice(
        &self,
        span: Duration,
        rate: Option<f64>,
    ) -> Result<Slice, BenchError> {
        fs::create_dir_all(&self.logs).map_err(BenchError::io("make a folder for pgbench"))?;
        let seconds = span.as_millis().div_ceil(1_000).max(1);
        let jobs = usize::from(self.clients).min(cores());
        let mut command = Command::new(&self.program);
        command
            .args(["--no-vacuum", "--protocol=prepared", "--log"])
            .args(["--host=127.0.0.1", "--username=postgres"])
            .arg(format!("--port={}", self.port))
            .arg(format!("--client={}", self.clients))
            .arg(format!("--jobs={jobs}"))
            .arg(format!("--time={seconds}"))
            .arg(format!("--log-prefix={}", self.logs.join("slice").display()))
            .args(rate.map(|rate| format!("--rate={rate:.1}")))
            .arg(TPCB)
            .env_remove("PGOPTIONS");
        let output = self.run(&mut command, span.saturating_add(GRACE)).await?;
        let said = String::from_utf8_lossy(&output.stdout);
        let (count, rate) =
            figures(&said).ok_or_else(|| self.error(format!("no figures in {said:?}")))?;
        let latency = read_logs(&self.logs)?
            .ok_or_else(|| self.error("its log is not understood".to_owned()))?;
        fs::remove_dir_all(&self.logs).map_err(BenchError::io("remove pgbench's logs"))?;
        if latency.count() != count {
            let why = format!("{count} transactions, but {} in its log", latency.count());
            return Err(self.error(why));
        }
        // Its rate leaves out the time to connect, as our own clients do.
        let elapsed = Duration::try_from_secs_f64(count as f64 / rate).unwrap_or(span);
        Ok(Slice { count, elapsed, latency, ..Slice::default() })
    }

    async fn run(&self, command: &mut Command, limit: Duration) -> Result<Output, BenchError> {
        let running = command.kill_on_drop(true).output();
        let output = match timeout(limit, running).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(self.error(error.to_string())),
            Err(_) => return Err(self.error(format!("no end after {} s", limit.as_secs()))),
        };
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(self.error(format!("{}: {}", output.status, said.trim())))
    }

    fn error(&self, why: String) -> BenchError {
        BenchError::Pgbench { program: self.program.clone(), why }
    }
}

/// The pgbench that a shell would find.
pub(super) fn on_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("pgbench")).find(|file| file.is_file())
}

/// Transactions and transactions per second out of what pgbench prints at its end.
fn figures(said: &str) -> Option<(u64, f64)> {
    let after = |start: &str| said.lines().find_map(|line| line.strip_prefix(start));
    let count = after("number of transactions actually processed: ")?;
    // With an upper bound it is `processed/asked`.
    let count = count.split('/').next()?.trim().parse().ok()?;
    let rate: f64 = after("tps = ")?.split_whitespace().next()?.parse().ok()?;
    (rate > 0.0).then_some((count, rate))
}

/// The third word of each line is the latency in microseconds.
fn read_logs(folder: &Path) -> Result<Option<Histogram>, BenchError> {
    let doing = "read pgbench's logs";
    let mut latency = Histogram::default();
    for entry in fs::read_dir(folder).map_err(BenchError::io(doing))? {
        let path = entry.map_err(BenchError::io(doing))?.path();
        for line in fs::read_to_string(path).map_err(BenchError::io(doing))?.lines() {
            match line.split(' ').nth(2).and_then(|word| word.parse().ok()) {
                Some(micros) => latency.record_micros(micros),
                None => return Ok(None),
            }
        }
    }
    Ok(Some(latency))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_what_pgbench_prints() {
        let said = "transaction type: <builtin: TPC-B (sort of)>\nduration: 3 s\n\
                    number of transactions actually processed: 4321\n\
                    number of failed transactions: 0 (0.000%)\nlatency average = 5.5 ms\n\
                    tps = 1440.333 (without initial connection time)\n";
        assert_eq!(figures(said), Some((4_321, 1_440.333)));
        assert_eq!(figures(&said.replace("4321", "12/34")), Some((12, 1_440.333)));
        assert_eq!(figures(&said.replace("1440.333", "0")), None);
        assert_eq!(figures("pgbench: error"), None);
    }
}
