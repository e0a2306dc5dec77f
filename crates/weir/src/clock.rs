//! The machine's clock: the one place that asks it.

use domain::time::{Clock, UnixMillis};

/// Wall-clock time.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // this is the seam behind which the wall clock lives
    fn now(&self) -> UnixMillis {
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }
}
