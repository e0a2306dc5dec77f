//! The data folder: one `weir up` at a time, and everything that outlives it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// Less free disk than this is refused, in bytes.
const NEEDED: u64 = 512 << 20;

/// An open data folder; the lock goes with the value, however the process ends.
pub(crate) struct Folder {
    root: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens the folder, making it if it is new.
    ///
    /// # Errors
    /// If it cannot be written, is in use by another `weir up`, or lies on a full disk.
    pub(crate) fn open(root: &Path) -> Result<Self, Failure> {
        let unusable = |error: std::io::Error| {
            Failure::new(format!(
                "the data folder {} cannot be used: {error}; check its rights, or name another with --data",
                root.display()
            ))
        };
        fs::create_dir_all(root.join("log")).map_err(unusable)?;
        let root = root.canonicalize().map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join("lock"))
            .map_err(|error| {
                Failure::new(format!("{} cannot be locked: {error}", root.display()))
            })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(format!(
                    "another `weir up` uses {}; stop it first, or name another folder with --data",
                    root.display()
                )));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Failure::new(format!("{} cannot be locked: {error}", root.display())));
            }
        }
        let space = rustix::fs::statvfs(&root).map_err(Failure::during("asking for free disk"))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < NEEDED {
            return Err(Failure::new(format!(
                "only {} MiB are free on the disk of {}; at least {} MiB are needed",
                free >> 20,
                root.display(),
                NEEDED >> 20
            )));
        }
        Ok(Self { root, _lock: lock })
    }

    /// A path inside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where a service writes its log.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join("log").join(format!("{name}.log"))
    }
}
