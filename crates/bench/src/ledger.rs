//! P1: durable double-entry transfers through the store's own ledger. P3: the same with the platform's account in
//! every one of them.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{Address, B256};
use domain::{
    ledger::{AccountKind, Parties, Posting, lock_posting, release_posting},
    money::Amount,
};
use sqlx::PgConnection;
use store::{
    Store,
    ledger::{self, Sourced},
};

use crate::{
    BenchError, Scenario, Server, Slice, Verdict,
    closed_loop::{Client, Step, drive},
    rng::SplitMix64,
    server::{WEIR, analyze},
};

/// Deposits that pay, and providers that earn. Every one exists and is touched again and again.
const ACCOUNTS: u64 = 1_024;
/// Base units in each deposit: more than a run can pay out.
const DEPOSIT: u128 = 1_000_000_000_000_000;
/// The most that one transfer moves, in base units.
const LARGEST: u64 = 1_000_000;

/// Who gets what is paid.
#[derive(Clone, Copy, Debug)]
enum Earner {
    /// One of many, at random.
    Providers,
    /// The platform, always.
    Platform,
}

impl Earner {
    const fn account(self) -> &'static str {
        match self {
            Self::Providers => AccountKind::ProviderEarnings.as_str(),
            Self::Platform => AccountKind::PlatformFees.as_str(),
        }
    }
}

/// Transfers from random deposits to random providers, so many to a transaction.
pub struct Ledger {
    name: &'static str,
    earner: Earner,
    clients: Vec<Payer>,
    connection: PgConnection,
    known: Stored,
}

impl Ledger {
    pub(crate) const SINGLE: &str = "p1_ledger_single";
    pub(crate) const BATCHED: &str = "p1_ledger_batch_100";
    pub(crate) const PLATFORM: &str = "p3_platform_in_every_transfer";

    /// One posting of one transfer per transaction.
    ///
    /// # Errors
    /// If the accounts cannot be made.
    pub async fn single(server: &Server, clients: u16, seed: u64) -> Result<Self, BenchError> {
        Self::new(server, Self::SINGLE, (1, Earner::Providers), clients, seed).await
    }

    /// A hundred postings of one transfer each per transaction, as the watcher posts the events of
    /// a stretch of blocks.
    ///
    /// # Errors
    /// If the accounts cannot be made.
    pub async fn batched(server: &Server, clients: u16, seed: u64) -> Result<Self, BenchError> {
        Self::new(server, Self::BATCHED, (100, Earner::Providers), clients, seed).await
    }

    /// As [`Ledger::batched`], but every transfer is the platform's fee: all of them touch one account.
    ///
    /// # Errors
    /// If the accounts cannot be made.
    pub async fn platform(server: &Server, clients: u16, seed: u64) -> Result<Self, BenchError> {
        Self::new(server, Self::PLATFORM, (100, Earner::Platform), clients, seed).await
    }

    async fn new(
        server: &Server,
        name: &'static str,
        (batch, earner): (u32, Earner),
        clients: u16,
        seed: u64,
    ) -> Result<Self, BenchError> {
        let store = server.store(u32::from(clients)).await?;
        // a token of its own, so that two scenarios in one database do not share accounts
        let own = u64::from(batch) << 8 | earner as u64;
        let token = Address::left_padding_from(&own.to_be_bytes());
        lock_deposits(&store, token).await?;
        let mut connection = server.connect(WEIR).await?;
        let known = stored(&mut connection, token, earner).await?;
        // other facts than another scenario's: what was posted once is not posted again
        let own = SplitMix64::part(seed, own).next();
        let clients = (0..u64::from(clients))
            .map(|client| Payer {
                store: store.clone(),
                rng: SplitMix64::part(own, client),
                token,
                batch,
                earner,
                paid: 0,
            })
            .collect();
        Ok(Self { name, earner, clients, connection, known })
    }

    fn token(&self) -> Address {
        self.clients.first().map_or(Address::ZERO, |client| client.token)
    }
}

impl Scenario for Ledger {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn prepare(&mut self, _span: Duration) -> Result<(), BenchError> {
        analyze(&mut self.connection).await
    }

    async fn slice(&mut self, span: Duration) -> Result<Slice, BenchError> {
        let (clients, slice) = drive(std::mem::take(&mut self.clients), span).await?;
        self.clients = clients;
        Ok(slice)
    }

    /// A posting and a transfer per operation, the exact sum on the providers' accounts, no claim
    /// below zero, and zero over all.
    async fn verify(&mut self, slice: &Slice) -> Result<Verdict, BenchError> {
        let token = self.token();
        let paid: u128 =
            self.clients.iter_mut().map(|client| std::mem::take(&mut client.paid)).sum();
        let now = stored(&mut self.connection, token, self.earner).await?;
        let before = std::mem::replace(&mut self.known, now);
        let postings = now.postings.saturating_sub(before.postings);
        let transfers = now.transfers.saturating_sub(before.transfers);
        let earned = now.earned.saturating_sub(before.earned);
        Ok(Verdict::of([
            (
                postings == slice.count && transfers == slice.count,
                format!(
                    "{} transfers were counted, {postings} postings and {transfers} transfers are stored",
                    slice.count
                ),
            ),
            (u128::try_from(earned) == Ok(paid), format!("{paid} was paid, {earned} was earned")),
            (now.total == 0, format!("the ledger sums to {}", now.total)),
            (now.overdrawn == 0, format!("{} claims are below zero", now.overdrawn)),
        ]))
    }
}

