//! Renting as an agent does, with the independent x402 client of the npm registry: a key, some USDC, nothing else.

use std::process::Command;

use crate::market::{Market, installed, run, told, verify};

#[test]
fn an_agent_with_a_key_and_some_usdc_rents_with_one_retry() {
    let market = Market::start();
    let receipt = market.folder.path().join("agents.json");
    let text = run(Command::new("node")
        .current_dir(installed("tests/clients/x402"))
        .args(["agent.mjs", &market.api, &market.rpc])
        .arg(&receipt));

    let stock = told(&text, "stock");
    assert_eq!(stock["spent"], "0", "a client that does not know the scheme pays nothing");
    assert_ne!(stock["refused"], "paid");
    let rented = told(&text, "rented");
    assert_eq!((&rented["requests"], &rented["status"]), (&2.into(), &201.into()));
    assert_eq!(rented["settled"]["success"], true);
    assert_eq!(rented["settled"]["network"], rented["network"]);
    assert_eq!(rented["settled"]["payer"], rented["payer"]);
    assert_eq!(rented["mined"], "success");
    assert_eq!(rented["spent"], rented["deposit"], "the deposit, and not a unit more");
    let settled = told(&text, "settled");
    assert_eq!(settled["coin"], "0", "it never had any of the chain's coin");
    let number = |value: &serde_json::Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let (deposit, refund) = (number(&rented["deposit"]), number(&settled["refund"]));
    assert_eq!(number(&settled["spent"]), deposit.checked_sub(refund).unwrap());

    // and the receipt of it can be checked by a stranger, with the chain
    let (code, found) = verify(&receipt, &market.rpc);
    assert_eq!(
        (&found["verified"], &found["chain_asked"]),
        (&true.into(), &true.into()),
        "{found}"
    );
    assert_eq!((&found["rental"], code), (&rented["rental"], Some(0)));

    // by the machine's key that is known, and no other
    let agent = found["agent"].as_str().unwrap();
    for (agent, code) in [(agent, 0), ("0x00000000000000000000000000000000000000a9", 8)] {
        let verify = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("verify")
            .arg(&receipt)
            .args(["--json", "--agent", agent])
            .output()
            .unwrap();
        assert_eq!(verify.status.code(), Some(code));
        let found: serde_json::Value = serde_json::from_slice(&verify.stdout).unwrap();
        let pointer = found.pointer("/faults/0/pointer").and_then(|value| value.as_str());
        assert_eq!(pointer, (code == 8).then_some("/readings/agent"));
    }

    // who is not answered does not know
    let nobody = format!("http://127.0.0.1:{}", testkit::free_port().unwrap());
    let (code, found) = verify(&receipt, &nobody);
    assert_eq!(code, Some(7), "{found}");

    // a wrong transaction is noticed offline by the seal, and on the chain by itself
    let mut other: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&receipt).unwrap()).unwrap();
    let tx = other["events"][1]["tx"].clone();
    other["events"][0]["tx"] = tx;
    std::fs::write(&receipt, other.to_string()).unwrap();
    let (code, found) = verify(&receipt, &market.rpc);
    let pointers: Vec<&str> = found["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/seal/signature", "/events/0/tx"]);
    assert_eq!(code, Some(8));
}
