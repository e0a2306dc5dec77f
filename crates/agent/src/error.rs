//! What ends the agent: faults that waiting does not mend.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the agent does not run.
#[derive(Debug, Error)]
pub enum AgentError {
    /// A file or folder of the state cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the state is not what this program wrote.
    #[error("{path} is damaged ({reason}); move it away to go on without it")]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What is wrong with it; of the key, never its content.
        reason: String,
    },
    /// Another agent runs on this state folder.
    #[error("{0} is in use by another agent")]
    InUse(PathBuf),
    /// Others than the owner may read the key.
    #[error("{path} may be read by others (mode {mode:o}); make it 600")]
    KeyExposed {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The identity was enrolled with another key.
    #[error(
        "the machine was enrolled with the key of {enrolled}, but agent.key is that of {present}"
    )]
    OtherKey {
        /// The address that was enrolled.
        enrolled: String,
        /// The address of the key that is there.
        present: String,
    },
    /// The machine is not enrolled and there is no token to enrol with.
    #[error("this machine is not enrolled: an enrolment token is needed")]
    NotEnrolled,
    /// The service refused the enrolment.
    #[error("the enrolment was refused ({code}): {detail}")]
    EnrollRefused {
        /// The problem's code.
        code: String,
        /// The problem's sentence.
        detail: String,
    },
    /// The HTTP client cannot be made.
    #[error("no HTTP client: {0}")]
    Http(String),
    /// The system has no `/proc`.
    #[error("/proc is missing: the agent recognises processes by it and runs on Linux only")]
    NoProc,
}

impl AgentError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}
