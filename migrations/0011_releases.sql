-- Rentals that run for long are paid on the way.

ALTER TABLE chain_intents
    DROP CONSTRAINT chain_intents_purpose_check,
    ADD CONSTRAINT chain_intents_purpose_check
        CHECK (purpose IN ('start', 'close', 'cancel', 'finalize', 'lock', 'release')),
    -- a release pays what its evidence covered only if it is mined before a certain time
    ADD CONSTRAINT chain_intents_release
        CHECK (purpose <> 'release' OR COALESCE(jsonb_typeof(args -> 'until') = 'number', false));

-- Rentals that run already get their timers from the new workers, hourly and not due within the hour: workers of the
-- version before, who may start more of them meanwhile, do not know this kind.
