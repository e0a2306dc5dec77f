use alloy::{
    primitives::{Address, B256},
    sol_types::SolCall as _,
};
use chain::FeePolicy;
use domain::{
    id::RentalId,
    money::{Amount, FeeBps},
    rate::TokenRate,
    terms::RentalTerms,
    time::Seconds,
};
use escrow::bindings::Escrow;
use store::intents::Intent;
use uuid::Uuid;

use super::*;

const NOW: UnixSeconds = UnixSeconds(1_000);

fn settings() -> LaneSettings {
    LaneSettings::with_fees(FeePolicy { tip_floor: 1, max_fee_ceiling: 10 })
}

fn item(number: u8, call: Call) -> Item {
    Item {
        claimed: Claimed {
            intent: Intent {
                id: Uuid::from_u128(u128::from(number)),
                rental: RentalId::from_uuid(Uuid::from_u128(u128::from(number))),
                call,
                deferrals: 0,
            },
            terms: RentalTerms {
                renter: Address::repeat_byte(1),
                provider: Address::repeat_byte(2),
                token: Address::ZERO,
                rate: TokenRate::new(Amount::new(3_600).unwrap()).unwrap(),
                fee: FeeBps::quotable(1_200).unwrap(),
                start_by: UnixSeconds(2_000),
                holdback: Seconds(0),
                order_hash: B256::repeat_byte(number),
            },
            since: NOW,
            batch_cap: None,
        },
        signatures: EndSignatures::default(),
    }
}

fn close(number: u8) -> Item {
    item(number, Call::Close { stopped_at: NOW, credit: Seconds(0) })
}

fn numbers(groups: &[Vec<Item>]) -> Vec<Vec<u128>> {
    groups
        .iter()
        .map(|group| group.iter().map(|item| item.claimed.intent.id.as_u128()).collect())
        .collect()
}

#[test]
fn calls_of_a_kind_go_together_and_no_batch_is_larger_than_allowed() {
    let settings = LaneSettings { batch: 2, ..settings() };
    let start = |number| item(number, Call::Start { started_at: NOW });
    let items = vec![close(1), start(2), close(3), item(4, Call::Cancel), close(5), start(6)];
    let mut found = numbers(&groups(items, &settings, NOW.millis()));
    found.sort();
    assert_eq!(found, [vec![1, 3], vec![2, 6], vec![4], vec![5]]);
}

#[test]
fn signed_ends_keep_to_their_own_limit() {
    let items: Vec<Item> = (0..100)
        .map(|number| {
            let mut item = close(number);
            item.signatures.provider = vec![1].into();
            item
        })
        .collect();
    let sizes: Vec<usize> = groups(items, &settings(), NOW.millis()).iter().map(Vec::len).collect();
    assert_eq!(sizes, [MAX_SIGNED_BATCH, MAX_SIGNED_BATCH, 20]);
}

#[test]
fn what_came_to_nothing_in_a_batch_goes_in_smaller_ones() {
    let items: Vec<Item> = (0..6)
        .map(|number| {
            let mut item = close(number);
            item.claimed.batch_cap = (number < 4).then_some(2);
            item
        })
        .collect();
    assert_eq!(
        numbers(&groups(items, &settings(), NOW.millis())),
        [vec![0, 1], vec![2, 3], vec![4, 5]]
    );
    let mut alone = close(7);
    alone.claimed.batch_cap = Some(1);
    let found = groups(vec![close(6), alone, close(8)], &settings(), NOW.millis());
    assert_eq!(numbers(&found), [vec![7], vec![6, 8]]);
}

#[test]
fn a_batch_that_is_not_full_waits_for_company() {
    let settings =
        LaneSettings { batch: 2, gather: std::time::Duration::from_secs(2), ..settings() };
    let at = |seconds: u64| UnixSeconds(NOW.get() + seconds).millis();
    assert!(groups(vec![close(1)], &settings, at(1)).is_empty());
    assert_eq!(groups(vec![close(1)], &settings, at(2)).len(), 1);
    assert_eq!(groups(vec![close(1), close(2)], &settings, at(0)).len(), 1, "it is full");
}

#[test]
fn one_item_is_the_single_call_and_more_are_the_batch() {
    assert!(encode(&[close(1)]).starts_with(&Escrow::closeCall::SELECTOR));
    let batch = Escrow::closeBatchCall::abi_decode(&encode(&[close(1), close(2)])).unwrap();
    assert_eq!(batch.items.len(), 2);
    assert_eq!(batch.items[1].terms, close(2).terms());
    assert!(batch.signatures.is_empty(), "nobody signed");
    let mut signed = close(2);
    signed.signatures.renter = vec![7].into();
    let batch = Escrow::closeBatchCall::abi_decode(&encode(&[close(1), signed])).unwrap();
    assert_eq!(batch.signatures.len(), 2);
    assert_eq!(batch.signatures[1].renter, vec![7]);
    let starts = [1, 2].map(|number| item(number, Call::Start { started_at: NOW }));
    assert!(encode(&starts).starts_with(&Escrow::startBatchCall::SELECTOR));
    let finals = [1, 2].map(|number| item(number, Call::Finalize));
    assert!(encode(&finals).starts_with(&Escrow::finalizeBatchCall::SELECTOR));
    let release = |number| item(number, Call::Release { until: NOW });
    assert!(encode(&[release(1)]).starts_with(&Escrow::releaseCall::SELECTOR));
    let batch = encode(&[release(1), release(2)]);
    let batch = Escrow::releaseBatchCall::abi_decode(&batch).unwrap();
    assert_eq!(batch.items, [release(1).terms(), release(2).terms()]);
}

#[test]
fn room_for_refusing_renters_is_bounded_by_the_cap() {
    assert_eq!(with_headroom(&[close(1)], 100_000), Some(125_000 + 10_000 + FAILED_PUSH));
    let many: Vec<Item> = (0..100).map(close).collect();
    assert_eq!(with_headroom(&many, 4_000_000), Some(5_010_000 + 8 * FAILED_PUSH));
    assert_eq!(with_headroom(&many, 13_000_000), Some(GAS_CAP));
    assert_eq!(with_headroom(&many, 14_000_000), None, "in halves");
    let start = item(1, Call::Start { started_at: NOW });
    assert_eq!(with_headroom(&[start], 40_000), Some(60_000));
    let release = item(1, Call::Release { until: NOW });
    assert_eq!(with_headroom(&[release], 40_000), Some(60_000), "it pushes nothing");
}
