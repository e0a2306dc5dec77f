//! A standby of PostgreSQL that holds whatever the primary has acknowledged, and an address that moves from the one to the
//! other, as a virtual address or a proxy before them does.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use sqlx::{Connection as _, PgConnection, Row as _};
use testkit::{Cluster, ClusterOptions};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinHandle, JoinSet},
};

/// The port that clients know, and where it leads.
pub struct Address {
    pub port: u16,
    shared: Arc<Mutex<Leads>>,
    listening: JoinHandle<()>,
}

struct Leads {
    to: u16,
    connections: Vec<AbortHandle>,
}

impl Leads {
    fn add(&mut self, connection: AbortHandle) {
        self.connections.retain(|connection| !connection.is_finished());
        self.connections.push(connection);
    }
}

impl Address {
    pub async fn leading_to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Mutex::new(Leads { to: port, connections: Vec::new() }));
        let port = listener.local_addr().unwrap().port();
        let theirs = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let to = theirs.lock().unwrap().to;
                let connection = connections.spawn(async move {
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await else {
                        return;
                    };
                    client.set_nodelay(true).ok();
                    server.set_nodelay(true).ok();
                    copy_bidirectional(&mut client, &mut server).await.ok();
                });
                theirs.lock().unwrap().add(connection);
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, shared, listening }
    }

    /// From now on it leads there; what is connected is cut.
    pub fn lead_to(&self, port: u16) {
        let mut leads = self.shared.lock().unwrap();
        leads.to = port;
        for connection in leads.connections.drain(..) {
            connection.abort();
        }
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn say(url: &str, statements: &[&'static str]) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    for statement in statements {
        sqlx::raw_sql(*statement).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

/// Makes a standby of `primary` in `folder`, from a copy of its files while it works, and waits until no commit is
/// acknowledged any more that the standby has not.
pub async fn make(
    primary: &Cluster,
    files: &Path,
    folder: &Path,
    options: ClusterOptions,
) -> Cluster {
    let mut backup = PgConnection::connect(&primary.url("postgres")).await.unwrap();
    sqlx::raw_sql("SELECT pg_backup_start('standby', true)").execute(&mut backup).await.unwrap();
    // files that vanish or change meanwhile are what the log that follows is for
    let copied = Command::new("cp").arg("-a").arg(files).arg(folder).output().unwrap();
    assert!(folder.join("PG_VERSION").exists(), "{copied:?}");
    let stopped = sqlx::query("SELECT labelfile FROM pg_backup_stop(false)");
    let label: String = stopped.fetch_one(&mut backup).await.unwrap().get(0);
    backup.close().await.unwrap();
    fs::write(folder.join("backup_label"), label).unwrap();
    fs::remove_file(folder.join("postmaster.pid")).ok();
    fs::remove_dir_all(folder.join("pg_wal")).unwrap();
    fs::create_dir_all(folder.join("pg_wal/archive_status")).unwrap();
    fs::write(folder.join("standby.signal"), "").unwrap();
    let from = format!(
        "primary_conninfo = 'host=127.0.0.1 port={} user=postgres application_name=standby'\n",
        primary.port()
    );
    // in place of what the primary was told about the standby before
    fs::write(folder.join("postgresql.auto.conf"), from).unwrap();
    let standby = Cluster::start(options).await.unwrap();
    say(
        &primary.url("postgres"),
        &["ALTER SYSTEM SET synchronous_standby_names = 'standby'", "SELECT pg_reload_conf()"],
    )
    .await;
    let mut looking = PgConnection::connect(&primary.url("postgres")).await.unwrap();
    for _ in 0..600 {
        let ready = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        let ready: i64 = sqlx::query_scalar(ready).fetch_one(&mut looking).await.unwrap();
        if ready == 1 {
            looking.close().await.unwrap();
            return standby;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the standby does not follow");
}

/// Makes a standby a primary.
pub async fn promote(standby: &Cluster) {
    say(&standby.url("postgres"), &["SELECT pg_promote(true, 30)"]).await;
}
