-- A provider who ends a running rental gives the notice that the quote promised: it ends then, and not before. Beside `jobs`: the
-- timer of the rental's end comes earlier, and a worker of the version before looks at it, finds the deposit not used up, and
-- sets it again.
CREATE TABLE evictions (
    rental_id   uuid PRIMARY KEY REFERENCES rentals,
    given_at    timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL CHECK (ends_at > given_at)
);
CREATE TRIGGER evictions_immutable BEFORE UPDATE OR DELETE ON evictions
    FOR EACH ROW EXECUTE FUNCTION forbid_change();
