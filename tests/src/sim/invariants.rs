//! What must hold after every step, and what must hold once everything has come to rest.
//!
//! The seven of the house: the escrow's balance is what was locked less what was settled and refunded; a rental
//! settles at most once; one row for a signer's nonce; nothing is active without a final lock; billed is within
//! evidence and lock; every effect ends; the ledger sums to zero. The first and the last are asked of production's
//! own reconciler.

use domain::money::Amount;

use super::{
    ends::the_end_is_right,
    world::{TOKEN, World},
};
use crate::{booking::POL, references::REFERENCES};

/// A statement that counts what may not be, and what that is.
type Rule = (&'static str, &'static str);

/// Whether event `e` of rental `r` with quote `q` in block `b` is a release of ours that was mined as early as the rule of
/// releases counts on: the time in which it may be sent, and as long again.
pub const OURS_IN_TIME: &str =
    "EXISTS (SELECT FROM chain_tx_attempts a JOIN chain_intents i ON i.tx_id = a.tx_id
             WHERE a.hash = e.tx_hash AND i.rental_id = r.id AND i.purpose = 'release'
               AND b.timestamp <= to_timestamp((i.args ->> 'until')::bigint + q.holdback_s / 4))";

/// Always.
const ALWAYS: &[Rule] = &[
    (
        "a release was signed after its time",
        "SELECT count(*) FROM chain_tx_attempts a JOIN chain_intents i ON i.tx_id = a.tx_id
         WHERE i.purpose = 'release' AND NOT a.noop
           AND a.created_at >= to_timestamp((i.args ->> 'until')::bigint)",
    ),
    (
        "a rental is closed twice",
        "SELECT count(*) FROM (SELECT FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
         WHERE e.name = 'closed' AND b.final GROUP BY e.escrow_id HAVING count(*) > 1) x",
    ),
    (
        "more is paid than was locked",
        "SELECT count(*) FROM rentals WHERE paid_provider + paid_fee + paid_refund > locked",
    ),
    (
        "a signer's numbers have a gap",
        "SELECT count(*) FROM (SELECT FROM chain_txs GROUP BY signer
                               HAVING max(nonce) + 1 - min(nonce) <> count(*)) x",
    ),
    (
        "a transaction was made for nothing",
        "SELECT count(*) FROM chain_txs t
         WHERE NOT EXISTS (SELECT FROM chain_intents i WHERE i.tx_id = t.id)",
    ),
    (
        "a transaction has no signed bytes",
        "SELECT count(*) FROM chain_txs t
         WHERE NOT EXISTS (SELECT FROM chain_tx_attempts a WHERE a.tx_id = t.id)",
    ),
    (
        "an effect waits for a transaction that has ended",
        "SELECT count(*) FROM chain_intents i JOIN chain_txs t ON t.id = i.tx_id
         WHERE i.state = 'sent' AND t.state IN ('final_ok', 'final_reverted', 'voided')",
    ),
    (
        "two calls of one purpose are under way for a rental",
        "SELECT count(*) FROM (SELECT FROM chain_intents WHERE state IN ('queued', 'sent')
                               GROUP BY rental_id, purpose HAVING count(*) > 1) x",
    ),
    (
        "a transaction is mined in a block that is not ours",
        "SELECT count(*) FROM chain_txs t WHERE t.state = 'mined'
         AND NOT EXISTS (SELECT FROM chain_blocks b WHERE b.hash = t.block_hash)",
    ),
    (
        "a rental runs without a final lock",
        "SELECT count(*) FROM rentals r
         WHERE r.state IN ('active', 'interrupted', 'stopping', 'settling', 'settled', 'contested')
         AND NOT EXISTS (SELECT FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
                         WHERE b.final AND e.name = 'locked' AND e.escrow_id = r.escrow_id)",
    ),
    (
        "a rental runs on less than was quoted",
        "SELECT count(*) FROM rentals r JOIN quotes q ON q.id = r.quote_id
         WHERE r.state IN ('active', 'interrupted', 'stopping', 'settling', 'settled', 'contested')
         AND r.locked < q.deposit",
    ),
    (
        "a rental has ended without the contract's word",
        "SELECT count(*) FROM rentals r WHERE r.state IN ('settled', 'refunded', 'resolved')
         AND NOT EXISTS (SELECT FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
                         WHERE b.final AND e.name = 'closed' AND e.escrow_id = r.escrow_id)",
    ),
    (
        "money was posted for what is not final",
        "SELECT count(*) FROM ledger_postings p
         WHERE p.kind <> 'gas'
         AND NOT EXISTS (SELECT FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
                           WHERE b.final AND p.source = '0x' || encode(e.block_hash, 'hex') || ':' || e.log_index)",
    ),
    (
        "an applied event is not final",
        "SELECT count(*) FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
         WHERE e.applied AND NOT b.final",
    ),
    (
        "a lock was applied without its posting",
        "SELECT count(*) FROM chain_events e WHERE e.applied AND e.name = 'locked'
         AND NOT EXISTS (SELECT FROM ledger_postings p
                         WHERE p.source = '0x' || encode(e.block_hash, 'hex') || ':' || e.log_index)",
    ),
    (
        "a rental's locks are not what the chain says",
        "SELECT count(*) FROM rentals r WHERE r.locked <> COALESCE((
             SELECT sum(COALESCE(e.body ->> CASE e.name WHEN 'locked' THEN 'deposit' ELSE 'amount' END, '0')::numeric)
             FROM chain_events e WHERE e.applied AND e.name IN ('locked', 'topped_up')
               AND e.escrow_id = r.escrow_id), 0)",
    ),
    (
        "the ledger does not sum to zero",
        "SELECT count(*) FROM (SELECT FROM ledger_entries GROUP BY token HAVING sum(amount) <> 0) x",
    ),
    (
        "a final event could not be applied",
        "SELECT count(*) FROM chain_events WHERE failure IS NOT NULL",
    ),
];

