//! Small JSON files that are there whole or not at all. Synchronous: each is a few hundred bytes, but for orders with much
//! environment.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::AgentError;

/// The largest file that is read back: an order with 64 variables of 4 KiB in letters that take six bytes each.
const MAX_BYTES: u64 = 2 * 1024 * 1024;
/// What a file is called while it is being written.
const PARTIAL: &str = "partial";

/// Puts `bytes` at `path`: written beside it, brought to the disk, then renamed over it, so that a crash
/// leaves the old file or the new one. Only the owner may read it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), AgentError> {
    let partial = path.with_extension(PARTIAL);
    write_whole(&partial, bytes).map_err(AgentError::io(&partial))?;
    fs::rename(&partial, path).map_err(AgentError::io(path))?;
    // the rename itself is on the disk once the folder is
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        .map_err(AgentError::io(path))
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads the text at `path`; `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, AgentError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(AgentError::io(path))?,
    };
    let mut text = String::new();
    let read = file.take(MAX_BYTES).read_to_string(&mut text);
    match read {
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(corrupt(path, "not text")),
        read => read.map(|_| Some(text)).map_err(AgentError::io(path)),
    }
}

/// Writes `value` as JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), AgentError> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| corrupt(path, error))?;
    write(path, &bytes)
}

/// Reads JSON; `None` if there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, AgentError> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    serde_json::from_str(&text).map(Some).map_err(|error| corrupt(path, error))
}

/// Removes a file; one that is not there is no fault.
pub(crate) fn remove(path: &Path) -> Result<(), AgentError> {
    gone(fs::remove_file(path)).map_err(AgentError::io(path))
}

/// Removes a folder and what is in it; one that is not there is no fault.
pub(crate) fn remove_folder(path: &Path) -> Result<(), AgentError> {
    gone(fs::remove_dir_all(path)).map_err(AgentError::io(path))
}

fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The JSON files of a folder.
pub(crate) fn list_json(folder: &Path) -> Result<Vec<PathBuf>, AgentError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(AgentError::io(folder))? {
        let path = entry.map_err(AgentError::io(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A file that does not hold what it should.
pub(crate) fn corrupt(path: &Path, reason: impl ToString) -> AgentError {
    AgentError::Corrupt { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::tests::folder;

    #[test]
    fn a_file_is_replaced_whole_and_belongs_to_its_owner() {
        let folder = folder();
        let path = folder.path().join("a.json");
        assert_eq!(read_json::<u32>(&path).unwrap(), None);
        write_json(&path, &1).unwrap();
        write_json(&path, &2).unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap(), Some(2));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(list_json(folder.path()).unwrap(), [path]);
    }

    #[test]
    fn a_write_that_was_cut_off_leaves_the_old_file() {
        let folder = folder();
        let path = folder.path().join("a.json");
        write_json(&path, &1).unwrap();
        // what a crash in the middle of the next write leaves behind
        fs::write(path.with_extension(PARTIAL), b"[1, 2").unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap(), Some(1));
        assert_eq!(list_json(folder.path()).unwrap().len(), 1);
        write_json(&path, &3).unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap(), Some(3));
    }

    #[test]
    fn a_damaged_file_is_named_and_its_content_is_not_repeated() {
        let folder = folder();
        let path = folder.path().join("a.json");
        for content in [&b"{\"secret"[..], b"", b"[]", &[0xff, 0xfe]] {
            fs::write(&path, content).unwrap();
            let error = read_json::<u32>(&path).unwrap_err().to_string();
            assert!(error.contains("a.json is damaged"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
