//! The loops that only look on: what they keep is right, whoever runs them and however often.

use std::sync::Arc;

use alloy::primitives::{Address, keccak256};
use domain::{
    id::MachineId,
    time::{Clock as _, Seconds, UnixMillis, UnixSeconds},
};
use engine::{Assessor, Surveyor};
use store::{
    Store, TxError, machines,
    prices::{self, Series},
    reliability,
};
use testkit::{ManualClock, TestDb};
use tests::booking::{self, Booked, Order, POL, RATE, policy};

/// On the bound of a day.
pub const DAY: u64 = 1_800_057_600;

pub struct Scene {
    pub store: Store,
    pub clock: Arc<ManualClock>,
    pub booked: Booked,
}

fn order(now: UnixSeconds) -> Order {
    Order {
        renter: Address::repeat_byte(1),
        provider: Address::repeat_byte(2),
        token: POL,
        rate: RATE,
        holdback: Seconds::ZERO,
        now,
        domain: escrow::domain(31_337, Address::repeat_byte(3)),
    }
}

impl Scene {
    pub async fn new() -> Self {
        let url = TestDb::new(Some(&store::MIGRATOR)).await.unwrap().url;
        let clock = Arc::new(ManualClock::new(UnixMillis(DAY * 1_000)));
        let mut policy = policy();
        policy.evidence_timeout = Seconds(30);
        let store = Store::connect(&url, 8, clock.clone(), policy).await.unwrap();
        let now = clock.now().seconds();
        booking::list_tokens(&store, None, now).await;
        let booked = booking::book(&store, &order(now)).await;
        let token = keccak256(booked.machine.uuid()).0;
        store
            .write::<(), (), _>("enroll", move |tx| {
                let agent = Address::repeat_byte(4);
                Box::pin(async move {
                    Ok::<_, TxError<()>>(machines::enroll(tx, &token, agent, now).await.map(drop)?)
                })
            })
            .await
            .unwrap();
        let scene = Self { store, clock, booked };
        scene.beat().await;
        scene
    }

    /// Registers another machine, and books it.
    pub async fn book(&self) -> Booked {
        booking::book(&self.store, &order(self.clock.now().seconds())).await
    }

    pub async fn beat(&self) {
        self.beat_of(self.booked.machine).await;
    }

    pub async fn beat_of(&self, id: MachineId) {
        let now = self.clock.now().seconds();
        self.store
            .write::<(), (), _>("beat", move |tx| {
                Box::pin(async move {
                    Ok::<_, TxError<()>>(
                        machines::heartbeat(tx, id, now, Seconds(30), None).await.map(drop)?,
                    )
                })
            })
            .await
            .unwrap();
    }

    async fn pass(&self, seconds: u32) {
        let mut left = seconds;
        while left > 0 {
            let step = left.min(20);
            self.clock.advance(Seconds(step));
            self.beat().await;
            left -= step;
        }
    }

    async fn points(&self, step: u32) -> Vec<prices::Point> {
        self.points_of("ask", step).await
    }

    pub async fn points_of(&self, kind: &str, step: u32) -> Vec<prices::Point> {
        let series = Series { kind, model: "rtx-4090", tier: "", region: "", step };
        let mut connection = self.store.read().await.unwrap();
        let (from, to) = (UnixSeconds(DAY - 86_400), UnixSeconds(DAY + 90 * 86_400));
        prices::points(&mut connection, &series, from, to, 1_000).await.unwrap()
    }
}

