//! What the settlements are measured against: transactions that were signed beforehand and are thrown at the chain
//! from memory, by the same machine.

use std::{sync::Arc, time::Duration};

use alloy_primitives::Bytes;
use testkit::DEV_KEYS;
use tokio::time::{Instant, sleep};

use super::{
    chain::{Account, mined, throw},
    phase,
    stage::Stage,
};
use crate::{BenchError, Scenario, Slice, Verdict};

/// A plain transfer.
const GAS: u64 = 21_000;
const LOOK: Duration = Duration::from_millis(10);

/// Transfers to oneself, all at once.
pub struct Raw {
    stage: Arc<Stage>,
    http: reqwest::Client,
    account: Option<Account>,
    signed: Vec<Bytes>,
    per_second: f64,
}

impl Raw {
    pub(super) fn new(stage: Arc<Stage>, per_second: f64) -> Self {
        let http = stage.http.clone();
        Self { stage, http, account: None, signed: Vec::new(), per_second }
    }
}

impl Scenario for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    async fn prepare(&mut self, span: Duration) -> Result<(), BenchError> {
        let wanted = (self.per_second * span.as_secs_f64()).ceil() as usize;
        let mut account = Account::open(key(0)?, &self.stage.chain).await?;
        let to = account.address();
        self.signed =
            (0..wanted).map(|_| account.sign(to, Vec::new(), GAS)).collect::<Result<_, _>>()?;
        self.account = Some(account);
        Ok(())
    }

    async fn slice(&mut self, _span: Duration) -> Result<Slice, BenchError> {
        let Some(account) = &self.account else { return Ok(Slice::default()) };
        // nothing of ours runs meanwhile
        self.stage.rest().await?;
        let began = Instant::now();
        throw(&self.http, &self.stage.chain, &self.signed).await?;
        account.settle(&self.stage.chain).await?;
        let elapsed = began.elapsed();
        Ok(Slice { count: self.signed.len() as u64, elapsed, ..Slice::default() })
    }

    async fn verify(&mut self, slice: &Slice) -> Result<Verdict, BenchError> {
        let Some(account) = &self.account else { return Ok(Verdict::Sound) };
        let there = mined(&self.stage.chain, account.address()).await?;
        Ok(Verdict::of([(
            there == account.nonce() && slice.count == self.signed.len() as u64,
            format!("{there} of {} transactions are in blocks", account.nonce()),
        )]))
    }
}

/// Single transfers: sent, and waited for by asking every few milliseconds.
pub struct Single {
    stage: Arc<Stage>,
    http: reqwest::Client,
    per_second: f64,
    samples: usize,
}

impl Single {
    pub(super) fn new(stage: Arc<Stage>, per_second: f64) -> Self {
        let http = stage.http.clone();
        Self { stage, http, per_second, samples: 0 }
    }
}

impl Scenario for Single {
    fn name(&self) -> &'static str {
        "raw"
    }

    async fn prepare(&mut self, span: Duration) -> Result<(), BenchError> {
        self.samples = (self.per_second * span.as_secs_f64()).ceil() as usize;
        Ok(())
    }

    async fn slice(&mut self, _span: Duration) -> Result<Slice, BenchError> {
        let began = Instant::now();
        let share = self.samples.div_ceil(super::STREAMS);
        let streams = (0..super::STREAMS).map(|number| {
            let (stage, http) = (self.stage.clone(), self.http.clone());
            async move {
                let mut account = Account::open(key(number)?, &stage.chain).await?;
                let mut latency = crate::Histogram::default();
                for at in 0..share {
                    sleep(phase(number, at)).await;
                    let to = account.address();
                    let sent = Instant::now();
                    let raw = account.sign(to, Vec::new(), GAS)?;
                    throw(&http, &stage.chain, &[raw]).await?;
                    while mined(&stage.chain, to).await? < account.nonce() {
                        sleep(LOOK).await;
                    }
                    latency.record(sent.elapsed());
                }
                Ok::<_, BenchError>(latency)
            }
        });
        let mut slice = Slice::default();
        for latency in futures_util::future::join_all(streams).await {
            slice.latency.merge(&latency?);
        }
        slice.count = slice.latency.count();
        slice.elapsed = began.elapsed();
        Ok(slice)
    }

    async fn verify(&mut self, slice: &Slice) -> Result<Verdict, BenchError> {
        Ok(Verdict::of([(slice.count > 0, "nothing was sent".to_owned())]))
    }
}

/// Keys that play no part in the market.
fn key(number: usize) -> Result<&'static str, BenchError> {
    let keys = [DEV_KEYS[6], DEV_KEYS[7], DEV_KEYS[8], DEV_KEYS[9]];
    keys.get(number).copied().ok_or_else(|| BenchError::subject("send")("too many streams"))
}
