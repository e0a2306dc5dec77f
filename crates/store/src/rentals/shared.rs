//! Bookings that share a transaction: a few statements for all of them. What is not plain about one of them leaves it
//! out, and it is booked alone (`super::booking`), which says why not. See `docs/adr/0016`.

use std::collections::BTreeSet;

use alloy_primitives::B256;
use domain::{
    id::{AccountId, GpuId, MachineId, OfferId, QuoteId},
    rental::book as book_step,
    time::UnixSeconds,
};
use uuid::Uuid;

use super::{HeldGpu, NewRental, ProgressColumns, Rental};
use crate::{
    Connection, Policy, StoreError,
    convert::{at_least_ten, ts},
    jobs::JobKind,
};

/// How many old keys each new one clears away, as for a key alone.
const KEYS_CLEARED: usize = 20;

/// A booking that would share a transaction.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Who pays.
    pub account: AccountId,
    /// The Idempotency-Key.
    pub key: &'a str,
    /// What is booked.
    pub quote: QuoteId,
    /// Its id on the chain.
    pub escrow_id: B256,
    /// The offer that it prices.
    pub offer: OfferId,
    /// The version of the offer that it prices.
    pub offer_version: u32,
    /// The offer's machine.
    pub machine: MachineId,
    /// How many of its GPUs.
    pub gpu_count: u16,
    /// Until when the machine must be in service.
    pub until: UnixSeconds,
}

/// One that can be booked, as it stays until the transaction ends.
#[derive(Clone, Debug)]
pub struct Clear {
    /// Its place among those that were asked for.
    pub place: usize,
    /// Who owns the offer.
    pub provider: AccountId,
    /// The machine's first free GPUs, as many as are wanted.
    pub gpus: Vec<HeldGpu>,
}

/// One that is booked, and the key of its request.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The rental.
    pub rental: NewRental,
    /// What [`hold_clear`] found for it.
    pub gpus: Vec<GpuId>,
    /// The Idempotency-Key.
    pub key: &'a str,
    /// What makes the request the same request.
    pub request_hash: [u8; 32],
    /// HTTP status of its answer.
    pub status: u16,
}

