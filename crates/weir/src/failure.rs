//! What ends a command: one line that says what is wrong and what to do.

use std::fmt;

/// The exit code of a command that found something untrue.
const UNTRUE: u8 = 8;
/// The exit code of a command that could not find out.
const UNAVAILABLE: u8 = 7;

/// A sentence for the person at the terminal.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    exit: u8,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: 1 }
    }

    /// Something was checked and is not true.
    pub(crate) fn untrue(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: UNTRUE }
    }

    /// For `map_err`: who did not answer, so that something could not be found out.
    pub(crate) fn silent<E: fmt::Display>(what: &str) -> impl FnOnce(E) -> Self + '_ {
        move |error| Self { what: format!("{what}: {error}"), exit: UNAVAILABLE }
    }

    /// For `map_err`: what was being done, and why it failed.
    pub(crate) fn during<E: fmt::Display>(what: &str) -> impl FnOnce(E) -> Self + '_ {
        move |error| Self::new(format!("{what}: {error}"))
    }

    /// What the process ends with.
    pub(crate) fn exit(&self) -> u8 {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
