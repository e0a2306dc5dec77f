//! What somebody could have got at.

use crate::fixture::World;

/// Everything that could have been changed, as the database has it.
pub async fn belongings(world: &World) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (table, columns) in [
        ("accounts", "t.*"),
        ("agent_commands", "t.*"),
        ("api_key_spends", "t.*"),
        ("api_keys", "t.id, t.label, t.scopes, t.revoked_at"),
        ("chain_intents", "t.*"),
        ("deliveries", "t.*"),
        ("dispute_evidence", "t.*"),
        ("dispute_proposals", "t.*"),
        ("disputes", "t.*"),
        ("end_signatures", "t.*"),
        ("ended_agent_keys", "t.*"),
        ("idempotency_keys", "t.*"),
        ("jobs", "t.*"),
        ("machine_tests", "t.*"),
        (
            "machines",
            "t.id, t.name, t.service, t.verification, t.agent_key, t.enroll_token_hash, t.measured",
        ),
        ("maintenance_windows", "t.*"),
        ("offer_versions", "t.*"),
        ("offers", "t.*"),
        ("payment_offers", "t.*"),
        ("quotes", "t.*"),
        ("readings", "t.*"),
        ("rental_access", "t.*"),
        ("rental_events", "t.*"),
        ("rental_gpus", "t.*"),
        ("rental_ssh_keys", "t.*"),
        ("rental_tokens", "t.*"),
        ("rentals", "t.*"),
        ("reviews", "t.*"),
        ("sessions", "t.id, t.account_id, t.revoked_at"),
        ("ssh_keys", "t.*"),
        ("templates", "t.*"),
        ("webhooks", "t.*"),
    ] {
        let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(table)
            .fetch_one(world.store.pool())
            .await
            .unwrap();
        assert!(exists, "there is no table {table}");
        let query = format!(
            "SELECT COALESCE(string_agg(r::text, E'\\n' ORDER BY r::text), '')
             FROM (SELECT {columns} FROM {table} t) r"
        );
        let rows: String = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_one(world.store.pool())
            .await
            .unwrap();
        all.push((table.to_owned(), rows));
    }
    all
}
