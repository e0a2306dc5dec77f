-- The market in full: what hardware is, what a machine has shown, what an offer promises, what tokens cost,
-- and what anybody may look up about prices and reliability.

-- Catalog ------------------------------------------------------------------------------------------------------

-- Filled from the program's own table whenever it migrates or serves: a new model needs no migration.
ALTER TABLE gpu_models
    DROP CONSTRAINT gpu_models_form_check,
    ADD CONSTRAINT gpu_models_form_check CHECK (form IN ('pcie', 'sxm', 'nvl', 'oam', 'superchip')),
    ADD COLUMN status       text NOT NULL DEFAULT 'current' CHECK (status IN ('current', 'deprecated')),
    -- dense, without sparsity, as the vendor states them; null where the vendor states none
    ADD COLUMN fp32_gflops  integer CHECK (fp32_gflops > 0),
    ADD COLUMN fp16_gflops  integer CHECK (fp16_gflops > 0),
    ADD COLUMN memory_gb_s  integer CHECK (memory_gb_s > 0);

-- What runs on a rented machine. A version of a template never changes, and is named with the hash of its content.
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
CREATE INDEX templates_by_account ON templates (account_id, slug);
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
    -- the operator took the tier away: no self-test gives it back
    ADD COLUMN barred           boolean NOT NULL DEFAULT false,
    ADD COLUMN service          text NOT NULL DEFAULT 'open' CHECK (service IN ('open', 'draining', 'retired')),
    -- what the agent said last of its machine, and when; what it measured takes the place of what was declared
    ADD COLUMN measured         jsonb,
    ADD COLUMN measured_at      timestamptz,
    -- grows with every change of what the provider declares or of its standing
    ADD COLUMN version          integer NOT NULL DEFAULT 1 CHECK (version > 0),
    ADD COLUMN tier             text NOT NULL GENERATED ALWAYS AS (
                                    CASE WHEN verification <> 'verified' THEN 'unverified'
                                         WHEN datacenter THEN 'datacenter' ELSE 'verified' END) STORED,
    ADD CONSTRAINT machines_measured_once CHECK ((measured IS NULL) = (measured_at IS NULL)),
    ADD CONSTRAINT machines_deverified_says_why
        CHECK (verification <> 'deverified' OR verification_reason IS NOT NULL);

-- One physical GPU exists once in the market; a machine that is retired gives its GPUs free.
ALTER TABLE gpus ADD COLUMN retired boolean NOT NULL DEFAULT false, DROP CONSTRAINT gpus_vendor_uuid_key;
CREATE UNIQUE INDEX gpus_vendor_uuid_key ON gpus (vendor_uuid) WHERE NOT retired;
CREATE INDEX gpus_retired ON gpus (vendor_uuid) WHERE retired;

-- A self-test that was ordered, with what it must show; the agent hears of it with its heartbeats.
CREATE TABLE machine_tests (
    id           uuid PRIMARY KEY,
    machine_id   uuid NOT NULL REFERENCES machines,
    requirements jsonb NOT NULL, -- [{id, op, required}]
    ordered_at   timestamptz NOT NULL,
    closed_at    timestamptz -- answered, or overtaken by a newer order
);
CREATE UNIQUE INDEX machine_tests_open ON machine_tests (machine_id) WHERE closed_at IS NULL;

