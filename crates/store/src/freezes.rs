//! Money that waits until somebody knows why a figure differs. A freeze stops two things of its scope: the posting
//! of final events ([`crate::blocks::unapplied`]) and calls to the chain ([`crate::intents::claim`]). Nothing is lost
//! meanwhile: both go on where they stopped once it is lifted.

use alloy_primitives::{Address, B256};
use domain::{id::RentalId, time::UnixSeconds};

use crate::{
    Connection, StoreError,
    convert::{address, hash, seconds, ts},
};

/// Whose money waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everybody's.
    All,
    /// All of one token.
    Token(Address),
    /// One rental's, by its id on the chain.
    Rental(B256),
}

impl Scope {
    /// The stored name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Token(_) => "token",
            Self::Rental(_) => "rental",
        }
    }

    fn subject(&self) -> Option<Vec<u8>> {
        match self {
            Self::All => None,
            Self::Token(token) => Some(token.to_vec()),
            Self::Rental(id) => Some(id.to_vec()),
        }
    }

    fn from_row(name: &str, subject: Option<&[u8]>) -> Result<Self, StoreError> {
        match (name, subject) {
            ("all", None) => Ok(Self::All),
            ("token", Some(subject)) => Ok(Self::Token(address(subject)?)),
            ("rental", Some(subject)) => Ok(Self::Rental(hash(subject)?)),
            (name, _) => Err(StoreError::corrupt(format_args!("a freeze of scope {name}"))),
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Token(token) => write!(f, "token {token}"),
            Self::Rental(id) => write!(f, "rental {id}"),
        }
    }
}

/// Why money waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The chain no longer says which block is final.
    FinalityMissing,
    /// The chain calls less final than it did.
    FinalityBackwards,
    /// A block that was final is no longer in the chain.
    FinalBlockGone,
    /// The contract does not hold what its events add up to.
    ContractDrift,
    /// The ledger does not owe what the events add up to.
    LedgerDrift,
    /// A rental's deposit or its own figures are not what its events add up to.
    RentalDrift,
}

impl Reason {
    const ALL: [Self; 6] = [
        Self::FinalityMissing,
        Self::FinalityBackwards,
        Self::FinalBlockGone,
        Self::ContractDrift,
        Self::LedgerDrift,
        Self::RentalDrift,
    ];

    /// The stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FinalityMissing => "finality_missing",
            Self::FinalityBackwards => "finality_backwards",
            Self::FinalBlockGone => "final_block_gone",
            Self::ContractDrift => "contract_drift",
            Self::LedgerDrift => "ledger_drift",
            Self::RentalDrift => "rental_drift",
        }
    }

    /// True if finality that is there again, and figures that agree on it, are answer enough. Everything else
    /// needs a person.
    #[must_use]
    pub const fn lifts_itself(self) -> bool {
        match self {
            Self::FinalityMissing | Self::FinalityBackwards => true,
            Self::FinalBlockGone | Self::ContractDrift | Self::LedgerDrift | Self::RentalDrift => {
                false
            }
        }
    }

    fn from_name(name: &str) -> Result<Self, StoreError> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == name)
            .ok_or_else(|| StoreError::corrupt(format_args!("a freeze for {name}")))
    }
}

/// A freeze to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFreeze {
    /// Whose money.
    pub scope: Scope,
    /// Why.
    pub reason: Reason,
    /// The figures, for a person.
    pub detail: String,
    /// The newest final block.
    pub block: u64,
}

/// A freeze as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Its number.
    pub id: i64,
    /// Whose money.
    pub scope: Scope,
    /// Why.
    pub reason: Reason,
    /// The figures, for a person.
    pub detail: String,
    /// The newest final block when it began.
    pub block: u64,
    /// When it began.
    pub frozen_at: UnixSeconds,
}

