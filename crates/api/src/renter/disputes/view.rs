//! A case as its two sides see it, and what each can do on the chain.

use std::ops::RangeInclusive;

use alloy::primitives::{B256, Bytes};
use domain::{
    dispute::{DisputeCode, DisputeState, Side},
    id::{DisputeId, RentalId},
    rental::{CloseOutcome, RentalState},
    time::{Seconds, UnixSeconds},
};
use escrow::{bindings::Escrow::EndSignatures, calldata};
use serde::Serialize;
use store::{
    Connection, deployment,
    disputes::{self, Case, Evidence, Proposal},
    quotes::Quote,
    rentals::Rental,
};
use utoipa::ToSchema;

use super::{
    facts::{DisputeFacts, facts},
    range::range,
};
use crate::{
    AppState, Problem,
    provider::CallView,
    renter::{
        held::{HeldView, Word, held, word},
        quotes::{terms_of, unit_of},
    },
    views::Time,
};

/// What the contract gives the arbiter after the day in which both sides may dispute.
const ARBITRATION: Seconds = Seconds(14 * 24 * 3_600);

/// What a list shows of a case.
#[derive(Serialize, ToSchema)]
pub(crate) struct DisputeSummary {
    #[schema(value_type = String, example = "dsp_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    id: DisputeId,
    #[schema(value_type = String, example = "rnt_0198f1c2a4b37c1e8d2f6a5b4c3d2e1f")]
    rental_id: RentalId,
    /// `renter` or `provider`.
    #[schema(value_type = String, example = "renter")]
    opened_by: Side,
    /// On which side the caller is.
    #[schema(value_type = String, example = "renter")]
    role: Side,
    #[schema(value_type = String, example = "not_reachable")]
    code: DisputeCode,
    /// `open`: recorded, and the contract has not heard of it. `disputed`: it has. `closed`: it has paid everything.
    /// `withdrawn`: taken back before it heard.
    #[schema(value_type = String, example = "open")]
    state: DisputeState,
    /// Who has disputed on the chain, finally.
    renter_disputes: bool,
    provider_disputes: bool,
    /// How the contract ended the rental.
    #[schema(value_type = Option<String>, example = "resolved")]
    outcome: Option<CloseOutcome>,
    created_at: Time,
    updated_at: Time,
}

/// Something that a side shows.
#[derive(Serialize, ToSchema)]
pub(crate) struct DisputeEvidence {
    #[schema(value_type = String, example = "renter")]
    side: Side,
    /// Of the file; the platform keeps no file.
    #[schema(value_type = String)]
    sha256: B256,
    #[schema(example = "https://example.com/log.txt")]
    uri: String,
    at: Time,
}

/// Billed seconds that a side signed.
#[derive(Serialize, ToSchema)]
pub(crate) struct DisputeProposal {
    seq: u32,
    #[schema(value_type = String, example = "provider")]
    side: Side,
    /// Seconds to be billed in all.
    #[schema(value_type = u32)]
    billed_s: Seconds,
    valid_until: Time,
    /// Both have signed: anybody can send it.
    accepted: bool,
    at: Time,
}

/// A call of the escrow that the caller's wallet can send now.
#[derive(Serialize, ToSchema)]
pub(crate) struct DisputeAction {
    /// `contest`, `dispute`, `concede` or `close_agreed`.
    #[schema(example = "dispute")]
    name: &'static str,
    /// What it does.
    does: &'static str,
    call: CallView,
    /// The last second at which the contract takes it, if there is one.
    until: Option<Time>,
}

/// A dispute.
#[derive(Serialize, ToSchema)]
pub(crate) struct DisputeView {
    #[serde(flatten)]
    summary: DisputeSummary,
    statement: String,
    /// The time that it is about; all of it if left out.
    from: Option<Time>,
    to: Option<Time>,
    facts: DisputeFacts,
    /// What the contract holds, while it does.
    held: Option<HeldView>,
    evidence: Vec<DisputeEvidence>,
    proposals: Vec<DisputeProposal>,
    /// What the caller can do on the chain. Disputes are decided there: by both sides, by the arbiter, or by silence.
    actions: Vec<DisputeAction>,
}

pub(super) fn summary(case: &Case, role: Side) -> DisputeSummary {
    DisputeSummary {
        id: case.id,
        rental_id: case.rental,
        opened_by: case.opened_by,
        role,
        code: case.code,
        state: case.progress.state,
        renter_disputes: case.progress.renter_disputes,
        provider_disputes: case.progress.provider_disputes,
        outcome: case.progress.outcome,
        created_at: Time(case.created_at),
        updated_at: Time(case.updated_at),
    }
}

/// The whole case, for one of its sides.
pub(super) async fn view(
    connection: &mut Connection,
    app: &AppState,
    case: &Case,
    (rental, quote): (&Rental, &Quote),
    role: Side,
) -> Result<DisputeView, Problem> {
    let contract = app.known(deployment::get(connection).await?)?;
    let unit = unit_of(connection, quote.token, contract.chain_id).await?;
    let word = word(connection, rental, quote).await?;
    let shown = disputes::shown(connection, case.id).await?;
    let proposals = disputes::proposals(connection, case.id).await?;
    let now = app.now();
    let signed = proposals.iter().any(|proposal| proposal.accepted.is_some());
    let taken = if signed { range(connection, rental, quote, now).await? } else { None };
    let calls = Calls { quote, to: contract.escrow, rental, word, role, now };
    Ok(DisputeView {
        summary: summary(case, role),
        statement: case.statement.clone(),
        from: case.span.map(|span| Time(span.from)),
        to: case.span.map(|span| Time(span.to)),
        facts: facts(connection, case, (rental, quote), word.as_ref(), now).await?,
        held: held(connection, rental, quote, &unit).await?,
        evidence: shown.into_iter().map(DisputeEvidence::from).collect(),
        actions: calls.possible(case, &proposals, taken.as_ref()),
        proposals: proposals.iter().map(DisputeProposal::from).collect(),
    })
}

