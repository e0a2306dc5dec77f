//! What a check came to, and how it is told.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::config::Config;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As it must be.
    Pass,
    /// Not as it must be.
    Fail,
    /// Not looked at, because something that it needs is not there.
    Skip,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) id: String,
    pub(super) outcome: Outcome,
    pub(super) found: String,
    pub(super) required: String,
    /// What to do where it failed.
    pub(super) action: String,
}

impl Finding {
    /// Something that was looked at.
    pub(super) fn new(
        id: impl Into<String>,
        good: bool,
        found: impl Into<String>,
        required: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        let outcome = if good { Outcome::Pass } else { Outcome::Fail };
        let (found, required) = (found.into(), required.into());
        Self { id: id.into(), outcome, found, required, action: action.into() }
    }

    /// Something that could not be looked at; `why` says what it needs.
    pub(super) fn skipped(id: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            outcome: Outcome::Skip,
            found: why.into(),
            required: String::new(),
            action: String::new(),
        }
    }
}

/// All findings, without secrets.
pub(super) struct Report {
    findings: Vec<Finding>,
    secrets: Vec<(String, &'static str)>,
}

impl Report {
    /// An empty report that will not repeat what this configuration keeps secret.
    pub(super) fn new(config: &Config) -> Self {
        let mut secrets = Vec::new();
        let mut keep = |secret: Option<&str>, name| {
            // shorter ones would blot out ordinary words
            if let Some(secret) = secret.filter(|secret| secret.len() >= 4) {
                secrets.push((secret.to_owned(), name));
            }
        };
        for key in config.operator_key.as_deref().unwrap_or_default().split(',') {
            keep(Some(key.trim()), "(WEIR_OPERATOR_KEY)");
            keep(key.trim().strip_prefix("0x"), "(WEIR_OPERATOR_KEY)");
        }
        keep(config.quote_key.as_deref(), "(WEIR_QUOTE_KEY)");
        keep(
            config.quote_key.as_deref().and_then(|key| key.strip_prefix("0x")),
            "(WEIR_QUOTE_KEY)",
        );
        for (url, name) in [
            (config.database_url.as_deref(), "(DATABASE_URL)"),
            (config.rpc_url.as_deref(), "(RPC_URL)"),
        ] {
            keep(url, name);
            let parsed = url.and_then(|url| reqwest::Url::parse(url).ok());
            let parsed = parsed.as_ref();
            keep(parsed.map(reqwest::Url::as_str), name);
            keep(parsed.and_then(reqwest::Url::password), name);
            // providers of RPC put the key into the path or the query
            if name == "(RPC_URL)" {
                keep(parsed.map(reqwest::Url::path), name);
                keep(parsed.and_then(reqwest::Url::query), name);
            }
        }
        // longest first: a part of a secret must not keep the whole from being found
        secrets.sort_by_key(|(secret, _)| std::cmp::Reverse(secret.len()));
        Self { findings: Vec::new(), secrets }
    }

    /// Adds a finding.
    pub(super) fn add(&mut self, finding: Finding) {
        let Finding { id, outcome, found, required, action } = finding;
        let (found, required, action) =
            (self.discreet(&found), self.discreet(&required), self.discreet(&action));
        self.findings.push(Finding { id, outcome, found, required, action });
    }

    /// Adds several.
    pub(super) fn add_all(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            self.add(finding);
        }
    }

    /// A text in one line and without secrets.
    fn discreet(&self, text: &str) -> String {
        let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.secrets.iter().fold(one_line, |text, (secret, name)| text.replace(secret, name))
    }

    pub(super) fn len(&self) -> usize {
        self.findings.len()
    }

    pub(super) fn count(&self, outcome: Outcome) -> usize {
        self.findings.iter().filter(|finding| finding.outcome == outcome).count()
    }

    /// A line per check.
    pub(super) fn as_text(&self) -> String {
        let width = self.findings.iter().map(|finding| finding.id.len()).max().unwrap_or_default();
        let mut out = String::new();
        for Finding { id, outcome, found, required, action } in &self.findings {
            let said = match outcome {
                Outcome::Pass => format!("{found} (required: {required})"),
                Outcome::Fail => format!("{found} (required: {required}); {action}"),
                Outcome::Skip => found.clone(),
            };
            // writing to a String cannot fail
            _ = writeln!(out, "{}  {id:<width$}  {said}", outcome.as_str());
        }
        out
    }

    /// The same for programs.
    pub(super) fn as_json(&self) -> Value {
        let checks: Vec<Value> = self
            .findings
            .iter()
            .map(|Finding { id, outcome, found, required, action }| {
                json!({
                    "id": id,
                    "outcome": outcome.as_str().to_lowercase(),
                    "found": found,
                    "required": required,
                    "action": if *outcome == Outcome::Fail { action } else { "" },
                })
            })
            .collect();
        json!({ "ok": self.count(Outcome::Fail) == 0, "checks": checks })
    }
}
