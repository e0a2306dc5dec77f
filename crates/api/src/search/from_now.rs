//! `available_for_s`: a condition that moves with the clock.

use market::{Field, Query, Set};

/// Until when an offer must last that is to be rented for so many seconds, which begin at this second at the latest.
pub(super) fn until(begins: u32, seconds: u32) -> Set {
    Set::at_least(begins.saturating_add(seconds).into())
}

/// What is asked for in seconds from now, wherever that lies: `available_for_s`, the one condition on when offers end.
#[derive(Clone, Copy)]
pub(super) struct FromNow(pub(super) Option<u32>);

impl FromNow {
    /// Asks a query anew at another second.
    pub(super) fn ask(self, query: &mut Query, now: u32) {
        query.now = now;
        let Some(seconds) = self.0 else { return };
        let set = until(query.begins(), seconds);
        for test in query.tests.iter_mut().filter(|test| test.field == Field::Until) {
            test.set.clone_from(&set);
        }
    }
}
