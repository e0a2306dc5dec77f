//! The fake's judgement of readings.

use alloy::primitives::{Address, B256, hex};
use axum::{Json, extract::State, http::HeaderMap};
use domain::{
    id::RentalId,
    metering::{Interval, ReadingClaim, ReadingError, ReadingHead, ReadingRules, check_reading},
    time::{Seconds, UnixSeconds},
};
use escrow::reading;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    CHAIN, ESCROW_ID, Fake, World,
    routes::{Answer, Refused, refused, signed_in},
};

const RULES: ReadingRules =
    ReadingRules { max_span: Seconds(60), max_lag: Seconds(30), max_skew: Seconds(2) };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadingBody {
    rental_id: RentalId,
    seq: u64,
    from: UnixSeconds,
    to: UnixSeconds,
    detail: Value,
    prev_hash: B256,
    signature: String,
}

pub(super) async fn readings(
    State(fake): State<Fake>,
    headers: HeaderMap,
    Json(body): Json<ReadingBody>,
) -> Answer {
    let now = fake.now();
    let mut world = fake.world();
    signed_in(&world, &headers)?;
    let hash = verified(&body, world.agent);
    let answer = Json(json!({ "accepted_seq": body.seq, "hash": hash }));
    if world.head.is_some_and(|head| head.seq == body.seq && head.hash == hash) {
        world.repeated += 1;
        return Ok(answer);
    }
    if let Err(refusal) = judged(&world, &body, now) {
        world.refusals.push(refusal.1);
        return Err(refusal);
    }
    world.head = Some(ReadingHead { seq: body.seq, to: body.to, hash });
    world.accepted.push((Interval::new(body.from, body.to), body.detail));
    if world.lose_readings > 0 {
        world.lose_readings -= 1;
        return Err(refused(502, "lost"));
    }
    Ok(answer)
}

fn verified(body: &ReadingBody, agent: Option<Address>) -> B256 {
    let message = reading::Reading {
        rental: ESCROW_ID,
        seq: body.seq,
        from: body.from.get(),
        to: body.to.get(),
        detailHash: reading::detail_hash(&body.detail),
        prevHash: body.prev_hash,
    };
    let domain = escrow::domain(CHAIN, Address::repeat_byte(9));
    let signature = hex::decode(&body.signature).unwrap();
    assert_eq!(reading::recover(&message, &signature, &domain).ok(), agent, "{}", body.rental_id);
    reading::hash(&message, &domain)
}

/// The real service's order of checks.
fn judged(world: &World, body: &ReadingBody, now: UnixSeconds) -> Result<(), Refused> {
    if world.head.is_some_and(|head| body.seq <= head.seq) {
        return Err(refused(409, "reading-conflict"));
    }
    let Some(started) = world.started_at else {
        return Err(refused(409, "state-conflict"));
    };
    if body.from < started {
        return Err(Refused(422, "reading-invalid", json!({ "not_before": started })));
    }
    if let Some(stopped) = world.stopped_at.filter(|stopped| body.to > *stopped) {
        return Err(Refused(422, "reading-invalid", json!({ "not_after": stopped })));
    }
    let claim =
        ReadingClaim { seq: body.seq, from: body.from, to: body.to, prev_hash: body.prev_hash };
    check_reading(world.head.as_ref(), &claim, now, &RULES).map_err(|error| match error {
        ReadingError::Gap { expected_seq } => {
            Refused(409, "reading-gap", json!({ "expected_seq": expected_seq }))
        }
        ReadingError::Duplicate | ReadingError::BrokenChain => refused(409, "reading-conflict"),
        ReadingError::TooLate { not_before } => {
            Refused(422, "reading-too-late", json!({ "not_before": not_before }))
        }
        ReadingError::Overlaps { not_before } => {
            Refused(422, "reading-invalid", json!({ "not_before": not_before }))
        }
        ReadingError::FromFuture { not_after } => {
            Refused(422, "reading-invalid", json!({ "not_after": not_after }))
        }
        ReadingError::TooLong { .. } | ReadingError::EmptyInterval => {
            refused(422, "reading-invalid")
        }
    })
}
