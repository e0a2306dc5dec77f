//! The history of prices, written by the surveyor from offers and deals of many prices: each figure is the one that a count
//! by hand comes to.

use domain::{
    rental::RentalEvent,
    time::{Seconds, UnixSeconds},
};
use engine::Surveyor;
use store::{
    TxError, advance,
    prices::{self, Band, Point, STEPS},
    rentals,
    rentals::MoneyDelta,
};
use tests::booking::Booked;

use crate::figures::{DAY, Scene};

/// Enough for the 10th percentile and the 90th to be other prices than the lowest and the highest.
const MACHINES: u64 = 11;

/// How many, the lowest, 10th percentile, median, 90th percentile and the highest, GPUs, and those that are rented.
type Figures = [u64; 8];

fn figures(point: &Point) -> Figures {
    [
        point.n,
        point.minimum.get(),
        point.p10.get(),
        point.median.get(),
        point.p90.get(),
        point.maximum.get(),
        point.gpus,
        point.gpus_rented,
    ]
}

/// The number `ceil(percent / 100 * n)` in ascending order.
fn nearest(mut of: Vec<u64>, percent: usize) -> u64 {
    of.sort_unstable();
    of[(of.len() * percent).div_ceil(100) - 1]
}

/// A day or an hour of its hours or five minutes: the extremes of the extremes, the medians of all else.
fn drawn_together(parts: &[Figures]) -> Figures {
    let column = |place: usize| -> Vec<u64> { parts.iter().map(|part| part[place]).collect() };
    let mut drawn = [0; 8];
    for (place, figure) in drawn.iter_mut().enumerate() {
        *figure = match place {
            1 => column(place).into_iter().min().unwrap(),
            5 => column(place).into_iter().max().unwrap(),
            _ => nearest(column(place), 50),
        };
    }
    drawn
}

struct Market {
    scene: Scene,
    booked: Vec<Booked>,
    surveyor: Surveyor,
}

impl Market {
    /// A market whose terms can be changed afterwards.
    async fn new() -> Self {
        let scene = Scene::new().await;
        let mut booked = vec![scene.booked.clone()];
        for _ in 1..MACHINES {
            booked.push(scene.book().await);
        }
        let free = "ALTER TABLE offer_versions DISABLE TRIGGER USER; ALTER TABLE quotes DISABLE TRIGGER USER";
        sqlx::raw_sql(free).execute(scene.store.pool()).await.unwrap();
        let surveyor = Surveyor::new(scene.store.clone());
        Self { scene, booked, surveyor }
    }

    async fn set(&self, statement: &'static str, id: uuid::Uuid, price: u64) {
        let done = sqlx::query(statement).bind(id).bind(i64::try_from(price).unwrap());
        done.execute(self.scene.store.pool()).await.unwrap();
    }

    /// Offers at 0.10, 0.20, .. dollars, each dearer by so many thousandths; the first `heard` machines are heard of.
    async fn ask(&self, dearer: u64, heard: usize) {
        for (booked, number) in self.booked.iter().zip(1..) {
            let price = number * 100_000 + dearer * 1_000;
            let statement = "UPDATE offer_versions v SET usd_micros_per_hour = $2 FROM offers o
                             WHERE o.id = v.offer_id AND o.machine_id = $1";
            self.set(statement, booked.machine.uuid(), price).await;
        }
        for booked in self.booked.iter().take(heard) {
            self.scene.beat_of(booked.machine).await;
        }
        assert!(self.surveyor.tick().await.unwrap());
    }

    /// What a rental's quote was made for.
    async fn agree(&self, booked: &Booked, price: u64) {
        let statement = "UPDATE quotes q SET usd_micros_per_hour = $2 FROM rentals r
                         WHERE r.quote_id = q.id AND r.id = $1";
        self.set(statement, booked.id.uuid(), price).await;
    }

