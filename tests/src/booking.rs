//! A machine of one GPU, offered, quoted and booked, through the store's own functions.

use alloy::{
    primitives::{Address, B256, keccak256},
    sol_types::Eip712Domain,
};
use domain::{
    billing::deposit_ceil,
    id::{AccountId, GpuId, MachineId, OfferId, QuoteId, RentalId},
    money::{Amount, Decimals, FeeBps, UsdMicros},
    offer::OfferTerms,
    rate::{TokenRate, UsdPerHour},
    time::{Seconds, UnixSeconds},
};
use escrow::{Terms, terms_hash};
use serde_json::json;
use store::{
    Connection, Policy, Store, StoreError, TxError, accounts,
    machines::{self, EnrollToken, Gpu, MachineSpec, NewMachine},
    offers::{self, NewOffer},
    quotes::{self, Quote},
    rentals::{self, NewRental},
    tokens::{self, Token},
};
use uuid::Uuid;

/// The native coin.
pub const POL: Address = Address::ZERO;
/// Base units of the native coin per hour: no whole number per second.
pub const RATE: u128 = 2_600_000_000_000_000_003;
/// Base units of a token with 6 decimals per hour: no whole number per second either.
pub const USDC_RATE: u128 = 650_001;
/// For how long the quoted deposit pays.
pub const HOUR: Seconds = Seconds(3_600);
pub const FEE_BPS: u16 = 1_200;

#[must_use]
pub fn policy() -> Policy {
    Policy {
        fee: FeeBps::quotable(FEE_BPS).unwrap(),
        quote_ttl: Seconds(300),
        funding_ttl: Seconds(600),
        ready_ttl: Seconds(600),
        evidence_timeout: HOUR,
        max_outage: HOUR,
        expiring_lead: Seconds(300),
        stop_grace: Seconds(600),
        holdback: Seconds::ZERO,
        release_every: Seconds::ZERO,
        start_slack: Seconds(600),
    }
}

/// Who rents from whom, for what.
#[derive(Clone)]
pub struct Order {
    pub renter: Address,
    pub provider: Address,
    pub token: Address,
    pub rate: u128,
    /// Seconds that a close leaves to the renter to dispute; none of them with its signature.
    pub holdback: Seconds,
    pub now: UnixSeconds,
    pub domain: Eip712Domain,
}

/// A booked rental and what is needed to act on it.
#[derive(Clone, Debug)]
pub struct Booked {
    pub id: RentalId,
    pub machine: MachineId,
    pub terms: Terms,
    pub escrow_id: B256,
    pub deposit: Amount,
    pub rate: u128,
}

impl Booked {
    /// What so many seconds cost: to the provider, to the platform, back to the renter. Worked out here
    /// by plain arithmetic, not by the code under test.
    #[must_use]
    pub fn parts(&self, locked: Amount, seconds: u128) -> [u128; 3] {
        let gross = (seconds * self.rate / 3_600).min(locked.get());
        let fee = gross * u128::from(FEE_BPS) / 10_000;
        [gross - fee, fee, locked.get() - gross]
    }
}

/// Ids of one booking. The quote's is in the terms, and so in the rental's id on the chain.
#[derive(Clone, Copy)]
pub struct Ids {
    machine: MachineId,
    offer: OfferId,
    quote: QuoteId,
    rental: RentalId,
}

impl Ids {
    /// Ids out of any source of fresh ones.
    pub fn from(mut fresh: impl FnMut() -> Uuid) -> Self {
        Self {
            machine: MachineId::from_uuid(fresh()),
            offer: OfferId::from_uuid(fresh()),
            quote: QuoteId::from_uuid(fresh()),
            rental: RentalId::from_uuid(fresh()),
        }
    }
}

/// Registers a machine and books it.
pub async fn book(store: &Store, order: &Order) -> Booked {
    book_as(store, order, Ids::from(Uuid::now_v7), HOUR).await
}

/// The same under ids of the caller's choice, for a deposit that pays for `duration`, by the store's policy.
pub async fn book_as(store: &Store, order: &Order, ids: Ids, duration: Seconds) -> Booked {
    let (order, policy) = (order.clone(), store.policy().clone());
    store
        .write("book", move |tx| {
            let (order, policy) = (order.clone(), policy.clone());
            Box::pin(async move {
                Ok::<_, TxError<StoreError>>(write(tx, &policy, &order, ids, duration).await?)
            })
        })
        .await
        .unwrap()
}

