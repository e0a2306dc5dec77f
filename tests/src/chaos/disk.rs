//! A small file system of its own, in memory, that can be filled to the last byte.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

/// Mounted while it lives.
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts one of so many MiB in a new folder.
    ///
    /// # Errors
    /// Where this process may not mount.
    pub fn mount(at: PathBuf, mib: u64) -> io::Result<Self> {
        fs::create_dir_all(&at)?;
        let size = format!("size={mib}m,mode=0777");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "weir-chaos"])
            .arg(&at)
            .output()?;
        if !mounted.status.success() {
            let said = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
            return Err(io::Error::other(said));
        }
        Ok(Self { at })
    }

    pub fn path(&self) -> &Path {
        &self.at
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Fills it: nothing more can be written.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.ballast()).unwrap();
        for block in [1 << 20, 4_096, 1] {
            let zeros = vec![0_u8; block];
            while file.write_all(&zeros).is_ok() {}
        }
    }

    /// Frees what was filled.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // lazily: a server that is on its way out may hold a file
        let gone = Command::new("umount").arg("-l").arg(&self.at).status();
        if !gone.is_ok_and(|status| status.success()) {
            eprintln!("chaos: {} stays mounted", self.at.display());
        }
    }
}
