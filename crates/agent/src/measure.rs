//! What this machine is, as far as it can be found out here: asked of the driver, the kernel and the disk, never
//! guessed. Whatever cannot be found out is left out.

use std::{
    fs::File,
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use domain::machine::Measured;
use reqwest::Url;
use tokio::{process::Command, time::timeout};

mod gpus;
pub(crate) use gpus::Gpus;

/// What the disk is measured with: written once and synced.
const TRIAL: usize = 64 * 1024 * 1024;
const BLOCK: usize = 1024 * 1024;
/// A disk that is slower than this allows is measured by what it wrote in that time.
const TRIAL_TIME: Duration = Duration::from_secs(10);
/// The longest time that a program may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most ports that are tried.
const MAX_PORTS: usize = 1_024;
/// What is fetched from or sent to the target of the network's trial.
const NET_TRIAL: usize = 16 * 1024 * 1024;
const NET_TIME: Duration = Duration::from_secs(10);

/// Where and with what to measure.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    /// Where rentals are kept.
    pub(crate) folder: PathBuf,
    /// The driver's program.
    pub(crate) nvidia_smi: String,
    /// Ports that renters can be given.
    pub(crate) ports: Option<RangeInclusive<u16>>,
    /// What the network is tried with, if anything.
    pub(crate) network_target: Option<Url>,
}

impl Bench {
    /// What can be found out at once and without load, for heartbeats.
    pub(crate) async fn look(&self) -> Measured {
        let Gpus { gpus, driver_version, cuda_version, pcie_mb_s } =
            gpus::ask(&self.nvidia_smi, PATIENCE).await;
        let ports = self.ports.clone();
        Measured {
            gpus,
            driver_version,
            cuda_version,
            pcie_mb_s,
            cpu_cores: cores(),
            ram_gb: std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| ram_gb(&text)),
            disk_gb: self.disk_gb().await,
            ports: blocking(move || ports.map_or(0, free_ports)).await,
            ..Measured::default()
        }
    }

    /// Everything, for a self-test: the disk is written to, and the network used if there is a target.
    pub(crate) async fn measure(&self) -> Measured {
        let mut measured = self.look().await;
        let folder = self.folder.clone();
        measured.disk_mb_s = blocking(move || write_speed(&folder)).await.flatten();
        if let Some(target) = &self.network_target {
            measured.inet_down_mbps = fetch(target).await;
            measured.inet_up_mbps = send(target).await;
        }
        measured
    }

    /// The size of the file system that the folder is on, by `df`: the standard library cannot ask for it.
    async fn disk_gb(&self) -> Option<u32> {
        let mut command = Command::new("df");
        command.args(["-P", "-k"]).arg(&self.folder);
        size_by_df(&output(command, PATIENCE).await?)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// What a program says, if it says so in time and is content.
async fn output(mut command: Command, patience: Duration) -> Option<String> {
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = timeout(patience, command.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn cores() -> Option<u32> {
    std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok())
}

/// GB of 10^9 bytes, of `MemTotal` in `/proc/meminfo`.
fn ram_gb(meminfo: &str) -> Option<u32> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    gb(kib.checked_mul(1_024)?)
}

/// GB of 10^9 bytes, of the second line of `df -P -k`.
fn size_by_df(text: &str) -> Option<u32> {
    let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(1)?.parse().ok()?;
    gb(kib.checked_mul(1_024)?)
}

fn gb(bytes: u64) -> Option<u32> {
    u32::try_from(bytes / 1_000_000_000).ok()
}

/// How many of the ports nobody listens on.
fn free_ports(range: RangeInclusive<u16>) -> u32 {
    let free = range
        .take(MAX_PORTS)
        .filter(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok())
        .count();
    u32::try_from(free).unwrap_or(u32::MAX)
}

/// Megabytes a second that a file in the folder takes, synced.
fn write_speed(folder: &Path) -> Option<u32> {
    let path = folder.join("disk-trial");
    let speed = write_trial(&path).ok().flatten();
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!(path = %path.display(), %error, "the file of the disk's trial is left");
    }
    speed
}

