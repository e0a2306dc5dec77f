//! Both processes stop in two phases and lose nothing; a second signal ends them at once.

use futures_util::StreamExt as _;
use reqwest::{StatusCode, header};
use serde_json::Value;

use super::{
    market::{Market, OPERATOR},
    process::{LIMIT, Running, Server, eventually, http, status, weir},
};

/// Bookings wait in the database, inside their transaction, while there is a row in `gate`.
const GATE: &str = "
    CREATE TABLE gate AS SELECT true AS shut;
    CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        WHILE EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.02); END LOOP;
        RETURN NEW;
    END $$;
    CREATE TRIGGER wait BEFORE INSERT ON rentals FOR EACH ROW EXECUTE FUNCTION wait_at_gate();";
const OPEN_GATE: &str = "DELETE FROM gate";
const AT_GATE: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%INSERT INTO rentals%'
    AND state = 'active'";

async fn a_booking_waits(market: &Market) {
    eventually("a booking waits in the database", async || {
        (market.count(AT_GATE).await == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_in_flight_finishes() {
    let market = Market::open().await;
    let renter = market.renters(1).await.remove(0);
    market.sql(GATE).await;
    let server = Server::start(&market.with(&[("WEIR_UNREADY_S", "1")])).await;
    let (client, url) = (http(), server.url.clone());
    let booking = tokio::spawn({
        let renter = renter.clone();
        async move { renter.book(&client, &url).await.unwrap() }
    });
    a_booking_waits(&market).await;

    server.running.signal("TERM");
    server.closes().await;
    assert!(!booking.is_finished());

    market.sql(OPEN_GATE).await;
    let booked = tokio::time::timeout(LIMIT, booking).await.unwrap().unwrap();
    assert_eq!(booked.status(), StatusCode::CREATED);
    assert_eq!(server.running.end().await.code(), Some(0));
    assert_eq!(market.count("SELECT count(*) FROM rentals").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_has_booked_all_the_same() {
    let market = Market::open().await;
    let renter = market.renters(1).await.remove(0);
    market.sql(GATE).await;
    let server = Server::start(&market.with(&[("WEIR_UNREADY_S", "0")])).await;
    let (client, url) = (http(), server.url.clone());
    let booking = tokio::spawn(async move { renter.book(&client, &url).await });
    a_booking_waits(&market).await;
    // the caller is gone: no request is open, but a transaction is
    booking.abort();
    assert!(booking.await.unwrap_err().is_cancelled());
    server.running.signal("TERM");
    server.closes().await;
    market.sql(OPEN_GATE).await;
    assert_eq!(server.running.end().await.code(), Some(0));
    assert_eq!(market.count("SELECT count(*) FROM rentals").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn event_streams_end_with_a_word_to_come_again() {
    let market = Market::open().await;
    let renter = market.renters(1).await.remove(0);
    let server = Server::start(&market.with(&[("WEIR_UNREADY_S", "0")])).await;
    let client = http();
    let booked: Value = renter.book(&client, &server.url).await.unwrap().json().await.unwrap();
    let id = booked["rental"]["id"].as_str().unwrap();
    let follow = client.get(format!("{}/v1/rentals/{id}/events", server.url));
    let mut stream = renter.asks(follow).send().await.unwrap().bytes_stream();
    let mut said = String::new();
    while !said.contains("event: state") {
        let part = tokio::time::timeout(LIMIT, stream.next()).await.unwrap().unwrap().unwrap();
        said.push_str(std::str::from_utf8(&part).unwrap());
    }
    server.running.signal("TERM");
    while let Some(part) = tokio::time::timeout(LIMIT, stream.next()).await.unwrap() {
        said.push_str(std::str::from_utf8(&part.unwrap()).unwrap());
    }
    let (_, farewell) = said.split_once("event: reconnect").expect("a word to come again");
    assert!(farewell.contains("retry: "), "and after which time: {said}");
    assert_eq!(server.running.end().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_is_told_first_and_a_second_signal_ends_it_at_once() {
    let market = Market::open().await;
    let renter = market.renters(1).await.remove(0);
    market.sql(GATE).await;
    let server = Server::start(&market.with(&[("WEIR_UNREADY_S", "600")])).await;
    let (client, url) = (http(), server.url.clone());
    let booking = tokio::spawn({
        let (client, url, renter) = (client.clone(), url.clone(), renter.clone());
        async move { renter.book(&client, &url).await }
    });
    a_booking_waits(&market).await;
    server.running.signal("TERM");
    eventually("it is not ready any more", async || {
        let ready = status(&client, &format!("{url}/readyz")).await;
        (ready == Some(StatusCode::SERVICE_UNAVAILABLE)).then_some(())
    })
    .await;
    // it still serves, and asks to be left
    let models = client.get(format!("{url}/v1/gpu-models")).send().await.unwrap();
    assert_eq!(models.status(), StatusCode::OK);
    assert_eq!(models.headers().get(header::CONNECTION).unwrap(), "close");
    assert_eq!(status(&client, &format!("{url}/healthz")).await, Some(StatusCode::OK));

    server.running.signal("TERM");
    assert_eq!(server.running.end().await.code(), Some(143));
    assert!(booking.await.unwrap().is_err(), "no answer, so nobody was told anything");
    // half a booking is none
    market.sql(OPEN_GATE).await;
    eventually("the half booking is rolled back", async || {
        (market.count(AT_GATE).await == 0).then_some(())
    })
    .await;
    assert_eq!(market.count("SELECT count(*) FROM rentals").await, 0);
    // the same key again: booked once
    let server = Server::start(&market.environment()).await;
    assert_eq!(renter.book(&client, &server.url).await.unwrap().status(), StatusCode::CREATED);
}

const EXPIRED: &str = "SELECT count(*) FROM rentals WHERE state = 'expired'";
const LEASED: &str = "SELECT count(*) FROM jobs WHERE done_at IS NULL AND leased_until > now()";
const BOOKINGS: i64 = 60;
/// The oldest rentals may change, as many as `gate` says; a change of another waits in the database, inside its
/// transaction, and is counted by `in_line`. So a process is met in the middle of its round, however slow the machine is.
const TURNSTILE: &str = "
    CREATE TABLE gate AS SELECT 16::bigint AS passes;
    CREATE SEQUENCE in_line;
    CREATE FUNCTION wait_in_line() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE place bigint := (SELECT count(*) FROM rentals WHERE id <= NEW.id);
    BEGIN
        IF EXISTS (SELECT FROM gate WHERE passes < place) THEN PERFORM nextval('in_line'); END IF;
        WHILE EXISTS (SELECT FROM gate WHERE passes < place) LOOP PERFORM pg_sleep(0.02); END LOOP;
        RETURN NEW;
    END $$;
    CREATE TRIGGER wait BEFORE UPDATE ON rentals FOR EACH ROW EXECUTE FUNCTION wait_in_line();";
const IN_LINE: &str = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM in_line";

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_or_killed_midway_loses_no_timer_and_fires_none_twice() {
    let market = Market::open().await;
    let server = Server::start(&market.with(&[("WEIR_FUNDING_TTL_S", "1")])).await;
    let client = http();
    for renter in market.renters(usize::try_from(BOOKINGS).unwrap()).await {
        assert_eq!(renter.book(&client, &server.url).await.unwrap().status(), StatusCode::CREATED);
    }
    market.sql(TURNSTILE).await;
    let more = [
        ("WEIR_OPERATOR_KEY", OPERATOR),
        ("WEIR_FUNDING_TTL_S", "1"),
        ("WEIR_POLL_MS", "50"),
        ("WEIR_DRAIN_S", "60"),
    ];
    let environment = market.with(&more);

    let worker = Running::start(&mut weir(&["work"], &environment));
    let in_the_middle = async |before: i64| {
        eventually("a timer fires and waits in line", async || {
            (market.count(IN_LINE).await > before).then_some(())
        })
        .await;
        assert!(market.count(LEASED).await > 0, "in the middle");
        market.count(EXPIRED).await
    };
    let fired = in_the_middle(0).await;
    worker.signal("KILL");
    assert_eq!(worker.end().await.code(), None, "killed");
    // what waited goes on to the end of its statement, and is rolled back
    let before = market.count(IN_LINE).await;
    market.sql("UPDATE gate SET passes = 32").await;
    eventually("the killed one's leases run out", async || {
        (market.count(LEASED).await == 0).then_some(())
    })
    .await;
    assert_eq!(market.count(EXPIRED).await, fired, "what was not committed did not happen");

    // the next takes what is left, and is stopped in the middle
    let worker = Running::start(&mut weir(&["work"], &environment));
    in_the_middle(before).await;
    worker.signal("TERM");
    market.sql("UPDATE gate SET passes = 60").await;
    assert_eq!(worker.end().await.code(), Some(0));
    assert_eq!(market.count(LEASED).await, 0, "what it had claimed is done or given back");

    let worker = Running::start(&mut weir(&["work"], &environment));
    eventually("the last finishes", async || {
        (market.count(EXPIRED).await == BOOKINGS).then_some(())
    })
    .await;
    drop(worker);
    let ends =
        "SELECT count(*) FROM rental_events WHERE kind = 'state' AND detail->>'state' = 'expired'";
    assert_eq!(market.count(ends).await, BOOKINGS, "each ended once");
}
