//! Every test that docs/SECURITY.md names is there.

use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What stands between backticks and is a file, or a file and the name of a test in it.
fn named(page: &str) -> Vec<(String, Option<String>)> {
    let quoted = page.split('`').skip(1).step_by(2);
    let is_test =
        |path: &str| [".rs", ".sol", ".ts", ".mjs"].iter().any(|ending| path.ends_with(ending));
    quoted
        .filter_map(|text| match text.split_once("::") {
            Some((path, name)) => Some((path.to_owned(), Some(name.to_owned()))),
            None => is_test(text).then(|| (text.to_owned(), None)),
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

#[test]
fn every_requirement_has_a_test_or_says_that_it_has_none() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/SECURITY.md")).unwrap();
    let table = page.split("## ASVS").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| items"));
    let mut seen = 0;
    for row in rows {
        let proof = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let told = proof.contains("Gap") || proof.contains('`');
        assert!(told, "neither a test nor a gap: {row}");
        seen += 1;
    }
    assert!(seen > 40, "{seen} rows");
}
