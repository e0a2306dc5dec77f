//! What a range of seeds came to.

use std::{collections::BTreeMap, time::Duration};

use super::{faults::Fault, play::Outcome, trace::Trace};

/// Lines of a failed seed's trace that are printed.
const TAIL: usize = 60;

/// Sums over seeds.
#[derive(Default)]
pub struct Report {
    seeds: u64,
    steps: u64,
    rentals: usize,
    releases: u64,
    simulated_seconds: u64,
    ends: BTreeMap<String, u64>,
    struck: BTreeMap<Fault, u64>,
    failures: Vec<(u64, String)>,
}

impl Report {
    /// Adds a seed, and says what became of it. True if it failed.
    pub fn add(
        &mut self,
        seed: u64,
        played: Result<Outcome, String>,
        trace: &Trace,
        took: Duration,
    ) -> bool {
        self.seeds += 1;
        let failure = match played {
            Err(panic) => Some(format!("panicked: {panic}")),
            Ok(outcome) => {
                self.steps += outcome.steps;
                self.rentals += outcome.rentals;
                self.releases += outcome.releases;
                self.simulated_seconds += outcome.simulated_seconds;
                for (end, count) in outcome.ends {
                    *self.ends.entry(end).or_default() += count;
                }
                for (fault, count) in outcome.struck {
                    *self.struck.entry(fault).or_default() += count;
                }
                outcome.failure.map(|(step, what)| format!("step {step}: {what}"))
            }
        };
        match &failure {
            None => println!("seed {seed}: holds ({:.1} s)", took.as_secs_f64()),
            Some(what) => {
                println!(
                    "seed {seed}: FAILED, {what}\nits last {TAIL} lines:\n{}\n",
                    trace.tail(TAIL)
                );
                self.failures.push((seed, what.clone()));
            }
        }
        failure.is_some()
    }

    pub fn failed(&self) -> bool {
        !self.failures.is_empty()
    }

    pub fn table(&self, took: Duration) -> String {
        let seconds = took.as_secs().max(1);
        // minutes of the simulation for a second of ours
        let per_second = self.simulated_seconds / 60 / seconds;
        let mut table = String::new();
        let mut row = |name: &str, value: String| {
            table.push_str(&format!("{name:<28} {value}\n"));
        };
        row("seeds", self.seeds.to_string());
        row("steps", self.steps.to_string());
        row("rentals", self.rentals.to_string());
        for (end, count) in &self.ends {
            row(&format!("  {end}"), count.to_string());
        }
        row("releases", self.releases.to_string());
        row("faults", self.struck.values().sum::<u64>().to_string());
        for (fault, count) in &self.struck {
            row(&format!("  {}", fault.word()), count.to_string());
        }
        row("seconds", seconds.to_string());
        let hours = format!("{}.{:02}", per_second / 60, per_second % 60 * 100 / 60);
        row("simulated hours per second", hours);
        row("failures", self.failures.len().to_string());
        for (seed, what) in &self.failures {
            row(&format!("  seed {seed}"), what.clone());
        }
        table
    }
}
