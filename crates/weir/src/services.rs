//! Our own processes: started with their environment, watched, started again when they die, stopped in
//! order.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

const STOP_WITHIN: Duration = Duration::from_secs(15);
const RESTART_AFTER: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Clone)]
pub(crate) struct Plan {
    /// For logs and people.
    pub(crate) name: &'static str,
    /// Arguments of our own binary.
    pub(crate) arguments: Vec<String>,
    /// Its environment beside our own.
    pub(crate) environment: BTreeMap<String, String>,
    /// Variables of ours that it must not see.
    pub(crate) without: &'static [&'static str],
    /// Where its output goes.
    pub(crate) log: PathBuf,
}

/// A process that is kept running.
pub(crate) struct Service {
    name: &'static str,
    pid: watch::Receiver<u32>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Service {
    /// Starts it, and keeps it running.
    ///
    /// # Errors
    /// If it cannot be started at all.
    pub(crate) fn start(plan: Plan) -> Result<Self, Failure> {
        let child = spawn(&plan)?;
        let (tell, pid) = watch::channel(child.id().unwrap_or_default());
        let stop = CancellationToken::new();
        let name = plan.name;
        let task = tokio::spawn(keep(plan, child, tell, stop.clone()));
        Ok(Self { name, pid, stop, task })
    }

    /// Freezes it: what an outage looks like from outside.
    pub(crate) fn freeze(&self) {
        signal(*self.pid.borrow(), Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        signal(*self.pid.borrow(), Signal::CONT);
    }

    /// Stops it: SIGTERM, then after a while SIGKILL.
    pub(crate) async fn stop(self) {
        self.thaw();
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(service = self.name, %error, "the service's keeper failed");
        }
    }
}

async fn keep(plan: Plan, mut child: Child, tell: watch::Sender<u32>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                end(&mut child).await;
                return;
            }
            ended = child.wait() => {
                let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                eprintln!(
                    "weir: {} ended ({how}) and is started again; its log is {}",
                    plan.name,
                    plan.log.display()
                );
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RESTART_AFTER) => {}
        }
        match spawn(&plan) {
            Ok(next) => {
                child = next;
                tell.send_replace(child.id().unwrap_or_default());
            }
            Err(failure) => {
                eprintln!("weir: {failure}");
                return;
            }
        }
    }
}

fn spawn(plan: &Plan) -> Result<Child, Failure> {
    let log = open_log(&plan.log)?;
    let copy = log.try_clone().map_err(Failure::during("a log file"))?;
    let binary = std::env::current_exe().map_err(Failure::during("finding our own program"))?;
    let mut command = Command::new(binary);
    command
        .args(&plan.arguments)
        .envs(&plan.environment)
        .env("WEIR_PARENT", std::process::id().to_string())
        // Ctrl-C goes to us, and we stop them in order
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(copy);
    for name in plan.without {
        command.env_remove(name);
    }
    command
        .spawn()
        .map_err(|error| Failure::new(format!("{} cannot be started: {error}", plan.name)))
}

fn open_log(path: &Path) -> Result<std::fs::File, Failure> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
        Failure::new(format!(
            "{} cannot be written: {error}; check the disk and its rights",
            path.display()
        ))
    })
}

async fn end(child: &mut Child) {
    signal(child.id().unwrap_or_default(), Signal::TERM);
    if tokio::time::timeout(STOP_WITHIN, child.wait()).await.is_err()
        && let Err(error) = child.kill().await
    {
        tracing::error!(%error, "a service could not be ended");
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
        tracing::debug!(%error, "signal not delivered");
    }
}
