//! What is printed: one line of JSON per scenario, and a table for people.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    BenchError, Goal, Interval, Judged, Measured, Outcome, Pair, Plan, bootstrap, judge,
    machine::Setting, median, pairs::Side,
};

/// The latencies of one side, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half of all transactions or requests stay within this.
    pub p50_ms: Option<f64>,
    /// 99 of 100 do.
    pub p99_ms: Option<f64>,
}

impl Latency {
    fn of(side: &Side) -> Self {
        let at = |share| side.latency.percentile_ms(share);
        Self { p50_ms: at(0.5), p99_ms: at(0.99) }
    }
}

/// One scenario's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The scenario.
    pub name: &'static str,
    /// Median operations of the subject per second, over the sound pairs.
    pub subject_tps: Option<f64>,
    /// Median transactions of the limit per second, over the sound pairs.
    pub limit_tps: Option<f64>,
    /// The figure: the median of the sound pairs' ratios.
    pub ratio: Option<f64>,
    /// Its 95 % bootstrap interval.
    pub interval: Option<Interval>,
    /// Of the subject's transactions or requests.
    pub subject_latency: Latency,
    /// Of the limit's transactions.
    pub limit_latency: Latency,
    /// Requests that were rightly refused.
    pub refused: u64,
    /// Requests that were sent again because the service said that they may succeed later.
    pub retried: u64,
    /// Every pair as it was taken.
    pub pairs: Vec<Pair>,
    /// Void slices, and why the scenario could not begin or go on; empty if all is sound.
    pub faults: Vec<String>,
    /// Clients of either side.
    pub clients: u16,
    /// Length of a slice in milliseconds.
    pub slice_ms: u64,
    /// pgbench's scale.
    pub scale: u32,
    /// Decided everything random.
    pub seed: u64,
    /// What drove the limit, with its version.
    pub peer: String,
    /// Load averages of 1, 5 and 15 minutes at the end.
    pub load_average: [f64; 3],
    /// Where it was measured.
    #[serde(flatten)]
    pub setting: Setting,
}

impl Row {
    pub(crate) fn of(measured: &Measured, plan: &Plan, peer: &str, setting: &Setting) -> Self {
        let sound = || measured.pairs.iter().filter(|pair| pair.void.is_none());
        let ratios = measured.ratios();
        Self {
            name: measured.name,
            subject_tps: median(&sound().map(|pair| pair.subject_tps).collect::<Vec<_>>()),
            limit_tps: median(&sound().map(|pair| pair.limit_tps).collect::<Vec<_>>()),
            ratio: median(&ratios),
            interval: bootstrap(&ratios, plan.seed),
            subject_latency: Latency::of(&measured.subject),
            limit_latency: Latency::of(&measured.limit),
            refused: measured.subject.refused,
            retried: measured.subject.retried,
            pairs: measured.pairs.clone(),
            faults: measured.faults().map(str::to_owned).collect(),
            clients: plan.clients,
            slice_ms: u64::try_from(plan.span.as_millis()).unwrap_or(u64::MAX),
            scale: plan.scale,
            seed: plan.seed,
            peer: peer.to_owned(),
            load_average: measured.load_average,
            setting: setting.clone(),
        }
    }
}

/// A figure that is not a ratio of two rates.
#[derive(Clone, Debug, Serialize)]
pub struct Fact {
    /// What it is.
    pub fact: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

impl Fact {
    pub(crate) fn new(fact: &str, value: f64, unit: &'static str) -> Self {
        Self { fact: fact.to_owned(), value, unit }
    }
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Report {
    /// One for each scenario.
    pub rows: Vec<Row>,
    /// What else was measured.
    pub facts: Vec<Fact>,
    /// Why some of that was not.
    pub faults: Vec<String>,
}

impl Report {
    /// True if no slice was void and no scenario broke off.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.rows.iter().all(|row| row.faults.is_empty())
    }

