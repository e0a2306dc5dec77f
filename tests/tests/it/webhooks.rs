//! Webhooks, called: real sockets, a real database, and signatures that another library verifies.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy::primitives::Address;
use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use domain::{
    id::{AccountId, DeliveryId, WebhookId},
    time::{Clock as _, Seconds, UnixMillis, UnixSeconds},
    webhook::Rules,
};
use engine::{Courier, Told};
use serde_json::Value;
use standardwebhooks::Webhook as Verifier;
use store::{
    Store, StoreError, TxError, accounts,
    webhooks::{
        self, Webhook, Wish,
        claim::{self, Due, Places},
        deliveries::{self, Delivery},
        upkeep,
    },
};
use testkit::{ManualClock, TestDb};
use tests::booking::policy;
use tokio::sync::Semaphore;
use uuid::Uuid;

const LOOPBACK: Rules = Rules { loopback: true };
const OFFLINE: Seconds = Seconds(30);
const SECRET: [u8; 32] = [7; 32];

/// What an endpoint was called with.
#[derive(Clone)]
struct Call {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn verifies(&self, secret: &[u8]) -> bool {
        // the library's own check of the time goes by the clock on the wall
        let at = self.header("webhook-timestamp").parse().unwrap();
        let signed = verifier(secret).sign(self.header("webhook-id"), at, &self.body).unwrap();
        self.header("webhook-signature").split(' ').any(|one| one == signed)
    }
}

fn verifier(secret: &[u8]) -> Verifier {
    Verifier::from_bytes(secret.to_vec()).unwrap()
}

/// An endpoint: answers each path by its plan, and remembers who called.
struct Endpoint {
    url: String,
    calls: Arc<Mutex<Vec<Call>>>,
    /// What to answer at a path, in turn; the last one again and again.
    plan: Arc<Mutex<BTreeMap<String, Vec<u16>>>>,
    /// `/slow` answers when one is given out.
    gate: Arc<Semaphore>,
    /// `/slower` has its own.
    other_gate: Arc<Semaphore>,
}

