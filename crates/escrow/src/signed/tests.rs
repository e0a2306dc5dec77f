use alloy::primitives::keccak256;

use super::*;
use crate::typed_data;

fn shown(text: &typed_data::TypedData) -> serde_json::Value {
    serde_json::to_value(text).unwrap()
}

fn terms() -> BoundTerms {
    BoundTerms {
        renter: Address::repeat_byte(1),
        provider: Address::repeat_byte(2),
        token: Address::repeat_byte(3),
        pricePerHour: uint96(Amount::MAX),
        feeBps: 1_200,
        startBy: uint40(UnixSeconds(1_900_000_000)),
        holdback: 3_600,
        orderHash: B256::repeat_byte(4),
    }
}

const TERMS: &str = "Terms(address renter,address provider,address token,uint96 pricePerHour,uint16 feeBps,\
                     uint40 startBy,uint32 holdback,bytes32 orderHash)";

#[test]
fn the_types_are_the_contracts() {
    assert_eq!(sol::Terms::eip712_encode_type(), TERMS);
    assert_eq!(BoundTerms::eip712_encode_type(), TERMS);
    assert_eq!(End::eip712_encode_type(), "End(bytes32 id,uint40 stoppedAt,uint32 creditSecs)");
    assert_eq!(
        AgreedEnd::eip712_encode_type(),
        "AgreedEnd(bytes32 id,uint32 billedSecs,uint40 validUntil)"
    );
    assert_eq!(
        PrepaidLock::eip712_encode_type(),
        format!("PrepaidLock(Terms terms,uint96 deposit){TERMS}")
    );
    assert_eq!(
        Withdrawal::eip712_encode_type(),
        "Withdrawal(address account,address token,address to,uint96 amount,uint256 nonce,uint256 deadline)"
    );
    assert_eq!(
        ReceiveWithAuthorization::eip712_encode_type(),
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,\
         uint256 validBefore,bytes32 nonce)"
    );
    assert_eq!(
        PermitWitnessTransferFrom::eip712_encode_type(),
        format!(
            "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,\
             uint256 deadline,Terms witness){TERMS}TokenPermissions(address token,uint256 amount)"
        )
    );
}

#[test]
fn permit2s_domain_has_no_version() {
    assert_eq!(
        permit2_domain(1).type_hash(),
        keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)")
    );
}

#[test]
fn a_signed_end_names_its_signer_and_covers_every_field() {
    let key = PrivateKeySigner::random();
    let domain = crate::domain(31_337, Address::repeat_byte(9));
    let id = B256::repeat_byte(7);
    let signed = end(id, UnixSeconds(1_000), Seconds(5));
    let signature = sign(&signed, &key, &domain).unwrap();
    assert_eq!(recover(&signed, &signature, &domain), Ok(key.address()));
    for other in [
        end(B256::ZERO, UnixSeconds(1_000), Seconds(5)),
        end(id, UnixSeconds(1_001), Seconds(5)),
        end(id, UnixSeconds(1_000), Seconds(6)),
    ] {
        assert_ne!(recover(&other, &signature, &domain), Ok(key.address()));
    }
    let elsewhere = crate::domain(31_338, Address::repeat_byte(9));
    assert_ne!(recover(&signed, &signature, &elsewhere), Ok(key.address()));
}

#[test]
fn an_authorization_is_of_one_rental() {
    let valid = (UnixSeconds(0), UnixSeconds(2_000));
    let (id, escrow) = (B256::repeat_byte(7), Address::repeat_byte(8));
    let signed = authorization(&terms(), id, escrow, Amount::MAX, valid);
    assert_eq!((signed.nonce, signed.from, signed.to), (id, Address::repeat_byte(1), escrow));
    let domain = token_domain("USD Coin", "2", 137, Address::repeat_byte(3));
    let text = shown(&typed_data::authorization(&signed, &domain));
    assert_eq!(text["primaryType"], "ReceiveWithAuthorization");
    assert_eq!(text["message"]["value"], Amount::MAX.get().to_string());
    assert_eq!(text["domain"]["version"], "2");
}

#[test]
fn typed_data_lists_the_types_that_it_needs() {
    let message =
        permit2(&terms(), Address::repeat_byte(8), Amount::MAX, U256::from(5), UnixSeconds(2_000));
    let text = shown(&typed_data::permit2(&message, &permit2_domain(137)));
    let types: Vec<&String> = text["types"].as_object().unwrap().keys().collect();
    assert_eq!(types, ["EIP712Domain", "PermitWitnessTransferFrom", "Terms", "TokenPermissions"]);
    assert_eq!(text["types"]["EIP712Domain"].as_array().unwrap().len(), 3);
    assert_eq!(text["message"]["witness"]["pricePerHour"], Amount::MAX.get().to_string());
    assert!(text["domain"].get("version").is_none());
    let domain = crate::domain(137, Address::repeat_byte(8));
    let text = shown(&typed_data::prepaid_lock(&prepaid_lock(&terms(), Amount::MAX), &domain));
    assert_eq!(
        text["types"]["PrepaidLock"][0],
        serde_json::json!({"name": "terms", "type": "Terms"})
    );
    let text = shown(&typed_data::end(&end(B256::ZERO, UnixSeconds(7), Seconds(3)), &domain));
    assert_eq!(text["message"]["stoppedAt"], "7");
    let text = shown(&typed_data::agreed_end(
        &agreed_end(B256::ZERO, Seconds(3), UnixSeconds(9)),
        &domain,
    ));
    assert_eq!(text["message"]["billedSecs"], "3");
    let withdrawal = Withdrawal {
        account: Address::ZERO,
        token: Address::ZERO,
        to: Address::ZERO,
        amount: uint96(Amount::MAX),
        nonce: U256::ZERO,
        deadline: U256::MAX,
    };
    let text = shown(&typed_data::withdrawal(&withdrawal, &domain));
    assert_eq!(text["message"]["deadline"], U256::MAX.to_string());
}