/// Holds what the bookings depend on, each as [`super::hold_ground`] does, and tells which of them can be booked: the key
/// is new, the quote not booked, the account has room, the offer is as it was quoted, the machine is in service, nobody has locked the terms,
/// and enough GPUs are free. No two may be of one account or of one machine: they would not see each other.
///
/// It never waits for a row: a booking of which somebody holds one is not among the clear ones. What is written later may
/// wait for a key that somebody has written and not committed, a second at most, because others wait with it.
///
/// # Errors
/// The database's, or [`StoreError::Corrupt`].
pub async fn hold_clear(
    tx: &mut Connection,
    wanted: &[Wanted<'_>],
    limit: i64,
    now: UnixSeconds,
) -> Result<Vec<Clear>, StoreError> {
    let held = hold(tx, wanted).await?;
    let of = |place: &usize| wanted.get(*place);
    let (mut places, mut accounts, mut keys, mut escrow_ids) = (vec![], vec![], vec![], vec![]);
    let (mut offers, mut versions, mut machines) = (vec![], vec![], vec![]);
    let (mut counts, mut untils, mut quotes) = (vec![], vec![], vec![]);
    for (place, one) in held.iter().filter_map(|place| Some((place, of(place)?))) {
        places.push(i32::try_from(*place).map_err(StoreError::corrupt)?);
        accounts.push(one.account.uuid());
        keys.push(one.key.to_owned());
        escrow_ids.push(one.escrow_id.to_vec());
        offers.push(one.offer.uuid());
        versions.push(i32::try_from(one.offer_version).map_err(StoreError::corrupt)?);
        machines.push(one.machine.uuid());
        counts.push(i32::from(one.gpu_count));
        untils.push(ts(one.until.max(now))?);
        quotes.push(one.quote.uuid());
    }
    // A statement of its own: it sees what those wrote who held the rows before.
    let rows = sqlx::query!(
        r#"SELECT w.place AS "place!", o.account_id AS provider, g.id, g.vendor_uuid, g.model
           FROM unnest($1::int[], $2::uuid[], $3::text[], $4::bytea[], $5::uuid[], $6::int[], $7::uuid[], $8::int[],
                       $9::timestamptz[], $12::uuid[])
                AS w (place, account, key, escrow_id, offer, version, machine, gpus, until, quote)
           JOIN offers o ON o.id = w.offer AND o.state = 'listed' AND o.version = w.version
           JOIN machines m ON m.id = w.machine AND m.service = 'open'
           CROSS JOIN LATERAL (
               SELECT g.id, g.vendor_uuid, g.model, g.ordinal FROM gpus g
               WHERE g.machine_id = w.machine
                 AND NOT EXISTS (SELECT FROM rental_gpus h WHERE h.gpu_id = g.id AND h.held_until > $10)
               ORDER BY g.ordinal LIMIT w.gpus) g
           WHERE NOT EXISTS (SELECT FROM idempotency_keys k WHERE k.account_id = w.account AND k.key = w.key)
             AND NOT EXISTS (SELECT FROM rentals b WHERE b.quote_id = w.quote)
             AND NOT EXISTS (SELECT FROM chain_events e WHERE e.escrow_id = w.escrow_id)
             AND NOT EXISTS (SELECT FROM maintenance_windows v
                             WHERE v.machine_id = w.machine AND v.cancelled_at IS NULL
                               AND v.during && tstzrange($10, w.until))
             AND (SELECT count(*) FROM (SELECT FROM rentals r WHERE r.renter_id = w.account
                    AND r.state = 'awaiting_funds' AND r.lock_status = 'none' LIMIT $11) u) < $11
           ORDER BY w.place, g.ordinal"#,
        &places,
        &accounts,
        &keys,
        &escrow_ids,
        &offers,
        &versions,
        &machines,
        &counts,
        &untils,
        ts(now)?,
        limit,
        &quotes,
    )
    .fetch_all(tx)
    .await?;
    let mut clear: Vec<Clear> = Vec::with_capacity(wanted.len());
    for row in rows {
        let place = usize::try_from(row.place).map_err(StoreError::corrupt)?;
        let provider = AccountId::from_uuid(row.provider);
        let gpu = HeldGpu {
            gpu: GpuId::from_uuid(row.id),
            vendor_uuid: row.vendor_uuid,
            model: row.model,
        };
        match clear.last_mut().filter(|last| last.place == place) {
            Some(last) => last.gpus.push(gpu),
            None => clear.push(Clear { place, provider, gpus: vec![gpu] }),
        }
    }
    clear.retain(|one| {
        let wanted = wanted.get(one.place);
        wanted.is_some_and(|wanted| one.gpus.len() == usize::from(wanted.gpu_count))
    });
    Ok(clear)
}

/// The places of those whose account, offer and quote nobody else holds; they are ours now. What follows is planned once
/// and for all: to plan it costs more than to do it. That may be while the tables are all but empty, and must be right when they are
/// not: they are never read whole.
async fn hold(tx: &mut Connection, wanted: &[Wanted<'_>]) -> Result<Vec<usize>, StoreError> {
    let accounts = at_least_ten(wanted.iter().map(|one| one.account.uuid()).collect());
    let offers = at_least_ten(wanted.iter().map(|one| one.offer.uuid()).collect());
    let quotes = at_least_ten(wanted.iter().map(|one| one.quote.uuid()).collect());
    let machines = at_least_ten(wanted.iter().map(|one| one.machine.uuid()).collect());
    let row = sqlx::query!(
        r#"SELECT set_config('lock_timeout', '1s', true) AS "patience!",
                  set_config('plan_cache_mode', 'force_generic_plan', true) AS "plan!",
                  set_config('enable_seqscan', 'off', true) AS "whole!",
                  set_config('enable_hashjoin', 'off', true) AS "hashed!",
                  set_config('enable_mergejoin', 'off', true) AS "merged!",
                  set_config('enable_material', 'off', true) AS "kept!",
                  ARRAY(SELECT id FROM accounts WHERE id = ANY($1) FOR NO KEY UPDATE SKIP LOCKED) AS "accounts!",
                  ARRAY(SELECT id FROM offers WHERE id = ANY($2) FOR NO KEY UPDATE SKIP LOCKED) AS "offers!",
                  ARRAY(SELECT id FROM quotes WHERE id = ANY($3) FOR UPDATE SKIP LOCKED) AS "quotes!",
                  ARRAY(SELECT id FROM machines WHERE id = ANY($4) FOR KEY SHARE SKIP LOCKED) AS "machines!""#,
        &accounts,
        &offers,
        &quotes,
        &machines,
    )
    .fetch_one(tx)
    .await?;
    let held = |ids: Vec<Uuid>| ids.into_iter().collect::<BTreeSet<_>>();
    let (accounts, offers, quotes) = (held(row.accounts), held(row.offers), held(row.quotes));
    let machines = held(row.machines);
    let ours = wanted.iter().enumerate().filter(|(_, one)| {
        accounts.contains(&one.account.uuid())
            && offers.contains(&one.offer.uuid())
            && quotes.contains(&one.quote.uuid())
            && machines.contains(&one.machine.uuid())
    });
    Ok(ours.map(|(place, _)| place).collect())
}

/// Writes rentals that were found clear in this transaction, each as [`super::insert`] and
/// [`crate::idempotency::record`] do, all in one statement.
///
/// # Errors
/// [`StoreError::Conflict`] if one of them cannot be booked after all: then none is.
pub async fn insert_clear(
    tx: &mut Connection,
    policy: &Policy,
    entries: &[Entry<'_>],
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let columns = ProgressColumns::write(&book_step().next)?;
    let ids = |of: fn(&NewRental) -> Uuid| -> Vec<Uuid> {
        entries.iter().map(|entry| of(&entry.rental)).collect()
    };
    let escrow_ids: Vec<Vec<u8>> =
        entries.iter().map(|entry| entry.rental.escrow_id.to_vec()).collect();
    let jobs: Vec<Uuid> = entries.iter().map(|_| Uuid::now_v7()).collect();
    let keys: Vec<String> = entries.iter().map(|entry| entry.key.to_owned()).collect();
    let hashes: Vec<Vec<u8>> = entries.iter().map(|entry| entry.request_hash.to_vec()).collect();
    let statuses = entries.iter().map(|entry| i16::try_from(entry.status));
    let statuses: Vec<i16> = statuses.collect::<Result<_, _>>().map_err(StoreError::corrupt)?;
    let held = entries
        .iter()
        .flat_map(|entry| entry.gpus.iter().map(|gpu| (entry.rental.id.uuid(), gpu.uuid())));
    let (holders, gpus): (Vec<Uuid>, Vec<Uuid>) = held.unzip();
    let cleared = i64::try_from(entries.len().saturating_mul(KEYS_CLEARED));
    sqlx::query!(
        r#"WITH new AS MATERIALIZED (
               SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::uuid[], $5::uuid[], $6::uuid[],
                                    $7::uuid[], $8::text[], $9::bytea[], $10::smallint[])
                    AS n (id, quote, escrow_id, renter, provider, machine, job, key, hash, status)),
           made AS (
               INSERT INTO rentals (id, quote_id, escrow_id, renter_id, provider_id, machine_id, state,
                                    lock_status, agent_status, start_status, created_at, updated_at, tier, region)
               SELECT id, quote, escrow_id, renter, provider, machine, $13, $14, $15, $16, $17, $17,
                      (SELECT m.tier FROM machines m WHERE m.id = new.machine),
                      (SELECT m.region FROM machines m WHERE m.id = new.machine)
               FROM new),
           held AS (
               INSERT INTO rental_gpus (rental_id, gpu_id, during)
               SELECT rental, gpu, tstzrange($17, NULL) FROM unnest($11::uuid[], $12::uuid[]) AS h (rental, gpu)),
           told AS (
               INSERT INTO rental_events (rental_id, at, kind, detail)
               SELECT id, $17, 'state', jsonb_build_object('state', $13::text) FROM new),
           due AS (
               INSERT INTO jobs (id, kind, rental_id, due_at) SELECT job, $18, id, $19 FROM new),
           old AS (
               DELETE FROM idempotency_keys WHERE (account_id, key) IN
                  (SELECT account_id, key FROM idempotency_keys
                   WHERE created_at < $17::timestamptz - interval '30 days'
                   ORDER BY created_at LIMIT $20 FOR UPDATE SKIP LOCKED))
           INSERT INTO idempotency_keys (account_id, key, request_hash, status, created_at)
           SELECT renter, key, hash, status, $17 FROM new"#,
        &ids(|new| new.id.uuid()),
        &ids(|new| new.quote_id.uuid()),
        &escrow_ids,
        &ids(|new| new.renter.uuid()),
        &ids(|new| new.provider.uuid()),
        &ids(|new| new.machine.uuid()),
        &jobs,
        &keys,
        &hashes,
        &statuses,
        &holders,
        &gpus,
        columns.state,
        columns.lock_status,
        columns.agent_status,
        columns.start_status,
        ts(now)?,
        JobKind::FundingDeadline.as_str(),
        ts(now.saturating_plus(policy.funding_ttl))?,
        cleared.map_err(StoreError::corrupt)?,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A rental as it is booked.
#[must_use]
pub fn fresh(new: &NewRental) -> Rental {
    super::booking::rental(new, book_step().next)
}

/// A rental as it was when it was booked.
#[must_use]
pub fn as_booked(rental: &Rental, gpu_count: u16) -> Rental {
    fresh(&NewRental {
        id: rental.id,
        quote_id: rental.quote_id,
        escrow_id: rental.escrow_id,
        renter: rental.renter,
        provider: rental.provider,
        machine: rental.machine,
        gpu_count,
        now: rental.created_at,
    })
}
