//! Processes as `/proc` shows them.

use std::{fs, path::Path};

use domain::id::RentalId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::AgentError;

/// The variable by which a process is known to belong to a rental.
pub(crate) const RENTAL_VARIABLE: &str = "WEIR_RENTAL_ID";
/// Changes with every start of the system.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Milliseconds of one tick of `/proc`'s clock: `USER_HZ` is 100 on every architecture of Linux in use.
const TICK_MS: u64 = 10;

/// One process and no other: a pid is given out again, but not with the same start in the same boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    /// Also the number of the process group that it leads.
    pub(crate) pid: u32,
    boot: String,
    /// Ticks from the boot to its start.
    started: u64,
}

impl Process {
    /// The process that has this pid now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = Stat::read(pid).filter(|stat| stat.is_alive())?;
        Some(Self { pid, boot: boot_id()?, started: stat.started })
    }

    /// The leader of a process group that was started for the rental, if one lives.
    pub(crate) fn leader_for(rental: RentalId) -> Option<Self> {
        pids()
            .filter(|pid| Stat::read(*pid).is_some_and(|stat| stat.group == *pid))
            .find(|pid| belongs_to(*pid, rental))
            .and_then(Self::of)
    }

    /// Whether it still runs; what has ended and only waits to be noticed does not.
    pub(crate) fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// What a reading tells of it.
    pub(crate) fn detail(&self) -> Value {
        let mut detail = json!({ "workload": "running", "pid": self.pid });
        if let Some(members) = detail.as_object_mut() {
            let cpu_ms = Stat::read(self.pid).map(|stat| stat.cpu_ticks.saturating_mul(TICK_MS));
            members.extend(cpu_ms.map(|cpu| ("cpu_ms".to_owned(), cpu.into())));
            members.extend(rss_kb(self.pid).map(|rss| ("rss_kb".to_owned(), rss.into())));
        }
        detail
    }
}

/// # Errors
/// [`AgentError::NoProc`] where processes cannot be recognised.
pub(crate) fn require_proc() -> Result<(), AgentError> {
    boot_id().map(drop).ok_or(AgentError::NoProc)
}

/// Whether any process of the group lives.
pub(crate) fn group_lives(group: u32) -> bool {
    members(group).next().is_some()
}

/// Whether any living process of the group was started for the rental: its number may have been given to
/// somebody else's group since.
pub(crate) fn group_belongs_to(group: u32, rental: RentalId) -> bool {
    members(group).any(|pid| belongs_to(pid, rental))
}

fn members(group: u32) -> impl Iterator<Item = u32> {
    pids().filter(move |pid| {
        Stat::read(*pid).is_some_and(|stat| stat.group == group && stat.is_alive())
    })
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn belongs_to(pid: u32, rental: RentalId) -> bool {
    let wanted = format!("{RENTAL_VARIABLE}={rental}");
    has(pid, |variable| variable == wanted.as_bytes())
}

/// Whether a process was started with a variable of this name. False where that cannot be seen.
pub(crate) fn has_variable(pid: u32, name: &str) -> bool {
    let wanted = format!("{name}=");
    has(pid, |variable| variable.starts_with(wanted.as_bytes()))
}

fn has(pid: u32, wanted: impl Fn(&[u8]) -> bool) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(wanted))
}

fn boot_id() -> Option<String> {
    fs::read_to_string(Path::new(BOOT_ID)).ok().map(|id| id.trim().to_owned())
}

fn rss_kb(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What is needed of `/proc/<pid>/stat`; see proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    group: u32,
    cpu_ticks: u64,
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(line: &str) -> Option<Self> {
        // the second field is the program's name, in parentheses, and may itself hold spaces and parentheses
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // `rest` begins with field 3
        let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
        let user: u64 = field(14)?.parse().ok()?;
        let system: u64 = field(15)?.parse().ok()?;
        Some(Self {
            state: field(3)?.chars().next()?,
            group: field(5)?.parse().ok()?,
            cpu_ticks: user.saturating_add(system),
            started: field(22)?.parse().ok()?,
        })
    }

    /// Neither a zombie nor dead.
    const fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_call_itself_anything() {
        let line = "7 (a) b (c) S 1 42 7 0 -1 4194304 1 0 0 0 30 12 0 0 20 0 1 0 999 1000 50 18446";
        let stat = Stat { state: 'S', group: 42, cpu_ticks: 42, started: 999 };
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn a_process_is_known_by_more_than_its_pid() {
        let me = Process::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        assert!(!Process { started: me.started + 1, ..me.clone() }.is_alive());
        assert!(!Process { boot: "another".into(), ..me.clone() }.is_alive());
        let detail = me.detail();
        assert_eq!(detail["workload"], "running");
        assert_eq!(detail["pid"], me.pid);
        assert!(detail["rss_kb"].as_u64().unwrap() > 0);
        assert!(detail["cpu_ms"].is_u64());
    }
}
