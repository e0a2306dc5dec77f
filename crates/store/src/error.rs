//! Errors by what the caller can do about them.

use thiserror::Error;

/// Why the store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database could not be reached, timed out, or gave up under contention: try again later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Another writer was first (a unique, exclusion or version check). `constraint` names which.
    #[error("conflict with what is already stored ({constraint})")]
    Conflict {
        /// The name of the constraint, or of the version check.
        constraint: String,
    },
    /// A row that must exist does not.
    #[error("{0} does not exist")]
    Missing(&'static str),
    /// A row holds what the domain says is impossible: a bug or tampering; never retried.
    #[error("stored data is not valid: {0}")]
    Corrupt(String),
    /// A statement the server refused for a reason that is our own mistake.
    #[error("statement refused: {0}")]
    Bug(String),
}

impl StoreError {
    /// True for serialization failures and deadlocks, which [`crate::Store::write`] retries.
    #[must_use]
    pub fn is_contention(&self) -> bool {
        matches!(self, Self::Unavailable(reason) if reason.starts_with(CONTENTION))
    }

    /// True if the named constraint was hit.
    #[must_use]
    pub fn is_conflict_on(&self, name: &str) -> bool {
        matches!(self, Self::Conflict { constraint } if constraint == name)
    }

    /// For a value read from a row that the domain refuses.
    pub fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Corrupt(what.to_string())
    }
}

const CONTENTION: &str = "contention: ";
const LOCK_TIMEOUT: &str = "lock timeout: ";

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if let Some(db) = error.as_database_error() {
            let code = db.code().unwrap_or_default().into_owned();
            let constraint = db.constraint().unwrap_or(&code).to_owned();
            return match code.as_str() {
                "40001" | "40P01" => Self::Unavailable(format!("{CONTENTION}{}", db.message())),
                // a lock that did not come free in time, in whatever language the server says it
                "55P03" => Self::Unavailable(format!("{LOCK_TIMEOUT}{}", db.message())),
                "23505" | "23P01" => Self::Conflict { constraint },
                // shutting down, starting up, out of connections, disk or memory full, query cancelled
                "57P01" | "57P02" | "57P03" | "53100" | "53200" | "53300" | "57014" => {
                    Self::Unavailable(db.message().to_owned())
                }
                _ => Self::Bug(format!("{} ({code}, {constraint})", db.message())),
            };
        }
        if matches!(error, sqlx::Error::RowNotFound) {
            return Self::Missing("the row");
        }
        let reason = error.to_string();
        if matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
        ) {
            Self::Unavailable(reason)
        } else {
            Self::Bug(reason)
        }
    }
}

/// What a unit of work ends with when it does not commit.
#[derive(Debug, Error)]
pub enum TxError<R> {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The caller's own rule refused; everything is rolled back.
    #[error("refused")]
    Refused(R),
}

impl<R> From<sqlx::Error> for TxError<R> {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