/// Once nothing is under way.
const AT_REST: &[Rule] = &[
    ("an effect is open", "SELECT count(*) FROM chain_intents WHERE state IN ('queued', 'sent')"),
    (
        "a transaction is open",
        "SELECT count(*) FROM chain_txs WHERE state NOT IN ('final_ok', 'final_reverted', 'voided')",
    ),
    (
        "a final event waits",
        "SELECT count(*) FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
         WHERE b.final AND NOT e.applied",
    ),
    (
        "a timer is open",
        "SELECT count(*) FROM jobs j JOIN rentals r ON r.id = j.rental_id WHERE j.done_at IS NULL
         AND r.state IN ('settled', 'refunded', 'resolved', 'expired', 'cancelled')",
    ),
    ("GPUs are held", "SELECT count(*) FROM rental_gpus h WHERE upper_inf(h.during)"),
    (
        "a rental has not ended",
        "SELECT count(*) FROM rentals
         WHERE state NOT IN ('settled', 'refunded', 'resolved', 'expired', 'cancelled')",
    ),
    (
        "a deposit is not divided whole",
        "SELECT count(*) FROM rentals WHERE paid_provider + paid_fee + paid_refund <> locked",
    ),
];

/// What went wrong.
pub type Checked = Result<(), String>;

async fn count(world: &World, rules: &[Rule]) -> Checked {
    let parts: Vec<String> = rules.iter().map(|(_, sql)| format!("({sql})")).collect();
    let statement = format!("SELECT ARRAY[{}]::bigint[]", parts.join(", "));
    let statement = sqlx::AssertSqlSafe(statement);
    let counts: Vec<i64> =
        sqlx::query_scalar(statement).fetch_one(world.store.pool()).await.unwrap();
    for ((what, _), count) in rules.iter().zip(counts) {
        if count != 0 {
            return Err(format!("{what} ({count})"));
        }
    }
    Ok(())
}

/// What the readings of a rental cover after its start is what a release of ours has paid at the most.
async fn no_outage_is_released(world: &World) -> Checked {
    let query = format!(
        "SELECT count(*) FROM chain_events e JOIN chain_blocks b ON b.hash = e.block_hash
         JOIN rentals r ON r.escrow_id = e.escrow_id JOIN quotes q ON q.id = r.quote_id
         WHERE e.name = 'released' AND {OURS_IN_TIME} AND (e.body ->> 'settled')::bigint >
             (SELECT COALESCE(sum(extract(epoch FROM g.to_at - GREATEST(g.from_at, r.started_at))), 0)
              FROM readings g WHERE g.rental_id = r.id AND g.to_at > r.started_at)"
    );
    let released: i64 =
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(world.store.pool()).await.unwrap();
    if released == 0 { Ok(()) } else { Err(format!("an outage was released ({released})")) }
}

/// After every step.
pub async fn always(world: &mut World) -> Checked {
    count(world, ALWAYS).await?;
    count(world, REFERENCES).await?;
    no_outage_is_released(world).await?;
    the_contract_is_whole(world)?;
    what_left_is_on_paper(world).await?;
    if world.money_moved().await {
        reconciled(world).await?;
    }
    for at in world.ended().await {
        let rental = world.rental(at).await;
        the_end_is_right(world, at, &rental).await?;
        if rental.locked != Amount::ZERO {
            world.checked.insert(at);
        }
    }
    Ok(())
}

impl World {
    /// Whether there is anything new to reconcile: a block more that is final, or an event more that is applied.
    async fn money_moved(&mut self) -> bool {
        let place: (Option<i64>, i64) = sqlx::query_as(
            "SELECT (SELECT max(number) FROM chain_blocks WHERE final),
                    (SELECT count(*) FROM chain_events WHERE applied)",
        )
        .fetch_one(self.store.pool())
        .await
        .unwrap();
        let moved = place != self.reconciled_at;
        self.reconciled_at = place;
        moved
    }

