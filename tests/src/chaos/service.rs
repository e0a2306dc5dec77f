//! A process of the `weir` program: started, killed, frozen, started again.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Mutex,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

pub struct Service {
    program: PathBuf,
    argument: &'static str,
    environment: BTreeMap<String, String>,
    log: PathBuf,
    child: Mutex<Option<Child>>,
    /// Whether it should run, and what it was started with.
    wanted: Mutex<Option<Vec<(String, String)>>>,
}

impl Service {
    pub fn new(
        program: &Path,
        argument: &'static str,
        environment: BTreeMap<String, String>,
        log: PathBuf,
    ) -> Self {
        Self {
            program: program.to_owned(),
            argument,
            environment,
            log,
            child: Mutex::default(),
            wanted: Mutex::default(),
        }
    }

    pub fn start(&self) {
        self.start_with(&[]);
    }

    pub fn start_with(&self, more: &[(&str, &str)]) {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let more: Vec<(String, String)> = more.collect();
        *self.child.lock().unwrap() = Some(self.spawn(&more));
        *self.wanted.lock().unwrap() = Some(more);
    }

    /// As its supervisor would: what ended by itself is started again. True if it was.
    pub fn supervise(&self) -> bool {
        let wanted = self.wanted.lock().unwrap();
        let Some(more) = &*wanted else { return false };
        let mut child = self.child.lock().unwrap();
        if child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            return false;
        }
        *child = Some(self.spawn(more));
        true
    }

    fn spawn(&self, more: &[(String, String)]) -> Child {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        Command::new(&self.program)
            .arg(self.argument)
            .env_remove("WEIR_PAUSE_AT")
            .envs(&self.environment)
            .envs(more.iter().map(|(name, value)| (name, value)))
            .env("WEIR_PARENT", std::process::id().to_string())
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// As the machine's power would: nothing of it runs on.
    pub async fn kill(&self) {
        *self.wanted.lock().unwrap() = None;
        let child = self.child.lock().unwrap().take();
        if let Some(mut child) = child {
            child.kill().await.unwrap();
        }
    }

    /// As its supervisor would: it is told to stop, and waited for.
    pub async fn stop(&self) {
        *self.wanted.lock().unwrap() = None;
        self.signal(Signal::TERM);
        let child = self.child.lock().unwrap().take();
        if let Some(mut child) = child {
            let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
            assert!(ended.is_ok(), "it does not stop");
        }
    }

    pub fn signal(&self, signal: Signal) {
        // one that ended by itself a moment ago has no ear
        let Some(pid) = self.child.lock().unwrap().as_ref().and_then(Child::id) else { return };
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub fn logged(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}
