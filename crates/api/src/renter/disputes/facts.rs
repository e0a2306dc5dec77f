//! What readings and arithmetic say about a case, before any person does.

use alloy::primitives::B256;
use domain::{
    billing::auto_stop_second,
    dispute::DisputeCode,
    metering::{Interval, meter},
    time::{Seconds, UnixSeconds},
};
use serde::Serialize;
use store::{Connection, disputes::Case, quotes::Quote, readings, rentals::Rental};
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
const MAX_GAPS: usize = 50;

pub(super) async fn facts(
    connection: &mut Connection,
    case: &Case,
    (rental, quote): (&Rental, &Quote),
    word: Option<&Word>,
    now: UnixSeconds,
) -> Result<DisputeFacts, Problem> {
    let progress = &rental.progress;
    let head = readings::head(connection, rental.id).await?;
    let covered = readings::covered(connection, rental.id).await?;
    let ended = progress.stopped_at;
    let window = progress.started_at.map(|from| Interval::new(from, ended.unwrap_or(now)));
    let metered =
        window.map(|window| meter(window, &covered, auto_stop_second(rental.locked, quote.rate)));
    let (clock, billed, gaps) = metered
        .map_or((Seconds::ZERO, Seconds::ZERO, Vec::new()), |m| (m.elapsed, m.billed, m.outages));
    let question = case.span.or(window);
    let in_question = question.map_or(Seconds::ZERO, |question| {
        gaps.iter()
            .map(|gap| gap.clipped_to(question).seconds())
            .fold(Seconds::ZERO, Seconds::saturating_add)
    });
    let default = word.map(|word| {
        let held = if word.provider_disputes { word.seconds } else { word.claim };
        word.settled.saturating_add(held)
    });
    let (judgement, reason) = judge(case.code, in_question, billed, default);
    let listed = gaps.iter().rev().take(MAX_GAPS).rev();
    Ok(DisputeFacts {
        started_at: progress.started_at.map(Time),
        stopped_at: ended.map(Time),
        clock_s: clock,
        covered_s: billed,
        uncovered_s: clock.saturating_sub(billed),
        uncovered: listed
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