    /// Every goal beside what was found.
    #[must_use]
    pub fn goals(&self) -> Vec<Judged> {
        judge(&self.rows, &self.facts)
    }

    /// True if a goal was measured and missed.
    #[must_use]
    pub fn misses_a_goal(&self) -> bool {
        self.goals().iter().any(|judged| judged.outcome == Outcome::Missed)
    }

    /// One line for each scenario, fact and goal, for machines.
    ///
    /// # Errors
    /// None that a report can cause.
    pub fn json_lines(&self) -> Result<Vec<String>, BenchError> {
        let rows = self.rows.iter().map(serde_json::to_string);
        let goals = self.goals();
        let lines = rows
            .chain(self.facts.iter().map(serde_json::to_string))
            .chain(goals.iter().map(serde_json::to_string));
        lines.collect::<Result<_, _>>().map_err(BenchError::subject("write the report"))
    }

    /// The figures for people, in Markdown, with the faults below.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| scenario | per s | beside | per s | ratio | 95 % | p50 / p99 ms | beside p50 / p99 ms | pairs |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            push(&mut text, &row.line());
        }
        for row in &self.rows {
            for fault in &row.faults {
                push(&mut text, &format!("FAULT {}: {fault}", row.name));
            }
        }
        for fault in &self.faults {
            push(&mut text, &format!("FAULT {fault}"));
        }
        if !self.facts.is_empty() {
            push(&mut text, "\n| figure | value | unit |\n|---|---|---|");
        }
        for Fact { fact, value, unit } in &self.facts {
            push(&mut text, &format!("| {fact} | {value:.2} | {unit} |"));
        }
        push(&mut text, "\n| goal | is | found | verdict |\n|---|---|---|---|");
        for Judged { goal: Goal { figure, bound, unit, .. }, found, outcome } in self.goals() {
            let found = number(found, 2);
            push(&mut text, &format!("| {figure} | {bound} {unit} | {found} | {outcome} |"));
        }
        if let Some(row) = self.rows.first() {
            push(&mut text, &row.footer());
        }
        text
    }
}

impl Row {
    fn line(&self) -> String {
        let interval = self.interval.map_or_else(
            || "-".to_owned(),
            |interval| format!("{:.2} - {:.2}", interval.low, interval.high),
        );
        let latency = |of: Latency| format!("{} / {}", number(of.p50_ms, 1), number(of.p99_ms, 1));
        let sound = self.pairs.iter().filter(|pair| pair.void.is_none()).count();
        format!(
            "| {} | {} | {} | {} | {} | {interval} | {} | {} | {sound} of {} |",
            self.name,
            number(self.subject_tps, 0),
            if self.is_beside_tpcb() { "TPC-B" } else { self.peer.as_str() },
            number(self.limit_tps, 0),
            number(self.ratio, 2),
            latency(self.subject_latency),
            latency(self.limit_latency),
            self.pairs.len(),
        )
    }

    fn is_beside_tpcb(&self) -> bool {
        ["pgbench", "built-in"].iter().any(|peer| self.peer.starts_with(peer))
    }

    fn footer(&self) -> String {
        let Setting { commit, postgresql, durable, cpu, cores, optimised, .. } = &self.setting;
        let commit = commit.as_deref().unwrap_or("unknown");
        let build = if *optimised { "optimised" } else { "NOT OPTIMISED" };
        let disk = if *durable { "" } else { ", NOT DURABLE" };
        format!(
            "\n{} clients, slices of {} ms, {}, PostgreSQL {postgresql}{disk}, {cores} cores of {cpu}, \
             commit {commit}, {build}",
            self.clients, self.slice_ms, self.peer
        )
    }
}

fn number(value: Option<f64>, places: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.places$}"))
}

fn push(text: &mut String, line: &str) {
    // Writing into a string cannot fail.
    writeln!(text, "{line}").unwrap_or_default();
}
