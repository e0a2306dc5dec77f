-- A deal counts in the tier and the place that its machine had when it was booked, whatever becomes of the machine. NULL where
-- the version before this one booked it: then as the machine is now.
ALTER TABLE rentals
    ADD COLUMN tier   text,
    ADD COLUMN region text;
