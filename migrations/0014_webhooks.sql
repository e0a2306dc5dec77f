-- Webhooks: who wants to be told of what, what has happened, and what is told to whom.

CREATE TABLE webhooks (
    id              uuid PRIMARY KEY,
    account_id      uuid NOT NULL REFERENCES accounts,
    url             text NOT NULL CHECK (length(url) BETWEEN 8 AND 2048),
    events          text[] NOT NULL CHECK (cardinality(events) BETWEEN 1 AND 64),
    description     text NOT NULL DEFAULT '' CHECK (length(description) <= 200),
    -- what is sent is signed with it, so it cannot be kept as a hash
    secret          bytea NOT NULL CHECK (octet_length(secret) BETWEEN 24 AND 64),
    -- the one before signs too for a while, so that its holder can change over
    old_secret      bytea CHECK (octet_length(old_secret) BETWEEN 24 AND 64),
    old_until       timestamptz,
    state           text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
    disabled_reason text CHECK (length(disabled_reason) BETWEEN 1 AND 500),
    disabled_at     timestamptz,
    -- since the first failure after which nothing came through
    failing_since   timestamptz,
    version         integer NOT NULL DEFAULT 1 CHECK (version > 0),
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    CHECK ((old_secret IS NULL) = (old_until IS NULL)),
    CHECK ((state = 'disabled') = (disabled_reason IS NOT NULL)),
    CHECK ((state = 'disabled') = (disabled_at IS NOT NULL))
);
CREATE INDEX webhooks_by_account ON webhooks (account_id, id);
CREATE INDEX webhooks_active ON webhooks (account_id) WHERE state = 'active';

-- What has happened to an account that has a webhook for it, written in the transaction in which it happened.
CREATE TABLE hook_events (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    seq         bigint GENERATED ALWAYS AS IDENTITY,
    account_id  uuid NOT NULL REFERENCES accounts,
    kind        text NOT NULL CHECK (length(kind) BETWEEN 3 AND 64),
    at          timestamptz NOT NULL,
    data        jsonb NOT NULL,
    fanned      boolean NOT NULL DEFAULT false -- its deliveries are made
);
CREATE INDEX hook_events_new ON hook_events (seq) WHERE NOT fanned;
CREATE INDEX hook_events_age ON hook_events (at);

-- One event for one webhook: tried until it comes through, or is given up.
CREATE TABLE deliveries (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    seq             bigint GENERATED ALWAYS AS IDENTITY,
    webhook_id      uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    event_id        uuid NOT NULL REFERENCES hook_events ON DELETE CASCADE,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    -- tries in all, and since it was last asked for
    attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    tries           integer NOT NULL DEFAULT 0 CHECK (tries BETWEEN 0 AND attempts),
    due_at          timestamptz NOT NULL,
    run_lease       bigint NOT NULL DEFAULT 0,
    leased_until    timestamptz,
    last_at         timestamptz,
    last_status     smallint,
    last_error      text CHECK (length(last_error) <= 500),
    delivered_at    timestamptz,
    created_at      timestamptz NOT NULL,
    UNIQUE (webhook_id, event_id),
    CHECK ((state = 'delivered') = (delivered_at IS NOT NULL))
);
CREATE INDEX deliveries_due ON deliveries (webhook_id, due_at) WHERE state = 'pending';
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, seq);
CREATE INDEX deliveries_by_event ON deliveries (event_id);

-- Whether a machine was online when its owner's webhooks were last told; only of machines whose owners ask.
CREATE TABLE machine_links (
    machine_id  uuid PRIMARY KEY REFERENCES machines,
    online      boolean NOT NULL,
    at          timestamptz NOT NULL
);