impl From<Evidence> for DisputeEvidence {
    fn from(evidence: Evidence) -> Self {
        Self {
            side: evidence.side,
            sha256: evidence.sha256,
            uri: evidence.uri,
            at: Time(evidence.at),
        }
    }
}

impl From<&Proposal> for DisputeProposal {
    fn from(proposal: &Proposal) -> Self {
        Self {
            seq: proposal.seq,
            side: proposal.side,
            billed_s: proposal.billed,
            valid_until: Time(proposal.valid_until),
            accepted: proposal.accepted.is_some(),
            at: Time(proposal.at),
        }
    }
}

/// What the calls that a side can make depend on.
pub(super) struct Calls<'a> {
    pub(super) quote: &'a Quote,
    pub(super) to: alloy::primitives::Address,
    pub(super) rental: &'a Rental,
    pub(super) word: Option<Word>,
    pub(super) role: Side,
    pub(super) now: UnixSeconds,
}

impl Calls<'_> {
    fn action(
        &self,
        name: &'static str,
        does: &'static str,
        calldata: Vec<u8>,
        until: Option<UnixSeconds>,
    ) -> DisputeAction {
        let call = CallView { to: self.to, calldata: calldata.into() };
        DisputeAction { name, does, call, until: until.map(Time) }
    }

    /// Whether this side's wallet could put the case before the contract now, or has.
    pub(super) fn can_be_heard(&self) -> bool {
        match self.rental.progress.state {
            RentalState::Active | RentalState::Interrupted => {
                self.role == Side::Renter && self.quote.holdback > Seconds::ZERO
            }
            RentalState::Contested => true,
            RentalState::AwaitingFunds
            | RentalState::Funded
            | RentalState::Provisioning
            | RentalState::Stopping
            | RentalState::Settling
            | RentalState::Settled
            | RentalState::Expired
            | RentalState::Cancelled
            | RentalState::StartFailed
            | RentalState::Refunding
            | RentalState::Refunded
            | RentalState::Resolved => false,
        }
    }

    /// `taken` are the billed seconds that the contract would take now.
    fn possible(
        &self,
        case: &Case,
        proposals: &[Proposal],
        taken: Option<&RangeInclusive<Seconds>>,
    ) -> Vec<DisputeAction> {
        if matches!(case.progress.state, DisputeState::Closed | DisputeState::Withdrawn) {
            return Vec::new();
        }
        let terms = terms_of(self.quote);
        let mut actions = Vec::new();
        let running =
            matches!(self.rental.progress.state, RentalState::Active | RentalState::Interrupted);
        if running && self.can_be_heard() {
            let since = case.span.map_or(self.quote.holdback, |span| {
                self.now.saturating_since(span.from).min(self.quote.holdback).max(Seconds::ONE)
            });
            let does =
                "stops the rental now and disputes its last seconds: they are held for the arbiter";
            actions.push(self.action("contest", does, calldata::contest(&terms, since), None));
        }
        let contested = self.rental.progress.state == RentalState::Contested;
        if let Some(word) = self.word.filter(|_| contested) {
            if let Some(until) =
                disputable_until(&word, self.role).filter(|until| self.now <= *until)
            {
                let does = "says that you will not have what comes of silence: the arbiter has 14 days, then the \
                            clock decides";
                let call = calldata::dispute(&terms);
                actions.push(self.action("dispute", does, call, Some(until)));
            }
            let does = "gives all held seconds to the other side at once";
            actions.push(self.action("concede", does, calldata::concede(&terms), None));
        }
        if running || contested {
            let both = proposals.iter().rfind(|proposal| {
                let taken = taken.is_some_and(|taken| taken.contains(&proposal.billed));
                proposal.accepted.is_some() && proposal.valid_until >= self.now && taken
            });
            actions.extend(both.map(|proposal| self.agreed(proposal)));
        }
        actions
    }

    fn agreed(&self, proposal: &Proposal) -> DisputeAction {
        let own = Bytes::copy_from_slice(&proposal.signature);
        let other = Bytes::copy_from_slice(proposal.accepted.as_deref().unwrap_or_default());
        let signatures = match proposal.side {
            Side::Renter => EndSignatures { renter: own, provider: other },
            Side::Provider => EndSignatures { renter: other, provider: own },
        };
        let (billed, until) = (proposal.billed, proposal.valid_until);
        let call = calldata::close_agreed(&terms_of(self.quote), billed, until, &signatures);
        let does =
            "ends the rental with the seconds that both sides signed, at once; anybody can send it";
        self.action("close_agreed", does, call, Some(until))
    }
}

/// The last second at which a side can dispute, if there is something that it would lose by silence.
fn disputable_until(word: &Word, side: Side) -> Option<UnixSeconds> {
    let (seconds, done) = match side {
        Side::Renter => (word.claim, word.renter_disputes),
        Side::Provider => (word.seconds.saturating_sub(word.claim), word.provider_disputes),
    };
    if seconds == Seconds::ZERO || done {
        return None;
    }
    let disputed = word.renter_disputes || word.provider_disputes;
    let arbitration = u64::from(ARBITRATION.get());
    let until =
        if disputed { word.until.get().saturating_sub(arbitration) } else { word.until.get() };
    Some(UnixSeconds(until))
}
