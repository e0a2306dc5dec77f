//! The planted bugs (`make sim-bugs`) fit the code as it is: each text to be changed is there, once.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use tests::sim::faults::Fault;

#[test]
fn every_planted_bug_can_still_be_planted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let bugs = fs::read_to_string(root.join("tests/bugs/planted.json")).unwrap();
    let bugs: Vec<Value> = serde_json::from_str(&bugs).unwrap();
    assert!(bugs.len() >= 10);
    let names: BTreeSet<&str> = bugs.iter().map(|bug| bug["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), bugs.len(), "each has a name of its own");
    for bug in &bugs {
        for edit in bug["edits"].as_array().unwrap() {
            let file = edit["file"].as_str().unwrap();
            let text = fs::read_to_string(root.join(file)).unwrap();
            let (before, after) =
                (edit["before"].as_str().unwrap(), edit["after"].as_str().unwrap());
            assert_ne!(before, after);
            assert_eq!(text.matches(before).count(), 1, "{}: {before:?} in {file}", bug["name"]);
        }
    }
}

#[test]
fn the_page_names_every_fault() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/SIMULATION.md")).unwrap();
    for fault in Fault::ALL {
        assert!(
            page.contains(fault.word()),
            "docs/SIMULATION.md says nothing of: {}",
            fault.word()
        );
    }
}
