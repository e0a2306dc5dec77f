//! What a final event does: its posting in the ledger, its figures on the rental, its step of the state
//! machine, in one transaction, once.

use alloy::primitives::{Address, B256};
use domain::{
    id::RentalId,
    ledger::{
        ClosedFigures, LedgerAccount, LedgerError, Parties, Posting, close_posting,
        contest_posting, lock_posting, prepaid_lock_posting, prepay_posting, release_posting,
        top_up_posting, withdraw_posting,
    },
    money::Amount,
    rental::{CloseOutcome, Party, RentalEvent, StartStatus},
    time::UnixSeconds,
};
use escrow::{EscrowEvent, Outcome};
use serde_json::json;
use store::{
    Connection, Policy, StoreError, TxError,
    advance::{self, AdvanceError},
    blocks::{self, SeenEvent},
    deposit_notices,
    jobs::{self, JobKind},
    ledger::{self, Sourced},
    quotes, readings,
    rentals::{self, MoneyDelta},
    timeline,
};

use crate::{EngineError, cases};

type Applied = Result<(), TxError<EngineError>>;

/// Everything needed to apply one event.
struct Scene<'a> {
    policy: &'a Policy,
    event: &'a SeenEvent,
    rental: Option<RentalId>,
    now: UnixSeconds,
}

/// Applies a final event, unless it was applied before.
pub(crate) async fn final_event(
    tx: &mut Connection,
    policy: &Policy,
    event: &SeenEvent,
    now: UnixSeconds,
) -> Applied {
    if !blocks::mark_applied(tx, event).await? {
        return Ok(());
    }
    let body: EscrowEvent =
        serde_json::from_value(event.body.clone()).map_err(StoreError::corrupt)?;
    let rental = match event.escrow_id {
        Some(id) => known(tx, id).await?,
        None => None,
    };
    let scene = Scene { policy, event, rental, now };
    // anybody can have a call about any rental skipped: that is no part of its story
    let told = !matches!(body, EscrowEvent::Skipped { .. });
    if let Some(rental) = rental.filter(|_| told) {
        let detail = json!({
            "event": event.name,
            "tx_hash": event.tx_hash,
            "block": event.block_number,
            "final": true,
        });
        timeline::append(tx, rental, now, "tx", &detail).await?;
        cases::follow(tx, rental, &body, close_outcome, now).await?;
    }
    match body {
        EscrowEvent::Locked { deposit, prepaid, .. } => locked(tx, &scene, deposit, prepaid).await,
        EscrowEvent::ToppedUp { amount, .. } => topped_up(tx, &scene, amount).await,
        EscrowEvent::Started { started_at, .. } => {
            scene.step(tx, RentalEvent::StartFinal { started_at }).await
        }
        EscrowEvent::Released { net, fee, .. } => released(tx, &scene, net, fee).await,
        EscrowEvent::Contested { deadline, net, fee, refund, pushed, .. } => {
            let figures = ClosedFigures { net, fee, refund, pushed };
            contested(tx, &scene, &figures, deadline).await
        }
        EscrowEvent::Disputed { deadline, .. } => {
            scene.step(tx, RentalEvent::DisputedFinal { deadline }).await
        }
        EscrowEvent::Prepaid { account, token, amount, .. } => {
            scene.post(tx, prepay_posting(account, token, amount)).await
        }
        EscrowEvent::Closed { outcome, billed, net, fee, refund, pushed, .. } => {
            let figures = ClosedFigures { net, fee, refund, pushed };
            closed(tx, &scene, outcome, &figures, billed).await
        }
        EscrowEvent::Withdrawn { account, token, amount, .. } => {
            withdrawn(tx, &scene, account, token, amount).await
        }
        // a credit is part of the close it comes with; the rest moves no money
        EscrowEvent::Credited { .. }
        | EscrowEvent::Skipped { .. }
        | EscrowEvent::TreasurySet { .. }
        | EscrowEvent::AgentSet { .. }
        | EscrowEvent::Config { .. } => Ok(()),
    }
}

/// The rental with this id on the chain, if it is one of ours. It, or its quote until it is booked, is
/// locked from here on: the timeline is written in the order in which its entries become visible, and a
/// booking of these terms sees what the chain said or is seen here.
pub(crate) async fn known(
    tx: &mut Connection,
    escrow_id: B256,
) -> Result<Option<RentalId>, StoreError> {
    quotes::lock(tx, escrow_id).await?;
    let found = rentals::id_of(tx, escrow_id).await?;
    if let Some(id) = found {
        readings::lock_rental(tx, id).await?;
    }
    Ok(found)
}

