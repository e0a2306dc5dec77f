//! Counts the SQL statements that this process sends, by listening to what the driver logs of each.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};

/// Under which the driver logs statements.
const TARGET: &str = "sqlx::query";

/// The statements that were sent, each with how often. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Statements(Arc<Mutex<BTreeMap<String, u64>>>);

impl Statements {
    /// What was sent since the last time that this was asked.
    pub fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many of those mention one of these words.
    #[must_use]
    pub fn mentioning(statements: &BTreeMap<String, u64>, words: &[&str]) -> u64 {
        let about = |text: &str| words.iter().any(|word| text.contains(word));
        statements
            .iter()
            .filter(|(text, _)| about(text))
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

/// To be set as the subscriber of a thread, or of the whole process.
impl Subscriber for Statements {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.target() == TARGET { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let text = if text.whole.trim().is_empty() { text.summary } else { text.whole };
        let words: Vec<_> = text.split_whitespace().collect();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(words.join(" ")).or_default();
        *count = count.saturating_add(1);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The statement of an event: whole where it is long, else its summary is all of it.
#[derive(Default)]
struct Text {
    summary: String,
    whole: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.whole),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