-- Results of the self-test, as the agent signed them; public.
CREATE TABLE machine_checks (
    id          uuid PRIMARY KEY REFERENCES machine_tests,
    machine_id  uuid NOT NULL REFERENCES machines,
    checks      jsonb NOT NULL, -- [{id, actual, op, required, pass, remediation}]
    passed      boolean NOT NULL,
    digest      bytea NOT NULL CHECK (octet_length(digest) = 32), -- keccak256 of the checks as canonical JSON
    signer      bytea NOT NULL CHECK (octet_length(signer) = 20),
    signature   bytea NOT NULL CHECK (octet_length(signature) = 65),
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
CREATE INDEX maintenance_windows_by_machine ON maintenance_windows (machine_id, id);

-- Stretches in which a machine's agent was heard of without a silence of more than the evidence timeout. Written when
-- one begins: the open one lasts to the last heartbeat, and is closed there when the next begins.
CREATE TABLE machine_contacts (
    machine_id  uuid NOT NULL REFERENCES machines,
    from_at     timestamptz NOT NULL,
    to_at       timestamptz,
    PRIMARY KEY (machine_id, from_at),
    CHECK (to_at >= from_at)
);
CREATE UNIQUE INDEX machine_contacts_open ON machine_contacts (machine_id) WHERE to_at IS NULL;
INSERT INTO machine_contacts (machine_id, from_at)
    SELECT id, contact_since FROM machines WHERE contact_since IS NOT NULL;

-- Stretches in which a machine was promised: an offer of it was listed, and it was open for service.
CREATE TABLE machine_listings (
    offer_id    uuid NOT NULL REFERENCES offers,
    machine_id  uuid NOT NULL REFERENCES machines,
    from_at     timestamptz NOT NULL,
    to_at       timestamptz,
    CHECK (to_at >= from_at)
);
CREATE INDEX machine_listings_by_machine ON machine_listings (machine_id, from_at);
CREATE UNIQUE INDEX machine_listings_open ON machine_listings (offer_id) WHERE to_at IS NULL;
INSERT INTO machine_listings (offer_id, machine_id, from_at)
    SELECT id, machine_id, updated_at FROM offers WHERE state = 'listed';

-- Whoever changes an offer need not think of it. Times are the application's own, as everywhere.
CREATE FUNCTION note_listings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        UPDATE machine_listings l SET to_at = greatest(n.updated_at, l.from_at)
        FROM offers_now n WHERE l.offer_id = n.id AND l.to_at IS NULL AND n.state <> 'listed';
    END IF;
    -- Taken down for less than a minute it goes on as if it had stayed: turning an offer off and on writes no row each
    -- time. So short a while is never settled yet: nothing that was computed changes by it.
    UPDATE machine_listings l SET to_at = NULL
    FROM offers_now n JOIN machines m ON m.id = n.machine_id
    WHERE n.state = 'listed' AND m.service = 'open' AND l.offer_id = n.id AND l.machine_id = n.machine_id
      AND l.to_at > n.updated_at - interval '60 seconds'
      AND l.from_at = (SELECT max(from_at) FROM machine_listings WHERE offer_id = n.id)
      AND NOT EXISTS (SELECT FROM machine_listings WHERE offer_id = n.id AND to_at IS NULL);
    INSERT INTO machine_listings (offer_id, machine_id, from_at)
    SELECT n.id, n.machine_id, n.updated_at FROM offers_now n JOIN machines m ON m.id = n.machine_id
    WHERE n.state = 'listed' AND m.service = 'open'
    ON CONFLICT (offer_id) WHERE to_at IS NULL DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER offers_listed_at_once AFTER INSERT ON offers
    REFERENCING NEW TABLE AS offers_now FOR EACH STATEMENT EXECUTE FUNCTION note_listings();
CREATE TRIGGER offers_listed_later AFTER UPDATE ON offers
    REFERENCING NEW TABLE AS offers_now FOR EACH STATEMENT EXECUTE FUNCTION note_listings();

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
CREATE INDEX price_points_age ON price_points (step_s, bucket);

-- The stretches that a rental's readings cover, drawn together from them; `seq` is the last reading in it. Readings
-- stay the evidence: this can be thrown away and made again.
CREATE TABLE rental_coverage (
    rental_id   uuid NOT NULL REFERENCES rentals,
    from_at     timestamptz NOT NULL,
    to_at       timestamptz NOT NULL,
    seq         bigint NOT NULL,
    PRIMARY KEY (rental_id, from_at),
    CHECK (to_at > from_at)
);

-- What a machine has shown in a window of days, computed from readings and rentals that anybody may read.
CREATE TABLE machine_reliability (
    machine_id      uuid NOT NULL REFERENCES machines,
    window_days     smallint NOT NULL CHECK (window_days IN (7, 30, 90)),
    promised_s      bigint NOT NULL CHECK (promised_s >= 0),
    good_s          bigint NOT NULL CHECK (good_s BETWEEN 0 AND promised_s),
    -- the same in parts: promised and good = idle + 2 * rented
    idle_s          bigint NOT NULL CHECK (idle_s >= 0),
    idle_good_s     bigint NOT NULL CHECK (idle_good_s BETWEEN 0 AND idle_s),
    rented_s        bigint NOT NULL CHECK (rented_s >= 0),
    rented_good_s   bigint NOT NULL CHECK (rented_good_s BETWEEN 0 AND rented_s),
    starts          integer NOT NULL CHECK (starts >= 0),
    starts_ok       integer NOT NULL CHECK (starts_ok BETWEEN 0 AND starts),
    ready_p50_ms    integer CHECK (ready_p50_ms >= 0),
    ready_p95_ms    integer CHECK (ready_p95_ms >= ready_p50_ms),
    interruptions   integer NOT NULL CHECK (interruptions >= 0),
    disputes_lost   integer NOT NULL CHECK (disputes_lost >= 0),
    score_bps       integer NOT NULL CHECK (score_bps BETWEEN 0 AND 10000), -- Wilson's lower bound at 95 %
    -- the window ends here, long enough ago that nothing about it can change
    as_of           timestamptz NOT NULL,
    computed_at     timestamptz NOT NULL,
    CHECK (promised_s = idle_s + 2 * rented_s AND good_s = idle_good_s + 2 * rented_good_s),
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
CREATE INDEX reviews_by_machine ON reviews (machine_id, rental_id);
CREATE TRIGGER reviews_immutable BEFORE UPDATE OR DELETE ON reviews
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE INDEX rentals_by_machine ON rentals (machine_id, id);
CREATE INDEX rental_gpus_open ON rental_gpus (gpu_id) WHERE held_until = 'infinity';
CREATE INDEX rentals_by_age ON rentals (created_at);
