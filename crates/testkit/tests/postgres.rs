//! A cluster starts, keeps what it committed, and says in one line what is wrong.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use testkit::tools::postgres_bin;
use testkit::{Cluster, ClusterOptions};

/// A folder for one test, made anew, and removed unless the test fails.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }
}

async fn connect(cluster: &Cluster) -> PgConnection {
    PgConnection::connect(&cluster.url("weir")).await.unwrap()
}

async fn count(cluster: &Cluster) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM kept")
        .fetch_one(&mut connect(cluster).await)
        .await
        .unwrap()
}

async fn insert(cluster: &Cluster) {
    let statement = "CREATE TABLE IF NOT EXISTS kept (n bigint); INSERT INTO kept VALUES (1)";
    sqlx::raw_sql(statement).execute(&mut connect(cluster).await).await.unwrap();
}

async fn refusal(options: ClusterOptions) -> String {
    let message = Cluster::start(options).await.unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn rows_survive_a_stop_and_a_kill() {
    let folder = Folder::new("keeps");
    let data = folder.data();
    let cluster = Cluster::start(ClusterOptions::durable(&data)).await.unwrap();
    cluster.ensure_database("weir").await.unwrap();
    cluster.ensure_database("weir").await.unwrap();
    insert(&cluster).await;
    cluster.stop().await.unwrap();

    let mut cluster = Cluster::start(ClusterOptions::durable(&data)).await.unwrap();
    assert_eq!(count(&cluster).await, 1);
    insert(&cluster).await;
    signal(cluster.pid(), "-KILL");
    while !cluster.has_ended() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let cluster = Cluster::start(ClusterOptions::durable(&data)).await.unwrap();
    assert_eq!(count(&cluster).await, 2);
    cluster.stop().await.unwrap();
    assert!(!data.join("postmaster.pid").exists());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = Folder::new("port");
    let mut options = ClusterOptions::throwaway(folder.data());
    options.port = Some(port);
    let message = refusal(options).await;
    assert!(message.starts_with(&format!("port {port} is taken")), "{message}");
}

#[tokio::test]
async fn a_folder_of_other_files_is_left_alone() {
    let folder = Folder::new("foreign");
    let data = &folder.0;
    fs::write(data.join("thesis.txt"), "mine").unwrap();
    let message = refusal(ClusterOptions::throwaway(data)).await;
    assert!(message.contains("no PG_VERSION") && message.contains("clean-data"), "{message}");
    assert_eq!(fs::read_to_string(data.join("thesis.txt")).unwrap(), "mine");
}

#[tokio::test]
async fn a_damaged_folder_is_named() {
    let folder = Folder::new("damaged");
    let data = folder.data();
    Cluster::start(ClusterOptions::throwaway(&data)).await.unwrap().stop().await.unwrap();
    fs::write(data.join("global/pg_control"), "").unwrap();
    let message = refusal(ClusterOptions::throwaway(&data)).await;
    assert!(message.contains("is broken") && message.contains("clean-data"), "{message}");
}

#[tokio::test]
async fn missing_programs_are_named() {
    let folder = Folder::new("missing");
    let mut options = ClusterOptions::throwaway(folder.data());
    options.bin_dir = Some("no/such/folder".into());
    let message = refusal(options).await;
    assert_eq!(
        message,
        "initdb not found at no/such/folder/initdb: run `make setup`, or set WEIR_PG_BIN"
    );
}

#[test]
fn an_owner_that_is_killed_leaves_no_server_and_loses_no_row() {
    let folder = Folder::new("killed");
    let data = &folder.0;
    let note = data.join("note");
    let script =
        format!("echo $DATABASE_URL > {0}.new; mv {0}.new {0}; exec sleep 60", note.display());
    let mut owner = Command::new(env!("CARGO_BIN_EXE_with-servers"))
        .arg("--data")
        .arg(data)
        .args(["--", "sh", "-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the command runs", || note.exists());
    let pid_file = data.join("postgres/postmaster.pid");
    let pid = fs::read_to_string(&pid_file).unwrap().lines().next().unwrap().to_owned();
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until("postgres has gone", || !Path::new("/proc").join(&pid).exists());
    // An orderly end: nothing to redo.
    assert!(!pid_file.exists());
    let log = fs::read_to_string(data.join("postgres.log")).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
}

/// PostgreSQL refuses root, so most of its users are not root: if we are, become `nobody`.
#[test]
fn an_ordinary_user_needs_no_wrapper() {
    let data = std::env::temp_dir().join(format!("weir-ordinary-{}", std::process::id()));
    fs::create_dir_all(&data).unwrap();
    let with_servers = Path::new(env!("CARGO_BIN_EXE_with-servers"));
    let postgres = postgres_bin(None).unwrap();
    let run = if uid() == "0" {
        // Copies: the checkout may lie where nobody cannot look.
        let native = postgres.parent().unwrap();
        succeed(Command::new("cp").arg("-r").args([native, &data.join("native")]));
        succeed(Command::new("cp").args([with_servers, &data.join("with-servers")]));
        succeed(Command::new("chown").args(["-R", "65534:65534"]).arg(&data));
        let mut run = Command::new("setpriv");
        run.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        run.arg(data.join("with-servers")).env("WEIR_PG_BIN", data.join("native/bin"));
        run
    } else {
        Command::new(with_servers)
    };
    let mut run = run;
    run.current_dir(&data).arg("--data").arg(data.join("kept")).args(["--", "true"]);
    for _first_and_again in 0..2 {
        succeed(&mut run);
    }
    fs::remove_dir_all(&data).unwrap();
}

fn uid() -> String {
    let output = Command::new("id").arg("-u").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn succeed(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "waited 30 s until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
