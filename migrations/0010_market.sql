-- The market in full: what hardware is, what a machine has shown, what an offer promises, what tokens cost,
-- and what anybody may look up about prices and reliability.

-- Catalog ------------------------------------------------------------------------------------------------------

ALTER TABLE gpu_models
    ADD COLUMN status       text NOT NULL DEFAULT 'current' CHECK (status IN ('current', 'deprecated')),
    -- dense, without sparsity, as the vendor states them; null where the vendor states none
    ADD COLUMN fp32_gflops  integer CHECK (fp32_gflops > 0),
    ADD COLUMN fp16_gflops  integer CHECK (fp16_gflops > 0),
    ADD COLUMN memory_gb_s  integer CHECK (memory_gb_s > 0);

CREATE TABLE regions (
    code        text PRIMARY KEY CHECK (code ~ '^[a-z]{2}(-[a-z0-9]+)*$'),
    name        text NOT NULL,
    continent   text NOT NULL CHECK (continent IN ('africa', 'asia', 'europe', 'north-america', 'oceania', 'south-america'))
);

-- What runs on a rented machine. A template never changes: its id is named with the hash of its content.
CREATE TABLE templates (
    slug            text NOT NULL CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
    version         integer NOT NULL CHECK (version > 0),
    account_id      uuid REFERENCES accounts, -- null: the platform's own
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    image           text NOT NULL CHECK (length(image) BETWEEN 1 AND 255),
    ports           jsonb NOT NULL DEFAULT '[]',
    env             jsonb NOT NULL DEFAULT '{}',
    disk_gb         integer NOT NULL CHECK (disk_gb BETWEEN 1 AND 65536),
    min_vram_gb     integer NOT NULL CHECK (min_vram_gb BETWEEN 0 AND 1024),
    readme          text NOT NULL CHECK (length(readme) <= 16384),
    content_hash    bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (slug, version)
);
CREATE TRIGGER templates_immutable BEFORE UPDATE OR DELETE ON templates
    FOR EACH ROW EXECUTE FUNCTION forbid_change();

-- Machines -----------------------------------------------------------------------------------------------------

-- Facts are the provider's word until the agent has measured them; null is "not known", and no filter finds it.
ALTER TABLE machines
    ADD COLUMN driver_version   text CHECK (length(driver_version) BETWEEN 1 AND 32),
    ADD COLUMN cuda_version     smallint CHECK (cuda_version BETWEEN 10 AND 9999), -- 124 is 12.4
    ADD COLUMN inet_up_mbps     integer CHECK (inet_up_mbps >= 0),      -- megabits per second
    ADD COLUMN inet_down_mbps   integer CHECK (inet_down_mbps >= 0),
    ADD COLUMN disk_mb_s        integer CHECK (disk_mb_s >= 0),         -- megabytes per second
    ADD COLUMN pcie_mb_s        integer CHECK (pcie_mb_s >= 0),
    ADD COLUMN ports            integer NOT NULL DEFAULT 0 CHECK (ports BETWEEN 0 AND 65535),
    ADD COLUMN static_ip        boolean NOT NULL DEFAULT false,
    ADD COLUMN verification     text NOT NULL DEFAULT 'unverified'
                                CHECK (verification IN ('unverified', 'verified', 'deverified')),
    -- said to the public, with the time, whenever the tier is taken away
    ADD COLUMN verification_reason text CHECK (length(verification_reason) BETWEEN 1 AND 500),
    ADD COLUMN verification_at  timestamptz,
    -- the operator has seen proof that it stands in a data centre
    ADD COLUMN datacenter       boolean NOT NULL DEFAULT false,
    ADD COLUMN service          text NOT NULL DEFAULT 'open' CHECK (service IN ('open', 'draining', 'retired')),
    ADD CONSTRAINT machines_deverified_says_why
        CHECK (verification <> 'deverified' OR verification_reason IS NOT NULL);

