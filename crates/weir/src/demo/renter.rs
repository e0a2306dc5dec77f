//! The renter: finds the cheapest, books it, locks the deposit, uses it, stops.

use std::time::Duration;

use alloy::primitives::{Address, B256};
use domain::time::{Seconds, UnixSeconds};
use escrow::signed;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Stage,
    client::text,
    follow, funding,
    memory::{Balances, Playing},
};
use crate::{deploy::Roles, failure::Failure, wallet::Wallet};

/// What the deposit pays for; the rental is stopped long before.
const DURATION_S: u32 = 3_600;
const TOKEN: &str = "USDC";
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A rental that has not settled by then never will.
const ENDS_WITHIN: Duration = Duration::from_secs(240);
/// The workload that was left running by an earlier run has this long to be adopted.
const STOP_KEY: &str = "demo-stop";

/// Plays a rental to `settled` and returns its id.
pub(super) async fn rent(stage: &mut Stage<'_>) -> Result<String, Failure> {
    loop {
        let rental = match booked_before(stage).await? {
            Some(rental) => rental,
            None => book(stage).await?,
        };
        let stop = CancellationToken::new();
        let follower = tokio::spawn(follow::follow(
            stage.renter_api.clone(),
            rental.clone(),
            stage.since,
            stop.clone(),
        ));
        let end = live(stage, &rental).await;
        // the last events are on their way
        tokio::time::sleep(LOOK_EVERY).await;
        stop.cancel();
        follower.await.map_err(Failure::during("following the rental"))?;
        match end?.as_str() {
            "settled" | "resolved" => return Ok(rental),
            "contested" => {
                return Err(Failure::new(format!(
                    "{rental} ended with some seconds held for a day, because a side did not sign the end"
                )));
            }
            other => {
                stage.say(
                    "renter",
                    &format!("{rental} ended {other}: everything went back; renting anew"),
                );
                stage.memory.notes.rental = None;
                stage.memory.save()?;
            }
        }
    }
}

/// A rental that an earlier run left.
async fn booked_before(stage: &mut Stage<'_>) -> Result<Option<String>, Failure> {
    let Some(playing) = stage.memory.notes.rental.clone() else {
        return Ok(None);
    };
    if let Some(rental) = playing.rental {
        let seen = stage.renter_api.get(&format!("/v1/rentals/{rental}")).await?;
        stage.say("renter", &format!("taking up {rental}, which is {}", text(&seen, "/state")?));
        return Ok(Some(rental));
    }
    // killed between booking and noting it: the same key gives the same answer, or books now
    match reserve(stage, &playing).await {
        Ok((rental, _)) => {
            note_rental(stage, &rental)?;
            Ok(Some(rental))
        }
        Err(failure) => {
            stage.say("renter", &format!("the booking of an earlier run is void ({failure})"));
            stage.memory.notes.rental = None;
            stage.memory.save()?;
            Ok(None)
        }
    }
}

