//! A database per test, from a template.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::path::Path;

use sqlx::migrate::Migrator;
use testkit::TestDb;

async fn migrations() -> Migrator {
    Migrator::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrations")).await.unwrap()
}

#[tokio::test]
async fn each_test_has_its_own() {
    let migrations = migrations().await;
    let one = TestDb::new(Some(&migrations)).await.unwrap();
    let other = TestDb::new(Some(&migrations)).await.unwrap();
    sqlx::query("INSERT INTO sample VALUES (1)").execute(&one.pool).await.unwrap();
    for (db, expected) in [(&one, 1_i64), (&other, 0)] {
        let found: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sample").fetch_one(&db.pool).await.unwrap();
        assert_eq!(found, expected);
    }
    // The migrator finds its own work done.
    migrations.run(&other.pool).await.unwrap();
}

#[tokio::test]
async fn many_at_once_share_one_template() {
    let migrations = migrations().await;
    let made = (0..8).map(|_| {
        let migrations =
            Migrator { migrations: migrations.migrations.clone(), ..Migrator::DEFAULT };
        tokio::spawn(async move { TestDb::new(Some(&migrations)).await.unwrap().url })
    });
    let mut urls = Vec::new();
    for task in made.collect::<Vec<_>>() {
        urls.push(task.await.unwrap());
    }
    urls.sort();
    urls.dedup();
    assert_eq!(urls.len(), 8);
}

#[tokio::test]
async fn without_migrations_it_is_empty() {
    let db = TestDb::new(None).await.unwrap();
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            .fetch_one(&db.pool)
            .await
            .unwrap();
    assert_eq!(tables, 0);
}
