//! What came of the campaigns, as a table.

use std::fmt::Write as _;

use super::campaign::Outcome;

/// Median, 99th of a hundred, and the longest.
#[must_use]
pub fn spread(blocks: &[u64]) -> Option<(u64, u64, u64)> {
    let mut sorted = blocks.to_vec();
    sorted.sort_unstable();
    let at = |share: usize| sorted.get((sorted.len() * share).div_ceil(100).saturating_sub(1));
    Some((*at(50)?, *at(99)?, *sorted.last()?))
}

/// The table in Markdown.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut page = String::from(
        "| campaign | faults | rentals | ended | asked with a key: broken, hit twice, ambiguous | blocks to steady: median, p99, longest | took | verdict |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let states: Vec<String> = outcome
            .verdict
            .states
            .iter()
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        let blocks = spread(&outcome.recovery).map_or("-".to_owned(), |(median, most, longest)| {
            format!("{median}, {most}, {longest}")
        });
        let failures = outcome.verdict.failures.len();
        let verdict =
            if outcome.passed() { "0 wrong".to_owned() } else { format!("**{failures} wrong**") };
        let answers = outcome.answers;
        writeln!(
            page,
            "| {}: {} | {} | {} | {} | {}: {}, {}, {} | {blocks} | {} s | {verdict} |",
            outcome.name,
            outcome.what,
            outcome.faults,
            outcome.rentals,
            states.join(", "),
            answers.asked,
            answers.broken,
            answers.hit_twice,
            answers.ambiguous,
            outcome.took.as_secs(),
        )
        .unwrap();
    }
    page
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn ranks_are_the_nearest() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[7]), Some((7, 7, 7)));
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(spread(&hundred), Some((50, 99, 100)));
    }
}
