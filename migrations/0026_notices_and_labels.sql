-- What is told of a deposit while it is used up: half of it, four fifths, soon all, all. And what renters call their rentals.

-- A row per rental that runs, beside `jobs`: a worker of the version before knows nothing of it and does not trip over it.
CREATE TABLE deposit_notices (
    rental_id    uuid PRIMARY KEY REFERENCES rentals,
    due_at       timestamptz NOT NULL,
    -- up to where each was told last: seconds billed, and a time
    budget_50_s  bigint CHECK (budget_50_s >= 0),
    budget_80_s  bigint CHECK (budget_80_s >= 0),
    expiring_at  timestamptz
);
CREATE INDEX deposit_notices_due ON deposit_notices (due_at);
-- of those that run already what they have come to is told at once
INSERT INTO deposit_notices (rental_id, due_at)
SELECT id, started_at FROM rentals WHERE state IN ('active', 'interrupted') AND started_at IS NOT NULL;

-- As in 0014, with what is told of the deposit.
CREATE OR REPLACE FUNCTION rental_hooks(kind text, detail jsonb) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$
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
        WHEN 'deposit' THEN RETURN CASE cause
            WHEN 'expiring' THEN ARRAY['rental.expiring']
            WHEN 'budget_50' THEN ARRAY['rental.budget_50']
            WHEN 'budget_80' THEN ARRAY['rental.budget_80']
            ELSE kinds
        END;
        WHEN 'state', 'progress' THEN NULL;
        ELSE RETURN kinds;
    END CASE;
    IF cause = 'lock_final' THEN kinds := kinds || 'rental.funded'::text; END IF;
    IF cause = 'disputed_final' THEN kinds := kinds || 'dispute.opened'::text; END IF;
    IF kind <> 'state' THEN RETURN kinds; END IF;
    IF cause = 'duration_end' THEN kinds := kinds || 'rental.budget_100'::text; END IF;
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

-- As in 0019, with the figures of a deposit; how much of it is spent is told to the renter alone.
CREATE OR REPLACE FUNCTION note_rental_hooks() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    r record;
    name text;
    said jsonb;
BEGIN
    SELECT rentals.*, quotes.token, quotes.offer_id INTO r FROM rentals JOIN quotes ON quotes.id = rentals.quote_id
    WHERE rentals.id = NEW.rental_id
      AND (EXISTS (SELECT FROM webhooks w
                   WHERE w.account_id IN (rentals.renter_id, rentals.provider_id) AND w.state = 'active')
           OR EXISTS (SELECT FROM account_streams s
                      WHERE s.account_id IN (rentals.renter_id, rentals.provider_id)));
    IF NOT FOUND THEN RETURN NULL; END IF;
    FOREACH name IN ARRAY rental_hooks(NEW.kind, NEW.detail) LOOP
        said := jsonb_build_object(
            'rental_id', public_id('rnt', r.id), 'machine_id', public_id('mch', r.machine_id),
            'state', r.state, 'end_reason', r.end_reason, 'cause', NEW.detail ->> 'event', 'timeline_id', NEW.id);
        IF name IN ('rental.notice', 'rental.funding_refused', 'rental.lock_too_small', 'rental.alarm',
                    'rental.expiring', 'rental.budget_50', 'rental.budget_80') THEN
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
        IF name NOT IN ('rental.budget_50', 'rental.budget_80', 'rental.budget_100') THEN
            PERFORM hook(r.provider_id, name, NEW.at, said || '{"role": "provider"}');
        END IF;
        IF name = 'rental.funded' THEN
            PERFORM hook(r.provider_id, 'offer.rented', NEW.at,
                said || jsonb_build_object('offer_id', public_id('ofr', r.offer_id), 'role', 'provider'));
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- What its renter calls a rental, for themselves.
ALTER TABLE rentals ADD COLUMN label text;
-- no row has one yet: none has to be looked at
ALTER TABLE rentals ADD CONSTRAINT rentals_label CHECK (length(label) BETWEEN 1 AND 64) NOT VALID;
