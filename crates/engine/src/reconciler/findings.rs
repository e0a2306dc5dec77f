//! Whose figure it is that differs. A difference freezes what it touches and no more: a rental if its own deposit
//! explains it, else the token.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, I256};
use store::{
    StoreError,
    freezes::{NewFreeze, Reason, Scope},
    ledger::{self, OpenDeposit},
};

use super::{Report, books::Books, replay::Replay};

/// More rentals at once than this is no drift of theirs: everything waits.
const MOST: usize = 50;
/// Open deposits that are compared one by one at every block, in turn: a difference that leaves all totals alone,
/// such as between two deposits, is found within as many blocks as there are pages.
pub(super) const PAGE: usize = 1_000;
/// Deposits that are looked through when a total differs.
const ALL: i64 = 1_000_000;

/// What differs beside the contract's own balance.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// Rentals whose deposit in the ledger, or own figures, are not their events' sum.
    pub(super) rentals: BTreeMap<B256, String>,
    /// Tokens whose ledger differs from the events by what no rental explains.
    pub(super) tokens: BTreeMap<Address, String>,
}

impl Findings {
    /// Looks at all rentals' figures, at some of the ledger's deposits, and at all of them if a total differs.
    pub(super) async fn look(
        connection: &mut store::Connection,
        replay: &Replay,
        pending: &Replay,
        books: &Books,
        misfolded: &[Address],
        after: Option<B256>,
    ) -> Result<Self, StoreError> {
        let mut findings = Self::default();
        let expected = |id: &B256| replay.open_of(id).saturating_sub(pending.open_of(id));
        let mut figures: BTreeMap<B256, I256> = replay.ours().map(|id| (*id, I256::ZERO)).collect();
        figures.extend(books.figures.iter().map(|figure| (figure.escrow_id, figure.open)));
        for (id, figure) in figures {
            let events = expected(&id);
            if figure != events {
                let detail = format!("its figures leave {figure}, its events {events}");
                findings.rentals.insert(id, detail);
            }
        }
        let differs: BTreeSet<Address> = books
            .tokens(replay)
            .into_iter()
            .filter(|token| {
                Books::of(&books.claims, *token).saturating_add(pending.held(*token))
                    != replay.held(*token)
                    || Books::of(&books.deposits, *token).saturating_add(pending.open_in(*token))
                        != replay.open_in(*token)
            })
            .collect();
        let deposits = if differs.is_empty() && books.is_sound() {
            let ids = replay.page_of_open(after, PAGE);
            whole(ledger::deposits_of(connection, &ids).await?, ids)
        } else {
            let found = ledger::open_deposits(connection, ALL).await?;
            whole(found, replay.page_of_open(None, usize::MAX))
        };
        let mut explained: BTreeMap<Address, I256> = BTreeMap::new();
        for (id, (token, open)) in deposits {
            let events = expected(&id);
            if open != events {
                let detail = format!("the ledger has {open} of its deposit, its events {events}");
                findings.rentals.insert(id, detail);
                if let Some(token) = token.or_else(|| replay.token_of(&id)) {
                    let sum = explained.entry(token).or_default();
                    *sum = sum.saturating_add(open.saturating_sub(events));
                }
            }
        }
        for token in differs {
            let ledger = Books::of(&books.claims, token).saturating_add(pending.held(token));
            let (events, rentals) = (replay.held(token), Books::of(&explained, token));
            if ledger.saturating_sub(events) != rentals {
                let detail = format!(
                    "the ledger owes {ledger}, the events add up to {events}; rentals explain {rentals} of it"
                );
                findings.tokens.insert(token, detail);
            }
        }
        if !books.is_sound() {
            for token in ledger::overdrawn_tokens(connection).await? {
                findings.tokens.entry(token).or_insert_with(|| "a claim is below zero".to_owned());
            }
        }
        for token in misfolded {
            let detail = "a folded balance is not its transfers' sum";
            findings.tokens.entry(*token).or_insert_with(|| detail.to_owned());
        }
        Ok(findings)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rentals.is_empty() && self.tokens.is_empty()
    }

    /// What has to wait.
    pub(super) fn freezes(&self, report: &Report) -> Vec<NewFreeze> {
        let block = report.block;
        let new = |scope, reason, detail: String| NewFreeze { scope, reason, detail, block };
        if self.rentals.len() > MOST {
            let detail = format!("the deposits of {} rentals differ", self.rentals.len());
            return vec![new(Scope::All, Reason::LedgerDrift, detail)];
        }
        let mut freezes = Vec::new();
        for figures in report.tokens.iter().filter(|figures| !figures.is_covered()) {
            let detail = format!(
                "the contract holds {}, its events add up to {}, and it was given {}",
                figures.contract, figures.events, figures.given
            );
            freezes.push(new(Scope::Token(figures.token), Reason::ContractDrift, detail));
        }
        for (id, detail) in &self.rentals {
            freezes.push(new(Scope::Rental(*id), Reason::RentalDrift, detail.clone()));
        }
        for (token, detail) in &self.tokens {
            freezes.push(new(Scope::Token(*token), Reason::LedgerDrift, detail.clone()));
        }
        freezes
    }
}

/// The deposits that were found, and nothing for those that were not.
fn whole(found: Vec<OpenDeposit>, ids: Vec<B256>) -> BTreeMap<B256, (Option<Address>, I256)> {
    let mut all: BTreeMap<B256, _> = ids.into_iter().map(|id| (id, (None, I256::ZERO))).collect();
    all.extend(found.into_iter().map(|one| (one.escrow_id, (Some(one.token), one.open))));
    all
}