async fn write(
    tx: &mut Connection,
    policy: &Policy,
    order: &Order,
    ids: Ids,
    duration: Seconds,
) -> Result<Booked, StoreError> {
    let now = order.now;
    let fresh = || AccountId::from_uuid(Uuid::now_v7());
    let renter = accounts::find_or_create(tx, fresh(), order.renter, now).await?.id;
    let provider = accounts::find_or_create(tx, fresh(), order.provider, now).await?.id;
    machines::create(tx, &machine(ids.machine, provider, now)).await?;
    offers::create(tx, &offer(ids, provider, now)).await?;
    let quote = quote(policy, order, ids, (renter, duration));
    quotes::insert(tx, &quote).await?;
    let new = NewRental {
        id: ids.rental,
        quote_id: ids.quote,
        escrow_id: quote.escrow_id,
        renter,
        provider,
        machine: ids.machine,
        gpu_count: 1,
        now,
    };
    rentals::book(tx, policy, &new).await?;
    Ok(Booked {
        id: ids.rental,
        machine: ids.machine,
        terms: Terms::from(&quote.terms()),
        escrow_id: quote.escrow_id,
        deposit: quote.deposit,
        rate: order.rate,
    })
}

fn machine(id: MachineId, account: AccountId, now: UnixSeconds) -> NewMachine {
    NewMachine {
        id,
        account,
        spec: MachineSpec {
            name: "a machine".to_owned(),
            region: "de-fra".to_owned(),
            cpu_cores: 8,
            ram_gb: 32,
            disk_gb: 100,
        },
        gpus: vec![Gpu {
            id: GpuId::from_uuid(Uuid::now_v7()),
            vendor_uuid: format!("GPU-{}", Uuid::now_v7()),
            model: "rtx-4090".to_owned(),
        }],
        enroll: EnrollToken {
            hash: keccak256(id.uuid()).0,
            expires_at: now.saturating_plus(Seconds(60)),
        },
        now,
    }
}

fn offer(ids: Ids, account: AccountId, now: UnixSeconds) -> NewOffer {
    NewOffer {
        id: ids.offer,
        machine: ids.machine,
        account,
        model: "rtx-4090".to_owned(),
        terms: OfferTerms::plain(
            UsdPerHour(UsdMicros::new(650_000)),
            1,
            Seconds(1),
            Seconds(86_400),
        ),
        now,
    }
}

fn quote(
    policy: &Policy,
    order: &Order,
    ids: Ids,
    (account, duration): (AccountId, Seconds),
) -> Quote {
    let rate = TokenRate::new(Amount::new(order.rate).unwrap()).unwrap();
    let mut quote = Quote {
        id: ids.quote,
        account,
        offer: ids.offer,
        offer_version: 1,
        machine: ids.machine,
        model: "rtx-4090".to_owned(),
        gpu_count: 1,
        extras: quotes::Extras::default(),
        duration,
        usd_per_hour: UsdPerHour(UsdMicros::new(650_000)),
        lines: json!([]),
        renter: order.renter,
        provider: order.provider,
        token: order.token,
        rate,
        fee: policy.fee,
        start_by: order.now.saturating_plus(policy.start_window()),
        holdback: order.holdback,
        order_hash: keccak256(ids.quote.uuid()),
        escrow_id: B256::ZERO,
        deposit: deposit_ceil(rate, duration).unwrap(),
        created_at: order.now,
        expires_at: order.now.saturating_plus(policy.quote_ttl),
        fx: None,
        sla: None,
        seal: None,
    };
    quote.escrow_id = terms_hash(&Terms::from(&quote.terms()), &order.domain);
    quote
}

/// Lists the native coin and, if there is one, a token that stands for dollars.
pub async fn list_tokens(store: &Store, usdc: Option<Address>, now: UnixSeconds) {
    let token = |address, symbol: &str, decimals, usd| Token {
        address,
        symbol: symbol.to_owned(),
        decimals: Decimals::new(decimals).unwrap(),
        usd: UsdMicros::new(usd),
        price_source: "fixed for the test".to_owned(),
        priced_at: now,
        fixed: true,
        permit: None,
    };
    let mut listed = vec![token(POL, "POL", 18, 250_000)];
    listed.extend(usdc.map(|usdc| token(usdc, "USDC", 6, 1_000_000)));
    store
        .write("list tokens", move |tx| {
            let listed = listed.clone();
            Box::pin(async move {
                for token in &listed {
                    tokens::upsert(tx, token).await?;
                }
                Ok::<_, TxError<StoreError>>(())
            })
        })
        .await
        .unwrap();
}
