//! A foreign server as a child process: started, watched, signalled and waited for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A log above this is moved aside (one generation) before a server is started.
const LOG_LIMIT_BYTES: u64 = 4 << 20;
/// As much of the end of a log is read to find out why a server stopped.
const TAIL_BYTES: u64 = 16 << 10;
/// How often a child that should end is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Stops process `$1` in order once its owner is gone: the owner holds the other end of our
/// standard input, which closes however the owner dies.
const WATCH_OWNER: &str = r#"
trap '' HUP INT TERM
read -r _
kill -INT "$1" 2>/dev/null || exit 0
n=0; while [ "$n" -lt 100 ] && kill -0 "$1" 2>/dev/null; do sleep 0.1; n=$((n + 1)); done
kill -KILL "$1" 2>/dev/null
"#;

/// The same for a server that outlives the process that started it: it goes when process `$2`
/// has gone, and then its folder `$3` with it.
const WATCH_PROCESS: &str = r#"
trap '' HUP INT TERM
while kill -0 "$2" 2>/dev/null; do sleep 0.5; done
kill -INT "$1" 2>/dev/null
n=0; while [ "$n" -lt 100 ] && kill -0 "$1" 2>/dev/null; do sleep 0.1; n=$((n + 1)); done
kill -KILL "$1" 2>/dev/null
rm -rf -- "$3"
"#;

/// A signal, and how long it may take to work.
pub(crate) type Step = (Signal, Duration);

/// A running child with its watchdog. Dropped without [`Server::stop`], it is stopped in order
/// within the time of `last_words`, then killed.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Holds the pipe that the watchdog waits on; `None` once detached or stopped.
    watchdog: Option<Child>,
    log: PathBuf,
    log_start: u64,
    last_words: Step,
    detached: bool,
}

impl Server {
    /// Starts `command` with both outputs appended to `log`.
    pub(crate) fn spawn(mut command: Command, log: &Path, last_words: Step) -> io::Result<Self> {
        let (output, log_start) = open_log(log)?;
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut server = Self {
            child,
            watchdog: None,
            log: log.to_path_buf(),
            log_start,
            last_words,
            detached: false,
        };
        let mut watchdog = shell(WATCH_OWNER, &[server.pid().to_string()]);
        server.watchdog = Some(watchdog.stdin(Stdio::piped()).spawn()?);
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The status with which the server ended, if it has.
    pub(crate) fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// What the server has written since it was started, the last 16 KiB of it.
    pub(crate) fn said(&self) -> String {
        tail(&self.log, self.log_start).unwrap_or_default()
    }

    /// Sends each signal in turn until the server has ended; kills it after the last.
    pub(crate) async fn stop(&mut self, steps: &[Step]) -> io::Result<()> {
        for (signal, limit) in steps {
            self.signal(*signal);
            let began = Instant::now();
            while began.elapsed() < *limit {
                if self.exited()?.is_some() {
                    self.dismiss_watchdog();
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        }
        self.kill()
    }

    /// Lets the server live on after this process, until process `owner` has gone; `folder` is
    /// removed with it.
    pub(crate) fn detach(mut self, owner: u32, folder: &Path) -> io::Result<()> {
        let arguments = [self.pid().to_string(), owner.to_string(), folder.display().to_string()];
        shell(WATCH_PROCESS, &arguments).stdin(Stdio::null()).spawn()?;
        self.detached = true;
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        // A child that is not yet waited for keeps its number: the signal cannot hit a stranger.
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
            tracing::debug!(server.pid = self.pid(), %error, "signal not delivered");
        }
    }

    fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.dismiss_watchdog();
        Ok(())
    }

    fn dismiss_watchdog(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            // Killed, not told: told, it would signal a process number that is free again.
            let dismissed = watchdog.kill().and_then(|()| watchdog.wait());
            if let Err(error) = dismissed {
                tracing::debug!(%error, "watchdog not dismissed");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.detached {
            self.dismiss_watchdog();
            return;
        }
        let (signal, limit) = self.last_words;
        if matches!(self.exited(), Ok(None)) {
            self.signal(signal);
        }
        let began = Instant::now();
        while matches!(self.exited(), Ok(None)) && began.elapsed() < limit {
            std::thread::sleep(POLL);
        }
        if let Err(error) = self.kill() {
            tracing::debug!(%error, "server not killed");
        }
    }
}

/// A `sh` in its own process group, so that neither the terminal nor the owner's end reaches it.
fn shell(script: &str, arguments: &[String]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "weir-watchdog"]).args(arguments).current_dir("/");
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Opens `log` for appending and tells where its end is.
fn open_log(log: &Path) -> io::Result<(File, u64)> {
    if fs::metadata(log).is_ok_and(|found| found.len() > LOG_LIMIT_BYTES) {
        let mut aside = log.as_os_str().to_owned();
        aside.push(".1");
        fs::rename(log, aside)?;
    }
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    let end = file.metadata()?.len();
    Ok((file, end))
}

fn tail(log: &Path, from: u64) -> io::Result<String> {
    let mut file = File::open(log)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(end.saturating_sub(TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The most telling line of a program's last words, shortened to 300 characters.
pub(crate) fn telling_line(said: &str) -> String {
    let marked = |mark: &str| said.lines().rev().find(|line| line.contains(mark));
    let line = ["PANIC", "FATAL", "error:", "Error:", "ERROR"].iter().find_map(|mark| marked(mark));
    let last = || said.lines().rev().find(|line| !line.trim().is_empty());
    line.or_else(last).unwrap_or("no output").trim().chars().take(300).collect()
}