impl Endpoint {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let plan: Arc<Mutex<BTreeMap<String, Vec<u16>>>> = Arc::default();
        let (gate, other_gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let gates = [("/slow", gate.clone()), ("/slower", other_gate.clone())];
        let (seen, planned) = (calls.clone(), plan.clone());
        let router = Router::new().fallback(move |request: Request| {
            let (seen, planned, gates) = (seen.clone(), planned.clone(), gates.clone());
            async move {
                let (parts, body) = request.into_parts();
                let path = parts.uri.to_string();
                let body = to_bytes(body, 1 << 20).await.unwrap();
                let call = Call { path: path.clone(), headers: parts.headers, body };
                seen.lock().unwrap().push(call);
                if let Some((_, closed)) = gates.iter().find(|(slow, _)| *slow == path) {
                    closed.acquire().await.unwrap().forget();
                }
                answer(&mut planned.lock().unwrap(), &path)
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, calls, plan, gate, other_gate }
    }

    fn plans(&self, path: &str, statuses: &[u16]) {
        self.plan.lock().unwrap().insert(path.to_owned(), statuses.to_vec());
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    fn of(&self, path: &str) -> usize {
        self.calls().iter().filter(|call| call.path == path).count()
    }

    /// Waits until a path was called so often.
    async fn called(&self, path: &str, times: usize) {
        while self.of(path) < times {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn answer(plan: &mut BTreeMap<String, Vec<u16>>, path: &str) -> Response {
    let statuses = plan.entry(path.to_owned()).or_insert_with(|| vec![204]);
    let status = if statuses.len() > 1 { statuses.remove(0) } else { statuses[0] };
    let status = StatusCode::from_u16(status).unwrap();
    if status.is_redirection() {
        return (status, [("location", "/elsewhere")]).into_response();
    }
    status.into_response()
}

struct Scene {
    store: Store,
    clock: Arc<ManualClock>,
    courier: Courier,
    endpoint: Endpoint,
    account: AccountId,
}

impl Scene {
    async fn new() -> Self {
        let url = TestDb::new(Some(&store::MIGRATOR)).await.unwrap().url;
        let clock = Arc::new(ManualClock::new(UnixMillis(1_800_000_000_000)));
        let store = Store::connect(&url, 16, clock.clone(), policy()).await.unwrap();
        let now = clock.now().seconds();
        let account = account(&store, 1, now).await;
        let courier = Courier::new(store.clone(), LOOPBACK, OFFLINE);
        Self { store, clock, courier, endpoint: Endpoint::start().await, account }
    }

    fn now(&self) -> UnixSeconds {
        self.clock.now().seconds()
    }

    /// A webhook of the account for a path of the endpoint, or for another URL.
    async fn hook(&self, target: &str) -> WebhookId {
        self.hook_of(self.account, target).await
    }

    async fn hook_of(&self, account: AccountId, target: &str) -> WebhookId {
        let id = WebhookId::from_uuid(Uuid::now_v7());
        let url = if target.starts_with('/') {
            format!("{}{target}", self.endpoint.url)
        } else {
            target.to_owned()
        };
        let wish = Wish { url, events: vec!["*".to_owned()], description: String::new() };
        let now = self.now();
        let made = write(&self.store, move |tx| {
            let wish = wish.clone();
            Box::pin(async move {
                Ok(webhooks::create(tx, (id, account), &wish, &SECRET, 1_000, now).await?)
            })
        });
        assert!(made.await);
        id
    }

    async fn test(&self, hook: WebhookId) -> DeliveryId {
        let now = self.now();
        write(&self.store, move |tx| {
            Box::pin(async move { Ok(deliveries::test(tx, hook, 1_000, now).await?.unwrap()) })
        })
        .await
    }

    /// Gives a webhook a new secret; the old one signs for a day.
    async fn rotate(&self, hook: WebhookId, secret: [u8; 32]) {
        let now = self.now();
        let until = now.saturating_plus(Seconds(86_400));
        write(&self.store, move |tx| {
            Box::pin(async move { Ok(webhooks::rotate(tx, hook, &secret, until, now).await?) })
        })
        .await;
    }

    /// Asks for a delivery once more.
    async fn again(&self, id: DeliveryId) {
        let (delivery, now) = (self.delivery(id).await, self.now());
        let asked = write(&self.store, move |tx| {
            let delivery = delivery.clone();
            Box::pin(async move { Ok(deliveries::again(tx, &delivery, 1, now).await?) })
        });
        assert!(asked.await);
    }

    /// A round of the courier, and the end of every call that it began.
    async fn round(&self) -> Told {
        let told = self.courier.tick().await.unwrap();
        self.courier.finish().await;
        told
    }

    async fn delivery(&self, id: DeliveryId) -> Delivery {
        let mut connection = self.store.read().await.unwrap();
        deliveries::get(&mut connection, id).await.unwrap().unwrap()
    }

    async fn read(&self, id: WebhookId) -> Webhook {
        let mut connection = self.store.read().await.unwrap();
        webhooks::get(&mut connection, id).await.unwrap().unwrap()
    }
}

async fn account(store: &Store, number: u8, now: UnixSeconds) -> AccountId {
    write(store, move |tx| {
        Box::pin(async move {
            let id = AccountId::from_uuid(Uuid::now_v7());
            Ok(accounts::find_or_create(tx, id, Address::repeat_byte(number), now).await?.id)
        })
    })
    .await
}

async fn write<T, F>(store: &Store, work: F) -> T
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut store::Connection) -> store::Unit<'c, T, StoreError>
        + Send
        + Sync
        + 'static,
{
    store.write("test", work).await.map_err(|error: TxError<StoreError>| error.to_string()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_signed_as_another_library_verifies() {
    let scene = Scene::new().await;
    #[expect(clippy::disallowed_methods, reason = "the library verifies the time by this clock")]
    let wall = time::OffsetDateTime::now_utc().unix_timestamp();
    scene.clock.set(UnixMillis(u64::try_from(wall).unwrap() * 1_000));
    let hook = scene.hook("/a?b=c").await;
    let id = scene.test(hook).await;
    assert_eq!(scene.round().await.begun, 1);
    let calls = scene.endpoint.calls();
    let call = &calls[0];
    assert_eq!((calls.len(), call.path.as_str()), (1, "/a?b=c"));
    let delivery = scene.delivery(id).await;
    assert_eq!((delivery.state.as_str(), delivery.attempts), ("delivered", 1));
    assert_eq!((delivery.last_status, delivery.last_error.as_deref()), (Some(204), None));
    assert_eq!(call.header("webhook-id"), delivery.event.to_string());
    assert_eq!(call.header("webhook-timestamp"), wall.to_string());
    verifier(&SECRET).verify(&call.body, &call.headers).unwrap();
    assert!(call.verifies(&SECRET));
    assert!(!call.verifies(&[8; 32]), "by no other secret");
    let mut forged = call.clone();
    forged.body = Bytes::from_static(b"{}");
    assert!(!forged.verifies(&SECRET));
    let body: Value = serde_json::from_slice(&call.body).unwrap();
    assert_eq!(body["type"], "webhook.test");
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(body["data"]["webhook_id"], hook.to_string());
    // nothing else of ours is sent
    let names: Vec<_> = call.headers.keys().map(|name| name.as_str()).collect();
    let mut known = [
        "host",
        "user-agent",
        "content-type",
        "content-length",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    ];
    known.sort_unstable();
    let mut names = names.clone();
    names.sort_unstable();
    assert_eq!(names, known);
    assert_eq!(scene.round().await, Told::default(), "and it is done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_changed_without_loss() {
    let scene = Scene::new().await;
    let hook = scene.hook("/").await;
    let (lost, new) = ([8; 32], [9; 32]);
    scene.rotate(hook, lost).await;
    // the answer with it was lost: asked again, only what nobody has is replaced
    scene.clock.advance(Seconds(3_600));
    scene.rotate(hook, new).await;
    scene.test(hook).await;
    scene.round().await;
    let call = scene.endpoint.calls().remove(0);
    assert_eq!(call.header("webhook-signature").split(' ').count(), 2);
    assert!(call.verifies(&SECRET) && call.verifies(&new) && !call.verifies(&lost));
    scene.clock.advance(Seconds(86_400 - 3_600));
    scene.test(hook).await;
    scene.round().await;
    let call = scene.endpoint.calls().remove(1);
    assert!(!call.verifies(&SECRET) && call.verifies(&new), "the old one is no good any more");
    // from then on the one that it has is the old one
    scene.rotate(hook, lost).await;
    scene.test(hook).await;
    scene.round().await;
    let call = scene.endpoint.calls().remove(2);
    assert!(!call.verifies(&SECRET) && call.verifies(&new) && call.verifies(&lost));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_tried_again_later_with_the_same_id() {
    let scene = Scene::new().await;
    scene.endpoint.plans("/", &[500, 302, 204]);
    let hook = scene.hook("/").await;
    let id = scene.test(hook).await;
    scene.round().await;
    let failed = scene.delivery(id).await;
    assert_eq!((failed.state.as_str(), failed.last_status), ("pending", Some(500)));
    let wait = failed.due_at.unwrap().get() - scene.now().get();
    assert!((4..=6).contains(&wait), "{wait}");
    assert!(scene.read(hook).await.failing_since.is_some());
    assert_eq!(scene.round().await.begun, 0, "not before its time");
    scene.clock.advance(Seconds(6));
    scene.round().await;
    let failed = scene.delivery(id).await;
    assert!(failed.last_error.unwrap().contains("redirects are not followed"));
    assert_eq!(scene.endpoint.of("/elsewhere"), 0);
    scene.clock.advance(Seconds(331));
    scene.round().await;
    let done = scene.delivery(id).await;
    assert_eq!((done.state.as_str(), done.attempts), ("delivered", 3));
    assert_eq!(scene.read(hook).await.failing_since, None);
    let calls = scene.endpoint.calls();
    let ids: Vec<_> = calls.iter().map(|call| call.header("webhook-id")).collect();
    assert_eq!(ids, vec![done.event.to_string(); 3]);
    let times: Vec<_> = calls.iter().map(|call| call.header("webhook-timestamp")).collect();
    assert!(times[0] < times[1] && times[1] < times[2], "each try has its own time");
    assert!(calls.iter().all(|call| call.verifies(&SECRET) && call.body == calls[0].body));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_three_days_it_is_given_up_and_the_webhook_disabled() {
    let scene = Scene::new().await;
    scene.endpoint.plans("/", &[503]);
    let (hook, well) = (scene.hook("/").await, scene.hook("/well").await);
    let id = scene.test(hook).await;
    let begun = scene.now();
    let mut tries = 0;
    loop {
        scene.round().await;
        tries += 1;
        let delivery = scene.delivery(id).await;
        assert_eq!(delivery.attempts, tries);
        let Some(next) = delivery.due_at else { break };
        scene.clock.advance(Seconds(u32::try_from(next.get() - scene.now().get()).unwrap()));
        if tries == 9 {
            // another event waits when the last try fails
            scene.test(hook).await;
            scene.test(well).await;
        }
    }
    assert_eq!(tries, 10);
    let lasted = scene.now().get() - begun.get();
    assert!((3 * 86_400..=4 * 86_400).contains(&lasted), "{lasted}");
    let (reason, _) = scene.read(hook).await.disabled.unwrap();
    assert_eq!(reason, "nothing came through for three days");
    let mut connection = scene.store.read().await.unwrap();
    let all = deliveries::list(&mut connection, hook, None, None, 10).await.unwrap();
    assert!(all.len() == 2 && all.iter().all(|one| one.state == "failed"), "{all:?}");
    drop(connection);
    scene.round().await;
    assert_eq!(scene.endpoint.of("/well"), 1, "others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn gone_is_gone_and_a_redelivery_needs_somebody_to_call() {
    let scene = Scene::new().await;
    scene.endpoint.plans("/", &[410]);
    let hook = scene.hook("/").await;
    let (first, second) = (scene.test(hook).await, scene.test(hook).await);
    scene.round().await;
    let (reason, _) = scene.read(hook).await.disabled.unwrap();
    assert_eq!(reason, "the endpoint answered 410 Gone");
    for id in [first, second] {
        assert_eq!(scene.delivery(id).await.state, "failed");
    }
    // called again, it is told again
    scene.endpoint.plans("/", &[200]);
    let now = scene.now();
    let given_up = scene.delivery(first).await;
    let asked = write(&scene.store, move |tx| {
        let given_up = given_up.clone();
        Box::pin(async move {
            webhooks::enable(tx, hook, now).await?;
            Ok(deliveries::again(tx, &given_up, 1, now).await?)
        })
    });
    assert!(asked.await);
    scene.round().await;
    assert_eq!(scene.delivery(first).await.state, "delivered");
    assert_eq!(scene.delivery(second).await.state, "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_between_call_and_record_is_followed_by_one_that_calls_again() {
    let scene = Scene::new().await;
    let hook = scene.hook("/slow").await;
    let id = scene.test(hook).await;
    let dead = Courier::new(scene.store.clone(), LOOPBACK, OFFLINE);
    assert_eq!(dead.tick().await.unwrap().begun, 1);
    while scene.endpoint.of("/slow") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // the endpoint has it; what it answers nobody hears
    drop(dead);
    assert_eq!(scene.round().await.begun, 0, "its lease still holds");
    scene.clock.advance(Seconds(31));
    scene.endpoint.gate.add_permits(8);
    assert_eq!(scene.round().await.begun, 1);
    let done = scene.delivery(id).await;
    assert_eq!((done.state.as_str(), done.attempts), ("delivered", 2));
    let calls = scene.endpoint.calls();
    assert_eq!(calls[0].header("webhook-id"), calls[1].header("webhook-id"), "the same event");
    assert_eq!(calls.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_holder_of_an_old_lease_saw_does_not_count() {
    let scene = Scene::new().await;
    let hook = scene.hook("/slow").await;
    let id = scene.test(hook).await;
    assert_eq!(scene.courier.tick().await.unwrap().begun, 1);
    scene.endpoint.called("/slow", 1).await;
    // it hangs for longer than its lease, and another takes over and calls where the webhook leads now
    scene.clock.advance(Seconds(31));
    scene.endpoint.plans("/slow", &[200]);
    scene.endpoint.plans("/slower", &[500]);
    let (url, now) = (format!("{}/slower", scene.endpoint.url), scene.now());
    let wish = Wish { url, events: vec!["*".to_owned()], description: String::new() };
    let changed = write(&scene.store, move |tx| {
        let wish = wish.clone();
        Box::pin(async move { Ok(webhooks::change(tx, hook, 1, &wish, now).await?) })
    });
    assert!(changed.await);
    let other = Courier::new(scene.store.clone(), LOOPBACK, OFFLINE);
    assert_eq!(other.tick().await.unwrap().begun, 1);
    scene.endpoint.called("/slower", 1).await;
    // the first one's call comes through after all
    scene.endpoint.gate.add_permits(1);
    scene.courier.finish().await;
    let delivery = scene.delivery(id).await;
    assert_eq!((delivery.state.as_str(), delivery.last_status), ("pending", None));
    scene.endpoint.other_gate.add_permits(1);
    other.finish().await;
    let delivery = scene.delivery(id).await;
    assert_eq!((delivery.state.as_str(), delivery.last_status), ("pending", Some(500)));
    assert_eq!(delivery.attempts, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_during_its_last_try_is_not_given_up() {
    let scene = Scene::new().await;
    scene.endpoint.plans("/slow", &[503]);
    let hook = scene.hook("/slow").await;
    let id = scene.test(hook).await;
    for _ in 0..9 {
        scene.endpoint.gate.add_permits(1);
        scene.round().await;
        let next = scene.delivery(id).await.due_at.unwrap();
        scene.clock.advance(Seconds(u32::try_from(next.get() - scene.now().get()).unwrap()));
    }
    assert_eq!(scene.courier.tick().await.unwrap().begun, 1);
    scene.again(id).await;
    scene.endpoint.gate.add_permits(1);
    scene.courier.finish().await;
    let put_off = scene.delivery(id).await;
    assert_eq!((put_off.state.as_str(), put_off.last_status), ("pending", Some(503)));
    assert_eq!((put_off.attempts, put_off.due_at), (10, Some(scene.now())), "at once");
    assert_eq!(scene.read(hook).await.disabled, None);
    // a try that comes through is what was asked for, and it is not sent once more
    scene.endpoint.plans("/slow", &[204]);
    assert_eq!(scene.courier.tick().await.unwrap().begun, 1);
    scene.again(id).await;
    scene.endpoint.gate.add_permits(1);
    scene.courier.finish().await;
    let done = scene.delivery(id).await;
    assert_eq!((done.state.as_str(), done.attempts), ("delivered", 11));
    assert_eq!(scene.round().await, Told::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_endpoint_starves_nobody() {
    let scene = Scene::new().await;
    let (slow, quick) = (scene.hook("/slow").await, scene.hook("/quick").await);
    for _ in 0..40 {
        scene.test(slow).await;
    }
    for _ in 0..10 {
        scene.test(quick).await;
    }
    // the slow one's are older, and still only four of them are under way at any time
    let begun = tokio::time::Instant::now();
    while scene.endpoint.of("/quick") < 10 || scene.endpoint.of("/slow") < 4 {
        assert!(begun.elapsed() < Duration::from_secs(60), "they do not come");
        scene.courier.tick().await.unwrap();
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(scene.endpoint.of("/quick"), 10);
    assert_eq!(scene.endpoint.of("/slow"), 4);
    let mut connection = scene.store.read().await.unwrap();
    let waiting =
        deliveries::list(&mut connection, slow, Some("pending"), None, 200).await.unwrap();
    assert_eq!(waiting.len(), 40);
    let backlog = upkeep::backlog(&mut connection, scene.now()).await.unwrap();
    assert_eq!(backlog.due, 40);
    scene.endpoint.gate.add_permits(100);
    scene.courier.finish().await;
    assert_eq!(scene.endpoint.of("/slow"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_work_and_call_once() {
    let scene = Scene::new().await;
    let mut ids = Vec::new();
    for number in 0..16 {
        let hook = scene.hook(&format!("/{number}")).await;
        ids.push(scene.test(hook).await);
    }
    let other = Courier::new(scene.store.clone(), LOOPBACK, OFFLINE);
    let (one, two) = tokio::join!(scene.courier.tick(), other.tick());
    assert_eq!(one.unwrap().begun + two.unwrap().begun, 16);
    scene.courier.finish().await;
    other.finish().await;
    assert_eq!(scene.endpoint.calls().len(), 16);
    for id in ids {
        assert_eq!(scene.delivery(id).await.attempts, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inside_addresses_are_refused_when_they_are_called() {
    let scene = Scene::new().await;
    // as if the rules had been looser, or the name had led elsewhere, when it was registered
    let strict = Courier::new(scene.store.clone(), Rules::default(), OFFLINE);
    let port = scene.endpoint.url.rsplit_once(':').unwrap().1;
    let mut ids = Vec::new();
    for url in [
        format!("https://127.0.0.1:{port}/"),
        format!("https://localhost:{port}/"),
        format!("http://127.0.0.1:{port}/"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://[::ffff:127.0.0.1]/".to_owned(),
    ] {
        let hook = scene.hook(&url).await;
        ids.push((scene.test(hook).await, url));
    }
    strict.tick().await.unwrap();
    strict.finish().await;
    for (id, url) in ids {
        let delivery = scene.delivery(id).await;
        let why = delivery.last_error.unwrap();
        assert!(why.contains("public address") || why.contains("https://"), "{url}: {why}");
        assert_eq!((delivery.state.as_str(), delivery.last_status), ("pending", None));
    }
    assert!(scene.endpoint.calls().is_empty());
}

/// What a courier with these places would take now.
async fn claimed(scene: &Scene, places: Places) -> Vec<Due> {
    let mut connection = scene.store.read().await.unwrap();
    let lease = Duration::from_secs(30);
    claim::claim(&mut connection, scene.clock.now(), lease, places).await.unwrap()
}

const PLACES: Places = Places { free: 100, webhook: 4, account: 16, host: 16, failing: 3 };

#[tokio::test(flavor = "multi_thread")]
async fn an_account_and_a_host_have_a_share_of_the_places() {
    let scene = Scene::new().await;
    let (many, few) = (scene.account, account(&scene.store, 2, scene.now()).await);
    // one account with many webhooks on many hosts, all of them before the other's
    for number in 0..8 {
        let hook = scene.hook_of(many, &format!("https://h{number}.example/")).await;
        for _ in 0..4 {
            scene.test(hook).await;
        }
    }
    scene.clock.advance(Seconds(1));
    let late = scene.hook_of(few, "https://late.example/").await;
    scene.test(late).await;
    let first = claimed(&scene, Places { free: 2, ..PLACES }).await;
    assert_eq!(first.iter().filter(|due| due.webhook == late).count(), 1, "one of each account");
    assert_eq!(claimed(&scene, PLACES).await.len(), 15, "its share, with the one that it has");
    assert!(claimed(&scene, PLACES).await.is_empty());
    scene.clock.advance(Seconds(31));
    // one host, whoever's and at whichever port
    let mut hooks = Vec::new();
    for number in 3..9 {
        let one = account(&scene.store, number, scene.now()).await;
        hooks.push(scene.hook_of(one, &format!("https://Shared.example:{number}00/")).await);
    }
    for hook in &hooks {
        for _ in 0..4 {
            scene.test(*hook).await;
        }
    }
    let taken = claimed(&scene, Places { account: 4, host: 8, ..PLACES }).await;
    let shared: Vec<_> = taken.iter().filter(|due| hooks.contains(&due.webhook)).collect();
    assert_eq!(shared.len(), 8);
    for hook in &hooks {
        let places = shared.iter().filter(|due| due.webhook == *hook).count();
        assert!((1..=2).contains(&places), "shared alike: {places}");
    }
    let text = format!("{taken:?}");
    assert!(!text.contains("[7, 7") && text.contains("whk_"), "no secret is shown: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_fail_have_a_few_places_and_come_last() {
    let scene = Scene::new().await;
    for number in 0..8 {
        let hook = scene.hook(&format!("https://failing{number}.example/")).await;
        scene.test(hook).await;
    }
    for due in claimed(&scene, Places { failing: 100, ..PLACES }).await {
        let now = scene.now();
        let failed = deliveries::Tried::Failed(None, "no answer".to_owned(), Some(Seconds(5)));
        write(&scene.store, move |tx| {
            let (due, failed) = (due.clone(), failed.clone());
            Box::pin(async move { Ok(deliveries::record(tx, &due, &failed, now).await?) })
        })
        .await;
    }
    scene.clock.advance(Seconds(60));
    let well = scene.hook("https://well.example/").await;
    scene.test(well).await;
    let first = claimed(&scene, Places { free: 1, ..PLACES }).await;
    assert_eq!(first[0].webhook, well, "though the others have waited for longer");
    scene.test(well).await;
    let taken = claimed(&scene, PLACES).await;
    assert_eq!(taken.iter().filter(|due| due.webhook == well).count(), 1);
    assert_eq!(taken.len(), 4, "and three of the eight that fail");
    assert!(claimed(&scene, PLACES).await.is_empty(), "however often somebody asks");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_webhook_that_is_gone_is_cleared_away_bit_by_bit() {
    let scene = Scene::new().await;
    let (disabled, deleted, kept) =
        (scene.hook("/a").await, scene.hook("/b").await, scene.hook("/c").await);
    let now = scene.now();
    for hook in [disabled, deleted, kept] {
        write(&scene.store, move |tx| {
            Box::pin(async move {
                for _ in 0..300 {
                    deliveries::test(tx, hook, 1_000, now).await?;
                }
                Ok(())
            })
        })
        .await;
    }
    write(&scene.store, move |tx| {
        Box::pin(async move {
            webhooks::disable(tx, disabled, "enough", now).await?;
            Ok(webhooks::delete(tx, deleted, now).await?)
        })
    })
    .await;
    let mut connection = scene.store.read().await.unwrap();
    assert_eq!(webhooks::get(&mut connection, deleted).await.unwrap(), None, "gone at once");
    assert!(claimed(&scene, PLACES).await.iter().all(|due| due.webhook == kept));
    let mut rounds = Vec::new();
    loop {
        let cleared = write(&scene.store, move |tx| {
            Box::pin(async move { Ok(upkeep::clear(tx, 150).await?) })
        })
        .await;
        rounds.push(cleared);
        if cleared == 0 {
            break;
        }
    }
    // 200 were given up with the webhook
    assert_eq!(rounds, [250, 150, 0]);
    let of = |hook| {
        let store = scene.store.clone();
        async move {
            let mut connection = store.read().await.unwrap();
            let all = deliveries::list(&mut connection, hook, None, None, 1_000).await.unwrap();
            (all.len(), all.iter().filter(|one| one.state == "pending").count())
        }
    };
    assert_eq!(of(disabled).await, (300, 0));
    assert_eq!(of(deleted).await, (0, 0));
    assert_eq!(of(kept).await, (300, 300));
}
