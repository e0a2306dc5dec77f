//! P13: how long `weir serve` takes from exec to its first 200, beside an axum hello that is started the same way; and what
//! it takes of memory and processor when nobody asks.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::Instant,
};

use crate::{BenchError, Fact, Plan, Server, median};

const DOING: &str = "start a process";
/// Starts of each side for a pair of slices.
const STARTS: u32 = 3;
/// A process that has not answered by then is broken.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries to connect.
const LOOK: Duration = Duration::from_micros(200);
/// After its start, before it counts as idle.
const SETTLE: Duration = Duration::from_secs(3);
/// An idle process is watched for so many slices.
const WATCHED: u32 = 10;

/// What is started.
struct Subject {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    address: SocketAddr,
}

/// Starts both in turns, and lets ours idle. Nothing, and a word on why, if the programs are not built.
pub(crate) async fn start(server: &Server, plan: &Plan) -> Result<Vec<Fact>, BenchError> {
    let (Some(weir), Some(hello)) = (beside("weir"), beside("hello")) else {
        eprintln!(
            "bench: start: not run: weir and hello are not beside this program; \
             cargo build --release -p weir -p bench --bins"
        );
        return Ok(Vec::new());
    };
    let database = server.with_deployment("start").await?;
    let (ours, theirs) = (weir_serve(weir, database)?, hello_at(hello)?);
    // the first start of each reads its file from the disk
    ours.start().await?;
    theirs.start().await?;
    let (mut took, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..plan.pairs.saturating_mul(STARTS) {
        let (mine, other) = if round % 2 == 0 {
            let mine = ours.start().await?;
            (mine, theirs.start().await?)
        } else {
            let other = theirs.start().await?;
            (ours.start().await?, other)
        };
        took.push(mine.as_secs_f64() * 1e3);
        beside.push(other.as_secs_f64() * 1e3);
        ratios.push(mine.as_secs_f64() / other.as_secs_f64());
    }
    let (child, _) = ours.up().await?;
    let process = child.id().ok_or_else(|| BenchError::subject(DOING)("it ended"))?;
    tokio::time::sleep(SETTLE).await;
    let watched = plan.span.saturating_mul(WATCHED);
    let before = on_cpu(process)?;
    tokio::time::sleep(watched).await;
    let busy = on_cpu(process)?.saturating_sub(before);
    let weight = resident(process)?;
    drop(child);
    let middle = |values: &[f64]| median(values).unwrap_or(f64::NAN);
    Ok(vec![
        Fact::new("p13_start", middle(&took), "ms"),
        Fact::new("p13_start_hello", middle(&beside), "ms"),
        Fact::new("p13_start_ratio", middle(&ratios), "x an axum hello"),
        Fact::new("p13_idle_resident", weight as f64 / 1e6, "MB"),
        Fact::new(
            "p13_idle_cpu",
            100.0 * busy.as_secs_f64() / watched.as_secs_f64(),
            "% of a core",
        ),
    ])
}

/// A program that was built with this one.
fn beside(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    // a test lies one folder deeper
    own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn weir_serve(program: PathBuf, database: String) -> Result<Subject, BenchError> {
    let address = free()?;
    let environment = vec![
        ("DATABASE_URL", database),
        // nobody listens: a start asks the chain nothing
        ("RPC_URL", "http://127.0.0.1:9".to_owned()),
        ("WEIR_LISTEN", address.to_string()),
        ("WEIR_LOG", "error".to_owned()),
    ];
    Ok(Subject { program, arguments: vec!["serve".to_owned()], environment, address })
}

fn hello_at(program: PathBuf) -> Result<Subject, BenchError> {
    let address = free()?;
    Ok(Subject { program, arguments: vec![address.to_string()], environment: Vec::new(), address })
}

fn free() -> Result<SocketAddr, BenchError> {
    let port = testkit::free_port().map_err(BenchError::subject(DOING))?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

impl Subject {
    /// How long a start takes. The process is gone when this returns: one that is still being killed
    /// holds the port, and could answer in the next one's place.
    async fn start(&self) -> Result<Duration, BenchError> {
        let (mut child, took) = self.up().await?;
        child.kill().await.map_err(BenchError::io(DOING))?;
        Ok(took)
    }

    /// Starts it and asks until the first 200. Dropped, it is killed.
    async fn up(&self) -> Result<(Child, Duration), BenchError> {
        let began = Instant::now();
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::io(DOING))?;
        while !self.answers().await {
            let ended = child.try_wait().map_err(BenchError::io(DOING))?;
            if ended.is_some() || began.elapsed() > PATIENCE {
                let name = self.program.display();
                return Err(BenchError::subject(DOING)(format!("{name} does not answer")));
            }
            tokio::time::sleep(LOOK).await;
        }
        let took = began.elapsed();
        Ok((child, took))
    }

    async fn answers(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(self.address).await else { return false };
        let request = "GET /healthz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n";
        let mut answer = [0; 12];
        socket.write_all(request.as_bytes()).await.is_ok()
            && socket.read_exact(&mut answer).await.is_ok()
            && answer == *b"HTTP/1.1 200"
    }
}

fn read(process: u32, file: &str) -> Result<String, BenchError> {
    let path = Path::new("/proc").join(process.to_string()).join(file);
    fs::read_to_string(path).map_err(BenchError::io("look at a process"))
}

/// How long the process was on a processor.
fn on_cpu(process: u32) -> Result<Duration, BenchError> {
    let threads = Path::new("/proc").join(process.to_string()).join("task");
    let threads = fs::read_dir(threads).map_err(BenchError::io("list threads"))?;
    let nanos = threads.filter_map(Result::ok).filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Ok(Duration::from_nanos(nanos.fold(0, u64::saturating_add)))
}

/// Bytes of memory that the process has.
fn resident(process: u32) -> Result<u64, BenchError> {
    let text = read(process, "status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kilobytes = line.split_whitespace().next().and_then(|text| text.parse::<u64>().ok());
    kilobytes
        .map(|some| some.saturating_mul(1_024))
        .ok_or_else(|| BenchError::subject("look at a process")("no VmRSS"))
}