-- Results of the self-test, as the agent signed them; public.
CREATE TABLE machine_checks (
    id          uuid PRIMARY KEY,
    machine_id  uuid NOT NULL REFERENCES machines,
    checks      jsonb NOT NULL, -- [{id, actual, op, required, pass, remediation}]
    passed      boolean NOT NULL,
    created_at  timestamptz NOT NULL
);
CREATE INDEX machine_checks_newest ON machine_checks (machine_id, id);
CREATE TRIGGER machine_checks_immutable BEFORE UPDATE OR DELETE ON machine_checks
    FOR EACH ROW EXECUTE FUNCTION forbid_change();

-- Announced times without service: nothing is quoted that would run into one.
CREATE TABLE maintenance_windows (
    id          uuid PRIMARY KEY,
    machine_id  uuid NOT NULL REFERENCES machines,
    during      tstzrange NOT NULL CHECK (NOT isempty(during) AND NOT lower_inf(during) AND NOT upper_inf(during)),
    reason      text NOT NULL CHECK (length(reason) BETWEEN 1 AND 200),
    created_at  timestamptz NOT NULL,
    cancelled_at timestamptz,
    CONSTRAINT maintenance_disjoint EXCLUDE USING gist (machine_id WITH =, during WITH &&) WHERE (cancelled_at IS NULL)
);

-- Offers -------------------------------------------------------------------------------------------------------

ALTER TABLE offer_versions
    -- how many GPUs may be rented at once, ascending; the last is gpu_count. A chunk is a rental of its own.
    ADD COLUMN chunks               smallint[] NOT NULL DEFAULT '{}',
    -- longer is cheaper: [{"min_duration_s": 604800, "discount_bps": 1000}, ..], ascending; the price is fixed at booking
    ADD COLUMN reserved             jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN disk_micros_per_gb_month bigint NOT NULL DEFAULT 0 CHECK (disk_micros_per_gb_month >= 0), -- of 720 h
    ADD COLUMN disk_gb              integer NOT NULL DEFAULT 0 CHECK (disk_gb >= 0), -- most that may be rented
    ADD COLUMN up_micros_per_gb     bigint NOT NULL DEFAULT 0 CHECK (up_micros_per_gb >= 0),   -- from the machine
    ADD COLUMN down_micros_per_gb   bigint NOT NULL DEFAULT 0 CHECK (down_micros_per_gb >= 0), -- to the machine
    ADD COLUMN notice_s             integer NOT NULL DEFAULT 120 CHECK (notice_s BETWEEN 0 AND 604800),
    ADD COLUMN isolation            text NOT NULL DEFAULT 'gpu' CHECK (isolation IN ('machine', 'gpu', 'mig')),
    ADD COLUMN available_until      timestamptz;

-- Quotes -------------------------------------------------------------------------------------------------------

ALTER TABLE quotes
    ADD COLUMN gpu_count    smallint CHECK (gpu_count BETWEEN 1 AND 1024), -- null: all of the offer's version
    ADD COLUMN disk_gb      integer NOT NULL DEFAULT 0 CHECK (disk_gb >= 0),
    ADD COLUMN up_gb        integer NOT NULL DEFAULT 0 CHECK (up_gb >= 0),
    ADD COLUMN down_gb      integer NOT NULL DEFAULT 0 CHECK (down_gb >= 0),
    ADD COLUMN template     text, -- slug@version
    ADD COLUMN usd_micros_per_token bigint CHECK (usd_micros_per_token > 0),
    ADD COLUMN priced_by    text,
    ADD COLUMN priced_at    timestamptz,
    -- promised with the price: ready within so many seconds, told so many before the provider ends it
    ADD COLUMN ready_s      integer CHECK (ready_s > 0),
    ADD COLUMN notice_s     integer CHECK (notice_s >= 0),
    ADD COLUMN signer       bytea CHECK (octet_length(signer) = 20),
    ADD COLUMN signature    bytea CHECK (octet_length(signature) = 65),
    ADD CONSTRAINT quotes_signed_by_somebody CHECK ((signer IS NULL) = (signature IS NULL)),
    ADD CONSTRAINT quotes_priced_by_somebody
        CHECK (num_nulls(usd_micros_per_token, priced_by, priced_at) IN (0, 3));

