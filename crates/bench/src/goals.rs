//! What the figures should be: one table, from which the report's verdicts and docs/BENCH.md's goals are made.

use std::fmt;
#[cfg(test)]
use std::fmt::Write as _;

use serde::{Serialize, Serializer};

use crate::{Fact, Row};

/// One figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The ratio of a scenario.
    Ratio(&'static str),
    /// The subject's median latency in it, in milliseconds.
    P50(&'static str),
    /// The 99th percentile of that.
    P99(&'static str),
    /// A fact.
    Fact(&'static str),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(name) | Self::Fact(name) => f.write_str(name),
            Self::P50(name) => write!(f, "{name} p50"),
            Self::P99(name) => write!(f, "{name} p99"),
        }
    }
}

/// How much is good enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Bound {
    fn holds(self, found: f64) -> bool {
        match self {
            Self::AtLeast(bound) => found >= bound,
            Self::AtMost(bound) => found <= bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "at least {bound}"),
            Self::AtMost(bound) => write!(f, "at most {bound}"),
        }
    }
}

/// A figure and how much of it is good enough.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Of what.
    pub figure: Figure,
    /// How much.
    pub bound: Bound,
    /// What the number counts.
    pub unit: &'static str,
    /// A fact that has to be 1, or the figure counts as not measured.
    pub only_if: Option<&'static str>,
}

const fn goal(figure: Figure, bound: Bound, unit: &'static str) -> Goal {
    Goal { figure, bound, unit, only_if: None }
}

/// Every goal.
pub const GOALS: &[Goal] = &{
    use Bound::{AtLeast, AtMost};
    use Figure::{Fact, P50, P99, Ratio};
    [
        goal(Ratio("p1_ledger_batch_100"), AtLeast(5.0), "times TPC-B"),
        goal(Ratio("p2_booking_http"), AtLeast(1.0), "times TPC-B"),
        Goal {
            figure: Fact("p2_booking_p99_half_load_ratio"),
            bound: AtMost(3.0),
            unit: "times TPC-B's",
            only_if: Some("p2_booking_half_load_is_half_of_tpcb"),
        },
        goal(Ratio("p3_platform_in_every_transfer"), AtLeast(0.9), "times p1_ledger_batch_100"),
        goal(Ratio("p4_jobs_claimed_and_done"), AtLeast(10.0), "times TPC-B"),
        goal(Ratio("p5_search_requests_per_cpu_s"), AtLeast(0.33), "times an axum hello"),
        goal(Ratio("p6_search_unsatisfiable"), AtLeast(50.0), "times PostgreSQL"),
        goal(Fact("p6_commit_to_visible_p50"), AtMost(100.0), "ms"),
        goal(Fact("p6_commit_to_visible_p99"), AtMost(100.0), "ms"),
        goal(Fact("p7_search_slope_typical"), AtMost(0.3), "log-log"),
        goal(Fact("p7_search_slope_worst"), AtMost(0.85), "log-log"),
        goal(Fact("p7_booking_slope"), AtMost(0.3), "log-log"),
        goal(Ratio("p9_settlements"), AtLeast(0.5), "times what was signed before"),
        goal(P50("p10_known_included"), AtMost(750.0), "ms"),
        goal(P99("p10_known_included"), AtMost(1_300.0), "ms"),
        goal(Fact("p13_start_ratio"), AtMost(20.0), "times an axum hello"),
        goal(Fact("p13_idle_resident"), AtMost(48.0), "MB"),
        goal(Fact("p13_idle_cpu"), AtMost(0.5), "% of a core"),
        goal(Fact("index_bytes_per_offer"), AtMost(200.0), "bytes"),
        goal(Fact("index_build"), AtMost(1_000.0), "ms"),
        goal(Fact("market_start_1000000"), AtMost(1_000.0), "ms"),
        goal(Fact("quote_p99_ratio"), AtMost(2.0), "times an indexed read's"),
        goal(Fact("streams_idle"), AtLeast(10_000.0), "streams"),
        goal(Fact("stream_idle_bytes"), AtMost(32_768.0), "bytes"),
        goal(Fact("stream_idle_statements"), AtMost(0.01), "a stream and minute"),
        goal(Fact("streams_idle_cpu"), AtMost(1.0), "cores, all"),
    ]
};