    /// The rentals that have ended and were not looked at since.
    async fn ended(&self) -> Vec<usize> {
        let ended: Vec<uuid::Uuid> = sqlx::query_scalar(
            "SELECT id FROM rentals WHERE state IN ('settled', 'refunded', 'resolved', 'expired', 'cancelled')",
        )
        .fetch_all(self.store.pool())
        .await
        .unwrap();
        let is_new = |at: &usize| {
            !self.checked.contains(at) && ended.contains(&self.rentals[*at].booked.id.uuid())
        };
        (0..self.rentals.len()).filter(is_new).collect()
    }
}

/// Releases of ours that the chain has done, one for each rental in a batch.
pub async fn releases(world: &World) -> u64 {
    let done = "SELECT count(*) FROM chain_intents WHERE purpose = 'release' AND state = 'done'";
    let done: i64 = sqlx::query_scalar(done).fetch_one(world.store.pool()).await.unwrap();
    u64::try_from(done).unwrap()
}

/// Whether nothing is under way any more.
pub async fn at_rest(world: &World) -> Checked {
    count(world, AT_REST).await
}

/// What is still open, for a person to read.
pub async fn open(world: &World) -> Vec<String> {
    let rentals = world.rentals.iter().enumerate();
    let names: Vec<_> = rentals.map(|(at, tenancy)| (tenancy.booked.id.uuid(), at)).collect();
    let open: Vec<(uuid::Uuid, String)> = sqlx::query_as(
        "SELECT i.rental_id, i.purpose || ' ' || i.state || ', put off ' || i.deferrals || ' times, '
                || COALESCE(i.last_error, 'no error') || ', transaction ' || COALESCE(t.state, 'none')
                || ' ' || COALESCE(t.nonce::text, '') || '; rental ' || r.state
                || ', start ' || r.start_status || ', due in '
                || extract(epoch FROM i.not_before)::bigint - $1
         FROM chain_intents i JOIN rentals r ON r.id = i.rental_id LEFT JOIN chain_txs t ON t.id = i.tx_id
         WHERE i.state IN ('queued', 'sent')
         UNION ALL
         SELECT r.id, 'rental ' || r.state || ', lock ' || r.lock_status || ', start ' || r.start_status
         FROM rentals r WHERE r.state NOT IN ('settled', 'refunded', 'resolved', 'expired', 'cancelled')
         UNION ALL
         SELECT j.rental_id, 'timer ' || j.kind FROM jobs j WHERE j.done_at IS NULL
         ORDER BY 1, 2",
    )
    .bind(i64::try_from(world.now().get()).unwrap())
    .fetch_all(world.store.pool())
    .await
    .unwrap();
    let frozen: Vec<String> = sqlx::query_scalar(
        "SELECT 'frozen: ' || scope || ', ' || reason || ', block ' || block FROM freezes
         WHERE lifted_at IS NULL ORDER BY id",
    )
    .fetch_all(world.store.pool())
    .await
    .unwrap();
    let name = |id| names.iter().find(|(known, _)| *known == id).map_or(usize::MAX, |(_, at)| *at);
    let open = open.into_iter().map(|(id, what)| format!("r{}: {what}", name(id)));
    open.chain(frozen).map(|line| format!("  {line}")).collect()
}

/// What the simulated contract holds is what it owes, at the newest block.
fn the_contract_is_whole(world: &World) -> Checked {
    let chain = world.chain.lock().unwrap();
    let state = &chain.head().after;
    for token in [POL, TOKEN] {
        let (holds, owes) = (state.purse(token, chain.at.escrow), state.owed(token));
        if holds != owes {
            return Err(format!("the simulated escrow holds {holds} of {token} and owes {owes}"));
        }
    }
    Ok(())
}

/// Everything that reached a node was stored before, under its signer's number.
async fn what_left_is_on_paper(world: &World) -> Checked {
    let arrived = std::mem::take(&mut world.chain.lock().unwrap().arrived);
    for (hash, signer, nonce) in arrived {
        let rows: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM chain_tx_attempts a JOIN chain_txs t ON t.id = a.tx_id
             WHERE a.hash = $1 AND t.signer = $2 AND t.nonce = $3",
        )
        .bind(hash.to_vec())
        .bind(signer.to_vec())
        .bind(i64::try_from(nonce).unwrap())
        .fetch_one(world.store.pool())
        .await
        .unwrap();
        if rows != 1 {
            return Err(format!("bytes with number {nonce} left the house and are not on paper"));
        }
    }
    Ok(())
}

/// Contract, events and ledger agree to the unit, by the code that production asks.
async fn reconciled(world: &World) -> Checked {
    match world.books.tick().await {
        Ok(Some(report)) if !report.agrees() => Err(format!("not reconciled: {report:?}")),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot reconcile: {error}")),
    }
}
