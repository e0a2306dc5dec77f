//! What the database says is owed.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, I256};
use store::{
    StoreError,
    ledger::{self, OpenDeposit},
    tokens,
};

use super::replay::Replay;

pub(super) type Sums = BTreeMap<Address, I256>;

/// What the database says is owed.
pub(super) struct Books {
    /// All claims on the escrow.
    pub(super) claims: Sums,
    /// Of them, deposits that are not divided yet.
    pub(super) deposits: Sums,
    /// The same deposits by the rentals' own figures, one by one.
    pub(super) figures: Vec<OpenDeposit>,
    /// Tokens that a deposit may be made in.
    listed: Vec<Address>,
    /// The highest surplus of the contract so far.
    pub(super) given: Sums,
    overdrawn: i64,
}

impl Books {
    pub(super) async fn read(connection: &mut store::Connection) -> Result<Self, StoreError> {
        let mut books = Self {
            claims: Sums::new(),
            deposits: Sums::new(),
            figures: ledger::figures_of_rentals(connection).await?,
            listed: tokens::list(connection)
                .await?
                .into_iter()
                .map(|token| token.address)
                .collect(),
            given: ledger::surpluses(connection).await?.into_iter().collect(),
            overdrawn: 0,
        };
        for total in ledger::totals(connection).await? {
            books.claims.insert(total.token, total.claims);
            books.deposits.insert(total.token, total.deposits);
            books.overdrawn = books.overdrawn.saturating_add(total.overdrawn);
        }
        Ok(books)
    }

    pub(super) fn of(sums: &Sums, token: Address) -> I256 {
        sums.get(&token).copied().unwrap_or_default()
    }

    pub(super) const fn is_sound(&self) -> bool {
        self.overdrawn == 0
    }

    /// Every token that anybody knows of.
    pub(super) fn tokens(&self, replay: &Replay) -> BTreeSet<Address> {
        self.listed.iter().chain(self.claims.keys()).chain(replay.held.keys()).copied().collect()
    }
}
