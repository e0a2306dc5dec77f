//! What people sign, compared with an independent encoder's digests and signatures, field by field
//! (`contracts/tools/vectors.mjs`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::{Eip712Domain, SolStruct},
};
use escrow::{
    Terms,
    signed::{
        self, AgreedEnd, End, PermitWitnessTransferFrom, ReceiveWithAuthorization,
        TokenPermissions, Withdrawal,
    },
    typed_data::{self, TypedData},
};
use serde_json::Value;

fn parsed<T: std::str::FromStr>(message: &Value, name: &str) -> T {
    let text = message[name].as_str().unwrap_or_else(|| panic!("{name} of {message}"));
    text.parse().ok().unwrap_or_else(|| panic!("{name}: {text}"))
}

fn terms(message: &Value) -> Terms {
    Terms {
        renter: parsed(message, "renter"),
        provider: parsed(message, "provider"),
        token: parsed(message, "token"),
        pricePerHour: parsed(message, "pricePerHour"),
        feeBps: parsed(message, "feeBps"),
        startBy: parsed(message, "startBy"),
        holdback: parsed(message, "holdback"),
        orderHash: parsed(message, "orderHash"),
    }
}

fn domain(told: &Value) -> Eip712Domain {
    let text = |name: &str| told.get(name).map(|_| Cow::Owned(parsed::<String>(told, name)));
    Eip712Domain::new(
        text("name"),
        text("version"),
        Some(parsed::<U256>(told, "chainId")),
        Some(parsed::<Address>(told, "verifyingContract")),
        None,
    )
}

fn checked(row: &Value, message: &impl SolStruct, text: &TypedData) {
    let text = serde_json::to_value(text).unwrap();
    let (name, domain) = (&row["name"], domain(&row["domain"]));
    assert_eq!(signed::digest(message, &domain), parsed::<B256>(row, "digest"), "{name}");
    let signature: Bytes = parsed(row, "signature");
    let signer = signed::recover(message, &signature, &domain);
    assert_eq!(signer, Ok(parsed::<Address>(row, "signer")), "{name}");
    // what our wallets are shown is what was signed; letters of addresses may differ in case
    let plain = |value: &Value| -> Value {
        serde_json::from_str(&value.to_string().to_lowercase()).unwrap()
    };
    for part in ["types", "primaryType", "domain", "message"] {
        assert_eq!(plain(&text[part]), plain(&row[part]), "{name}: {part}");
    }
}

fn check(row: &Value) {
    let (message, on) = (&row["message"], domain(&row["domain"]));
    match row["primaryType"].as_str().unwrap() {
        "Terms" => {
            let terms = terms(message);
            checked(row, &terms, &typed_data::terms(&terms, &on));
        }
        "End" => {
            let end = End {
                id: parsed(message, "id"),
                stoppedAt: parsed(message, "stoppedAt"),
                creditSecs: parsed(message, "creditSecs"),
            };
            checked(row, &end, &typed_data::end(&end, &on));
        }
        "AgreedEnd" => {
            let end = AgreedEnd {
                id: parsed(message, "id"),
                billedSecs: parsed(message, "billedSecs"),
                validUntil: parsed(message, "validUntil"),
            };
            checked(row, &end, &typed_data::agreed_end(&end, &on));
        }
        "PrepaidLock" => {
            let deposit: u128 = parsed(message, "deposit");
            let deposit = domain::money::Amount::new(deposit).unwrap();
            let lock = signed::prepaid_lock(&terms(&message["terms"]), deposit);
            checked(row, &lock, &typed_data::prepaid_lock(&lock, &on));
        }
        "Withdrawal" => {
            let withdrawal = Withdrawal {
                account: parsed(message, "account"),
                token: parsed(message, "token"),
                to: parsed(message, "to"),
                amount: parsed(message, "amount"),
                nonce: parsed(message, "nonce"),
                deadline: parsed(message, "deadline"),
            };
            checked(row, &withdrawal, &typed_data::withdrawal(&withdrawal, &on));
        }
        "ReceiveWithAuthorization" => {
            let authorization = ReceiveWithAuthorization {
                from: parsed(message, "from"),
                to: parsed(message, "to"),
                value: parsed(message, "value"),
                validAfter: parsed(message, "validAfter"),
                validBefore: parsed(message, "validBefore"),
                nonce: parsed(message, "nonce"),
            };
            checked(row, &authorization, &typed_data::authorization(&authorization, &on));
        }
        "PermitWitnessTransferFrom" => {
            let permitted = TokenPermissions {
                token: parsed(&message["permitted"], "token"),
                amount: parsed(&message["permitted"], "amount"),
            };
            let permit = PermitWitnessTransferFrom {
                permitted,
                spender: parsed(message, "spender"),
                nonce: parsed(message, "nonce"),
                deadline: parsed(message, "deadline"),
                witness: (&terms(&message["witness"])).into(),
            };
            checked(row, &permit, &typed_data::permit2(&permit, &on));
        }
        other => panic!("{other} is checked nowhere"),
    }
}

#[test]
fn an_independent_encoder_signs_the_same_bytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/typed-data.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut kinds = BTreeMap::new();
    for row in &rows {
        check(row);
        *kinds.entry(row["primaryType"].to_string()).or_insert(0_u32) += 1;
    }
    assert!(rows.len() >= 200 && kinds.len() == 7, "{kinds:?}");
}
