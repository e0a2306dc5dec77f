//! Migrations that change what is there.

#![allow(clippy::unwrap_used)] // a test stops at the first surprise

use sqlx::{PgPool, migrate::Migrator};
use store::MIGRATOR;
use testkit::TestDb;

/// A database as it was before the migration with this number.
async fn before(number: i64) -> PgPool {
    let earlier = MIGRATOR.iter().filter(|one| one.version < number).cloned().collect();
    TestDb::new(Some(&Migrator::with_migrations(earlier))).await.unwrap().pool
}

#[tokio::test]
async fn gpus_get_one_spelling_and_the_first_machine_keeps_what_two_name() {
    let pool = before(36).await;
    sqlx::raw_sql(
        "INSERT INTO accounts (id, address, created_at) VALUES ('00000000-0000-0000-0000-000000000001', decode(repeat('01', 20), 'hex'), now());
         INSERT INTO machines (id, account_id, name, region, cpu_cores, ram_gb, disk_gb, created_at, measured, measured_at)
         SELECT id::uuid, '00000000-0000-0000-0000-000000000001', id, 'de', 16, 64, 500, at::timestamptz, said::jsonb, at::timestamptz
         FROM (VALUES ('00000000-0000-0000-0000-00000000000b', '2026-01-01', '{\"cpu_cores\": 4, \"disk_gb\": 900}'),
                      ('00000000-0000-0000-0000-00000000000a', '2026-01-02', '{}'),
                      ('00000000-0000-0000-0000-00000000000c', '2026-01-03', '{}'),
                      ('00000000-0000-0000-0000-00000000000d', '2026-01-04', '{}')) t (id, at, said);
         INSERT INTO gpus (id, machine_id, vendor_uuid, model, ordinal, retired)
         SELECT gen_random_uuid(), ('00000000-0000-0000-0000-00000000000' || machine)::uuid, uuid, 'rtx-4090', ordinal, retired
         FROM (VALUES ('b', 'GPU-5F0C2A86', 0, false), ('a', 'GPU-5f0c2a86', 0, false), ('a', 'GPU-AAAAAAAA', 1, false),
                      ('c', 'gpu-0000000c', 0, false), ('c', 'GPU-BBBBBBBB', 1, true), ('d', 'GPU-bbbbbbbb', 0, false),
                      ('d', '0X17B4AAAA', 1, false), ('d', 'mig-0000000D', 2, false)) t (machine, uuid, ordinal, retired);
         INSERT INTO offers (id, machine_id, account_id, state, version, created_at, updated_at)
         SELECT gen_random_uuid(), id, account_id, 'listed', 1, created_at, created_at FROM machines",
    )
    .execute(&pool)
    .await
    .unwrap();
    MIGRATOR.run(&pool).await.unwrap();

    let gpus: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT right(machine_id::text, 1), vendor_uuid, retired FROM gpus ORDER BY machine_id, ordinal",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let gpus: Vec<_> =
        gpus.iter().map(|(of, uuid, gone)| (of.as_str(), uuid.as_str(), *gone)).collect();
    assert_eq!(
        gpus,
        [
            ("a", "GPU-5f0c2a86", true),
            ("a", "GPU-aaaaaaaa", false),
            ("b", "GPU-5f0c2a86", false),
            ("c", "GPU-0000000c", false),
            ("c", "GPU-bbbbbbbb", true),
            ("d", "GPU-bbbbbbbb", false),
            ("d", "0x17b4aaaa", false),
            ("d", "MIG-0000000d", false),
        ]
    );
    let machines: Vec<(String, String, Option<String>, String, i64)> = sqlx::query_as(
        "SELECT right(m.id::text, 1), m.service, m.verification_reason, o.state,
                (SELECT count(*) FROM machine_listings l WHERE l.machine_id = m.id AND l.to_at IS NULL)
         FROM machines m JOIN offers o ON o.machine_id = m.id ORDER BY m.id",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let twice = Some("GPU GPU-5f0c2a86 is registered already".to_owned());
    let row = |of: &str, service: &str, reason: Option<String>, state: &str, open: i64| {
        (of.to_owned(), service.to_owned(), reason, state.to_owned(), open)
    };
    assert_eq!(
        machines,
        [
            row("a", "draining", twice, "listed", 0),
            row("b", "open", None, "listed", 1),
            row("c", "open", None, "listed", 1),
            row("d", "open", None, "paused", 0),
        ]
    );
    let sold: (i32, i32, i32) = sqlx::query_as(
        "SELECT sold_cpu_cores, sold_ram_gb, sold_disk_gb FROM machines
         WHERE id = '00000000-0000-0000-0000-00000000000b'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(sold, (4, 64, 500));
    // no program opens again what lost a GPU; the others come and go
    let refused =
        sqlx::query("UPDATE machines SET service = 'open' WHERE right(id::text, 1) = 'a'")
            .execute(&pool)
            .await
            .unwrap_err();
    assert!(refused.to_string().contains("has a GPU that another machine may have"), "{refused}");
    sqlx::raw_sql(
        "UPDATE machines SET service = 'draining' WHERE right(id::text, 1) IN ('a', 'b');
         UPDATE machines SET service = 'open' WHERE right(id::text, 1) = 'b'",
    )
    .execute(&pool)
    .await
    .unwrap();
    let again = sqlx::query(
        "INSERT INTO gpus (id, machine_id, vendor_uuid, model, ordinal)
         SELECT gen_random_uuid(), machine_id, 'GPU-5F0C2A86', model, 9 FROM gpus LIMIT 1",
    )
    .execute(&pool)
    .await
    .unwrap_err();
    assert!(again.to_string().contains("gpus_vendor_uuid_key"), "{again}");
}
