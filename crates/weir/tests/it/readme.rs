//! The README's commands, played as they stand: one bash, block after block, on a market of their own.
//!
//! A block is played if `<!-- run: MARKET -->` stands before it; the market is `demo`, `large`, or `both`. In it a line that
//! begins with `# ` is a line of the answer: the block has to answer these lines, all of them and no others, where `...`
//! stands for anything within a line, and alone for any lines. A block that shows no answer has to succeed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::market::{Market, installed};

const README: &str = include_str!("../../../../README.md");
/// Where the README says that the API and the chain are.
const PLACES: [&str; 2] = ["http://127.0.0.1:8080", "http://127.0.0.1:8545"];
/// As many as the README says that its answers are from.
const OFFERS: u32 = 20_000;
/// Printed after each block; nothing that is asked answers it.
const END: &str = "\u{1e}the block ends\u{1e}";

/// Commands, and what is shown of their answer.
struct Block<'a> {
    /// Where it begins in the README.
    line: usize,
    commands: Vec<&'a str>,
    shown: Vec<&'a str>,
}

fn blocks<'a>(text: &'a str, market: &str) -> Vec<Block<'a>> {
    let lines: Vec<&str> = text.lines().collect();
    let marked = |at: &usize| {
        let mark = lines[*at].strip_prefix("<!-- run: ").and_then(|mark| mark.strip_suffix(" -->"));
        mark.is_some_and(|mark| mark == market || mark == "both")
    };
    let block = |at: usize| {
        assert_eq!(lines[at + 1], "```sh", "line {}: a mark without its block", at + 1);
        let inside = lines[at + 2..].iter().take_while(|line| **line != "```").copied();
        let (shown, commands): (Vec<_>, Vec<_>) = inside.partition(|line| line.starts_with("# "));
        let shown = shown.iter().map(|line| &line[2..]).collect();
        Block { line: at + 2, commands, shown }
    };
    (0..lines.len()).filter(marked).map(block).collect()
}

/// A folder from which everything is where it is in a checkout, and which may be written to.
fn checkout() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    std::fs::create_dir_all(folder.path().join("target/debug")).unwrap();
    installed("contracts");
    installed("tests/clients/x402");
    for (what, place) in [
        (root.join("contracts"), "contracts"),
        (root.join("tests"), "tests"),
        (PathBuf::from(env!("CARGO_BIN_EXE_weir")), "target/debug/weir"),
    ] {
        std::os::unix::fs::symlink(what, folder.path().join(place)).unwrap();
    }
    folder
}

/// Plays the blocks in one bash and holds what each answers against what is shown of it.
fn play(blocks: &[Block], market: &Market) {
    let mut script = "set -euo pipefail\n".to_owned();
    for Block { commands, .. } in blocks {
        script += &format!("{}\necho; echo '{END}'\n", commands.join("\n"));
    }
    for (told, place) in PLACES.into_iter().zip([&market.api, &market.rpc]) {
        script = script.replace(told, place);
    }
    let folder = checkout();
    let bash = Command::new("bash").arg("-c").arg(script).current_dir(&folder).output().unwrap();
    let said = String::from_utf8(bash.stdout).unwrap();
    let errors = String::from_utf8_lossy(&bash.stderr);
    println!("{said}{errors}");
    let answers: Vec<&str> = said.split(END).collect();
    for (Block { line, shown, .. }, answer) in blocks.iter().zip(&answers) {
        let told: Vec<&str> = answer.trim().lines().map(str::trim_end).collect();
        let ended = answers.len() > blocks.len() || !std::ptr::eq(answer, answers.last().unwrap());
        assert!(ended, "README.md:{line}: a command of the block fails: {errors}");
        assert!(
            shown.is_empty() || is_answer(shown, &told),
            "README.md:{line}: it shows\n{}\nand the answer is\n{}",
            shown.join("\n"),
            told.join("\n")
        );
    }
    assert!(bash.status.success(), "{}", bash.status);
}

fn is_answer(shown: &[&str], told: &[&str]) -> bool {
    match shown.split_first() {
        None => told.is_empty(),
        Some((&"...", rest)) => (0..=told.len()).any(|left| is_answer(rest, &told[left..])),
        Some((line, rest)) => told
            .split_first()
            .is_some_and(|(first, others)| is_line(line, first) && is_answer(rest, others)),
    }
}

fn is_line(shown: &str, told: &str) -> bool {
    let (first, parts) = shown.split_once("...").map_or((shown, None), |(a, b)| (a, Some(b)));
    let (Some(mut rest), Some(parts)) = (told.strip_prefix(first), parts) else {
        return shown == told;
    };
    let parts: Vec<&str> = parts.split("...").collect();
    let (last, middle) = parts.split_last().unwrap();
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn what_is_shown_is_held_against_what_is_answered() {
    for (shown, told) in [
        ("a", "a"),
        ("id ... and ...", "id 7 and 8"),
        ("...", ""),
        ("a\n...", "a\nb\nc"),
        ("a\n...", "a"),
        ("...\nb\n...\nd", "a\nb\nc\nd"),
        (r#"{"id":"...","n":1,...}"#, r#"{"id":"x","n":1,"m":2}"#),
    ] {
        let [shown, told] = [shown, told].map(|text| text.lines().collect::<Vec<_>>());
        assert!(is_answer(&shown, &told), "{shown:?} is shown, {told:?} told");
    }
    for (shown, told) in [
        ("a", "b"),
        ("a", "a\nb"),
        ("a\nb", "a"),
        ("id ... and 8", "id 7 and 9"),
        ("a...b...a", "aba b"),
        ("...\nb", "a\nc"),
        (r#"{"n":1,...}"#, r#"{"n":12,"m":2}"#),
    ] {
        let [shown, told] = [shown, told].map(|text| text.lines().collect::<Vec<_>>());
        assert!(!is_answer(&shown, &told), "{shown:?} is shown, {told:?} told");
    }
}

#[test]
fn every_block_of_commands_is_played() {
    let all = README.lines().filter(|line| *line == "```sh").count();
    let [demo, large, both] = ["demo", "large", "both"].map(|of| blocks(README, of).len());
    // `both` are in either; the two commands at the beginning make this test run
    assert_eq!(demo + large - both, all - 1);
    assert!(!README.contains("| jq"), "a fresh machine has no jq");
}

#[test]
fn the_readmes_rentals_are_played() {
    play(&blocks(README, "demo"), &Market::start());
}

#[test]
fn the_readmes_searches_are_answered() {
    play(&blocks(README, "large"), &Market::filled(OFFERS));
}
