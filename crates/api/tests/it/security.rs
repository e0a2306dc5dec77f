//! Every test that docs/SECURITY.md names is there.

use std::{collections::BTreeMap, path::Path};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What stands between backticks and is a file, or a file and the name of a test in it.
fn named(page: &str) -> Vec<(String, Option<String>)> {
    let quoted = page.split('`').skip(1).step_by(2);
    let is_test =
        |path: &str| [".rs", ".sol", ".ts", ".mjs"].iter().any(|ending| path.ends_with(ending));
    quoted
        .filter_map(|text| match text.split_once("::") {
            Some((path, name)) if path.contains('/') => {
                Some((path.to_owned(), Some(name.to_owned())))
            }
            _ => is_test(text).then(|| (text.to_owned(), None)),
        })
        .collect()
}

/// Whether a Rust or Solidity source has a test of that name, which runs.
fn has_test(source: &str, path: &str, name: &str) -> bool {
    let keyword = if path.ends_with(".sol") { "function" } else { "fn" };
    let Some(at) = source.find(&format!("{keyword} {name}(")) else { return false };
    let before = &source[..at];
    let attributes = before.rfind("\n\n").map_or(before, |from| &before[from..]);
    path.ends_with(".sol") || (attributes.contains("test") && !attributes.contains("#[ignore"))
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/SECURITY.md")).unwrap();
    let named = named(&page);
    for (path, name) in &named {
        let source = std::fs::read_to_string(Path::new(ROOT).join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        match name {
            Some(name) => assert!(has_test(&source, path, name), "{path} has no test {name}"),
            None => assert!(source.contains("test"), "{path} has no tests"),
        }
    }
    assert!(named.len() > 80, "{} tests are named", named.len());
}

/// The requirements of levels 1 and 2, by the publisher's list (github.com/OWASP/ASVS, 5.0.0).
const REQUIREMENTS: &str = include_str!("security/asvs-5.0.0.csv");

fn requirements() -> Vec<&'static str> {
    let lines = REQUIREMENTS.lines().skip(1);
    lines.map(|line| line.split_once(',').unwrap().0).collect()
}

/// The rows of the tables under a heading: their cells.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let part = page.split(&format!("\n{heading}\n")).nth(1).unwrap_or_else(|| panic!("{heading}"));
    let part = part.split("\n#").next().unwrap();
    let lines = part.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| items"));
    let cells = |line: &'a str| line.trim_matches('|').split(" | ").map(str::trim).collect();
    lines.map(cells).collect()
}

/// The requirements that a cell names: one, all of a section or chapter, or those of a section from one to another.
fn covered(items: &str) -> Vec<&'static str> {
    let all = requirements();
    let mut found = Vec::new();
    for item in items.split(',').map(str::trim) {
        let before = found.len();
        if let Some((from, to)) = item.split_once(" to ") {
            let (section, _) = from.rsplit_once('.').unwrap();
            assert_eq!(to.rsplit_once('.').unwrap().0, section, "{item} is of two sections");
            let place = |id: &str| all.iter().position(|one| *one == id).expect("no requirement");
            found.extend(&all[place(from)..=place(to)]);
        } else {
            let within = |id: &&&str| **id == item || id.starts_with(&format!("{item}."));
            found.extend(all.iter().filter(within));
        }
        assert!(found.len() > before, "{item} is no requirement of level 1 or 2");
    }
    found
}

#[test]
fn every_requirement_has_a_row_and_every_row_a_test_or_a_gap() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/SECURITY.md")).unwrap();
    let mut told = BTreeMap::new();
    let mut tell = |items: &str| {
        for id in covered(items) {
            assert!(told.insert(id, ()).is_none(), "{id} is there twice");
        }
    };
    for row in rows(&page, "## ASVS 5.0.0, level 2") {
        let [items, how, proof] = row[..] else { panic!("{row:?}") };
        tell(items);
        let shown = named(proof).iter().any(|(_, name)| name.is_some()) || proof.contains("`make ");
        assert!(shown || proof.contains("Gap: "), "{items}: neither a test nor a gap: {proof}");
        assert!(!how.is_empty() || proof.contains("Gap: "), "{items}");
    }
    for row in rows(&page, "### What does not apply") {
        let [items, why] = row[..] else { panic!("{row:?}") };
        tell(items);
        assert!(why.len() > 5, "{items} is left out without a reason");
    }
    let missing: Vec<_> = requirements().into_iter().filter(|id| !told.contains_key(id)).collect();
    assert!(missing.is_empty(), "neither in a row nor left out: {missing:?}");
    assert_eq!(told.len(), 253);
}
