//! The state folder: where everything lies, and that only one agent uses it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use domain::id::RentalId;

use crate::AgentError;

/// The folder, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Opens the folder, making it if need be, readable by its owner only.
    ///
    /// # Errors
    /// [`AgentError::InUse`] if another agent has it, or [`AgentError::Io`].
    pub(crate) fn open(root: &Path) -> Result<Self, AgentError> {
        for folder in [root.join("rentals"), root.join("ends")] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(AgentError::io(&folder))?;
        }
        let root = fs::canonicalize(root).map_err(AgentError::io(root))?;
        let path = root.join("agent.lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(AgentError::io(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(AgentError::InUse(root)),
            Err(TryLockError::Error(error)) => Err(AgentError::io(&path)(error)),
        }
    }

    /// The agent's key.
    pub(crate) fn key(&self) -> PathBuf {
        self.root.join("agent.key")
    }

    /// The machine's identity.
    pub(crate) fn identity(&self) -> PathBuf {
        self.root.join("agent.json")
    }

    /// The rentals' files and folders.
    pub(crate) fn rentals(&self) -> PathBuf {
        self.root.join("rentals")
    }

    /// What is known of a rental.
    pub(crate) fn record(&self, rental: RentalId) -> PathBuf {
        self.rentals().join(format!("{rental}.json"))
    }

    /// What is remembered of rentals beyond their end.
    pub(crate) fn tallies(&self) -> PathBuf {
        self.root.join("ends")
    }

    /// What the machine was good for in a rental.
    pub(crate) fn tally(&self, rental: RentalId) -> PathBuf {
        self.tallies().join(format!("{rental}.json"))
    }

    /// Where a rental's workload runs and logs.
    pub(crate) fn workload(&self, rental: RentalId) -> PathBuf {
        self.rentals().join(rental.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::folder;

    #[test]
    fn a_folder_serves_one_agent() {
        let folder = folder();
        let root = folder.path().join("deep/state");
        let first = StateDir::open(&root).unwrap();
        assert!(matches!(StateDir::open(&root), Err(AgentError::InUse(_))));
        drop(first);
        StateDir::open(&root).unwrap();
    }
}
