//! Which migrations a database has, beside those that this program was built with: whether the two can
//! work together, and what to do if not.
//!
//! Migrations go forward only, and a program must work on the schema of its successor, so that both can
//! run while one replaces the other. A migration that its predecessor cannot live with says so in its
//! file's name: `NNNN_breaking_WHAT.sql`. An older program then refuses to start.

use std::fmt;

use sqlx::{AssertSqlSafe, Row as _};

use crate::{Connection, MIGRATOR, StoreError};

/// How the name of a migration begins that older programs cannot work with.
const BREAKING: &str = "breaking";

/// A migration that this program does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newer {
    /// Its number.
    pub version: i64,
    /// What its file's name says.
    pub description: String,
}

impl Newer {
    /// True if a program that does not know it must not work with its database.
    #[must_use]
    pub fn breaks(&self) -> bool {
        self.description.split(' ').next() == Some(BREAKING)
    }
}

/// A database's migrations beside the program's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// The newest that is applied.
    pub newest: Option<i64>,
    /// Built in and not applied.
    pub pending: Vec<i64>,
    /// Applied, and not what is built in under this number.
    pub changed: Vec<i64>,
    /// Applied by a newer program.
    pub newer: Vec<Newer>,
}

/// Why a program must not work with a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The database is older.
    Pending(Vec<i64>),
    /// The database is newer, and the program cannot live with that.
    Breaking(Newer),
    /// They have parted ways.
    Changed(Vec<i64>),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending(versions) => {
                let versions = listed(versions);
                write!(f, "the database lacks migration {versions}; run `weir migrate` first")
            }
            Self::Breaking(Newer { version, description }) => write!(
                f,
                "the database is newer than this program and cannot be used by it: migration {version} \
                 ({description}) is unknown here; start the newer weir"
            ),
            Self::Changed(versions) => write!(
                f,
                "migration {} of the database is not the one that this program was built with; \
                 DATABASE_URL names another project's database, or the program was built from changed files",
                listed(versions)
            ),
        }
    }
}

fn listed(versions: &[i64]) -> String {
    versions.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}

impl Schema {
    /// Whether this program can work with the database as it is. One that is newer by migrations which break
    /// nothing can be worked with.
    ///
    /// # Errors
    /// [`Misfit`], whose text says what to do.
    pub fn usable(&self) -> Result<(), Misfit> {
        self.migratable()?;
        if self.pending.is_empty() { Ok(()) } else { Err(Misfit::Pending(self.pending.clone())) }
    }

    /// Whether this program may apply its migrations.
    ///
    /// # Errors
    /// [`Misfit`], whose text says what to do.
    pub fn migratable(&self) -> Result<(), Misfit> {
        if !self.changed.is_empty() {
            return Err(Misfit::Changed(self.changed.clone()));
        }
        match self.newer.iter().find(|newer| newer.breaks()) {
            Some(breaking) => Err(Misfit::Breaking(breaking.clone())),
            None => Ok(()),
        }
    }
}

/// Reads which migrations are applied.
///
/// # Errors
/// The database's.
pub async fn look(connection: &mut Connection) -> Result<Schema, StoreError> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    // not by query!: on a database that was never migrated the table is not there
    let statement = if exists {
        "SELECT version, description, checksum FROM _sqlx_migrations WHERE success ORDER BY version"
    } else {
        "SELECT 0::bigint, ''::text, ''::bytea WHERE false"
    };
    let rows = sqlx::query(AssertSqlSafe(statement)).fetch_all(connection).await?;
    let mut applied: Vec<(i64, String, Vec<u8>)> = Vec::with_capacity(rows.len());
    for row in rows {
        applied.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    Ok(compare(&applied))
}

fn compare(applied: &[(i64, String, Vec<u8>)]) -> Schema {
    let mut schema =
        Schema { newest: applied.iter().map(|(version, ..)| *version).max(), ..Schema::default() };
    for known in MIGRATOR.iter() {
        match applied.iter().find(|(version, ..)| *version == known.version) {
            None => schema.pending.push(known.version),
            Some((.., checksum)) if **checksum != *known.checksum => {
                schema.changed.push(known.version);
            }
            Some(_) => {}
        }
    }
    for (version, description, _) in applied {
        if !MIGRATOR.iter().any(|known| known.version == *version) {
            schema.newer.push(Newer { version: *version, description: description.clone() });
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in() -> Vec<(i64, String, Vec<u8>)> {
        MIGRATOR
            .iter()
            .map(|known| (known.version, known.description.to_string(), known.checksum.to_vec()))
            .collect()
    }

    fn newer(description: &str) -> (i64, String, Vec<u8>) {
        (9_999, description.to_owned(), vec![1])
    }

    #[test]
    fn the_own_schema_and_a_newer_one_that_breaks_nothing_can_be_used() {
        let mut applied = built_in();
        assert_eq!(compare(&applied).usable(), Ok(()));
        applied.push(newer("add breaking news")); // the word at another place means nothing
        let schema = compare(&applied);
        assert_eq!((schema.newer.len(), schema.newest), (1, Some(9_999)));
        assert_eq!(schema.usable(), Ok(()));
    }

    #[test]
    fn an_older_a_breaking_and_a_changed_one_cannot() {
        let mut applied = built_in();
        let last = applied.pop().unwrap();
        let schema = compare(&applied);
        assert_eq!(schema.usable(), Err(Misfit::Pending(vec![last.0])));
        assert_eq!(schema.migratable(), Ok(()), "that is what migrating is for");
        assert!(schema.usable().unwrap_err().to_string().contains("weir migrate"));

        let mut applied = built_in();
        applied.push(newer("breaking drop things"));
        let misfit = compare(&applied).migratable().unwrap_err();
        assert!(misfit.to_string().contains("9999 (breaking drop things)"), "{misfit}");

        let mut applied = built_in();
        applied[0].2 = vec![0];
        assert_eq!(compare(&applied).migratable(), Err(Misfit::Changed(vec![applied[0].0])));
    }
}
