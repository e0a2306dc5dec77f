//! The self-test: what a machine has to show, and how an answer is judged. Service and agent use the same rules, and the
//! service judges every answer itself.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Declared, Measured, gpu_uuid, same_name};
use crate::names::named_enum;

/// The oldest driver that is taken: the first that runs CUDA 12.
pub const MIN_DRIVER: &str = "525.60.13";
/// The oldest CUDA that is taken, 11.8.
const MIN_CUDA: u64 = 118;
/// The slowest disk that is taken, in megabytes a second.
pub const MIN_DISK_MB_S: u32 = 50;
/// How far the agent's clock may be off, in seconds.
pub const MAX_SKEW_S: u64 = 5;
/// MiB in a GB of VRAM as vendors count it.
const MIB_PER_GB: u64 = 1_024;

named_enum! {
    /// How what is shown is compared with what is required.
    pub enum Op ("operator") {
        /// The same; lists, which are of GPUs' ids, in any order and whatever the case.
        Equal => "==",
        /// At least; versions part by part.
        AtLeast => ">=",
        /// At most.
        AtMost => "<=",
        /// Each is one of those, whatever the case.
        OneOf => "in",
    }
}

/// A value that a check is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reading {
    /// A number.
    Number(u64),
    /// A version.
    Text(String),
    /// A list of names.
    Names(Vec<String>),
}

/// What a machine has to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// What is checked, such as `gpu_uuids`.
    pub id: String,
    /// How.
    pub op: Op,
    /// Against what.
    pub required: Reading,
}

/// What it showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What was checked.
    pub id: String,
    /// What was found; null if it could not be found out, which fails.
    pub actual: Option<Reading>,
    /// How it is compared.
    pub op: Op,
    /// Against what.
    pub required: Reading,
    /// Whether it is enough.
    pub pass: bool,
    /// What to do about it; null if it is enough.
    pub remediation: Option<String>,
}

/// Why an answer to a self-test is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// It answers other questions than were asked, or not in their order.
    #[error("it must answer exactly what was asked, in that order; the first difference is at {0}")]
    OtherQuestions(usize),
    /// It calls enough what is not, or the other way round.
    #[error("{id} is called {said}, and is not by its own figures")]
    Misjudged {
        /// Which check.
        id: String,
        /// What the answer says of it.
        said: &'static str,
    },
}

/// The least and the most MiB that a GPU with so many GB has: a card keeps some of its memory for error correction and
/// firmware, and rounds up.
pub(super) fn vram_mib(vram_gb: u32) -> (u64, u64) {
    let vram = u64::from(vram_gb).saturating_mul(MIB_PER_GB);
    (vram.saturating_mul(9) / 10, vram.saturating_mul(11) / 10)
}

/// Everything that a machine has to show for what is said of it.
#[must_use]
pub fn requirements(declared: &Declared) -> Vec<Requirement> {
    let ask = |id: &str, op: Op, required: Reading| Requirement { id: id.to_owned(), op, required };
    let number = |value: u32| Reading::Number(u64::from(value));
    let (least, most) = vram_mib(declared.vram_gb);
    let mut uuids = declared.gpu_uuids.clone();
    uuids.sort();
    let count = u64::try_from(uuids.len()).unwrap_or(u64::MAX);
    let driver = declared.driver_version.clone().unwrap_or_else(|| MIN_DRIVER.to_owned());
    let cuda = declared.cuda_version.map_or(MIN_CUDA, u64::from);
    vec![
        ask("gpu_count", Op::Equal, Reading::Number(count)),
        ask("gpu_uuids", Op::Equal, Reading::Names(uuids)),
        ask("gpu_names", Op::OneOf, Reading::Names(declared.gpu_names.clone())),
        ask("gpu_vram_mib_least", Op::AtLeast, Reading::Number(least)),
        ask("gpu_vram_mib_most", Op::AtMost, Reading::Number(most)),
        ask("driver_version", Op::AtLeast, Reading::Text(driver)),
        ask("cuda_version", Op::AtLeast, Reading::Number(cuda)),
        ask("cpu_cores", Op::AtLeast, number(declared.cpu_cores)),
        ask("ram_gb", Op::AtLeast, number(declared.ram_gb)),
        ask("disk_gb", Op::AtLeast, number(declared.disk_gb)),
        ask("disk_mb_s", Op::AtLeast, number(declared.disk_mb_s.unwrap_or(MIN_DISK_MB_S))),
        ask("ports", Op::AtLeast, number(declared.ports)),
        ask("clock_skew_s", Op::AtMost, Reading::Number(MAX_SKEW_S)),
    ]
}

/// What a machine measured, as the answers to what it was asked. A question that it does not know fails.
#[must_use]
pub fn answer(asked: &[Requirement], measured: &Measured, clock_skew_s: u64) -> Vec<Check> {
    asked
        .iter()
        .map(|ask| {
            let actual = shown(&ask.id, measured, clock_skew_s);
            let pass = actual.as_ref().is_some_and(|actual| judge(ask.op, actual, &ask.required));
            Check {
                id: ask.id.clone(),
                actual,
                op: ask.op,
                required: ask.required.clone(),
                pass,
                remediation: (!pass).then(|| remedy(&ask.id).to_owned()),
            }
        })
        .collect()
}