/// What became of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The figure is good enough.
    Met,
    /// It is not.
    Missed,
    /// There is no figure, or not one that counts.
    NotMeasured,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::NotMeasured => "not measured",
        })
    }
}

/// A goal, what was found, and what became of it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Judged {
    /// The goal.
    #[serde(serialize_with = "by_name")]
    pub goal: &'static Goal,
    /// The figure, if there is one that counts.
    pub found: Option<f64>,
    /// The verdict.
    pub outcome: Outcome,
}

fn by_name<S: Serializer>(goal: &&'static Goal, serializer: S) -> Result<S::Ok, S::Error> {
    let Goal { figure, bound, unit, .. } = goal;
    serializer.collect_str(&format_args!("{figure} {bound} {unit}"))
}

/// Every goal beside what a run found.
#[must_use]
pub fn judge(rows: &[Row], facts: &[Fact]) -> Vec<Judged> {
    GOALS.iter().map(|goal| goal.judge(rows, facts)).collect()
}

impl Goal {
    fn judge(&'static self, rows: &[Row], facts: &[Fact]) -> Judged {
        let fact = |name: &str| facts.iter().find(|fact| fact.fact == name).map(|fact| fact.value);
        let row = |name: &str| rows.iter().find(|row| row.name == name);
        let found = match self.figure {
            Figure::Ratio(name) => row(name).and_then(|row| row.ratio),
            Figure::P50(name) => row(name).and_then(|row| row.subject_latency.p50_ms),
            Figure::P99(name) => row(name).and_then(|row| row.subject_latency.p99_ms),
            Figure::Fact(name) => fact(name),
        };
        let counts = self.only_if.is_none_or(|name| fact(name).is_some_and(|value| value >= 1.0));
        let found = found.filter(|found| counts && found.is_finite());
        let outcome = match found {
            None => Outcome::NotMeasured,
            Some(found) if self.bound.holds(found) => Outcome::Met,
            Some(_) => Outcome::Missed,
        };
        Judged { goal: self, found, outcome }
    }
}

/// The goals for docs/BENCH.md.
#[cfg(test)]
fn as_markdown() -> String {
    let mut text = String::from("| figure | goal | of |\n|---|---|---|\n");
    for Goal { figure, bound, unit, only_if } in GOALS {
        let condition = only_if.map_or_else(String::new, |name| format!(", if `{name}` is 1"));
        // Writing into a string cannot fail.
        writeln!(text, "| `{figure}` | {bound} | {unit}{condition} |").unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, facts: &[Fact]) -> Judged {
        let judged = judge(&[], facts);
        *judged.iter().find(|judged| judged.goal.figure.to_string() == name).unwrap()
    }

    #[test]
    fn a_goal_is_met_missed_or_not_measured() {
        let facts = |value: f64| vec![Fact::new("p13_idle_resident", value, "MB")];
        for (value, outcome) in [
            (32.0, Outcome::Met),
            (48.0, Outcome::Met),
            (48.1, Outcome::Missed),
            (f64::NAN, Outcome::NotMeasured),
        ] {
            assert_eq!(of("p13_idle_resident", &facts(value)).outcome, outcome, "{value}");
        }
        assert_eq!(of("p13_idle_resident", &[]).outcome, Outcome::NotMeasured);
        let least = |value| of("streams_idle", &[Fact::new("streams_idle", value, "")]).outcome;
        assert_eq!((least(9_500.0), least(10_000.0)), (Outcome::Missed, Outcome::Met));
    }

    #[test]
    fn a_figure_whose_condition_is_not_met_does_not_count() {
        let facts = |half: f64| {
            [
                Fact::new("p2_booking_half_load_is_half_of_tpcb", half, ""),
                Fact::new("p2_booking_p99_half_load_ratio", 9.0, ""),
            ]
        };
        let judged = |half| of("p2_booking_p99_half_load_ratio", &facts(half));
        assert_eq!(judged(0.0).outcome, Outcome::NotMeasured);
        assert_eq!(judged(1.0).outcome, Outcome::Missed);
    }

    #[test]
    fn the_page_has_these_goals() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/BENCH.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once("<!-- goals -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- end of goals -->").unwrap();
        let wanted =
            format!("{before}<!-- goals -->\n{}<!-- end of goals -->{after}", as_markdown());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &wanted).unwrap();
        } else {
            assert_eq!(page, wanted, "run UPDATE_DOCS=1 cargo test -p bench --lib");
        }
    }
}
