use proptest::prelude::*;

use super::*;

const TEXT: &str = "rnt_0190f1c2a4b37c1e8d2f6a5b4c3d2e1f";

#[test]
fn an_id_has_one_spelling() {
    let id: RentalId = TEXT.parse().unwrap();
    assert_eq!((id.to_string().as_str(), RentalId::PREFIX), (TEXT, "rnt"));
    assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{TEXT}\""));
    for text in [
        "",
        "rnt_",
        "0190f1c2a4b37c1e8d2f6a5b4c3d2e1f",
        "ofr_0190f1c2a4b37c1e8d2f6a5b4c3d2e1f",
        "rnt_0190F1C2A4B37C1E8D2F6A5B4C3D2E1F",
        "rnt_0190f1c2-a4b3-7c1e-8d2f-6a5b4c3d2e1f",
        "rnt_0190f1c2a4b37c1e8d2f6a5b4c3d2e1",
        "rnt_0190f1c2a4b37c1e8d2f6a5b4c3d2e1g",
        " rnt_0190f1c2a4b37c1e8d2f6a5b4c3d2e1f",
    ] {
        assert!(text.parse::<RentalId>().is_err(), "{text}");
    }
}

#[test]
fn a_refusal_says_what_was_expected() {
    let refusal = "ofr_1".parse::<RentalId>().unwrap_err().to_string();
    assert_eq!(
        refusal,
        "expected an id of the form rnt_ and 32 lowercase hex digits, got \"ofr_1\""
    );
    let long = "x".repeat(1_000);
    assert!(long.parse::<RentalId>().unwrap_err().to_string().len() < 200);
}

#[test]
fn prefixes_are_distinct() {
    let prefixes = [
        AccountId::PREFIX,
        MachineId::PREFIX,
        GpuId::PREFIX,
        OfferId::PREFIX,
        QuoteId::PREFIX,
        RentalId::PREFIX,
        TxId::PREFIX,
        CommandId::PREFIX,
        PostingId::PREFIX,
        JobId::PREFIX,
        SessionId::PREFIX,
    ];
    let distinct: std::collections::BTreeSet<_> = prefixes.iter().collect();
    assert_eq!(distinct.len(), prefixes.len());
}

proptest! {
    #[test]
    fn ids_round_trip_and_keep_their_order(a in any::<u128>(), b in any::<u128>()) {
        let id = |bits| QuoteId::from_uuid(Uuid::from_u128(bits));
        prop_assert_eq!(id(a).to_string().parse::<QuoteId>(), Ok(id(a)));
        prop_assert_eq!(id(a).cmp(&id(b)), id(a).to_string().cmp(&id(b).to_string()));
        prop_assert_eq!(id(a).uuid(), Uuid::from_u128(a));
    }
}
