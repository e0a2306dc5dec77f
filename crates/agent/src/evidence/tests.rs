use alloy::primitives::Address;
use domain::metering::{ReadingClaim, ReadingRules, check_reading};
use serde_json::json;

use super::*;
use crate::tests::rental;

const RULES: ReadingRules =
    ReadingRules { max_span: MAX_SPAN, max_lag: Seconds(30), max_skew: Seconds(2) };

/// A chain of readings and the service's side of it.
struct Scene {
    evidence: Evidence,
    key: PrivateKeySigner,
    domain: Eip712Domain,
    accepted: Vec<Interval>,
    head: Option<ReadingHead>,
}

impl Scene {
    fn new() -> Self {
        let key = PrivateKeySigner::random();
        let domain = escrow::domain(31337, Address::repeat_byte(1));
        let evidence = Evidence::new(rental(), B256::repeat_byte(7));
        Self { evidence, key, domain, accepted: Vec::new(), head: None }
    }

    fn next(&mut self) -> Option<Signed> {
        self.evidence
            .next(None, || json!({"workload": "running"}), &self.key, &self.domain)
            .unwrap()
    }

    /// Judges a reading as the service does: by its signature and by the domain's rules.
    fn judge(&mut self, signed: &Signed, now: u64) -> Result<wire::Accepted, wire::Problem> {
        let body = &signed.body;
        let reading = Reading {
            rental: B256::repeat_byte(7),
            seq: body.seq,
            from: body.from.get(),
            to: body.to.get(),
            detailHash: reading::detail_hash(&body.detail),
            prevHash: body.prev_hash,
        };
        let signature = hex::decode(&body.signature).unwrap();
        let signer = reading::recover(&reading, &signature, &self.domain);
        assert_eq!(signer, Ok(self.key.address()));
        let claim =
            ReadingClaim { seq: body.seq, from: body.from, to: body.to, prev_hash: body.prev_hash };
        match check_reading(self.head.as_ref(), &claim, UnixSeconds(now), &RULES) {
            Ok(()) => {
                let hash = reading::hash(&reading, &self.domain);
                self.head = Some(ReadingHead { seq: body.seq, to: body.to, hash });
                self.accepted.push(Interval::new(body.from, body.to));
                Ok(wire::Accepted { accepted_seq: body.seq, hash })
            }
            Err(domain::metering::ReadingError::TooLate { not_before }) => {
                Err(problem("reading-too-late", Some(not_before.get()), None))
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Sees the workload and sends what is due until the service has all.
    fn turn(&mut self, now: u64) {
        self.evidence.saw(UnixSeconds(now));
        while let Some(signed) = self.next() {
            match self.judge(&signed, now) {
                Ok(accepted) => assert!(self.evidence.accepted(&accepted)),
                Err(problem) => assert_eq!(self.evidence.refused(&problem), Verdict::Again(None)),
            }
        }
    }

    fn standing(&self) -> Standing {
        standing(self.head)
    }

    fn covered(&self) -> Vec<(u64, u64)> {
        self.accepted.iter().map(|span| (span.from.get(), span.to.get())).collect()
    }
}

fn standing(head: Option<ReadingHead>) -> Standing {
    Standing {
        rental_id: rental(),
        not_before: None,
        not_after: None,
        seq: head.map_or(0, |head| head.seq),
        to: head.map(|head| head.to),
        hash: head.map_or(B256::ZERO, |head| head.hash),
    }
}

fn problem(code: &str, not_before: Option<u64>, not_after: Option<u64>) -> wire::Problem {
    wire::Problem {
        code: code.into(),
        not_before: not_before.map(UnixSeconds),
        not_after: not_after.map(UnixSeconds),
        ..wire::Problem::default()
    }
}

#[test]
fn readings_follow_each_other_without_a_gap_and_chain() {
    let mut scene = Scene::new();
    for now in [100, 102, 104, 104, 103, 107] {
        scene.turn(now);
    }
    assert_eq!(scene.covered(), [(100, 102), (102, 104), (104, 107)]);
    assert_eq!(scene.evidence.head(), scene.head);
}

#[test]
fn a_first_reading_waits_for_the_rental_and_begins_with_it() {
    let mut scene = Scene::new();
    for now in (0..200).step_by(2) {
        scene.evidence.saw(UnixSeconds(now));
        let signed = scene.next();
        if now > 0 {
            // not active yet: no backlog is kept
            assert!(signed.is_some());
            let verdict = scene.evidence.refused(&problem("state-conflict", None, None));
            assert_eq!(verdict, Verdict::Wait);
        }
    }
    scene.evidence.saw(UnixSeconds(200));
    let span = scene.evidence.next_span(None).unwrap();
    assert_eq!(span, Interval::new(UnixSeconds(140), UnixSeconds(200)));
    let verdict = scene.evidence.refused(&problem("reading-too-late", Some(195), None));
    assert_eq!(verdict, Verdict::Again(None));
    scene.turn(200);
    assert_eq!(scene.covered(), [(195, 200)]);
}

#[test]
fn time_in_which_the_agent_was_away_is_not_claimed() {
    let mut scene = Scene::new();
    scene.turn(100);
    scene.turn(110);
    scene.turn(110 + 16);
    scene.turn(128);
    assert_eq!(scene.covered(), [(100, 110), (126, 128)]);
}

#[test]
fn time_in_which_the_workload_was_away_is_not_claimed() {
    let mut scene = Scene::new();
    scene.turn(100);
    scene.turn(102);
    scene.evidence.missed();
    assert_eq!(scene.evidence.next_span(None), None);
    scene.turn(106);
    scene.turn(108);
    assert_eq!(scene.covered(), [(100, 102), (106, 108)]);
}

#[test]
fn after_a_network_outage_only_what_the_service_still_takes_is_claimed() {
    let mut scene = Scene::new();
    scene.turn(100);
    scene.turn(102);
    for now in (104..180).step_by(2) {
        scene.evidence.saw(UnixSeconds(now));
    }
    scene.turn(180);
    // 30 seconds back, in one reading
    assert_eq!(scene.covered(), [(100, 102), (150, 180)]);
}

#[test]
fn a_backlog_goes_out_in_spans_that_the_service_takes() {
    let mut scene = Scene::new();
    scene.turn(100);
    scene.turn(101);
    for now in (102..=250).step_by(2) {
        scene.evidence.saw(UnixSeconds(now));
    }
    let span = scene.evidence.next_span(None).unwrap();
    assert_eq!(span, Interval::new(UnixSeconds(101), UnixSeconds(161)));
}

#[test]
fn a_reading_without_an_answer_is_sent_again_as_it_was() {
    let mut scene = Scene::new();
    scene.evidence.saw(UnixSeconds(100));
    scene.evidence.saw(UnixSeconds(102));
    let first = scene.next().unwrap();
    scene.evidence.saw(UnixSeconds(110));
    assert_eq!(scene.next(), Some(first));
    scene.turn(110);
    assert_eq!(scene.covered(), [(100, 102), (102, 110)]);
}

#[test]
fn after_a_conflict_the_service_says_where_the_chain_stands() {
    let mut scene = Scene::new();
    scene.turn(100);
    scene.turn(102);
    // accepted by the service, but this side never heard
    let before = scene.evidence.clone();
    scene.turn(104);
    scene.evidence = before;
    scene.evidence.saw(UnixSeconds(106));
    assert!(scene.next().is_some());
    let verdict = scene.evidence.refused(&problem("reading-conflict", None, None));
    assert_eq!(verdict, Verdict::LearnHead);
    assert_eq!(scene.next(), None);
    scene.evidence.learn(&scene.standing());
    scene.turn(106);
    assert_eq!(scene.covered(), [(100, 102), (102, 104), (104, 106)]);
    // nobody asked: an older head is not taken over
    scene.evidence.learn(&standing(None));
    assert_eq!(scene.evidence.head(), scene.head);
}

#[test]
fn an_answer_to_another_reading_is_not_believed() {
    let mut scene = Scene::new();
    scene.evidence.saw(UnixSeconds(100));
    scene.evidence.saw(UnixSeconds(102));
    assert!(scene.next().is_some());
    assert!(!scene.evidence.accepted(&wire::Accepted { accepted_seq: 1, hash: B256::ZERO }));
    assert_eq!(scene.evidence.head(), None);
    assert_eq!(scene.next(), None);
}

#[test]
fn a_short_restart_leaves_no_gap_and_a_long_one_does() {
    for (back, expected) in [(110, vec![(104, 110)]), (130, vec![])] {
        let mut scene = Scene::new();
        scene.turn(100);
        scene.turn(104);
        let (rental, escrow_id) = (scene.evidence.rental, scene.evidence.escrow_id);
        scene.evidence = Evidence::resume(rental, escrow_id, scene.head);
        scene.evidence.saw(UnixSeconds(back));
        assert_eq!(scene.next(), None, "the head is not confirmed yet");
        scene.evidence.learn(&scene.standing());
        scene.accepted.clear();
        scene.turn(back);
        assert_eq!(scene.covered(), expected);
    }
}

#[test]
fn the_last_reading_ends_where_the_service_says() {
    let mut scene = Scene::new();
    scene.turn(100);
    scene.evidence.saw(UnixSeconds(105));
    assert!(scene.next().is_some());
    let verdict = scene.evidence.refused(&problem("reading-invalid", None, Some(103)));
    assert_eq!(verdict, Verdict::Again(Some(UnixSeconds(103))));
    let cap = Some(UnixSeconds(103));
    let span = scene.evidence.next_span(cap).unwrap();
    assert_eq!(span, Interval::new(UnixSeconds(100), UnixSeconds(103)));
    assert_eq!(scene.evidence.next_span(Some(UnixSeconds(100))), None);
}

#[test]
fn nothing_outside_the_billed_time_is_claimed() {
    let mut scene = Scene::new();
    scene.evidence.saw(UnixSeconds(100));
    scene.evidence.saw(UnixSeconds(110));
    let bounds = Standing {
        not_before: Some(UnixSeconds(104)),
        not_after: Some(UnixSeconds(107)),
        ..standing(None)
    };
    scene.evidence.learn(&bounds);
    scene.turn(112);
    assert_eq!(scene.covered(), [(104, 107)]);
}
