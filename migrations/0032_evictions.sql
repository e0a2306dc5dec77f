-- A provider who ends a running rental gives the notice that the quote promised: it ends then, and not before. Beside `jobs`: the
-- timer of the rental's end comes earlier. A worker of the version before looks at it, finds the deposit not used up, and sets it
-- to the deposit's end; one of this version finds such timers every minute.
CREATE TABLE evictions (
    rental_id   uuid PRIMARY KEY REFERENCES rentals,
    given_at    timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL CHECK (ends_at > given_at)
);
CREATE INDEX evictions_by_end ON evictions (ends_at);
CREATE TRIGGER evictions_immutable BEFORE UPDATE OR DELETE ON evictions
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
