//! Our program as a process: started, asked, signalled, waited for.

use std::{
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use reqwest::StatusCode;

/// Nothing here takes longer on a machine that is not stuck.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Our program with a clean environment of its own.
pub fn weir(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["DATABASE_URL", "RPC_URL", "WEIR_OPERATOR_KEY", "WEIR_PARENT"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    command
}

/// A running process; killed when dropped.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub fn signal(&self, name: &str) {
        let signal = format!("-{name}");
        let sent = Command::new("kill").args([&signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    pub async fn end(mut self) -> ExitStatus {
        eventually("the process ends", async || self.0.try_wait().unwrap()).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let since = Instant::now();
    while since.elapsed() < LIMIT {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not in {LIMIT:?}: {what}");
}

/// A client that asks no proxy and waits as long as a request may take.
pub fn http() -> reqwest::Client {
    tls::direct(LIMIT).unwrap()
}

/// The status of a GET, or `None` where nobody answers.
pub async fn status(http: &reqwest::Client, url: &str) -> Option<StatusCode> {
    http.get(url).send().await.ok().map(|answer| answer.status())
}

/// `weir serve` on a port of its own.
pub struct Server {
    pub running: Running,
    pub url: String,
    pub port: u16,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub async fn start(environment: &[(&str, &str)]) -> Self {
        Self::logging_to(environment, Stdio::inherit()).await
    }

    /// The same, with its standard error going elsewhere.
    pub async fn logging_to(environment: &[(&str, &str)], log: Stdio) -> Self {
        let port = testkit::free_port().unwrap();
        let listen = format!("127.0.0.1:{port}");
        let mut command = weir(&["serve"], environment);
        let running = Running::start(command.env("WEIR_LISTEN", &listen).stderr(log));
        let mut server = Self { running, url: format!("http://{listen}"), port };
        let (client, ready) = (http(), format!("{}/readyz", server.url));
        eventually("the API is ready", async || {
            assert!(!server.running.has_ended(), "it ended");
            status(&client, &ready).await.filter(StatusCode::is_success)
        })
        .await;
        server
    }

    /// Waits until nobody is accepted any more.
    pub async fn closes(&self) {
        eventually("nobody is accepted", async || {
            let connected = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await;
            connected.is_err().then_some(())
        })
        .await;
    }
}

impl From<Child> for Running {
    fn from(child: Child) -> Self {
        Self(child)
    }
}
