//! What came of the campaigns, as a table.

use super::campaign::Outcome;

/// Median, 99th of a hundred, and the longest.
#[must_use]
pub fn spread(blocks: &[u64]) -> Option<(u64, u64, u64)> {
    let mut sorted = blocks.to_vec();
    sorted.sort_unstable();
    let at = |share: usize| sorted.get((sorted.len() * share).div_ceil(100).saturating_sub(1));
    Some((*at(50)?, *at(99)?, *sorted.last()?))
}

const HEAD: &str = "\
| campaign | faults | rentals | ended | asked with a key: broken, hit twice, ambiguous | blocks to steady: median, p99, longest | took | verdict | run |
|---|---|---|---|---|---|---|---|---|
";
const BEGIN: &str = "<!-- begin measured: make chaos WRITE=1 -->\n";
const END: &str = "<!-- end measured -->";

/// A campaign's row in Markdown; `run` says when, and what was tried.
#[must_use]
pub fn row(outcome: &Outcome, run: &str) -> String {
    let states: Vec<String> =
        outcome.verdict.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let blocks = spread(&outcome.recovery)
        .map_or("-".to_owned(), |(median, most, longest)| format!("{median}, {most}, {longest}"));
    let failures = outcome.verdict.failures.len();
    let verdict = if outcome.passed() { "0 wrong" } else { &format!("**{failures} wrong**") };
    let answers = outcome.answers;
    format!(
        "| {}: {} | {} | {} | {} | {}: {}, {}, {} | {blocks} | {} s | {verdict} | {run} |\n",
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
}

/// The table of these rows.
#[must_use]
pub fn table(rows: &[String]) -> String {
    format!("{HEAD}{}", rows.concat())
}

/// The page with these rows in its table; rows of other campaigns stay as they were measured.
///
/// # Errors
/// If the page has no place for the table.
pub fn written(page: &str, rows: &[String]) -> Result<String, &'static str> {
    let (before, rest) = page.split_once(BEGIN).ok_or("the page has no begin mark")?;
    let (old, after) = rest.split_once(END).ok_or("the page has no end mark")?;
    let name = |row: &str| row.split(':').next().unwrap_or_default().to_owned();
    let mut kept: Vec<String> =
        old.lines().skip(HEAD.lines().count()).map(|line| format!("{line}\n")).collect();
    for new in rows {
        match kept.iter_mut().find(|old| name(old) == name(new)) {
            Some(old) => old.clone_from(new),
            None => kept.push(new.clone()),
        }
    }
    Ok(format!("{before}{BEGIN}{}{END}{after}", table(&kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[7]), Some((7, 7, 7)));
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(spread(&hundred), Some((50, 99, 100)));
    }

    #[test]
    fn a_campaign_replaces_its_own_row() {
        let row = |name: &str, run: &str| format!("| {name}: what | {run} |\n");
        let empty = format!("# Page\n\n{BEGIN}{END}\n\nThe end.\n");
        let first = written(&empty, &[row("kill", "1"), row("storm", "1")]).unwrap();
        let second = written(&first, &[row("storm", "2"), row("stall", "2")]).unwrap();
        let rows = [row("kill", "1"), row("storm", "2"), row("stall", "2")].concat();
        assert_eq!(second, format!("# Page\n\n{BEGIN}{HEAD}{rows}{END}\n\nThe end.\n"));
        assert!(written("no marks", &[]).is_err());
    }
}
