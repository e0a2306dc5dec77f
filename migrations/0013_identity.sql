-- Who may do what: sessions that are listed and ended, API keys with limits, SSH keys that rentals are reached by.

ALTER TABLE sessions
    -- to the hour: enough to recognise a session by, and no write for each request
    ADD COLUMN last_used_at timestamptz,
    ADD COLUMN user_agent   text CHECK (length(user_agent) BETWEEN 1 AND 120);
CREATE INDEX sessions_by_account ON sessions (account_id, id) WHERE revoked_at IS NULL;

-- A key is shown once; its hash is kept. What it may do never changes: another key is made instead.
CREATE TABLE api_keys (
    id                      uuid PRIMARY KEY,
    account_id              uuid NOT NULL REFERENCES accounts,
    token_hash              bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    -- its last characters, by which people tell it from others
    hint                    text NOT NULL CHECK (length(hint) BETWEEN 1 AND 8),
    label                   text NOT NULL CHECK (length(label) BETWEEN 1 AND 64),
    scopes                  text[] NOT NULL CHECK (cardinality(scopes) BETWEEN 1 AND 32),
    -- null: any
    machines                uuid[] CHECK (cardinality(machines) BETWEEN 1 AND 100),
    offers                  uuid[] CHECK (cardinality(offers) BETWEEN 1 AND 100),
    gpu_models              text[] CHECK (cardinality(gpu_models) BETWEEN 1 AND 100),
    max_usd_micros_per_hour bigint CHECK (max_usd_micros_per_hour >= 0),
    -- deposits that it may book, in all and within any 24 hours
    cap_usd_micros          bigint CHECK (cap_usd_micros >= 0),
    cap_day_usd_micros      bigint CHECK (cap_day_usd_micros >= 0),
    created_at              timestamptz NOT NULL,
    expires_at              timestamptz,
    revoked_at              timestamptz,
    last_used_at            timestamptz, -- to the hour
    CHECK (expires_at > created_at)
);
CREATE INDEX api_keys_by_account ON api_keys (account_id, id) WHERE revoked_at IS NULL;

-- Deposits that keys have booked.
CREATE TABLE api_key_spends (
    rental_id   uuid PRIMARY KEY REFERENCES rentals,
    key_id      uuid NOT NULL REFERENCES api_keys,
    usd_micros  bigint NOT NULL CHECK (usd_micros >= 0),
    at          timestamptz NOT NULL
);
CREATE INDEX api_key_spends_by_key ON api_key_spends (key_id, at);
CREATE TRIGGER api_key_spends_immutable BEFORE UPDATE OR DELETE ON api_key_spends
    FOR EACH ROW EXECUTE FUNCTION forbid_change();

CREATE TABLE ssh_keys (
    id          uuid PRIMARY KEY,
    account_id  uuid NOT NULL REFERENCES accounts,
    label       text NOT NULL CHECK (length(label) BETWEEN 1 AND 64),
    -- one line of an authorized_keys file: type and base64, no options, no comment
    public_key  text NOT NULL CHECK (length(public_key) <= 4096 AND public_key ~ '^[a-z0-9@.-]+ [A-Za-z0-9+/]+=*$'),
    -- SHA256:base64, as ssh-keygen -l tells it
    fingerprint text NOT NULL CHECK (fingerprint ~ '^SHA256:[A-Za-z0-9+/]{43}$'),
    created_at  timestamptz NOT NULL,
    -- kept for the rentals that it opened
    deleted_at  timestamptz
);
CREATE UNIQUE INDEX ssh_keys_once ON ssh_keys (account_id, fingerprint) WHERE deleted_at IS NULL;

-- Which keys open a rental now.
CREATE TABLE rental_ssh_keys (
    rental_id   uuid NOT NULL REFERENCES rentals,
    ssh_key_id  uuid NOT NULL REFERENCES ssh_keys,
    PRIMARY KEY (rental_id, ssh_key_id)
);
CREATE INDEX rental_ssh_keys_by_key ON rental_ssh_keys (ssh_key_id);

ALTER TABLE agent_commands
    DROP CONSTRAINT agent_commands_kind_check,
    ADD CONSTRAINT agent_commands_kind_check
        CHECK (kind IN ('provision', 'deprovision', 'sign_end', 'access'));
