//! The receipt, beside what the chain says: every unit can be checked.

use std::time::Duration;

use alloy::primitives::U256;
use domain::money::Amount;
use serde_json::Value;

use super::{
    Stage,
    client::text,
    memory::Balances,
    renter::{balances, token_address},
};
use crate::{failure::Failure, verify};

/// Finality and the ledger are a few blocks behind the close.
const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The figures of a receipt, in base units.
struct Figures {
    deposit: Amount,
    provider: Amount,
    fee: Amount,
    refund: Amount,
}

/// Shows the receipt, has the provider withdraw, and compares every figure with the chain.
///
/// # Errors
/// The first figure that does not add up.
pub(super) async fn show(stage: &mut Stage<'_>, rental: &str) -> Result<(), Failure> {
    let receipt = fetch(stage, rental).await?;
    let figures = Figures {
        deposit: units(&receipt, "/deposit/base_units")?,
        provider: units(&receipt, "/split/provider/amount/base_units")?,
        fee: units(&receipt, "/split/fee/amount/base_units")?,
        refund: units(&receipt, "/split/refund/amount/base_units")?,
    };
    print_head(&receipt)?;
    print_funding(stage).await?;
    let Some(playing) = stage.memory.notes.rental.clone() else {
        return Err(Failure::new("the balances before the rental were not noted"));
    };
    withdraw(stage).await?;
    let after = balances(stage).await?;
    let verdict = compare(&figures, &playing.before, &after, &receipt)?;
    verified(stage, rental, &figures).await?;
    reconciled(stage).await?;
    stage.memory.notes.rental = None;
    stage.memory.save()?;
    if verdict {
        Ok(())
    } else {
        Err(Failure::new("the receipt and the chain differ; see the table"))
    }
}

