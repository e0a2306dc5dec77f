//! Why nothing could be measured.

use std::{io, path::PathBuf};

/// Why a run ended without figures. Slow is never an error, and neither is a void slice.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The server did not start or stop.
    #[error(transparent)]
    Postgres(#[from] testkit::PostgresError),
    /// A statement of the harness's own failed.
    #[error("cannot {doing}: {source}")]
    Sql {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: sqlx::Error,
    },
    /// The code that is measured failed.
    #[error("cannot {doing}: {why}")]
    Subject {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        why: String,
    },
    /// The operating system refused.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// pgbench could not be run, or said something that is not understood.
    #[error("{}: {why}", program.display())]
    Pgbench {
        /// The program.
        program: PathBuf,
        /// What it said.
        why: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl BenchError {
    pub(crate) fn sql(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Sql { doing, source }
    }

    /// For `map_err` on what the operating system refused.
    pub fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn subject<E: ToString>(doing: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Subject { doing, why: error.to_string() }
    }
}
