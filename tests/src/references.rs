//! What must hold in the tables though no foreign key guards it (docs/adr/0018, 0019).

/// Statements that count what may not be, and what that is.
pub const REFERENCES: &[(&str, &str)] = &[
    (
        "something is told of a rental that is not there, or held or due for it",
        "SELECT count(*) FROM (SELECT rental_id FROM rental_events UNION SELECT rental_id FROM rental_gpus
                               UNION SELECT rental_id FROM jobs) x
         WHERE NOT EXISTS (SELECT FROM rentals r WHERE r.id = x.rental_id)",
    ),
    (
        "a key is of an account that is not there",
        "SELECT count(*) FROM idempotency_keys k WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.id = k.account_id)",
    ),
    (
        "a quote is of an account, a token or an offer's version that is not there",
        "SELECT count(*) FROM quotes q
         WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.id = q.account_id)
            OR NOT EXISTS (SELECT FROM tokens t WHERE t.address = q.token)
            OR NOT EXISTS (SELECT FROM offer_versions v WHERE v.offer_id = q.offer_id AND v.version = q.offer_version)",
    ),
    (
        "a rental is another one on the chain than its quote",
        "SELECT count(*) FROM rentals r JOIN quotes q ON q.id = r.quote_id WHERE q.escrow_id <> r.escrow_id",
    ),
];
