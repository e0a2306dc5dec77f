//! The one way a rental's state changes: `domain::rental::step` decides, and everything it asks for is
//! written in the same transaction.

use alloy_primitives::hex;
use domain::{
    billing::auto_stop_second,
    deposit::{DepositTold, DepositUse},
    id::{CommandId, RentalId},
    metering::{CloseCall, counted, next_release},
    rental::{Effect, Party, Progress, RentalEvent, RentalState, StepError, step},
    time::{Seconds, UnixSeconds},
};
use serde_json::json;
use thiserror::Error;

use crate::{
    Connection, Policy, StoreError, TxError, blocks,
    commands::{self, CommandKind, NewCommand},
    convert::ts,
    deposit_notices,
    ends::{self, End},
    evictions,
    intents::{self, Call},
    jobs::{self, JobKind},
    machines, quotes, readings,
    rentals::{self, ProgressColumns, Rental},
    ssh_keys, templates, timeline,
};

/// The oldest measured second that a `close` may name, below the contract's ten minutes so that the
/// transaction has time to be mined.
const CLOSE_WINDOW_S: u32 = 540;

/// How long a release that came to nothing is not asked for again, at the least; so that whoever makes ours fail by being
/// faster each time costs us little.
const RELEASE_AGAIN: Seconds = Seconds(30);
/// And so many times in an interval at the most.
const RELEASE_TRIES: u32 = 24;

/// A rental whose provider gave notice ends to the second if that is looked at so soon.
const ON_TIME: Seconds = Seconds(30);

/// How long a close waits for signatures that let it be final at once.
pub const SIGN_WAIT: Seconds = Seconds(30);

/// What an event did.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The rental after it.
    pub rental: Rental,
    /// False if the event had taken effect before.
    pub changed: bool,
}

