-- The ledger: double entry, append only. A transfer is one row with a debit and a credit of one amount
-- of one token, so that every posting balances by construction.

CREATE TABLE ledger_accounts (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('renter_deposit', 'renter_credit', 'provider_earnings', 'platform_fees', 'outside')),
    owner       bytea CHECK (octet_length(owner) = 20),
    -- deposits are kept by the id on the chain, so that locks which are none of ours are mirrored too
    escrow_id   bytea CHECK (octet_length(escrow_id) = 32),
    token       bytea NOT NULL CHECK (octet_length(token) = 20),
    UNIQUE NULLS NOT DISTINCT (kind, owner, escrow_id, token),
    UNIQUE (id, token),
    CHECK ((kind = 'renter_deposit') = (escrow_id IS NOT NULL)),
    CHECK ((kind IN ('renter_deposit', 'outside')) = (owner IS NULL))
);

CREATE TABLE ledger_postings (
    id          uuid PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('lock', 'top_up', 'release', 'close', 'withdraw')),
    source      text NOT NULL UNIQUE, -- the final chain event that caused it: posted once
    at          timestamptz NOT NULL
);

CREATE TABLE ledger_transfers (
    posting_id  uuid NOT NULL REFERENCES ledger_postings,
    ordinal     smallint NOT NULL CHECK (ordinal >= 0),
    debit_id    bigint NOT NULL,
    credit_id   bigint NOT NULL,
    token       bytea NOT NULL,
    amount      numeric(39,0) NOT NULL CHECK (amount BETWEEN 1 AND 79228162514264337593543950335),
    PRIMARY KEY (posting_id, ordinal),
    CHECK (debit_id <> credit_id),
    FOREIGN KEY (debit_id, token) REFERENCES ledger_accounts (id, token),
    FOREIGN KEY (credit_id, token) REFERENCES ledger_accounts (id, token)
);
CREATE INDEX ledger_transfers_by_debit ON ledger_transfers (debit_id);
CREATE INDEX ledger_transfers_by_credit ON ledger_transfers (credit_id);

CREATE TRIGGER ledger_postings_immutable BEFORE UPDATE OR DELETE ON ledger_postings
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER ledger_transfers_immutable BEFORE UPDATE OR DELETE ON ledger_transfers
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER ledger_accounts_immutable BEFORE UPDATE OR DELETE ON ledger_accounts
    FOR EACH ROW EXECUTE FUNCTION forbid_change();

CREATE VIEW ledger_entries AS
    SELECT posting_id, ordinal, debit_id AS account_id, token, -amount AS amount FROM ledger_transfers
    UNION ALL
    SELECT posting_id, ordinal, credit_id, token, amount FROM ledger_transfers;

-- The work queue: claimed in a short transaction, run outside it, finished only by the holder of the
-- lease number it was claimed with.
CREATE TABLE jobs (
    id              uuid PRIMARY KEY,
    kind            text NOT NULL,
    rental_id       uuid NOT NULL REFERENCES rentals,
    due_at          timestamptz NOT NULL,
    run_lease       bigint NOT NULL DEFAULT 0,
    leased_until    timestamptz,
    attempts        integer NOT NULL DEFAULT 0,
    last_error      text,
    done_at         timestamptz
);
CREATE UNIQUE INDEX jobs_one_open ON jobs (rental_id, kind) WHERE done_at IS NULL;
CREATE INDEX jobs_due ON jobs (due_at) WHERE done_at IS NULL;
