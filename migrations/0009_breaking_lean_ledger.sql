-- A lean ledger and a queue that rests: what a posting, a booking and an active rental write.

-- The ids of accounts and postings are hashes of what they stand for. One statement can then post a batch:
-- nothing has to be looked up first, and a fact is posted once because its id is taken.

-- Lengths tell whether owner or escrow id are there.
CREATE FUNCTION ledger_account_id(kind text, owner bytea, escrow_id bytea, token bytea) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT encode(substring(sha256(
        decode(md5(kind), 'hex') || coalesce(owner, ''::bytea) || coalesce(escrow_id, ''::bytea) || token
    ) FOR 16), 'hex')::uuid
$$;

-- Names have no backslash, which the cast to bytes would read as the begin of an escape.
CREATE FUNCTION ledger_posting_id(source text) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT encode(substring(sha256(source::bytea) FOR 16), 'hex')::uuid
$$;

DROP VIEW ledger_entries, ledger_account_balances;
ALTER TABLE ledger_transfers RENAME TO old_transfers;
ALTER TABLE ledger_postings RENAME TO old_postings;
ALTER TABLE ledger_accounts RENAME TO old_accounts;
-- sums are kept by the accounts' old ids: they are added up anew
DROP TABLE ledger_balances;
DELETE FROM ledger_totals;
UPDATE ledger_folded SET through = 0;

CREATE TABLE ledger_accounts (
    id          uuid GENERATED ALWAYS AS (ledger_account_id(kind, owner, escrow_id, token)) STORED
                CONSTRAINT ledger_account_key PRIMARY KEY,
    number      bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT ledger_account_number UNIQUE,
    kind        text NOT NULL CONSTRAINT ledger_account_kind
                CHECK (kind IN ('renter_deposit', 'renter_credit', 'provider_earnings', 'platform_fees',
                                'gas_spent', 'outside')),
    owner       bytea CHECK (octet_length(owner) = 20),
    -- deposits are kept by the id on the chain, so that locks which are none of ours are mirrored too
    escrow_id   bytea CHECK (octet_length(escrow_id) = 32),
    token       bytea NOT NULL CHECK (octet_length(token) = 20),
    CHECK ((kind = 'renter_deposit') = (escrow_id IS NOT NULL)),
    CHECK ((kind IN ('renter_deposit', 'outside')) = (owner IS NULL))
);
CREATE INDEX ledger_accounts_by_owner ON ledger_accounts (owner) WHERE owner IS NOT NULL;