fn parties(deposit: u64, provider: u64, token: Address) -> Parties {
    Parties {
        escrow_id: escrow_id(deposit, token),
        renter: Address::repeat_byte(0xaa),
        // of full length, like a real one
        provider: Address::from_word(escrow_id(provider, token)),
        treasury: Address::repeat_byte(0xbb),
        token,
    }
}

/// An id that is a number spread over 32 bytes, and another one in each token.
fn escrow_id(number: u64, token: Address) -> B256 {
    let seed = token
        .as_slice()
        .iter()
        .fold(number, |sum, byte| sum.wrapping_mul(257).wrapping_add(u64::from(*byte)));
    B256::from(SplitMix64::part(seed, number).bytes())
}

/// Locks every deposit, and pays each provider one base unit so that its account exists.
async fn lock_deposits(store: &Store, token: Address) -> Result<(), BenchError> {
    let mut postings: Vec<Posting> = Vec::new();
    let amount = |units: u128| Amount::new(units).map_err(BenchError::subject("make an amount"));
    for number in 0..ACCOUNTS {
        let parties = parties(number, number, token);
        postings.push(lock_posting(&parties, amount(DEPOSIT)?));
        postings.push(release_posting(&parties, amount(1)?, Amount::ZERO));
    }
    let at = store.now().seconds();
    let sourced = postings.into_iter().enumerate().map(|(index, posting)| Sourced {
        source: format!("{token}:{index}"),
        at,
        posting,
    });
    post(store, sourced.collect()).await.map(|_| ())
}

async fn post(store: &Store, postings: Vec<Sourced>) -> Result<u64, BenchError> {
    let postings = Arc::new(postings);
    store
        .write::<u64, String, _>("bench.post", move |tx| {
            let postings = postings.clone();
            Box::pin(async move { Ok(ledger::post(tx, &postings).await?) })
        })
        .await
        .map_err(BenchError::subject("post to the ledger"))
}

/// One client.
struct Payer {
    store: Store,
    rng: SplitMix64,
    token: Address,
    batch: u32,
    earner: Earner,
    /// Base units since the last check.
    paid: u128,
}

impl Client for Payer {
    async fn once(&mut self) -> Result<Step, BenchError> {
        let at = self.store.now().seconds();
        let block = B256::from(self.rng.bytes());
        let mut postings = Vec::new();
        let mut sum = 0_u128;
        for index in 0..self.batch {
            let (deposit, provider) = (self.rng.below(ACCOUNTS), self.rng.below(ACCOUNTS));
            let units = u128::from(self.rng.below(LARGEST).saturating_add(1));
            let units_paid = Amount::new(units).map_err(BenchError::subject("make an amount"))?;
            let parties = parties(deposit, provider, self.token);
            let posting = match self.earner {
                Earner::Providers => release_posting(&parties, units_paid, Amount::ZERO),
                Earner::Platform => release_posting(&parties, Amount::ZERO, units_paid),
            };
            // as the watcher names a fact
            postings.push(Sourced { source: format!("{block}:{index}"), at, posting });
            sum = sum.saturating_add(units);
        }
        let fresh = post(&self.store, postings).await?;
        self.paid = self.paid.saturating_add(sum);
        Ok(Step::Done(fresh))
    }
}

/// What the ledger holds.
#[derive(Clone, Copy, Debug)]
struct Stored {
    postings: u64,
    transfers: u64,
    earned: i128,
    total: i128,
    overdrawn: i64,
}

async fn stored(
    connection: &mut PgConnection,
    token: Address,
    earner: Earner,
) -> Result<Stored, BenchError> {
    let doing = "add up the ledger";
    let (postings, entries, earned, total, overdrawn): (i64, i64, String, String, i64) =
        sqlx::query_as(
            "WITH balances AS (
                 SELECT account_id, count(*) AS entries, sum(amount) AS balance
                 FROM ledger_entries WHERE token = $1 GROUP BY account_id)
             SELECT (SELECT count(DISTINCT t.posting_id) FROM ledger_transfers t
                     JOIN ledger_accounts d ON d.id = t.debit_id WHERE d.token = $1)
                  + (SELECT count(*) FROM ledger_postings p
                     WHERE NOT EXISTS (SELECT FROM ledger_transfers t WHERE t.posting_id = p.id)),
                    coalesce(sum(entries), 0)::bigint,
                    coalesce(sum(balance) FILTER (WHERE kind = $2), 0)::text,
                    coalesce(sum(balance), 0)::text,
                    count(*) FILTER (WHERE balance < 0 AND kind <> 'outside')
             FROM balances JOIN ledger_accounts a ON a.id = account_id",
        )
        .bind(token.as_slice())
        .bind(earner.account())
        .fetch_one(connection)
        .await
        .map_err(BenchError::sql(doing))?;
    Ok(Stored {
        postings: u64::try_from(postings).unwrap_or_default(),
        // every transfer has two entries
        transfers: u64::try_from(entries).unwrap_or_default() / 2,
        earned: earned.parse().map_err(BenchError::subject(doing))?,
        total: total.parse().map_err(BenchError::subject(doing))?,
        overdrawn,
    })
}
