//! The data folder: made, judged and freed of what a killed server left.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::owner::RunAs;
use super::{PostgresError, SUPERUSER};

/// How long a server that is being stopped may still hold the folder.
const HANDOVER: Duration = Duration::from_secs(15);

/// Makes `data_dir` with initdb unless it is a data folder already. An interrupted making leaves
/// `data_dir` absent: the work is done beside it and renamed.
pub(super) async fn ensure(
    data_dir: &Path,
    bin: &Path,
    run_as: RunAs,
) -> Result<(), PostgresError> {
    let exists = data_dir.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if exists {
        if data_dir.join("PG_VERSION").is_file() {
            return run_as
                .hand_over(data_dir)
                .map_err(PostgresError::io("hand the data folder over"));
        }
        let why = "it holds other files and no PG_VERSION".into();
        return Err(PostgresError::Broken { path: data_dir.to_path_buf(), why });
    }
    let unfinished = sibling(data_dir, ".unfinished");
    let made = make(&unfinished, data_dir, bin, run_as).await;
    if made.is_err() && unfinished.exists() {
        fs::remove_dir_all(&unfinished)
            .map_err(PostgresError::io(format!("remove {}", unfinished.display())))?;
    }
    made
}

async fn make(
    unfinished: &Path,
    data_dir: &Path,
    bin: &Path,
    run_as: RunAs,
) -> Result<(), PostgresError> {
    let doing = || PostgresError::io(format!("create {}", data_dir.display()));
    if unfinished.exists() {
        fs::remove_dir_all(unfinished).map_err(doing())?;
    }
    fs::create_dir_all(unfinished).map_err(|source| full_or(source, data_dir))?;
    fs::set_permissions(unfinished, Permissions::from_mode(0o700)).map_err(doing())?;
    run_as.hand_over(unfinished).map_err(doing())?;
    let mut initdb = run_as.command(&bin.join("initdb"));
    initdb.arg("-D").arg(unfinished).args(["-U", SUPERUSER, "--auth=trust", "--no-sync"]);
    initdb.args(["--locale=C", "--encoding=UTF8", "--no-instructions"]);
    initdb.stdin(Stdio::null());
    // Under a second of work, in a thread of its own.
    let output = tokio::task::spawn_blocking(move || initdb.output())
        .await
        .map_err(|lost| std::io::Error::other(lost.to_string()))
        .flatten()
        .map_err(PostgresError::io("run initdb"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let log = sibling(data_dir, ".log");
        let read = PostgresError::from_last_words(&said, data_dir, &log, 0);
        if matches!(read, PostgresError::DiskFull { .. } | PostgresError::Unusable { .. }) {
            return Err(read);
        }
        let source = std::io::Error::other(crate::server::telling_line(&said));
        return Err(PostgresError::io("make the PostgreSQL data folder")(source));
    }
    if data_dir.exists() {
        // An empty one, for `ensure` looked.
        fs::remove_dir(data_dir).map_err(doing())?;
    }
    fs::rename(unfinished, data_dir).map_err(doing())
}

fn full_or(source: std::io::Error, path: &Path) -> PostgresError {
    if source.kind() == std::io::ErrorKind::StorageFull {
        return PostgresError::DiskFull { path: path.to_path_buf() };
    }
    PostgresError::Io { doing: format!("create {}", path.display()), source }
}

/// Waits until a server that still runs on the folder has gone, and removes the mark of one that
/// was killed: its process number may since belong to a stranger, and PostgreSQL cannot tell.
pub(super) async fn release(data_dir: &Path) -> Result<(), PostgresError> {
    let mark = data_dir.join("postmaster.pid");
    let began = Instant::now();
    loop {
        let Ok(text) = fs::read_to_string(&mark) else {
            return Ok(());
        };
        let pid = text.lines().next().unwrap_or_default().trim().to_owned();
        match runs_on(&pid, data_dir) {
            Some(false) => {
                return fs::remove_file(&mark)
                    .map_err(PostgresError::io("remove a stale postmaster.pid"));
            }
            // Not Linux: PostgreSQL has to judge for itself.
            None => return Ok(()),
            Some(true) => {}
        }
        if began.elapsed() >= HANDOVER {
            return Err(PostgresError::InUse { path: data_dir.to_path_buf(), pid });
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Whether process `pid` is a PostgreSQL on `data_dir`; `None` where /proc does not tell.
fn runs_on(pid: &str, data_dir: &Path) -> Option<bool> {
    if !Path::new("/proc/self/comm").exists() {
        return None;
    }
    let process = Path::new("/proc").join(pid);
    let Ok(name) = fs::read_to_string(process.join("comm")) else {
        return Some(false);
    };
    let here = data_dir.canonicalize().ok();
    let there = fs::read_link(process.join("cwd")).ok();
    // A folder we may not read is somebody's, perhaps this one's: better to wait than to break it.
    Some(name.trim() == "postgres" && there.is_none_or(|there| Some(there) == here))
}

/// Whether the running server has said in its pid file that it takes connections.
pub(super) fn is_ready(data_dir: &Path) -> bool {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).unwrap_or_default();
    text.lines().nth(7).is_some_and(|status| ["ready", "standby"].contains(&status.trim()))
}

/// `data_dir` with `suffix` appended to its last name.
pub(super) fn sibling(data_dir: &Path, suffix: &str) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
