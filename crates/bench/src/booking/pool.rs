//! The market that is booked from: machines with eight GPUs each, an offer of one GPU on each, and
//! eight quotes for it.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use domain::{
    id::{AccountId, GpuId, MachineId, OfferId, QuoteId, SessionId},
    money::{Amount, Decimals, FeeBps, UsdMicros},
    offer::OfferTerms,
    rate::{TokenRate, UsdPerHour},
    time::{Seconds, UnixSeconds},
};
use escrow::{Terms, terms_hash};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use store::{
    Connection, Store, StoreError,
    accounts::{self, Account, NewOwner, NewSession},
    deployment::{self, Deployment},
    machines::{self, EnrollToken, Gpu, MachineSpec, NewMachine},
    offers::{self, NewOffer},
    quotes::{self, Quote},
    tokens::{self, Token},
};
use uuid::Uuid;

use super::client::Ready;
use crate::{BenchError, rng::SplitMix64};

/// EIP-155 id of the chain that the service believes in.
pub(crate) const CHAIN_ID: u64 = 31_337;
const ESCROW: Address = Address::repeat_byte(0xe5);
/// A token without a permit.
const TOKEN: Address = Address::repeat_byte(0x7c);
const MODEL: &str = "h100-sxm";
const GPUS: usize = 8;
/// Dollars and, as the token is worth one, base units per GPU and hour, with six decimals.
const PRICE: u64 = 2_500_000;
/// Machines that are stored in one transaction.
const CHUNK: usize = 16;
/// Bookings of one renter that may wait for their deposit: more than the quotes of a chunk.
pub(super) const UNFUNDED: i64 = 129;
/// Longer than any run.
const GOOD_FOR: Seconds = Seconds(24 * 3_600);

/// Who books on which machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spread {
    /// All quotes of a machine are one renter's.
    Own,
    /// They are different renters'.
    Shared,
}

/// Makes machines and quotes.
pub(crate) struct Pool {
    spread: Spread,
    store: Store,
    provider: Account,
    clients: usize,
    rng: SplitMix64,
}

impl Pool {
    /// One provider; quotes will be made for so many clients.
    pub(crate) async fn open(
        store: Store,
        spread: Spread,
        clients: u16,
        seed: u64,
    ) -> Result<Self, BenchError> {
        let rng = SplitMix64::part(seed, spread as u64);
        let now = store.now().seconds();
        let provider = store
            .write::<Account, String, _>("bench.open", move |tx| {
                Box::pin(async move { Ok(open(tx, now).await?) })
            })
            .await
            .map_err(BenchError::subject("open the market"))?;
        Ok(Self { spread, store, provider, clients: usize::from(clients), rng })
    }

    /// At least `each` new quotes for each client, in an order in which no two of them go through
    /// the machines alike.
    pub(crate) async fn make_quotes(&mut self, each: usize) -> Result<Vec<Vec<Ready>>, BenchError> {
        let machines = each.div_ceil(GPUS).saturating_mul(self.clients);
        let chunks = machines.div_ceil(CHUNK);
        let made: Vec<Vec<(usize, Ready)>> = stream::iter(0..chunks)
            .map(|chunk| self.make_machines(chunk.saturating_mul(CHUNK)))
            .buffer_unordered(self.clients)
            .try_collect()
            .await?;
        let mut quotes = vec![Vec::new(); self.clients];
        for (client, quote) in made.into_iter().flatten() {
            if let Some(own) = quotes.get_mut(client) {
                own.push(quote);
            }
        }
        for own in &mut quotes {
            self.rng.shuffle(own);
        }
        Ok(quotes)
    }

    /// A chunk of machines, of which the first is number `first`, and a new renter for each client, in one
    /// transaction.
    async fn make_machines(&self, first: usize) -> Result<Vec<(usize, Ready)>, BenchError> {
        let (clients, provider, spread) = (self.clients, self.provider, self.spread);
        let now = self.store.now().seconds();
        self.store
            .write::<Vec<(usize, Ready)>, String, _>("bench.machines", move |tx| {
                Box::pin(async move {
                    let mut renters = Vec::new();
                    for _ in 0..clients {
                        renters.push(sign_in(tx, now).await?);
                    }
                    let mut made = Vec::new();
                    for number in first..first.saturating_add(CHUNK) {
                        let offer = list_machine(tx, &provider, now).await?;
                        for gpu in 0..GPUS {
                            let turn = match spread {
                                Spread::Own => number,
                                Spread::Shared => number.saturating_mul(GPUS).saturating_add(gpu),
                            };
                            let at = turn.checked_rem(renters.len()).unwrap_or_default();
                            let Some((renter, session)) = renters.get(at) else {
                                continue;
                            };
                            let quote = quote(&offer, renter, &provider, now)?;
                            quotes::insert(tx, &quote).await?;
                            made.push((at, Ready { quote: quote.id, session: session.clone() }));
                        }
                    }
                    Ok(made)
                })
            })
            .await
            .map_err(BenchError::subject("make quotes"))
    }
}