    /// The deposit is locked, finally.
    async fn lock(&self, booked: &Booked) {
        let (id, deposit) = (booked.id, booked.deposit);
        let (now, policy) = (self.scene.store.now().seconds(), self.scene.store.policy().clone());
        self.scene
            .store
            .write("lock", move |tx| {
                let policy = policy.clone();
                Box::pin(async move {
                    let locked = MoneyDelta { locked: deposit, ..MoneyDelta::default() };
                    rentals::add_money(tx, id, &locked).await?;
                    for event in [RentalEvent::LockIncluded, RentalEvent::LockFinal { now }] {
                        let applied = advance::apply(tx, &policy, id, &event, now).await;
                        applied.map_err(|error| TxError::Refused(error.to_string()))?;
                    }
                    Ok::<_, TxError<String>>(())
                })
            })
            .await
            .unwrap();
    }

    /// What becomes of all machines.
    async fn machines(&self, change: &'static str) {
        sqlx::raw_sql(change).execute(self.scene.store.pool()).await.unwrap();
    }

    /// How many there are in each tier and country, in all buckets of a step together.
    async fn groups(&self, kind: &str, step: u32) -> Vec<(String, String, i64)> {
        let groups = sqlx::query_as(
            "SELECT tier, region, sum(n)::bigint FROM price_points WHERE kind = $1 AND step_s = $2
             GROUP BY 1, 2 ORDER BY 1, 2",
        );
        let groups = groups.bind(kind).bind(i32::try_from(step).unwrap());
        groups.fetch_all(self.scene.store.pool()).await.unwrap()
    }

    async fn told(&self, kind: &str, step: u32) -> Vec<(u64, Figures)> {
        let points = self.scene.points_of(kind, step).await;
        points.iter().map(|point| (point.at.get(), figures(point))).collect()
    }
}

#[tokio::test]
async fn hours_and_days_are_drawn_together_from_many_prices() {
    let market = Market::new().await;
    let clock = &market.scene.clock;
    // an hour of twelve samples, in an order that is none; two machines are silent at the fourth
    for bucket in 0..12 {
        let heard = if bucket == 3 { 9 } else { 11 };
        market.ask(bucket * 7 % 12, heard).await;
        clock.advance(Seconds(300));
    }
    let samples = market.told("ask", 300).await;
    assert_eq!(samples.len(), 12);
    // the 1st, 2nd, 6th, 10th and 11th of eleven, of 9 the 1st, 5th and 9th
    assert_eq!(
        samples[1].1,
        [11, 107_000, 207_000, 607_000, 1_007_000, 1_107_000, 11, 11],
        "seven thousandths dearer"
    );
    assert_eq!(samples[3].1, [9, 109_000, 109_000, 509_000, 909_000, 909_000, 9, 9]);
    assert!(market.told("ask", 3_600).await.is_empty(), "the hour is not over");
    market.ask(20, 11).await;
    let hours = market.told("ask", 3_600).await;
    // of the extremes the extreme, of all else the sixth of twelve
    let first = [11, 100_000, 204_000, 604_000, 1_004_000, 1_111_000, 11, 11];
    assert_eq!(hours, [(DAY, first)]);
    let parts: Vec<Figures> = samples.iter().map(|sample| sample.1).collect();
    assert_eq!(drawn_together(&parts), first);

    // 23 hours with a sample each: the one of the second hour is made above
    for hour in 2..24_u64 {
        clock.advance(Seconds(3_600));
        let heard = if hour % 2 == 0 { 11 } else { 10 };
        market.ask(20 + hour * 5 % 24, heard).await;
    }
    assert!(market.told("ask", 86_400).await.is_empty(), "the day is not over");
    clock.advance(Seconds(3_600));
    market.ask(90, 11).await;
    let hours = market.told("ask", 3_600).await;
    assert_eq!(hours.len(), 24);
    assert_eq!(hours[2].0, DAY + 7_200);
    assert_eq!(hours[2].1, [11, 130_000, 230_000, 630_000, 1_030_000, 1_130_000, 11, 11]);
    let parts: Vec<Figures> = hours.iter().map(|hour| hour.1).collect();
    let day = drawn_together(&parts);
    assert_eq!(market.told("ask", 86_400).await, [(DAY, day)]);
    assert_eq!((day[0], day[1], day[5]), (11, 100_000, 1_142_000), "more than half had eleven");

    // days are kept for ever, hours are not
    clock.advance(Seconds(401 * 86_400));
    market.ask(0, 11).await;
    assert_eq!(market.told("ask", 3_600).await, []);
    assert_eq!(market.scene.store.now().seconds(), UnixSeconds(DAY + 402 * 86_400));
    let mut connection = market.scene.store.read().await.unwrap();
    let kept = sqlx::query_scalar::<_, i64>(
        "SELECT count(*) FROM price_points WHERE step_s = 86400 AND tier = '' AND region = ''",
    );
    assert_eq!(kept.fetch_one(&mut *connection).await.unwrap(), 1);
}

