//! What happened, in logical names only: the same seed writes the same bytes.

use std::sync::{Arc, Mutex};

/// Shared, so that it outlives a panic of the run.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    pub fn say(&self, line: impl Into<String>) {
        let line = line.into();
        if std::env::var_os("SIM_TRACE").is_some() {
            eprintln!("{line}");
        }
        self.0.lock().unwrap().push(line);
    }

    pub fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    /// The last lines.
    pub fn tail(&self, lines: usize) -> String {
        let all = self.0.lock().unwrap();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}