/// What the renter was asked to lock.
pub(crate) async fn quoted_deposit(
    tx: &mut Connection,
    rental: RentalId,
) -> Result<Amount, StoreError> {
    let rental = rentals::get(tx, rental).await?.ok_or(StoreError::Missing("the rental"))?;
    let quote = quotes::get(tx, rental.quote_id).await?.ok_or(StoreError::Missing("the quote"))?;
    Ok(quote.deposit)
}

async fn locked(tx: &mut Connection, scene: &Scene<'_>, deposit: Amount, prepaid: bool) -> Applied {
    let parties = scene.parties(tx).await?;
    let posting = if prepaid {
        let balances = balances(tx, parties.renter, parties.token).await?;
        prepaid_lock_posting(&parties, deposit, &balances).map_err(broken)?
    } else {
        lock_posting(&parties, deposit)
    };
    scene.post(tx, posting).await?;
    let Some(rental) = scene.rental else {
        return Ok(());
    };
    let delta = MoneyDelta { locked: deposit, ..MoneyDelta::default() };
    rentals::add_money(tx, rental, &delta).await?;
    if quoted_deposit(tx, rental).await? > deposit {
        // Too little for what was ordered: call it off, so that the lock goes back whole.
        let detail = json!({ "locked": deposit });
        timeline::append(tx, rental, scene.now, "lock_too_small", &detail).await?;
        let stop = RentalEvent::StopRequested { by: Party::Operator, now: scene.now };
        scene.step(tx, stop).await?;
    }
    scene.step(tx, RentalEvent::LockFinal { now: scene.now }).await
}

async fn topped_up(tx: &mut Connection, scene: &Scene<'_>, amount: Amount) -> Applied {
    let parties = scene.parties(tx).await?;
    scene.post(tx, top_up_posting(&parties, amount)).await?;
    let Some(id) = scene.rental else {
        return Ok(());
    };
    rentals::add_money(tx, id, &MoneyDelta { locked: amount, ..MoneyDelta::default() }).await?;
    let rental = rentals::get(tx, id).await?.ok_or(StoreError::Missing("the rental"))?;
    if rental.progress.started_at.is_some() && rental.progress.stopped_at.is_none() {
        advance::arm_end(tx, &rental, scene.now).await?;
        deposit_notices::arm(tx, id, scene.now).await?;
        // it may now last long enough to be paid for on the way
        let due = advance::release_due(tx, scene.policy, &rental, scene.now).await?;
        let started = rental.progress.start == StartStatus::Final;
        if let Some(due) = due.filter(|_| started) {
            jobs::schedule_if_none(tx, id, JobKind::Release, due).await?;
        }
    }
    Ok(())
}

async fn released(tx: &mut Connection, scene: &Scene<'_>, net: Amount, fee: Amount) -> Applied {
    let parties = scene.parties(tx).await?;
    scene.post(tx, release_posting(&parties, net, fee)).await?;
    let Some(rental) = scene.rental else {
        return Ok(());
    };
    let delta = MoneyDelta { provider: net, fee, ..MoneyDelta::default() };
    Ok(rentals::add_money(tx, rental, &delta).await?)
}

/// All but what is held is paid; the rest stays in the deposit's account until the rental is closed.
async fn contested(
    tx: &mut Connection,
    scene: &Scene<'_>,
    figures: &ClosedFigures,
    deadline: UnixSeconds,
) -> Applied {
    let parties = scene.parties(tx).await?;
    scene.post(tx, contest_posting(&parties, figures)).await?;
    let Some(rental) = scene.rental else {
        return Ok(());
    };
    let delta = MoneyDelta {
        locked: Amount::ZERO,
        provider: figures.net,
        fee: figures.fee,
        refund: figures.refund,
        billed: None,
    };
    rentals::add_money(tx, rental, &delta).await?;
    scene.step(tx, RentalEvent::ContestedFinal { deadline }).await
}

async fn closed(
    tx: &mut Connection,
    scene: &Scene<'_>,
    outcome: Outcome,
    figures: &ClosedFigures,
    billed: domain::time::Seconds,
) -> Applied {
    let parties = scene.parties(tx).await?;
    let deposit = LedgerAccount::renter_deposit(parties.escrow_id, parties.token);
    let held = ledger::balance_of(tx, &deposit).await?;
    let paid = figures
        .net
        .checked_add(figures.fee)
        .and_then(|sum| sum.checked_add(figures.refund))
        .unwrap_or(Amount::MAX);
    if paid != held {
        return Err(TxError::Refused(EngineError::Broken(format!(
            "escrow {} paid {paid} of a deposit of {held}",
            parties.escrow_id
        ))));
    }
    scene.post(tx, close_posting(&parties, figures)).await?;
    let Some(rental) = scene.rental else {
        return Ok(());
    };
    let delta = MoneyDelta {
        locked: Amount::ZERO,
        provider: figures.net,
        fee: figures.fee,
        refund: figures.refund,
        billed: Some(billed),
    };
    rentals::add_money(tx, rental, &delta).await?;
    scene.step(tx, RentalEvent::ClosedFinal { outcome: close_outcome(outcome) }).await
}

