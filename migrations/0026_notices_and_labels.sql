-- What is told of a deposit while it is used up: half of it, four fifths, soon all, all. And what renters call their rentals.

-- all that it needs at once: a stronger lock later would wait for those who wait for this one
LOCK TABLE rentals IN ACCESS EXCLUSIVE MODE;

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

-- What its renter calls a rental, for themselves.
ALTER TABLE rentals ADD COLUMN label text;
-- no row has one yet: none has to be looked at
ALTER TABLE rentals ADD CONSTRAINT rentals_label CHECK (length(label) BETWEEN 1 AND 64) NOT VALID;
