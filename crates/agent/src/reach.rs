//! Where the renter reaches the machine. The program that is started knows at which ports, and writes them to the file that
//! `WEIR_ACCESS_FILE` names; the address is the provider's to say ([`AgentConfig::public_host`](crate::AgentConfig)). A file
//! that is no good is told of in the log, and takes nothing back.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use domain::reach::{OpenPort, open_ports};
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use crate::{
    AgentError,
    disk::{self, corrupt},
};

/// Where a program finds out where to write the file.
pub(crate) const VARIABLE: &str = "WEIR_ACCESS_FILE";
/// The file's name in the workload's folder.
const FILE: &str = "access.json";
/// Sixty-four ports with the longest names are a quarter of it.
const MAX_BYTES: u64 = 16 * 1024;

/// What a program writes: `{"ports": {"ssh": 41022, "http": 41080}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    ports: BTreeMap<String, u16>,
}

/// The file of a workload's folder.
pub(crate) fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// The ports that the program says, in the order of their names; none if it has said nothing.
///
/// # Errors
/// [`AgentError::Corrupt`] or [`AgentError::Io`].
pub(crate) fn read(folder: &Path) -> Result<Vec<OpenPort>, AgentError> {
    let path = file(folder);
    let Some(text) = read_text(&path)? else { return Ok(Vec::new()) };
    let written: Written = serde_json::from_str(&text).map_err(|error| corrupt(&path, error))?;
    let ports = written.ports.into_iter().map(|(name, port)| OpenPort { name, port });
    open_ports(ports.collect()).map_err(|(_, error)| corrupt(&path, error))
}

/// A renter may be able to write in the folder: what is no plain file is neither followed nor waited for.
fn read_text(path: &Path) -> Result<Option<String>, AgentError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()).map_err(std::io::Error::from) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => File::from(opened.map_err(AgentError::io(path))?),
    };
    let plain = file.metadata().map_err(AgentError::io(path))?;
    if !plain.is_file() || plain.len() > MAX_BYTES {
        return Err(corrupt(path, "not a plain file of at most 16 KiB"));
    }
    let mut text = String::new();
    match file.take(MAX_BYTES).read_to_string(&mut text) {
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(corrupt(path, "not text")),
        read => read.map(|_| Some(text)).map_err(AgentError::io(path)),
    }
}

/// Removes what an earlier start of the program said.
///
/// # Errors
/// [`AgentError::Io`].
pub(crate) fn clear(folder: &Path) -> Result<(), AgentError> {
    disk::remove(&file(folder))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::tests::folder;

    #[test]
    fn the_ports_are_read_in_the_order_of_their_names() {
        let folder = folder();
        assert_eq!(read(folder.path()).unwrap(), []);
        std::fs::write(file(folder.path()), r#"{"ports":{"ssh":41022,"http":41080}}"#).unwrap();
        let open = |name: &str, port| OpenPort { name: name.to_owned(), port };
        assert_eq!(read(folder.path()).unwrap(), [open("http", 41_080), open("ssh", 41_022)]);
        clear(folder.path()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), []);
    }

    #[test]
    fn a_file_that_is_no_good_is_refused() {
        let folder = folder();
        let path = file(folder.path());
        let many: Vec<String> = (0..65).map(|n| format!("\"p{n}\":1")).collect();
        for bad in [
            "",
            "41022",
            "{}",
            r#"{"ports":[41022]}"#,
            r#"{"ports":{"ssh":0}}"#,
            r#"{"ports":{"ssh":65536}}"#,
            r#"{"ports":{"ssh":"41022"}}"#,
            r#"{"ports":{"a b":41022}}"#,
            r#"{"ports":{},"host":"evil.example"}"#,
            &format!("{{\"ports\":{{{}}}}}", many.join(",")),
            &format!("{{\"ports\":{{}}}}{}", " ".repeat(16 * 1024)),
        ] {
            std::fs::write(&path, bad).unwrap();
            assert!(read(folder.path()).is_err(), "{bad:.60}");
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read(folder.path()).is_err());
    }

    #[test]
    fn what_is_no_plain_file_is_neither_followed_nor_waited_for() {
        let folder = folder();
        let path = file(folder.path());
        let other = folder.path().join("other");
        std::fs::write(&other, r#"{"ports":{"ssh":1}}"#).unwrap();
        symlink(&other, &path).unwrap();
        assert!(read(folder.path()).is_err());
        std::fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert!(read(folder.path()).is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(read(folder.path()).is_err());
    }
}
