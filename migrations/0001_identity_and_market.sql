-- Identity and market: who trades, with which machines, at which price.
-- Conventions of every migration: forward only; addresses are 20-byte bytea, hashes 32-byte bytea;
-- token amounts are numeric(39,0) base units, never above 2^96-1 (the contract's uint96);
-- USD is integer micro-dollars; times come from the application's clock, not from the server.

CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE FUNCTION forbid_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: its rows are immutable', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TABLE accounts (
    id          uuid PRIMARY KEY,
    address     bytea NOT NULL UNIQUE CHECK (octet_length(address) = 20),
    created_at  timestamptz NOT NULL
);

-- Single-use challenges: wallets sign them inside an ERC-4361 message, agents inside a machine login.
CREATE TABLE sign_in_nonces (
    nonce       text PRIMARY KEY CHECK (length(nonce) BETWEEN 8 AND 64),
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz,
    CHECK (expires_at > created_at)
);
CREATE INDEX sign_in_nonces_expiry ON sign_in_nonces (expires_at);

CREATE TABLE gpu_models (
    slug                text PRIMARY KEY CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
    name                text NOT NULL,
    vendor              text NOT NULL,
    vram_gb             integer NOT NULL CHECK (vram_gb > 0),
    form                text NOT NULL CHECK (form IN ('pcie', 'sxm', 'nvl')),
    compute_capability  text NOT NULL,
    aliases             text[] NOT NULL DEFAULT '{}'
);

CREATE TABLE machines (
    id                  uuid PRIMARY KEY,
    account_id          uuid NOT NULL REFERENCES accounts,
    name                text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    region              text NOT NULL CHECK (region ~ '^[a-z]{2}(-[a-z0-9]+)*$'),
    cpu_cores           integer NOT NULL CHECK (cpu_cores BETWEEN 1 AND 4096),
    ram_gb              integer NOT NULL CHECK (ram_gb BETWEEN 1 AND 65536),
    disk_gb             integer NOT NULL CHECK (disk_gb BETWEEN 1 AND 1048576),
    -- one-time enrolment secret, stored hashed; cleared when the agent's key is bound
    enroll_token_hash   bytea UNIQUE CHECK (octet_length(enroll_token_hash) = 32),
    enroll_expires_at   timestamptz,
    agent_key           bytea UNIQUE CHECK (octet_length(agent_key) = 20),
    enrolled_at         timestamptz,
    last_heartbeat_at   timestamptz,
    -- since when heartbeats have come without a gap longer than the evidence timeout
    contact_since       timestamptz,
    created_at          timestamptz NOT NULL,
    CHECK ((enroll_token_hash IS NULL) = (enroll_expires_at IS NULL)),
    CHECK ((agent_key IS NULL) = (enrolled_at IS NULL)),
    CHECK ((last_heartbeat_at IS NULL) = (contact_since IS NULL))
);
CREATE INDEX machines_by_account ON machines (account_id, id);

CREATE TABLE gpus (
    id          uuid PRIMARY KEY,
    machine_id  uuid NOT NULL REFERENCES machines,
    -- the vendor's own UUID: one physical GPU exists once in the whole market
    vendor_uuid text NOT NULL UNIQUE CHECK (length(vendor_uuid) BETWEEN 8 AND 64),
    model       text NOT NULL REFERENCES gpu_models,
    ordinal     smallint NOT NULL CHECK (ordinal >= 0),
    UNIQUE (machine_id, ordinal)
);

CREATE TABLE sessions (
    id          uuid PRIMARY KEY,
    token_hash  bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    account_id  uuid REFERENCES accounts,
    machine_id  uuid REFERENCES machines,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    revoked_at  timestamptz,
    CHECK (num_nonnulls(account_id, machine_id) = 1),
    CHECK (expires_at > created_at)
);

CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE offers (
    id          uuid PRIMARY KEY,
    machine_id  uuid NOT NULL REFERENCES machines,
    account_id  uuid NOT NULL REFERENCES accounts,
    state       text NOT NULL CHECK (state IN ('listed', 'paused', 'withdrawn')),
    version     integer NOT NULL CHECK (version > 0),
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);
CREATE INDEX offers_by_account ON offers (account_id, id);
-- a machine's GPUs are promised by one live offer at a time
CREATE UNIQUE INDEX offers_one_live_per_machine ON offers (machine_id) WHERE state <> 'withdrawn';