CREATE TABLE ledger_postings (
    id          uuid GENERATED ALWAYS AS (ledger_posting_id(source)) STORED
                CONSTRAINT ledger_posted_once PRIMARY KEY,
    at          timestamptz NOT NULL,
    kind        text NOT NULL CONSTRAINT ledger_posting_kind
                CHECK (kind IN ('lock', 'top_up', 'release', 'contest', 'close', 'prepay', 'withdraw', 'gas')),
    -- the final fact that caused it, such as `block hash:log index`
    source      text NOT NULL CHECK (position('\' IN source) = 0)
);

-- The token is the accounts': both are of one.
CREATE TABLE ledger_transfers (
    seq         bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT ledger_transfer_key PRIMARY KEY,
    posting_id  uuid NOT NULL,
    debit_id    uuid NOT NULL,
    credit_id   uuid NOT NULL,
    ordinal     smallint NOT NULL CHECK (ordinal >= 0),
    amount      numeric(39,0) NOT NULL CHECK (amount BETWEEN 1 AND 79228162514264337593543950335),
    CHECK (debit_id <> credit_id)
);

INSERT INTO ledger_accounts (kind, owner, escrow_id, token)
    SELECT kind, owner, escrow_id, token FROM old_accounts ORDER BY id;
INSERT INTO ledger_postings (at, kind, source) SELECT at, kind, source FROM old_postings;
INSERT INTO ledger_transfers (seq, posting_id, debit_id, credit_id, ordinal, amount)
    OVERRIDING SYSTEM VALUE
    SELECT t.seq, ledger_posting_id(p.source), d.id, c.id, t.ordinal, t.amount
    FROM old_transfers t JOIN old_postings p ON p.id = t.posting_id
    JOIN old_accounts od ON od.id = t.debit_id
    JOIN ledger_accounts d ON d.id = ledger_account_id(od.kind, od.owner, od.escrow_id, od.token)
    JOIN old_accounts oc ON oc.id = t.credit_id
    JOIN ledger_accounts c ON c.id = ledger_account_id(oc.kind, oc.owner, oc.escrow_id, oc.token);
DO $$
DECLARE most bigint;
BEGIN
    IF (SELECT count(*) FROM ledger_transfers) <> (SELECT count(*) FROM old_transfers) THEN
        RAISE EXCEPTION 'a transfer was lost on the way';
    END IF;
    SELECT max(seq) INTO most FROM ledger_transfers;
    IF most IS NOT NULL THEN
        PERFORM setval(pg_get_serial_sequence('ledger_transfers', 'seq'), most);
    END IF;
END $$;
DROP TABLE old_transfers;
DROP TABLE old_postings;
DROP TABLE old_accounts;

CREATE INDEX ledger_transfers_by_debit ON ledger_transfers (debit_id, seq) INCLUDE (amount);
CREATE INDEX ledger_transfers_by_credit ON ledger_transfers (credit_id, seq) INCLUDE (amount);

-- What foreign keys would say, said of all rows of a statement at once. A foreign key locks the row that it
-- refers to: every payout would write to the rows of the platform's account. Rows of the ledger are never
-- changed nor taken away, so that a look is enough.
CREATE FUNCTION ledger_refers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM fresh f
               LEFT JOIN ledger_postings p ON p.id = f.posting_id
               LEFT JOIN ledger_accounts d ON d.id = f.debit_id
               LEFT JOIN ledger_accounts c ON c.id = f.credit_id AND c.token = d.token
               WHERE p.id IS NULL OR c.id IS NULL) THEN
        RAISE EXCEPTION 'a transfer needs its posting and two accounts of one token'
            USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_transfers_refer AFTER INSERT ON ledger_transfers
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION ledger_refers();

CREATE TRIGGER ledger_postings_immutable BEFORE UPDATE OR DELETE ON ledger_postings
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER ledger_transfers_immutable BEFORE UPDATE OR DELETE ON ledger_transfers
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER ledger_accounts_immutable BEFORE UPDATE OR DELETE ON ledger_accounts
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER ledger_postings_kept BEFORE TRUNCATE ON ledger_postings
    FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();
CREATE TRIGGER ledger_transfers_kept BEFORE TRUNCATE ON ledger_transfers
    FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();
CREATE TRIGGER ledger_accounts_kept BEFORE TRUNCATE ON ledger_accounts
    FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();

CREATE TABLE ledger_balances (
    account_id  uuid PRIMARY KEY REFERENCES ledger_accounts,
    balance     numeric(78,0) NOT NULL
);
CREATE INDEX ledger_balances_below_zero ON ledger_balances (account_id) WHERE balance < 0;

CREATE VIEW ledger_entries AS
    SELECT t.posting_id, t.ordinal, t.debit_id AS account_id, a.token, -t.amount AS amount
    FROM ledger_transfers t JOIN ledger_accounts a ON a.id = t.debit_id
    UNION ALL
    SELECT t.posting_id, t.ordinal, t.credit_id, a.token, t.amount
    FROM ledger_transfers t JOIN ledger_accounts a ON a.id = t.credit_id;

CREATE VIEW ledger_account_balances AS
    SELECT a.id, a.kind, a.owner, a.escrow_id, a.token,
           COALESCE((SELECT balance FROM ledger_balances b WHERE b.account_id = a.id), 0)
         + COALESCE((SELECT sum(amount) FROM ledger_transfers t WHERE t.credit_id = a.id AND t.seq > f.through), 0)
         - COALESCE((SELECT sum(amount) FROM ledger_transfers t WHERE t.debit_id = a.id AND t.seq > f.through), 0)
           AS balance
    FROM ledger_accounts a CROSS JOIN ledger_folded f;

-- Silence is found by a look at the running rentals: no timer of theirs is set anew with every reading.
CREATE INDEX rentals_active ON rentals (id) INCLUDE (started_at) WHERE state = 'active';
UPDATE jobs SET done_at = due_at WHERE kind = 'evidence_watch' AND done_at IS NULL;

-- A claim and the end of a job write a new version of its row: room for it on the same page.
ALTER TABLE jobs SET (fillfactor = 75);

-- Which GPUs are free from now on: a look at one place of a B-tree. The exclusion constraint's own index
-- answers that too, but the more holds there are, the more of its pages such a look has to read.
ALTER TABLE rental_gpus ADD COLUMN held_until timestamptz
    GENERATED ALWAYS AS (COALESCE(upper(during), 'infinity'::timestamptz)) STORED;
CREATE INDEX rental_gpus_held_until ON rental_gpus (gpu_id, held_until);