/// Looks for the cheapest offer; beside generated ones, that of the machine that is played here. What was listed a moment ago is found within a tenth of a second.
async fn search(stage: &Stage<'_>) -> Result<String, Failure> {
    let path = format!("/v1/offers?gpu_model=rtx-4090&duration_s={DURATION_S}&sort=price");
    for _ in 0..20 {
        let found = stage.renter_api.get(&path).await?;
        if let Ok(offer) = text(&found, "/data/0/id") {
            // generated machines have no agents: nobody would make one ready
            return Ok(stage.memory.notes.offer.clone().unwrap_or(offer));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Failure::new("no offer of an RTX 4090 is free; does another rental hold it?"))
}

async fn book(stage: &mut Stage<'_>) -> Result<String, Failure> {
    let offer = search(stage).await?;
    stage.say("renter", &format!("cheapest offer that fits: {offer}"));
    let ask = json!({ "offer_id": offer, "duration_s": DURATION_S, "token": TOKEN });
    let quote = stage.renter_api.post("/v1/quotes", &ask, None).await?;
    let id = text(&quote, "/id")?;
    stage.say(
        "renter",
        &format!(
            "quote {id}: {} USD/h, deposit {} base units of {TOKEN} for {DURATION_S} s, fee {} bps of the provider's side",
            text(&quote, "/rate/usd_per_hour/amount")?,
            text(&quote, "/deposit/base_units")?,
            quote.pointer("/fee/bps").cloned().unwrap_or_default(),
        ),
    );
    if stage.script.gasless {
        funding::give_dollars(stage, token_address(stage).await?).await?;
    }
    let playing = Playing {
        booking_key: format!("demo-book-{}", Uuid::now_v7()),
        quote: id,
        rental: None,
        outage_made: false,
        before: balances(stage).await?,
        gasless: stage.script.gasless,
    };
    stage.memory.notes.rental = Some(playing.clone());
    stage.memory.save()?;
    let (rental, _) = reserve(stage, &playing).await?;
    note_rental(stage, &rental)?;
    stage.say("renter", &format!("booked {rental}; the GPU is held"));
    Ok(rental)
}

/// Books; the same key again gives the same answer.
pub(super) async fn reserve(
    stage: &Stage<'_>,
    playing: &Playing,
) -> Result<(String, Value), Failure> {
    let body = json!({ "quote_id": playing.quote });
    let booked = stage.renter_api.post("/v1/rentals", &body, Some(&playing.booking_key)).await?;
    Ok((text(&booked, "/rental/id")?, booked))
}

fn note_rental(stage: &mut Stage<'_>, rental: &str) -> Result<(), Failure> {
    if let Some(playing) = stage.memory.notes.rental.as_mut() {
        playing.rental = Some(rental.to_owned());
    }
    stage.memory.save()
}

/// Does what the rental's state asks for, until it has ended.
async fn live(stage: &mut Stage<'_>, rental: &str) -> Result<String, Failure> {
    let since = tokio::time::Instant::now();
    let path = format!("/v1/rentals/{rental}");
    let (mut locked, mut signed) = (false, false);
    while since.elapsed() < ENDS_WITHIN {
        let state = text(&stage.renter_api.get(&path).await?, "/state")?;
        match state.as_str() {
            "awaiting_funds" if !locked => {
                funding::lock(stage, rental).await?;
                locked = true;
            }
            "settling" if !signed => signed = sign_end(stage, rental).await?,
            "active" => use_machine(stage, rental).await?,
            "settled" | "contested" | "resolved" | "refunded" | "expired" | "cancelled" => {
                return Ok(state);
            }
            _ => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(Failure::new(format!(
        "{rental} did not end in {} s; the logs are in {}",
        ENDS_WITHIN.as_secs(),
        stage.place.folder.join("log").display()
    )))
}

/// Runs, goes through an outage once, runs again, and stops.
async fn use_machine(stage: &mut Stage<'_>, rental: &str) -> Result<(), Failure> {
    let seen = stage.renter_api.get(&format!("/v1/rentals/{rental}")).await?;
    if let Ok(host) = text(&seen, "/access/host") {
        stage.say("renter", &format!("the machine is reached at {host}"));
    }
    tokio::time::sleep(stage.script.run_for).await;
    let made = stage.memory.notes.rental.as_ref().is_some_and(|playing| playing.outage_made);
    if !made && !stage.script.outage.is_zero() {
        outage(stage, rental).await?;
        tokio::time::sleep(stage.script.run_for).await;
    }
    let path = format!("/v1/rentals/{rental}/stop");
    let key = format!("{STOP_KEY}-{rental}");
    stage.renter_api.post(&path, &json!({}), Some(&key)).await?;
    stage.say("renter", "asked to stop");
    Ok(())
}

/// The renter signs how the rental ended, so that the contract holds nothing back. False while there is nothing to
/// sign.
async fn sign_end(stage: &Stage<'_>, rental: &str) -> Result<bool, Failure> {
    let path = format!("/v1/rentals/{rental}/end");
    let Some(end) = stage.renter_api.get_when_ready(&path).await? else { return Ok(false) };
    let field = |name: &str| text(&end, &format!("/typed_data/message/{name}"));
    let number = |name: &str| {
        field(name).and_then(|digits| digits.parse::<u64>().map_err(Failure::during("the end")))
    };
    let id: B256 = field("id")?.parse().map_err(Failure::during("the end"))?;
    let credit = u32::try_from(number("creditSecs")?).map_err(Failure::during("the end"))?;
    let told = signed::end(id, UnixSeconds(number("stoppedAt")?), Seconds(credit));
    let domain = escrow::domain(stage.renter.chain_id(), stage.place.escrow);
    let signature = stage.renter.sign_digest(signed::digest(&told, &domain))?;
    match stage.renter_api.post(&path, &json!({ "signature": signature }), None).await {
        Ok(_) => stage.say("renter", &format!("signed the end; {credit} s are credited")),
        // it was sent meanwhile
        Err(failure) => stage.say("renter", &format!("came too late to sign the end ({failure})")),
    }
    Ok(true)
}

/// The agent's process is frozen: from outside, the machine is gone.
async fn outage(stage: &mut Stage<'_>, rental: &str) -> Result<(), Failure> {
    if let Some(playing) = stage.memory.notes.rental.as_mut() {
        playing.outage_made = true;
    }
    stage.memory.save()?;
    if let Some(agent) = stage.agent.lock().await.as_ref() {
        agent.freeze();
    }
    stage.say("machine", "agent frozen: an outage; the clock will stop at the last good second");
    tokio::time::sleep(stage.script.outage).await;
    if let Some(agent) = stage.agent.lock().await.as_ref() {
        agent.thaw();
    }
    stage.say("machine", "agent goes on");
    let since = tokio::time::Instant::now();
    while since.elapsed() < ENDS_WITHIN {
        let seen = stage.renter_api.get(&format!("/v1/rentals/{rental}")).await?;
        if text(&seen, "/state")? != "interrupted" {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// What the chain says that everybody has.
pub(super) async fn balances(stage: &Stage<'_>) -> Result<Balances, Failure> {
    let token = token_address(stage).await?;
    let treasury = Wallet::open(Roles::TREASURY, &stage.place.rpc).await?.address();
    let provider = stage.provider.address();
    let kept = stage.eyes.kept(token, provider).await?;
    let held = stage.eyes.wallet(token, provider).await?;
    Ok(Balances {
        renter: stage.eyes.wallet(token, stage.renter.address()).await?,
        renter_coin: stage.eyes.coin(stage.renter.address()).await?,
        provider: kept.saturating_add(held),
        treasury: stage.eyes.kept(token, treasury).await?,
    })
}

/// The contract of the token that the demo pays in.
pub(super) async fn token_address(stage: &Stage<'_>) -> Result<Address, Failure> {
    let tokens = stage.renter_api.get("/v1/tokens").await?;
    let listed = tokens.pointer("/data").and_then(Value::as_array).cloned().unwrap_or_default();
    listed
        .iter()
        .find(|token| token.pointer("/symbol").and_then(Value::as_str) == Some(TOKEN))
        .and_then(|token| token.pointer("/address").and_then(Value::as_str))
        .ok_or_else(|| Failure::new(format!("{TOKEN} is not listed")))?
        .parse()
        .map_err(Failure::during("the token's address"))
}
