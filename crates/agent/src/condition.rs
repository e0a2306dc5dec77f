//! Tells the log when something changes between well and ill, not at every try.

/// What is well or ill, for example the connection to the service.
#[derive(Debug)]
pub(crate) struct Condition {
    what: &'static str,
    fault: Option<String>,
}

impl Condition {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what, fault: None }
    }

    /// It is well. True if that is news.
    pub(crate) fn well(&mut self) -> bool {
        let news = self.fault.take().is_some();
        if news {
            tracing::info!(agent.condition = self.what, "well again");
        }
        news
    }

    /// It is ill; `kind` tells one fault from another, `detail` is for reading. True if that is news.
    pub(crate) fn ill(&mut self, kind: &str, detail: &dyn std::fmt::Display) -> bool {
        let news = self.fault.as_deref() != Some(kind);
        if news {
            self.fault = Some(kind.to_owned());
            tracing::warn!(agent.condition = self.what, %detail, "ill; trying on");
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_news() {
        let mut condition = Condition::new("test");
        assert!(!condition.well());
        assert!(condition.ill("unreachable", &"refused"));
        assert!(!condition.ill("unreachable", &"timed out"));
        assert!(condition.ill("state-conflict", &"not active"));
        assert!(condition.well());
        assert!(!condition.well());
    }
}
