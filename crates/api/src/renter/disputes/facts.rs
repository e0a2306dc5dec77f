//! What readings and arithmetic say about a case, before any person does.

use alloy::primitives::B256;
use domain::{
    billing::auto_stop_second,
    dispute::DisputeCode,
    id::RentalId,
    metering::{Interval, counted},
    time::{Seconds, UnixSeconds},
};
use serde::Serialize;
use store::{
    Connection, StoreError,
    disputes::Case,
    quotes::Quote,
    readings::{self, Billing},
    rentals::Rental,
};
use utoipa::ToSchema;

use crate::{Problem, renter::held::Word, views::Time};

/// A stretch without a reading.
#[derive(Serialize, ToSchema)]
pub(crate) struct UncoveredView {
    from: Time,
    to: Time,
    #[schema(value_type = u32)]
    seconds: Seconds,
}

/// What the readings say about the case's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Judgement {
    /// They bear it out.
    Supported,
    /// They say otherwise.
    NotSupported,
    /// They say nothing of it: that is for people.
    NotJudged,
}

/// Facts that anybody with the readings and the chain computes alike.
#[derive(Serialize, ToSchema)]
pub(crate) struct DisputeFacts {
    started_at: Option<Time>,
    /// Null while it runs.
    stopped_at: Option<Time>,
    /// Seconds from the start until the end, or until now; no more than the deposit pays for.
    #[schema(value_type = u32)]
    clock_s: Seconds,
    /// Those of them that signed readings cover: what the platform bills.
    #[schema(value_type = u32)]
    covered_s: Seconds,
    /// The others.
    #[schema(value_type = u32)]
    uncovered_s: Seconds,
    /// Where they lie; the newest 50.
    uncovered: Vec<UncoveredView>,
    /// Those of them in the time that the case is about.
    #[schema(value_type = u32)]
    uncovered_in_question_s: Seconds,
    /// What the contract bills if nobody says anything more; null before its clock has stopped.
    #[schema(value_type = Option<u32>)]
    billed_by_default_s: Option<Seconds>,
    readings: u64,
    /// The hash of the newest reading.
    #[schema(value_type = String)]
    readings_root: B256,
    judgement: Judgement,
    /// Why, in a sentence.
    reason: String,
}

/// Gaps that are listed.
const MAX_GAPS: u32 = 50;

pub(super) async fn facts(
    connection: &mut Connection,
    case: &Case,
    (rental, quote): (&Rental, &Quote),
    word: Option<&Word>,
    now: UnixSeconds,
) -> Result<DisputeFacts, Problem> {
    let progress = &rental.progress;
    let head = readings::head(connection, rental.id).await?;
    let ended = progress.stopped_at;
    let auto_stop = auto_stop_second(rental.locked, quote.rate);
    let (mut billing, mut in_question) = (None, Seconds::ZERO);
    if let Some(from) = progress.started_at {
        let window = Interval::new(from, ended.unwrap_or(now));
        let found = readings::billing(connection, rental.id, window, auto_stop, MAX_GAPS).await?;
        let counted = counted(window, auto_stop);
        in_question = missing(connection, rental.id, (counted, &found), case.span).await?;
        billing = Some(found);
    }
    let (clock, billed, gaps) = billing
        .map_or((Seconds::ZERO, Seconds::ZERO, Vec::new()), |b| (b.elapsed, b.billed, b.newest));
    let default = word.map(|word| {
        let held = if word.provider_disputes { word.seconds } else { word.claim };
        word.settled.saturating_add(held)
    });
    let (judgement, reason) = judge(case.code, in_question, billed, default);
    Ok(DisputeFacts {
        started_at: progress.started_at.map(Time),
        stopped_at: ended.map(Time),
        clock_s: clock,
        covered_s: billed,
        uncovered_s: clock.saturating_sub(billed),
        uncovered: gaps
            .into_iter()
            .map(|gap| UncoveredView {
                from: Time(gap.from),
                to: Time(gap.to),
                seconds: gap.seconds(),
            })
            .collect(),
        uncovered_in_question_s: in_question,
        billed_by_default_s: default,
        readings: head.map_or(0, |head| head.seq),
        readings_root: head.map_or(B256::ZERO, |head| head.hash),
        judgement,
        reason,
    })
}

/// The seconds that count and have no reading, of all of them or of those in question.
async fn missing(
    connection: &mut Connection,
    rental: RentalId,
    (counted, billing): (Interval, &Billing),
    question: Option<Interval>,
) -> Result<Seconds, StoreError> {
    let Some(question) = question else {
        return Ok(billing.elapsed.saturating_sub(billing.billed));
    };
    if !billing.more {
        let parts = billing.newest.iter().map(|gap| gap.clipped_to(question).seconds());
        return Ok(parts.fold(Seconds::ZERO, Seconds::saturating_add));
    }
    let question = question.clipped_to(counted);
    let covered = readings::covered_in(connection, rental, question).await?;
    Ok(question.seconds().saturating_sub(covered))
}

/// The objective codes, by the numbers alone.
fn judge(
    code: DisputeCode,
    in_question: Seconds,
    covered: Seconds,
    default: Option<Seconds>,
) -> (Judgement, String) {
    match (code, default) {
        (DisputeCode::NotReachable, _) if in_question > Seconds::ZERO => {
            let reason = format!("no reading covers {in_question} s of the time in question");
            (Judgement::Supported, reason)
        }
        (DisputeCode::NotReachable, _) => {
            let reason = "signed readings cover all of the time in question".to_owned();
            (Judgement::NotSupported, reason)
        }
        (DisputeCode::Billing, Some(billed)) if billed != covered => {
            let reason = format!("readings cover {covered} s, the contract would bill {billed} s");
            (Judgement::Supported, reason)
        }
        (DisputeCode::Billing, Some(billed)) => {
            (Judgement::NotSupported, format!("{billed} s would be billed, as readings cover them"))
        }
        (DisputeCode::Billing, None) => {
            (Judgement::NotJudged, "the contract's clock has not stopped yet".to_owned())
        }
        (
            DisputeCode::WrongHardware
            | DisputeCode::Underperforming
            | DisputeCode::DataLoss
            | DisputeCode::Abuse,
            _,
        ) => (Judgement::NotJudged, "readings do not show that; show evidence".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_judge_what_they_can() {
        let judged = |code, gap, covered, default: Option<u32>| {
            judge(code, Seconds(gap), Seconds(covered), default.map(Seconds)).0
        };
        for code in DisputeCode::ALL {
            let found = judged(*code, 10, 30, Some(40));
            assert_eq!(found != Judgement::NotJudged, code.is_objective(), "{code}");
        }
        let (reach, bill) = (DisputeCode::NotReachable, DisputeCode::Billing);
        assert_eq!(judged(reach, 1, 30, None), Judgement::Supported);
        assert_eq!(judged(reach, 0, 30, None), Judgement::NotSupported);
        assert_eq!(judged(bill, 0, 30, Some(30)), Judgement::NotSupported);
        assert_eq!(judged(bill, 0, 30, Some(31)), Judgement::Supported);
        assert_eq!(judged(bill, 0, 30, None), Judgement::NotJudged);
    }
}
