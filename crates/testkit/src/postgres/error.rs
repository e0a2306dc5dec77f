//! What can be wrong with a cluster, each in one line that also says what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::server::telling_line;
use crate::tools::ToolMissing;

/// Why there is no PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No binaries.
    #[error(transparent)]
    Missing(#[from] ToolMissing),
    /// The binaries are there and do not run.
    #[error("PostgreSQL's programs do not run ({why}): run `make setup`, or set WEIR_PG_BIN")]
    Unusable {
        /// The dynamic linker's words.
        why: String,
    },
    /// We are root, and neither `unshare` nor `setpriv` works.
    #[error(
        "PostgreSQL refuses to run as root, and neither `unshare -U` nor `setpriv` works here: run as an ordinary user"
    )]
    Root,
    /// Something else listens there.
    #[error(
        "port {port} is taken: stop the program that listens on it, or choose another port for PostgreSQL"
    )]
    PortTaken {
        /// The port that was asked for.
        port: u16,
    },
    /// Another server runs on the same folder.
    #[error("{} is in use by a running PostgreSQL (process {pid}): stop it, or choose another data folder", path.display())]
    InUse {
        /// The data folder.
        path: PathBuf,
        /// That server's process number.
        pid: String,
    },
    /// The folder is not a data folder, is damaged, or is of another version.
    #[error("the PostgreSQL data folder {} is broken ({why}): restore it, or run `make clean-data` to start anew", path.display())]
    Broken {
        /// The data folder.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// No space left.
    #[error("no space left on the disk that holds {}: free at least 1 GB and start again", path.display())]
    DiskFull {
        /// The data folder.
        path: PathBuf,
    },
    /// It ended instead of serving, for a reason not known here.
    #[error("PostgreSQL ended at its start ({why}); its log is {}", log.display())]
    Ended {
        /// Its last telling line.
        why: String,
        /// Its log.
        log: PathBuf,
    },
    /// It lives and does not serve.
    #[error("PostgreSQL did not answer within {seconds} s; its log is {}", log.display())]
    Silent {
        /// The limit.
        seconds: u64,
        /// Its log.
        log: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// The server refused a statement.
    #[error("cannot {doing}: {source}")]
    Sql {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: sqlx::Error,
    },
}

/// Marks of a damaged or foreign data folder in the server's last words.
const BROKEN: [&str; 9] = [
    "checkpoint record",
    "not a valid data directory",
    "incompatible",
    "could not open file",
    "could not read file",
    "could not open directory",
    "could not open configuration file",
    "configuration file",
    "PANIC",
];

impl PostgresError {
    /// Reads the cause from what the server wrote before it ended.
    pub(super) fn from_last_words(said: &str, path: &Path, log: &Path, port: u16) -> Self {
        let why = telling_line(said);
        let path = path.to_path_buf();
        if said.contains("Address already in use") {
            Self::PortTaken { port }
        } else if said.contains("No space left on device") {
            Self::DiskFull { path }
        } else if said.contains("postmaster.pid\" already exists")
            || said.contains("pre-existing shared memory block")
        {
            Self::InUse { path, pid: "unknown".into() }
        } else if said.contains("shared libraries") {
            Self::Unusable { why }
        } else if BROKEN.iter().any(|mark| said.contains(mark)) {
            Self::Broken { path, why }
        } else {
            Self::Ended { why, log: log.to_path_buf() }
        }
    }

    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(super) fn sql(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Sql { doing, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(said: &str) -> String {
        PostgresError::from_last_words(said, Path::new("data"), Path::new("data.log"), 5432)
            .to_string()
    }

    #[test]
    fn last_words_are_one_line_with_advice() {
        let full =
            "FATAL:  could not write lock file \"postmaster.pid\": No space left on device\n";
        assert!(read(full).starts_with("no space left on the disk that holds data: free"));
        let taken =
            "LOG:  could not bind IPv4 address \"127.0.0.1\": Address already in use\nFATAL:  no";
        assert!(read(taken).starts_with("port 5432 is taken: stop"));
        let links =
            "postgres: error while loading shared libraries: libicui18n.so.60: cannot open\n";
        assert!(read(links).contains("run `make setup`"));
        let redo = "LOG:  x\nPANIC:  could not locate a valid checkpoint record at 0/1\n";
        assert!(read(redo).contains("data is broken (PANIC:  could not locate"));
        for said in [full, taken, links, redo, "", "nothing\nknown\n"] {
            assert_eq!(read(said).lines().count(), 1);
        }
    }
}
