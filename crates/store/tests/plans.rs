//! What is asked every second looks at what it finds, however much there is.

#![allow(clippy::unwrap_used)] // a test stops at the first surprise

use domain::time::{Seconds, UnixSeconds};
use store::{MIGRATOR, listings};
use testkit::TestDb;

const BEGUN: UnixSeconds = UnixSeconds(1_800_000_000);

#[tokio::test]
async fn windows_that_ended_are_found_by_their_end() {
    let pool = TestDb::new(Some(&MIGRATOR)).await.unwrap().pool;
    let mut connection = pool.acquire().await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO accounts (id, address, created_at)
         VALUES ('00000000-0000-0000-0000-000000000001', decode(repeat('01', 20), 'hex'), now());
         INSERT INTO machines (id, account_id, name, region, cpu_cores, ram_gb, disk_gb, created_at)
         VALUES ('00000000-0000-0000-0000-00000000000b', '00000000-0000-0000-0000-000000000001', 'b', 'de', 16, 64, 500,
                 now());
         INSERT INTO offers (id, machine_id, account_id, state, version, created_at, updated_at)
         SELECT gen_random_uuid(), id, account_id, 'listed', 1, created_at, created_at FROM machines;
         INSERT INTO maintenance_windows (id, machine_id, during, reason, created_at)
         SELECT gen_random_uuid(), id, tstzrange(to_timestamp(1800000000 + n * 100), to_timestamp(1800000050 + n * 100)),
                'fans', now()
         FROM machines, generate_series(1, 2000) n;
         ANALYZE maintenance_windows",
    )
    .execute(&mut *connection)
    .await
    .unwrap();
    let mut tx = testkit::begin(&mut connection).await.unwrap();
    let scans =
        "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'maintenance_windows'";
    let before: i64 = sqlx::query_scalar(scans).fetch_one(&mut *tx).await.unwrap();
    let second = |n| BEGUN.saturating_plus(Seconds(n));
    for (after, until, found) in [(149, 150, 1), (150, 151, 0), (149, 250, 2)] {
        let back = listings::back_from_maintenance(&mut tx, second(after), second(until)).await;
        assert_eq!(back.unwrap().len(), found, "{after} {until}");
    }
    let after: i64 = sqlx::query_scalar(scans).fetch_one(&mut *tx).await.unwrap();
    assert_eq!(after, before, "the table is read whole");
}