#[tokio::test]
async fn deals_are_counted_when_they_were_booked_once_their_deposit_is_final() {
    let market = Market::new().await;
    let clock = &market.scene.clock;
    // 0.40, 0.45, .. in an order that is none
    for (booked, number) in market.booked.iter().zip(0_u64..) {
        market.agree(booked, 400_000 + number * 4 % 11 * 50_000).await;
    }
    market.surveyor.tick().await.unwrap();
    for step in [300, 3_600, 86_400] {
        assert_eq!(market.told("deal", step).await, [], "a booking alone says nothing");
    }
    for booked in &market.booked[..10] {
        market.lock(booked).await;
    }
    clock.advance(Seconds(300));
    market.surveyor.tick().await.unwrap();
    // all but number 10, which is the one of 0.75: the 1st, 1st, 5th, 9th and 10th
    let ten = [10, 400_000, 400_000, 600_000, 850_000, 900_000, 10, 10];
    for step in [300, 3_600, 86_400] {
        assert_eq!(market.told("deal", step).await, [(DAY, ten)], "{step}");
    }
    // the last becomes final an hour and a half later, after another was booked and locked
    clock.advance(Seconds(5_400));
    let later = market.scene.book().await;
    market.agree(&later, 2_000_000).await;
    market.lock(&later).await;
    market.lock(&market.booked[10]).await;
    market.surveyor.tick().await.unwrap();
    // the 1st, 2nd, 6th, 10th and 11th
    let eleven = [11, 400_000, 450_000, 650_000, 850_000, 900_000, 11, 11];
    let one = [1, 2_000_000, 2_000_000, 2_000_000, 2_000_000, 2_000_000, 1, 1];
    assert_eq!(market.told("deal", 300).await, [(DAY, eleven), (DAY + 5_700, one)]);
    assert_eq!(market.told("deal", 3_600).await, [(DAY, eleven), (DAY + 3_600, one)]);
    // of a day they are the day's deals, not the medians of its hours: the 1st, 2nd, 6th, 11th and 12th
    let day = [12, 400_000, 450_000, 650_000, 900_000, 2_000_000, 12, 12];
    assert_eq!(market.told("deal", 86_400).await, [(DAY, day)]);
}

/// So many in each of the four groups that a tier and a country make.
fn in_groups(tier: &str, region: &str, n: i64) -> [(String, String, i64); 4] {
    [("", ""), ("", region), (tier, ""), (tier, region)]
        .map(|(tier, region)| (tier.to_owned(), region.to_owned(), n))
}

#[tokio::test]
async fn a_deal_is_counted_once_in_the_tier_and_the_country_that_it_was_booked_in() {
    let market = Market::new().await;
    market.lock(&market.booked[0]).await;
    market.surveyor.tick().await.unwrap();
    market.machines("UPDATE machines SET verification = 'verified', region = 'us-nyc'").await;
    market.scene.clock.advance(Seconds(300));
    market.surveyor.tick().await.unwrap();
    for step in STEPS {
        assert_eq!(market.groups("deal", step).await, in_groups("unverified", "de", 1), "{step}");
    }
    // by the version before nothing was kept of where it was booked: it moves with its machine, and leaves nothing behind
    market.machines("UPDATE rentals SET tier = NULL, region = NULL").await;
    market.scene.clock.advance(Seconds(300));
    market.surveyor.tick().await.unwrap();
    for step in STEPS {
        assert_eq!(market.groups("deal", step).await, in_groups("verified", "us", 1), "{step}");
    }
}

