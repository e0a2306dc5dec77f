//! A process of the `weir` program: started, killed, frozen, started again.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Mutex,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

pub struct Service {
    program: PathBuf,
    argument: &'static str,
    environment: BTreeMap<String, String>,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Service {
    pub fn new(
        program: &Path,
        argument: &'static str,
        environment: BTreeMap<String, String>,
        log: PathBuf,
    ) -> Self {
        Self { program: program.to_owned(), argument, environment, log, child: Mutex::default() }
    }

    pub fn start(&self) {
        self.start_with(&[]);
    }

    pub fn start_with(&self, more: &[(&str, &str)]) {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let child = Command::new(&self.program)
            .arg(self.argument)
            .env_remove("WEIR_PAUSE_AT")
            .envs(&self.environment)
            .envs(more.iter().copied())
            .env("WEIR_PARENT", std::process::id().to_string())
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.child.lock().unwrap() = Some(child);
    }

    /// As the machine's power would: nothing of it runs on.
    pub async fn kill(&self) {
        let child = self.child.lock().unwrap().take();
        if let Some(mut child) = child {
            child.kill().await.unwrap();
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.lock().unwrap().as_ref().and_then(Child::id).unwrap();
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Whether it runs; one that ended by itself does not.
    pub fn runs(&self) -> bool {
        let mut child = self.child.lock().unwrap();
        child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub fn logged(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}
