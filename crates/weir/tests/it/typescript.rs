//! Renting with the client for TypeScript: it is made from the API's description, type-checked, and used as anybody would.

use std::{path::Path, process::Command};

use crate::market::{Market, installed, run, told, verify};
use serde_json::json;

const FOLDER: &str = "crates/api/clients/typescript";

/// The client and its test as JavaScript, somewhere else than in the checkout.
fn built(into: &Path) {
    let client = installed(FOLDER);
    run(Command::new(client.join("node_modules/.bin/tsc"))
        .current_dir(&client)
        .arg("--outDir")
        .arg(into.join("dist")));
    std::fs::copy(client.join("package.json"), into.join("package.json")).unwrap();
    let packages = client.join("node_modules").canonicalize().unwrap();
    std::os::unix::fs::symlink(packages, into.join("node_modules")).unwrap();
}

#[test]
fn the_types_are_made_from_the_description() {
    // it says so itself if src/schema.ts is stale: npm run schema
    run(Command::new("npm")
        .current_dir(installed(FOLDER))
        .args(["run", "schema", "--", "--check"]));
}

#[test]
fn a_wallet_rents_through_a_line_that_breaks() {
    let built_to = tempfile::tempdir().unwrap();
    built(built_to.path());
    let market = Market::start();
    let receipt = market.folder.path().join("receipt.json");
    let text = run(Command::new("node")
        .arg(built_to.path().join("dist/test/rent.js"))
        .args([&market.api, &market.rpc])
        .arg(&receipt));

    let refused = told(&text, "refused");
    assert_eq!(refused["stranger"], "unauthenticated");
    assert!(refused["elsewhere"].as_str().unwrap().contains("says that it is"), "{refused}");
    assert_eq!((&refused["problem"], &refused["retryable"]), (&true.into(), &false.into()));
    assert!(refused["pointer"].as_str().unwrap().starts_with("/offer_id"), "{refused}");
    assert_eq!(refused["logged"], 32);

    // the answer was lost, the same key was sent again
    let booked = told(&text, "booked");
    assert_eq!((&booked["cuts"], &booked["rentals"]), (&1.into(), &json!([booked["rental"]])));
    let careful = told(&text, "careful");
    let [dearer, other, pinned] = [0, 1, 2].map(|at| careful["notSigned"][at].as_str().unwrap());
    assert!(dearer.contains("deposit") && other.contains("terms") && pinned.contains("terms"));

    // each entry once, though the line broke in the middle of one
    let followed = told(&text, "followed");
    assert_eq!(followed["cuts"], 2);
    assert_eq!(followed["live"], followed["told"]);
    let ids: Vec<u64> = followed["live"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap().parse().unwrap())
        .collect();
    assert!(ids.len() > 5 && ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    assert_eq!(followed["rest"].as_array().unwrap(), &followed["told"].as_array().unwrap()[2..]);
    assert!(followed["costs"].as_u64().unwrap() > 0);
    assert_eq!(followed["states"].as_array().unwrap().last().unwrap(), "settled");

    let settled = told(&text, "settled");
    assert_eq!(settled["coin"], "0", "a signature was enough");
    let (code, found) = verify(&receipt, &market.rpc);
    assert_eq!(
        (code, &found["verified"], &found["chain_asked"]),
        (Some(0), &true.into(), &true.into()),
        "{found}"
    );
    assert_eq!(found["rental"], settled["rental"]);

    // busy for two seconds, then told to come again after one
    let again = told(&text, "again");
    assert!(again["patient"].as_u64().unwrap() >= 2_000, "{again}");
    let away: Vec<u64> = serde_json::from_value(again["away"].clone()).unwrap();
    assert!(away.len() == 1 && away[0] >= 950, "{again}");
    assert_eq!(again["live"], again["told"]);
    let [second, first] = [&again["rentals"][0], &again["rentals"][1]];
    assert_eq!(again["states"], json!([[second, "settled"], [first, "settled"]]));
    assert!(again["notSent"].as_str().unwrap().contains("this deposit"), "{again}");
    let [lock, escrow] = ["lock", "escrow"].map(|name| again[name].as_str().unwrap());
    assert!(lock.eq_ignore_ascii_case(escrow));
    assert_eq!((&again["unchanged"], again.get("token")), (&304.into(), None));
}