-- Oracles ------------------------------------------------------------------------------------------------------

-- A feed with Chainlink's AggregatorV3Interface for a token's price in dollars.
CREATE TABLE price_feeds (
    token       bytea PRIMARY KEY REFERENCES tokens,
    feed        bytea NOT NULL CHECK (octet_length(feed) = 20),
    decimals    smallint NOT NULL CHECK (decimals BETWEEN 0 AND 18),
    -- an answer older than this is none
    max_age_s   integer NOT NULL CHECK (max_age_s BETWEEN 1 AND 604800),
    round       numeric(39,0),
    answered_at timestamptz, -- the oracle's own time of its answer
    checked_at  timestamptz  -- when it was asked last
);

-- What anybody may look up ----------------------------------------------------------------------------------------

-- Prices per GPU and hour in micro-dollars, by bucket. `region` is a country, '' for all; `tier` '' for all.
CREATE TABLE price_points (
    kind        text NOT NULL CHECK (kind IN ('ask', 'deal')),
    model       text NOT NULL REFERENCES gpu_models,
    tier        text NOT NULL CHECK (tier IN ('', 'unverified', 'verified', 'datacenter')),
    region      text NOT NULL,
    step_s      integer NOT NULL CHECK (step_s IN (300, 3600, 86400)),
    bucket      timestamptz NOT NULL,
    n           integer NOT NULL CHECK (n > 0),
    minimum     bigint NOT NULL,
    p10         bigint NOT NULL,
    median      bigint NOT NULL,
    p90         bigint NOT NULL,
    maximum     bigint NOT NULL,
    gpus        integer NOT NULL CHECK (gpus >= 0),
    gpus_rented integer NOT NULL CHECK (gpus_rented BETWEEN 0 AND gpus),
    PRIMARY KEY (kind, model, step_s, tier, region, bucket),
    CHECK (minimum <= p10 AND p10 <= median AND median <= p90 AND p90 <= maximum)
);

-- What a machine has shown in a window of days, computed from readings and rentals that anybody may read.
CREATE TABLE machine_reliability (
    machine_id      uuid NOT NULL REFERENCES machines,
    window_days     smallint NOT NULL CHECK (window_days IN (7, 30, 90)),
    promised_s      bigint NOT NULL CHECK (promised_s >= 0),
    good_s          bigint NOT NULL CHECK (good_s BETWEEN 0 AND promised_s),
    starts          integer NOT NULL CHECK (starts >= 0),
    starts_ok       integer NOT NULL CHECK (starts_ok BETWEEN 0 AND starts),
    ready_p50_ms    integer CHECK (ready_p50_ms >= 0),
    ready_p95_ms    integer CHECK (ready_p95_ms >= ready_p50_ms),
    interruptions   integer NOT NULL CHECK (interruptions >= 0),
    disputes_lost   integer NOT NULL CHECK (disputes_lost >= 0),
    score_bps       integer NOT NULL CHECK (score_bps BETWEEN 0 AND 10000), -- Wilson's lower bound at 95 %
    computed_at     timestamptz NOT NULL,
    PRIMARY KEY (machine_id, window_days)
);

CREATE TABLE reviews (
    rental_id   uuid PRIMARY KEY REFERENCES rentals,
    machine_id  uuid NOT NULL REFERENCES machines,
    renter_id   uuid NOT NULL REFERENCES accounts,
    stars       smallint NOT NULL CHECK (stars BETWEEN 1 AND 5),
    body        text NOT NULL CHECK (length(body) <= 2000),
    created_at  timestamptz NOT NULL
);
CREATE INDEX reviews_by_machine ON reviews (machine_id, created_at);