-- An event for an account, if one of its webhooks asks for it.
CREATE FUNCTION hook(account uuid, kind text, at timestamptz, data jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO hook_events (account_id, kind, at, data)
    SELECT $1, $2, $3, $4
    WHERE EXISTS (SELECT FROM webhooks w
                  WHERE w.account_id = $1 AND w.state = 'active' AND w.events && ARRAY[$2, '*'])
$$;

-- What an entry of a rental's timeline is called outside: none, one or several events.
CREATE FUNCTION rental_hooks(kind text, detail jsonb) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    now_is  text := detail ->> 'state';
    was     text := detail ->> 'from';
    cause   text := detail ->> 'event';
    kinds   text[] := '{}';
BEGIN
    CASE kind
        WHEN 'funding_refused' THEN RETURN ARRAY['rental.funding_refused'];
        WHEN 'lock_too_small' THEN RETURN ARRAY['rental.lock_too_small'];
        WHEN 'notice' THEN RETURN ARRAY['rental.notice'];
        WHEN 'alarm' THEN RETURN ARRAY['rental.alarm'];
        WHEN 'state', 'progress' THEN NULL;
        ELSE RETURN kinds;
    END CASE;
    IF cause = 'lock_final' THEN kinds := kinds || 'rental.funded'::text; END IF;
    IF cause = 'disputed_final' THEN kinds := kinds || 'dispute.opened'::text; END IF;
    IF kind <> 'state' THEN RETURN kinds; END IF;
    IF now_is IN ('stopping', 'settling', 'contested', 'settled', 'resolved')
       AND was NOT IN ('stopping', 'settling', 'contested') THEN
        kinds := kinds || 'rental.ended'::text;
    END IF;
    RETURN kinds || CASE now_is
        WHEN 'awaiting_funds' THEN CASE WHEN was IS NULL THEN ARRAY['rental.booked'] ELSE '{}' END
        WHEN 'active' THEN CASE WHEN was = 'interrupted' THEN ARRAY['rental.resumed'] ELSE ARRAY['rental.ready'] END
        WHEN 'interrupted' THEN ARRAY['rental.interrupted']
        WHEN 'contested' THEN ARRAY['rental.held']
        WHEN 'settled' THEN ARRAY['rental.settled', 'settlement.final']
        WHEN 'resolved' THEN ARRAY['rental.resolved', 'dispute.resolved', 'settlement.final']
        WHEN 'refunded' THEN ARRAY['rental.refunded', 'settlement.final']
        WHEN 'expired' THEN ARRAY['rental.expired']
        WHEN 'cancelled' THEN ARRAY['rental.cancelled']
        WHEN 'start_failed' THEN ARRAY['rental.start_failed']
        ELSE '{}'::text[]
    END;
END $$;

-- One place makes the events of rentals: where their timelines are written.
CREATE FUNCTION note_rental_hooks() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    r record;
    name text;
    said jsonb;
BEGIN
    SELECT rentals.*, quotes.token INTO r FROM rentals JOIN quotes ON quotes.id = rentals.quote_id
    WHERE rentals.id = NEW.rental_id
      AND EXISTS (SELECT FROM webhooks w
                  WHERE w.account_id IN (rentals.renter_id, rentals.provider_id) AND w.state = 'active');
    IF NOT FOUND THEN RETURN NULL; END IF;
    FOREACH name IN ARRAY rental_hooks(NEW.kind, NEW.detail) LOOP
        said := jsonb_build_object(
            'rental_id', 'rnt_' || replace(r.id::text, '-', ''),
            'machine_id', 'mch_' || replace(r.machine_id::text, '-', ''),
            'state', r.state, 'end_reason', r.end_reason, 'cause', NEW.detail ->> 'event', 'timeline_id', NEW.id);
        IF name IN ('rental.notice', 'rental.funding_refused', 'rental.lock_too_small', 'rental.alarm') THEN
            said := said || jsonb_build_object('detail', NEW.detail);
        ELSIF name = 'rental.held' THEN
            said := said || jsonb_build_object('held_until',
                to_char(r.held_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
        ELSIF name = 'settlement.final' THEN
            -- base units of the token, as everywhere: text, never a number
            said := said || jsonb_build_object('token', '0x' || encode(r.token, 'hex'), 'locked', r.locked::text,
                'provider', r.paid_provider::text, 'fee', r.paid_fee::text, 'refund', r.paid_refund::text,
                'seconds_billed', r.billed_s);
        END IF;
        PERFORM hook(r.renter_id, name, NEW.at, said || '{"role": "renter"}');
        PERFORM hook(r.provider_id, name, NEW.at, said || '{"role": "provider"}');
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER rental_events_hooked AFTER INSERT ON rental_events
    FOR EACH ROW EXECUTE FUNCTION note_rental_hooks();

CREATE FUNCTION note_machine_hooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hook(NEW.account_id,
        CASE NEW.verification WHEN 'verified' THEN 'machine.verified' ELSE 'machine.deverified' END,
        COALESCE(NEW.verification_at, now()),
        jsonb_build_object('machine_id', 'mch_' || replace(NEW.id::text, '-', ''), 'name', NEW.name,
                           'reason', NEW.verification_reason));
    RETURN NULL;
END $$;
CREATE TRIGGER machines_hooked AFTER UPDATE OF verification ON machines FOR EACH ROW
    WHEN (OLD.verification IS DISTINCT FROM NEW.verification AND NEW.verification <> 'unverified')
    EXECUTE FUNCTION note_machine_hooks();
