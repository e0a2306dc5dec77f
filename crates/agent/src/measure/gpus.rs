//! The GPUs, by the driver's own program.

use std::time::Duration;

use domain::machine::MeasuredGpu;
use tokio::process::Command;

use super::output;

/// What is asked of each GPU, in the order of the answer's columns.
const QUERY: &str =
    "--query-gpu=uuid,name,memory.total,driver_version,pcie.link.gen.max,pcie.link.width.max";
/// Megabytes a second of one lane, by generation of PCI Express.
const LANE: [u32; 6] = [250, 500, 985, 1_969, 3_938, 7_563];

/// What the driver says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gpus {
    /// `None` without a driver that answers.
    pub(crate) gpus: Option<Vec<MeasuredGpu>>,
    pub(crate) driver_version: Option<String>,
    pub(crate) cuda_version: Option<u16>,
    /// Of the slowest link.
    pub(crate) pcie_mb_s: Option<u32>,
}

/// Asks the driver; nothing without one, or if it does not answer in time.
pub(crate) async fn ask(program: &str, patience: Duration) -> Gpus {
    let mut command = Command::new(program);
    command.args([QUERY, "--format=csv,noheader,nounits"]);
    let Some(listed) = output(command, patience).await else {
        return Gpus::default();
    };
    let mut gpus = read(&listed);
    // the newest CUDA stands only in the table that people read
    gpus.cuda_version = output(Command::new(program), patience).await.and_then(|text| cuda(&text));
    gpus
}

/// Reads a line for each GPU. A list that cannot be read is none: it must not look like missing GPUs.
fn read(listed: &str) -> Gpus {
    let mut found = Gpus { gpus: Some(Vec::new()), ..Gpus::default() };
    for line in listed.lines().filter(|line| !line.trim().is_empty()) {
        let mut columns = line.split(',').map(str::trim);
        let (Some(uuid), Some(name), Some(vram), Some(driver)) =
            (columns.next(), columns.next(), columns.next(), columns.next())
        else {
            return Gpus::default();
        };
        let Ok(vram_mib) = vram.parse() else { return Gpus::default() };
        found.driver_version = Some(driver.to_owned());
        let link = link(columns.next(), columns.next());
        found.pcie_mb_s = match (found.pcie_mb_s, link) {
            (Some(slowest), Some(link)) => Some(slowest.min(link)),
            (known, link) => known.or(link),
        };
        let gpu = MeasuredGpu { uuid: uuid.to_owned(), name: name.to_owned(), vram_mib };
        found.gpus.get_or_insert_default().push(gpu);
    }
    found
}

fn link(generation: Option<&str>, width: Option<&str>) -> Option<u32> {
    let generation: usize = generation?.parse().ok()?;
    let width: u32 = width?.parse().ok()?;
    LANE.get(generation.checked_sub(1)?)?.checked_mul(width)
}

/// The version in `| NVIDIA-SMI 550.54.15  Driver Version: 550.54.15  CUDA Version: 12.4 |`: 124 is 12.4.
fn cuda(text: &str) -> Option<u16> {
    let rest = text.split_once("CUDA Version:")?.1.trim_start();
    let version = rest.split([' ', '|', '\n']).next()?;
    let (major, minor) = version.split_once('.')?;
    let major: u16 = major.parse().ok()?;
    major.checked_mul(10)?.checked_add(minor.parse().ok().filter(|minor| *minor < 10)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_s_answer_is_read() {
        let listed = "GPU-5f0c2a86-0f7d-4a1e-9c53-8f1d2b7a6e40, NVIDIA GeForce RTX 4090, 24564, 550.54.15, 4, 16\n\
                      GPU-00000000-0f7d-4a1e-9c53-8f1d2b7a6e40, NVIDIA GeForce RTX 4090, 24564, 550.54.15, 4, 8\n";
        let found = read(listed);
        let gpus = found.gpus.unwrap();
        assert_eq!(gpus.len(), 2);
        assert_eq!((gpus[0].name.as_str(), gpus[0].vram_mib), ("NVIDIA GeForce RTX 4090", 24_564));
        assert_eq!(found.driver_version.as_deref(), Some("550.54.15"));
        assert_eq!(found.pcie_mb_s, Some(1_969 * 8));
        assert_eq!(read("").gpus, Some(vec![]));
        assert_eq!(read("GPU-1, NVIDIA T4, [N/A], 550, 3, 16\n"), Gpus::default());
        assert_eq!(read("No devices were found\n"), Gpus::default());
        assert_eq!(read("GPU-1, NVIDIA T4, 15360, 550, [N/A], 16\n").pcie_mb_s, None);
    }

    #[test]
    fn the_newest_cuda_stands_in_the_table() {
        let table =
            "| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4     |\n";
        assert_eq!(cuda(table), Some(124));
        assert_eq!(cuda("CUDA Version: 13.0|"), Some(130));
        assert_eq!(cuda("CUDA Version: N/A"), None);
        assert_eq!(cuda("nothing"), None);
    }
}