/// Why an event was not applied.
#[derive(Debug, Error)]
pub enum AdvanceError {
    /// There is no such rental.
    #[error("the rental does not exist")]
    Missing,
    /// The rental's state refuses the event.
    #[error(transparent)]
    Illegal(#[from] StepError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<R: From<StepError>> From<AdvanceError> for TxError<R> {
    fn from(error: AdvanceError) -> Self {
        match error {
            AdvanceError::Missing => Self::Store(StoreError::Missing("the rental")),
            AdvanceError::Illegal(step) => Self::Refused(step.into()),
            AdvanceError::Store(error) => Self::Store(error),
        }
    }
}

/// Applies an event to a rental: locks its row, steps, saves, writes the effects and the timeline.
/// An event that has taken effect before changes nothing.
///
/// # Errors
/// [`AdvanceError`].
pub async fn apply(
    tx: &mut Connection,
    policy: &Policy,
    id: RentalId,
    event: &RentalEvent,
    now: UnixSeconds,
) -> Result<Applied, AdvanceError> {
    let rental = rentals::lock(tx, id).await?.ok_or(AdvanceError::Missing)?;
    let before = rental.progress;
    let step = step(&before, event)?;
    if step.next == before && step.effects.is_empty() {
        return Ok(Applied { rental, changed: false });
    }
    save(tx, id, &step.next, now).await?;
    let rental = rentals::lock(tx, id).await?.ok_or(AdvanceError::Missing)?;
    if before.state == RentalState::Active && step.next.state != RentalState::Active {
        let dropped = intents::drop_release(tx, id, "the rental is not active any more").await?;
        if dropped && step.next.state == RentalState::Interrupted {
            // it may come back, and is not to wait a whole interval then
            write_effect(tx, policy, &rental, Effect::ArmReleaseAgain, now).await?;
        }
    }
    for effect in &step.effects {
        write_effect(tx, policy, &rental, *effect, now).await?;
    }
    if step.next.state == RentalState::Contested || step.next.state.is_terminal() {
        commands::drop_sign_end(tx, id, now).await?;
    }
    if step.next.state.is_terminal() {
        jobs::close_all(tx, id, now).await?;
        intents::drop_queued(tx, id, "the rental has ended").await?;
    }
    let detail = json!({
        "event": event.name(),
        "state": step.next.state.as_str(),
        "from": before.state.as_str(),
        "end": step.next.end.map(domain::rental::EndReason::as_str),
    });
    let kind = if step.next.state == before.state { "progress" } else { "state" };
    timeline::append(tx, id, now, kind, &detail).await?;
    tracing::info!(
        rental.id = %id,
        rental.event = event.name(),
        rental.state = step.next.state.as_str(),
        "rental advanced"
    );
    Ok(Applied { rental, changed: true })
}

async fn save(
    tx: &mut Connection,
    id: RentalId,
    progress: &Progress,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let columns = ProgressColumns::write(progress)?;
    sqlx::query!(
        "UPDATE rentals
         SET state = $2, lock_status = $3, agent_status = $4, start_status = $5, ready_at = $6,
             started_at = $7, interrupted_since = $8, stopped_at = $9, end_reason = $10,
             version = version + 1, updated_at = $11, held_until = $12
         WHERE id = $1",
        id.uuid(),
        columns.state,
        columns.lock_status,
        columns.agent_status,
        columns.start_status,
        columns.ready_at,
        columns.started_at,
        columns.interrupted_since,
        columns.stopped_at,
        columns.end_reason,
        ts(now)?,
        columns.held_until,
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn write_effect(
    tx: &mut Connection,
    policy: &Policy,
    rental: &Rental,
    effect: Effect,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let id = rental.id;
    match effect {
        Effect::Provision => provision(tx, rental, now).await,
        Effect::Deprovision => {
            commands::drop_access(tx, id, now).await?;
            order(tx, rental, CommandKind::Deprovision, json!({}), now).await
        }
        Effect::SendStart { started_at } => queue(tx, id, &Call::Start { started_at }, now).await,
        Effect::SendRelease { until } => {
            // it is a payment on the way: it need not wait because others were sent before
            intents::queue(tx, id, &Call::Release { until }, now, now).await
        }
        Effect::SendClose => close(tx, rental, now).await,
        Effect::SendCancel => queue(tx, id, &Call::Cancel, now).await,
        Effect::SendFinalize => queue(tx, id, &Call::Finalize, now).await,
        Effect::FreeGpus => rentals::free_gpus(tx, id, now).await,
        Effect::ArmFundingDeadline => {
            let due = now.saturating_plus(policy.funding_ttl);
            jobs::schedule(tx, id, JobKind::FundingDeadline, due).await
        }
        Effect::ArmReadyDeadline => {
            let promised = quotes::ready_within(tx, rental.quote_id).await?;
            let due = now.saturating_plus(promised.unwrap_or(policy.ready_ttl));
            jobs::schedule(tx, id, JobKind::ReadyDeadline, due).await
        }
        Effect::ArmDurationEnd => {
            let due = duration_end(tx, rental).await?;
            let started = rental.progress.started_at.unwrap_or(now);
            let deposit = DepositUse {
                started,
                lasts: due.saturating_since(started),
                billed: Seconds::ZERO,
                lead: policy.expiring_lead,
                now: started,
            };
            let first = deposit.next(DepositTold::default()).unwrap_or(due);
            deposit_notices::arm(tx, id, first).await?;
            arm_end(tx, rental, now).await
        }
        Effect::ArmStopDeadline => {
            let due = now.saturating_plus(policy.stop_grace);
            jobs::schedule(tx, id, JobKind::StopDeadline, due).await
        }
        Effect::ArmRelease => match release_due(tx, policy, rental, now).await? {
            Some(due) => jobs::schedule(tx, id, JobKind::Release, due).await,
            None => Ok(()),
        },
        Effect::ArmReleaseAgain => {
            let wait = Seconds(policy.release_every.get() / RELEASE_TRIES).max(RELEASE_AGAIN);
            jobs::schedule(tx, id, JobKind::Release, now.saturating_plus(wait)).await
        }
        Effect::ArmOutageLimit => {
            let since = rental.progress.interrupted_since.unwrap_or(now);
            let promised = quotes::max_outage(tx, rental.quote_id).await?;
            let due = since.saturating_plus(promised.unwrap_or(policy.max_outage));
            jobs::schedule(tx, id, JobKind::OutageLimit, due).await
        }
        Effect::ArmFinalize => {
            // a close is too late now, and a `finalize` that waits was meant for an earlier deadline
            intents::drop_queued(tx, id, "the clock of the rental has stopped").await?;
            let until = rental.progress.held_until.unwrap_or(now).saturating_plus(Seconds::ONE);
            jobs::schedule(tx, id, JobKind::Finalize, until.max(now)).await
        }
    }
}

/// Queues a call; one that came to nothing before waits a while.
async fn queue(
    tx: &mut Connection,
    id: RentalId,
    call: &Call,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let wait = intents::wait_before(tx, id, call.purpose()).await?;
    intents::queue(tx, id, call, now, now.saturating_plus(wait)).await
}

async fn provision(
    tx: &mut Connection,
    rental: &Rental,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let gpus = rentals::gpus(tx, rental.id).await?;
    let uuids: Vec<&str> = gpus.iter().map(|gpu| gpu.vendor_uuid.as_str()).collect();
    let quote = quotes::get(tx, rental.quote_id).await?.ok_or(StoreError::Missing("the quote"))?;
    let extras = quote.extras;
    // the allowance grows with the time used, so that whoever shapes the traffic must know for how long it is
    let payload = json!({
        "gpus": uuids,
        "ssh_keys": ssh_keys::lines(tx, rental.id).await?,
        "disk_gb": extras.disk_gb,
        "template": extras.template,
        "run": run(tx, extras.template.as_deref()).await?,
        "network": {
            "up_gb": extras.up_gb,
            "down_gb": extras.down_gb,
            "over_s": quote.duration,
        },
    });
    order(tx, rental, CommandKind::Provision, payload, now).await
}

/// What a template says at the version that was ordered; null without one.
async fn run(tx: &mut Connection, template: Option<&str>) -> Result<serde_json::Value, StoreError> {
    let Some(name) = template else { return Ok(serde_json::Value::Null) };
    let (slug, version) = name
        .split_once('@')
        .and_then(|(slug, version)| Some((slug, version.parse().ok()?)))
        .ok_or_else(|| StoreError::corrupt(format_args!("template {name:?}")))?;
    let Some(found) = templates::get(tx, slug, Some(version)).await? else {
        // versions stay for ever; the machine says that it cannot run it, and nobody pays
        tracing::error!(template = name, "the template of a quote is not there");
        return Ok(serde_json::Value::Null);
    };
    let content = found.content;
    Ok(json!({
        "image": content.image,
        "ports": content.ports,
        "env": content.env,
        "content_hash": format!("sha256:{}", hex::encode(found.content_hash)),
    }))
}

async fn order(
    tx: &mut Connection,
    rental: &Rental,
    kind: CommandKind,
    payload: serde_json::Value,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let command = NewCommand {
        id: CommandId::from_uuid(uuid::Uuid::now_v7()),
        machine: rental.machine,
        rental: rental.id,
        kind,
        payload,
        now,
    };
    commands::push(tx, &command).await
}

/// The second at which the deposit is used up.
///
/// # Errors
/// [`StoreError::Missing`] without its quote.
pub async fn duration_end(
    connection: &mut Connection,
    rental: &Rental,
) -> Result<UnixSeconds, StoreError> {
    let quote =
        quotes::get(connection, rental.quote_id).await?.ok_or(StoreError::Missing("the quote"))?;
    let started = rental.progress.started_at.ok_or_else(|| StoreError::corrupt("not started"))?;
    Ok(started.saturating_plus(auto_stop_second(rental.locked, quote.rate)))
}

/// The event that ends a running rental by itself, and when: the deposit is used up, or the provider's notice is over. That ends
/// it to the second; but if it is looked at much later, it was served and used meanwhile, and ends only now.
///
/// # Errors
/// [`StoreError::Missing`] without its quote.
pub async fn planned_end(
    connection: &mut Connection,
    rental: &Rental,
    now: UnixSeconds,
) -> Result<(UnixSeconds, RentalEvent), StoreError> {
    let at = duration_end(connection, rental).await?;
    Ok(match evictions::get(connection, rental.id).await? {
        Some(eviction) if eviction.ends_at < at => {
            let on_time = now.saturating_since(eviction.ends_at) <= ON_TIME;
            let ended = if on_time { eviction.ends_at } else { now.min(at) };
            (eviction.ends_at, RentalEvent::StopRequested { by: Party::Provider, now: ended })
        }
        _ => (at, RentalEvent::DurationEnd { at }),
    })
}

/// Sets the timer of a running rental's end, whether or not it is set.
///
/// # Errors
/// As [`planned_end`].
pub async fn arm_end(
    tx: &mut Connection,
    rental: &Rental,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let (at, _) = planned_end(tx, rental, now).await?;
    jobs::schedule(tx, rental.id, JobKind::DurationEnd, at).await
}

/// When a running rental is to be released next, if ever: what [`next_release`] says of it.
///
/// # Errors
/// The database's, or [`StoreError::Missing`] without its quote.
pub async fn release_due(
    connection: &mut Connection,
    policy: &Policy,
    rental: &Rental,
    now: UnixSeconds,
) -> Result<Option<UnixSeconds>, StoreError> {
    let quote =
        quotes::get(connection, rental.quote_id).await?.ok_or(StoreError::Missing("the quote"))?;
    let started = rental.progress.started_at.ok_or_else(|| StoreError::corrupt("not started"))?;
    let funded_until = started.saturating_plus(auto_stop_second(rental.locked, quote.rate));
    Ok(next_release(started, now, funded_until, quote.holdback, policy.release_every))
}

/// Meters the rental and queues its `close`.
async fn close(tx: &mut Connection, rental: &Rental, now: UnixSeconds) -> Result<(), StoreError> {
    let quote = quotes::get(tx, rental.quote_id).await?.ok_or(StoreError::Missing("the quote"))?;
    let window = rental
        .progress
        .billing_window()
        .ok_or_else(|| StoreError::corrupt("a rental is closed without start or end"))?;
    let auto_stop = auto_stop_second(rental.locked, quote.rate);
    let billed = readings::billed(tx, rental.id, window, auto_stop).await?;
    let again = intents::wait_before(tx, rental.id, "close").await?;
    // the contract goes by its own clock, which may be ahead of ours
    let tip = blocks::tip(tx).await?.map_or(now, |block| block.timestamp.max(now));
    let sent_at = tip.saturating_plus(again.max(SIGN_WAIT));
    let earliest = sent_at.saturating_minus(Seconds(CLOSE_WINDOW_S));
    let call = CloseCall::of(counted(window, auto_stop), billed, earliest, auto_stop)
        .ok_or_else(|| StoreError::corrupt("the end of billing lies beyond time"))?;
    let end = End { stopped_at: call.stopped_at, credit: call.credit };
    let wait = ask_to_sign(tx, rental, &quote, end, now).await?.max(again);
    let call = Call::Close { stopped_at: end.stopped_at, credit: end.credit };
    intents::queue(tx, rental.id, &call, now, now.saturating_plus(wait)).await
}

/// Asks for the signatures without which seconds would be held: the machine's under a credit, if the provider made
/// it its agent on the chain, and the renter's if the terms have a holdback. Returns how long the close waits for them.
async fn ask_to_sign(
    tx: &mut Connection,
    rental: &Rental,
    quote: &quotes::Quote,
    end: End,
    now: UnixSeconds,
) -> Result<Seconds, StoreError> {
    commands::drop_sign_end(tx, rental.id, now).await?;
    let mut wait = Seconds::ZERO;
    if quote.holdback > Seconds::ZERO {
        wait = SIGN_WAIT;
    }
    if end.credit > Seconds::ZERO && machine_signs(tx, rental, quote, now).await? {
        let payload = json!({ "stopped_at": end.stopped_at, "credit_secs": end.credit });
        order(tx, rental, CommandKind::SignEnd, payload, now).await?;
        wait = SIGN_WAIT;
    }
    Ok(wait)
}

async fn machine_signs(
    tx: &mut Connection,
    rental: &Rental,
    quote: &quotes::Quote,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let machine = machines::get(tx, rental.machine).await?;
    let Some(key) = machine.and_then(|machine| machine.agent) else { return Ok(false) };
    let agent = ends::agent_of(tx, quote.provider).await?;
    let until = now.saturating_plus(SIGN_WAIT);
    Ok(agent.is_some_and(|(agent, expires_at)| agent == key && expires_at > until))
}
