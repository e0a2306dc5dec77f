//! As whom PostgreSQL runs: its programs refuse to run as root.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;
use std::process::{Command, Stdio};

/// The unprivileged account of every Unix, `nobody`.
const NOBODY: u32 = 65_534;

/// How a PostgreSQL program is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunAs {
    /// We are an ordinary user.
    Ourselves,
    /// We are root: inside a user namespace that shows root as user 1000. Files stay root's.
    Namespace,
    /// We are root and namespaces are refused (some containers): as `nobody`, who gets the folder.
    Nobody,
}

impl RunAs {
    /// `None`: we are root and the system lets us be nobody else.
    pub(super) fn detect() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return Some(Self::Ourselves);
        }
        [Self::Namespace, Self::Nobody].into_iter().find(|way| {
            let mut trial = way.command(Path::new("true"));
            trial.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            trial.status().is_ok_and(|status| status.success())
        })
    }

    /// `program` under this identity. The wrappers execute it in their place: the child's process
    /// number is the program's.
    pub(super) fn command(self, program: &Path) -> Command {
        let mut command = match self {
            Self::Ourselves => Command::new(program),
            Self::Namespace => {
                let mut command = Command::new("unshare");
                command.args(["-U", "--map-user=1000", "--map-group=1000"]).arg(program);
                command
            }
            Self::Nobody => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={NOBODY}")).arg(format!("--regid={NOBODY}"));
                command.arg("--clear-groups").arg(program);
                command
            }
        };
        command.env("LC_ALL", "C");
        command
    }

    /// Gives `folder` to the user that the server will be, when it is not his already.
    pub(super) fn hand_over(self, folder: &Path) -> io::Result<()> {
        let user = match self {
            Self::Ourselves => return Ok(()),
            Self::Namespace => 0,
            Self::Nobody => NOBODY,
        };
        if fs::metadata(folder)?.uid() == user {
            return Ok(());
        }
        give(folder, user)
    }
}

fn give(path: &Path, user: u32) -> io::Result<()> {
    lchown(path, Some(user), Some(user))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), user)?;
        }
    }
    Ok(())
}