async fn fetch(stage: &Stage<'_>, rental: &str) -> Result<Value, Failure> {
    let since = tokio::time::Instant::now();
    let path = format!("/v1/rentals/{rental}/receipt");
    while since.elapsed() < READY_WITHIN {
        if let Some(receipt) = stage.renter_api.get_when_ready(&path).await? {
            return Ok(receipt);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(Failure::new(format!("no receipt in {} s", READY_WITHIN.as_secs())))
}

fn units(receipt: &Value, pointer: &str) -> Result<Amount, Failure> {
    let digits = text(receipt, pointer)?;
    let units: u128 = digits.parse().map_err(Failure::during("a figure of the receipt"))?;
    Amount::new(units).map_err(Failure::during("a figure of the receipt"))
}

/// The provider takes what he earned; the platform is not asked.
async fn withdraw(stage: &Stage<'_>) -> Result<(), Failure> {
    let token = token_address(stage).await?;
    let provider = stage.provider.address();
    let kept = stage.eyes.kept(token, provider).await?;
    if kept.is_zero() {
        return Ok(());
    }
    let calldata = escrow::calldata::withdraw(token, provider, Amount::ZERO);
    stage.provider.send(stage.place.escrow, calldata, U256::ZERO).await?;
    stage.say("provider", &format!("withdrew {kept} base units from the contract to the wallet"));
    Ok(())
}

fn print_head(receipt: &Value) -> Result<(), Failure> {
    let rate = text(receipt, "/rental/cost/rate/usd_per_hour/amount")?;
    let per_hour = text(receipt, "/rental/cost/rate/per_hour/base_units")?;
    let seconds = receipt.pointer("/seconds_billed").cloned().unwrap_or_default();
    println!("\nRECEIPT  {}", text(receipt, "/rental/id")?);
    println!("  on the chain as  {}", text(receipt, "/rental/escrow_id")?);
    println!("  from             {}", text(receipt, "/rental/started_at")?);
    println!("  to               {}", text(receipt, "/rental/stopped_at")?);
    println!("  billed           {seconds} s at {rate} USD/h = {per_hour} base units/h");
    for outage in list(receipt, "/outages") {
        println!(
            "  not billed       {} s of outage, {} to {}",
            outage.pointer("/seconds").cloned().unwrap_or_default(),
            text(&outage, "/from")?,
            text(&outage, "/to")?
        );
    }
    println!(
        "  evidence         {} signed readings, last hash {}",
        receipt.pointer("/readings/count").cloned().unwrap_or_default(),
        text(receipt, "/readings/root")?
    );
    for event in list(receipt, "/events") {
        println!(
            "  {:<16} block {}, tx {}",
            text(&event, "/name")?,
            event.pointer("/block").cloned().unwrap_or_default(),
            text(&event, "/tx_hash")?
        );
    }
    Ok(())
}

/// Who sent the lock, and what that cost the renter in the native coin.
async fn print_funding(stage: &Stage<'_>) -> Result<(), Failure> {
    let Some(playing) = stage.memory.notes.rental.as_ref() else { return Ok(()) };
    let (before, after) =
        (playing.before.renter_coin, stage.eyes.coin(stage.renter.address()).await?);
    let way = if playing.gasless {
        "the renter's authorization (EIP-3009), sent by the platform"
    } else {
        "the renter's own transactions"
    };
    println!("  funded by        {way}");
    println!("  renter's coin    {before} wei before, {after} wei after");
    Ok(())
}

fn list(value: &Value, pointer: &str) -> Vec<Value> {
    value.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Prints receipt and chain side by side. True if all of it agrees.
fn compare(
    figures: &Figures,
    before: &Balances,
    after: &Balances,
    receipt: &Value,
) -> Result<bool, Failure> {
    let usd = |part: &str| text(receipt, &format!("/split/{part}/usd/amount"));
    let gained = |after: U256, before: U256| after.saturating_sub(before).to_string();
    let spent = figures.deposit.checked_sub(figures.refund);
    let spent = spent.ok_or_else(|| Failure::new("more came back than was locked"))?;
    let rows = [
        ("provider", figures.provider, usd("provider")?, gained(after.provider, before.provider)),
        ("fee", figures.fee, usd("fee")?, gained(after.treasury, before.treasury)),
        ("renter paid", spent, String::new(), gained(before.renter, after.renter)),
    ];
    println!("\n  {:<14}{:>16}{:>14}{:>22}", "base units", "receipt", "USD", "change on the chain");
    let mut agrees = true;
    for (name, told, usd, seen) in rows {
        let same = told.to_string() == seen;
        agrees &= same;
        let mark = if same { "=" } else { "DIFFERS" };
        println!("  {name:<14}{:>16}{usd:>14}{seen:>22}  {mark}", told.to_string());
    }
    println!("  {:<14}{:>16}{:>14}", "refund", figures.refund.to_string(), usd("refund")?);
    let sum =
        figures.provider.checked_add(figures.fee).and_then(|sum| sum.checked_add(figures.refund));
    let whole = sum == Some(figures.deposit);
    let sign = if whole { "=" } else { "IS NOT" };
    println!(
        "  provider + fee + refund = {} {sign} deposit {}",
        sum.map_or_else(|| "out of range".to_owned(), |sum| sum.to_string()),
        figures.deposit
    );
    Ok(agrees && whole)
}

/// Keeps the document that a stranger would be shown, and checks it as `weir verify --rpc` does.
async fn verified(stage: &Stage<'_>, rental: &str, figures: &Figures) -> Result<(), Failure> {
    let document =
        stage.renter_api.document(&format!("/v1/rentals/{rental}/sealed-receipt")).await?;
    let file = stage.place.folder.join(format!("{rental}.json"));
    std::fs::write(&file, &document).map_err(Failure::during("keeping the receipt"))?;
    let found = verify::check(&document, None, &[], Some(&stage.place.rpc)).await?;
    let (_, proven) = found.map_err(|faults| verify::untrue(&faults))?;
    let totals = proven.totals;
    let told = (totals.deposit, totals.provider, totals.fee, totals.refund);
    if told != (figures.deposit, figures.provider, figures.fee, figures.refund) {
        return Err(Failure::new("the receipt for strangers says something else"));
    }
    println!(
        "  verified: quote, {} readings, bill and chain agree; try `weir verify {}`",
        proven.readings,
        file.display()
    );
    Ok(())
}

/// Waits until the worker's own reconciler has seen all of it.
async fn reconciled(stage: &Stage<'_>) -> Result<(), Failure> {
    let since = tokio::time::Instant::now();
    while since.elapsed() < READY_WITHIN {
        if let Some((block, true)) = reconciliation(&stage.place.worker_metrics).await? {
            println!(
                "  reconciler: contract = events = ledger, to the unit, at final block {block}"
            );
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(Failure::new("the reconciler does not agree; see log/work.log"))
}

/// The last reconciliation's block and verdict, from the worker's metrics.
async fn reconciliation(metrics: &str) -> Result<Option<(String, bool)>, Failure> {
    let http = tls::direct(READY_WITHIN).map_err(Failure::during("the HTTP client"))?;
    let Ok(answer) = http.get(metrics).send().await else {
        return Ok(None);
    };
    let page = answer.text().await.map_err(Failure::during("the worker's metrics"))?;
    let value = |name: &str| {
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned)
    };
    Ok(value("weir_reconciled_block").zip(value("weir_reconciled").map(|verdict| verdict == "1")))
}