fn shown(id: &str, measured: &Measured, clock_skew_s: u64) -> Option<Reading> {
    let number = |value: Option<u32>| value.map(|value| Reading::Number(u64::from(value)));
    let gpus = measured.gpus.as_deref();
    let vram = || gpus.into_iter().flatten().map(|gpu| gpu.vram_mib);
    match id {
        "gpu_count" => gpus.and_then(|all| u64::try_from(all.len()).ok()).map(Reading::Number),
        "gpu_uuids" => gpus.map(|all| {
            let mut uuids: Vec<String> = all.iter().map(|gpu| gpu.uuid.clone()).collect();
            uuids.sort();
            Reading::Names(uuids)
        }),
        "gpu_names" => gpus.map(|all| {
            let mut names: Vec<String> = all.iter().map(|gpu| gpu.name.clone()).collect();
            names.sort();
            names.dedup();
            Reading::Names(names)
        }),
        "gpu_vram_mib_least" => number(vram().min()),
        "gpu_vram_mib_most" => number(vram().max()),
        "driver_version" => measured.driver_version.clone().map(Reading::Text),
        "cuda_version" => number(measured.cuda_version.map(u32::from)),
        "cpu_cores" => number(measured.cpu_cores),
        "ram_gb" => number(measured.ram_gb),
        "disk_gb" => number(measured.disk_gb),
        "disk_mb_s" => number(measured.disk_mb_s),
        "ports" => number(measured.ports),
        "clock_skew_s" => Some(Reading::Number(clock_skew_s)),
        _ => None,
    }
}

fn remedy(id: &str) -> &'static str {
    match id {
        "gpu_count" | "gpu_uuids" => {
            "Compare `nvidia-smi -L` with the machine's GPUs. A GPU that was swapped needs a machine of its own: retire \
             this one and register it anew."
        }
        "gpu_names" | "gpu_vram_mib_least" | "gpu_vram_mib_most" => {
            "Register the model that `nvidia-smi` names; see the aliases of /v1/gpu-models."
        }
        "driver_version" | "cuda_version" => {
            "Update the driver, or declare the one that is installed."
        }
        "cpu_cores" | "ram_gb" | "disk_gb" => {
            "Declare what the agent can use: it sees its own control group and the file system of --state."
        }
        "disk_mb_s" => "Put --state on a faster disk, or declare its real speed.",
        "ports" => {
            "Tell the agent the range with --ports, and see that nothing else listens in it."
        }
        "clock_skew_s" => "Set the machine's clock by NTP.",
        _ => "Update the agent: it does not know this check.",
    }
}

/// Whether what was shown is enough.
#[must_use]
pub fn judge(op: Op, actual: &Reading, required: &Reading) -> bool {
    match (op, actual, required) {
        (Op::Equal, Reading::Names(actual), Reading::Names(required)) => {
            let sorted = |names: &[String]| {
                // the only lists that are compared so are ids of GPUs
                let mut names: Vec<String> = names.iter().map(|name| gpu_uuid(name)).collect();
                names.sort();
                names
            };
            sorted(actual) == sorted(required)
        }
        (Op::Equal, actual, required) => actual == required,
        (Op::AtLeast, Reading::Number(actual), Reading::Number(required)) => actual >= required,
        (Op::AtMost, Reading::Number(actual), Reading::Number(required)) => actual <= required,
        (Op::AtLeast, Reading::Text(actual), Reading::Text(required)) => {
            by_version(actual, required).is_some_and(Ordering::is_ge)
        }
        (Op::AtMost, Reading::Text(actual), Reading::Text(required)) => {
            by_version(actual, required).is_some_and(Ordering::is_le)
        }
        (Op::OneOf, Reading::Names(actual), Reading::Names(required)) => {
            !actual.is_empty() && actual.iter().all(|name| same_name(required, name))
        }
        (Op::AtLeast | Op::AtMost | Op::OneOf, _, _) => false,
    }
}

/// Compares versions of numbers between dots; `None` if one of them is none.
fn by_version(left: &str, right: &str) -> Option<Ordering> {
    let parts = |text: &str| -> Option<Vec<u32>> {
        text.trim().split('.').take(8).map(|part| part.parse().ok()).collect()
    };
    Some(parts(left)?.cmp(&parts(right)?))
}

/// Judges an answer to these questions by its own figures. True if everything that was asked is shown.
///
/// # Errors
/// [`AnswerError`] for an answer to something else, or one that says of itself what is not so.
pub fn review(asked: &[Requirement], checks: &[Check]) -> Result<bool, AnswerError> {
    let mut all = true;
    for (index, ask) in asked.iter().enumerate() {
        let same = |check: &&Check| {
            check.id == ask.id && check.op == ask.op && check.required == ask.required
        };
        let check = checks.get(index).filter(same).ok_or(AnswerError::OtherQuestions(index))?;
        let pass = check.actual.as_ref().is_some_and(|actual| judge(ask.op, actual, &ask.required));
        if pass != check.pass {
            let said = if check.pass { "enough" } else { "not enough" };
            return Err(AnswerError::Misjudged { id: ask.id.clone(), said });
        }
        all = all && pass;
    }
    if checks.len() > asked.len() {
        return Err(AnswerError::OtherQuestions(asked.len()));
    }
    Ok(all)
}
