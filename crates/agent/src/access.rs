//! Who may come in: the renter's SSH public keys, as a file in the workload's folder. The agent lets nobody in itself:
//! the program that it starts finds the file by `WEIR_AUTHORIZED_KEYS`. It is replaced whole, by another file of the same
//! name, so that a container mounts the folder and not the file.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use crate::{AgentError, disk};

/// Where a workload finds the file.
pub(crate) const VARIABLE: &str = "WEIR_AUTHORIZED_KEYS";
/// The file's name in the workload's folder.
const FILE: &str = "authorized_keys";
/// More keys than the service gives a rental, longer than any it takes.
const MOST_KEYS: usize = 64;
const LONGEST: usize = 4_096;

/// The file of a workload's folder.
pub(crate) fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Writes the file. What is no plain line is left out: a key must not bring another one along.
///
/// # Errors
/// [`AgentError::Io`]; the file is as it was.
pub(crate) fn write(folder: &Path, keys: &[String]) -> Result<(), AgentError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder).map_err(AgentError::io(folder))?;
    let mut text = String::new();
    for key in keys.iter().filter(|key| is_line(key)).take(MOST_KEYS) {
        text.push_str(key);
        text.push('\n');
    }
    disk::write(&file(folder), text.as_bytes())
}

fn is_line(key: &str) -> bool {
    let good = !key.is_empty() && key.len() <= LONGEST && !key.chars().any(char::is_control);
    if !good {
        tracing::warn!(bytes = key.len(), "a key that is no plain line is left out");
    }
    good
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::tests::folder;

    #[test]
    fn the_file_has_the_keys_and_is_replaced_whole() {
        let folder = folder();
        let place = folder.path().join("deep/rental");
        let keys = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        write(&place, &keys(&["ssh-ed25519 A", "ssh-rsa B"])).unwrap();
        let read = || std::fs::read_to_string(file(&place)).unwrap();
        assert_eq!(read(), "ssh-ed25519 A\nssh-rsa B\n");
        let mode = std::fs::metadata(file(&place)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        write(&place, &keys(&["ssh-rsa B\nssh-rsa EVIL", "", &"x".repeat(5_000), "ssh-rsa C"]))
            .unwrap();
        assert_eq!(read(), "ssh-rsa C\n");
        // what a workload put there is not followed
        let other = folder.path().join("other");
        std::fs::write(&other, "untouched").unwrap();
        std::fs::remove_file(file(&place)).unwrap();
        symlink(&other, file(&place)).unwrap();
        symlink(&other, place.join("authorized_keys.partial")).unwrap();
        write(&place, &[]).unwrap();
        assert_eq!(
            (read().as_str(), std::fs::read_to_string(&other).unwrap().as_str()),
            ("", "untouched")
        );
    }
}