async fn withdrawn(
    tx: &mut Connection,
    scene: &Scene<'_>,
    owner: Address,
    token: Address,
    amount: Amount,
) -> Applied {
    let balances = balances(tx, owner, token).await?;
    let posting = withdraw_posting(owner, token, amount, &balances).map_err(broken)?;
    scene.post(tx, posting).await
}

/// What the contract's one balance of an owner is made of here.
async fn balances(
    tx: &mut Connection,
    owner: Address,
    token: Address,
) -> Result<Vec<(LedgerAccount, Amount)>, StoreError> {
    let mut balances = Vec::new();
    for account in LedgerAccount::withdrawable(owner, token) {
        balances.push((account, ledger::balance_of(tx, &account).await?));
    }
    Ok(balances)
}

fn broken(error: LedgerError) -> TxError<EngineError> {
    TxError::Refused(EngineError::Broken(error.to_string()))
}

impl Scene<'_> {
    /// Who the money is between, from the lock's own event: it is there for locks that are none of ours.
    async fn parties(&self, tx: &mut Connection) -> Result<Parties, TxError<EngineError>> {
        let id = self.event.escrow_id.ok_or(StoreError::Missing("the event's rental"))?;
        let lock = blocks::lock_of(tx, id).await?;
        let lock = lock.ok_or(StoreError::Missing("the event's lock"))?;
        let lock: EscrowEvent = serde_json::from_value(lock.body).map_err(StoreError::corrupt)?;
        let EscrowEvent::Locked { renter, provider, token, .. } = lock else {
            return Err(StoreError::corrupt("a lock that is none").into());
        };
        Ok(Parties { escrow_id: id, renter, provider, treasury: self.treasury(tx).await?, token })
    }

    /// Where fees went at the time of the event.
    async fn treasury(&self, tx: &mut Connection) -> Result<Address, TxError<EngineError>> {
        let set = blocks::latest_before(tx, "treasury_set", self.event).await?;
        let set = set.ok_or(StoreError::Missing("the treasury"))?;
        let set: EscrowEvent = serde_json::from_value(set.body).map_err(StoreError::corrupt)?;
        let EscrowEvent::TreasurySet { treasury } = set else {
            return Err(StoreError::corrupt("a treasury that is none").into());
        };
        Ok(treasury)
    }

    async fn post(&self, tx: &mut Connection, posting: Posting) -> Applied {
        let source = format!("{}:{}", self.event.block_hash, self.event.log_index);
        let sourced = Sourced { source, at: self.event.at, posting };
        ledger::post(tx, &[sourced]).await?;
        Ok(())
    }

    /// Steps the rental, if it is ours. The money is posted either way: a state that refuses the chain's
    /// word is an alarm, not a reason to forget the money.
    async fn step(&self, tx: &mut Connection, event: RentalEvent) -> Applied {
        let Some(rental) = self.rental else {
            return Ok(());
        };
        match advance::apply(tx, self.policy, rental, &event, self.now).await {
            Ok(_) => Ok(()),
            Err(AdvanceError::Illegal(error)) => {
                tracing::error!(rental.id = %rental, %error, "a final event does not fit the rental's state");
                metrics::counter!("weir_final_events_refused_total").increment(1);
                let detail = json!({ "error": error.to_string() });
                Ok(timeline::append(tx, rental, self.now, "alarm", &detail).await?)
            }
            Err(AdvanceError::Missing) => Err(StoreError::Missing("the rental").into()),
            Err(AdvanceError::Store(error)) => Err(error.into()),
        }
    }
}

const fn close_outcome(outcome: Outcome) -> CloseOutcome {
    match outcome {
        Outcome::Cancelled => CloseOutcome::Cancelled,
        Outcome::Reclaimed => CloseOutcome::Reclaimed,
        Outcome::StoppedByRenter => CloseOutcome::StoppedByRenter,
        Outcome::StoppedByProvider => CloseOutcome::StoppedByProvider,
        Outcome::Exhausted => CloseOutcome::Exhausted,
        Outcome::ClosedByOperator => CloseOutcome::ClosedByOperator,
        Outcome::Agreed => CloseOutcome::Agreed,
        Outcome::Conceded => CloseOutcome::Conceded,
        Outcome::Resolved => CloseOutcome::Resolved,
        Outcome::Undisputed => CloseOutcome::Undisputed,
        Outcome::Defaulted => CloseOutcome::Defaulted,
    }
}
