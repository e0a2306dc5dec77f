//! What was asked and how it was answered, by operation, as schemathesis records it.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use serde::Deserialize;

/// Checks that hold an answer against the description.
const DESCRIBED: &[&str] = &[
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "status_code_conformance",
];

/// How one operation was answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    pub asked: usize,
    /// Answered with 200 to 299.
    pub good: usize,
    /// Answered with 500 and more.
    pub faults: usize,
    /// Answers that are not what the description says.
    pub against: usize,
    /// What else a check did not like.
    pub other: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Tally(pub BTreeMap<String, Answers>);

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "ScenarioFinished")]
    finished: Option<Finished>,
}

#[derive(Deserialize)]
struct Finished {
    recorder: Recorder,
}

#[derive(Deserialize)]
struct Recorder {
    label: String,
    #[serde(default)]
    cases: BTreeMap<String, Case>,
    #[serde(default)]
    checks: BTreeMap<String, Vec<Check>>,
    #[serde(default)]
    interactions: BTreeMap<String, Interaction>,
}

#[derive(Deserialize)]
struct Case {
    value: Place,
}

#[derive(Deserialize)]
struct Place {
    method: String,
    path: String,
}

#[derive(Deserialize)]
struct Check {
    name: String,
    status: String,
}

#[derive(Deserialize)]
struct Interaction {
    response: Option<Status>,
}

#[derive(Deserialize)]
struct Status {
    status_code: u16,
}

impl Tally {
    /// Adds what a run recorded: a line of JSON for each event.
    ///
    /// # Errors
    /// The file cannot be read, or a line is none of those.
    pub fn count(&mut self, log: &Path) -> std::io::Result<()> {
        for line in BufReader::new(File::open(log)?).lines() {
            let line: Line = serde_json::from_str(&line?)?;
            if let Some(finished) = line.finished {
                self.add(&finished.recorder);
            }
        }
        Ok(())
    }

    fn add(&mut self, recorder: &Recorder) {
        for (id, interaction) in &recorder.interactions {
            let answers = self.0.entry(operation(recorder, id)).or_default();
            answers.asked += 1;
            if let Some(Status { status_code }) = interaction.response {
                answers.good += usize::from((200..300).contains(&status_code));
                answers.faults += usize::from(status_code >= 500);
            }
            for check in recorder.checks.get(id).into_iter().flatten() {
                if check.status == "failure" {
                    let described = DESCRIBED.contains(&check.name.as_str());
                    let kind = if described { &mut answers.against } else { &mut answers.other };
                    *kind += 1;
                }
            }
        }
    }

    /// Everything together.
    #[must_use]
    pub fn sum(&self) -> Answers {
        self.0.values().fold(Answers::default(), |sum, one| Answers {
            asked: sum.asked + one.asked,
            good: sum.good + one.good,
            faults: sum.faults + one.faults,
            against: sum.against + one.against,
            other: sum.other + one.other,
        })
    }

    /// How often an operation was answered with 200 to 299.
    #[must_use]
    pub fn good(&self, operation: &str) -> usize {
        self.0.get(operation).map_or(0, |answers| answers.good)
    }
}

/// A sequence of several operations has a label of its own: what its requests say then counts.
fn operation(recorder: &Recorder, id: &str) -> String {
    if recorder.label.contains(" /") {
        return recorder.label.clone();
    }
    let case = recorder.cases.get(id);
    case.map_or_else(
        || recorder.label.clone(),
        |case| format!("{} {}", case.value.method, case.value.path),
    )
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (operation, Answers { asked, good, .. }) in &self.0 {
            let share = (good * 100).checked_div(*asked).unwrap_or_default();
            writeln!(out, "{share:>4} % of {asked:>6} answered 2xx: {operation}")?;
        }
        let Answers { asked, good, faults, against, other } = self.sum();
        write!(
            out,
            "{asked} requests, {good} answered 2xx, {faults} with 5xx, {against} against the description, {other} other \
             complaints"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_counted_by_operation() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let record = concat!(
            r#"{"EngineStarted":{"id":"x"}}"#,
            "\n",
            r#"{"ScenarioFinished":{"recorder":{"label":"GET /a","cases":{},"#,
            r#""checks":{"1":[{"name":"not_a_server_error","status":"failure"}],"2":[{"name":"response_schema_conformance","status":"failure"}]},"#,
            r#""interactions":{"1":{"request":{},"response":{"status_code":503}},"2":{"response":{"status_code":200}},"3":{"response":null}}}}}"#,
            "\n",
            r#"{"ScenarioFinished":{"recorder":{"label":"Stateful tests","cases":{"1":{"value":{"method":"POST","path":"/b","body":"\ud800"}}},"#,
            r#""interactions":{"1":{"response":{"status_code":201}}}}}}"#,
            "\n",
        );
        std::fs::write(file.path(), record).unwrap();
        let mut tally = Tally::default();
        tally.count(file.path()).unwrap();
        let sum = tally.sum();
        assert_eq!((sum.asked, sum.good, sum.faults, sum.against, sum.other), (4, 2, 1, 1, 1));
        assert_eq!((tally.good("POST /b"), tally.good("GET /a"), tally.good("GET /c")), (1, 1, 0));
    }
}