#[tokio::test]
async fn what_was_counted_and_is_not_found_any_more_is_taken_back() {
    let market = Market::new().await;
    let stray = Band {
        model: "rtx-4090".to_owned(),
        tier: "datacenter".to_owned(),
        region: "se".to_owned(),
        n: 1,
        minimum: 1,
        p10: 1,
        median: 1,
        p90: 1,
        maximum: 1,
        gpus: 1,
        gpus_rented: 0,
    };
    let noted = market.scene.store.write::<(), (), _>("stray", move |tx| {
        let stray = [stray.clone()];
        Box::pin(async move {
            for step in STEPS {
                prices::note_deals(tx, step, UnixSeconds(DAY), &stray).await?;
            }
            Ok::<_, TxError<()>>(())
        })
    });
    noted.await.unwrap();
    assert_eq!(market.groups("deal", 300).await.len(), 1);
    market.surveyor.tick().await.unwrap();
    for step in STEPS {
        assert_eq!(market.groups("deal", step).await, [], "{step}");
    }
}

#[tokio::test]
async fn a_sample_is_of_one_moment_whoever_takes_another() {
    let market = Market::new().await;
    market.ask(0, 11).await;
    market.machines("UPDATE machines SET verification = 'verified'").await;
    let other = Surveyor::new(market.scene.store.clone());
    // two at once would not see each other's
    let mut connection = market.scene.store.read().await.unwrap();
    let mut somebody = testkit::begin(&mut connection).await.unwrap();
    assert!(prices::take_turn(&mut somebody).await.unwrap());
    assert!(!other.tick().await.unwrap());
    somebody.rollback().await.unwrap();
    assert!(other.tick().await.unwrap());
    assert_eq!(market.groups("ask", 300).await, in_groups("unverified", "de", 11));
}

/// Five hours in which nobody surveyed, for want of a worker or of its database: what can be known of them later is.
#[tokio::test]
async fn what_nobody_surveyed_is_made_up_for() {
    for restarted in [false, true] {
        let market = Market::new().await;
        market.ask(0, 11).await;
        market.agree(&market.booked[0], 400_000).await;
        market.scene.clock.advance(Seconds(5 * 3_600));
        market.lock(&market.booked[0]).await;
        let fresh = Surveyor::new(market.scene.store.clone());
        let surveyor = if restarted { &fresh } else { &market.surveyor };
        assert!(surveyor.tick().await.unwrap());
        let one = [1, 400_000, 400_000, 400_000, 400_000, 400_000, 1, 1];
        for step in [300, 3_600, 86_400] {
            assert_eq!(market.told("deal", step).await, [(DAY, one)], "{step} {restarted}");
        }
        let hours = market.told("ask", 3_600).await;
        assert_eq!((hours.len(), hours[0].0), (1, DAY), "{restarted}");
    }
}

/// What nobody can book is no price that is asked.
#[tokio::test]
async fn an_offer_in_maintenance_or_at_its_end_is_no_ask() {
    let market = Market::new().await;
    market.ask(0, 11).await;
    let count = async || market.told("ask", 300).await.last().unwrap().1[0];
    assert_eq!(count().await, 11);
    for (statement, left) in [
        (
            "INSERT INTO maintenance_windows (id, machine_id, during, reason, created_at)
             VALUES (gen_random_uuid(), $1, tstzrange(to_timestamp($2), to_timestamp($2 + 3600)), 'fans', now())",
            10,
        ),
        (
            "UPDATE offer_versions v SET available_until = to_timestamp($2 + min_duration_s - 1)
             FROM offers o WHERE o.id = v.offer_id AND o.machine_id = $1",
            9,
        ),
    ] {
        market.scene.clock.advance(Seconds(300));
        let now = market.scene.store.now().seconds().get();
        let machine = market.booked[usize::try_from(left).unwrap()].machine;
        market.set(statement, machine.uuid(), now).await;
        market.ask(0, 11).await;
        assert_eq!(count().await, left);
    }
}