-- What was promised when: a change of price makes a new version, a live rental keeps its own.
CREATE TABLE offer_versions (
    offer_id            uuid NOT NULL REFERENCES offers,
    version             integer NOT NULL CHECK (version > 0),
    model               text NOT NULL REFERENCES gpu_models,
    gpu_count           smallint NOT NULL CHECK (gpu_count BETWEEN 1 AND 64),
    usd_micros_per_hour bigint NOT NULL CHECK (usd_micros_per_hour > 0), -- per GPU
    min_duration_s      bigint NOT NULL CHECK (min_duration_s >= 1),
    max_duration_s      bigint NOT NULL,
    created_at          timestamptz NOT NULL,
    PRIMARY KEY (offer_id, version),
    CHECK (max_duration_s >= min_duration_s)
);
CREATE TRIGGER offer_versions_immutable BEFORE UPDATE OR DELETE ON offer_versions
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
-- the listing's order: cheapest first, id as tie-break
CREATE INDEX offer_versions_by_price ON offer_versions (usd_micros_per_hour, offer_id);

INSERT INTO gpu_models (slug, name, vendor, vram_gb, form, compute_capability, aliases) VALUES
    ('rtx-3090',      'NVIDIA GeForce RTX 3090', 'nvidia', 24,  'pcie', '8.6', '{RTX3090,"RTX 3090","NVIDIA GeForce RTX 3090"}'),
    ('rtx-4090',      'NVIDIA GeForce RTX 4090', 'nvidia', 24,  'pcie', '8.9', '{RTX4090,"RTX 4090","NVIDIA GeForce RTX 4090"}'),
    ('rtx-5090',      'NVIDIA GeForce RTX 5090', 'nvidia', 32,  'pcie', '12.0', '{RTX5090,"RTX 5090","NVIDIA GeForce RTX 5090"}'),
    ('rtx-a6000',     'NVIDIA RTX A6000',        'nvidia', 48,  'pcie', '8.6', '{A6000,"RTX A6000","NVIDIA RTX A6000"}'),
    ('v100-16gb',     'NVIDIA V100 16GB',        'nvidia', 16,  'sxm',  '7.0', '{V100,"Tesla V100","Tesla V100-SXM2-16GB"}'),
    ('t4',            'NVIDIA T4',               'nvidia', 16,  'pcie', '7.5', '{T4,"Tesla T4"}'),
    ('l4',            'NVIDIA L4',               'nvidia', 24,  'pcie', '8.9', '{L4,"NVIDIA L4"}'),
    ('a10g',          'NVIDIA A10G',             'nvidia', 24,  'pcie', '8.6', '{A10G,"NVIDIA A10G"}'),
    ('a100-40gb',     'NVIDIA A100 40GB',        'nvidia', 40,  'sxm',  '8.0', '{A100,"A100 40GB","NVIDIA A100-SXM4-40GB"}'),
    ('a100-80gb-pcie','NVIDIA A100 80GB PCIe',   'nvidia', 80,  'pcie', '8.0', '{"A100 PCIE","NVIDIA A100 80GB PCIe"}'),
    ('a100-80gb-sxm', 'NVIDIA A100 80GB SXM',    'nvidia', 80,  'sxm',  '8.0', '{"A100 SXM4","NVIDIA A100-SXM4-80GB"}'),
    ('h100-pcie',     'NVIDIA H100 PCIe',        'nvidia', 80,  'pcie', '9.0', '{"H100 PCIE","NVIDIA H100 PCIe"}'),
    ('h100-sxm',      'NVIDIA H100 SXM',         'nvidia', 80,  'sxm',  '9.0', '{H100,"H100 SXM","NVIDIA H100 80GB HBM3"}'),
    ('h200-sxm',      'NVIDIA H200 SXM',         'nvidia', 141, 'sxm',  '9.0', '{H200,"NVIDIA H200"}');