fn write_trial(path: &Path) -> std::io::Result<Option<u32>> {
    // not of zeros: a disk that compresses would look fast
    let mut block = vec![0_u8; BLOCK];
    rand::fill(&mut block[..]);
    let begun = Instant::now();
    let mut file = File::create(path)?;
    let mut written = 0_usize;
    while written < TRIAL && begun.elapsed() < TRIAL_TIME {
        file.write_all(&block)?;
        // a part at a time, so that the time limit is one of the disk and not of the cache
        if written.is_multiple_of(BLOCK.saturating_mul(8)) {
            file.sync_data()?;
        }
        written = written.saturating_add(BLOCK);
    }
    file.sync_all()?;
    Ok(rate(written, begun.elapsed()))
}

/// Millions of bytes a second.
fn rate(bytes: usize, time: Duration) -> Option<u32> {
    let micros = time.as_micros().max(1);
    u32::try_from(u128::try_from(bytes).ok()?.checked_div(micros)?).ok()
}

/// Megabits a second.
fn megabits(bytes: usize, time: Duration) -> Option<u32> {
    rate(bytes.saturating_mul(8), time)
}

fn client() -> Option<reqwest::Client> {
    tls::client().ok()?.timeout(NET_TIME).redirect(reqwest::redirect::Policy::none()).build().ok()
}

/// Fetches from the target until enough came or the time is over.
async fn fetch(target: &Url) -> Option<u32> {
    let mut response = client()?.get(target.clone()).send().await.ok()?.error_for_status().ok()?;
    let (begun, mut bytes) = (Instant::now(), 0_usize);
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes = bytes.saturating_add(chunk.len());
        if bytes >= NET_TRIAL {
            break;
        }
    }
    // little says nothing about the line
    (bytes >= BLOCK).then(|| megabits(bytes, begun.elapsed())).flatten()
}

/// Sends to the target, if it takes anything.
async fn send(target: &Url) -> Option<u32> {
    let mut body = vec![0_u8; NET_TRIAL];
    rand::fill(&mut body[..]);
    let begun = Instant::now();
    client()?.post(target.clone()).body(body).send().await.ok()?.error_for_status().ok()?;
    megabits(NET_TRIAL, begun.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::folder;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(ram_gb("MemTotal:       65536000 kB\nMemFree: 1 kB\n"), Some(67));
        assert_eq!(ram_gb("MemFree: 1 kB\n"), None);
        let df = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 976762584 1 1 1% /\n";
        assert_eq!(size_by_df(df), Some(1_000));
        assert_eq!(size_by_df("df: no such file\n"), None);
    }

    #[test]
    fn ports_that_are_taken_do_not_count() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(free_ports(port..=port), 0);
        drop(taken);
        assert_eq!(free_ports(port..=port), 1);
    }

    #[tokio::test]
    async fn the_network_is_tried_with_its_target_only() {
        use axum::{Router, body::Bytes, extract::DefaultBodyLimit, routing::get};

        let page = get(|| async { vec![0_u8; 4 * BLOCK] }).post(|_: Bytes| async {});
        let router = Router::new()
            .route("/", page)
            .route("/little", get(|| async { "little" }))
            .layer(DefaultBodyLimit::disable());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let target = |path: &str| format!("http://{address}{path}").parse::<Url>().unwrap();
        for found in [fetch(&target("/")).await, send(&target("/")).await] {
            assert!(found.is_some_and(|mbps| mbps > 0), "{found:?}");
        }
        assert_eq!(fetch(&target("/little")).await, None, "too little to tell");
        assert_eq!(send(&target("/little")).await, None, "it takes nothing");
        assert_eq!(fetch(&target("/nothing")).await, None);
    }

    #[tokio::test]
    async fn this_very_machine_is_measured() {
        let folder = folder();
        let bench = Bench {
            folder: folder.path().to_owned(),
            nvidia_smi: "/no/such/program".into(),
            ports: None,
            network_target: None,
        };
        let measured = bench.measure().await;
        assert_eq!(measured.gpus, None);
        for (what, found) in [
            ("cores", measured.cpu_cores),
            ("memory", measured.ram_gb),
            ("disk", measured.disk_gb),
            ("speed", measured.disk_mb_s),
        ] {
            assert!(found.is_some_and(|found| found > 0), "{what}: {found:?}");
        }
        assert_eq!((measured.ports, measured.inet_down_mbps), (Some(0), None));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }
}
