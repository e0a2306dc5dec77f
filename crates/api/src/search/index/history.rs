//! What happened to the market's offers, for streams that come again.

use std::collections::VecDeque;

use market::Change;

/// Changes that are kept for streams that come again.
const HISTORY: usize = 4_096;

/// What happened, for streams. Numbers grow by one; a new epoch begins when the index was read anew.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) epoch: u64,
    pub(crate) last: u64,
    /// Of the index that the changes are of: another one has other numbers for regions, providers and schedules.
    pub(crate) generation: u64,
    changes: VecDeque<Change>,
}

impl History {
    /// Begins an epoch, with nothing to tell.
    pub(super) fn begin(epoch: u64, last: u64, generation: u64) -> Self {
        Self { epoch, last, generation, changes: VecDeque::new() }
    }

    /// What came after `seen`; `None` if some of that is not kept any more.
    pub(crate) fn after(&self, seen: u64) -> Option<Vec<Change>> {
        let missed = usize::try_from(self.last.checked_sub(seen)?).ok()?;
        let first = self.changes.len().checked_sub(missed)?;
        Some(self.changes.iter().skip(first).copied().collect())
    }

    pub(super) fn add(&mut self, change: Change) {
        if self.changes.len() >= HISTORY {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
        self.last = self.last.saturating_add(1);
    }
}