async fn open(tx: &mut Connection, now: UnixSeconds) -> Result<Account, StoreError> {
    let deployment = Deployment {
        chain_id: CHAIN_ID,
        genesis_hash: B256::repeat_byte(1),
        escrow: ESCROW,
        code_hash: B256::repeat_byte(2),
        deployed_block: 0,
    };
    deployment::record(tx, &deployment).await?;
    let token = Token {
        address: TOKEN,
        symbol: "USDB".to_owned(),
        decimals: Decimals::new(6).map_err(StoreError::corrupt)?,
        usd: UsdMicros::new(1_000_000),
        price_source: "fixed".to_owned(),
        priced_at: now,
        fixed: true,
        permit: None,
    };
    tokens::upsert(tx, &token).await?;
    let id = || AccountId::from_uuid(Uuid::now_v7());
    accounts::find_or_create(tx, id(), Address::repeat_byte(0xaa), now).await
}

/// A new renter with a session.
async fn sign_in(tx: &mut Connection, now: UnixSeconds) -> Result<(Account, Arc<str>), StoreError> {
    let id = Uuid::now_v7();
    let session = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(id));
    let token_hash: [u8; 32] = Sha256::digest(session.as_bytes()).into();
    let wallet = Address::from_word(B256::from(token_hash));
    let renter = accounts::find_or_create(tx, AccountId::from_uuid(id), wallet, now).await?;
    let new = NewSession {
        id: SessionId::from_uuid(Uuid::now_v7()),
        token_hash,
        owner: NewOwner::Account(renter.id),
        user_agent: None,
        now,
        expires_at: now.saturating_plus(GOOD_FOR),
    };
    accounts::open_session(tx, &new).await?;
    Ok((renter, session.into()))
}

/// A machine with eight GPUs and its offer of one GPU at a time.
async fn list_machine(
    tx: &mut Connection,
    provider: &Account,
    now: UnixSeconds,
) -> Result<NewOffer, StoreError> {
    let id = Uuid::now_v7();
    let machine = NewMachine {
        id: MachineId::from_uuid(id),
        account: provider.id,
        spec: MachineSpec {
            name: "rack".to_owned(),
            region: "de-fra".to_owned(),
            cpu_cores: 128,
            ram_gb: 1_024,
            disk_gb: 8_192,
        },
        gpus: (0..GPUS).map(|_| gpu()).collect(),
        enroll: EnrollToken {
            hash: Sha256::digest(id).into(),
            expires_at: now.saturating_plus(GOOD_FOR),
        },
        now,
    };
    machines::create(tx, &machine).await?;
    let offer = NewOffer {
        id: OfferId::from_uuid(Uuid::now_v7()),
        machine: machine.id,
        account: provider.id,
        model: MODEL.to_owned(),
        terms: OfferTerms::plain(
            UsdPerHour(UsdMicros::new(PRICE)),
            1,
            Seconds(60),
            Seconds(7 * 24 * 3_600),
        ),
        now,
    };
    offers::create(tx, &offer).await?;
    Ok(offer)
}

fn gpu() -> Gpu {
    let id = Uuid::now_v7();
    Gpu { id: GpuId::from_uuid(id), vendor_uuid: format!("GPU-{id}"), model: MODEL.to_owned() }
}

/// An hour of one GPU of the offer.
fn quote(
    offer: &NewOffer,
    renter: &Account,
    provider: &Account,
    now: UnixSeconds,
) -> Result<Quote, StoreError> {
    let id = QuoteId::from_uuid(Uuid::now_v7());
    let price = Amount::new(u128::from(PRICE)).map_err(StoreError::corrupt)?;
    let expires_at = now.saturating_plus(GOOD_FOR);
    let mut quote = Quote {
        id,
        account: renter.id,
        offer: offer.id,
        offer_version: 1,
        machine: offer.machine,
        model: offer.model.clone(),
        gpu_count: 1,
        extras: quotes::Extras::default(),
        duration: Seconds(3_600),
        usd_per_hour: offer.terms.price,
        lines: json!([{"kind": "gpu", "model": MODEL, "count": 1}]),
        renter: renter.address,
        provider: provider.address,
        token: TOKEN,
        rate: TokenRate::new(price).map_err(StoreError::corrupt)?,
        fee: FeeBps::quotable(1_200).map_err(StoreError::corrupt)?,
        start_by: expires_at.saturating_plus(Seconds(3_600)),
        holdback: Seconds(3_600),
        order_hash: B256::from(<[u8; 32]>::from(Sha256::digest(id.uuid()))),
        escrow_id: B256::ZERO,
        deposit: price,
        created_at: now,
        expires_at,
        fx: None,
        sla: None,
        seal: None,
    };
    quote.escrow_id = terms_hash(&Terms::from(&quote.terms()), &escrow::domain(CHAIN_ID, ESCROW));
    Ok(quote)
}
