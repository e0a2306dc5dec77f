//! One throwaway cluster per test run, shared by its processes.

use std::env;
use std::fs::{self, File};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process;

use sqlx::{Connection as _, PgConnection};

use super::TestDbError;
use crate::postgres::{Cluster, ClusterOptions};
use crate::tools::scratch_dir;

/// A test run: the folder of its cluster, and the process that it lasts as long as.
struct Run {
    folder: PathBuf,
    owner: u32,
}

/// The address of a server that may be filled with databases.
pub(super) async fn server_url() -> Result<String, TestDbError> {
    if let Ok(url) = env::var("DATABASE_URL")
        && !url.is_empty()
    {
        return Ok(url);
    }
    let run = this_run();
    fs::create_dir_all(&run.folder).map_err(io("create the run's folder"))?;
    let guard = File::create(run.folder.join("lock")).map_err(io("create the run's lock"))?;
    // Waits for the one that starts the cluster: seconds. In a thread, for it blocks.
    let guard = tokio::task::spawn_blocking(move || guard.lock().map(|()| guard))
        .await
        .map_err(|lost| std::io::Error::other(lost.to_string()))
        .flatten()
        .map_err(io("lock the run's folder"))?;
    let noted = run.folder.join("url");
    if let Ok(url) = fs::read_to_string(&noted)
        && answers(&url).await
    {
        return Ok(url);
    }
    sweep(&run.folder);
    let url = start(&run).await?;
    fs::write(noted, &url).map_err(io("note the cluster's address"))?;
    drop(guard);
    Ok(url)
}

async fn start(run: &Run) -> Result<String, TestDbError> {
    fs::write(run.folder.join("owner"), run.owner.to_string()).map_err(io("note the owner"))?;
    let mut options = ClusterOptions::throwaway(run.folder.join("data"));
    options.settings = vec![("max_connections".into(), "200".into())];
    let cluster = Cluster::start(options).await?;
    let url = cluster.url("postgres");
    cluster.detach(run.owner, &run.folder)?;
    Ok(url)
}

async fn answers(url: &str) -> bool {
    match PgConnection::connect(url).await {
        Ok(connection) => connection.close().await.is_ok(),
        Err(_refused) => false,
    }
}

/// nextest and cargo run tests as their children: the run is theirs. A test program that was
/// started by hand is a run of its own.
fn this_run() -> Run {
    let parent = parent_id();
    let name = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    let owner = if name.starts_with("cargo") { parent } else { process::id() };
    let id = env::var("NEXTEST_RUN_ID").unwrap_or_else(|_unset| "run".into());
    Run { folder: runs().join(format!("{id}-{owner}")), owner }
}

fn runs() -> PathBuf {
    scratch_dir().join("weir-test")
}

/// Removes what runs left behind whose watchdog was killed too (a crashed machine).
fn sweep(own: &Path) {
    let Ok(entries) = fs::read_dir(runs()) else {
        return;
    };
    for folder in entries.flatten().map(|entry| entry.path()).filter(|path| path != own) {
        let lives = |file: &str| {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            let pid = text.lines().next().unwrap_or_default().trim().to_owned();
            !pid.is_empty() && Path::new("/proc").join(pid).exists()
        };
        if !folder.join("owner").exists() || lives("owner") || lives("data/postmaster.pid") {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(&folder) {
            tracing::debug!(path = %folder.display(), %error, "an old run's folder stays");
        }
    }
}

fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> TestDbError {
    move |source| TestDbError::Io { doing, source }
}