/// Freezes, unless this scope is frozen for this reason already. True if it is new.
///
/// # Errors
/// The database's.
pub async fn freeze(
    tx: &mut Connection,
    new: &NewFreeze,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "INSERT INTO freezes (scope, subject, reason, detail, block, frozen_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        new.scope.name(),
        new.scope.subject(),
        new.reason.as_str(),
        new.detail,
        i64::try_from(new.block).map_err(StoreError::corrupt)?,
        ts(now)?,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The open freezes, `limit` at most: those of everybody's money and of tokens before those of single rentals, of which there
/// may be very many, and the oldest of each first.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn open(connection: &mut Connection, limit: i64) -> Result<Vec<Freeze>, StoreError> {
    sqlx::query!(
        "SELECT id, scope, subject, reason, detail, block, frozen_at FROM freezes
         WHERE lifted_at IS NULL ORDER BY scope = 'rental', id LIMIT $1",
        limit
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Freeze {
            id: row.id,
            scope: Scope::from_row(&row.scope, row.subject.as_deref())?,
            reason: Reason::from_name(&row.reason)?,
            detail: row.detail,
            block: u64::try_from(row.block).map_err(StoreError::corrupt)?,
            frozen_at: seconds(row.frozen_at)?,
        })
    })
    .collect()
}

/// Whose money waits, without why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// Everybody's does.
    pub everything: bool,
    /// Tokens all of whose money does, by address.
    pub tokens: Vec<Address>,
    /// How many single rentals are named.
    pub rentals: u64,
}

/// Whose money waits now. What is said of everybody's and of tokens does not depend on how many rentals are frozen beside.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn frozen(connection: &mut Connection) -> Result<Frozen, StoreError> {
    let rentals = sqlx::query_scalar!(
        r#"SELECT count(DISTINCT subject) AS "rentals!" FROM freezes
           WHERE lifted_at IS NULL AND scope = 'rental'"#
    )
    .fetch_one(&mut *connection)
    .await?;
    let rentals = u64::try_from(rentals).map_err(StoreError::corrupt)?;
    let wide = sqlx::query!(
        "SELECT DISTINCT scope, subject FROM freezes
         WHERE lifted_at IS NULL AND scope <> 'rental' ORDER BY subject"
    )
    .fetch_all(connection)
    .await?;
    let mut frozen = Frozen { rentals, ..Frozen::default() };
    for row in wide {
        match Scope::from_row(&row.scope, row.subject.as_deref())? {
            Scope::All => frozen.everything = true,
            Scope::Token(token) => frozen.tokens.push(token),
            Scope::Rental(_) => {}
        }
    }
    Ok(frozen)
}

/// Whether the rental's money waits: its own, its token's, or everybody's.
///
/// # Errors
/// The database's.
pub async fn is_frozen(connection: &mut Connection, rental: RentalId) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM freezes f, rentals r JOIN quotes q ON q.id = r.quote_id
               WHERE r.id = $1 AND f.lifted_at IS NULL
                 AND (f.scope = 'all' OR f.subject IN (r.escrow_id, q.token))) AS "frozen!""#,
        rental.uuid()
    )
    .fetch_one(connection)
    .await?)
}

/// Whether a token's money waits: all of it, or everybody's.
///
/// # Errors
/// The database's.
pub async fn is_token_frozen(
    connection: &mut Connection,
    token: Address,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM freezes WHERE lifted_at IS NULL
                          AND (scope = 'all' OR subject = $1)) AS "frozen!""#,
        token.as_slice()
    )
    .fetch_one(connection)
    .await?)
}

/// Lifts a freeze, with a note of who looked and what was found. False if it is not open.
///
/// # Errors
/// The database's; [`StoreError::Bug`] if the note is empty or longer than 500 characters.
pub async fn lift(
    tx: &mut Connection,
    id: i64,
    note: &str,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE freezes SET lifted_at = GREATEST($3, frozen_at), lifted_by = $2
         WHERE id = $1 AND lifted_at IS NULL",
        id,
        note,
        ts(now)?
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// From here on the transaction sees the database as it is at this moment, whatever others commit.
///
/// # Errors
/// The database's; [`StoreError::Bug`] if the transaction has read anything before.
pub async fn see_one_moment(tx: &mut Connection) -> Result<(), StoreError> {
    sqlx::query!("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(tx).await?;
    Ok(())
}
