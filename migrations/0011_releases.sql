-- Rentals that run for long are paid on the way.

ALTER TABLE chain_intents
    DROP CONSTRAINT chain_intents_purpose_check,
    ADD CONSTRAINT chain_intents_purpose_check
        CHECK (purpose IN ('start', 'close', 'cancel', 'finalize', 'lock', 'release')),
    -- a release pays what its evidence covered only if it is mined before a certain time
    ADD CONSTRAINT chain_intents_release
        CHECK (purpose <> 'release' OR COALESCE(jsonb_typeof(args -> 'until') = 'number', false));

-- Rentals that run already are asked about too. Not within the hour, in which workers of the version before may still
-- be there, who do not know this timer.
INSERT INTO jobs (id, kind, rental_id, due_at)
SELECT gen_random_uuid(), 'release', id, GREATEST(started_at + interval '1 day', now() + interval '1 hour')
FROM rentals WHERE state IN ('active', 'interrupted') AND start_status = 'final';