#[tokio::test]
async fn two_surveyors_keep_one_history() {
    let scene = Scene::new().await;
    let (one, two) = (Surveyor::new(scene.store.clone()), Surveyor::new(scene.store.clone()));
    let both = async || (one.tick().await.unwrap(), two.tick().await.unwrap());
    assert_eq!(both().await, (true, true));
    assert_eq!(both().await, (false, false), "one sample in five minutes");
    scene.pass(300).await;
    assert_eq!(both().await, (true, true));
    let points = scene.points(300).await;
    assert_eq!(points.len(), 2);
    assert_eq!((points[1].n, points[1].median.get(), points[1].gpus_rented), (1, 650_000, 1));
    assert!(scene.points(3_600).await.is_empty(), "the hour is not over");
    scene.pass(3_300).await;
    assert_eq!(both().await, (true, true));
    let hours = scene.points(3_600).await;
    assert_eq!((hours.len(), hours[0].at, hours[0].n), (1, UnixSeconds(DAY), 1));
    // a week and a day later only the hour is left of it
    scene.clock.advance(Seconds(8 * 86_400));
    scene.beat().await;
    assert_eq!(both().await, (true, true));
    assert_eq!(scene.points(300).await.len(), 1, "the one of now");
    assert_eq!(scene.points(3_600).await.len(), 1);
}

#[tokio::test]
async fn a_machine_whose_key_was_revoked_is_assessed_still() {
    let scene = Scene::new().await;
    scene.pass(600).await;
    let (machine, now) = (scene.booked.machine, scene.clock.now().seconds());
    let revoking = scene.store.write::<bool, (), _>("revoke", move |tx| {
        Box::pin(async move { Ok(machines::revoke_key(tx, machine, now).await?) })
    });
    assert!(revoking.await.unwrap());
    let assessor = Assessor::new(scene.store.clone());
    assert_eq!(assessor.tick().await.unwrap(), 1);
    let mut connection = scene.store.read().await.unwrap();
    assert_eq!(reliability::of(&mut connection, machine).await.unwrap().len(), 3);
}

#[tokio::test]
async fn machines_are_assessed_round_by_round() {
    let scene = Scene::new().await;
    let assessor = Assessor::new(scene.store.clone());
    scene.pass(1_200).await;
    scene.clock.advance(Seconds(300));
    scene.beat().await;
    scene.pass(600).await;
    assert_eq!(assessor.tick().await.unwrap(), 1);
    assert_eq!(assessor.tick().await.unwrap(), 0, "all had their turn");
    let shown = async || {
        let mut connection = scene.store.read().await.unwrap();
        reliability::of(&mut connection, scene.booked.machine).await.unwrap()
    };
    let before = shown().await;
    assert_eq!(before.iter().map(|shown| shown.days).collect::<Vec<_>>(), [7, 30, 90]);
    // listed all the time up to two timeouts and a minute ago, silent for five minutes
    let figures = before[0].figures;
    assert_eq!((figures.idle_s, figures.idle_good_s), (2_100 - 120, 2_100 - 120 - 300));
    scene.pass(600).await;
    assert_eq!(assessor.tick().await.unwrap(), 1, "the next round");
    let after = shown().await[0].figures;
    assert_eq!((after.idle_s, after.idle_good_s), (2_700 - 120, 2_700 - 120 - 300));
    assert!(after.score_bps >= figures.score_bps);
    // with more rows than are looked at nothing is known, what was known before included
    sqlx::query(
        "INSERT INTO machine_listings (offer_id, machine_id, from_at, to_at)
         SELECT offer_id, machine_id, from_at, from_at FROM machine_listings, generate_series(0, $1)",
    )
    .bind(i32::try_from(reliability::MAX_ROWS).unwrap())
    .execute(scene.store.pool())
    .await
    .unwrap();
    scene.pass(600).await;
    assert_eq!(assessor.tick().await.unwrap(), 1);
    assert_eq!(shown().await, []);
    // but its rows are settled up to there as well
    let looked_at = {
        let mut connection = scene.store.read().await.unwrap();
        reliability::looked_at_until(&mut connection, scene.booked.machine).await.unwrap()
    };
    let settled = scene.clock.now().seconds().saturating_minus(Seconds(120));
    assert_eq!(looked_at, Some(settled));
}
